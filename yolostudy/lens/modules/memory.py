"""Where the memory of a training step goes, and what fits on a card.

On a CUDA card a step is run and the allocator asked. Without one the step is run with fake tensors,
which have shapes and types but no
values: every storage that an operation makes is entered in a ledger and struck out when nothing
holds it any more, so a step at batch 16 and 640 pixels is counted in seconds on any machine. What
autograd saves for the backward pass (`saved_tensors_hooks`) counts as activation, each storage
once; weights that autocast casts and autograd saves stand by themselves; parameters are not
activations.

A prediction knows nothing of the workspaces that cuDNN's algorithms take, of the CUDA context, nor
of memory that the allocator cannot use because it is in pieces.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import style
from ..watch import Call, Calls, in_mode, watched

BLOCK = 512  # bytes that CUDA's caching allocator rounds up to (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)
# float32 copies that the optimizer keeps of each weight that learns
MOMENTS = {"adamw": 2, "adam": 2, "sgd": 1, "none": 0}
KINDS = (
    "weights",
    "buffers",
    "average",
    "optimizer",
    "gradients",
    "batch",
    "cast weights",
    "activations",
    "working memory",
)
PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True, slots=True)
class Module:
    """One module's share, without that of the modules in it: bytes of its weights and of what it
    saves; and the most in use while it ran, what came before it included (where measured: when it
    ended).
    """

    name: str
    kind: str
    weights: int
    activations: int
    live: int


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of one training step, in bytes.

    Attributes:
        peak: the most that was in use at once. phase: when that was: forward, loss, backward or
            update.
        at_peak: kind -> bytes at that moment; they add up to the peak. Kinds: see KINDS.
        most: kind -> the most of it at any time. phases: phase -> its peak.
        modules: in the order in which they are first called.
        timeline: bytes in use, (phase, bytes), from the first operation to the last; empty if
            measured.
        measured: by the allocator of a CUDA card, workspaces included; else predicted.
        shape, precision, optimizer: of the step.
    """

    peak: int
    phase: str
    at_peak: dict[str, int]
    most: dict[str, int]
    phases: dict[str, int]
    modules: tuple[Module, ...]
    timeline: tuple[tuple[str, int], ...]
    measured: bool
    shape: tuple[int, ...]
    precision: str
    optimizer: str

    def parts(self, depth: int = 2) -> dict[str, tuple[int, int]]:
        """Name of a part, as deep as asked for -> (weights, activations), everything below it
        included.
        """
        sums: dict[str, list[int]] = {}
        for module in self.modules:
            part = sums.setdefault(".".join(module.name.split(".")[:depth]) or "outside", [0, 0])
            part[0] += module.weights
            part[1] += module.activations
        return {name: tuple(part) for name, part in sums.items() if any(part)}

    def __str__(self) -> str:
        word = "measured" if self.measured else "predicted, without cuDNN's workspaces"
        shape = " × ".join(map(str, self.shape))
        lines = [
            f"{_megabytes(self.peak)} at the peak, in the {self.phase} ({word}); batch {shape}, {self.precision}, "
            f"{self.optimizer}"
        ]
        lines += [f"  {kind:<15}{_megabytes(value):>12}" for kind, value in self.at_peak.items() if value]
        return "\n".join(lines)

    __repr__ = __str__


def step_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """Memory of a training step: measured where the model lies on a CUDA card, else predicted.

    Args:
        model: any `nn.Module`, on any device, `meta` included. It stays as it is.
        shape: (B, 3, H, W) of the batch, float32.
        loss: what the model gives -> a scalar, or something with `.total`. The sum of all outputs
            where none is given. For a prediction it is run on random maps, on the CPU and for real,
            because matching boxes depends on values: count on a second or two.
        precision: fp32, bf16 or fp16 (autocast).
        optimizer: adamw, sgd (with momentum) or none.
        average: whether a moving average of the weights is kept, as the course's trainer does.
    """
    import torch

    on_card = torch.cuda.is_available() and any(parameter.is_cuda for parameter in model.parameters())
    return (measure_memory if on_card else predict_memory)(model, shape, loss, precision, optimizer, average)


def predict_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """As `step_memory`, always predicted: nothing of the size of the batch is allocated for the
    network, and nothing computed.
    """
    return _counted(model, shape, loss, precision, optimizer, average, real=False, block=BLOCK)


# The ledger
# --------------------------------------------------------------------------------------------------


