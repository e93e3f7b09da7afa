"""The predictions of a network on the same pictures, over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...canvas import style
from ...canvas.panel import Panel
from ..detections.painter import Painted, paint
from ..detections.sheet import GAP, sheet


class Album:
    """The same pictures, painted after several epochs.

    Args:
        pictures: (H, W, 3) uint8 each. truths: (m, 5) for each, class x1 y1 x2 y2.
        score_threshold: predictions below it are neither painted nor counted.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        truths: Sequence,
        class_names: Sequence[str] | None = None,
        score_threshold: float = 0.25,
    ):
        self.pictures, self.truths = list(pictures), list(truths)
        self.class_names, self.score_threshold = class_names, score_threshold
        self.pages: dict[str, list[Painted]] = {}

    def add(self, title: str, predictions: Sequence) -> None:
        """Paint the predictions of a network on each picture.

        Args:
            title: such as "epoch 3"; the page of an earlier title is painted anew.
            predictions: (n, 6) for each picture, x1 y1 x2 y2 score class.
        """
        if len(predictions) != len(self.pictures):
            raise ValueError(
                f"{len(predictions)} predictions for {len(self.pictures)} pictures. Give one table for each picture."
            )
        options = dict(score_threshold=self.score_threshold, labels=False, side=320)
        shown = zip(self.pictures, predictions, self.truths, strict=True)
        self.pages[title] = [
            paint(picture, found, truth, self.class_names, **options) for picture, found, truth in shown
        ]

    @property
    def numbers(self) -> dict[str, dict[str, int]]:
        """Title -> the sums over the pictures: truths, hits, misses, false_alarms."""
        names = ("truths", "hits", "misses", "false_alarms")
        return {
            title: {name: sum(getattr(one, name) for one in page) for name in names}
            for title, page in self.pages.items()
        }


def draw_album(album: Album, columns: Mapping[str, str] | Sequence[str] | None = None) -> style.Picture:
    """A row for each picture, a column for each title with its sums.

    Args:
        columns: the titles to show, in this order; by default all of them.
    """
    titles = list(album.pages if columns is None else columns)
    if not titles:
        raise ValueError("the album has no page yet. Add one with add(title, predictions).")
    numbers = album.numbers
    heads = [f"{title}: {numbers[title]['hits']} of {numbers[title]['truths']} hit" for title in titles]
    rows = [[album.pages[title][index] for title in titles] for index in range(len(album.pictures))]
    first = sheet(rows[0], len(titles), heads)
    rest = [sheet(row, len(titles)) for row in rows[1:]]
    return style.Picture(
        np.concatenate([first, *(part[GAP:] for part in rest)]), {title: numbers[title] for title in titles}
    )


class AlbumBench(Panel):
    """A widget: a slider through the pages of an album; `numbers` holds the title and its sums."""

    def __init__(self, album: Album):
        import ipywidgets as widgets

        if not album.pages:
            raise ValueError("the album has no page yet. Add one with add(title, predictions).")
        self.album = album
        options = list(album.pages)
        self.page = widgets.SelectionSlider(
            options=options, value=options[-1], description="after", layout={"width": "500px"}
        )
        self.picture = widgets.Image(format="jpeg", layout={"max_width": "900px"})
        self._begin([self.page], [self.page], self.picture)

    def _draw(self) -> None:
        title = self.page.value
        self.numbers = {"title": title, **self.album.numbers[title]}
        shown = self.album.pages[title]
        names = [f"{one.hits} hit, {one.misses} missed, {one.false_alarms} false" for one in shown]
        self.picture.value = style.as_jpeg(sheet(shown, len(shown), names))

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/jpeg": style.as_jpeg(draw_album(self.album).image)}
