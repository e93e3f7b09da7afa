"""Where a gradient turns non-finite: hooks on the nodes of a graph, for one backward pass.

In the forward pass each operation has left its name and place in the metadata of its node; here a
node is traced back to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from .events import BIRTH, OUTSIDE, SPREAD
from .places import TORCH, where
from .values import is_finite, value_of, with_origin

KEY = "yolostudy.lens.nan.microscope"  # in the metadata of a node of the graph
# Nodes that only move values about: what they give is not finite only where what they were given
# was not.
SHAPES = (
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
SHAPES += ("UnsafeView", "Unsafe", "Cat", "Stack", "Clone", "Chunk", "AsStrided", "torch::autograd::AccumulateGrad")


class BackwardWatch:
    """Hooks on every node of the graph under some losses, for one backward pass."""

    def __init__(self, microscope, roots: list[Tensor]):
        self.microscope = microscope
        self.handles: list = []
        self.leaves: list[Tensor] = []
        self.event_of: dict[object, int] = {}  # node -> the event of its gradient
        self.consumers: dict[object, list] = {}
        self._walk([root.grad_fn for root in roots if root.grad_fn is not None])

    def _walk(self, todo: list) -> None:
        seen = dict.fromkeys(todo)
        owner = {node: node.metadata.get(KEY) for node in todo}
        while todo:
            node = todo.pop()
            name = node.name()
            if hasattr(node, "variable"):
                self.leaves.append(node.variable)
                continue
            # A composite function leaves several nodes, of which it names the last: the others have
            # the place of what used them.
            mark = node.metadata.get(KEY) or _written(node) or owner[node]
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
        moves = name.removesuffix("0").removesuffix("1").removesuffix("Backward").removeprefix("Unsafe") in SHAPES

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
        made = [scope._value("what its code gave", gradient) for gradient in given if gradient is not None]
        inputs += [value for value in made if value.origin >= 0]  # of code in Python, which the microscope has seen
        broken = [value for value in inputs if not value.finite]
        inputs += [value_of(label, tensor) for label, tensor in _saved(node)]
        outputs = [
            value_of(f"gradient of input {i}", gradient) for i, gradient in enumerate(given) if gradient is not None
        ]
        kind = BIRTH if not broken else SPREAD if any(value.origin >= 0 for value in broken) else OUTSIDE
        op, frame = mark or (name, None)
        frame = frame or where(sys._getframe(1))
        op = f"{op.strip('_')} ({name})"
        event = scope._add(kind, "backward", op, frame, inputs, [value for value in outputs if not value.finite], ())
        self.event_of[node] = event.number

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.consumers.clear()


def _written(node) -> tuple | None:
    """Name and place of a function that somebody wrote: its own backward.

    No operation of torch has put its mark there.
    """
    function = getattr(node, "_forward_cls", None)
    code = getattr(getattr(function, "backward", None), "__code__", None)
    if code is None or code.co_filename.startswith(TORCH):
        return None
    return function.__name__, (code, code.co_firstlineno, 0, None)


def _saved(node) -> Iterator[tuple[str, Tensor]]:
    """What the forward pass kept for a node, while it is still there."""
    for attribute in dir(node):
        if attribute.startswith("_saved_"):
            try:
                value = getattr(node, attribute)
            except RuntimeError:  # changed in place since, or freed
                continue
            if isinstance(value, Tensor):
                yield f"kept {attribute.removeprefix('_saved_')}", value
