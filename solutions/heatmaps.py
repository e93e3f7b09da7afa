"""Keypoints by heatmaps, as in HigherHRNet: a map says where, a tag says whose.

    images ── network ─┬─ heatmaps, tags (B, 2·K, h, w)   a peak where a keypoint is; a number for its person
                       └─ heatmaps    (B, K, 2h, 2w)      the same at twice the resolution
    groups ─ peaks of all people, joined where their tags are close

No box says which keypoints belong together. The network learns to give all keypoints of a person
(here: of an aircraft) the same tag, and other people another one; it chooses the numbers itself.

The data side is numpy, because it runs in the loader's processes; the losses are torch.

Sources: Cheng et al. 2020, HigherHRNet; Newell et al. 2017, Associative Embedding, equations 1 and
2. Where the original is wrong (a sigma that is no integer, the scale-aware generator's call), this
module is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def check_keypoints(keypoints: np.ndarray, num_keypoints: int, numbers: int) -> None:
    """Raise ValueError, with a sentence, for keypoints that are not (G, K, numbers)."""
    if keypoints.ndim != 3 or keypoints.shape[1:] != (num_keypoints, numbers):
        raise ValueError(
            f"keypoints have the shape {keypoints.shape}; these maps take (people, {num_keypoints}, {numbers})."
        )


class HeatmapGenerator:
    """Draw a Gaussian peak of height 1 for each keypoint, in a map for each kind of keypoint.

    Args:
        size: the maps are size × size.
        num_keypoints: K.
        sigma: standard deviation of a peak in cells; size / 64 by default.
    """

    def __init__(self, size: int, num_keypoints: int, sigma: float | None = None):
        self.size, self.num_keypoints = size, num_keypoints
        self.sigma = size / 64 if sigma is None else sigma
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}; it is the width of a peak in cells, and positive.")

    def kernel(self, sigma: float) -> np.ndarray:
        """A peak: exp(-(dx² + dy²) / (2σ²)) for dx and dy in -r … r, with r = ⌈3σ⌉ + 1.

        Returns:
            (2r + 1, 2r + 1) float32, 1 in the middle for every σ.
        """
        # BEGIN SOLUTION
        radius = math.ceil(3 * sigma) + 1
        offset = np.arange(-radius, radius + 1, dtype=np.float64)
        return np.exp(-(offset**2 + offset[:, None] ** 2) / (2 * sigma**2)).astype(np.float32)
        # END SOLUTION

    def paint(self, heatmap: np.ndarray, x: int, y: int, kernel: np.ndarray) -> None:
        """Put the kernel's middle on column x and row y of a map (size, size), in place.

        Where peaks meet, the larger value stays: both keep their height of 1. What reaches over the
        border is cut off. A cell outside the map is not painted at all.
        """
        # BEGIN SOLUTION
        if not (0 <= x < self.size and 0 <= y < self.size):
            return
        radius = len(kernel) // 2
        left, right = max(0, x - radius), min(self.size, x + radius + 1)
        top, bottom = max(0, y - radius), min(self.size, y + radius + 1)
        part = kernel[top - y + radius : bottom - y + radius, left - x + radius : right - x + radius]
        np.maximum(heatmap[top:bottom, left:right], part, out=heatmap[top:bottom, left:right])
        # END SOLUTION

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """The maps of one image.

        Args:
            keypoints: (G, K, 3) x, y in cells of the map, visibility 0, 1 or 2. A keypoint counts
                if its visibility is above 0. Its cell is int(x), int(y), which rounds towards 0.

        Returns:
            (K, size, size) float32 within 0…1; zeros where nobody is.
        """
        check_keypoints(keypoints, self.num_keypoints, 3)
        # BEGIN SOLUTION
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)
        kernel = self.kernel(self.sigma)
        for person in keypoints:
            for heatmap, (x, y, visibility) in zip(heatmaps, person, strict=True):
                if visibility > 0:
                    self.paint(heatmap, int(x), int(y), kernel)
        return heatmaps
        # END SOLUTION


class ScaleAwareHeatmapGenerator(HeatmapGenerator):
    """The same maps, with a peak as wide as its keypoint asks: small people get narrow peaks.

    Args: those of `HeatmapGenerator`; sigma serves the keypoints that bring none.
    """

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """The maps of one image.

        Args:
            keypoints: (G, K, 4) x, y, visibility, and σ in cells; 0 for the generator's own σ.

        Returns:
            (K, size, size) float32 within 0…1.

        Errors: ValueError for a σ below 0.
        """
        check_keypoints(keypoints, self.num_keypoints, 4)
        if not (keypoints[..., 3] >= 0).all():
            raise ValueError("a keypoint's sigma is below 0; it is a width in cells, or 0 for the generator's own.")
        # BEGIN SOLUTION
        heatmaps = np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)
        for person in keypoints:
            for heatmap, (x, y, visibility, sigma) in zip(heatmaps, person, strict=True):
                if visibility > 0:
                    self.paint(heatmap, int(x), int(y), self.kernel(float(sigma) or self.sigma))
        return heatmaps
        # END SOLUTION


class JointsGenerator:
    """For each person, list where in the flattened tag maps its visible keypoints lie.

    Args:
        max_people: P, rows of the list; images of a batch need lists of one shape.
        num_keypoints: K.
        size: side of the tag maps; each resolution has its own generator.
    """

    def __init__(self, max_people: int, num_keypoints: int, size: int):
        self.max_people, self.num_keypoints, self.size = max_people, num_keypoints, size

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """The list of one image.

        Args:
            keypoints: (G, K, 3) x, y in cells of the tag map, visibility; a σ as a fourth number
                plays no part. The rule which keypoints count is that of `HeatmapGenerator`.

        Returns:
            (P, K, 2) int64. Row g belongs to person g. Each of its keypoints is an entry
            (k·size² + y·size + x, 1); the entries of a row stand at its left, all others are (0, 0).

        Errors: ValueError for more than P people.
        """
        check_keypoints(keypoints[..., :3], self.num_keypoints, 3)
        if len(keypoints) > self.max_people:
            raise ValueError(
                f"the image has {len(keypoints)} people, and the list {self.max_people} rows; raise max_people."
            )
        # BEGIN SOLUTION
        joints = np.zeros((self.max_people, self.num_keypoints, 2), dtype=np.int64)
        for row, person in zip(joints, keypoints):
            entries = []
            for k, (x, y, visibility) in enumerate(person[:, :3]):
                x, y = int(x), int(y)
                if visibility > 0 and 0 <= x < self.size and 0 <= y < self.size:
                    entries.append((k * self.size**2 + y * self.size + x, 1))
            row[: len(entries)] = np.array(entries, dtype=np.int64).reshape(-1, 2)
        return joints
        # END SOLUTION


def heatmap_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error of each image; 0 wherever its mask is 0.

    The mask hides regions with people whom nobody has annotated: no answer is wrong there. It does
    not change the divisor, which is K·h·w.

    Args:
        predicted, target: (B, K, h, w).
        mask: (B, h, w), 0 or 1, of any number format.

    Returns:
        (B,), computed in float32.
    """
    # BEGIN SOLUTION
    error = (predicted.float() - target).square() * mask[:, None]
    return error.mean(dim=(1, 2, 3))
    # END SOLUTION


