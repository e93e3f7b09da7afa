"""Transforms of an image and its objects: mosaic, flips, quarter turns, affine warp, colour.

Every transform is a callable `(Item, numpy Generator) -> Item`. `Augmentation` says which
transforms and how strong; `Augmentation.transforms` builds their list. The functions above
`Augmentation` do the work. They make no random choice and can be called one at a time.

Coordinates are continuous: pixel i covers i … i + 1, so an image of width W spans 0 … W, and its
mirror is x → W − x. OpenCV's warp counts from pixel centres instead; `warp` corrects that half
pixel.

Source: mosaic from YOLOv4 (Bochkovskiy et al. 2020, arXiv 2004.10934, §3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .letterbox import GRAY, Size

KEEP_SHARE = 0.1  # drop a box if a smaller part of it is still inside the image: too little to learn from
KEEP_SIDE = 2.0  # drop a box that is thinner than this, in pixels: a sliver at the border


@dataclass(slots=True)
class Item:
    """One image and its objects.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of `image`.
        classes: (n,) int64.
        keypoints: (n, K, 3) float32, x y in pixels and visibility (0 absent, 1 occluded, 2
            visible), or None.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None = None


Transform = Callable[[Item, np.random.Generator], Item]
Partner = Callable[[np.random.Generator], Item]


# Mirrors and turns: nothing is resampled, nothing is lost


def flip_left_right(item: Item, flip_index: tuple[int, ...] = ()) -> Item:
    """Mirror at the vertical axis.

    `flip_index` renames the keypoints: a left wing tip becomes a right one.
    """
    return _mirror(item, 0, flip_index)


def flip_up_down(item: Item, flip_index: tuple[int, ...] = ()) -> Item:
    """Mirror at the horizontal axis. Like any mirror image, it swaps left and right parts too."""
    return _mirror(item, 1, flip_index)


def _mirror(item: Item, axis: int, flip_index: tuple[int, ...]) -> Item:
    extent = item.image.shape[1 - axis]
    boxes = item.boxes.copy()
    boxes[:, axis] = extent - item.boxes[:, axis + 2]
    boxes[:, axis + 2] = extent - item.boxes[:, axis]
    keypoints = item.keypoints
    if keypoints is not None:
        keypoints = keypoints[:, list(flip_index)] if flip_index else keypoints.copy()
        keypoints[..., axis] = extent - keypoints[..., axis]
    return Item(cv2.flip(item.image, 1 - axis), boxes, item.classes, keypoints)


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def quarter_turn(item: Item, turns: int = 1) -> Item:
    """Turn counter-clockwise by 90°, `turns` times, as `numpy.rot90` does.

    An odd number swaps height and width.
    """
    turns %= 4
    if turns == 0:
        return item
    height, width = item.image.shape[:2]
    x1, y1, x2, y2 = item.boxes.T
    if turns == 1:  # (x, y) -> (y, W − x)
        corners = y1, width - x2, y2, width - x1
    elif turns == 2:  # (x, y) -> (W − x, H − y)
        corners = width - x2, height - y2, width - x1, height - y1
    else:  # (x, y) -> (H − y, x)
        corners = height - y2, x1, height - y1, x2
    keypoints = item.keypoints
    if keypoints is not None:
        x, y, visibility = np.moveaxis(keypoints, -1, 0)
        x, y = ((y, width - x), (width - x, height - y), (height - y, x))[turns - 1]
        keypoints = np.stack((x, y, visibility), axis=-1)
    return Item(cv2.rotate(item.image, _TURNS[turns]), np.stack(corners, axis=1), item.classes, keypoints)


# Windows and warps: objects can leave the image


def crop(item: Item, left: int, top: int, size: Size) -> Item:
    """The window of `size` whose upper left corner is at (left, top).

    The part of it that lies outside the image is gray.
    """
    height, width = item.image.shape[:2]
    if 0 <= left <= width - size[1] and 0 <= top <= height - size[0]:
        window = item.image[top : top + size[0], left : left + size[1]]
    else:
        window = np.full((*size, 3), GRAY, np.uint8)
        y1, y2, x1, x2 = max(top, 0), min(top + size[0], height), max(left, 0), min(left + size[1], width)
        if y1 < y2 and x1 < x2:
            window[y1 - top : y2 - top, x1 - left : x2 - left] = item.image[y1:y2, x1:x2]
    boxes = item.boxes - np.float32([left, top, left, top])
    keypoints = None if item.keypoints is None else item.keypoints - np.float32([left, top, 0])
    return _clip(Item(window, boxes, item.classes, keypoints))


