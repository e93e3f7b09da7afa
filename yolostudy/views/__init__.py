"""The pictures and widgets of this course, one folder for each exercise module.

Nothing is imported until it is asked for, so `import yolostudy.views` costs nothing.
"""

from __future__ import annotations

import importlib

_OFFERED = {  # module -> the public names that it defines
    "columns": "LOSS_PARTS",
    "detections.comparison": "compare_detections",
    "detections.gallery": "browse contact_sheet",
    "detections.joints": "as_keypoints skeleton_of",
    "detections.painter": "paint",
    "detections.sheet": "paint_to_folder sheet",
    "blocks.activations": "activation_curves draw_activations",
    "blocks.feature_maps": "feature_sheet",
    "blocks.input_gradient": "draw_input_gradients input_gradient",
    "blocks.receptive_field": "PoolBench draw_receptive_field receptive_field",
    "network.family": "FamilyTable draw_family family_members",
    "network.memory_table": "draw_what_fits what_fits",
    "network.network_map": "LiveMap clickable_map draw_network",
    "network.nodes": "Node network_shapes yolo_nodes",
    "boxes.anchors": "anchor_survey draw_anchors",
    "boxes.box_regression": "draw_box_regression regress_box",
    "boxes.distributions": "DflBench draw_distributions read_distributions",
    "boxes.iou_playground": "IoUPlayground compare_boxes draw_box_comparison draw_overlaps",
    "boxes.suppression": "SuppressionBench draw_suppression suppress",
    "assigner.assignments": "assign_all draw_assignments",
    "assigner.microscope": "Microscope",
    "assigner.rules": "compare_rules draw_rules",
    "assigner.slides": "make_slide",
    "assigner.step_pictures": "draw_microscope draw_target_scores",
    "assigner.steps": "assign_box",
    "losses.attribution": "attribute_loss loss_breakdown",
    "losses.padding": "draw_padding",
    "losses.shares": "ShareBench draw_loss_shares draw_positive_weights",
    "losses.tape": "LossTape draw_loss_steps",
    "losses.two_bins": "distribution_floor draw_two_bins two_bins",
    "losses.units": "draw_units measure_units",
    "training.album": "Album AlbumBench draw_album",
    "training.curves": "LiveCurves plot_runs",
    "training.gradients": "GradientRecorder draw_gradients",
    "training.movement": "draw_movement what_moved",
    "training.rate": "RateDesigner RatePlan draw_rates plan_rate",
    "training.runs": "RunBench RunTape compare_runs draw_runs",
    "metrics.thresholds": "ThresholdBench draw_operating_point operating_point",
    "weights.key_board": "KeyBoard draw_keys",
    "weights.key_map": "map_keys",
    "distill.answers": "TeacherAnswers",
    "distill.class_bars": "draw_class_bars",
    "distill.distillation": "DistillationLens distillation_numbers draw_distillation",
    "distill.study_table": "draw_study read_study",
    "pose.similarity": "draw_oks draw_sigma_reach oks_radius",
    "pose.oks_bench": "OKSBench compare_keypoints draw_keypoint_comparison",
    "pose.flips": "draw_flip",
    "pose.errors": "draw_keypoint_errors",
    "pose.two_answers": "draw_answers",
    "heatmaps.maps": "draw_heatmaps",
    "heatmaps.peaks": "HeatmapBench draw_peaks meeting_peaks",
    "heatmaps.tags": "draw_tags tag_forces",
    "heatmaps.groups": "draw_groups",
    "engine.warmup": "draw_warmup",
    "engine.processes": "draw_processes",
}
_HOME = {name: module for module, names in _OFFERED.items() for name in names.split()}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.views has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
