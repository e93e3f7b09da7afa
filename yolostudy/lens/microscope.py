"""The assigner under a microscope: which anchor points one object takes, step by step, and where two assigners disagree.

A slide holds what the assigner sees: a picture, its truth, and what a network predicts on it. `look` runs the four functions of an
assigner module over a slide, the learner's and the reference's, and keeps what each step leaves for one box. `draw_microscope` puts
that on paper; `Microscope` is the same with boxes to click and with sliders. Two more pictures look at whole slides: `draw_rules` sets
fixed rules beside the task-aligned one, `draw_assignments` shows how the choice changes from network to network.

Sources: task alignment: Feng et al. 2021, TOOD, section 3.2; anchor boxes: Lin et al. 2017, Focal Loss, section 4; centre sampling
and the ranges of the levels: Tian et al. 2019, FCOS, section 3.2, and its code.
"""

from __future__ import annotations

import html
import importlib
import itertools
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from . import style

PACKAGE = __name__.partition(".")[0]
STEPS = ("candidates", "metric", "top", "kept")
FUNCTION = MappingProxyType(  # step -> the exercise that makes it
    {"candidates": "anchors_inside", "metric": "alignment", "top": "top_candidates", "kept": "resolve_conflicts"}
)
TITLES = ("1  inside the box", "2  metric", "3  the best {k}", "4  conflicts resolved")
MARKS = "osD^v"  # of the levels, finest first
HEAT = colormaps["YlGnBu"].resampled(9)  # few steps: they survive the palette of a small PNG
SCENE = 320  # pixels: the picture whose boxes are clicked
EPS = 1e-9  # as in TaskAlignedAssigner
DIFFERENT = 1e-3  # relative: two metrics that are nearer than this are the same number computed another way


@dataclass(frozen=True, slots=True, eq=False)
class Slide:
    """What lies under the microscope: one picture, its truth, and what a network says at each of A anchor points.

    Attributes:
        image: (H, W, 3) uint8.
        scores (A, C), boxes (A, 4), anchors (A, 2), strides (A,): tensors; boxes and anchors in pixels of the picture.
        labels (G,), truth (G, 4): tensors; truth in pixels.
        names: of the classes; may be empty.
    """

    image: np.ndarray
    scores: object
    boxes: object
    anchors: object
    strides: object
    labels: object
    truth: object
    names: tuple[str, ...] = ()

    def name(self, box: int) -> str:
        """`2: A7`, the number from 1 as the pictures have it."""
        label = int(self.labels[box])
        return f"{box + 1}: {self.names[label] if label < len(self.names) else f'class {label}'}"


def slide(image: np.ndarray, maps: Sequence, truth: np.ndarray, class_names: Sequence[str] = (), reg_max: int = 16) -> Slide:
    """A slide from three raw maps.

    Args:
        image: (H, W, 3) uint8, as the network saw it.
        maps: (1, 4·R + C, H/s, W/s) each, s = 8, 16, 32.
        truth: (G, 5) class x1 y1 x2 y2 in pixels.

    Errors: ValueError for a picture without objects, and for maps of several images.
    """
    import torch

    from ..boxes import STRIDES, decode, make_anchors

    truth = torch.as_tensor(np.asarray(truth, np.float32).reshape(-1, 5))
    if not len(truth):
        raise ValueError("microscope: this picture shows no object, so nothing is assigned. Choose another.")
    if any(len(level) != 1 for level in maps):
        raise ValueError(f"microscope: the maps hold {len(maps[0])} images; give those of one, for example [m[:1] for m in maps].")
    maps = [level.detach() for level in maps]
    boxes, scores = decode(maps, reg_max)
    anchors, strides = make_anchors([level.shape[2:] for level in maps], STRIDES)
    names = tuple(class_names)
    return Slide(image, scores[0], boxes[0], anchors * strides, strides[:, 0], truth[:, 0].long(), truth[:, 1:], names)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What one assigner does with one box.

    Attributes:
        candidates, top, kept: (A,) bool. metric, overlaps: (A,) float.
        owner: (A,) the box that has each anchor in the end, -1 for none.
        trouble: step -> why it gave nothing, in words. The reference's result stands in its place, and the steps after it work on that.
    """

    candidates: np.ndarray
    metric: np.ndarray
    overlaps: np.ndarray
    top: np.ndarray
    kept: np.ndarray
    owner: np.ndarray
    trouble: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int | None]:
        """How many anchor points each step leaves; None where it gave nothing."""
        left = {"candidates": self.candidates, "metric": self.metric > 0, "top": self.top, "kept": self.kept}
        return {step: None if step in self.trouble else int(mask.sum()) for step, mask in left.items()}

    @property
    def chosen(self) -> np.ndarray:
        """Indices of the anchors that the box keeps, best metric first."""
        found = self.kept.nonzero()[0]
        return found[np.argsort(-self.metric[found], kind="stable")]

    @property
    def targets(self) -> np.ndarray:
        """The score that each chosen anchor is asked for: its metric, scaled so that the best one gets the best overlap."""
        metric, overlaps = self.metric[self.chosen], self.overlaps[self.chosen]
        return metric * overlaps.max(initial=0) / (metric.max(initial=0) + EPS)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One look through the microscope: the numbers of one box, in both rows.

    Attributes:
        mine: None where only the reference was asked for.
        differ: step -> (A,) bool, the positions where mine and the reference disagree; a step that gave nothing is missing.
    """

    slide: Slide
    box: int
    alpha: float
    beta: float
    k: int
    reference: Row
    mine: Row | None
    differ: Mapping[str, np.ndarray]

    @property
    def differences(self) -> dict[str, int]:
        """Step -> in how many positions mine and the reference disagree."""
        return {step: int(mask.sum()) for step, mask in self.differ.items()}

    @property
    def positions_that_differ(self) -> int:
        """At how many positions any step of mine disagrees with the reference."""
        return int(np.any(list(self.differ.values()), axis=0).sum()) if self.differ else 0

    def __repr__(self) -> str:
        rows = {"mine": self.mine, "reference": self.reference}
        told = [f"{name} {' '.join(map(_counted, row.counts.values()))}" for name, row in rows.items() if row is not None]
        return f"View(box {self.slide.name(self.box)}, {', '.join(told)})"


