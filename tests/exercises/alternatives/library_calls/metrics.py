"""Stage 7, metrics, as whole arrays: a masked argmax, the curve as recalls by predictions."""

import numpy as np
import torch
from numpy.typing import NDArray


def match_predictions(predictions: NDArray, truths: NDArray, iou_thresholds: NDArray) -> NDArray:
    p, t = torch.from_numpy(predictions).double(), torch.from_numpy(truths).double()
    matches = torch.full((len(p), len(iou_thresholds)), -1)
    if not len(t):
        return matches.numpy()
    corner = torch.maximum(p[:, None, :2], t[None, :, 1:3])
    sides = (torch.minimum(p[:, None, 2:4], t[None, :, 3:]) - corner).clamp(min=0)
    overlap = sides.prod(dim=-1)
    union = (p[:, 2:4] - p[:, :2]).prod(dim=-1)[:, None] + (t[:, 3:] - t[:, 1:3]).prod(dim=-1) - overlap
    iou = torch.where(p[:, 5:] == t[:, 0], overlap / union, torch.tensor(-1.0, dtype=torch.float64)).flip(
        1
    )  # the later of two equals first
    for level, threshold in enumerate(iou_thresholds.tolist()):
        left = iou.clone()
        for place in p[:, 4].argsort(descending=True, stable=True).tolist():
            column = int(left[place].numpy().argmax())
            if left[place, column] >= threshold:
                matches[place, level] = len(t) - 1 - column
                left[:, column] = -1
    return matches.numpy()


def average_precision(hits: NDArray, scores: NDArray, num_truths: int) -> tuple[NDArray, NDArray]:
    order = torch.from_numpy(scores).argsort(descending=True, stable=True).numpy()
    right = np.cumsum(hits[order].astype(float), axis=0)  # (n, T)
    wrong = np.cumsum(1.0 - hits[order], axis=0)
    precision = np.vstack(
        (right / (right + wrong), np.zeros_like(right[:1]) if len(right) else np.zeros((1, hits.shape[1])))
    )
    recall = np.vstack((right / num_truths, np.full((1, hits.shape[1]), np.inf)))  # the 0 that is reached everywhere
    enough = recall[None] >= (np.arange(101) / 100)[:, None, None]  # (101, n + 1, T)
    interpolated = np.where(enough, precision[None], 0).max(axis=1).T
    return np.mean(interpolated, axis=-1), interpolated
