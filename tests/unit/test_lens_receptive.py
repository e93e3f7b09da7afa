"""The receptive field that the views show is the one that the layer has, counted here in other
ways.
"""

import numpy as np
import pytest
import torch
from torch import nn

from solutions import blocks
from yolostudy.canvas import style
from yolostudy.views.blocks import receptive


class SideBySide(blocks.SPPF):
    """The classic mistake: all three pools read the first map."""

    def forward(self, x):
        first = self.cv1(x)
        return self.cv2(torch.cat([first, *(self.pool(first) for _ in range(3))], dim=1))


class Functional(nn.Module):
    """The same layer with other names, a function for the pool and its ConvModules made in another
    order.
    """

    def __init__(self):
        super().__init__()
        self.last, self.first = blocks.ConvModule(16, 8), blocks.ConvModule(8, 4)

    def forward(self, x):
        maps = [self.first(x)]
        for _ in range(3):
            maps.append(nn.functional.max_pool2d(maps[-1], 5, stride=1, padding=2))
        return self.last(torch.cat(maps, 1))


def reached(rounds, side, row, column, kernel=5):
    """Positions within reach of repeated windows: plain arithmetic on coordinates."""
    rows, columns = np.indices((side, side))
    return np.maximum(abs(rows - row), abs(columns - column)) <= rounds * (kernel // 2)


@pytest.mark.parametrize("position", [(10, 10), (0, 0), (2, 17)])
def test_the_footprints_are_the_windows(position):
    growth = receptive.grow(blocks.SPPF(6, 8), 6, position=position)
    for rounds, (forward, backward) in enumerate(zip(growth.forward, growth.backward, strict=True), start=1):
        expected = reached(rounds, receptive.SIDE, *position)
        assert ((forward.heat > 0) == expected).all()
        assert ((backward.heat > 0) == expected).all(), "the gradient comes from where the light would go"
        assert forward.height == expected.any(1).sum() and forward.width == expected.any(0).sum()
    assert growth.output.window == growth.forward[-1].window


def test_a_wrong_layer_shows_what_it_does():
    assert receptive.grow(blocks.SPPF(4, 4), 4).numbers["widths"] == (5, 9, 13)
    wrong = receptive.grow(SideBySide(4, 4), 4)
    assert wrong.widths == (5, 5, 5) and wrong.numbers["gradient_widths"] == (5, 5, 5) and wrong.output.width == 5
    assert receptive.grow(blocks.SPPF(4, 4, kernel_size=3), 4).widths == (3, 5, 7)
    average = blocks.SPPF(4, 4)
    average.pool = nn.AvgPool2d(5, 1, 2)
    assert receptive.grow(average, 4).widths == (5, 9, 13)
    assert receptive.grow(blocks.ConvModule(4, 4, 3), 4).numbers == {
        "position": (10, 10),
        "widths": (),
        "gradient_widths": (),
        "output": 3,
    }


def test_names_and_modules_do_not_matter():
    assert receptive.grow(Functional(), 8).numbers == receptive.grow(blocks.SPPF(8, 8), 8).numbers


def test_the_layer_is_left_alone():
    layer = blocks.SPPF(4, 4)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state = torch.random.get_rng_state()
    receptive.grow(layer, 4)
    assert layer.training and all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_sliders_move_the_numbers():
    bench = receptive.PoolBench(blocks.SPPF(4, 4), 4)
    first = bench.picture.value
    assert (bench.numbers["width"], bench.numbers["positions"]) == (13, 169)
    bench.pools.value = 0
    assert (bench.numbers["width"], bench.numbers["positions"]) == (1, 1)
    bench.pools.value, bench.row.value, bench.column.value = 2, 0, 20
    assert bench.numbers == {
        "pools": 2,
        "position": (0, 20),
        "height": 5,
        "width": 5,
        "positions": 25,
        "gradient_positions": 25,
    }
    assert bench.picture.value != first and len(bench.picture.value) < style.MAX_BYTES
    assert "image/png" in bench._repr_mimebundle_()


# ----------------------------------------------------------------------------------- whole networks


def test_the_reach_is_the_sum_of_the_kernels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1))
    found = receptive.pull(network, torch.rand(1, 3, 64, 64), (8, 8))
    assert found.reach == (1 + 2 + 4 + 8, 1 + 2 + 4 + 8)
    assert found.centre == (34.0, 34.0)
    columns = np.flatnonzero(found.heat.any(0))
    assert (columns[0] + columns[-1]) / 2 == 32, (
        "kernels of stride 2 are centred on every second pixel, from the first on"
    )


