"""Lenses for any torch code: who called whom, where a NaN was born, in which layer two networks
part, what memory holds.

Nothing is imported until it is asked for, so `import yolostudy.lens` costs nothing.
"""

from __future__ import annotations

import importlib

_HOME = {  # public name -> the module that defines it
    "record_shapes": "modules.differences",
    "first_difference": "modules.differences",
    "ShapeTable": "modules.differences",
    "compare_maps": "modules.differences",
    "draw_differences": "modules.differences",
    "draw_tree": "calls.tree",
    "draw_chain": "calls.tree",
    "CallTree": "calls.browser",
    "trace": "calls.browser",
    "first_divergence": "modules.divergence",
    "draw_divergence": "modules.divergence",
    "copy_weights": "modules.divergence",
    "shapes": "modules.shape_table",
    "step_memory": "modules.memory",
    "predict_memory": "modules.memory",
    "measure_memory": "modules.memory",
    "draw_memory": "modules.memory",
    "NaNMicroscope": "nan.microscope",
    "Finding": "nan.finding",
    "draw_finding": "nan.picture",
    "Recorder": "nan.recorder",
    "NonFiniteStep": "nan.recorder",
    "flight_recorder": "nan.trainers",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.lens has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
