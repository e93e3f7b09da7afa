"""Things on an airfield that are none of the classes: vehicles, containers, helicopters, masts."""

from __future__ import annotations

import cv2
import numpy as np

from .geometry import arc, fill, matrix, rectangle, transform
from .ground import BLACK, WHITE, YELLOW, Ground, tint


def scatter(ground: Ground, stands: list[np.ndarray], headings: np.ndarray) -> None:
    """Try to place about two things for each aircraft that the picture has room for.

    Half of them stand close to an aircraft, and few stand on grass.

    Args:
        stands: the matrices (2, 3) of the aircraft.
        headings: angles that things turn to.
    """
    rng = ground.rng
    kinds = np.array([weight for _, weight in CLUTTER])
    for _ in range(rng.poisson(4 + 0.35 * (ground.side / (38 * ground.metre)) ** 2)):
        at = rng.uniform(0, ground.side, 2)
        if stands and rng.random() < 0.5:
            at = stands[rng.integers(len(stands))][:, 2] + rng.normal(0, 26 * ground.metre, 2)
        if not (at >= 0).all() or not (at < ground.side).all():
            continue
        if not ground.paved[int(at[1]), int(at[0])] and rng.random() < 0.8:
            continue
        paint, _ = CLUTTER[rng.choice(len(CLUTTER), p=kinds / kinds.sum())]
        paint(ground, at, rng.choice(headings) + rng.normal(0, 0.2))


def _take(ground: Ground, outline: np.ndarray, margin: int = 2) -> bool:
    """Take the place of `outline` (n, 2), in image pixels, if it is free; say whether it was.

    It is free where no aircraft, roof, vehicle or runway is.
    """
    mask = np.zeros_like(ground.busy)
    points = [np.round(outline).astype(np.int32)]
    cv2.fillPoly(mask, points, 255)
    cv2.polylines(mask, points, True, 255, 1 + 2 * margin)
    if cv2.min(mask, cv2.max(ground.busy, ground.runway)).any():
        return False
    cv2.max(ground.busy, mask, ground.busy)
    return True


def _paint(ground: Ground, outline: np.ndarray, colour: np.ndarray, height: float = 0.0) -> None:
    """A flat thing with outline (n, 2) in image pixels, and its shadow if it has a height."""
    mask = np.zeros_like(ground.busy)
    fill(mask, outline)
    if height:
        ground.cast(mask, height)
    ground.blend(mask, colour)


# (length, width, height) in metres of a car, a lorry, a bus, a fuel truck and a tug with baggage carts
VEHICLES = ((4.5, 2.2, 1.5), (9, 3, 3), (13, 3.2, 3), (12, 3.2, 3.4), (4, 2.4, 1.2))
FUEL_TRUCK, TUG = 3, 4
VEHICLE_COLOURS = ((232, 232, 228), (206, 178, 66), (150, 60, 52), (66, 92, 138), (84, 96, 72), (60, 62, 66))


