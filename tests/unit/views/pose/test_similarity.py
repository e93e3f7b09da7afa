"""Radii solve the similarity exactly, and the drawn gradient is that of the loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Circle

from solutions import pose
from tests.unit.views.pose.samples import AIRCRAFT, BOX, fits, image, said
from yolostudy import views

AREA = 0.53 * 60 * 80


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.02, 0.5), st.lists(st.floats(0, 6.28), min_size=4, max_size=4))
def test_on_the_circle_the_similarity_is_the_level(level, sigma, angles):
    radius = views.oks_radius(level, sigma, AREA)
    away = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    moved = torch.tensor(AIRCRAFT[:, :2] + away, dtype=torch.float64)
    truth, area = torch.tensor(AIRCRAFT), torch.tensor(AREA, dtype=torch.float64)
    found = pose.keypoint_similarity(moved, truth, area, torch.full((4,), sigma, dtype=torch.float64))
    assert float(found) == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("level", [0, 1, 1.2, -0.5])
def test_a_level_that_is_never_reached_is_refused(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        views.oks_radius(level, 0.05, AREA)


def test_the_circles_have_the_radii_of_the_numbers():
    points = AIRCRAFT.copy()
    points[1, 2] = 0
    figure = views.draw_oks(image(), points, BOX)
    assert figure.numbers["area"] == pytest.approx(AREA)
    for axes, sigma in zip(figure.axes, (0.05, 0.25)):
        circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
        drawn = {(*circle.center, round(circle.radius, 6)) for circle in circles}
        radii = figure.numbers["radius"][sigma]
        assert drawn == {(x, y, round(r, 6)) for x, y, seen in points if seen for r in radii.values()}
        assert f"{radii[0.95]:.1f} px" in axes.get_title(loc="left")
    assert figure.numbers["radius"][0.25][0.5] == pytest.approx(5 * figure.numbers["radius"][0.05][0.5])
    assert fits(figure) and all(word in said(figure) for word in ("OKS 0.75", "x in pixels", "distance in pixels"))


@pytest.mark.parametrize("sigma", [0.25, 0.05, 0.02])
def test_the_gradient_is_that_of_the_loss(sigma):
    numbers = views.draw_sigma_reach((sigma,), side=60).numbers
    distance, reach = numbers["distance"], numbers["reach"][sigma]
    points = torch.zeros(len(distance), 1, 2, requires_grad=True)
    truth = torch.stack([torch.tensor(distance), torch.zeros(len(distance)), torch.full((len(distance),), 2.0)], dim=1)
    loss, _ = pose.KeypointLoss([sigma])(points, truth[:, None].float(), torch.full((len(distance),), 3600.0))
    (gradient,) = torch.autograd.grad(loss * len(distance), points)
    assert np.allclose(gradient.norm(dim=-1)[:, 0], reach["gradient"], atol=1e-7)
    away, peak = reach["peak"]
    assert np.interp(away, distance, reach["gradient"]) == pytest.approx(peak, rel=1e-3)
    assert reach["gradient"].max() <= peak * (1 + 1e-12)


def test_beyond_the_reach_the_gradient_is_under_a_hundredth():
    figure = views.draw_sigma_reach((0.05, 0.02), side=60, annealing=(0.2, 0.05))
    for of in figure.numbers["reach"].values():
        felt = np.interp(of["felt"], figure.numbers["distance"], of["gradient"])
        assert felt == pytest.approx(0.01 * of["peak"][1], rel=0.02)
    words = said(figure)
    assert "σ 0.2 → 0.05" in words and "gradient per pixel" in words and "felt up to 21 px" in words
    assert fits(figure)
