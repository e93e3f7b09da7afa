"""The pictures and widgets of this course, one folder for each exercise module.

Nothing is imported until it is asked for, so `import yolostudy.views` costs nothing.
"""

from __future__ import annotations

import importlib

_HOME = {  # public name -> the module that defines it
    "compare": "detections.painter",
    "paint": "detections.painter",
    "paint_to_folder": "detections.painter",
    "sheet": "detections.painter",
    "browse": "detections.gallery",
    "contact_sheet": "detections.gallery",
    "plot_runs": "training.curves",
    "LiveCurves": "training.curves",
    "draw_study": "distill.study_table",
    "TeacherAnswers": "distill.distillation",
    "draw_distillation": "distill.distillation",
    "DistillationLens": "distill.distillation",
    "draw_class_bars": "distill.class_bars",
    "read_study": "distill.class_bars",
    "Node": "network.network_map",
    "draw_map": "network.network_map",
    "clickable_map": "network.network_map",
    "yolo_nodes": "network.network_map",
    "live_map": "network.network_map",
    "LiveMap": "network.network_map",
    "live_shapes": "network.network_map",
    "grow": "blocks.receptive",
    "draw_growth": "blocks.receptive",
    "PoolBench": "blocks.receptive",
    "pull": "blocks.receptive",
    "draw_pulls": "blocks.receptive",
    "feature_sheet": "blocks.receptive",
    "activation_curves": "blocks.receptive",
    "draw_activations": "blocks.receptive",
    "members": "network.family",
    "draw_family": "network.family",
    "Microscope": "assigner.microscope",
    "draw_microscope": "assigner.microscope",
    "anchor_survey": "boxes.box_lab",
    "draw_anchors": "boxes.box_lab",
    "DflBench": "boxes.dfl_bench",
    "draw_bench": "boxes.dfl_bench",
    "read_distributions": "boxes.dfl_bench",
    "IoUPlayground": "boxes.iou_playground",
    "compare_boxes": "boxes.iou_playground",
    "descend": "boxes.iou_playground",
    "draw_comparison": "boxes.iou_playground",
    "draw_descents": "boxes.iou_playground",
    "draw_overlaps": "boxes.iou_playground",
    "SuppressionBench": "boxes.suppression",
    "draw_suppression": "boxes.suppression",
    "suppress": "boxes.suppression",
    "attribute": "losses.attribution",
    "breakdown": "losses.attribution",
    "draw_shares": "losses.attribution",
    "measure_units": "losses.attribution",
    "draw_units": "losses.attribution",
    "distribution_floor": "losses.attribution",
    "ShareBench": "losses.attribution",
    "LossTape": "losses.attribution",
    "what_fits": "network.memory_table",
    "draw_what_fits": "network.memory_table",
    "map_keys": "weights.key_board",
    "draw_keys": "weights.key_board",
    "KeyBoard": "weights.key_board",
    "plan_rate": "training.rate",
    "RatePlan": "training.rate",
    "draw_rates": "training.rate",
    "RateDesigner": "training.rate",
    "compare_runs": "training.runs",
    "draw_runs": "training.runs",
    "RunBench": "training.runs",
    "RunTape": "training.runs",
    "GradientRecorder": "training.gradients",
    "draw_gradients": "training.gradients",
    "what_moved": "training.gradients",
    "draw_movement": "training.gradients",
    "operate": "training.quality",
    "draw_operation": "training.quality",
    "ThresholdBench": "training.quality",
    "Album": "training.quality",
    "draw_album": "training.quality",
    "AlbumBench": "training.quality",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.views has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
