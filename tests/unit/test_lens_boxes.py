"""The views of stage 4: their numbers against another computation, their controls, and what they
say of a wrong function.
"""

import math
from base64 import b64decode

import numpy as np
import pytest
import torch
import torchvision

from solutions import boxes as reference
from yolostudy.canvas import style
from yolostudy.views.boxes import box_lab, dfl_bench, iou_playground, suppression

DECODE = {"expected_distance": reference.expected_distance, "distance_to_box": reference.distance_to_box}
MEASURE = {"box_iou": reference.box_iou, "complete_iou": reference.complete_iou}
NMS = {"non_maximum_suppression": reference.non_maximum_suppression}
FIXED = iou_playground.FIXED
APART, OVERLAPPING = (12.0, 56.0, 32.0, 84.0), (42.0, 46.0, 80.0, 74.0)


def image(height=96, width=160):
    """A gradient: noise would spend the time of these tests on its compression."""
    return np.broadcast_to(np.linspace(40, 220, width)[None, :, None], (height, width, 3)).astype(np.uint8)


def candidates(count=30, seed=0):
    """Three heaps of boxes of two classes."""
    random = np.random.default_rng(seed)
    corner = random.choice([10, 70, 100], count)[:, None] + random.uniform(-4, 4, (count, 2))
    found = np.concatenate([corner, corner + random.uniform(28, 36, (count, 2))], axis=1)
    return found, random.uniform(0.05, 0.99, count), random.integers(0, 2, count)


# ------------------------------------------------------------------------------------ anchor points


def survey(box=(30, 20, 90, 70), size=(96, 160), **functions):
    functions = {"make_anchors": reference.make_anchors, "box_to_distance": reference.box_to_distance} | functions
    return box_lab.anchor_survey(box, size, **functions)


def test_the_survey_counts_anchors_and_measures_the_box():
    numbers = survey()
    assert [len(points) for points in numbers["points"]] == [12 * 20, 6 * 10, 3 * 5]
    for level, stride in enumerate((8, 16, 32)):
        x, y = np.meshgrid(np.arange(stride / 2, 160, stride), np.arange(stride / 2, 96, stride))
        assert np.allclose(numbers["points"][level], np.stack([x.ravel(), y.ravel()], axis=1))
        assert numbers["inside"][level] == ((x > 30) & (x < 90) & (y > 20) & (y < 70)).sum()
        x, y = numbers["anchor"][level]
        assert max(abs(x - 60), abs(y - 45)) <= stride / 2
        assert np.allclose(numbers["distances"][level] * stride, [x - 30, y - 20, 90 - x, 70 - y])
    assert len(style.as_png(box_lab.draw_anchors(numbers, image()))) <= style.MAX_BYTES


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"make_anchors": lambda *_: (torch.zeros(3, 2), torch.ones(3, 1))},
            r"make_anchors gave shape \(3, 2\).*check\('boxes.make_anchors'\)",
        ),
        (
            {"box_to_distance": lambda *_: torch.full((1, 4), torch.nan)},
            "box_to_distance gave a value that is not finite",
        ),
        ({"box_to_distance": lambda *_: None}, "box_to_distance gave NoneType"),
    ],
)
def test_an_answer_that_cannot_be_drawn_is_named(functions, message):
    with pytest.raises(ValueError, match=message):
        survey(**functions)


# ---------------------------------------------------------------------------------------- DFL bench


@pytest.mark.parametrize("centre", [0.0, 4.3, 15.0])
def test_a_bell_has_its_centre(centre):
    logits = dfl_bench.logit_shape(centre, 0.5)
    assert logits.max() == 0 and logits.argmax() == round(centre)
    weights = np.exp(logits)
    assert weights @ np.arange(16) / weights.sum() == pytest.approx(centre, abs=0.15)  # cut off at bins 0 and 15


