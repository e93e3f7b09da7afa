"""Weights from elsewhere: the same numbers under other names.

A checkpoint is a table from names to tensors. Ultralytics numbers its layers
(`model.9.cv1.conv.weight`); here they have names (`backbone.sppf.cv1.conv.weight`). The layers are
equal, so renaming is enough. Layers without weights have numbers too: 10 and 13 enlarge, 11, 14, 17
and 20 concatenate.

Source: Ultralytics 8.4.190 `cfg/models/v8/yolov8.yaml`, whose line numbers are the layers' numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

# Ultralytics' number of each layer with weights -> its name here
LAYERS = {
    "0": "backbone.stem",
    "1": "backbone.down2",
    "2": "backbone.csp2",
    "3": "backbone.down3",
    "4": "backbone.csp3",
    "5": "backbone.down4",
    "6": "backbone.csp4",
    "7": "backbone.down5",
    "8": "backbone.csp5",
    "9": "backbone.sppf",
    "12": "neck.csp_c",
    "15": "neck.csp_x",
    "16": "neck.down_x",
    "18": "neck.csp_y",
    "19": "neck.down_y",
    "21": "neck.csp_z",
    "22.cv2": "head.box",
    "22.cv3": "head.cls",
    "22.cv4": "head.keypoints",
}
CONSTANTS = ("model.22.dfl.conv.weight",)  # the bins 0 … R - 1, which `expected_distance` makes itself


@dataclass
class TransferReport:
    """What became of every name.

    The model asks for names, the checkpoint offers names. All are names of this package, as far as
    `rename_key` knows them.

    Attributes:
        matched: asked for and offered, in the same shape.
        missing: asked for, not offered.
        unexpected: offered within the part that is asked for, but unknown to the model.
        wrong_shape: asked for and offered, in another shape.
        share: fraction of the numbers (not names) asked for that match, in 0…1; 0 if nothing is
            asked for.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)
    share: float = 0.0

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(getattr(self, name))} {name.replace('_', ' ')}"
            for name in ("matched", "missing", "unexpected", "wrong_shape")
        )
        return f"{counts}; {self.share:.1%} of the numbers fit"


class TransferError(ValueError):
    """Too little of a checkpoint fits the model; `.report` says what."""

    def __init__(self, message: str, report: TransferReport):
        super().__init__(message)
        self.report = report


def rename_key(key: str) -> str | None:
    """Translate a name of Ultralytics to the name in this package.

    Args:
        key: such as `model.9.cv1.conv.weight`.

    Returns:
        Such as `backbone.sppf.cv1.conv.weight`. None for one of `CONSTANTS`, which have no place
        here. Any other key unchanged: a name of this package stays, and an unknown name can be
        reported as unexpected.
    """
    raise NotImplementedError("exercise weights.rename_key: course/08_pretrained.ipynb")


@torch.no_grad()
def transfer(
    state_dict: dict[str, Tensor], model: nn.Module, part: str = "all", minimum_share: float = 0.9
) -> TransferReport:
    """Copy the weights that fit into a model, and report what became of every name.

    Args:
        state_dict: names of Ultralytics or of this package -> tensors of any float type. It is not
            changed.
        model: gets the weights in place, statistics included. Its parameters stay the same objects,
            of the same dtype.
        part: "all", or "backbone": only names that begin with `backbone.` are asked for.
        minimum_share: smallest allowed `share` of the report. Below it nothing is copied.

    Returns:
        A `TransferReport`.

    Errors: ValueError for an unknown part; TransferError if the share is below minimum_share.
    """
    if part not in ("all", "backbone"):
        raise ValueError(f"unknown part {part!r}; choose all or backbone")
    raise NotImplementedError("exercise weights.transfer: course/08_pretrained.ipynb")
    if report.share < minimum_share:
        raise TransferError(
            f"only {report.share:.1%} of the weights fit ({report}); expected at least {minimum_share:.0%}. First "
            f"missing: {', '.join(report.missing[:3]) or 'none'}; first of another shape: "
            f"{', '.join(report.wrong_shape[:3]) or 'none'}. Check the size of the model and its number of classes; "
            "for the backbone alone use part='backbone'.",
            report,
        )
    return report


def export_key(key: str) -> str:
    """The way back: translate a name of this package to Ultralytics' name."""
    for number, name in LAYERS.items():
        if key.startswith(f"{name}."):
            return f"model.{number}.{key.removeprefix(f'{name}.')}"
    return key


def widen_classes(
    state_dict: dict[str, Tensor], offered: Sequence[str], wanted: Sequence[str], model: nn.Module
) -> dict[str, Tensor]:
    """Make the class layer of a checkpoint fit other classes.

    The weights of a class go to the class of the same name. A class that the checkpoint does not
    know keeps the model's initial weights.

    Args:
        state_dict: names of Ultralytics or of this package -> tensors. It is not changed.
        offered: class names of the checkpoint, in the order of its class channels.
        wanted: class names of the model, in the order of its class channels.
        model: gives the rows of unknown classes.

    Returns:
        A new table with names of this package; `transfer` accepts it for the whole model.

    Errors: ValueError if class names and class layer disagree, or if the layer before it has
        another width. That width depends on the number of classes: it is the larger of X's channels
        and the classes, which count up to 100. So nano is 64 wide for up to 64 classes, and 80 wide
        for 80.
    """
    weights = {name: tensor for key, tensor in state_dict.items() if (name := rename_key(key))}
    known = [name for name in wanted if name in offered]
    there, here = [offered.index(name) for name in known], [wanted.index(name) for name in known]
    for name, own in model.state_dict().items():
        if not re.fullmatch(r"head\.cls\.\d\.2\.(weight|bias)", name):
            continue
        theirs = weights.get(name, own[:0])
        if (len(theirs), len(own)) != (len(offered), len(wanted)):
            raise ValueError(
                f"{name} has {len(theirs)} classes in the weights and {len(own)} in the model, but {len(offered)} and "
                f"{len(wanted)} class names are given for them. Give the names that belong to each."
            )
        if theirs.shape[1:] != own.shape[1:]:
            raise ValueError(
                f"the class branch is {theirs.shape[1]} channels wide in the weights and {own.shape[1]} in the model, "
                "because its width depends on the number of classes. Take weights of about as many classes, or "
                "part='backbone'."
            )
        weights[name] = own.clone()
        weights[name][here] = theirs[there].to(own)
    return weights
