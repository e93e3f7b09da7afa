"""The receptive field that the views show is the one that the layer has, counted in other ways."""

import numpy as np
import pytest
import torch
from torch import nn

from solutions import blocks
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.blocks import receptive_field


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
    field = views.receptive_field(blocks.SPPF(6, 8), 6, position=position)
    for rounds, (forward, backward) in enumerate(zip(field.forward, field.backward, strict=True), start=1):
        expected = reached(rounds, receptive_field.SIDE, *position)
        assert ((forward.heat > 0) == expected).all()
        assert ((backward.heat > 0) == expected).all(), "the gradient comes from where the light would go"
        assert forward.height == expected.any(1).sum() and forward.width == expected.any(0).sum()
    assert field.output.window == field.forward[-1].window


def test_a_wrong_layer_shows_what_it_does():
    assert views.receptive_field(blocks.SPPF(4, 4), 4).numbers["widths"] == (5, 9, 13)
    wrong = views.receptive_field(SideBySide(4, 4), 4)
    assert wrong.widths == (5, 5, 5) and wrong.numbers["gradient_widths"] == (5, 5, 5) and wrong.output.width == 5
    assert views.receptive_field(blocks.SPPF(4, 4, kernel_size=3), 4).widths == (3, 5, 7)
    average = blocks.SPPF(4, 4)
    average.pool = nn.AvgPool2d(5, 1, 2)
    assert views.receptive_field(average, 4).widths == (5, 9, 13)
    assert views.receptive_field(blocks.ConvModule(4, 4, 3), 4).numbers == {
        "position": (10, 10),
        "widths": (),
        "gradient_widths": (),
        "output": 3,
    }


def test_names_and_modules_do_not_matter():
    assert views.receptive_field(Functional(), 8).numbers == views.receptive_field(blocks.SPPF(8, 8), 8).numbers


def test_the_layer_is_left_alone():
    layer = blocks.SPPF(4, 4)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state = torch.random.get_rng_state()
    views.receptive_field(layer, 4)
    assert layer.training and all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_sliders_move_the_numbers():
    bench = views.PoolBench(blocks.SPPF(4, 4), 4)
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


def test_every_picture_keeps_its_limit():
    field = views.receptive_field(blocks.SPPF(4, 4), 4)
    figures = (
        views.draw_receptive_field(field, gradient=True),
        views.draw_receptive_field(views.receptive_field(nn.Identity(), 2)),
    )
    assert figures[0].numbers == field.numbers and figures[1].numbers["widths"] == ()
    for figure in figures:
        content = style.as_png(figure)
        assert content[:4] == b"\x89PNG" and len(content) <= style.MAX_BYTES
