"""Anchor-aided training: a second branch, with anchors, that learns beside the first and is dropped.

    neck ── towers of the head ─┬─ last convolutions ─────── raw maps of stage 3, the detector
                                └─ `AnchorBranch`, n boxes at every position ── `AnchorLoss`

The detector says at each position one box, from nothing. The branch says n boxes, each as a change
of an anchor: a box of a fixed size. Its loss is added, so its gradient shapes what both read: the
towers of the head, the neck and the backbone. Inference needs only the first, and the branch lives
in the loss: no state dict of the model, no averaged copy and no exported file ever has it.

As YOLOv6 does: one 1 × 1 convolution for boxes and one for classes at each level, on what the
head's own last convolutions read; x = anchor point + raw; w = anchor · (2σ(raw))²; no distributions;
a task-aligned assignment of its own with twice the detector's positives; the sum of both losses.
Ours differs in: gains and class loss, which are those of the detector's loss; an untrained branch
answers with its anchors; and the anchors. YOLOv6 has nine fixed sizes, of COCO at 640 pixels. They
fit no other data, so ours are the cluster centres of the training boxes, see `cluster_sizes`.

Sources: YOLOv6 `yolov6/models/heads/effidehead_fuseab.py`, `yolov6/models/losses/loss_fuseab.py`;
Li et al. 2023, YOLOv6 v3.0, section 2.2; Redmon and Farhadi 2017, YOLO9000, section 2.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..assigner import TaskAlignedAssigner
from ..boxes import complete_iou, flatten_maps, make_anchors
from ..bridge.dfl_distillation import add_part
from ..data.letterbox import fit_inside
from ..data.records import DataError, DetectionSet
from ..engine import Hook, Trainer
from ..losses import pad_targets, sum_over_processes
from ..training import build_optimizer
from .presets import Preset, PresetError

PER_LEVEL = 3  # anchors at each position, as YOLOv6 has
POSITIVES = 20  # of an object, over the anchors of all positions: twice the detector's, as YOLOv6 has 26 and 13

# Anchors
# --------------------------------------------------------------------------------------------------


def training_sizes(detection_set: DetectionSet, image_size: int, quarter_turns: bool = False) -> Tensor:
    """Width and height of every object, in pixels of the letterbox.

    What mosaic and scaling do to sizes is left out.

    Args:
        quarter_turns: whether images are turned. Then each box counts lying and standing.

    Returns:
        (N, 2) float32.

    Errors: DataError where no image has an object.
    """
    sizes = []
    for record in detection_set.records:
        placement, _ = fit_inside(*record.size, (image_size, image_size))
        scale = np.float32([placement.scale_x, placement.scale_y])
        sizes.append((record.boxes[:, 2:] - record.boxes[:, :2]) * scale)
    found = torch.from_numpy(np.concatenate(sizes)) if sizes else torch.empty(0, 2)
    if not len(found):
        raise DataError(
            f"{detection_set.name}: no image has an object, and fuse_ab takes its anchors from the objects' sizes. "
            "Give data with boxes, or leave fuse_ab out."
        )
    return torch.cat((found, found.flip(1))) if quarter_turns else found


def cluster_sizes(sizes: Tensor, count: int, rounds: int = 50) -> Tensor:
    """The centres of `count` clusters of box sizes, by k-means with the distance 1 - IoU.

    The IoU is that of two boxes with one centre, so that a large box does not count more than a
    small one. The start is at equal steps through the boxes in order of area: nothing is random, so
    every process and every start gets the same anchors.

    Args:
        sizes: (N, 2) width, height; N at least 1. With fewer different sizes than clusters some
            centres are equal.
        rounds: at most; it ends when no box changes its cluster.

    Returns:
        (count, 2), the smallest area first.
    """
    ordered = sizes[sizes.prod(dim=1).argsort(stable=True)]
    places = (torch.arange(count) + 0.5) / count * len(ordered)
    centres, nearest = ordered[places.long()].clone(), None
    for _ in range(rounds):
        common = torch.minimum(sizes[:, None], centres).prod(dim=-1)  # (N, count)
        overlap = common / (sizes.prod(dim=1)[:, None] + centres.prod(dim=1) - common).clamp(min=1e-9)
        before, nearest = nearest, overlap.argmax(dim=1)
        if before is not None and torch.equal(before, nearest):
            break
        for k in nearest.unique():  # a centre without boxes stays
            centres[k] = sizes[nearest == k].mean(dim=0)
    return centres[centres.prod(dim=1).argsort(stable=True)]


# Branch and loss
# --------------------------------------------------------------------------------------------------


class AnchorBranch(nn.Module):
    """Two 1 × 1 convolutions at each level, on the features of the head's two towers.

    All weights start at 0: an untrained branch answers with its anchors, and with the head's prior
    for the classes. No random number is drawn.

    Args:
        model: a detector. The input channels of `head.box[level][-1]` and `head.cls[level][-1]` are
            read; it is not kept.
        anchors: (levels, n, 2) width and height in pixels.

    Attributes:
        anchors: the same in units of each level's stride; a buffer.

    Shape:
        a (box features, class features) pair of each level, (B, c, h, w) each
        -> levels · n maps (B, 4 + C, h, w), level by level, anchor by anchor: x, y of the centre
        from the anchor point, width, height, all in units of the stride, then C class logits
    """

    def __init__(self, model: nn.Module, anchors: Tensor):
        super().__init__()
        self.classes, self.count = model.num_classes, anchors.shape[1]
        self.register_buffer("anchors", anchors / torch.tensor(model.strides)[:, None, None])
        self.box, self.cls = nn.ModuleList(), nn.ModuleList()
        for box, cls in zip(model.head.box, model.head.cls, strict=True):
            # the head expects so many objects; over n times as many answers there are as many
            prior = float(cls[-1].bias.detach().mean()) - math.log(self.count)
            for added, last, numbers, bias in ((self.box, box[-1], 4, 0.0), (self.cls, cls[-1], self.classes, prior)):
                added.append(nn.utils.skip_init(nn.Conv2d, last.in_channels, self.count * numbers, 1))
                nn.init.zeros_(added[-1].weight)
                nn.init.constant_(added[-1].bias, bias)

    def forward(self, features: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        maps = []
        levels = zip(self.box, self.cls, self.anchors, features, strict=True)
        for box, cls, anchors, (box_features, class_features) in levels:
            centre, size = box(box_features.float()).unflatten(1, (self.count, 4)).split(2, dim=2)  # (B, n, 2, h, w)
            size = (2 * size.sigmoid()).square() * anchors[:, :, None, None]
            classes = cls(class_features.float()).unflatten(1, (self.count, self.classes))
            maps += torch.cat((centre, size, classes), dim=2).unbind(1)
        return maps


class Towers:
    """Record what the head's last convolutions read in the latest forward pass in training mode.

    The hooks are removed when this object is deleted.

    Args:
        model: a detector with `head.box` and `head.cls`.
    """

    def __init__(self, model: nn.Module):
        seen: dict[tuple[int, int], Tensor] = {}  # a hook that held `self` would keep this object alive
        self.seen, self.levels = seen, len(model.head.box)

        def listen(key: tuple[int, int], module: nn.Module, features: Tensor) -> None:
            if module.training:
                seen[key] = features

        handles = [
            level[-1].register_forward_pre_hook(lambda module, inputs, key=(index, kind): listen(key, module, *inputs))
            for kind, tower in enumerate((model.head.box, model.head.cls))
            for index, level in enumerate(tower)
        ]
        self.remove = weakref.finalize(self, lambda: [handle.remove() for handle in handles])

    def take(self) -> list[tuple[Tensor, Tensor]]:
        """Return the (box features, class features) of each level, and keep none."""
        if len(self.seen) != 2 * self.levels:
            raise RuntimeError(
                "the anchor branch has nothing to read: the model that this loss was made for has not run in training "
                "mode since the last loss. Call it first."
            )
        return [(self.seen.pop((index, 0)), self.seen.pop((index, 1))) for index in range(self.levels)]


class AnchorLoss:
    """Box loss and class loss of the branch, weighed by an assignment of its own.

    The box loss is 1 - CIoU of the foreground, the class loss the cross-entropy of every answer;
    both are divided by the sum of the target scores, as in `losses.DetectionLoss`.

    Args:
        model: a detector; num_classes and strides are read.
        count: n, anchors at each position.
        box_gain, cls_gain: weights of the two.
    """

    def __init__(self, model: nn.Module, count: int, box_gain: float = 7.5, cls_gain: float = 0.5):
        self.strides = [stride for stride in model.strides for _ in range(count)]
        self.gains = (box_gain, cls_gain)
        self.assigner = TaskAlignedAssigner(model.num_classes, k=POSITIVES)

    def decode(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes of the branch's maps; A counts the answers of all levels and anchors.

        Returns:
            boxes (B, A, 4) x1 y1 x2 y2 in units of the stride, class logits (B, A, C), points
            (A, 2) in units of the stride, strides (A, 1) in pixels.
        """
        raw = flatten_maps(maps).float()  # (B, A, 4 + C)
        points, strides = make_anchors([m.shape[2:] for m in maps], self.strides, raw.device)
        centre, half = points + raw[..., :2], raw[..., 2:4] / 2
        return torch.cat((centre - half, centre + half), dim=-1), raw[..., 4:], points, strides

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> Tensor:
        """(maps of the branch, targets (N, 6 or more)) -> a scalar, gains included."""
        boxes, logits, points, strides = self.decode(maps)
        labels, gt_boxes, mask = pad_targets(targets[:, :6], len(boxes))
        # the assignment is a target: no gradient flows through it
        predicted, scores = boxes.detach() * strides, logits.detach().sigmoid()
        assigned = self.assigner(scores, predicted, points * strides, labels, gt_boxes, mask)
        total, processes = sum_over_processes(assigned.scores.sum())
        cls = F.binary_cross_entropy_with_logits(logits, assigned.scores, reduction="sum")
        image, answer = assigned.foreground.nonzero(as_tuple=True)  # (P,) each
        overlap = complete_iou(boxes[image, answer], assigned.boxes[image, answer] / strides[answer])
        box = ((1 - overlap) * assigned.scores[image, answer].sum(dim=-1)).sum()
        return (self.gains[0] * box + self.gains[1] * cls) * processes / total.clamp(min=1)


