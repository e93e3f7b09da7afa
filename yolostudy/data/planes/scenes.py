"""A scene: one picture of aircraft on the ground, and the boxes, classes and keypoints in it.

A picture depends on (profile, seed, split, index) alone.

Pixels are continuous: the first pixel of an image spans 0 to 1, so a box that fills an image of 160
pixels is 0 0 160 160.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from . import clutter
from .airframes import TYPES
from .geometry import matrix, overlap, transform
from .ground import Ground, tint
from .parts import Airframe
from .profiles import PROFILES, Profile
from .sprites import Sprite, contours, draw
from .vocabulary import KEYPOINTS, SPLITS

# The version of the pictures. Raise it whenever the same seed gives other pixels; a set made before is
# then recognised as an old one.
VERSION = 4
CONTRAST = 0.17  # least difference in tone between an aircraft and the ground; white is 1
VISIBLE = 0.4  # least part of an aircraft inside the picture
# colours of fins and engines
TRIMS = ((0.7, 0.18, 0.16), (0.16, 0.28, 0.56), (0.85, 0.55, 0.14), (0.12, 0.42, 0.34), (0.22, 0.22, 0.25))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture and what it shows.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels, round the visible part.
        classes: (n,) int64, indices into the types of the profile.
        keypoints: (n, 4, 3) float32, x y in pixels and visibility: 2, or 0 (and x = y = 0) outside
            the picture.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray


def render_scene(profile: Profile | str, seed: int, split: str, index: int) -> Scene:
    """Draw picture `index` of a split. The same arguments give the same pixels."""
    profile = PROFILES[profile] if isinstance(profile, str) else profile
    wanted = deal_classes(profile, seed, split)[index]
    rng = _generator(seed, SPLITS.index(split), index)
    low, high = profile.sizes
    crowd = np.clip(profile.side / np.sqrt(len(wanted)), low / 0.8, high / 1.05)
    typical = np.exp(rng.uniform(np.log(low / 0.85), np.log(crowd)))
    ground = Ground(rng, profile.side, typical / 38)  # an aircraft of middle size is 38 metres long
    weights = np.array([weight for _, weight in profile.layouts])
    paint, _ = profile.layouts[rng.choice(len(weights), p=weights / weights.sum())]
    paint(ground)
    if rng.random() < 0.08:
        clutter.painted_cross(ground, rng.uniform(0, profile.side, 2), rng.uniform(0, 2 * np.pi))

    headings = ground.angle + (np.arange(4) * np.pi / 2 if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi, 1))
    stands: list[tuple[int, np.ndarray]] = []
    for number in wanted:
        before = stands[-1][1] if stands else None
        place = _find_place(ground, profile.types[number], profile, typical, headings, before)
        if place is not None:
            stands.append((int(number), place))
    clutter.scatter(ground, [place for _, place in stands], headings)
    return _with_aircraft(ground, profile, stands)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, *key])


@cache
def deal_classes(profile: Profile, seed: int, split: str) -> tuple[np.ndarray, ...]:
    """The classes of every picture of a split.

    They are dealt from shuffled decks that hold every type once, so that the classes are balanced.
    """
    rng = _generator(seed, SPLITS.index(split), 1 << 30)
    chances = np.array(profile.planes) / sum(profile.planes)
    numbers = 1 + rng.choice(len(chances), profile.counts[SPLITS.index(split)], p=chances)
    types = len(profile.types)
    decks = np.concatenate([rng.permutation(types) for _ in range(-(-int(numbers.sum()) // types))])
    return tuple(np.split(decks[: numbers.sum()], np.cumsum(numbers)[:-1]))


# Where aircraft stand


def _find_place(
    ground: Ground, plane: Airframe, profile: Profile, size: float, headings: np.ndarray, before: np.ndarray | None
) -> np.ndarray | None:
    """Find a free place (2, 3) for an aircraft and take it; None if there is none.

    The first attempts like to put it beside the aircraft that was placed `before`.
    """
    rng, side = ground.rng, ground.side
    for attempt in range(80):
        extent = np.clip(size * (1 - 0.3 * attempt / 80) * rng.uniform(0.82, 1.2), *profile.sizes)
        angle = rng.choice(headings) + rng.normal(0, 0.12) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
        margin = extent * (0.05 if rng.random() < 0.12 or attempt > 60 else 0.52)  # a few are cut by the border
        at = rng.uniform(margin, side - margin, 2)
        if before is not None and attempt < 20 and rng.random() < 0.6:  # in a row, wing tip to wing tip
            across = before[:, 0] / np.linalg.norm(before[:, 0])
            gap = across * rng.choice((-1, 1)) * rng.uniform(1.0, 1.25) * size
            at = before[:, 2] + gap + rng.normal(0, 0.02 * size, 2)
            angle = np.arctan2(across[1], across[0]) + rng.normal(0, 0.05)
            if not (margin < at).all() or not (at < side - margin).all():
                continue
        if attempt < 50 and not ground.paved[int(at[1]), int(at[0])] and ground.paved.any():
            continue
        place = matrix(at, extent, angle, rng.uniform(0.96, 1.04))
        if _take(ground, plane, place, extent):
            return place
    return None


def _take(ground: Ground, plane: Airframe, place: np.ndarray, extent: float) -> bool:
    """Occupy an aircraft's place, if the place is free and mostly inside the picture."""
    corner = np.floor(place[:, 2] - extent * 0.8).astype(int)
    whole = np.zeros((int(1.6 * extent) + 2,) * 2, np.uint8)
    for outline in contours(plane):
        cv2.fillPoly(whole, [np.round(transform(outline, place) - corner).astype(np.int32)], 255)
    rows, columns, whole_rows, whole_columns = overlap(corner, whole.shape, ground.side)
    inside = whole[whole_rows, whole_columns]
    if np.count_nonzero(inside) < (VISIBLE + 0.05) * np.count_nonzero(whole):
        return False
    gap = max(2, int(0.03 * extent))
    grown = cv2.dilate(inside, np.ones((2 * gap + 1,) * 2, np.uint8))
    if cv2.min(grown, ground.blocked[rows, columns]).any():
        return False
    for taken in (ground.blocked[rows, columns], ground.busy[rows, columns]):
        np.maximum(taken, grown, out=taken)
    return True