def test_two_bells_have_their_mean_where_nothing_is_likely():
    logits = dfl_bench.logit_shape(3, 0.5, 11, 1.0)
    numbers = dfl_bench.read_distributions(np.stack([logits] * 4), **DECODE)
    assert numbers["expectation"] == pytest.approx([7] * 4, abs=0.01)
    assert numbers["probabilities"][0, 7] < 1e-3


def test_the_bench_reads_distributions():
    logits = np.random.default_rng(1).normal(0, 2, (4, 16))
    numbers = dfl_bench.read_distributions(logits, (6.5, 4.5), 16, **DECODE)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = probabilities @ np.arange(16)
    assert np.allclose(numbers["probabilities"], probabilities, atol=1e-6)
    assert np.allclose(numbers["expectation"], mean, atol=1e-4) and np.allclose(numbers["mass"], mean, atol=1e-4)
    assert np.allclose(
        numbers["box"], 16 * np.array([6.5 - mean[0], 4.5 - mean[1], 6.5 + mean[2], 4.5 + mean[3]]), atol=1e-3
    )
    assert (numbers["likeliest"] == logits.argmax(axis=1)).all()
    assert numbers["anchor"].tolist() == [104, 72]
    assert len(style.as_png(dfl_bench.draw_bench(numbers, 2, image()))) <= style.MAX_BYTES


def test_a_wrong_expectation_shows_beside_the_centre_of_mass():
    logits = np.stack([dfl_bench.logit_shape(centre, 0.4) for centre in (2, 5, 8, 11)])
    wrong = {"expected_distance": lambda x, bins: reference.expected_distance(x, bins) + 1}
    numbers = dfl_bench.read_distributions(logits, **DECODE | wrong)
    assert np.allclose(numbers["expectation"] - numbers["mass"], 1, atol=1e-4)
    legend = [text.get_text() for text in dfl_bench.draw_bench(numbers).axes[1].get_legend().texts]
    assert any("centre of mass of the bars: 2.00" in text for text in legend)


def test_a_bin_moves_its_edge_and_no_other():
    bench = dfl_bench.DflBench(**DECODE)
    before, picture = bench.numbers, bench.picture.value
    bench.bins[9].value = 4
    assert bench.numbers["expectation"][0] > before["expectation"][0] + 2
    assert (bench.numbers["expectation"][1:] == before["expectation"][1:]).all()
    assert bench.numbers["box"][0] < before["box"][0] and bench.picture.value != picture


def test_each_edge_keeps_its_bins():
    bench = dfl_bench.DflBench(**DECODE)
    bench.shape[0].value = 9
    assert bench.numbers["expectation"] == pytest.approx([9, 4, 4, 4], abs=0.01)
    bench.edge.value = 2
    assert bench.shape[0].value == 4 and bench.bins[4].value == 0, "the controls show the right edge"
    bench.shape[0].value = 12
    bench.edge.value = 0
    assert bench.shape[0].value == 9 and bench.bins[9].value == 0
    assert bench.numbers["expectation"] == pytest.approx([9, 4, 12, 4], abs=0.01)


def test_the_bench_starts_from_real_logits():
    logits = np.random.default_rng(2).normal(3, 2, (4, 16))
    bench = dfl_bench.DflBench(logits, **DECODE)
    assert np.allclose(
        bench.numbers["expectation"], dfl_bench.read_distributions(logits, **DECODE)["expectation"], atol=1e-3
    )


def test_the_package_in_use_is_asked_by_default(monkeypatch):
    from yolostudy import boxes

    monkeypatch.setattr(boxes, "expected_distance", lambda logits, bins: torch.full((1, 4), 7.0))
    monkeypatch.setattr(boxes, "distance_to_box", reference.distance_to_box)
    assert dfl_bench.DflBench().numbers["expectation"].tolist() == [7, 7, 7, 7]