class _Ledger:
    """What came and what went, in order.

    An operation's output counts as working memory until something better is known of it.
    """

    def __init__(self, block: int):
        self.block, self.phase, self.calls = block, "forward", Calls()
        self.held: dict[int, list] = {}  # storage -> [bytes, kind]
        self.entries: list[tuple[str, str, str, int]] = []  # phase, module, kind, bytes that came or, below 0, went
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
        """Say what a storage is, if it is still nothing better; True the first time."""
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
        """The pack hook of autograd: what the backward pass will need."""
        import torch

        if isinstance(tensor, torch.Tensor) and self.name(tensor, "activations"):
            self.activations[self.calls.name] += self.held[tensor.untyped_storage()._cdata][0]
        return tensor.detach()  # the tensor itself could close a circle with the operation that saves it


def _watching(ledger: _Ledger):
    """A dispatch mode that enters what operations make.

    Made here, so that importing this file needs no torch.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            made = operation(*args, **(kwargs or {}))
            kind = "working memory"
            if operation is torch.ops.aten._to_copy.default and ledger.kind_of(args[0]) in ("weights", "cast weights"):
                kind = "cast weights"
            for value in tree_leaves(made):
                if isinstance(value, torch.Tensor):
                    ledger.enter(value, kind)
            return made

    return Watching()


def _counted(model, shape, loss, precision: str, optimizer: str, average: bool, real: bool, block: int) -> StepMemory:
    """One step under the ledger: with fake tensors, or (`real`, for tests) with real ones on the
    CPU.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    _check(precision, optimizer)
    shape, ledger = tuple(int(side) for side in shape), _Ledger(block)
    parameters = dict(model.named_parameters())
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())  # the step is the same, wherever it is asked for
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(in_mode(model, True))
        ledger.calls = stack.enter_context(watched(model))
        if not real:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        watching, state = _watching(ledger), {}
        for name, tensor in (*parameters.items(), *model.named_buffers()):
            copied = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            if real:
                copied.copy_(tensor.detach())
            ledger.enter(copied, "weights" if name in parameters else "buffers")
            state[name] = copied.requires_grad_(tensor.requires_grad)
        stack.enter_context(watching)
        learning = [state[name] for name in parameters if state[name].requires_grad]
        ledger.add("optimizer", MOMENTS[optimizer] * sum(tensor.nbytes for tensor in learning))
        ledger.add("average", average * sum(tensor.nbytes for tensor in state.values()))
        start = len(ledger.entries)  # the step begins here
        make = torch.rand if real else torch.empty
        images = make(shape, device="cpu", dtype=torch.float32)
        images = images.to(memory_format=torch.channels_last) if len(shape) == 4 else images
        ledger.name(images, "batch")
        for tensor in learning:
            tensor.register_post_accumulate_grad_hook(lambda t: (ledger.name(t.grad, "gradients"), None)[1])

        low = torch.bfloat16 if precision == "bf16" else torch.float16
        with torch.autocast("cpu", low, enabled=precision != "fp32"):
            with torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor):
                output = torch.func.functional_call(model, state, (images,))
        ledger.phase = "loss"
        results = _learnable(output)
        if loss is not None:
            spike = _loss_memory(loss, output, block)  # counted elsewhere: it was here and is gone
            ledger.add("working memory", spike)
            ledger.add("working memory", -spike)
        gradients = [torch.ones_like(tensor) for tensor in results]
        ledger.phase = "backward"
        torch.autograd.backward(results, gradients)
        del gradients, results, output
        ledger.phase = "update"
        ledger.add("working memory", 0)
    when, where, kind_of, size = (np.array(column) for column in zip(*ledger.entries))
    levels = ledger.levels
    each = {kind: np.where(kind_of == kind, size, 0).cumsum() for kind in KINDS}
    top = int(levels.argmax())
    return StepMemory(
        peak=int(levels[top]),
        phase=str(when[top]),
        at_peak={kind: int(level[top]) for kind, level in each.items()},
        most={kind: int(level.max()) for kind, level in each.items()},
        phases={phase: int(levels[when == phase].max(initial=0)) for phase in PHASES},
        modules=_modules(
            model, ledger.activations, {str(name): int(levels[where == name].max()) for name in dict.fromkeys(where)}
        ),
        timeline=_thinned([(str(phase), int(level)) for phase, level in zip(when[start:], levels[start:])]),
        measured=False,
        shape=shape,
        precision=precision,
        optimizer=optimizer,
    )


