"""What DataParallel (DP) and DistributedDataParallel (DDP) copy in a step."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from ...canvas import drawing


@dataclass(frozen=True, slots=True)
class Copied:
    """One row: how many bytes, and what DP and DDP do with them, and when."""

    what: str
    bytes: int
    dp: str
    ddp: str


class ParallelTable:
    """What DP and DDP copy, as text and as HTML.

    Attributes:
        rows: a `Copied` for parameters, gradients, buffers, images, outputs and optimizer state.
        dp_step, ddp_step: bytes in one training step that leave or enter the first device of DP,
            and that one process of DDP sends.
    """

    def __init__(self, rows: tuple[Copied, ...], dp_step: int, ddp_step: int):
        self.rows, self.dp_step, self.ddp_step = rows, dp_step, ddp_step

    def cell(self, what: str) -> Copied:
        return next(row for row in self.rows if row.what == what)

    @property
    def caption(self) -> str:
        return (
            f"In one training step {_size(self.dp_step)} pass through DP's first device; a process of DDP sends "
            f"{_size(self.ddp_step)}."
        )

    def __str__(self) -> str:
        lines = [self.caption]
        for row in self.rows:
            lines += [f"{row.what}, {_size(row.bytes)}", f"  DP:  {row.dp}", f"  DDP: {row.ddp}"]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        titles = ("what", "size", "DataParallel, one process", "DistributedDataParallel, a process each")
        rows = [(row.what, _size(row.bytes), row.dp, row.ddp) for row in self.rows]
        return f"<p>{html.escape(self.caption)}</p>" + drawing.table(titles, rows)


def _size(count: float) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**17 else f"{count / 2**10:.1f} KiB"


def compare_parallel(model, image=(3, 160, 160), batch: int = 16, devices: int = 2, state: int = 2) -> ParallelTable:
    """What is copied between devices by DP and by DDP when this model is trained.

    Sizes are counted from the model; the outputs from a forward pass on the meta device, which
    computes nothing. The text is what the torch 2.15 documentation says of both classes. A ring
    all-reduce is assumed: each process sends 2 (N − 1) / N of the gradients (Patarasuk and Yuan,
    2009).

    Args:
        image: C, H, W of one image, fp32. batch: images in one step, over all devices.
        state: numbers that the optimizer keeps for each parameter: 2 for AdamW, 1 for momentum.
    """
    import copy

    import torch

    def bytes_of(tensors) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights, gradients, buffers = bytes_of(model.parameters()), bytes_of(trained), bytes_of(model.buffers())
    inputs = batch * math.prod(image) * 4
    with torch.no_grad():
        answer = copy.deepcopy(model).to("meta")(torch.empty(batch, *image, device="meta"))
    outputs = bytes_of(torch.utils._pytree.tree_leaves(answer))
    others, share = devices - 1, (devices - 1) / devices
    rows = (
        Copied(
            "parameters", weights, f"to {others} more at each forward pass", "from rank 0, once, by the constructor"
        ),
        Copied(
            "gradients",
            gradients,
            "of all devices summed on the first at each backward pass",
            "all-reduced to the mean at each backward pass, in buckets of 25 MiB, while it still runs",
        ),
        Copied(
            "buffers",
            buffers,
            "to the others at each forward pass; only the first device's changes are kept",
            "from rank 0 before each forward pass in training",
        ),
        Copied(
            "images", inputs, f"{share:.0%} of each batch leave the first device", "none: each process loads its own"
        ),
        Copied(
            "outputs",
            outputs,
            f"{share:.0%} come back to the first device, for the loss",
            "none: a loss in each process",
        ),
        Copied(
            "optimizer state", state * gradients, "kept once, on the first device", "kept by each process, never sent"
        ),
    )
    dp_step = others * (weights + buffers + gradients) + share * (inputs + outputs)
    return ParallelTable(rows, int(dp_step), int(2 * share * gradients + buffers))
