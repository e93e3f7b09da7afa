"""The names of a training's numbers: the parts of the loss, and the columns of `results.csv`."""

from __future__ import annotations

from types import MappingProxyType

# the fields of `losses.LossParts` behind the total -> how a picture writes them
LOSS_PARTS = MappingProxyType({"box": "box", "cls": "class", "dfl": "DFL"})
POSED = ("pose", "visibility")  # what keypoints add to the loss
TAUGHT = ("feature", "response", "keypoint")  # what a teacher adds to the loss
KEYPOINT_FIGURES = ("oks_ap", "pixels")  # AP by OKS, and the median error in pixels
FIGURES = ("map50", "map50_95", *KEYPOINT_FIGURES)
MEASURED = (*FIGURES, "val_seconds")
COLUMNS = ("epoch", "seconds", "images", "lr", "sigma", "loss", *LOSS_PARTS, *POSED, *TAUGHT, *MEASURED)
OPTIONAL = (*POSED, *TAUGHT, *KEYPOINT_FIGURES, "sigma")  # columns that a plain run's file does not have