def look(slide: Slide, reference, mine=None, box: int = 0, *, alpha: float = 0.5, beta: float = 6.0, k: int = 10) -> View:
    """What each step of the assignment leaves for one box.

    Args:
        reference, mine: an assigner module, a package that has one, or anything else with the four functions as attributes.
        box: which ground truth, counted from 0.
        alpha, beta, k: as in `TaskAlignedAssigner`.

    An exception of the reference is raised. One of mine, or a result of the wrong form, is told in words in its row.
    """
    if not 0 <= box < len(slide.truth):
        raise ValueError(f"microscope: there is no box {box}; this picture has 0 to {len(slide.truth) - 1}.")
    right, _ = _run(_functions(reference), slide, alpha, beta, k)
    rows, differ = [_row(right, {}, box)], {}
    if mine is not None:
        found, trouble = _run(_functions(mine), slide, alpha, beta, k, stand_in=right)
        rows.append(_row(found, trouble, box))
        differ = {step: mask for step, mask in _differences(*rows).items() if step not in trouble}
    return View(slide, box, alpha, beta, k, rows[0], rows[1] if mine is not None else None, differ)


def _functions(source) -> object:
    """The thing that has the four functions: a module, the `assigner` of a package, or a namespace."""
    name = getattr(source, "__name__", "")
    if isinstance(source, ModuleType) and name.startswith(f"{PACKAGE}."):
        source = importlib.import_module(name)  # filling in an exercise makes a new module of it; the old object knows nothing of that
    for holder in (source, getattr(source, "assigner", None)):
        if any(hasattr(holder, name) for name in FUNCTION.values()):
            return holder
    raise ValueError(
        f"microscope: {getattr(source, '__name__', source)!r} has none of {', '.join(FUNCTION.values())}. Give an assigner module, "
        "for example yolostudy.assigner."
    )


def _run(functions, slide: Slide, alpha: float, beta: float, k: int, stand_in: dict | None = None) -> tuple[dict, dict[str, str]]:
    """The four steps over all boxes: tensors (1, G, A) by step, with the overlaps, and what went wrong. Without a stand-in errors rise."""
    import torch

    labels, truth = slide.labels[None], slide.truth[None]
    shape = (1, len(slide.truth), len(slide.anchors))
    mask = torch.ones(shape[:2], dtype=torch.bool)
    predictions = slide.scores[None], slide.boxes[None]
    calls = {
        "candidates": lambda found: functions.anchors_inside(slide.anchors, truth, mask),
        "metric": lambda found: functions.alignment(*predictions, labels, truth, found["candidates"], alpha, beta),
        "top": lambda found: functions.top_candidates(found["metric"], found["candidates"], k),
        "kept": lambda found: functions.resolve_conflicts(found["top"], found["overlaps"]),
    }
    found, trouble = {}, {}
    for step, call in calls.items():
        try:
            with torch.no_grad():
                # a copy each: a function that writes into what it is given must not change what the step before it shows
                result = call({name: tensor.clone() for name, tensor in found.items()})
            parts = {"metric": result[0], "overlaps": result[1]} if step == "metric" else {step: result}
            problem = next(filter(None, (_misformed(name, part, shape) for name, part in parts.items())), "")
        except NotImplementedError as error:
            if stand_in is None:
                raise
            parts, problem = {}, "not filled in yet" if str(error).startswith("exercise ") else _in_words(error)
        except Exception as error:  # the learner's code may raise anything; the row says what
            if stand_in is None:
                raise
            parts, problem = {}, _in_words(error)
        if problem:
            if stand_in is None:
                raise ValueError(f"microscope: {FUNCTION[step]} of the reference gives {problem}")
            trouble[step] = problem
            parts = {name: stand_in[name] for name in (("metric", "overlaps") if step == "metric" else (step,))}
        found |= parts
    return found, trouble


