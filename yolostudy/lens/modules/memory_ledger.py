"""A prediction of memory: a training step with fake tensors, every storage entered in a ledger.

Fake tensors have shapes and dtypes but no values. Each storage that an operation makes is entered,
and struck out when nothing holds it any more. So a step at batch 16 and 640 pixels is counted in
seconds on any machine. What autograd saves for the backward pass (`saved_tensors_hooks`) counts as
activation, each storage once. Weights that autocast casts and autograd saves are counted as cast
weights. Parameters are not activations.

A prediction leaves out the workspaces of cuDNN's algorithms, the CUDA context, and memory that the
allocator cannot use because it is fragmented.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..module_calls import CallStack, in_mode, watch_modules
from .memory_report import (
    KINDS,
    MOMENTS,
    PHASES,
    StepMemory,
    check_settings,
    learnable_outputs,
    module_table,
    thinned,
)

BLOCK = 512  # bytes that CUDA's caching allocator rounds up to (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)


def predict_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """As `step_memory`, always predicted: the network computes nothing and needs no memory."""
    return count_step(model, shape, loss, precision, optimizer, average)


def count_step(
    model,
    shape: Sequence[int],
    loss: Callable | None,
    precision: str,
    optimizer: str,
    average: bool,
    real: bool = False,
    block: int = BLOCK,
) -> StepMemory:
    """One training step under the ledger.

    Args:
        real: with real tensors on the CPU instead of fake ones; for tests.
        block: bytes that each storage is rounded up to.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    check_settings(precision, optimizer)
    shape, ledger = tuple(int(side) for side in shape), _Ledger(block)
    with contextlib.ExitStack() as stack:
        # The step is the same under whatever modes the caller has set.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(in_mode(model, True))
        ledger.calls = stack.enter_context(watch_modules(model))
        if not real:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        recording = _recording(ledger)
        state, learning = _enter_weights(ledger, model, real)
        stack.enter_context(recording)
        ledger.add("optimizer", MOMENTS[optimizer] * sum(tensor.nbytes for tensor in learning))
        ledger.add("average", average * sum(tensor.nbytes for tensor in state.values()))
        start = len(ledger.entries)  # the step begins here
        images = (torch.rand if real else torch.empty)(shape, device="cpu", dtype=torch.float32)
        images = images.to(memory_format=torch.channels_last) if len(shape) == 4 else images
        ledger.name(images, "batch")
        for tensor in learning:
            tensor.register_post_accumulate_grad_hook(lambda t: (ledger.name(t.grad, "gradients"), None)[1])
        _run_step(ledger, model, state, images, loss, precision)
    return _report(ledger, start, model, shape, precision, optimizer)


# The ledger
# --------------------------------------------------------------------------------------------------