def associative_embedding(tags: Tensor, joints: Tensor, kind: str = "exp") -> tuple[Tensor, Tensor]:
    """Pull the tags of a person together, and push the means of two people apart.

        pull = 1/n · Σ_i  mean over the person's keypoints of (t - t̄_i)²
        push = 1/2 · 1/(n(n - 1)) · Σ_{i ≠ j} f(t̄_i - t̄_j),   f(d) = exp(-d²) or max(0, 1 - |d|)

    n counts the people with at least one keypoint, t̄_i is the mean tag of person i. Tags 0 and 0.2
    of one, 1 and 1.4 of another person: pull 0.025, push 0.149 (exp) or 0 (max).

    Args:
        tags: (B, K, h, w), one tag map for each kind of keypoint.
        joints: (B, P, K, 2) as of `JointsGenerator`.
        kind: f, "exp" or "max".

    Returns:
        pull (B,) and push (B,), computed in float32. Both are 0 for an image without people; push
        is 0 for one person.

    Errors: ValueError for another number of tag maps than K, and for an unknown kind.
    """
    if kind not in ("exp", "max"):
        raise ValueError(f"unknown kind of push {kind!r}; choose exp or max")
    if tags.shape[1] != joints.shape[2]:
        raise ValueError(
            f"there are {tags.shape[1]} tag maps for {joints.shape[2]} keypoints; a tag is one number, and each "
            "kind of keypoint has a map of its own."
        )
    # BEGIN SOLUTION
    index, valid = joints[..., 0], joints[..., 1] > 0  # (B, P, K) each
    found = tags.float().flatten(1).gather(1, index.flatten(1)).view(index.shape)
    counts = valid.sum(dim=-1)  # (B, P)
    means = (found * valid).sum(dim=-1) / counts.clamp(min=1)
    variances = ((found - means[..., None]).square() * valid).sum(dim=-1) / counts.clamp(min=1)
    present = counts > 0
    people = present.sum(dim=-1)  # (B,)
    pull = variances.sum(dim=-1) / people.clamp(min=1)

    distance = means[:, :, None] - means[:, None]  # (B, P, P)
    close = torch.exp(-distance.square()) if kind == "exp" else F.relu(1 - distance.abs())
    others = ~torch.eye(present.shape[1], dtype=torch.bool, device=tags.device)
    pairs = present[:, :, None] & present[:, None] & others
    push = 0.5 * (close * pairs).sum(dim=(1, 2)) / (people * (people - 1)).clamp(min=1)
    return pull, push
    # END SOLUTION


