"""Stage 6: the loss of the detector."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import torch
from torch import Tensor

from yolostudy.study.exercise import Exercise

from ._fixtures import gradient, ramp, values

# ---- DistributionFocalLoss -----------------------------------------------------------------------

distribution_focal_loss = Exercise(
    "losses.DistributionFocalLoss",
    stage=6,
    points=2,
    minutes=15,
    after="boxes.expected_distance",
    goal="Pull a distribution towards the two bins around the true distance.",
    hints=(
        "A distance of 3.2 lies between the bins 3 and 4. Which of the two is nearer, and which weight does each get?",
        "You need two numbers of the log-softmax: at the lower bin and at the one above it. gather picks one bin of "
        "each row; its index needs as many axes as the logits.",
        "The weight of the upper bin is the distance minus its whole part; the lower bin gets the rest of 1. The "
        "result keeps the shape of the distances. Give it the sign that makes it at least 0.",
    ),
)


@distribution_focal_loss.probe("one distribution, distance after distance")
def _(course):
    distances = torch.tensor([0.0, 0.3, 1.0, 2.5, 3.9, 4.6])
    return {"loss": course.losses.DistributionFocalLoss()(3 * ramp(7).expand(6, 7), distances)}


@distribution_focal_loss.probe("four edges of three anchors")
def _(course):
    distances = values(3, 4, low=0.1, high=6.4, seed=11)
    return {"loss": course.losses.DistributionFocalLoss()(values(3, 4, 8, low=-2, high=2, seed=12), distances)}


@distribution_focal_loss.probe("a distribution that is very sure")
def _(course):
    logits = torch.tensor([[300.0, 0, 10, 0, 0], [0, 90, 0, 200, 0]])
    return {"loss": course.losses.DistributionFocalLoss()(logits, torch.tensor([2.25, 0.5]))}


@distribution_focal_loss.probe("the gradient on the bins")
def _(course):
    logits = values(2, 4, 6, low=-2, high=2, seed=13).requires_grad_()
    loss = course.losses.DistributionFocalLoss()(logits, values(2, 4, low=0.1, high=4.4, seed=14))
    return {"gradient": gradient(loss.sum(), logits)}


distribution_focal_loss.misconception(
    "the two weights are swapped",
    swap=(
        "at_lower * (1 - upper_weight) + at_upper * upper_weight",
        "at_lower * upper_weight + at_upper * (1 - upper_weight)",
    ),
    because="A distance of 3.2 then trains bin 4 more than bin 3, and the edges of every box end on the wrong side of "
    "the middle between two bins. Boxes stay off by up to one stride however long you train. The nearer bin gets the "
    "larger weight.",
)
distribution_focal_loss.misconception(
    "the distance is rounded instead of cut",
    swap=("distances.long()", "distances.round().long()"),
    because="3.8 becomes 4, the two bins are 4 and 5 and the weight of the upper one is negative: the loss rewards "
    "what it should punish. Near the last bin the index leaves the distribution. Take the bin below.",
)
distribution_focal_loss.misconception(
    "only the lower bin is trained",
    swap=("at_lower * (1 - upper_weight) + at_upper * upper_weight", "at_lower"),
    because="That is plain classification into whole strides: 3.0 and 3.9 have the same target. Edges can only lie on "
    "multiples of the stride, and the IoU stops rising early. Divide the target between both bins.",
)
distribution_focal_loss.misconception(
    "the softmax is applied twice",
    swap=("F.log_softmax(logits, dim=-1)", "F.log_softmax(logits.softmax(dim=-1), dim=-1)"),
    because="log_softmax contains the softmax. Applied to probabilities it flattens them, so the loss can never come "
    "near 0 and its gradient is weak. Pass it the raw logits.",
)
distribution_focal_loss.misconception(
    "the softmax underflows before the logarithm",
    swap=("F.log_softmax(logits, dim=-1)", "logits.softmax(dim=-1).log()"),
    because="A probability below 1e-45 is 0 in float32, and its logarithm is minus infinity. The loss becomes "
    "infinite exactly where the network is sure and wrong, and the next step is NaN. log_softmax computes both in one "
    "and stays finite.",
)
distribution_focal_loss.misconception(
    "the losses are already averaged",
    swap=(
        "return -(at_lower * (1 - upper_weight) + at_upper * upper_weight)",
        "return -(at_lower * (1 - upper_weight) + at_upper * upper_weight).mean()",
    ),
    because="One number for all edges can no longer be weighed by each anchor's target score. A poor positive then "
    "counts as much as the best one. Return one loss for each distribution.",
)
distribution_focal_loss.misconception(
    "the minus sign is missing",
    swap=("return -(", "return ("),
    because="Logarithms of probabilities are negative, so this loss falls without end while the distributions move "
    "away from their targets. A cross-entropy is minus the weighted sum.",
)

# ---- BoxLoss -------------------------------------------------------------------------------------

box_loss = Exercise(
    "losses.BoxLoss",
    stage=6,
    points=3,
    minutes=20,
    after=(
        "losses.DistributionFocalLoss",
        "boxes.complete_iou",
        "boxes.expected_distance",
        "boxes.distance_to_box",
        "boxes.box_to_distance",
    ),
    goal="Measure how good the boxes of the foreground are, and where their edges should have been.",
    hints=(
        "Two losses from the same logits: one looks at the decoded boxes, the other at the distributions themselves.",
        "The box loss of an anchor is 1 minus the complete IoU of its decoded box and its target. For the other loss, "
        "turn the target boxes into distances and the logits into four rows of R bins.",
        "The distribution loss of an anchor is the mean over its four edges. Weigh each anchor's loss by its weight, "
        "then sum. Divide by nothing: an empty sum is 0, an empty mean is NaN.",
    ),
)


def foreground(reg_max: int, count: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, anchors, target boxes and weights of a few foreground anchors.

    One edge of the first target lies beyond the last bin.
    """
    anchors = values(count, 2, low=3, high=9, seed=21).floor() + 0.5
    reach = values(count, 4, low=0.4, high=reg_max - 1.5, seed=22)
    if count:
        reach[0, 2] = reg_max + 3
    boxes = torch.cat((anchors - reach[:, :2], anchors + reach[:, 2:]), dim=-1)
    return (
        values(count, 4 * reg_max, low=-3, high=3, seed=23).requires_grad_(),
        anchors,
        boxes,
        values(count, low=0.1, high=1.2, seed=24),
    )


