"""Rooms of heatmaps: joints of the wrong map, peaks that are low or add up, a push that never ends."""

from types import SimpleNamespace

import numpy as np
import torch

from yolostudy.study.museum import Room

GENERATOR, EMBEDDING, MULTI = "heatmaps.HeatmapGenerator", "heatmaps.associative_embedding", "heatmaps.MultiLoss"
SIDES = (16, 32)  # the two resolutions
PEOPLE = ((3, 1), (9, 2))  # column and row of two people's only keypoint, in the first resolution


def keypoints(*cells) -> np.ndarray:
    """One visible keypoint for each person."""
    return np.array([[[x, y, 2]] for x, y in cells], dtype=np.float64)


wrong_scale = Room(44, "wrong tag for each scale", mistake=(MULTI, "the joints of the other resolution are used"))


def push_of(course, tags):
    """The push of one image with two people, whose tag map (16, 16) is given."""
    targets = SimpleNamespace(heatmaps=[], masks=[], joints=[])
    for side in SIDES:
        listed = course.heatmaps.JointsGenerator(2, 1, side)(keypoints(*PEOPLE) * [side / 16, side / 16, 1])
        targets.joints.append(torch.from_numpy(listed)[None])
        targets.heatmaps.append(torch.zeros(1, 1, side, side))
        targets.masks.append(torch.ones(1, side, side))
    outputs = [torch.stack((torch.zeros_like(tags), tags))[None], torch.zeros(1, 1, 32, 32)]
    return course.heatmaps.MultiLoss(1, push_factors=(1.0, 1.0))(outputs, targets).push


@wrong_scale.look
def _(course):
    tags = torch.zeros(16, 16)
    for number, (x, y) in enumerate(PEOPLE):
        tags[y, x] = 5 * number
    push = push_of(course, tags).item()
    return push > 0.01, f"the tags of two people are 5 apart: push {push:.3f}"


@wrong_scale.find("naming the cells whose tag has a gradient")
def _(course):
    tags = torch.rand(16, 16, requires_grad=True)
    push_of(course, tags).backward()
    taught = [(x, y) for y, x in tags.grad.nonzero().tolist()]
    return f"people are at {_cells(PEOPLE)}; tags are taught at {_cells(taught)}"


def _cells(cells) -> str:
    return " and ".join(f"column {x}, row {y}" for x, y in sorted(cells))


low_peak = Room(
    64,
    "the peak is below 1, or beside its keypoint",
    mistake=(GENERATOR, "the kernel's middle is 3σ + 1, whole or not"),
)


@low_peak.look
def _(course):
    lines = []
    for sigma in (2, 0.625, 1.5):
        heatmap = course.heatmaps.HeatmapGenerator(40, 1, sigma)(keypoints((20, 20)))[0]
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        lines.append(f"σ = {sigma:<5g} highest {heatmap.max():.4f}, first in column {x}, row {y}")
    return any("1.0000, first in column 20, row 20" not in line for line in lines), "\n".join(lines)


@low_peak.find("printing the middle row of the kernel")
def _(course):
    kernels = {sigma: course.heatmaps.HeatmapGenerator(40, 1).kernel(sigma) for sigma in (0.625, 1.5)}
    return "\n".join(f"σ = {sigma:<5g} {_few(kernel[len(kernel) // 2])}" for sigma, kernel in kernels.items())


def _few(numbers) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


merged = Room(65, "two people become one peak", mistake=(GENERATOR, "peaks that meet are added"))


def row_of_two(course) -> np.ndarray:
    """Row 10 of a map with two people in columns 10 and 13."""
    return course.heatmaps.HeatmapGenerator(24, 1, 2)(keypoints((10, 10), (13, 10)))[0, 10]


@merged.look
def _(course):
    row = row_of_two(course)
    return row.max() > 1, f"people in columns 10 and 13, highest value {row.max():.2f}: {_few(row[8:16])}"


@merged.find("counting the peaks of the row")
def _(course):
    row = row_of_two(course)
    peaks = [x for x in range(1, len(row) - 1) if row[x - 1] < row[x] >= row[x + 1]]
    return f"{len(peaks)} found, in column {' and '.join(map(str, peaks))}: {_few(row[peaks])}"


floor = Room(66, "push never falls below a floor", mistake=(EMBEDDING, "push keeps the diagonal"))


def push_between(course, *tags: float) -> float:
    """The push of people with one keypoint each, of these tags."""
    joints = torch.tensor([[[[place, 1]] for place in range(len(tags))]])
    return course.heatmaps.associative_embedding(torch.tensor(tags).reshape(1, 1, 1, -1), joints)[1].item()


@floor.look
def _(course):
    push = push_between(course, 0.0, 100.0, 200.0)
    return push > 1e-6, f"three people whose tags are 100 apart: push {push:.4f}"


@floor.find("the push of far tags, for a growing number of people")
def _(course):
    rows = {n: push_between(course, *(100.0 * place for place in range(n))) for n in (1, 2, 3, 5, 11)}
    return "\n".join(f"{n:>2} people  push {push:.4f}" for n, push in rows.items())


# The original's log, and one that names the loss.


def named_by_batch(batch: int, stage: int) -> str:
    return f"heatmap loss {batch}"


def named_by_stage(batch: int, stage: int) -> str:
    return f"heatmap loss {stage}"


def log_of(name, batches: int = 200) -> dict[str, list[float]]:
    """The curves after some batches of two resolutions."""
    curves: dict[str, list[float]] = {}
    for batch in range(batches):
        for stage in range(len(SIDES)):
            curves.setdefault(name(batch, stage), []).append(1 / (1 + batch))
    return curves


thousands = Room(
    67,
    "thousands of curves in the log",
    "The name of a curve has the number of the batch in it, where the number of the resolution was meant: both are "
    "called i. Each batch opens a curve of its own, with one point for each resolution, and none of them shows how "
    "training goes. A curve's name says what is measured; the batch is its x axis.",
    broken=named_by_batch,
    fixed=named_by_stage,
)


@thousands.look
def _(name):
    curves = log_of(name)
    return len(curves) > len(SIDES), f"200 batches, two resolutions: {len(curves)} curves"


@thousands.find("listing the names, and the points of each curve")
def _(name):
    curves = log_of(name)
    rows = [f"{title}: {len(points)} points" for title, points in list(curves.items())[:3]]
    return "\n".join([*rows, f"and {len(curves) - 3} more"] if len(curves) > 3 else rows)
