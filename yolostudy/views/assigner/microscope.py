"""The assigner under a microscope: the numbers of slides.py on paper, and in the notebook with
boxes to click and sliders to move.

`draw_microscope` shows the four steps of one box. Three more pictures: `draw_targets` shows the
scores that the chosen anchors are asked for, `draw_rules` fixed rules beside the task-aligned one,
`draw_assignments` how the choice changes from network to network.
"""

from __future__ import annotations

import html
import itertools
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .slides import (
    ALPHA,
    BETA,
    FUNCTION,
    STEPS,
    Assignments,
    K,
    Row,
    Rules,
    Slide,
    View,
    assignments,
    counted,
    look,
    rules,
    slide,
)

__all__ = [
    "Microscope",
    "assignments",
    "draw_assignments",
    "draw_microscope",
    "draw_rules",
    "draw_targets",
    "look",
    "rules",
    "slide",
]

HEADINGS = {
    "candidates": "1  inside the box",
    "metric": "2  metric",
    "top": "3  the best {k}",
    "kept": "4  conflicts resolved",
}
COLOURS = {"candidates": style.CYCLE[0], "top": style.CYCLE[4], "kept": style.HIT}
MARKS = "osD^v"  # of the levels, finest first
SCENE = 320  # pixels: the picture whose boxes are clicked


# On paper
# --------------------------------------------------------------------------------------------------


@style.house()
def draw_microscope(view: View, scene: bool = True) -> style.StudyFigure:
    """The four steps of one box, mine above the reference where there is a mine, positions that
    differ ringed.

    Args:
        scene: with the whole picture and its numbered boxes above.
    """
    width, gap, left, right, heading = style.WIDTH * style.DPI, 10, 26, 8, 24
    side = (width - left - right - 3 * gap) / 4
    strip, bar, legend = (216 if scene else 0), 34, 48  # pixels: the scene, the scale of the heat, what the marks mean
    height = strip + len(view.rows) * (side + heading) + bar + (0 if scene else legend)
    figure, axes_at = drawing.by_pixel(width, height)

    heat = _heat(view)
    if scene:
        _draw_scene(axes_at(left, 4, strip - 16, strip - 16), view.slide, view.box)
        beside = left + strip + 8
        _write_summary(axes_at(beside, 4, width - beside - right, strip - 16 - legend), view)
        _draw_legend(axes_at(beside, strip - 12 - legend, width - beside - right, legend), view, columns=3)
    for number, (name, row) in enumerate(view.rows.items()):
        top = strip + number * (side + heading) + heading
        figure.text(
            15 / width,
            1 - (top + side / 2) / height,
            name,
            rotation=90,
            ha="center",
            va="center",
            weight="bold",
            fontsize=11,
        )
        for column, step in enumerate(STEPS):
            axes = axes_at(left + column * (side + gap), top, side, side)
            _draw_step(axes, view, row, step, heat, side)
            axes.set_title(_heading(view, row, step), fontsize=9.5, pad=4)
    bottom = strip + len(view.rows) * (side + heading)
    scale = figure.colorbar(
        heat, cax=axes_at(left + side + gap + 8, bottom + 8, side - 16, 9), orientation="horizontal"
    )
    scale.ax.tick_params(labelsize=8, length=2, pad=2)
    scale.set_ticks(
        [0, heat.norm.vmax / 2, heat.norm.vmax], labels=["0", f"{heat.norm.vmax / 2:.2g}", f"{heat.norm.vmax:.2g}"]
    )
    scale.outline.set_visible(False)
    if not scene:
        _draw_legend(axes_at(left, bottom + bar, width - left - right, legend), view, columns=4)
    return figure


def _heat(view: View) -> ScalarMappable:
    seen = np.concatenate([row.metric[np.isfinite(row.metric)] for row in view.rows.values()])
    return ScalarMappable(Normalize(0, float(seen.max()) if seen.size and seen.max() > 0 else 1.0), style.HEAT_ON_PAPER)


