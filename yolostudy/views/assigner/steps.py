"""The assignment of one box, step by step, and where two assigners disagree.

`assign_box` runs the four functions of an assigner module over a slide, the learner's and the
reference's, and keeps what each step leaves for one box.

Source of the task alignment: Feng et al. 2021, TOOD, section 3.2.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

import numpy as np

from ...canvas.drawing import in_words
from .slides import Slide

PACKAGE = __name__.partition(".")[0]
STEPS = ("candidates", "metric", "top", "kept")
FUNCTION = MappingProxyType(  # step -> the exercise that computes it
    {"candidates": "anchors_inside", "metric": "alignment", "top": "top_candidates", "kept": "resolve_conflicts"}
)
ALPHA, BETA, K = 0.5, 6.0, 10  # the defaults of TaskAlignedAssigner, those of YOLOv8
EPS = 1e-9  # as in TaskAlignedAssigner
TOLERANCE = 1e-3  # relative: metrics that differ by less are the same number, computed another way


@dataclass(frozen=True, slots=True, eq=False)
class BoxAssignment:
    """What one assigner does with one box.

    Attributes:
        candidates, top, kept: (A,) bool.
        metric, overlaps, scores: (A,) float; the scores are those of the box's class.
        owner: (A,) the box that has each anchor in the end, -1 for none.
        trouble: step -> why it gave no result, in words. The reference's result stands in for it,
            and the later steps work on that.
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
        """Number of anchor points that each step leaves; None where it gave no result."""
        left = {"candidates": self.candidates, "metric": self.metric > 0, "top": self.top, "kept": self.kept}
        return {step: None if step in self.trouble else int(mask.sum()) for step, mask in left.items()}

    @property
    def lost(self) -> np.ndarray:
        """(A,) the anchors that were among the best of the box and went to another box."""
        return self.top & ~self.kept

    @property
    def chosen(self) -> np.ndarray:
        """Indices of the anchors that the box keeps, best metric first."""
        found = self.kept.nonzero()[0]
        return found[np.argsort(-self.metric[found], kind="stable")]

    @property
    def targets(self) -> np.ndarray:
        """The target score of each chosen anchor.

        It is the metric, scaled so that the best metric becomes the best overlap.
        """
        metric, overlaps = self.metric[self.chosen], self.overlaps[self.chosen]
        return metric * overlaps.max(initial=0) / (metric.max(initial=0) + EPS)


@dataclass(frozen=True, slots=True, eq=False)
class AssignmentComparison:
    """The assignment of one box by the reference and by mine.

    Attributes:
        mine: None where only the reference was asked for.
        differ: step -> (A,) bool, the positions where mine and the reference disagree; a step that
            gave no result is missing.
    """

    slide: Slide
    box: int
    alpha: float
    beta: float
    k: int
    reference: BoxAssignment
    mine: BoxAssignment | None
    differ: Mapping[str, np.ndarray]

    @property
    def by_name(self) -> dict[str, BoxAssignment]:
        """The assignments by their names, mine first."""
        return {"reference": self.reference} if self.mine is None else {"mine": self.mine, "reference": self.reference}

    @property
    def differences(self) -> dict[str, int]:
        """Step -> number of positions where mine and the reference disagree."""
        return {step: int(mask.sum()) for step, mask in self.differ.items()}

    @property
    def positions_that_differ(self) -> int:
        """Number of positions where any step of mine disagrees with the reference."""
        return int(np.any(list(self.differ.values()), axis=0).sum()) if self.differ else 0

    def __repr__(self) -> str:
        told = [f"{name} {' '.join(map(counted, found.counts.values()))}" for name, found in self.by_name.items()]
        return f"AssignmentComparison(box {self.slide.name(self.box)}, {', '.join(told)})"


def counted(count: int | None) -> str:
    return "-" if count is None else str(count)