def _misformed(name: str, value, shape: tuple[int, ...]) -> str:
    """What is wrong with the form of a result; nothing for a good one."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__} where a tensor is expected"
    if tuple(value.shape) != shape:
        return f"shape {tuple(value.shape)} where {shape} is expected"
    if name in ("metric", "overlaps"):
        return "" if value.is_floating_point() else f"{value.dtype} where floats are expected"
    return "" if value.dtype == torch.bool else f"{value.dtype} where torch.bool is expected"


def _in_words(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _row(found: dict, trouble: dict[str, str], box: int) -> Row:
    at = {step: found[step][0, box].numpy() for step in STEPS}
    kept = found["kept"][0]
    owner = np.where(kept.any(dim=0).numpy(), kept.int().argmax(dim=0).numpy(), -1)
    metric, overlaps = at["metric"].astype(float), found["overlaps"][0, box].numpy().astype(float)
    return Row(at["candidates"], metric, overlaps, at["top"], at["kept"], owner, MappingProxyType(dict(trouble)))


def _differences(reference: Row, mine: Row) -> dict[str, np.ndarray]:
    differ = {
        "candidates": mine.candidates != reference.candidates,
        "metric": ~np.isclose(mine.metric, reference.metric, rtol=DIFFERENT, atol=0),
        "top": mine.top != reference.top,
        "kept": mine.kept != reference.kept,
    }
    # Of candidates with a metric of 0 any may fill up the k: to take another one than the reference is no mistake.
    tie = mine.candidates & reference.candidates & (mine.metric == 0) & (reference.metric == 0)
    return {step: mask & ~tie if step in ("top", "kept") else mask for step, mask in differ.items()}


# On paper -----------------------------------------------------------------------------------------------------------------------


@style.house()
def draw_microscope(view: View, scene: bool = True) -> style.StudyFigure:
    """The four steps of one box, mine above the reference where there is a mine, positions that differ ringed.

    Args:
        scene: with the whole picture and its numbered boxes above.
    """
    rows = [("mine", view.mine), ("reference", view.reference)] if view.mine is not None else [("reference", view.reference)]
    width, gap, left, right, heading = style.WIDTH * style.DPI, 10, 26, 8, 24
    side = (width - left - right - 3 * gap) / 4
    strip, bar, legend = (216 if scene else 0), 34, 48  # pixels: the scene, the scale of the heat, what the marks mean
    height = strip + len(rows) * (side + heading) + bar + (0 if scene else legend)
    figure = _blank(width, height)

    def axes_at(x: float, y: float, w: float, h: float):
        """Axes by the pixels of their upper left corner."""
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    heat = _heat(view)
    if scene:
        _draw_scene(axes_at(left, 4, strip - 16, strip - 16), view.slide, view.box)
        beside = left + strip + 8
        _write_summary(axes_at(beside, 4, width - beside - right, strip - 16 - legend), view)
        _draw_legend(axes_at(beside, strip - 12 - legend, width - beside - right, legend), view, columns=3)
    for number, (name, row) in enumerate(rows):
        top = strip + number * (side + heading) + heading
        figure.text(15 / width, 1 - (top + side / 2) / height, name, rotation=90, ha="center", va="center", weight="bold", fontsize=11)
        for column, step in enumerate(STEPS):
            axes = axes_at(left + column * (side + gap), top, side, side)
            _draw_step(axes, view, row, step, heat, side)
            axes.set_title(_heading(view, row, column, step), fontsize=9.5, pad=4)
    bottom = strip + len(rows) * (side + heading)
    scale = figure.colorbar(heat, cax=axes_at(left + side + gap + 8, bottom + 8, side - 16, 9), orientation="horizontal")
    scale.ax.tick_params(labelsize=8, length=2, pad=2)
    scale.set_ticks([0, heat.norm.vmax / 2, heat.norm.vmax], labels=["0", f"{heat.norm.vmax / 2:.2g}", f"{heat.norm.vmax:.2g}"])
    scale.outline.set_visible(False)
    if not scene:
        _draw_legend(axes_at(left, bottom + bar, width - left - right, legend), view, columns=4)
    return figure


def _blank(width: float, height: float) -> style.StudyFigure:
    figure, axes = style.figure(width=width / style.DPI, height=height / style.DPI)
    figure.set_layout_engine("none")
    axes.remove()
    return figure


def _heat(view: View) -> ScalarMappable:
    rows = [row for row in (view.reference, view.mine) if row is not None]
    seen = np.concatenate([row.metric[np.isfinite(row.metric)] for row in rows])
    return ScalarMappable(Normalize(0, float(seen.max()) if seen.size and seen.max() > 0 else 1.0), HEAT)


def _window(view: View) -> tuple[float, float, float]:
    """Middle and half side of the square that the panels show: the box with room around it, and what a wrong assigner takes outside it."""
    x1, y1, x2, y2 = view.slide.truth[view.box].tolist()
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    half = max(x2 - x1, y2 - y1) * 0.62 + 6
    if view.mine is not None:
        taken = view.slide.anchors.numpy()[view.mine.kept | view.mine.top]
        if len(taken):
            half = max(half, float(np.abs(taken - middle).max()) + 6)
    return *middle, min(half, max(view.slide.image.shape[:2]))


def _pale(image: np.ndarray) -> np.ndarray:
    """Grey and light, so that the marks stand out and the aircraft can still be seen."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True) // 12 * 12  # 22 greys leave colours of the palette to the marks
    return np.repeat(140 + grey * 0.45, 3, axis=2).clip(0, 255).astype(np.uint8)


