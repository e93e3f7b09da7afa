"""Stage 4: anchor points, distributions, boxes, and what two boxes have in common."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, gradient, values

# only a name: `SecondDevice` makes nothing on it, because the first real meta tensor costs seconds of imports
OTHER = torch.device("meta")


class SecondDevice(TorchFunctionMode):
    """Pretend that the processor is two devices.

    So a computer without a graphics card can tell which tensors stay behind on the first device. A
    tensor that is made or moved with `device=OTHER` counts as on the second. So does a result that
    is computed only from such tensors.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat = [
            x for given in (*args, *kwargs.values()) for x in (given if isinstance(given, (tuple, list)) else (given,))
        ]
        tensors = [x for x in flat if isinstance(x, Tensor)]
        there = [hasattr(x, "there") for x in tensors]
        if function == Tensor.device.__get__:
            return OTHER if there[0] else torch.device("cpu")
        # a module that moves reads its arguments, and moves its parameters afterwards
        if function is torch._C._nn._parse_to:
            return function(*args, **kwargs)
        asked = any(isinstance(x, torch.device) and x == OTHER for x in flat)
        like_one_there = any(there) and function in (Tensor.to, Tensor.type_as, Tensor.data.__set__)
        # a single number may come from anywhere
        computed_there = any(there) and all(own or not x.dim() for own, x in zip(there, tensors))
        args = ["cpu" if isinstance(x, torch.device) else x for x in args]
        result = function(*args, **{key: "cpu" if isinstance(x, torch.device) else x for key, x in kwargs.items()})
        if asked or like_one_there or computed_there:
            if isinstance(result, Iterator):  # from a loop over a tensor
                result = tuple(result)
            # a module moves its parameters by setting their data
            made = args[0] if function == Tensor.data.__set__ else result
            for x in made if isinstance(made, (tuple, list)) else (made,):
                if isinstance(x, Tensor):
                    x.there = True
        return iter(result) if function == Tensor.__iter__ else result


def some_boxes(count: int, seed: int) -> Tensor:
    """Boxes (count, 4) of different shapes within 0 … 32.

    Most overlap several others; no two share an edge.
    """
    corner, size = values(count, 2, high=20, seed=seed), values(count, 2, low=3, high=12, seed=seed + 1)
    return torch.cat((corner, corner + size), dim=1)


# ---- anchor points -------------------------------------------------------------------------------

make_anchors = Exercise(
    "boxes.make_anchors",
    stage=4,
    points=2,
    minutes=15,
    goal="Give the centre of every position of every output map, and how many pixels its unit is.",
    hints=(
        "Draw a map of 2 rows and 3 columns on paper. Where does the centre of its first position lie, and of the "
        "next one in that row?",
        "Make one grid for each level: `torch.meshgrid` of the row numbers and the column numbers, with the indexing "
        "that keeps rows first. A centre lies half a position beyond its number, in both directions.",
        "Stack x before y along a new last dimension and flatten each level to (H·W, 2). Make a column (H·W, 1) "
        "beside it that repeats the level's stride. Concatenate both over the levels in their order, and make "
        "everything on `device`.",
    ),
)


@make_anchors.probe("two small maps, by hand")
def _(course):
    anchors, strides = course.boxes.make_anchors([(2, 3), (1, 2)], (4, 16))
    return {"anchors": anchors.float(), "strides": strides.float()}


@make_anchors.probe("the centres of three levels, in pixels")
def _(course):
    anchors, strides = course.boxes.make_anchors([torch.Size((8, 6)), torch.Size((4, 3)), torch.Size((2, 1))])
    pixels = (anchors * strides).float()
    return {
        "how many": len(pixels),
        "first of each level": pixels[[0, 48, 60]],
        "last of each level": pixels[[47, 59, 61]],
    }


@make_anchors.probe("made on the device that is asked for")
def _(course):
    with SecondDevice():
        anchors, strides = course.boxes.make_anchors([(2, 3), (1, 2)], (4, 16), device=OTHER)
        return {"anchors where they were asked for": anchors.device == OTHER, "strides too": strides.device == OTHER}


