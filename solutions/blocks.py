"""The four blocks that the whole detector is made of.

ConvModule is a convolution with normalisation and activation. Bottleneck puts two of them behind a
shortcut. CSPLayer_2Conv splits a map, refines one half step by step and keeps every step. SPPF lets
a position see far without shrinking the map.

Sources: Ultralytics 8.4.190 `nn/modules/conv.py` and `nn/modules/block.py` (Conv, Bottleneck, C2f,
SPPF); mmyolo for the names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution without bias, batch normalisation, SiLU.

    Args:
        c_in, c_out: channels of the input and of the output.
        kernel_size: side of the square kernel, odd; the padding lets stride 1 keep the size.
        stride: distance between neighbouring kernel positions.

    Shape:
        (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))

    Source: Ultralytics `nn/modules/conv.py`, class Conv. The normalisation has eps 0.001 and
    momentum 0.03, as `initialize_weights` in `utils/torch_utils.py` sets them.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        # BEGIN SOLUTION
        # no bias: the normalisation would subtract it again with the mean
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()
        # END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        # BEGIN SOLUTION
        return self.act(self.bn(self.conv(x)))
        # END SOLUTION


class Bottleneck(nn.Module):
    """Two 3 x 3 ConvModules, with a shortcut around both.

    Args:
        c_in, c_out: channels of the input and of the output.
        shortcut: add the input to the output; ignored if c_in differs from c_out.

    Shape:
        (B, c_in, H, W) -> (B, c_out, H, W)

    Source: Ultralytics `nn/modules/block.py`, class Bottleneck, as C2f builds it; the shortcut is
    from He et al. 2015.
    """

    def __init__(self, c_in: int, c_out: int, shortcut: bool = True):
        super().__init__()
        # BEGIN SOLUTION
        self.cv1 = ConvModule(c_in, c_out, kernel_size=3)
        self.cv2 = ConvModule(c_out, c_out, kernel_size=3)
        self.add = shortcut and c_in == c_out
        # END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        # BEGIN SOLUTION
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y
        # END SOLUTION


class CSPLayer_2Conv(nn.Module):
    """Split a map, refine one half by a row of bottlenecks, concatenate every step (known as C2f).

    Args:
        c_in, c_out: channels of the input and of the output; each half has c_out // 2.
        repeats: number of bottlenecks in the row.
        shortcut: whether each bottleneck adds its input.

    Shape:
        (B, c_in, H, W) -> (B, c_out, H, W)

    Source: Ultralytics `nn/modules/block.py`, class C2f; the split is from CSPNet, Wang et al.
    2019, figure 2.
    """

    def __init__(self, c_in: int, c_out: int, repeats: int = 1, shortcut: bool = False):
        super().__init__()
        hidden = c_out // 2
        # BEGIN SOLUTION
        self.cv1 = ConvModule(c_in, 2 * hidden, kernel_size=1)
        self.cv2 = ConvModule((2 + repeats) * hidden, c_out, kernel_size=1)
        self.m = nn.ModuleList(Bottleneck(hidden, hidden, shortcut) for _ in range(repeats))
        # END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        # BEGIN SOLUTION
        maps = list(self.cv1(x).chunk(2, dim=1))
        for bottleneck in self.m:
            maps.append(bottleneck(maps[-1]))  # each refines the output of the one before
        return self.cv2(torch.cat(maps, dim=1))
        # END SOLUTION


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast: three chained max pools that see 5, 9 and 13 positions wide.

    Args:
        c_in, c_out: channels of the input and of the output.
        kernel_size: side of each pooling window, in positions.

    Shape:
        (B, c_in, H, W) -> (B, c_out, H, W)

    Source: Ultralytics `nn/modules/block.py`, class SPPF; the pyramid is from He et al. 2014,
    section 2.
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 5):
        super().__init__()
        hidden = c_in // 2
        # BEGIN SOLUTION
        self.cv1 = ConvModule(c_in, hidden, kernel_size=1)
        self.cv2 = ConvModule(4 * hidden, c_out, kernel_size=1)
        self.pool = nn.MaxPool2d(kernel_size, stride=1, padding=kernel_size // 2)  # stride 1 keeps the size
        # END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        # BEGIN SOLUTION
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))  # chained: each pool sees farther than the one before
        return self.cv2(torch.cat(maps, dim=1))
        # END SOLUTION