def _show(axes, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0), interpolation="nearest", zorder=0)
    axes.set(xticks=[], yticks=[], facecolor=style.GROUND)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.FAINT, linewidth=0.8)


def _frame(axes, box, colour: str, width: float, **options) -> None:
    x1, y1, x2, y2 = (float(value) for value in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, **options))


def _levels(slide: Slide) -> list[tuple[float, str, np.ndarray]]:
    """Stride, mark and members (A,) of each level, finest first."""
    strides = slide.strides.numpy()
    return [(stride, MARKS[number % len(MARKS)], strides == stride) for number, stride in enumerate(np.unique(strides))]


def _draw_scene(axes, slide: Slide, box: int) -> None:
    _show(axes, slide.image)
    axes.set(xlim=(0, slide.image.shape[1]), ylim=(slide.image.shape[0], 0))
    for number, truth in enumerate(slide.truth):
        chosen = number == box
        _frame(axes, truth, style.TRUTH if chosen else style.PAPER, 2.4 if chosen else 1.2, zorder=2 + chosen)
        label = dict(color=style.PAPER, backgroundcolor=style.TRUTH if chosen else style.INK, fontsize=8, weight="bold")
        text = axes.text(float(truth[0]) + 1, float(truth[1]) + 1, f"{number + 1}", va="top", ha="left", zorder=5, **label)
        text.get_bbox_patch().set(boxstyle="square,pad=0.15", linewidth=0)


def _write_summary(axes, view: View) -> None:
    axes.axis("off")
    height = axes.figure.bbox.height * axes.get_position().height
    axes.set(xlim=(0, 1), ylim=(height, 0))  # pixels downwards
    axes.text(0, 12, f"box {view.slide.name(view.box)}, {_sides(view.slide.truth[view.box])}", weight="bold", fontsize=12, va="center")
    axes.text(0, 37, f"metric = score$^{{{view.alpha:g}}}$ · IoU$^{{{view.beta:g}}}$,  k = {view.k}", fontsize=10, va="center")
    if view.mine is None:
        return
    total = view.positions_that_differ
    told = ["mine and the reference agree" if not total else f"mine and the reference differ at {total} positions"] if view.differ else []
    told += [f"{FUNCTION[step]}: {problem}" for step, problem in view.mine.trouble.items()]
    for line, text in enumerate(told):
        axes.text(0, 62 + 19 * line, _shortened(text, 86), fontsize=9, va="center")


def _heading(view: View, row: Row, column: int, step: str) -> str:
    count = _counted(row.counts[step])
    return TITLES[column].format(k=view.k) + (f": {count}" + (" above 0" if step == "metric" else "") if count != "-" else "")


def _counted(count: int | None) -> str:
    return "-" if count is None else str(count)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _draw_step(axes, view: View, row: Row, step: str, heat: ScalarMappable, side: float) -> None:
    x, y, half = _window(view)
    _show(axes, _pale(view.slide.image))
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    for number, truth in enumerate(view.slide.truth):
        if number != view.box:
            _frame(axes, truth, style.FAINT, 1, linestyle=(0, (3, 2)), zorder=1)
    _frame(axes, view.slide.truth[view.box], style.TRUTH, 2, zorder=2)
    if step in row.trouble:
        _say(axes, row.trouble[step])
        return
    points, spacing = view.slide.anchors.numpy(), float(view.slide.strides.min()) * side / (2 * half)
    size = float(np.clip(spacing * 0.42, 2, 9)) * 72 / style.DPI  # points across
    base = {"candidates": row.candidates, "metric": row.metric != 0, "top": row.top, "kept": row.kept}[step]
    colours = {"candidates": style.CYCLE[0], "top": style.CYCLE[4], "kept": style.HIT}
    for number, (_, mark, level) in enumerate(_levels(view.slide)):
        area = (size * (1 + 0.4 * number)) ** 2
        off, on = level & ~base, level & base
        axes.scatter(*points[off].T, s=area * 0.16, c=style.FAINT, marker=mark, linewidths=0, zorder=3)
        # drawn from the smallest metric up: the highest must not hide under its neighbours
        order = np.flatnonzero(on)[np.argsort(row.metric[on], kind="stable")]
        face = dict(c=row.metric[order], cmap=heat.cmap, norm=heat.norm) if step == "metric" else dict(c=colours[step])
        axes.scatter(*points[order].T, s=area, marker=mark, edgecolors=style.INK, linewidths=0.5, zorder=4, **face)
        if step == "kept":
            lost = level & row.top & ~row.kept
            axes.scatter(*points[lost].T, s=area, marker="x", c=style.INK, linewidths=1.3, zorder=5)
            for anchor in np.flatnonzero(lost & (row.owner >= 0)):
                label = dict(xytext=(size * 0.5, size * 0.3), textcoords="offset points", fontsize=7, weight="bold", zorder=7)
                axes.annotate(f"{row.owner[anchor] + 1}", points[anchor], **label)
        if step in view.differ:
            ringed = level & view.differ[step]
            ring = dict(facecolors="none", edgecolors=style.FALSE_ALARM, linewidths=1.4, zorder=6)
            axes.scatter(*points[ringed].T, s=(size * (1 + 0.4 * number) + 5) ** 2, **ring)