@box_loss.probe("five positives, 16 bins")
def _(course):
    box, dfl = course.losses.BoxLoss()(*foreground(16))
    return {"box": box, "dfl": dfl}


@box_loss.probe("five positives, 6 bins")
def _(course):
    box, dfl = course.losses.BoxLoss(6)(*foreground(6))
    return {"box": box, "dfl": dfl}


@box_loss.probe("a box on the wrong side of its anchor", atol=1e-6)
def _(course):
    logits = torch.zeros(1, 4, 8)
    # the box lies far to the left, its target far to the right: the complete IoU is below 0
    for side, bin in enumerate((6, 3, 0, 3)):
        logits[0, side, bin] = 6.0
    logits = logits.flatten(1).requires_grad_()
    target = torch.tensor([[8.2, 4.0, 14.5, 12.5]])
    box, dfl = course.losses.BoxLoss(8)(logits, torch.tensor([[8.5, 8.5]]), target, torch.tensor([0.7]))
    return {"box": box, "dfl": dfl, "gradient of the box loss": gradient(box, logits)}


@box_loss.probe("the gradients on the logits", atol=1e-6)
def _(course):
    logits, *rest = foreground(8)
    box, dfl = course.losses.BoxLoss(reg_max=8)(logits, *rest)
    return {"of the box loss": gradient(box, logits), "of the distribution loss": gradient(dfl, logits)}


@box_loss.probe("no foreground at all")
def _(course):
    logits, *rest = foreground(16, count=0)
    box, dfl = course.losses.BoxLoss()(logits, *rest)
    return {"box": box, "dfl": dfl, "gradient": gradient(box + dfl, logits)}


