"""Judge keypoints: average precision by object keypoint similarity (OKS), beside the error in pixels.

    predictions, truths --OKS, greedy--> hits per image --average_precision--> AP per class --> mean
                        --IoU >= 0.5---> pairs -------> distances in pixels

AP by OKS depends on σ: with a σ that is too large, points far off the mark still count as met. The
pixel error does not, because boxes alone say which prediction belongs to which truth. Report both.

Sources: Lin et al. 2014, Microsoft COCO, and `COCOeval` of pycocotools with iouType "keypoints"
(matching, objects that are left out); Ultralytics 8.4.190 `models/yolo/pose/val.py` for the area of
an object of which only the box is known, 0.53 · width · height.
Shapes: n predictions, G truths, K keypoints, T OKS thresholds, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..metrics import COCO_IOU_THRESHOLDS, _best_scored, _class_names, average_precision, match_predictions
from ..pose import COCO_SIGMAS, keypoint_similarity

DEFAULT_SIGMA = 0.05  # of `planes`: OKS 0.79 for points 2 px off in a box of 40 px
AREA_SHARE = 0.53  # of a box that its object fills, on average over people in COCO
SMALL_SIDE = 32.0  # pixels; COCO calls objects small below 32²
BOX_IOU = 0.5  # with which a prediction belongs to a truth, for the error in pixels


class GroupResult(NamedTuple):
    """AP of a group of objects; nan where the group is empty."""

    name: str
    truths: int  # objects with a visible keypoint
    ap: float  # mean over the thresholds
    ap50: float
    ap75: float


class KeypointResult(NamedTuple):
    """One keypoint: AP by its similarity alone, and its error in matched objects."""

    name: str
    points: int  # visible in matched objects
    ap: float
    ap50: float
    ap75: float
    median_error: float  # pixels; nan without points
    mean_error: float


@dataclass(frozen=True)
class KeypointEvaluation:
    """The result of `evaluate_keypoints`. `str` of it is a table.

    Attributes:
        groups: all, small and large objects, each with AP, AP50 and AP75.
        per_keypoint: K results.
        matched: truths with a visible keypoint that a predicted box has found.
        errors: (matched objects, K) pixels, nan where a keypoint is not visible.
        median_error, mean_error: pixels, over all visible keypoints of matched truths.
        sigmas: (K,) that OKS was computed with. sigma_source: where they come from.
        class_names: C names. per_class: (C, T) AP, nan for classes without truths.
    """

    groups: list[GroupResult]
    per_keypoint: list[KeypointResult]
    matched: int
    errors: NDArray
    median_error: float
    mean_error: float
    sigmas: NDArray
    sigma_source: str
    area: str
    class_names: list[str]
    per_class: NDArray

    @property
    def ap(self) -> float:
        return self.groups[0].ap

    @property
    def ap50(self) -> float:
        return self.groups[0].ap50

    @property
    def ap75(self) -> float:
        return self.groups[0].ap75

    def __str__(self) -> str:
        lines = [f"{'objects':<20}{'truths':>8}{'AP':>8}{'AP50':>8}{'AP75':>8}"]
        lines += [f"{own.name:<20}{own.truths:>8}{own.ap:>8.3f}{own.ap50:>8.3f}{own.ap75:>8.3f}" for own in self.groups]
        lines += ["", f"{'keypoint':<20}{'points':>8}{'AP':>8}{'AP50':>8}{'AP75':>8}{'median px':>11}{'mean px':>9}"]
        for own in self.per_keypoint:
            aps = f"{own.ap:>8.3f}{own.ap50:>8.3f}{own.ap75:>8.3f}"
            lines.append(f"{own.name:<20}{own.points:>8}{aps}{own.median_error:>11.2f}{own.mean_error:>9.2f}")
        points = sum(own.points for own in self.per_keypoint)
        lines.append(f"{'all':<20}{points:>8}{'':24}{self.median_error:>11.2f}{self.mean_error:>9.2f}")
        spread = sorted({f"{sigma:.3g}" for sigma in self.sigmas})
        sigmas = spread[0] if len(spread) == 1 else f"{min(self.sigmas):.3g} to {max(self.sigmas):.3g}"
        found = f"{self.matched} of {self.groups[0].truths} objects found with box IoU >= {BOX_IOU:g}"
        lines += ["", f"OKS with sigma {sigmas} ({self.sigma_source}), area {self.area}; {found}"]
        return "\n".join(lines)


def evaluate_keypoints(
    predictions: Sequence[torch.Tensor | ArrayLike],
    truths: Sequence[torch.Tensor | ArrayLike],
    sigmas: float | Sequence[float] | None = None,
    *,
    keypoint_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    areas: Sequence[ArrayLike] | None = None,
    area_share: float = AREA_SHARE,
    small_side: float = SMALL_SIDE,
    max_detections: int = 100,
) -> KeypointEvaluation:
    """Judge the keypoints predicted for a whole data set.

    A prediction is a hit if its OKS with a truth of its class reaches the threshold, and no
    better-scored prediction has taken that truth. As in COCO, a truth without a visible keypoint is
    left out, with the prediction that takes it. Ultralytics counts it as a miss.

    Args:
        predictions: for each image (n, 6 + K·d) x1 y1 x2 y2 score class, then x y [visibility] of
            each keypoint. The predicted visibility is not judged.
        truths: for each image (G, 5 + 3·K) class x1 y1 x2 y2, then x y visibility of each keypoint,
            in the same pixels.
        sigmas: one for all keypoints or K of them. By default COCO's where K is 17, else 0.05; the
            table says which. The σ of the loss is another one.
        keypoint_names: K names; by default numbers.
        class_names: C names; by default as many numbers as occur.
        areas: for each image (G,) square pixels. By default `area_share` of the boxes.
        small_side: an object is small if its area is below the square of this, in pixels.
        max_detections: per image and class, only this many best-scored predictions count.

    Errors: ValueError for lists of different length, an array of another shape, an unknown class,
        or sigmas that are not K positive numbers.
    """
    boxes = [np.asarray(_numbers(own), dtype=np.float64) for own in truths]
    found = [np.asarray(_numbers(own), dtype=np.float64) for own in predictions]
    if len(found) != len(boxes):
        raise ValueError(f"{len(found)} predictions for {len(boxes)} truths. Give one array of each for every image.")
    count = _keypoint_count(boxes, keypoint_names, sigmas)
    names = list(keypoint_names or (str(number) for number in range(count)))
    sigmas, source = _checked_sigmas(sigmas, count)
    images = _images(found, boxes, areas, area_share, count, max_detections)
    occurring = [np.append(own.truths[:, 0], own.found[:, 5]) for own in images]
    classes = _class_names(class_names, np.concatenate([np.zeros(0), *occurring]))

    labelled = [own.visible.any(axis=1) for own in images]
    similar = [_similarity(own, own.visible, sigmas) for own in images]
    ap, group_results = None, []
    for name, low, high in (("all", 0, np.inf), ("small", 0, small_side**2), ("large", small_side**2, np.inf)):
        judged = [ok & (own.areas >= low) & (own.areas < high) for ok, own in zip(labelled, images)]
        inside = [(own.reach >= low) & (own.reach < high) for own in images]
        own = _ap(images, similar, judged, inside, len(classes))
        ap = own if ap is None else ap
        group_results.append(GroupResult(name, int(sum(map(np.sum, judged))), *_means(own)))

    errors = [_errors(own) for own in images]  # one (matched, K) an image, nan where not visible
    errors = np.concatenate([np.zeros((0, count)), *errors])
    results = []
    for k, name in enumerate(names):
        alone = np.arange(count) == k
        only = [_similarity(own, own.visible & alone, sigmas) for own in images]
        own_ap = _ap(images, only, [own.visible[:, k] for own in images], None, len(classes))
        seen = errors[~np.isnan(errors[:, k]), k]
        results.append(KeypointResult(name, len(seen), *_means(own_ap), *_middle(seen)))
    area = "as given" if areas is not None else f"{area_share:g} of the box"
    middle = _middle(errors[~np.isnan(errors)])
    matched = int((~np.isnan(errors)).any(axis=1).sum())
    return KeypointEvaluation(group_results, results, matched, errors, *middle, sigmas, source, area, classes, ap)


# What is given, checked and in one form
# --------------------------------------------------------------------------------------------------


class _Image(NamedTuple):
    """One image in double precision. No more predictions than count."""

    found: NDArray  # (n, 6) x1 y1 x2 y2 score class
    points: NDArray  # (n, K, 2)
    reach: NDArray  # (n,) area of a prediction, by which it belongs to the small or large ones
    truths: NDArray  # (G, 5) class x1 y1 x2 y2
    keypoints: NDArray  # (G, K, 3)
    visible: NDArray  # (G, K)
    areas: NDArray  # (G,)


def _numbers(rows: torch.Tensor | ArrayLike) -> ArrayLike:
    return rows.detach().cpu().double().numpy() if isinstance(rows, torch.Tensor) else rows


def _keypoint_count(truths: list[NDArray], names: Sequence[str] | None, sigmas: object) -> int:
    """K, from the widest thing that states it."""
    widths = {own.shape[1] for own in truths if own.ndim == 2}
    if len(widths) > 1:
        raise ValueError(f"The truths have {sorted(widths)} columns; all need the same, 5 + 3 · keypoints.")
    if widths:
        count, rest = divmod(widths.pop() - 5, 3)
        if count < 1 or rest:
            columns = 5 + 3 * count + rest
            raise ValueError(
                f"The truths have {columns} columns; they need 5 + 3 · keypoints: class, box, x y visibility."
            )
    elif names is not None or isinstance(sigmas, Sequence):
        count = len(names if names is not None else sigmas)
    else:
        raise ValueError("No truth says how many keypoints there are. Give keypoint_names.")
    if names is not None and len(names) != count:
        raise ValueError(f"There are {len(names)} keypoint names for {count} keypoints. Give one a keypoint.")
    return count


def _checked_sigmas(sigmas: float | Sequence[float] | None, count: int) -> tuple[NDArray, str]:
    """(K,) and where they come from."""
    if sigmas is None:
        if count == len(COCO_SIGMAS):
            return np.array(COCO_SIGMAS) / 1000, "COCO's, by default"
        return np.full(count, DEFAULT_SIGMA), "by default"
    values = np.asarray(sigmas, dtype=np.float64)
    if values.shape not in ((), (count,)) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"sigmas is {sigmas}; give one positive number, or {count}, one for each keypoint.")
    return np.broadcast_to(values, count).copy(), "as given"


def _images(
    found: list[NDArray], truths: list[NDArray], areas: Sequence | None, share: float, count: int, most: int
) -> list[_Image]:
    if areas is not None and len(areas) != len(truths):
        raise ValueError(f"{len(areas)} areas for {len(truths)} truths. Give one array of each for every image.")
    images = []
    for number, (own, true) in enumerate(zip(found, truths)):
        own = own.reshape(0, 6 + 2 * count) if own.size == 0 else own
        true = true.reshape(0, 5 + 3 * count) if true.size == 0 else true
        if own.ndim != 2 or own.shape[1] not in (6 + 2 * count, 6 + 3 * count):
            widths = f"(rows, {6 + 2 * count}) or (rows, {6 + 3 * count})"
            what = f"predictions[{number}] has shape {own.shape}; it has to be {widths}"
            raise ValueError(f"{what}: x1 y1 x2 y2 score class, then each keypoint.")
        own = _best_scored(own, most) if len(own) > most else own
        points = own[:, 6:].reshape(len(own), count, (own.shape[1] - 6) // count)[..., :2]
        keypoints = true[:, 5:].reshape(-1, count, 3)
        sizes = true[:, 3:5] - true[:, 1:3]
        area = sizes.prod(axis=1) * share if areas is None else np.asarray(_numbers(areas[number]), dtype=np.float64)
        if area.shape != (len(true),):
            raise ValueError(f"areas[{number}] has shape {area.shape} for {len(true)} truths. Give one area a truth.")
        reach = (own[:, 2:4] - own[:, :2]).prod(axis=1) * share
        images.append(_Image(own[:, :6], points, reach, true[:, :5], keypoints, keypoints[..., 2] > 0, area))
    return images


# OKS, matching, AP
# --------------------------------------------------------------------------------------------------


def _similarity(image: _Image, visible: NDArray, sigmas: NDArray) -> NDArray:
    """OKS of every prediction with every truth (n, G); 0 between different classes.

    A truth without a visible keypoint is compared by its box, grown by its own size on each side:
    a keypoint inside has distance 0. Such truths are not judged, but they take predictions.
    """
    truth = np.concatenate((image.keypoints[..., :2], visible[..., None]), axis=-1)
    predicted, truth, areas, spread = (torch.from_numpy(a) for a in (image.points, truth, image.areas, sigmas))
    oks = keypoint_similarity(predicted[:, None], truth[None], areas[None], spread).numpy()
    hidden = np.flatnonzero(~visible.any(axis=1))
    if len(hidden) and len(oks):
        low, high = image.truths[hidden, None, 1:3], image.truths[hidden, None, 3:5]
        nearest = np.clip(image.points[:, None], 2 * low - high, 2 * high - low)  # (n, hidden, K, 2)
        nearest = torch.from_numpy(np.concatenate((nearest, np.ones_like(nearest[..., :1])), axis=-1))
        oks[:, hidden] = keypoint_similarity(predicted[:, None], nearest, areas[None, hidden], spread).numpy()
    return np.where(image.found[:, 5, None] == image.truths[:, 0], oks, 0)


def _match(similar: NDArray, scores: NDArray, judged: NDArray) -> NDArray:
    """The truth that each prediction of one image takes at every threshold: (n, T), or -1.

    As `metrics.match_predictions`, but by OKS, and a prediction takes a truth that is not judged
    only if no judged one is free.
    """
    indices, rows = (similar >= COCO_IOU_THRESHOLDS[0]).nonzero()
    values = similar[indices, rows]
    order = np.lexsort((-rows, -values, ~judged[rows], indices, -scores[indices]))
    taken = np.full((len(similar), len(COCO_IOU_THRESHOLDS)), -1)
    free = np.ones((len(judged), len(COCO_IOU_THRESHOLDS)), dtype=bool)
    for at in order:
        index, row = indices[at], rows[at]
        match = (values[at] >= COCO_IOU_THRESHOLDS) & free[row] & (taken[index] < 0)
        taken[index, match] = row
        free[row, match] = False
    return taken


def _ap(
    images: list[_Image], similar: list[NDArray], judged: list[NDArray], inside: list[NDArray] | None, classes: int
) -> NDArray:
    """AP of every class (C, T); nan for classes without judged truths.

    A prediction does not count if it takes a truth that is not judged, or if it takes none and is
    itself outside of the group (`inside`).
    """
    thresholds = len(COCO_IOU_THRESHOLDS)
    hits, counted = [np.zeros((0, thresholds), bool)], [np.zeros((0, thresholds), bool)]
    for number, (image, oks, own) in enumerate(zip(images, similar, judged)):
        taken = _match(oks, image.found[:, 4], own)
        hit = np.append(own, False)[taken]  # -1 takes the last
        member = np.ones(len(taken), bool) if inside is None else inside[number]
        hits.append(hit)
        counted.append(hit | ((taken < 0) & member[:, None]))
    hits, counted = np.concatenate(hits), np.concatenate(counted)
    scores, labels = np.concatenate([np.zeros((0, 6)), *(image.found for image in images)])[:, 4:].T
    truths = np.concatenate([np.zeros(0), *(image.truths[own, 0] for image, own in zip(images, judged))])
    ap = np.full((classes, thresholds), np.nan)
    for number in range(classes):
        count = int((truths == number).sum())
        for t in range(thresholds if count else 0):
            kept = counted[:, t] & (labels == number)
            ap[number, t] = average_precision(hits[kept, t : t + 1], scores[kept], count)[0][0]
    return ap


def _means(ap: NDArray) -> tuple[float, float, float]:
    """AP, AP50 and AP75, each a mean over the classes that have truths."""
    ap = ap[~np.isnan(ap).any(axis=1)]
    return tuple(float(part.mean()) if len(ap) else float("nan") for part in (ap, ap[:, 0], ap[:, 5]))


def _errors(image: _Image) -> NDArray:
    """Distances in pixels (matched, K) of matched truths; nan where a keypoint is not visible."""
    matches = match_predictions(image.found, image.truths, np.array([BOX_IOU]))[:, 0]
    index = np.flatnonzero(matches >= 0)
    row = matches[index]
    distance = np.linalg.norm(image.points[index] - image.keypoints[row, :, :2], axis=-1)
    return np.where(image.visible[row], distance, np.nan)


def _middle(values: NDArray) -> tuple[float, float]:
    """Median and mean; nan without values."""
    return (float(np.median(values)), float(values.mean())) if len(values) else (float("nan"), float("nan"))
