"""Rooms of the assigner: which anchor answers for which object."""

import torch

from yolostudy.lens import NaNMicroscope
from yolostudy.study.museum import Room

a_float_mask = Room(
    15,
    "an IndexError every few epochs, and a mask that is float32",
    mistake=("assigner.TaskAlignedAssigner", "a batch without objects returns early, with a mask of floats"),
    diary=True,
)


def nobody(course):
    """The assignment of a batch without objects."""
    anchors = torch.rand(20, 2) * 64
    boxes = torch.cat((anchors - 8, anchors + 8), dim=1)[None]
    none = torch.zeros(1, 1, 4)  # one row of padding
    return course.assigner.TaskAlignedAssigner(3)(
        torch.rand(1, 20, 3), boxes, anchors, none[..., 0].long(), none, none[..., 0] > 0
    )


@a_float_mask.look
def _(course):
    chosen = torch.arange(20)[None][nobody(course).foreground]
    return False, f"{len(chosen)} anchors are chosen by the mask"


@a_float_mask.find("the dtype at the return")
def _(course):
    return "\n".join(f"{name:<11} {value.dtype}" for name, value in nobody(course)._asdict().items())


a_negative_base = Room(36, "NaN in a power", mistake=("assigner.alignment", "a negative overlap is not clamped"))


def far_off(course):
    """Align one object with a box that fits and a box far away; beta is no whole number here."""
    truth, boxes = torch.tensor([[[20.0, 20, 60, 60]]]), torch.tensor([[[22.0, 18, 58, 63], [90, 90, 120, 124]]])
    scores, candidates = torch.full((1, 2, 3), 0.3), torch.ones(1, 1, 2, dtype=torch.bool)
    return course.assigner.alignment(scores, boxes, torch.zeros(1, 1, dtype=torch.long), truth, candidates, beta=5.5)


@a_negative_base.look
def _(course):
    metric, _ = far_off(course)
    return metric.isnan().any(), f"the metric is {[round(value, 3) for value in metric.flatten().tolist()]}"


@a_negative_base.find("the NaN microscope")
def _(course):
    with NaNMicroscope() as microscope:
        far_off(course)
    return microscope.finding


everything_is_zero = Room(
    45,
    "no foreground at all, or the wrong one",
    mistake=("assigner.top_candidates", "anchors outside every box are chosen too"),
)


def choose(course):
    """Choose with a metric of 0 everywhere, as of an untrained network; 12 to 17 are candidates."""
    candidates = torch.zeros(1, 1, 32, dtype=torch.bool)
    candidates[..., 12:18] = True
    return candidates, course.assigner.top_candidates(torch.zeros(1, 1, 32), candidates)


@everything_is_zero.look
def _(course):
    candidates, chosen = choose(course)
    outside = int((chosen & ~candidates).sum())
    return outside, f"{int(chosen.sum())} anchors are chosen, {outside} of them outside the box"


@everything_is_zero.find("counting the foreground inside and outside")
def _(course):
    candidates, chosen = choose(course)
    return (
        f"candidates {candidates.flatten().nonzero().flatten().tolist()}\nchosen     "
        f"{chosen.flatten().nonzero().flatten().tolist()}"
    )
