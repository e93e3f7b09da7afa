"""Pictures and their numbers: judged right, painted where they belong, small, and the same bytes
every time.
"""

import csv
import weakref
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolostudy.canvas import panel, style
from yolostudy.data.records import DataError, DetectionSet, Record
from yolostudy.views.detections import gallery, painter
from yolostudy.views.network import network_map
from yolostudy.views.training import curves

NAMES = tuple(f"A{number}" for number in range(1, 21))
COLOURS = {"truth": style.TRUTH, "hit": style.HIT, "miss": style.MISS, "false alarm": style.FALSE_ALARM}


def photograph(seed=0, width=160, height=160):
    """Noise on a gradient: what compresses worst."""
    noise = np.random.default_rng(seed).normal(0, 25, (height, width, 3))
    return (noise + np.linspace(60, 200, width)[None, :, None]).clip(0, 255).astype(np.uint8)


@st.composite
def boxes(draw, extra):
    """(n, 4 + extra) with boxes that often coincide or touch, and that may leave the image."""
    count = draw(st.integers(0, 8))
    rows = []
    for _ in range(count):
        x, y = draw(st.integers(-30, 150)), draw(st.integers(-30, 150))
        rows.append([x, y, x + draw(st.integers(1, 80)), y + draw(st.integers(1, 80)), *(draw(part) for part in extra)])
    return np.array(rows, float).reshape(count, 4 + len(extra))


PREDICTIONS = boxes((st.sampled_from([0.25, 0.5, 0.9, 1.0]), st.integers(0, 2)))
TRUTHS = boxes((st.integers(0, 2),)).map(lambda rows: rows[:, [4, 0, 1, 2, 3]])


# ------------------------------------------------------------------------------------------ compare


@settings(deadline=None, max_examples=100)
@given(PREDICTIONS, TRUTHS)
def test_every_prediction_and_every_truth_is_counted_once(predictions, truths):
    judged = painter.compare(predictions, truths)
    assert judged.hits + judged.misses == len(truths)
    assert judged.hits + judged.false_alarms == len(predictions)
    found = judged.matched[judged.matched >= 0]
    assert len(set(found)) == len(found) and not judged.missed[found].any()
    assert (truths[found, 0] == predictions[judged.matched >= 0, 5]).all()


@settings(deadline=None, max_examples=100)
@given(PREDICTIONS, TRUTHS)
def test_the_painter_judges_like_the_metric(predictions, truths):
    pytest.importorskip("torch")
    metrics = pytest.importorskip("solutions.metrics")
    expected = metrics.match_predictions(predictions, truths, np.array([0.5]))[:, 0]
    assert painter.compare(predictions, truths).matched.tolist() == expected.tolist()


def test_the_surest_prediction_takes_the_truth_and_class_matters():
    truth = [[1, 10, 10, 50, 50]]
    predictions = [[10, 10, 50, 50, 0.6, 1], [12, 10, 50, 50, 0.9, 1], [10, 10, 50, 50, 0.99, 2]]
    judged = painter.compare(predictions, truth)
    assert judged.matched.tolist() == [-1, 0, -1]
    assert painter.compare(predictions[:1], truth * 2).matched.tolist() == [1], (
        "of equal truths the later one, as in COCO's evaluator"
    )
    assert painter.compare([[10, 10, 50, 29, 0.9, 1]], truth).hits == 0, "IoU 0.475 is no hit"
    assert painter.compare([[10, 10, 50, 31, 0.9, 1]], truth).hits == 1, "IoU 0.525 is one"


def test_tensors_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    predictions = torch.tensor([[10.0, 10, 50, 50, 0.9, 1]], dtype=torch.bfloat16, requires_grad=True)
    assert painter.compare(predictions, torch.tensor([[1, 10, 10, 50, 50]])).hits == 1


def test_a_wrong_table_is_named():
    with pytest.raises(ValueError, match=r"truth has shape \(1, 6\), but \(n, 5\) is needed: class x1 y1 x2 y2"):
        painter.compare([], [[0, 0, 5, 5, 0.9, 1]])
    with pytest.raises(ValueError, match="row 1 holds a value that is not finite"):
        painter.compare([[0, 0, 5, 5, 0.9, 1], [0, 0, np.nan, 5, 0.9, 1]], [])
    with pytest.raises(ValueError, match="float32 of shape"):
        painter.paint(np.zeros((8, 8, 3), np.float32))


# -------------------------------------------------------------------------------------------- paint