def _window(view: View) -> tuple[float, float, float]:
    """Middle and half side of the square that the panels show: the box with room around it, and
    what a wrong assigner takes outside it.
    """
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
    # 22 greys leave colours of the palette to the marks
    grey = image.astype(np.float32).mean(axis=2, keepdims=True) // 12 * 12
    return np.repeat(140 + grey * 0.45, 3, axis=2).clip(0, 255).astype(np.uint8)


def _show(axes, image: np.ndarray) -> None:
    """The image as ground, in a thin line instead of axes."""
    drawing.ground(axes, image, interpolation="nearest")
    axes.set(xticks=[], yticks=[], facecolor=style.GROUND)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.FAINT, linewidth=0.8)


def _levels(slide: Slide) -> list[tuple[float, str, np.ndarray]]:
    """Stride, mark and members (A,) of each level, finest first."""
    strides = slide.strides.numpy()
    return [(stride, MARKS[number % len(MARKS)], strides == stride) for number, stride in enumerate(np.unique(strides))]


def _mark_size(slide: Slide, pixels: float, share: float = 0.42, largest: float = 9) -> float:
    """How many points a mark of the finest level is across: a share of the spacing there.

    `pixels`: on paper for one of the image.
    """
    return float(np.clip(float(slide.strides.min()) * pixels * share, 2, largest)) * 72 / style.DPI


def _mark(
    axes, slide: Slide, anchors: np.ndarray, size: float, values: np.ndarray | None = None, wider: float = 0, **options
) -> None:
    """Mark the `anchors`, indices or a mask, each level by its own sign and the coarser the larger.

    Args:
        size: points across for the finest level; `wider` is added for every level alike.
        values: (A,) what decides the colour.
    """
    indices = anchors.nonzero()[0] if anchors.dtype == bool else anchors
    for number, (_, mark, level) in enumerate(_levels(slide)):
        here = indices[level[indices]]
        look = dict(marker=mark) | ({} if values is None else dict(c=values[here])) | options
        axes.scatter(*slide.anchors.numpy()[here].T, s=(size * (1 + 0.4 * number) + wider) ** 2, **look)


def _draw_scene(axes, slide: Slide, box: int) -> None:
    _show(axes, slide.image)
    for number, truth in enumerate(slide.truth):
        chosen = number == box
        drawing.frame(
            axes, truth, style.TRUTH if chosen else style.PAPER, linewidth=2.4 if chosen else 1.2, zorder=2 + chosen
        )
        label = dict(color=style.PAPER, backgroundcolor=style.TRUTH if chosen else style.INK, fontsize=8, weight="bold")
        text = axes.text(
            float(truth[0]) + 1, float(truth[1]) + 1, f"{number + 1}", va="top", ha="left", zorder=5, **label
        )
        text.get_bbox_patch().set(boxstyle="square,pad=0.15", linewidth=0)


def _write_summary(axes, view: View) -> None:
    axes.axis("off")
    height = axes.figure.bbox.height * axes.get_position().height
    axes.set(xlim=(0, 1), ylim=(height, 0))  # pixels downwards
    axes.text(0, 12, f"box {view.slide.title(view.box)}", weight="bold", fontsize=12, va="center")
    axes.text(
        0, 37, f"metric = score$^{{{view.alpha:g}}}$ · IoU$^{{{view.beta:g}}}$,  k = {view.k}", fontsize=10, va="center"
    )
    if view.mine is None:
        return
    total = view.positions_that_differ
    told = (
        ["mine and the reference agree" if not total else f"mine and the reference differ at {total} positions"]
        if view.differ
        else []
    )
    told += [f"{FUNCTION[step]}: {problem}" for step, problem in view.mine.trouble.items()]
    for line, text in enumerate(told):
        axes.text(0, 62 + 19 * line, _shortened(text, 86), fontsize=9, va="center")


