"""Where the loss comes from: each anchor's share of the box, class and DFL loss, and the unit in
which every part of it works.

The loss is not written a second time. A copy of it runs on the maps, and its assigner and its box
loss are watched while they work. The box and the DFL loss are linear in their weights, so an
anchor's share is its weight times the derivative by it; the class loss is a sum over anchors, of
which the assignment says every term. What the loss says and no anchor holds is the `remainder`:
about 0, or the loss is wrong.

Shapes: B images, A anchors over all levels, finest first, G objects of one image, C classes, R
bins. One process: the sum of target scores is taken over this batch alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ...canvas import drawing, style
from ...canvas.panel import InPlace, Panel

PARTS = {"box": "box", "cls": "class", "dfl": "DFL"}  # the names of `LossParts`, and how they are written
UNITS = MappingProxyType(
    {"pixels": style.CYCLE[0], "strides": style.CYCLE[1], "bins": style.CYCLE[2], "0…1": style.CYCLE[3]}
)
LEVEL_COLOURS = (style.CYCLE[0], style.CYCLE[5], style.CYCLE[6])
BACKGROUND = "#c9ced8"


# ---- numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The loss of a batch, anchor by anchor.

    Attributes:
        parts: what the loss itself said: box, cls, dfl, gains and division by the target scores
            included.
        shares: the same names -> (B, A), in the same unit.
        owner: (B, A) which object of its image an anchor answers for, in the order of the targets;
            -1 on the background.
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
        """Part by part, what the loss says beyond what its anchors hold."""
        return {name: self.parts[name] - float(share.sum()) for name, share in self.shares.items()}

    @property
    def adds_up(self) -> bool:
        """Whether all parts are explained, to a hundred-thousandth."""
        return all(abs(rest) <= 1e-5 * max(abs(self.parts[name]), 1e-6) for name, rest in self.remainder.items())

    def objects(self, image: int) -> np.ndarray:
        """(n, 5) class and box of the objects of one image."""
        return self.targets[self.targets[:, 0] == image, 1:]

    def levels(self) -> list[slice]:
        """Where each level's anchors stand among all."""
        ends = np.cumsum([height * width for height, width in self.sizes]).tolist()
        return [slice(start, stop) for start, stop in zip([0, *ends], ends)]

    def __repr__(self) -> str:
        return f"Attribution({len(self.owner)} images, {self.owner.shape[1]} anchors, {len(self.targets)} objects)"


def attribute(loss, maps: Sequence, targets) -> Attribution:
    """Each anchor's share of a loss.

    Args:
        loss: a `DetectionLoss` of any edition, yours or the reference; it is left as it is.
        maps: three raw maps (B, 4·R + C, H, W). targets: (N, 6) image index, class, x1 y1 x2 y2 in
            pixels.

    Errors: ValueError where the loss hands another number of anchors to its box loss than its
    assigner has chosen.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    with torch.no_grad():
        seen = _watch(loss, maps, targets)
        assigned = seen.assignment
        # (B, A, C)
        logits = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2).float()[..., 4 * loss.reg_max :]
        divisor = assigned.scores.sum().clamp(min=1)
        shares = {"cls": binary_cross_entropy_with_logits(logits, assigned.scores, reduction="none").sum(-1).double()}
        foreground = assigned.foreground.bool()
        for name in ("box", "dfl"):
            rows = torch.cat([call[name] for call in seen.box_calls]) if seen.box_calls else logits.new_zeros(0)
            if len(rows) != int(foreground.sum()):
                raise ValueError(
                    f"attribute: the box loss was given {len(rows)} anchors, the assigner chose "
                    f"{int(foreground.sum())}. Index the maps with the assignment's foreground."
                )
            shares[name] = torch.zeros_like(shares["cls"])
            shares[name][foreground] = rows.double()
        return Attribution(
            parts={name: float(getattr(seen.parts, name)) for name in PARTS},
            shares={name: _array(shares[name] * loss.gains[name] / divisor) for name in PARTS},
            owner=_array(torch.where(foreground, assigned.gt_index, -1)).astype(int),
            weight=_array(assigned.scores.sum(-1)),
            targets=_array(targets),
            sizes=tuple((int(level.shape[2]), int(level.shape[3])) for level in maps),
            strides=tuple(int(stride) for stride in loss.strides),
        )


def breakdown(attribution: Attribution, image: int = 0, part: str = "cls") -> dict:
    """One part of the loss of one image, summed in three ways that each give the whole.

    Returns:
        loss: of this image. background and objects; levels by their stride; positives: anchors of
            each object; largest: the anchor with the
        largest share, which stride and where; half: the number of anchors that hold half of the
        loss together.
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


