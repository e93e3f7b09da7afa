"""Batch normalisation over the images of all processes: the batch of a process alone may be small.

torch's `SyncBatchNorm` does so on CUDA cards and refuses tensors of the CPU. `SyncedNorm` is the same
normalisation from operations that every process group has, gloo included, so that two processes on
a CPU can be compared with one.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes.

    Each process uses the sum, so the gradient of one summand is the sum of all their gradients.
    """

    @staticmethod
    def forward(_context, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class SyncedNorm(nn.BatchNorm2d):
    """`BatchNorm2d` whose mean and variance are those of the batches of all processes together.

    Two messages in each pass: first the mean, then the squares around it, because a difference of
    large sums would lose digits. In eval mode there is none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape and dtype; B may differ among processes."""
        if not self.training:
            return super().forward(x)
        values, axes = x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3)
        sums = _Sum.apply(torch.cat((values.sum(axes), values.new_tensor([x.numel() / x.shape[1]]))))
        count = sums[-1].detach()
        centred = values - (mean := sums[:-1] / count)[:, None, None]
        variance = _Sum.apply(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1)
        result = centred * scale[:, None, None]
        return (result + self.bias[:, None, None] if self.affine else result).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as `BatchNorm2d` does, towards these: mean and unbiased variance (C,)."""
        if self.running_mean is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise(model: nn.Module) -> nn.Module:
    """Let each `BatchNorm2d` in the model normalise over all processes. In place.

    Parameters and buffers stay the same objects with the same names, so an optimizer, a checkpoint
    and an average do not notice. On CUDA this is torch's `SyncBatchNorm`, elsewhere `SyncedNorm`.
    """
    if next(model.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                synced = SyncedNorm(norm.num_features)
                synced.__dict__.update(norm.__dict__)  # weights, statistics, settings, mode and hooks
                setattr(parent, name, synced)
    return model
