"""Backbone, neck and head: from an image to three raw maps.

The backbone halves the image five times and returns P2 … P5 (strides 4, 8, 16, 32). The neck mixes
P3, P4 and P5: first from coarse to fine (C, X), then back from fine to coarse (Y, Z). The head
predicts, at every position of X, Y and Z, four distributions of R bins (how far away are the left,
top, right and bottom edges?) and C class logits.

    image ─ stem ─ P2 ─ P3 ───────────── X ──────────────── head, stride 8
                         └─ P4 ───── C ──┴─── Y ─────────── head, stride 16
                             └─ P5 ──┴────────┴── Z ─────── head, stride 32

Sources: Ultralytics 8.4.190 `cfg/models/v8/yolov8.yaml` and `nn/modules/head.py`; the neck is
PANet, Liu et al. 2018, figure 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import SPPF, ConvModule, CSPLayer_2Conv

STRIDES = (8, 16, 32)  # pixels per position of the three output maps


class Size(NamedTuple):
    """The scaling of one member of the family."""

    width: float  # w: factor on the channels of every layer
    ratio: float  # r: one more factor on the channels of the last stage
    depth: float  # n: factor on the number of bottlenecks in every row


SIZES = {
    "n": Size(0.25, 2.0, 0.33),
    "s": Size(0.50, 2.0, 0.33),
    "m": Size(0.75, 1.5, 0.67),
    "l": Size(1.00, 1.0, 1.00),
    "x": Size(1.25, 1.0, 1.00),
}


def scale_channels(channels: int, width: float, ratio: float = 1.0) -> int:
    """Scale a number of channels and round it up to a multiple of 8.

    Args:
        channels: the number in the full-size network (l).
        width, ratio: factors of `Size`; only the last stage has a ratio.

    Returns:
        An int, because a convolution takes no `16.0`.

    Source: Ultralytics `utils/ops.py`, make_divisible. Multiples of 8 keep the processor's vector
    units full.
    """
    # BEGIN SOLUTION
    return math.ceil(channels * width * ratio / 8) * 8
    # END SOLUTION


def scale_repeats(repeats: int, depth: float) -> int:
    """Scale the number of bottlenecks in a row; at least one stays."""
    return max(1, round(repeats * depth))


class Backbone(nn.Module):
    """From the image to P2, P3, P4 and P5.

    Args:
        size: the scaling, see `Size`.

    Attributes:
        channels: channels of P2 … P5; neck and head are built from them.

    Shape:
        (B, 3, H, W) -> P2 (B, 128w, H/4, W/4), P3 (B, 256w, H/8, W/8), P4 (B, 512w, H/16, W/16),
        P5 (B, 512wr, H/32, W/32)
    """

    def __init__(self, size: Size):
        super().__init__()
        c1, c2, c3, c4 = (scale_channels(c, size.width) for c in (64, 128, 256, 512))
        c5 = scale_channels(512, size.width, size.ratio)
        few, many = scale_repeats(3, size.depth), scale_repeats(6, size.depth)
        self.channels = (c2, c3, c4, c5)
        # BEGIN SOLUTION
        self.stem = ConvModule(3, c1, kernel_size=3, stride=2)
        self.down2 = ConvModule(c1, c2, kernel_size=3, stride=2)
        self.csp2 = CSPLayer_2Conv(c2, c2, few, shortcut=True)
        self.down3 = ConvModule(c2, c3, kernel_size=3, stride=2)
        self.csp3 = CSPLayer_2Conv(c3, c3, many, shortcut=True)
        self.down4 = ConvModule(c3, c4, kernel_size=3, stride=2)
        self.csp4 = CSPLayer_2Conv(c4, c4, many, shortcut=True)
        self.down5 = ConvModule(c4, c5, kernel_size=3, stride=2)
        self.csp5 = CSPLayer_2Conv(c5, c5, few, shortcut=True)
        self.sppf = SPPF(c5, c5)
        # END SOLUTION

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # BEGIN SOLUTION
        p2 = self.csp2(self.down2(self.stem(images)))
        p3 = self.csp3(self.down3(p2))
        p4 = self.csp4(self.down4(p3))
        p5 = self.sppf(self.csp5(self.down5(p4)))
        return p2, p3, p4, p5
        # END SOLUTION


class Neck(nn.Module):
    """Mix the backbone's maps, from coarse to fine (C, X) and back (Y, Z).

    Args:
        channels: channels of P3, P4 and P5.
        size: the scaling, see `Size`.

    Shape:
        P3, P4, P5 -> C (like P4), X (like P3), Y (like P4), Z (like P5)
    """

    def __init__(self, channels: tuple[int, int, int], size: Size):
        super().__init__()
        c3, c4, c5 = channels
        few = scale_repeats(3, size.depth)
        # BEGIN SOLUTION
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.csp_c = CSPLayer_2Conv(c5 + c4, c4, few)
        self.csp_x = CSPLayer_2Conv(c4 + c3, c3, few)
        self.down_x = ConvModule(c3, c3, kernel_size=3, stride=2)
        self.csp_y = CSPLayer_2Conv(c3 + c4, c4, few)
        self.down_y = ConvModule(c4, c4, kernel_size=3, stride=2)
        self.csp_z = CSPLayer_2Conv(c4 + c5, c5, few)
        # END SOLUTION

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # BEGIN SOLUTION
        c = self.csp_c(torch.cat((self.up(p5), p4), dim=1))
        x = self.csp_x(torch.cat((self.up(c), p3), dim=1))
        y = self.csp_y(torch.cat((self.down_x(x), c), dim=1))
        z = self.csp_z(torch.cat((self.down_y(y), p5), dim=1))
        return c, x, y, z
        # END SOLUTION


class Head(nn.Module):
    """Four distributions over R bins and C class logits at every position.

    The two kinds come from two branches that share nothing.

    Args:
        channels: channels of X, Y and Z.
        num_classes: C.
        reg_max: R, bins of each distribution.

    Shape:
        X, Y, Z -> three maps (B, 4·R + C, H/s, W/s); the first 4·R channels are R bins for left,
        then top, right and bottom

    Source: Ultralytics `nn/modules/head.py`, class Detect, with its `bias_init`.
    """

    def __init__(self, channels: tuple[int, int, int], num_classes: int, reg_max: int):
        super().__init__()
        c_box = max(16, channels[0] // 4, 4 * reg_max)
        c_cls = max(channels[0], min(num_classes, 100))
        # BEGIN SOLUTION
        self.box = nn.ModuleList(
            nn.Sequential(ConvModule(c, c_box, 3), ConvModule(c_box, c_box, 3), nn.Conv2d(c_box, 4 * reg_max, 1))
            for c in channels
        )
        self.cls = nn.ModuleList(
            nn.Sequential(ConvModule(c, c_cls, 3), ConvModule(c_cls, c_cls, 3), nn.Conv2d(c_cls, num_classes, 1))
            for c in channels
        )
        # END SOLUTION
        for box in self.box:
            nn.init.constant_(box[-1].bias, 2.0)
        self.set_prior(640)

    def set_prior(self, image_size: int, objects: float = 5.0) -> None:
        """Set the class biases so that the untrained head expects a few objects per image.

        Without this prior, training first has to learn that nearly everything is background. The
        prior depends on the image size: the one of a 640-pixel image is sixteen times too low for
        an image of 160 pixels, which has sixteen times fewer positions.

        Args:
            image_size: side of the training images, in pixels.
            objects: expected number in one image, over all positions and classes. Ultralytics
                expects five in 640 pixels.

        Source: Lin et al. 2017, Focal Loss, section 4.1.
        """
        for cls, stride in zip(self.cls, STRIDES, strict=True):
            positions = (image_size / stride) ** 2
            nn.init.constant_(cls[-1].bias, math.log(objects / cls[-1].out_channels / positions))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        # BEGIN SOLUTION
        return [torch.cat((box(x), cls(x)), dim=1) for box, cls, x in zip(self.box, self.cls, maps, strict=True)]
        # END SOLUTION


class YOLO(nn.Module):
    """The detector: backbone, neck, head.

    Args:
        num_classes: C.
        size: n, s, m, l or x.
        reg_max: R, bins of each distribution; the farthest edge lies R - 1 strides away.

    Attributes:
        backbone, neck, head: the three parts. Training and pretrained weights look for these names.

    Shape:
        images (B, 3, H, W) in 0…1, H and W multiples of 32
        -> three raw maps (B, 4·R + C, H/s, W/s), s = 8, 16, 32

    Errors: ValueError for an unknown size, and for an image with a side that 32 does not divide.
    """

    strides = STRIDES

    def __init__(self, num_classes: int, size: str = "n", reg_max: int = 16):
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}; known sizes: {', '.join(SIZES)}")
        self.num_classes, self.size, self.reg_max = num_classes, size, reg_max
        # BEGIN SOLUTION
        self.backbone = Backbone(SIZES[size])
        channels = self.backbone.channels[1:]
        self.neck = Neck(channels, SIZES[size])
        self.head = Head(channels, num_classes, reg_max)
        # END SOLUTION

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.features(images)["outputs"]

    def features(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        """Every named map: P2 … P5, C, X, Y, Z, and the list of the three `outputs`."""
        if images.shape[-1] % STRIDES[-1] or images.shape[-2] % STRIDES[-1]:
            height, width = images.shape[-2:]
            raise ValueError(
                f"the image is {width} x {height} pixels; both sides must be multiples of {STRIDES[-1]} (letterbox it)"
            )
        # BEGIN SOLUTION
        p2, p3, p4, p5 = self.backbone(images)
        c, x, y, z = self.neck(p3, p4, p5)
        outputs = self.head((x, y, z))
        # END SOLUTION
        return {"P2": p2, "P3": p3, "P4": p4, "P5": p5, "C": c, "X": x, "Y": y, "Z": z, "outputs": outputs}