def scene():
    truth = np.array([[0, 16, 16, 56, 56], [1, 96, 16, 136, 56]])
    predictions = np.array([[16, 16, 56, 56, 0.9, 0], [40, 100, 80, 140, 0.5, 2], [100, 100, 140, 140, 0.1, 2]])
    return photograph(), predictions, truth


def share(image, box, scale, colour, outside):
    """How much of a box's edge shows `colour`, just outside or just inside of it."""
    x1, y1, x2, y2 = (int(value * scale) for value in box[:4])
    step = 1 if outside else 0
    edge = [image[y1 - step, x1:x2], image[y2 - 1 + step, x1:x2], image[y1:y2, x1 - step], image[y1:y2, x2 - 1 + step]]
    return (np.concatenate(edge) == style.rgb(colour)).all(axis=1).mean()


def test_each_box_wears_its_colour_at_its_edge():
    image, predictions, truth = scene()
    before = image.copy()
    painted = painter.paint(image, predictions, truth, NAMES, labels=False)
    assert (painted.truths, painted.predictions, painted.hits, painted.misses, painted.false_alarms) == (2, 2, 1, 1, 1)
    assert painted.scale == 3 and painted.image.shape == (480, 480, 3)
    assert share(painted.image, truth[0, 1:], 3, style.TRUTH, outside=True) == 1
    assert share(painted.image, predictions[0], 3, style.HIT, outside=False) == 1
    assert share(painted.image, truth[1, 1:], 3, style.MISS, outside=True) == 1
    assert 0.5 < share(painted.image, predictions[1], 3, style.FALSE_ALARM, outside=False) < 0.85, (
        "a false alarm is dashed"
    )
    assert share(painted.image, predictions[2], 3, style.FALSE_ALARM, outside=False) == 0, "below the score threshold"
    assert (image == before).all(), "the picture given is left alone"


def test_a_plain_photograph_has_green_boxes_and_no_verdict():
    image, predictions, _ = scene()
    painted = painter.paint(image, predictions, class_names=NAMES, labels=False)
    assert (painted.predictions, painted.truths, painted.hits) == (2, None, None)
    assert all(share(painted.image, box, 3, style.HIT, outside=False) == 1 for box in predictions[:2])
    assert repr(painted) == "Painted(2 predictions)"


def test_truth_alone_is_purple_and_nothing_is_missed():
    image, _, truth = scene()
    painted = painter.paint(image, None, truth, NAMES)
    assert [text for text, _ in painted.labels] == ["A2", "A1"]
    assert not (painted.image == style.rgb(style.MISS)).all(axis=2).any()


@settings(deadline=None, max_examples=40)
@given(PREDICTIONS, st.none() | TRUTHS, st.sampled_from([(160, 160), (24, 200), (9, 7), (400, 30)]), st.booleans())
def test_labels_never_leave_the_image(predictions, truth, size, legend):
    width, height = size
    painted = painter.paint(
        photograph(0, width, height), predictions, truth, ("an aircraft with a very long name", "B", "C"), legend=legend
    )
    for text, (x1, y1, x2, y2) in painted.labels:
        assert text and 0 <= x1 < x2 <= width * painted.scale and 0 <= y1 < y2 <= height * painted.scale
    if painted.labels:  # the last one lies on top, so its corners show its own ground
        ground = painted.image[y1, x1]
        assert any((ground == style.rgb(colour)).all() for colour in COLOURS.values())
        assert (painted.image[[y1, y2 - 1, y2 - 1], [x2 - 1, x1, x2 - 1]] == ground).all()


def test_a_class_without_a_name_shows_its_number():
    painted = painter.paint(photograph(), [[20, 20, 60, 60, 0.87, 33]], None, NAMES)
    assert [text for text, _ in painted.labels] == ["33 0.87"]


def test_an_absent_keypoint_is_not_drawn():
    keypoints = np.array([[[40, 40, 2], [80, 40, 1], [120, 120, 0]]], float)
    plain, drawn = (
        painter.paint(photograph()),
        painter.paint(photograph(), keypoints=keypoints, skeleton=((0, 1), (1, 2))),
    )
    changed = (plain.image != drawn.image).any(axis=2)
    assert changed[115:125, 115:125].any() and changed[120, 180], "the first point and the line to the second"
    assert not changed[200:, :].any(), "nothing around the absent one"
    assert (drawn.image[120, 120] == style.rgb(style.CYCLE[0])).all(), "visible: filled"
    assert (drawn.image[120, 240] == style.rgb(style.PAPER)).all(), "occluded: hollow"


