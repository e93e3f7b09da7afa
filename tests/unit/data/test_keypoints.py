"""Keypoints from the file to the batch: what a set says of them, what is refused or warned of, and every transform."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.test_augment import FLIP_INDEX, painted_item, random_item, rectangles, seeds
from tests.unit.data.test_bad_data import JSON, POSE, SIZE, TXT, XML, change, edit, make
from yolostudy import data
from yolostudy.command import main
from yolostudy.data import check
from yolostudy.data.augment import Item, affine_matrix, crop, flip_left_right, flip_up_down, mosaic, warp
from yolostudy.data.keypoints import MAX_KEYPOINTS, checked_flip, checked_shape, mirror, opposite, warn_of_flip
from yolostudy.data.records import DataError, Problems

quick = settings(max_examples=60, deadline=None, derandomize=True)
COCO_NAMES = "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow"
COCO_NAMES = (*COCO_NAMES.split(), *"left_wrist right_wrist left_hip right_hip left_knee right_knee".split())
COCO_NAMES += ("left_ankle", "right_ankle")


# Names and pairs


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left wing tip", "right wing tip"),
        ("RightEar", "LeftEar"),
        ("LEFT_HIP", "RIGHT_HIP"),
        ("l_wing", "r_wing"),
        ("eye.R", "eye.L"),
        ("port winglet", "starboard winglet"),
        ("nose", "nose"),
        ("tail", "tail"),
        ("airport", "airport"),
        ("rudder", "rudder"),
    ],
)
def test_the_opposite_of_a_name(name, other):
    assert opposite(name) == other and opposite(other) == name


def test_pairs_are_found_by_name():
    assert mirror(POSE) == (0, 2, 1) and mirror(()) == ()
    assert mirror(COCO_NAMES) == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)  # as coco-pose.yaml has it
    assert mirror(("left", "nose")) == (0, 1)  # without a partner, each keeps its place
    assert checked_flip("x", None, POSE) == checked_flip("x", [], POSE) == (0, 2, 1)


@pytest.mark.parametrize(
    ("names", "flip", "stated", "says", "remedy"),
    [
        (POSE, (0, 1, 2), True, "keypoints have a side (left wing tip, right wing tip)", "flip index [0, 2, 1]"),
        (("nose", "l_tip", "r_tip"), (0, 1, 2), True, "have a side (l_tip, r_tip)", "flip index [0, 2, 1]"),
        (("left eye", "nose"), (0, 1), True, "have a side (left eye)", "flipping twice must change nothing"),
        (("keypoint 0", "keypoint 1"), (0, 1), False, "neither a flip index nor a name for the 2", "the identity"),
    ],
)
def test_a_flip_index_that_exchanges_nothing_is_warned_of(names, flip, stated, says, remedy):
    problems = Problems()
    warn_of_flip("a:3", names, flip, problems, stated)
    (warning,) = problems.warnings
    assert warning.where == "a:3" and says in warning.what and remedy in warning.remedy
    assert problems.close() == []  # and nothing is raised


@pytest.mark.parametrize(
    ("names", "flip", "stated"),
    [
        (POSE, (0, 2, 1), True),
        (("nose", "tail"), (0, 1), True),
        (("keypoint 0", "keypoint 1"), (0, 1), True),  # the user has written the identity
        (("keypoint 0",), (0,), False),  # one point pairs with itself
        ((), (), True),
    ],
)
def test_other_flip_indices_are_not(names, flip, stated):
    problems = Problems()
    warn_of_flip("a", names, flip, problems, stated)
    assert problems.warnings == []


IDENTITY = {
    "yolo": ("data.yaml", "flip_idx:\n- 0\n- 2\n- 1", "flip_idx:\n- 0\n- 1\n- 2", 9),
    "coco": (JSON, '"flip_index": [0, 2, 1]', '"flip_index": [0, 1, 2]', 3),
    "voc": ("classes.json", "0,\n  2,\n  1", "0,\n  1,\n  2", 11),
}


@pytest.mark.parametrize("format", IDENTITY)
def test_an_identity_is_warned_of_with_its_line_and_the_set_still_opens(tmp_path, format, capsys):
    opened = make(tmp_path, format, pose=True)
    assert data.open_set(opened).warnings == []
    name, old, new, line = IDENTITY[format]
    edit(name, old, new)(tmp_path / format)
    read = data.open_set(opened)  # with on_bad="fail", as training opens it
    assert read.object_count == 6 and read.problems == [] and read.flip_index == (0, 1, 2)
    (warning,) = read.warnings
    assert re.search(rf"{Path(name).name}:{line}$", warning.where), warning.where
    assert "the flip index exchanges nothing" in warning.what
    assert main(["data", "check", str(opened)]) == 0  # a warning is no failure
    printed = capsys.readouterr().out
    assert "problems        0\n  warnings        1, kept:\n" in printed and "Write the flip index [0, 2, 1]." in printed


def test_a_pose_set_that_says_nothing_of_pairs_is_warned_of(tmp_path):
    opened = make(tmp_path, "yolo", pose=True)
    file = tmp_path / "yolo" / "data.yaml"
    file.write_text(file.read_text().split("flip_idx:")[0])  # kpt_names come after it
    read = data.open_set(opened)
    assert read.keypoint_names == ("keypoint 0", "keypoint 1", "keypoint 2") and read.flip_index == (0, 1, 2)
    assert "neither a flip index nor a name" in str(read.warnings[0]) and "data.yaml:6" in str(read.warnings[0])


@pytest.mark.parametrize("split", ["train", "validation", "test", "small"])
def test_our_own_planes_are_clean(split):
    read = data.open_set("sample", split)
    assert (read.problems, read.warnings) == ([], []) and read.keypoint_names
    assert read.flip_index == FLIP_INDEX and sum((r.keypoints[..., 2] > 0).sum() for r in read.records) > 50


# data.yaml


@pytest.mark.parametrize(
    ("old", "new", "line", "says", "remedy"),
    [
        (None, "5", 6, "kpt_shape is 5, which is not two whole numbers", "such as [4, 3]"),
        (None, "0", 6, "kpt_shape is 0, which is not two whole numbers", "such as [4, 3]"),
        (None, "[]", 6, "kpt_shape is [], which is not two whole numbers", "such as [4, 3]"),
        (None, "[3]", 6, "kpt_shape is [3], which is not", "such as [4, 3]"),
        (None, "[3.0, 3]", 6, "kpt_shape is [3.0, 3], which is not", "such as [4, 3]"),
        (None, "[true, 3]", 6, "kpt_shape is [True, 3], which is not", "such as [4, 3]"),
        (None, "three", 6, "kpt_shape is 'three', which is not", "such as [4, 3]"),
        (None, "{3: 3}", 6, "kpt_shape is {3: 3}, which is not", "such as [4, 3]"),
        (None, "[-1, 3]", 6, "an object has 1 to 1000 keypoints, not -1", "number of keypoints"),
        (None, "[0, 3]", 6, "an object has 1 to 1000 keypoints, not 0", "number of keypoints"),
        (None, "[50000000, 3]", 6, "an object has 1 to 1000 keypoints, not 50000000", "number of keypoints"),
        (None, "[4, 4]", 6, "a keypoint is 2 numbers (x y) or 3 (x y visibility), not 4", "numbers for each"),
        (None, "[3, 1]", 6, "a keypoint is 2 numbers (x y) or 3 (x y visibility), not 1", "numbers for each"),
        (None, "[4, 3]", 12, "there are 3 keypoint names, but kpt_shape says 4 keypoints", "Correct one of the two"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: 5", 9, "the flip index is 5, which is not a list", "flipping twice"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: [a, b, c]", 9, "the flip index is ['a', 'b', 'c']", "flipping twice"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: [0, [2], 1]", 9, "which is not a list of whole", "flipping twice"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: [0, 2]", 9, "[0, 2] does not pair 3 keypoints", "flipping twice"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: [0, 0, 0]", 9, "does not pair 3 keypoints", "flipping twice"),
        ("flip_idx:\n- 0\n- 2\n- 1", "flip_idx: [0, 2, 3]", 9, "does not pair 3 keypoints", "flipping twice"),
        ("  - nose", "  - right wing tip", 13, "kpt_names has different lists", "the same list for each"),
    ],
)
def test_wrong_keypoint_keys_of_a_data_yaml(tmp_path, old, new, line, says, remedy):
    opened = make(tmp_path, "yolo", pose=True)
    if old is None:
        old, new = "kpt_shape:\n- 3\n- 3", f"kpt_shape: {new}"
        line -= 2 * (line > 6)  # two lines fewer above
    edit("data.yaml", old, new)(tmp_path / "yolo")
    for on_bad in ("fail", "skip"):  # the meaning of every row depends on it, so nothing can be left out
        with pytest.raises(DataError, match=re.escape(says)) as caught:
            data.open_set(opened, on_bad=on_bad)
        assert remedy in str(caught.value) and re.search(r"data\.yaml(:\d+)?: ", str(caught.value))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("5", "the keypoint names are 5, which is not a list"),
        ("{0: 5, 1: 5}", "the keypoint names are 5, which is not a list"),
        ("nose", "the keypoint names are 'nose', which is not a list"),
        ("[a, a, b]", "two keypoints have the name 'a'"),
        ("[a, b]", "there are 2 keypoint names, but kpt_shape says 3 keypoints"),
    ],
)
def test_wrong_keypoint_names(tmp_path, names, says):
    opened = make(tmp_path, "yolo", pose=True)
    file = tmp_path / "yolo" / "data.yaml"
    file.write_text(f"{file.read_text().split('kpt_names:')[0]}kpt_names: {names}\n")
    with pytest.raises(DataError, match=re.escape(f"data.yaml:13: {says}")):
        data.open_set(opened)


def test_the_names_may_be_one_list_or_a_list_for_each_class(tmp_path):
    opened = make(tmp_path, "yolo", pose=True)
    file = tmp_path / "yolo" / "data.yaml"
    head = file.read_text().split("kpt_names:")[0]
    for names in ("[nose, 1, 2]", "{0: [nose, 1, 2], 1: [nose, 1, 2]}"):
        file.write_text(f"{head}kpt_names: {names}\n")
        assert data.open_set(opened).keypoint_names == ("nose", "1", "2")


def test_the_largest_shape_is_allowed():
    assert checked_shape("x", [MAX_KEYPOINTS, 2]) == (MAX_KEYPOINTS, 2)


def test_a_row_of_another_width_names_the_shape_and_both_counts(tmp_path):
    opened = make(tmp_path, "yolo", pose=True)
    edit("data.yaml", "kpt_shape:\n- 3\n- 3", "kpt_shape: [3, 2]")(tmp_path / "yolo")
    with pytest.raises(DataError, match=re.escape("14 columns where 11 are expected; kpt_shape is [3, 2]")):
        data.open_set(opened)


# COCO and VOC


@pytest.mark.parametrize(
    ("spoil", "where", "says"),
    [
        (change("categories", 0, keypoints=5), "train.json:3", "the keypoint names are 5, which is not a list"),
        (change("categories", 0, keypoints=["a", "a", "b"]), "train.json:3", "two keypoints have the name 'a'"),
        (change("categories", 0, flip_index=[0, 1]), "train.json:3", "the flip index [0, 1] does not pair 3 keypoints"),
        (
            edit(JSON, '"A2", "supercategory": "", "keypoints": ["nose"', '"A2", "keypoints": ["noose"'),
            "train.json:4",
            "category A2 has other keypoints than the one at train.json:3",
        ),
        (
            change("annotations", 2, keypoints="abc"),
            "train.json:14",
            "the keypoints 'abc' where 9 numbers are expected",
        ),
        (change("annotations", 2, keypoints=[[1], 2, 3]), "train.json:14", "has 3 values in keypoints where 9 numbers"),
    ],
)
def test_wrong_keypoints_of_a_coco_file(tmp_path, spoil, where, says):
    opened = make(tmp_path, "coco", pose=True)
    spoil(tmp_path / "coco")
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        data.open_set(opened)
    assert f"{where}: " in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("keypoint_names", 5, r"classes\.json:6: the keypoint names are 5"),
        ("keypoint_names", ["a", "b", "b"], r"classes\.json:6: two keypoints have the name 'b'"),
        ("flip_index", {"a": 1}, r"classes\.json:11: the flip index is {'a': 1}"),
        ("flip_index", [0, 1], r"classes\.json:11: the flip index \[0, 1\] does not pair"),
    ],
)
def test_wrong_keypoints_of_a_vocabulary(tmp_path, key, value, says):
    opened = make(tmp_path, "voc", pose=True)
    file = tmp_path / "voc" / "classes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}, indent=1))
    with pytest.raises(DataError, match=says):
        data.open_set(opened)


VISIBILITY = {
    "yolo": (TXT, "0.375 1", "0.375 {}", "b.txt:1"),
    "coco": (JSON, "12.0, 30.0, 1.0", "12.0, 30.0, {}", "train.json:12"),
    "voc": (XML, 'visible="1"', 'visible="{}"', "b.xml:10"),
}


@pytest.mark.parametrize("value", ["3", "-1", "0.5", "1.5"])
@pytest.mark.parametrize("format", VISIBILITY)
def test_visibility_is_0_1_or_2_in_every_format(tmp_path, format, value):
    opened = make(tmp_path, format, pose=True)
    name, old, new, where = VISIBILITY[format]
    edit(name, old, new.format(value))(tmp_path / format)
    with pytest.raises(DataError, match=r"has an unknown visibility\. Write 0 for absent, 1 for hidden") as caught:
        data.open_set(opened)
    assert f"{where}: keypoint 2 (12 30, visibility {value})" in str(caught.value)
    kept = data.open_set(opened, on_bad="skip")
    assert kept.object_count == 5 and len(kept.problems) == 1


# Outside the box. The first box is 10 10 30 40: a tenth of its longer side is 3 px

FAR = {
    "yolo": (TXT, "0.12 0.375 1", "{:.4f} 0.375 1"),
    "coco": (JSON, "12.0, 30.0, 1.0", "{}, 30.0, 1.0"),
    "voc": (XML, 'x="12" y="30"', 'x="{}" y="30"'),
}


@pytest.mark.parametrize("format", FAR)
@pytest.mark.parametrize(
    ("x", "distance"), [(7.5, None), (6.5, "3.5 px"), (0, "10 px"), (33.5, "3.5 px"), (32.5, None)]
)
def test_a_visible_keypoint_far_outside_its_box_is_warned_of_and_kept(tmp_path, format, x, distance):
    opened = make(tmp_path, format, pose=True)
    name, old, new = FAR[format]
    edit(name, old, new.format(x / SIZE[0] if format == "yolo" else x))(tmp_path / format)
    read = data.open_set(opened)
    number = (
        1 if format != "coco" else next(i for i, r in enumerate(read.records) if abs(r.keypoints[0, 1, 0] - x) < 0.01)
    )
    assert read.problems == [] and read.object_count == 6
    np.testing.assert_allclose(read.records[number].keypoints[0, 1], [x, 30, 1], atol=0.01)
    if distance is None:
        assert read.warnings == []
        return
    (warning,) = read.warnings
    assert f"lies {distance} outside its box" in warning.what and "keypoint 2" in warning.what
    assert re.search(r"(b\.txt:1|train\.json:\d+|b\.xml:10)$", warning.where)


def test_an_absent_keypoint_may_stand_anywhere(tmp_path):
    opened = make(tmp_path, "yolo", pose=True)
    edit(TXT, "0.12 0.375 1", "0.99 0.99 0")(tmp_path / "yolo")
    read = data.open_set(opened)
    assert read.warnings == [] and read.records[1].keypoints[0, 1].tolist() == [0, 0, 0]


def test_many_warnings_are_counted(tmp_path):
    read = data.open_set(make(tmp_path, "voc", pose=True))
    many = replace(read, warnings=[check.Problem("a", "b", "c.")] * 30)
    assert "warnings        30, kept:" in check.report(many) and "… and 10 more" in check.report(many)


# Rows of two numbers a keypoint


@quick
@given(choice=st.data())
def test_rows_without_visibility(tmp_path_factory, choice):
    """A point at 0 0 or at a negative place is absent; every other one is visible."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), np.zeros((80, 100, 3), np.uint8))
    count = choice.draw(st.integers(1, 5))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: [A1]\nkpt_shape: [{count}, 2]\n")
    points = np.round(
        [[choice.draw(st.floats(0.02, 0.98)), choice.draw(st.floats(0.02, 0.98))] for _ in range(count)], 4
    )
    for row in choice.draw(st.sets(st.integers(0, count - 1))):
        points[row] = choice.draw(st.sampled_from([(0, 0), (-1, -1), (-0.5, 0.5)]))
    row = " ".join(["0 0.5 0.5 1 1", *(f"{x:g} {y:g}" for x, y in points)])
    (folder / "labels" / "a.txt").write_text(row + "\n")
    read = data.open_set(folder)
    seen = (points > 0).all(axis=1)
    expected = np.column_stack([points * [100, 80], np.full(count, 2)]) * seen[:, None]
    np.testing.assert_allclose(read.records[0].keypoints[0], expected, atol=1e-4)


