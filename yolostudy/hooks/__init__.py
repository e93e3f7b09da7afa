"""What takes part in training besides the loop: hooks, each a small class.

    schedules     learning rate, averaged weights, freezing, distillation gain, σ of keypoints
    warmup        momentum, rate of biases and accumulation in the first steps
    validation    average precision, early stop
    endings       plain augmentation in the last epochs, their weights, a stripped checkpoint
    guards        stop at a non-finite loss
    reports       progress bar, results.csv, TensorBoard, live curves
    checkpoints   save, resume
    recorder      the flight recorder of `lens`, in `engine.Trainer`

Hooks run in the order given. Put `Checkpoint` last, so that it saves what the others have noted;
only `Strip` comes after it.
"""

from ..engine import Hook
from .checkpoints import Checkpoint, SaveError, load_weights, replace_file, resume, save_weights
from .endings import KeepLast, PlainAugmentation, Strip
from .guards import NaNGuard, NonFiniteLoss
from .reports import LiveCurvesHook, Progress, Results, TensorBoard
from .schedules import Averaging, Fading, Freezing, Plateau, Schedule, SigmaSchedule
from .validation import EarlyStop, Validation
from .warmup import GrowingAccumulation, Warmup, separate_biases

__all__ = [
    "Averaging",
    "Checkpoint",
    "EarlyStop",
    "Fading",
    "Freezing",
    "GrowingAccumulation",
    "Hook",
    "KeepLast",
    "LiveCurvesHook",
    "NaNGuard",
    "NonFiniteLoss",
    "PlainAugmentation",
    "Plateau",
    "Progress",
    "Results",
    "SaveError",
    "Schedule",
    "SigmaSchedule",
    "Strip",
    "TensorBoard",
    "Validation",
    "Warmup",
    "load_weights",
    "replace_file",
    "resume",
    "save_weights",
    "separate_biases",
]