box_loss.misconception(
    "the mean instead of the sum",
    swap=[
        ("target_boxes)) * weight).sum()", "target_boxes)) * weight).mean()"),
        (".mean(dim=-1) * weight).sum()", ".mean(dim=-1) * weight).mean()"),
    ],
    because="The caller divides by the sum of all target scores, so this divides twice and the loss gets smaller with "
    "the number of positives. Without any foreground the mean is 0 / 0, and NaN reaches the weights. Sum.",
)
box_loss.misconception(
    "the weight is forgotten in the box loss",
    swap=("(1 - complete_iou(boxes, target_boxes)) * weight", "(1 - complete_iou(boxes, target_boxes))"),
    because="Every positive then counts the same, also one at the border of the object that will never give its final "
    "box. The best anchors lose their lead. Multiply by the anchor's target score.",
)
box_loss.misconception(
    "the weight is forgotten in the distribution loss",
    swap=(".mean(dim=-1) * weight).sum()", ".mean(dim=-1)).sum()"),
    because="The division by the sum of target scores only makes sense if every term carries its score. The "
    "distribution loss is then too large, and early in training many times too large. Multiply both losses by the "
    "weight.",
)
box_loss.misconception(
    "the overlap itself is the loss",
    swap=("(1 - complete_iou(boxes, target_boxes))", "complete_iou(boxes, target_boxes)"),
    because="Training makes a loss small. This one teaches the boxes to avoid their objects, and the total falls "
    "nicely while mAP stays at 0. The loss is 1 minus the overlap.",
)
box_loss.misconception(
    "plain IoU instead of complete IoU",
    swap=[
        ("        boxes = distance_to_box(", "        from .boxes import box_iou\n\n        boxes = distance_to_box("),
        ("complete_iou(boxes, target_boxes)", "box_iou(boxes, target_boxes).diagonal()"),
    ],
    because="Plain IoU is the same for two boxes of equal overlap, however far their centres are from the target's "
    "and however different their shapes are. Boxes become precise later, and no number agrees with Ultralytics'. The "
    "complete IoU counts both.",
)
box_loss.misconception(
    "the four edges are summed",
    swap=(".mean(dim=-1) * weight).sum()", ".sum(dim=-1) * weight).sum()"),
    because="The distribution loss is then four times what its gain of 1.5 was chosen for, and it drowns the box "
    "loss. Take the mean over the four edges of an anchor.",
)
box_loss.misconception(
    "without foreground a constant is returned",
    swap=(
        "        boxes = distance_to_box(",
        "        if not len(logits):\n            return torch.tensor(0.0), torch.tensor(0.0)\n        boxes = "
        "distance_to_box(",
    ),
    because="The value is right, but no gradient can flow through a number that was not computed from the logits: a "
    "backward pass through this loss alone stops with an error, and with several processes the parameters of the box "
    "branches wait for a gradient that never comes. Leave the special case out: a sum over no rows is 0 and has a "
    "gradient.",
)
box_loss.misconception(
    "the bins of the four edges are mixed",
    swap=("logits.unflatten(-1, (4, self.reg_max))", "logits.unflatten(-1, (self.reg_max, 4)).transpose(-1, -2)"),
    because="The first R numbers belong to the left edge, the next R to the top, and so on. Read in the other order, "
    "each edge is trained on bins that the decoder gives to others: the two losses pull against each other and "
    "neither falls. Split the 4 R numbers into four rows of R.",
)
box_loss.misconception(
    "the targets are always cut at 16 bins",
    swap=("box_to_distance(anchors, target_boxes, self.reg_max)", "box_to_distance(anchors, target_boxes)"),
    because="By default box_to_distance clamps to 16 bins. With fewer bins, an object that is larger than they reach "
    "asks for a bin that does not exist. Pass reg_max on.",
)

# ---- pad_targets ---------------------------------------------------------------------------------

pad_targets = Exercise(
    "losses.pad_targets",
    stage=6,
    points=2,
    minutes=20,
    goal="Turn the list of a batch's objects into one block with a row of slots for each image.",
    hints=(
        "Column 0 says which image a row belongs to. The block has as many slots as the image with the most objects "
        "has objects, and one slot if there are no objects.",
        "A loop over the images works: pick the rows of one image and write them into its first slots. Do not rely on "
        "the order of the rows, and make room for images at the end that have no object.",
        "Column 1 of a row is the class, columns 2 to 5 are the box. The mask follows from the boxes: a slot is real "
        "if its four coordinates add up to more than 0. A batch without objects returns three tensors like every "
        "other.",
    ),
)

# shuffled; image 1 has no object, nor has image 4 of a batch of five; class 0 occurs
ROWS = torch.tensor(
    [
        [2.0, 1, 33, 2, 62, 30],
        [0, 2, 6, 9, 45, 39],
        [3, 4, 11, 12, 31, 52],
        [2, 0, 10, 14, 50, 50],
        [0, 0, 17, 13, 58, 47],
        [2, 3, 5, 41, 27, 63],
    ]
)