make_anchors.misconception(
    "the corner taken for the centre",
    swap=[
        ("torch.arange(height, device=device) + 0.5", "torch.arange(height, device=device)"),
        ("torch.arange(width, device=device) + 0.5", "torch.arange(width, device=device)"),
    ],
    because="Position 0 covers 0 to 1, so its centre lies at 0.5. Without the half every decoded box lies half a "
    "stride too far up and to the left, 4 to 16 pixels, and with the pretrained weights of stage 8 too. Add 0.5 to "
    "the row and to the column.",
)
make_anchors.misconception(
    "x and y swapped",
    swap=("torch.stack((x, y), dim=-1)", "torch.stack((y, x), dim=-1)"),
    because="`meshgrid` with rows first gives y before x, and a box wants x first. Nothing raises an error: each "
    "position is trained on objects mirrored at the diagonal, and mAP stays near 0 in stage 7. Stack x, then y.",
)
make_anchors.misconception(
    "column by column",
    swap=('indexing="ij"', 'indexing="xy"'),
    because="The centres are right, but their order is not: `flatten_maps` walks a map row by row, so an anchor meets "
    "the prediction of another position. Nothing raises an error, and stage 7 trains each position on the objects of "
    "another place. Use the indexing that gives (H, W), rows first.",
)
make_anchors.misconception(
    "height and width exchanged",
    swap=("for (height, width), stride", "for (width, height), stride"),
    because="A size is (H, W), like a tensor's shape. On square images nothing shows. On an image of 384 x 640 pixels "
    "every row has the wrong length and the boxes scatter. Unpack the height first, and build the grid with `height` "
    "rows: both must hold.",
)
make_anchors.misconception(
    "the strides multiplied in",
    swap=("torch.stack((x, y), dim=-1)", "(torch.stack((x, y), dim=-1) * stride)"),
    because="Anchors are in units of their stride, because the distances of the four edges are. `decode` multiplies "
    "by the stride later: with a second stride boxes lie at up to 32 times their place, and the loss of stage 6 "
    "compares pixels with strides. Return the stride beside the anchors, not in them.",
)
make_anchors.misconception(
    "the stride forgotten",
    swap=("float(stride)", "1.0"),
    because="The second tensor says how many pixels one unit is; 1 leaves anchors and boxes in units of the stride. "
    "The assigner of stage 5 then finds next to no anchor inside a real box, boxes become random and mAP is 0. Fill "
    "it with each level's stride.",
    museum=10,
)
make_anchors.misconception(
    "the coarsest level first",
    swap=("zip(sizes, strides, strict=True)", "zip(sizes[::-1], strides[::-1], strict=True)"),
    because="`flatten_maps` puts the maps one after another in their order, the finest first. In another order an "
    "anchor of stride 32 meets a prediction of stride 8. Keep the order of `sizes`.",
)
make_anchors.misconception(
    "the strides without a column of their own",
    swap=("(height * width, 1)", "(height * width,)"),
    because="(A,) does not fit beside (A, 2): torch aligns shapes from the right, so `anchors * strides` fails or, "
    "with A = 2, multiplies x by one stride and y by another. Keep a last dimension of 1.",
)
make_anchors.misconception(
    "made on the processor, whatever the device",
    swap=[
        ("torch.arange(height, device=device)", "torch.arange(height)"),
        ("torch.arange(width, device=device)", "torch.arange(width)"),
        ("float(stride), device=device", "float(stride)"),
    ],
    because="On a computer without a graphics card nothing shows. With one, the first addition to a prediction in "
    "stage 7 stops: two devices in one operation. Pass `device` to every function that makes a tensor.",
)


# ---- distributions -------------------------------------------------------------------------------

expected_distance = Exercise(
    "boxes.expected_distance",
    stage=4,
    points=2,
    minutes=15,
    goal="Turn four distributions over R bins into the four distances that they mean.",
    hints=(
        "The last dimension holds R numbers for the left edge, then R for the top, and so on. Which shape separates "
        "the four?",
        "Turn the R numbers of each side into probabilities. They must add up to 1 over the bins of one side, not "
        "over anything else.",
        "An expectation is a weighted sum: bin i stands for the distance i, from 0 to R - 1. A matrix product with "
        "the vector of bins computes it. Give that vector the dtype and the device of the logits.",
    ),
)


@expected_distance.probe("one sharp peak a side")
def _(course):
    logits = torch.zeros(4, 16)
    for side, peak in enumerate((3, 0, 15, 7)):
        logits[side, peak] = 25.0
    return {"left, top, right, bottom": course.boxes.expected_distance(logits.flatten()).double()}


@expected_distance.probe("spread-out distributions, five bins, two images")
def _(course):
    return {
        "distances": course.boxes.expected_distance(values(2, 3, 4 * 5, low=-3, high=3, seed=1), reg_max=5).double()
    }


@expected_distance.probe("the gradient that reaches the logits")
def _(course):
    logits = values(2, 4 * 16, low=-2, high=2, seed=2).requires_grad_()
    distances = course.boxes.expected_distance(logits)
    return {"gradient": gradient((distances * values(2, 4, low=1, high=2, seed=3)).sum(), logits)}


@expected_distance.probe("a very sure network: logits of 200")
def _(course):
    logits = torch.full((4, 8), -200.0)
    for side, (bin, share) in enumerate(((1, 0.0), (5, 200.0), (2, 199.0), (7, 90.0))):
        logits[side, 0], logits[side, bin] = 200.0, share
    return {"left, top, right, bottom": course.boxes.expected_distance(logits.flatten(), 8).double()}


@expected_distance.probe("computed where the logits are")
def _(course):
    with SecondDevice():
        distances = course.boxes.expected_distance(torch.zeros(5, 64, device=OTHER))
        return {"on the device of the logits": distances.device == OTHER, "shape": distances.shape}


expected_distance.misconception(
    "the bins and the sides exchanged",
    swap=("(4, reg_max)).softmax(dim=-1) @ bins", "(reg_max, 4)).softmax(dim=-2).transpose(-1, -2) @ bins"),
    because="The channels hold all bins of the left edge first, then all of the top. Read the other way round, each "
    "distance mixes the bins of several edges. The distribution loss of stage 6 reads them edge by edge, so the two "
    "losses pull against each other, and pretrained weights give nonsense. Split the last dimension into (4, R).",
)
expected_distance.misconception(
    "softmax over the four sides",
    swap=("softmax(dim=-1)", "softmax(dim=-2)"),
    because="The four edges then compete with each other, and the bins of one edge no longer add up to 1: distances "
    "leave 0 … R - 1, and a change of one edge moves the other three. Normalise over the bins.",
)
expected_distance.misconception(
    "one softmax over all four distributions",
    swap=("logits.unflatten(-1, (4, reg_max)).softmax(dim=-1)", "logits.softmax(dim=-1).unflatten(-1, (4, reg_max))"),
    because="All 4·R numbers then share one total of 1, so the four distances together cannot exceed R - 1, and boxes "
    "are far too small. Separate the four sides first, then normalise each.",
)
expected_distance.misconception(
    "no softmax",
    swap=(".softmax(dim=-1) @ bins", " @ bins"),
    because="Logits are no probabilities: they may be negative and add up to anything. Distances then leave 0 … R - "
    "1, edges change sides, and the box loss of stage 6 is meaningless from the start. Turn the R logits of a side "
    "into probabilities first.",
)
expected_distance.misconception(
    "the strongest bin instead of the expectation",
    swap=(".softmax(dim=-1) @ bins", ".argmax(dim=-1).to(logits.dtype)"),
    because="The strongest bin is a whole number, so a box moves in steps of its stride, 8 to 32 pixels. It also has "
    "no gradient: the box loss of stage 6 reaches no weight. Take the mean of the bins, weighted by their "
    "probabilities.",
)
expected_distance.misconception(
    "the bins counted from 1",
    swap=("torch.arange(reg_max, ", "torch.arange(1, reg_max + 1, "),
    because="Bin 0 stands for a distance of 0. Counted from 1 every edge lies one stride too far out, so a box on the "
    "coarsest level is 64 pixels too wide, and the distribution loss of stage 6 pulls towards bins that here mean "
    "something else. Count from 0 to R - 1.",
)
expected_distance.misconception(
    "exp without taking the largest off",
    swap=(".softmax(dim=-1) @ bins", ".exp() @ bins / logits.unflatten(-1, (4, reg_max)).exp().sum(dim=-1)"),
    because="float32 ends at exp(88.7), float16 at exp(11.1). One very sure prediction then gives infinity divided by "
    "infinity, and the NaN appears in stage 7 and looks like a bug in the loss. A library's softmax subtracts the "
    "largest logit first; use it.",
)
expected_distance.misconception(
    "the bins stay on the processor",
    swap=(", device=logits.device", ""),
    because="By default torch.arange makes its numbers on the processor. On a computer without a graphics card "
    "nothing shows. With one, the first prediction of stage 7 stops: two devices in one operation. Give the bins the "
    "device of the logits.",
)


