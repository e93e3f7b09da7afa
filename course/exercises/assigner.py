"""Stage 5: which anchor answers for which object."""

from __future__ import annotations

import torch
from torch import Tensor

from yolostudy.study.exercise import Exercise

from ._fixtures import values


def grid(side: int, *strides: int) -> Tensor:
    """The centres (A, 2) in pixels of all positions of square maps over a square image."""
    levels = []
    for stride in strides:
        centres = torch.arange(side // stride) * float(stride) + stride / 2
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        levels.append(torch.stack((x, y), dim=-1).reshape(-1, 2))
    return torch.cat(levels)


# ---- anchors_inside ------------------------------------------------------------------------------

anchors_inside = Exercise(
    "assigner.anchors_inside",
    stage=5,
    points=2,
    minutes=15,
    after="boxes.make_anchors",
    goal="Find the anchor points that lie inside each ground-truth box, and let a tiny box find some too.",
    hints=(
        "Four comparisons decide: right of the left edge, left of the right edge, below the upper edge, above the "
        "lower edge.",
        "The result has an axis for the boxes and one for the anchors. Give each edge a last axis of length 1; then "
        "broadcasting pairs every box with every point.",
        "Work with the centre and half of each side. Raise a side to at least min_side before you halve it. The mask "
        "of real boxes comes last and needs an axis for the anchors as well.",
    ),
)


@anchors_inside.probe("points in, beside and exactly on the edges of a box")
def _(course):
    points = [
        (30, 30),
        (16, 24),
        (17, 24),
        (48, 40),
        (30, 20),
        (30, 50),
        (30, 51),
        (15, 30),
        (55, 30),
        (30, 10),
        (24, 58),
    ]
    boxes = torch.tensor([[[16.0, 20, 48, 50]], [[20.0, 16, 31, 60]]])
    return {
        "inside": course.assigner.anchors_inside(
            torch.tensor(points).float(), boxes, torch.ones(2, 1, dtype=torch.bool)
        )
    }


@anchors_inside.probe("boxes that are shorter than min_side")
def _(course):
    boxes = torch.tensor([[[29.0, 10, 33, 50], [20, 20, 26, 24], [13, 43, 33, 63]]])
    anchors, real = grid(64, 8), torch.ones(1, 3, dtype=torch.bool)
    return {
        "as given, 16": course.assigner.anchors_inside(anchors, boxes, real),
        "min_side 30": course.assigner.anchors_inside(anchors, boxes, real, min_side=30.0),
        "min_side 0": course.assigner.anchors_inside(anchors, boxes, real, 0.0),
    }


@anchors_inside.probe("boxes whose middle lies between two pixels")
def _(course):
    points = torch.tensor(
        [[10.25, 20], [32.75, 20], [9.75, 20], [33.25, 20], [20, 10.25], [20, 32.75], [20, 9.75], [20, 33.25]]
    )
    boxes = torch.tensor([[[10.0, 10, 33, 33], [12.5, 11.25, 31.25, 30.5]]])
    return {"inside": course.assigner.anchors_inside(points, boxes, torch.ones(1, 2, dtype=torch.bool))}


@anchors_inside.probe("padding")
def _(course):
    boxes = torch.tensor(
        [
            [[5.0, 6, 30, 39], [33, 21, 60, 50], [0, 0, 0, 0]],
            [[2.0, 2, 25, 25], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[2.0, 2, 62, 62], [1, 33, 27, 63], [0, 0, 0, 0]],
        ]
    )
    real = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    return {"inside": course.assigner.anchors_inside(grid(64, 8), boxes, real)}


anchors_inside.misconception(
    "the edge counts as inside",
    swap=[("(x > x1) & (x < x2)", "(x >= x1) & (x <= x2)"), ("y > y1", "y >= y1"), ("y < y2", "y <= y2")],
    because="A point on the edge has distance 0 to that edge, which the distribution can only express with all its "
    "weight on bin 0. Such anchors become positives at the very border of the object, and the choice differs from "
    "Ultralytics'. Compare strictly.",
)
anchors_inside.misconception(
    "small boxes are not enlarged",
    swap=(".clamp(min=min_side) / 2", " / 2"),
    because="Two anchor points of the finest level are 8 pixels apart, so a box of 5 pixels may hold none at all. "
    "Such an object never gets a positive, and recall on small objects stays at 0 without any error. Raise each side "
    "to min_side first.",
)
anchors_inside.misconception(
    "the mask of real boxes is forgotten",
    swap=("return inside & gt_mask[..., None]", "return inside"),
    because="Padding is a box of zeros. min_side enlarges it to 16 pixels around the corner of the image, where there "
    "are anchors. They become positives of an object that does not exist, and the detector learns to fire in the "
    "upper left corner. Combine with gt_mask.",
)
anchors_inside.misconception(
    "only x is compared",
    swap=("    inside &= y > y1\n    inside &= y < y2\n", ""),
    because="A whole column of the image then counts as inside. Anchors far above and below become candidates, and "
    "their negative distances to the box are clamped to 0. Compare y as well.",
)
anchors_inside.misconception(
    "boxes are read as centre, width and height",
    swap=[
        ("(gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2", "gt_boxes[..., :2]"),
        ("(gt_boxes[..., 2:] - gt_boxes[..., :2]).clamp", "gt_boxes[..., 2:].clamp"),
    ],
    because="The boxes of this course are x1 y1 x2 y2. Read as centre and size, they lie around their upper left "
    "corner and are far too large, and the positives lie beside the objects. Compute the centre and the sides from "
    "the corners.",
)
anchors_inside.misconception(
    "half the side is raised to min_side",
    swap=(
        "(gt_boxes[..., 2:] - gt_boxes[..., :2]).clamp(min=min_side) / 2",
        "((gt_boxes[..., 2:] - gt_boxes[..., :2]) / 2).clamp(min=min_side)",
    ),
    because="The shortest side becomes twice min_side, 32 pixels. Every smaller object collects neighbouring anchors "
    "that do not touch it. Raise the whole side, then halve it.",
)
anchors_inside.misconception(
    "a small box grows from its upper left corner",
    swap=[("(centre - half)", "gt_boxes[..., :2]"), ("(centre + half)", "(gt_boxes[..., :2] + 2 * half)")],
    because="The enlarged box no longer has the object in its middle, so the anchors to the right and below are "
    "preferred. Small objects are then found with a shift. Enlarge it about its centre.",
)

# ---- alignment -----------------------------------------------------------------------------------

alignment = Exercise(
    "assigner.alignment",
    stage=5,
    points=3,
    minutes=20,
    after=("boxes.complete_iou", "assigner.anchors_inside"),
    goal="Measure how well each candidate already classifies and places its object.",
    hints=(
        "For a pair of ground truth and anchor you need two numbers: the anchor's score for the class of that ground "
        "truth, and the complete IoU of the anchor's box with that ground truth.",
        "nonzero(as_tuple=True) of the candidates gives three index lists: image, ground truth, anchor. With them "
        "each of the two numbers is one indexing expression. Write the results back with the same three lists.",
        "The complete IoU is below 0 for boxes far apart. Clamp it before you raise it to a power. Everything that is "
        "no candidate stays 0 in both results.",
    ),
)

LABELS = torch.tensor([[2, 0], [1, 3]])
OBJECTS = torch.tensor([[[10.0, 10, 40, 30], [30, 20, 70, 60]], [[5.0, 15, 45, 55], [50, 5, 62, 20]]])
NEAR = torch.tensor(
    [
        [[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]],
        [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]],
    ]
).bool()
WHICH = torch.tensor([[0, 1, 0, 1, 1], [0, 1, 0, 1, 0]])  # the object that each anchor's box was made from


