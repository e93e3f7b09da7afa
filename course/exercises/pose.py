"""Stage 10: the keypoint branch, its decoding, the similarity of keypoints, and two losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, gradient, ramp, values
from .blocks import lively, shapes, steady
from .losses import BINS, CLASSES, SIDE
from .losses import raw_maps as detector_maps

# ---- KeypointHead --------------------------------------------------------------------------------

keypoint_head = Exercise(
    "pose.KeypointHead",
    stage=10,
    points=2,
    minutes=15,
    after=("blocks.ConvModule", "network.Head"),
    goal="Build the third branch of the head: K keypoints at every position.",
    hints=(
        "Look at the two branches of Head: three sequences, one for each level. How many numbers does a position say "
        "now, and how wide is the way to them?",
        "The width comes from X alone and is the same on all levels. It must not be narrower than what has to come "
        "out of it. The last convolution is a plain one: nothing bounds a keypoint.",
        "The class is a ModuleList: what you append() or extend() to self are its own members, 0, 1 and 2. In forward "
        "each member takes the map of its level, and the result is a list of three maps.",
    ),
)

WIDE, NARROW = ((64, 24, 20), 4, 3), ((16, 20, 24), 3, 2)  # a quarter of X is more than K·d, and less


def features(channels: tuple[int, ...], batch: int = 2) -> list[Tensor]:
    """The maps X, Y, Z of a tiny image that is not square."""
    return [2 * ramp(batch, c, 4 // 2**n, 8 // 2**n) for n, c in enumerate(channels)]


@keypoint_head.probe("the three maps")
@torch.no_grad()
def _(course):
    def shapes_of(channels, count, dims):
        maps = course.pose.KeypointHead(channels, count, dims)(features(channels))
        return {"type": type(maps).__name__, "shapes": [str(tuple(m.shape)) for m in maps]}

    return {f"{count} keypoints of {dims}": shapes_of(c, count, dims) for c, count, dims in (WIDE, NARROW)}


@keypoint_head.probe("the parameters that it owns")
def _(course):
    cases = (WIDE, NARROW, ((64, 128, 256), 17, 3), ((40, 40, 40), 2, 2), ((8, 8, 8), 1, 2), ((320, 16, 24), 4, 3))
    return {
        f"{count} keypoints of {dims}, channels {channels}": shapes(course.pose.KeypointHead(channels, count, dims))
        for channels, count, dims in cases
    }


@keypoint_head.probe("the names in its checkpoint")
def _(course):
    return sorted(course.pose.KeypointHead(*NARROW).state_dict())


@keypoint_head.probe("what the maps say, in evaluation")
@torch.no_grad()
def _(course):
    def look():
        made = {f"{dims} numbers": ((16, 20, 24), 2, dims) for dims in (2, 3)}
        return {what: list(lively(course.pose.KeypointHead(*how))(features(how[0]))) for what, how in made.items()}

    return steady(look)


@keypoint_head.probe("a backward pass from each map, in training")
def _(course):
    """Which branches have learned, and what reaches the features of each level."""

    def look(level: int):
        head = lively(course.pose.KeypointHead(*NARROW)).train()
        inputs = [x.requires_grad_() for x in features(NARROW[0])]
        out = head(inputs)[level]
        (out * ramp(*out.shape)).sum().backward()
        learned = {name.partition(".")[0] for name, p in head.named_parameters() if p.grad is not None}
        return {
            "branches": sorted(learned),
            "features": ["no gradient reaches it" if x.grad is None else x.grad for x in inputs],
        }

    return {f"map {level}": steady(lambda level=level: look(level)) for level in range(3)}


NUMBERS = "numbers = num_keypoints * dims"
WIDTH = "width = max(channels[0] // 4, numbers)"
ROW = "nn.Sequential(ConvModule(c, width, 3), ConvModule(width, width, 3), nn.Conv2d(width, numbers, 1))"
BRANCHES = "self.extend(\n            nn.Sequential("
FORWARD = "return [branch(x) for branch, x in zip(self, maps, strict=True)]"

keypoint_head.misconception(
    "the width is that of X",
    swap=(WIDTH, "width = max(channels[0], numbers)"),
    because="The class branch is as wide as X, this one a quarter of that: a few coordinates need less than many "
    "classes. With four times the width it costs several times the parameters, and no pretrained weight "
    "fits. Divide by 4.",
)
keypoint_head.misconception(
    "the width counts keypoints, not numbers",
    swap=(WIDTH, "width = max(channels[0] // 4, num_keypoints)"),
    because="With many keypoints the last convolution then has to make K·d numbers out of K: they depend on one "
    "another before anything is learned. People with 17 keypoints have 51 numbers. The width is at least K·d.",
)
keypoint_head.misconception(
    "the smaller of the two widths",
    swap=(WIDTH, "width = min(channels[0] // 4, numbers)"),
    because="'At least' is a lower bound, and a lower bound is a max. With min, one keypoint of two numbers goes "
    "through two channels, however large the network is.",
)
keypoint_head.misconception(
    "the width has no lower bound",
    swap=(WIDTH, "width = channels[0] // 4"),
    because="For the nano network a quarter of X is 16 channels. Seventeen keypoints of three numbers are 51: more "
    "numbers than channels to make them from. Ultralytics takes at least K·d, so its weights do not fit either.",
)
keypoint_head.misconception(
    "the width is K·d in every network",
    swap=(WIDTH, "width = numbers"),
    because="A larger network has a wider X, and this branch would not grow with it. For few keypoints it stays as "
    "narrow as in nano. Take the larger of both.",
)
keypoint_head.misconception(
    "each level has the width of its own map",
    swap=[
        (WIDTH, "width = lambda c: max(c // 4, numbers)"),
        (
            ROW,
            "nn.Sequential(ConvModule(c, width(c), 3), ConvModule(width(c), width(c), 3), "
            "nn.Conv2d(width(c), numbers, 1))",
        ),
    ],
    because="The branches of Y and Z would be two and four times as wide, because their maps have more channels. All "
    "three say the same kind of number. The width comes from X.",
)
keypoint_head.misconception(
    "one 3 x 3 ConvModule is left out",
    swap=(ROW, "nn.Sequential(ConvModule(c, width, 3), nn.Conv2d(width, numbers, 1))"),
    because="A branch then sees three positions wide and not five, and the key `0.1` of a checkpoint is a plain "
    "convolution here and a ConvModule there. Two 3 x 3 ConvModules, as in the other branches.",
)
keypoint_head.misconception(
    "the kernels are 1 x 1",
    swap=(ROW, ROW.replace("width, 3)", "width, 1)")),
    because="A wing tip is seen beside its position, not at it. Without 3 x 3 kernels a position reads nothing but "
    "its own features.",
)
keypoint_head.misconception(
    "the last convolution is a ConvModule",
    swap=(ROW, ROW.replace("nn.Conv2d(width, numbers, 1)", "ConvModule(width, numbers, 1)")),
    because="SiLU never says less than -0.28. A keypoint to the left of its position by more than half a stride "
    "cannot be said, so half of all keypoints stay wrong and the loss stops early. The last convolution is plain.",
)
keypoint_head.misconception(
    "the last convolution has no bias",
    swap=(ROW, ROW.replace("numbers, 1)", "numbers, 1, bias=False)")),
    because="bias=False belongs before a normalisation, and none follows here. The mean place of the nose relative to "
    "its anchor has no number of its own, and the bias of a checkpoint finds no partner.",
)
keypoint_head.misconception(
    "two numbers a keypoint, whatever d is",
    swap=(NUMBERS, "numbers = num_keypoints * 2"),
    because="With d = 3 each keypoint also says how visible it is. Without that channel nobody can tell a hidden wing "
    "tip from a seen one, and the slices of the loss do not fit. Multiply by d.",
    museum=61,
)
keypoint_head.misconception(
    "the box is said once more",
    swap=(NUMBERS, "numbers = 4 + num_keypoints * dims"),
    because="Boxes have a branch of their own. Four further channels shift every keypoint behind them.",
)
keypoint_head.misconception(
    "the levels share their last convolution",
    swap=(
        f"{BRANCHES}ConvModule(c, width, 3), ConvModule(width, width, 3), nn.Conv2d(width, numbers, 1))",
        "last = nn.Conv2d(width, numbers, 1)\n"
        f"        {BRANCHES}ConvModule(c, width, 3), ConvModule(width, width, 3), last)",
    ),
    because="One module in three lists is one set of weights, with three names in the checkpoint. Objects of all "
    "sizes then share it, and of three pretrained convolutions the last one loaded wins. Make one for each level.",
)
keypoint_head.misconception(
    "the branches lie in a Python list",
    swap=[
        (BRANCHES, "self.rows = list(\n            nn.Sequential("),
        (FORWARD, FORWARD.replace("zip(self,", "zip(self.rows,")),
    ],
    because="A module knows only what is assigned to it as a module. A plain list hides the branches: no parameters "
    "for the optimizer, nothing in the checkpoint, nothing moved to the graphics card. Extend self.",
    museum=4,
)
keypoint_head.misconception(
    "the branches are a member of their own",
    swap=[
        ("        self.extend(\n", "        self.branches = nn.ModuleList(\n"),
        (FORWARD, FORWARD.replace("zip(self,", "zip(self.branches,")),
    ],
    because="Every name gets a level more: `keypoints.branches.0.1` instead of `keypoints.0.1`. The network computes "
    "the same, but a checkpoint's `cv4.0.1` finds no partner. The class is a list already: extend it.",
    museum=37,
)
keypoint_head.misconception(
    "the three maps are joined",
    swap=(FORWARD, FORWARD.replace("return [", "return torch.cat([").replace("True)]", "True)], dim=0)")),
    because="Maps of different size cannot be joined before they are flattened, and PoseHead puts each one behind the "
    "box and class channels of its level. Return a list.",
)
keypoint_head.misconception(
    "the numbers go through tanh",
    swap=(FORWARD, FORWARD.replace("branch(x) for", "branch(x).tanh() for")),
    because="Bounded numbers look safer. But an anchor of a large aircraft may be ten strides from the wing tip, and "
    "tanh allows two. The loss of such keypoints has no gradient that leads there. Leave them unbounded.",
)
keypoint_head.misconception(
    "the visibility is a probability already",
    swap=[
        (NUMBERS, f"self.dims = dims\n        {NUMBERS}"),
        (
            FORWARD,
            "maps = [branch(x).unflatten(1, (-1, self.dims)) for branch, x in zip(self, maps, strict=True)]\n"
            "        return [torch.cat((m[:, :, :2], m[:, :, 2:].sigmoid()), dim=2).flatten(1, 2) for m in maps]",
        ),
    ],
    because="Both decode_keypoints and the loss take a logit and apply the sigmoid themselves. Applied twice, 0…1 "
    "becomes 0.5…0.73: every keypoint counts as visible. Return what the convolution says.",
)
keypoint_head.misconception(
    "all x come first, then all y",
    swap=[
        (NUMBERS, f"self.dims = dims\n        {NUMBERS}"),
        (
            FORWARD,
            FORWARD.replace(
                "branch(x) for", "branch(x).unflatten(1, (-1, self.dims)).transpose(1, 2).flatten(1, 2) for"
            ),
        ),
    ],
    because="The channels come keypoint by keypoint: x y v, x y v. Loss and decoding read them so. In another order "
    "the network still learns, because both sides of a training agree, but pretrained weights give nonsense.",
)
keypoint_head.misconception(
    "the features are detached",
    swap=(FORWARD, FORWARD.replace("branch(x) for", "branch(x.detach()) for")),
    because="No gradient of the keypoint loss then reaches the backbone, and features that were made for boxes alone "
    "do not tell a wing tip from a tail. Only the assignment keeps keypoints and boxes apart, not the features.",
)
keypoint_head.misconception(
    "the levels are read from coarse to fine",
    swap=(FORWARD, FORWARD.replace("zip(self, maps, strict=True)", "zip(self, maps[::-1], strict=True)")),
    because="Members 0, 1 and 2 belong to X, Y and Z. The other way round a branch gets a map of another number of "
    "channels.",
)


# ---- decode_keypoints ----------------------------------------------------------------------------

decode_keypoints = Exercise(
    "pose.decode_keypoints",
    stage=10,
    points=2,
    minutes=15,
    after=("pose.KeypointHead", "boxes.make_anchors"),
    goal="Turn what the branch says into pixels.",
    hints=(
        "Three units meet: the raw number counts two strides, the anchor one stride, the result pixels. In which order "
        "do the factors come?",
        "The raw numbers have a dimension more than the anchors: that of the keypoints. Where must the anchors, and "
        "the strides, get one of length 1, so that each position's anchor goes to all of its keypoints?",
        "Compute x and y from the first two numbers, and put the sigmoid of the rest behind them. With d = 2 the rest "
        "is empty, and a slice does not mind. Change nothing in place: the loss needs the raw numbers.",
    ),
)

ANCHORS = torch.tensor([[0.5, 0.5], [1.5, 0.5], [6.5, 2.5], [0.5, 3.5], [2.5, 1.5], [4.5, 7.5]])
STRIDES = torch.tensor([[8.0], [8], [8], [16], [16], [32]])


def decoded(course, *shape: int, low: float = -2, high: float = 2) -> Tensor:
    positions = shape[-3]
    raw = values(*shape, low=low, high=high, seed=sum(shape))
    anchors, strides = ANCHORS.to(raw.dtype), STRIDES.to(raw.dtype)
    return course.pose.decode_keypoints(raw, anchors[-positions:], strides[-positions:])


@decode_keypoints.probe("three keypoints of two images")
def _(course):
    return decoded(course, 2, 6, 3, 3)


@decode_keypoints.probe("two numbers for each keypoint")
def _(course):
    return decoded(course, 2, 6, 4, 2)


@decode_keypoints.probe("a branch that says 0")
def _(course):
    raw = torch.zeros(6, 1, 3)
    return course.pose.decode_keypoints(raw, ANCHORS.to(raw.dtype), STRIDES.to(raw.dtype))


@decode_keypoints.probe("as many keypoints as positions")
def _(course):
    return decoded(course, 2, 3, 3, 3)


@decode_keypoints.probe("one keypoint")
def _(course):
    return decoded(course, 2, 3, 1, 3)


@decode_keypoints.probe("without a batch, and with one dimension more")
def _(course):
    return {"(A, K, d)": decoded(course, 6, 2, 3), "(.., .., A, K, d)": decoded(course, 2, 2, 6, 2, 3)}


@decode_keypoints.probe("keypoints far outside, and very sure ones")
def _(course):
    return decoded(course, 1, 6, 3, 3, low=-40, high=40)


@decode_keypoints.probe("the raw numbers afterwards")
def _(course):
    raw = values(2, 6, 3, 3, low=-2, high=2, seed=4)
    course.pose.decode_keypoints(raw, ANCHORS.to(raw.dtype), STRIDES.to(raw.dtype))
    return raw


POINTS = "(raw[..., :2] * 2 + anchors[:, None] - 0.5) * strides[:, None]"
JOINED = "torch.cat((points, raw[..., 2:].sigmoid()), dim=-1)"

decode_keypoints.misconception(
    "the half before the anchor is forgotten",
    swap=(POINTS, POINTS.replace(" - 0.5", "")),
    because="0 means the corner of the position, and the anchor is its centre. Without the half, a network that was "
    "trained with it is off by half a stride: 4 pixels for small objects, 16 for large ones. Train and decode by "
    "the same formula.",
    museum=58,
)
decode_keypoints.misconception(
    "the half is added",
    swap=(POINTS, POINTS.replace(" - 0.5", " + 0.5")),
    because="The anchor already lies half a stride inside its position. Add another half, and every keypoint is off "
    "by a whole stride. Go back to the corner: subtract.",
)
decode_keypoints.misconception(
    "the half is taken away in pixels",
    swap=(POINTS, "(raw[..., :2] * 2 + anchors[:, None]) * strides[:, None] - 0.5"),
    because="The half is half a stride, not half a pixel. Behind the multiplication it moves by 0.5 pixels where 4 to "
    "16 are needed. Subtract it before.",
    museum=58,
)
decode_keypoints.misconception(
    "the factor 2 is forgotten",
    swap=(POINTS, POINTS.replace(" * 2", "")),
    because="The branch counts two strides a unit. Without the factor every skeleton of a pretrained network is half "
    "as large and pulled towards its anchor: the noses come close to the middle of the box.",
)
decode_keypoints.misconception(
    "the anchor is doubled too",
    swap=(POINTS, "2 * (raw[..., :2] + anchors[:, None] - 0.5) * strides[:, None]"),
    because="Only the raw number counts two strides. A doubled anchor moves the keypoints away from the upper left "
    "corner, further the further they are from it.",
)
decode_keypoints.misconception(
    "the half is doubled too",
    swap=(POINTS, "((raw[..., :2] - 0.5) * 2 + anchors[:, None]) * strides[:, None]"),
    because="The raw number counts two strides, the half leads from the anchor to the corner and counts one. Doubled, "
    "it leads half a stride too far, up and to the left.",
    museum=58,
)
decode_keypoints.misconception(
    "the stride is forgotten",
    swap=(POINTS, POINTS.replace(" * strides[:, None]", "")),
    because="The result counts strides, not pixels: drawn on the image, all keypoints lie in its upper left corner. "
    "Multiply by the stride.",
)
decode_keypoints.misconception(
    "the anchors are in pixels already",
    swap=(POINTS, "(raw[..., :2] * 2 + (anchors * strides)[:, None] - 0.5) * strides[:, None]"),
    because="The anchor is then multiplied by the stride twice, and keypoints lie 8 to 32 times too far from the "
    "corner. The anchors come in units of the stride.",
)
decode_keypoints.misconception(
    "the anchor is added in strides to pixels",
    swap=(POINTS, "raw[..., :2] * 2 * strides[:, None] + anchors[:, None] - 0.5"),
    because="Pixels and strides are added. All objects of the image lie within a few pixels of its upper left corner. "
    "Add first, multiply then.",
)
decode_keypoints.misconception(
    "the offset is subtracted",
    swap=(POINTS, POINTS.replace("raw[..., :2] * 2 + anchors[:, None]", "anchors[:, None] - raw[..., :2] * 2")),
    because="Left and top distances of a box are subtracted from the anchor. A keypoint's number has a sign of its "
    "own: subtracted, each skeleton is turned by half a circle about its anchor.",
)
decode_keypoints.misconception(
    "x and y of the anchor are exchanged",
    swap=(POINTS, POINTS.replace("anchors[:, None]", "anchors.flip(-1)[:, None]")),
    because="Anchors are (x, y), as boxes and keypoints are. A tensor's indices are [y, x], which leads people to "
    "exchange them. Only objects on the diagonal are right.",
)
decode_keypoints.misconception(
    "the anchors are aligned with the keypoints",
    swap=(POINTS, POINTS.replace("anchors[:, None]", "anchors")),
    because="Dimensions are aligned from the right: (A, 2) meets the keypoints of (A, K, 2). With K unequal to A this "
    "fails, with K equal to A it gives a wrong answer without a word. Give the anchors a dimension of keypoints.",
)
decode_keypoints.misconception(
    "the strides are aligned with the keypoints",
    swap=(POINTS, POINTS.replace("strides[:, None]", "strides")),
    because="Strides (A, 1) meet the dimension of the keypoints, not that of the positions. Give them a dimension "
    "too, as the anchors have one.",
)
decode_keypoints.misconception(
    "one stride for all positions",
    swap=(POINTS, POINTS.replace("strides[:, None]", "strides[0]")),
    because="Each level has its own stride. With that of the first, all objects that the coarser maps find lie at a "
    "half or a quarter of their place.",
)
decode_keypoints.misconception(
    "the visibility stays a logit",
    swap=(JOINED, "torch.cat((points, raw[..., 2:]), dim=-1)"),
    because="The threshold of the drawing, 0.5, then means a probability of 0.62, and a logit of -3 looks like a "
    "broken probability. Whoever reads the result expects 0…1. Apply the sigmoid.",
)
decode_keypoints.misconception(
    "the visibility is decoded like x and y",
    swap=[
        (POINTS, "raw * 2"),
        (
            JOINED,
            "torch.cat(((points[..., :2] + anchors[:, None] - 0.5) * strides[:, None], "
            "points[..., 2:] * strides[:, None]), dim=-1)",
        ),
    ],
    because="A logit is no length: it has no stride and no factor. The visibility goes through a sigmoid.",
)
decode_keypoints.misconception(
    "x and y go through a sigmoid too",
    swap=(POINTS, POINTS.replace("raw[..., :2] * 2", "raw[..., :2].sigmoid() * 2")),
    because="A keypoint could then lie at most two strides from its corner, to the right and below. Older detectors "
    "bound their offsets so. Here nothing bounds them: a large aircraft's wing tip is ten strides away.",
)
decode_keypoints.misconception(
    "softmax over the keypoints",
    swap=(JOINED, "torch.cat((points, raw[..., 2:].softmax(dim=-2)), dim=-1)"),
    because="Softmax makes the keypoints compete: if all four are seen, each gets a quarter. Each one is visible or "
    "not, whatever the others are. Use a sigmoid.",
)
decode_keypoints.misconception(
    "the sigmoid works in place",
    swap=(JOINED, "torch.cat((points, raw[..., 2:].sigmoid_()), dim=-1)"),
    because="The trailing underscore changes the raw numbers of whoever called. Decode for a picture, then compute "
    "the loss: its logits are probabilities now, and with a gradient the backward pass fails.",
)
decode_keypoints.misconception(
    "the coordinates change in place",
    swap=(POINTS, "raw[..., :2].mul_(2).add_(anchors[:, None] - 0.5).mul_(strides[:, None])"),
    because="A slice is a view: mul_ and add_ change the network's answer itself. Whoever decodes the same answer "
    "twice, once to draw and once to measure, gets two results.",
)
decode_keypoints.misconception(
    "the visibility is left out",
    swap=(JOINED, "points"),
    because="The result has the shape of the raw numbers. Without the last column a drawing cannot leave the hidden "
    "keypoints out. Put it behind x and y.",
)
decode_keypoints.misconception(
    "there is always a visibility",
    swap=(JOINED, "torch.cat((points, raw[..., 2].sigmoid()[..., None]), dim=-1)"),
    because="With d = 2 there is no number 2: index 2 is out of bounds. A slice 2: is empty instead.",
    museum=61,
)
decode_keypoints.misconception(
    "keypoints are clamped to the image's corner",
    swap=(JOINED, JOINED.replace("points,", "points.clamp(min=0),")),
    because="A keypoint outside the image is a fact: the wing ends there. Clamped, the skeleton bends at the border, "
    "and the error of a wrong prediction looks smaller than it is. Nothing is bounded.",
)


# ---- keypoint_similarity -------------------------------------------------------------------------

keypoint_similarity = Exercise(
    "pose.keypoint_similarity",
    stage=10,
    points=2,
    minutes=20,
    after="pose.decode_keypoints",
    goal="Measure how well keypoints are met, as IoU measures boxes.",
    hints=(
        "Each visible keypoint gets a number from 1 (met) to 0 (far away). What is compared with the squared "
        "distance, so that a large object may be missed by more pixels than a small one?",
        "2σ is squared as a whole. The area is a square already, so it is neither squared nor rooted. A keypoint that "
        "is labelled, though hidden by something, counts: which values of the third number are that?",
        "Give the area a last dimension for the keypoints. Sum over the visible ones and divide by how many the truth "
        "has, at least 1: then an object without any gives 0 / 1. A tiny number beside the area prevents 0 / 0.",
    ),
)

SIGMAS = (0.05, 0.25, 0.1, 0.3, 0.2)
SEEN = torch.tensor([[2.0, 2, 2, 2, 2], [2, 1, 0, 2, 1], [0, 0, 1, 0, 0], [0, 1, 2, 2, 0]])
AREAS = (900.0, 300.0, 2500.0, 120.0)


def objects(count: int = 4, columns: int = 2, apart: float = 8.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predicted (n, 5, columns), true (n, 5, 3), areas (n,), σ (5,); the third column is a logit."""
    where = values(count, 5, 2, low=10, high=90, seed=1)
    predicted = where + values(count, 5, 2, low=-apart, high=apart, seed=2)
    more = values(count, 5, columns - 2, low=-3, high=1, seed=3)
    truth = torch.cat((where, SEEN[:count, :, None].to(where.dtype)), dim=-1)
    areas, sigmas = (torch.tensor(numbers).to(where.dtype) for numbers in (AREAS[:count], SIGMAS))
    return torch.cat((predicted, more), dim=-1), truth, areas, sigmas


