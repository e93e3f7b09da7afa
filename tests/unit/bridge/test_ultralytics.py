"""The oracle gives Ultralytics' own numbers in our shapes, and leaves the process as it was."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.ultralytics_baseline import SHAPES, draw_shapes
from yolostudy.bridge import ultralytics as bridge


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def nano():
    return bridge.build("n", num_classes=5, seed=0)


def targets_of(rows, image_size=(96, 160)):
    """(N, 6) pixel targets from (image, class, x1, y1, x2, y2) with the corners in 0…1."""
    height, width = image_size
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6) * torch.tensor([1, 1, width, height, width, height])


TARGETS = targets_of([(1, 4, 0.1, 0.2, 0.5, 0.9), (0, 0, 0.25, 0.25, 0.75, 0.8), (1, 2, 0.6, 0.1, 0.9, 0.4)])


@pytest.mark.parametrize(("size", "parameters"), [("n", 3_157_200), ("s", 11_166_560)])
def test_build_gives_yolov8(size, parameters):
    model = bridge.build(size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    weights = bridge.state_dict_for(model)
    assert len(weights) == 355
    assert "model.22.cv2.0.0.conv.weight" in weights
    weights["model.0.conv.weight"].zero_()
    assert model.model[0].conv.weight.abs().sum() > 0, "state_dict_for must hand out copies"


def test_build_is_repeatable_and_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second, third = bridge.build(seed=1), bridge.build(seed=1), bridge.build(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.model[0].conv.weight, second.model[0].conv.weight)
    assert not torch.equal(first.model[0].conv.weight, third.model[0].conv.weight)


def test_build_refuses_an_unknown_size():
    with pytest.raises(ValueError, match="choose one of n, s, m, l, x"):
        bridge.build("q")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("height, width", [(64, 64), (384, 640)])
def test_raw_maps_are_the_heads_own_outputs(nano, training, height, width):
    nano.train(training)
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    features, head = [], nano.model[-1]
    handle = head.register_forward_pre_hook(lambda _, arguments: features.extend(arguments[0]))
    maps = bridge.raw_maps(nano, images)
    handle.remove()
    assert [tuple(m.shape) for m in maps] == [(2, 4 * 16 + 5, height // s, width // s) for s in bridge.STRIDES]
    for level, feature, box, score in zip(maps, features, head.cv2, head.cv3, strict=True):
        assert torch.equal(level, torch.cat((box(feature), score(feature)), 1))


def test_criterion_equals_a_direct_call_of_the_models_loss(nano):
    nano.eval()
    images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    batch = bridge.to_batch(TARGETS, (96, 160)) | {"img": images}
    direct, items = nano.loss(batch)
    maps = bridge.raw_maps(nano, images)
    for criterion in (bridge.Criterion(5), bridge.Criterion(5, model=nano)):
        parts = criterion(maps, TARGETS, (96, 160))
        assert torch.equal(torch.stack(parts) * 2, direct)
        assert [p.item() for p in parts] == [v.item() for v in items.values()]
        assert all(p > 0 for p in parts)
        assert torch.equal(parts.total, parts.box + parts.cls + parts.dfl)


def test_criterion_keeps_gradients_to_the_maps(nano):
    maps = [m.detach().requires_grad_() for m in bridge.raw_maps(nano.eval(), torch.rand(2, 3, 96, 160))]
    bridge.Criterion(5)(maps, TARGETS, (96, 160)).total.backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)


@pytest.mark.parametrize("reg_max", [8, 16])
def test_criterion_takes_any_number_of_bins_and_a_batch_without_objects(reg_max):
    maps = [torch.zeros(2, 4 * reg_max + 3, 64 // s, 64 // s) for s in bridge.STRIDES]
    parts = bridge.Criterion(3, reg_max)(maps, torch.zeros(0, 6), (64, 64))
    anchors, uncertain = 64 + 16 + 4, torch.tensor(2.0).log()  # binary cross entropy at a logit of 0
    assert parts.box == 0 and parts.dfl == 0
    torch.testing.assert_close(parts.cls, 0.5 * 2 * anchors * 3 * uncertain)


def test_criterion_refuses_a_model_of_another_kind(nano):
    with pytest.raises(ValueError, match="The model has 5 classes and 16 bins, but 80 and 16"):
        bridge.Criterion(80, model=nano)


corner = st.floats(-0.25, 1.25, width=32)
row = st.tuples(st.integers(0, 3), st.integers(0, 4), corner, corner, corner, corner)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, max_size=12), size=st.sampled_from([(96, 160), (640, 640), (384, 640)]))
def test_pixel_targets_are_what_the_loss_sees_to_the_last_bit(rows, size):
    bridge.load()
    batch = bridge.to_batch(targets_of(rows, size), size)
    ours = bridge.pixel_targets(batch, size)
    scale = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    table = torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"], batch["bboxes"]), 1)
    theirs = bridge.Criterion(5).loss.preprocess(table, 4, scale_tensor=scale)  # (4, most objects in an image, 5)
    for image in range(4):
        mine = ours[ours[:, 0] == image, 1:]
        assert torch.equal(theirs[image, : len(mine)], mine)
        assert not theirs[image, len(mine) :].any()
    ordered = sorted(rows, key=lambda r: r[0])
    assert torch.allclose(ours, targets_of(ordered, size), atol=2e-4)


def test_decode_of_maps_equals_the_evaluation_forward(nano):
    images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(2))
    nano.train()
    decoded = bridge.decode(nano, images)
    assert nano.training
    assert decoded.shape == (2, 9, 240 + 60 + 15)
    assert torch.equal(bridge.decode(bridge.raw_maps(nano.eval(), images)), decoded)


def test_nms_finds_the_boxes_that_the_maps_were_made_for():
    """One confident anchor per level, all distances at bin 2: a box of four strides around it."""
    maps = [torch.full((1, 4 * 16 + 3, 64 // s, 64 // s), -20.0) for s in bridge.STRIDES]
    expected = []
    for number, (level, stride) in enumerate(zip(maps, bridge.STRIDES, strict=True)):
        level[0, 2 : 4 * 16 : 16] = 20.0
        level[0, 4 * 16 + number, 1, 1] = 3.0 - number
        middle = 1.5 * stride
        score = torch.tensor(3.0 - number).sigmoid().item()
        expected.append(
            [middle - 2 * stride, middle - 2 * stride, middle + 2 * stride, middle + 2 * stride, score, number]
        )
    maps[0][0, 4 * 16, 1, 2] = 2.5  # one stride to the right of the first: overlaps it by 3/5, below 0.7 and above 0.5
    decoded = bridge.decode(maps)
    assert len(bridge.nms(decoded)[0]) == 4
    (kept,) = bridge.nms(decoded, iou_threshold=0.5)
    torch.testing.assert_close(kept, torch.tensor(expected))
    assert len(bridge.nms(decoded, max_detections=1)[0]) == 1
    assert len(bridge.nms(decoded, score_threshold=0.99)[0]) == 0


def test_another_version_is_refused_with_a_remedy(monkeypatch):
    ultralytics = bridge.load()
    monkeypatch.setattr(ultralytics, "__version__", "8.3.0")
    with pytest.raises(
        ImportError, match=r"compared with Ultralytics 8\.4\.190, but 8\.3\.0 is .*pip install ultralytics==8\.4\.190"
    ):
        bridge.build()


def test_a_missing_ultralytics_is_named_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ImportError, match=r"not installed; run `python -m pip install ultralytics==8\.4\.190`"):
        bridge.load()


def process_state():
    printed = np.arange(40) / 3, torch.arange(40) / 3
    return (
        torch.get_num_threads(),
        cv2.getNumThreads(),
        torch.save,
        os.environ.get("OMP_NUM_THREADS"),
        *map(repr, printed),
    )


def test_import_asks_nobody_and_leaves_the_process_alone():
    """In a fresh process, since an import happens once."""
    program = """
