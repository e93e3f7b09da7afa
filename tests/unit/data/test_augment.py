"""Pixels, boxes and keypoints move together, and come back."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolostudy.data import augment
from yolostudy.data.augment import Augmentation, Item, affine_matrix, crop, mosaic, quarter_turn, warp
from yolostudy.data.letterbox import as_size, fit_inside, letterbox

FLIP_INDEX = (0, 1, 3, 2)  # nose, tail, left and right wing tip
sides = st.integers(24, 200)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def random_item(seed, height=96, width=128, objects=3, keypoints=4):
    """Noise with boxes on a grid of 1/8 pixel, where float32 subtraction is exact."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, [width * 8, height * 8], (objects, 2, 2)), axis=1) / 8  # (n, 2, 2)
    corners[:, 1] += 1 / 8
    boxes = corners.reshape(-1, 4).clip(0, [width, height, width, height]).astype(np.float32)
    points = np.concatenate(
        (
            rng.integers(0, [width * 8, height * 8], (objects, keypoints, 2)) / 8,
            rng.integers(0, 3, (objects, keypoints, 1)),
        ),
        axis=-1,
    )
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return Item(image, boxes, rng.integers(0, 5, objects), points.astype(np.float32))


def painted_item(box, height, width, colour=(250, 40, 10)):
    """Black, with a filled rectangle and a keypoint at each of its corners."""
    x1, y1, x2, y2 = box
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = colour
    points = np.float32([[[x1, y1, 2], [x2, y1, 2], [x2, y2, 2], [x1, y2, 2]]])
    return Item(image, np.float32([box]), np.array([7]), points)


def bright_box(image, threshold=125):
    """The hull of the pixels of the painted rectangle; gray padding is darker than the threshold in
    red.
    """
    y, x = np.nonzero(image[..., 0] > threshold)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else None


def assert_same(a, b):
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.classes, b.classes)
    np.testing.assert_array_equal(a.keypoints, b.keypoints)


rectangles = st.tuples(st.integers(0, 90), st.integers(0, 60), st.integers(8, 60), st.integers(8, 40)).map(
    lambda r: (r[0], r[1], min(r[0] + r[2], 128), min(r[1] + r[3], 96))
)


# Letterbox


@quick
@given(st.integers(8, 4000), st.integers(8, 4000), st.sampled_from([160, 640, (384, 640), (320, 96)]), seeds)
def test_letterbox_there_and_back(width, height, image_size, seed):
    placement, inner = fit_inside(width, height, as_size(image_size))
    boxes = (np.random.default_rng(seed).random((20, 6)) * [width, height, width, height, 1, 3]).astype(np.float32)
    inside = placement.to_letterbox(boxes)
    assert np.abs(placement.to_original(inside) - boxes).max() < 1e-3
    np.testing.assert_array_equal(inside[:, 4:], boxes[:, 4:])
    # the whole image covers its whole pixels exactly
    corner = placement.to_letterbox(np.array([[0, 0, width, height]], float))[0]
    np.testing.assert_allclose(
        corner, [placement.pad_x, placement.pad_y, placement.pad_x + inner[1], placement.pad_y + inner[0]], atol=1e-9
    )
    assert max(inner[0] / as_size(image_size)[0], inner[1] / as_size(image_size)[1]) == 1


def test_placement_takes_tensors():
    import torch

    placement, _ = fit_inside(500, 300, (160, 160))
    boxes = torch.tensor([[10.0, 20.0, 200.0, 300.0, 0.9, 4.0]])
    there = placement.to_letterbox(boxes)
    assert isinstance(there, torch.Tensor) and not torch.equal(there, boxes)
    assert torch.allclose(placement.to_original(there), boxes, atol=1e-4)


@quick
@given(sides, sides, st.sampled_from([96, 160, (96, 160), (160, 96)]), seeds)
def test_letterbox_pixels_equal_ultralytics(height, width, image_size, seed):
    reference = pytest.importorskip("ultralytics.data.augment").LetterBox
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ours, _ = letterbox(image, image_size)
    np.testing.assert_array_equal(ours, reference(as_size(image_size))(image=image))


def test_letterbox_moves_a_rectangle_with_its_box():
    item = painted_item((20, 30, 100, 60), 96, 128)
    for image_size in (160, 64, (320, 96), (50, 300)):
        image, placement = letterbox(item.image, image_size)
        assert np.abs(bright_box(image) - placement.to_letterbox(item.boxes)[0]).max() <= 1
        assert (image[0, 0] == 114).all() or (image[0, 0] == 0).all()