# ---- boxes from distances, and back --------------------------------------------------------------

distance_to_box = Exercise(
    "boxes.distance_to_box",
    stage=4,
    points=1,
    minutes=10,
    after=("boxes.make_anchors", "boxes.expected_distance"),
    goal="Build the boxes of one image or of a whole batch from their anchor points and the distances of their edges.",
    hints=(
        "Draw an anchor point and a box around it. x grows to the right, y downward. On which side of the point is x "
        "smaller?",
        "The first two distances lead from the point to the upper left corner, the last two to the lower right corner.",
        "Split the distances into two halves along the last dimension: each has the shape of a point. One corner is "
        "the point minus the first half, the other the point plus the second. Let torch broadcast (A, 2) against (B, "
        "A, 2).",
    ),
)


@distance_to_box.probe("one box, by hand")
def _(course):
    box = course.boxes.distance_to_box(torch.tensor([10.5, 6.5]), torch.tensor([1.0, 2.0, 3.0, 5.0]))
    return {"x1 y1 x2 y2": box}


@distance_to_box.probe("the same anchor points for two images")
def _(course):
    return {"boxes": course.boxes.distance_to_box(values(3, 2, high=8, seed=4), values(2, 3, 4, high=6, seed=5))}


@distance_to_box.probe("anchors and distances afterwards")
def _(course):
    anchors, distances = values(3, 2, high=8, seed=6), values(3, 4, high=6, seed=7)
    boxes = course.boxes.distance_to_box(anchors, distances)
    return {"boxes": boxes, "anchors": anchors, "distances": distances}


@distance_to_box.probe("the gradient that reaches the distances")
def _(course):
    distances = values(3, 4, high=6, seed=8).requires_grad_()
    boxes = course.boxes.distance_to_box(values(3, 2, high=8, seed=9), distances)
    return {"gradient": gradient((boxes * values(3, 4, low=1, high=2, seed=10)).sum(), distances)}


distance_to_box.misconception(
    "plus for minus",
    swap=("anchors - left_top", "anchors + left_top"),
    because="The left and the upper edge lie before the point, where x and y are smaller. With plus, both corners lie "
    "below and to the right of the point: the object's centre is never inside, and every IoU of stage 5 is near 0. "
    "Subtract the first two distances.",
)
distance_to_box.misconception(
    "the distances read as left, right, top, bottom",
    swap=("distances.chunk(2, dim=-1)", "distances[..., ::2], distances[..., 1::2]"),
    because="The order is left, top, right, bottom: two distances for the near corner, then two for the far corner. "
    "Read as pairs of sides, top and right change places. A point in the middle of a square object hides that, a long "
    "fuselage shows it, and the distribution loss of stage 6 disagrees. Split the four numbers in the middle.",
)
distance_to_box.misconception(
    "near and far edges exchanged",
    swap=("anchors - left_top, anchors + right_bottom", "anchors - right_bottom, anchors + left_top"),
    because="The box has the right size, but it is mirrored at its point. A point in the middle of its object hides "
    "that. For all others the IoU is poor, and the distribution loss of stage 6 pulls the other way. The first half "
    "of the distances belongs to the upper left corner.",
)
distance_to_box.misconception(
    "centre and size returned",
    swap=(
        "torch.cat((anchors - left_top, anchors + right_bottom), dim=-1)",
        "torch.cat((anchors + (right_bottom - left_top) / 2, left_top + right_bottom), dim=-1)",
    ),
    because="That is the same box as x y w h, the default of Ultralytics' function. Everything here reads x1 y1 x2 "
    "y2: the IoU of stage 5 and the loss of stage 6 would take a width for a corner. Return the two corners.",
)
distance_to_box.misconception(
    "corner and size returned",
    swap=("anchors - left_top, anchors + right_bottom", "anchors - left_top, left_top + right_bottom"),
    because="Left plus right is the width, not the right edge. As x2 it is smaller than x1 for most objects, so areas "
    "are negative and the IoU is nonsense. The lower right corner is the point plus the last two distances.",
)
distance_to_box.misconception(
    "the distances changed in place",
    swap=("anchors - left_top", "anchors + left_top.neg_()"),
    because="The boxes are right, but the caller's distances have changed their sign. If they are used again, as in a "
    "loss, they are wrong, and autograd refuses to go back through them. Make a new tensor.",
)


