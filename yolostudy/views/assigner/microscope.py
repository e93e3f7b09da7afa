"""The assigner under a microscope: boxes to click, and sliders for alpha, beta and k."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .slides import Slide
from .step_pictures import draw_microscope, shortened
from .steps import ALPHA, BETA, FUNCTION, STEPS, AssignmentComparison, K, assign_box, counted

SCENE = 320  # pixels: width of the picture whose boxes are clicked

_scopes = itertools.count(1)  # one CSS class for each microscope of a page


class Microscope(Panel):
    """A widget: a picture whose boxes can be clicked, over what `draw_microscope` draws.

    `numbers` is the `AssignmentComparison` that is shown now. Where no widget can run, the stored
    notebook shows the same on paper.

    Args:
        slides: one slide, or several by name, for example one picture seen by several networks.
        reference, mine: as in `assign_box`.
        box: the first to show. slide: the name of the first to show.
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
        """Lay a transparent button over each box of the picture.

        So a click reaches the kernel without a script in the page.
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
        parameters = dict(alpha=self.alpha.value, beta=self.beta.value, k=self.k.value)
        found = assign_box(self.slide, self.reference, self.mine, self.box.value, **parameters)
        return found, draw_microscope(found, scene=False)

    def _draw(self) -> None:
        super()._draw()
        for number, button in enumerate(self.buttons):
            (button.add_class if number == self.box.value else button.remove_class)("chosen")
        self.facts.value = _facts(self.numbers)

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/png": style.as_png(draw_microscope(self.numbers))}

    def __repr__(self) -> str:
        return f"Microscope({len(self.slides)} slides, {len(self.slide.truth)} boxes)"


def _facts(found: AssignmentComparison) -> str:
    """A table of the counts, and under it the trouble with mine."""
    rows = [[name, *map(counted, own.counts.values())] for name, own in found.by_name.items()]
    if found.differ:
        rows.append(["differ", *(counted(found.differences.get(step)) for step in STEPS)])
    trouble = found.mine.trouble if found.mine is not None else {}
    told = "".join(f"<br>{FUNCTION[step]}: {html.escape(shortened(problem, 120))}" for step, problem in trouble.items())
    return drawing.table(("", "inside", "metric > 0", "best", "kept"), rows) + told
