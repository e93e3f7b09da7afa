"""Where the memory of a training step goes, and what fits on a card.

On a CUDA card a step is run and the allocator asked. Without one the step is run with fake tensors, which have shapes and types but no
values: every storage that an operation makes is entered in a ledger and struck out when nothing holds it any more, so a step at batch 16
and 640 pixels is counted in seconds on any machine. What autograd saves for the backward pass (`saved_tensors_hooks`) counts as
activation, each storage once; weights that autocast casts and autograd saves stand by themselves; parameters are not activations.

A prediction knows nothing of the workspaces that cuDNN's algorithms take, of the CUDA context, nor of memory that the allocator cannot
use because it is in pieces. `what_fits` holds back `reserve_gb` for them, which is an assumption.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import html
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import style
from .shape_table import Names

BLOCK = 512  # bytes that CUDA's caching allocator rounds up to (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize)
MOMENTS = {"adamw": 2, "adam": 2, "sgd": 1, "none": 0}  # float32 copies that the optimizer keeps of each weight that learns
KINDS = ("weights", "buffers", "average", "optimizer", "gradients", "batch", "cast weights", "activations", "working memory")
PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True, slots=True)
class Module:
    """One module's share, without that of the modules in it: bytes of its weights and of what it saves; and the most in use
    while it ran, what came before it included (where measured: when it ended)."""

    name: str
    kind: str
    weights: int
    activations: int
    live: int


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of one training step, in bytes.

    Attributes:
        peak: the most that was in use at once. phase: when that was: forward, loss, backward or update.
        at_peak: kind -> bytes at that moment; they add up to the peak. Kinds: see KINDS.
        most: kind -> the most of it at any time. phases: phase -> its peak.
        modules: in the order in which they are first called.
        timeline: bytes in use, (phase, bytes), from the first operation to the last; empty if measured.
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
        """Name of a part, as deep as asked for -> (weights, activations), everything below it included."""
        sums: dict[str, list[int]] = {}
        for module in self.modules:
            part = sums.setdefault(".".join(module.name.split(".")[:depth]) or "outside", [0, 0])
            part[0] += module.weights
            part[1] += module.activations
        return {name: tuple(part) for name, part in sums.items() if any(part)}

    def __str__(self) -> str:
        word = "measured" if self.measured else "predicted, without cuDNN's workspaces"
        shape = " × ".join(map(str, self.shape))
        lines = [f"{_megabytes(self.peak)} at the peak, in the {self.phase} ({word}); batch {shape}, {self.precision}, {self.optimizer}"]
        lines += [f"  {kind:<15}{_megabytes(value):>12}" for kind, value in self.at_peak.items() if value]
        return "\n".join(lines)

    __repr__ = __str__


def step_memory(
    model, shape: Sequence[int], loss: Callable | None = None, precision: str = "fp32", optimizer: str = "adamw", average: bool = False
) -> StepMemory:
    """Memory of a training step: measured where the model lies on a CUDA card, else predicted.

    Args:
        model: any `nn.Module`, on any device, `meta` included. It stays as it is.
        shape: (B, 3, H, W) of the batch, float32.
        loss: what the model gives -> a scalar, or something with `.total`. The sum of all outputs where none is given. For a prediction
            it is run on random maps, on the CPU and for real, because matching boxes depends on values: count on a second or two.
        precision: fp32, bf16 or fp16 (autocast).
        optimizer: adamw, sgd (with momentum) or none.
        average: whether a moving average of the weights is kept, as the course's trainer does.
    """
    import torch

    on_card = torch.cuda.is_available() and any(parameter.is_cuda for parameter in model.parameters())
    return (measure_memory if on_card else predict_memory)(model, shape, loss, precision, optimizer, average)


def predict_memory(
    model, shape: Sequence[int], loss: Callable | None = None, precision: str = "fp32", optimizer: str = "adamw", average: bool = False
) -> StepMemory:
    """As `step_memory`, always predicted: nothing of the size of the batch is allocated for the network, and nothing computed."""
    return _counted(model, shape, loss, precision, optimizer, average, real=False, block=BLOCK)


# The ledger --------------------------------------------------------------------------------------------------------------------------


class _Ledger:
    """What is alive, by kind. An operation's output counts as working memory until something better is known of it."""

    def __init__(self, block: int):
        self.block, self.phase, self.module = block, "forward", ""
        self.held: dict[int, list] = {}  # storage -> [bytes, kind]
        self.live: Counter = Counter()
        self.most: Counter = Counter()
        self.phases: dict[str, int] = dict.fromkeys(PHASES, 0)
        self.total = self.peak = 0
        self.at_peak, self.peak_phase = {}, "forward"
        self.timeline: list[tuple[str, int]] = []
        self.activations: Counter = Counter()
        self.module_live: Counter = Counter()

    def enter(self, tensor, kind: str = "working memory") -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.held:
            return
        size = -(-storage.nbytes() // self.block) * self.block
        self.held[key] = [size, kind]
        weakref.finalize(storage, self._strike, key).atexit = False
        self.add(kind, size)

    def add(self, kind: str, size: int) -> None:
        self.live[kind] += size
        self.total += size
        self._look()

    def _look(self, spike: int = 0) -> None:
        now = self.total + spike
        self.timeline.append((self.phase, now))
        self.phases[self.phase] = max(self.phases[self.phase], now)
        self.module_live[self.module] = max(self.module_live[self.module], now)
        for kind, value in self.live.items():
            if value > self.most[kind]:
                self.most[kind] = value
        if now > self.peak:
            self.peak, self.peak_phase = now, self.phase
            self.at_peak = {kind: self.live[kind] + spike * (kind == "working memory") for kind in KINDS}

    def spike(self, size: int) -> None:
        """Something counted elsewhere that was here and is gone."""
        self._look(size)
        self.most["working memory"] = max(self.most["working memory"], self.live["working memory"] + size)

    def _strike(self, key: int) -> None:
        size, kind = self.held.pop(key)
        self.live[kind] -= size
        self.total -= size
        self.timeline.append((self.phase, self.total))

    def name(self, tensor, kind: str, only: tuple[str, ...] = ("working memory",)) -> bool:
        """Say what a storage is, if it is still nothing better; True the first time."""
        entry = self.held.get(tensor.untyped_storage()._cdata)
        if entry is None or entry[1] not in only:
            return False
        self.live[entry[1]] -= entry[0]
        self.live[kind] += entry[0]
        self.most[kind] = max(self.most[kind], self.live[kind])
        entry[1] = kind
        return True

    def kind_of(self, tensor) -> str | None:
        entry = self.held.get(tensor.untyped_storage()._cdata)
        return entry and entry[1]

    def save(self, tensor):
        """The pack hook of autograd: what the backward pass will need."""
        import torch

        if isinstance(tensor, torch.Tensor) and self.name(tensor, "activations"):
            self.activations[self.module] += self.held[tensor.untyped_storage()._cdata][0]
        return tensor.detach()  # the tensor itself could close a circle with the operation that saves it


def _watching(ledger: _Ledger):
    """A dispatch mode that enters what operations make. Made here, so that importing this file needs no torch."""
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


@contextlib.contextmanager
def _inside(model, ledger: _Ledger) -> Iterator[None]:
    """While this lasts the ledger knows which module runs."""
    stack: list[str] = []

    names = Names(model)

    def enter(module, args) -> None:
        stack.append(names.of(module, stack[-1] if stack else None))
        ledger.module = stack[-1]

    def leave(module, args, output) -> None:
        stack.pop()
        ledger.module = stack[-1] if stack else ""

    with contextlib.ExitStack() as hooks:
        for module in names.all:
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield


@contextlib.contextmanager
def _training(model) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _counted(model, shape, loss, precision: str, optimizer: str, average: bool, real: bool, block: int) -> StepMemory:
    """One step under the ledger: with fake tensors, or (`real`, for tests) with real ones on the CPU."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._pytree import tree_leaves

    _check(precision, optimizer)
    shape, ledger = tuple(int(side) for side in shape), _Ledger(block)
    parameters = dict(model.named_parameters())
    with contextlib.ExitStack() as stack:
        if not real:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_training(model))
        stack.enter_context(_inside(model, ledger))
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
        ledger.timeline.clear()  # the step begins here
        make = torch.rand if real else torch.empty
        images = make(shape)
        images = images.to(memory_format=torch.channels_last) if len(shape) == 4 else images
        ledger.name(images, "batch")
        for tensor in learning:
            tensor.register_post_accumulate_grad_hook(lambda t: (ledger.name(t.grad, "gradients"), None)[1])

        low = torch.bfloat16 if precision == "bf16" else torch.float16
        with torch.autocast("cpu", low, enabled=precision != "fp32"):
            with torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor):
                output = torch.func.functional_call(model, state, (images,))
        ledger.phase = "loss"
        results = [tensor for tensor in tree_leaves(output) if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
        if loss is not None:
            ledger.spike(_loss_memory(loss, output, block))
        gradients = [torch.ones_like(tensor) for tensor in results]
        ledger.phase = "backward"
        torch.autograd.backward(results, gradients)
        del gradients, results, output
        ledger.phase = "update"
        ledger.add("working memory", 0)
    modules = _modules(model, ledger.activations, ledger.module_live)
    most = {kind: ledger.most[kind] for kind in KINDS}
    return StepMemory(
        *(ledger.peak, ledger.peak_phase, ledger.at_peak, most, ledger.phases, modules, _thinned(ledger.timeline), False),
        *(shape, precision, optimizer),
    )


def _modules(model, saved: Counter, live: Counter) -> tuple[Module, ...]:
    """The modules that were called. What goes by several names has its weights under the first."""
    first = dict(model.named_modules())
    every = dict(model.named_modules(remove_duplicate=False))
    weights = {name: sum(p.nbytes for p in module.parameters(recurse=False)) for name, module in first.items()}
    return tuple(
        Module(name, type(every[name]).__name__, weights.get(name, 0), max(0, saved[name]), live[name]) for name in live if name in every
    )


def _loss_memory(loss: Callable, output, block: int = BLOCK) -> int:
    """By how much a loss, with its own backward pass, raises memory over the maps that it is given. Run for real on random maps."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.utils._python_dispatch import _disable_current_modes
    from torch.utils._pytree import tree_map

    with _disable_current_modes(), unset_fake_temporarily(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)

        def leaf(value):
            if not isinstance(value, torch.Tensor):
                return value
            made = torch.randn(tuple(value.shape)) - 3.0  # few are sure of anything, as at the start of training
            return made.to(value.dtype).requires_grad_(value.requires_grad)

        maps, ledger = tree_map(leaf, output), _Ledger(block)
        for tensor in torch.utils._pytree.tree_leaves(maps):
            ledger.held[tensor.untyped_storage()._cdata] = [0, "batch"]
        with _watching(ledger):
            value = loss(maps)
            getattr(value, "total", value).backward()
    return ledger.peak


def measure_memory(
    model, shape: Sequence[int], loss: Callable | None = None, precision: str = "fp32", optimizer: str = "adamw", average: bool = False
) -> StepMemory:
    """As `step_memory`, asked of the allocator of the CUDA card on which the model lies: two steps are run on a copy, the second counts.

    Working memory holds cuDNN's workspaces too. Bytes count from what was in use before, so the model itself is counted once.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    _check(precision, optimizer)
    device, cuda = next(model.parameters()).device, torch.cuda
    if device.type != "cuda":
        raise ValueError(f"measure_memory asks CUDA's allocator, and the model lies on {device}; predict_memory needs no card")
    base = cuda.memory_allocated(device)
    own, before = copy.deepcopy(model).train(), {}
    learning = [parameter for parameter in own.parameters() if parameter.requires_grad]
    slow = copy.deepcopy(own).requires_grad_(False) if average else None
    if optimizer in ("adamw", "adam"):
        updater = torch.optim.AdamW(learning, fused=True)
    else:
        updater = torch.optim.SGD(learning, lr=1e-6, momentum=0.9) if optimizer == "sgd" else None
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    live, saved, phases, stack, names = Counter(), Counter(), {}, [], Names(own)

    def enter(module, args) -> None:
        stack.append((names.of(module, stack[-1][0] if stack else None), cuda.memory_allocated(device)))

    def leave(module, args, output) -> None:
        name, start = stack.pop()
        live[name] = max(live[name], cuda.memory_allocated(device) - base)
        saved[name] += cuda.memory_allocated(device) - start
        if stack:  # what is inside counts inside
            saved[stack[-1][0]] -= cuda.memory_allocated(device) - start

    def close(phase: str) -> None:
        cuda.synchronize(device)
        phases[phase] = cuda.max_memory_allocated(device) - base
        cuda.reset_peak_memory_stats(device)

    def step() -> None:
        images = torch.rand(tuple(shape), device=device)
        images = images.to(memory_format=torch.channels_last) if images.ndim == 4 else images
        before["forward"] = cuda.memory_allocated(device)
        cuda.reset_peak_memory_stats(device)
        with torch.autocast("cuda", torch.float16 if precision == "fp16" else torch.bfloat16, enabled=precision != "fp32"):
            output = own(images)
        before["loss"] = cuda.memory_allocated(device)
        close("forward")
        results = [tensor for tensor in tree_leaves(output) if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
        value = loss(output) if loss is not None else sum(tensor.float().sum() for tensor in results)
        value = getattr(value, "total", value)
        close("loss")
        scaler.scale(value).backward()
        close("backward")
        if updater is not None:
            scaler.step(updater)
            scaler.update()
        own.zero_grad(set_to_none=True)
        close("update")

    with contextlib.ExitStack() as hooks:
        step()
        live.clear(), saved.clear()
        for module in names.all:
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
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
    return tuple(max(timeline[start : start + step], key=lambda point: point[1]) for start in range(0, len(timeline), step))


# What fits ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table: a network's size, a side in pixels, a batch; bytes at the peak, whether measured, and whether it fits."""

    size: str
    side: int
    batch: int
    precision: str
    bytes: int
    measured: bool
    fits: bool


class WhatFits:
    """The table; text and HTML. `cells` holds every combination, `limit` and `reserve` are bytes."""

    def __init__(self, cells: Sequence[Cell], limit: int, reserve: int):
        self.cells, self.limit, self.reserve = tuple(cells), limit, reserve
        self.batches = sorted({cell.batch for cell in cells})
        self.precisions = list(dict.fromkeys(cell.precision for cell in cells))
        self._by_key = {(cell.size, cell.side, cell.precision, cell.batch): cell for cell in cells}

    def cell(self, size: str, side: int, batch: int, precision: str) -> Cell:
        return self._by_key[size, side, precision, batch]

    def largest(self, size: str, side: int, precision: str) -> int:
        """The largest batch of the table that fits; 0 where none does."""
        return max((c.batch for c in self.cells if (c.size, c.side, c.precision) == (size, side, precision) and c.fits), default=0)

    @property
    def rows(self) -> list[tuple[str, int, str]]:
        return list(dict.fromkeys((cell.size, cell.side, cell.precision) for cell in self.cells))

    def _text(self, cell: Cell) -> str:
        return f"{cell.bytes / 2**30:.1f}{'' if cell.measured else '~'}{'' if cell.fits else ' no'}"

    @property
    def caption(self) -> str:
        measured = sum(cell.measured for cell in self.cells)
        return (
            f"GiB at the peak of a training step; limit {self.limit / 2**30:.3g} GiB, of which {self.reserve / 2**30:.2g} GiB are held "
            f"back (CUDA, workspaces, fragments). {measured} cells measured, {len(self.cells) - measured} predicted (~); no: does not fit."
        )

    def __str__(self) -> str:
        lines = [self.caption, "size  side  precision " + "".join(f"{f'batch {b}':>11}" for b in self.batches)]
        for size, side, precision in self.rows:
            cells = "".join(f"{self._text(self.cell(size, side, batch, precision)):>11}" for batch in self.batches)
            lines.append(f"{size:<6}{side:>4}  {precision:<10}{cells}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        look = "style='text-align:right; padding:2px 10px"
        titles = ["size", "side", "precision", *(f"batch {batch}" for batch in self.batches)]
        head = "".join(f"<th {look}'>{html.escape(title)}</th>" for title in titles)
        body = ""
        for size, side, precision in self.rows:
            body += f"<tr><td {look}'>{size}</td><td {look}'>{side}</td><td {look}'>{precision}</td>"
            for batch in self.batches:
                cell = self.cell(size, side, batch, precision)
                ground = "#d3eee2" if cell.fits else "#fbd9cf"
                body += f"<td {look}; background:{ground}; color:{style.INK}'>{html.escape(self._text(cell))}</td>"
            body += "</tr>"
        return f"<table><caption>{html.escape(self.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def what_fits(
    limit_gb: float = 8,
    sizes: Sequence[str] = "nsmlx",
    sides: Sequence[int] = (320, 640, 960),
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    precisions: Sequence[str] = ("fp32", "bf16"),
    num_classes: int = 20,
    boxes: int = 20,
    optimizer: str = "adamw",
    reserve_gb: float = 0.7,
    measure: bool | None = None,
    build: Callable | None = None,
) -> WhatFits:
    """Which batch fits for which image and which size of the course's detector, its loss and the average of its weights included.

    Two predictions are made for each size and precision, of a few seconds each; all else follows, because memory grows in proportion to
    batch × pixels.

    Args:
        limit_gb: the card's memory in GiB. reserve_gb: of it, held back for what no figure here contains; a measured cell fits if its step
            ran in the rest. One that did not has no measured bytes: its figure is the prediction.
        boxes: objects in each image; the assigner's share grows with them.
        measure: measure the cells that may fit, on the CUDA card and under the limit. Where there is a card, if not said otherwise.
        build: size -> (model, loss), where loss takes (outputs, batch=, side=); the course's detector where none is given.
    """
    import torch

    limit, reserve = int(limit_gb * 2**30), int(reserve_gb * 2**30)
    measure = torch.cuda.is_available() if measure is None else measure
    build = build or (lambda size: _detector(size, num_classes, boxes))
    cells = []
    for size in sizes:
        for precision in precisions:
            line = _line(build, size, precision, optimizer)
            for side in sides:
                for batch in batches:
                    value, measured = max(fixed + slope * batch * side**2 for fixed, slope in line), False
                    fits = value + reserve <= limit
                    if measure and value < 1.3 * limit:
                        found = _measured_cell(build, size, side, batch, precision, optimizer, limit - reserve)
                        value, measured, fits = found or value, True, found is not None
                    cells.append(Cell(size, side, batch, precision, int(value), measured, fits))
    return WhatFits(cells, limit, reserve)


def _line(build: Callable, size: str, precision: str, optimizer: str, side: int = 192) -> list[tuple[float, float]]:
    """Fixed bytes and bytes for each pixel of the batch, phase by phase, from two small predictions."""
    import torch

    found = []
    for batch in (2, 6):
        with torch.device("meta"):
            model, loss = build(size)
        over_maps = functools.partial(loss, batch=batch, side=side)
        found.append(predict_memory(model, (batch, 3, side, side), over_maps, precision, optimizer, True).phases)
    low, high = found
    slopes = {phase: (high[phase] - low[phase]) / (4 * side**2) for phase in PHASES}
    return [(low[phase] - slope * 2 * side**2, slope) for phase, slope in slopes.items()]


def _measured_cell(build: Callable, size: str, side: int, batch: int, precision: str, optimizer: str, limit: int) -> int | None:
    """Bytes at the peak on the card, under the limit; None where the memory runs out."""
    import torch

    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    model, loss = build(size)
    held = sum(tensor.nbytes for tensor in model.state_dict().values())  # the step runs on a copy
    torch.cuda.set_per_process_memory_fraction(min(1.0, (limit + held) / total))
    try:
        model = model.cuda().to(memory_format=torch.channels_last)
        step = measure_memory(model, (batch, 3, side, side), functools.partial(loss, batch=batch, side=side), precision, optimizer, True)
        return step.peak
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def _detector(size: str, num_classes: int, boxes: int) -> tuple:
    """The course's detector of the edition in use, and its loss over random boxes."""
    import torch

    from ..losses import DetectionLoss
    from ..network import YOLO

    model = YOLO(num_classes, size)
    criterion = DetectionLoss(model)

    def loss(maps, batch: int, side: int):
        generator = torch.Generator().manual_seed(0)
        corner, extent = (torch.rand(batch * boxes, 2, generator=generator, device="cpu") for _ in range(2))
        corner, extent = corner * side * 0.7, (extent * 0.2 + 0.05) * side
        labels = torch.arange(batch * boxes, device="cpu")[:, None] % num_classes
        image = torch.arange(batch, device="cpu").repeat_interleave(boxes)[:, None]
        return criterion(maps, torch.cat((image, labels, corner, corner + extent), 1).float().to(maps[0].device))

    return model, loss


def _check(precision: str, optimizer: str) -> None:
    if precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"unknown precision {precision!r}; choose fp32, bf16 or fp16")
    if optimizer not in MOMENTS:
        raise ValueError(f"unknown optimizer {optimizer!r}; choose one of {', '.join(MOMENTS)}")