def warp(item: Item, matrix: np.ndarray, size: Size) -> Item:
    """Apply an affine map (2, 3) or (3, 3) from the image to a new image of `size`.

    The map is given in continuous coordinates. A box becomes the hull of its four moved corners,
    clipped to the image. `_clip` says which boxes are dropped.
    """
    linear, shift = matrix[:2, :2], matrix[:2, 2]
    centres = np.column_stack((linear, shift + linear @ (0.5, 0.5) - 0.5))
    image = cv2.warpAffine(item.image, centres, size[::-1], flags=cv2.INTER_LINEAR, borderValue=(GRAY, GRAY, GRAY))
    corners = item.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ linear.T + shift  # (n, 4, 2)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).astype(np.float32)
    keypoints = item.keypoints
    if keypoints is not None:
        keypoints = np.concatenate((keypoints[..., :2] @ linear.T + shift, keypoints[..., 2:]), axis=-1).astype(
            np.float32
        )
    return _clip(Item(image, boxes, item.classes, keypoints))


def _clip(item: Item) -> Item:
    """Clip boxes to the image, and drop those of which too little is left (KEEP_SHARE, KEEP_SIDE).

    Keypoints outside become invisible.
    """
    height, width = item.image.shape[:2]
    boxes = np.clip(item.boxes, 0, np.float32([width, height, width, height]))
    sides, whole = boxes[:, 2:] - boxes[:, :2], item.boxes[:, 2:] - item.boxes[:, :2]
    keep = (sides >= KEEP_SIDE).all(axis=1) & (sides.prod(axis=1) >= KEEP_SHARE * whole.prod(axis=1))
    keypoints = item.keypoints
    if keypoints is not None:
        keypoints = keypoints[keep]
        outside = ((keypoints[..., :2] < 0) | (keypoints[..., :2] > (width, height))).any(axis=-1)
        keypoints[outside, 2] = 0
    return Item(item.image, boxes[keep], item.classes[keep], keypoints)


def affine_matrix(
    size: Size, *, degrees: float = 0, scale: float = 1, shear: tuple = (0, 0), shift: tuple = (0, 0)
) -> np.ndarray:
    """(3, 3) float64: shear, rotate and scale about the centre of `size`, then shift.

    Args:
        size: (height, width) of the image.
        degrees: rotation, counter-clockwise.
        scale: factor.
        shear: degrees along x and y.
        shift: pixels along x and y.
    """
    centre = np.array([size[1], size[0]]) / 2
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    shear_x, shear_y = np.tan(np.radians(shear))
    matrix = np.eye(3)
    # y points down
    matrix[:2, :2] = scale * np.array([[cosine, sine], [-sine, cosine]]) @ np.array([[1, shear_x], [shear_y, 1]])
    matrix[:2, 2] = centre + shift - matrix[:2, :2] @ centre
    return matrix


def join(items: list[Item], size: Size) -> Item:
    """Four items round the centre of a canvas that is twice as high and wide as `size`.

    Each item is whole; no box is cut.
    """
    height, width = size
    canvas = np.full((2 * height, 2 * width, 3), GRAY, np.uint8)
    boxes, keypoints = [], []
    for quadrant, item in enumerate(items):
        h, w = item.image.shape[:2]
        left = width - w if quadrant % 2 == 0 else width
        top = height - h if quadrant < 2 else height
        canvas[top : top + h, left : left + w] = item.image
        boxes.append(item.boxes + np.float32([left, top, left, top]))
        keypoints.append(None if item.keypoints is None else item.keypoints + np.float32([left, top, 0]))
    classes = np.concatenate([item.classes for item in items])
    return Item(canvas, np.concatenate(boxes), classes, None if keypoints[0] is None else np.concatenate(keypoints))


def mosaic(items: list[Item], centre: tuple[int, int], size: Size) -> Item:
    """Four items, none larger than `size`, that meet at `centre` (x, y) of one image of `size`."""
    return crop(join(items, size), size[1] - centre[0], size[0] - centre[1], size)


