"""What four distributions say about a box, and the sliders that change them."""

from base64 import b64decode

import numpy as np
import pytest
import torch

from solutions import boxes as reference
from tests.unit.views.boxes.functions import DECODE, MEASURE, image
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.boxes import distributions


@pytest.mark.parametrize("centre", [0.0, 4.3, 15.0])
def test_a_bell_has_its_centre(centre):
    logits = distributions.logit_shape(centre, 0.5)
    assert logits.max() == 0 and logits.argmax() == round(centre)
    weights = np.exp(logits)
    assert weights @ np.arange(16) / weights.sum() == pytest.approx(centre, abs=0.15)  # cut off at bins 0 and 15


def test_two_bells_have_their_mean_where_nothing_is_likely():
    logits = distributions.logit_shape(3, 0.5, 11, 1.0)
    numbers = views.read_distributions(np.stack([logits] * 4), **DECODE)
    assert numbers["expectation"] == pytest.approx([7] * 4, abs=0.01)
    assert numbers["probabilities"][0, 7] < 1e-3


def test_the_bench_reads_distributions():
    logits = np.random.default_rng(1).normal(0, 2, (4, 16))
    numbers = views.read_distributions(logits, (6.5, 4.5), 16, **DECODE)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = probabilities @ np.arange(16)
    assert np.allclose(numbers["probabilities"], probabilities, atol=1e-6)
    assert np.allclose(numbers["expectation"], mean, atol=1e-4) and np.allclose(numbers["mass"], mean, atol=1e-4)
    assert np.allclose(
        numbers["box"], 16 * np.array([6.5 - mean[0], 4.5 - mean[1], 6.5 + mean[2], 4.5 + mean[3]]), atol=1e-3
    )
    assert (numbers["likeliest"] == logits.argmax(axis=1)).all()
    assert numbers["anchor"].tolist() == [104, 72]
    assert len(style.as_png(views.draw_distributions(numbers, 2, image()))) <= style.MAX_BYTES


def test_a_wrong_expectation_shows_beside_the_centre_of_mass():
    logits = np.stack([distributions.logit_shape(centre, 0.4) for centre in (2, 5, 8, 11)])
    wrong = {"expected_distance": lambda x, bins: reference.expected_distance(x, bins) + 1}
    numbers = views.read_distributions(logits, **DECODE | wrong)
    assert np.allclose(numbers["expectation"] - numbers["mass"], 1, atol=1e-4)
    legend = [text.get_text() for text in views.draw_distributions(numbers).axes[1].get_legend().texts]
    assert any("centre of mass of the bars: 2.00" in text for text in legend)


def test_a_bin_moves_its_edge_and_no_other():
    bench = views.DflBench(**DECODE)
    before, picture = bench.numbers, bench.picture.value
    bench.bins[9].value = 4
    assert bench.numbers["expectation"][0] > before["expectation"][0] + 2
    assert (bench.numbers["expectation"][1:] == before["expectation"][1:]).all()
    assert bench.numbers["box"][0] < before["box"][0] and bench.picture.value != picture


def test_each_edge_keeps_its_bins():
    bench = views.DflBench(**DECODE)
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
    bench = views.DflBench(logits, **DECODE)
    assert np.allclose(
        bench.numbers["expectation"], views.read_distributions(logits, **DECODE)["expectation"], atol=1e-3
    )


def test_the_package_in_use_is_asked_by_default(monkeypatch):
    from yolostudy import boxes

    monkeypatch.setattr(boxes, "expected_distance", lambda logits, bins: torch.full((1, 4), 7.0))
    monkeypatch.setattr(boxes, "distance_to_box", reference.distance_to_box)
    assert views.DflBench().numbers["expectation"].tolist() == [7, 7, 7, 7]


def test_an_error_after_the_first_picture_is_shown_and_passes():
    broken = False

    def sometimes(logits, bins):
        if broken:
            raise RuntimeError("no <b>luck</b>")
        return reference.expected_distance(logits, bins)

    bench = views.DflBench(expected_distance=sometimes, distance_to_box=reference.distance_to_box)
    broken = True
    bench.bins[3].value = 1
    assert "RuntimeError: no &lt;b&gt;luck" in bench.message.value
    broken = False
    bench.bins[3].value = 0
    assert bench.message.value == ""
    with pytest.raises(RuntimeError):
        broken = True
        views.DflBench(expected_distance=sometimes)


def test_a_panel_is_a_picture_where_no_widget_runs():
    for panel in (views.DflBench(image=image(), **DECODE), views.IoUPlayground(**MEASURE)):
        bundle = panel._repr_mimebundle_()
        assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} <= set(bundle)
        assert (
            b64decode(bundle["image/png"]).startswith(b"\x89PNG")
            and len(b64decode(bundle["image/png"])) <= style.MAX_BYTES
        )
        assert bundle["text/plain"] == type(panel).__name__