def sighted(away: float = 0.0) -> list[Tensor]:
    """The arguments of `alignment`: scores (2, 5, 4), boxes (2, 5, 4), labels, objects, candidates.

    Each of the five anchors sees one of its image's two objects, more or less well. The box of the
    second anchor is moved by `away` pixels. Made anew for each call: an answer may change its
    arguments.
    """
    own = OBJECTS.gather(1, WHICH[..., None].expand(-1, -1, 4))
    boxes = own + values(2, 5, 4, low=-3, high=3, seed=52) + torch.tensor([0.0, away, 0, 0, 0])[:, None]
    return [values(2, 5, 4, low=0.2, high=0.9, seed=51), boxes, LABELS.clone(), OBJECTS.clone(), NEAR.clone()]


def both(answer: object) -> dict:
    """Metric and overlaps.

    A single tensor would be unpacked along its first axis here, one image each.
    """
    if isinstance(answer, Tensor):
        raise TypeError("alignment returns one tensor; it has to return two, the metric and the overlaps")
    metric, overlaps = answer
    return {"metric": metric, "overlaps": overlaps}


@alignment.probe("metric and overlap of every candidate", atol=1e-8)
def _(course):
    given = sighted()
    seen = both(course.assigner.alignment(*given))
    return seen | dict(zip(("scores afterwards", "boxes afterwards"), given))


