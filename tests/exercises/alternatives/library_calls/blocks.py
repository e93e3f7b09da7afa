"""Stage 2 with nn.Sequential, einsum and unfold; the pools stand side by side."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn


class Unfolded(nn.Conv2d):
    """A convolution as one matrix product over all windows, in float64."""

    def forward(self, x: Tensor) -> Tensor:
        # (B, c_in · k², L)
        windows = nn.functional.unfold(x.double(), self.kernel_size, padding=self.padding, stride=self.stride)
        product = torch.einsum("oi,bil->bol", self.weight.double().flatten(1), windows)
        sides = [(side + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1 for side in x.shape[2:]]
        return product.unflatten(-1, sides).to(x.dtype)


class ConvModule(nn.Module):
    """Convolution without bias, batch normalisation, SiLU."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            Unfolded(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(c_out, 0.001, 0.03),
            nn.SiLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Bottleneck(nn.Module):
    """Two 3 x 3 ConvModules, with a shortcut around both."""

    def __init__(self, c_in: int, c_out: int, shortcut: bool = True):
        super().__init__()
        self.body = nn.Sequential(ConvModule(c_in, c_out, 3), ConvModule(c_out, c_out, 3))
        self.share = float(shortcut and c_in == c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + (self.share * x if self.share else 0)


class CSPLayer_2Conv(nn.Module):
    """Split a map, refine one half, concatenate every step."""

    def __init__(self, c_in: int, c_out: int, repeats: int = 1, shortcut: bool = False):
        super().__init__()
        hidden = c_out // 2
        self.row = nn.Sequential()
        while len(self.row) < repeats:
            self.row.append(Bottleneck(hidden, hidden, shortcut))
        self.ends = nn.ModuleDict({"out": ConvModule(c_out + repeats * hidden, c_out), "in": ConvModule(c_in, c_out)})

    def forward(self, x: Tensor) -> Tensor:
        kept, refined = torch.tensor_split(self.ends["in"](x), 2, dim=1)
        steps = accumulate(self.row, lambda half, bottleneck: bottleneck(half), initial=refined)
        return self.ends["out"](torch.cat((kept, *steps), dim=1))


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast: three chained max pools."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 5):
        super().__init__()
        hidden = c_in // 2
        reach = kernel_size // 2
        self.pools = nn.ModuleList([nn.Identity()])
        for chained in (1, 2, 3):  # so many small windows in a chain see what one of this size sees
            self.pools.append(nn.MaxPool2d(2 * reach * chained + 1, stride=1, padding=reach * chained))
        self.narrow, self.mix = ConvModule(c_in, hidden), ConvModule(2 * c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        return self.mix(torch.stack([pool(narrow) for pool in self.pools], dim=1).flatten(1, 2))