def similarity(course, *given: Tensor) -> Tensor:
    return course.pose.keypoint_similarity(*given)


@keypoint_similarity.probe("four objects: all keypoints seen, some hidden, one, some")
def _(course):
    return similarity(course, *objects())


@keypoint_similarity.probe("predictions with a visibility of their own")
def _(course):
    return similarity(course, *objects(columns=3))


@keypoint_similarity.probe("nothing visible")
def _(course):
    predicted, truth, area, sigmas = objects()
    truth[1:3, :, 2] = 0
    return similarity(course, predicted, truth, area, sigmas)


@keypoint_similarity.probe("met exactly, and very far away")
def _(course):
    predicted, truth, area, sigmas = objects()
    return {
        "met": similarity(course, truth[..., :2].clone(), truth, area, sigmas),
        "far": similarity(course, predicted + 1e4, truth, area, sigmas),
    }


@keypoint_similarity.probe("an area of 0")
def _(course):
    predicted, truth, area, sigmas = objects()
    predicted[0, :3] = truth[0, :3, :2]
    return similarity(course, predicted, truth, area * 0, sigmas)


@keypoint_similarity.probe("distances 1, 2 and 5, σ = .25, area 424")
def _(course):
    truth = torch.tensor([[10.0, 10, 2], [40, 10, 2], [10, 40, 2]])
    predicted = truth[:, :2] + torch.tensor([[1.0, 0], [0, -2], [3, 4]])
    return similarity(course, predicted, truth, torch.tensor(424.0), torch.full((3,), 0.25))