def _megabytes(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB"


# Pictures -----------------------------------------------------------------------------------------------------------------------------

_COLOURS = dict(zip(KINDS, ("#0072b2", "#56b4e9", "#5b5b5b", "#cc79a7", "#e69f00", "#8b93a3", "#009e73", "#d55e00", "#d9dce3")))


@style.house()
def draw_memory(step: StepMemory, most: int = 12) -> style.StudyFigure:
    """Left: what is in use from the first operation to the last, and of what the peak consists. Right: the parts that hold most."""
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
            left.bar(1.08 * length, value / 2**20, 0.1 * length, bottom, color=_COLOURS[kind], label=f"{kind}, {value / 2**20:,.0f}")
            bottom += value / 2**20
    left.set(xlim=(0, 1.14 * length), ylabel="in use (MiB)", ylim=(0, 1.12 * step.peak / 2**20))
    word = "measured" if step.measured else "predicted"
    left.set_title(f"{step.peak / 2**20:,.0f} MiB at the peak, {word}")
    left.legend(loc="lower center", bbox_to_anchor=(0.45, 0.02), fontsize=8, reverse=True, title="column: the peak, MiB", title_fontsize=8)
    parts = sorted(step.parts().items(), key=lambda part: -sum(part[1]))[:most][::-1]
    weights, saved = (np.array([part[index] for _, part in parts]) / 2**20 for index in (0, 1))
    right.barh(range(len(parts)), saved, color=_COLOURS["activations"], label="saved for the backward pass")
    right.barh(range(len(parts)), weights, left=saved, color=_COLOURS["weights"], label="weights")
    right.set(yticks=range(len(parts)), yticklabels=[name for name, _ in parts], xlabel="MiB")
    right.set_title("the parts that hold most")
    right.grid(axis="y", visible=False)
    right.legend(loc="lower right", fontsize=8)
    return figure


@style.house()
def draw_what_fits(table: WhatFits) -> style.StudyFigure:
    """One field for each network, side and batch: green fits, orange does not; hatched is measured, plain is predicted."""
    rows = list(dict.fromkeys((cell.size, cell.side) for cell in table.cells))
    figure, axes = style.figure(1, len(table.precisions), height=1.4 + 0.27 * len(rows), sharey=True, squeeze=False)
    for axis, precision in zip(axes[0], table.precisions):
        for y, (size, side) in enumerate(rows):
            for x, batch in enumerate(table.batches):
                cell = table.cell(size, side, batch, precision)
                look = dict(facecolor="#d3eee2" if cell.fits else "#fbd9cf", edgecolor=style.PAPER, linewidth=1.5)
                axis.add_patch(_field(x, y, hatch="///" if cell.measured else None, **look))
                axis.annotate(f"{cell.bytes / 2**30:.1f}", (x, y), ha="center", va="center", fontsize=8.5)
        axis.set(xlim=(-0.5, len(table.batches) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel="images in a batch")
        axis.set(xticks=range(len(table.batches)), xticklabels=table.batches, yticks=range(len(rows)))
        axis.set_yticklabels([f"{size}  {side} px" for size, side in rows])
        axis.set_title(precision)
        axis.grid(visible=False)
        axis.tick_params(length=0)
    measured = sum(cell.measured for cell in table.cells)
    origin = "predicted" if not measured else "measured where hatched, else predicted"
    room = f"{table.limit / 2**30:.3g} GiB with {table.reserve / 2**30:.2g} GiB to spare"
    figure.suptitle(f"GiB at the peak of a training step, {origin}; green fits in {room}", fontsize=10)
    return figure


def _field(x: float, y: float, **look):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, **look)
