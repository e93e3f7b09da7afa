"""The browser and the contact sheet count what they show."""

from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from tests.unit.views.detections.scenes import photograph
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.data.records import DataError, DetectionSet, Record
from yolostudy.views.detections import gallery


@pytest.fixture
def detection_set(tmp_path):
    records = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        Image.fromarray(photograph(number, 64, 64)).save(path)
        count = number % 3  # some images are empty
        box = np.tile(np.array([[8, 8, 40, 40]], np.float32), (count, 1))
        records.append(
            Record(path, (64, 64), box, np.arange(count, dtype=np.int64), np.full((count, 4, 3), 20, np.float32))
        )
    return DetectionSet("train", ("A1", "A2", "A3"), records)


def test_a_contact_sheet_counts_what_it_shows(detection_set):
    whole = views.contact_sheet(detection_set, count=24, columns=4)
    assert whole.numbers == {"images": 8, "objects": 7, "per_class": {"A1": 5, "A2": 2}}
    assert len(whole._repr_jpeg_()) <= style.MAX_BYTES
    first, again, other = (
        views.contact_sheet(detection_set, count=3, columns=3, seed=seed).image for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert views.contact_sheet(detection_set, class_name="A2").numbers["images"] == 2
    with pytest.raises(DataError, match=r"unknown class B2\. Known classes: A1, A2, A3"):
        views.contact_sheet(detection_set, class_name="B2")
    with pytest.raises(DataError, match="no image shows A3"):
        views.contact_sheet(detection_set, class_name="A3")


def test_the_browser_walks_and_filters(detection_set):
    pytest.importorskip("ipywidgets")
    empty = DetectionSet("test", detection_set.class_names, [])
    browser = views.browse({"train": detection_set, "test": empty})
    assert browser.numbers == {
        "split": "train", "class": None, "index": 0, "images": 8, "objects": 7, "per_class": {"A1": 5, "A2": 2}, "shown": 0,
    }  # fmt: skip
    bundle = browser._repr_mimebundle_()
    assert bundle["text/plain"] == "Browser(train, test)" and b64decode(bundle["image/jpeg"]) == browser.picture.value
    assert "application/vnd.jupyter.widget-view+json" in bundle
    browser.step(-1)
    assert browser.numbers["index"] == 7 and browser.numbers["shown"] == 1
    browser.class_name.value = "A2"
    assert (browser.numbers["images"], browser.numbers["index"], browser.numbers["shown"]) == (2, 0, 2)
    browser.step(1)
    assert browser.numbers["index"] == 1 and "5.png" in browser.facts.value
    before = browser.picture.value
    browser.keypoints.value = True
    assert browser.picture.value != before
    browser.split.value = "test"
    assert browser.numbers["images"] == 0 and browser.numbers["class"] is None
    browser.step(1)
    browser.split.value = "train"
    assert browser.numbers["images"] == 8


def test_the_browser_paints_once_for_each_move(detection_set, monkeypatch):
    pytest.importorskip("ipywidgets")
    painted, paint = [], gallery.paint_record
    monkeypatch.setattr(
        gallery,
        "paint_record",
        lambda record, *rest, **options: painted.append(record) or paint(record, *rest, **options),
    )
    browser = views.browse({"train": detection_set, "again": detection_set})
    browser.step(2)
    browser.class_name.value = "A2"
    browser.split.value = "again"
    assert len(painted) == 4 and browser.class_name.value == "A2", "a class that the new split shows too stays chosen"


def test_the_browser_survives_a_lost_image(detection_set):
    pytest.importorskip("ipywidgets")
    browser = views.browse(detection_set)
    detection_set.records[1].image.unlink()
    browser.step(1)
    assert "Cannot read this image" in browser.facts.value
    browser.step(1)
    assert "2.png" in browser.facts.value
