"""What is shipped beside the code: the sample and the weights, and that they belong together."""

import numpy as np

from yolostudy import data, views
from yolostudy.data import planes
from yolostudy.runs.detector import Detector, default_weights


def test_the_sample_is_sound_and_is_what_its_seed_gives():
    splits = {name: data.open_set("sample", name) for name in data.splits("sample")}
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [24, 8, 8]
    assert splits["train"].keypoint_names == planes.KEYPOINTS and splits["train"].class_names == tuple(
        p.name for p in planes.TYPES
    )
    scene, record = planes.render_scene("sample", 1, "train", 0), splits["train"].records[0]
    assert record.classes.tolist() == scene.classes.tolist()
    assert np.abs(record.boxes - scene.boxes).max() <= 0.06  # written with one decimal


def test_the_shipped_detector_finds_planes_that_it_has_never_seen():
    path = default_weights()
    assert path.stat().st_size <= 7e6
    detector = Detector(path)
    assert detector.card["map50"] >= 0.9 and detector.image_size == 160
    hits = truths = alarms = 0
    for index in range(24):
        scene = planes.render_scene("mini", seed=77, split="test", index=index)
        judged = views.compare_detections(detector(scene.image), np.column_stack([scene.classes, scene.boxes]))
        hits, truths, alarms = hits + judged.hits, truths + len(scene.boxes), alarms + judged.false_alarms
    assert hits >= 0.8 * truths and alarms <= 0.3 * truths


def test_an_image_of_any_shape_keeps_its_pixels():
    """A wide picture is letterboxed; boxes come back in its own pixels."""
    scene = planes.render_scene("mini", seed=77, split="test", index=3)
    wide = np.full((320, 640, 3), 114, np.uint8)
    wide[:, 160:480] = np.repeat(np.repeat(scene.image, 2, axis=0), 2, axis=1)
    found = Detector(default_weights(), image_size=320)(wide)
    assert len(found) and (found[:, [0, 2]] >= 150).all() and (found[:, [0, 2]] <= 490).all()
