"""How much memory a training step needs at 640 px and batch 16.

    python -m tests.benchmarks.memory [--size n] [--side 640] [--batch 16] [--precision bf16 fp32]
        [--check]

No graphics card is needed. The bytes that the forward pass saves for the backward pass are counted
on the CPU with two images, each storage once, and scaled to the batch. Added are weights,
gradients, Adam's two moments and the average, and the peak of the loss: the growth of a process in
one pass with 100 boxes an image. Not counted are CUDA's context and the convolutions' workspaces,
some hundred MB.

Beside that count stands the peak that the memory lens predicts, and on a CUDA card what its
allocator measures. `--check` runs a real step on the CPU under PyTorch's profiler and compares the
peak of the CPU allocator's events with the prediction: use it small (--side 160 --batch 4).
"""

from __future__ import annotations

import argparse
import functools

import torch

from tests.benchmarks import loss as loss_benchmark
from tests.benchmarks.report import show

MEASURED = 2  # images


def saved_bytes(size: str, side: int, precision: str) -> tuple[int, int]:
    """Bytes saved by the forward pass for `MEASURED` images, and bytes of the parameters."""
    from yolostudy.network import YOLO
    from yolostudy.training import Precision

    model = YOLO(20, size).to(memory_format=torch.channels_last).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.rand(MEASURED, 3, side, side).to(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), Precision("cpu", precision).autocast():
        maps = model(images)
    del maps
    return sum(storages.values()), sum(parameter.nbytes for parameter in model.parameters())


def lens_peaks(options: argparse.Namespace, precision: str) -> tuple[float, float | str]:
    """MiB at the peak of a step with our loss: predicted, and measured on a CUDA card."""
    from yolostudy.lens.modules import memory
    from yolostudy.views.network import memory_table

    model, loss = memory_table.course_detector(options.size, 20, 100)
    arguments = (
        (options.batch, 3, options.side, options.side),
        functools.partial(loss, batch=options.batch, side=options.side),
    )
    predicted = memory.predict_memory(model, *arguments, precision, "adamw", True).peak / 2**20
    if not torch.cuda.is_available():
        return predicted, "no card"
    model = model.cuda().to(memory_format=torch.channels_last)
    return predicted, memory.measure_memory(model, *arguments, precision, "adamw", True).peak / 2**20


def allocator_check(options: argparse.Namespace, precision: str) -> tuple[float, float]:
    """MiB that the CPU allocator gives out during a step without loss: predicted, measured."""
    from torch.profiler import ProfilerActivity, profile

    from yolostudy.lens.modules import memory
    from yolostudy.network import YOLO
    from yolostudy.training import Precision

    model = YOLO(20, options.size).train()
    shape = (options.batch, 3, options.side, options.side)
    step = memory.count_step(model, shape, None, precision, "none", False, real=False, block=1)
    predicted = step.peak - step.most["weights"] - step.most["buffers"]

    def run() -> None:
        images = torch.rand(shape).to(memory_format=torch.channels_last)
        with Precision("cpu", precision).autocast():
            maps = model(images)
        torch.autograd.backward(maps, [torch.ones_like(level) for level in maps])

    run()
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return predicted / 2**20, peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="n")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        rows = [(precision, *allocator_check(options, precision)) for precision in options.precision]
        title = f"prediction against the CPU allocator, yolov8{options.size}, {options.side} px, batch {options.batch}"
        columns = ("precision", "predicted MiB", "allocator MiB", "ratio")
        show(title, columns, [(*row, row[1] / row[2]) for row in rows], {})
        return
    loss_options = argparse.Namespace(images=options.batch, side=options.side, boxes=100, classes=20)
    loss_mib = loss_benchmark.peak(loss_options, "loss and backward", 0)
    rows = []
    for precision in options.precision:
        activations, parameters = saved_bytes(options.size, options.side, precision)
        activations = activations * options.batch / MEASURED / 2**20
        weights = 5 * parameters / 2**20  # weights, gradients, two moments, average
        rows.append(
            (
                precision,
                activations,
                weights,
                loss_mib,
                (activations + weights + loss_mib) / 1024,
                *lens_peaks(options, precision),
            )
        )
    show(
        f"memory of a training step, yolov8{options.size}, {options.side} px, batch {options.batch}",
        (
            "precision",
            "activations MiB",
            "weights MiB",
            "loss MiB",
            "sum GiB",
            "lens: predicted MiB",
            "lens: measured MiB",
        ),
        rows,
        {},
    )


if __name__ == "__main__":
    main()