class HeatmapParts(NamedTuple):
    """The loss and its three parts, each a scalar tensor with its factor included."""

    total: Tensor  # the sum of the three parts
    heatmap: Tensor
    pull: Tensor
    push: Tensor


class MultiLoss(nn.Module):
    """The losses of all resolutions, and their sum.

    Args:
        num_keypoints: K.
        with_heatmap, with_tags: for each resolution, whether it has heatmaps and tag maps.
        heatmap_factors, pull_factors, push_factors: weights of the parts, for each resolution.
        kind: that of `associative_embedding`.

    Shape:
        outputs, one for each resolution: (B, K, h, w) heatmaps, then as many tag maps, as far as it
        has them; targets with three lists, one entry for each resolution: .heatmaps (B, K, h, w),
        .masks (B, h, w), .joints (B, P, K, 2) -> `HeatmapParts`, means over the batch

    Errors: ValueError for arguments of unequal lengths, another number of outputs, or an output
        with another number of channels.
    """

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
        lists = (with_heatmap, with_tags, heatmap_factors, pull_factors, push_factors)
        if len({len(values) for values in lists}) > 1:
            raise ValueError(f"the five lists have the lengths {[*map(len, lists)]}; each has an entry per resolution.")
        self.num_keypoints, self.with_heatmap, self.with_tags = num_keypoints, with_heatmap, with_tags
        self.heatmap_factors, self.pull_factors, self.push_factors = heatmap_factors, pull_factors, push_factors
        self.kind = kind

    def forward(self, outputs: Sequence[Tensor], targets) -> HeatmapParts:
        expected = [self.num_keypoints * (h + t) for h, t in zip(self.with_heatmap, self.with_tags, strict=True)]
        if (channels := [output.shape[1] for output in outputs]) != expected:
            raise ValueError(
                f"the outputs have {channels} channels; {self.num_keypoints} keypoints ask for {expected}."
            )
        # BEGIN SOLUTION
        heatmap = pull = push = outputs[0].new_zeros((), dtype=torch.float32)
        for stage, output in enumerate(outputs):
            tags_start = 0
            if self.with_heatmap[stage]:
                tags_start = self.num_keypoints
                loss = heatmap_loss(output[:, :tags_start], targets.heatmaps[stage], targets.masks[stage])
                heatmap = heatmap + loss.mean() * self.heatmap_factors[stage]
            if self.with_tags[stage]:
                together, apart = associative_embedding(output[:, tags_start:], targets.joints[stage], self.kind)
                pull = pull + together.mean() * self.pull_factors[stage]
                push = push + apart.mean() * self.push_factors[stage]
        return HeatmapParts(heatmap + pull + push, heatmap, pull, push)
        # END SOLUTION


