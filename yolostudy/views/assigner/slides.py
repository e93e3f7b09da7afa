"""What an assigner makes of a picture, in numbers: which anchor points each object takes, step by
step, and where two assigners disagree.

A slide holds what the assigner sees: a picture, its truth, and what a network predicts on it.
`look` runs the four functions of an assigner module over a slide, the learner's and the
reference's, and keeps what each step leaves for one box. `rules` sets fixed rules beside the
task-aligned one, `assignments` follows every box from slide to slide. microscope.py draws all
three.

Sources: task alignment: Feng et al. 2021, TOOD, section 3.2; anchor boxes: Lin et al. 2017, Focal
Loss, section 4; centre sampling
and the ranges of the levels: Tian et al. 2019, FCOS, section 3.2, and its code.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

import numpy as np

from ...canvas.drawing import in_words
from ...canvas.overlap import iou

PACKAGE = __name__.partition(".")[0]
STEPS = ("candidates", "metric", "top", "kept")
FUNCTION = MappingProxyType(  # step -> the exercise that makes it
    {"candidates": "anchors_inside", "metric": "alignment", "top": "top_candidates", "kept": "resolve_conflicts"}
)
ALPHA, BETA, K = 0.5, 6.0, 10  # the defaults of TaskAlignedAssigner, those of YOLOv8
EPS = 1e-9  # as in TaskAlignedAssigner
DIFFERENT = 1e-3  # relative: two metrics that are nearer than this are the same number computed another way


@dataclass(frozen=True, slots=True, eq=False)
class Slide:
    """What lies under the microscope: one picture, its truth, and what a network says at each of A
    anchor points.

    Attributes:
        image: (H, W, 3) uint8.
        scores (A, C), boxes (A, 4), anchors (A, 2), strides (A,): tensors; boxes and anchors in
        pixels of the picture.
        labels (G,), truth (G, 4): tensors; truth in pixels.
        names: of the classes; may be empty.
    """

    image: np.ndarray
    scores: object
    boxes: object
    anchors: object
    strides: object
    labels: object
    truth: object
    names: tuple[str, ...] = ()

    def name(self, box: int) -> str:
        """`2: A7`, the number from 1 as the pictures have it."""
        label = int(self.labels[box])
        return f"{box + 1}: {self.names[label] if label < len(self.names) else f'class {label}'}"

    def title(self, box: int) -> str:
        """`2: A7, 36 × 34 px`."""
        x1, y1, x2, y2 = self.truth[box].tolist()
        return f"{self.name(box)}, {x2 - x1:.0f} × {y2 - y1:.0f} px"


def slide(image: np.ndarray, maps: Sequence, truth: np.ndarray, class_names: Sequence[str] = ()) -> Slide:
    """A slide from three raw maps.

    Args:
        image: (H, W, 3) uint8, as the network saw it.
        maps: (1, 4·R + C, H/s, W/s) each, s = 8, 16, 32.
        truth: (G, 5) class x1 y1 x2 y2 in pixels.

    Errors: ValueError for a picture without objects, and for maps of several images.
    """
    import torch

    from ...boxes import STRIDES, decode, make_anchors

    truth = torch.as_tensor(np.asarray(truth, np.float32).reshape(-1, 5))
    if not len(truth):
        raise ValueError("microscope: this picture shows no object, so nothing is assigned. Choose another.")
    if any(len(level) != 1 for level in maps):
        raise ValueError(
            f"microscope: the maps hold {len(maps[0])} images; give those of one, for example [m[:1] for m in maps]."
        )
    maps = [level.detach() for level in maps]
    boxes, scores = decode(maps)
    anchors, strides = make_anchors([level.shape[2:] for level in maps], STRIDES)
    return Slide(
        image,
        scores[0],
        boxes[0],
        anchors * strides,
        strides[:, 0],
        truth[:, 0].long(),
        truth[:, 1:],
        tuple(class_names),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What one assigner does with one box.

    Attributes:
        candidates, top, kept: (A,) bool.
        metric, overlaps, scores: (A,) float; the scores are those of the box's class.
        owner: (A,) the box that has each anchor in the end, -1 for none.
        trouble: step -> why it gave nothing, in words. The reference's result stands in its place,
            and the steps after it work on that.
    """

    candidates: np.ndarray
    metric: np.ndarray
    overlaps: np.ndarray
    scores: np.ndarray
    top: np.ndarray
    kept: np.ndarray
    owner: np.ndarray
    trouble: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int | None]:
        """How many anchor points each step leaves; None where it gave nothing."""
        left = {"candidates": self.candidates, "metric": self.metric > 0, "top": self.top, "kept": self.kept}
        return {step: None if step in self.trouble else int(mask.sum()) for step, mask in left.items()}

    @property
    def lost(self) -> np.ndarray:
        """(A,) which anchors were among the best of the box and went to another."""
        return self.top & ~self.kept

    @property
    def chosen(self) -> np.ndarray:
        """Indices of the anchors that the box keeps, best metric first."""
        found = self.kept.nonzero()[0]
        return found[np.argsort(-self.metric[found], kind="stable")]

    @property
    def targets(self) -> np.ndarray:
        """The score that each chosen anchor is asked for: its metric, scaled so that the best one
        gets the best overlap.
        """
        metric, overlaps = self.metric[self.chosen], self.overlaps[self.chosen]
        return metric * overlaps.max(initial=0) / (metric.max(initial=0) + EPS)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One look through the microscope: the numbers of one box, in both rows.

    Attributes:
        mine: None where only the reference was asked for.
        differ: step -> (A,) bool, the positions where mine and the reference disagree; a step that
            gave nothing is missing.
    """

    slide: Slide
    box: int
    alpha: float
    beta: float
    k: int
    reference: Row
    mine: Row | None
    differ: Mapping[str, np.ndarray]

    @property
    def rows(self) -> dict[str, Row]:
        """The rows by their names, mine first."""
        return {"reference": self.reference} if self.mine is None else {"mine": self.mine, "reference": self.reference}

    @property
    def differences(self) -> dict[str, int]:
        """Step -> in how many positions mine and the reference disagree."""
        return {step: int(mask.sum()) for step, mask in self.differ.items()}

    @property
    def positions_that_differ(self) -> int:
        """At how many positions any step of mine disagrees with the reference."""
        return int(np.any(list(self.differ.values()), axis=0).sum()) if self.differ else 0

    def __repr__(self) -> str:
        told = [f"{name} {' '.join(map(counted, row.counts.values()))}" for name, row in self.rows.items()]
        return f"View(box {self.slide.name(self.box)}, {', '.join(told)})"


def counted(count: int | None) -> str:
    return "-" if count is None else str(count)


def look(
    slide: Slide, reference, mine=None, box: int = 0, *, alpha: float = ALPHA, beta: float = BETA, k: int = K
) -> View:
    """What each step of the assignment leaves for one box.

    Args:
        reference, mine: an assigner module, a package that has one, or anything else with the four
            functions as attributes.
        box: which ground truth, counted from 0.
        alpha, beta, k: as in `TaskAlignedAssigner`.

    An exception of the reference is raised. One of mine, or a result of the wrong form, is told in
    words in its row.
    """
    if not 0 <= box < len(slide.truth):
        raise ValueError(f"microscope: there is no box {box}; this picture has 0 to {len(slide.truth) - 1}.")
    right, _ = _run(_functions(reference), slide, alpha, beta, k)
    expected = _row(slide, box, right)
    if mine is None:
        return View(slide, box, alpha, beta, k, expected, None, {})
    found, trouble = _run(_functions(mine), slide, alpha, beta, k, stand_in=right)
    row = _row(slide, box, found, trouble)
    differ = {step: mask for step, mask in _differences(expected, row).items() if step not in trouble}
    return View(slide, box, alpha, beta, k, expected, row, differ)


def _functions(source) -> object:
    """The thing that has the four functions: a module, the `assigner` of a package, or a namespace."""
    name = getattr(source, "__name__", "")
    if isinstance(source, ModuleType) and name.startswith(f"{PACKAGE}."):
        # filling in an exercise makes a new module of it; the old object knows nothing of that
        source = importlib.import_module(name)
    for holder in (source, getattr(source, "assigner", None)):
        if any(hasattr(holder, name) for name in FUNCTION.values()):
            return holder
    raise ValueError(
        f"microscope: {getattr(source, '__name__', source)!r} has none of {', '.join(FUNCTION.values())}. Give an "
        "assigner module, for example yolostudy.assigner."
    )


def _run(
    functions, slide: Slide, alpha: float, beta: float, k: int, stand_in: dict | None = None
) -> tuple[dict, dict[str, str]]:
    """The four steps over all boxes: tensors (1, G, A) by step, with the overlaps, and what went
    wrong. Without a stand-in errors rise.
    """
    import torch

    labels, truth = slide.labels[None], slide.truth[None]
    shape = (1, len(slide.truth), len(slide.anchors))
    mask = torch.ones(shape[:2], dtype=torch.bool)
    predictions = slide.scores[None], slide.boxes[None]
    calls = {
        "candidates": lambda found: functions.anchors_inside(slide.anchors, truth, mask),
        "metric": lambda found: functions.alignment(*predictions, labels, truth, found["candidates"], alpha, beta),
        "top": lambda found: functions.top_candidates(found["metric"], found["candidates"], k),
        "kept": lambda found: functions.resolve_conflicts(found["top"], found["overlaps"]),
    }
    found, trouble = {}, {}
    for step, call in calls.items():
        try:
            with torch.no_grad():
                # a copy each: a function that writes into what it is given must not change what the
                # step before it shows
                result = call({name: tensor.clone() for name, tensor in found.items()})
            parts = {"metric": result[0], "overlaps": result[1]} if step == "metric" else {step: result}
            problem = next(filter(None, (_misformed(name, part, shape) for name, part in parts.items())), "")
        except Exception as error:  # the learner's code may raise anything; the row says what
            if stand_in is None:
                raise
            stub = isinstance(error, NotImplementedError) and str(error).startswith("exercise ")
            problem = "not filled in yet" if stub else in_words(error)
        if problem and stand_in is None:
            raise ValueError(f"microscope: {FUNCTION[step]} of the reference gives {problem}")
        if problem:
            trouble[step] = problem
            parts = {name: stand_in[name] for name in (("metric", "overlaps") if step == "metric" else (step,))}
        found |= parts
    return found, trouble


def _misformed(name: str, value, shape: tuple[int, ...]) -> str:
    """What is wrong with the form of a result; nothing for a good one."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__} where a tensor is expected"
    if tuple(value.shape) != shape:
        return f"shape {tuple(value.shape)} where {shape} is expected"
    floats = name in ("metric", "overlaps")
    if value.is_floating_point() if floats else value.dtype == torch.bool:
        return ""
    return f"{value.dtype} where {'floats are' if floats else 'torch.bool is'} expected"