class _Watched:
    """Stands in for an object, whose attributes it still has."""

    def __init__(self, inner, seen: _Seen):
        self.inner, self.seen = inner, seen

    def __getattr__(self, name: str):
        return getattr(self.inner, name)


class _WatchedAssigner(_Watched):
    def __call__(self, scores, boxes, anchors, gt_labels, gt_boxes, gt_mask):
        self.seen.assigner_input = {
            "scores": scores,
            "boxes": boxes,
            "anchors": anchors,
            "ground truths": gt_boxes[gt_mask.bool()],
        }
        self.seen.assignment = self.inner(scores, boxes, anchors, gt_labels, gt_boxes, gt_mask)
        return self.seen.assignment


class _WatchedBoxLoss(_Watched):
    def __call__(self, logits, anchors, target_boxes, weight):
        import torch

        with torch.enable_grad():
            weight = weight.detach().requires_grad_()
            sums = dict(zip(("box", "dfl"), self.inner(logits.detach(), anchors, target_boxes, weight), strict=True))
            call = {"anchors": anchors, "target boxes": target_boxes, "weight": weight.detach()}
            for name, value in sums.items():
                slope = (
                    torch.autograd.grad(value, weight, retain_graph=True, allow_unused=True)[0]
                    if value.requires_grad
                    else None
                )
                call[name] = torch.zeros_like(call["weight"]) if slope is None else slope * call["weight"]
        self.seen.box_calls.append(call)
        return tuple(value.detach() for value in sums.values())


class _WatchedDistributionLoss(_Watched):
    def __call__(self, logits, distances):
        self.seen.distances.append(distances.detach())
        return self.inner(logits, distances)


class _Seen:
    def __init__(self):
        self.box_calls, self.distances = [], []


def _watch(loss, maps: Sequence, targets) -> _Seen:
    """Run a copy of the loss and keep what its assigner and box loss were given and gave."""
    seen, watched, box_loss = _Seen(), copy.copy(loss), copy.copy(loss.box_loss)
    if hasattr(box_loss, "distribution_loss"):
        vars(box_loss)["distribution_loss"] = _WatchedDistributionLoss(loss.box_loss.distribution_loss, seen)
    # into the copy's own attributes, which Python looks at before the submodules that both copies
    # share
    vars(watched)["assigner"] = _WatchedAssigner(loss.assigner, seen)
    vars(watched)["box_loss"] = _WatchedBoxLoss(box_loss, seen)
    seen.parts = watched.forward([level.detach() for level in maps], targets)
    return seen


@dataclass(frozen=True, slots=True)
class Reading:
    """Between which values something lay, and the unit that it should be in (a key of UNITS).

    NaN where anything was not finite.
    """

    place: str
    name: str
    unit: str
    low: float
    high: float

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def measure_units(loss, maps: Sequence, targets) -> list[Reading]:
    """The range of everything that passes through a `DetectionLoss` for one batch, in the order in
    which it passes.
    """
    import torch

    with torch.no_grad():
        seen = _watch(loss, maps, targets)
    into, calls = seen.assigner_input, seen.box_calls

    def joined(name: str):
        return torch.cat([call[name].flatten() for call in calls]) if calls else torch.zeros(0)

    values = (
        ("the batch", "targets", "pixels", targets[:, 2:]),
        ("into the assigner", "scores", "0…1", into["scores"]),
        ("into the assigner", "boxes", "pixels", into["boxes"]),
        ("into the assigner", "anchors", "pixels", into["anchors"]),
        ("into the assigner", "ground truths", "pixels", into["ground truths"]),
        ("out of the assigner", "target scores", "0…1", seen.assignment.scores),
        ("into the box loss", "anchors", "strides", joined("anchors")),
        ("into the box loss", "target boxes", "strides", joined("target boxes")),
        ("into the box loss", "weight", "0…1", joined("weight")),
        (
            "into DFL",
            "distances",
            "bins",
            torch.cat([part.flatten() for part in seen.distances]) if seen.distances else torch.zeros(0),
        ),
    )
    return [Reading(place, name, unit, *_range(_array(value))) for place, name, unit, value in values]


