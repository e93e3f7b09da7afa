"""Pictures, numbers and microscopes: every picture of the course is drawn here, and each gives its numbers as well.

Nothing is imported until it is asked for, so `import yolostudy.lens` costs nothing.
"""

from __future__ import annotations

import importlib

_HOME = {  # public name -> the module that defines it
    "compare": "painter",
    "paint": "painter",
    "paint_to_folder": "painter",
    "sheet": "painter",
    "Picture": "style",
    "browse": "gallery",
    "contact_sheet": "gallery",
    "plot_runs": "curves",
    "LiveCurves": "curves",
    "Node": "network_map",
    "draw_map": "network_map",
    "clickable_map": "network_map",
    "yolo_nodes": "network_map",
    "live_map": "network_map",
    "LiveMap": "network_map",
    "live_shapes": "network_map",
    "record_shapes": "differences",
    "first_difference": "differences",
    "ShapeTable": "differences",
    "compare_maps": "differences",
    "draw_differences": "differences",
    "grow": "receptive",
    "draw_growth": "receptive",
    "PoolBench": "receptive",
    "pull": "receptive",
    "draw_pulls": "receptive",
    "feature_sheet": "receptive",
    "activation_curves": "receptive",
    "draw_activations": "receptive",
    "members": "family",
    "draw_family": "family",
    "Microscope": "microscope",
    "draw_microscope": "microscope",
    "anchor_survey": "box_lab",
    "draw_anchors": "box_lab",
    "DflBench": "dfl_bench",
    "draw_bench": "dfl_bench",
    "read_distributions": "dfl_bench",
    "IoUPlayground": "iou_playground",
    "compare_boxes": "iou_playground",
    "descend": "iou_playground",
    "draw_comparison": "iou_playground",
    "draw_descents": "iou_playground",
    "draw_overlaps": "iou_playground",
    "SuppressionBench": "suppression",
    "draw_suppression": "suppression",
    "suppress": "suppression",
    "attribute": "attribution",
    "breakdown": "attribution",
    "draw_shares": "attribution",
    "measure_units": "attribution",
    "draw_units": "attribution",
    "distribution_floor": "attribution",
    "ShareBench": "attribution",
    "LossTape": "attribution",
    "draw_tree": "call_tree",
    "draw_chain": "call_tree",
    "CallTree": "call_browser",
    "first_divergence": "divergence",
    "draw_divergence": "divergence",
    "copy_weights": "divergence",
    "shapes": "shape_table",
    "step_memory": "memory",
    "predict_memory": "memory",
    "measure_memory": "memory",
    "what_fits": "memory",
    "draw_memory": "memory",
    "draw_what_fits": "memory",
    "plan_rate": "training_rate",
    "RatePlan": "training_rate",
    "draw_rates": "training_rate",
    "RateDesigner": "training_rate",
    "compare_runs": "training_views",
    "draw_runs": "training_views",
    "RunBench": "training_views",
    "RunTape": "training_views",
    "GradientRecorder": "training_gradients",
    "draw_gradients": "training_gradients",
    "what_moved": "training_gradients",
    "draw_movement": "training_gradients",
    "operate": "training_quality",
    "draw_operation": "training_quality",
    "ThresholdBench": "training_quality",
    "Album": "training_quality",
    "draw_album": "training_quality",
    "AlbumBench": "training_quality",
    "NaNMicroscope": "nan_microscope",
    "Finding": "nan_finding",
    "draw_finding": "nan_picture",
    "Recorder": "recorder",
    "NonFiniteStep": "recorder",
    "flight_recorder": "recorder",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.lens has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