box_to_distance = Exercise(
    "boxes.box_to_distance",
    stage=4,
    points=2,
    minutes=10,
    after="boxes.distance_to_box",
    goal="Compute how far the edges of a box lie from an anchor point, within what R bins can express.",
    hints=(
        "Solve the two equations of `distance_to_box` for the distances. Which of the two subtractions changes its "
        "direction?",
        "An edge can lie on the wrong side of the point, and it can lie farther away than the last bin. What is the "
        "nearest distance that R bins can still express?",
        "The loss of stage 6 divides each distance between the bin below and the bin above. Clamp it to at least 0 "
        "and to at most R - 1 minus a hundredth.",
    ),
)


@box_to_distance.probe("one box, by hand")
def _(course):
    anchors, boxes = torch.tensor([10.5, 6.5]), torch.tensor([9.0, 4.5, 13.0, 14.0])
    return {
        "left, top, right, bottom": course.boxes.box_to_distance(anchors, boxes),
        "anchors": anchors,
        "boxes": boxes,
    }


@box_to_distance.probe("the way there and back")
def _(course):
    anchors, distances = values(2, 3, 2, high=40, seed=11), values(2, 3, 4, high=14, seed=12)
    return {"distances": course.boxes.box_to_distance(anchors, course.boxes.distance_to_box(anchors, distances))}


@box_to_distance.probe("points outside the box")
def _(course):
    anchors = torch.tensor([[2.5, 6.5], [6.5, 1.5], [12.5, 8.5], [6.5, 12.5]])  # left of it, above, right, below
    return {"distances": course.boxes.box_to_distance(anchors, torch.tensor([4.0, 4.0, 9.0, 9.0]).expand(4, 4))}


@box_to_distance.probe("edges beyond the last bin", rtol=1e-5)
def _(course):
    anchors = torch.tensor([[20.5, 20.5], [20.5, 20.5]])
    boxes = torch.tensor([[5.0, 5.8, 35.8, 60.0], [16.7, 12.0, 23.0, 28.0]])
    return {
        "16 bins": course.boxes.box_to_distance(anchors, boxes),
        "8 bins": course.boxes.box_to_distance(anchors, boxes, reg_max=8),
    }


box_to_distance.misconception(
    "no limits",
    swap=(".clamp(0, reg_max - 1 - 0.01)", ""),
    because="A wide object reaches beyond the last bin, and an edge on the wrong side of the point is negative. Stage "
    "6 takes the whole part of a distance as the number of a bin. So training stops with an index out of bounds, not "
    "at once but at the first large aircraft. Clamp at both ends; clamp gives a new tensor and leaves the old one as "
    "it is.",
)
box_to_distance.misconception(
    "no lower limit",
    swap=(".clamp(0, reg_max - 1 - 0.01)", ".clamp(max=reg_max - 1 - 0.01)"),
    because="A point a little outside its box has a negative distance, and no bin stands for that: the loss of stage "
    "6 gives a bin a negative weight, or stops with an index out of bounds. Clamp at 0 too.",
)
box_to_distance.misconception(
    "no upper limit",
    swap=(".clamp(0, reg_max - 1 - 0.01)", ".clamp(min=0)"),
    because="16 bins reach 15 strides, 120 pixels on the finest level, and an object may be larger. Stage 6 takes the "
    "whole part of a distance as the number of a bin: training runs until the first large aircraft and stops there "
    "with an index out of bounds. Clamp a hundredth below R - 1 too.",
)
box_to_distance.misconception(
    "cut off at R - 1 exactly",
    swap=("reg_max - 1 - 0.01", "reg_max - 1"),
    because="At exactly R - 1 the bin below is the last one, and the bin above does not exist: the loss of stage 6 "
    "asks for bin 16 of 0 … 15 and stops with an index out of bounds at the first object that is too wide. Stay a "
    "hundredth below.",
)
box_to_distance.misconception(
    "cut off at R",
    swap=("reg_max - 1 - 0.01", "reg_max - 0.01"),
    because="R bins are numbered 0 … R - 1, so R - 1 is the longest distance that they express. Targets above it have "
    "no bin above them, and the loss of stage 6 stops with an index out of bounds. The limit is R - 1 minus a "
    "hundredth.",
)
box_to_distance.misconception(
    "the far corner subtracted the wrong way",
    swap=("right_bottom - anchors", "anchors - right_bottom"),
    because="Right and bottom become negative and are clamped to 0. The distribution loss of stage 6 then teaches "
    "every box to end at its anchor point, against the IoU loss beside it. The far corner is the greater one: "
    "subtract the point from it.",
)
box_to_distance.misconception(
    "the distance without its sign",
    swap=(".clamp(0, reg_max - 1 - 0.01)", ".abs().clamp(max=reg_max - 1 - 0.01)"),
    because="An edge on the wrong side of the point has no distance that the bins can express. Its absolute value "
    "puts the edge on the other side, as far away. Decoding then gives another box than the encoded one. Clamp at 0 "
    "instead.",
)
box_to_distance.misconception(
    "the corners read as pairs of sides",
    swap=("boxes.chunk(2, dim=-1)", "boxes[..., ::2], boxes[..., 1::2]"),
    because="A box is x1 y1 x2 y2: its first half is one corner. Every second number gives x1 x2 and y1 y2, so the x "
    "of the point is compared with a y. The targets of stage 6 are then no distances at all. Split the four numbers "
    "in the middle.",
)


# ---- two boxes -----------------------------------------------------------------------------------

box_iou = Exercise(
    "boxes.box_iou",
    stage=4,
    points=2,
    minutes=15,
    goal="Compare every box of one set with every box of another: the area that they share, divided by the area that "
    "they cover together.",
    hints=(
        "The part that two boxes share is a box too. Which of the two left edges is its left edge, and which right "
        "edge its right one?",
        "For all pairs at once, give one set the shape (n, 1, 2) and the other (1, m, 2). If nothing is shared, a "
        "side is negative: such a side counts as 0.",
        "Area of the one plus area of the other counts the shared part twice, so subtract it once. Two boxes without "
        "area share 0 of 0: avoid that division.",
    ),
)


