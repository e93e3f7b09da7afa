"""An aircraft with its four keypoints, and what every picture of this folder is held to."""

import numpy as np

from yolostudy.canvas import style

BOX = (30.0, 20.0, 90.0, 100.0)  # 60 × 80
AIRCRAFT = np.array([[60, 20, 2], [60, 100, 2], [30, 64, 2], [90, 66, 2]], float)  # nose up


def image(height=120, width=120):
    """A gradient: noise would spend the time of these tests on its compression."""
    return np.broadcast_to(np.linspace(60, 220, width)[None, :, None], (height, width, 3)).astype(np.uint8)


def said(figure) -> str:
    """All text of a figure's axes: titles, labels, ticks that are words, notes, legends."""
    words = []
    for axes in figure.axes:
        words += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        words += [text.get_text() for text in (*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels())]
        words += [text.get_text() for text in axes.get_legend().texts] if axes.get_legend() else []
    words += [text.get_text() for legend in figure.legends for text in legend.texts]
    return "\n".join(words)


def fits(picture) -> bool:
    shown = style.as_png(picture) if hasattr(picture, "axes") else style.as_jpeg(picture.image)
    return 1000 < len(shown) <= style.MAX_BYTES
