"""What moves in a notebook: controls over a picture, and a figure that is drawn again in its place."""

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
    """Controls over a picture. Moving a control draws anew; `numbers` says what is shown now.

    A class built on this makes its controls, calls `_begin`, and gives `_look() -> (numbers,
    figure)`. Where it shows something other than that figure, it has its own `_draw`, which sets
    `numbers`; where a stored notebook is to hold another picture, its own `_on_paper`.
    """

    _still = True  # nothing is drawn yet

    def _begin(self, rows: Sequence, controls: Sequence, shown=None) -> None:
        """Show `rows` of widgets over the picture, and draw anew whenever a value of `controls`
        changes.

        Args:
            shown: a widget in place of the picture.
        """
        import ipywidgets as widgets

        if shown is None:
            shown = self.picture = widgets.Image(format="png", layout={"max_width": "900px"})
        self.message = widgets.HTML()
        self._still = False
        self._draw()  # the first time an error is raised, because the cell that made this can show it
        for control in controls:
            control.observe(lambda _: self._redraw(), "value")
        self.widget = widgets.VBox([*rows, shown, self.message])

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Several controls move and the picture is drawn once."""
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
        """The picture for where no widget can run, by its kind."""
        return {"image/png": style.as_png(self.figure)}

    def _redraw(self) -> None:
        if self._still:
            return
        try:
            self._draw()
            self.message.value = ""
        except Exception as error:
            # Inside a widget an exception would be lost, and the picture would silently stay what
            # it was.
            self.message.value = f"<b>Not drawn.</b> {html.escape(in_words(error))}"

    def __repr__(self) -> str:
        return type(self).__name__

    def _repr_mimebundle_(self, **options) -> dict:
        # A notebook stores the picture, not the widget's state; the plain text holds no number that
        # a CPU could change, nbval compares it.
        paper = {kind: b64encode(content).decode() for kind, content in self._on_paper().items()}
        return {**self.widget._repr_mimebundle_(**options), **paper, "text/plain": repr(self)}


class InPlace:
    """A figure that is drawn again in its place while a cell runs. In a terminal nothing is drawn.

    Args:
        pause: least seconds between two drawings. It grows where drawing is slow, to `patience`
            times what a drawing takes.
    """

    def __init__(self, pause: float, patience: float):
        self.pause, self.patience = pause, patience
        self._handle, self._drawn = None, -np.inf

    @property
    def due(self) -> bool:
        return time.monotonic() - self._drawn >= self.pause

    def show(self, draw: Callable[[], Figure]) -> None:
        """Draw now, whether it is due or not."""
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