# ------------------------------------------------------------------------------------------ streams


def counted_stream(alive, count=12):
    """Painted pictures; fails if more than two of them are alive, the one being written and the one
    being made.
    """
    for number in range(count):
        painted = SimpleNamespace(**{name: 0 for name in ("predictions", "truths", "hits", "misses", "false_alarms")})
        pixels = photograph(number, 32, 32)
        painted.image = pixels
        alive.append(weakref.ref(pixels))
        yield f"{number % 10}.png", painted
        del painted, pixels
        assert sum(ref() is not None for ref in alive) == 0, "a picture is still held after the next was asked for"


def test_a_folder_is_written_one_by_one(tmp_path):
    alive = []
    sums = painter.paint_to_folder(counted_stream(alive), tmp_path / "out")
    assert sums["images"] == 12
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{n}.png" for n in range(10)),
        "0-2.png",
        "1-2.png",
    }


def test_a_folder_is_written_as_it_goes(tmp_path):
    def failing():
        yield "first", painter.paint(photograph(), [], [[0, 10, 10, 50, 50]])
        assert (tmp_path / "first.jpg").stat().st_size > 0
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        painter.paint_to_folder(failing(), tmp_path)


def test_a_sheet_has_rows_of_any_size_of_image():
    images = [
        photograph(n, width, height) for n, (width, height) in enumerate([(160, 160), (640, 320), (20, 400), (64, 64)])
    ]
    whole = painter.sheet(iter(images), 3, ["a", "a title that is far too long for its cell", "c"], max_width=600)
    assert whole.shape[1] == 600 and whole.dtype == np.uint8
    assert (whole[0, 0] == style.rgb(style.GROUND)).all()


# ------------------------------------------------------------------------------------------ gallery


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
    whole = gallery.contact_sheet(detection_set, count=24, columns=4)
    assert whole.numbers == {"images": 8, "objects": 7, "per_class": {"A1": 5, "A2": 2}}
    assert len(whole._repr_jpeg_()) <= style.MAX_BYTES
    first, again, other = (
        gallery.contact_sheet(detection_set, count=3, columns=3, seed=seed).image for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert gallery.contact_sheet(detection_set, class_name="A2").numbers["images"] == 2
    with pytest.raises(DataError, match=r"unknown class B2\. Known classes: A1, A2, A3"):
        gallery.contact_sheet(detection_set, class_name="B2")
    with pytest.raises(DataError, match="no image shows A3"):
        gallery.contact_sheet(detection_set, class_name="A3")


def test_the_browser_walks_and_filters(detection_set):
    pytest.importorskip("ipywidgets")
    empty = DetectionSet("test", detection_set.class_names, [])
    browser = gallery.browse({"train": detection_set, "test": empty})
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
    browser = gallery.browse({"train": detection_set, "again": detection_set})
    browser.step(2)
    browser.class_name.value = "A2"
    browser.split.value = "again"
    assert len(painted) == 4 and browser.class_name.value == "A2", "a class that the new split shows too stays chosen"


def test_the_browser_survives_a_lost_image(detection_set):
    pytest.importorskip("ipywidgets")
    browser = gallery.browse(detection_set)
    detection_set.records[1].image.unlink()
    browser.step(1)
    assert "Cannot read this image" in browser.facts.value
    browser.step(1)
    assert "2.png" in browser.facts.value


# ------------------------------------------------------------------------------------------- curves


def write_results(folder, maps):
    folder.mkdir()
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, curves.COLUMNS)
        writer.writeheader()
        for number, value in enumerate(maps, 1):
            row = dict(
                epoch=number, seconds=5 * number, images=100 * number, lr=0.001, loss=6 / number, box=1, cls=2, dfl=1
            )
            writer.writerow(row if value is None else row | {"map50": value, "map50_95": value / 2})
    return folder


def test_curves_give_the_best_epoch_and_skip_empty_cells(tmp_path):
    run = write_results(tmp_path / "run", [None, 0.5, None, 0.8, 0.7, None])
    figure, numbers = curves.plot_runs(run)
    expected = dict(epochs=6, seconds=30.0, last_loss=1.0, best_map50=0.8, best_map50_95=0.4, best_epoch=4)
    assert numbers == {"": expected}
    assert figure.axes[2].lines[0].get_xdata().tolist() == [2, 4, 5]
    unmeasured = write_results(tmp_path / "other", [None, None])
    figure, numbers = curves.plot_runs({"first": run, "second": unmeasured}, x="seconds")
    assert numbers["first"] == expected and numbers["second"]["best_map50"] is None
    assert len(style.as_png(figure)) <= style.MAX_BYTES


