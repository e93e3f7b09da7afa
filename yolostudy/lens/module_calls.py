"""Calls of modules while a network runs: hooks for shape table, first divergence and memory.

Importing this file needs no torch.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class ModuleCall:
    """One call of a module.

    Attributes:
        name: the module's name, as seen from the module that calls it.
        module: the module itself.
        parent: the call that this one happened in, or None.
        handled: the exception that was being handled when the call began, or None.
        leaf: whether the module called no other module.
    """

    name: str
    module: object
    parent: ModuleCall | None
    handled: BaseException | None
    leaf: bool = True


class CallStack:
    """The calls that are running now.

    Attributes:
        running: the open calls, outermost first.
        broken: the innermost call that the last exception ended, or None.
    """

    def __init__(self):
        self.running: list[ModuleCall] = []
        self.broken: ModuleCall | None = None
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """Name of the module that is running; "" where none is."""
        return self.running[-1].name if self.running else ""

    def _ended_well(self, call: ModuleCall) -> bool:
        """Whether a call returned. A call that an exception left is noted as broken.

        The exception may be caught by the forward of a caller, so each new one is noted.
        """
        error = sys.exc_info()[1]
        if error is call.handled:
            return True
        if error is not self._error:
            self.broken, self._error = call, error
        return False


class _ModuleNames:
    """The names of a network's modules.

    One module may have several names: an activation that serves many layers. Each call then gets
    the name that lies under its caller.
    """

    def __init__(self, model):
        self.all: dict = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.all.setdefault(module, []).append(name)

    def of(self, module, caller: str | None) -> str:
        known = self.all[module]
        if caller is None or len(known) == 1:
            return known[0]
        own = next((name for name in known if name.rpartition(".")[0] == caller), None)
        return own or next((name for name in known if name.startswith(caller)), known[0])


def uncompiled() -> contextlib.AbstractContextManager:
    """A block in which code compiled by `torch.compile` runs as the Python it was made from."""
    import torch

    # Unless torch._dynamo is loaded, nothing can be compiled; loading it takes seconds.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def watch_modules(model, enter: Callable | None = None, leave: Callable | None = None) -> Iterator[CallStack]:
    """Hook every module of a network while the block runs. Compiled code runs uncompiled.

    Args:
        model: any `nn.Module`. A scripted module inside it counts as a part of its caller.
        enter: called as `enter(call, (args, kwargs))` when a call begins.
        leave: called as `leave(call, output)` when a call returns, not when it raises.

    Errors: TypeError for a scripted model, whose modules cannot be hooked.
    """
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "a scripted or traced model does not show the calls of its modules; give the model that it was made from"
        )
    names, calls = _ModuleNames(model), CallStack()

    def before(module, args, kwargs) -> None:
        parent = calls.running[-1] if calls.running else None
        if parent is not None:
            parent.leaf = False
        call = ModuleCall(names.of(module, parent and parent.name), module, parent, sys.exc_info()[1])
        calls.running.append(call)
        if enter is not None:
            enter(call, (args, kwargs))

    def after(module, args, kwargs, output) -> None:
        if not calls.running or calls.running[-1].module is not module:
            return  # another hook raised before ours had seen this call
        call = calls.running.pop()
        if calls._ended_well(call) and leave is not None:
            leave(call, output)

    with uncompiled(), contextlib.ExitStack() as stack:
        for module in names.all:
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after, with_kwargs=True, always_call=True).remove)
        yield calls


@contextlib.contextmanager
def in_mode(model, training: bool) -> Iterator[None]:
    """Put a model in training or evaluation mode while the block runs.

    Afterwards its modes and buffers are as before, also where the forward pass put another tensor
    in a buffer's place.
    """
    import torch
    from torch.nn.parameter import is_lazy

    kept = []
    for module in model.modules():
        held = {} if isinstance(module, torch.jit.ScriptModule) else module._buffers
        values = {
            name: (buffer, buffer.clone())
            for name, buffer in held.items()
            if buffer is not None and not is_lazy(buffer)
        }
        kept.append((module, module.training, values))
    try:
        model.train(training)
        yield
    finally:
        with torch.no_grad():
            for module, mode, values in kept:
                module.training = mode
                for name, (buffer, value) in values.items():
                    module._buffers[name] = buffer.copy_(value)