@keypoint_similarity.probe("everything three times as large")
def _(course):
    predicted, truth, area, sigmas = objects()
    larger = truth * torch.tensor([3, 3, 1.0]).to(truth.dtype)
    return similarity(course, predicted * 3, larger, area * 9, sigmas)


@keypoint_similarity.probe("everything as a share of a picture of 100 pixels")
def _(course):
    predicted, truth, area, sigmas = objects()
    smaller = truth / torch.tensor([100, 100, 1.0]).to(truth.dtype)
    return similarity(course, predicted / 100, smaller, area / 100**2, sigmas)


@keypoint_similarity.probe("as many objects as keypoints")
def _(course):
    predicted, truth, area, sigmas = objects()
    return similarity(course, predicted[:, :4], truth[:, :4], area, sigmas[:4])


@keypoint_similarity.probe("every prediction with every object")
def _(course):
    predicted, truth, area, sigmas = objects(apart=20)
    return similarity(course, predicted[:3, None], truth[None], area[None], sigmas)


VISIBLE = "visible = truth[..., 2] > 0"
DISTANCE = "(predicted[..., :2] - truth[..., :2]).square().sum(dim=-1)  # (..., K), squared"
SPREAD = "2 * (2 * sigmas).square() * (area[..., None] + torch.finfo(area.dtype).eps)"
RATIO = "(torch.exp(-distance / spread) * visible).sum(dim=-1) / visible.sum(dim=-1).clamp(min=1)"