@box_iou.probe("three boxes and two others, by hand")
def _(course):
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [1, 1, 3, 3]])
    return {"iou": course.boxes.box_iou(boxes, torch.tensor([[0.0, 0, 4, 4], [3, 0, 5, 8]]))}


@box_iou.probe("boxes that share nothing")
def _(course):
    others = torch.tensor([[20.0, 0, 24, 10], [0, 20, 10, 24], [30, 30, 40, 40], [10, 0, 14, 10], [10, 10, 14, 14]])
    return {
        "beside, below, both, edge to edge, corner to corner": course.boxes.box_iou(
            torch.tensor([[0.0, 0, 10, 10]]), others
        )
    }


@box_iou.probe("boxes without area")
def _(course):
    boxes = torch.tensor([[5.0, 5, 5, 5], [2, 3, 8, 3], [0, 0, 10, 10]])  # a point, a line, a box
    return {"iou": course.boxes.box_iou(boxes, boxes)}


@box_iou.probe("no boxes at all")
def _(course):
    none, one, three = some_boxes(0, seed=13), some_boxes(1, seed=14), some_boxes(3, seed=15)
    return {"0 and 3": course.boxes.box_iou(none, three), "1 and 0": course.boxes.box_iou(one, none)}


@box_iou.probe("six boxes and six others")
def _(course):
    boxes, others = some_boxes(6, seed=16), some_boxes(6, seed=18)
    iou = course.boxes.box_iou(boxes, others)
    small = course.boxes.box_iou(some_boxes(6, seed=16) / 16, some_boxes(6, seed=18) / 16)
    return {
        "iou": iou,
        "iou of the same, sixteen times smaller": small,
        "boxes afterwards": boxes,
        "others afterwards": others,
    }


box_iou.misconception(
    "x y w h read where corners are given",
    swap=[
        (
            "torch.maximum(boxes[:, None, :2], others[None, :, :2])",
            "torch.maximum((boxes[:, :2] - boxes[:, 2:] / 2)[:, None], (others[:, :2] - others[:, 2:] / 2)[None])",
        ),
        (
            "torch.minimum(boxes[:, None, 2:], others[None, :, 2:])",
            "torch.minimum((boxes[:, :2] + boxes[:, 2:] / 2)[:, None], (others[:, :2] + others[:, 2:] / 2)[None])",
        ),
        ("(b[:, 2:] - b[:, :2]).prod(dim=-1)", "b[:, 2:].prod(dim=-1)"),
    ],
    because="The last two numbers are a corner, not a size. Boxes then seem larger the farther they are from the "
    "image's origin, and boxes that share nothing overlap: NMS deletes neighbours, and an evaluation with the same "
    "mistake finds an average precision above 1. The width is x2 - x1.",
    museum=22,
)
box_iou.misconception(
    "no limit on negative sides",
    swap=("(right_bottom - left_top).clamp(min=0)", "(right_bottom - left_top)"),
    because="Two boxes that lie apart in x and in y have two negative sides, and their product is positive: distant "
    "boxes seem to overlap. NMS then deletes objects in other corners of the image. Set a negative side to 0 before "
    "you multiply.",
)
box_iou.misconception(
    "the shared part counted twice",
    swap=("other_area[None, :] - intersection", "other_area[None, :]"),
    because="Both areas contain the shared part, so a box with itself gives 0.5 instead of 1. At its threshold of 0.7 "
    "NMS then removes nothing, and each aircraft of stage 7 is found a dozen times. Subtract the intersection once.",
)
box_iou.misconception(
    "one pixel added to each side",
    swap=[
        ("(right_bottom - left_top).clamp(min=0)", "(right_bottom - left_top + 1).clamp(min=0)"),
        ("(b[:, 2:] - b[:, :2])", "(b[:, 2:] - b[:, :2] + 1)"),
    ],
    because="That belongs to boxes whose corners are pixel numbers, as in old VOC code. Here corners are places "
    "between pixels. With the 1, boxes that only touch overlap, and a small box gains more than a large one. A side "
    "is x2 - x1.",
)
box_iou.misconception(
    "each box with its partner only",
    swap=[
        ("torch.maximum(boxes[:, None, :2], others[None, :, :2])", "torch.maximum(boxes[:, :2], others[:, :2])"),
        ("torch.minimum(boxes[:, None, 2:], others[None, :, 2:])", "torch.minimum(boxes[:, 2:], others[:, 2:])"),
        ("area[:, None] + other_area[None, :]", "area + other_area"),
    ],
    because="Compare every box with every other: n times m numbers. One partner each fails if the sets differ in "
    "size, as in NMS, where one box meets all that wait. Put a dimension of 1 into each set, at different places.",
)
box_iou.misconception(
    "divided by the smaller area",
    swap=(
        "area[:, None] + other_area[None, :] - intersection",
        "torch.minimum(area[:, None], other_area[None, :])",
    ),
    because="Then a small box inside a large one counts as 1, whatever else the large one covers. NMS would let a box "
    "around the whole apron remove each aircraft on it. Divide by the area that both cover together.",
)
box_iou.misconception(
    "zero divided by zero",
    swap=("union.clamp(min=torch.finfo(union.dtype).tiny)", "union"),
    because="Two boxes without area share 0 of 0, which is NaN. No comparison with NaN is true, so NMS loses a box "
    "that overlaps nothing, and one NaN turns every mean that contains it into NaN. Keep the divisor above 0.",
)