@alignment.probe("other exponents", atol=1e-8)
def _(course):
    seen = both(course.assigner.alignment(*sighted(), 2.0, 1.5))
    return seen | {"metric for alpha 1": both(course.assigner.alignment(*sighted(), alpha=1.0))["metric"]}


@alignment.probe("a candidate whose box lies far away", atol=1e-8)
def _(course):
    return both(course.assigner.alignment(*sighted(away=200), alpha=0.5, beta=2.5))


@alignment.probe("no candidate at all")
def _(course):
    *given, near = sighted()
    return both(course.assigner.alignment(*given, torch.zeros_like(near)))


alignment.misconception(
    "a negative overlap is not clamped",
    swap=(".clamp(min=0)", ""),
    because="The complete IoU of boxes far apart is negative. An even power turns it into a high metric, a fractional "
    "power into NaN, and a single NaN in the metric spoils every sum that contains it. Clamp the overlap at 0 first.",
    museum=36,
)
alignment.misconception(
    "alpha and beta are swapped",
    swap=("score.pow(alpha) * overlap.pow(beta)", "score.pow(beta) * overlap.pow(alpha)"),
    because="The score then counts with the sixth power and the overlap with the square root. Positives are chosen by "
    "a class score that means little in the first epochs, and boxes stay loose. alpha belongs to the score, beta to "
    "the overlap.",
)
alignment.misconception(
    "plain IoU instead of complete IoU",
    swap=[
        (
            "    image, gt, anchor = candidates.nonzero(as_tuple=True)",
            "    from .boxes import box_iou\n\n    image, gt, anchor = candidates.nonzero(as_tuple=True)",
        ),
        (
            "complete_iou(gt_boxes[image, gt], boxes[image, anchor])",
            "box_iou(gt_boxes[image, gt], boxes[image, anchor]).diagonal()",
        ),
    ],
    because="Plain IoU does not measure the distance of the centres or the aspect ratio. The ranking of nearly equal "
    "candidates changes, the positives differ from Ultralytics', and so do all target scores. Use complete_iou.",
)
alignment.misconception(
    "the score of the best class, whichever it is",
    swap=("scores[image, anchor, gt_labels[image, gt]]", "scores[image, anchor].amax(dim=-1)"),
    because="An anchor that is sure of the wrong class is then rewarded as if it were right. Positives no longer "
    "depend on the class of the object, and similar classes stay mixed up. Take the score of the ground truth's own "
    "class.",
)
alignment.misconception(
    "the number of the ground truth is taken for its class",
    swap=("scores[image, anchor, gt_labels[image, gt]]", "scores[image, anchor, gt]"),
    because="Row 0 of the padded block is the first object of the image, whatever it is. The score read here belongs "
    "to an arbitrary class, and with more objects than classes the index falls out of range. Look the label up in "
    "gt_labels first.",
)
alignment.misconception(
    "the candidates are ignored",
    swap=("candidates.nonzero(as_tuple=True)", "torch.ones_like(candidates).nonzero(as_tuple=True)"),
    because="Anchors outside the box get a metric as well, and top-k picks them where their predicted boxes fit. "
    "Their distances to some edge are negative, which no distribution can express. Compute at the candidates and "
    "leave 0 elsewhere.",
)
alignment.misconception(
    "score and overlap are added",
    swap=("score.pow(alpha) * overlap.pow(beta)", "score.pow(alpha) + overlap.pow(beta)"),
    because="A sum is high if one of the two is high. The metric has to be high only if both tasks are done well by "
    "the same anchor. Multiply.",
)

# ---- top_candidates ------------------------------------------------------------------------------

