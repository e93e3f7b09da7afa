"""Lenses for any torch code: calls, the birth of a NaN, where two networks differ, memory.

Nothing is imported until it is asked for, so `import yolostudy.lens` costs nothing.
"""

from __future__ import annotations

import importlib

_HOME = {  # public name -> the module that defines it
    "trace": "calls.browser",
    "CallTree": "calls.browser",
    "draw_chain": "calls.picture",
    "NaNMicroscope": "nan.microscope",
    "draw_finding": "nan.picture",
    "flight_recorder": "nan.flight",
    "Recorder": "nan.recorder",
    "NonFiniteStep": "nan.recorder",
    "shapes": "modules.shape_table",
    "record_shapes": "modules.differences",
    "first_difference": "modules.differences",
    "ShapeTable": "modules.differences",
    "compare_maps": "modules.differences",
    "draw_differences": "modules.differences",
    "first_divergence": "modules.divergence",
    "draw_divergence": "modules.divergence_picture",
    "copy_weights": "modules.weights",
    "step_memory": "modules.memory",
    "draw_memory": "modules.memory_picture",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.lens has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