# Flips and turns


@quick
@given(seeds, sides, sides, st.integers(0, 6))
def test_two_flips_and_four_turns_are_nothing(seed, height, width, objects):
    item = random_item(seed, height, width, objects)
    for flip in (augment.flip_left_right, augment.flip_up_down):
        assert_same(flip(flip(item, FLIP_INDEX), FLIP_INDEX), item)
    turned = item
    for turns in range(1, 4):
        turned = quarter_turn(turned)
        assert_same(turned, quarter_turn(item, turns))
        np.testing.assert_array_equal(turned.image, np.rot90(item.image, turns))
    assert_same(quarter_turn(turned), item)
    # Two mirrors are half a turn; a wrong flip of keypoints or one forgotten axis breaks this.
    assert_same(augment.flip_up_down(augment.flip_left_right(item, FLIP_INDEX), FLIP_INDEX), quarter_turn(item, 2))


def test_a_mirror_swaps_the_wing_tips():
    plane = Item(np.zeros((100, 100, 3), np.uint8), np.float32([[20, 20, 60, 80]]), np.array([0]), None)
    # nose up: the left tip is on the left
    plane.keypoints = np.float32([[[40, 20, 2], [40, 80, 2], [20, 50, 1], [60, 50, 2]]])
    mirrored = augment.flip_left_right(plane, FLIP_INDEX).keypoints[0]
    np.testing.assert_array_equal(mirrored, [[60, 20, 2], [60, 80, 2], [40, 50, 2], [80, 50, 1]])
    upside_down = augment.flip_up_down(plane, FLIP_INDEX).keypoints[0]
    # nose down: left is on the right
    np.testing.assert_array_equal(upside_down, [[40, 80, 2], [40, 20, 2], [60, 50, 2], [20, 50, 1]])

    def side(keypoints):  # the left tip lies on the left of the way from tail to nose, in an image where y points down
        nose, tail, left, right = keypoints[:, :2]
        return np.sign(np.linalg.det([nose - tail, left - right]))

    expected = side(plane.keypoints[0])
    assert side(mirrored) == side(upside_down) == expected
    assert all(side(quarter_turn(plane, turns).keypoints[0]) == expected for turns in range(4))


@quick
@given(rectangles)
def test_flips_and_turns_carry_the_pixels(box):
    item = painted_item(box, 96, 128)
    moved = [
        augment.flip_left_right(item, FLIP_INDEX),
        augment.flip_up_down(item, FLIP_INDEX),
        *(quarter_turn(item, t) for t in range(4)),
    ]
    for one in moved:
        np.testing.assert_array_equal(bright_box(one.image), one.boxes[0])
        points = one.keypoints[0, :, :2]
        np.testing.assert_array_equal(np.concatenate((points.min(axis=0), points.max(axis=0))), one.boxes[0])


# Warp


