"""The same seed gives the same batches, and nothing is lost between the file and the batch."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from yolostudy.data import loader as loading
from yolostudy.data.augment import Augmentation
from yolostudy.data.loader import DetectionDataset, make_loader
from yolostudy.data.records import DataError, DetectionSet, Record

LIGHT = Augmentation(flip_lr=0.5, flip_ud=0.5, quarter_turns=True)
HEAVY = Augmentation(mosaic=0.8, flip_lr=0.5, degrees=20, translate=0.1, scale=0.3, hsv=(0.02, 0.5, 0.4))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    """23 images of several shapes; the gray level of each is its number, a bright rectangle is its
    first object.
    """
    folder, rng, records = tmp_path_factory.mktemp("planes"), np.random.default_rng(0), []
    for number in range(23):
        width, height = (int(side) for side in rng.integers(40, 120, 2))
        objects = number % 4  # some images show nothing
        corner = rng.integers(0, 20, (objects, 2))
        boxes = np.concatenate((corner, corner + rng.integers(8, 20, (objects, 2))), axis=1).astype(np.float32)
        image = np.full((height, width, 3), number, np.uint8)
        for x1, y1, x2, y2 in boxes[:1].astype(int):
            image[y1:y2, x1:x2] = (10, 60, 250)  # BGR: red
        path = folder / f"{number:02d}.png"
        cv2.imwrite(str(path), image)
        keypoints = np.concatenate((boxes.reshape(-1, 2, 2), np.full((objects, 2, 1), 2, np.float32)), axis=-1)
        records.append(Record(path, (width, height), boxes, rng.integers(0, 3, objects), keypoints, path))
    return DetectionSet("planes", ("A1", "A2", "A3"), records, ("first", "second"), (1, 0))


def batches(*args, epoch=0, skip=0, **options):
    loader = make_loader(*args, **options)
    loader.set_epoch(epoch, skip)
    return list(loader)


def same(a, b):
    return (
        torch.equal(a.images, b.images)
        and torch.equal(a.targets, b.targets)
        and torch.equal(a.keypoints, b.keypoints)
        and [record.image for record in a.records] == [record.image for record in b.records]
    )


def names(several):
    return [record.image.stem for batch in several for record in batch.records]


def test_what_a_batch_is(planes):
    first, *_, last = batches(planes, (64, 96), 8)
    assert first.images.shape == (8, 3, 64, 96) and first.images.dtype == torch.uint8
    assert first.images.is_contiguous(memory_format=torch.channels_last)
    assert len(last) == 7 and names([first, last])[:2] == ["00", "01"]
    assert first.targets.dtype == torch.float32 and first.targets[:, 0].tolist() == [1, 2, 2, 3, 3, 3, 5, 6, 6, 7, 7, 7]
    assert first.keypoints.shape == (12, 2, 3)
    start = 0
    for index, (record, placement) in enumerate(zip(first.records, first.placements)):
        rows = first.targets[first.targets[:, 0] == index]
        assert rows[:, 1].tolist() == record.classes.tolist()
        np.testing.assert_allclose(placement.to_original(rows[:, 2:]), record.boxes, atol=1e-3)
        points = first.keypoints[start : start + len(rows)]
        # the two points are the box's corners
        np.testing.assert_allclose(points[:, :, :2].reshape(-1, 4), rows[:, 2:], atol=1e-3)
        start += len(rows)
        if len(rows):  # red pixels, RGB, where the first box is
            y, x = torch.nonzero(first.images[index, 0] > 130, as_tuple=True)
            seen = torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1))
            assert (seen - rows[0, 2:]).abs().max() <= 1
    moved = first.to("meta")
    assert moved.images.device.type == moved.targets.device.type == moved.keypoints.device.type == "meta"
    assert moved.records is first.records


def test_a_batch_without_objects_and_a_set_without_keypoints(planes):
    bare = [replace(record, keypoints=None) for record in planes.records[::4]]
    for augmentation in (None, LIGHT):
        (batch,) = batches(replace(planes, records=bare, keypoint_names=()), 64, 8, augmentation=augmentation)
        assert batch.targets.shape == (0, 6) and batch.targets.dtype == torch.float32 and batch.keypoints is None
    (batch,) = batches(
        replace(planes, records=[replace(record, keypoints=None) for record in planes.records[1:3]]), 64, 8
    )
    assert batch.keypoints.shape == (3, 2, 3) and not batch.keypoints.any()  # absent, in a set that has keypoints


def test_pose_targets_hold_the_keypoints_of_each_row_and_change_nothing_else(planes):
    plain = batches(planes, 64, 8, augmentation=HEAVY)
    posed = batches(planes, 64, 8, augmentation=HEAVY, pose_targets=True)
    assert any(len(batch.targets) for batch in plain)
    for one, other in zip(plain, posed, strict=True):
        assert other.targets.shape == (len(one.targets), 6 + 3 * 2)
        assert torch.equal(other.targets[:, :6], one.targets)
        assert torch.equal(other.targets[:, 6:].unflatten(-1, (2, 3)), one.keypoints)
        assert torch.equal(other.keypoints, one.keypoints) and torch.equal(other.images, one.images)


def test_pose_targets_go_through_workers_and_an_image_without_objects(planes):
    (batch,) = batches(replace(planes, records=planes.records[::4]), 64, 8, pose_targets=True, workers=1)
    assert batch.targets.shape == (0, 12) and batch.targets.dtype == torch.float32
    with pytest.raises(DataError, match=r"this set has no keypoints\. Take one that has them"):
        make_loader(replace(planes, keypoint_names=()), 64, 8, pose_targets=True)


def test_keypoints_stay_on_their_objects(planes):
    """The two points of each object are corners of its box, also after padding, mosaic, shift and
    scale.
    """
    augmentation = Augmentation(mosaic=0.5, flip_lr=0, translate=0.2, scale=0.4)
    several = batches(planes, (64, 96), 23, augmentation=augmentation) + batches(
        planes, (64, 96), 23, augmentation=augmentation, epoch=1
    )
    for batch in several:
        whole = (batch.keypoints[:, :, 2] == 2).all(dim=1)
        assert whole.sum() > 20
        torch.testing.assert_close(
            batch.keypoints[whole][:, :, :2].reshape(-1, 4), batch.targets[whole, 2:], atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("augmentation", [LIGHT, HEAVY], ids=["light", "heavy"])
def test_the_number_of_workers_and_the_cache_change_nothing(planes, augmentation):
    options = dict(augmentation=augmentation, shuffle=True, seed=5)
    alone = make_loader(planes, 64, 4, workers=0, cache="ram", **options)
    crowd = make_loader(planes, 64, 4, workers=2, cache="none", **options)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        crowd.set_epoch(epoch)
        pairs = list(zip(alone, crowd, strict=True))
        assert len(pairs) == len(alone) == 6 and all(same(a, b) for a, b in pairs)
        assert sorted(names([a for a, _ in pairs])) == [f"{number:02d}" for number in range(23)]
    assert all(b.images.is_contiguous(memory_format=torch.channels_last) for _, b in pairs)


@pytest.mark.parametrize("shuffle", [True, False])
def test_seed_and_epoch_change_the_order_and_the_samples(planes, shuffle):
    options = dict(augmentation=LIGHT, shuffle=shuffle)
    base = batches(planes, 64, 4, seed=1, epoch=0, **options)
    assert all(same(a, b) for a, b in zip(base, batches(planes, 64, 4, seed=1, epoch=0, **options)))
    for seed, epoch in ((2, 0), (1, 1)):
        other = batches(planes, 64, 4, seed=seed, epoch=epoch, **options)
        assert not any(torch.equal(a.images, b.images) for a, b in zip(base, other))
        assert (names(base) == names(other)) is not shuffle


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_stopped(planes, workers):
    options = dict(augmentation=HEAVY, shuffle=True, seed=3, workers=workers)
    whole = batches(planes, 64, 4, epoch=7, **options)
    loader = make_loader(planes, 64, 4, **options)
    loader.set_epoch(7, skip=4)
    rest = list(loader)
    assert len(rest) == 2 and all(same(a, b) for a, b in zip(whole[4:], rest, strict=True))
    assert len(list(loader)) == len(loader) == 6  # a skip holds once
    next(iter(loader))  # a pass that is given up leaves nothing behind
    assert all(same(a, b) for a, b in zip(whole, loader, strict=True))
    with pytest.raises(ValueError, match="skip=7"):
        loader.set_epoch(0, skip=7)


def test_two_ranks_see_what_one_process_sees(planes):
    options = dict(augmentation=HEAVY, shuffle=True, seed=3)
    whole = batches(planes, 64, 8, epoch=2, **options)
    ranks = [batches(planes, 64, 4, epoch=2, rank=rank, world_size=2, **options) for rank in (0, 1)]
    for both, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(both.images, torch.cat([part.images for part in parts]))
        assert torch.equal(both.targets[:, 1:], torch.cat([part.targets[:, 1:] for part in parts]))
        assert names([both]) == names(parts)
    assert [len(batch) for batch in ranks[0]] == [4, 4, 4] and len(ranks[1][-1]) == 3
    with pytest.raises(DataError, match="1 image"):
        make_loader(planes, 64, 11, rank=0, world_size=2)
    assert len(make_loader(planes, 64, 11, rank=0, world_size=2, drop_last=True)) == 1


def test_a_pass_leaves_torchs_generator_alone(planes):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    batches(planes, 64, 4, augmentation=HEAVY, shuffle=True)
    assert torch.equal(torch.rand(1), expected)


def test_the_cache_is_not_written_to(planes):
    dataset = DetectionDataset(planes, 64, augmentation=HEAVY, cache="ram")
    before, boxes = dataset.images.copy(), np.concatenate(dataset.boxes)
    for index in range(len(dataset)):
        dataset[1, index]
    np.testing.assert_array_equal(dataset.images, before)
    np.testing.assert_array_equal(np.concatenate(dataset.boxes), boxes)


def test_the_augmentation_can_change_between_passes(planes):
    loader = make_loader(planes, 64, 4, augmentation=HEAVY, seed=3, workers=2)
    list(loader)
    loader.set_augmentation(None)
    assert all(same(a, b) for a, b in zip(loader, batches(planes, 64, 4), strict=True))


def test_automatic_choices(planes, monkeypatch):
    assert make_loader(planes, 64, 4, augmentation=LIGHT).num_workers == 0
    assert make_loader(planes, 64, 4, augmentation=HEAVY).num_workers == min(loading.available_cores(), 6)
    assert make_loader(planes, 64, 4, augmentation=LIGHT, cache="none").num_workers > 0
    monkeypatch.setattr(loading, "free_memory", lambda: 23 * 64 * 64 * 3 * 4 - 1)
    assert make_loader(planes, 64, 4).dataset.images is None
    monkeypatch.setattr(loading, "free_memory", lambda: 23 * 64 * 64 * 3 * 4)
    assert make_loader(planes, 64, 4).dataset.images.shape == (23, 64, 64, 3)


def test_a_data_set_survives_pickling(planes):
    """Workers that are spawned, not forked, receive it so."""
    dataset = DetectionDataset(planes, 64, augmentation=HEAVY)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[2, 5].item.image, dataset[2, 5].item.image)


def test_bad_input_is_one_sentence(planes, tmp_path):
    def opened(**changes):
        return DetectionDataset(replace(planes, records=[replace(planes.records[1], **changes)]), 64, cache="ram")

    with pytest.raises(DataError, match=r"gone.png: there is no such image\. Check"):
        opened(image=tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="not a readable image"):
        opened(image=tmp_path / "text.png")
    with pytest.raises(DataError, match=r"31×17 pixels here, but .* has"):
        opened(size=(31, 17))
    with pytest.raises(DataError, match="no images to load"):
        DetectionDataset(replace(planes, records=[]), 64)
    with pytest.raises(ValueError, match="auto, ram or none"):
        DetectionDataset(planes, 64, cache="disk")
    with pytest.raises(DataError, match="do not fill one batch"):
        make_loader(planes, 64, 24, drop_last=True)