class AnchorAidedLoss(nn.Module):
    """Any loss of a detector, and that of the anchor branch as one more part, `anchor`.

    Args:
        loss: (raw maps, targets) -> parts with `total` first.
        model: the model whose maps this loss will get.
        anchors: (levels, n, 2) width and height in pixels.
        gain: on the part. gains: box_gain and cls_gain of `AnchorLoss`.

    Attributes:
        branch: the `AnchorBranch`, in distributed training wrapped as the model is. Its parameters
            have to be trained: see `aided`.
        share: that of `loss`, where a teacher's loss is inside.

    Shape:
        three raw maps, targets (N, 6 or more) -> the parts of `loss`, and `anchor`
    """

    def __init__(self, loss: nn.Module, model: nn.Module, anchors: Tensor, gain: float = 1.0, **gains: float):
        super().__init__()
        self.loss, self.gain, self.towers = loss, gain, Towers(model)
        self.branch = AnchorBranch(model, anchors)
        self.anchor_loss = AnchorLoss(model, self.branch.count, **gains)

    @property
    def share(self) -> float:
        return self.loss.share

    @share.setter
    def share(self, share: float) -> None:
        self.loss.share = share

    def forward(self, maps: list[Tensor], targets: Tensor) -> Any:
        parts = self.loss(maps, targets)
        anchor = self.anchor_loss(self.branch(self.towers.take()), targets) * self.gain
        return add_part(parts, "anchor", anchor)