def _row(slide: Slide, box: int, found: dict, trouble: dict[str, str] = MappingProxyType({})) -> Row:
    at = {name: tensor[0, box].numpy() for name, tensor in found.items()}
    kept = found["kept"][0].numpy()
    return Row(
        candidates=at["candidates"],
        metric=at["metric"].astype(float),
        overlaps=at["overlaps"].astype(float),
        scores=slide.scores[:, slide.labels[box]].numpy().astype(float),
        top=at["top"],
        kept=at["kept"],
        owner=np.where(kept.any(axis=0), kept.argmax(axis=0), -1),
        trouble=trouble,
    )


def _differences(reference: Row, mine: Row) -> dict[str, np.ndarray]:
    differ = {
        "candidates": mine.candidates != reference.candidates,
        "metric": ~np.isclose(mine.metric, reference.metric, rtol=DIFFERENT, atol=0),
        "top": mine.top != reference.top,
        "kept": mine.kept != reference.kept,
    }
    # Of candidates with a metric of 0 any may fill up the k: to take another one than the reference
    # is no mistake.
    tie = mine.candidates & reference.candidates & (mine.metric == 0) & (reference.metric == 0)
    return {step: mask & ~tie if step in ("top", "kept") else mask for step, mask in differ.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Which anchors three rules give to one box: name -> (A,) bool."""

    slide: Slide
    box: int
    taken: Mapping[str, np.ndarray]

    @property
    def counts(self) -> dict[str, int]:
        return {name: int(mask.sum()) for name, mask in self.taken.items()}


def rules(slide: Slide, reference, box: int = 0) -> Rules:
    """Two fixed rules beside the task-aligned one.

    An anchor box fits: a square of 4 strides about the point overlaps the truth by an IoU of at
    least 0.5 (RetinaNet's anchor of scale 1 and ratio 1). Near the centre: inside, and within 1.5
    strides of the centre, on the level whose range holds the farthest
    edge: 0 to 64 pixels at stride 8, 64 to 128 at 16, above at 32 (FCOS with centre sampling).
    """
    anchors, strides, truth = (
        tensor.numpy().astype(float) for tensor in (slide.anchors, slide.strides, slide.truth[box])
    )
    half = 2 * strides[:, None]  # of a square of 4 strides
    fits = iou(np.concatenate((anchors - half, anchors + half), axis=1), truth[None])[:, 0] >= 0.5

    edges = np.concatenate((anchors - truth[:2], truth[2:] - anchors), axis=1)  # (A, 4)
    away = np.abs(anchors - (truth[:2] + truth[2:]) / 2).max(axis=1)
    farthest, finest, coarsest = edges.max(axis=1), strides.min(), strides.max()
    low, high = np.where(strides == finest, 0, 4 * strides), np.where(strides == coarsest, np.inf, 8 * strides)
    centre = (edges.min(axis=1) > 0) & (away < 1.5 * strides) & (farthest >= low) & (farthest <= high)
    aligned = look(slide, reference, box=box).reference.kept
    return Rules(slide, box, {"an anchor box fits": fits, "near the centre": centre, "task-aligned": aligned})


@dataclass(frozen=True, slots=True, eq=False)
class Assignments:
    """What a reference assigner makes of several slides of one picture: name of the slide -> a row
    for each of its boxes.
    """

    slides: Mapping[str, Slide]
    rows: Mapping[str, tuple[Row, ...]]

    def mean(self, what: str) -> tuple[float, ...]:
        """The mean of `scores` or `overlaps` over the kept anchors of each slide."""
        kept = [np.concatenate([getattr(row, what)[row.kept] for row in rows]) for rows in self.rows.values()]
        return tuple(float(values.mean()) if len(values) else math.nan for values in kept)

    @property
    def lost(self) -> tuple[int, ...]:
        """How many anchors of each slide were among the best of a box and went to another."""
        return tuple(sum(int(row.lost.sum()) for row in rows) for rows in self.rows.values())


def assignments(slides: Mapping[str, Slide], reference) -> Assignments:
    """The assignment of every box of every slide."""
    rows = {}
    for name, one in slides.items():
        found, _ = _run(_functions(reference), one, ALPHA, BETA, K)
        rows[name] = tuple(_row(one, box, found) for box in range(len(one.truth)))
    return Assignments(dict(slides), rows)
