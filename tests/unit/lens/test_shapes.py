"""Tables of shapes survive errors and say what both sides expected."""

from collections import Counter

import pytest
import torch
from torch import nn

from yolostudy import network
from yolostudy.lens.modules.differences import record_shapes
from yolostudy.lens.modules.shape_table import shapes


def test_the_table_agrees_with_the_log_and_counts_parameters():
    model, picture = network.YOLO(20), torch.zeros(1, 3, 64, 96)
    table = shapes(model, picture)
    log = record_shapes(model, picture, depth=2)
    mine = [(row.name, row.output) for row in table.rows]
    assert not Counter(log.shapes) - Counter(mine), "all that the older log has"
    assert (
        table.rows[0].parameters
        == sum(p.numel() for p in model.parameters())
        == sum(r.parameters for r in table.rows if r.depth == 1)
    )
    assert [row.repeated for row in table.rows if row.name == "neck.up"] == [False, True]
    head = next(row for row in table.rows if row.name == "head")
    assert head.given == ((1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)) and head.made[2] == (1, 84, 2, 3)
    assert table.broken is None and table.rows[-1].leaf and len(table.shown) < len(table.rows)
    seen = []
    shapes(model, picture, watch=seen.append)
    assert [row.name for row in seen][-1] == "" and len(seen) == len(table.rows)


class Breaks(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.conv, self.linear, self.norm, self.code = nn.Conv2d(3, 8, 1), nn.Linear(10, 2), nn.BatchNorm2d(4), code

    def forward(self, x):
        return self.code(self, x)


@pytest.mark.parametrize(
    "code, name, expected",
    [
        (
            lambda m, x: m.conv(m.conv(x)),
            "conv",
            "The weight 8 × 3 × 1 × 1 takes 3 channels, the input 1 × 8 × 6 × 6 has 8.",
        ),
        (lambda m, x: m.norm(m.conv(x)), "norm", "The normalisation holds 4 channels, the input 1 × 8 × 6 × 6 has 8."),
        (lambda m, x: m.linear(x), "linear", "The weight 2 × 10 takes 10 features, the input 1 × 3 × 6 × 6 has 6."),
        (
            lambda m, x: torch.cat((m.conv(x), x[..., 1:]), dim=1),
            "",
            "differ in dimension 3: tensor 1 is 1 × 8 × 6 × 6, tensor 2 is 1 × 3 × 6 × 5",
        ),
        (lambda m, x: m.conv(x) + x, "", "dimension -3 is 8 on the left, 3 on the right"),
        (lambda m, x: x.view(5, -1), "", "1 × 3 × 6 × 6 holds 108 values, which do not fit into (5, -1)"),
        (lambda m, x: x[0, 0] @ torch.ones(5, 2), "", "The left side 6 × 6 ends in 6, the right side 5 × 2 takes 5."),
        (lambda m, x: {}["map"], "", ""),
    ],
)
def test_a_network_that_breaks_off_says_what_both_sides_expected(code, name, expected):
    table = shapes(Breaks(code), torch.zeros(1, 3, 6, 6))
    assert table.broken.name == name and expected in table.broken.expected
    assert sum(row.broke for row in table.rows) == 1 and next(row for row in table.rows if row.broke).name == name
    assert table.broken.place.startswith("test_shapes.py:") and table.broken.error in str(table)
    assert table._repr_html_().count("background") == 1 and str(table).count("\n>") + str(table).startswith(">") == 1


def test_1152_channels_where_384_were_expected():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(5, 1, 2)

        def forward(self, x):
            maps = [x]
            for _ in range(3):
                maps.append(self.pool(maps[-1]))
            return torch.cat(maps, 1)

    model = network.YOLO(3)
    model.backbone.sppf = Loose()
    table = shapes(model, torch.zeros(1, 3, 64, 64))
    assert (
        table.broken.name == "neck.csp_c.cv1.conv"
        and "takes 384 channels, the input 1 × 1152 × 4 × 4 has 1152" in str(table)
    )
    assert table.shown[-1].broke and table.shown[-1].depth > 2, "shown although it lies deeper than the rest"