complete_iou = Exercise(
    "boxes.complete_iou",
    stage=4,
    points=4,
    minutes=30,
    after="boxes.box_iou",
    goal="Extend the IoU so that it also says in which direction a box is wrong if the two do not touch.",
    hints=(
        "Write the three terms one after another and try each on paper: two equal boxes give 1, two boxes far apart a "
        "value below 0.",
        "ρ² is the squared distance of the two centres. c² is the squared diagonal of the smallest box around both, "
        "not an area. Both are sums of two squares, and no root is needed.",
        "α only weighs the last term: compute it where no gradient is recorded. Add `eps` to each divisor that can be "
        "0: the heights, the union, c² and the one of α.",
    ),
)


@complete_iou.probe("boxes that overlap")
def _(course):
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 2, 9, 5], [2, 1, 5, 11], [3, 3, 7, 6], [1, 1, 9, 5]])
    others = torch.tensor([[1.0, 1, 5, 5], [2, 1, 6, 9], [1, 4, 12, 8], [2, 1, 9, 10], [1, 1, 8, 7]])
    return {"ciou": course.boxes.complete_iou(boxes, others)}


@complete_iou.probe("equal, concentric, beside, below and far apart")
def _(course):
    boxes = torch.tensor([[10.0, 20, 40, 30]]).expand(5, 4)
    others = torch.tensor(
        [[10.0, 20, 40, 30], [20, 10, 30, 40], [44, 21, 60, 33], [12, 36, 36, 50], [300, 200, 310, 260]]
    )
    lying, standing = torch.tensor([0.0, 0, 90, 3]), torch.tensor([900.0, 700, 904, 790])
    return {
        "ciou": course.boxes.complete_iou(boxes, others),
        "far apart and crosswise": course.boxes.complete_iou(lying, standing),
    }


@complete_iou.probe("boxes without area, and next to none")
def _(course):
    boxes = torch.tensor([[5.0, 5, 5, 5], [2, 3, 8, 3], [4, 0, 4, 6], [0, 0, 6, 2]])  # a point, two lines, a box
    others = torch.tensor([[5.0, 5, 5, 5], [1, 1, 6, 4], [1, 1, 6, 4], [2, 3, 8, 3]])
    # the aspect ratio of a point is undefined, so only its range is observed
    inside = course.boxes.complete_iou(boxes[0], torch.tensor([4.0, 4, 7, 8]))
    tiny = torch.tensor([[0.0, 0, 1, 1], [0, 0, 0.5, 0.5]]) * 1e-4
    equal, apart = course.boxes.complete_iou(tiny, tiny + torch.tensor([[0.0], [1e-4]]) * torch.tensor([1.0, 0, 1, 0]))
    return {
        "ciou": course.boxes.complete_iou(boxes, others),
        "a point in a box: within -1 … 0": bool(-1 <= inside <= 0),
        "equal and tiny: within 0 … 1": bool(-1e-3 <= equal <= 1.001),
        "apart and tiny: below 0": bool(apart < 0),
    }


@complete_iou.probe("the gradient that reaches the boxes")
def _(course):
    boxes = torch.cat((some_boxes(6, seed=20), torch.tensor([[10.0, 20, 40, 30]]))).requires_grad_()
    others = torch.cat((some_boxes(6, seed=22), torch.tensor([[20.0, 10, 30, 40]])))  # the last two have one centre
    return {
        "gradient": gradient(
            (course.boxes.complete_iou(boxes, others) * values(7, low=1, high=2, seed=24)).sum(), boxes
        )
    }


@complete_iou.probe("one pair, six pairs, no pair")
def _(course):
    boxes, others = some_boxes(6, seed=25), some_boxes(6, seed=27)
    return {
        "(4,)": course.boxes.complete_iou(boxes[0], others[0]),
        "(2, 3, 4)": course.boxes.complete_iou(boxes.view(2, 3, 4), others.view(2, 3, 4)),
        "(0, 4)": course.boxes.complete_iou(boxes[:0], others[:0]),
    }