top_candidates = Exercise(
    "assigner.top_candidates",
    stage=5,
    points=2,
    minutes=15,
    after="assigner.alignment",
    goal="Keep the k best candidates of each ground truth.",
    hints=(
        "Each row of the metric is one ground truth. Which axis do the anchors stand on?",
        "topk gives indices. scatter_ turns them into a mask of the same shape as the candidates. There may be fewer "
        "anchors than k.",
        "topk always returns k indices, even if a row has only two candidates or none. The rest are anchors with "
        "metric 0: remove those that are no candidates.",
    ),
)


def rated(*shape: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """A metric, and candidates at about that share of all places; elsewhere the metric is 0."""
    candidates = values(*shape, seed=seed) < share
    return values(*shape, low=0.05, high=1.0, seed=seed + 1) * candidates, candidates


def selected(select, metric: Tensor, candidates: Tensor, *k: int) -> dict:
    """What is chosen among the candidates, and how many places for each ground truth.

    Places outside the candidates are left out, because topk may take any of many equal zeros.
    """
    given = candidates.clone()
    chosen = select(metric, given, *k)
    if chosen.shape == candidates.shape:
        inside = torch.where(candidates, chosen, torch.zeros_like(chosen))
        return {
            "chosen, of the candidates": inside,
            "chosen of each ground truth": chosen.sum(dim=-1),
            "candidates afterwards": given,
        }
    return {"chosen, of the candidates": chosen}


@top_candidates.probe("the three best of each ground truth")
def _(course):
    metric, candidates = rated(2, 4, 14, share=0.7, seed=61)
    metric[1, 3], candidates[1, 3] = 0, False  # padding
    return selected(course.assigner.top_candidates, metric, candidates, 3)


@top_candidates.probe("fewer candidates than k")
def _(course):
    metric, candidates = rated(1, 4, 20, share=0.8, seed=65)
    few = torch.arange(20) < torch.tensor([2, 5, 0, 20])[:, None]
    return selected(course.assigner.top_candidates, metric * few, candidates & few)


@top_candidates.probe("fewer anchors than k")
def _(course):
    metric, candidates = rated(2, 2, 5, share=0.6, seed=71)
    return {"chosen": course.assigner.top_candidates(metric, candidates)}


@top_candidates.probe("every metric is 0")
def _(course):
    candidates = values(1, 3, 8, seed=73) < 0.5
    candidates[0, 2] = False
    return {"chosen": course.assigner.top_candidates(torch.zeros(1, 3, 8), candidates, k=8)}


top_candidates.misconception(
    "anchors outside every box are chosen too",
    swap=("return chosen & candidates", "return chosen"),
    because="topk fills up with anything that has metric 0, and an untrained network has metrics of 0 everywhere. "
    "Padding and empty regions get positives, while the real candidates may get none. Keep only candidates.",
    museum=45,
)
top_candidates.misconception(
    "a candidate needs a metric above 0",
    swap=("return chosen & candidates", "return chosen & (metric > 0)"),
    because="The metric of a candidate may be 0: a box that does not reach its object yet has an overlap of 0. The "
    "loss hardly notices, because such a positive has a target score of 0. But your foreground differs from "
    "Ultralytics', and where you count it an object seems to have no anchor in it. Let `candidates` decide what is a "
    "candidate.",
)
top_candidates.misconception(
    "k may exceed the number of anchors",
    swap=("min(k, metric.shape[-1])", "k"),
    because="topk refuses to return more than there are. A small image in a test, or one level alone, has fewer "
    "anchors than k, and the step ends with an error. Ask for no more than there are.",
)
top_candidates.misconception(
    "the best ground truths of each anchor",
    swap=[
        ("metric.topk(min(k, metric.shape[-1]), dim=-1)", "metric.topk(min(k, metric.shape[1]), dim=1)"),
        ("scatter_(-1,", "scatter_(1,"),
    ],
    because="The selection then runs over the ground truths. With fewer of them than k it selects nothing at all: a "
    "large object keeps hundreds of positives and a small one four. The anchors are on the last axis.",
)
top_candidates.misconception(
    "the k worst",
    swap=("dim=-1).indices", "dim=-1, largest=False).indices"),
    because="The anchors that know least about the object have to predict it, and the targets change from step to "
    "step. The loss falls slowly and mAP stays near 0. Take the largest.",
)
top_candidates.misconception(
    "every candidate is kept",
    swap=("return chosen & candidates", "return candidates"),
    because="A large object then has several hundred positives and a small one four, and the large ones dominate the "
    "loss. The choice of the k best makes the objects equal. Use the mask that topk gave you.",
)
top_candidates.misconception(
    "the k best of the whole image",
    swap=[
        ("metric.topk(min(k, metric.shape[-1]), dim=-1)", "metric.flatten(1).topk(min(k, metric[0].numel()), dim=-1)"),
        (
            "torch.zeros_like(candidates).scatter_(-1, best, True)",
            "torch.zeros_like(candidates).flatten(1).scatter_(-1, best, True).view_as(candidates)",
        ),
    ],
    because="The object that the network detects best takes all k places, and the others of the image get no "
    "positive: a hard object stays hard. Give every ground truth k places of its own.",
)

# ---- resolve_conflicts ---------------------------------------------------------------------------

resolve_conflicts = Exercise(
    "assigner.resolve_conflicts",
    stage=5,
    points=2,
    minutes=20,
    after="assigner.top_candidates",
    goal="Let every anchor be the positive of one object at most.",
    hints=(
        "Count the claims on each anchor: a sum over the axis of the ground truths. Only where it exceeds 1 do you "
        "have to decide.",
        "At a conflict, look along the axis of the ground truths for the largest overlap.",
        "At those anchors clear every claim, then set the winner's. Work on a copy, because the caller still needs "
        "the claims as they were.",
    ),
)

CLAIMS = torch.tensor(
    [
        [[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]],
        [[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]],
    ]
).bool()
OVERLAPS = torch.tensor(
    [
        [
            [0.42, 0.31, 0.52, 0.61, 0.6, 0.0],
            [0.74, 0.66, 0.35, 0.27, 0.83, 0.57],
            [0.13, 0.45, 0.71, 0.0, 0.44, 0.38],
            [0.0, 0.77, 0.4, 0.0, 0.55, 0.1],  # the best for the second anchor, which it did not choose
        ],
        [
            [0.51, 0.0, 0.79, 0.5, 0.48, 0.3],
            [0.36, 0.45, 0.7, 0.41, 0.59, 0.64],
            [0.0, 0.17, 0.62, 0.68, 0.7, 0.0],
            [0.0, 0.0, 0.65, 0.6, 0.86, 0.4],
        ],
    ]
)


@resolve_conflicts.probe("anchors that several ground truths want")
def _(course):
    resolved = course.assigner.resolve_conflicts(CLAIMS.clone(), OVERLAPS.clone())
    return {"owners of each anchor": resolved.sum(dim=1), "who owns what": resolved}


@resolve_conflicts.probe("anchors that one ground truth or none wants")
def _(course):
    quiet = CLAIMS & (CLAIMS.sum(dim=1) < 2)[:, None]
    return {
        "single claims": course.assigner.resolve_conflicts(quiet.clone(), OVERLAPS.clone()),
        "one ground truth in each of eight images": course.assigner.resolve_conflicts(
            CLAIMS.clone().view(8, 1, 6), OVERLAPS.clone().view(8, 1, 6)
        ),
        "no claim": course.assigner.resolve_conflicts(torch.zeros_like(quiet), OVERLAPS.clone()),
    }


@resolve_conflicts.probe("what was handed in stays as it was")
def _(course):
    claims, overlaps = CLAIMS.clone(), OVERLAPS.clone()
    resolved = course.assigner.resolve_conflicts(claims, overlaps)
    return {"claims": claims, "overlaps": overlaps, "claims that are left": resolved.sum()}


resolve_conflicts.misconception(
    "the lowest overlap wins",
    swap=("argmax(dim=1)", "argmin(dim=1)"),
    because="The anchor goes to the object that its box fits worst. Its target then lies far from its prediction, and "
    "where objects overlap, boxes are pulled from one to the other. Take the largest overlap.",
)
resolve_conflicts.misconception(
    "the first ground truth wins",
    swap=("overlaps[image, :, anchor].argmax(dim=1)", "positive[image, :, anchor].int().argmax(dim=1)"),
    because="Which object gets the anchor then depends on the order of the label file. Of two aircraft side by side "
    "the second loses its positives. Let the overlap decide.",
)
resolve_conflicts.misconception(
    "only those that want the anchor are asked",
    swap=(
        "overlaps[image, :, anchor].argmax(dim=1)",
        "(overlaps[image, :, anchor] * positive[image, :, anchor]).argmax(dim=1)",
    ),
    because="That would be a sensible rule, but this one is different: a disputed anchor goes to the ground truth "
    "with the largest overlap of all in the image, even if that one has k better anchors and did not choose it. "
    "Ultralytics decides so, and in crowds your positives would differ. Look for the largest overlap along the whole "
    "axis of the ground truths.",
)
resolve_conflicts.misconception(
    "nobody gets an anchor that is disputed",
    swap=("    resolved[image, winner, anchor] = True\n", ""),
    because="The anchors in the middle of a crowd become background, exactly where positives are rare. Objects that "
    "overlap are missed. Clear all claims, then set the winner's again.",
)
resolve_conflicts.misconception(
    "the losers keep their claims",
    swap=("    resolved[image, :, anchor] = False\n", ""),
    because="The anchor still belongs to several objects, so it has two boxes to predict and target scores in two "
    "classes. Its target becomes whichever was written last. Clear the claims before you set the winner's.",
)
resolve_conflicts.misconception(
    "a single claim can be lost too",
    swap=("claims > 1", "claims > 0"),
    because="An anchor that only one ground truth chose goes to another that overlaps it more but did not choose it. "
    "That one then has more positives than k, the first one fewer. Only anchors with more than one claim are "
    "disputed.",
)
resolve_conflicts.misconception(
    "the background gets owners",
    swap=("claims > 1", "claims > -1"),
    because="Every anchor of the image goes to the object that it overlaps most, or to the first if it overlaps none. "
    "The class loss loses its negatives and the detector fires everywhere. Leave anchors without a claim alone.",
)
resolve_conflicts.misconception(
    "the claims are changed in place",
    swap=("positive.clone()", "positive"),
    because="The caller passed the claims in and finds them changed. The assigner microscope draws the claims and the "
    "decision side by side and would show the same picture twice. Work on a copy.",
)

# ---- TaskAlignedAssigner -------------------------------------------------------------------------

task_aligned_assigner = Exercise(
    "assigner.TaskAlignedAssigner",
    stage=5,
    points=4,
    minutes=35,
    after=("assigner.anchors_inside", "assigner.alignment", "assigner.top_candidates", "assigner.resolve_conflicts"),
    goal="Join the four steps and write down what each anchor has to predict.",
    hints=(
        "Three lines call your four functions in their order: candidates, metric and overlaps, the k best, conflicts "
        "resolved. What is left is a mask of pairs, at most one ground truth for each anchor.",
        "A positive anchor gets the label, the box and the index of its ground truth. All other anchors get False in "
        "the foreground and 0 in the scores. A batch without objects needs no code of its own: every mask is False, "
        "and its dtype stays bool.",
        "For each ground truth take the largest metric and the largest overlap among its positives only. A positive's "
        "score, in the column of its class, is its metric divided by the largest metric (plus eps, against 0 / 0), "
        "times the largest overlap.",
    ),
)

TRUTH_LABELS = torch.tensor([[2, 0, 3, 0, 0], [0, 0, 0, 0, 0], [1, 2, 0, 0, 0]])
TRUTH_BOXES = torch.zeros(3, 5, 4)
TRUTH_BOXES[0, :3] = torch.tensor([[9.0, 10, 47, 42], [15, 14, 54, 49], [3, 52, 13, 61]])
TRUTH_BOXES[2, :2] = torch.tensor([[10.0, 14, 50, 50], [33, 2, 62, 30]])
TRUTH_MASK = torch.arange(5) < torch.tensor([3, 0, 2])[:, None]


def scene() -> tuple[Tensor, ...]:
    """The arguments of the assigner: three images with three objects, none, and two.

    The images have 64 pixels, 80 anchors and 4 classes. An anchor near two objects predicts a box
    between them, so that both choose it.
    """
    anchors = grid(64, 8, 16)
    centres = (TRUTH_BOXES[..., :2] + TRUTH_BOXES[..., 2:]) / 2
    away = (anchors - centres[:, :, None]).square().sum(dim=-1).sqrt()  # (3, 5, 80)
    share = (away.masked_fill(~TRUTH_MASK[..., None], 1e4) / -10).softmax(dim=1)
    boxes = torch.einsum("bga,bgs->bas", share, TRUTH_BOXES) + values(3, 80, 4, low=-3, high=3, seed=81)
    scores = values(3, 80, 4, low=0.05, high=0.95, seed=82)
    # the best box of all, from an anchor whose score for that class is next to 0
    boxes[2, 27], scores[2, 27, 1] = TRUTH_BOXES[2, 0], 1e-7
    return scores, boxes, anchors, TRUTH_LABELS.clone(), TRUTH_BOXES.clone(), TRUTH_MASK.clone()


def told(assigned) -> dict:
    """An assignment without what is meaningless: labels, boxes and numbers of the background."""
    positive = assigned.foreground > 0

    def of_foreground(what: Tensor) -> Tensor:
        if what.shape[:2] != positive.shape:
            return what
        return what.masked_fill(~positive.view(*positive.shape, *[1] * (what.dim() - 2)), -1)

    return {
        "foreground": assigned.foreground,
        "gt_index, -1 on the background": of_foreground(assigned.gt_index).long(),
        "labels, -1 on the background": of_foreground(assigned.labels).long(),
        "boxes, -1 on the background": of_foreground(assigned.boxes),
        "scores": assigned.scores,
    }


@task_aligned_assigner.probe("three objects, none, and two")
def _(course):
    given = scene()
    seen = told(course.assigner.TaskAlignedAssigner(4)(*given))
    names = ("scores", "predicted boxes", "anchors", "labels", "boxes", "mask")
    return seen | {f"{name} afterwards": what for name, what in zip(names, given)}


@task_aligned_assigner.probe("an anchor that does best for one object and belongs to the other")
def _(course):
    """Two objects, six anchors inside both.

    The second anchor has by far the best metric for object 0, and overlaps object 1 more. The last
    one overlaps object 1 more too, but only object 0 chooses it, so it stays there.
    """
    truth = torch.tensor([[[10.0, 10, 42, 42], [18, 10, 50, 42]]])
    anchors = torch.tensor([[20.0, 20], [24, 20], [28, 20], [32, 20], [36, 20], [40, 20]])
    left = torch.tensor([11.0, 14.5, 12.5, 17.5, 16.5, 14.4])  # of each anchor's box, which is 32 pixels wide
    boxes = torch.stack((left, torch.full((6,), 10.0), left + 32, torch.full((6,), 42.0)), dim=-1)
    scores = torch.tensor([[0.001, 0.3], [0.9, 0.4], [0.002, 0.2], [0.01, 0.8], [0.015, 0.9], [0.6, 0.001]])
    given = scores[None], boxes[None], anchors, torch.tensor([[0, 1]]), truth, torch.ones(1, 2, dtype=torch.bool)
    return told(course.assigner.TaskAlignedAssigner(2, k=3)(*given))


@task_aligned_assigner.probe("another k, alpha and beta")
def _(course):
    return told(course.assigner.TaskAlignedAssigner(4, k=4, alpha=1.0, beta=2.0)(*scene()))


@task_aligned_assigner.probe("a batch without objects")
def _(course):
    scores, boxes, anchors, *_ = scene()
    nothing = torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1, 4), torch.zeros(3, 1, dtype=torch.bool)
    return told(course.assigner.TaskAlignedAssigner(4)(scores, boxes, anchors, *nothing))