def _say(axes, text: str) -> None:
    """Words where a step gave nothing to draw."""
    lines, words = [""], _shortened(text, 120).split()
    for word in words:
        if len(lines[-1]) + len(word) > 24 and lines[-1]:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + _shortened(word, 26)
    ground = dict(boxstyle="round,pad=0.5", facecolor=style.PAPER, edgecolor=style.FALSE_ALARM)
    look = dict(transform=axes.transAxes, ha="center", va="center", fontsize=8.5, bbox=ground, zorder=8)
    axes.text(0.5, 0.5, "\n".join(lines), **look)


def _draw_legend(axes, view: View, columns: int) -> None:
    axes.axis("off")
    ink = dict(linestyle="none", markeredgecolor=style.INK, markeredgewidth=0.5)
    entries = [
        Line2D([], [], marker=mark, markerfacecolor=style.PAPER, markersize=5 + 1.8 * number, label=f"stride {stride:g}", **ink)
        for number, (stride, mark, _) in enumerate(_levels(view.slide))
    ]
    entries += [
        Line2D([], [], marker="o", markerfacecolor=style.CYCLE[0], markersize=6, label="candidate", **ink),
        Line2D([], [], marker="o", markerfacecolor=style.CYCLE[4], markersize=6, label=f"one of the best {view.k}", **ink),
        Line2D([], [], marker="o", markerfacecolor=style.HIT, markersize=6, label="kept", **ink),
        Line2D([], [], marker="x", color=style.INK, linestyle="none", markersize=6, label="lost to the box of that number"),
    ]
    if view.mine is not None:
        ring = dict(marker="o", markerfacecolor="none", markeredgecolor=style.FALSE_ALARM, markeredgewidth=1.5, linestyle="none")
        entries.append(Line2D([], [], markersize=10, label="mine and the reference differ", **ring))
    axes.legend(handles=entries, loc="center left", ncols=columns, columnspacing=1.6, handletextpad=0.4, borderaxespad=0, fontsize=9)


@style.house()
def draw_targets(views: Mapping[str, View]) -> style.StudyFigure:
    """For each view, the reference's chosen anchors as bars: their metric, and the score that they are asked for."""
    figure, axes = style.figure(1, len(views), squeeze=False, sharey=True, height=2.6)
    for number, (axis, (name, view)) in enumerate(zip(axes[0], views.items(), strict=True)):
        row = view.reference
        place = np.arange(len(row.chosen)) + 1
        axis.bar(place - 0.2, row.metric[row.chosen], width=0.4, color=style.FAINT, label="metric")
        axis.bar(place + 0.2, row.targets, width=0.4, color=style.HIT, label="target score")
        best = float(row.overlaps[row.chosen].max(initial=0))
        axis.axhline(best, color=style.TRUTH, linewidth=1.2, linestyle=(0, (4, 2)), label="best overlap")
        axis.set(title=name, xlabel="chosen anchor, best first", ylim=(0, 1.02), xticks=place[::3], xlim=(0.3, max(view.k, 1) + 0.7))
        axis.grid(axis="x", visible=False)
        if not number:
            axis.set_ylabel("0 to 1")
            axis.legend(loc="upper right")
    return figure


# Whole pictures ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Which anchors three rules give to one box: name -> (A,) bool."""

    slide: Slide
    box: int
    taken: Mapping[str, np.ndarray]

    @property
    def counts(self) -> dict[str, int]:
        return {name: int(mask.sum()) for name, mask in self.taken.items()}


RULES = ("an anchor box fits", "near the centre", "task-aligned")


def rules(slide: Slide, reference, box: int = 0) -> Rules:
    """Two fixed rules beside the task-aligned one.

    An anchor box fits: a square of 4 strides about the point overlaps the truth by an IoU of at least 0.5 (RetinaNet's anchor of
    scale 1 and ratio 1). Near the centre: inside, and within 1.5 strides of the centre, on the level whose range holds the farthest
    edge: 0 to 64 pixels at stride 8, 64 to 128 at 16, above at 32 (FCOS with centre sampling).
    """
    anchors, strides = slide.anchors.numpy().astype(float), slide.strides.numpy().astype(float)
    x1, y1, x2, y2 = slide.truth[box].tolist()
    half = 2 * strides  # a square of 4 strides
    shared = [
        (np.minimum(anchors[:, axis] + half, high) - np.maximum(anchors[:, axis] - half, low)).clip(0)
        for axis, (low, high) in enumerate(((x1, x2), (y1, y2)))
    ]
    intersection = shared[0] * shared[1]
    overlap = intersection / (4 * half * half + (x2 - x1) * (y2 - y1) - intersection)

    edges = np.stack((anchors[:, 0] - x1, anchors[:, 1] - y1, x2 - anchors[:, 0], y2 - anchors[:, 1]))
    away = np.abs(anchors - ((x1 + x2) / 2, (y1 + y2) / 2)).max(axis=1)
    farthest, finest, coarsest = edges.max(axis=0), strides.min(), strides.max()
    low, high = np.where(strides == finest, 0, 4 * strides), np.where(strides == coarsest, np.inf, 8 * strides)
    centre = (edges.min(axis=0) > 0) & (away < 1.5 * strides) & (farthest >= low) & (farthest <= high)
    aligned = look(slide, reference, box=box).reference.kept
    return Rules(slide, box, dict(zip(RULES, (overlap >= 0.5, centre, aligned), strict=True)))