def test_an_error_after_the_first_picture_is_shown_and_passes():
    broken = False

    def sometimes(logits, bins):
        if broken:
            raise RuntimeError("no <b>luck</b>")
        return reference.expected_distance(logits, bins)

    bench = dfl_bench.DflBench(expected_distance=sometimes, distance_to_box=reference.distance_to_box)
    broken = True
    bench.bins[3].value = 1
    assert "RuntimeError: no &lt;b&gt;luck" in bench.message.value
    broken = False
    bench.bins[3].value = 0
    assert bench.message.value == ""
    with pytest.raises(RuntimeError):
        broken = True
        dfl_bench.DflBench(expected_distance=sometimes)


def test_a_panel_is_a_picture_where_no_widget_runs():
    for panel in (dfl_bench.DflBench(image=image(), **DECODE), iou_playground.IoUPlayground(**MEASURE)):
        bundle = panel._repr_mimebundle_()
        assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} <= set(bundle)
        assert (
            b64decode(bundle["image/png"]).startswith(b"\x89PNG")
            and len(b64decode(bundle["image/png"])) <= style.MAX_BYTES
        )
        assert bundle["text/plain"] == type(panel).__name__


# ----------------------------------------------------------------------------------- IoU playground


@pytest.mark.parametrize("moved", [APART, OVERLAPPING, FIXED, (60.0, 42.0, 70.0, 50.0)])
def test_both_measures_agree_with_torchvision(moved):
    numbers = iou_playground.compare_boxes(moved, FIXED, **MEASURE)
    pair = torch.tensor([moved]), torch.tensor([FIXED])
    assert numbers["iou"] == pytest.approx(float(torchvision.ops.box_iou(*pair)), abs=1e-5)
    assert 1 - numbers["ciou"] == pytest.approx(
        float(torchvision.ops.complete_box_iou_loss(*pair, reduction="sum")), abs=1e-4
    )
    assert numbers["iou"] - numbers["distance"] - numbers["aspect"] == pytest.approx(numbers["ciou"], abs=1e-4)
    assert numbers["aspect"] == pytest.approx(numbers["alpha"] * numbers["v"])


def test_the_pushes_are_finite_differences():
    numbers = iou_playground.compare_boxes(OVERLAPPING, FIXED, **MEASURE)
    step = 0.25
    for edge in range(4):
        plus, minus = np.array(OVERLAPPING), np.array(OVERLAPPING)
        plus[edge] += step
        minus[edge] -= step
        plus, minus = (iou_playground.compare_boxes(box, FIXED, **MEASURE) for box in (plus, minus))
        assert (plus["iou"] - minus["iou"]) / (2 * step) == pytest.approx(numbers["push_iou"][edge], rel=0.02)
        # alpha counts as a constant, which differences do not know: it is small here
        assert (plus["ciou"] - minus["ciou"]) / (2 * step) == pytest.approx(numbers["push_ciou"][edge], rel=0.05)


def test_apart_only_the_complete_measure_pushes():
    numbers = iou_playground.compare_boxes(APART, FIXED, **MEASURE)
    assert numbers["iou"] == 0 and numbers["ciou"] < 0
    assert not numbers["push_iou"].any() and numbers["push_ciou"][2] > 0.005, (
        "the right edge goes right, where the other box is"
    )
    labels = [axes.get_xlabel() for axes in iou_playground.draw_comparison(numbers).axes]
    assert "nothing moves" in labels[0] and "strongest push" in labels[1] and labels[2] == "value"


def test_a_wrong_measure_shows_in_its_terms():
    functions = MEASURE | {"complete_iou": lambda a, b: reference.complete_iou(a, b) * 2}
    numbers = iou_playground.compare_boxes(OVERLAPPING, FIXED, **functions)
    assert "not to CIoU" in iou_playground.draw_comparison(numbers).axes[2].get_xlabel()