def shift_colours(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """Turn the hue by `hue` of the full circle, and multiply saturation and value.

    In HSV this is one table look-up per channel.
    """
    levels = np.arange(256)
    # OpenCV's hue is 0 … 179
    table = np.stack(((levels + round(180 * hue)) % 180, levels * saturation, levels * value), axis=-1)
    table = np.clip(table, 0, 255).astype(np.uint8)[:, None]  # (256, 1, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


# Random choices


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Which transforms, and how strong.

    All random numbers come from the Generator that the transforms are given.
    """

    mosaic: float = 0.0  # probability
    flip_lr: float = 0.5  # probability
    flip_ud: float = 0.0  # probability
    quarter_turns: bool = False  # four turns, equally likely: for views from above, which have no up
    degrees: float = 0.0  # rotation, ± this
    translate: float = 0.0  # shift, ± this part of the image
    scale: float = 0.0  # factor 1 ± this
    shear: float = 0.0  # degrees, ± this, both axes
    hsv: tuple[float, float, float] = (0.0, 0.0, 0.0)  # hue: ± this part of the circle; others: factor 1 ± this

    def __post_init__(self) -> None:
        for name in ("mosaic", "flip_lr", "flip_ud"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise ValueError(f"augmentation: {name} is a probability, but it is {value}. Use a number from 0 to 1.")
        if not 0 <= self.scale < 1:
            raise ValueError(
                f"augmentation: scale={self.scale} would shrink images to nothing. Use a number from 0 to below 1."
            )

    @property
    def bends(self) -> bool:
        """Whether images are resampled: rotated, scaled, shifted or sheared."""
        return any((self.degrees, self.translate, self.scale, self.shear))

    @property
    def composes(self) -> bool:
        """Whether images are resampled or joined.

        The first transform is then `Compose`, which takes images without padding.
        """
        return self.bends or self.mosaic > 0

    @property
    def light(self) -> bool:
        """Whether there are only flips and quarter turns.

        They take microseconds, so no worker process is needed.
        """
        return not self.composes and not any(self.hsv)

    def transforms(
        self, size: Size, flip_index: tuple[int, ...] = (), partner: Partner | None = None
    ) -> list[Transform]:
        """The transforms, in order.

        Args:
            size: (height, width) of the batch.
            flip_index: for keypoints, see `flip_left_right`.
            partner: chooses another item for a mosaic, without padding and no larger than `size`.
        """
        if self.quarter_turns and size[0] != size[1]:
            raise ValueError(
                f"augmentation: a {size[0]}×{size[1]} image that is turned does not fit its batch. Set "
                "quarter_turns=False, or use a square size."
            )
        steps: list[Transform] = []
        if self.composes:
            steps.append(Compose(self, size, partner))
        if any(self.hsv):
            steps.append(Colour(self.hsv))
        if self.flip_lr:
            steps.append(Flip(flip_left_right, self.flip_lr, flip_index))
        if self.flip_ud:
            steps.append(Flip(flip_up_down, self.flip_ud, flip_index))
        if self.quarter_turns:
            steps.append(_quarter_turns)
        return steps


@dataclass(frozen=True, slots=True)
class Compose:
    """Mosaic and affine map in a single resampling.

    The item comes without padding and leaves with the size `size`.
    """

    strength: Augmentation
    size: Size
    partner: Partner | None = None

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        height, width = self.size
        offset = (0, 0)
        if self.strength.mosaic and rng.random() < self.strength.mosaic:
            item = join([item, *(self.partner(rng) for _ in range(3))], self.size)
            # Moving the window over the canvas gives the same pictures as moving the meeting point, and
            # no tile is cut twice.
            offset = tuple(int(rng.integers(-(side // 2), side // 2 + 1)) for side in (width, height))
        left = offset[0] - (width - item.image.shape[1]) // 2
        top = offset[1] - (height - item.image.shape[0]) // 2
        if not self.strength.bends:
            return crop(item, left, top, self.size)
        s = self.strength
        limits = (s.degrees, s.scale, s.shear, s.shear, s.translate, s.translate)
        degrees, zoom, shear_x, shear_y, x, y = rng.uniform(-1, 1, 6) * limits
        matrix = affine_matrix(
            self.size, degrees=degrees, scale=1 + zoom, shear=(shear_x, shear_y), shift=(x * width, y * height)
        )
        matrix[:2, 2] -= matrix[:2, :2] @ (left, top)  # from the canvas to the window, then the map of the window
        return warp(item, matrix, self.size)


@dataclass(frozen=True, slots=True)
class Flip:
    """A mirror that is applied with a probability."""

    mirror: Callable[[Item, tuple[int, ...]], Item]
    probability: float
    flip_index: tuple[int, ...] = ()

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        return self.mirror(item, self.flip_index) if rng.random() < self.probability else item


@dataclass(frozen=True, slots=True)
class Colour:
    """Random changes of hue, saturation and value, each up to its gain."""

    gains: tuple[float, float, float]

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        hue, saturation, value = rng.uniform(-1, 1, 3) * self.gains
        return Item(shift_colours(item.image, hue, 1 + saturation, 1 + value), item.boxes, item.classes, item.keypoints)


def _quarter_turns(item: Item, rng: np.random.Generator) -> Item:
    return quarter_turn(item, int(rng.integers(4)))
