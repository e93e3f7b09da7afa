"""The line of user code that an operation belongs to, and the module and the names around it."""

from __future__ import annotations

import os
import sys
from types import CodeType
from typing import NamedTuple

import torch
from torch import Tensor, nn

TORCH = os.path.dirname(torch.__file__) + os.sep
OURS = os.path.dirname(__file__) + os.sep  # the microscope itself


class Spot(NamedTuple):
    """A point in a program. Its source is not read yet: that is slow, and few spots need it."""

    code: CodeType
    line: int
    instruction: int
    module: nn.Module | None  # the module whose method was running


def where(frame) -> Spot:
    """The innermost frame that belongs neither to torch nor to the microscope."""
    module = None
    while frame.f_back is not None:
        if module is None:
            module = module_at(frame)
        if not frame.f_code.co_filename.startswith((TORCH, OURS)):
            break
        frame = frame.f_back
    return Spot(frame.f_code, frame.f_lineno, frame.f_lasti, module)


def module_at(frame) -> nn.Module | None:
    """The module in whose method a frame runs."""
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] != "self":
        return None
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, nn.Module) else None


def root_of(frame) -> nn.Module | None:
    """The outermost module that is being called: the model. None while a model is being built."""
    root = None
    while frame is not None:
        if frame.f_code.co_name == "_call_impl":
            owner = module_at(frame)
            root = root if owner is None else owner
        frame = frame.f_back
    return root


class ModelNames:
    """Names of modules, parameters and buffers in the models that were seen running.

    A model is found through the frames of its calls. Its names are read when the first is wanted.
    """

    def __init__(self):
        self._models: list[nn.Module] = []  # kept, so that no id is used again
        self._names: dict[int, str] = {}  # by id

    def spot(self, frame) -> Spot:
        """As `where`. The first module seen running says which model it is."""
        found = where(frame)
        if found.module is not None and not self._models and (root := root_of(frame)) is not None:
            self._models.append(root)
        return found

    def of(self, tensor: Tensor) -> str:
        """Name of a parameter or buffer; "" where it is not known."""
        self._read()
        return self._names.get(id(tensor), "")

    def of_module(self, module: nn.Module | None) -> str:
        """Name and class of a module, such as "stem (Conv2d)"; "" for None."""
        if module is None:
            return ""
        self._read(module)
        name = self._names.get(id(module), "")
        return f"{name} ({type(module).__name__})" if name else type(module).__name__

    def _read(self, module: nn.Module | None = None) -> None:
        if module is not None and self._names and id(module) not in self._names:  # it belongs to another model
            root = root_of(sys._getframe(1))
            self._models += [module] if root is None else [module, root]
        elif self._names:
            return
        for model in self._models:
            for name, part in [*model.named_modules(), *model.named_parameters(), *model.named_buffers()]:
                self._names[id(part)] = name
