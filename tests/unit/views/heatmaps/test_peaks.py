"""Two peaks that meet, against the worked numbers, and the sliders."""

from base64 import b64decode

import numpy as np
import pytest

from solutions import heatmaps
from tests.unit.views.pose.samples import fits, said
from yolostudy import views
from yolostudy.canvas import style


def test_the_sum_of_two_merges_and_the_maximum_does_not():
    """Three cells apart at σ 2, in the cell beside the first: .8825 + .6065."""
    found = views.meeting_peaks(2.0, 3.0, heatmaps=heatmaps)
    assert found.profile("sum").max() == pytest.approx(1.489, abs=5e-4) and len(found.peaks["sum"]) == 1
    assert found.profile("maximum").max() == 1 and len(found.peaks["maximum"]) == 2
    row = np.exp(-((np.arange(40)[:, None] - np.array([14, 17])) ** 2) / 8)
    near = slice(10, 22)  # the columns within both kernels, which are cut off at 7 cells
    assert np.allclose(found.profile("maximum")[near], row.max(1)[near], atol=1e-6)
    assert np.allclose(found.profile("sum")[near], row.sum(1)[near], atol=1e-6)


@pytest.mark.parametrize(("sigma", "highest", "cell"), [(0.625, 0.9608, (14, 20)), (1.5, 0.8948, (13, 19))])
def test_the_originals_kernel_is_wrong_for_a_sigma_that_is_no_integer(sigma, highest, cell):
    found = views.meeting_peaks(sigma, 12.0, heatmaps=heatmaps)
    x, y, value = found.peaks["original"][0]
    assert value == pytest.approx(highest, abs=1e-4) and (x, y) == cell
    assert found.peaks["maximum"][0].tolist() == [14, 20, 1] and len(found.peaks["original"]) == 2


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_for_an_integer_sigma_both_kernels_agree(sigma):
    found = views.meeting_peaks(sigma, 5.0, x=1.75, heatmaps=heatmaps)
    assert np.allclose(found.maps["original"], found.maps["maximum"], atol=1e-6)


def test_the_centre_is_truncated():
    shown = [views.meeting_peaks(1.0, 10.0, x=x, heatmaps=heatmaps).peaks["maximum"][0, 0] for x in (7.0, 7.9, 8.0)]
    assert shown == [7, 7, 8]


def test_the_picture_says_what_is_highest():
    found = views.meeting_peaks(1.5, 6.0, heatmaps=heatmaps)
    figure = views.draw_peaks(found, "original")
    words = said(figure)
    for word in ("highest 0.895 in cell 13, 19", "x in cells", "value", "maximum: 2 peaks, 1.000", "σ 1.5"):
        assert word in words
    assert fits(figure)
    with pytest.raises(ValueError, match="no kind 'mean'; choose maximum, sum, original"):
        views.draw_peaks(found, "mean")
    assert "no peak" in said(views.draw_peaks(views.meeting_peaks(0.5, 0.0, x=-8.0, heatmaps=heatmaps)))


def test_the_controls_move_the_numbers():
    bench = views.HeatmapBench(heatmaps, sigma=2.0, distance=8.0)
    assert len(bench.numbers.peaks["sum"]) == 2
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
    picture = bench.picture.value
    bench.distance.value = 3
    assert len(bench.numbers.peaks["sum"]) == 1 and bench.picture.value != picture
    bench.sigma.value = 0.625
    assert bench.numbers.peaks["original"][0, 2] == pytest.approx(0.9608, abs=1e-4)
    bench.x.value = 5.5
    assert bench.numbers.x == (5.5, 8.5) and bench.numbers.peaks["maximum"][0, 0] == 5
    picture = bench.picture.value
    bench.kind.value = "original"
    assert bench.picture.value != picture and bench.message.value == ""


def test_a_generator_that_sums_shows():
    class Summing(heatmaps.HeatmapGenerator):
        def __call__(self, keypoints):
            return sum(super(Summing, self).__call__(keypoints[one : one + 1]) for one in range(len(keypoints)))

    class Module:
        HeatmapGenerator = Summing

    found = views.meeting_peaks(2.0, 3.0, heatmaps=Module)
    assert found.profile("maximum").max() == pytest.approx(1.489, abs=5e-4)