def test_a_bad_results_file_is_named_with_its_line(tmp_path):
    run = write_results(tmp_path / "run", [0.1])
    with (run / "results.csv").open("a") as file:
        file.write("2,5,much\n")
    with pytest.raises(ValueError, match=r"results.csv:3: a cell is not a number .*'much'"):
        curves.plot_runs(run)
    with pytest.raises(ValueError, match="there is no such file"):
        curves.plot_runs(tmp_path / "nowhere")


def test_live_curves_are_silent_in_a_terminal(capsys):
    live = curves.LiveCurves()
    assert live.numbers == {}
    live.update({"epoch": 1, "loss": 4.0, "map50": None})
    live.update({"epoch": 2, "loss": 3.0, "map50": 0.25})
    assert live.numbers["best_map50"] == 0.25 and live.numbers["best_epoch"] == 2
    assert capsys.readouterr().out == ""


def test_live_curves_redraw_in_place(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    handle = SimpleNamespace(update=lambda bundle, raw: shown.append(("update", sorted(bundle))))
    monkeypatch.setattr(panel, "in_notebook", lambda: True)
    monkeypatch.setattr(
        display, "display", lambda bundle, raw, display_id: shown.append(("display", sorted(bundle))) or handle
    )
    live = curves.LiveCurves(pause=1000)
    live.update({"epoch": 1, "loss": 4.0})
    live.update({"epoch": 2, "loss": 3.0})
    live.redraw()
    kinds = ["image/png", "text/plain"]
    assert shown == [("display", kinds), ("update", kinds)], (
        "one picture, and only the last call draws again within the pause"
    )


# ---------------------------------------------------------------------------------------------- map


SHAPES = {
    "P2": (32, 160, 96), "P3": (64, 80, 48), "P4": (128, 40, 24), "P5": (256, 20, 12), "C": (128, 40, 24), "X": (64, 80, 48),
    "Y": (128, 40, 24), "Z": (256, 20, 12), "outputs": [(84, 80, 48), (84, 40, 24), (84, 20, 12)],
}  # fmt: skip


def test_the_map_of_the_detector():
    nodes = network_map.yolo_nodes(SHAPES)
    figure, numbers = network_map.draw_map(nodes)
    values = 3 * 640 * 384 + sum(c * h * w for c, h, w in [*list(SHAPES.values())[:-1], *SHAPES["outputs"]])
    assert numbers == {
        "nodes": 12,
        "arrows": 15,
        "parts": {"backbone": 5, "top-down": 2, "bottom-up": 2, "head": 3},
        "values": values,
    }
    assert len(style.as_png(figure)) <= style.MAX_BYTES
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"image", "P5", "256 × 20 × 12", "stride 32"} <= set(texts) and min(
        text.get_fontsize() for text in figure.axes[0].texts
    ) >= 8


def test_the_clickable_map_is_well_formed_and_needs_no_script():
    from xml.etree import ElementTree

    made = network_map.clickable_map(network_map.yolo_nodes(SHAPES))
    root = ElementTree.fromstring(made.svg)
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == made.numbers["nodes"] and "P4: halve, CSP layer, 128 × 40 × 24" in titles
    assert "<script" not in made.svg and "onclick" not in made.svg
    assert made.svg == network_map.clickable_map(network_map.yolo_nodes(SHAPES)).svg


def test_blocks_of_one_cell_do_not_overlap_and_strangers_are_named():
    nodes = [network_map.Node(name, "block", (8, size, size), inputs) for name, size, inputs in
             [("a", 8, ()), ("b", 8, ("a",)), ("c", 4, ("b",)), ("<d>", 4, ("c",))]]  # fmt: skip
    layout = network_map._laid_out(nodes)
    tops = sorted(top for _, top in layout.corner.values())
    assert min(np.diff(tops)) >= network_map.BOX[1]
    assert "&lt;d&gt;" in network_map.clickable_map(nodes).svg
    with pytest.raises(ValueError, match="a reads nobody, which is no node"):
        network_map.draw_map([network_map.Node("a", "block", (1, 1, 1), ("nobody",))])