# Transforms


@quick
@given(seeds, st.integers(1, 5))
def test_two_mirrors_give_every_keypoint_its_own_name_back_and_one_does_not(seed, objects):
    item = random_item(seed, objects=objects)
    for flip in (flip_left_right, flip_up_down):
        once = flip(item, FLIP_INDEX)
        np.testing.assert_array_equal(flip(once, FLIP_INDEX).keypoints, item.keypoints)
        np.testing.assert_array_equal(once.keypoints[:, 2, 2], item.keypoints[:, 3, 2])  # visibility goes along
        np.testing.assert_array_equal(flip(item).keypoints[..., 2], item.keypoints[..., 2])  # no index: names stay


@quick
@given(st.integers(32, 96), st.integers(32, 128), st.lists(rectangles, min_size=4, max_size=4))
def test_a_mosaic_moves_keypoints_with_their_boxes(y, x, boxes):
    items = [painted_item(box, 96, 128) for box in boxes]
    for number, item in enumerate(items):
        item.classes = np.array([number])
        item.keypoints[0, :, 2] = [0, 1, 2, 2]
    out = mosaic(items, (x, y), (96, 128))
    for number, points in zip(out.classes, out.keypoints, strict=True):
        shift = [x - (128 if number % 2 == 0 else 0), y - (96 if number < 2 else 0)]
        moved = items[number].keypoints[0, :, :2] + shift
        np.testing.assert_array_equal(points[:, :2], moved)
        inside = ((moved >= 0) & (moved <= (128, 96))).all(axis=1)
        np.testing.assert_array_equal(points[:, 2], np.where(inside, [0, 1, 2, 2], 0))


