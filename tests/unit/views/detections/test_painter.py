"""What is painted lies where it belongs, in its colour."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.views.detections.scenes import NAMES, PREDICTIONS, TRUTHS, photograph
from yolostudy import views
from yolostudy.canvas import style

COLOURS = {"truth": style.TRUTH, "hit": style.HIT, "miss": style.MISS, "false alarm": style.FALSE_ALARM}


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
    painted = views.paint(image, predictions, truth, NAMES, labels=False)
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
    painted = views.paint(image, predictions, class_names=NAMES, labels=False)
    assert (painted.predictions, painted.truths, painted.hits) == (2, None, None)
    assert all(share(painted.image, box, 3, style.HIT, outside=False) == 1 for box in predictions[:2])
    assert repr(painted) == "Painted(2 predictions)"


def test_truth_alone_is_purple_and_nothing_is_missed():
    image, _, truth = scene()
    painted = views.paint(image, None, truth, NAMES)
    assert [text for text, _ in painted.labels] == ["A2", "A1"]
    assert not (painted.image == style.rgb(style.MISS)).all(axis=2).any()


@settings(deadline=None, max_examples=40)
@given(PREDICTIONS, st.none() | TRUTHS, st.sampled_from([(160, 160), (24, 200), (9, 7), (400, 30)]), st.booleans())
def test_labels_never_leave_the_image(predictions, truth, size, legend):
    width, height = size
    painted = views.paint(
        photograph(0, width, height), predictions, truth, ("an aircraft with a very long name", "B", "C"), legend=legend
    )
    for text, (x1, y1, x2, y2) in painted.labels:
        assert text and 0 <= x1 < x2 <= width * painted.scale and 0 <= y1 < y2 <= height * painted.scale
    if painted.labels:  # the last one lies on top, so its corners show its own ground
        ground = painted.image[y1, x1]
        assert any((ground == style.rgb(colour)).all() for colour in COLOURS.values())
        assert (painted.image[[y1, y2 - 1, y2 - 1], [x2 - 1, x1, x2 - 1]] == ground).all()


def test_a_class_without_a_name_shows_its_number():
    painted = views.paint(photograph(), [[20, 20, 60, 60, 0.87, 33]], None, NAMES)
    assert [text for text, _ in painted.labels] == ["33 0.87"]


def test_an_absent_keypoint_is_not_drawn():
    keypoints = np.array([[[40, 40, 2], [80, 40, 1], [120, 120, 0]]], float)
    plain, drawn = (
        views.paint(photograph()),
        views.paint(photograph(), keypoints=keypoints, skeleton=((0, 1), (1, 2))),
    )
    changed = (plain.image != drawn.image).any(axis=2)
    assert changed[115:125, 115:125].any() and changed[120, 180], "the first point and the line to the second"
    assert not changed[200:, :].any(), "nothing around the absent one"
    assert (drawn.image[120, 120] == style.rgb(style.CYCLE[0])).all(), "visible: filled"
    assert (drawn.image[120, 240] == style.rgb(style.PAPER)).all(), "occluded: hollow"