class _Ledger:
    """Every storage that came and went, in order.

    An operation's output counts as working memory until its kind is known.
    """

    def __init__(self, block: int):
        self.block, self.phase, self.calls = block, "forward", CallStack()
        self.held: dict[int, list] = {}  # storage -> [bytes, kind]
        self.entries: list[tuple[str, str, str, int]] = []  # phase, module, kind, bytes added or, below 0, freed
        self.activations: Counter = Counter()

    def add(self, kind: str, size: int) -> None:
        self.entries.append((self.phase, self.calls.name, kind, size))

    def enter(self, tensor, kind: str = "working memory") -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.held:
            size = -(-storage.nbytes() // self.block) * self.block
            self.held[key] = [size, kind]
            weakref.finalize(storage, self._strike, key).atexit = False
            self.add(kind, size)

    def _strike(self, key: int) -> None:
        size, kind = self.held.pop(key)
        self.add(kind, -size)

    def name(self, tensor, kind: str) -> bool:
        """Say what kind a storage is, unless that is known. True where it was not."""
        entry = self.held.get(tensor.untyped_storage()._cdata)
        if entry is None or entry[1] != "working memory":
            return False
        self.add(entry[1], -entry[0])
        self.add(kind, entry[0])
        entry[1] = kind
        return True

    def kind_of(self, tensor) -> str | None:
        entry = self.held.get(tensor.untyped_storage()._cdata)
        return entry and entry[1]

    @property
    def levels(self) -> np.ndarray:
        """Bytes in use after each entry."""
        return np.cumsum([size for *_, size in self.entries], dtype=np.int64)

    def save(self, tensor):
        """The pack hook of autograd: called with what the backward pass will need."""
        import torch

        if isinstance(tensor, torch.Tensor) and self.name(tensor, "activations"):
            self.activations[self.calls.name] += self.held[tensor.untyped_storage()._cdata][0]
        return tensor.detach()  # the tensor itself could make a reference cycle with the operation that saves it


def _recording(ledger: _Ledger):
    """A dispatch mode that enters the outputs of operations in the ledger.

    The class is made here, so that importing this file needs no torch.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            made = operation(*args, **(kwargs or {}))
            kind = "working memory"
            if operation is torch.ops.aten._to_copy.default and ledger.kind_of(args[0]) in ("weights", "cast weights"):
                kind = "cast weights"
            for value in tree_leaves(made):
                if isinstance(value, torch.Tensor):
                    ledger.enter(value, kind)
            return made

    return Recording()


# One step
# --------------------------------------------------------------------------------------------------


def _enter_weights(ledger: _Ledger, model, real: bool) -> tuple[dict, list]:
    """Copies of parameters and buffers by name, and those of them that learn."""
    import torch

    parameters, state = dict(model.named_parameters()), {}
    for name, tensor in (*parameters.items(), *model.named_buffers()):
        copied = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        if real:
            copied.copy_(tensor.detach())
        ledger.enter(copied, "weights" if name in parameters else "buffers")
        state[name] = copied.requires_grad_(tensor.requires_grad)
    return state, [state[name] for name in parameters if state[name].requires_grad]


def _run_step(ledger: _Ledger, model, state: dict, images, loss: Callable | None, precision: str) -> None:
    import torch

    low = torch.bfloat16 if precision == "bf16" else torch.float16
    with torch.autocast("cpu", low, enabled=precision != "fp32"):
        with torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor):
            output = torch.func.functional_call(model, state, (images,))
    ledger.phase = "loss"
    results = learnable_outputs(output)
    if loss is not None:
        spike = _loss_memory(loss, output, ledger.block)  # counted elsewhere, so it comes and goes here
        ledger.add("working memory", spike)
        ledger.add("working memory", -spike)
    gradients = [torch.ones_like(tensor) for tensor in results]
    ledger.phase = "backward"
    torch.autograd.backward(results, gradients)
    del gradients, results, output
    ledger.phase = "update"
    ledger.add("working memory", 0)


def _loss_memory(loss: Callable, output, block: int) -> int:
    """By how much a loss and its backward pass raise memory above the model's output.

    A loss may depend on values, so it runs for real, on random maps.
    """
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.utils._python_dispatch import _disable_current_modes

    from .. import random_state
    from ..nan.values import tensors_in

    with _disable_current_modes(), unset_fake_temporarily(), random_state.seeded(0):
        ledger, maps = _Ledger(block), {}
        for tensor in tensors_in(output):
            # low logits: few anchors are confident, as at the start of training
            made = torch.randn(tuple(tensor.shape), device="cpu") - 3.0
            made = maps[id(tensor)] = made.to(tensor.dtype).requires_grad_(tensor.requires_grad)
            ledger.held[made.untyped_storage()._cdata] = [0, "batch"]
        with _recording(ledger):
            value = loss(copy.deepcopy(output, maps))  # the same object, with these maps in place of its tensors
            getattr(value, "total", value).backward()
    return int(ledger.levels.max(initial=0))


def _report(ledger: _Ledger, start: int, model, shape: tuple[int, ...], precision: str, optimizer: str) -> StepMemory:
    when, where, kind_of, size = (np.array(column) for column in zip(*ledger.entries))
    levels = ledger.levels
    each = {kind: np.where(kind_of == kind, size, 0).cumsum() for kind in KINDS}
    top = int(levels.argmax())
    live = {str(name): int(levels[where == name].max()) for name in dict.fromkeys(where)}
    return StepMemory(
        peak=int(levels[top]),
        phase=str(when[top]),
        at_peak={kind: int(level[top]) for kind, level in each.items()},
        most={kind: int(level.max()) for kind, level in each.items()},
        phases={phase: int(levels[when == phase].max(initial=0)) for phase in PHASES},
        modules=module_table(model, ledger.activations, live),
        timeline=thinned([(str(phase), int(level)) for phase, level in zip(when[start:], levels[start:])]),
        measured=False,
        shape=shape,
        precision=precision,
        optimizer=optimizer,
    )
