"""Ultralytics' networks for detection and pose: built, their weights, their raw maps.

Source: Ultralytics 8.4.190 `cfg/models/v8/yolov8.yaml` and `yolov8-pose.yaml`, `nn/tasks.py`
DetectionModel and PoseModel, `nn/modules/head.py` Detect.forward_head and Pose.forward_head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .framework import load

# An oracle takes no number from the network that is compared with it, so these are its own.
STRIDES = (8, 16, 32)


def build(
    size: str = "n",
    num_classes: int = 80,
    seed: int | None = None,
    keypoint_shape: Sequence[int] | None = None,
) -> nn.Module:
    """A fresh `DetectionModel` or `PoseModel` of YOLOv8, in training mode, ready for its loss.

    Args:
        size: one of n, s, m, l, x.
        num_classes: C.
        seed: makes the weights repeatable; the caller's random state stays as it was.
        keypoint_shape: (K, d) for a `PoseModel`; None for a detector.
    """
    load()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, PoseModel

    if size not in tuple("nsmlx"):
        raise ValueError(f"There is no YOLOv8 of size {size!r}; choose one of n, s, m, l, x.")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if keypoint_shape is None:
            model = DetectionModel(f"yolov8{size}.yaml", nc=num_classes, verbose=False)
        else:
            shape = [*keypoint_shape]  # a list: their loss knows COCO's people by == [17, 3]
            model = PoseModel(f"yolov8{size}-pose.yaml", nc=num_classes, data_kpt_shape=shape, verbose=False)
    model.args = get_cfg()
    return model


def state_dict_for(model: nn.Module | str | Path) -> dict[str, Tensor]:
    """The weights under Ultralytics' names, as float32 copies on the CPU.

    A name is such as `model.22.cv2.0.0.conv.weight`.

    Args:
        model: a network, or the path of a `.pt` file (a pickle: open only files that you trust).
    """
    load()
    if not isinstance(model, nn.Module):
        from ultralytics.nn.tasks import load_checkpoint

        model, _ = load_checkpoint(str(model))
    return {
        name: (t.float() if t.is_floating_point() else t).detach().cpu().clone()
        for name, t in model.state_dict().items()
    }


def raw_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The output of the head's three levels before any decoding, with gradients.

    The model keeps its mode: in training mode this updates its running statistics.

    Args:
        images: (B, 3, H, W) float in 0…1, H and W divisible by 32.

    Returns:
        three maps (B, 4·R + C, H/s, W/s), s = 8, 16, 32: box channels first, then class logits; a
        `PoseModel` has K·d channels more, its raw keypoints.
    """
    output = model(images)
    return maps_of(output[1] if isinstance(output, tuple) else output)  # in evaluation mode: (decoded, dict)


def maps_of(predictions: dict[str, Any]) -> list[Tensor]:
    """The three raw maps, put together from a head's dict of predictions."""
    flat = [predictions[name] for name in ("boxes", "scores", "kpts") if name in predictions]
    maps, start = [], 0
    for feature in predictions["feats"]:
        height, width = feature.shape[2:]
        stop = start + height * width
        level = torch.cat([part[..., start:stop] for part in flat], 1)  # (B, 4·R + C [+ K·d], h·w)
        maps.append(level.unflatten(2, (height, width)))
        start = stop
    return maps


def to_predictions(maps: Sequence[Tensor], reg_max: int, num_classes: int | None = None) -> dict[str, Any]:
    """The inverse of `maps_of`: maps in the form that Ultralytics' loss and decoder take.

    Args:
        maps: three raw maps.
        reg_max: R.
        num_classes: C of a pose network, whose other channels are keypoints; None for a detector.
    """
    flat = torch.cat([level.flatten(2) for level in maps], 2)  # (B, 4·R + C [+ K·d], A)
    stop = flat.shape[1] if num_classes is None else 4 * reg_max + num_classes
    # only the sizes of feats are read
    predictions = {"boxes": flat[:, : 4 * reg_max], "scores": flat[:, 4 * reg_max : stop], "feats": list(maps)}
    return predictions if num_classes is None else predictions | {"kpts": flat[:, stop:]}


def head_of(num_classes: int, reg_max: int) -> nn.Module:
    """The smallest `Detect` head, over one-channel maps: enough to decode and for the loss."""
    from ultralytics.nn.modules import Detect

    head = Detect(num_classes, reg_max, ch=(1,) * len(STRIDES))
    head.stride = torch.tensor(STRIDES, dtype=torch.float32)
    return head.eval()
