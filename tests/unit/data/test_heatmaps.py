"""A peak, its mask and its joint stay where the keypoint is, whatever the transforms do."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from yolostudy.data.augment import Augmentation
from yolostudy.data.heatmaps import HeatmapDataset, make_heatmap_loader, mask_of
from yolostudy.data.records import DataError, DetectionSet, Record
from yolostudy.heatmaps import HeatmapGenerator, JointsGenerator

SIDE, SIZES = 64, (16, 32)
NAMES, FLIP_INDEX = ("nose", "tail", "left", "right"), (0, 1, 3, 2)
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]])  # of the keypoints, RGB


def generators(sigma=1.0, people=5):
    heatmaps = [HeatmapGenerator(size, len(NAMES), sigma) for size in SIZES]
    return heatmaps, [JointsGenerator(people, len(NAMES), size) for size in SIZES]


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    """12 black images. Each has an aircraft with four coloured keypoints, and one that nobody
    annotated.
    """
    folder, rng, records = tmp_path_factory.mktemp("planes"), np.random.default_rng(3), []
    for number in range(12):
        # one keypoint in each quarter, away from the border
        points = rng.integers(6, 26, (4, 2)) + np.array([[0, 0], [0, 32], [26, 0], [26, 32]])
        visibility = [2, 1, 2, 2] if number % 2 else [2, 2, 0, 1]
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        for (x, y), colour in zip(points.tolist(), COLOURS.tolist(), strict=True):
            cv2.rectangle(image, (x - 2, y - 2), (x + 1, y + 1), colour[::-1], -1)  # round the corner (x, y)
        path = folder / f"{number:02d}.png"
        cv2.imwrite(str(path), image)
        keypoints = np.zeros((2, 4, 3), np.float32)
        keypoints[0] = np.column_stack((points + 0.5, visibility))
        boxes = np.float32([[4, 4, 56, 60], [57, 40, 63, 59]])
        records.append(Record(path, (SIDE, SIDE), boxes, np.array([0, 0]), keypoints, path))
    return DetectionSet("planes", ("A1",), records, NAMES, FLIP_INDEX)


def samples(planes, augmentation=None, epochs=1):
    dataset = HeatmapDataset(planes, SIDE, *generators(), augmentation=augmentation)
    return [(index, dataset[epoch, index]) for epoch in range(epochs) for index in range(len(dataset))]


def colours_at_peaks(sample, resolution):
    """For each keypoint, the number of the colour where its map has its peak; -1 where it has none."""
    found = []
    for heatmap in sample.heatmaps[resolution]:
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        cell = SIDE // SIZES[resolution]
        pixel = sample.sample.item.image[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].reshape(-1, 3)
        match = (np.abs(pixel[:, None] - COLOURS).sum(axis=-1) < 30).any(axis=0)
        assert heatmap.max() in (0, 1)
        found.append(int(match.argmax()) if heatmap.max() == 1 and match.any() else -1)
    return found


def expected_colours(index):
    return [0, 1, 2, 3] if index % 2 else [0, 1, -1, 3]


# Batches
# --------------------------------------------------------------------------------------------------


def test_a_batch_is_the_four_lists(planes):
    loader = make_heatmap_loader(planes, SIDE, 5, *generators(), workers=0)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [5, 5, 2]
    images, heatmaps, masks, joints = batches[0]
    assert images.shape == (5, 3, SIDE, SIDE) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert [tuple(t.shape) for t in heatmaps] == [(5, 4, 16, 16), (5, 4, 32, 32)]
    assert [tuple(t.shape) for t in masks] == [(5, 16, 16), (5, 32, 32)]
    assert [tuple(t.shape) for t in joints] == [(5, 5, 4, 2)] * 2
    assert {t.dtype for t in (*heatmaps, *masks)} == {torch.float32} and {t.dtype for t in joints} == {torch.int64}
    moved = batches[0].targets.to("cpu", non_blocking=True)
    assert all(torch.equal(a, b) for a, b in zip(moved.heatmaps, heatmaps, strict=True))
    assert [tuple(points.shape) for points in batches[0].keypoints] == [(2, 4, 3)] * 5
    assert torch.equal(batches[0].keypoints[1], torch.from_numpy(planes.records[1].keypoints))


def test_moving_a_batch_moves_images_and_targets(planes):
    moved = next(iter(make_heatmap_loader(planes, SIDE, 4, *generators(), workers=0))).to("meta")
    images, *lists = moved
    assert images.is_meta and all(tensor.is_meta for part in lists for tensor in part)
    assert not moved.keypoints[0].is_meta  # truth to look at, which no loss reads


def test_workers_and_order_change_no_sample(planes):
    turned = Augmentation(flip_lr=0.5, flip_ud=0.5, quarter_turns=True)
    loaders = [
        make_heatmap_loader(planes, SIDE, 4, *generators(), augmentation=turned, shuffle=True, seed=7, workers=workers)
        for workers in (0, 1)
    ]
    for loader in loaders:
        loader.set_epoch(2)
    for here, there in zip(*loaders, strict=True):
        assert torch.equal(here.images, there.images)
        for own, other in zip(here.targets.lists, there.targets.lists, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))


# Transforms
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [0, 1])
def test_peaks_lie_on_their_keypoints(planes, resolution):
    for index, sample in samples(planes):
        assert colours_at_peaks(sample, resolution) == expected_colours(index)


@pytest.mark.parametrize("resolution", [0, 1])
def test_turned_peaks_keep_their_names(planes, resolution):
    turns = samples(planes, Augmentation(flip_lr=0, quarter_turns=True), epochs=3)
    assert any(not np.array_equal(sample.sample.item.image, plain.sample.item.image)
               for (_, sample), (_, plain) in zip(turns, samples(planes)))  # fmt: skip
    for index, sample in turns:
        assert colours_at_peaks(sample, resolution) == expected_colours(index)


@pytest.mark.parametrize("axis", ["flip_lr", "flip_ud"])
@pytest.mark.parametrize("resolution", [0, 1])
def test_mirrored_peaks_exchange_left_and_right(planes, resolution, axis):
    for index, sample in samples(planes, Augmentation(**({"flip_lr": 0} | {axis: 1}))):
        plain = expected_colours(index)
        assert colours_at_peaks(sample, resolution) == [plain[k] for k in FLIP_INDEX]


def test_joints_point_at_the_peaks(planes):
    bent = Augmentation(flip_lr=0.5, degrees=30, scale=0.2, translate=0.1)
    count = 0
    for _, sample in samples(planes, bent, epochs=2):
        keypoints = sample.sample.item.keypoints
        for heatmaps, joints in zip(sample.heatmaps, sample.joints, strict=True):
            used = joints[..., 1] == 1
            assert (heatmaps.flat[joints[..., 0][used]] == 1).all()
            assert used.sum() == (keypoints[..., 2] > 0).sum()
            count += used.sum()
    assert count > 100


# Masks
# --------------------------------------------------------------------------------------------------


def test_a_mask_covers_whom_nobody_annotated_and_no_hidden_keypoint(planes):
    for _, sample in samples(planes):
        coarse, fine = sample.masks
        expected = np.ones((16, 16))
        expected[10:15, 14:16] = 0  # 57 … 63 × 40 … 59 pixels, in cells of 4, outward
        np.testing.assert_array_equal(coarse, expected)
        expected = np.ones((32, 32))
        expected[20:30, 28:32] = 0
        np.testing.assert_array_equal(fine, expected)


def test_masks_move_with_the_image(planes):
    for _, sample in samples(planes, Augmentation(flip_lr=0.5, flip_ud=0.5, quarter_turns=True), epochs=2):
        box = sample.sample.item.boxes[1]
        for mask, size in zip(sample.masks, SIZES, strict=True):
            ys, xs = np.nonzero(mask == 0)
            hole = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) * SIDE / size
            assert (np.abs(hole - box) < SIDE / size).all()
            assert (hole[:2] <= box[:2]).all() and (hole[2:] >= box[2:]).all()


def test_a_mask_without_boxes_is_whole():
    assert mask_of(np.zeros((0, 4), np.float32), 7).all()
    assert mask_of(np.float32([[0, 0, 7, 7]]), 7).sum() == 0


# What is refused
# --------------------------------------------------------------------------------------------------


def test_a_set_without_keypoints_is_refused(planes):
    boxes_only = replace(planes, keypoint_names=(), flip_index=())
    with pytest.raises(DataError, match=r"planes: there are no keypoints. Open a set with keypoints"):
        HeatmapDataset(boxes_only, SIDE, *generators())


def test_an_oblong_size_is_refused(planes):
    with pytest.raises(ValueError, match=r"heatmaps are square, so give one side, such as 160"):
        HeatmapDataset(planes, (64, 96), *generators())


def test_generators_that_do_not_pair_are_refused(planes):
    heatmaps, joints = generators()
    with pytest.raises(ValueError, match=r"sizes \[16, 32\], the joints generators \[32, 16\]"):
        HeatmapDataset(planes, SIDE, heatmaps, joints[::-1])
    with pytest.raises(ValueError, match=r"sizes \[\], the joints generators \[\]"):
        HeatmapDataset(planes, SIDE, [], [])


def test_more_people_than_rows_are_refused_with_the_remedy(planes):
    with pytest.raises(ValueError, match=r"2 people, and the list 1 rows; raise max_people"):
        _ = HeatmapDataset(planes, SIDE, *generators(people=1))[0]
