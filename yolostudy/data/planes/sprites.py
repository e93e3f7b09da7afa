"""Aircraft as pictures: each type is drawn once, large, and then placed, turned and lit.

What is kept of a type are its *maps*. They are linear in the light: `lit = albedo * (ambient +
normal · light)`. So warping the maps and lighting them afterwards gives the same picture as
lighting first. One aircraft costs two affine warps, whatever its detail.

A *size* is the length of the longer side of an aircraft, span or length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .geometry import fill, transform
from .parts import BODY, TRIM, Airframe, Part

RESOLUTION = 512  # pixels over the longer side of an aircraft in its largest map
MARGIN = 1.125  # side of a map, in sizes: room for propellers and for the blur of the smaller levels


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """All that is needed to draw one type at any angle, size and light, at one resolution.

    Attributes:
        light: (S, S, 4) float32: opacity · albedo; that times the normal's x and y (image axes,
            nose up); opacity.
        paint: (S, S, 3) float32: opacity times how much of the body's colour is here; the same for
            the trim's colour; opacity of the mask (solid parts only).
        scale: pixels for one size of the aircraft.
    """

    light: np.ndarray
    paint: np.ndarray
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """One aircraft, drawn."""

    colour: np.ndarray  # (h, w, 3) float32, 0…1, weighted by the opacity
    opacity: np.ndarray  # (h, w) float32
    mask: np.ndarray  # (h, w) float32, opacity of the solid parts
    corner: tuple[int, int]  # x, y of the first pixel in the image
    box: np.ndarray  # (4,) in image pixels, of the whole aircraft
    keypoints: np.ndarray  # (4, 2)


def _draw_maps(plane: Airframe, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The arrays `light` and `paint` of `Maps`, at `resolution` pixels for one size."""
    side = round(resolution * MARGIN)
    unit = resolution / plane.size  # pixels for one wing span
    light, paint = np.zeros((side, side, 4), np.float32), np.zeros((side, side, 3), np.float32)
    pad = int(0.05 * resolution)
    for part in plane.parts:
        points = (part.outline - plane.centre) * [1, -1] * unit + side / 2
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - pad, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + pad, side)
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fill(cover, points - [x0, y0])
        mask = cover[..., None].astype(np.float32) / 255 * (1.0 if part.solid else 0.55)  # (h, w, 1)
        below, colours = light[y0:y1, x0:x1], paint[y0:y1, x0:x1]
        above = np.zeros_like(below)  # albedo, normal x, normal y, opacity
        above[..., 0], above[..., 1], above[..., 3] = part.albedo, part.tilt, 1.0
        if part.bevel:
            above[..., 1:3] += _rim(cover, part, unit, resolution)
            # what lies below is darker beside a part that stands above it
            below[..., 0] *= 1 - 0.35 * cv2.GaussianBlur(mask[..., 0], (0, 0), 0.01 * resolution) * (1 - mask[..., 0])
        below += (above - below) * mask
        colours[..., :2] += (np.array([part.tone == BODY, part.tone == TRIM], np.float32) - colours[..., :2]) * mask
        if part.solid:
            colours[..., 2:] += (1 - colours[..., 2:]) * mask
    # Painting over nothing weighted albedo and normal by the opacity. `light` wants their product,
    # weighted once.
    opacity = np.maximum(light[..., 3:], 1e-6)
    light[..., 1:3] *= light[..., :1] / opacity
    return light, paint


def _rim(cover: np.ndarray, part: Part, unit: float, resolution: int) -> np.ndarray:
    """(h, w, 2) how far the normal leans over the rounded rim of a part, along x and y."""
    radius = part.bevel * unit
    depth = cv2.distanceTransform((cover > 127).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    height = radius * np.sqrt(1 - (1 - np.clip(depth / radius, 0, 1)) ** 2)
    height = cv2.GaussianBlur(height, (0, 0), (0.003 if part.bevel < 0.02 else 0.007) * resolution)
    slope = -np.dstack(
        [cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)]
    )
    return slope / np.sqrt(1 + (slope**2).sum(-1, keepdims=True))


