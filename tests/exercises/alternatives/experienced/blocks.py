"""Stage 2 as somebody with a year of PyTorch writes it: Sequential and functional."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvModule(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, c_out: int, shortcut: bool = True):
        super().__init__()
        self.conv1 = ConvModule(c_in, c_out, kernel_size=3)
        self.conv2 = ConvModule(c_out, c_out, kernel_size=3)
        self.shortcut = shortcut and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv2(self.conv1(x))
        if self.shortcut:
            out = out + identity
        return out


class CSPLayer_2Conv(nn.Module):
    def __init__(self, c_in: int, c_out: int, repeats: int = 1, shortcut: bool = False):
        super().__init__()
        hidden = c_out // 2
        self.hidden = hidden
        self.expand = ConvModule(c_in, 2 * hidden)
        self.blocks = nn.ModuleList([Bottleneck(hidden, hidden, shortcut=shortcut) for _ in range(repeats)])
        self.fuse = ConvModule((2 + repeats) * hidden, c_out)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.expand(x).split(self.hidden, dim=1)
        outs = [a, b]
        for block in self.blocks:
            b = block(b)
            outs.append(b)
        return self.fuse(torch.cat(outs, dim=1))


class SPPF(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel_size: int = 5):
        super().__init__()
        hidden = c_in // 2
        self.k = kernel_size
        self.reduce = ConvModule(c_in, hidden, 1, 1)
        self.expand = ConvModule(hidden * 4, c_out, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        p1 = F.max_pool2d(x, self.k, stride=1, padding=self.k // 2)
        p2 = F.max_pool2d(p1, self.k, stride=1, padding=self.k // 2)
        p3 = F.max_pool2d(p2, self.k, stride=1, padding=self.k // 2)
        return self.expand(torch.cat((x, p1, p2, p3), dim=1))