keypoint_similarity.misconception(
    "occluded keypoints do not count",
    swap=(VISIBLE, "visible = truth[..., 2] == 2"),
    because="1 means labelled, though something hides it: the place is known, and the network shall find it. If only "
    "2 counts, half of the labels of a crowd are thrown away. Everything above 0 counts.",
    museum=55,
)
keypoint_similarity.misconception(
    "only occluded keypoints count",
    swap=(VISIBLE, "visible = truth[..., 2] == 1"),
    because="The third number is 0, 1 or 2, and no truth value: 2 is seen, 1 occluded, 0 absent. Ask for more than 0.",
)
keypoint_similarity.misconception(
    "the visibility weighs the keypoints",
    swap=(VISIBLE, "visible = truth[..., 2]"),
    because="A seen keypoint would count twice as much as an occluded one. The three values are names, not amounts. "
    "The formula has a condition, [v > 0].",
)
keypoint_similarity.misconception(
    "the prediction says what is visible",
    swap=(VISIBLE, "visible = predicted[..., -1] > 0"),
    because="A network that calls every hard keypoint hidden would be judged on the easy ones only. The truth decides "
    "what counts. And a prediction of two columns has no visibility at all.",
)
keypoint_similarity.misconception(
    "hidden keypoints take part",
    swap=(RATIO, RATIO.replace(" * visible", "")),
    because="A keypoint without label is stored as 0, 0, 0. Its distance from the prediction is one to the corner of "
    "the image, and in the sum it may make the similarity larger than 1. Multiply by the condition.",
)
keypoint_similarity.misconception(
    "divided by all keypoints",
    swap=(RATIO, "(torch.exp(-distance / spread) * visible).mean(dim=-1)"),
    because="An object with one visible keypoint of five could never get more than 0.2, however well it is met, and "
    "no threshold of 0.5 would be passed. Divide by the visible ones.",
)
keypoint_similarity.misconception(
    "divided by nothing where nothing is visible",
    swap=(RATIO, RATIO.replace(".clamp(min=1)", "")),
    because="0 / 0 is NaN. One object without a labelled keypoint, and the mean over the data set is NaN; in a sort "
    "by similarity it comes anywhere. The divisor is at least 1.",
    museum=62,
)
keypoint_similarity.misconception(
    "an object without visible keypoints is met",
    swap=(RATIO, f"torch.where(visible.any(dim=-1), {RATIO}, 1.0)"),
    because="Nothing was asked, so nothing is wrong? Any prediction would match such an object perfectly and count as "
    "a hit. It is 0: an object of which nothing is known matches nothing.",
)
keypoint_similarity.misconception(
    "σ instead of 2σ",
    swap=(SPREAD, SPREAD.replace("(2 * sigmas)", "sigmas")),
    because="The exponent is four times too large: a prediction of 0.9 counts as 0.66. COCO publishes σ and puts 2σ "
    "into the formula. No number of yours could be compared with a published one.",
)
keypoint_similarity.misconception(
    "2σ is not squared",
    swap=(SPREAD, SPREAD.replace(".square()", "")),
    because="σ is a length as a share of the object's size, the distance is squared, so σ is squared as well. Small σ "
    "hardly differ from one another without it.",
)
keypoint_similarity.misconception(
    "the 2 before σ² is missing",
    swap=(SPREAD, "(2 * sigmas).square() * (area[..., None] + torch.finfo(area.dtype).eps)"),
    because="A Gaussian is exp(-d² / 2s²), with the 2. Without it a similarity of 0.8 becomes 0.64.",
)
keypoint_similarity.misconception(
    "one σ for all keypoints",
    swap=(SPREAD, SPREAD.replace("sigmas", "sigmas.mean()")),
    because="People place an eye to within a few pixels and a hip to within a hand's breadth. With one σ the hips are "
    "judged too hard and the eyes too mildly.",
)
keypoint_similarity.misconception(
    "the area is left out",
    swap=(
        SPREAD,
        SPREAD.replace("(area[..., None] + torch.finfo(area.dtype).eps)", "torch.ones_like(area)[..., None]"),
    ),
    because="Then every keypoint is judged by the same few pixels: large objects are never met, and the result "
    "depends on the size of the image. The area makes the distance a share of the object's size.",
)
keypoint_similarity.misconception(
    "the area is squared",
    swap=(SPREAD, SPREAD.replace("dtype).eps)", "dtype).eps).square()")),
    because="The area is the square of the size already. Squared again, everything on a large object is met. Scale "
    "the image by 3: the similarity must stay.",
)
keypoint_similarity.misconception(
    "the root of the area",
    swap=(SPREAD, SPREAD.replace("dtype).eps)", "dtype).eps).sqrt()")),
    because="A squared distance is compared with a length: the result depends on the unit. Scale the image by 3: the "
    "similarity must stay.",
)
keypoint_similarity.misconception(
    "an area of 0 divides by 0",
    swap=(SPREAD, SPREAD.replace("(area[..., None] + torch.finfo(area.dtype).eps)", "area[..., None]")),
    because="A keypoint that is met exactly gives 0 / 0 = NaN. Boxes of no area come from clipping at the border. Add "
    "a tiny number.",
    museum=62,
)
keypoint_similarity.misconception(
    "the area is aligned with the keypoints",
    swap=(SPREAD, SPREAD.replace("area[..., None]", "area")),
    because="Areas (n,) meet the last dimension, that of the keypoints. If both have the same length nothing fails, "
    "and each keypoint is judged by the area of another object. Give the area a last dimension.",
)
keypoint_similarity.misconception(
    "the distance is not squared",
    swap=(DISTANCE, DISTANCE.replace(".square().sum(dim=-1)", ".square().sum(dim=-1).sqrt()")),
    because="e to the minus d falls steeply at once and has a long tail; the formula is a Gaussian. And a length "
    "beside an area depends on the unit. The sum of squares needs no root.",
)
keypoint_similarity.misconception(
    "the distance along the axes",
    swap=(DISTANCE, DISTANCE.replace(".square().sum(dim=-1)", ".abs().sum(dim=-1).square()")),
    because="|Δx| + |Δy| is up to 1.4 times the distance, and a turned image gives another similarity. Square first, "
    "then add.",
)
keypoint_similarity.misconception(
    "the mean of x and y",
    swap=(DISTANCE, DISTANCE.replace(".sum(dim=-1)", ".mean(dim=-1)")),
    because="Pythagoras has a sum. The mean halves every squared distance and makes each prediction look better than "
    "it is.",
)
keypoint_similarity.misconception(
    "the visibility is part of the distance",
    swap=(
        DISTANCE,
        DISTANCE.replace("predicted[..., :2] - truth[..., :2]", "predicted - truth[..., : predicted.shape[-1]]"),
    ),
    because="A third column is a logit here and 0, 1 or 2 there; their difference means nothing, but it adds up to "
    "three pixels to the distance. Take x and y.",
)
keypoint_similarity.misconception(
    "the sign is missing",
    swap=(RATIO, RATIO.replace("exp(-distance", "exp(distance")),
    because="The similarity then grows with the distance, to infinity. It must be 1 where everything is met.",
)
keypoint_similarity.misconception(
    "the mean distance instead of the mean similarity",
    swap=(RATIO, "torch.exp(-(distance / spread * visible).sum(dim=-1) / visible.sum(dim=-1).clamp(min=1))"),
    because="One keypoint that is far off then spoils the whole object, and an object without a visible one gets 1. "
    "Each keypoint gets its own number first.",
)
keypoint_similarity.misconception(
    "one number for all objects",
    swap=(RATIO, "(torch.exp(-distance / spread) * visible).sum() / visible.sum().clamp(min=1)"),
    because="Matching needs the similarity of each prediction with each object. Sum over the last dimension alone.",
)


# ---- KeypointLoss --------------------------------------------------------------------------------

keypoint_loss = Exercise(
    "pose.KeypointLoss",
    stage=10,
    points=3,
    minutes=25,
    after="pose.keypoint_similarity",
    goal="Make a loss of the similarity, in which an object counts as much with one visible keypoint as with all.",
    hints=(
        "There are P·K terms, 1 - similarity each. Hidden ones become 0. The mean runs over all of them, so how much "
        "less would an object count of which three quarters are hidden? What makes up for it?",
        "The exponent is that of keypoint_similarity, with the area of each object. The factor is K over the number of "
        "visible keypoints of the object; add a tiny number to a divisor that may be 0. First 1 - exp, then factor and "
        "mask, last the mean.",
        "For the visibility every keypoint counts, hidden ones too: they are what a 0 looks like. The target is "
        "whether the truth is not 0. The third number is a logit, and one function of torch takes logits. With d = 2 "
        "there is nothing to judge: return a zero tensor.",
    ),
)