@style.house()
def draw_rules(numbers: Rules) -> style.StudyFigure:
    """The three rules side by side: one box, one picture, three answers."""
    width, gap, heading, foot = style.WIDTH * style.DPI, 12, 26, 34
    side = (width - 16 - 2 * gap) / 3
    height = side + heading + foot
    figure = _blank(width, height)
    slide, box = numbers.slide, numbers.slide.truth[numbers.box]
    x1, y1, x2, y2 = box.tolist()
    half = max(x2 - x1, y2 - y1) * 0.75
    size = float(np.clip(float(slide.strides.min()) * side / (2 * half) * 0.42, 2, 9)) * 72 / style.DPI
    for column, (name, taken) in enumerate(numbers.taken.items()):
        axes = figure.add_axes(((8 + column * (side + gap)) / width, foot / height, side / width, side / height))
        _show(axes, _pale(slide.image))
        axes.set(xlim=((x1 + x2) / 2 - half, (x1 + x2) / 2 + half), ylim=((y1 + y2) / 2 + half, (y1 + y2) / 2 - half))
        _frame(axes, box, style.TRUTH, 2, zorder=2)
        for number, (_, mark, level) in enumerate(_levels(slide)):
            area = (size * (1 + 0.4 * number)) ** 2
            points = slide.anchors.numpy()
            axes.scatter(*points[level & ~taken].T, s=area * 0.16, c=style.FAINT, marker=mark, linewidths=0, zorder=3)
            face = dict(c=style.HIT, edgecolors=style.INK, linewidths=0.5)
            axes.scatter(*points[level & taken].T, s=area, marker=mark, zorder=4, **face)
        axes.set_title(f"{name}: {int(taken.sum())}", fontsize=10.5, pad=5)
    marks = [
        Line2D(
            [], [], marker=mark, linestyle="none", color=style.HIT, markeredgecolor=style.INK, markeredgewidth=0.5, label=f"stride {s:g}"
        )
        for s, mark, _ in _levels(slide)
    ]
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), borderaxespad=0.4)
    return figure


@dataclass(frozen=True, slots=True, eq=False)
class Assignments:
    """What a reference assigner makes of several slides of one picture; each list holds one entry for each slide.

    Attributes:
        owner: (A,) the box that has each anchor, -1 for none.
        scores, overlaps: of the candidate pairs: (n,) each; pairs: (n, 2) box and anchor; kept: (n,) bool.
        lost: how many anchors were among the best of a box and went to another.
    """

    slides: Mapping[str, Slide]
    owner: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]
    overlaps: tuple[np.ndarray, ...]
    pairs: tuple[np.ndarray, ...]
    kept: tuple[np.ndarray, ...]
    lost: tuple[int, ...]

    def mean(self, what: str) -> tuple[float, ...]:
        """The mean of `scores` or `overlaps` over the kept pairs of each slide."""
        return tuple(
            float(values[kept].mean()) if kept.any() else math.nan for values, kept in zip(getattr(self, what), self.kept, strict=True)
        )


def assignments(slides: Mapping[str, Slide], reference, *, alpha: float = 0.5, beta: float = 6.0, k: int = 10) -> Assignments:
    """The assignment of every box of every slide, with score and overlap of every candidate."""
    columns = {name: [] for name in ("owner", "scores", "overlaps", "pairs", "kept", "lost")}
    for one in slides.values():
        found, _ = _run(_functions(reference), one, alpha, beta, k)
        box, anchor = (index.numpy() for index in found["candidates"][0].nonzero(as_tuple=True))
        kept = found["kept"][0].numpy()
        columns["owner"].append(np.where(kept.any(axis=0), kept.argmax(axis=0), -1))
        columns["scores"].append(one.scores.numpy()[anchor, one.labels.numpy()[box]])
        columns["overlaps"].append(found["overlaps"][0].numpy()[box, anchor])
        columns["pairs"].append(np.stack((box, anchor), axis=1))
        columns["kept"].append(kept[box, anchor])
        columns["lost"].append(int((found["top"][0].numpy() & ~kept).sum()))
    return Assignments(dict(slides), **{name: tuple(column) for name, column in columns.items()})


