"""The translation table: one moment of training, and what each engine calls it.

`MOMENTS` holds the names, `HERE` and `MISSING` everything else that the two founding documents
name: where this course has it, or why it has none. The pairs are checked against running code:
`traced.positions` says between which backward passes and which updates each named call lay, and
names in one row have the same positions.

Sources: YOLOv6 0.4.0 `yolov6/core/engine.py`, and its main branch for RENAMED; detectron2 0.6
`engine/train_loop.py`, `engine/defaults.py`; Ultralytics 8.4.190 `utils/callbacks/base.py`.
"""

from __future__ import annotations

import importlib

ENGINES = {  # in the order of the table's columns
    "ours": "yolostudy",
    "ultralytics": "Ultralytics 8.4",
    "yolov6": "YOLOv6 4.0",
    "yolov6_main": "YOLOv6 main",
    "detectron2": "detectron2",
}

# What main calls the methods of 4.0; all other names stayed.
RENAMED = {
    "train_before_loop": "before_train_loop",
    "train_in_loop": "train_one_epoch",
    "prepare_for_steps": "before_epoch",
    "eval_and_save": "after_epoch",
}

# moment -> what happens, and the names of ours, Ultralytics, YOLOv6 4.0 and detectron2; "" where there is none
_WRITTEN = {
    "train": ("all of it", "train", "_do_train", "train", "train"),
    "before_train": ("before the first step", "before_train", "on_train_start", "train_before_loop", "before_train"),
    "epoch": ("an epoch (in main only its steps)", "", "", "train_in_loop", ""),
    "before_epoch": ("before an epoch's first step", "before_epoch", "on_train_epoch_start", "prepare_for_steps", ""),
    "before_step": ("before the forward pass", "before_step", "on_train_batch_start", "", "before_step"),
    "run_step": ("forward, backward, update", "run_step", "", "train_in_steps", "run_step"),
    "after_backward": ("between backward and update", "", "", "", "after_backward"),
    "update": ("the weights change", "", "optimizer_step", "update_optimizer", ""),
    "after_step": ("after the update", "after_step", "on_train_batch_end", "print_details", "after_step"),
    "before_validation": ("after an epoch's last step", "", "on_train_epoch_end", "", ""),
    "validation": ("other images are judged", "", "validate", "eval_model", "test"),
    "after_epoch": ("after an epoch", "after_epoch", "on_fit_epoch_end", "eval_and_save", ""),
    "strip": ("after success: small files", "", "final_eval", "strip_model", ""),
    "after_train": ("at the very end", "after_train", "on_train_end teardown", "train_after_loop", "after_train"),
}

# Why a cell is empty.
NONE = {
    ("epoch", "ours"): "inline in train",
    ("epoch", "ultralytics"): "inline in _do_train",
    ("epoch", "detectron2"): "it counts iterations",
    ("before_epoch", "detectron2"): "it counts iterations",
    ("before_step", "yolov6"): "start of train_in_steps",
    ("run_step", "ultralytics"): "inline in _do_train",
    ("after_backward", "ours"): "inside step",
    ("after_backward", "ultralytics"): "inline in _do_train",
    ("after_backward", "yolov6"): "start of update_optimizer",
    ("update", "ours"): "inside step",
    ("update", "detectron2"): "optimizer.step in run_step",
    ("before_validation", "ours"): "after_epoch of an earlier hook",
    ("before_validation", "yolov6"): "start of eval_and_save",
    ("before_validation", "detectron2"): "after_step of an earlier hook",
    ("validation", "ours"): "hooks.Validation, after_epoch",
    ("after_epoch", "detectron2"): "hooks with a period, after_step",
    ("strip", "ours"): "hooks.Strip, after_train",
    ("strip", "detectron2"): "model_final.pth keeps all",
}


def _moments() -> dict[str, dict[str, tuple[str, ...]]]:
    table = {}
    for moment, (_, ours, ultralytics, yolov6, detectron2) in _WRITTEN.items():
        main = RENAMED.get(yolov6, yolov6)
        row = dict(zip(ENGINES, (ours, ultralytics, yolov6, main, detectron2), strict=True))
        table[moment] = {engine: tuple(names.split()) for engine, names in row.items()}
    return table


MOMENTS = _moments()
MEANING = {moment: row[0] for moment, row in _WRITTEN.items()}


def why_none(moment: str, engine: str) -> str:
    """The reason for an empty cell of the table."""
    return NONE[moment, "yolov6" if engine == "yolov6_main" else engine]


# ---- everything else that the founding documents name ----------------------------------------------