def vehicle(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A car, lorry, bus, fuel truck or a tug with baggage carts."""
    rng, m = ground.rng, ground.metre
    kind = rng.integers(5)
    length, width, height = VEHICLES[kind]
    place = matrix(at, m, angle)

    def paint(x: float, y: float, across: float, along: float, colour: np.ndarray, height: float = 0.0) -> None:
        _paint(ground, transform(rectangle(x, y, across, along), place), colour, height)

    if not _take(ground, transform(rectangle(0, 0, 1.3 * width, 1.1 * length), place)):
        return
    colour = np.array(VEHICLE_COLOURS[rng.choice(6, p=[0.45, 0.2, 0.08, 0.12, 0.08, 0.07])], float) + tint(rng, 8, 4)
    paint(0, 0, width, length, colour, height * m)
    paint(0, -0.36 * length, 0.86 * width, 0.14 * length, np.array(BLACK, float) * 1.2)  # the windscreen
    if kind == FUEL_TRUCK:  # its tank has a dark and a bright side
        paint(-0.2 * width, 0.14 * length, 0.4 * width, 0.62 * length, colour * 0.8)
        paint(0.1 * width, 0.14 * length, 0.3 * width, 0.62 * length, np.minimum(colour * 1.15, 250))
    elif kind == TUG:
        for k in range(1, rng.integers(2, 5)):
            paint(0, 4.4 * k, 2, 3.2, np.full(3, rng.uniform(70, 200)), m)


def containers(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A row of boxes in several colours."""
    rng, m = ground.rng, ground.metre
    place, number = matrix(at, m, angle), rng.integers(1, 6)
    if not _take(ground, transform(rectangle(0, 0, 12.5, 3 * number), place)):
        return
    for k in range(number):
        colour = np.array(
            [(150, 70, 56), (70, 96, 130), (110, 116, 110), (196, 190, 176), (74, 104, 80)][rng.integers(5)], float
        )
        _paint(
            ground,
            transform(rectangle(0, 3 * (k - (number - 1) / 2), 12.2, 2.5), place),
            colour + tint(rng, 8, 4),
            2.6 * m,
        )


def helicopter(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A helicopter: it flies, but it is none of the classes."""
    rng, m = ground.rng, ground.metre
    place = matrix(at, m, angle)
    if not _take(ground, transform(arc(0, 0, 9, 0, 6), place)):
        return
    colour = rng.uniform(70, 200) + tint(rng, 0, 10)
    turn = rng.uniform(0, np.pi)
    blades = [
        rectangle(0, 0, 0.6, 15) @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        for a in (turn, turn + np.pi / 2)
    ]
    egg = np.stack([1.6 * np.cos(t := np.linspace(0, 2 * np.pi, 24)), -1.5 + 3.8 * np.sin(t)], 1)
    boom = np.array(
        [[-0.7, 1], [0.7, 1], [0.3, 10.5], [1.6, 10.5], [1.6, 11.4], [-1.6, 11.4], [-1.6, 10.5], [-0.3, 10.5]]
    )
    # This mask holds a dot in the middle of the picture, by mistake. Without it pixels change, so VERSION must rise.
    shadow = ground.mask(np.zeros((3, 2)))
    fill(shadow, *(transform(shape, place) for shape in (*blades, egg, boom)))
    ground.cast(shadow, 3 * m)
    cockpit = egg * [0.7, 0.35] + [0, -2.9]
    body = [(boom, colour), (egg, colour * 1.05), (cockpit, np.full(3, 45.0))]
    for shape, tone in body + [(blade, np.full(3, 60.0)) for blade in blades]:
        _paint(ground, transform(shape, place), tone)


def mast(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A light mast: a dot and a long thin shadow."""
    m = ground.metre
    if not _take(ground, transform(rectangle(0, 0, 2, 2), matrix(at, m, angle))):
        return
    end = at - ground.sun * 16 * m * ground.shade
    shadow = np.zeros_like(ground.busy)
    cv2.line(shadow, *(np.round(p * 16).astype(int).tolist() for p in (at, end)), 255, 1, cv2.LINE_AA, 4)
    ground.darken(shadow)
    _paint(ground, transform(rectangle(0, 0, 1.6, 1.6), matrix(at, m, angle)), np.full(3, 225.0))


def painted_cross(ground: Ground, at: np.ndarray, angle: float) -> None:
    """Two crossed bars of paint, as on closed pavement.

    A filter may take them for an aircraft; an eye does not.
    """
    rng, m = ground.rng, ground.metre
    arm = rng.uniform(16, 34)
    place = matrix(at, m, angle)
    colour = np.array(YELLOW if rng.random() < 0.4 else WHITE, float)
    mask = np.zeros_like(ground.busy)
    for width, height in ((arm, 0.14 * arm), (0.14 * arm, arm)):
        cv2.fillPoly(
            mask,
            [np.round(transform(rectangle(0, 0, width, height), place) * 16).astype(np.int32)],
            255,
            cv2.LINE_AA,
            4,
        )
    ground.blend(cv2.min(mask, 255 - ground.blocked), colour, rng.uniform(0.5, 0.9))


CLUTTER = ((vehicle, 0.7), (containers, 0.1), (helicopter, 0.06), (mast, 0.14))
