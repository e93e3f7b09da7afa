"""A small network and its training, for the tests of this folder."""

import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.head(self.backbone(images))


def steps(model, optimizer, count=3, error=None):
    images = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
    for _ in range(count):
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if error is not None:
            raise error
