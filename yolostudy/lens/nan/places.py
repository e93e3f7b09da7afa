"""Which line of somebody's code an operation belongs to, and which module of the model is at work
there.
"""

from __future__ import annotations

import os

import torch
from torch import nn

TORCH = os.path.dirname(torch.__file__) + os.sep
OURS = os.path.join(os.path.dirname(__file__), "nan_")  # the microscope itself


def module_at(frame) -> nn.Module | None:
    """The module in whose method a frame runs."""
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] != "self":
        return None
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, nn.Module) else None


def root_of(frame) -> nn.Module | None:
    """The outermost module that is being called, which is the model.

    One that is still being built is none.
    """
    root = None
    while frame is not None:
        if frame.f_code.co_name == "_call_impl":
            owner = module_at(frame)
            root = root if owner is None else owner
        frame = frame.f_back
    return root


def where(frame) -> tuple:
    """Code, line, instruction and module of the innermost frame that belongs to neither torch nor
    the microscope.
    """
    module = None
    while frame.f_back is not None:
        if module is None:
            module = module_at(frame)
        if not frame.f_code.co_filename.startswith((TORCH, OURS)):
            break
        frame = frame.f_back
    return frame.f_code, frame.f_lineno, frame.f_lasti, module