# In a run
# --------------------------------------------------------------------------------------------------


class AnchorAid(Hook):
    """Keeps the branch in the checkpoint, and its gradient within `clip`.

    `train_step` clips the gradient of the model alone. Here the branch's gradient gets the same
    largest norm, by itself, right before each update.
    """

    def __init__(self, branch: nn.Module, clip: float = 10.0):
        self.branch, self.clip, self.handle = branch, clip, None

    def before_train(self, trainer: Trainer) -> None:
        parameters, clip = [*self.branch.parameters()], self.clip

        def clip_gradient(*_: object) -> None:
            nn.utils.clip_grad_norm_(parameters, clip)

        self.handle = trainer.optimizer.register_step_pre_hook(clip_gradient)

    def after_train(self, trainer: Trainer) -> None:
        if self.handle is not None:
            self.handle.remove()

    def state_dict(self) -> dict:
        return self.branch.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.branch.load_state_dict(state)


def check_keys(preset: Preset) -> None:
    """Refuse keys of this module and of DFL distillation that would have no effect.

    Errors: PresetError.
    """
    if preset.anchor_gain != Preset.anchor_gain and not preset.fuse_ab:
        raise PresetError(
            f"anchor_gain={preset.anchor_gain:g} is the gain of the anchor branch, and there is none: add fuse_ab=true."
        )
    if preset.dfl_temperature != Preset.dfl_temperature and not preset.dfl_gain:
        raise PresetError(
            f"dfl_temperature={preset.dfl_temperature:g} belongs to DFL distillation, and there is none: add "
            "dfl_gain=1 and a teacher."
        )
    if preset.anchor_gain < 0:
        raise PresetError(f"anchor_gain={preset.anchor_gain:g}: a loss has a gain of at least 0.")


def aided(
    preset: Preset, loss: nn.Module, model: nn.Module, optimizer: Optimizer, train_set: DetectionSet
) -> tuple[nn.Module, list[Hook]]:
    """The loss with an anchor branch, and the hooks that it needs; without the key fuse_ab the loss
    itself and none.

    The branch's parameters join the optimizer's groups: weights those with weight decay, biases
    those without. So every schedule of the groups holds for them too.
    """
    check_keys(preset)
    if not preset.fuse_ab:
        return loss, []
    sizes = training_sizes(train_set, preset.image_size, preset.quarter_turns)
    anchors = cluster_sizes(sizes, len(model.strides) * PER_LEVEL).unflatten(0, (-1, PER_LEVEL))
    whole = AnchorAidedLoss(loss, model, anchors, preset.anchor_gain, cls_gain=preset.cls_gain)
    branch = whole.branch.to(next(model.parameters()).device)
    more = build_optimizer(branch, preset.rate, preset.weight_decay, preset.optimizer).param_groups
    for group, added in zip(optimizer.param_groups, more, strict=True):
        group["params"] += added["params"]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        whole.branch = DistributedDataParallel(branch)
    return whole, [AnchorAid(branch, preset.clip)]
