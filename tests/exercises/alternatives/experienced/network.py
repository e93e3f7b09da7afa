"""Stage 3 as somebody with a year of PyTorch writes it: stages as Sequentials, own names."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import SPPF, ConvModule, CSPLayer_2Conv

STRIDES = (8, 16, 32)


class Size(NamedTuple):
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
    return int(math.ceil(channels * width * ratio / 8) * 8)


def scale_repeats(repeats: int, depth: float) -> int:
    return max(1, round(repeats * depth))


def make_stage(c_in: int, c_out: int, repeats: int) -> nn.Sequential:
    return nn.Sequential(ConvModule(c_in, c_out, 3, 2), CSPLayer_2Conv(c_out, c_out, repeats, shortcut=True))


class Backbone(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        c1, c2, c3, c4 = (scale_channels(c, size.width) for c in (64, 128, 256, 512))
        c5 = scale_channels(512, size.width, size.ratio)
        few, many = scale_repeats(3, size.depth), scale_repeats(6, size.depth)
        self.channels = (c2, c3, c4, c5)
        self.stem = ConvModule(3, c1, 3, 2)
        self.stage2 = make_stage(c1, c2, few)
        self.stage3 = make_stage(c2, c3, many)
        self.stage4 = make_stage(c3, c4, many)
        self.stage5 = make_stage(c4, c5, few)
        self.stage5.append(SPPF(c5, c5))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p2 = self.stage2(self.stem(images))
        p3 = self.stage3(p2)
        p4 = self.stage4(p3)
        return p2, p3, p4, self.stage5(p4)


class Neck(nn.Module):
    def __init__(self, channels: tuple[int, int, int], size: Size):
        super().__init__()
        c3, c4, c5 = channels
        few = scale_repeats(3, size.depth)
        self.up = nn.Upsample(scale_factor=2)
        self.merge_c = CSPLayer_2Conv(c4 + c5, c4, few)
        self.merge_x = CSPLayer_2Conv(c3 + c4, c3, few)
        self.down3 = ConvModule(c3, c3, 3, 2)
        self.merge_y = CSPLayer_2Conv(c3 + c4, c4, few)
        self.down4 = ConvModule(c4, c4, 3, 2)
        self.merge_z = CSPLayer_2Conv(c4 + c5, c5, few)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c = self.merge_c(torch.cat([self.up(p5), p4], dim=1))
        x = self.merge_x(torch.cat([self.up(c), p3], dim=1))
        y = self.merge_y(torch.cat([self.down3(x), c], dim=1))
        z = self.merge_z(torch.cat([self.down4(y), p5], dim=1))
        return c, x, y, z


class Head(nn.Module):
    def __init__(self, channels: tuple[int, int, int], num_classes: int, reg_max: int):
        super().__init__()
        c_box = max(16, channels[0] // 4, 4 * reg_max)
        c_cls = max(channels[0], min(num_classes, 100))
        self.box, self.cls = nn.ModuleList(), nn.ModuleList()
        for c in channels:
            self.box.append(self._branch(c, c_box, 4 * reg_max))
            self.cls.append(self._branch(c, c_cls, num_classes))
        for box in self.box:
            nn.init.constant_(box[-1].bias, 2.0)
        self.set_prior(640)

    @staticmethod
    def _branch(c_in: int, c_mid: int, c_out: int) -> nn.Sequential:
        return nn.Sequential(
            ConvModule(c_in, c_mid, 3), ConvModule(c_mid, c_mid, 3), nn.Conv2d(c_mid, c_out, kernel_size=1)
        )

    def set_prior(self, image_size: int, objects: float = 5.0) -> None:
        for cls, stride in zip(self.cls, STRIDES, strict=True):
            positions = (image_size / stride) ** 2
            nn.init.constant_(cls[-1].bias, math.log(objects / cls[-1].out_channels / positions))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        return [torch.cat([box(m), cls(m)], dim=1) for m, box, cls in zip(maps, self.box, self.cls)]


class YOLO(nn.Module):
    strides = STRIDES

    def __init__(self, num_classes: int, size: str = "n", reg_max: int = 16):
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; known sizes: {', '.join(SIZES)}")
        self.num_classes, self.size, self.reg_max = num_classes, size, reg_max
        self.backbone = Backbone(SIZES[size])
        _, c3, c4, c5 = self.backbone.channels
        self.neck = Neck((c3, c4, c5), SIZES[size])
        self.head = Head((c3, c4, c5), num_classes, reg_max)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.features(images)["outputs"]

    def features(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        if images.shape[-1] % STRIDES[-1] or images.shape[-2] % STRIDES[-1]:
            height, width = images.shape[-2:]
            raise ValueError(
                f"the image is {width} x {height} pixels; both sides must be multiples of {STRIDES[-1]} (letterbox it)"
            )
        p2, p3, p4, p5 = self.backbone(images)
        c, x, y, z = self.neck(p3, p4, p5)
        outputs = self.head([x, y, z])
        return {"P2": p2, "P3": p3, "P4": p4, "P5": p5, "C": c, "X": x, "Y": y, "Z": z, "outputs": outputs}