@style.house()
def draw_assignments(numbers: Assignments, alpha: float = 0.5, beta: float = 6.0) -> style.StudyFigure:
    """One column for each slide: above, the picture with each box's anchors in its colour; below, its candidates by overlap and score.

    The grey lines below join points of one metric: 0.001, 0.01, 0.1, 0.5, for the given exponents.
    """
    columns = len(numbers.slides)
    width, gap, left, heading, foot = style.WIDTH * style.DPI, 12, 52, 26, 46
    side = (width - left - 8 - (columns - 1) * gap) / columns
    height = heading + side + 34 + side * 0.8 + foot
    figure = _blank(width, height)
    grid = np.meshgrid(np.linspace(0.001, 1, 120), np.linspace(0.001, 1, 120))
    for column, (name, one) in enumerate(numbers.slides.items()):
        x = (left + column * (side + gap)) / width
        axes = figure.add_axes((x, 1 - (heading + side) / height, side / width, side / height))
        _show(axes, _pale(one.image))
        axes.set(xlim=(0, one.image.shape[1]), ylim=(one.image.shape[0], 0))
        axes.set_title(name, fontsize=10.5, pad=5)
        plane = figure.add_axes((x, foot / height, side / width, side * 0.8 / height))
        lines = plane.contour(*grid, grid[1] ** alpha * grid[0] ** beta, (0.001, 0.01, 0.1, 0.5), colors=style.FAINT, linewidths=0.7)
        plane.clabel(lines, fmt="%g", fontsize=7)
        plane.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="IoU (complete)", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        plane.xaxis.set_major_formatter("{x:g}")
        plane.yaxis.set_major_formatter("{x:g}")
        plane.set_ylabel("score of the true class") if column == 0 else plane.set_yticklabels([])
        points, spacing = one.anchors.numpy(), float(one.strides.min()) * side / one.image.shape[1]
        size = float(np.clip(spacing * 0.5, 2, 8)) * 72 / style.DPI
        for box, truth in enumerate(one.truth):
            colour = style.CYCLE[box % len(style.CYCLE)]
            _frame(axes, truth, colour, 1.6, zorder=2)
            for number, (_, mark, level) in enumerate(_levels(one)):
                mine = level & (numbers.owner[column] == box)
                look = dict(marker=mark, color=colour, edgecolors=style.INK, linewidths=0.4)
                axes.scatter(*points[mine].T, s=(size * (1 + 0.4 * number)) ** 2, zorder=3, **look)
            of_box = numbers.pairs[column][:, 0] == box
            for chosen, look in ((False, dict(s=7, alpha=0.35, linewidths=0)), (True, dict(s=20, edgecolors=style.INK, linewidths=0.4))):
                these = of_box & (numbers.kept[column] == chosen)
                at = numbers.overlaps[column][these], numbers.scores[column][these]
                plane.scatter(*at, color=colour, zorder=3 + chosen, clip_on=False, **look)
    return figure


# In the notebook -----------------------------------------------------------------------------------------------------------------

_scopes = itertools.count(1)