def _modules(model, saved: Mapping[str, int], live: Mapping[str, int]) -> tuple[Module, ...]:
    """The modules that were called. What goes by several names has its weights under the first."""
    first = dict(model.named_modules())
    every = dict(model.named_modules(remove_duplicate=False))
    weights = {name: sum(p.nbytes for p in module.parameters(recurse=False)) for name, module in first.items()}
    return tuple(
        Module(name, type(every[name]).__name__, weights.get(name, 0), max(0, saved.get(name, 0)), live[name])
        for name in live
        if name in every
    )


def _learnable(output) -> list:
    """The tensors in what a model gave that a loss can begin from."""
    from ..nan.values import tensors_in

    found = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
    if not found:
        raise ValueError(
            "nothing that the model gives depends on a weight that learns, so its step has no backward pass to count"
        )
    return found


def _loss_memory(loss: Callable, output, block: int = BLOCK) -> int:
    """By how much a loss, with its own backward pass, raises memory over the maps that it is given.

    Run for real on random maps.
    """
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.utils._python_dispatch import _disable_current_modes

    from .. import chance
    from ..nan.values import tensors_in

    with _disable_current_modes(), unset_fake_temporarily(), chance.seeded(0):
        ledger, maps = _Ledger(block), {}
        for tensor in tensors_in(output):
            # few are sure of anything, as at the start of training
            made = torch.randn(tuple(tensor.shape), device="cpu") - 3.0
            made = maps[id(tensor)] = made.to(tensor.dtype).requires_grad_(tensor.requires_grad)
            ledger.held[made.untyped_storage()._cdata] = [0, "batch"]
        with _watching(ledger):
            value = loss(copy.deepcopy(output, maps))  # whatever holds the tensors, with these in their places
            getattr(value, "total", value).backward()
    return int(ledger.levels.max(initial=0))


def measure_memory(
    model,
    shape: Sequence[int],
    loss: Callable | None = None,
    precision: str = "fp32",
    optimizer: str = "adamw",
    average: bool = False,
) -> StepMemory:
    """As `step_memory`, asked of the allocator of the CUDA card on which the model lies: two steps
    are run on a copy, the second counts.

    Working memory holds cuDNN's workspaces too. Bytes count from what was in use before, so the
    model itself is counted once.
    """
    import torch

    _check(precision, optimizer)
    device, cuda = next(model.parameters()).device, torch.cuda
    if device.type != "cuda":
        raise ValueError(
            f"measure_memory asks CUDA's allocator, and the model lies on {device}; predict_memory needs no card"
        )
    base = cuda.memory_allocated(device)
    own, before = copy.deepcopy(model).train(), {}
    learning = [parameter for parameter in own.parameters() if parameter.requires_grad]
    # held to the end: the averaged copy takes memory
    kept = copy.deepcopy(own).requires_grad_(False) if average else None
    if optimizer in ("adamw", "adam"):
        updater = torch.optim.AdamW(learning, fused=True)
    else:
        updater = torch.optim.SGD(learning, lr=1e-6, momentum=0.9) if optimizer == "sgd" else None
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    live, saved, phases, begun = Counter(), Counter(), {}, {}

    def enter(call: Call, given) -> None:
        begun[call] = cuda.memory_allocated(device)

    def leave(call: Call, output) -> None:
        now = cuda.memory_allocated(device)
        live[call.name] = max(live[call.name], now - base)
        saved[call.name] += now - begun[call]
        if call.parent is not None:  # what is inside counts inside
            saved[call.parent.name] -= now - begun[call]

    def close(phase: str) -> None:
        cuda.synchronize(device)
        phases[phase] = cuda.max_memory_allocated(device) - base
        cuda.reset_peak_memory_stats(device)

    def step() -> None:
        images = torch.rand(tuple(shape), device=device)
        images = images.to(memory_format=torch.channels_last) if images.ndim == 4 else images
        before["forward"] = cuda.memory_allocated(device)
        cuda.reset_peak_memory_stats(device)
        with torch.autocast(
            "cuda", torch.float16 if precision == "fp16" else torch.bfloat16, enabled=precision != "fp32"
        ):
            output = own(images)
        before["loss"] = cuda.memory_allocated(device)
        close("forward")
        value = loss(output) if loss is not None else sum(tensor.float().sum() for tensor in _learnable(output))
        value = getattr(value, "total", value)
        close("loss")
        scaler.scale(value).backward()
        close("backward")
        if updater is not None:
            scaler.step(updater)
            scaler.update()
        own.zero_grad(set_to_none=True)
        close("update")

    with torch.inference_mode(False), torch.enable_grad():
        step()
        with watched(own, enter, leave):
            step()
    peak, phase = max((value, phase) for phase, value in phases.items())
    weights = sum(parameter.nbytes for parameter in own.parameters())
    buffers = sum(buffer.nbytes for buffer in own.buffers())
    known = {"weights": weights, "buffers": buffers, "average": (weights + buffers) * average}
    known["optimizer"] = MOMENTS[optimizer] * sum(parameter.nbytes for parameter in learning)
    known["batch"] = int(np.prod(shape)) * 4
    kept = max(0, before["loss"] - before["forward"])
    gradients = sum(parameter.nbytes for parameter in learning)
    most = {**dict.fromkeys(KINDS, 0), **known, "gradients": gradients, "activations": kept}
    at_peak = {**dict.fromkeys(KINDS, 0), **known, "gradients": gradients * (phase == "update")}
    at_peak["activations"] = min(kept, peak - sum(at_peak.values())) * (phase != "update")
    most["working memory"] = at_peak["working memory"] = peak - sum(at_peak.values())
    modules = _modules(own, saved, live)
    return StepMemory(peak, phase, at_peak, most, phases, modules, (), True, tuple(shape), precision, optimizer)


