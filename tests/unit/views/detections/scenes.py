"""Truths, predictions and pictures for the tests of the views."""

import numpy as np
from hypothesis import strategies as st

NAMES = tuple(f"A{number}" for number in range(1, 21))


def photograph(seed=0, width=160, height=160):
    """Noise on a gradient: what compresses worst."""
    noise = np.random.default_rng(seed).normal(0, 25, (height, width, 3))
    return (noise + np.linspace(60, 200, width)[None, :, None]).clip(0, 255).astype(np.uint8)


@st.composite
def boxes(draw, extra):
    """(n, 4 + extra) with boxes that often coincide or touch, and that may leave the image."""
    count = draw(st.integers(0, 8))
    rows = []
    for _ in range(count):
        x, y = draw(st.integers(-30, 150)), draw(st.integers(-30, 150))
        rows.append([x, y, x + draw(st.integers(1, 80)), y + draw(st.integers(1, 80)), *(draw(part) for part in extra)])
    return np.array(rows, float).reshape(count, 4 + len(extra))


PREDICTIONS = boxes((st.sampled_from([0.25, 0.5, 0.9, 1.0]), st.integers(0, 2)))
TRUTHS = boxes((st.integers(0, 2),)).map(lambda rows: rows[:, [4, 0, 1, 2, 3]])


def judged(seed=0, images=12, classes=2):
    """Truths on a grid, predictions near them with a score that knows something, and false alarms."""
    random = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(images):
        corner = np.array([[10.0, 10], [60, 10], [10, 60], [60, 60]])
        label = random.integers(0, classes, 4).astype(float)
        truths.append(np.column_stack([label, corner, corner + 30]))
        near = corner + random.normal(0, 4, corner.shape)
        hits = np.column_stack([near, near + 30, random.uniform(0.3, 0.99, 4), label])
        away = random.uniform(0, 60, (3, 2))
        false = np.column_stack([away, away + 30, random.uniform(0.01, 0.7, 3), random.integers(0, classes, 3)])
        predictions.append(np.concatenate([hits, false]))
    return predictions, truths
