"""Images and what was seen in them, moved together: letterbox, mosaic, flips, quarter turns, affine
warp, colour.

Every transform is a callable `(Item, numpy Generator) -> Item`; `Augmentation` says which ones,
`Augmentation.transforms` builds the list. The work is done by the small functions below it, which
take no chance decision and can be called one at a time.

Coordinates are continuous: pixel i covers i … i + 1, so that an image of width W spans 0 … W and
its mirror is x → W − x. OpenCV's warp counts from pixel centres instead; `warp` makes up for the
half pixel.

Sources: letterbox as in Ultralytics' YOLOv8 (same pixels, tested); mosaic from YOLOv4 (Bochkovskiy
et al. 2020, arXiv 2004.10934, §3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

GRAY = 114  # the padding that the YOLO family trains with; about the mean of natural images
KEEP_SHARE = 0.1  # a box of which less than this share is still inside the image shows too little to be learned from
KEEP_SIDE = 2.0  # pixels; thinner boxes are slivers at the border

Size = tuple[int, int]  # (height, width)


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


class Placement(NamedTuple):
    """Where an image lies in its letterbox: letterboxed = original · scale + pad, each axis with
    its own exact scale.

    The two scales differ by less than a pixel over the whole image, because the resized image has
    whole pixels.
    """

    scale_x: float
    scale_y: float
    pad_x: int
    pad_y: int

    def to_letterbox(self, boxes):
        """Boxes (…, 4 or more) of the original image, numpy or torch -> the same in the letterbox.

        Columns after the fourth stay.
        """
        moved = boxes * 1.0  # a copy, for arrays and tensors alike
        moved[..., 0:4:2] = moved[..., 0:4:2] * self.scale_x + self.pad_x
        moved[..., 1:4:2] = moved[..., 1:4:2] * self.scale_y + self.pad_y
        return moved

    def to_original(self, boxes):
        """The way back: boxes or predictions (…, 4 or more) in the letterbox -> pixels of the
        original image.
        """
        moved = boxes * 1.0
        moved[..., 0:4:2] = (moved[..., 0:4:2] - self.pad_x) / self.scale_x
        moved[..., 1:4:2] = (moved[..., 1:4:2] - self.pad_y) / self.scale_y
        return moved


def as_size(image_size: int | Size) -> Size:
    """640 -> (640, 640); (384, 640) stays, height first."""
    return (image_size, image_size) if isinstance(image_size, int) else (int(image_size[0]), int(image_size[1]))


def fit_inside(width: int, height: int, size: Size) -> tuple[Placement, Size]:
    """Where an image of (width, height) goes in a letterbox of `size`, and its own (height, width)
    there.
    """
    ratio = min(size[0] / height, size[1] / width)
    inner = max(round(height * ratio), 1), max(round(width * ratio), 1)
    return Placement(inner[1] / width, inner[0] / height, (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2), inner


def letterbox(image: np.ndarray, image_size: int | Size, out: np.ndarray | None = None) -> tuple[np.ndarray, Placement]:
    """Resize with the aspect kept, centred on gray.

    Args:
        image: (h, w, 3) uint8.
        image_size: side, or (H, W).
        out: (H, W, 3) uint8 to write into, for example a row of a cache.

    Returns: (H, W, 3) uint8, and the `Placement` that takes predictions back to pixels of `image`.
    """
    size = as_size(image_size)
    placement, inner = fit_inside(image.shape[1], image.shape[0], size)
    if image.shape[:2] != inner:
        image = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_LINEAR)
    out = np.empty((*size, 3), np.uint8) if out is None else out
    if inner != size:
        out[:] = GRAY
    out[placement.pad_y : placement.pad_y + inner[0], placement.pad_x : placement.pad_x + inner[1]] = image
    return out, placement


# ---- mirrors and turns: nothing is resampled, nothing is lost ------------------------------------


def flip_left_right(item: Item, flip_index: tuple[int, ...] = ()) -> Item:
    """Mirror at the vertical axis.

    `flip_index` says which keypoint takes whose place: a left wing tip becomes a right one.
    """
    return _mirror(item, 0, flip_index)


def flip_up_down(item: Item, flip_index: tuple[int, ...] = ()) -> Item:
    """Mirror at the horizontal axis. It swaps left and right parts too: any mirror image does."""
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
    """Turn counter-clockwise by 90° `turns` times, as `numpy.rot90` does; an odd number swaps
    height and width.
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


# ---- windows and warps: objects can leave the image ----------------------------------------------


