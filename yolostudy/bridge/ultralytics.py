"""Ultralytics 8.4.190 as an oracle: its network, loss, decoding, NMS and trainer.

They are called in this course's own shapes. What changes between versions of Ultralytics is hidden
in the modules of this folder: the prediction dict, the factor B in the loss, the normalised batch,
the callbacks, and the network access when it is imported.

    framework   load
    networks    build, state_dict_for, raw_maps, maps_of
    parity      Criterion, to_batch, pixel_targets, decode, nms
    training    fit, validate

Shapes: B images, A anchors over all levels, C classes, R bins, N objects. Boxes are xyxy in pixels
unless the name says otherwise.
"""

from .framework import VERSION, load
from .networks import STRIDES, build, maps_of, raw_maps, state_dict_for
from .parity import Criterion, Parts, decode, nms, pixel_targets, to_batch
from .training import Epoch, FitResult, Scores, fit, validate

__all__ = [
    "STRIDES",
    "VERSION",
    "Criterion",
    "Epoch",
    "FitResult",
    "Parts",
    "Scores",
    "build",
    "decode",
    "fit",
    "load",
    "maps_of",
    "nms",
    "pixel_targets",
    "raw_maps",
    "state_dict_for",
    "to_batch",
    "validate",
]