complete_iou.misconception(
    "alpha carries a gradient",
    swap=(
        "    with torch.no_grad():\n        alpha = aspect / (1 - iou + aspect + eps)",
        "    alpha = aspect / (1 - iou + aspect + eps)",
    ),
    because="The value is right, but the gradient is not: the gradient of the weight α is added to that of v, which α "
    "weighs. In stage 6 the printed losses agree with Ultralytics and the gradients do not, which no curve shows. α "
    "is a constant in the backward pass.",
)
complete_iou.misconception(
    "the result cut off at 0",
    swap=(
        "return iou - (distance / diagonal + alpha * aspect)",
        "return (iou - (distance / diagonal + alpha * aspect)).clamp(min=0)",
    ),
    because="The assigner of stage 5 has to clamp the complete IoU before it takes a power, and does so itself. Here "
    "the values below 0 are the point: they pull distant boxes together. Cut off, they leave the box loss of stage 6 "
    "without a gradient. Return them.",
    museum=36,
)
complete_iou.misconception(
    "the distance not squared",
    swap=("distance / diagonal", "distance.sqrt() / diagonal.sqrt()"),
    because="ρ/c is larger than ρ²/c² for every pair, so small offsets cost far too much, and the root has an "
    "infinite slope where two centres meet: NaN in the gradient for a perfect prediction. Divide the square by the "
    "square.",
)
complete_iou.misconception(
    "the centres twice as far apart",
    swap=(".square()) / 4  # ρ²", ".square())  # ρ²"),
    because="A centre is half of x1 + x2, so the squared difference of the sums is four times ρ². The term then "
    "exceeds 1 for distant boxes, and the loss of stage 6 weighs the place too much against the size. Halve the sums, "
    "or divide their squares by 4.",
)
complete_iou.misconception(
    "the distance divided by the union",
    swap=("distance / diagonal", "distance / union"),
    because="The union does not grow with the distance, so small boxes far apart give values of minus several "
    "hundred, and one of them decides the loss of a whole batch in stage 7. Divide by the squared diagonal of the box "
    "around both: the term stays within 0 … 1.",
)
complete_iou.misconception(
    "one aspect ratio upside down",
    swap=("torch.atan(width / height)", "torch.atan(height / width)"),
    because="Both boxes need the same ratio, w/h. With one of them upside down equal boxes get a penalty unless they "
    "are square, and the loss of stage 6 turns long boxes by 90 degrees. Use w/h in both.",
)
complete_iou.misconception(
    "no aspect term",
    swap=("return iou - (distance / diagonal + alpha * aspect)", "return iou - distance / diagonal"),
    because="That is DIoU, the step before in the paper. A concentric box of the wrong shape then costs only its IoU, "
    "and the box loss of stage 6 differs from Ultralytics' wherever two shapes differ. Subtract α·v too.",
)
complete_iou.misconception(
    "the aspect difference not squared",
    swap=("torch.atan(width / height)).square()", "torch.atan(width / height)).abs()"),
    because="v is the squared difference of two angles, times 4/π² so that it stays within 0 … 1. Without the square "
    "small differences weigh too much, and the gradient does not get smaller as the shapes become alike. Square it.",
)
complete_iou.misconception(
    "the hull's empty part instead of distance and shape",
    swap=(
        "return iou - (distance / diagonal + alpha * aspect)",
        "return iou - (hull_width * hull_height - union) / (hull_width * hull_height + eps)",
    ),
    because="That is GIoU: it measures how much of the smallest box around both is empty. For a box inside another it "
    "is the IoU itself, so nothing pulls the centres together, and the losses of stage 6 differ from Ultralytics'. "
    "Take the two terms of the formula.",
)
complete_iou.misconception(
    "eps is used nowhere",
    swap=[
        ("x2 - x1, y2 - y1 + eps", "x2 - x1, y2 - y1"),
        ("u2 - u1, v2 - v1 + eps", "u2 - u1, v2 - v1"),
        ("- intersection + eps", "- intersection"),
        ("hull_height.square() + eps", "hull_height.square()"),
        ("1 - iou + aspect + eps", "1 - iou + aspect"),
    ],
    because="Two equal boxes have v = 0 and IoU = 1, so α is 0 / 0: the best prediction of all is NaN, and so is "
    "every sum that it enters in stage 6. Boxes without a side or an area divide by 0 too. Add eps to each divisor "
    "that can be 0.",
)


non_maximum_suppression = Exercise(
    "boxes.non_maximum_suppression",
    stage=4,
    points=3,
    minutes=25,
    after="boxes.box_iou",
    goal="Keep the best box of every heap, class by class, and say which ones you kept.",
    hints=(
        "Play it on paper with three boxes in a row, each of which overlaps the next. The best is kept; what happens "
        "to the others?",
        "Sort the indices by score once. Then repeat: keep the first that waits, compare it with all that still wait, "
        "and keep those waiting that overlap it by no more than the threshold.",
        "Boxes of different classes never compete: shift each box by its class times `CLASS_OFFSET` before you "
        "compare. Stop at `max_detections`. If nothing is kept, return whole numbers of shape (0,), not floats: the "
        "result is used as an index.",
    ),
)

# overlaps: 0 and 1 0.90, 4 and 1 0.50, 2 and 1 0.31, 4 and 2 0.67, 5 and 3 0.72
HEAP = torch.tensor(
    [
        [10.0, 10, 50, 50],
        [12, 10, 52, 50],
        [10, 30, 50, 70],
        [100, 10, 140, 50],
        [10, 22, 50, 62],
        [106.5, 10, 146.5, 50],
    ]
)