def _thinned(timeline: list[tuple[str, int]], most: int = 600) -> tuple[tuple[str, int], ...]:
    """At most about so many points; of each stretch the highest."""
    step = max(1, len(timeline) // most)
    return tuple(
        max(timeline[start : start + step], key=lambda point: point[1]) for start in range(0, len(timeline), step)
    )


def _check(precision: str, optimizer: str) -> None:
    if precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"unknown precision {precision!r}; choose fp32, bf16 or fp16")
    if optimizer not in MOMENTS:
        raise ValueError(f"unknown optimizer {optimizer!r}; choose one of {', '.join(MOMENTS)}")


def _megabytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB"


# Pictures
# --------------------------------------------------------------------------------------------------

_COLOURS = dict(
    zip(KINDS, ("#0072b2", "#56b4e9", "#5b5b5b", "#cc79a7", "#e69f00", "#8b93a3", "#009e73", "#d55e00", "#d9dce3"))
)


@style.house()
def draw_memory(step: StepMemory, most: int = 12) -> style.StudyFigure:
    """Left: what is in use from the first operation to the last, and of what the peak consists.

    Right: the parts that hold most.
    """
    figure, (left, right) = style.figure(1, 2, height=3.9, width_ratios=(1.25, 1))
    if step.timeline:
        height = np.array([value for _, value in step.timeline]) / 2**20
        left.plot(height, color=style.INK, linewidth=1.3)
        names = [phase for phase, _ in step.timeline]
        edges = [0, *(x for x in range(1, len(names)) if names[x] != names[x - 1]), len(names)]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            left.axvspan(start, end, color="#f0f2f6" if number % 2 else style.PAPER, zorder=0)
            if end - start > 0.04 * len(names):
                left.annotate(names[start], ((start + end) / 2, 1.02 * height.max()), ha="center", fontsize=9)
        left.set(xlabel="operations, in order", xticks=[])
    bottom, length = 0.0, len(step.timeline) or 8
    for kind, value in step.at_peak.items():
        if value:
            left.bar(
                1.08 * length,
                value / 2**20,
                0.1 * length,
                bottom,
                color=_COLOURS[kind],
                label=f"{kind}, {value / 2**20:,.0f}",
            )
            bottom += value / 2**20
    left.set(xlim=(0, 1.14 * length), ylabel="in use (MiB)", ylim=(0, 1.12 * step.peak / 2**20))
    word = "measured" if step.measured else "predicted"
    left.set_title(f"{step.peak / 2**20:,.0f} MiB at the peak, {word}")
    left.legend(
        loc="lower center",
        bbox_to_anchor=(0.45, 0.02),
        fontsize=8,
        reverse=True,
        title="column: the peak, MiB",
        title_fontsize=8,
    )
    parts = sorted(step.parts().items(), key=lambda part: -sum(part[1]))[:most][::-1]
    weights, saved = (np.array([part[index] for _, part in parts]) / 2**20 for index in (0, 1))
    right.barh(range(len(parts)), saved, color=_COLOURS["activations"], label="saved for the backward pass")
    right.barh(range(len(parts)), weights, left=saved, color=_COLOURS["weights"], label="weights")
    right.set(yticks=range(len(parts)), yticklabels=[name for name, _ in parts], xlabel="MiB")
    right.set_title("the parts that hold most")
    right.grid(axis="y", visible=False)
    right.legend(loc="lower right", fontsize=8)
    return figure
