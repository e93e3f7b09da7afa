"""How much memory a training step needs at 640 px, batch 16: counted from the bytes that the forward pass saves for the backward pass.

    python -m tests.benchmarks.memory [--size n] [--side 640] [--batch 16] [--precision bf16 fp32]

No graphics card is needed: saved tensors are counted on the CPU with two images, each storage once, and scaled to the batch. Added are
weights, gradients, Adam's two moments and the average, and what the loss needs at its peak: the growth of the process in one pass of
the loss with 100 boxes an image. Not counted: CUDA's context and the convolutions' workspaces (some hundred MB).
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("YOLOSTUDY_USE", "reference")

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="n")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    options = parser.parse_args()
    loss_options = argparse.Namespace(images=options.batch, side=options.side, boxes=100, classes=20)
    loss_mib = loss_benchmark.peak(loss_options, "loss and backward", 0)
    rows = []
    for precision in options.precision:
        activations, parameters = saved_bytes(options.size, options.side, precision)
        activations = activations * options.batch / MEASURED / 2**20
        weights = 5 * parameters / 2**20  # weights, gradients, two moments, average
        rows.append((precision, activations, weights, loss_mib, (activations + weights + loss_mib) / 1024))
    show(
        f"memory of a training step, yolov8{options.size}, {options.side} px, batch {options.batch}",
        ("precision", "activations MiB", "weights MiB", "loss MiB", "sum GiB"),
        rows,
        {},
    )


if __name__ == "__main__":
    main()