@cache
def maps(plane: Airframe, finest: int = RESOLUTION) -> tuple[Maps, ...]:
    """The maps of a type: first with `finest` pixels for one size, then each with half as many."""
    light, paint = _draw_maps(plane, finest)
    levels = [Maps(light, paint, float(finest))]
    while levels[-1].scale >= 64 and levels[-1].light.shape[0] % 2 == 0:
        light, paint = (cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for x in (light, paint))
        levels.append(Maps(light, paint, levels[-1].scale / 2))
    return tuple(levels)


@cache
def contours(plane: Airframe) -> list[np.ndarray]:
    """Outlines (n, 2) of the parts that shape a type, in sizes: image axes, nose up, centred."""
    return [
        ((part.outline - plane.centre) * [1, -1] / plane.size).astype(np.float32)
        for part in plane.parts
        if part.solid and part.bevel
    ]


def keypoints(plane: Airframe) -> np.ndarray:
    """(4, 2) keypoints of a type, in sizes: image axes, nose up, centred."""
    return (plane.keypoints - plane.centre) * [1, -1] / plane.size


def draw(
    plane: Airframe,
    m: np.ndarray,
    light: np.ndarray,
    ambient: float,
    colours: Sequence[np.ndarray],
    finest: int = RESOLUTION,
) -> Sprite:
    """Draw one aircraft.

    Args:
        m: (2, 3) from sizes (nose up) to image pixels, as `geometry.matrix` makes it.
        light: (2,) direction and strength of the sun, in image axes.
        ambient: light from all sides.
        colours: three colours (3,) of 0…1, for wing, body and trim.
        finest: pixels for one size in the largest map.
    """
    size = float(np.hypot(m[0, 1], m[1, 1]))
    levels = maps(plane, finest)
    level = next((x for x in reversed(levels) if x.scale >= 2 * size), levels[0])
    reach = 0.5 * MARGIN * np.abs(m[:, :2]).sum(1) + 2
    x0, y0 = np.floor(m[:, 2] - reach).astype(int)
    x1, y1 = np.ceil(m[:, 2] + reach).astype(int)
    # from pixels of the map to pixels of the patch at twice the resolution; the halves are pixel centres
    half = level.light.shape[0] / 2
    linear = m[:, :2] / level.scale
    offset = m[:, 2] - [x0, y0] - linear @ np.array([half, half])
    warp = np.concatenate([2 * linear, (2 * (offset + linear @ [0.5, 0.5]) - 0.5)[:, None]], 1)
    shape = (2 * (x1 - x0), 2 * (y1 - y0))
    lit = cv2.warpAffine(level.light, warp, shape, flags=cv2.INTER_LINEAR)
    paint = cv2.warpAffine(level.paint, warp, shape, flags=cv2.INTER_LINEAR)
    solid = paint[..., 2] > 0.5
    columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 2 + np.array([x0, y0, x0, y0])
    lit = cv2.resize(lit, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    paint = cv2.resize(paint, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    turn = m[:, :2] / np.linalg.norm(m[:, :2], axis=0)
    local = turn.T @ light  # the sun as the aircraft sees it
    brightness = np.maximum(lit[..., 0] * ambient + lit[..., 1] * local[0] + lit[..., 2] * local[1], 0)
    wing, body, trim = colours
    mix = paint[..., :2] / np.maximum(lit[..., 3:], 1e-3)
    colour = brightness[..., None] * (wing + (body - wing) * mix[..., :1] + (trim - wing) * mix[..., 1:])
    return Sprite(
        colour.astype(np.float32), lit[..., 3], paint[..., 2], (int(x0), int(y0)), box, transform(keypoints(plane), m)
    )