@pytest.mark.parametrize(
    ("point", "seen"), [((0, 0), 2), ((50, 40), 2), ((50.01, 20), 0), ((-0.01, 20), 0), ((20, 40.01), 0)]
)
def test_a_point_on_the_border_is_still_inside(point, seen):
    item = Item(
        np.zeros((40, 50, 3), np.uint8), np.float32([[5, 5, 40, 35]]), np.array([0]), np.float32([[[*point, 2]]])
    )
    assert crop(item, 0, 0, (40, 50)).keypoints[0, 0, 2] == seen


@pytest.mark.parity
@quick
@given(seeds, st.floats(-180, 180), st.floats(0.5, 1.5), st.floats(-60, 60), st.floats(-60, 60))
def test_places_and_visibility_equal_ultralytics(seed, degrees, scale, x, y):
    from ultralytics.data.augment import RandomPerspective

    item = random_item(seed, objects=6)
    item.boxes[:] = [0, 0, 128, 96]  # so that a part of each box is left
    matrix = affine_matrix((96, 128), degrees=degrees, scale=scale, shift=(x, y))
    theirs = RandomPerspective().apply_keypoints(item.keypoints.copy(), matrix, (128, 96))
    ours = warp(item, matrix, (96, 128))
    assert len(ours.keypoints) == 6
    np.testing.assert_allclose(ours.keypoints[..., :2], theirs[..., :2], atol=1e-3)
    edge = np.abs(theirs[..., :2, None] - np.array([[0, 128], [0, 96]])).min(axis=(-1, -2)) < 1e-3
    np.testing.assert_array_equal(ours.keypoints[..., 2][~edge], theirs[..., 2][~edge])
