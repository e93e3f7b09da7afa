"""The names of a training's numbers: the parts of the loss, and the columns of `results.csv`."""

from __future__ import annotations

from types import MappingProxyType

# the fields of `losses.LossParts` behind the total -> how a picture writes them
LOSS_PARTS = MappingProxyType({"box": "box", "cls": "class", "dfl": "DFL"})
TAUGHT = ("feature", "response")  # what a teacher adds to the loss
KEYPOINTS = ("pose", "visibility")  # what keypoints add to the loss
SCHEDULED = ("sigma",)  # what a hook changes during training
OPTIONAL = (*TAUGHT, *KEYPOINTS, *SCHEDULED)  # columns that only some runs have
COLUMNS = (
    *("epoch", "seconds", "images", "lr", "loss"),
    *LOSS_PARTS,
    *OPTIONAL,
    *("map50", "map50_95", "val_seconds"),
)
