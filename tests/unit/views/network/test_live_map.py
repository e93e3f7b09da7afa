"""The live map: its shapes against a real network, and its controls."""

import torch

from solutions import network
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.lens.modules import differences

SHAPES = views.network_shapes("n", 640, network=network)


def test_shapes_follow_size_and_image():
    assert SHAPES["P5"] == (256, 20, 20) and SHAPES["outputs"] == [(144, 80, 80), (144, 40, 40), (144, 20, 20)]
    real = network.YOLO(5).eval()
    with torch.no_grad():
        features = real.features(torch.zeros(1, 3, 96, 96))
    known = views.network_shapes("n", 96, 5, network)
    assert all(tuple(features[name].shape[1:]) == known[name] for name in differences.MAP_NAMES)
    assert list(known) == [*differences.MAP_NAMES, "outputs"]


def test_the_controls_move_the_map():
    live = views.LiveMap(side=160, num_classes=20, network=network)
    assert live.numbers["shapes"]["stride 8"] == (84, 20, 20) and live.numbers["anchors"] == 525
    before, values = live.map.value, live.numbers["values"]
    live.size.value = "m"
    assert live.numbers["shapes"]["P5"] == (576, 5, 5) and live.numbers["values"] > values and live.map.value != before
    live.side.value = 320
    assert (live.numbers["side"], live.numbers["shapes"]["P2"], live.numbers["anchors"]) == (320, (96, 80, 80), 2100)
    bundle = live._repr_mimebundle_()
    assert "image/png" in bundle and bundle["text/plain"] == "LiveMap(size m, 320 pixels)"
    assert len(bundle["image/png"]) * 3 / 4 <= style.MAX_BYTES
