"""The loss, anchor by anchor: the shares are the loss, they lie where they belong, and what a wrong
loss leaves out is seen.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolostudy.boxes import complete_iou, distance_to_box, expected_distance, flatten_maps, make_anchors
from yolostudy.canvas import style
from yolostudy.losses import DetectionLoss, DistributionFocalLoss, pad_targets
from yolostudy.views.losses import attribution

CLASSES = 3


class Outline:
    """As much of a detector as its loss looks at."""

    num_classes, reg_max, strides = CLASSES, 16, (8, 16, 32)


def a_loss(**gains):
    return DetectionLoss(Outline(), **gains)


def a_batch(seed: int = 0, batch: int = 3, side: int = 96, empty: bool = False):
    """Maps as a half-trained network gives them, and targets; image 1 has no object."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 64 + CLASSES, side // s, side // s, generator=generator) for s in (8, 16, 32)]
    centre = torch.rand(5, 2, generator=generator) * (side - 40) + 20
    half = torch.rand(5, 2, generator=generator) * 12 + 8
    image = torch.tensor([2.0, 0, 0, 2, 2])[:, None]
    label = torch.randint(0, CLASSES, (5, 1), generator=generator)
    targets = torch.cat((image, label, centre - half, centre + half), 1)
    return maps, targets[:0] if empty else targets


def unchanged(loss) -> tuple:
    return loss.assigner, loss.box_loss, loss.box_loss.distribution_loss


# ---- shares --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.booleans())
def test_the_shares_add_up_to_the_parts(seed, empty):
    maps, targets = a_batch(seed, empty=empty)
    loss = a_loss(box_gain=2.0, cls_gain=0.7, dfl_gain=3.0)
    expected = loss(maps, targets)
    found = attribution.attribute(loss, maps, targets)
    for name in attribution.PARTS:
        wanted = float(getattr(expected, name))
        assert found.parts[name] == wanted
        assert found.shares[name].shape == (3, 189)
        assert float(found.shares[name].sum()) == pytest.approx(wanted, rel=1e-5, abs=1e-9)
    assert found.adds_up