def group_keypoints(
    heatmaps: Tensor | np.ndarray,
    tags: Tensor | np.ndarray,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
    max_people: int = 30,
    window: int = 5,
) -> np.ndarray:
    """Find the peaks of all maps, and join those that belong to the same person.

    1. A peak is the highest cell of the window around it, and above the threshold. The max_people
       highest peaks of each map are candidates.
    2. Map by map, in order: assign its candidates to the people found so far, each to one at most,
       so that the sum of 100 · round(distance) - score is smallest. The distance is that of the
       candidate's tag to the mean of the person's tags so far.
    3. A candidate without a person, or at a distance of tag_threshold or more, is a new person, as
       long as there are fewer than max_people.

    A position is the middle of the peak's cell (+ 0.5), moved by a quarter of a cell along x and
    along y towards the higher neighbour; at the border the cell itself takes the missing one's
    place. Two equal neighbours move nothing.

    Args:
        heatmaps, tags: (K, h, w).
        window: odd.

    Returns:
        (people, K, 4) float32: x, y in cells, score, tag; people in the order in which they are
        found, the highest peak of a map first. Where a keypoint is missing, its score is 0 and the
        other numbers are NaN.

    Errors: ValueError for maps of unequal shape, and for an even window.
    """
    from scipy.optimize import linear_sum_assignment  # opened here: it takes longer than the rest of this module

    heatmaps, tags = (torch.as_tensor(maps).detach().float().cpu() for maps in (heatmaps, tags))
    if heatmaps.shape != tags.shape or heatmaps.ndim != 3:
        raise ValueError(f"heatmaps {tuple(heatmaps.shape)} and tags {tuple(tags.shape)} must both be (K, h, w).")
    if window % 2 == 0:
        raise ValueError(f"the window is {window}; an odd one has a middle.")
    count, height, width = heatmaps.shape
    # BEGIN SOLUTION
    highest = F.max_pool2d(heatmaps, window, stride=1, padding=window // 2)
    peaks = heatmaps.masked_fill(heatmaps < highest, -math.inf)
    scores, places = peaks.flatten(1).topk(min(max_people, height * width))  # (K, candidates)
    people, person_tags = [], []
    for k in range(count):
        place = places[k][scores[k] > threshold]
        x, y, score, tag = place % width, place // width, heatmaps[k].flatten()[place], tags[k].flatten()[place]
        right, left = heatmaps[k][y, (x + 1).clamp(max=width - 1)], heatmaps[k][y, (x - 1).clamp(min=0)]
        below, above = heatmaps[k][(y + 1).clamp(max=height - 1), x], heatmaps[k][(y - 1).clamp(min=0), x]
        x, y = x + 0.5 + 0.25 * (right - left).sign(), y + 0.5 + 0.25 * (below - above).sign()
        candidates = torch.stack((x, y, score, tag), dim=1).numpy()

        means = np.array([np.mean(own) for own in person_tags])
        distance = np.abs(candidates[:, 3:] - means)  # (candidates, people so far)
        rows, columns = linear_sum_assignment(100 * np.round(distance) - candidates[:, 2:3])
        person = {row: col for row, col in zip(rows, columns, strict=True) if distance[row, col] < tag_threshold}
        for row, candidate in enumerate(candidates):
            if row not in person:
                if len(people) >= max_people:
                    continue
                person[row] = len(people)
                people.append(np.tile(np.array([np.nan, np.nan, 0, np.nan], dtype=np.float32), (count, 1)))
                person_tags.append([])
            people[person[row]][k] = candidate
            person_tags[person[row]].append(candidate[3])
    return np.array(people, dtype=np.float32).reshape(-1, count, 4)
    # END SOLUTION
