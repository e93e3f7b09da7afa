"""Rooms of the loss. The student of the diary lost more evenings here than anywhere else."""

import torch

from yolostudy.lens import NaNMicroscope
from yolostudy.study.museum import Room, frames

from ._props import DETECTOR, TARGETS, inside, raw_maps, span, words

LOSS = "losses.DetectionLoss"
NOBODY = TARGETS[:0]


def loss_of(course, targets=TARGETS, maps=None):
    return course.losses.DetectionLoss(DETECTOR)(maps or raw_maps(), targets)


def under_the_microscope(act):
    with NaNMicroscope() as microscope:
        act().total.backward()
    return microscope.finding


raw_distributions = Room(
    7,
    "sizes [512, 16] and [512] do not fit",
    mistake=(LOSS, "the assigner gets raw distributions instead of boxes"),
    diary=True,
)


@raw_distributions.look
def _(course):
    return False, words(loss_of(course))


@raw_distributions.find("the traceback, and what the docstring wants: boxes (B, A, 4)")
def _(course):
    loss = course.losses.DetectionLoss(DETECTOR)
    assigner, shapes = loss.assigner, []

    def told(scores, boxes, *rest):
        shapes.append(f"the assigner's boxes are {tuple(boxes.shape)}")
        return assigner(scores, boxes, *rest)

    loss.assigner = told
    return "\n".join([frames(lambda: loss(raw_maps(), TARGETS)), *shapes])


logits_to_a_power = Room(8, "every loss is NaN at step 1", mistake=(LOSS, "the sigmoid is missing"), diary=True)


@logits_to_a_power.look
def _(course):
    parts = loss_of(course)
    return parts.total.isnan(), words(parts)


@logits_to_a_power.find("the NaN microscope")
def _(course):
    return under_the_microscope(lambda: loss_of(course))


an_empty_sum = Room(
    9,
    "now and then NaN in box and DFL, infinity in the class part",
    mistake=(LOSS, "divided by the bare sum of target scores"),
    diary=True,
)


@an_empty_sum.look
def _(course):
    parts = loss_of(course, NOBODY)
    return parts.box.isnan() and parts.dfl.isnan() and parts.cls.isinf(), words(parts)


@an_empty_sum.find("the NaN microscope, on a batch without objects")
def _(course):
    return under_the_microscope(lambda: loss_of(course, NOBODY))


strides_for_pixels = Room(
    10, "mAP 0 and wild boxes", mistake=(LOSS, "boxes and anchors stay in strides for the assigner"), diary=True
)


@strides_for_pixels.look
def _(course):
    positives = inside(course, TARGETS[:1]).assigned.foreground.sum().item()
    return positives == 0, f"one object is planted, {positives} anchors are responsible for it"


@strides_for_pixels.find("a table of units")
def _(course):
    kept = inside(course, TARGETS[:1])
    _, boxes, anchors, _, truths, _ = kept.given
    units = f"boxes {span(boxes)}, anchors {span(anchors)}, ground truths {span(truths)}"
    return f"into the assigner: {units}: different units"


pixels_for_strides = Room(
    11, "tiny IoU, nothing is learned", mistake=(LOSS, "the target boxes are not divided by the stride"), diary=True
)


@pixels_for_strides.look
def _(course):
    kept = inside(course)
    there_and_back = course.boxes.distance_to_box(kept.anchors, course.boxes.box_to_distance(kept.anchors, kept.boxes))
    error = (there_and_back - kept.boxes).abs().max().item()
    return error > 1e-3, f"a target as distances and back as a box: off by {error:.3g}"


@pixels_for_strides.find("a table of units")
def _(course):
    kept = inside(course)
    return f"into the box loss: anchors {span(kept.anchors)}, target boxes {span(kept.boxes)}: different units"


masked = Room(
    12,
    "a lovely loss, and the background fires everywhere",
    mistake=(LOSS, "the class loss sees the foreground only"),
    diary=True,
)


