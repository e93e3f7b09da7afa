"""The planes set: types differ by shape, labels fit the pixels, no folder is half written."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from itertools import combinations, product

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from yolostudy import data
from yolostudy.data import planes
from yolostudy.data.planes import making, scenes
from yolostudy.data.planes.geometry import matrix
from yolostudy.data.planes.sprites import RESOLUTION, draw
from yolostudy.data.records import DataError
from yolostudy.hooks import load_weights
from yolostudy.network import YOLO
from yolostudy.weights import transfer

PAINT = [np.full(3, 0.8)] * 3
TINY = replace(planes.PROFILES["mini"], name="tiny", counts=(60, 4, 4))
types = st.integers(0, len(planes.TYPES) - 1)
angles = st.floats(0, 2 * np.pi)


def sprite(number: int, angle: float, at: tuple[float, float] = (80.0, 80.0), size: float = 70.0):
    return draw(planes.TYPES[number], matrix(at, size, angle), np.array([0.3, 0.2]), 0.9, PAINT, 256)


def whole_mask(drawn, side: int) -> np.ndarray:
    """The opacity of one aircraft in a picture, (side, side)."""
    mask = np.zeros((side, side), np.float32)
    (x, y), (h, w) = drawn.corner, drawn.mask.shape
    rows, columns = slice(max(y, 0), min(y + h, side)), slice(max(x, 0), min(x + w, side))
    mask[rows, columns] = drawn.mask[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    return mask


@cache
def silhouette(plane, span: int = 96) -> np.ndarray:
    """The mask of a type, nose up, (S, S) bool, `span` pixels between the wing tips, centred."""
    side = int(span * 1.7)
    mask = np.zeros((side * 4, side * 4), np.uint8)
    low, high = plane.bounds
    for part in plane.parts:
        if part.solid:
            points = (part.outline - plane.centre) * [1, -1] * span * 4 / (high - low)[0] + side * 2
            cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) > 127


def alike(first, second) -> float:
    """Intersection over union of two silhouettes of one span, the second moved along the first to
    where they agree best.
    """
    shape, other = silhouette(first), silhouette(second)
    reach = shape.shape[0] // 8
    moved = (np.roll(other, shift, 0) for shift in range(-reach, reach + 1, 2))
    return max((shape & there).sum() / (shape | there).sum() for there in moved)


def test_twenty_types_in_two_groups():
    assert [plane.name for plane in planes.TYPES] == [f"A{i}" for i in range(1, 21)]
    assert planes.BASE + planes.NOVEL == tuple(plane.name for plane in planes.TYPES) and len(planes.BASE) == 10
    assert len({plane.description for plane in planes.TYPES}) == 20


def test_names_cost_nothing_and_what_draws_is_found():
    code = "import sys; from yolostudy.data import planes; planes.BASE, planes.KEYPOINTS, planes.PROFILES; "
    code += "sys.exit(bool({'cv2', 'numpy', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(planes, name) is not None for name in planes.__all__)
    with pytest.raises(AttributeError, match="has no 'draw_type'; it offers BASE, "):
        _ = planes.draw_type


@pytest.mark.parametrize("name", ["planes", "mar20"])
def test_the_descriptions_name_the_same_classes(name):
    stated = yaml.safe_load((data.DATASETS / f"{name}.yaml").read_text("utf-8"))
    assert tuple(stated["class_names"]) == planes.CLASSES and tuple(stated["splits"]) == (*planes.SPLITS, "small")
    assert stated["groups"] == {"base": list(planes.BASE), "novel": list(planes.NOVEL)}


def test_any_two_types_differ_in_a_quarter_of_their_union():
    for first, second in combinations(planes.TYPES, 2):
        share = alike(first, second)
        assert share <= 0.75, f"{first.name} and {second.name} share {share:.0%} of their union"


def test_no_type_that_a_backbone_is_trained_on_is_one_of_the_course():
    """Transfer from `abroad` means something only as long as nothing of A1 … A20 is there, neither
    a shape nor a name nor a ground.
    """
    abroad, mini = planes.PROFILES["abroad"], planes.PROFILES["mini"]
    assert len(abroad.types) == 60 and not {plane.name for plane in abroad.types} & {plane.name for plane in mini.types}
    assert not {paint for paint, _ in abroad.layouts} & {paint for paint, _ in mini.layouts}
    for first, second in product(abroad.types, mini.types):
        share = alike(first, second)
        assert share <= 0.75, f"{first.name} and {second.name} share {share:.0%} of their union"


def test_types_cannot_be_told_by_their_tone(monkeypatch):
    """The paint of an aircraft varies between the classes no more than within them (one-way
    analysis of variance).
    """
    seen: list[tuple[int, float]] = []

    def spy(plane, place, light, ambient, colours, finest):
        seen.append((planes.TYPES.index(plane), float(colours[0].mean())))
        return draw(plane, place, light, ambient, colours, finest)

    monkeypatch.setattr(scenes, "draw", spy)
    for index in range(120):
        planes.render_scene("mini", 3, "train", index)
    numbers, tones = np.array([number for number, _ in seen]), np.array([tone for _, tone in seen])
    groups = [tones[numbers == number] for number in range(20)]
    assert min(map(len, groups)) >= 5 and tones.std() > 0.1
    between = sum(len(group) * (group.mean() - tones.mean()) ** 2 for group in groups) / 19
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (len(tones) - 20)
    assert between / within < 2


@settings(max_examples=60, deadline=None)
@given(number=types, angle=angles, size=st.floats(45, 105))
def test_box_is_within_a_pixel_of_the_mask(number, angle, size):
    drawn = sprite(number, angle, size=size)
    solid = whole_mask(drawn, 160) > 0.5
    y, x = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    assert np.abs(planes.visible_box(drawn, 160) - [x[0], y[0], x[-1] + 1, y[-1] + 1]).max() <= 1


@settings(max_examples=60, deadline=None)
@given(number=types, angle=angles)
def test_keypoints_lie_on_the_aircraft_and_left_is_left(number, angle):
    drawn = sprite(number, angle)
    near = cv2.dilate((whole_mask(drawn, 160) > 0.3).astype(np.uint8), np.ones((5, 5), np.uint8))
    for x, y in drawn.keypoints:
        assert near[int(y), int(x)]
    nose, tail, left, right = drawn.keypoints
    ahead, to_right = nose - tail, right - left
    assert ahead[0] * to_right[1] - ahead[1] * to_right[0] > 0  # y points down: right of the way one flies
    assert np.hypot(*(left - right)) > 0.4 * 70
    assert planes.FLIP_INDEX == (0, 1, 3, 2)


@settings(max_examples=25, deadline=None)
@given(number=types, angle=angles)
def test_the_mirror_image_swaps_the_wing_tips(number, angle):
    """Aircraft are symmetric: mirrored pixels are those of the aircraft with the mirrored heading,
    and FLIP_INDEX renames its keypoints.
    """
    drawn, twin = sprite(number, angle), sprite(number, -angle)
    assert np.abs(whole_mask(drawn, 160)[:, ::-1] - whole_mask(twin, 160)).mean() < 0.002
    mirrored = drawn.keypoints * [-1, 1] + [160, 0]
    assert np.allclose(mirrored[list(planes.FLIP_INDEX)], twin.keypoints, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(number=types, angle=angles, x=st.floats(-10, 40), y=st.floats(-10, 170))
def test_box_of_a_cut_aircraft_is_that_of_what_is_seen(number, angle, x, y):
    drawn = sprite(number, angle, (x, y))
    solid = whole_mask(drawn, 160) > 0.5
    if solid.sum() < 60:
        return
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    box = planes.visible_box(drawn, 160)
    assert np.abs(box - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1
    assert (box >= 0).all() and (box <= 160).all()


@pytest.mark.parametrize("profile, indices", [("mini", range(60)), ("laptop", range(4)), ("abroad", range(20))])
def test_scenes_are_well_formed(profile, indices):
    side, (low, high) = planes.PROFILES[profile].side, planes.PROFILES[profile].sizes
    for index in indices:
        scene = planes.render_scene(profile, 0, "train", index)
        assert scene.image.shape == (side, side, 3) and scene.image.dtype == np.uint8
        assert scene.boxes.dtype == np.float32 and scene.keypoints.shape == (len(scene.classes), 4, 3)
        assert (scene.boxes >= 0).all() and (scene.boxes <= side).all()
        width, height = (scene.boxes[:, 2:] - scene.boxes[:, :2]).T
        assert (np.minimum(width, height) > 0.15 * low).all() and (np.maximum(width, height) < 1.3 * high).all()
        visible = scene.keypoints[..., 2] == 2
        assert ((scene.keypoints[..., 2] == 0) | visible).all()
        assert (scene.keypoints[~visible] == 0).all()
        inside = (scene.keypoints[..., :2] >= scene.boxes[:, None, :2] - 2) & (
            scene.keypoints[..., :2] <= scene.boxes[:, None, 2:] + 2
        )
        assert inside.all(-1)[visible].all()


def test_same_numbers_same_pixels_and_other_numbers_others():
    scene, again = planes.render_scene("mini", 5, "test", 7), planes.render_scene("mini", 5, "test", 7)
    assert np.array_equal(scene.image, again.image) and np.array_equal(scene.keypoints, again.keypoints)
    np.random.seed(0)
    planes.render_scene("mini", 5, "test", 8)
    assert np.array_equal(planes.render_scene("mini", 5, "test", 7).image, scene.image)
    for seed, split, index in ((6, "test", 7), (5, "train", 7), (5, "test", 8)):
        assert not np.array_equal(planes.render_scene("mini", seed, split, index).image, scene.image)


@pytest.mark.parametrize("profile", planes.PROFILES)
def test_classes_are_balanced_and_numbers_are_as_stated(profile):
    dealt = scenes.deal_classes(planes.PROFILES[profile], 0, "train")
    counts = np.bincount(np.concatenate(dealt), minlength=len(planes.PROFILES[profile].types))
    assert len(dealt) == planes.PROFILES[profile].counts[0] and np.ptp(counts) <= 1
    mean = np.mean([len(classes) for classes in dealt])
    assert 5.5 < mean < 6.5 if profile == "laptop" else 3.7 < mean < 4.5


def test_few_shot_takes_enough_of_each_class_and_not_much_more():
    dealt = scenes.deal_classes(planes.PROFILES["mini"], 0, "train")
    pictures = [(f"planes_{i:06d}", classes) for i, classes in enumerate(dealt)]
    chosen = set(planes.few_shot(pictures))
    counts = np.bincount(np.concatenate([classes for stem, classes in pictures if stem in chosen]), minlength=20)
    low, high = planes.SHOTS
    assert counts.min() >= low and counts.max() <= high
    assert planes.few_shot(pictures) == planes.few_shot(pictures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(planes.PROFILES, "tiny", TINY)
        yield planes.make(tmp_path_factory.mktemp("made") / "set", "tiny", seed=1, workers=1, progress=False)


def test_make_writes_the_layout_of_mar20(folder):
    stems = {
        split: (folder / "splits" / f"{split}.txt").read_text().split()
        for split in ("train", "validation", "test", "small")
    }
    assert [len(stems[split]) for split in planes.SPLITS] == [60, 4, 4]
    everything = [stem for split in planes.SPLITS for stem in stems[split]]
    assert len(set(everything)) == 68 and set(stems["small"]) <= set(stems["train"])
    assert sorted(path.stem for path in (folder / "images").iterdir()) == sorted(everything)
    assert sorted(path.stem for path in (folder / "annotations").iterdir()) == sorted(everything)
    description = json.loads((folder / "planes.json").read_text())
    assert description["class_names"] == [plane.name for plane in planes.TYPES] and description["flip_index"] == [
        0,
        1,
        3,
        2,
    ]
    assert not list(folder.parent.glob(".set*"))

    scene = planes.render_scene(TINY, 1, "validation", 2)
    root = ElementTree.parse(folder / "annotations" / "planes_000062.xml").getroot()
    assert root.findtext("filename") == "planes_000062.jpg" and root.findtext("size/width") == "160"
    assert [obj.findtext("name") for obj in root.iter("object")] == [
        planes.TYPES[number].name for number in scene.classes
    ]
    for obj, box, points in zip(root.iter("object"), scene.boxes, scene.keypoints, strict=True):
        assert np.allclose(
            [float(obj.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")], box, atol=0.051
        )
        written = [[float(point.get(key)) for key in ("x", "y", "visible")] for point in obj.iter("keypoint")]
        assert np.allclose(written, points, atol=0.051)
        assert [point.get("name") for point in obj.iter("keypoint")] == list(planes.KEYPOINTS)
    image = cv2.imread(str(folder / "images" / "planes_000062.jpg"))[..., ::-1]
    assert np.abs(image.astype(int) - scene.image).mean() < 6


def test_make_again_is_instant_and_workers_do_not_matter(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(planes.PROFILES, "tiny", TINY)
    twin = planes.make(tmp_path / "set", "tiny", seed=1, workers=2, progress=False)
    for path in sorted(folder.rglob("*.*")):
        assert (twin / path.relative_to(folder)).read_bytes() == path.read_bytes()
    monkeypatch.setattr(making, "_write_picture", None)  # it must not be needed
    assert planes.make(folder, "tiny", seed=1) == folder
    assert "already there" in capsys.readouterr().out


def test_make_refuses_what_it_would_overwrite(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(planes.PROFILES, "tiny", TINY)
    with pytest.raises(DataError, match=r"holds planes .*'seed': 1.*Give another folder"):
        planes.make(folder, "tiny", seed=2)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("mother")
    with pytest.raises(DataError, match="not a planes set"):
        planes.make(tmp_path / "letters", "tiny")
    with pytest.raises(DataError, match=r"unknown profile 'huge'\. Known profiles: sample, mini"):
        planes.make(tmp_path / "new", "huge")
    assert not (tmp_path / "new").exists()


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(planes.PROFILES, "tiny", TINY)
    written = making._write_picture

    def interrupt(job):
        if job[-1] == 5:
            raise KeyboardInterrupt
        return written(job)

    monkeypatch.setattr(making, "_write_picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        planes.make(tmp_path / "set", "tiny", workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_type_sheet_shows_every_type():
    sheet = planes.type_sheet(80)
    assert sheet.shape == (320, 400, 3) and sheet.dtype == np.uint8
    cells = sheet.reshape(4, 80, 5, 80, 3).swapaxes(1, 2).reshape(20, -1).astype(int)
    assert (cells.std(1) > 10).all()
    assert (
        RESOLUTION >= 2 * planes.PROFILES["laptop"].sizes[1]
        and planes.PROFILES["mini"].finest >= 2 * planes.PROFILES["mini"].sizes[1]
    )


def test_the_shipped_backbone_has_seen_abroad_only_and_fits_under_the_names_of_others():
    weights, card = load_weights(data.DATASETS / "weights" / "backbone-n-planes.safetensors")
    assert card["preset"]["data"] == "planes-abroad"
    assert card["classes"] == [plane.name for plane in planes.PROFILES["abroad"].types]
    assert {int(key.split(".")[1]) for key in weights} == set(range(10)) and all(
        key.startswith("model.") for key in weights
    )
    model = YOLO(20, "n")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    report = transfer(weights, model, "backbone")
    assert report.share == 1 and not report.unexpected
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {key for key in before if key.startswith("backbone.")}
