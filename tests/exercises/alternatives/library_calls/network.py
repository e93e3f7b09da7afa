"""Stage 3 with nn.Sequential and nn.ModuleDict for whole stages, a head of small modules."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import SPPF, ConvModule, CSPLayer_2Conv

STRIDES = (8, 16, 32)  # pixels per position of the three output maps


class Size(NamedTuple):
    """The scaling of one member of the family."""

    width: float
    ratio: float
    depth: float


SIZES = {
    "n": Size(0.25, 2.0, 0.33),
    "s": Size(0.50, 2.0, 0.33),
    "m": Size(0.75, 1.5, 0.67),
    "l": Size(1.00, 1.0, 1.00),
    "x": Size(1.25, 1.0, 1.00),
}


def scale_channels(channels: int, width: float, ratio: float = 1.0) -> int:
    """Scale a number of channels and round it up to a multiple of 8."""
    return -int(-channels * width * ratio // 8) * 8


def scale_repeats(repeats: int, depth: float) -> int:
    """Scale the number of bottlenecks in a row; at least one stays."""
    return max(1, round(repeats * depth))


class Backbone(nn.Module):
    """From the image to P2, P3, P4 and P5."""

    def __init__(self, size: Size):
        super().__init__()
        c1, c2, c3, c4 = (scale_channels(c, size.width) for c in (64, 128, 256, 512))
        c5 = scale_channels(512, size.width, size.ratio)
        few, many = scale_repeats(3, size.depth), scale_repeats(6, size.depth)
        self.channels = (c2, c3, c4, c5)
        stages = {
            "p2": [ConvModule(3, c1, 3, 2), ConvModule(c1, c2, 3, 2), CSPLayer_2Conv(c2, c2, few, shortcut=True)],
            "p3": [ConvModule(c2, c3, 3, 2), CSPLayer_2Conv(c3, c3, many, shortcut=True)],
            "p4": [ConvModule(c3, c4, 3, 2), CSPLayer_2Conv(c4, c4, many, shortcut=True)],
            "p5": [ConvModule(c4, c5, 3, 2), CSPLayer_2Conv(c5, c5, few, shortcut=True), SPPF(c5, c5)],
        }
        self.stages = nn.ModuleDict({name: nn.Sequential(*layers) for name, layers in stages.items()})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p2 = self.stages["p2"](images)
        p3 = self.stages["p3"](p2)
        return p2, p3, *self._coarse(p3)

    def _coarse(self, p3: Tensor) -> tuple[Tensor, Tensor]:
        p4 = self.stages["p4"](p3)
        return p4, self.stages["p5"](p4)


class Neck(nn.Module):
    """Mix the backbone's maps, from coarse to fine and back."""

    def __init__(self, channels: tuple[int, int, int], size: Size):
        super().__init__()
        c3, c4, c5 = channels
        few = scale_repeats(3, size.depth)

        def joint(c_in: int, c_out: int) -> CSPLayer_2Conv:
            return CSPLayer_2Conv(c_in, c_out, few)

        self.joints = nn.ModuleDict(
            {"c": joint(c4 + c5, c4), "x": joint(c3 + c4, c3), "y": joint(c3 + c4, c4), "z": joint(c4 + c5, c5)}
        )
        self.halve = nn.ModuleDict({"x": ConvModule(c3, c3, 3, 2), "y": ConvModule(c4, c4, 3, 2)})

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        def meet(joint: str, ours: Tensor, theirs: Tensor) -> Tensor:
            return self.joints[joint](torch.cat((ours, theirs), dim=-3))

        def enlarge(coarse: Tensor) -> Tensor:
            return coarse.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)

        c = meet("c", enlarge(p5), p4)
        x = meet("x", enlarge(c), p3)
        y = meet("y", self.halve["x"](x), c)
        z = meet("z", self.halve["y"](y), p5)
        return c, x, y, z


class Head(nn.Module):
    """Four distributions over R bins and C class logits at every position."""

    def __init__(self, channels: tuple[int, int, int], num_classes: int, reg_max: int):
        super().__init__()
        c_box = max(16, channels[0] // 4, 4 * reg_max)
        c_cls = max(channels[0], min(num_classes, 100))
        self.box = nn.ModuleList([Branch(c, c_box, 4 * reg_max) for c in channels])
        self.cls = nn.ModuleList([Branch(c, c_cls, num_classes) for c in channels])
        for box in self.box:
            nn.init.constant_(box[-1].bias, 2.0)
        self.set_prior(640)

    def set_prior(self, image_size: int, objects: float = 5.0) -> None:
        """Set the class biases so that the untrained head expects a few objects per image."""
        for cls, stride in zip(self.cls, STRIDES, strict=True):
            positions = (image_size / stride) ** 2
            nn.init.constant_(cls[-1].bias, math.log(objects / cls[-1].out_channels / positions))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        boxes = (branch(x) for branch, x in zip(self.box, maps, strict=True))
        classes = map(lambda branch, x: branch(x), self.cls, maps)
        return [torch.cat(pair, dim=1) for pair in zip(boxes, classes, strict=True)]


class Branch(nn.Sequential):
    """Two 3 x 3 ConvModules, then the prediction."""

    def __init__(self, c_in: int, c_mid: int, c_out: int):
        super().__init__()
        for c in (c_in, c_mid):
            self.append(ConvModule(c, c_mid, kernel_size=3))
        self.append(nn.Conv2d(c_mid, c_out, kernel_size=1, bias=True))


class YOLO(nn.Module):
    """The detector: backbone, neck, head."""

    strides = STRIDES

    def __init__(self, num_classes: int, size: str = "n", reg_max: int = 16):
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; known sizes: {', '.join(SIZES)}")
        self.num_classes, self.size, self.reg_max = num_classes, size, reg_max
        scale = SIZES[size]
        self.backbone = Backbone(size=scale)
        c3, c4, c5 = self.backbone.channels[-3:]
        self.neck = Neck(channels=(c3, c4, c5), size=scale)
        self.head = Head((c3, c4, c5), num_classes, reg_max)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.features(images)["outputs"]

    def features(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        """Every named map: P2 … P5, C, X, Y, Z, and the three `outputs`."""
        if images.shape[-1] % STRIDES[-1] or images.shape[-2] % STRIDES[-1]:
            height, width = images.shape[-2:]
            raise ValueError(
                f"the image is {width} x {height} pixels; both sides must be multiples of {STRIDES[-1]} (letterbox it)"
            )
        p2, *pyramid = self.backbone(images)
        c, *mixed = self.neck(*pyramid)
        (p3, p4, p5), (x, y, z) = pyramid, mixed
        outputs = list(self.head(tuple(mixed)))
        return {"P2": p2, "P3": p3, "P4": p4, "P5": p5, "C": c, "X": x, "Y": y, "Z": z, "outputs": outputs}
