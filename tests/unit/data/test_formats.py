"""What one format writes, the others read back: boxes within 0.01 px, everything else exactly."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from yolostudy import data
from yolostudy.data import check, planes
from yolostudy.data.formats import coco, voc, yolo
from yolostudy.data.keypoints import mirror
from yolostudy.data.records import DataError, DetectionSet, Problems, Record

SIZES = ((64, 48), (160, 160), (333, 201), (40, 1000))
READERS = {"voc": voc, "coco": coco, "yolo": yolo}
# Names that a format could trip over: XML and YAML syntax, numbers, words that YAML takes for
# booleans, blanks, other alphabets.
NAMES = (
    "A1",
    "A10",
    "yes",
    "null",
    "3",
    "1e3",
    "a & <b>",
    "quote \" '",
    "two words",
    "Öl: 飛行機",
    "#x",
    "- x",
    "{y}",
    "0x1F",
    "~",
)
POSE = ("nose", "left wing tip", "right wing tip")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    paths = []
    for number, (width, height) in enumerate(SIZES):
        path = folder / f"{number}.{'png' if number == 2 else 'jpg'}"
        Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


@st.composite
def objects(draw, size: tuple[int, int], class_count: int, keypoint_count: int):
    """(boxes, classes, keypoints) of one image: boxes at any real position, on the border too, half
    a pixel to the whole image large.
    """
    width, height = size
    boxes, classes, points = [], [], []
    for _ in range(draw(st.integers(0, 4))):
        sides = [draw(st.floats(0.5, limit, width=32)) for limit in size]
        corner = [draw(st.floats(0, 1)) * (limit - side) for limit, side in zip(size, sides, strict=True)]
        boxes.append([*corner, corner[0] + sides[0], corner[1] + sides[1]])
        classes.append(draw(st.integers(0, class_count - 1)))
        for _ in range(keypoint_count):
            visible = draw(st.sampled_from([0, 1, 2]))
            points.append(
                [draw(st.floats(0, width, width=32)), draw(st.floats(0, height, width=32)), visible]
                if visible
                else [0, 0, 0]
            )
    boxes = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, [width, height, width, height]).astype(np.float32)
    classes = np.array(classes, np.int64)
    # two equal objects are a mistake
    _, first = np.unique(np.column_stack([classes, boxes.round(1)]), axis=0, return_index=True)
    keypoints = np.array(points, np.float32).reshape(len(boxes), keypoint_count, 3)[first] if keypoint_count else None
    return boxes[first], classes[first], keypoints


@st.composite
def sets(draw, images: list[Path]) -> list[DetectionSet]:
    """A training set and another split of the same vocabulary, which may show the same images."""
    names = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)))
    keypoint_names = draw(st.sampled_from([(), POSE]))
    records = [
        Record(image, size, *draw(objects(size, len(names), len(keypoint_names))))
        for image, size in zip(images, SIZES, strict=True)
    ]
    train = DetectionSet("made", names, records, keypoint_names, mirror(keypoint_names))
    other = draw(st.sampled_from(["validation", "test", "small"]))
    return [train, replace(train, records=records[: draw(st.integers(1, len(records)))], split=other)]


def assert_same(read: DetectionSet, written: DetectionSet) -> None:
    assert read.class_names == written.class_names
    assert read.keypoint_names == written.keypoint_names
    assert read.flip_index == written.flip_index
    assert read.split == written.split
    assert read.problems == []
    assert len(read) == len(written)
    expected = {record.image.stem: record for record in written.records}
    for record in read.records:
        other = expected.pop(record.image.stem)
        assert record.size == other.size
        assert record.image.read_bytes() == other.image.read_bytes()
        assert record.boxes.dtype == np.float32 and record.classes.dtype == np.int64
        np.testing.assert_array_equal(record.classes, other.classes)
        np.testing.assert_allclose(record.boxes, other.boxes, atol=0.01, rtol=0)
        assert (record.keypoints is None) == (other.keypoints is None)
        if record.keypoints is not None:
            assert record.keypoints.shape == other.keypoints.shape and record.keypoints.dtype == np.float32
            np.testing.assert_allclose(record.keypoints, other.keypoints, atol=0.01, rtol=0)
    assert not expected


@settings(
    max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(choice=st.data())
def test_one_set_survives_all_three_formats_in_a_row(photographs, tmp_path_factory, choice):
    made = choice.draw(sets(photographs))
    step, folder = made, tmp_path_factory.mktemp("trip")
    for format in choice.draw(st.permutations(["voc", "coco", "yolo"])):
        opened = data.write(step, folder / format, format)
        step = [data.open_set(opened, one.split) for one in made]
        for read, written in zip(step, made, strict=True):
            assert_same(read, written)
    shutil.rmtree(folder)


def one_of_each(photographs: list[Path]) -> list[DetectionSet]:
    boxes = np.array([[1.25, 2.5, 30.125, 40.75], [10, 10, 40, 48]], np.float32)
    pose = np.array([[[5, 6, 2], [7.5, 8, 1], [0, 0, 0]], [[20, 21, 2], [22, 23, 2], [24, 25, 2]]], np.float32)
    records = [
        Record(image, size, boxes, np.array([1, 0]), pose) for image, size in zip(photographs[:3], SIZES, strict=False)
    ]
    empty = Record(
        photographs[3], SIZES[3], np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty((0, 3, 3), np.float32)
    )
    train = DetectionSet("made", ("A1", "A2"), [*records, empty], POSE, (0, 2, 1))
    return [train, replace(train, records=records[:2], split="validation")]


def test_pycocotools_reads_the_coco_export(photographs, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    made = one_of_each(photographs)
    truth = COCO(coco.write(made, tmp_path / "coco") / "annotations" / "train.json")
    assert [category["name"] for category in truth.loadCats(truth.getCatIds())] == ["A1", "A2"]
    assert len(truth.getImgIds()) == 4 and len(truth.getAnnIds()) == 6
    first = truth.loadAnns(truth.getAnnIds(imgIds=[1]))[0]
    assert first["bbox"] == [1.25, 2.5, 28.875, 38.25] and first["category_id"] == 2 and first["num_keypoints"] == 2
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth.anns.values()
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parity
@pytest.mark.parametrize("pose", [True, False])
def test_ultralytics_reads_the_yolo_export(photographs, tmp_path, monkeypatch, pose):
    for name, value in {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    made = one_of_each(photographs)
    if not pose:
        made = [
            replace(one, records=[replace(r, keypoints=None) for r in one.records], keypoint_names=(), flip_index=())
            for one in made
        ]
    description = check_det_dataset(str(yolo.write(made, tmp_path / "yolo")))
    assert description["names"] == {0: "A1", 1: "A2"}
    for key, written in (("train", made[0]), ("val", made[1])):
        dataset = YOLODataset(
            description[key], data=description, task="pose" if pose else "detect", augment=False, imgsz=64
        )
        assert len(dataset.labels) == len(written)
        for label, record in zip(dataset.labels, sorted(written.records, key=lambda r: r.image.name), strict=True):
            height, width = label["shape"]
            assert (width, height) == record.size
            x, y, across, down = (label["bboxes"] * [width, height, width, height]).T
            corners = np.stack([x - across / 2, y - down / 2, x + across / 2, y + down / 2], axis=1)
            order = np.argsort(label["cls"][:, 0])
            np.testing.assert_array_equal(label["cls"][order, 0], np.sort(record.classes))
            np.testing.assert_allclose(corners[order], record.boxes[np.argsort(record.classes)], atol=0.01)
            if pose:
                points = (label["keypoints"] * [width, height, 1])[order]
                np.testing.assert_allclose(points, record.keypoints[np.argsort(record.classes)], atol=0.01)


@pytest.mark.parity
def test_a_yolo_export_with_one_split_still_opens(photographs, tmp_path):
    from ultralytics.data.utils import check_det_dataset

    made = one_of_each(photographs)[1]
    description = check_det_dataset(str(yolo.write(made, tmp_path / "yolo")))
    assert description["train"] == description["val"] and Path(description["val"]).is_dir()


def test_images_are_linked_not_copied(photographs, tmp_path):
    written = voc.write(one_of_each(photographs), tmp_path / "voc")
    if os.stat(tmp_path).st_dev == os.stat(photographs[0]).st_dev:
        assert (written / "images" / "0.jpg").samefile(photographs[0])


def test_images_of_one_name_in_two_folders_stay_two(photographs, tmp_path):
    made = one_of_each(photographs)[0]
    twin = tmp_path / "elsewhere" / "0.jpg"
    twin.parent.mkdir()
    shutil.copy(photographs[1], twin)
    both = replace(made, records=[made.records[0], replace(made.records[1], image=twin)])
    for format in data.FORMATS:
        read = data.open_set(data.write(both, tmp_path / format, format))
        assert sorted((record.image.stem, record.size) for record in read.records) == [
            ("0", SIZES[0]),
            ("0_2", SIZES[1]),
        ]


def test_an_export_never_goes_into_a_folder_that_holds_something(photographs, tmp_path):
    made = one_of_each(photographs)
    voc.write(made, tmp_path / "out")
    with pytest.raises(DataError, match="not empty"):
        yolo.write(made, tmp_path / "out")


def release(made: DetectionSet, root: Path) -> Path:
    """The same set in the folders of the MAR20 release."""
    voc.write(made, root)
    (root / "images").rename(root / "JPEGImages")
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "annotations").rename(root / "Annotations" / "Horizontal Bounding Boxes")
    (root / "ImageSets").mkdir()
    (root / "splits").rename(root / "ImageSets" / "Main")
    (root / "classes.json").unlink()
    return root


def test_the_layout_of_the_mar20_release(photographs, tmp_path):
    made = one_of_each(photographs)[0]
    read = voc.read(release(made, tmp_path / "MAR20"))
    assert_same(read, made)  # names and their order are found in the annotations


def test_descriptions_of_the_repository(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = one_of_each(photographs)[0]
    voc.write(made, tmp_path / "datasets" / "planes-mini")
    (tmp_path / "datasets" / "planes-mini" / "classes.json").unlink()
    release(made, tmp_path / "datasets" / "mar20")
    stated = yolo.load_yaml(data.DATASETS / "planes.yaml")
    assert stated["keypoints"]["names"] == list(planes.KEYPOINTS)
    assert stated["keypoints"]["flip_index"] == list(planes.FLIP_INDEX)
    for spec in ("planes-mini", "datasets/planes-mini", data.DATASETS / "planes.yaml", "mar20"):
        read = data.open_set(spec)
        assert read.class_names == tuple(f"A{number}" for number in range(1, 21))
        assert data.open_set(spec, classes="base").class_names == tuple(f"A{number}" for number in range(1, 11))
    assert data.open_set("planes-mini", classes="A2,A1").records[0].classes.tolist() == [0, 1]
    assert data.splits("planes-mini") == ["train"]


@pytest.mark.parametrize("format", data.FORMATS)
def test_a_description_that_names_other_classes_is_refused(photographs, tmp_path, format):
    opened = data.write(one_of_each(photographs), tmp_path / format, format)
    with pytest.raises(DataError, match=r"its classes are A1, A2\. The description of this set names A2, A1: correct"):
        READERS[format].read(opened, class_names=("A2", "A1"))


def test_what_a_name_stands_for_is_found_here_first_and_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data.find("mar20") == data.DATASETS / "mar20.yaml" and data.find("no such set") is None
    (tmp_path / "datasets" / "mar20").mkdir(parents=True)
    assert data.find("mar20") == Path("datasets/mar20")
    assert data.datasets_folder() == data.DATASETS


def test_splits_are_listed_by_our_names_whatever_the_format(photographs, tmp_path):
    for format in data.FORMATS:
        assert data.splits(data.write(one_of_each(photographs), tmp_path / format, format)) == ["train", "validation"]


def test_coco_category_ids_may_have_gaps_and_crowds_are_no_objects(photographs, tmp_path):
    import json

    root = coco.write(one_of_each(photographs)[0], tmp_path / "coco")
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["id"] = {1: 7, 2: 90}[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = {1: 7, 2: 90}[annotation["category_id"]]
    content["annotations"][0]["iscrowd"] = 1
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    file.unlink()
    read = data.open_set(root)
    assert read.split == "train" and read.class_names == ("A1", "A2")
    assert [record.classes.tolist() for record in read.records] == [[0], [1, 0], [1, 0], []]


def test_a_photograph_that_is_stored_turned_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[check.ORIENTATION] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert check.image_size(tmp_path / "turned.jpg", Problems()) == (20, 40)


def test_the_report_counts(photographs, tmp_path):
    text = check.report(replace(one_of_each(photographs)[0], name="made"))
    assert "made, train: 4 images, 6 objects, 2 classes" in text
    assert "without object  1 images" in text and "A1      3" in text and "problems        0" in text
    assert "12 visible, 3 hidden, 3 absent" in text and "warnings" not in text


def test_deep_check_finds_a_picture_that_breaks_inside(photographs, tmp_path):
    torn = tmp_path / "torn.png"
    whole = photographs[2].read_bytes()
    middle = len(whole) // 2
    torn.write_bytes(
        whole[:middle] + bytes(byte ^ 0x55 for byte in whole[middle : middle + 400]) + whole[middle + 400 :]
    )
    problems = Problems()
    assert check.image_size(torn, problems) and not problems.found  # its end is in place: the quick check lets it pass
    made = one_of_each(photographs)[0]
    broken = replace(made, records=[replace(made.records[1], image=torn), made.records[0]])
    assert [problem.where for problem in check.decode(broken)] == [str(torn)]
    assert check.decode(made) == []


def test_reading_mar20s_number_of_annotations_takes_seconds(photographs, tmp_path):
    made = one_of_each(photographs)[0]
    boxes = np.array([[x, x, x + 20, x + 20] for x in range(0, 120, 20)], np.float32)
    many = []
    for number in range(3842):
        image = tmp_path / "source" / f"{number}.jpg"
        image.parent.mkdir(exist_ok=True)
        os.link(photographs[1], image)
        many.append(Record(image, SIZES[1], boxes, np.zeros(6, np.int64)))
    root = voc.write(replace(made, records=many, keypoint_names=(), flip_index=()), tmp_path / "many")
    start = time.process_time()
    assert voc.read(root).object_count == 6 * 3842
    assert time.process_time() - start < 4  # it is about 1 s