@task_aligned_assigner.probe("every score is 0")
def _(course):
    scores, boxes, anchors, *truth = scene()
    few = torch.tensor([0, 9, 18, 27, 36, 69, 73])  # fewer than k, so that all of a box's candidates are chosen
    return told(
        course.assigner.TaskAlignedAssigner(4)(torch.zeros_like(scores[:, few]), boxes[:, few], anchors[few], *truth)
    )


task_aligned_assigner.misconception(
    "a batch without objects returns early, with a mask of floats",
    swap=(
        "        candidates = anchors_inside(anchors, gt_boxes, gt_mask)\n",
        "        if not gt_mask.any():\n"
        "            background = torch.zeros(scores.shape[:2], device=scores.device)\n"
        "            number = background.long()\n"
        "            return Assignment(number, torch.zeros_like(boxes), torch.zeros_like(scores), background, number)\n"
        "        candidates = anchors_inside(anchors, gt_boxes, gt_mask)\n",
    ),
    because="torch.zeros makes floats, and the loss indexes with the foreground. All goes well until a batch happens "
    "to hold no object; then it ends with an IndexError. Give the mask dtype=torch.bool, or leave the early return "
    "out: the general code handles that batch too.",
    museum=15,
)
task_aligned_assigner.misconception(
    "alpha and beta change places on the way",
    swap=("self.alpha, self.beta)\n", "self.beta, self.alpha)\n"),
    because="alignment takes alpha first and beta second. Swapped, the score counts with the sixth power, and a box "
    "may lie anywhere as long as its class score is high. Pass them in order, or by name.",
)
task_aligned_assigner.misconception(
    "the positives get hard labels",
    swap=("pair_metric * best_overlap[image, gt] / (best_metric[image, gt] + self.eps)", "1.0"),
    because="Every positive is trained to be certain, in the middle of the object and at its border alike. Scores "
    "then no longer say how good a box is, and NMS keeps the wrong one. The target is the normalised metric.",
)
task_aligned_assigner.misconception(
    "the raw metric is the target",
    swap=("pair_metric * best_overlap[image, gt] / (best_metric[image, gt] + self.eps)", "pair_metric"),
    because="A product of powers is tiny at the start, so no anchor is ever trained to be confident, and the loss "
    "divides by almost nothing. Training stalls at scores near 0. Scale the metrics of each ground truth by its best.",
)
task_aligned_assigner.misconception(
    "the best overlap is left out",
    swap=("pair_metric * best_overlap[image, gt] /", "pair_metric /"),
    because="The target of every object's best positive is then 1, even if its box covers a third of the object. "
    "Scores no longer measure the box. Multiply by the best overlap of that ground truth.",
)
task_aligned_assigner.misconception(
    "the best overlap is sought among all candidates",
    swap=(
        '        best_overlap.view(-1).scatter_reduce_(0, flat_index, pair_overlap, "amax")\n',
        "        best_overlap = overlaps.amax(dim=-1)\n",
    ),
    because="A candidate that was not chosen, or that another object won, sets the scale. The target promises a "
    "better box than any positive has, and it differs from Ultralytics'. Take the maximum over the positives.",
)
task_aligned_assigner.misconception(
    "the best metric is sought among all candidates",
    swap=(
        '        best_metric.view(-1).scatter_reduce_(0, flat_index, pair_metric, "amax")\n',
        "        best_metric = metric.amax(dim=-1)\n",
    ),
    because="The best candidate of an object may have gone to another object in a conflict. Measured against it, no "
    "remaining positive reaches the best overlap, and an object in a crowd never gets a high target. Take the maximum "
    "over the positives.",
)
task_aligned_assigner.misconception(
    "k is not handed on",
    swap=("top_candidates(metric, candidates, self.k)", "top_candidates(metric, candidates)"),
    because="The default of top_candidates is 10, and so is this class's: it works until somebody asks for another k, "
    "and then nothing changes. Pass self.k on.",
)
task_aligned_assigner.misconception(
    "all objects of an image share one scale",
    swap=("(best_metric[image, gt] + self.eps)", "(best_metric.amax(dim=1)[image] + self.eps)"),
    because="The object that the network detects best sets the scale, and the others get targets near 0. Objects that "
    "are hard to see are trained to be background. Each ground truth has its own best metric.",
)
task_aligned_assigner.misconception(
    "conflicts are not resolved",
    swap=(
        "resolve_conflicts(top_candidates(metric, candidates, self.k), overlaps)",
        "top_candidates(metric, candidates, self.k)",
    ),
    because="An anchor between two objects has target scores in two classes, and one box that was written over the "
    "other. Neighbouring objects merge into one prediction. Resolve the conflicts before you write the targets.",
)
task_aligned_assigner.misconception(
    "padding counts as an object",
    swap=("anchors_inside(anchors, gt_boxes, gt_mask)", "anchors_inside(anchors, gt_boxes, torch.ones_like(gt_mask))"),
    because="A row of zeros, enlarged, is a box of 16 pixels around the upper left corner, and its class is 0. Images "
    "with few objects then have positives there that predict an empty box. Pass the mask of real boxes on.",
)