# Painting them


def _with_aircraft(ground: Ground, profile: Profile, stands: list[tuple[int, np.ndarray]]) -> Scene:
    """The scene: the ground with the aircraft (type, place) drawn on it, then photographed."""
    rng = ground.rng
    contrast = rng.uniform(0.3, 0.55)
    sprites, sizes = [], []
    for number, place in stands:
        paint = _choose_paint(ground, place)
        light, ambient = ground.sun * contrast, rng.uniform(0.88, 0.98)
        sprites.append(draw(profile.types[number], place, light, ambient, paint, profile.finest))
        sizes.append(float(np.hypot(place[0, 1], place[1, 1])))
    _cast_shadows(ground, sprites, sizes)

    boxes, points = [], []
    for sprite in sprites:
        rows, columns, inner_rows, inner_columns = overlap(sprite.corner, sprite.mask.shape, profile.side)
        opacity = sprite.opacity[inner_rows, inner_columns, None]
        here = ground.image[rows, columns]
        here += sprite.colour[inner_rows, inner_columns] * 240 - here * opacity
        boxes.append(visible_box(sprite, profile.side))
        inside = ((sprite.keypoints >= 0) & (sprite.keypoints <= profile.side)).all(1, keepdims=True)
        points.append(np.concatenate([sprite.keypoints, np.full((4, 1), 2.0)], 1) * inside)
    return Scene(
        _photograph(ground),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([number for number, _ in stands], np.int64),
        np.array(points, np.float32).reshape(-1, len(KEYPOINTS), 3),
    )


def _choose_paint(ground: Ground, place: np.ndarray) -> list[np.ndarray]:
    """Three colours (3,) for wing, body and trim, of another tone than the ground at `place`."""
    rng = ground.rng
    for _ in range(6):
        tone = rng.choice((0.93, 0.82, 0.66, 0.5, 0.4), p=(0.35, 0.25, 0.2, 0.12, 0.08)) + tint(rng, 0.03, 0.012)
        if rng.random() < 0.2:
            tone += np.array([0.01, 0.0, -0.06])  # olive
        if abs(tone.mean() - _tone_of_ground(ground, place)) > CONTRAST:
            break
    body = tone * rng.uniform(0.9, 1.12)
    trim = np.array(TRIMS[rng.integers(len(TRIMS))]) if rng.random() < 0.35 else body
    return [np.clip(colour, 0.15, 1) for colour in (tone, body, trim)]


