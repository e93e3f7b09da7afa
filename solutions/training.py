"""A step of training and what goes with it: freezing, learning rate, averaging.

Sources: YOLOv6 `yolov6/core/engine.py` and Ultralytics 8.4.190 `engine/trainer.py` for the recipe;
Loshchilov and Hutter 2017 (SGDR) for the cosine; Tarvainen and Valpola 2017 for the averaged
weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from .boxes import predict
from .engine import Hook, Trainer
from .losses import LossParts
from .metrics import Evaluation, evaluate


def _stay_in_eval(module: nn.Module, _inputs: tuple) -> None:
    module.eval()


def freeze(module: nn.Module) -> None:
    """Stop a module from learning, running statistics included.

    A batch normalisation has two kinds of memory: its weights, which the optimizer changes, and its
    running mean and variance, which each forward pass in training mode changes. Both stay as they
    are, even if somebody calls `.train()` on the whole model later: `_stay_in_eval`, as a forward
    pre-hook on each batch normalisation (an `_BatchNorm`), puts it back into eval mode before each
    pass. `unfreeze` looks for this hook. Freezing twice does no harm.
    """
    unfreeze(module)
    # BEGIN SOLUTION
    module.requires_grad_(False)
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.register_forward_pre_hook(_stay_in_eval)
    # END SOLUTION


def unfreeze(module: nn.Module) -> None:
    """Let a module learn again, running statistics included.

    Removes `_stay_in_eval` from each batch normalisation that has it, and no other hook. Such a
    normalisation is at once in the same mode as the module, without waiting for the next
    `.train()`.
    """
    # BEGIN SOLUTION
    module.requires_grad_(True)
    for norm in module.modules():
        for key, hook in list(norm._forward_pre_hooks.items()):
            if hook is _stay_in_eval:
                del norm._forward_pre_hooks[key]
                norm.train(module.training)
    # END SOLUTION


class WarmupCosine:
    """The factor on the learning rate: up in a straight line, then down along half a cosine.

    Args:
        warmup_steps: steps until the factor is 1.
        final: the factor at the end of training.
    """

    def __init__(self, warmup_steps: int = 60, final: float = 0.02):
        self.warmup_steps, self.final = warmup_steps, final

    def __call__(self, step: int, progress: float) -> float:
        """The factor, in 0…1: that of the warm-up times that of the cosine.

        The warm-up rises in a straight line to 1 at the last of its steps. The cosine falls from 1
        to `final`.

        Args:
            step: steps done so far. Step 0 counts as the first: its factor is not 0.
            progress: how much of the training is done, 0…1, by steps or by the clock.
        """
        # BEGIN SOLUTION
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
        return warmup * cosine
        # END SOLUTION


class ExponentialMovingAverage:
    """A slow copy of a model, which is what gets evaluated and kept.

    Args:
        model: copied; the copy is in eval mode and has no gradient.
        decay: weight of the old average at each update, after the ramp.
        ramp: number of updates after which the decay has reached 63 % of its value, so that a young
            average follows quickly.

    Attributes:
        model: the average.
        updates: number of updates so far.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 200.0):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp, self.updates = decay, ramp, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average a little towards the model, in place.

        Every floating-point weight and buffer becomes d · old + (1 − d) · new, with
        d = decay · (1 − e^(−updates / ramp)); `updates` counts this update already. All others are
        copied, because a counter has no average.
        """
        # BEGIN SOLUTION
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.ramp))
        average, current = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in floating], [current[name] for name in floating], 1 - decay)
        for name in average.keys() - set(floating):
            average[name].copy_(current[name])
        # END SOLUTION


class Precision:
    """The number format of the forward pass, with its autocast and its gradient scaler.

    Args:
        device: where the model is.
        name: "fp32", "bf16" (CPU or CUDA), "fp16" (CUDA, with a gradient scaler), or "auto": bf16
            where the processor has units for it, fp16 on older CUDA cards, else fp32.
    """

    def __init__(self, device: torch.device | str = "cpu", name: str = "auto"):
        self.device = torch.device(device)
        self.name = self.best(self.device) if name == "auto" else name
        if self.name not in ("fp32", "bf16", "fp16"):
            raise ValueError(f"unknown precision {name!r}; choose auto, fp32, bf16 or fp16")
        if self.name == "fp16" and self.device.type != "cuda":
            raise ValueError(
                f"fp16 training needs a CUDA card, and this runs on {self.device.type}; choose bf16 or fp32"
            )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")

    @staticmethod
    def best(device: torch.device) -> str:
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
            return "bf16"
        return "fp32"

    def autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.name != "fp32")


def to_unit(images: Tensor, device: torch.device | str) -> Tensor:
    """Convert uint8 images (B, 3, H, W) to float32 in 0…1 on the device.

    The layout becomes channels last, which is faster for convolutions.
    """
    return images.to(device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last).div_(255)


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
    """Forward, loss, backward, and an update after every `accumulate` steps.

    Args:
        model: images (B, 3, H, W) in 0…1 -> raw maps.
        loss: (raw maps, targets) -> `LossParts`; it computes outside of autocast.
        batch: has `.images` uint8 (B, 3, H, W) and `.targets` (N, 6).
        precision: number format of the forward pass and its gradient scaler; default float32.
        clip: maximum norm of all gradients together.
        accumulate: number of batches whose gradients are averaged into one update.
        step: number of this step in its epoch, from 0; decides whether an update is due.

    Returns:
        The parts of the loss, detached.
    """
    device = next(model.parameters()).device
    precision = precision or Precision(device, "fp32")
    images, targets = to_unit(batch.images, device), batch.targets.to(device, non_blocking=True)
    # BEGIN SOLUTION
    with precision.autocast():
        maps = model(images)
    parts = loss(maps, targets)
    precision.scaler.scale(parts.total / accumulate).backward()
    if (step + 1) % accumulate == 0:
        precision.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        precision.scaler.step(optimizer)
        precision.scaler.update()
        optimizer.zero_grad(set_to_none=True)
    # END SOLUTION
    return parts._make(part.detach() for part in parts)


def build_optimizer(
    model: nn.Module, rate: float = 2e-3, weight_decay: float = 5e-4, name: str = "adamw", momentum: float = 0.9
) -> Optimizer:
    """AdamW or SGD over all parameters that are not frozen.

    Weight decay applies to tensors of two or more dimensions only, not to biases and norms.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=True)
    raise ValueError(f"unknown optimizer {name!r}; choose adamw or sgd")