def crop(item: Item, left: int, top: int, size: Size) -> Item:
    """The window of `size` whose upper left corner is at (left, top).

    It may reach beyond the image, where it is gray.
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
    """Apply an affine map (2, 3) or (3, 3), continuous coordinates of the image -> those of a new
    image of `size`.

    A box becomes the hull of its four moved corners, clipped to the image; see `_clip` for the
    boxes that are dropped.
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
    """Cut boxes at the border, drop slivers and objects of which under a tenth is left; keypoints
    outside become invisible.
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
    """(3, 3) float64: shear and rotate counter-clockwise (degrees), scale, all about the centre of
    `size`; then shift (pixels).
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
    """Four items around the centre of a canvas twice as high and wide as `size`, each whole: no box
    is cut here.
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
    """Turn the hue by `hue` of the full circle, multiply saturation and value; one table look-up
    per channel in HSV.
    """
    levels = np.arange(256)
    # OpenCV's hue is 0 … 179
    table = np.stack(((levels + round(180 * hue)) % 180, levels * saturation, levels * value), axis=-1)
    table = np.clip(table, 0, 255).astype(np.uint8)[:, None]  # (256, 1, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


# ---- chance --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Which transforms, and how strong.

    Everything that is drawn comes from the Generator handed to the transforms.
    """

    mosaic: float = 0.0  # probability
    flip_lr: float = 0.5  # probability
    flip_ud: float = 0.0  # probability
    quarter_turns: bool = False  # one of four, each as likely: for views from above, which have no up
    degrees: float = 0.0  # rotation, drawn from ± this
    translate: float = 0.0  # shift, ± this share of the image
    scale: float = 0.0  # factor 1 ± this
    shear: float = 0.0  # degrees, ± this, both axes
    # hue ± share of the circle; saturation and value: factor 1 ± this
    hsv: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("mosaic", "flip_lr", "flip_ud"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"augmentation: {name} is a probability, but {getattr(self, name)} was given. Use a number from "
                    "0 to 1."
                )
        if not 0 <= self.scale < 1:
            raise ValueError(
                f"augmentation: scale={self.scale} would shrink images to nothing. Use a number from 0 to below 1."
            )

    @property
    def bends(self) -> bool:
        """Whether images are rotated, scaled, shifted or sheared: resampled."""
        return any((self.degrees, self.translate, self.scale, self.shear))

    @property
    def composes(self) -> bool:
        """Whether images are resampled or joined, so that the first transform is `Compose`, which
        wants them without padding.
        """
        return self.bends or self.mosaic > 0

    @property
    def light(self) -> bool:
        """Whether only flips and quarter turns are asked for: microseconds, no reason for a worker
        process.
        """
        return not self.composes and not any(self.hsv)

    def transforms(
        self, size: Size, flip_index: tuple[int, ...] = (), partner: Partner | None = None
    ) -> list[Transform]:
        """The transforms in order.

        `partner` draws another item for a mosaic, unpadded and no larger than `size`.
        """
        if self.quarter_turns and size[0] != size[1]:
            raise ValueError(
                f"augmentation: a turned {size[0]}×{size[1]} image does not fit its batch. Set quarter_turns=False "
                "or a square size."
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
    """Mosaic and affine map with a single resampling; the item comes unpadded and leaves with the
    size `size`.
    """

    strength: Augmentation
    size: Size
    partner: Partner | None = None

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        height, width = self.size
        offset = (0, 0)
        if self.strength.mosaic and rng.random() < self.strength.mosaic:
            item = join([item, *(self.partner(rng) for _ in range(3))], self.size)
            # The window moves over the canvas instead of the meeting point: the same pictures, and
            # no tile is cut twice.
            offset = (
                int(rng.integers(-(width // 2), width // 2 + 1)),
                int(rng.integers(-(height // 2), height // 2 + 1)),
            )
        left = offset[0] - (width - item.image.shape[1]) // 2
        top = offset[1] - (height - item.image.shape[0]) // 2
        if not self.strength.bends:
            return crop(item, left, top, self.size)
        s = self.strength
        degrees, zoom, shear_x, shear_y, x, y = rng.uniform(-1, 1, 6) * (
            s.degrees,
            s.scale,
            s.shear,
            s.shear,
            s.translate,
            s.translate,
        )
        matrix = affine_matrix(
            self.size, degrees=degrees, scale=1 + zoom, shear=(shear_x, shear_y), shift=(x * width, y * height)
        )
        matrix[:2, 2] -= matrix[:2, :2] @ (left, top)  # canvas -> window, then the map of the window
        return warp(item, matrix, self.size)


@dataclass(frozen=True, slots=True)
class Flip:
    """A mirror, with a probability."""

    mirror: Callable[[Item, tuple[int, ...]], Item]
    probability: float
    flip_index: tuple[int, ...] = ()

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        return self.mirror(item, self.flip_index) if rng.random() < self.probability else item


@dataclass(frozen=True, slots=True)
class Colour:
    """Hue, saturation and value, changed by up to the gains."""

    gains: tuple[float, float, float]

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        hue, saturation, value = rng.uniform(-1, 1, 3) * self.gains
        return Item(shift_colours(item.image, hue, 1 + saturation, 1 + value), item.boxes, item.classes, item.keypoints)


def _quarter_turns(item: Item, rng: np.random.Generator) -> Item:
    return quarter_turn(item, int(rng.integers(4)))
