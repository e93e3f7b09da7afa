"""Rooms of the blocks. The shape table and the first divergence find most of them."""

import torch

from yolostudy.lens import copy_weights, first_divergence, shapes
from yolostudy.study.museum import Room, frames

MODULE, SPPF = "blocks.ConvModule", "blocks.SPPF"

no_super = Room(2, "a TypeError at once", mistake=(MODULE, "super.__init__ without calling super"), diary=True)


@no_super.look
def _(course):
    return False, f"made: {type(course.blocks.ConvModule(3, 8)).__name__}"


@no_super.find("the last frame of the traceback")
def _(course):
    return frames(lambda: course.blocks.ConvModule(3, 8))


unregistered = Room(
    4, "freezing does nothing, the optimizer refuses", mistake=(MODULE, "the layers are made in forward"), diary=True
)


@unregistered.look
def _(course):
    count = sum(parameter.numel() for parameter in course.blocks.ConvModule(3, 8, 3).parameters())
    return count == 0, f"{count} parameters"


@unregistered.find("the shape table: its last column counts parameters")
def _(course):
    return shapes(course.blocks.ConvModule(3, 8, 3), torch.zeros(1, 3, 8, 8))


forgotten = Room(5, "384 channels expected, 1152 found", mistake=(SPPF, "the last ConvModule is forgotten"), diary=True)


def behind(course):
    """SPPF, and a layer that expects the channels that SPPF should give."""
    return torch.nn.Sequential(course.blocks.SPPF(64, 64), course.blocks.ConvModule(64, 32))


@forgotten.look
def _(course):
    return False, f"it gives {tuple(behind(course).eval()(torch.zeros(1, 64, 4, 4)).shape)}"


@forgotten.find("the shape table")
def _(course):
    return shapes(behind(course), torch.zeros(1, 64, 4, 4))


a_bias = Room(
    14, "no key of the pretrained weights matches", mistake=(MODULE, "the convolution keeps its bias"), diary=True
)


def keys(course):
    """Names of the layer's tensors, and of those that it should have.

    A convolution before a normalisation has no bias.
    """
    mine = set(course.blocks.ConvModule(3, 8, 3).state_dict())
    return mine, {
        "conv.weight",
        *(f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    }


@a_bias.look
def _(course):
    mine, theirs = keys(course)
    return mine != theirs, f"{len(mine & theirs)} keys match, {len(mine - theirs)} of mine are unknown there"


@a_bias.find("comparing the lists of keys")
def _(course):
    mine, theirs = keys(course)
    return f"only in mine: {', '.join(sorted(mine - theirs))}"


no_activation = Room(
    30, "keys and counts are right, answers are wrong", mistake=(SPPF, "the first ConvModule has no activation")
)


def beside_theirs(course):
    """Compare the block with one that is written out here and has the same weights."""

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cv1, self.cv2 = course.blocks.ConvModule(32, 16), course.blocks.ConvModule(64, 32)
            self.pool = torch.nn.MaxPool2d(5, stride=1, padding=2)

        def forward(self, x):
            maps = [self.cv1(x)]
            for _ in range(3):
                maps.append(self.pool(maps[-1]))
            return self.cv2(torch.cat(maps, dim=1))

    mine, theirs = course.blocks.SPPF(32, 32), Theirs()
    copy_weights(mine, theirs)
    return first_divergence(mine, theirs, torch.randn(1, 32, 8, 8))


@no_activation.look
def _(course):
    rows = beside_theirs(course).rows
    return rows[-1].differs, f"the outputs differ by {rows[-1].relative:.2g} of their largest value"


@no_activation.find("the first divergence")
def _(course):
    return beside_theirs(course)
