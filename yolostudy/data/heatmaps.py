"""From a `DetectionSet` with keypoints to batches for heatmaps: images, heatmaps, masks and joints.

    for images, heatmaps, masks, joints in make_heatmap_loader(train, 160, 16, heatmap_generators, joints_generators):
        ...

The generators are passed in, one of each kind for each resolution: they are exercises, and this
folder imports none. Keypoints arrive at them in cells of their map, after the transforms of
`augment`.

A mask is 0 in the box of an aircraft of which no keypoint is annotated, because a network that
finds its keypoints is not wrong. A single hidden keypoint leaves no hole. An aircraft that a mosaic
or a warp cuts off almost completely is dropped with its box (`augment.KEEP_SHARE`); no mask covers
what is left of it.

Source: HigherHRNet `lib/dataset/COCOKeypoints.py`, whose loader gives the same four lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .augment import Augmentation
from .letterbox import Placement
from .loader import DetectionDataset, Loader, Sample, load
from .records import DetectionSet, Record, refuse

Generator = Callable[[np.ndarray], np.ndarray]  # with an attribute `size`, cells along a side


class HeatmapSample(NamedTuple):
    """One augmented item with its record and placement, and an array for each resolution."""

    sample: Sample
    heatmaps: list[np.ndarray]  # (K, r, r) float32
    masks: list[np.ndarray]  # (r, r) float32
    joints: list[np.ndarray]  # (P, K, 2) int64


@dataclass(slots=True)
class HeatmapTargets:
    """The truth of a batch: three lists with an entry for each resolution r.

    Attributes:
        heatmaps: (B, K, r, r) float32.
        masks: (B, r, r) float32, 0 where no answer is wrong, else 1.
        joints: (B, P, K, 2) int64.
    """

    heatmaps: list[Tensor]
    masks: list[Tensor]
    joints: list[Tensor]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> HeatmapTargets:
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def map(self, function: Callable[[Tensor], Tensor]) -> HeatmapTargets:
        return HeatmapTargets(*([function(tensor) for tensor in part] for part in self.lists))

    @property
    def lists(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.heatmaps, self.masks, self.joints


@dataclass(slots=True)
class HeatmapBatch:
    """What the training loop gets. Unpacked, it is the four lists of HigherHRNet's loader.

    Attributes:
        images: (B, 3, H, W) uint8, RGB, channels-last memory format.
        targets: heatmaps, masks and joints.
        keypoints: for each image (G, K, 3) float32, x y in pixels of `images` and visibility.
        records, placements: as those of `loader.Batch`.
    """

    images: Tensor
    targets: HeatmapTargets
    keypoints: list[Tensor]
    records: list[Record]
    placements: list[Placement]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor | list[Tensor]]:
        """Images, heatmaps, masks, joints."""
        return iter((self.images, *self.targets.lists))

    def to(self, device: torch.device | str) -> HeatmapBatch:
        """The batch with images and targets on `device`. From pinned memory the copy does not block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> HeatmapBatch:
        """Called by DataLoader's pinning thread."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> HeatmapBatch:
        return replace(self, images=function(self.images), targets=self.targets.map(function))


class HeatmapDataset(DetectionDataset):
    """The samples of a set with keypoints at one size, with their heatmaps, masks and joints.

    `dataset[epoch, index]` is a `HeatmapSample`; its image and objects are those of
    `DetectionDataset`.

    Args:
        heatmap_generators: for each resolution, from the coarse to the fine one: a callable that
            takes (G, K, 3) keypoints in cells and returns (K, size, size), and its `size`.
        joints_generators: for each resolution: the same, but returns (P, K, 2) indices.
        detection_set, image_size, options: as those of `DetectionDataset`; the size is square.

    Errors: DataError for a set without keypoints; ValueError for a size that is not square, and for
        generators of unequal sizes.
    """

    def __init__(
        self,
        detection_set: DetectionSet,
        image_size: int,
        heatmap_generators: Sequence[Generator],
        joints_generators: Sequence[Generator],
        **options,
    ) -> None:
        if not detection_set.keypoint_names:
            refuse(detection_set.name, "there are no keypoints", "Open a set with keypoints, such as planes-mini.")
        sizes, others = ([generator.size for generator in each] for each in (heatmap_generators, joints_generators))
        if sizes != others or not sizes:
            raise ValueError(
                f"the heatmap generators have the sizes {sizes}, the joints generators {others}. Give one of each for "
                "each resolution, in the same order."
            )
        super().__init__(detection_set, image_size, **options)
        if self.size[0] != self.size[1]:
            raise ValueError(f"image_size is {image_size}; heatmaps are square, so give one side, such as 160.")
        self.heatmap_generators, self.joints_generators, self.sizes = heatmap_generators, joints_generators, sizes

    def __getitem__(self, key: int | tuple[int, int]) -> HeatmapSample:
        sample = super().__getitem__(key)
        item = sample.item
        scales = [np.float32(size / self.size[0]) for size in self.sizes]
        cells = [item.keypoints * (scale, scale, np.float32(1)) for scale in scales]
        unknown = item.boxes[~(item.keypoints[..., 2] > 0).any(axis=1)]
        return HeatmapSample(
            sample,
            [generate(points) for generate, points in zip(self.heatmap_generators, cells, strict=True)],
            [mask_of(unknown * scale, size) for scale, size in zip(scales, self.sizes, strict=True)],
            [generate(points) for generate, points in zip(self.joints_generators, cells, strict=True)],
        )


def mask_of(boxes: np.ndarray, size: int) -> np.ndarray:
    """(size, size) float32: 0 in each cell that a box touches, else 1.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in cells, within 0 … size.
    """
    mask = np.ones((size, size), np.float32)
    for x1, y1, x2, y2 in np.concatenate((np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])), axis=1).astype(int):
        mask[y1:y2, x1:x2] = 0
    return mask


def collate_heatmaps(samples: Sequence[HeatmapSample]) -> HeatmapBatch:
    """Samples of one size -> HeatmapBatch."""
    inner, *parts = zip(*samples, strict=True)
    images = torch.from_numpy(np.stack([sample.item.image for sample in inner]))  # (B, H, W, 3)
    targets = ([torch.from_numpy(np.stack(several)) for several in zip(*part, strict=True)] for part in parts)
    return HeatmapBatch(
        images.permute(0, 3, 1, 2),
        HeatmapTargets(*targets),
        [torch.from_numpy(sample.item.keypoints.copy()) for sample in inner],  # may be a view of the data set
        [sample.record for sample in inner],
        [sample.placement for sample in inner],
    )


def make_heatmap_loader(
    detection_set: DetectionSet,
    image_size: int,
    batch_size: int,
    heatmap_generators: Sequence[Generator],
    joints_generators: Sequence[Generator],
    *,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    cache: str = "auto",
    **options,
) -> Loader:
    """A loader of `HeatmapBatch`es.

    Args:
        heatmap_generators, joints_generators: see `HeatmapDataset`.
        options: those of `loader.load`, such as shuffle and workers.
        The others: as those of `loader.make_loader`.
    """
    dataset = HeatmapDataset(
        detection_set,
        image_size,
        heatmap_generators,
        joints_generators,
        augmentation=augmentation,
        cache=cache,
        seed=seed,
    )
    return load(dataset, batch_size, collate=collate_heatmaps, seed=seed, **options)