def train(
    model: nn.Module,
    loss: nn.Module,
    loader,
    hooks: Sequence[Hook] = (),
    optimizer: Optimizer | None = None,
    precision: Precision | None = None,
    epochs: int = 100,
    minutes: float | None = None,
    clip: float = 10.0,
    accumulate: int = 1,
) -> Trainer:
    """Train, and return the trainer; its `.metrics` hold the latest results of the hooks.

    Everything else is a hook: schedule, averaging, evaluation, checkpoints, plots.
    """
    precision = precision or Precision(next(model.parameters()).device)
    step = partial(train_step, clip=clip, accumulate=accumulate)
    trainer = Trainer(model, loss, loader, optimizer or build_optimizer(model), step, precision, hooks, epochs, minutes)
    trainer.train()
    return trainer


@torch.no_grad()
def validate(
    model: nn.Module,
    loader,
    precision: Precision | None = None,
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.001,
) -> Evaluation:
    """Average precision of a model over a loader, on the letterboxed images.

    Afterwards the model is in the mode that it was in before.
    """
    device = next(model.parameters()).device
    precision = precision or Precision(device)
    was_training = model.training
    model.eval()
    predictions, truths = [], []
    for batch in loader:
        with precision.autocast():
            maps = model(to_unit(batch.images, device))
        predictions += predict(maps, score_threshold, max_detections=100, reg_max=model.reg_max)
        truths += [batch.targets[batch.targets[:, 0] == index, 1:] for index in range(len(batch.images))]
    model.train(was_training)
    return evaluate(predictions, truths, class_names)
