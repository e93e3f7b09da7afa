"""Stage 3 in loops with getattr, and functions in place of layers without weights."""

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
    scaled = int(channels * width * ratio)
    if scaled < channels * width * ratio:
        scaled += 1
    while scaled % 8:
        scaled += 1
    return scaled


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
        self.last = SPPF(c5, c5, 5)
        self.rows, self.halvings = nn.ModuleList(), nn.ModuleList()
        before = 3
        for channels, row in ((c1, 0), (c2, few), (c3, many), (c4, many), (c5, few)):
            self.rows.append(CSPLayer_2Conv(channels, channels, row, True) if row else nn.Identity())
            self.halvings.append(ConvModule(before, channels, 3, 2))
            before = channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = []
        for halve, row in zip(self.halvings, self.rows, strict=True):
            images = row(halve(images))
            maps.append(images)
        maps[-1] = self.last(maps[-1])
        return maps[1], maps[2], maps[3], maps[4]


class Neck(nn.Module):
    """Mix the backbone's maps, from coarse to fine and back."""

    def __init__(self, channels: tuple[int, int, int], size: Size):
        super().__init__()
        c3, c4, c5 = channels
        few = scale_repeats(3, size.depth)
        self.joint_z = CSPLayer_2Conv(c5 + c4, c5, repeats=few, shortcut=False)
        self.halve_y = ConvModule(c4, c4, 3, 2)
        self.joint_y = CSPLayer_2Conv(c4 + c3, c4, repeats=few, shortcut=False)
        self.halve_x = ConvModule(c3, c3, 3, 2)
        self.joint_x = CSPLayer_2Conv(c3 + c4, c3, repeats=few, shortcut=False)
        self.joint_c = CSPLayer_2Conv(c4 + c5, c4, repeats=few, shortcut=False)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        twice = nn.functional.interpolate
        c = self.joint_c(torch.cat([twice(p5, scale_factor=2), p4], 1))
        x = self.joint_x(torch.cat([twice(c, size=p3.shape[-2:]), p3], 1))
        y = self.joint_y(torch.cat([self.halve_x(x), c], 1))
        return c, x, y, self.joint_z(torch.cat([self.halve_y(y), p5], 1))


class Head(nn.Module):
    """Four distributions over R bins and C class logits at every position."""

    def __init__(self, channels: tuple[int, int, int], num_classes: int, reg_max: int):
        super().__init__()
        c_box = max(16, channels[0] // 4, 4 * reg_max)
        c_cls = max(channels[0], min(num_classes, 100))

        def branch(c: int, width: int, out: int) -> nn.Sequential:
            return nn.Sequential(ConvModule(c, width, 3), ConvModule(width, width, 3), nn.Conv2d(width, out, 1))

        self.cls, self.box = nn.ModuleList(), nn.ModuleList()
        for c in channels:
            self.cls.append(branch(c, c_cls, num_classes))
            self.box.append(branch(c, c_box, 4 * reg_max))
        for box in self.box:
            nn.init.constant_(box[-1].bias, 2.0)
        self.set_prior(640)

    def set_prior(self, image_size: int, objects: float = 5.0) -> None:
        """Set the class biases so that the untrained head expects a few objects per image."""
        for cls, stride in zip(self.cls, STRIDES, strict=True):
            positions = (image_size / stride) ** 2
            nn.init.constant_(cls[-1].bias, math.log(objects / cls[-1].out_channels / positions))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        outputs = []
        for level in range(len(maps)):
            outputs.append(torch.cat([self.box[level](maps[level]), self.cls[level](maps[level])], 1))
        return outputs


class YOLO(nn.Module):
    """The detector: backbone, neck, head."""

    strides = STRIDES

    def __init__(self, num_classes: int, size: str = "n", reg_max: int = 16):
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; known sizes: {', '.join(SIZES)}")
        self.num_classes, self.size, self.reg_max = num_classes, size, reg_max
        self.backbone = Backbone(SIZES[size])
        _, *read = self.backbone.channels
        self.head = Head(tuple(read), num_classes=num_classes, reg_max=reg_max)
        self.neck = Neck(tuple(read), SIZES[size])

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.features(images)["outputs"]

    def features(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        """Every named map: P2 … P5, C, X, Y, Z, and the three `outputs`."""
        if images.shape[-1] % STRIDES[-1] or images.shape[-2] % STRIDES[-1]:
            height, width = images.shape[-2:]
            raise ValueError(
                f"the image is {width} x {height} pixels; both sides must be multiples of {STRIDES[-1]} (letterbox it)"
            )
        maps = self.backbone(images)
        p2, p3, p4, p5 = maps
        c, x, y, z = self.neck(*maps[1:])
        outputs = self.head([x, y, z])
        return {"P2": p2, "P3": p3, "P4": p4, "P5": p5, "C": c, "X": x, "Y": y, "Z": z, "outputs": outputs}
