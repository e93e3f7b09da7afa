"""What the pictures of the loss have in common: a grey, and how they write numbers."""

from __future__ import annotations

import math

GREY = "#c9ced8"  # what is not foreground: the background, other bins, padding


def short(value: float) -> str:
    """Three digits, with a real minus sign."""
    if not math.isfinite(value):
        return str(value)
    text = "0" if abs(value) < 5e-4 else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")
