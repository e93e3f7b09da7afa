"""The ground under the aircraft: aprons, runways, hardstands and fields in several seasons, and
what stands about on them.

A `Ground` is painted from below: materials, markings, roofs with shadows, vehicles. It remembers
what is paved and what is occupied, so that aircraft stand on pavement and not on roofs. All chance
comes from the generator that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from .airframes import matrix, transform

# ------------------------------------------------------------------------------------------- ground

SEASONS = {  # sRGB of grass in two shades, concrete, asphalt
    "summer": ((96, 112, 66), (122, 128, 82), (172, 170, 162), (96, 97, 100)),
    "spring": ((88, 118, 62), (108, 132, 78), (164, 164, 160), (88, 90, 94)),
    "autumn": ((128, 116, 72), (146, 128, 84), (166, 160, 148), (98, 96, 94)),
    "desert": ((190, 166, 126), (172, 146, 108), (192, 180, 158), (126, 120, 112)),
    "winter": ((218, 220, 224), (196, 198, 200), (178, 180, 184), (112, 116, 122)),
    "wet": ((78, 96, 62), (92, 106, 70), (128, 130, 132), (70, 73, 78)),
}
YELLOW, WHITE, BLACK, RED = (214, 178, 60), (226, 226, 220), (40, 40, 42), (170, 62, 52)


@cache
def _noise_bank() -> tuple[np.ndarray, ...]:
    """Four textures (1024, 1024) of unit deviation, from grain to clouds."""
    rng = np.random.default_rng(20)
    bank = []
    for cell in (1, 4, 16, 64):
        coarse = rng.standard_normal((1024 // cell, 1024 // cell)).astype(np.float32)
        fine = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        bank.append(fine / fine.std())
    return tuple(bank)


def tint(rng: np.random.Generator, brightness: float, warmth: float) -> np.ndarray:
    """(3,) a small random change of colour: lighter or darker, warmer or colder, as stone and paint
    differ.
    """
    warm, green = rng.normal(0, warmth), rng.normal(0, 0.25 * warmth)
    return np.float32(rng.normal(0, brightness)) + np.array(
        [warm - green, 0.1 * warm + green, -warm - green], np.float32
    )


def window(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle round what is not zero, and a margin."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)


class Ground:
    """A picture being painted from below: materials, markings, buildings, shadows.

    Coordinates of the world are pixels from the middle of the picture along axes turned by `angle`;
    `metre` is pixels a metre.
    """

    def __init__(self, rng: np.random.Generator, side: int, metre: float):
        self.rng, self.side, self.metre = rng, side, metre
        self.angle = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(self.angle), np.sin(self.angle)
        self.world = np.array([[c, -s, side / 2], [s, c, side / 2]])
        season = SEASONS[rng.choice(list(SEASONS))]
        self.grass, self.dry, self.concrete, self.asphalt = (
            np.array(c, np.float32) + tint(rng, 7, 2.5) for c in season
        )
        self.image = np.zeros((side, side, 3), np.float32)
        self.paved = np.zeros((side, side), np.uint8)
        self.runway = np.zeros((side, side), np.uint8)  # where nothing is ever parked
        # where no aircraft can stand: roofs, and aircraft already there
        self.blocked = np.zeros((side, side), np.uint8)
        self.busy = np.zeros((side, side), np.uint8)  # where no vehicle can stand
        azimuth = rng.uniform(0, 2 * np.pi)
        self.sun = np.array([np.cos(azimuth), np.sin(azimuth)])  # towards the sun, image axes
        self.shade = rng.uniform(0.4, 1.1)  # length of a shadow, in heights
        self.dark = rng.uniform(0.3, 0.6)

    @property
    def reach(self) -> float:
        """Half the diagonal of the picture: nothing farther out can be seen."""
        return 0.72 * self.side

    def noise(self, octave: int) -> np.ndarray:
        y, x = self.rng.integers(0, 1024 - self.side, 2)
        return _noise_bank()[octave][y : y + self.side, x : x + self.side]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """World points (n, 2) as fixed-point pixels for OpenCV, four bits of fraction."""
        return np.round((transform(np.asarray(points, float), self.world) - 0.5) * 16).astype(np.int32)

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """(H, W) uint8 coverage of world polygons."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [self.pixels(polygon)], 255, cv2.LINE_AA, 4)
        return mask

    def blend(self, mask: np.ndarray, colour: np.ndarray | tuple[int, ...], opacity: float = 1.0) -> None:
        """Lay a colour, (3,) or (H, W, 3), over the picture where mask (H, W) uint8 says so."""
        where = window(mask)
        colour = np.asarray(colour, np.float32)
        here = self.image[where]
        here += ((colour if colour.ndim == 1 else colour[where]) - here) * (
            mask[where][..., None] * np.float32(opacity / 255)
        )

    def line(
        self, points: np.ndarray, width: float, colour: tuple[int, ...] | np.ndarray, opacity: float = 1.0
    ) -> None:
        """A line of so many pixels; one thinner than a pixel is drawn fainter."""
        mask = np.zeros((self.side, self.side), np.uint8)
        cv2.polylines(mask, [self.pixels(points)], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
        self.blend(mask, colour, opacity * min(1.0, width))

    def lay(self, material: str, mask: np.ndarray | None = None) -> None:
        """Cover the ground with a material."""
        rng = self.rng
        if material == "grass":
            blend = np.clip(0.5 + 0.35 * self.noise(3) + 0.15 * self.noise(2), 0, 1)[..., None]
            layer = self.grass + (self.dry - self.grass) * blend
            layer = layer * (1 + 0.03 * self.noise(0) + 0.04 * self.noise(1))[..., None]
        elif material == "asphalt":
            layer = self.asphalt * (1 + 0.025 * self.noise(0) + 0.02 * self.noise(2) + 0.04 * self.noise(3))[..., None]
            if rng.random() < 0.5:  # seams between the lanes of the paver
                seams = np.zeros((self.side, self.side), np.uint8)
                for at in np.arange(-self.reach, self.reach, 7.5 * self.metre):
                    cv2.polylines(
                        seams,
                        [self.pixels(np.array([[-self.reach, at], [self.reach, at]]))],
                        False,
                        255,
                        1,
                        cv2.LINE_AA,
                        4,
                    )
                layer = layer * (1 - seams[..., None] * np.float32(0.07 / 255))
        else:
            slab = rng.uniform(5, 9) * self.metre
            count = int(2 * self.reach / slab) + 3
            tone = rng.normal(1, rng.uniform(0.01, 0.035), (count, count)).astype(np.float32)
            tone[rng.random((count, count)) < 0.008] *= rng.uniform(0.84, 0.95)  # slabs that were replaced
            start = -count / 2 * slab
            to_image = np.concatenate(
                [self.world[:, :2] * slab, (transform(np.array([start, start]), self.world))[:, None]], 1
            )
            slabs = cv2.warpAffine(
                tone, to_image, (self.side, self.side), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
            layer = (
                self.concrete
                * (slabs + 0.02 * self.noise(0) + 0.015 * self.noise(1) + 0.025 * self.noise(3))[..., None]
            )
            joints = np.zeros((self.side, self.side), np.uint8)
            ends = start + slab * np.arange(count + 1)
            for at in ends:
                for line in ([[at, start], [at, -start]], [[start, at], [-start, at]]):
                    cv2.polylines(joints, [self.pixels(np.array(line))], False, 255, 1, cv2.LINE_AA, 4)
            layer = layer * (
                1 - joints[..., None] * np.float32(rng.uniform(0.06, 0.2) * min(1, self.metre * 0.6) / 255)
            )
        mask = np.full_like(self.paved, 255) if mask is None else mask
        self.paved = cv2.bitwise_and(self.paved, ~mask) if material == "grass" else cv2.bitwise_or(self.paved, mask)
        self.blend(mask, layer)

    def tracks(self, points: np.ndarray) -> None:
        """Rubber and dirt that wheels leave along a line."""
        self.line(points, 5 * self.metre, self.asphalt * 0.7, self.rng.uniform(0, 0.16))
        self.line(points, 1.6 * self.metre, self.asphalt * 0.6, self.rng.uniform(0, 0.25))

    def text(self, words: str, x: float, y: float, height: float, colour: tuple[int, ...], turn: float = 0.0) -> None:
        """Painted characters, `height` pixels tall, round the world point (x, y), turned from the x
        axis.
        """
        (width, tall), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 2.0, 8)
        stencil = np.zeros((tall + 16, width + 16), np.uint8)
        cv2.putText(stencil, words, (8, tall + 8), cv2.FONT_HERSHEY_SIMPLEX, 2.0, 255, 8, cv2.LINE_AA)
        place = matrix(transform(np.array([x, y]), self.world), height / tall, self.angle + turn)
        place[:, 2] -= place[:, :2] @ [stencil.shape[1] / 2, stencil.shape[0] / 2]
        self.blend(cv2.warpAffine(stencil, place, (self.side, self.side)), colour, 0.85)

    def cast(self, mask: np.ndarray, height: float) -> None:
        """The shadow of something so many pixels high, before the thing itself is drawn."""
        reach = -self.sun * height * self.shade
        rows, columns = window(mask, margin=int(np.abs(reach).max()) + 3)
        here = mask[rows, columns]
        shadow = here
        for share in (0.34, 0.67, 1.0):
            move = np.array([[1, 0, reach[0] * share], [0, 1, reach[1] * share]])
            shadow = cv2.max(shadow, cv2.warpAffine(here, move, here.shape[::-1]))
        self.darken(cv2.GaussianBlur(shadow, (0, 0), 0.7), (rows, columns))

    def darken(self, mask: np.ndarray, where: tuple[slice, slice] | None = None) -> None:
        """Put `where` (rows, columns) of the picture in the shade as far as mask, uint8 of that
        size, says so; shade is a little blue.
        """
        here = self.image[where or window(mask)]
        cover = (mask if where else mask[window(mask)])[..., None] * np.float32(self.dark / 255)
        here *= 1 - cover * np.array([1.0, 0.97, 0.9], np.float32)

    def stains(self, mask: np.ndarray, number: int) -> None:
        """Oil and rubber on the pavement."""
        for _ in range(number):
            at = self.rng.uniform(-self.reach, self.reach, 2)
            layer = np.zeros((self.side, self.side), np.uint8)
            axes = np.ceil(self.rng.uniform(0.6, 4, 2) * self.metre * 16).astype(int).tolist()
            cv2.ellipse(
                layer,
                self.pixels(at[None])[0].tolist(),
                axes,
                self.rng.uniform(0, 180),
                0,
                360,
                255,
                -1,
                cv2.LINE_AA,
                4,
            )
            layer = cv2.GaussianBlur(layer, (0, 0), max(0.6, 0.5 * self.metre))
            self.blend(cv2.min(layer, mask), self.image * 0.55, self.rng.uniform(0.2, 0.7))


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(4, 2) corners of an upright rectangle round (x, y)."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return corners * [width, height] + [x, y]


def arc(x: float, y: float, radius: float, start: float, end: float) -> np.ndarray:
    """(48, 2) points of an arc round (x, y)."""
    angle = np.linspace(start, end, 48)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def building(ground: Ground, x: float, y: float, width: float, depth: float, height: float) -> None:
    """A roof with its shadow, parapet, and what stands on roofs."""
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
    cv2.max(ground.blocked, mask, ground.blocked)
    cv2.max(ground.busy, mask, ground.busy)


def trees(ground: Ground, mask: np.ndarray, number: int) -> None:
    """Round crowns with shadows, where `mask` (grass) allows."""
    rng, m = ground.rng, ground.metre
    for _ in range(number):
        at = rng.uniform(0, ground.side, 2)
        if not mask[int(at[1]), int(at[0])]:
            continue
        radius = rng.uniform(1.5, 4) * m
        crown = np.zeros((ground.side, ground.side), np.uint8)
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


# ------------------------------------------------------------------------------------------ layouts


def apron(ground: Ground) -> None:
    """Concrete with stands; sometimes a terminal with jet bridges on one side, grass or a road on
    the other.
    """
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
    number = rng.integers(1, 60)
    for k, at in enumerate(np.arange(-2 * reach, 2 * reach, stand) + offset):
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
            zone = np.array([[at + stand / 2, taxi + side * 18 * m], [at + stand / 2, taxi + side * 62 * m]])
            ground.line(zone, 0.4 * m, RED, 0.7)
    if rng.random() < 0.55:
        edge = taxi - side * rng.uniform(28, 50) * m
        ground.lay("grass", ground.mask(rectangle(0, edge - side * reach, 4 * reach, 2 * reach)))
        ground.line(np.array([[-reach, edge], [reach, edge]]), 0.8 * m, ground.concrete * 0.8, 0.7)
        trees(
            ground, ground.mask(rectangle(0, edge - side * (reach + 12 * m), 4 * reach, 2 * reach)), rng.integers(0, 14)
        )
    if rng.random() < 0.45:
        front = taxi + side * rng.uniform(66, 84) * m
        left = -1.2 * reach
        while left < 1.2 * reach:  # the terminal, wing by wing
            width, depth = rng.uniform(50, 110) * m, rng.uniform(24, 50) * m
            building(
                ground,
                left + width / 2,
                front + side * (depth / 2 + rng.uniform(0, 6) * m),
                width,
                depth,
                rng.uniform(9, 16) * m,
            )
            left += width
        for at in np.arange(-2 * reach, 2 * reach, stand) + offset + 0.2 * stand:
            if rng.random() < 0.6:  # a jet bridge: a stem, a cab at its end
                tip = np.array([at - rng.uniform(2, 8) * m, front - side * rng.uniform(12, 20) * m])
                half, foot = np.array([1.6 * m, 0]), np.array([at, front + side * 3 * m])
                stem = np.stack([foot - half, foot + half, tip + half, tip - half])
                bridge = ground.mask(stem, rectangle(*tip, 5 * m, 5 * m))
                ground.cast(bridge, 5 * m)
                ground.blend(bridge, np.full(3, rng.uniform(150, 220)))
                cv2.max(ground.blocked, bridge, ground.blocked)
                cv2.max(ground.busy, bridge, ground.busy)


def runway(ground: Ground) -> None:
    """Asphalt strips through grass with their markings."""
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
    trees(
        ground,
        255 - ground.mask(rectangle(0, (y + taxi) / 2, 4 * reach, abs(taxi - y) + width + 30 * m)),
        rng.integers(0, 20),
    )


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
    """A concrete yard before a row of hangars."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("concrete" if rng.random() < 0.7 else "asphalt")
    ground.stains(np.full((ground.side, ground.side), 255, np.uint8), rng.integers(4, 14))
    front = rng.uniform(0.25, 0.6) * reach
    x = -reach
    while x < reach:
        width = rng.uniform(40, 75) * m
        building(ground, x + width / 2, front + 30 * m, width, 60 * m, 12 * m)
        apron_line = np.array([[x + width / 2, front], [x + width / 2, -reach]])
        ground.line(apron_line, 0.5 * m, YELLOW, 0.8)
        x += width + rng.uniform(4, 20) * m
    ground.line(np.array([[-reach, front - 60 * m], [reach, front - 60 * m]]), 0.5 * m, YELLOW, 0.9)
    if rng.random() < 0.6:
        edge = front - rng.uniform(85, 120) * m
        grass = ground.mask(rectangle(0, edge - reach, 4 * reach, 2 * reach))
        ground.lay("grass", grass)
        trees(ground, ground.mask(rectangle(0, edge - reach - 10 * m, 4 * reach, 2 * reach)), rng.integers(0, 12))


def field(ground: Ground) -> None:
    """Open ground, grass or sand, with a worn track: where aircraft are kept for good."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    ground.lay("grass")
    for _ in range(rng.integers(1, 4)):
        y = rng.uniform(-reach, reach)
        x = np.linspace(-reach, reach, 20)
        wave = np.stack([x, y + 6 * m * np.sin(x / (40 * m) + rng.uniform(0, 6))], 1)
        for side in (-1.2, 1.2):
            ground.line(wave + np.array([0, side * m]), 1.0 * m, ground.dry * 1.12, 0.6)
    trees(ground, np.full((ground.side, ground.side), 255, np.uint8), rng.integers(0, 5))


LAYOUTS: tuple[tuple[Callable[[Ground], None], float], ...] = (
    (apron, 0.46),
    (runway, 0.14),
    (dispersal, 0.16),
    (hangars, 0.16),
    (field, 0.08),
)


# ------------------------------------------------------------------------------------------ clutter


def _free(ground: Ground, outline: np.ndarray, margin: int = 2) -> bool:
    """Is no aircraft, roof or vehicle where `outline` (n, 2) in image pixels would stand? If so it
    is taken.
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
    cv2.fillPoly(mask, [np.round((outline - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if height:
        ground.cast(mask, height)
    ground.blend(mask, colour)


def vehicle(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A car, lorry, bus, fuel truck or a train of baggage carts."""
    rng, m = ground.rng, ground.metre
    length, width, height = [(4.5, 2.2, 1.5), (9, 3, 3), (13, 3.2, 3), (12, 3.2, 3.4), (4, 2.4, 1.2)][
        kind := rng.integers(5)
    ]
    place = matrix(at, m, angle)
    if not _free(ground, transform(rectangle(0, 0, 1.3 * width, 1.1 * length), place)):
        return
    palette = [(232, 232, 228), (206, 178, 66), (150, 60, 52), (66, 92, 138), (84, 96, 72), (60, 62, 66)]
    colour = np.array(palette[rng.choice(6, p=[0.45, 0.2, 0.08, 0.12, 0.08, 0.07])], float) + tint(rng, 8, 4)
    _paint(ground, transform(rectangle(0, 0, width, length), place), colour, height * m)
    _paint(
        ground,
        transform(rectangle(0, -0.36 * length, 0.86 * width, 0.14 * length), place),
        np.array(BLACK, float) * 1.2,
    )
    if kind == 3:  # the tank
        _paint(
            ground, transform(rectangle(-0.2 * width, 0.14 * length, 0.4 * width, 0.62 * length), place), colour * 0.8
        )
        _paint(
            ground,
            transform(rectangle(0.1 * width, 0.14 * length, 0.3 * width, 0.62 * length), place),
            np.minimum(colour * 1.15, 250),
        )
    elif kind == 4:
        for k in range(1, rng.integers(2, 5)):
            _paint(ground, transform(rectangle(0, 4.4 * k, 2, 3.2), place), np.full(3, rng.uniform(70, 200)), m)


def containers(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A row of boxes in several colours."""
    rng, m = ground.rng, ground.metre
    place, number = matrix(at, m, angle), rng.integers(1, 6)
    if not _free(ground, transform(rectangle(0, 0, 12.5, 3 * number), place)):
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
    """An egg, a boom and four blades: a thing that flies and is not to be found."""
    rng, m = ground.rng, ground.metre
    place = matrix(at, m, angle)
    if not _free(ground, transform(arc(0, 0, 9, 0, 6), place)):
        return
    colour = rng.uniform(70, 200) + tint(rng, 0, 10)
    turn, shadow = rng.uniform(0, np.pi), ground.mask(np.zeros((3, 2)))
    blades = [
        rectangle(0, 0, 0.6, 15) @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        for a in (turn, turn + np.pi / 2)
    ]
    egg = np.stack([1.6 * np.cos(t := np.linspace(0, 2 * np.pi, 24)), -1.5 + 3.8 * np.sin(t)], 1)
    boom = np.array(
        [[-0.7, 1], [0.7, 1], [0.3, 10.5], [1.6, 10.5], [1.6, 11.4], [-1.6, 11.4], [-1.6, 10.5], [-0.3, 10.5]]
    )
    for shape in (*blades, egg, boom):
        cv2.fillPoly(shadow, [np.round((transform(shape, place) - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    ground.cast(shadow, 3 * m)
    cockpit = egg * [0.7, 0.35] + [0, -2.9]
    for shape, tone in (
        (boom, colour),
        (egg, colour * 1.05),
        (cockpit, np.full(3, 45.0)),
        *((blade, np.full(3, 60.0)) for blade in blades),
    ):
        _paint(ground, transform(shape, place), tone)


def mast(ground: Ground, at: np.ndarray, angle: float) -> None:
    """A light mast: a dot and a long thin shadow."""
    m = ground.metre
    if not _free(ground, transform(rectangle(0, 0, 2, 2), matrix(at, m, angle))):
        return
    end = at - ground.sun * 16 * m * ground.shade
    shadow = np.zeros_like(ground.busy)
    cv2.line(shadow, *(np.round(p * 16).astype(int).tolist() for p in (at, end)), 255, 1, cv2.LINE_AA, 4)
    ground.darken(shadow)
    _paint(ground, transform(rectangle(0, 0, 1.6, 1.6), matrix(at, m, angle)), np.full(3, 225.0))


def painted_cross(ground: Ground, at: np.ndarray, angle: float) -> None:
    """Two crossed bars of paint, as on closed pavement: a plane to a filter, not to an eye."""
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
