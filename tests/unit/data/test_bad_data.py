"""Whatever is wrong in a set, the message is one sentence with file, line and remedy.

Run as a script, this prints all the sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolostudy import data
from yolostudy.data import check
from yolostudy.data.records import DataError, DetectionSet, Problems, Record

SIZE = (100, 80)
POSE = ("nose", "left wing tip", "right wing tip")


def make(folder: Path, format: str, *, pose: bool = False) -> Path:
    """Three images a b c with two objects each, in one split; what `open_set` opens."""
    source = folder / "source"
    source.mkdir(parents=True)
    records = []
    for number, name in enumerate("abc"):
        pixels = np.random.default_rng(number).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{name}.jpg")
        boxes = np.array([[10, 10, 30, 40], [50, 20, 90, 70]], np.float32)
        points = [[[20, 20, 2], [12, 30, 1], [28, 30, 2]], [[70, 30, 2], [52, 50, 1], [88, 50, 2]]]
        points = np.array(points, np.float32) if pose else None
        records.append(Record(source / f"{name}.jpg", SIZE, boxes, np.array([0, 1]), points))
    made = DetectionSet("made", ("A1", "A2"), records, POSE if pose else (), (0, 2, 1) if pose else ())
    return data.write(made, folder / format, format)


@dataclass
class Case:
    """One thing that is wrong.

    Attributes:
        spoil: gets the set's folder and breaks something.
        where: how the named file ends, with `:LINE` where there is a line.
        says, remedy: parts of the sentence.
        images, objects: what `on_bad="skip"` keeps of the 3 and 6; None where the whole set is
            refused in any case.
    """

    name: str
    format: str
    spoil: Callable[[Path], object]
    where: str
    says: str
    remedy: str
    images: int | None = 3
    objects: int = 5
    pose: bool = False


def edit(name: str, old: str, new: str, count: int = 1) -> Callable[[Path], object]:
    """Replace the first occurrence in a file."""

    def spoil(root: Path) -> None:
        file = root / name
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}:\n{text}"
        file.write_text(text.replace(old, new, count), encoding="utf-8")

    return spoil


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def rename(name: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / name).rename(root / new)


def cut(name: str, keep: float, fill: bool = False) -> Callable[[Path], object]:
    """Keep only the first part of a file, and perhaps put zeros for the rest."""

    def spoil(root: Path) -> None:
        whole = (root / name).read_bytes()
        (root / name).unlink()  # images are hard links
        end = int(len(whole) * keep)
        (root / name).write_bytes(whole[:end] + (bytes(len(whole) - end) if fill else b""))

    return spoil


def resize(name: str) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        (root / name).unlink()
        Image.new("RGB", (50, 40)).save(root / name)

    return spoil


def change(key: str, index: int, **values: object) -> Callable[[Path], object]:
    """Change one element of a list in the COCO file, which `write` puts on a line of its own."""

    def spoil(root: Path) -> None:
        file = root / "annotations" / "train.json"
        lines = file.read_text().splitlines()
        at = next(number for number, line in enumerate(lines) if line.startswith(f'"{key}"')) + 1 + index
        end = "," if lines[at].endswith(",") else ""
        lines[at] = json.dumps(json.loads(lines[at].rstrip(",").removesuffix("]")) | values) + end
        if not end:
            raise AssertionError("pick an element that is not the last")
        file.write_text("\n".join(lines))

    return spoil


FIRST = "0 0.2 0.3125 0.2 0.375"  # the first object as YOLO writes it, on line 1
XML, TXT, SPLIT, JSON = "annotations/b.xml", "labels/train/b.txt", "splits/train.txt", "annotations/train.json"
CASES = [
    # --- images
    Case("image missing", "voc", remove("images/b.jpg"), "annotations/b.xml", "its image is missing: no b.jpg", "Put the image", 2, 4),
    Case("image missing", "yolo", remove("images/train/b.jpg"), "labels/train/b.txt", "its image is missing", "Put the image", 2, 4),
    Case("image missing", "coco", remove("images/b.jpg"), "train.json:8", "the image b.jpg is missing", "put it there", 2, 4),
    Case("image empty", "voc", cut("images/b.jpg", 0), "images/b.jpg", "this file is empty", "Replace the file", 2, 4),
    Case("image truncated", "voc", cut("images/b.jpg", 0.5), "images/b.jpg", "truncated", "Replace the file", 2, 4),
    Case("image truncated", "yolo", cut("images/train/b.jpg", 0.5), "images/train/b.jpg", "truncated", "Replace the file", 2, 4),
    Case("image truncated", "coco", cut("images/b.jpg", 0.5), "images/b.jpg", "truncated", "Replace the file", 2, 4),
    Case("image torn, zeros behind", "voc", cut("images/b.jpg", 0.5, fill=True), "images/b.jpg", "ends in zeros", "Replace", 2, 4),
    Case("not an image", "voc", lambda root: (remove("images/b.jpg")(root), write("images/b.jpg", "<html>")(root)), "images/b.jpg",
         "not an image", "Replace the file", 2, 4),
    Case("image resized after labelling", "voc", resize("images/b.jpg"), "annotations/b.xml:3", "100 × 80, but b.jpg is 50 × 40",
         "scale the boxes", 2, 4),
    Case("image resized after labelling", "coco", resize("images/b.jpg"), "train.json:8", "b.jpg is 50 × 40", "restore it, or scale", 2,
         4),
    Case("no images", "voc", lambda root: [(root / f"images/{n}.jpg").rename(root / f"images/{n}.gif") for n in "abc"], "voc/images",
         "0 images found", "It holds 3 .gif files", None),
    Case("no images", "yolo", lambda root: [(root / f"images/train/{n}.jpg").unlink() for n in "abc"], "images/train",
         "0 images found", "Give the folder of the images", None),
    # --- annotation files
    Case("annotation missing", "voc", remove("annotations/b.xml"), "images/b.jpg", "no b.xml", "Put the annotation there", 2, 4),
    Case("zero labels: wrong extension",
         "voc", lambda root: [rename(f"annotations/{n}.xml", f"annotations/{n}.XMLX")(root) for n in "abc"],
         "voc/annotations", "0 labels found under", "the right folder", None),
    Case("zero labels: wrong extension", "yolo",
         lambda root: [rename(f"labels/train/{n}.txt", f"labels/train/{n}.text")(root) for n in "abc"], "labels/train",
         "0 labels found under this folder; looked for a.txt", "and so on for all 3 images. It holds 3 .text files", None),
    Case("zero labels: wrong folder", "yolo", rename("labels", "Labels_"), "labels/train", "0 labels found", "does not exist", None),
    Case("zero labels: wrong folder", "voc", rename("annotations", "xml"), "voc", "no folder of annotations",
         "It holds images, splits, xml", None),
    Case("zero labels: a file of images only", "coco", edit(JSON, '"annotations"', '"notes"'), "train.json",
         "no list of annotations", "COCO ground truth has", None),
    Case("zero labels: a file of results", "coco", write(JSON, "[]"), "train.json", "holds a list", "COCO ground truth has", None),
    Case("xml broken", "voc", edit(XML, "</bndbox>", "</box>"), "annotations/b.xml:15", "not valid XML", "Repair", 2, 4),
    Case("json broken", "coco", edit(JSON, '"image_id": 1,', '"image_id": 1'), "train.json:12", "not valid JSON",
         "Repair", None),
    Case("yaml broken", "yolo", edit("data.yaml", "names:", "names: ["), "data.yaml:", "not valid YAML", "Correct this line", None),
    Case("not text", "yolo", write("labels/train/b.txt", b"0 0.5 0.5 0.2 0.2\n\xff\xfe"), "b.txt:2", "not UTF-8", "Save the file as",
         2, 4),
    # --- classes
    Case("class too large", "yolo", edit(TXT, "1 0.7", "2 0.7"), "b.txt:2", "class 2 is out of range", "classes are 0 … 1"),
    Case("class -1", "yolo", edit(TXT, "0 0.2", "-1 0.2"), "b.txt:1", "class -1 is out of range", "correct the class"),
    Case("class 0.5", "yolo", edit(TXT, "0 0.2", "0.5 0.2"), "b.txt:1", "class 0.5 is out of range", "correct the class"),
    Case("class unknown", "voc", edit(XML, ">A2<", ">A22<"), "b.xml:18", "unknown class 'A22'", "Did you mean A2?"),
    Case("class unnamed", "voc", edit(XML, "<name>A2</name>", "<name/>"), "b.xml:18", "an object without a name", "Correct"),
    Case("category out of range", "coco", change("annotations", 2, category_id=3), "train.json:14",
         "category id 3, which is out of range",
         "The categories are: 1 A1, 2 A2"),
    Case("names with a gap", "yolo", edit("data.yaml", "1: A2", "2: A2"), "data.yaml:3", "numbered 0, 2", "without gaps", None),
    Case("nc wrong", "yolo", edit("data.yaml", "names:", "nc: 3\nnames:"), "data.yaml:3", "nc is 3 but there are 2 names", "delete nc",
         None),
    # --- boxes
    Case("box empty", "voc", edit(XML, "<xmax>30<", "<xmax>10<"), "b.xml:10", "is empty", "x2 must exceed x1"),
    Case("box inverted", "voc", edit(XML, "<ymax>40<", "<ymax>4<"), "b.xml:10", "is inverted", "correct it"),
    Case("box empty", "yolo", edit(TXT, "0.2 0.375", "0 0.375"), "b.txt:1", "is empty", "delete the object"),
    Case("box of negative width", "coco", change("annotations", 2, bbox=[30, 10, -20, 30]), "train.json:14", "is inverted", "correct it"),
    Case("box over the border", "voc", edit(XML, "<xmax>90<", "<xmax>112<"), "b.xml:19", "12 px over the right border",
         "Clip it"),
    Case("box over the border", "coco", change("annotations", 2, bbox=[10, -5, 20, 30]), "train.json:14", "5 px over the upper",
         "Clip it"),
    Case("box over the border", "yolo", edit(TXT, FIRST, "0 0.01 0.5 0.2 0.2"), "b.txt:1", "9 px over the left", "Clip it"),
    Case("box outside", "voc", edit(XML, "<xmin>50</xmin>\n      <ymin>20</ymin>\n      <xmax>90<",
         "<xmin>150</xmin>\n      <ymin>20</ymin>\n      <xmax>190<"), "b.xml:19", "wholly outside the image, which is 100 × 80",
         "check that"),
    Case("coordinate not a number", "voc", edit(XML, "<xmin>10<", "<xmin>nan<"), "b.xml:10", "not a finite number", "Write"),
    Case("coordinate not a number", "yolo", edit(TXT, "0 0.2", "0 nan"), "b.txt:1", "nan is not a finite", "delete the line"),
    Case("coordinate not a number", "coco", edit(JSON, '[10.0, 10.0, 20.0, 30.0]', '[NaN, 10.0, 20.0, 30.0]'),
         "train.json:12", "not a finite number", "delete the object"),
    Case("coordinate is text", "voc", edit(XML, "<ymin>20<", "<ymin>2O<"), "b.xml:21", "'2O', which is not a number", "Write"),
    Case("coordinate is text", "yolo", edit(TXT, "0.3125", "0,3125"), "b.txt:1", "'0,3125' is not a number", "decimal point"),
    Case("coordinate left out", "voc", edit(XML, "<xmax>30</xmax>", ""), "b.xml:10", "no <xmax>", "Write a number"),
    Case("oriented boxes", "voc", edit(XML, "bndbox", "robndbox", 2), "b.xml:8", "without <bndbox>", "horizontal ones"),
    Case("bbox of three numbers", "coco", change("annotations", 2, bbox=[1, 2, 3]), "train.json:14", "has the bbox [1, 2, 3]",
         "Write four"),
    Case("labels in pixels", "yolo", edit(TXT, FIRST, "0 20 25 20 30"), "b.txt:1", "30 is not between 0 and 1; it looks like pixels",
         "Divide by the image's width and height"),
    Case("too few columns", "yolo", edit(TXT, FIRST, "0 0.2 0.3 0.2"), "b.txt:1", "4 columns where 5", "class x y width height"),
    Case("polygons", "yolo", edit(TXT, FIRST, "0 0.1 0.1 0.2 0.1 0.2 0.2"), "b.txt:1", "7 columns where 5", "polygons"),
    Case("columns of a pose missing", "yolo", edit(TXT, " 0.28 0.375 2", ""), "b.txt:1", "11 columns where 14",
         "3 keypoints of 3 numbers", pose=True),
    Case("duplicate object", "yolo", edit(TXT, FIRST, f"{FIRST}\n{FIRST}"), "b.txt:2", "as the one at b.txt:1", "Delete one",
         objects=6),
    Case("duplicate object", "coco", change("annotations", 3, bbox=[10, 10, 20, 30], category_id=1), "train.json:15",
         "as the one at train.json:14",
         "Delete one"),
    # --- keypoints
    Case("keypoint outside", "voc", edit(XML, 'x="12" y="30"', 'x="12" y="300"'), "b.xml:10",
         "keypoint 2 (12 300, visibility 1) lies outside",
         "set its visibility to 0", pose=True),
    Case("keypoint unknown", "voc", edit(XML, '"nose"', '"noose"'), "b.xml:16", "unknown keypoint 'noose'", "Did you mean nose?",
         pose=True),
    Case("keypoint visibility", "yolo", edit(TXT, "0.375 1", "0.375 3"), "b.txt:1", "unknown visibility", "2 for visible", pose=True),
    Case("keypoints too few", "coco", change("annotations", 2, keypoints=[1, 2, 2]), "train.json:14", "has 3 values in keypoints where 9 numbers",
         "Write 9 numbers",
         pose=True),
    Case("flip index pairs nothing", "yolo", edit("data.yaml", "flip_idx:\n- 0\n- 2\n- 1", "flip_idx:\n- 1\n- 2\n- 0"), "data.yaml:9",
         "flip index [1, 2, 0] does not pair 3 keypoints", "flipping twice", None, pose=True),
    # --- lists and paths
    Case("split entry with a leading /", "voc", edit(SPLIT, "b\n", "/images/b.jpg\n"), "train.txt:2", "'/images/b.jpg' is an absolute path",
         "remove the leading /", 2, 4),
    Case("split entry from another machine", "voc", edit(SPLIT, "b\n", "/home/ann/mar20/b.jpg\n"), "train.txt:2", "is an absolute path",
         "write only the image's name, b", 2, 4),
    Case("split entry unknown", "voc", edit(SPLIT, "b\n", "b1\n"), "train.txt:2", "'b1' is the name of no image", "Did you mean b?", 2,
         4),
    Case("split entry in a wrong folder", "voc", edit(SPLIT, "b\n", "photos/b.jpg\n"), "train.txt:2", "is not there",
         "Write only the image's name, b", 2, 4),
    Case("split entry twice", "voc", edit(SPLIT, "b\n", "a\n"), "train.txt:2", "'a' is listed twice, first at train.txt:1",
         "Delete one of the two lines", 2, 4),
    Case("split missing", "voc", rename("splits/train.txt", "splits/Training.txt"), "voc/splits", "no split 'train'",
         "There are: Training", None),
    Case("split missing", "yolo", edit("data.yaml", "train:", "training:"), "data.yaml", "no split 'train'", "There are: validation, training",
         None),
    Case("folder with a leading /", "yolo", edit("data.yaml", "train: images", "train: /images"), "data.yaml:1",
         "'/images/train' is not there",
         "remove the leading /", None),
    Case("root from another machine", "yolo", edit("data.yaml", "train:", "path: /home/ann/planes\ntrain:"), "data.yaml:1",
         "does not exist",
         "delete this line", None),
    Case("list with a leading /", "yolo", lambda root: (edit("data.yaml", "train: images/train",
         "train: train.txt")(root), write("train.txt",
         "images/train/a.jpg\n/images/train/b.jpg\n./images/train/c.jpg\n")(root)), "train.txt:2", "is not there", "remove the leading /",
         2, 4),
    Case("list names an image twice", "yolo", lambda root: (edit("data.yaml", "train: images/train",
         "train: train.txt")(root), write("train.txt",
         "images/train/a.jpg\nimages/train/b.jpg\nimages/train/a.jpg\n")(root)), "train.txt:3", "listed twice, first on line 1",
         "Delete one", 2, 4),
    Case("file_name with a leading /", "coco", change("images", 1, file_name="/b.jpg"), "train.json:8", "'/b.jpg' is not there",
         "remove the leading /", 2, 4),
    Case("image id twice", "coco", change("images", 1, id=1), "train.json:8", "image id 1 is used twice", "its own id", 2, 4),
    Case("annotation without image", "coco", change("annotations", 2, image_id=9), "train.json:14", "image 9, which is not listed",
         "Add the image"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.name}")
def test_is_refused_in_one_sentence_and_skipped_on_demand(case: Case, tmp_path):
    opened = make(tmp_path, case.format, pose=case.pose)
    case.spoil(tmp_path / case.format)
    with pytest.raises(DataError) as caught:
        data.open_set(opened)
    message = str(caught.value)
    where, _, rest = message.partition(": ")
    assert where.endswith(case.where) or (
        case.where.endswith(":") and re.search(re.escape(case.where) + r"\d+$", where)
    ), message
    assert case.says in rest and case.remedy in rest, message
    assert message.endswith((".", ")")) and "\n" not in message and ".." not in message.replace("../", ""), message
    if case.images is None:  # nothing can be left out of a set that cannot be opened
        with pytest.raises(DataError):
            data.open_set(opened, on_bad="skip")
    else:
        kept = data.open_set(opened, on_bad="skip")
        assert (len(kept), kept.object_count) == (case.images, case.objects)
        assert str(kept.problems[0]) in message
        assert case.says in check.report(kept)


def test_the_number_of_further_problems_is_said(tmp_path):
    opened = make(tmp_path, "yolo")
    for name in "abc":
        edit(f"yolo/labels/train/{name}.txt", "1 0.7", "9 0.7")(tmp_path)
    with pytest.raises(
        DataError, match=r"\(2 more problems in this set; on_bad=skip leaves them out and lists them\.\)"
    ):
        data.open_set(opened)
    assert len(data.open_set(opened, on_bad="skip").problems) == 3


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_byte_order_marks_and_windows_line_ends_are_no_problem(tmp_path, format):
    opened = make(tmp_path, format)
    for file in (path for path in (tmp_path / format).rglob("*") if path.suffix in (".txt", ".xml", ".yaml", ".json")):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert data.open_set(opened).object_count == 6


def test_an_empty_label_file_and_a_missing_one_are_background_and_counted(tmp_path):
    opened = make(tmp_path, "yolo")
    write("yolo/labels/train/a.txt", "")(tmp_path)
    remove("yolo/labels/train/b.txt")(tmp_path)
    read = data.open_set(opened)
    assert [len(record.classes) for record in read.records] == [0, 0, 2]
    assert "without object  2 images, 1 of them without an annotation file" in check.report(read)


def test_a_box_that_reaches_a_pixel_over_the_border_is_clipped(tmp_path):
    opened = make(tmp_path, "voc")
    edit("voc/annotations/b.xml", "<xmax>90<", "<xmax>101<")(tmp_path)
    assert data.open_set(opened).records[1].boxes[1].tolist() == [50, 20, 100, 70]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("planes-minni", "Make it: yolostudy data planes profile=minni"),
        ("plains", "there is no such set, folder or file. Known under datasets/:"),
        ("/datasets/planes", "remove the leading /"),
        ("/home/ann/planes", "perhaps from another machine"),
    ],
)
def test_a_set_that_is_not_there(spec, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets" / "planes").mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(says)):
        data.open_set(spec)


def test_unknown_class_selection_names_the_known(tmp_path):
    with pytest.raises(DataError, match=r"unknown class A7. Known classes: A1, A2"):
        data.open_set(make(tmp_path, "voc"), classes=["A7"])


def test_a_broken_image_is_named_also_once_ultralytics_has_replaced_pillows_open(tmp_path):
    pytest.importorskip("ultralytics.utils.patches")
    (tmp_path / "broken.jpg").write_bytes(b"no picture at all")
    problems = Problems("skip")
    assert check.image_size(tmp_path / "broken.jpg", problems) is None
    assert "not an image" in str(problems.found[0])


def test_on_bad_takes_two_words(tmp_path):
    with pytest.raises(DataError, match="'fail' or 'skip'"):
        data.open_set(make(tmp_path, "voc"), on_bad="ignore")


if __name__ == "__main__":
    import tempfile

    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            opened = make(Path(folder), case.format, pose=case.pose)
            case.spoil(Path(folder) / case.format)
            try:
                data.open_set(opened)
                print(f"{case.format:5}{case.name}: NOT FOUND")
            except DataError as error:
                print(f"{case.format:5}{case.name}\n     {str(error).replace(folder, '…')}")
