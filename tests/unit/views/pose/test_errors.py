"""Medians against counting, and the error that each σ forgives."""

import numpy as np
import pytest

from tests.unit.views.pose.samples import fits, said
from yolostudy import views


def test_errors_are_summed_up_by_name_and_together():
    random = np.random.default_rng(3)
    errors = {"nose": random.lognormal(2, 0.5, 301), "tail": [3.0, 1.0, 2.0], "left wing tip": []}
    figure = views.draw_keypoint_errors(errors, {0.05: 0.11, 0.25: 0.92}, side=60)
    numbers = figure.numbers
    assert numbers["errors"]["nose"]["median"] == pytest.approx(np.sort(errors["nose"])[150])
    assert numbers["errors"]["tail"] == pytest.approx({"count": 3, "median": 2, "mean": 2, "p90": 2.8})
    assert numbers["errors"]["left wing tip"]["count"] == 0 and np.isnan(numbers["errors"]["left wing tip"]["median"])
    together = np.concatenate([errors["nose"], errors["tail"]])
    assert numbers["errors"]["all"]["mean"] == pytest.approx(together.mean())
    assert numbers["ap"] == {0.05: 0.11, 0.25: 0.92}
    assert np.exp(-(numbers["allowed"][0.25] ** 2) / (8 * 0.25**2 * 0.53 * 3600)) == pytest.approx(0.5)
    words = said(figure)
    for word in ("error in pixels", "2.0 px", "none found", "σ 0.25\n25.7 px", "0.92", "AP"):
        assert word in words
    assert fits(figure)


def test_the_medians_are_drawn_where_they_are():
    figure = views.draw_keypoint_errors({"a": [1.0, 2.0, 9.0], "b": [4.0] * 5})
    assert len(figure.axes) == 1
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert [bar.get_xdata()[0] for bar in bars] == [2, 4]


@pytest.mark.parametrize(
    ("wrong", "message"), [({}, "one keypoint or more"), ({"a": [1, np.nan]}, "errors of a"), ({"a": [-1]}, "of a")]
)
def test_what_is_no_distance_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        views.draw_keypoint_errors(wrong)