def distribution_floor(loss, maps: Sequence, targets) -> float:
    """The DFL part that would be left if every positive had the best distribution for its
    distances: the loss never falls below it.
    """
    import torch

    with torch.no_grad():
        seen = _watch(loss, maps, targets)
    total = 0.0
    for call in seen.box_calls:
        anchors, boxes, weight = (_array(call[name]) for name in ("anchors", "target boxes", "weight"))
        distances = np.concatenate([anchors - boxes[:, :2], boxes[:, 2:] - anchors], axis=1).clip(
            0, loss.reg_max - 1.01
        )
        upper = distances - np.floor(distances)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nan_to_num(upper * np.log(upper)) - np.nan_to_num((1 - upper) * np.log(1 - upper))
        total += float(entropy.mean(axis=1) @ weight)
    return loss.gains["dfl"] * total / max(1.0, float(seen.assignment.scores.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class TwoBins:
    """One distribution against one distance: what the box sees of it (the expectation), and what
    the distribution loss sees.

    `floor` is the least loss that any distribution can have for this distance: only whole numbers
    reach 0.
    """

    distance: float
    probabilities: np.ndarray  # (R,)
    expectation: float
    loss: float
    floor: float


def two_bins(distance: float, probabilities: Sequence[float]) -> TwoBins:
    """The distribution focal loss of one edge (Li et al. 2020, equation 6), from probabilities that
    need not sum to 1 yet.
    """
    p = np.asarray(probabilities, float) / np.sum(probabilities)
    lower, upper_weight = int(distance), distance - int(distance)
    weights = np.array([1 - upper_weight, upper_weight])
    there = weights > 0
    loss = -float(weights[there] @ np.log(p[lower : lower + 2][there]))
    floor = -float(weights[there] @ np.log(weights[there]))
    return TwoBins(float(distance), p, float(p @ np.arange(len(p))), loss, floor)


def _array(tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy() if hasattr(tensor, "detach") else np.asarray(tensor, float)


def _range(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))


# ---- pictures ------------------------------------------------------------------------------------


@style.house()
def draw_shares(
    rows: Sequence[tuple[str, Attribution, str]],
    picture: np.ndarray,
    image: int = 0,
    class_names: Sequence[str] | None = None,
) -> style.StudyFigure:
    """The shares painted on an image, level by level, and three bars that each sum to the whole.

    Args:
        rows: title, attribution, part; one row of pictures for each.
        picture: (H, W, 3) uint8, the image that `image` counts to.
    """
    # Every row needs 1.9 inches of picture; the colour bar takes the rest.
    figure, axes = style.figure(
        len(rows), 4, height=2.12 * len(rows) + 0.75, width_ratios=(1, 1, 1, 1.5), squeeze=False
    )
    percents = []
    for _, attribution, part in rows:
        share = np.nan_to_num(attribution.shares[part][image])
        percents.append(100 * share / max(share.sum(), 1e-12))
    norm = PowerNorm(0.5, vmin=0, vmax=max(percent.max() for percent in percents))
    height, width = picture.shape[:2]
    ground = _pale(picture)
    for line, (row, percent, (title, attribution, part)) in enumerate(zip(axes, percents, rows)):
        for axis, place, size, stride in zip(row, attribution.levels(), attribution.sizes, attribution.strides):
            extent = (0, size[1] * stride, size[0] * stride, 0)
            axis.imshow(ground, extent=(0, width, height, 0), interpolation="nearest")
            axis.imshow(percent[place].reshape(size), cmap=_heat(), norm=norm, extent=extent, interpolation="nearest")
            x, y = _centres(size, stride)
            positive = attribution.owner[image][place] >= 0
            axis.plot(x[positive], y[positive], "o", markersize=2.2, color=style.INK, markeredgewidth=0)
            _frames(axis, attribution, image)
            axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
            axis.grid(False)
            if line == 0:
                axis.set_title(f"stride {stride}", fontsize=9.5, weight="normal")
        row[0].set_ylabel(title, weight="bold")
        _draw_bars(row[3], breakdown(attribution, image, part), attribution, image, class_names)
    bar = figure.colorbar(
        ScalarMappable(norm, _heat()), ax=axes[:, :3], orientation="horizontal", aspect=45, pad=0.02, shrink=0.8
    )
    names = {PARTS[part] for _, _, part in rows}
    bar.set_label(f"share of this image's {f'{names.pop()} loss' if len(names) == 1 else 'loss of that part'}, %")
    bar.outline.set_visible(False)
    return figure


def _draw_bars(axis, numbers: dict, attribution: Attribution, image: int, class_names: Sequence[str] | None) -> None:
    total = numbers["loss"]
    objects = attribution.objects(image)
    label = [class_names[int(row[0])] if class_names else str(int(row[0])) for row in objects]
    fore = sum(numbers["objects"])
    bars = (
        ("where", [("background", numbers["background"], BACKGROUND), ("foreground", fore, style.CYCLE[1])]),
        (
            "level",
            [
                (f"stride {stride}", value, colour)
                for (stride, value), colour in zip(numbers["levels"].items(), LEVEL_COLOURS)
            ],
        ),
        (
            "object",
            [("none", numbers["background"], BACKGROUND)]
            + [(name, value, style.cycle(place)) for place, (name, value) in enumerate(zip(label, numbers["objects"]))],
        ),
    )
    scale = total if np.isfinite(total) and total > 0 else 1.0
    for line, (_, pieces) in enumerate(bars):
        left = 0.0
        for name, value, colour in pieces:
            if not np.isfinite(value) or value <= 0:
                continue
            axis.barh(line, value, left=left, height=0.62, color=colour, edgecolor=style.PAPER, linewidth=0.6)
            room = value / scale * 31  # letters of this size that the whole bar has room for
            names = (f"{name} {value / scale:.0%}", name, name.removeprefix("stride "))
            text = next((text for text in names if len(text) <= room), "")
            axis.text(left + value / 2, line, text, ha="center", va="center", fontsize=7.5, color=style.ink_on(colour))
            left += value
    axis.set(yticks=range(3), yticklabels=[name for name, _ in bars], ylim=(2.5, -0.5), xlim=(0, scale))
    axis.grid(False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    batch, part = attribution.parts[numbers["part"]], PARTS[numbers["part"]]
    axis.set_title(f"{part} loss: {_short(total)} of the batch's {_short(batch)}", fontsize=9.5, weight="normal")


@style.house()
def draw_weights(
    attribution: Attribution, picture: np.ndarray, image: int = 0, class_names: Sequence[str] | None = None
) -> style.StudyFigure:
    """The positives of one image as dots whose area is their weight, and the weights of each object
    in a row.
    """
    figure, (left, right) = style.figure(1, 2, height=3.4, width_ratios=(1, 1.35))
    height, width = picture.shape[:2]
    left.imshow(picture * 0.6 / 255 + 0.4, extent=(0, width, height, 0))
    _frames(left, attribution, image)
    objects, owner, weight = attribution.objects(image), attribution.owner[image], attribution.weight[image]
    places = [_centres(size, stride) for size, stride in zip(attribution.sizes, attribution.strides)]
    x, y = (np.concatenate([place[axis] for place in places]) for axis in (0, 1))
    names = [class_names[int(row[0])] if class_names else f"class {int(row[0])}" for row in objects]
    for number in range(len(objects)):
        mine, look = owner == number, dict(color=style.cycle(number), edgecolor=style.PAPER, linewidth=0.6, zorder=3)
        left.scatter(x[mine], y[mine], s=4 + 90 * weight[mine], **look)
        right.scatter(weight[mine], np.full(mine.sum(), number), s=4 + 90 * weight[mine], **look)
    left.set(xlim=(0, width), ylim=(height, 0), xlabel="pixels", ylabel="pixels")
    left.grid(False)
    right.set(yticks=range(len(objects)), yticklabels=names, ylim=(len(objects) - 0.5, -0.5), xlim=(-0.03, 1.03))
    right.set(
        xlabel="weight of each positive: the sum of its target scores, 0…1",
        title="ten positives for each aircraft, at most",
    )
    return figure


@style.house()
def draw_two_bins(cases: Mapping[str, TwoBins]) -> style.StudyFigure:
    """Distributions over the same distance, side by side: the two bins that count, the expectation,
    and the loss.
    """
    figure, axes = style.figure(1, len(cases), height=2.7, sharey=True, squeeze=False)
    for axis, (title, case) in zip(axes[0], cases.items()):
        bins, lower = np.arange(len(case.probabilities)), int(case.distance)
        near = (bins == lower) | (bins == lower + 1)
        axis.bar(bins, case.probabilities, width=0.72, color=[style.CYCLE[0] if hit else BACKGROUND for hit in near])
        axis.axvline(case.distance, color=style.TRUTH, linewidth=2, label=f"true distance {case.distance:g}")
        axis.axvline(
            case.expectation,
            color=style.INK,
            linewidth=1.6,
            linestyle=(0, (2, 2)),
            label=f"expectation {case.expectation:.2f}",
        )
        axis.set_title(f"{title}: DFL {case.loss:.2f}")
        axis.set(xlabel="bin, in strides from the anchor", xticks=bins, ylim=(0, 1.02))
        axis.legend(loc="upper right")
    axes[0, 0].set_ylabel("probability")
    return figure


@style.house()
def draw_padding(targets, labels, boxes, mask) -> style.StudyFigure:
    """Rows of a batch's targets on the left, the padded block on the right. Each image has its
    colour; padding is hatched.

    Args:
        targets: (N, 6). labels (B, G), boxes (B, G, 4), mask (B, G): what `pad_targets` makes of
            it.
    """
    targets, labels, boxes, mask = (_array(value) for value in (targets, labels, boxes, mask))
    batch, room = labels.shape
    tall = max(len(targets), batch, 1)
    figure, (left, right) = style.figure(1, 2, height=0.42 * tall + 0.95, width_ratios=(1, max(1.0, 0.62 * room)))

    def cell(axis, x: float, y: float, text: str, colour: str, padding: bool = False) -> None:
        look = (
            dict(facecolor=style.PAPER, hatch="////", edgecolor=BACKGROUND)
            if padding
            else dict(facecolor=colour, edgecolor=style.PAPER)
        )
        axis.add_patch(Rectangle((x + 0.02, y + 0.06), 0.96, 0.88, linewidth=0.8, **look))
        if text:
            axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8.5, color=style.ink_on(colour))

    def content(label: float, box: np.ndarray) -> str:
        return f"class {label:g}:  " + "  ".join(f"{value:g}" for value in box)

    for row, target in enumerate(targets):
        cell(left, 0, row, f"image {target[0]:g}, " + content(target[1], target[2:]), style.cycle(int(target[0])))
    for image in range(batch):
        for place in range(room):
            real = bool(mask[image, place])
            text = content(labels[image, place], boxes[image, place]) if real else ""
            cell(right, place, image, text, style.cycle(image), padding=not real)
    left.set(xlim=(0, 1), ylim=(tall, 0), xticks=[], yticks=[], title=f"targets: {len(targets)} rows")
    right.set(
        xlim=(0, room), ylim=(tall, 0), xticks=np.arange(room) + 0.5, xticklabels=[f"place {k}" for k in range(room)]
    )
    right.set(
        yticks=np.arange(batch) + 0.5,
        yticklabels=[f"image {b}" for b in range(batch)],
        title=f"one block of {batch} × {room}",
    )
    for axis in (left, right):
        axis.grid(False)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return figure


@style.house()
def draw_units(columns: Mapping[str, Sequence[Reading]]) -> style.StudyFigure:
    """Ranges as bars, coloured by the unit that they should be in. From the second column on, the
    first stands behind as an outline, and a range that differs from it is written in red.
    """
    figure, axes = style.figure(1, len(columns), height=3.9, sharey=True, squeeze=False)
    first = next(iter(columns.values()))
    rows = [number + 0.35 * len({reading.place for reading in first[: number + 1]}) for number in range(len(first))]
    reach = [
        abs(value)
        for readings in columns.values()
        for reading in readings
        if reading.finite
        for value in (reading.low, reading.high)
    ]
    limit = 1.2 * max([100, *reach])
    for number, (axis, (title, readings)) in enumerate(zip(axes[0], columns.items())):
        for row, reading, expected in zip(rows, readings, first, strict=True):
            if number:
                outline = dict(height=0.78, color="none", edgecolor=style.FAINT, linewidth=0.8)
                axis.barh(row, expected.high - expected.low, left=expected.low, **outline)
            if reading.finite:
                axis.barh(row, reading.high - reading.low, left=reading.low, height=0.6, color=UNITS[reading.unit])
            same = np.allclose(
                (reading.low, reading.high), (expected.low, expected.high), rtol=0.2, atol=0.05, equal_nan=True
            )
            text = f"{_short(reading.low)} … {_short(reading.high)}" if reading.finite else "NaN, or nothing"
            axis.text(
                limit * 1.2,
                row,
                text,
                va="center",
                fontsize=8.5,
                **({} if same else dict(color=style.FALSE_ALARM, weight="bold")),
            )
        axis.set_xscale("symlog", linthresh=1, linscale=1)
        axis.set(xlim=(-limit, limit), title=title, ylim=(rows[-1] + 0.6, rows[0] - 0.6))
        labels = ("−100", "", "−1", "0", "1", "10", "100") if len(columns) < 3 else ("−100", "", "", "0", "", "", "100")
        axis.set_xticks([-100, -10, -1, 0, 1, 10, 100], labels, fontsize=8.5)
    figure.supxlabel("value; the scale is linear up to 1 and logarithmic beyond", fontsize=10)
    axes[0, 0].set_yticks(rows, [f"{reading.place}: {reading.name}" for reading in first], fontsize=9)
    axes[0, 0].tick_params(axis="y", length=0)
    handles = [Rectangle((0, 0), 1, 1, color=colour, label=unit) for unit, colour in UNITS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(UNITS))
    return figure


@style.house()
def draw_steps(rows: Sequence[Mapping[str, float]], picture=None) -> style.StudyFigure:
    """The parts of the loss over the steps of a run, on a logarithmic scale, and beside them what
    the network sees by now.

    Args:
        rows: total, box, cls and dfl of each step.
        picture: a `painter.Painted` or an image (H, W, 3) uint8.
    """
    figure, axes = style.figure(1, 2, height=3.9, width_ratios=(1.5, 1), squeeze=False)
    left, right = axes[0]
    steps = np.arange(1, len(rows) + 1)
    lines = {"total": ("total", style.INK)} | {
        name: (text, colour) for (name, text), colour in zip(PARTS.items(), style.CYCLE)
    }
    for name, (text, colour) in lines.items():
        left.plot(
            steps,
            [row[name] for row in rows],
            color=colour,
            label=text,
            marker="o" if len(rows) < 3 else None,
            markersize=4,
        )
    if any(np.isfinite(value) and value > 0 for row in rows for value in row.values()):
        left.set_yscale("log")
    left.set(title="loss", xlabel="step", xlim=(0, max(10, len(rows))))
    left.legend(loc="upper right", ncols=4)
    right.axis("off")
    if picture is not None:
        image = getattr(picture, "image", picture)
        # In few shades, or the frames would lose their colours when the figure is made small enough
        # to be kept.
        right.imshow((image // 20) * 20 + 10, interpolation="nearest")
        right.set_title(f"step {len(rows)}{_counts(picture)}", fontsize=9.5)
    return figure


def _counts(picture) -> str:
    if getattr(picture, "truths", None) is None:
        return ""
    return f": {picture.hits} hit, {picture.misses} missed, {picture.false_alarms} false alarms"


def _frames(axis, attribution: Attribution, image: int) -> None:
    for box in attribution.objects(image)[:, 1:]:
        drawing.frame(axis, box, style.TRUTH, linewidth=1.3)


def _pale(picture: np.ndarray) -> np.ndarray:
    """The image in a few light greys: ground for colours, and small when stored."""
    step = max(1, max(picture.shape[:2]) // 200)
    grey = picture[::step, ::step].mean(axis=2, keepdims=True) / 255
    return np.repeat((grey * 9).round() / 9 * 0.5 + 0.5, 3, axis=2)


def _centres(size: tuple[int, int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns.ravel() + 0.5) * stride, (rows.ravel() + 0.5) * stride


def _heat() -> ListedColormap:
    """From transparent over yellow and orange to dark red: what holds nothing leaves the image
    visible.
    """
    colours = matplotlib.colormaps["YlOrRd"](np.linspace(0.15, 1, 256))
    colours[:, 3] = np.linspace(0, 1, 256) ** 0.5 * 0.9
    return ListedColormap(colours)


def _short(value: float) -> str:
    if not np.isfinite(value):
        return str(value)
    text = "0" if abs(value) < 5e-4 else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


# ---- in a notebook -------------------------------------------------------------------------------


class ShareBench(Panel):
    """Shares with a choice of image and part.

    `numbers` holds the `breakdown` of each network for what is shown now.
    """

    def __init__(
        self,
        attributions: Mapping[str, Attribution],
        pictures: Sequence[np.ndarray],
        class_names: Sequence[str] | None = None,
    ):
        import ipywidgets as widgets

        self.attributions, self.pictures, self.class_names = dict(attributions), pictures, class_names
        self.image = widgets.IntSlider(min=0, max=len(pictures) - 1, description="image", continuous_update=False)
        self.part = widgets.ToggleButtons(
            options=[(text, name) for name, text in PARTS.items()], value="cls", description="part"
        )
        self.part.style.button_width = "70px"
        controls = [self.image, self.part]
        self._begin([widgets.HBox(controls)], controls)

    def _look(self):
        image, part = self.image.value, self.part.value
        numbers = {name: breakdown(attribution, image, part) for name, attribution in self.attributions.items()}
        rows = [(name, attribution, part) for name, attribution in self.attributions.items()]
        return numbers, draw_shares(rows, self.pictures[image], image, self.class_names)

    def __repr__(self) -> str:
        return f"ShareBench({', '.join(self.attributions)})"


class LossTape:
    """Loss curves that redraw in place, with a picture beside them. In a terminal it draws nothing
    and only keeps the rows.

    Args:
        pause: least seconds between two drawings. It grows where drawing is slow, so that a run is
            not spent on its own picture.
    """

    def __init__(self, pause: float = 1.0):
        self.rows, self.place = [], InPlace(pause, patience=6)

    def update(self, parts, picture: Callable[[], object] | None = None, last: bool = False) -> None:
        """Add a step's `LossParts`. `picture`, which gives what `draw_steps` takes, is called only
        when it is time to draw; `last` draws in any case.
        """
        self.rows.append({name: float(value.detach()) for name, value in parts._asdict().items()})
        if last or self.place.due:
            self.place.show(lambda: draw_steps(self.rows, picture() if picture else None))

    @property
    def numbers(self) -> dict:
        """steps, first and last row."""
        return {"steps": len(self.rows), "first": self.rows[0], "last": self.rows[-1]} if self.rows else {"steps": 0}