def listed(labels: Tensor, boxes: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The real objects of each image, class and box, sorted: within an image any order is right."""
    found = []
    for own_labels, own_boxes, real in zip(labels, boxes, mask.bool(), strict=True):
        objects = torch.cat((own_labels[real, None].to(own_boxes.dtype), own_boxes[real]), dim=1)
        found.append(objects[objects[:, 1].argsort()])  # no two in an image have the same left edge
    return {f"image {number}, class and box": objects for number, objects in enumerate(found)}


@pad_targets.probe("the padding")
def _(course):
    targets = ROWS.clone()
    labels, boxes, mask = course.losses.pad_targets(targets, 5)
    kinds = {"labels": str(labels.dtype), "boxes are floats": boxes.is_floating_point(), "mask": str(mask.dtype)}
    seen = {
        "kinds": kinds,
        "shapes": {
            "labels": str(tuple(labels.shape)),
            "boxes": str(tuple(boxes.shape)),
            "mask": str(tuple(mask.shape)),
        },
        "mask": mask,
        "targets afterwards": targets,
    }
    if mask.shape == labels.shape == boxes.shape[:2]:
        padding = ~mask.bool()
        seen |= {"labels of the padding": labels[padding], "boxes of the padding": boxes[padding]}
    return seen


@pad_targets.probe("the objects of each image")
def _(course):
    return listed(*course.losses.pad_targets(ROWS.clone(), 5))


@pad_targets.probe("one image alone")
def _(course):
    rows = ROWS[ROWS[:, 0] == 2] * torch.tensor([0.0, 1, 1, 1, 1, 1])
    labels, boxes, mask = course.losses.pad_targets(rows, 1)
    return {**listed(labels, boxes, mask), "mask": mask}


@pad_targets.probe("boxes of zeros, outside the image, and in its corner")
def _(course):
    odd = torch.tensor([[0.0, 3, 0, 0, 0, 0], [1, 1, -40, -30, 20, 10], [1, 2, -5, 3, 20, 30], [3, 1, 0, 0, 0.5, 0.25]])
    labels, boxes, mask = course.losses.pad_targets(torch.cat((ROWS, odd)), 4)
    return {"real in each image": mask.sum(dim=1), **listed(labels, boxes, mask)}


@pad_targets.probe("a batch without objects")
def _(course):
    labels, boxes, mask = course.losses.pad_targets(torch.zeros(0, 6), 3)
    return {"labels": labels, "boxes": boxes, "mask": mask}


pad_targets.misconception(
    "the rows are taken to be in the order of the images",
    swap=("    targets, image = targets[order], image[order]\n", ""),
    because="The place of a row in its image is counted from the image's first row, which is right only if the rows "
    "are sorted. A loader that shuffles or mixes images gives other orders, and objects overwrite one another or get "
    "into the wrong image. Sort by image first.",
)
pad_targets.misconception(
    "each object overwrites the one before",
    swap=("torch.arange(len(image), device=targets.device) - first[image]", "torch.zeros_like(image)"),
    because="Every object of an image goes into slot 0, and only one of them survives. The others are trained as "
    "background, and recall stays low in images with several objects. Count up within each image.",
)
pad_targets.misconception(
    "every slot counts as real",
    swap=("boxes.sum(dim=-1) > 0", "torch.ones_like(labels, dtype=torch.bool)"),
    because="The assigner takes the padding for objects of class 0 in the upper left corner. Images with few objects "
    "get positives that predict nothing. The mask is False on padding.",
)
pad_targets.misconception(
    "class 0 looks like padding",
    swap=("boxes.sum(dim=-1) > 0", "labels > 0"),
    because="Class 0 is a class like any other. Its objects vanish from training and its AP stays at 0, while all "
    "other classes learn. Compute the mask from the boxes.",
)
pad_targets.misconception(
    "a box of zeros counts as real",
    swap=("boxes.sum(dim=-1) > 0", "torch.arange(block.shape[1], device=targets.device) < counts[:, None]"),
    because="Augmentation can leave a box of zeros behind, and Ultralytics takes it for padding. If it counts as "
    "real, it is enlarged to 16 pixels and gets positives in the corner. A slot is real if its coordinates add up to "
    "more than 0.",
)
pad_targets.misconception(
    "the class is read from the image's column",
    swap=("block[image, place] = targets[:, 1:]", "block[image, place] = targets[:, [0, 2, 3, 4, 5]]"),
    because="Column 0 is the number of the image in the batch. Read as the class, it trains every object of the "
    "second image as class 1, and the class loss never settles. The class is in column 1.",
)
pad_targets.misconception(
    "a batch without objects has no slot",
    swap=("max(1, int(counts.max()))", "int(counts.max())"),
    because="Blocks without a slot have no largest element and no first one, and the assigner fails on the first "
    "batch without objects, perhaps hours after the start. Keep one slot of padding.",
)
pad_targets.misconception(
    "the batch ends with the last image that has an object",
    swap=[
        ("torch.bincount(image, minlength=batch_size)", "torch.bincount(image)"),
        ("targets.new_zeros(batch_size,", "targets.new_zeros(len(counts),"),
    ],
    because="Images without objects at the end of the batch have no row here, and the block no longer fits the scores "
    "of the network. The targets alone cannot tell the batch size; that is why it is an argument.",
)
pad_targets.misconception(
    "without objects the six columns are handed back",
    swap=(
        "    image = targets[:, 0].long()\n",
        "    if not len(targets):\n        return targets\n    image = targets[:, 0].long()\n",
    ),
    because="The caller unpacks three tensors and gets a table of six columns without a row. It fails on the first "
    "batch without objects, not before. The general code needs no special case if there is always one slot.",
    museum=42,
)

# ---- DetectionLoss -------------------------------------------------------------------------------

detection_loss = Exercise(
    "losses.DetectionLoss",
    stage=6,
    points=5,
    minutes=45,
    after=("losses.BoxLoss", "losses.pad_targets", "assigner.TaskAlignedAssigner", "boxes.make_anchors"),
    goal="Join assigner and losses into the one number that training minimises.",
    hints=(
        "Draw the way first: maps, flattened, split into distributions and class logits; decoded boxes and scores to "
        "the assigner; its targets to three losses. Note the unit beside each arrow: pixels or strides.",
        "The assigner wants probabilities, and boxes and anchor points in pixels. Detach them here: do not rely on "
        "the assigner to stop the gradient. The box loss wants anchors and targets in strides, and the foreground "
        "only. The class loss takes every anchor.",
        "Every part is a sum over the batch divided by one normaliser. Sum all target scores; sum_over_processes "
        "gives their sum over all processes, and the number of processes. Raise the sum to at least 1, then divide it "
        "by that number. The gains are applied below your lines.",
    ),
)

CLASSES, BINS, SIDE = 3, 8, 64
DETECTOR = SimpleNamespace(num_classes=CLASSES, reg_max=BINS, strides=(8, 16, 32))
# shuffled; two objects in image 0, none in image 1, one in image 2
OBJECTS = torch.tensor([[2.0, 1, 13, 9, 45, 57], [0, 2, 9, 10, 47, 42], [0, 0, 15, 14, 54, 49]])


def raw_maps(
    targets: Tensor, images: int, strides: tuple[int, ...] = DETECTOR.strides, side: int = SIDE
) -> list[Tensor]:
    """Three maps as of a network that already detects its objects roughly.

    They are leaves, so that they can have a gradient.
    """
    maps = []
    for level, stride in enumerate(strides):
        count = side // stride
        centres = (torch.arange(count) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        # (B, 4, H, W)
        boxes = torch.tensor([[20.0, 20, 44, 44]]).repeat(images, 1)[:, :, None, None].repeat(1, 1, count, count)
        for image in range(images):
            own = targets[targets[:, 0] == image, 2:]
            if len(own):
                middle = (own[:, :2] + own[:, 2:]) / 2
                away = (torch.stack((x, y)) - middle[:, :, None, None]).square().sum(dim=1).sqrt()  # (G, H, W)
                boxes[image] = torch.einsum("gyx,gs->syx", (away / -10).softmax(dim=0), own)
        # (B, 4, H, W)
        reach = torch.stack((x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y), dim=1) / stride
        reach = reach + values(*reach.shape, low=-0.3, high=0.3, seed=31 + level)
        bins = torch.arange(BINS).view(1, 1, -1, 1, 1)
        peaks = -2 * (bins - reach[:, :, None]).square() + values(
            images, 4, BINS, count, count, low=-1, high=1, seed=34 + level
        )
        classes = values(images, CLASSES, count, count, low=-3, high=2, seed=37 + level)
        maps.append(torch.cat((peaks.flatten(1, 2), classes), dim=1).requires_grad_())
    return maps


def slopes(total: Tensor, maps: list[Tensor]) -> dict:
    """The gradient of the total on class logits and distributions, all levels concatenated."""
    found = [gradient(total, level) for level in maps]  # a sentence if none arrives; counts as 0 below
    flat = torch.cat(
        [(torch.zeros_like(m) if isinstance(g, str) else g).flatten(2) for g, m in zip(found, maps, strict=True)], dim=2
    )
    parts = {"on the class logits": flat[:, 4 * BINS :], "on the distributions": flat[:, : 4 * BINS]}
    return {name: part if part.isfinite().all() else "infinite or NaN" for name, part in parts.items()}


class Spy:
    """Record what an assigner is given for images with objects.

    It may be called once for the batch, or once for each image. Calls about images without objects
    are not recorded, because an answer may leave them out.
    """

    def __init__(self, assigner):
        self.assigner, self.seen, self.with_gradient = assigner, [], False

    def __call__(self, *inputs, **named):
        given = inspect.signature(type(self.assigner).__call__).bind(self.assigner, *inputs, **named).arguments
        self.with_gradient |= torch.is_grad_enabled() and (
            given["scores"].requires_grad or given["boxes"].requires_grad
        )
        busy = given["gt_mask"].any(dim=1)
        if busy.any():
            own = {name: given[name][busy].detach() for name in ("scores", "boxes", "gt_boxes", "gt_mask")}
            self.seen.append(own | {"anchors": given["anchors"]})
        return self.assigner(*inputs, **named)

    def told(self) -> dict:
        def extremes(name: str) -> dict:
            found = torch.cat([call[name].flatten() for call in self.seen])
            return {"smallest": found.min(), "largest": found.max()}

        if not self.seen:
            return {"objects": "none"}
        return {
            "objects": sum(int(call["gt_mask"].sum()) for call in self.seen),
            "shape of the boxes, without the batch": str(tuple(self.seen[0]["boxes"].shape[1:])),
            "scores": extremes("scores"),
            "boxes, pixels": extremes("boxes"),
            "anchors, pixels": extremes("anchors"),
            "boxes of the objects, pixels": extremes("gt_boxes"),
            "something that carries a gradient": bool(self.with_gradient),
        }


@detection_loss.probe("what the assigner is given")
def _(course):
    loss = course.losses.DetectionLoss(DETECTOR)
    loss.assigner = spy = Spy(loss.assigner)
    try:
        loss(raw_maps(OBJECTS, 3), OBJECTS.clone())
    except Exception:
        if not spy.seen:
            raise
    return spy.told()


@detection_loss.probe("three images: two objects, none, one")
def _(course):
    parts = course.losses.DetectionLoss(DETECTOR)(raw_maps(OBJECTS, 3), OBJECTS.clone())
    return {"box": parts.box, "cls": parts.cls, "dfl": parts.dfl, "total": parts.total}


@detection_loss.probe("the gradients, with an assigner that would let them through", rtol=1e-3, atol=1e-6)
def _(course):
    loss, maps = course.losses.DetectionLoss(DETECTOR), raw_maps(OBJECTS, 3)
    assigner = loss.assigner
    without_no_grad = type(assigner).__call__.__wrapped__
    loss.assigner = lambda *inputs, **named: without_no_grad(assigner, *inputs, **named)
    return slopes(loss(maps, OBJECTS.clone()).total, maps)


@detection_loss.probe("a batch without objects", rtol=1e-3, atol=1e-6)
def _(course):
    maps = raw_maps(OBJECTS, 2)
    parts = course.losses.DetectionLoss(DETECTOR)(maps, torch.zeros(0, 6))
    return {"box": parts.box, "cls": parts.cls, "dfl": parts.dfl, **slopes(parts.total, maps)}


@detection_loss.probe("a detector with other strides")
def _(course):
    strides, targets = (4, 8, 16), OBJECTS * torch.tensor([1, 1, 0.5, 0.5, 0.5, 0.5])
    maps = raw_maps(targets, 3, strides, SIDE // 2)
    parts = course.losses.DetectionLoss(SimpleNamespace(num_classes=CLASSES, reg_max=BINS, strides=strides))(
        maps, targets
    )
    return {"box": parts.box, "cls": parts.cls, "dfl": parts.dfl}


@detection_loss.probe("one tiny object, seen badly")
def _(course):
    tiny = torch.tensor([[0.0, 1, 26, 27, 32, 33]])
    parts = course.losses.DetectionLoss(DETECTOR)(raw_maps(tiny + torch.tensor([0, 0, -3, -2, 3, 4]), 1), tiny)
    return {"box": parts.box, "cls": parts.cls, "dfl": parts.dfl}


@detection_loss.probe("maps in half precision", rtol=1e-3)
def _(course):
    maps = [level.detach().bfloat16() for level in raw_maps(OBJECTS, 3)]
    parts = course.losses.DetectionLoss(DETECTOR)(maps, OBJECTS.clone())
    return {"total": parts.total, "type": str(parts.total.dtype).replace("float64", "float32")}


@detection_loss.probe("two processes")
def _(course):
    """How the parts change if the other process has three times the sum of target scores.

    A loss that never asks for the sum over processes passes.
    """
    module, asked = course.losses, []
    alone = module.sum_over_processes

    def two(value):
        asked.append(value)
        return 4 * value, 2

    before = module.DetectionLoss(DETECTOR)(raw_maps(OBJECTS, 3), OBJECTS.clone())
    try:
        module.sum_over_processes = two
        after = module.DetectionLoss(DETECTOR)(raw_maps(OBJECTS, 3), OBJECTS.clone())
    finally:
        module.sum_over_processes = alone
    names = ("total", "box", "cls", "dfl")
    shrunk = {name: getattr(after, name) / getattr(before, name) if asked else torch.tensor(0.5) for name in names}
    return {"four times the sum, shared by two: each part against that of one process": shrunk}


detection_loss.misconception(
    "the assigner gets raw distributions instead of boxes",
    swap=(
        "distance_to_box(anchors, expected_distance(box_logits.detach(), self.reg_max)) * strides",
        "box_logits.detach() * strides",
    ),
    because="A row of 4 R bins is no box of four coordinates, and the first function that unpacks it fails far from "
    "here. The assigner's docstring gives the shape that it wants: (B, A, 4), pixels. Decode first.",
    museum=7,
)
detection_loss.misconception(
    "the sigmoid is missing",
    swap=("class_logits.detach().sigmoid()", "class_logits.detach()"),
    because="The assigner raises the scores to the power 0.5, and the root of a negative logit is NaN. From the first "
    "step every loss is NaN, although no formula of the loss is wrong. Pass probabilities.",
    museum=8,
)
detection_loss.misconception(
    "divided by the bare sum of target scores",
    swap=("total.clamp(min=1) / processes", "total / processes"),
    because="In a batch without objects the sum is 0: the box and distribution losses become 0 / 0 = NaN, the class "
    "loss infinite, and one optimizer step spreads that over all weights. Let the sum count as at least 1.",
    museum=9,
)
detection_loss.misconception(
    "the sum is kept from 0, but not from being tiny",
    swap=("total.clamp(min=1)", "total.clamp(min=1e-9)"),
    because="There is no NaN any more, but a batch whose only object is tiny may have a sum of 0.01 and a loss a "
    "hundred times too large; one without objects divides by 1e-9. The loss explodes now and then for no visible "
    "reason. The lower limit is 1.",
    museum=32,
)
detection_loss.misconception(
    "boxes and anchors stay in strides for the assigner",
    swap=[
        (
            "expected_distance(box_logits.detach(), self.reg_max)) * strides",
            "expected_distance(box_logits.detach(), self.reg_max))",
        ),
        ("predicted, anchors * strides, labels", "predicted, anchors, labels"),
    ],
    because="The ground truths are in pixels. In strides all levels lie on top of each other in the upper left "
    "corner, and hardly an anchor is inside its object: count the foreground. Multiply boxes and anchors by their "
    "stride.",
    museum=10,
)
detection_loss.misconception(
    "the anchors stay in strides for the assigner",
    swap=("predicted, anchors * strides, labels", "predicted, anchors, labels"),
    because="The predicted boxes have been multiplied, but the anchor points have not: read as pixels they all lie in "
    "the upper left corner, inside hardly any object. Next to nothing is assigned, and box and distribution loss are "
    "near 0 from the first step. Multiply the anchors by their strides too.",
    museum=10,
)
detection_loss.misconception(
    "the predicted boxes stay in strides for the assigner",
    swap=(
        "expected_distance(box_logits.detach(), self.reg_max)) * strides",
        "expected_distance(box_logits.detach(), self.reg_max))",
    ),
    because="The anchors have been multiplied, so there are candidates. But the predicted boxes are 8 to 32 times too "
    "small and lie in the upper left corner: their overlaps with the objects are almost 0, and so are the target "
    "scores. Decoding gives strides. Multiply the boxes by their strides too.",
    museum=10,
)
detection_loss.misconception(
    "the target boxes are not divided by the stride",
    swap=("assigned.boxes[image, anchor] / strides[anchor]", "assigned.boxes[image, anchor]"),
    because="The box loss works in strides, because bins count strides. Against targets in pixels every IoU is tiny "
    "and every distance is clamped to the last bin, so the boxes learn only to be large. Divide by the stride of each "
    "anchor.",
    museum=11,
)
detection_loss.misconception(
    "the class loss sees the foreground only",
    swap=(
        'F.binary_cross_entropy_with_logits(class_logits, assigned.scores, reduction="sum")',
        "F.binary_cross_entropy_with_logits(class_logits[assigned.foreground], assigned.scores[assigned.foreground], "
        'reduction="sum")',
    ),
    because="Nothing teaches the background that it is background. Its scores never fall, and the detector fires "
    "everywhere while the loss looks better than ever. Every anchor takes part in the class loss; a background anchor "
    "has target scores of 0.",
    museum=12,
)
detection_loss.misconception(
    "what the assigner gets is not detached",
    swap=[("box_logits.detach()", "box_logits"), ("class_logits.detach()", "class_logits")],
    because="The targets are made from predictions. If the gradient flows through them, the network may move the "
    "targets towards its answers instead of its answers towards the targets, and it learns more slowly. Detach both "
    "inputs here, and no assigner can spoil it.",
    museum=13,
)
detection_loss.misconception(
    "a batch without objects returns a loss of 0 early",
    swap=(
        "        labels, boxes, mask = pad_targets(targets, len(logits))\n",
        "        labels, boxes, mask = pad_targets(targets, len(logits))\n"
        "        if not mask.any():\n"
        "            nothing = logits.sum() * 0\n"
        "            return LossParts(nothing, nothing, nothing, nothing)\n",
    ),
    because="Empty images show nothing but background, and this drops what they teach: the gradient on their class "
    "logits. False alarms on empty scenes remain. The general code works without objects too.",
    museum=15,
)
detection_loss.misconception(
    "the mask of anchors is given for the mask of real boxes",
    swap=("labels, boxes, mask)\n        total", "labels, boxes, predicted.sum(dim=-1) > 0)\n        total"),
    because="Both are called a mask, but this one has a column for each anchor, and the assigner wants one for each "
    "ground truth. It ends in a shape error, or, if broadcasting hides that, in an index out of range. pad_targets "
    "gives the right one.",
)
detection_loss.misconception(
    "the class loss is a mean over anchors and classes",
    swap=('reduction="sum"', 'reduction="mean"'),
    because="The mean divides by the number of anchors times that of classes, 168,000 for 20 classes at 640 pixels, "
    "and the normaliser divides once more. The class loss is as good as switched off, and scores never rise. Sum, "
    "then divide by the normaliser like the other parts.",
)
detection_loss.misconception(
    "divided by the number of positives",
    swap=("total.clamp(min=1) / processes", "assigned.foreground.sum().clamp(min=1) / processes"),
    because="Every part carries the target scores as weights, so it has to be divided by their sum. Early in training "
    "the scores are small, and divided by the number of positives the loss is too small by the same factor. Sum the "
    "target scores.",
)
detection_loss.misconception(
    "the number of processes is thrown away",
    swap=("total.clamp(min=1) / processes", "total.clamp(min=1)"),
    because="With one process all is well. With four graphics cards each divides by the sum of all four, and then the "
    "gradients are averaged over the four. That divides a second time, and every step is a quarter as long as it "
    "should be. sum_over_processes also returns the number of processes: divide the sum by it.",
)
detection_loss.misconception(
    "the maps stay in half precision",
    swap=("flatten_maps(maps).float()", "flatten_maps(maps)"),
    because="Under autocast the maps come in half precision, and the assigner stops at numbers of two precisions in "
    "one operation. Where it does not stop, digits are lost: a float16 of 2048 no longer grows when 1 is added. "
    "Without autocast nothing shows, so the mistake waits for the graphics card of stage 7. Turn the maps into "
    "float32 before anything else.",
)
detection_loss.misconception(
    "the gains are applied twice",
    swap=(
        '{"box": box / normaliser, "cls": cls / normaliser, "dfl": dfl / normaliser}',
        '{"box": box * self.gains["box"] / normaliser, "cls": cls * self.gains["cls"] / normaliser, "dfl": dfl * '
        'self.gains["dfl"] / normaliser}',
    ),
    because="The lines below yours multiply by the gains already. The box loss then counts 56 times instead of 7.5 "
    "times, the class loss a quarter, and scores stay low. Return the parts without their gains.",
)
detection_loss.misconception(
    "class logits and distributions change places",
    swap=(
        "logits.split((4 * self.reg_max, logits.shape[-1] - 4 * self.reg_max), dim=-1)",
        "logits.split((logits.shape[-1] - 4 * self.reg_max, 4 * self.reg_max), dim=-1)[::-1]",
    ),
    because="The head puts the 4 R bins first and the C classes behind them. Split at the wrong end, the bins of the "
    "left edge are read as classes. It trains, but neither decode nor any other tool can read the network. Split in "
    "the head's order.",
)
detection_loss.misconception(
    "the anchors go to the box loss in pixels",
    swap=("            anchors[anchor],\n", "            (anchors * strides)[anchor],\n"),
    because="The targets are in strides, so every box lies far from its target and all distances are clamped to 0 or "
    "to the last bin. Box and distribution loss hardly fall. Everything that enters the box loss is in strides.",
)