def heap(count: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and classes, all of one class.

    Made anew for each call: an answer may change what it is given.
    """
    scores = torch.tensor([0.6, 0.9, 0.7, 0.3, 0.8, 0.5])
    return HEAP[:count].clone(), scores[:count], torch.zeros(count, dtype=torch.int64)


@non_maximum_suppression.probe("a heap under three thresholds")
def _(course):
    boxes, scores, classes = heap()
    suppress = course.boxes.non_maximum_suppression
    # at 0.48 a box goes whose IoU is 0.50 and whose complete IoU is 0.47
    kept = {"default": suppress(boxes, scores, classes)}
    kept |= {
        str(threshold): suppress(boxes, scores, classes, iou_threshold=threshold) for threshold in (0.8, 0.48, 0.1)
    }
    return kept | {"boxes afterwards": boxes, "scores afterwards": scores, "classes afterwards": classes}


@non_maximum_suppression.probe("several classes on one spot")
def _(course):
    boxes = torch.tensor([[8.0, 8, 40, 40], [9, 8, 41, 40], [8, 9, 40, 41], [8, 10, 40, 42], [10, 8, 42, 40]])
    scores, classes = torch.tensor([0.4, 0.7, 0.8, 0.6, 0.9]), torch.tensor([0, 1, 0, 79, 1])
    kept = course.boxes.non_maximum_suppression(boxes, scores, classes, 0.5)
    two = course.boxes.non_maximum_suppression(boxes.clone(), scores.clone(), classes.clone(), 0.5, max_detections=2)
    return {"kept": kept, "kept, two at most": two, "boxes afterwards": boxes}


@non_maximum_suppression.probe("at most so many")
def _(course):
    def suppress(most: int) -> Tensor:
        return course.boxes.non_maximum_suppression(*heap(), iou_threshold=0.4, max_detections=most)

    # a point does not even overlap itself
    point = torch.tensor([[5.0, 5, 5, 5], [20, 20, 30, 30]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    return {
        "1 at most": suppress(1),
        "2 at most": suppress(2),
        "3 at most": suppress(3),
        "a point and a box, 4 at most": course.boxes.non_maximum_suppression(*point, max_detections=4),
    }


@non_maximum_suppression.probe("an overlap of exactly the threshold")
def _(course):
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # 8 of 16: exact in every floating-point format
    scores = torch.tensor([0.9, 0.8])
    return {"kept": course.boxes.non_maximum_suppression(boxes, scores, torch.tensor([0, 0]), iou_threshold=0.5)}


@non_maximum_suppression.probe("nothing to suppress")
def _(course):
    boxes, scores, classes = heap(0)
    kept = course.boxes.non_maximum_suppression(boxes, scores, classes)
    return {"kept": kept, "shape of the boxes kept": attempt(lambda: tuple(boxes[kept].shape))}


non_maximum_suppression.misconception(
    "the worst score first",
    swap=("descending=True", "descending=False"),
    because="Sorting is ascending by default, so the worst box of each heap stays and the best goes. mAP in stage 7 "
    "is poor although every object was found. Sort in descending order.",
)
non_maximum_suppression.misconception(
    "the classes ignored",
    swap=("boxes + classes[:, None] * CLASS_OFFSET", "boxes"),
    because="A box then deletes an overlapping box of another class, and of two guesses for one object only one "
    "reaches the evaluation of stage 7. Compare boxes only within a class: move each class to a place of its own.",
)
non_maximum_suppression.misconception(
    "the caller's boxes are moved apart",
    swap=("shifted = boxes + classes[:, None] * CLASS_OFFSET", "shifted = boxes.add_(classes[:, None] * CLASS_OFFSET)"),
    because="The right boxes are kept, but `+=` has moved the caller's boxes: `predict` takes them by your indices "
    "and finds every aircraft of class 1 outside the image, 7680 pixels to the right and below. Class 0 hides it. "
    "Make a new tensor.",
)
non_maximum_suppression.misconception(
    "the threshold compared the wrong way",
    swap=("overlap <= iou_threshold", "overlap > iou_threshold"),
    because="A box that overlaps the best one is its double and must go. Here the doubles stay on the image and every "
    "object elsewhere is deleted: you see one crowded aircraft and nothing else. Keep those waiting whose overlap is "
    "small.",
)
non_maximum_suppression.misconception(
    "gone at the threshold itself",
    swap=("overlap <= iou_threshold", "overlap < iou_threshold"),
    because="A box goes if it overlaps by more than the threshold. The two differ only at equality, which boxes with "
    "whole coordinates do reach: detections then differ from Ultralytics' on a few images, for no visible reason. "
    "Keep a box whose overlap equals the threshold.",
)
non_maximum_suppression.misconception(
    "what is gone still removes others",
    swap=[
        ("    kept = []\n", "    kept, gone = [], set()\n"),
        ("kept.append(best)", "kept += [] if int(best) in gone else [best]"),
        ("waiting = waiting[overlap <= iou_threshold]", "gone.update(waiting[overlap > iou_threshold].tolist())"),
    ],
    because="In a row of three boxes the middle one goes because of the first, and the third overlaps only the "
    "middle: it must stay. Otherwise one long chain of aircraft on an apron shrinks to a single detection. Only kept "
    "boxes may remove others.",
)
non_maximum_suppression.misconception(
    "no end at max_detections",
    swap=("while len(waiting) and len(kept) < max_detections:", "while len(waiting):"),
    because="An untrained network fires at thousands of places, and every kept box costs one more round of the loop: "
    "the first evaluation of stage 7 takes very long. Stop when max_detections boxes are kept, not at a number of "
    "your own.",
)
non_maximum_suppression.misconception(
    "cut to max_detections before suppressing",
    swap=(
        "scores.argsort(descending=True, stable=True)",
        "scores.argsort(descending=True, stable=True)[:max_detections]",
    ),
    because="The best boxes are often doubles of one object, so the cut removes other objects before suppression "
    "makes room for them. Crowded images lose recall in stage 7. Count the boxes that you keep, not those that come "
    "in.",
)
non_maximum_suppression.misconception(
    "in the order of the input",
    swap=("torch.stack(kept) if", "torch.stack(kept).sort().values if"),
    because="These are the right boxes in another order: the docstring promises the best score first. The "
    "precision-recall curve of stage 7 takes the detections in their order and would be wrong without an error. Leave "
    "them in the order in which you kept them.",
)
non_maximum_suppression.misconception(
    "one class after another",
    swap=[
        ("while len(waiting) and len(kept) < max_detections:", "while len(waiting):"),
        (
            "    return torch.stack(kept) if kept else waiting[:0]",
            "    kept = torch.stack(kept) if kept else waiting[:0]\n    return "
            "kept[classes[kept].argsort(stable=True)][:max_detections]",
        ),
    ],
    because="A loop over the classes keeps the right boxes, but returns them class by class: all of class 0 first, "
    "sure or not. Cut off at max_detections, the last classes vanish, and the precision-recall curve of stage 7 wants "
    "the best score first. Sort once more by score before you cut, or compare shifted boxes without a loop.",
)
non_maximum_suppression.misconception(
    "places in the sorted list returned",
    swap=("torch.stack(kept) if", "scores.argsort(descending=True).argsort()[torch.stack(kept)] if"),
    because="After sorting, place 0 is the best box and not box 0 of the input. Indexing with the result gives the "
    "boxes of others, with scores that do not belong to them. Return the indices that the sort gave you.",
)
non_maximum_suppression.misconception(
    "the boxes themselves returned",
    swap=("torch.stack(kept) if", "boxes[torch.stack(kept)] if"),
    because="The caller also needs the scores and the classes of the kept boxes, and `predict` takes all three by "
    "index. Boxes as an index raise an error. Return the indices.",
)
non_maximum_suppression.misconception(
    "with nothing kept, floats come back",
    swap=("torch.stack(kept) if kept else waiting[:0]", "torch.tensor([int(index) for index in kept])"),
    because="torch.tensor of an empty list cannot know that it should hold whole numbers and makes floats. Every "
    "image with a detection works, and the first one without ends `predict` with an IndexError, because floats are no "
    "index. Say dtype=torch.long.",
)
