"""Weights from Ultralytics to this course and back, for every size, and through files."""

import numpy as np
import pytest
import torch
from test_detector import lively

from yolostudy import data
from yolostudy.bridge import checkpoints
from yolostudy.bridge import ultralytics as oracle
from yolostudy.data.loader import read_image
from yolostudy.network import SIZES, YOLO
from yolostudy.runs.detector import SHIPPED, Detector
from yolostudy.runs.weights_files import export_weights, import_weights
from yolostudy.weights import transfer

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
CLASSES = [f"A{number}" for number in range(1, 21)]


def furthest(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference, divided by the largest value if that is above 1."""
    assert min(float(level.std()) for level in theirs) > 0.01  # constant maps would prove nothing
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_there_and_back(size):
    theirs = lively(oracle.build(size, 20, seed=1), seed=2).eval()
    ours = YOLO(20, size).eval()
    report = transfer(theirs.state_dict(), ours, minimum_share=1.0)
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    expected = oracle.raw_maps(theirs, IMAGES)
    assert furthest(ours(IMAGES), expected) <= 1e-5
    back = checkpoints.make(ours.state_dict(), CLASSES, size)["model"]
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in back.state_dict().items())
    assert furthest(oracle.raw_maps(back, IMAGES), expected) == 0


@torch.no_grad()
def test_a_file_of_theirs_becomes_ours(tmp_path):
    oracle.load()
    from ultralytics import YOLO as Theirs

    theirs = Theirs("yolov8n.yaml")
    lively(theirs.model, seed=2)
    theirs.save(tmp_path / "yolov8n.pt")  # in half precision
    made, report = import_weights(tmp_path / "yolov8n.pt", str(tmp_path / "made.safetensors"))
    assert report.share == 1 and (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    ours = YOLO(80).eval()
    transfer(checkpoints.load(made)[0], ours, minimum_share=1.0)
    read = Theirs(tmp_path / "yolov8n.pt").model.eval()
    assert furthest(ours(IMAGES), oracle.raw_maps(read, IMAGES)) <= 1e-5


@torch.no_grad()
def test_a_file_of_ours_becomes_theirs(tmp_path):
    """The shipped detector finds the same planes in Ultralytics' `YOLO(path)` as in ours."""
    oracle.load()
    from ultralytics import YOLO as Theirs

    ours = Detector(SHIPPED / "planes-n-mini.safetensors")
    theirs = Theirs(export_weights(SHIPPED / "planes-n-mini.safetensors", tmp_path / "planes.pt"))
    assert (
        theirs.names == dict(enumerate(ours.class_names))
        and theirs.task == "detect"
        and theirs.overrides["imgsz"] == 160
    )
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(7))
    assert furthest(oracle.raw_maps(theirs.model.eval(), images), ours.model(images)) <= 1e-5
    seen = 0
    for record in data.open_set("sample", "validation").records:
        image = read_image(record.image)
        wanted = ours(image)
        found = theirs.predict(np.ascontiguousarray(image[..., ::-1]), conf=0.25, iou=0.7, verbose=False)[
            0
        ].boxes.data.numpy()
        assert found.shape == wanted.shape
        # in pixels; not exact, because Ultralytics fuses normalisations into convolutions
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-2)
        seen += len(found)
    assert seen >= 5