def _heading(view: View, row: Row, step: str) -> str:
    heading, count = HEADINGS[step].format(k=view.k), row.counts[step]
    return heading if count is None else f"{heading}: {count}{' above 0' if step == 'metric' else ''}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _draw_step(axes, view: View, row: Row, step: str, heat: ScalarMappable, side: float) -> None:
    slide, (x, y, half) = view.slide, _window(view)
    _show(axes, _pale(slide.image))
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    for number, truth in enumerate(slide.truth):
        if number != view.box:
            drawing.frame(axes, truth, style.FAINT, linewidth=1, linestyle=(0, (3, 2)), zorder=1)
    drawing.frame(axes, slide.truth[view.box], style.TRUTH, linewidth=2, zorder=2)
    if step in row.trouble:
        _say(axes, row.trouble[step])
        return
    size = _mark_size(slide, side / (2 * half))
    taken = {"candidates": row.candidates, "metric": row.metric != 0, "top": row.top, "kept": row.kept}[step]
    _mark(axes, slide, ~taken, 0.4 * size, c=style.FAINT, linewidths=0, zorder=3)
    # drawn from the smallest metric up: the highest must not hide under its neighbours
    order = np.flatnonzero(taken)[np.argsort(row.metric[taken], kind="stable")]
    face = dict(values=row.metric, cmap=heat.cmap, norm=heat.norm) if step == "metric" else dict(c=COLOURS[step])
    _mark(axes, slide, order, size, edgecolors=style.INK, linewidths=0.5, zorder=4, **face)
    if step == "kept":
        _mark(axes, slide, row.lost, size, marker="x", c=style.INK, linewidths=1.3, zorder=5)
        for anchor in np.flatnonzero(row.lost & (row.owner >= 0)):
            label = dict(
                xytext=(size * 0.5, size * 0.3), textcoords="offset points", fontsize=7, weight="bold", zorder=7
            )
            axes.annotate(f"{row.owner[anchor] + 1}", slide.anchors[anchor].tolist(), **label)
    if step in view.differ:
        ring = dict(marker="o", facecolors="none", edgecolors=style.FALSE_ALARM, linewidths=1.4, zorder=6)
        _mark(axes, slide, view.differ[step], size, wider=5, **ring)


def _say(axes, text: str) -> None:
    """Words where a step gave nothing to draw."""
    ground = dict(boxstyle="round,pad=0.5", facecolor=style.PAPER, edgecolor=style.FALSE_ALARM)
    look = dict(transform=axes.transAxes, ha="center", va="center", fontsize=8.5, bbox=ground, zorder=8)
    axes.text(0.5, 0.5, textwrap.fill(_shortened(text, 120), 25), **look)


def _draw_legend(axes, view: View, columns: int) -> None:
    axes.axis("off")
    ink = dict(linestyle="none", markeredgecolor=style.INK, markeredgewidth=0.5)
    entries = [
        Line2D(
            [],
            [],
            marker=mark,
            markerfacecolor=style.PAPER,
            markersize=5 + 1.8 * number,
            label=f"stride {stride:g}",
            **ink,
        )
        for number, (stride, mark, _) in enumerate(_levels(view.slide))
    ]
    entries += [
        Line2D([], [], marker="o", markerfacecolor=COLOURS[step], markersize=6, label=label, **ink)
        for step, label in (("candidates", "candidate"), ("top", f"one of the best {view.k}"), ("kept", "kept"))
    ]
    entries.append(
        Line2D(
            [], [], marker="x", color=style.INK, linestyle="none", markersize=6, label="lost to the box of that number"
        )
    )
    if view.mine is not None:
        ring = dict(
            marker="o", markerfacecolor="none", markeredgecolor=style.FALSE_ALARM, markeredgewidth=1.5, linestyle="none"
        )
        entries.append(Line2D([], [], markersize=10, label="mine and the reference differ", **ring))
    axes.legend(
        handles=entries,
        loc="center left",
        ncols=columns,
        columnspacing=1.6,
        handletextpad=0.4,
        borderaxespad=0,
        fontsize=9,
    )


