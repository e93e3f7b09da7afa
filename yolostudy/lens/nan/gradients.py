"""Where a gradient becomes non-finite: hooks on the nodes of a graph during one backward pass.

In the forward pass, each operation leaves its name and its place in the metadata of its node. A
node with a non-finite gradient is traced back to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from .events import BIRTH, OUTSIDE, SPREAD
from .places import TORCH, Spot, where
from .values import is_finite, value_of, with_origin

KEY = "yolostudy.lens.nan.microscope"  # in the metadata of a node: (operation, Spot)
# Nodes that only move values: their result is non-finite only where their input was.
MOVES = (
    "View",
    "Reshape",
    "Transpose",
    "T",
    "Permute",
    "Expand",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Select",
    "Alias",
    "Split",
    "Unbind",
)
MOVES += ("UnsafeView", "Unsafe", "Cat", "Stack", "Clone", "Chunk", "AsStrided", "torch::autograd::AccumulateGrad")


class BackwardWatch:
    """Hooks on every node of the graph under some losses, for one backward pass.

    Attributes:
        leaves: the leaves of the graph: parameters and inputs with a gradient.
    """

    def __init__(self, microscope, roots: list[Tensor]):
        self.microscope = microscope
        self.handles: list = []
        self.leaves: list[Tensor] = []
        self.event_of: dict[object, int] = {}  # node -> the event of its gradient
        self.consumers: dict[object, list] = {}
        self._hook_all([root.grad_fn for root in roots if root.grad_fn is not None])

    def _hook_all(self, todo: list) -> None:
        seen = dict.fromkeys(todo)
        owner = {node: node.metadata.get(KEY) for node in todo}
        while todo:
            node = todo.pop()
            name = node.name()
            if hasattr(node, "variable"):
                self.leaves.append(node.variable)
                continue
            # A composite function makes several nodes and marks only the last. The others get the
            # mark of the node that uses them.
            mark = node.metadata.get(KEY) or _custom_backward(node) or owner[node]
            self.handles.append(node.register_hook(self._hook(node, name, mark)))
            for following, _ in node.next_functions:
                if following is None:
                    continue
                self.consumers.setdefault(following, []).append(node)
                if following not in seen:
                    seen[following] = None
                    owner[following] = mark
                    todo.append(following)

    def _hook(self, node, name: str, mark):
        moves = name.removesuffix("0").removesuffix("1").removesuffix("Backward").removeprefix("Unsafe") in MOVES

        def look(given: tuple, received: tuple) -> None:
            if moves and not self.event_of:
                return
            with torch._C.DisableTorchFunction():
                if all(gradient is None or is_finite(gradient) for gradient in given):
                    return
                self._judge(node, name, mark, given, received)

        return look

    def _judge(self, node, name: str, mark, given: tuple, received: tuple) -> None:
        scope = self.microscope
        origin = next((self.event_of[user] for user in self.consumers.get(node, ()) if user in self.event_of), -1)
        inputs = [
            scope._value(f"gradient of output {i}", gradient)
            for i, gradient in enumerate(received)
            if gradient is not None
        ]
        inputs = [value if value.finite or value.origin >= 0 else with_origin(value, origin) for value in inputs]
        # The result of a backward written in Python: the microscope may have seen where it broke.
        made = [scope._value("what its code gave", gradient) for gradient in given if gradient is not None]
        inputs += [value for value in made if value.origin >= 0]
        broken = [value for value in inputs if not value.finite]
        inputs += [value_of(label, tensor) for label, tensor in _saved(node)]
        outputs = [
            value_of(f"gradient of input {i}", gradient) for i, gradient in enumerate(given) if gradient is not None
        ]
        kind = BIRTH if not broken else SPREAD if any(value.origin >= 0 for value in broken) else OUTSIDE
        op, spot = mark or (name, None)
        spot = spot or where(sys._getframe(1))
        op = f"{op.strip('_')} ({name})"
        event = scope._add(kind, "backward", op, spot, inputs, [value for value in outputs if not value.finite], ())
        self.event_of[node] = event.number

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.consumers.clear()


def _custom_backward(node) -> tuple[str, Spot] | None:
    """The mark of a custom `torch.autograd.Function`: its name, and its backward as place."""
    function = getattr(node, "_forward_cls", None)
    code = getattr(getattr(function, "backward", None), "__code__", None)
    if code is None or code.co_filename.startswith(TORCH):
        return None
    return function.__name__, Spot(code, code.co_firstlineno, 0, None)


def _saved(node) -> Iterator[tuple[str, Tensor]]:
    """The tensors that the forward pass saved for a node, if they are still there."""
    for attribute in dir(node):
        if attribute.startswith("_saved_"):
            try:
                value = getattr(node, attribute)
            except RuntimeError:  # changed in place since, or freed
                continue
            if isinstance(value, Tensor):
                yield f"kept {attribute.removeprefix('_saved_')}", value
