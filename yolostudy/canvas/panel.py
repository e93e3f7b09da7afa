"""Widgets: controls over a picture, and a figure that is redrawn in its place."""

from __future__ import annotations

import html
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.figure import Figure

from . import style
from .drawing import in_words


class Panel:
    """A widget: controls over a picture. Moving a control redraws the picture.

    A subclass makes its controls, calls `_begin`, and defines `_look() -> (numbers, figure)`. Where
    it shows something else, it defines its own `_draw`, which sets `numbers`. Where a stored
    notebook shall hold another picture, it defines its own `_on_paper`.

    Attributes:
        numbers: what is shown now, as data.
    """

    _still = True  # nothing is drawn yet

    def _begin(self, rows: Sequence, controls: Sequence, shown=None) -> None:
        """Show the widget, and redraw whenever the value of a control changes.

        Args:
            rows: the widgets over the picture.
            controls: those of them whose value changes the picture.
            shown: a widget in place of the picture.
        """
        import ipywidgets as widgets

        if shown is None:
            shown = self.picture = widgets.Image(format="png", layout={"max_width": "900px"})
        self.message = widgets.HTML()
        self._still = False
        self._draw()  # here an error is raised, because the cell that made this can show it
        for control in controls:
            control.observe(lambda _: self._redraw(), "value")
        self.widget = widgets.VBox([*rows, shown, self.message])

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """A block in which several controls move, and the picture is drawn once at its end."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before
        self._redraw()

    def _look(self) -> tuple[object, Figure]:
        raise NotImplementedError

    def _draw(self) -> None:
        self.numbers, self.figure = self._look()
        self.picture.value = style.quick_png(self.figure)

    def _on_paper(self) -> dict[str, bytes]:
        """The picture for a place where no widget can run, by its MIME type."""
        return {"image/png": style.as_png(self.figure)}

    def _redraw(self) -> None:
        if self._still:
            return
        try:
            self._draw()
            self.message.value = ""
        except Exception as error:
            # Inside a widget an exception is lost, and the picture would silently stay as it was.
            self.message.value = f"<b>Not drawn.</b> {html.escape(in_words(error))}"

    def __repr__(self) -> str:
        return type(self).__name__

    def _repr_mimebundle_(self, **options) -> dict:
        # A notebook stores the picture, not the widget's state. nbval compares the plain text, so it
        # holds no number that another CPU could change.
        paper = {kind: b64encode(content).decode() for kind, content in self._on_paper().items()}
        return {**self.widget._repr_mimebundle_(**options), **paper, "text/plain": repr(self)}


class InPlace:
    """A figure that is redrawn in its place while a cell runs. In a terminal nothing is drawn.

    Args:
        pause: the least seconds between two drawings.
        patience: where drawing is slow, the pause grows to this many times its duration.
    """

    def __init__(self, pause: float, patience: float):
        self.pause, self.patience = pause, patience
        self._handle, self._drawn = None, -np.inf

    @property
    def due(self) -> bool:
        return time.monotonic() - self._drawn >= self.pause

    def show(self, draw: Callable[[], Figure]) -> None:
        """Draw now, whether a drawing is due or not."""
        if not in_notebook():
            return
        from IPython.display import display

        started = time.monotonic()
        bundle = {"image/png": style.as_png(draw()), "text/plain": "Figure"}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._drawn = time.monotonic()
        self.pause = max(self.pause, self.patience * (self._drawn - started))


def in_notebook() -> bool:
    """Whether the code runs in a kernel that can show pictures."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
