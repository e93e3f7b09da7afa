"""The loss, anchor by anchor: the shares add up to it, and what a wrong loss leaves out is seen."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.views.losses.batches import Outline, a_batch, a_loss
from yolostudy import views
from yolostudy.boxes import complete_iou, distance_to_box, expected_distance, flatten_maps, make_anchors
from yolostudy.canvas import style
from yolostudy.losses import DetectionLoss, DistributionFocalLoss, pad_targets
from yolostudy.views.losses import attribution


def unchanged(loss) -> tuple:
    return loss.assigner, loss.box_loss, loss.box_loss.distribution_loss


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.booleans())
def test_the_shares_add_up_to_the_parts(seed, empty):
    maps, targets = a_batch(seed, empty=empty)
    loss = a_loss(box_gain=2.0, cls_gain=0.7, dfl_gain=3.0)
    expected = loss(maps, targets)
    found = views.attribute_loss(loss, maps, targets)
    for name in views.LOSS_PARTS:
        wanted = float(getattr(expected, name))
        assert found.parts[name] == wanted
        assert found.shares[name].shape == (3, 189)
        assert float(found.shares[name].sum()) == pytest.approx(wanted, rel=1e-5, abs=1e-9)
    assert found.adds_up


def test_each_share_is_the_one_that_a_loop_over_anchors_finds():
    maps, targets = a_batch(4)
    loss = a_loss()
    found = views.attribute_loss(loss, maps, targets)

    logits = flatten_maps(maps)
    anchors, strides = make_anchors([level.shape[2:] for level in maps])
    boxes = distance_to_box(anchors, expected_distance(logits[..., :64]))
    labels, gt_boxes, mask = pad_targets(targets, 3)
    assigned = loss.assigner(logits[..., 64:].sigmoid(), boxes * strides, anchors * strides, labels, gt_boxes, mask)
    normaliser = max(1.0, float(assigned.scores.sum()))
    assert assigned.foreground.sum() > 10
    for image in range(3):
        for anchor in range(0, 189, 3):
            weight = float(assigned.scores[image, anchor].sum())
            p, t = logits[image, anchor, 64:].sigmoid().double(), assigned.scores[image, anchor].double()
            entropy = -(t * p.log() + (1 - t) * (1 - p).log()).sum()
            box = dfl = 0.0
            if assigned.foreground[image, anchor]:
                wanted = assigned.boxes[image, anchor] / strides[anchor]
                box = weight * (1 - float(complete_iou(boxes[image, anchor], wanted)))
                distances = torch.cat((anchors[anchor] - wanted[:2], wanted[2:] - anchors[anchor])).clamp(0, 14.99)
                dfl = weight * float(DistributionFocalLoss()(logits[image, anchor, :64].view(4, 16), distances).mean())
            for name, value in {"box": 7.5 * box, "cls": 0.5 * float(entropy), "dfl": 1.5 * dfl}.items():
                assert found.shares[name][image, anchor] == pytest.approx(value / normaliser, rel=1e-4, abs=1e-8), (
                    name,
                    image,
                    anchor,
                )
            assert found.weight[image, anchor] == pytest.approx(weight)


def test_the_loss_and_the_maps_stay_as_they_were():
    maps, targets = a_batch()
    maps = [level.requires_grad_() for level in maps]
    loss = a_loss()
    before = unchanged(loss)
    views.attribute_loss(loss, maps, targets)
    views.measure_units(loss, maps, targets)
    assert all(a is b for a, b in zip(before, unchanged(loss), strict=True))
    assert all(level.grad is None for level in maps)


def test_owners_are_numbered_like_the_targets_of_their_image():
    maps, targets = a_batch(4)
    found = views.attribute_loss(a_loss(), maps, targets)
    anchors, strides = make_anchors([level.shape[2:] for level in maps])
    points = (anchors * strides).numpy()
    assert (found.owner[1] == -1).all()
    assert sorted(set(found.owner[2])) == [-1, 0, 1, 2]
    for image in (0, 2):
        for number, (_, x1, y1, x2, y2) in enumerate(found.objects(image)):
            mine = points[found.owner[image] == number]
            assert len(mine) and ((mine > (x1 - 8, y1 - 8)) & (mine < (x2 + 8, y2 + 8))).all()


class Masked(DetectionLoss):
    """The background left out of the class loss."""

    def forward(self, maps, targets):
        parts = super().forward(maps, targets)
        return parts._replace(cls=parts.cls * 0.1)


class Unweighted(DetectionLoss):
    """A box loss that forgets its weight."""

    def __init__(self, model):
        super().__init__(model)
        right = self.box_loss
        self.box_loss = lambda logits, anchors, boxes, weight: right(logits, anchors, boxes, torch.ones_like(weight))


@pytest.mark.parametrize("kind, part", [(Masked, "cls"), (Unweighted, "box")])
def test_what_a_wrong_loss_says_and_no_anchor_holds_is_the_remainder(kind, part):
    maps, targets = a_batch()
    loss = kind(Outline())
    found = views.attribute_loss(loss, maps, targets)
    assert not found.adds_up
    assert found.remainder[part] == pytest.approx(found.parts[part] - found.shares[part].sum())
    assert abs(found.remainder[part]) > 0.1 * abs(found.parts[part])


def test_a_nan_is_no_reason_to_fail():
    maps, targets = a_batch()
    maps[0][:, 64:] = float("nan")
    found = views.attribute_loss(a_loss(), maps, targets)
    assert not found.adds_up and np.isnan(found.parts["cls"])
    style.as_png(views.draw_loss_shares([("broken", found, "cls")], np.zeros((96, 96, 3), np.uint8), 0))


def test_a_loss_that_loses_anchors_is_told_so():
    class Loses(DetectionLoss):
        def __init__(self, model):
            super().__init__(model)

        def forward(self, maps, targets):
            watched = self.box_loss
            self.box_loss = lambda logits, anchors, boxes, weight: watched(
                logits[1:], anchors[1:], boxes[1:], weight[1:]
            )
            return super().forward(maps, targets)

    maps, targets = a_batch()
    with pytest.raises(ValueError, match="the assigner chose"):
        views.attribute_loss(Loses(Outline()), maps, targets)


@pytest.mark.parametrize("part", views.LOSS_PARTS)
def test_three_ways_to_sum_one_image(part):
    maps, targets = a_batch(4)
    found = views.attribute_loss(a_loss(), maps, targets)
    numbers = [views.loss_breakdown(found, image, part) for image in range(3)]
    assert sum(n["loss"] for n in numbers) == pytest.approx(found.parts[part], rel=1e-5)
    for image, n in enumerate(numbers):
        assert n["background"] + sum(n["objects"]) == pytest.approx(n["loss"])
        assert sum(n["levels"].values()) == pytest.approx(n["loss"])
        assert n["positives"] == [int((found.owner[image] == k).sum()) for k in range(len(found.objects(image)))]
        if part != "cls":
            assert n["background"] == 0
    assert numbers[1]["objects"] == [] and numbers[1]["positives"] == []


def test_the_largest_share_is_named_by_its_place():
    shares = np.zeros((1, 21))
    shares[0, 16 + 2] = 5.0  # third position of the 2 x 2 map: second row, first column
    shares[0, :4] = 1.0
    found = attribution.Attribution(
        {"box": 0.0, "cls": 9.0, "dfl": 0.0},
        {"box": shares * 0, "cls": shares, "dfl": shares * 0},
        np.full((1, 21), -1),
        np.zeros((1, 21)),
        np.zeros((0, 6)),
        ((4, 4), (2, 2), (1, 1)),
        (8, 16, 32),
    )
    numbers = views.loss_breakdown(found)
    assert numbers["largest"] == {"share": 5.0, "stride": 16, "x": 8.0, "y": 24.0}
    assert numbers["half"] == 1 and numbers["levels"] == {8: 4.0, 16: 5.0, 32: 0.0}
    assert views.loss_breakdown(found, 0, "box")["half"] == 0