def _tone_of_ground(ground: Ground, place: np.ndarray) -> float:
    """Brightness of the ground round an aircraft's place, on the scale of its paint."""
    (x, y), reach = place[:, 2], np.hypot(place[0, 1], place[1, 1]) / 2
    rows, columns = (slice(int(max(value - reach, 0)), int(max(value + reach, 1))) for value in (y, x))
    return float(ground.image[rows, columns].mean()) / 240


def _cast_shadows(ground: Ground, sprites: list[Sprite], sizes: list[float]) -> None:
    """Darken the ground by the aircraft's shadows, and a little under the aircraft themselves."""
    cover = np.zeros((ground.side, ground.side), np.float32)
    for sprite, size in zip(sprites, sizes, strict=True):
        reach = -ground.sun * 0.12 * size * ground.shade
        pad = int(np.abs(reach).max() + 0.03 * size) + 4
        own = cv2.copyMakeBorder(sprite.opacity, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        near = cv2.GaussianBlur(own, (0, 0), 0.4 + 0.008 * size)
        thrown = cv2.warpAffine(near, np.array([[1, 0, reach[0]], [0, 1, reach[1]]]), own.shape[::-1])
        rows, columns, inner_rows, inner_columns = overlap(
            [value - pad for value in sprite.corner], own.shape, ground.side
        )
        here = cover[rows, columns]
        np.maximum(here, np.maximum(thrown, 0.5 * near)[inner_rows, inner_columns], out=here)
    ground.darken(np.round(cover * 255).astype(np.uint8))


def _photograph(ground: Ground) -> np.ndarray:
    """The picture after air, lens and sensor: haze, exposure, colour cast, blur and noise."""
    rng, image = ground.rng, ground.image
    warm, haze = rng.normal(0, 0.02), rng.uniform(0, 0.1)
    gain, contrast = rng.uniform(0.82, 1.14), rng.uniform(0.9, 1.15)
    # exposure, then haze, then contrast round the middle grey: one factor and one summand a colour
    factor = gain * np.array([1 + warm, 1, 1 - warm]) * (1 - haze) * contrast
    summand = 128 + (haze * np.array([176, 184, 196]) - 128) * contrast
    image = image * factor.astype(np.float32) + summand.astype(np.float32)
    if (blur := rng.uniform(0, 0.75)) > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image += (rng.uniform(0.5, 4) * ground.noise(0))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def visible_box(sprite: Sprite, side: int) -> np.ndarray:
    """(4,) box of the part of an aircraft that lies inside the picture.

    `sprite.box` is exact to half a pixel. Where it differs from the visible pixels by more than
    one, the aircraft is cut there, and the pixels decide.
    """
    rows, columns, inner_rows, inner_columns = overlap(sprite.corner, sprite.mask.shape, side)
    solid = sprite.mask[inner_rows, inner_columns] > 0.5
    y, x = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    seen = np.array([x[0], y[0], x[-1] + 1, y[-1] + 1]) + np.array([columns.start, rows.start] * 2)
    box = np.clip(sprite.box, 0, side)
    return np.where(np.abs(box - seen) <= 1, box, seen)


def type_sheet(size: int = 200, types: tuple[Airframe, ...] = TYPES) -> np.ndarray:
    """All types with their names, nose up, five to a row: (rows * size, 5 * size, 3) uint8."""
    sheet = np.full((-(-len(types) // 5) * size, 5 * size, 3), 128, np.float32)
    colours = [np.full(3, 0.8), np.full(3, 0.92), np.array(TRIMS[1])]
    for number, plane in enumerate(types):
        centre = ((number % 5 + 0.5) * size, (number // 5 + 0.54) * size)
        sprite = draw(plane, matrix(centre, 0.86 * size, 0.0), np.array([-0.3, -0.35]), 0.92, colours)
        x, y = sprite.corner
        h, w = sprite.opacity.shape
        here = sheet[max(y, 0) : y + h, max(x, 0) : x + w]
        part = slice(max(-y, 0), max(-y, 0) + here.shape[0]), slice(max(-x, 0), max(-x, 0) + here.shape[1])
        here += sprite.colour[part] * 255 - here * sprite.opacity[part][..., None]
    sheet = np.clip(sheet, 0, 255).astype(np.uint8)
    for number, plane in enumerate(types):
        corner = (int((number % 5 + 0.03) * size), int((number // 5 + 0.1) * size))
        cv2.putText(sheet, plane.name, corner, cv2.FONT_HERSHEY_SIMPLEX, size / 380, (20, 20, 20), 1, cv2.LINE_AA)
    return sheet
