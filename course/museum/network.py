"""Rooms of the whole network: two from the diary, and one that no shape can show."""

import torch
from torch import nn

from yolostudy.lens import copy_weights, first_divergence
from yolostudy.study.museum import Room, frames

fractions = Room(
    3, "Conv2d refuses its channels", mistake=("network.scale_channels", "the product is returned as it is"), diary=True
)


def narrow(course):
    return nn.Conv2d(3, course.network.scale_channels(64, 0.25), 3)


@fractions.look
def _(course):
    return False, f"made: {narrow(course)}"


@fractions.find("printing the argument")
def _(course):
    channels = course.network.scale_channels(64, 0.25)
    return f"{channels!r}, a {type(channels).__name__}\n{frames(lambda: narrow(course))}"


nothing_returned = Room(6, "cannot unpack None", mistake=("network.Backbone", "forward returns nothing"), diary=True)


@nothing_returned.look
def _(course):
    p2, *_, p5 = course.network.YOLO(3).backbone(torch.zeros(1, 3, 64, 64))
    return False, f"P2 {tuple(p2.shape)} to P5 {tuple(p5.shape)}"


@nothing_returned.find("the caller's line, and what its callee returns")
def _(course):
    network = course.network.YOLO(3)
    given = network.backbone(torch.zeros(1, 3, 64, 64))
    return f"{frames(lambda: network(torch.zeros(1, 3, 64, 64)))}\nthe backbone returns {given}"


bilinear = Room(29, "parity is lost by a hundredth", mistake=("network.Neck", "the maps are enlarged bilinearly"))


def beside_the_reference(course):
    """Compare the network with the reference, with the same weights."""
    from yolostudy.study import package

    mine, theirs = course.network.YOLO(3), package("reference").network.YOLO(3)
    copy_weights(theirs, mine)
    # in evaluation mode the outputs of an untrained network are almost constant
    return first_divergence(mine, theirs, torch.rand(2, 3, 64, 64), training=True)


@bilinear.look
def _(course):
    last = beside_the_reference(course).rows[-1]
    return last.differs, f"the outputs differ by {last.relative:.2g} of their largest value"


@bilinear.find("the first divergence")
def _(course):
    return beside_the_reference(course)
