"""The people that grouping by tags found: one colour each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...canvas import drawing, style
from ..detections.joints import SKELETON, mark_keypoints
from .looks import names_of, pale_ground


@style.house()
def draw_groups(
    image: np.ndarray,
    groups: np.ndarray,
    stride: float = 1.0,
    names: Sequence[str] | None = None,
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.StudyFigure:
    """Each group in one colour and with its number, and the tags of its keypoints on a line.

    Its numbers: for each group "keypoints" found, "score" and "tag", the means over these, and
    "spread", largest minus smallest tag.

    Args:
        image: (H, W, 3) uint8.
        groups: (people, K, 4) x y in cells, score, tag, as of `heatmaps.group_keypoints`; a score
            of 0 or NaN means missing.
        stride: pixels of a cell.
    """
    groups = np.array(groups, float)
    if groups.size and (groups.ndim != 3 or groups.shape[2] != 4):
        raise ValueError(f"the groups have shape {groups.shape}, but (people, K, 4) is needed: x y score tag.")
    groups = groups if groups.size else np.zeros((0, len(names or ()) or 1, 4))
    names = names_of(groups.shape[1], names)
    there = np.nan_to_num(groups[..., 2]) > 0
    numbers = [_summary(group[seen]) for group, seen in zip(groups, there)]
    colours = [style.cycle(person) for person in range(len(groups))]
    figure, (scene, line) = style.figure(1, 2, height=4.2, width_ratios=(1, 1.05))
    pale_ground(scene, image)
    points = np.where(there[..., None], groups[..., :2] * stride, 0)
    mark_keypoints(scene, np.concatenate([points, 2 * there[..., None]], axis=-1), skeleton, colours, size=7)
    for person, (group, seen) in enumerate(zip(points, there)):
        if seen.any():
            x, y = group[seen].mean(axis=0)
            note = dict(facecolor=colours[person], edgecolor=style.PAPER, boxstyle="round,pad=0.2")
            ink = style.ink_on(colours[person])
            scene.text(x, y, str(person + 1), color=ink, weight="bold", ha="center", va="center", bbox=note, zorder=5)
    missing = int((~there).sum())
    scene.set(title=f"{len(groups)} groups, {missing} keypoints missing")
    _draw_tags(line, groups, there, colours, names)
    drawing.settle(scene, line)
    return figure.with_numbers(numbers)


def _summary(found: np.ndarray) -> dict[str, float]:
    if not len(found):
        return {"keypoints": 0, "score": np.nan, "tag": np.nan, "spread": np.nan}
    _, _, score, tag = found.T
    return {
        "keypoints": len(found),
        "score": float(score.mean()),
        "tag": float(tag.mean()),
        "spread": float(np.ptp(tag)),
    }


def _draw_tags(axes, groups: np.ndarray, there: np.ndarray, colours: Sequence[str], names: Sequence[str]) -> None:
    """A row for each kind of keypoint; a group is a column of dots where the tags agree."""
    for person, (group, seen) in enumerate(zip(groups, there)):
        rows = np.flatnonzero(seen)
        axes.plot(group[rows, 3], rows, color=colours[person], linewidth=1.2)
        for row in rows:
            size = 40 + 260 * min(1.0, group[row, 2])
            axes.scatter(group[row, 3], row, s=size, color=colours[person], edgecolor=style.PAPER, zorder=3)
            ink = style.ink_on(colours[person])
            axes.text(group[row, 3], row, str(person + 1), fontsize=8, ha="center", va="center", color=ink, zorder=4)
    axes.set_yticks(range(len(names)), [name.replace(" wing", "\nwing") for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), title="tags of the peaks; large dots are sure", xlabel="tag")
    axes.margins(x=0.1)