@style.house()
def draw_targets(views: Mapping[str, View]) -> style.StudyFigure:
    """For each view, the reference's chosen anchors as bars: their metric, and the score that they
    are asked for.
    """
    figure, axes = style.figure(1, len(views), squeeze=False, sharey=True, height=2.6)
    for axis, (name, view) in zip(axes[0], views.items()):
        row = view.reference
        place = np.arange(len(row.chosen)) + 1
        axis.bar(place - 0.2, row.metric[row.chosen], width=0.4, color=style.FAINT, label="metric")
        axis.bar(place + 0.2, row.targets, width=0.4, color=style.HIT, label="target score")
        best = float(row.overlaps[row.chosen].max(initial=0))
        axis.axhline(best, color=style.TRUTH, linewidth=1.2, linestyle=(0, (4, 2)), label="best overlap")
        axis.set(
            title=name,
            xlabel="chosen anchor, best first",
            ylim=(0, 1.02),
            xticks=place[::3],
            xlim=(0.3, max(view.k, 1) + 0.7),
        )
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("0 to 1")
    axes[0, 0].legend(loc="upper right")
    return figure


@style.house()
def draw_rules(numbers: Rules) -> style.StudyFigure:
    """The three rules side by side: one box, one picture, three answers."""
    width, gap, heading, foot = style.WIDTH * style.DPI, 12, 26, 34
    side = (width - 16 - 2 * gap) / 3
    figure, axes_at = drawing.by_pixel(width, heading + side + foot)
    slide, box = numbers.slide, numbers.slide.truth[numbers.box]
    x1, y1, x2, y2 = box.tolist()
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) * 0.75
    size = _mark_size(slide, side / (2 * half))
    for column, (name, taken) in enumerate(numbers.taken.items()):
        axes = axes_at(8 + column * (side + gap), heading, side, side)
        _show(axes, _pale(slide.image))
        axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        drawing.frame(axes, box, style.TRUTH, linewidth=2, zorder=2)
        _mark(axes, slide, ~taken, 0.4 * size, c=style.FAINT, linewidths=0, zorder=3)
        _mark(axes, slide, taken, size, c=style.HIT, edgecolors=style.INK, linewidths=0.5, zorder=4)
        axes.set_title(f"{name}: {int(taken.sum())}", fontsize=10.5, pad=5)
    look = dict(linestyle="none", color=style.HIT, markeredgecolor=style.INK, markeredgewidth=0.5)
    marks = [Line2D([], [], marker=mark, label=f"stride {stride:g}", **look) for stride, mark, _ in _levels(slide)]
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), borderaxespad=0.4)
    return figure


@style.house()
def draw_assignments(numbers: Assignments) -> style.StudyFigure:
    """One column for each slide: above, the picture with each box's anchors in its colour; below,
    its candidates by overlap and score.

    The grey lines below join points of one metric: 0.001, 0.01, 0.1, 0.5.
    """
    width, gap, left, heading, between, foot = style.WIDTH * style.DPI, 12, 52, 26, 34, 46
    columns = len(numbers.slides)
    side = (width - left - 8 - (columns - 1) * gap) / columns
    figure, axes_at = drawing.by_pixel(width, heading + side + between + side * 0.8 + foot)
    overlap, score = np.meshgrid(np.linspace(0.001, 1, 120), np.linspace(0.001, 1, 120))
    for column, (name, one) in enumerate(numbers.slides.items()):
        x = left + column * (side + gap)
        axes, plane = axes_at(x, heading, side, side), axes_at(x, heading + side + between, side, side * 0.8)
        _show(axes, _pale(one.image))
        axes.set_title(name, fontsize=10.5, pad=5)
        lines = plane.contour(
            overlap, score, score**ALPHA * overlap**BETA, (0.001, 0.01, 0.1, 0.5), colors=style.FAINT, linewidths=0.7
        )
        plane.clabel(lines, fmt="%g", fontsize=7)
        plane.set(
            xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="IoU (complete)", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1)
        )
        plane.xaxis.set_major_formatter("{x:g}")
        plane.yaxis.set_major_formatter("{x:g}")
        plane.set_ylabel("score of the true class") if column == 0 else plane.set_yticklabels([])
        size = _mark_size(one, side / one.image.shape[1], share=0.5, largest=8)
        for box, row in enumerate(numbers.rows[name]):
            look = dict(color=style.cycle(box), edgecolors=style.INK, linewidths=0.4)
            drawing.frame(axes, one.truth[box], style.cycle(box), linewidth=1.6, zorder=2)
            _mark(axes, one, row.kept, size, zorder=3, **look)
            rest, faint = row.candidates & ~row.kept, dict(color=style.cycle(box), alpha=0.35, linewidths=0)
            plane.scatter(row.overlaps[rest], row.scores[rest], s=7, zorder=3, clip_on=False, **faint)
            plane.scatter(row.overlaps[row.kept], row.scores[row.kept], s=20, zorder=4, clip_on=False, **look)
    return figure