@quick
@given(
    rectangles, st.floats(-180, 180), st.floats(0.5, 1.6), st.floats(-20, 20), st.floats(-20, 20), st.floats(-40, 40)
)
def test_warp_carries_the_pixels(box, degrees, scale, shear_x, shear_y, shift):
    item = painted_item(box, 96, 128)
    size = (144, 112)
    matrix = affine_matrix((96, 128), degrees=degrees, scale=scale, shear=(shear_x, shear_y), shift=(shift, -shift / 2))
    out = warp(item, matrix, size)
    assert out.image.shape == (*size, 3)
    # A single bright pixel at an acute corner fades when it is resampled, so the rectangle is
    # bounded through its corners, which keypoints mark, and the box through the moved corners.
    points = out.keypoints[0, :, :2] if len(out.boxes) else None
    if points is None:
        seen = bright_box(out.image)
        if seen is not None:  # all but a sliver or a tenth has left the image
            expected = (
                np.array([[box[i], box[j]] for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))]) @ matrix[:2, :2].T
                + matrix[:2, 2]
            )
            hull = np.concatenate((expected.min(axis=0), expected.max(axis=0)))
            kept = np.clip(hull, 0, [112, 144, 112, 144])
            extent = kept[2:] - kept[:2]
            assert extent.min() < 2 or extent.prod() < 0.1 * (hull[2:] - hull[:2]).prod()
        return
    limit = np.array([112, 144])
    np.testing.assert_allclose(points.min(axis=0).clip(0, limit), out.boxes[0, :2], atol=1e-3)
    np.testing.assert_allclose(points.max(axis=0).clip(0, limit), out.boxes[0, 2:], atol=1e-3)
    drawn = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(drawn, np.round((points.astype(float) - 0.5) * 256).astype(np.int32), 255, shift=8)
    bright = np.uint8(out.image[..., 0] > 125) * 255
    around = np.ones((3, 3), np.uint8)
    # nothing bright more than a pixel outside of the moved rectangle
    assert not (bright & ~cv2.dilate(drawn, around)).any()
    inner = cv2.erode(drawn, around, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    assert not (inner & ~bright).any()  # and nothing dark more than a pixel inside


@quick
@given(rectangles, st.floats(0.5, 1.5), st.floats(-30, 30), st.floats(-30, 30))
def test_scaled_and_shifted_pixels_fill_their_box(box, scale, x, y):
    """Without rotation the hull is tight, half a pixel of a shifted grid would show."""
    out = warp(painted_item(box, 96, 128), affine_matrix((96, 128), scale=scale, shift=(x, y)), (96, 128))
    if len(out.boxes):
        assert np.abs(bright_box(out.image) - out.boxes[0]).max() <= 1


def test_warp_that_changes_nothing():
    item = random_item(3)
    item.boxes = np.float32([[3, 4, 50, 60]])
    item.classes, item.keypoints = item.classes[:1], item.keypoints[:1]
    assert_same(warp(item, affine_matrix((96, 128)), (96, 128)), item)


def test_rotation_is_counter_clockwise_like_a_quarter_turn():
    item = painted_item((10, 20, 50, 30), 100, 100)
    np.testing.assert_allclose(
        warp(item, affine_matrix((100, 100), degrees=90), (100, 100)).boxes, quarter_turn(item).boxes, atol=1e-4
    )


def test_what_is_lost_is_dropped_and_points_outside_are_invisible():
    item = Item(
        np.zeros((100, 100, 3), np.uint8),
        np.float32([[0, 0, 100, 40], [80, 80, 100, 100], [0, 60, 52, 90]]),
        np.arange(3),
    )
    item.keypoints = np.full((3, 1, 3), 2, np.float32)
    item.keypoints[:, 0, :2] = [[95, 20], [90, 90], [45, 70]]
    # half of the first is left, all of the second, two pixels of fifty-two of the third
    out = crop(item, 50, 0, (100, 50))
    np.testing.assert_array_equal(out.classes, [0, 1])
    np.testing.assert_array_equal(out.boxes, [[0, 0, 50, 40], [30, 80, 50, 100]])
    out = crop(item, -30, 0, (100, 100))  # gray comes in from the left; the second box leaves to the right
    np.testing.assert_array_equal(out.classes, [0, 2])
    assert (
        out.keypoints[:, 0, 2].tolist() == [0, 2]
        and (out.image[:, :30] == 114).all()
        and (out.image[:, 30:] == 0).all()
    )


# Mosaic


@quick
@given(st.integers(32, 96), st.integers(32, 128), st.lists(rectangles, min_size=4, max_size=4))
def test_mosaic_holds_four_images_and_their_boxes(y, x, boxes):
    colours = [(200, 0, 0), (210, 0, 0), (220, 0, 0), (230, 0, 0)]
    items = [painted_item(box, 96, 128, colour) for box, colour in zip(boxes, colours)]
    for number, item in enumerate(items):
        item.classes = np.array([number])
    out = mosaic(items, (x, y), (96, 128))
    assert out.image.shape == (96, 128, 3)
    for number, (item, colour) in enumerate(zip(items, colours)):
        here = (out.image == colour).all(axis=-1)
        shown = out.boxes[out.classes == number]
        left, top = x - (128 if number % 2 == 0 else 0), y - (96 if number < 2 else 0)
        expected = (item.boxes[0] + [left, top, left, top]).clip(0, [128, 96, 128, 96])
        share = (expected[2:] - expected[:2]).prod() / item_area(item)
        if len(shown):
            np.testing.assert_array_equal(shown[0], expected)
            rows, columns = np.nonzero(here)
            np.testing.assert_array_equal(shown[0], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        else:
            assert share < 0.1 or (expected[2:] - expected[:2]).min() < 2


def item_area(item):
    return (item.boxes[0, 2:] - item.boxes[0, :2]).prod()


def test_smaller_images_meet_at_the_centre_and_leave_gray():
    items = [
        Item(np.full((10, 20, 3), level, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
        for level in (1, 2, 3, 4)
    ]
    out = mosaic(items, (32, 32), (64, 64)).image[..., 0]
    assert [out[31, 31], out[31, 32], out[32, 31], out[32, 32]] == [1, 2, 3, 4]
    assert out[0, 0] == out[63, 63] == 114 and [(out == level).sum() for level in (1, 2, 3, 4)] == [200] * 4


# Colour, and the list


def test_colours():
    image = np.uint8([[[255, 0, 0], [128, 128, 128], [10, 200, 90]]])
    np.testing.assert_allclose(augment.shift_colours(image, 0, 1, 1), image, atol=2)
    np.testing.assert_array_equal(augment.shift_colours(image, 1 / 3, 1, 1)[0, 0], [0, 255, 0])
    np.testing.assert_array_equal(augment.shift_colours(image, 0, 0, 1)[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(augment.shift_colours(image, 0, 1, 0.5)[0, 1], [64, 64, 64])
    np.testing.assert_array_equal(augment.shift_colours(image, 0, 1, 3)[0, 1], [255, 255, 255])


EVERYTHING = Augmentation(
    mosaic=0.7,
    flip_lr=0.5,
    flip_ud=0.5,
    quarter_turns=True,
    degrees=30,
    translate=0.2,
    scale=0.5,
    shear=5,
    hsv=(0.1, 0.5, 0.4),
)


@quick
@given(seeds, st.integers(0, 5), st.booleans())
def test_boxes_stay_inside_and_non_empty(seed, objects, square):
    size = (96, 96) if square else (64, 96)
    strength = EVERYTHING if square else Augmentation(mosaic=0.5, translate=0.4, scale=0.5, degrees=180)
    item = random_item(seed, *size, objects)
    transforms = strength.transforms(
        size, FLIP_INDEX, partner=lambda rng: random_item(int(rng.integers(1000)), *size, 3)
    )
    rng = np.random.default_rng(seed)
    for transform in transforms:
        item = transform(item, rng)
    assert item.image.shape == (*size, 3) and item.image.dtype == np.uint8
    assert (
        len(item.boxes) == len(item.classes) == len(item.keypoints)
        and item.boxes.dtype == item.keypoints.dtype == np.float32
    )
    assert (item.boxes >= 0).all() and (item.boxes <= [size[1], size[0]] * 2).all()
    assert (item.boxes[:, 2:] - item.boxes[:, :2] >= 2 - 1e-3).all()
    seen = item.keypoints[item.keypoints[..., 2] > 0][:, :2]
    assert (seen >= 0).all() and (seen <= [size[1], size[0]]).all()


def test_each_probability_and_range_is_used():
    size = (64, 64)
    item = painted_item((10, 20, 30, 50), *size)
    rng = np.random.default_rng(0)

    def boxes_of(strength, draws=200):
        (transform,) = strength.transforms(size, FLIP_INDEX, partner=lambda rng: item)
        return [transform(item, rng).boxes for _ in range(draws)]

    left = [tuple(boxes[0]) == (10, 20, 30, 50) for boxes in boxes_of(Augmentation(flip_lr=0.25))]
    assert 0.15 < 1 - np.mean(left) < 0.35
    assert len({tuple(boxes[0]) for boxes in boxes_of(Augmentation(flip_lr=0, quarter_turns=True))}) == 4
    assert {len(boxes) > 1 for boxes in boxes_of(Augmentation(flip_lr=0, mosaic=0.5))} == {True, False}
    shift = np.array([boxes[0, :2] for boxes in boxes_of(Augmentation(flip_lr=0, translate=0.1))]) - (10, 20)
    assert 5.5 < shift.max() <= 6.4 and -6.4 <= shift.min() < -5.5
    width = np.array([boxes[0, 2] - boxes[0, 0] for boxes in boxes_of(Augmentation(flip_lr=0, scale=0.25))])
    assert 15 <= width.min() < 16 and 24 < width.max() <= 25.01
    assert Augmentation(flip_lr=0).transforms(size) == []
    assert Augmentation(flip_lr=0.5, quarter_turns=True).light and not Augmentation(hsv=(0.1, 0, 0)).light


def test_an_unpadded_item_turns_about_its_own_centre():
    item = painted_item((0, 0, 50, 30), 30, 50)
    (transform,) = Augmentation(flip_lr=0, degrees=180, scale=0.3).transforms((64, 64))
    rng = np.random.default_rng(0)
    for _ in range(20):
        box = transform(item, rng).boxes[0]
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, [32, 32], atol=1e-3)


def test_a_setting_that_cannot_work_is_refused():
    with pytest.raises(ValueError, match="mosaic is a probability"):
        Augmentation(mosaic=15)
    with pytest.raises(ValueError, match="quarter_turns=False"):
        Augmentation(quarter_turns=True).transforms((64, 96))