FOUNDING = {
    "yolov6": (
        # methods of engine.py, then of ema.py
        "train train_before_loop train_in_loop prepare_for_steps train_in_steps update_optimizer print_details "
        "eval_and_save eval_model strip_model train_after_loop get_data_loader prepro_data get_model get_teacher_model "
        "load_scale_from_pretrained_models parallel_model get_optimizer get_lr_scheduler plot_train_batch "
        "plot_val_pred calibrate quant_setup Trainer ModelEMA update update_attr "
        # what they call
        "compute_loss compute_loss_ab compute_loss_distill save_checkpoint strip_optimizer load_state_dict write_tblog "
        "write_tbimg RepVGG RepVGGOptimizer extract_scales sensitive_layers_skip QAT "
        # what they keep and read
        "scaler accumulate last_opt_step warmup_stepnum warmup_momentum warmup_bias_lr bs_per_gpu world_size "
        "main_process eval_interval heavy_eval_range eval_final_only eval_params shrink_size stop_aug_last_n_epoch "
        "save_ckpt_on_last_n_epoch best_stop_aug_ckpt write_trainbatch_tb resume distill distill_feat temperature "
        "distill_ns fuse_ab quant calib DataParallel DistributedDataParallel SyncBatchNorm"
    ).split(),
    "detectron2": (
        "TrainerBase SimpleTrainer AMPTrainer DefaultTrainer HookBase before_train after_train before_step "
        "after_backward after_step run_step train register_hooks iter start_iter max_iter storage state_dict "
        "load_state_dict _trainer resume_or_load build_hooks build_writers build_model build_optimizer "
        "build_lr_scheduler build_train_loader build_test_loader build_evaluator test auto_scale_workers "
        "IterationTimer LRScheduler PreciseBN PeriodicCheckpointer EvalHook PeriodicWriter EventStorage "
        "Registry configurable from_config ismethod get_cfg CfgNode pixel_mean pixel_std input_format vis_period"
    ).split(),
}

# name -> where this course has it: MODULE:NAME, or key:NAME of a preset
HERE = {
    # YOLOv6
    "Trainer": "yolostudy.engine:Trainer",
    "ModelEMA": "yolostudy.hooks:Averaging",
    "update": "yolostudy.training:ExponentialMovingAverage.update",
    "update_attr": "key:ema_attributes",
    "get_data_loader": "yolostudy.runs.builders:build_loader",
    "prepro_data": "yolostudy.training:to_unit",
    "get_model": "yolostudy.runs.builders:build_model",
    "get_teacher_model": "yolostudy.runs.builders:build_teacher",
    "get_optimizer": "yolostudy.training:build_optimizer",
    "get_lr_scheduler": "yolostudy.training:WarmupCosine",
    "parallel_model": "yolostudy.runs.running:prepare",
    "DistributedDataParallel": "yolostudy.runs.running:prepare",
    "SyncBatchNorm": "key:sync_bn",
    "compute_loss": "yolostudy.losses:DetectionLoss",
    "compute_loss_ab": "yolostudy.runs.anchor_aid",
    "compute_loss_distill": "yolostudy.distill:DistillationLoss",
    "save_checkpoint": "yolostudy.hooks:Checkpoint",
    "strip_optimizer": "key:strip",
    "load_state_dict": "yolostudy.engine:Hook.load_state_dict",
    "state_dict": "yolostudy.engine:Hook.state_dict",
    "write_tblog": "yolostudy.hooks:TensorBoard",
    "write_tbimg": "yolostudy.hooks:TensorBoard.add_picture",
    "plot_train_batch": "key:batch_pictures",
    "plot_val_pred": "key:batch_pictures",
    "write_trainbatch_tb": "key:batch_pictures",
    "scaler": "yolostudy.training:Precision",
    "accumulate": "key:accumulate",
    "last_opt_step": "key:nominal_batch",
    "warmup_stepnum": "key:warmup_floor",
    "warmup_momentum": "key:warmup_momentum",
    "warmup_bias_lr": "key:warmup_bias_rate",
    "bs_per_gpu": "key:scale_rate",
    "world_size": "yolostudy.losses:sum_over_processes",
    "main_process": "yolostudy.runs.running:prepare",
    "eval_interval": "key:eval_interval",
    "heavy_eval_range": "key:heavy_eval_range",
    "eval_final_only": "key:eval_final_only",
    "stop_aug_last_n_epoch": "key:plain_epochs",
    "save_ckpt_on_last_n_epoch": "key:keep_last",
    "best_stop_aug_ckpt": "key:plain_epochs",
    "resume": "yolostudy.hooks:resume",
    "distill": "key:teacher",
    "distill_feat": "key:feature",
    "temperature": "key:response_temperature",
    "distill_ns": "key:dfl_gain",
    "fuse_ab": "key:fuse_ab",
    # detectron2
    "TrainerBase": "yolostudy.engine:Trainer",
    "HookBase": "yolostudy.engine:Hook",
    "SimpleTrainer": "yolostudy.training:train_step",
    "AMPTrainer": "yolostudy.training:Precision",
    "DefaultTrainer": "yolostudy.runs.running:prepare",
    "iter": "yolostudy.engine:Trainer.progress",
    "max_iter": "yolostudy.engine:Trainer.finished",
    "_trainer": "yolostudy.engine:Trainer.run_step",
    "resume_or_load": "yolostudy.engine:resume_or_load",
    "start_iter": "yolostudy.engine:resume_or_load",
    "build_hooks": "yolostudy.runs.running:prepare",
    "build_writers": "yolostudy.hooks:TensorBoard",
    "build_model": "yolostudy.runs.builders:build_model",
    "build_optimizer": "yolostudy.training:build_optimizer",
    "build_lr_scheduler": "yolostudy.training:WarmupCosine",
    "build_train_loader": "yolostudy.runs.builders:build_loader",
    "build_test_loader": "yolostudy.runs.builders:build_loader",
    "build_evaluator": "yolostudy.metrics:evaluate",
    "auto_scale_workers": "key:scale_rate",
    "IterationTimer": "yolostudy.engine:Trainer.seconds",
    "LRScheduler": "yolostudy.hooks:Schedule",
    "PeriodicCheckpointer": "yolostudy.hooks:Checkpoint",
    "EvalHook": "yolostudy.engine:EvaluationHook",
    "PeriodicWriter": "yolostudy.hooks:Results",
    "Registry": "yolostudy.registry:Registry",
    "configurable": "yolostudy.registry:configurable",
    "from_config": "yolostudy.registry:configurable",
    "ismethod": "yolostudy.registry:configurable",
    "CfgNode": "yolostudy.registry:Config",
    "get_cfg": "yolostudy.runs.presets:load",
    "input_format": "yolostudy.data.loader:read_image",
    "vis_period": "key:batch_pictures",
    # Ultralytics' other callbacks of training
    "on_pretrain_routine_start": "yolostudy.runs.running:prepare",
    "on_pretrain_routine_end": "yolostudy.runs.running:prepare",
    "on_model_save": "yolostudy.hooks:Checkpoint.after_epoch",
    "on_val_start": "yolostudy.hooks:Validation.after_epoch",
    "on_val_end": "yolostudy.hooks:Validation.after_epoch",
}