def test_the_sliders_move_and_resize_the_box():
    playground = iou_playground.IoUPlayground(**MEASURE)
    assert playground.numbers["iou"] == 0
    with playground._at_once():
        for slider, value in ((playground.x, 70), (playground.y, 50), (playground.width, 36), (playground.height, 24)):
            slider.value = value
    assert playground.numbers["moved"] == list(FIXED)
    assert playground.numbers["iou"] == pytest.approx(1) and playground.numbers["ciou"] == pytest.approx(1, abs=1e-5)
    playground.x.value = 79  # a quarter of its width to the right
    assert playground.numbers["iou"] == pytest.approx(0.6)


def test_descent_stands_still_under_iou_and_arrives_under_ciou():
    numbers = iou_playground.descend((8, 60, 28, 92), **MEASURE)
    assert (numbers["IoU"]["path"] == numbers["IoU"]["path"][0]).all() and not numbers["IoU"]["iou"].any()
    assert numbers["CIoU"]["iou"][-1] > 0.97 and numbers["CIoU"]["path"].shape == (401, 4)
    assert np.abs(numbers["CIoU"]["path"][-1] - FIXED).max() < 1
    assert len(style.as_png(iou_playground.draw_descents(numbers))) <= style.MAX_BYTES


# -------------------------------------------------------------------------------------- suppression


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_suppression_agrees_with_torchvision(threshold):
    found, scores, classes = candidates()
    numbers = suppression.suppress(found, scores, classes, threshold, 0.25, **NMS)
    above = scores > 0.25
    boxes, score, label = (torch.tensor(part[above]) for part in (found, scores, classes))
    expected = torchvision.ops.batched_nms(boxes, score, label, threshold)
    assert numbers["kept"] == len(expected) and numbers["below"] == (~above).sum()
    assert numbers["kept"] + numbers["suppressed"] + numbers["below"] == numbers["candidates"] == 30
    assert np.allclose(numbers["scores"][numbers["by"] == suppression.KEPT], score[expected])
    assert (np.diff(numbers["scores"]) <= 0).all() and suppression.NOBODY not in numbers["by"]


def test_every_suppressed_box_has_a_reason():
    found, scores, classes = candidates()
    numbers = suppression.suppress(found, scores, classes, 0.4, 0.1, **NMS)
    overlap = torchvision.ops.box_iou(*[torch.tensor(numbers["boxes"])] * 2).numpy()
    for index, by in enumerate(numbers["by"]):
        if by >= 0:
            assert numbers["by"][by] == suppression.KEPT and by < index
            assert numbers["classes"][by] == numbers["classes"][index] and overlap[by, index] > 0.4


def test_a_suppression_without_reason_is_counted_apart():
    numbers = suppression.suppress(*candidates(), 0.5, 0.1, non_maximum_suppression=lambda *_: torch.tensor([0]))
    assert numbers["kept"] == 1 and (numbers["by"] == suppression.NOBODY).any()
    suppression.draw_suppression(numbers)


def test_no_candidate_is_no_error():
    empty = suppression.suppress(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), **NMS)
    assert empty["candidates"] == empty["kept"] == empty["suppressed"] == 0
    style.as_png(suppression.draw_suppression(empty, image()))


def test_the_sliders_decide_what_is_kept():
    found, scores, classes = candidates()
    bench = suppression.SuppressionBench(found, scores, classes, image(160, 160), points=found[:, :2], **NMS)
    picture, kept = bench.picture.value, bench.numbers["kept"]
    bench.iou_threshold.value = 0.2
    assert bench.numbers["kept"] < kept and bench.picture.value != picture
    bench.score_threshold.value = 0.9
    assert bench.numbers["below"] == (scores <= 0.9).sum()
    order = np.argsort(-scores, kind="stable")
    assert np.allclose(bench.numbers["points"], found[order, :2], atol=1e-4)
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES


def test_v_is_that_of_the_paper():
    numbers = iou_playground.compare_boxes((0, 0, 10, 10), (0, 0, 20, 10), **MEASURE)
    assert numbers["v"] == pytest.approx(4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2)
