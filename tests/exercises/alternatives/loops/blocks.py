"""Stage 2 in loops, with torch's functions on bare parameters in place of layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution without bias, batch normalisation, SiLU."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(c_out))
        self.scale = nn.Parameter(torch.ones(c_out))
        self.register_buffer("variance", torch.ones(c_out))
        self.register_buffer("mean", torch.zeros(c_out))
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.stride, self.padding = stride, (kernel_size - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(x, self.weight, None, self.stride, self.padding)
        x = nn.functional.batch_norm(
            x, self.mean, self.variance, self.scale, self.shift, self.training, momentum=0.03, eps=0.001
        )
        return x * torch.sigmoid(x)


class Bottleneck(nn.Module):
    """Two 3 x 3 ConvModules, with a shortcut around both."""

    def __init__(self, c_in: int, c_out: int, shortcut: bool = True):
        super().__init__()
        self.second = ConvModule(c_out, c_out, 3)
        self.first = ConvModule(c_in, c_out, 3)
        self.residual = shortcut

    def forward(self, x: Tensor) -> Tensor:
        refined = self.second(self.first(x))
        if self.residual and refined.shape[1] == x.shape[1]:
            refined = torch.add(refined, x)
        return refined


class CSPLayer_2Conv(nn.Module):
    """Split a map, refine one half, concatenate every step."""

    def __init__(self, c_in: int, c_out: int, repeats: int = 1, shortcut: bool = False):
        super().__init__()
        hidden = c_out // 2
        self.hidden = hidden
        for index in range(repeats):
            self.add_module(f"row{index}", Bottleneck(hidden, hidden, shortcut=shortcut))
        self.repeats = repeats
        self.mix = ConvModule(hidden * repeats + c_out, c_out)
        self.enter = ConvModule(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        last = x[:, self.hidden :]
        for index in range(self.repeats):
            last = getattr(self, f"row{index}")(last)
            x = torch.cat([x, last], 1)
        return self.mix(x)


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast: three chained max pools."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 5):
        super().__init__()
        hidden = c_in // 2
        self.out = ConvModule(hidden * 4, c_out)
        self.reduce = ConvModule(c_in, hidden)
        self.size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        def pool(y: Tensor) -> Tensor:
            return nn.functional.max_pool2d(y, self.size, stride=1, padding=self.size // 2)

        a = self.reduce(x)
        b = pool(a)
        c = pool(b)
        return self.out(torch.cat([a, b, c, pool(c)], -3))