def foreground(dims: int = 3, apart: float = 2.5) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted (4, 5, d), true (4, 5, 3) and areas (4,), in units of the stride."""
    where = values(4, 5, 2, low=0, high=12, seed=5)
    predicted = where + values(4, 5, 2, low=-apart, high=apart, seed=6)
    logits = values(4, 5, dims - 2, low=-3, high=3, seed=7)
    truth = torch.cat((where, SEEN[..., None].to(where.dtype)), dim=-1)
    return torch.cat((predicted, logits), dim=-1), truth, torch.tensor([25.0, 6, 60, 12]).to(where.dtype)


def both(course, predicted: Tensor, truth: Tensor, area: Tensor, sigmas=SIGMAS) -> dict[str, object]:
    """The two losses, and what each of them teaches."""
    leaf = predicted.detach().clone().requires_grad_()
    points, visibility = course.pose.KeypointLoss(sigmas)(leaf, truth, area)
    return {
        "points": points,
        "visibility": visibility,
        "gradients": {"of the points": gradient(points, leaf), "of the visibility": gradient(visibility, leaf)},
    }


@keypoint_loss.probe("four objects: all keypoints seen, some hidden, one, some", rtol=1e-3, atol=1e-6)
def _(course):
    return both(course, *foreground())


@keypoint_loss.probe("two numbers for each keypoint", rtol=1e-3, atol=1e-6)
def _(course):
    predicted, truth, area = foreground(2)
    leaf = predicted.clone().requires_grad_()
    points, visibility = course.pose.KeypointLoss(SIGMAS)(leaf, truth, area)
    stacked = torch.stack((points, visibility))
    floats = points.is_floating_point() and visibility.is_floating_point()
    return {"points and visibility": stacked, "both are floats": floats, "gradient": gradient(points, leaf)}


@keypoint_loss.probe("three of four keypoints hidden, one after the other")
def _(course):
    """The same distance everywhere: the loss must not change while keypoints vanish."""
    truth = torch.tensor([[[1.0, 1, 2], [5, 1, 2], [1, 5, 2], [5, 5, 2]]])
    predicted = truth + torch.tensor([0.0, 2, 0])
    losses = []
    for hidden in range(4):
        truth[0, :hidden, 2] = 0
        losses.append(course.pose.KeypointLoss([0.2] * 4)(predicted, truth, torch.tensor([20.0]))[0])
    return torch.stack(losses)


@keypoint_loss.probe("σ = .25, area 24, distances 1, 2 and 5, the fourth hidden")
def _(course):
    truth = torch.tensor([[[3.0, 3, 2], [6, 3, 1], [3, 6, 2], [0, 0, 0]]])
    predicted = truth[..., :2] + torch.tensor([[1.0, 0], [0, -2], [3, 4], [7, 7]])
    return course.pose.KeypointLoss([0.25] * 4)(predicted, truth, torch.tensor([24.0]))[0]


@keypoint_loss.probe("nothing visible", rtol=1e-3, atol=1e-6)
def _(course):
    predicted, truth, area = foreground()
    blank = truth * torch.tensor([1.0, 1, 0]).to(truth.dtype)
    one = torch.cat((blank[:1], truth[1:]))
    return {"in one object": both(course, predicted, one, area), "in any": both(course, predicted, blank, area)}


@keypoint_loss.probe("met exactly, and far away", rtol=1e-3, atol=1e-6)
def _(course):
    predicted, truth, area = foreground()
    met = torch.cat((truth[..., :2], predicted[..., 2:]), dim=-1)
    far = predicted + torch.tensor([500.0, -500, 0]).to(predicted.dtype)
    return {"met": both(course, met, truth, area), "far": both(course, far, truth, area)}


@keypoint_loss.probe("an area of 0")
def _(course):
    predicted, truth, area = foreground()
    predicted[0, :3, :2] = truth[0, :3, :2]
    points, visibility = course.pose.KeypointLoss(SIGMAS)(predicted, truth, area * 0)
    return {"points": points, "visibility": visibility}


@keypoint_loss.probe("very sure of what is visible", rtol=1e-3)
def _(course):
    predicted, truth, area = foreground()
    predicted[..., 2] *= 50
    return both(course, predicted, truth, area)["visibility"]


@keypoint_loss.probe("one object with one keypoint")
def _(course):
    predicted, truth, area = foreground()
    points, visibility = course.pose.KeypointLoss([0.1])(predicted[1:2, 1:2], truth[1:2, 1:2], area[1:2])
    return {"points": points, "visibility": visibility}


@keypoint_loss.probe("as many objects as keypoints")
def _(course):
    predicted, truth, area = foreground()
    points, visibility = course.pose.KeypointLoss(SIGMAS[:4])(predicted[:, :4], truth[:, :4], area)
    return {"points": points, "visibility": visibility}


IS_VISIBLE = "visible = (truth[..., 2] != 0).to(predicted.dtype)  # (P, K)"
SQUARED = "(predicted[..., :2] - truth[..., :2]).square().sum(dim=-1)"
ERROR = "distance / (2 * (2 * sigmas).square() * (area[:, None] + 1e-9))"
FACTOR = "visible.shape[1] / (visible.sum(dim=1, keepdim=True) + 1e-9)"
MEAN = "(factor * (1 - torch.exp(-error)) * visible).mean()"
TWO = "if predicted.shape[-1] == 2:"
ENTROPY = "F.binary_cross_entropy_with_logits(predicted[..., 2], visible)"

keypoint_loss.misconception(
    "the factor is missing",
    swap=(MEAN, "((1 - torch.exp(-error)) * visible).mean()"),
    because="The mean runs over hidden keypoints too, which are 0. An object with three of four hidden costs a "
    "quarter: those that are hard to see are learned last. Multiply by K over the number of visible ones.",
    museum=60,
)
keypoint_loss.misconception(
    "the factor is upside down",
    swap=(FACTOR, "(visible.sum(dim=1, keepdim=True) + 1e-9) / visible.shape[1]"),
    because="An object of which little is visible then counts twice too little: once by its zeros in the mean, once "
    "by the factor. K stands above.",
    museum=60,
)
keypoint_loss.misconception(
    "one factor for the whole batch",
    swap=(FACTOR, "visible.numel() / (visible.sum() + 1e-9)"),
    because="That is the mean over all visible keypoints: an object with four counts four times as much as one with "
    "one. Count the visible keypoints of each object.",
    museum=60,
)
keypoint_loss.misconception(
    "the factor divides by nothing where nothing is visible",
    swap=(FACTOR, FACTOR.replace("(visible.sum(dim=1, keepdim=True) + 1e-9)", "visible.sum(dim=1, keepdim=True)")),
    because="K / 0 is infinite, and infinity times the mask of 0 is NaN. One object at the border whose keypoints are "
    "all outside makes the loss of the batch NaN. Add a tiny number to the divisor.",
    museum=62,
)
keypoint_loss.misconception(
    "the mean over the objects that have a visible keypoint",
    swap=(MEAN, "(factor * (1 - torch.exp(-error)) * visible)[visible.any(dim=1)].mean()"),
    because="An object without a visible keypoint counts as 0 here, as it does in Ultralytics. Left out, the others "
    "weigh more in such a batch, and if all are left out the mean of nothing is NaN.",
    museum=62,
)
keypoint_loss.misconception(
    "an object without visible keypoints costs 1",
    swap=(MEAN, "(1 - (factor * torch.exp(-error) * visible).mean(dim=1)).mean()"),
    because="1 - similarity is a natural loss, and right as long as something is visible. Without any keypoint the "
    "similarity is 0, so the loss is 1, whatever the network says. It hides what is learned in the others. Mask the "
    "1 as well: 1 - exp first, then the mask.",
    museum=62,
)
keypoint_loss.misconception(
    "the mask is forgotten",
    swap=(MEAN, "(factor * (1 - torch.exp(-error))).mean()"),
    because="An unlabelled keypoint is stored as 0, 0, 0. Without the mask the network learns to put every hidden wing "
    "tip into the corner of the image, and pulls the others that way.",
)
keypoint_loss.misconception(
    "the similarity itself is the loss",
    swap=(MEAN, "(factor * torch.exp(-error) * visible).mean()"),
    because="Training makes a loss small, so the keypoints learn to flee. The loss falls beautifully. It is 1 minus "
    "the similarity.",
)
keypoint_loss.misconception(
    "the exponent is the loss",
    swap=(MEAN, "(factor * error * visible).mean()"),
    because="A squared distance has no upper limit: one keypoint with a wrong label moves the network more than all "
    "others together. 1 - exp(-e) is at most 1 and has no gradient from far away, which is its strength, and with a "
    "small σ its weakness.",
)
keypoint_loss.misconception(
    "the sum instead of the mean",
    swap=(MEAN, MEAN.replace(".mean()", ".sum()")),
    because="The loss then grows with the number of anchors and keypoints, and the gain of 12 was chosen for a mean. "
    "The boxes would no longer be learned.",
)
keypoint_loss.misconception(
    "occluded keypoints are not learned",
    swap=(IS_VISIBLE, IS_VISIBLE.replace("!= 0", "== 2")),
    because="1 means labelled, though something hides it. Somebody has taken the trouble to say where it is. Every "
    "value that is not 0 counts.",
    museum=55,
)
keypoint_loss.misconception(
    "the visibility weighs the keypoints",
    swap=(IS_VISIBLE, "visible = truth[..., 2].to(predicted.dtype)"),
    because="The value 2 doubles what a keypoint costs, and as the target of a cross-entropy it lies outside 0…1: the "
    "loss of the visibility becomes negative and the logits run away.",
)
keypoint_loss.misconception(
    "σ instead of 2σ",
    swap=(ERROR, ERROR.replace("(2 * sigmas)", "sigmas")),
    because="The exponent is four times too large. Twice as near, a keypoint already has no gradient any more, and "
    "the loss stays close to 1 from the start.",
)
keypoint_loss.misconception(
    "2σ is not squared",
    swap=(ERROR, ERROR.replace(".square()", "")),
    because="σ is a length as a share of the object's size, and the distance is squared. Small σ differ too little "
    "without the square.",
)
keypoint_loss.misconception(
    "the 2 before σ² is missing",
    swap=(ERROR, ERROR.replace("2 * (2", "(2")),
    because="A Gaussian is exp(-d² / 2s²). Without the 2 the loss is that of a σ 1.4 times smaller.",
)
keypoint_loss.misconception(
    "one σ for all keypoints",
    swap=(ERROR, ERROR.replace("(2 * sigmas)", "(2 * sigmas.mean())")),
    because="Each keypoint is as exact as people place it. With one σ a hip is forced to a pixel and an eye is left "
    "where it is.",
)
keypoint_loss.misconception(
    "the area is left out",
    swap=(ERROR, ERROR.replace(" * (area[:, None] + 1e-9)", "")),
    because="A large aircraft's keypoints are then all 'far', and have no gradient; a small one's are all 'met'. The "
    "area makes the distance a share of the object's size.",
)
keypoint_loss.misconception(
    "the root of the area",
    swap=(ERROR, ERROR.replace("(area[:, None] + 1e-9)", "(area[:, None] + 1e-9).sqrt()")),
    because="A squared distance is compared with a length. Large objects are judged too hard.",
)
keypoint_loss.misconception(
    "the area of the evaluation",
    swap=(ERROR, ERROR.replace("area[:, None]", "0.53 * area[:, None]")),
    because="COCO's evaluation uses the area of the object's outline, and Ultralytics estimates it as 0.53 of the "
    "box. Its loss uses the box as it is. The two are different numbers in the same formula.",
)
keypoint_loss.misconception(
    "an area of 0 divides by 0",
    swap=(ERROR, ERROR.replace("(area[:, None] + 1e-9)", "area[:, None]")),
    because="A keypoint that is met gives 0 / 0 = NaN, and the loss of the batch with it. Add a tiny number.",
    museum=62,
)
keypoint_loss.misconception(
    "the area is aligned with the keypoints",
    swap=(ERROR, ERROR.replace("area[:, None]", "area")),
    because="(P,) meets the dimension of the keypoints. With as many objects as keypoints nothing fails, and the area "
    "of object 2 judges all wing tips. Make it (P, 1).",
)
keypoint_loss.misconception(
    "the distance is not squared",
    swap=(SQUARED, SQUARED.replace(".sum(dim=-1)", ".sum(dim=-1).sqrt()")),
    because="The root has no gradient at 0: the first keypoint that is met exactly makes every weight NaN. And the "
    "formula is a Gaussian, of the squared distance.",
)
keypoint_loss.misconception(
    "the mean of x and y",
    swap=(SQUARED, SQUARED.replace(".sum(dim=-1)", ".mean(dim=-1)")),
    because="Pythagoras has a sum. The mean halves the squared distance, so keypoints come to rest further from "
    "their place.",
)
keypoint_loss.misconception(
    "the visibility is never judged",
    swap=(TWO, "if truth.shape[-1] == 3:"),
    because="The columns of the truth say nothing about the network: a truth always has three. So the loss of the "
    "visibility is 0 in every line of the log and its channel stays random. Ask how many numbers the prediction has.",
    museum=61,
)
keypoint_loss.misconception(
    "the visibility is always judged",
    swap=(f"        {TWO}\n            return points, points.new_zeros(())\n", ""),
    because="With d = 2 the network says x and y only, and index 2 is out of bounds. Return 0 before.",
    museum=61,
)
keypoint_loss.misconception(
    "without a visibility there is one loss",
    swap=("return points, points.new_zeros(())", "return points"),
    because="The caller unpacks two numbers, whatever d is: 'iteration over a 0-d tensor'. Return a zero tensor as the "
    "second.",
)
keypoint_loss.misconception(
    "without a visibility the second loss is a plain zero",
    swap=("points.new_zeros(())", "0.0"),
    because="The sum is right. But a log that stacks its parts wants tensors, on one device. Make a zero of the dtype "
    "and device of the first loss.",
)
keypoint_loss.misconception(
    "the sigmoid comes before a loss that takes logits",
    swap=(ENTROPY, ENTROPY.replace("predicted[..., 2]", "predicted[..., 2].sigmoid()")),
    because="The function applies the sigmoid itself. Twice, everything lies in 0.5…0.73: no keypoint can be called "
    "hidden, and the loss never falls below 0.31.",
)
keypoint_loss.misconception(
    "the sigmoid, then a cross-entropy of probabilities",
    swap=(ENTROPY, "F.binary_cross_entropy(predicted[..., 2].sigmoid(), visible)"),
    because="In exact arithmetic it is the same. In float32 the sigmoid of 40 is 1, the logarithm of 1 - 1 is "
    "infinite, torch cuts it off at 100, and there is no gradient. Give the logits to the function that takes them.",
)
keypoint_loss.misconception(
    "the visibility is judged on visible keypoints only",
    swap=(ENTROPY, ENTROPY.replace("predicted[..., 2], visible", "predicted[..., 2], visible, weight=visible")),
    because="Nothing ever tells the network what hidden looks like: it says 'visible' everywhere, and this loss is "
    "near 0. The mask belongs to the distances alone.",
)
keypoint_loss.misconception(
    "the mean over the visible ones, in the visibility",
    swap=(ENTROPY, ENTROPY.replace("visible)", 'visible, reduction="sum") / (visible.sum() + 1e-9)')),
    because="All P·K keypoints are judged, so the mean is over all of them. Divided by the visible ones, it explodes "
    "in a batch where nothing is visible.",
)
keypoint_loss.misconception(
    "the factor is in the visibility too",
    swap=(
        ENTROPY,
        '(factor * F.binary_cross_entropy_with_logits(predicted[..., 2], visible, reduction="none")).mean()',
    ),
    because="The factor makes up for zeros in the mean. Here there are none: hidden keypoints are judged as well. It "
    "would multiply an object without visible keypoints by a billion.",
)


# ---- PoseLoss ------------------------------------------------------------------------------------

pose_loss = Exercise(
    "pose.PoseLoss",
    stage=10,
    points=5,
    minutes=40,
    after=("pose.KeypointLoss", "losses.DetectionLoss"),
    goal="Find the right object for each foreground anchor, bring both sides to one unit, add two parts.",
    hints=(
        "Everything of the detection loss is done: `found` has its parts, `self.assigned` says which anchors are "
        "foreground and which of its image's objects each one has. What is missing is the row of `targets`. Note the "
        "unit of each thing: predictions, targets, boxes.",
        "The assignment numbers the objects of an image as pad_targets arranged them, and the rows of the targets come "
        "in any order. Let pad_targets arrange the numbers of the rows: put them into the column of the class. "
        "Image and gt_index then find the row in a block (B, G).",
        "In units of each anchor's own stride: keypoints by the formula of decode_keypoints without its last factor, "
        "the truth divided by the stride, the area from the assigned boxes divided by it. The logit stays a logit. A "
        "mean over no foreground is NaN, so start from a 0. Multiply by the gains; PoseParts gives the order.",
    ),
)

IMAGES = 4
# shuffled; two objects in images 2 and 0, none in image 1, one in image 3; images 2 and 0 have no class in common
OBJECTS = torch.tensor(
    [
        [2.0, 1, 13, 9, 45, 57],
        [0, 2, 9, 10, 47, 42],
        [3, 1, 35, 30, 60, 44],
        [2, 0, 22, 20, 60, 50],
        [0, 2, 15, 14, 54, 49],
    ]
)


def detector(course, shape: tuple[int, int], strides: tuple[int, ...] = (8, 16, 32)) -> SimpleNamespace:
    """What the loss reads of a network."""
    model = SimpleNamespace(num_classes=CLASSES, reg_max=BINS, strides=strides, keypoint_shape=shape)
    model.split = partial(course.pose.PoseYOLO.split, model)
    return model


def with_keypoints(rows: Tensor, count: int, visibility: Sequence[int] = (2, 1, 0, 2, 1), apart: float = 1.2) -> Tensor:
    """Targets (N, 6 + 3·K): keypoints round the middle of each box, some of them outside."""
    rows = rows.float()
    middle, half = (rows[:, None, 2:4] + rows[:, None, 4:]) / 2, (rows[:, None, 4:] - rows[:, None, 2:4]) / 2
    points = middle + half * values(len(rows), count, 2, low=-apart, high=apart, seed=21).float()
    # another beginning in each row
    seen = [[visibility[(row + k) % len(visibility)] for k in range(count)] for row in range(len(rows))]
    seen = torch.tensor(seen, dtype=torch.float32).reshape(len(rows), count, 1)
    return torch.cat((rows, torch.cat((points, seen), dim=-1).flatten(1)), dim=1)


def raw_maps(
    rows: Tensor, images: int, shape: tuple[int, int], strides: tuple[int, ...] = (8, 16, 32), side: int = SIDE
) -> list[Tensor]:
    """Maps as of a network that detects its objects roughly, and places keypoints within two strides."""
    maps = []
    for level, boxes in enumerate(detector_maps(rows[:, :6].to(torch.get_default_dtype()), images, strides, side)):
        keypoints = values(images, shape[0] * shape[1], *boxes.shape[2:], low=-1.2, high=1.2, seed=51 + level)
        maps.append(torch.cat((boxes.detach(), keypoints), dim=1).float().requires_grad_())
    return maps


def one_loss(course, rows=OBJECTS, shape=(3, 3), images=IMAGES, maps=None, **options) -> object:
    """The parts of a loss. `rows` are objects, or whole targets."""
    targets = rows if rows.shape[1] > 6 else with_keypoints(rows, shape[0])
    maps = maps or raw_maps(targets, images, shape)
    return course.pose.PoseLoss(detector(course, shape), **options)(maps, targets)


def told(parts) -> dict[str, object]:
    """The fields by name; what else came back, if it is none."""
    return parts._asdict() if hasattr(parts, "_asdict") else {"it returns": type(parts).__name__}


@pose_loss.probe("four images: two objects, none, two, one")
def _(course):
    targets = with_keypoints(OBJECTS, 3)
    parts = one_loss(course, targets)
    return {**told(parts), "in their order": torch.stack(tuple(parts)), "targets afterwards": targets}


@pose_loss.probe("pictures that are twice as wide as high")
def _(course):
    targets = with_keypoints(OBJECTS, 3)
    maps = [torch.cat((own, own), dim=3).detach().requires_grad_() for own in raw_maps(targets, IMAGES, (3, 3))]
    right = torch.tensor([[0.0, 0, SIDE, 0, SIDE, 0] + [SIDE, 0, 0] * 3])  # what was seen on the left is seen there too
    return told(one_loss(course, torch.cat((targets[:2], targets[2:] + right)), maps=maps))


@pose_loss.probe("the targets in other orders")
def _(course):
    targets = with_keypoints(OBJECTS, 3)
    orders = ((1, 4, 0, 3, 2), (4, 3, 2, 1, 0))
    return {str(order): one_loss(course, targets[list(order)]).pose for order in orders}


@pose_loss.probe("one image alone, and one object")
def _(course):
    own = OBJECTS[OBJECTS[:, 0] == 2] * torch.tensor([0.0, 1, 1, 1, 1, 1])
    return {"one image": told(one_loss(course, own, images=1)), "one object": told(one_loss(course, own[:1], images=1))}


@pose_loss.probe("a batch without objects")
def _(course):
    return told(one_loss(course, OBJECTS[:0]))


@pose_loss.probe("a box of zeros before the others")
def _(course):
    odd = torch.tensor([[0.0, 1, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0]])
    return told(one_loss(course, torch.cat((odd, OBJECTS))))


@pose_loss.probe("what each keypoint part teaches", rtol=1e-3, atol=1e-6)
def _(course):
    """Their gradients on the three groups of channels."""
    targets = with_keypoints(OBJECTS, 3)
    maps = raw_maps(targets, IMAGES, (3, 3))
    parts = one_loss(course, targets, maps=maps)
    groups = {"distributions": slice(4 * BINS), "classes": slice(4 * BINS, 4 * BINS + CLASSES)}
    groups["keypoints"] = slice(4 * BINS + CLASSES, None)
    seen = {}
    for name in ("pose", "visibility", "total"):
        found = [gradient(getattr(parts, name), own) for own in maps]
        found = [torch.zeros_like(m) if isinstance(g, str) else g for m, g in zip(maps, found, strict=True)]
        seen[name] = {group: [g[:, channels] for g in found] for group, channels in groups.items()}
    return seen


@pose_loss.probe("nothing visible")
def _(course):
    return told(one_loss(course, with_keypoints(OBJECTS, 3, visibility=(0,))))


@pose_loss.probe("keypoints far outside their boxes")
def _(course):
    return told(one_loss(course, with_keypoints(OBJECTS, 3, apart=4)))


@pose_loss.probe("other shapes of keypoints")
def _(course):
    return {str(shape): told(one_loss(course, shape=shape)) for shape in ((4, 2), (1, 3), (17, 3), (17, 2))}


@pose_loss.probe("seventeen keypoints of one object, nearly right")
def _(course):
    """Within half a stride of the truth, where a change of each σ by a thousandth shows."""
    targets = with_keypoints(OBJECTS[:1] * torch.tensor([0.0, 1, 1, 1, 1, 1]), 17, visibility=(2,), apart=0)
    maps = [own.detach().clone() for own in raw_maps(targets, 1, (17, 3))]
    for own, stride in zip(maps, (8, 16, 32), strict=True):
        place = torch.arange(own.shape[-1])
        for axis, index in ((0, place), (1, place[:, None])):
            points = own[:, 4 * BINS + CLASSES + axis :: 3]
            points.copy_((targets[0, 6 + axis] / stride - index + points / 4) / 2)
    return told(one_loss(course, targets, shape=(17, 3), images=1, maps=maps))


@pose_loss.probe("σ that are given, and some that cannot be")
def _(course):
    return {
        "given": told(one_loss(course, sigmas=[0.3, 0.1, 0.2])),
        "given for 17": told(one_loss(course, shape=(17, 3), sigmas=[0.2] * 17)),
        "too few": attempt(lambda: told(one_loss(course, sigmas=[0.1, 0.1]))),
        "zero": attempt(lambda: told(one_loss(course, sigmas=[0.1, 0.0, 0.1]))),
    }


@pose_loss.probe("other gains")
def _(course):
    gains = {"box_gain": 2.0, "cls_gain": 3.0, "dfl_gain": 5.0, "pose_gain": 7.0, "visibility_gain": 11.0}
    return told(one_loss(course, **gains))


@pose_loss.probe("a detector with other strides")
def _(course):
    strides, half = (4, 8, 16), torch.tensor([1, 1, 0.5, 0.5, 0.5, 0.5])
    targets = with_keypoints(OBJECTS * half, 3)
    maps = raw_maps(targets, IMAGES, (3, 3), strides, SIDE // 2)
    return told(course.pose.PoseLoss(detector(course, (3, 3), strides))(maps, targets))


FOREGROUND = "self.assigned.foreground.nonzero(as_tuple=True)"
IF = "        if len(image):\n"
ROW_OF = "rows[image, self.assigned.gt_index[image, anchor]]"
STRIDE = "            stride = strides[anchor]  # (P, 1)\n"
TRUTH = "targets[row, 6:].unflatten(-1, (-1, 3)).float()"
IN_STRIDES = "truth = torch.cat((truth[..., :2] / stride[:, None], truth[..., 2:]), dim=-1)"
BOXES = "boxes = self.assigned.boxes[image, anchor] / stride"
AREA = "area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)"
RAW = "points = raw[image, anchor]"
DECODED = "points = torch.cat((points[..., :2] * 2 + anchors[anchor, None] - 0.5, points[..., 2:]), dim=-1)"
JUDGED = "pose, visibility = self.keypoint_loss(points, truth, area)"
POSE, SIGHT = '"pose": pose * self.pose_gain', '"visibility": visibility * self.visibility_gain'
REST = '"cls": found.cls, "dfl": found.dfl'
SUM = "return PoseParts(sum(parts.values()), **parts)"
COCO = "sigmas = [s / 1000 for s in COCO_SIGMAS] if is_coco else [1 / count] * count"
IS_COCO = "is_coco = model.keypoint_shape == (17, 3)"
EACH = "            pairs = [self.keypoint_loss(*one) for one in zip(points[:, None], truth[:, None], area[:, None])]\n"

pose_loss.misconception(
    "the keypoints of another image",
    swap=(ROW_OF, ROW_OF.replace("rows[image,", "rows[0,")),
    because="gt_index counts within an image. Without the image, every anchor learns the keypoints of the first "
    "image's objects: with a batch of one it is right, and in training the loss settles at a mean skeleton.",
    museum=63,
)
pose_loss.misconception(
    "gt_index is taken for the row",
    swap=(ROW_OF, "self.assigned.gt_index[image, anchor]"),
    because="gt_index is a slot of its image, 0 … G - 1, and the targets of all images are in one table. Only the "
    "first rows are ever used. Find the row by image and slot.",
    museum=63,
)
pose_loss.misconception(
    "the image is taken for the row",
    swap=(ROW_OF, "image.clamp(max=len(targets) - 1)"),
    because="There is a row for each object, not for each image. It is right as long as every image has one object.",
    museum=63,
)
pose_loss.misconception(
    "the targets are taken to be in the order of the images",
    swap=(
        ROW_OF,
        "(torch.bincount(targets[:, 0].long(), minlength=len(raw)).cumsum(0) - torch.bincount(targets[:, 0].long(), "
        "minlength=len(raw)))[image] + self.assigned.gt_index[image, anchor]",
    ),
    because="The first row of an image plus the slot is right only if the rows are sorted, as they often are. A "
    "mosaic or a shuffling loader brings another order, and objects get one another's keypoints.",
    museum=63,
)
pose_loss.misconception(
    "every anchor learns the first object of its image",
    swap=(ROW_OF, "rows[image, 0]"),
    because="An image with one object is right, one with two teaches both the same skeleton. The assignment says "
    "which object an anchor has: gt_index.",
    museum=63,
)
pose_loss.misconception(
    "the keypoints of all anchors",
    swap=(FOREGROUND, "torch.ones_like(self.assigned.foreground).nonzero(as_tuple=True)"),
    because="On the background gt_index is meaningless, mostly 0, and the box has no area. Thousands of anchors are "
    "told to reach for object 0, and the few that matter are lost in the mean. Foreground only.",
)
pose_loss.misconception(
    "a mean over no foreground",
    swap=(IF, "        if True:\n"),
    because="A batch without objects has no foreground, and the mean of nothing is NaN. Batches without objects come "
    "late and seldom; from then on every weight is NaN. The parts are 0 then.",
)
pose_loss.misconception(
    "a batch without objects is not expected",
    swap=(IF, "        targets[0]\n        if len(image):\n"),
    because="A table of targets may have no row, and its first one does not exist. Nothing may depend on it.",
)
pose_loss.misconception(
    "the columns are read number by number",
    swap=(TRUTH, "targets[row, 6:].unflatten(-1, (3, -1)).transpose(-1, -2).float()"),
    because="A row has x y v of the first keypoint, then of the second: keypoint by keypoint. Read as all x, all y, "
    "all v, a visibility becomes a coordinate. The loss falls a little all the same.",
)
pose_loss.misconception(
    "the targets have as many numbers as the network",
    swap=(TRUTH, "targets[row, 6:].unflatten(-1, (-1, raw.shape[-1])).float()"),
    because="The truth always has three numbers a keypoint, also for a network that says two. With d = 2 the columns "
    "are cut at the wrong places.",
    museum=61,
)
pose_loss.misconception(
    "the keypoints begin one column too early",
    swap=(TRUTH, TRUTH.replace("6:]", "5:-1]")),
    because="Columns 0 to 5 are image, class and box. One column earlier the lower edge of the box is the first x, "
    "and each visibility a coordinate.",
)
pose_loss.misconception(
    "the true keypoints stay in pixels",
    swap=(f"            {IN_STRIDES}\n", ""),
    because="Predictions in strides, truth in pixels: every distance is huge, every similarity 0, and the loss is 1 "
    "and has no gradient. It looks like a network that cannot learn. Divide by the stride of each anchor.",
    museum=59,
)
pose_loss.misconception(
    "the predicted keypoints are in pixels",
    swap=(
        DECODED,
        DECODED.replace(
            "points[..., :2] * 2 + anchors[anchor, None] - 0.5",
            "(points[..., :2] * 2 + anchors[anchor, None] - 0.5) * stride[:, None]",
        ),
    ),
    because="Truth and area are in strides, the predictions in pixels: the loss is 1 nearly everywhere, without a "
    "gradient. Leave the last factor of decode_keypoints out.",
    museum=59,
)
pose_loss.misconception(
    "the area stays in pixels",
    swap=(BOXES, BOXES.replace(" / stride", "")),
    because="The area is 64 to 1024 times too large, so everything is met: the loss is near 0 from the first step, "
    "and learns next to nothing. Its unit is the square of the keypoints' unit.",
    museum=59,
)
pose_loss.misconception(
    "keypoints in pixels, the area in strides",
    swap=[
        (f"            {IN_STRIDES}\n", ""),
        (
            DECODED,
            DECODED.replace(
                "points[..., :2] * 2 + anchors[anchor, None] - 0.5",
                "(points[..., :2] * 2 + anchors[anchor, None] - 0.5) * stride[:, None]",
            ),
        ),
    ],
    because="Both sides are in one unit, the distances are right. But the area that they are compared with is in the "
    "square of the stride. All three in pixels would be right, and so would all three in strides.",
    museum=59,
)
pose_loss.misconception(
    "the area is divided by the stride once",
    swap=[
        (BOXES, "boxes = self.assigned.boxes[image, anchor]"),
        (AREA, "area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) / stride[:, 0]"),
    ],
    because="An area has the square of the unit. Divide the box by the stride and take the area then: both sides are "
    "divided.",
)
pose_loss.misconception(
    "one stride for all anchors",
    swap=(STRIDE, "            stride = strides[:1].expand(len(anchor), 1)\n"),
    because="Each level has its own stride. With that of the finest, objects on the coarser levels get a truth two or "
    "four times too far away.",
)
pose_loss.misconception(
    "the area of the evaluation",
    swap=(AREA, AREA.replace("area = ", "area = 0.53 * ")),
    because="0.53 turns the area of a box into that of an outline, as COCO's evaluation has it. Ultralytics' loss "
    "takes the whole box. Two places, two areas, one formula.",
)
pose_loss.misconception(
    "the sides of the box are added",
    swap=(AREA, AREA.replace(".prod(", ".sum(")),
    because="Width plus height is half a circumference. An area is their product.",
)
pose_loss.misconception(
    "the area is that of the predicted box",
    swap=(
        BOXES,
        "from .boxes import distance_to_box, expected_distance\n\n"
        "            distributions = flatten_maps(detector_maps).float()[image, anchor, : 4 * self.reg_max]\n"
        "            boxes = distance_to_box(anchors[anchor], expected_distance(distributions, self.reg_max))",
    ),
    because="A network can then make its keypoint loss small by predicting a large box, and that is what it learns: "
    "the gradient flows into the boxes. The area comes from the assigned target boxes.",
)
pose_loss.misconception(
    "the raw numbers are taken for places",
    swap=(f"            {DECODED}\n", ""),
    because="What the branch says is an offset from its position in units of two strides. Compared with places in the "
    "image it would have to be different at every position for the same object, which a convolution cannot learn.",
)
pose_loss.misconception(
    "the half before the anchor is forgotten",
    swap=(DECODED, DECODED.replace(" - 0.5", "")),
    because="The loss then teaches another code than decode_keypoints reads: all keypoints are drawn half a stride "
    "up and to the left of where the loss believes them.",
    museum=58,
)
pose_loss.misconception(
    "the factor 2 is forgotten",
    swap=(DECODED, DECODED.replace(" * 2 +", " +")),
    because="The loss teaches offsets in strides, decode_keypoints reads them as two strides: skeletons are drawn "
    "twice as large, though the loss is small.",
)
pose_loss.misconception(
    "the anchors of the first positions",
    swap=(DECODED, DECODED.replace("anchors[anchor, None]", "anchors[: len(anchor), None]")),
    because="The foreground anchors are some of all A, in no regular order. The first P of the list are the upper "
    "left corner of the finest map. Pick by index, as the predictions are picked.",
)
pose_loss.misconception(
    "the visibility is decoded before its loss",
    swap=(DECODED, DECODED.replace(", points[..., 2:])", ", points[..., 2:].sigmoid())")),
    because="decode_keypoints applies a sigmoid, and so does the loss. Whoever decodes first and then computes the "
    "loss applies it twice: the visibility can never say hidden. The loss wants the logit.",
)
pose_loss.misconception(
    "keypoints outside their box are clipped to it",
    swap=(
        JUDGED,
        "corner, end = boxes[:, None, :2], boxes[:, None, 2:]\n"
        "            truth = torch.cat((truth[..., :2].maximum(corner).minimum(end), truth[..., 2:]), dim=-1)\n"
        f"            {JUDGED}",
    ),
    because="A box that was cut at the border of a mosaic no longer holds all keypoints, but they are where they are. "
    "Clipped, wing tips are learned at the edges of boxes.",
)
pose_loss.misconception(
    "keypoints outside their box do not count",
    swap=(
        JUDGED,
        "inside = ((truth[..., :2] > boxes[:, None, :2]) & (truth[..., :2] < boxes[:, None, 2:])).all(dim=-1)\n"
        "            truth = torch.cat((truth[..., :2], truth[..., 2:] * inside[..., None]), dim=-1)\n"
        f"            {JUDGED}",
    ),
    because="Whether a keypoint counts is said by its visibility alone. Labels outside a box are rare but right: a "
    "hand above the head, an antenna.",
)
pose_loss.misconception(
    "the keypoint loss is weighed by the target scores",
    swap=(
        f"            {JUDGED}\n",
        "            weight = self.assigned.scores[image, anchor].sum(dim=-1)\n"
        f"{EACH}"
        "            pose = (torch.stack([one for one, _ in pairs]) * weight).sum() / weight.sum()\n"
        "            visibility = (torch.stack([one for _, one in pairs]) * weight).sum() / weight.sum()\n",
    ),
    because="The box losses are weighed so, this one is a plain mean over the foreground. It is not wrong to try, but "
    "it is another loss: the gain of 12 does not fit, and no number agrees with Ultralytics'.",
)
pose_loss.misconception(
    "the keypoint loss has the normaliser of the boxes",
    swap=(
        f"            {JUDGED}\n",
        f"            {JUDGED}\n"
        "            pose = pose * len(image) / self.assigned.scores.sum().clamp(min=1)\n"
        "            visibility = visibility * len(image) / self.assigned.scores.sum().clamp(min=1)\n",
    ),
    because="Box and class losses are sums over the target scores. The keypoint loss is a mean already: divided by "
    "the scores, an average over ten anchors counts as several.",
)
pose_loss.misconception(
    "each image counts the same",
    swap=(
        f"            {JUDGED}\n",
        "            own = [image == number for number in image.unique()]\n"
        "            pairs = [self.keypoint_loss(points[one], truth[one], area[one]) for one in own]\n"
        "            pose, visibility = (sum(parts) / len(own) for parts in zip(*pairs))\n",
    ),
    because="An image with one small object then counts as much as one with twenty aircraft, and the loss depends on "
    "how a batch is put together. One mean over the whole foreground.",
)
pose_loss.misconception(
    "multiplied by the batch size",
    swap=(
        f"            {JUDGED}\n",
        f"            {JUDGED}\n            pose, visibility = pose * len(raw), visibility * len(raw)\n",
    ),
    because="Ultralytics multiplies its whole vector by the batch size before the backward pass, its log does not. "
    "DetectionLoss does not either: keypoints would drown the boxes in a large batch.",
)
pose_loss.misconception(
    "the keypoint parts are detached",
    swap=(RAW, "points = raw[image, anchor].detach()"),
    because="Only the assignment is a constant. The predicted keypoints need their gradient: nothing else teaches the "
    "branch. The log shows a loss that never falls.",
)
pose_loss.misconception(
    "the keypoint parts are not in the sum",
    swap=(SUM, "return PoseParts(found.total, **parts)"),
    because="backward starts at the total. Both parts are in the log, and the keypoint branch stays as it was.",
)
pose_loss.misconception(
    "the gains of the new parts are exchanged",
    swap=[
        (POSE, POSE.replace("pose_gain", "visibility_gain")),
        (SIGHT, SIGHT.replace("visibility_gain", "pose_gain")),
    ],
    because="Places then weigh 1 and the visibility 12: the network knows what it sees, but not where. Each part has "
    "its own gain.",
)
pose_loss.misconception(
    "the gains of the new parts are left out",
    swap=[(POSE, '"pose": pose'), (SIGHT, '"visibility": visibility')],
    because="A loss of at most 1 stands beside a box loss of up to 7.5. Without its gain of 12 the keypoints are "
    "learned last, or not at all in a short training.",
)
pose_loss.misconception(
    "the gains of the detection loss are applied again",
    swap=[
        ('"box": found.box', '"box": found.box * self.gains["box"]'),
        (REST, '"cls": found.cls * self.gains["cls"], "dfl": found.dfl * self.gains["dfl"]'),
    ],
    because="DetectionLoss returns its parts with gains included. Applied twice, a box counts 56 times.",
)
pose_loss.misconception(
    "places and visibility change places",
    swap=(SUM, 'parts["pose"], parts["visibility"] = parts["visibility"], parts["pose"]\n        ' + SUM),
    because="The sum is right and the training is too. But somebody who changes a gain watches the wrong curve. Each "
    "part has its name.",
)
pose_loss.misconception(
    "the new parts come last",
    swap=(SUM, 'return PoseParts(sum(parts.values()), *found[1:], parts["pose"], parts["visibility"])'),
    because="PoseParts has Ultralytics' order: box, pose, visibility, cls, dfl. Without names the class loss is "
    "logged as the pose loss. Give the parts by name.",
)
pose_loss.misconception(
    "cls and dfl change places",
    swap=(REST, '"cls": found.dfl, "dfl": found.cls'),
    because="The sum is right, the log is not: a class loss that does not fall looks like a precise box. Each part "
    "has its name.",
)
pose_loss.misconception(
    "the detection parts are returned alone",
    swap=(SUM, "return found._replace(total=sum(parts.values()))"),
    because="The training is right, but the log has no line for keypoints. PoseParts has two more fields.",
)
pose_loss.misconception(
    "COCO's σ for every kind of keypoint",
    swap=(COCO, "sigmas = [s / 1000 for s in COCO_SIGMAS[:count]]"),
    because="COCO's first numbers are nose, eyes and ears: 0.025, as exact as people click on an eye. On wing tips "
    "the exponent is so large that the loss is 1 and has no gradient. Without knowing better, 1 / K.",
)
pose_loss.misconception(
    "COCO's σ for every seventeen keypoints",
    swap=(IS_COCO, "is_coco = count == 17"),
    because="Ultralytics recognises COCO's people by the whole shape, (17, 3). Seventeen keypoints of two numbers are "
    "somebody else's, and get 1 / 17.",
)
pose_loss.misconception(
    "1 / K for people too",
    swap=(COCO, "sigmas = [1 / count] * count"),
    because="For COCO's people somebody has measured how precisely each keypoint is placed: hips four times worse "
    "than eyes. With 1/17 for all, no number agrees with Ultralytics' on its own task.",
)
pose_loss.misconception(
    "COCO's σ in thousandths",
    swap=(COCO, COCO.replace("s / 1000", "s")),
    because="The table counts thousandths. A σ of 26 is 26 times the object's size: every similarity is 1, and "
    "nothing is learned. Divide by 1000.",
)
pose_loss.misconception(
    "σ that are given are ignored",
    swap=("if sigmas is None:", "if True:"),
    because="σ decides how near is near enough. Somebody sets .05 and trains with .25 without a word. Only where none "
    "is given there is a default.",
)