def told(course):
    """Count the anchors to which the class loss gives a gradient.

    Returns their number, how many of them are background, and the number of all anchors.
    """
    maps = raw_maps()
    kept = inside(course, maps=maps)
    kept.parts.cls.backward()
    moved = course.boxes.flatten_maps([level.grad for level in maps])[..., 64:].abs().sum(-1) > 0
    return int(moved.sum()), int((moved & ~kept.assigned.foreground).sum()), moved.numel()


@masked.look
def _(course):
    moved, background, anchors = told(course)
    return background == 0, f"{moved} of {anchors} anchors have a gradient on their class"


@masked.find("the gradient on the background")
def _(course):
    return f"of the background, {told(course)[1]} anchors have a gradient"


attached = Room(
    13,
    "slow, and gradients that differ from Ultralytics'",
    mistake=(LOSS, "what the assigner gets is not detached"),
    diary=True,
)


@attached.look
def _(course):
    scores, boxes = inside(course).given[:2]
    graph = scores.requires_grad or boxes.requires_grad
    return graph, f"the assigner's inputs are {'part of the graph' if graph else 'detached'}"


@attached.find("requires_grad of each input")
def _(course):
    names = ("scores", "boxes", "anchors", "labels", "truths", "mask")
    return "\n".join(
        f"{name:<8} requires_grad {value.requires_grad}"
        for name, value in zip(names, inside(course).given, strict=True)
    )


a_tiny_sum = Room(
    32, "the loss explodes now and then", mistake=(LOSS, "the sum is kept from 0, but not from being tiny")
)


@a_tiny_sum.look
def _(course):
    few, many = loss_of(course, NOBODY).total.item(), loss_of(course).total.item()
    return few > 1e3 * many, f"a batch with objects {many:.4g}, one without {few:.4g}"


@a_tiny_sum.find("printing the divisor")
def _(course):
    return (
        f"the target scores sum to {inside(course, NOBODY).assigned.scores.sum().item()}, and a lower limit far below "
        "1 does not help"
    )


six_columns = Room(
    42,
    "a batch without objects crashes",
    mistake=("losses.pad_targets", "without objects the six columns are handed back"),
)


@six_columns.look
def _(course):
    labels, boxes, mask = course.losses.pad_targets(NOBODY, 2)
    return False, f"labels {tuple(labels.shape)}, boxes {tuple(boxes.shape)}, mask {tuple(mask.shape)}"


@six_columns.find("the traceback of `loss(maps, targets[:0])`")
def _(course):
    return frames(lambda: loss_of(course, NOBODY))


a_hidden_bug = Room(
    17,
    "days of tuning, and no learning rate helps",
    "Hyper-parameters were changed to hide a bug in the code. Overfit one batch first, with the maps themselves as "
    "parameters: then no network can be too weak. If two images cannot be learned by heart, the loss is wrong. Here "
    "its targets are in pixels.",
    mistake=(LOSS, "the target boxes are not divided by the stride"),
    diary=True,
)


def learned_by_heart(course, rate, steps=40):
    """Fit the maps to the three objects; return how many are found afterwards."""
    maps = raw_maps()
    optimizer, loss = torch.optim.Adam(maps, lr=rate), course.losses.DetectionLoss(DETECTOR)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(maps, TARGETS).total.backward()
        optimizer.step()
    found = course.boxes.predict([level.detach() for level in maps], score_threshold=0.25)
    hits = 0
    for image, number, *box in TARGETS.tolist():
        of_its_class = found[int(image)][found[int(image)][:, 5] == number, :4]
        hits += bool((course.boxes.box_iou(of_its_class, torch.tensor([box])) > 0.7).any())
    return hits


@a_hidden_bug.look
def _(course):
    found = {rate: learned_by_heart(course, rate) for rate in (0.1, 0.3)}
    return not any(found.values()), "   ".join(
        f"rate {rate}: {hits} of 3 learned by heart" for rate, hits in found.items()
    )


@a_hidden_bug.find("overfitting one batch, then a table of units")
def _(course):
    kept = inside(course)
    return (
        f"no rate learns it, so the rate is not the cause. Into the box loss: anchors {span(kept.anchors)}, targets "
        f"{span(kept.boxes)}"
    )