def test_each_share_is_the_one_that_a_loop_over_anchors_finds():
    maps, targets = a_batch(4)
    loss = a_loss()
    found = attribution.attribute(loss, maps, targets)

    logits = flatten_maps(maps)
    anchors, steps = make_anchors([level.shape[2:] for level in maps])
    boxes = distance_to_box(anchors, expected_distance(logits[..., :64]))
    labels, gt_boxes, mask = pad_targets(targets, 3)
    assigned = loss.assigner(logits[..., 64:].sigmoid(), boxes * steps, anchors * steps, labels, gt_boxes, mask)
    divisor = max(1.0, float(assigned.scores.sum()))
    assert assigned.foreground.sum() > 10
    for image in range(3):
        for anchor in range(0, 189, 3):
            weight = float(assigned.scores[image, anchor].sum())
            p, t = logits[image, anchor, 64:].sigmoid().double(), assigned.scores[image, anchor].double()
            entropy = -(t * p.log() + (1 - t) * (1 - p).log()).sum()
            box = dfl = 0.0
            if assigned.foreground[image, anchor]:
                wanted = assigned.boxes[image, anchor] / steps[anchor]
                box = weight * (1 - float(complete_iou(boxes[image, anchor], wanted)))
                distances = torch.cat((anchors[anchor] - wanted[:2], wanted[2:] - anchors[anchor])).clamp(0, 14.99)
                dfl = weight * float(DistributionFocalLoss()(logits[image, anchor, :64].view(4, 16), distances).mean())
            for name, value in {"box": 7.5 * box, "cls": 0.5 * float(entropy), "dfl": 1.5 * dfl}.items():
                assert found.shares[name][image, anchor] == pytest.approx(value / divisor, rel=1e-4, abs=1e-8), (
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
    attribution.attribute(loss, maps, targets)
    attribution.measure_units(loss, maps, targets)
    assert all(a is b for a, b in zip(before, unchanged(loss), strict=True))
    assert all(level.grad is None for level in maps)


def test_owners_are_numbered_like_the_targets_of_their_image():
    maps, targets = a_batch(4)
    found = attribution.attribute(a_loss(), maps, targets)
    anchors, steps = make_anchors([level.shape[2:] for level in maps])
    points = (anchors * steps).numpy()
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
    found = attribution.attribute(loss, maps, targets)
    assert not found.adds_up
    assert found.remainder[part] == pytest.approx(found.parts[part] - found.shares[part].sum())
    assert abs(found.remainder[part]) > 0.1 * abs(found.parts[part])


def test_a_nan_is_no_reason_to_fail():
    maps, targets = a_batch()
    maps[0][:, 64:] = float("nan")
    found = attribution.attribute(a_loss(), maps, targets)
    assert not found.adds_up and np.isnan(found.parts["cls"])
    style.as_png(attribution.draw_shares([("broken", found, "cls")], np.zeros((96, 96, 3), np.uint8), 0))


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
        attribution.attribute(Loses(Outline()), maps, targets)


# ---- breakdown -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", attribution.PARTS)
def test_three_ways_to_sum_one_image(part):
    maps, targets = a_batch(4)
    found = attribution.attribute(a_loss(), maps, targets)
    numbers = [attribution.breakdown(found, image, part) for image in range(3)]
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
    numbers = attribution.breakdown(found)
    assert numbers["largest"] == {"share": 5.0, "stride": 16, "x": 8.0, "y": 24.0}
    assert numbers["half"] == 1 and numbers["levels"] == {8: 4.0, 16: 5.0, 32: 0.0}
    assert attribution.breakdown(found, 0, "box")["half"] == 0


# ---- units ---------------------------------------------------------------------------------------


def test_every_unit_is_what_it_should_be():
    maps, targets = a_batch(4)
    readings = attribution.measure_units(a_loss(), maps, targets)
    by_name = {(r.place, r.name): r for r in readings}
    assert all(r.unit in attribution.UNITS and r.finite for r in readings)
    assert (by_name["into the assigner", "anchors"].low, by_name["into the assigner", "anchors"].high) == (4.0, 92.0)
    assert by_name["the batch", "targets"].high == pytest.approx(float(targets[:, 2:].max()))
    assert by_name["into the assigner", "ground truths"].low == pytest.approx(float(targets[:, 2:].min())), (
        "padding is left out"
    )
    assert by_name["into the box loss", "anchors"].high <= 11.5
    assert by_name["into the box loss", "target boxes"].high <= 12
    for name in (
        ("into the assigner", "scores"),
        ("out of the assigner", "target scores"),
        ("into the box loss", "weight"),
    ):
        assert 0 <= by_name[name].low <= by_name[name].high <= 1
    assert 0 <= by_name["into DFL", "distances"].low and by_name["into DFL", "distances"].high <= 14.99


def test_units_of_an_empty_batch_are_nothing():
    maps, targets = a_batch(empty=True)
    readings = attribution.measure_units(a_loss(), maps, targets)
    assert [r.finite for r in readings].count(False) == 6
    style.as_png(attribution.draw_units({"empty": readings}))


# ---- two bins ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 6.99), st.lists(st.floats(0.01, 1), min_size=8, max_size=8))
def test_two_bins_agree_with_the_loss(distance, weights):
    found = attribution.two_bins(distance, weights)
    expected = DistributionFocalLoss()(
        found_logits := torch.tensor(found.probabilities).log(), torch.tensor(distance, dtype=torch.float64)
    )
    assert found.loss == pytest.approx(float(expected), abs=1e-9)
    assert found.expectation == pytest.approx(float(found_logits.softmax(-1) @ torch.arange(8.0, dtype=torch.float64)))
    assert found.loss >= found.floor - 1e-12


def test_the_floor_is_what_the_best_distribution_costs():
    assert attribution.two_bins(3.3, [0, 0, 0, 0.7, 0.3, 0, 0, 0]).loss == pytest.approx(
        attribution.two_bins(3.3, [1] * 8).floor
    )
    assert attribution.two_bins(4.0, [1] * 8).floor == 0


def test_no_distribution_goes_below_the_floor_of_its_batch():
    """Maps whose two bins hold exactly what the distances ask for have the floor as their DFL."""
    maps, targets = a_batch(4)
    loss = a_loss()
    assert attribution.distribution_floor(loss, maps, targets) < float(loss(maps, targets).dfl)
    assert attribution.distribution_floor(loss, maps, targets[:0]) == 0
    found = attribution.attribute(loss, maps, targets)
    best = 0.0
    anchors, steps = (value.numpy() for value in make_anchors([level.shape[2:] for level in maps]))
    for image in (0, 2):
        for anchor in np.flatnonzero(found.owner[image] >= 0):
            box = found.objects(image)[found.owner[image][anchor], 1:] / steps[anchor]
            edges = np.concatenate((anchors[anchor] - box[:2], box[2:] - anchors[anchor])).clip(0, 14.99)
            best += found.weight[image, anchor] * np.mean(
                [attribution.two_bins(edge, [1] * 16).floor for edge in edges]
            )
    expected = 1.5 * best / max(1.0, found.weight.sum())
    assert attribution.distribution_floor(loss, maps, targets) == pytest.approx(expected, rel=1e-4)


# ---- pictures and widget -------------------------------------------------------------------------


def noise(side=96):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def smooth(side=96):
    return np.broadcast_to(np.linspace(60, 200, side).astype(np.uint8)[:, None, None], (side, side, 3))


def test_pictures_are_small_enough():
    maps, targets = a_batch(4)
    loss = a_loss()
    found = attribution.attribute(loss, maps, targets)
    units = attribution.measure_units(loss, maps, targets)
    row = {"total": 3.0, "box": 1.0, "cls": 1.0, "dfl": 1.0}
    figures = [
        attribution.draw_shares([("noise", found, "cls")], noise(), 2),
        attribution.draw_weights(found, smooth(), 2),
        attribution.draw_two_bins({"one": attribution.two_bins(3.3, [1] * 8)}),
        attribution.draw_padding(targets, *pad_targets(targets, 3)),
        attribution.draw_padding(targets[:0], *pad_targets(targets[:0], 3)),
        attribution.draw_units({"one": units, "two": units, "three": units}),
        attribution.draw_steps([row] * 5, smooth()),
    ]
    for figure in figures:
        content = style.as_png(figure)
        assert content.startswith(b"\x89PNG") and len(content) <= style.MAX_BYTES


def test_the_bench_follows_its_controls():
    maps, targets = a_batch(4)
    loss = a_loss()
    both = {
        "one": attribution.attribute(loss, maps, targets),
        "two": attribution.attribute(loss, [-level for level in maps], targets),
    }
    bench = attribution.ShareBench(both, [smooth()] * 3, ["A1", "A2", "A3"])
    first, picture = bench.numbers, bench.picture.value
    assert set(first) == {"one", "two"} and first["one"] == attribution.breakdown(both["one"], 0, "cls")
    bench.part.value = "box"
    assert bench.numbers["two"] == attribution.breakdown(both["two"], 0, "box") and bench.picture.value != picture
    bench.image.value = 2
    assert bench.numbers["one"]["image"] == 2 and len(bench.numbers["one"]["objects"]) == 3
    bundle = bench._repr_mimebundle_()
    assert bundle["text/plain"] == "ShareBench(one, two)" and "image/png" in bundle


def test_the_tape_keeps_every_step_and_draws_nothing_in_a_terminal():
    maps, targets = a_batch()
    tape = attribution.LossTape()
    assert tape.numbers == {"steps": 0}
    for _ in range(3):
        tape.update(a_loss()(maps, targets), picture=lambda: pytest.fail("there is nobody to draw for"), last=True)
    assert tape.numbers["steps"] == 3
    assert tape.numbers["first"]["total"] == pytest.approx(
        sum(tape.numbers["last"][name] for name in attribution.PARTS)
    )