def test_half_of_the_influence_lies_in_the_square():
    found = receptive.pull(lambda x: nn.functional.avg_pool2d(x, 8), torch.rand(1, 3, 64, 64) + 0.1, (3, 3))
    assert found.reach == (8, 8) and found.centre == (28.0, 28.0)
    low, high = int(28 - found.half / 2), int(28 + found.half / 2)
    assert found.heat[low:high, low:high].sum() >= found.heat.sum() / 2
    assert found.half == 6, "of 8 × 8 equal values 6 × 6 are the first square with half of them"
    nothing = receptive.pull(lambda x: nn.functional.avg_pool2d(x, 8), torch.zeros(1, 3, 64, 64), (3, 3))
    assert nothing.reach == (0, 0) and nothing.half == 0


# ----------------------------------------------------------------------------- maps and activations


def test_the_sheet_shows_the_liveliest_channels():
    maps = torch.zeros(6, 10, 12)
    maps[4, 0, 0], maps[1, 5, 5] = 9, -3
    sheet = receptive.feature_sheet(maps, np.zeros((40, 48, 3), np.uint8), count=2, columns=3)
    assert sheet.numbers == {"shape": (6, 10, 12), "channels": [4, 1], "lowest": -3.0, "highest": 9.0}
    assert sheet.image.ndim == 3 and repr(sheet) == "FeatureSheet(2 of 6 channels)"
    bundle = sheet._repr_mimebundle_()
    assert len(bundle) == 2 and all(len(content) * 3 / 4 <= style.MAX_BYTES for content in bundle.values())
    named = receptive.feature_sheet(maps[:2], names=("one", "two"))
    assert named.numbers["channels"] == [0, 1]
    assert receptive.feature_sheet(maps[None]).numbers["channels"][:2] == [4, 1]


def test_the_curves_are_the_functions():
    curves = receptive.activation_curves()
    x = curves["SiLU"]["x"]
    sigmoid = 1 / (1 + np.exp(-x))
    assert np.allclose(curves["SiLU"]["value"], x * sigmoid)
    assert np.allclose(curves["SiLU"]["gradient"], sigmoid * (1 + x * (1 - sigmoid)))
    assert curves["SiLU"]["lowest"] == pytest.approx(-0.2785, abs=1e-3) and curves["SiLU"][
        "lowest_at"
    ] == pytest.approx(-1.278, abs=0.02)
    assert np.allclose(curves["ReLU"]["gradient"], x > 0)
    assert list(receptive.activation_curves({"tanh": torch.tanh})) == ["tanh"]


def test_every_picture_keeps_its_limit():
    growth = receptive.grow(blocks.SPPF(4, 4), 4)
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    tensor = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    pulls = {
        name: receptive.pull(lambda x: nn.functional.avg_pool2d(x, 16), tensor, (5, 5)) for name in ("first", "second")
    }
    drawn = (
        receptive.draw_growth(growth, gradient=True),
        receptive.draw_growth(receptive.grow(nn.Identity(), 2)),
        receptive.draw_activations(receptive.activation_curves()),
        receptive.draw_pulls(noise, pulls),
    )
    for figure in drawn:
        content = style.as_png(figure)
        assert content[:4] == b"\x89PNG" and len(content) <= style.MAX_BYTES
