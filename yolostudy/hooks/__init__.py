"""What takes part in training besides the loop: each hook one small class, given ready.

`learning` changes how the model learns (schedule, averaging, freezing), `judging` measures it
(validation, early stop), `watching` shows and guards (progress, results, TensorBoard, NaN guard),
`keeping` saves and resumes. Hooks run in the order given; put `Checkpoint` last, so that it keeps
what the others have just noted.
"""

from .judging import EarlyStop, Validation
from .keeping import Checkpoint, SaveError, load_weights, replace_file, resume, save_weights
from .learning import Averaging, Fading, Freezing, Plateau, Schedule
from .watching import LiveCurvesHook, NaNGuard, NonFiniteLoss, Progress, Results, TensorBoard

__all__ = [
    "Averaging",
    "Checkpoint",
    "EarlyStop",
    "Fading",
    "Freezing",
    "LiveCurvesHook",
    "NaNGuard",
    "NonFiniteLoss",
    "Plateau",
    "Progress",
    "Results",
    "SaveError",
    "Schedule",
    "TensorBoard",
    "Validation",
    "load_weights",
    "replace_file",
    "resume",
    "save_weights",
]
