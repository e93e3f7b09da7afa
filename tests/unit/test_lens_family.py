"""The family's table, the live map, and where two networks part."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from solutions import blocks, network
from yolostudy.canvas import style
from yolostudy.lens.modules import differences
from yolostudy.views.network import family, network_map

SHAPES = network_map.live_shapes("n", 640, network=network)


@pytest.fixture(scope="module")
def members():
    return family.members(
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
    table = family.Table(members)
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
    alone = family.Table(family.members(20, 32, network=network)[:1])
    assert len(alone.header) == 8
    assert len(style.as_png(family.draw_family(members))) <= style.MAX_BYTES


# ----------------------------------------------------------------------------------------- live map


def test_shapes_follow_size_and_image():
    assert SHAPES["P5"] == (256, 20, 20) and SHAPES["outputs"] == [(144, 80, 80), (144, 40, 40), (144, 20, 20)]
    real = network.YOLO(5).eval()
    with torch.no_grad():
        features = real.features(torch.zeros(1, 3, 96, 96))
    known = network_map.live_shapes("n", 96, 5, network)
    assert all(tuple(features[name].shape[1:]) == known[name] for name in differences.MAP_NAMES)
    assert list(known) == [*differences.MAP_NAMES, "outputs"]


def test_the_controls_move_the_map():
    live = network_map.live_map(side=160, num_classes=20, network=network)
    assert live.numbers["shapes"]["stride 8"] == (84, 20, 20) and live.numbers["anchors"] == 525
    before, values = live.map.value, live.numbers["values"]
    live.size.value = "m"
    assert live.numbers["shapes"]["P5"] == (576, 5, 5) and live.numbers["values"] > values and live.map.value != before
    live.side.value = 320
    assert (live.numbers["side"], live.numbers["shapes"]["P2"], live.numbers["anchors"]) == (320, (96, 80, 80), 2100)
    bundle = live._repr_mimebundle_()
    assert "image/png" in bundle and bundle["text/plain"] == "LiveMap(size m, 320 pixels)"
    assert len(bundle["image/png"]) * 3 / 4 <= style.MAX_BYTES


# ------------------------------------------------------------------------------ where networks part


class LooseSPPF(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        maps = [x]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        return torch.cat(maps, 1)


def test_shapes_name_the_layer_that_wrote_the_wrong_map():
    right, wrong = network.YOLO(3), network.YOLO(3)
    wrong.backbone.sppf = LooseSPPF(256)
    picture = torch.zeros(1, 3, 64, 64)
    expected, found = differences.record_shapes(right, picture), differences.record_shapes(wrong, picture)
    assert expected.error is None and "to have 384 channels, but got 1152 channels" in found.error
    difference = differences.first_difference(expected, found)
    assert (difference.name, difference.index) == ("backbone.sppf", 9)
    assert str(difference) == "backbone.sppf: expected 1 × 256 × 2 × 2, found 1 × 1024 × 2 × 2"
    table = differences.ShapeTable(expected, found)
    assert table.numbers == {"rows": len(expected.shapes), "equal": 9, "first": "backbone.sppf"}
    assert table._repr_html_().count("background") == 1 and "RuntimeError" in table._repr_html_()
    assert differences.first_difference(expected, expected) is None and repr(
        differences.ShapeTable(expected, expected)
    ).endswith("(equal)")


def test_recording_leaves_the_model_as_it_was():
    model = network.YOLO(3)
    model.backbone.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    log = differences.record_shapes(model, torch.rand(1, 3, 64, 64))
    assert model.training and not model.backbone.training and model.head.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [name for name, _ in log.shapes].count("neck.up") == 2, "called twice, so it stands there twice"


def test_a_list_that_ends_early_differs_where_it_ends():
    longer, shorter = [("a", (1, 2)), ("b", (3,))], {"x": torch.zeros(1, 2)}
    assert str(differences.first_difference(longer, shorter)) == "b: expected 3, found nothing"
    assert differences.first_difference(shorter, longer).name == "b"


def test_maps_show_where_the_values_part():
    torch.manual_seed(1)
    model = network.YOLO(3).eval()
    with torch.no_grad():
        for module in model.modules():  # large enough that the input still matters at the end
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(3)
        smooth = copy.deepcopy(model)
        smooth.neck.up = nn.Upsample(scale_factor=2, mode="bilinear")
        picture = torch.rand(1, 3, 64, 64)
        apart = differences.compare_maps(model.features(picture), smooth.features(picture))
    assert list(apart)[-1] == "output of Z" and len(apart) == 11
    assert all(apart[name] == 0 for name in ("P2", "P3", "P4", "P5"))
    assert all(apart[name] > 1e-5 for name in ("C", "X", "Y", "Z"))
    assert len(style.as_png(differences.draw_differences(apart))) <= style.MAX_BYTES
    assert len(style.as_png(differences.draw_differences(dict.fromkeys(apart, 0.0)))) <= style.MAX_BYTES
    with pytest.raises(ValueError, match="Compare the shapes first"):
        differences.compare_maps({"P2": np.zeros(3)}, {"P2": np.zeros(4)})