class Microscope:
    """A picture whose boxes can be clicked, a choice of network, and sliders for alpha, beta and k; below, what `draw_microscope` draws.

    Args:
        slides: one slide, or several by name, for example one picture seen by several networks.
        reference, mine: as in `look`.

    `numbers` is the `View` that is shown now. Where no widget can run, the stored notebook shows the same on paper.
    """

    def __init__(self, slides: Slide | Mapping[str, Slide], reference, mine=None, box: int = 0, slide: str = ""):
        import ipywidgets as widgets

        self.slides = dict(slides) if isinstance(slides, Mapping) else {"": slides}
        if not self.slides:
            raise ValueError("microscope: give at least one slide.")
        self.reference, self.mine = reference, mine
        first = slide or next(iter(self.slides))
        self.network = widgets.Dropdown(options=list(self.slides), value=first, description="network", layout={"width": "300px"})
        self.box = widgets.Dropdown(options=self._choices(first), value=box, description="box", layout={"width": "300px"})
        slider = dict(continuous_update=False, layout={"width": "360px"})
        self.alpha = widgets.FloatSlider(value=0.5, min=0, max=2, step=0.25, description="alpha", **slider)
        self.beta = widgets.FloatSlider(value=6, min=0, max=10, step=0.5, description="beta", **slider)
        self.k = widgets.IntSlider(value=10, min=1, max=30, description="k", **slider)
        again = widgets.Button(
            description="as in YOLOv8", tooltip="alpha 0.5, beta 6, k 10", layout={"width": "130px", "margin": "2px 0 0 90px"}
        )
        self.facts = widgets.HTML(layout={"margin": "6px 0 0 10px"})
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.scene = widgets.Box(layout={"width": f"{SCENE}px", "flex": "0 0 auto", "overflow": "hidden"})
        self.buttons: list = []
        self._scope = f"yolostudy-microscope-{next(_scopes)}"
        self.scene.add_class(self._scope)
        self.numbers: View
        self._busy = False

        again.on_click(lambda _: self._set_back())
        self.network.observe(lambda _: self._change_slide(), "value")
        self.box.observe(lambda _: self._show(), "value")
        for control in (self.alpha, self.beta, self.k):
            control.observe(lambda _: self._show(), "value")
        named = [self.network] if len(self.slides) > 1 else []
        controls = widgets.VBox([*named, self.box, self.alpha, self.beta, self.k, again, self.facts])
        self.widget = widgets.VBox([widgets.HBox([self.scene, controls]), self.picture])
        self._lay_out_scene()
        self._show()

    @property
    def slide(self) -> Slide:
        return self.slides[self.network.value]

    def _choices(self, name: str) -> list[tuple[str, int]]:
        one = self.slides[name]
        return [(f"{one.name(box)}, {_sides(one.truth[box])}", box) for box in range(len(one.truth))]

    def _change_slide(self) -> None:
        wanted = self.box.value
        self._busy = True  # new options move the value, which would draw twice
        self.box.options = self._choices(self.network.value)
        self.box.value = wanted if wanted is not None and wanted < len(self.slide.truth) else 0
        self._busy = False
        self._lay_out_scene()
        self._show()

    def _set_back(self) -> None:
        self._busy = True
        self.alpha.value, self.beta.value, self.k.value = 0.5, 6, 10
        self._busy = False
        self._show()

    def _lay_out_scene(self) -> None:
        """The picture, and over each box a button without a face: a click reaches the kernel without a script in the page."""
        import ipywidgets as widgets

        height, width = self.slide.image.shape[:2]
        scale = SCENE / width
        shown = widgets.Image(value=style.as_jpeg(self.slide.image), format="jpeg", width=SCENE, height=round(height * scale))
        sides = (self.slide.truth[:, 2:] - self.slide.truth[:, :2]).prod(dim=1)
        rules, self.buttons = [], []
        for number, truth in enumerate(self.slide.truth):
            button = widgets.Button(description=str(number + 1), tooltip=f"box {self.slide.name(number)}, {_sides(truth)}")
            button.add_class(f"{self._scope}-{number}")
            button.on_click(lambda _, number=number: setattr(self.box, "value", number))
            self.buttons.append(button)
            x1, y1, x2, y2 = (float(value) * scale for value in truth)
            above = 2 + int((sides > sides[number]).sum())  # a small box inside a large one must be reached too
            rules.append(
                f".{self._scope} .{self._scope}-{number}{{left:{x1:.0f}px;top:{y1:.0f}px;width:{x2 - x1:.0f}px;height:{y2 - y1:.0f}px;"
                f"z-index:{above}}}"
            )
        look = (
            f".{self._scope}{{position:relative}} .{self._scope} img{{display:block;margin:0;max-width:none;object-fit:fill}}"
            f".{self._scope} button{{position:absolute;margin:0;padding:0 3px;background:transparent;border:2px solid {style.PAPER};"
            f"box-shadow:0 0 0 1px {style.INK};color:{style.PAPER};text-shadow:0 0 3px {style.INK},0 0 3px {style.INK};font-weight:bold;"
            "line-height:18px;display:flex;align-items:flex-start;justify-content:flex-start;overflow:hidden}"
            f".{self._scope} button:hover,.{self._scope} button:focus{{background:rgba(255,255,255,0.25);outline:none}}"
            f".{self._scope} button.chosen{{border:4px solid {style.TRUTH}}}"
        )
        sheet = widgets.HTML(f"<style>{look}{''.join(rules)}</style>", layout={"display": "none"})
        self.scene.layout.height = f"{round(height * scale)}px"
        self.scene.children = [sheet, shown, *self.buttons]

    def _show(self) -> None:
        if self._busy:
            return
        exponents = dict(alpha=self.alpha.value, beta=self.beta.value, k=self.k.value)
        self.numbers = look(self.slide, self.reference, self.mine, self.box.value, **exponents)
        for number, button in enumerate(self.buttons):
            (button.add_class if number == self.box.value else button.remove_class)("chosen")
        self.facts.value = _facts(self.numbers)
        self.picture.value = style.as_png(draw_microscope(self.numbers, scene=False))

    def __repr__(self) -> str:
        return f"Microscope({len(self.slides)} slides, {len(self.slide.truth)} boxes)"

    def _repr_mimebundle_(self, **options) -> dict:
        # Where no widget can run, a stored notebook still shows the picture; the plain text holds no number that a CPU could change.
        paper = b64encode(style.as_png(draw_microscope(self.numbers))).decode()
        return {**self.widget._repr_mimebundle_(**options), "image/png": paper, "text/plain": repr(self)}


def _sides(box) -> str:
    x1, y1, x2, y2 = box.tolist()
    return f"{x2 - x1:.0f} × {y2 - y1:.0f} px"


def _facts(view: View) -> str:
    """A table of the counts, and under it what is the matter with mine."""
    rows = [("mine", view.mine)] if view.mine is not None else []
    head = "".join(
        f"<th style='padding:0 8px;text-align:right;font-weight:normal'>{name}</th>" for name in ("inside", "metric > 0", "best", "kept")
    )
    lines = [
        f"<tr><td><b>{name}</b></td>"
        + "".join(f"<td style='padding:0 8px;text-align:right'>{_counted(count)}</td>" for count in row.counts.values())
        + "</tr>"
        for name, row in [*rows, ("reference", view.reference)]
    ]
    if view.differ:
        cells = "".join(f"<td style='padding:0 8px;text-align:right'>{view.differences.get(step, '-')}</td>" for step in STEPS)
        lines.append(f"<tr><td>differ</td>{cells}</tr>")
    trouble = view.mine.trouble if view.mine is not None else {}
    told = "".join(f"<br>{FUNCTION[step]}: {html.escape(_shortened(problem, 120))}" for step, problem in trouble.items())
    return f"<table style='line-height:1.5'><tr><th></th>{head}</tr>{''.join(lines)}</table>{told}"
