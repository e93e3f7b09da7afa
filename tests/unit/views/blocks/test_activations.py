"""The curves are those of the functions."""

import numpy as np
import pytest
import torch

from yolostudy import views
from yolostudy.canvas import style


def test_the_curves_are_the_functions():
    curves = views.activation_curves()
    x = curves["SiLU"]["x"]
    sigmoid = 1 / (1 + np.exp(-x))
    assert np.allclose(curves["SiLU"]["value"], x * sigmoid)
    assert np.allclose(curves["SiLU"]["gradient"], sigmoid * (1 + x * (1 - sigmoid)))
    assert curves["SiLU"]["lowest"] == pytest.approx(-0.2785, abs=1e-3) and curves["SiLU"][
        "lowest_at"
    ] == pytest.approx(-1.278, abs=0.02)
    assert np.allclose(curves["ReLU"]["gradient"], x > 0)
    assert list(views.activation_curves({"tanh": torch.tanh})) == ["tanh"]


def test_the_picture_keeps_its_limit():
    curves = views.activation_curves()
    figure = views.draw_activations(curves)
    content = style.as_png(figure)
    assert figure.numbers is curves and content[:4] == b"\x89PNG" and len(content) <= style.MAX_BYTES
