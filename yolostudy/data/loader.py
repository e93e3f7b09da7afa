"""From a `DetectionSet` to batches: cache, augmentation and order.

A sample depends on (seed, epoch, index) alone, so neither the number of workers nor a restart
changes a picture. Which samples make batch k depends on (seed, epoch), so the order can be
repeated, resumed and shared among processes. With `world_size` processes, batch k of all ranks
together is batch k of one process with `world_size` times the batch size.

Images are uint8 until they are on the device, which is a quarter of the traffic of float32. Their
shape is (B, 3, H, W), and in memory they lie channels last, (B, H, W, 3), as OpenCV writes them and
as convolutions in bf16 read them fastest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .augment import Augmentation, Item
from .check import progress
from .epoch_batches import EpochBatches
from .letterbox import Placement, Size, as_size, fit_inside, letterbox
from .machine import available_cores, free_memory
from .records import DetectionSet, Record, refuse

CACHE_FRACTION = 0.25  # of the free memory, which the cache may take
MAX_WORKERS = 8  # more workers take memory bandwidth from the training process
PREFETCH = 2  # batches that each worker prepares ahead


class Sample(NamedTuple):
    """One augmented item, its record, and the placement of the image in its letterbox."""

    item: Item
    record: Record
    placement: Placement


@dataclass(slots=True)
class Batch:
    """What the training loop gets.

    Attributes:
        images: (B, 3, H, W) uint8, RGB, channels-last memory format.
        targets: (N, 6) float32: image index, class, x1 y1 x2 y2 in pixels of `images`. With pose
            targets (N, 6 + 3·K): then x y visibility of each keypoint.
        records: the B records as they were read.
        placements: B placements. `placements[i].to_original(boxes)` takes predictions back to
            pixels of the stored image. They describe the letterbox, so they are right for batches
            without augmentation only.
        keypoints: (N, K, 3) float32, one row for each row of `targets`, or None.
    """

    images: torch.Tensor
    targets: torch.Tensor
    records: list[Record]
    placements: list[Placement]
    keypoints: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`. From pinned memory the copy does not block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by DataLoader's pinning thread."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function) -> Batch:
        keypoints = None if self.keypoints is None else function(self.keypoints)
        return replace(self, images=function(self.images), targets=function(self.targets), keypoints=keypoints)


def collate(samples: list[Sample], pose_targets: bool = False) -> Batch:
    """Samples of one size -> Batch. After the transforms, pixels are copied only here.

    Args:
        pose_targets: append the keypoints to the rows of `targets`, as `pose.PoseLoss` wants them.
    """
    items = [sample.item for sample in samples]
    images = np.empty((len(items), *items[0].image.shape), np.uint8)  # (B, H, W, 3)
    for row, item in zip(images, items, strict=True):
        row[:] = item.image
    counts = [len(item.boxes) for item in items]
    targets = np.empty((sum(counts), 6), np.float32)
    targets[:, 0] = np.repeat(np.arange(len(items)), counts)
    targets[:, 1] = np.concatenate([item.classes for item in items])
    targets[:, 2:] = np.concatenate([item.boxes for item in items])
    keypoints = (
        None if items[0].keypoints is None else torch.from_numpy(np.concatenate([item.keypoints for item in items]))
    )
    targets = torch.from_numpy(targets)
    return Batch(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.cat((targets, keypoints.flatten(1)), dim=1) if pose_targets else targets,
        [sample.record for sample in samples],
        [sample.placement for sample in samples],
        keypoints,
    )


def read_image(path: Path) -> np.ndarray:
    """(h, w, 3) uint8, RGB, turned as its EXIF tag says.

    Raises:
        DataError: there is no such file, or it is not a readable image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        what = "this is not a readable image" if Path(path).exists() else "there is no such image"
        refuse(path, what, "Check the path, or replace the file with an intact copy.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


class DetectionDataset(Dataset):
    """The samples of a DetectionSet at one size.

    `dataset[epoch, index]` is a `Sample`; `dataset[index]` is the one of epoch 0. Without an
    augmentation the image is the plain letterbox, with every box, however small. A sample may be a
    view of the cache, so copy it before you draw on it.

    Args:
        detection_set: what a reader returned.
        image_size: side in pixels, or (height, width).
        augmentation: None leaves images as they are.
        cache: "ram" decodes and letterboxes every image once into one array. "none" decodes at each
            use. "auto" is "ram" if the array fits in a quarter of the free memory.
        seed: of the random numbers in the samples.
    """

    def __init__(
        self,
        detection_set: DetectionSet,
        image_size: int | Size,
        *,
        augmentation: Augmentation | None = None,
        cache: str = "auto",
        seed: int = 0,
    ) -> None:
        if not detection_set.records:
            refuse(detection_set.name, "there are no images to load", "Check the split and the selected classes.")
        if cache not in ("auto", "ram", "none"):
            raise ValueError(f"cache={cache!r} is unknown. Use auto, ram or none.")
        self.detection_set, self.records, self.seed = detection_set, detection_set.records, seed
        self.size = as_size(image_size)
        self.placements, self.inner = zip(
            *(fit_inside(*record.size, self.size) for record in self.records), strict=True
        )
        border = np.float32([*self.size[::-1], *self.size[::-1]])  # rounding may put a box 1e-5 pixels outside
        pairs = zip(self.placements, self.records, strict=True)
        self.boxes = [np.clip(placement.to_letterbox(record.boxes), 0, border) for placement, record in pairs]
        self.keypoints = (
            [self._place_keypoints(index) for index in range(len(self))] if detection_set.keypoint_names else None
        )
        self.set_augmentation(augmentation)
        fits = len(self) * self.size[0] * self.size[1] * 3 <= CACHE_FRACTION * free_memory()
        self.images = self._fill_cache() if cache == "ram" or (cache == "auto" and fits) else None  # (n, H, W, 3) uint8

    def __len__(self) -> int:
        return len(self.records)

    def set_augmentation(self, augmentation: Augmentation | None) -> None:
        self.augmentation = augmentation
        flip_index = self.detection_set.flip_index
        self.transforms = [] if augmentation is None else augmentation.transforms(self.size, flip_index, self._partner)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not self.transforms:
            item = self.letterboxed(index)
        else:
            rng = np.random.default_rng((self.seed, epoch, index))
            item = self.unpadded(index) if self.augmentation.composes else self.letterboxed(index)
            for transform in self.transforms:
                item = transform(item, rng)
        return Sample(item, self.records[index], self.placements[index])

    def letterboxed(self, index: int) -> Item:
        """Item `index` at the size of the data set, not augmented, with gray padding."""
        image = self._decode(index) if self.images is None else self.images[index]
        keypoints = None if self.keypoints is None else self.keypoints[index]
        return Item(image, self.boxes[index], self.records[index].classes, keypoints)

    def unpadded(self, index: int) -> Item:
        """The same item without the padding."""
        item, (height, width), (_, _, left, top) = self.letterboxed(index), self.inner[index], self.placements[index]
        keypoints = None if item.keypoints is None else item.keypoints - np.float32([left, top, 0])
        boxes = item.boxes - np.float32([left, top, left, top])
        return Item(item.image[top : top + height, left : left + width], boxes, item.classes, keypoints)

    def _partner(self, rng: np.random.Generator) -> Item:
        return self.unpadded(int(rng.integers(len(self))))

    def _place_keypoints(self, index: int) -> np.ndarray:
        record, placement = self.records[index], self.placements[index]
        if record.keypoints is None:  # a file of a pose set may have none: all are absent
            return np.zeros((len(record.classes), len(self.detection_set.keypoint_names), 3), np.float32)
        scale = np.float32([placement.scale_x, placement.scale_y, 1])
        return record.keypoints * scale + np.float32([placement.pad_x, placement.pad_y, 0])

    def _decode(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        record = self.records[index]
        image = read_image(record.image)
        if image.shape[1::-1] != tuple(record.size):
            (height, width), (noted_width, noted_height) = image.shape[:2], record.size
            what = f"the image has {noted_width}×{noted_height} pixels here, but {record.image} has {width}×{height}"
            remedy = "Correct the annotation, or restore the image that was annotated."
            refuse(record.source or record.image, what, remedy)
        return letterbox(image, self.size, out)[0]

    def _fill_cache(self) -> np.ndarray:
        images = np.empty((len(self), *self.size, 3), np.uint8)
        with ThreadPoolExecutor(available_cores()) as pool:  # OpenCV releases the GIL while it decodes
            done = pool.map(self._decode, range(len(self)), images)
            for _ in progress(done, f"decoding {self.detection_set.name}", total=len(self)):
                pass
        return images


class Loader(DataLoader):
    """A torch DataLoader that knows its epoch.

    `len()` is the number of batches in a whole epoch.
    """

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be epoch `epoch`, from batch `skip` on. A resumed run calls this."""
        if not 0 <= skip <= len(self):
            raise ValueError(
                f"skip={skip}, but an epoch has {len(self)} batches. Give the number of batches of this epoch that "
                "were already used."
            )
        self.batch_sampler.epoch, self.batch_sampler.skip = epoch, skip

    def __iter__(self):
        batches = super().__iter__()
        # `skip` is for one pass. It is reset only now, because torch iterates the sampler twice if workers start.
        self.batch_sampler.skip = 0
        return batches

    def set_augmentation(self, augmentation: Augmentation | None) -> None:
        """Change the augmentation from the next pass on, for example to end without mosaic."""
        self.dataset.set_augmentation(augmentation)
        self._iterator = None  # persistent workers hold the old data set; without them the next pass starts new ones


def make_loader(
    detection_set: DetectionSet,
    image_size: int | Size,
    batch_size: int,
    *,
    augmentation: Augmentation | None = None,
    shuffle: bool = False,
    seed: int = 0,
    workers: int | str = "auto",
    cache: str = "auto",
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool | None = None,
    pose_targets: bool = False,
) -> Loader:
    """A loader of `Batch`es.

    Args:
        detection_set, image_size, augmentation, cache: see `DetectionDataset`.
        batch_size: images per batch and process.
        shuffle: a new order each epoch; call `set_epoch` before each.
        seed: of the order and of the samples.
        workers: processes that prepare batches. "auto" is none if images are cached and only
            flipped or turned, and otherwise one for each core.
        drop_last: leave out the last batch if it is not full.
        rank, world_size: which of how many processes this is. Each gets its part of every global
            batch.
        pin_memory: None means yes if there is a CUDA device.
        pose_targets: let `targets` hold the keypoints too, as `pose.PoseLoss` wants them.

    Raises:
        DataError: pose targets of a set without keypoints.
    """
    if pose_targets and not detection_set.keypoint_names:
        refuse(detection_set.name, "this set has no keypoints", "Take one that has them, or leave out pose_targets.")
    dataset = DetectionDataset(detection_set, image_size, augmentation=augmentation, cache=cache, seed=seed)
    batches = partial(collate, pose_targets=True) if pose_targets else collate
    order = {"shuffle": shuffle, "seed": seed, "drop_last": drop_last, "rank": rank, "world_size": world_size}
    return load(dataset, batch_size, collate=batches, workers=workers, pin_memory=pin_memory, **order)


def load(
    dataset: DetectionDataset,
    batch_size: int,
    *,
    collate: Callable[[list], object] = collate,
    shuffle: bool = False,
    seed: int = 0,
    workers: int | str = "auto",
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool | None = None,
) -> Loader:
    """A loader of a data set that is already built; `collate` makes a batch of its samples.

    The other arguments are those of `make_loader`.
    """
    batches = EpochBatches(
        len(dataset), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, rank=rank, world_size=world_size
    )
    if workers == "auto":
        workers = _choose_workers(dataset, batch_size, len(batches), world_size)
    return Loader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        generator=torch.Generator(),  # its own, so that a new pass does not advance the generator that training uses
    )


def _choose_workers(dataset: DetectionDataset, batch_size: int, batches: int, world_size: int) -> int:
    if dataset.images is not None and (dataset.augmentation is None or dataset.augmentation.light):
        return 0
    workers = min(max(available_cores() // world_size, 1), MAX_WORKERS, batches)
    # Workers hand batches over in shared memory. A container has 64 MB of it by default, and too little kills workers.
    if os.path.isdir("/dev/shm"):
        batch_bytes = batch_size * dataset.size[0] * dataset.size[1] * 3
        workers = min(workers, int(shutil.disk_usage("/dev/shm").free // (world_size * batch_bytes * (PREFETCH + 1))))
    return workers


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # one process per core is enough
    torch.set_num_threads(1)
