"""The airfields of A1 … A20: aprons, runways, hardstands, hangars and open fields.

A layout is a function that paints a `Ground`. `LAYOUTS` says how often each is chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .geometry import arc, rectangle
from .ground import RED, WHITE, YELLOW, Ground, tint, window

Layout = Callable[[Ground], None]


def building(ground: Ground, x: float, y: float, width: float, depth: float, height: float) -> None:
    """A roof with its shadow and parapet, and with ventilators, ridges or vaults on it."""
    rng, m = ground.rng, ground.metre
    outline = rectangle(x, y, width, depth)
    mask = ground.mask(outline)
    ground.cast(mask, height)
    tone = rng.uniform(90, 215) + tint(rng, 0, 4)
    if rng.random() < 0.25:
        tone = np.array([(150, 84, 70), (92, 112, 134), (104, 124, 104)][rng.integers(3)], float) + tint(rng, 6, 4)
    ground.blend(mask, tone * (1 + 0.02 * ground.noise(0) + 0.03 * ground.noise(3))[..., None])
    ground.line(np.concatenate([outline, outline[:1]]), max(0.5, 0.4 * m), tone * 1.2, 0.8)
    style = rng.integers(3)
    if style == 0:  # corrugated, with a ridge: one side is in the light
        ridge = ground.mask(rectangle(x, y + depth / 4, width, depth / 2))
        ground.blend(ridge, tone * rng.uniform(0.7, 0.9))
        for at in np.arange(x - width / 2, x + width / 2, max(2.5, 3 * m)):
            ground.line(np.array([[at, y - depth / 2], [at, y + depth / 2]]), 0.5 * m, tone * 0.8, 0.3)
    elif style == 1:  # flat, with ventilators
        for _ in range(rng.integers(3, 10)):
            at = rng.uniform(-0.42, 0.42, 2) * [width, depth] + [x, y]
            unit = ground.mask(rectangle(*at, *rng.uniform(1.5, 4, 2) * m))
            ground.cast(unit, 1.5 * m)
            ground.blend(unit, tone * rng.uniform(0.6, 1.3))
    else:  # vaulted, in bays
        bays = max(2, int(width / (14 * m)))
        for i in range(bays):
            left = x - width / 2 + i * width / bays
            for share, light in ((0.0, 0.78), (0.33, 1.0), (0.66, 1.12)):
                bay = rectangle(left + (share + 0.17) * width / bays, y, 0.33 * width / bays, depth)
                ground.blend(ground.mask(bay), tone * light, 0.8)
    ground.occupy(mask)


def trees(ground: Ground, mask: np.ndarray, number: int) -> None:
    """Round crowns with shadows, as many of `number` as fall where `mask` is set."""
    rng, m = ground.rng, ground.metre
    for _ in range(number):
        at = rng.uniform(0, ground.side, 2)
        if not mask[int(at[1]), int(at[0])]:
            continue
        radius = rng.uniform(1.5, 4) * m
        crown = ground.empty_mask()
        for _ in range(3):
            x, y = np.round((at + rng.normal(0, 0.4 * radius, 2)) * 16).astype(int)
            cv2.circle(crown, (int(x), int(y)), int(radius * 13), 255, -1, cv2.LINE_AA, 4)
        where = window(crown)
        crown[where] = cv2.min(crown[where], mask[where])
        ground.cast(crown, 2 * radius)
        ground.blend(crown, ground.grass * np.array([0.55, 0.68, 0.55], np.float32) * rng.uniform(0.8, 1.15))
        leaves = (crown[where] * np.clip(0.5 * ground.noise(1)[where], 0, 1)).astype(np.float32)
        ground.image[where] *= 1 - leaves[..., None] * np.float32(0.35 / 255)
        for taken in (ground.blocked, ground.busy):
            np.maximum(taken[where], crown[where], out=taken[where])


def apron(ground: Ground) -> None:
    """A paved apron with stands, sometimes with a terminal on one side and grass on the other."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("asphalt" if rng.random() < 0.25 else "concrete")
    ground.stains(np.full_like(ground.paved, 255), rng.integers(6, 16))
    stand = rng.uniform(42, 60) * m
    offset = rng.uniform(-0.5, 0.5) * stand
    taxi = rng.uniform(-0.5, 0.5) * reach
    paint = YELLOW if rng.random() < 0.8 else WHITE
    way = np.array([[-reach, taxi], [reach, taxi]])
    ground.tracks(way)
    ground.line(way, 0.5 * m, paint, 0.9)
    side = rng.choice((-1, 1))
    stands = np.arange(-2 * reach, 2 * reach, stand) + offset
    _stand_markings(ground, stands, stand, taxi, side, paint)
    if rng.random() < 0.55:
        edge = taxi - side * rng.uniform(28, 50) * m
        ground.lay("grass", ground.mask(rectangle(0, edge - side * reach, 4 * reach, 2 * reach)))
        ground.line(np.array([[-reach, edge], [reach, edge]]), 0.8 * m, ground.concrete * 0.8, 0.7)
        trees(
            ground, ground.mask(rectangle(0, edge - side * (reach + 12 * m), 4 * reach, 2 * reach)), rng.integers(0, 14)
        )
    if rng.random() < 0.45:
        front = taxi + side * rng.uniform(66, 84) * m
        _terminal(ground, front, side)
        for at in stands + 0.2 * stand:
            if rng.random() < 0.6:
                _jet_bridge(ground, at, front, side)


