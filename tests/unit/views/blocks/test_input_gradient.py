"""The gradient of a position reaches as far as the kernels do."""

import numpy as np
import torch
from torch import nn

from yolostudy import views
from yolostudy.canvas import style


def test_the_reach_is_the_sum_of_the_kernels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1))
    found = views.input_gradient(network, torch.rand(1, 3, 64, 64), (8, 8))
    assert found.reach == (1 + 2 + 4 + 8, 1 + 2 + 4 + 8)
    assert found.centre == (34.0, 34.0)
    columns = np.flatnonzero(found.heat.any(0))
    assert (columns[0] + columns[-1]) / 2 == 32, (
        "kernels of stride 2 are centred on every second pixel, from the first on"
    )


def test_half_of_the_influence_lies_in_the_square():
    found = views.input_gradient(lambda x: nn.functional.avg_pool2d(x, 8), torch.rand(1, 3, 64, 64) + 0.1, (3, 3))
    assert found.reach == (8, 8) and found.centre == (28.0, 28.0)
    low, high = int(28 - found.half / 2), int(28 + found.half / 2)
    assert found.heat[low:high, low:high].sum() >= found.heat.sum() / 2
    assert found.half == 6, "of 8 × 8 equal values 6 × 6 are the first square with half of them"
    nothing = views.input_gradient(lambda x: nn.functional.avg_pool2d(x, 8), torch.zeros(1, 3, 64, 64), (3, 3))
    assert nothing.reach == (0, 0) and nothing.half == 0


def test_the_picture_keeps_its_limit():
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    tensor = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    gradients = {
        name: views.input_gradient(lambda x: nn.functional.avg_pool2d(x, 16), tensor, (5, 5))
        for name in ("first", "second")
    }
    figure = views.draw_input_gradients(noise, gradients)
    assert figure.numbers["first"] == gradients["first"].numbers and len(figure.numbers) == 2
    content = style.as_png(figure)
    assert content[:4] == b"\x89PNG" and len(content) <= style.MAX_BYTES
