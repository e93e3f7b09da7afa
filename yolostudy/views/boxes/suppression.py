"""Non-maximum suppression: which candidates are kept, and which kept one suppresses the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.patches import Arc
from matplotlib.ticker import MaxNLocator

from ...canvas import drawing, style
from ...canvas.overlap import iou
from ...canvas.panel import Panel
from .asking import ask

# In place of the index of a suppressor:
KEPT = -1
BELOW = -2  # under the score threshold
NOBODY = -3  # suppressed although no kept box explains it


def suppress(
    boxes,
    scores,
    classes,
    iou_threshold: float = 0.7,
    score_threshold: float = 0.25,
    non_maximum_suppression: Callable | None = None,
    points=None,
) -> dict:
    """Ask for the boxes to keep, and find for each of the others the one that suppressed it.

    Args:
        boxes: (n, 4) pixels. scores: (n,). classes: (n,). Tensors, arrays or lists.
        non_maximum_suppression: the function to ask; by default that of `yolostudy.boxes`.
        points: (n, 2) pixels, the anchor point of each candidate; by default the middle of its box.

    Returns:
        boxes, scores, classes, points: arrays, best score first.
        by: (n,) KEPT, BELOW, or the index of the suppressor, the kept box of the same class that
            overlaps most. NOBODY where there is none, which never happens in a right suppression.
        iou_threshold, score_threshold.
        candidates, below, kept, suppressed: counts.
    """
    import torch

    score = torch.as_tensor(scores).detach().float()
    order = score.argsort(descending=True, stable=True)
    score = score[order]
    box, label = torch.as_tensor(boxes).detach().float()[order], torch.as_tensor(classes).detach()[order]
    eligible = (score > score_threshold).nonzero()[:, 0]
    arguments = (box[eligible], score[eligible], label[eligible], iou_threshold)
    kept = eligible[ask("non_maximum_suppression", non_maximum_suppression, (-1,), *arguments).long()]

    by = np.full(len(score), NOBODY)
    by[len(eligible) :] = BELOW  # sorted, so candidates under the threshold come last
    by[kept.numpy()] = KEPT
    overlap = iou(box.double().numpy(), box.double().numpy())
    for index in np.flatnonzero(by == NOBODY):
        rivals = [
            int(rival)
            for rival in kept
            if rival < index and label[rival] == label[index] and overlap[rival, index] > iou_threshold
        ]
        if rivals:
            by[index] = max(rivals, key=lambda rival: overlap[rival, index])
    counts = {"candidates": len(by), "below": int((by == BELOW).sum()), "kept": int((by == KEPT).sum())}
    counts["suppressed"] = counts["candidates"] - counts["below"] - counts["kept"]
    table = {"boxes": box.double().numpy(), "scores": score.double().numpy(), "classes": label.long().numpy(), "by": by}
    table["points"] = (
        (box[:, :2] + box[:, 2:]).numpy() / 2
        if points is None
        else torch.as_tensor(points).detach().float()[order].numpy()
    )
    return table | {"iou_threshold": float(iou_threshold), "score_threshold": float(score_threshold)} | counts


@style.house()
def draw_suppression(
    numbers: dict, image: np.ndarray | None = None, class_names: Sequence[str] | None = None
) -> style.StudyFigure:
    """The boxes on the left, the same candidates in the order of their scores on the right.

    Kept boxes are bold; suppressed ones are thin, with a line to their suppressor.
    """
    figure, (picture, queue) = style.figure(1, 2, height=4.4, width_ratios=(1, 1.15))
    present = sorted({int(label) for label in numbers["classes"]})
    colour = {label: style.cycle(place) for place, label in enumerate(present)}
    _draw_boxes(picture, numbers, image, class_names, colour)
    _draw_queue(queue, numbers, colour)
    drawing.settle(picture, queue)
    return figure.with_numbers(numbers)


def _draw_boxes(
    axes, numbers: dict, image: np.ndarray | None, class_names: Sequence[str] | None, colour: dict[int, str]
) -> None:
    # grey, so that the colours of the frames can be told apart
    grey = None if image is None else np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    drawing.ground(axes, grey, 0.5)
    height, width = (
        image.shape[:2] if image is not None else numbers["boxes"].reshape(-1, 4)[:, [3, 2]].max(axis=0, initial=1)
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel="x in pixels", ylabel="y in pixels")
    points, labels = numbers["points"], []
    for index in np.argsort(numbers["by"] == KEPT, kind="stable"):  # the kept ones on top
        by, label = int(numbers["by"][index]), int(numbers["classes"][index])
        if by == BELOW:
            continue
        if by == KEPT:
            drawing.frame(axes, numbers["boxes"][index], colour[label], linewidth=3, zorder=4)
            name = class_names[label] if class_names is not None else str(label)
            note = dict(facecolor=style.PAPER, edgecolor=colour[label], pad=1.5, alpha=0.9)
            x, y = numbers["boxes"][index, :2].clip(2)
            while any(abs(x - other[0]) < 0.18 * width and abs(y - other[1]) < 0.055 * height for other in labels):
                y += 0.01 * height
            labels.append((x, y))
            axes.plot(*points[index], "o", color=colour[label], markeredgecolor=style.INK, markersize=6, zorder=5)
            axes.text(
                x + 1,
                y + 2,
                f"{name} {numbers['scores'][index]:.2f}",
                fontsize=8,
                va="top",
                bbox=note,
                zorder=5,
                clip_on=True,
            )
        else:
            drawing.frame(axes, numbers["boxes"][index], colour[label], linewidth=0.9, alpha=0.75, zorder=2)
            if by >= 0:
                axes.plot(*points[[index, by]].T, color=style.INK, linewidth=1, zorder=3)
            axes.plot(*points[index], ".", color=style.INK, markersize=4, zorder=3)
    axes.set_title(f"{numbers['kept']} kept, {numbers['suppressed']} suppressed, {numbers['below']} below the score")


def _draw_queue(axes, numbers: dict, colour: dict[int, str]) -> None:
    for index, (score, label, by) in enumerate(zip(numbers["scores"], numbers["classes"], numbers["by"], strict=True)):
        look = dict(color=style.GROUND, edgecolor=style.FAINT) if by == BELOW else dict(color=colour[int(label)])
        axes.bar(index, score, width=0.8, alpha=1 if by == KEPT else 0.35, **look)
        if by >= 0:
            axes.add_patch(
                Arc(
                    ((index + by) / 2, 0),
                    index - by,
                    0.035 * (index - by) ** 0.75,
                    theta1=180,
                    theta2=360,
                    color=style.FAINT,
                )
            )
    count = max(1, numbers["candidates"])
    deepest = 0.0175 * count**0.75
    axes.axhline(numbers["score_threshold"], color=style.INK, linestyle=(0, (4, 2)), linewidth=1.2)
    axes.axhline(0, color=style.INK, linewidth=1)
    axes.set(xlim=(-0.8, count - 0.2), ylim=(-max(0.08, deepest) * 1.15, 1.05), yticks=np.arange(0, 1.01, 0.25))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set(
        xlabel="candidates, best score first; arcs lead to the suppressor",
        ylabel="score",
        title="the queue: full colour stays",
    )


class SuppressionBench(Panel):
    """A widget: two sliders, for IoU and score threshold, over the candidates of one image.

    Args:
        boxes, scores, classes, points: as in `suppress`; give low scores too, so that both sliders
            have something to do.
        image: (H, W, 3) uint8 under them.
        non_maximum_suppression: the function to ask; by default that of `yolostudy.boxes`.
    """

    def __init__(
        self,
        boxes,
        scores,
        classes,
        image: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        iou_threshold: float = 0.7,
        non_maximum_suppression: Callable | None = None,
        points=None,
    ):
        import ipywidgets as widgets

        self.candidates = (boxes, scores, classes)
        self.image, self.class_names = image, class_names
        self.options = dict(non_maximum_suppression=non_maximum_suppression, points=points)
        look = dict(min=0.01, max=0.99, step=0.01, style={"description_width": "110px"}, layout={"width": "430px"})
        self.iou_threshold = widgets.FloatSlider(value=iou_threshold, description="IoU threshold", **look)
        self.score_threshold = widgets.FloatSlider(value=0.25, description="score threshold", **look)
        controls = [self.iou_threshold, self.score_threshold]
        self._begin([widgets.HBox(controls)], controls)

    def _look(self):
        numbers = suppress(*self.candidates, self.iou_threshold.value, self.score_threshold.value, **self.options)
        return numbers, draw_suppression(numbers, self.image, self.class_names)
