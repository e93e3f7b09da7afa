"""Where two networks part: shapes, and the values of their maps."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from solutions import network
from yolostudy.canvas import style
from yolostudy.lens.modules import differences


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
