"""The loss of a batch, anchor by anchor.

The box and the DFL loss are linear in their weights, so the part of an anchor is its weight times
the derivative with respect to it. The class loss is a sum over anchors, and the assignment gives
every term. `remainder` is the loss not attributed to any anchor; it should be about 0, or the loss
is wrong.

Shapes: B images, A anchors over all levels, finest first, C classes, R bins. One process: the sum
of target scores is taken over this batch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import LOSS_PARTS
from .watching import as_array, watch_loss


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The loss of a batch, anchor by anchor.

    Attributes:
        parts: what the loss itself returned: box, cls, dfl, gains and normaliser included.
        shares: the same names -> (B, A), in the same unit.
        owner: (B, A) the object of its image that an anchor is assigned to, in the order of the
            targets; -1 on the background.
        weight: (B, A) sum of the target scores, 0 on the background.
        targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels.
        sizes, strides: (H, W) and pixels per position of each level.
    """

    parts: dict[str, float]
    shares: dict[str, np.ndarray]
    owner: np.ndarray
    weight: np.ndarray
    targets: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]

    @property
    def remainder(self) -> dict[str, float]:
        """Part by part, the loss that is not attributed to any anchor; about 0 in a right loss."""
        return {name: self.parts[name] - float(share.sum()) for name, share in self.shares.items()}

    @property
    def adds_up(self) -> bool:
        """Whether the shares add up to each part, to a hundred-thousandth of it."""
        return all(abs(rest) <= 1e-5 * max(abs(self.parts[name]), 1e-6) for name, rest in self.remainder.items())

    def objects(self, image: int) -> np.ndarray:
        """(n, 5) class and box of the objects of one image."""
        return self.targets[self.targets[:, 0] == image, 1:]

    def levels(self) -> list[slice]:
        """The anchors of each level, as slices of all."""
        ends = np.cumsum([height * width for height, width in self.sizes]).tolist()
        return [slice(start, stop) for start, stop in zip([0, *ends], ends)]

    def __repr__(self) -> str:
        return f"Attribution({len(self.owner)} images, {self.owner.shape[1]} anchors, {len(self.targets)} objects)"


def attribute_loss(loss, maps: Sequence, targets) -> Attribution:
    """Each anchor's share of a loss.

    Args:
        loss: a `DetectionLoss` of any edition, yours or the reference; it is not changed.
        maps: three raw maps (B, 4·R + C, H, W). targets: (N, 6) image index, class, x1 y1 x2 y2 in
            pixels.

    Errors: ValueError where the loss gives its box loss another number of anchors than its assigner
    has chosen.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    with torch.no_grad():
        seen = watch_loss(loss, maps, targets)
        assigned = seen.assignment
        # (B, A, C)
        logits = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2).float()[..., 4 * loss.reg_max :]
        normaliser = assigned.scores.sum().clamp(min=1)
        shares = {"cls": binary_cross_entropy_with_logits(logits, assigned.scores, reduction="none").sum(-1).double()}
        foreground = assigned.foreground.bool()
        for name in ("box", "dfl"):
            rows = torch.cat([call[name] for call in seen.box_calls]) if seen.box_calls else logits.new_zeros(0)
            if len(rows) != int(foreground.sum()):
                raise ValueError(
                    f"attribute_loss: the box loss was given {len(rows)} anchors, the assigner chose "
                    f"{int(foreground.sum())}. Index the maps with the assignment's foreground."
                )
            shares[name] = torch.zeros_like(shares["cls"])
            shares[name][foreground] = rows.double()
        return Attribution(
            parts={name: float(getattr(seen.parts, name)) for name in LOSS_PARTS},
            shares={name: as_array(shares[name] * loss.gains[name] / normaliser) for name in LOSS_PARTS},
            owner=as_array(torch.where(foreground, assigned.gt_index, -1)).astype(int),
            weight=as_array(assigned.scores.sum(-1)),
            targets=as_array(targets),
            sizes=tuple((int(level.shape[2]), int(level.shape[3])) for level in maps),
            strides=tuple(int(stride) for stride in loss.strides),
        )


def loss_breakdown(attribution: Attribution, image: int = 0, part: str = "cls") -> dict:
    """One part of the loss of one image, summed in three ways that each give the whole.

    Returns:
        loss: of this image.
        background, objects: the background's share, and a list of the objects' shares.
        levels: stride -> share.
        positives: number of anchors of each object.
        largest: the anchor with the largest share: share, stride, x and y in pixels.
        half: the smallest number of anchors that hold half of the loss together.
    """
    share, owner = attribution.shares[part][image], attribution.owner[image]
    count = len(attribution.objects(image))
    levels = attribution.levels()
    top = int(np.argmax(np.nan_to_num(share)))
    level = next(number for number, place in enumerate(levels) if top < place.stop)
    stride, width = attribution.strides[level], attribution.sizes[level][1]
    row, column = divmod(top - levels[level].start, width)
    total = float(share.sum())
    sorted_sums = np.cumsum(np.sort(np.nan_to_num(share))[::-1])
    return {
        "image": image,
        "part": part,
        "loss": total,
        "background": float(share[owner < 0].sum()),
        "objects": [float(share[owner == number].sum()) for number in range(count)],
        "positives": [int((owner == number).sum()) for number in range(count)],
        "levels": {stride: float(share[place].sum()) for stride, place in zip(attribution.strides, levels)},
        "largest": {
            "share": float(share[top]),
            "stride": stride,
            "x": (column + 0.5) * stride,
            "y": (row + 0.5) * stride,
        },
        "half": int(np.searchsorted(sorted_sums, sorted_sums[-1] / 2) + 1) if sorted_sums[-1] > 0 else 0,
    }