def assign_box(
    slide: Slide, reference, mine=None, box: int = 0, *, alpha: float = ALPHA, beta: float = BETA, k: int = K
) -> AssignmentComparison:
    """What each step of the assignment leaves for one box.

    Args:
        reference, mine: an assigner module, a package that has one, or anything else with the four
            functions as attributes.
        box: which ground truth, counted from 0.
        alpha, beta, k: as in `TaskAlignedAssigner`.

    An exception of the reference is raised. An exception of mine, or a result of another type or
    shape, becomes a sentence in `mine.trouble`.
    """
    if not 0 <= box < len(slide.truth):
        raise ValueError(f"microscope: there is no box {box}; this picture has 0 to {len(slide.truth) - 1}.")
    right, _ = run_steps(reference, slide, alpha, beta, k)
    expected = of_box(slide, box, right)
    if mine is None:
        return AssignmentComparison(slide, box, alpha, beta, k, expected, None, {})
    found, trouble = run_steps(mine, slide, alpha, beta, k, stand_in=right)
    own = of_box(slide, box, found, trouble)
    differ = {step: mask for step, mask in _differences(expected, own).items() if step not in trouble}
    return AssignmentComparison(slide, box, alpha, beta, k, expected, own, differ)


def functions_of(source) -> object:
    """The object that has the four functions.

    Args:
        source: a module, a package that has an `assigner`, or a namespace.
    """
    name = getattr(source, "__name__", "")
    if isinstance(source, ModuleType) and name.startswith(f"{PACKAGE}."):
        # filling in an exercise makes a new module object; the old one would keep the old functions
        source = importlib.import_module(name)
    for holder in (source, getattr(source, "assigner", None)):
        if any(hasattr(holder, name) for name in FUNCTION.values()):
            return holder
    raise ValueError(
        f"microscope: {getattr(source, '__name__', source)!r} has none of {', '.join(FUNCTION.values())}. Give an "
        "assigner module, for example yolostudy.assigner."
    )


def run_steps(
    source, slide: Slide, alpha: float = ALPHA, beta: float = BETA, k: int = K, stand_in: dict | None = None
) -> tuple[dict, dict[str, str]]:
    """The four steps over all boxes.

    Args:
        source: as in `functions_of`.
        stand_in: results to use where a step fails; without them its exception is raised.

    Returns:
        tensors (1, G, A) by step, with the overlaps; and step -> what went wrong.
    """
    import torch

    functions = functions_of(source)
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
                # copies: a function that writes into its arguments must not change the result of an
                # earlier step
                result = call({name: tensor.clone() for name, tensor in found.items()})
            parts = {"metric": result[0], "overlaps": result[1]} if step == "metric" else {step: result}
            problem = next(filter(None, (_malformed(name, part, shape) for name, part in parts.items())), "")
        except Exception as error:  # the learner's code may raise anything
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


def _malformed(name: str, value, shape: tuple[int, ...]) -> str:
    """What is wrong with the type, shape or dtype of a result; empty for a good one."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__} where a tensor is expected"
    if tuple(value.shape) != shape:
        return f"shape {tuple(value.shape)} where {shape} is expected"
    floats = name in ("metric", "overlaps")
    if value.is_floating_point() if floats else value.dtype == torch.bool:
        return ""
    return f"{value.dtype} where {'floats are' if floats else 'torch.bool is'} expected"


def of_box(slide: Slide, box: int, found: dict, trouble: dict[str, str] = MappingProxyType({})) -> BoxAssignment:
    """The part of one box in the results of `run_steps`."""
    at = {name: tensor[0, box].numpy() for name, tensor in found.items()}
    kept = found["kept"][0].numpy()
    return BoxAssignment(
        candidates=at["candidates"],
        metric=at["metric"].astype(float),
        overlaps=at["overlaps"].astype(float),
        scores=slide.scores[:, slide.labels[box]].numpy().astype(float),
        top=at["top"],
        kept=at["kept"],
        owner=np.where(kept.any(axis=0), kept.argmax(axis=0), -1),
        trouble=trouble,
    )


def _differences(reference: BoxAssignment, mine: BoxAssignment) -> dict[str, np.ndarray]:
    differ = {
        "candidates": mine.candidates != reference.candidates,
        "metric": ~np.isclose(mine.metric, reference.metric, rtol=TOLERANCE, atol=0),
        "top": mine.top != reference.top,
        "kept": mine.kept != reference.kept,
    }
    # Of candidates with a metric of 0 any may fill up the k: to take another one than the reference
    # is no mistake.
    tie = mine.candidates & reference.candidates & (mine.metric == 0) & (reference.metric == 0)
    return {step: mask & ~tie if step in ("top", "kept") else mask for step, mask in differ.items()}
