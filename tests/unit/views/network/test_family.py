"""The family's table: its counts and its operations, counted in another way."""

import pytest
import torch
from torch import nn

from solutions import blocks, network
from yolostudy import views
from yolostudy.canvas import style


@pytest.fixture(scope="module")
def members():
    return views.family_members(
        num_classes=80, image_size=64, theirs={"n": (3157200, 8.7), "s": (11166560, None)}, network=network
    )


def test_the_counts_are_those_of_a_real_network(members):
    small = network.YOLO(80)
    nano = members[0]
    assert [member.size for member in members] == list("nsmlx")
    assert nano.parameters == sum(parameter.numel() for parameter in small.parameters()) == 3157184
    assert [member.parameters for member in members[1:]] == [11166544, 25902624, 43691504, 68229632], (
        "as the comments in yolov8.yaml"
    )
    assert nano.bottlenecks == sum(type(module) is blocks.Bottleneck for module in small.modules())
    assert (nano.width, nano.ratio, nano.depth, nano.channels) == (0.25, 2.0, 0.33, (32, 64, 128, 256))
    assert nano.their_parameters - nano.parameters == 16


def test_the_operations_are_two_for_each_weight_at_each_position(members):
    seen = []

    def count(module, inputs, output):
        seen.append(2 * module.weight.numel() * output.shape[2] * output.shape[3])

    model = network.YOLO(80).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert members[0].gflops == pytest.approx(sum(seen) / 1e9, rel=1e-9)


def test_the_table_shows_what_is_known(members):
    table = views.FamilyTable(members)
    assert table.rows[0] == [
        "n",
        "0.25",
        "2.0",
        "0.33",
        "32, 64, 128, 256",
        "10",
        "3,157,184",
        "3,157,200",
        "0.1",
        "8.7",
    ]
    assert table.rows[1][-1] == "–" and table.rows[2][7] == "–"
    assert str(table).count("\n") == 5 and table._repr_html_().count("<tr>") == 6
    alone = views.FamilyTable(views.family_members(20, 32, network=network)[:1])
    assert len(alone.header) == 8
    assert len(style.as_png(views.draw_family(members))) <= style.MAX_BYTES
