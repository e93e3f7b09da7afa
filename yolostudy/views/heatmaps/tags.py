"""Tags before and after training, and the forces of the loss: pull and push between people.

The forces are the negative gradients of `heatmaps.associative_embedding`, so a mistake in it shows.
A descent moves each tag along its force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...canvas import drawing, style
from ..detections.joints import SKELETON, mark_keypoints
from .looks import as_maps, names_of, pale_ground

LONGEST = 0.16  # of the tag axis: the longest arrow
LEGEND = ("right: a row for each; dots are tags, bars means", "dark arrows pull, red ones push the mean")


@dataclass(frozen=True, eq=False)
class TagForces:
    """The tags of G people at their K keypoints, and what the loss does to them; NaN where none is.

    Attributes:
        tags: (G, K). means: (G,) of each person.
        pull, push: the losses, as `heatmaps.associative_embedding` gives them.
        pull_forces, push_forces: (G, K) negative gradients of each.
    """

    tags: np.ndarray
    means: np.ndarray
    pull: float
    push: float
    pull_forces: np.ndarray
    push_forces: np.ndarray


def tag_forces(tags, keypoints: np.ndarray, kind: str = "exp", heatmaps: ModuleType | None = None) -> TagForces:
    """Read the tags of all visible keypoints, and ask for the forces on them.

    Args:
        tags: (K, h, h), array or tensor.
        keypoints: (G, K, 3) x y in cells of the map, visibility.
        kind: of the push, as in `heatmaps.associative_embedding`.
        heatmaps: the module to ask; by default `yolostudy.heatmaps` of the edition in use.
    """
    import torch

    if heatmaps is None:
        from ... import heatmaps
    stack, keypoints = as_maps(tags, "the tags"), np.asarray(keypoints, np.float32)
    count, height, width = stack.shape
    if height != width:
        raise ValueError(f"the tag maps are {width} × {height}; square ones are needed.")
    joints = heatmaps.JointsGenerator(max(1, len(keypoints)), count, width)(keypoints)
    leaf = torch.tensor(stack[None], dtype=torch.float32, requires_grad=True)
    losses = heatmaps.associative_embedding(leaf, torch.as_tensor(joints)[None], kind)
    grids = [_gradient(loss, leaf) for loss in losses]
    cells = np.trunc(np.nan_to_num(keypoints[..., :2])).astype(int)  # (G, K, 2)
    x, y = cells[..., 0].clip(0, width - 1), cells[..., 1].clip(0, height - 1)
    number = np.broadcast_to(np.arange(count), x.shape)
    there = (keypoints[..., 2] > 0) & (cells >= 0).all(-1) & (cells < width).all(-1)
    at = [np.where(there, grid[number, y, x], np.nan) for grid in (stack, -grids[0], -grids[1])]
    means = np.array([np.mean(row[seen]) if seen.any() else np.nan for row, seen in zip(at[0], there)])
    return TagForces(at[0], means, float(losses[0].detach()), float(losses[1].detach()), at[1], at[2])


def _gradient(loss, leaf) -> np.ndarray:
    """Of a loss of one image for the tag maps; zeros where it does not depend on them."""
    import torch

    if not loss.requires_grad:
        return np.zeros(leaf.shape[1:])
    (found,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True, allow_unused=True)
    return np.zeros(leaf.shape[1:]) if found is None else found[0].double().numpy()


@style.house()
def draw_tags(
    image: np.ndarray,
    tags: Mapping[str, object],
    keypoints: np.ndarray,
    channel: int = 0,
    names: Sequence[str] | None = None,
    kind: str = "exp",
    heatmaps: ModuleType | None = None,
    skeleton: Sequence[tuple[int, int]] = SKELETON,
) -> style.StudyFigure:
    """A tag map and the tags of every keypoint on a line, one row for each state of the network.

    Arrows over the dots pull each tag to the mean of its person. An arrow under the mean pushes it
    away from the others' means.

    Its numbers: label -> `TagForces`.

    Args:
        image: (H, W, 3) uint8.
        tags: label, such as "before" and "after", -> (K, h, h), array or tensor.
        keypoints: (G, K, 3) x y in pixels of the image, visibility.
        channel: which of the K tag maps to show.
        kind, heatmaps: as in `tag_forces`.
    """
    stacks = {label: as_maps(stack, label) for label, stack in tags.items()}
    keypoints, numbers = np.asarray(keypoints, np.float32), {}
    for label, stack in stacks.items():
        scale = stack.shape[2] / image.shape[1], stack.shape[1] / image.shape[0], 1
        numbers[label] = tag_forces(stack, keypoints * np.float32(scale), kind, heatmaps)
    names = names_of(keypoints.shape[1], names)
    colours = [style.cycle(person) for person in range(len(keypoints))]
    side, rows = 215, len(stacks)
    figure, axes_at = drawing.by_pixel(900, 20 + rows * (side + 76))
    scene = axes_at(12, 34, side, side)
    pale_ground(scene, image)
    mark_keypoints(scene, keypoints, skeleton, colours, size=6)
    scene.set_title("one colour each", fontsize=10)
    for line, said in enumerate(LEGEND):
        scene.text(0, image.shape[0] * (1.09 + 0.08 * line), said, fontsize=8.5, va="center")
    low, high = _limits([one.tags for one in numbers.values()])
    for row, (label, stack) in enumerate(stacks.items()):
        top = 34 + row * (side + 76)
        axes = axes_at(250, top, side, side)
        extent = (0, image.shape[1], image.shape[0], 0)
        shown = axes.imshow(stack[channel], style.HEAT, vmin=low, vmax=high, extent=extent, interpolation="nearest")
        one = keypoints[:, channel : channel + 1]
        mark_keypoints(axes, one, (), colours, size=7)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{label}: tags of {names[channel]}", fontsize=10)
        line = axes_at(555, top, 325, side)
        _draw_forces(line, numbers[label], colours, (low, high))
    bar = figure.colorbar(shown, cax=axes_at(472, 34, 10, side))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    return figure.with_numbers(numbers)


def _limits(tables: Sequence[np.ndarray]) -> tuple[float, float]:
    """An axis that is one wide at least, with room for all tags and for an arrow at either end."""
    known = np.concatenate([table[np.isfinite(table)] for table in tables])
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    middle, half = (low + high) / 2, max(0.5, 0.8 * (high - low))
    return float(middle - half), float(middle + half)


def _draw_forces(axes, numbers: TagForces, colours: Sequence[str], limits: tuple[float, float]) -> None:
    """A row for each person: dots are tags, the bar is their mean, arrows are forces."""
    push = np.nansum(numbers.push_forces, axis=1)  # on the mean: what acts on all its tags
    strongest = max(
        float(np.abs(np.nan_to_num(numbers.pull_forces)).max(initial=0)), np.abs(push).max(initial=0), 1e-12
    )
    unit = LONGEST * (limits[1] - limits[0])

    def length(force: float) -> float:
        return float(np.sign(force) * unit * np.sqrt(abs(force) / strongest))

    for row, (tags, mean, colour) in enumerate(zip(numbers.tags, numbers.means, colours)):
        if np.isnan(mean):
            continue
        axes.plot([mean, mean], [row - 0.17, row + 0.17], color=colour, linewidth=4, solid_capstyle="butt")
        for place, (tag, force) in enumerate(zip(tags, numbers.pull_forces[row])):
            if np.isfinite(tag):
                axes.plot(tag, row, "o", color=colour, markersize=7, markeredgecolor=style.PAPER)
                up = row - 0.17 - 0.07 * place
                if abs(length(force)) > 0.02 * unit:
                    drawing.arrow(axes, (tag, up), (tag + length(force), up), style.INK, 1.2, mutation_scale=8)
        if abs(length(push[row])) > 0.02 * unit:
            tip = (mean + length(push[row]), row + 0.3)
            drawing.arrow(axes, (mean, row + 0.3), tip, style.FALSE_ALARM, 2.4, mutation_scale=12)
    count = len(numbers.tags)
    axes.set(
        xlim=limits, ylim=(count - 0.5, -0.62), yticks=range(count), yticklabels=[f"{g + 1}" for g in range(count)]
    )
    axes.set_title(f"pull {numbers.pull:.3g} (dark), push {numbers.push:.3g} (red)", fontsize=10)
    axes.set_xlabel(f"tag; longest arrow: a force of {strongest:.2g}", fontsize=9)
    axes.tick_params(labelsize=9)