def _stand_markings(
    ground: Ground, stands: np.ndarray, width: float, taxi: float, side: int, paint: tuple[int, ...]
) -> None:
    """The painted lines of the stands at x = `stands`, on one side of the taxiway y = `taxi`."""
    rng, m = ground.rng, ground.metre
    number = rng.integers(1, 60)
    for k, at in enumerate(stands):
        bend = arc(at + 10 * m, taxi + side * 10 * m, 10 * m, np.pi, np.pi + side * np.pi / 2)
        lead_in = np.concatenate([np.array([[at, taxi + side * 60 * m]]), bend])
        ground.tracks(lead_in)
        ground.line(lead_in, 0.5 * m, paint, 0.9)
        ground.line(
            np.array([[at - 2 * m, taxi + side * 58 * m], [at + 2 * m, taxi + side * 58 * m]]), 0.6 * m, paint, 0.9
        )
        if k % 2:
            ground.text(
                str(number + k // 2), at + 6 * m, taxi + side * 24 * m, 5 * m, paint, 0.0 if side < 0 else np.pi
            )
        if rng.random() < 0.5:
            zone = np.array([[at + width / 2, taxi + side * 18 * m], [at + width / 2, taxi + side * 62 * m]])
            ground.line(zone, 0.4 * m, RED, 0.7)


def _terminal(ground: Ground, front: float, side: int) -> None:
    """A row of buildings of different depth behind the line y = `front`."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    left = -1.2 * reach
    while left < 1.2 * reach:
        width, depth = rng.uniform(50, 110) * m, rng.uniform(24, 50) * m
        y = front + side * (depth / 2 + rng.uniform(0, 6) * m)
        building(ground, left + width / 2, y, width, depth, rng.uniform(9, 16) * m)
        left += width


def _jet_bridge(ground: Ground, x: float, front: float, side: int) -> None:
    """A stem that leads from the terminal to an aircraft's door, with a cab at its end."""
    rng, m = ground.rng, ground.metre
    tip = np.array([x - rng.uniform(2, 8) * m, front - side * rng.uniform(12, 20) * m])
    half, foot = np.array([1.6 * m, 0]), np.array([x, front + side * 3 * m])
    stem = np.stack([foot - half, foot + half, tip + half, tip - half])
    bridge = ground.mask(stem, rectangle(*tip, 5 * m, 5 * m))
    ground.cast(bridge, 5 * m)
    ground.blend(bridge, np.full(3, rng.uniform(150, 220)))
    ground.occupy(bridge)


def runway(ground: Ground) -> None:
    """An asphalt runway through grass, a taxiway beside it, and their markings."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("grass")
    y, width = rng.uniform(-0.35, 0.35) * reach, rng.uniform(42, 60) * m
    strip = ground.mask(rectangle(0, y, 4 * reach, width))
    taxi = y + rng.choice((-1, 1)) * (width / 2 + rng.uniform(30, 60) * m)
    joins = rng.uniform(-0.8, 0.8) * reach
    slant = rng.uniform(-1, 1) * 30 * m
    taxiways = ground.mask(
        rectangle(0, taxi, 4 * reach, 22 * m),
        np.array(
            [[joins - 13 * m, y], [joins + 13 * m, y], [joins + slant + 13 * m, taxi], [joins + slant - 13 * m, taxi]]
        ),
    )
    ground.lay("concrete" if rng.random() < 0.4 else "asphalt", taxiways)
    ground.lay("asphalt", strip)
    ground.runway = strip
    ground.stains(strip, rng.integers(2, 6))
    ground.line(np.array([[-2 * reach, taxi], [2 * reach, taxi]]), 0.5 * m, YELLOW, 0.9)
    ground.line(np.array([[joins, y], [joins + slant, taxi]]), 0.5 * m, YELLOW, 0.9)
    for edge in (-0.46, 0.46):
        ground.line(np.array([[-2 * reach, y + edge * width], [2 * reach, y + edge * width]]), 0.9 * m, WHITE, 0.9)
    start = rng.uniform(-reach, reach)
    for at in np.arange(start - 3 * reach, 2 * reach, 50 * m):
        ground.line(np.array([[at, y], [at + 30 * m, y]]), 0.9 * m, WHITE, 0.9)
    if rng.random() < 0.6:  # the threshold: a comb of bars
        at = rng.uniform(-0.6, 0.6) * reach
        ground.blend(ground.mask(rectangle(at, y, 34 * m, 0.9 * width)), ground.asphalt)
        bars = [
            rectangle(at, y + k * width / 14, 28 * m, width / 32) for k in (-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6)
        ]
        ground.blend(ground.mask(*bars), WHITE, 0.9)
        ground.blend(ground.mask(rectangle(at + 27 * m, y, 20 * m, 0.9 * width)), ground.asphalt)
        ground.text(f"{rng.integers(1, 37):02d}", at + 27 * m, y, 14 * m, WHITE, np.pi / 2)
    tyre = np.clip(0.5 + 0.5 * ground.noise(2), 0, 1)
    rubber = ground.mask(rectangle(0, y - 4 * m, 4 * reach, 3 * m), rectangle(0, y + 4 * m, 4 * reach, 3 * m))
    ground.blend((rubber * tyre).astype(np.uint8), ground.asphalt * 0.6, rng.uniform(0, 0.6))
    clear = ground.mask(rectangle(0, (y + taxi) / 2, 4 * reach, abs(taxi - y) + width + 30 * m))
    trees(ground, cv2.bitwise_not(clear), rng.integers(0, 20))


def dispersal(ground: Ground) -> None:
    """Round hardstands on grass along a taxiway."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("grass")
    y = rng.uniform(-0.2, 0.2) * reach
    pads, radius = [], rng.uniform(30, 40) * m
    for at in np.arange(-1.5 * reach, 1.5 * reach, 2.3 * radius) + rng.uniform(0, 40) * m:
        for side in (-1, 1):
            pads.append((at + rng.uniform(-4, 4) * m, y + side * (radius + rng.uniform(16, 24) * m)))
    discs = [arc(*pad, radius, 0, 2 * np.pi) for pad in pads]
    stems = [rectangle(px, (py + y) / 2, 20 * m, abs(py - y)) for px, py in pads]
    way = rectangle(0, y, 4 * reach, 22 * m)
    ground.lay("concrete" if rng.random() < 0.6 else "asphalt", ground.mask(*discs, *stems, way))
    paved = ground.mask(*discs)
    ground.stains(paved, rng.integers(4, 10))
    ground.line(np.array([[-2 * reach, y], [2 * reach, y]]), 0.5 * m, YELLOW, 0.9)
    for px, py in pads:
        ground.line(np.array([[px, y], [px, py]]), 0.5 * m, YELLOW, 0.8)
        ground.line(arc(px, py, 0.93 * radius, 0, 2 * np.pi), 0.4 * m, WHITE, 0.5)
    clear = ground.mask(
        *[arc(*pad, radius + 8 * m, 0, 6.3) for pad in pads], *stems, rectangle(0, y, 4 * reach, 40 * m)
    )
    trees(ground, cv2.bitwise_not(clear), rng.integers(4, 40))


def hangars(ground: Ground) -> None:
    """A paved yard before a row of hangars."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("concrete" if rng.random() < 0.7 else "asphalt")
    ground.stains(np.full_like(ground.paved, 255), rng.integers(4, 14))
    front = rng.uniform(0.25, 0.6) * reach
    x = -reach
    while x < reach:
        width = rng.uniform(40, 75) * m
        building(ground, x + width / 2, front + 30 * m, width, 60 * m, 12 * m)
        ground.line(np.array([[x + width / 2, front], [x + width / 2, -reach]]), 0.5 * m, YELLOW, 0.8)
        x += width + rng.uniform(4, 20) * m
    ground.line(np.array([[-reach, front - 60 * m], [reach, front - 60 * m]]), 0.5 * m, YELLOW, 0.9)
    if rng.random() < 0.6:
        edge = front - rng.uniform(85, 120) * m
        grass = ground.mask(rectangle(0, edge - reach, 4 * reach, 2 * reach))
        ground.lay("grass", grass)
        trees(ground, ground.mask(rectangle(0, edge - reach - 10 * m, 4 * reach, 2 * reach)), rng.integers(0, 12))


def field(ground: Ground) -> None:
    """Grass or sand with worn tracks, where old aircraft are kept."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("grass")
    for _ in range(rng.integers(1, 4)):
        y = rng.uniform(-reach, reach)
        x = np.linspace(-reach, reach, 20)
        wave = np.stack([x, y + 6 * m * np.sin(x / (40 * m) + rng.uniform(0, 6))], 1)
        for side in (-1.2, 1.2):
            ground.line(wave + np.array([0, side * m]), 1.0 * m, ground.dry * 1.12, 0.6)
    trees(ground, np.full_like(ground.paved, 255), rng.integers(0, 5))


LAYOUTS: tuple[tuple[Layout, float], ...] = (
    (apron, 0.46),
    (runway, 0.14),
    (dispersal, 0.16),
    (hangars, 0.16),
    (field, 0.08),
)