_DEPLOY = "stage 12, deploy, teaches it; no training of stages 1 to 11 needs it"
MISSING = {  # name -> why ours has none
    "RepVGG": "blocks that merge into one convolution are taught in stage 12; YOLOv8 has none",
    "RepVGGOptimizer": _DEPLOY,
    "extract_scales": "it reads the scales that RepVGGOptimizer needs; see there",
    "load_scale_from_pretrained_models": "it reads the scales that RepVGGOptimizer needs; see there",
    "quant": _DEPLOY,
    "calib": _DEPLOY,
    "calibrate": _DEPLOY,
    "quant_setup": _DEPLOY,
    "QAT": _DEPLOY,
    "sensitive_layers_skip": _DEPLOY,
    "DataParallel": "one process with a copy of the model for each card; PyTorch advises DistributedDataParallel",
    "eval_params": "validation uses the image size, thresholds and padding of the preset, as training does",
    "shrink_size": "it shrinks images before padding, to gain AP on COCO; our images are letterboxed as in training",
    "register_hooks": "hooks are an argument of Trainer and get it at each call, so none has to be attached",
    "storage": "results stand in Trainer.metrics, and a hook writes those it wants to keep",
    "EventStorage": "results stand in Trainer.metrics, and a hook writes those it wants to keep",
    "PreciseBN": "averaged weights with averaged statistics are judged, and those need no second measurement",
    "pixel_mean": "images are divided by 255, as in YOLOv8; as a buffer it is in detectron2_engine.SmallNetwork",
    "pixel_std": "images are divided by 255, as in YOLOv8; as a buffer it is in detectron2_engine.SmallNetwork",
    "on_before_zero_grad": "Ultralytics reserves the name and calls it nowhere",
    "on_params_update": "Ultralytics reserves the name and calls it nowhere",
    "on_val_batch_start": "validation is one function without moments; `evaluate` gets all predictions at once",
    "on_val_batch_end": "validation is one function without moments; `evaluate` gets all predictions at once",
}


# ---- what the code itself says ---------------------------------------------------------------------


def owners(engine: str) -> tuple[type, ...]:
    """The classes that define an engine's moments. YOLOv6's main branch has none here."""
    if engine == "ours":
        from yolostudy.engine import Hook, Trainer

        return Trainer, Hook
    if engine == "ultralytics":
        from ultralytics.engine.trainer import BaseTrainer

        return (BaseTrainer,)
    if engine == "yolov6":
        return (importlib.import_module(".yolov6_engine", __package__).Trainer,)
    d2 = importlib.import_module(".detectron2_engine", __package__)
    return d2.DefaultTrainer, d2.SimpleTrainer, d2.HookBase


def known(engine: str) -> set[str]:
    """Every method of an engine's classes, and the callbacks that Ultralytics offers in training."""
    names = {name for owner in owners(engine) for name in dir(owner)}
    return names | callbacks() if engine == "ultralytics" else names


def callbacks() -> set[str]:
    """The names of Ultralytics' callbacks, without those of prediction and export."""
    from ultralytics.utils.callbacks.base import default_callbacks

    return {name for name in default_callbacks if not name.startswith(("on_predict", "on_export"))}


def hook_points(engine: str) -> set[str]:
    """The moments that an engine offers to code that is not its own."""
    if engine == "ultralytics":
        return callbacks()
    offered = vars(owners(engine)[-1])  # YOLOv6 has no hooks: every method can be overridden
    return {name for name in offered if not name.startswith("_") and callable(offered[name])}