import socket
from tests.unit.bridge.test_ultralytics import bridge, process_state
def refuse(*arguments, **keywords):
    raise SystemExit(f"asked the network for {arguments}")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
before = process_state()
bridge.build()
assert process_state() == before, (process_state(), before)
print("quiet")
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "OMP_", "PYTEST_"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("quiet\n", "", 0)


def test_fit_and_validate_run_offline_and_leave_the_process_alone(tmp_path):
    data = draw_shapes(tmp_path / "shapes", train=12, val=6, size=64)
    torch.set_num_threads(os.cpu_count())  # Ultralytics would leave one less
    before = process_state()
    seen = []
    result = bridge.fit(data, 5, 64, 4, project=tmp_path / "runs", callback=seen.append, stop_at_map50=0.0)
    assert seen == result.history and len(seen) == 1, "any mAP50 reaches 0, so one epoch is enough"
    assert (
        seen[0].images == 12
        and 0 < seen[0].training_seconds < seen[0].wall_seconds == result.seconds < result.total_seconds
    )
    assert result.images_per_second == 12 / seen[0].training_seconds
    assert result.seconds_to(0.0) == seen[0].wall_seconds and result.seconds_to(1.1) is None
    assert result.settings["workers"] == 0 and result.settings["optimizer"] == "AdamW"
    assert process_state() == before

    scores = bridge.validate(result.weights, data, 64)
    assert 0 <= scores.map50_95 <= scores.map50 <= 1 and set(scores.per_class) <= set(SHAPES)
    model = bridge.build(num_classes=3)
    model.load_state_dict(bridge.state_dict_for(result.weights))
    assert bridge.validate(model, data, 64).map50 == pytest.approx(scores.map50, abs=1e-6)


def test_fit_ends_within_its_budget(tmp_path):
    data = draw_shapes(tmp_path / "shapes", train=12, val=4, size=64)
    result = bridge.fit(data, 100, 64, 4, project=tmp_path / "runs", budget_seconds=0.0, threads=1)
    assert [epoch.images for epoch in result.history] == [4], "the first batch already passes a budget of nothing"
