"""The calls of modules while a network runs: what shape table, first divergence and memory have in
common.

Importing this file needs no torch.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Call:
    """One call of a module:

    `name` as its caller knows it, `parent` the call that it happened in. `leaf`: it called no
    module in turn.
    """

    name: str
    module: object
    parent: Call | None
    handled: BaseException | None  # the exception that was being dealt with when it began
    leaf: bool = True


class Calls:
    """The calls that are `running`, outermost first; and `broken`, the innermost one that the last
    exception ended.
    """

    def __init__(self):
        self.running: list[Call] = []
        self.broken: Call | None = None
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """Of the module at work; "" where none is."""
        return self.running[-1].name if self.running else ""

    def _ended(self, call: Call) -> bool:
        """Whether a call came to its end.

        One that an exception left is noted, for the forward of a caller may catch it and go on.
        """
        error = sys.exc_info()[1]
        if error is call.handled:
            return True
        if error is not self._error:
            self.broken, self._error = call, error
        return False


class _Names:
    """What the modules of a network are called.

    One activation may serve many places; each time it goes by its caller's name for it.
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


def as_written() -> contextlib.AbstractContextManager:
    """While it lasts, what `torch.compile` has made runs as the Python code that it was made from."""
    import torch

    # Where nothing has loaded it nothing can be compiled, and loading it takes seconds.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def watched(model, enter: Callable | None = None, leave: Callable | None = None) -> Iterator[Calls]:
    """Hooks on every module: `enter(call, (args, kwargs))` as a call begins, `leave(call, output)`
    as it ends, not where it raises.

    What is compiled runs as it was written meanwhile. Errors: TypeError for a scripted model, which
    has no calls that could be seen; a scripted module within a model counts as a part of its
    caller.
    """
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "a scripted or traced model does not show the calls of its modules; give the model that it was made from"
        )
    names, calls = _Names(model), Calls()

    def before(module, args, kwargs) -> None:
        parent = calls.running[-1] if calls.running else None
        if parent is not None:
            parent.leaf = False
        call = Call(names.of(module, parent and parent.name), module, parent, sys.exc_info()[1])
        calls.running.append(call)
        if enter is not None:
            enter(call, (args, kwargs))

    def after(module, args, kwargs, output) -> None:
        if not calls.running or calls.running[-1].module is not module:
            return  # another hook raised before ours had seen this call
        call = calls.running.pop()
        if calls._ended(call) and leave is not None:
            leave(call, output)

    with as_written(), contextlib.ExitStack() as stack:
        for module in names.all:
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(after, with_kwargs=True, always_call=True).remove)
        yield calls


@contextlib.contextmanager
def in_mode(model, training: bool) -> Iterator[None]:
    """The model in one mode; afterwards modes and buffers as before, also those that the forward
    pass put others in the place of.
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