# In the notebook
# --------------------------------------------------------------------------------------------------

_scopes = itertools.count(1)


class Microscope(Panel):
    """A picture whose boxes can be clicked, a choice of network, and sliders for alpha, beta and k;
    below, what `draw_microscope` draws.

    Args:
        slides: one slide, or several by name, for example one picture seen by several networks.
        reference, mine: as in `look`.

    `numbers` is the `View` that is shown now. Where no widget can run, the stored notebook shows
    the same on paper.
    """

    def __init__(self, slides: Slide | Mapping[str, Slide], reference, mine=None, box: int = 0, slide: str = ""):
        import ipywidgets as widgets

        self.slides = dict(slides) if isinstance(slides, Mapping) else {"": slides}
        if not self.slides:
            raise ValueError("microscope: give at least one slide.")
        self.reference, self.mine = reference, mine
        first = slide or next(iter(self.slides))
        self.network = widgets.Dropdown(
            options=list(self.slides), value=first, description="network", layout={"width": "300px"}
        )
        self.box = widgets.Dropdown(options=self._choices(), value=box, description="box", layout={"width": "300px"})
        slider = dict(continuous_update=False, layout={"width": "360px"})
        self.alpha = widgets.FloatSlider(value=ALPHA, min=0, max=2, step=0.25, description="alpha", **slider)
        self.beta = widgets.FloatSlider(value=BETA, min=0, max=10, step=0.5, description="beta", **slider)
        self.k = widgets.IntSlider(value=K, min=1, max=30, description="k", **slider)
        again = widgets.Button(description="as in YOLOv8", layout={"width": "130px", "margin": "2px 0 0 90px"})
        again.tooltip = f"alpha {ALPHA:g}, beta {BETA:g}, k {K}"
        self.facts = widgets.HTML(layout={"margin": "6px 0 0 10px"})
        self.scene = widgets.Box(layout={"width": f"{SCENE}px", "flex": "0 0 auto", "overflow": "hidden"})
        self._scope = f"yolostudy-microscope-{next(_scopes)}"
        self.scene.add_class(self._scope)
        self._lay_out_scene()

        again.on_click(lambda _: self._set_back())
        self.network.observe(lambda _: self._change_slide(), "value")
        named = [self.network] if len(self.slides) > 1 else []
        controls = [self.box, self.alpha, self.beta, self.k]
        self._begin([widgets.HBox([self.scene, widgets.VBox([*named, *controls, again, self.facts])])], controls)

    @property
    def slide(self) -> Slide:
        return self.slides[self.network.value]

    def _choices(self) -> list[tuple[str, int]]:
        return [(self.slide.title(box), box) for box in range(len(self.slide.truth))]

    def _change_slide(self) -> None:
        wanted = self.box.value
        with self._at_once():
            self.box.options = self._choices()
            self.box.value = wanted if wanted is not None and wanted < len(self.slide.truth) else 0
            self._lay_out_scene()

    def _set_back(self) -> None:
        with self._at_once():
            self.alpha.value, self.beta.value, self.k.value = ALPHA, BETA, K

    def _lay_out_scene(self) -> None:
        """The picture, and over each box a button without a face: a click reaches the kernel
        without a script in the page.
        """
        import ipywidgets as widgets

        height, width = self.slide.image.shape[:2]
        scale = SCENE / width
        shown = widgets.Image(
            value=style.as_jpeg(self.slide.image), format="jpeg", width=SCENE, height=round(height * scale)
        )
        areas = (self.slide.truth[:, 2:] - self.slide.truth[:, :2]).prod(dim=1)
        places, self.buttons = [], []
        for number, truth in enumerate(self.slide.truth):
            button = widgets.Button(description=str(number + 1), tooltip=f"box {self.slide.title(number)}")
            button.add_class(f"{self._scope}-{number}")
            button.on_click(lambda _, number=number: setattr(self.box, "value", number))
            self.buttons.append(button)
            x1, y1, x2, y2 = (float(value) * scale for value in truth)
            above = 2 + int((areas > areas[number]).sum())  # a small box inside a large one must be reached too
            places.append(
                f".{self._scope} .{self._scope}-{number}"
                f"{{left:{x1:.0f}px;top:{y1:.0f}px;width:{x2 - x1:.0f}px;height:{y2 - y1:.0f}px;z-index:{above}}}"
            )
        look = (
            f".{self._scope}{{position:relative}} .{self._scope} "
            f"img{{display:block;margin:0;max-width:none;object-fit:fill}}"
            f".{self._scope} button{{position:absolute;margin:0;padding:0 3px;background:transparent;border:2px "
            f"solid {style.PAPER};"
            f"box-shadow:0 0 0 1px {style.INK};color:{style.PAPER};text-shadow:0 0 3px {style.INK},0 0 3px "
            f"{style.INK};font-weight:bold;"
            "line-height:18px;display:flex;align-items:flex-start;justify-content:flex-start;overflow:hidden}"
            f".{self._scope} button:hover,.{self._scope} button:focus{{background:rgba(255,255,255,0.25);outline:none}}"
            f".{self._scope} button.chosen{{border:4px solid {style.TRUTH}}}"
        )
        sheet = widgets.HTML(f"<style>{look}{''.join(places)}</style>", layout={"display": "none"})
        self.scene.layout.height = f"{round(height * scale)}px"
        self.scene.children = [sheet, shown, *self.buttons]

    def _look(self):
        exponents = dict(alpha=self.alpha.value, beta=self.beta.value, k=self.k.value)
        view = look(self.slide, self.reference, self.mine, self.box.value, **exponents)
        return view, draw_microscope(view, scene=False)

    def _draw(self) -> None:
        super()._draw()
        for number, button in enumerate(self.buttons):
            (button.add_class if number == self.box.value else button.remove_class)("chosen")
        self.facts.value = _facts(self.numbers)

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/png": style.as_png(draw_microscope(self.numbers))}

    def __repr__(self) -> str:
        return f"Microscope({len(self.slides)} slides, {len(self.slide.truth)} boxes)"


def _facts(view: View) -> str:
    """A table of the counts, and under it what is the matter with mine."""
    rows = [[name, *map(counted, row.counts.values())] for name, row in view.rows.items()]
    if view.differ:
        rows.append(["differ", *(counted(view.differences.get(step)) for step in STEPS)])
    trouble = view.mine.trouble if view.mine is not None else {}
    told = "".join(
        f"<br>{FUNCTION[step]}: {html.escape(_shortened(problem, 120))}" for step, problem in trouble.items()
    )
    return drawing.table(("", "inside", "metric > 0", "best", "kept"), rows) + told
