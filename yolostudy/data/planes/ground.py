"""The ground as a picture: materials, lines, painted characters, shadows, and what is occupied."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from .geometry import fill, fixed_point, matrix, transform

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
    """Four textures (1024, 1024) of unit deviation, from fine grain to clouds."""
    rng = np.random.default_rng(20)
    bank = []
    for cell in (1, 4, 16, 64):
        coarse = rng.standard_normal((1024 // cell, 1024 // cell)).astype(np.float32)
        fine = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        bank.append(fine / fine.std())
    return tuple(bank)


def tint(rng: np.random.Generator, brightness: float, warmth: float) -> np.ndarray:
    """(3,) a small random change of colour: lighter or darker, warmer or colder.

    Args:
        brightness, warmth: standard deviations of the two changes.
    """
    warm, green = rng.normal(0, warmth), rng.normal(0, 0.25 * warmth)
    return np.float32(rng.normal(0, brightness)) + np.array(
        [warm - green, 0.1 * warm + green, -warm - green], np.float32
    )


def window(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle that holds all non-zero pixels, plus a margin."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(y - margin, 0), y + height + margin), slice(max(x - margin, 0), x + width + margin)


class Ground:
    """A picture that is painted from below: first materials, then markings, buildings and shadows.

    World coordinates are pixels from the middle of the picture, along axes turned by `angle`.
    All random numbers come from the generator that the ground is given.

    Args:
        rng: the generator.
        side: width and height of the picture in pixels.
        metre: pixels for one metre.
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
        self.runway = np.zeros((side, side), np.uint8)  # nothing is ever parked here
        self.blocked = np.zeros((side, side), np.uint8)  # no aircraft can stand here: a roof, or another aircraft
        self.busy = np.zeros((side, side), np.uint8)  # no vehicle can stand here
        azimuth = rng.uniform(0, 2 * np.pi)
        self.sun = np.array([np.cos(azimuth), np.sin(azimuth)])  # towards the sun, image axes
        self.shade = rng.uniform(0.4, 1.1)  # length of a shadow, in heights
        self.dark = rng.uniform(0.3, 0.6)

    @property
    def reach(self) -> float:
        """A little more than half the diagonal of the picture. Nothing farther out can be seen."""
        return 0.72 * self.side

    def noise(self, octave: int) -> np.ndarray:
        """(side, side) a random piece of one of the four textures: 0 is grain, 3 is clouds."""
        y, x = self.rng.integers(0, 1024 - self.side, 2)
        return _noise_bank()[octave][y : y + self.side, x : x + self.side]

    def empty_mask(self) -> np.ndarray:
        """(side, side) uint8 zeros."""
        return np.zeros((self.side, self.side), np.uint8)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """World points (n, 2) in image pixels."""
        return transform(np.asarray(points, float), self.world)

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """(side, side) uint8 coverage of world polygons."""
        mask = self.empty_mask()
        fill(mask, *(self.to_image(polygon) for polygon in polygons))
        return mask

    def stroke(self, mask: np.ndarray, points: np.ndarray, width: int = 1) -> None:
        """Draw a line through world points (n, 2) into a mask, `width` pixels wide."""
        cv2.polylines(mask, [fixed_point(self.to_image(points))], False, 255, width, cv2.LINE_AA, 4)

    # Materials

    def lay(self, material: str, mask: np.ndarray | None = None) -> None:
        """Cover the ground with grass, asphalt or concrete, where `mask` says so or everywhere."""
        layer = {"grass": self._grass, "asphalt": self._asphalt, "concrete": self._concrete}[material]()
        mask = np.full_like(self.paved, 255) if mask is None else mask
        self.paved = cv2.bitwise_and(self.paved, ~mask) if material == "grass" else cv2.bitwise_or(self.paved, mask)
        self.blend(mask, layer)

    def _grass(self) -> np.ndarray:
        blend = np.clip(0.5 + 0.35 * self.noise(3) + 0.15 * self.noise(2), 0, 1)[..., None]
        layer = self.grass + (self.dry - self.grass) * blend
        return layer * (1 + 0.03 * self.noise(0) + 0.04 * self.noise(1))[..., None]

    def _asphalt(self) -> np.ndarray:
        layer = self.asphalt * (1 + 0.025 * self.noise(0) + 0.02 * self.noise(2) + 0.04 * self.noise(3))[..., None]
        if self.rng.random() < 0.5:  # seams between the lanes that the paver laid
            seams = self.empty_mask()
            for at in np.arange(-self.reach, self.reach, 7.5 * self.metre):
                self.stroke(seams, np.array([[-self.reach, at], [self.reach, at]]))
            layer = layer * (1 - seams[..., None] * np.float32(0.07 / 255))
        return layer

    def _concrete(self) -> np.ndarray:
        """Square slabs of slightly different tone, with joints between them."""
        rng = self.rng
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
        tones = slabs + 0.02 * self.noise(0) + 0.015 * self.noise(1) + 0.025 * self.noise(3)
        layer = self.concrete * tones[..., None]
        joints = self.empty_mask()
        for at in start + slab * np.arange(count + 1):
            for line in ([[at, start], [at, -start]], [[start, at], [-start, at]]):
                self.stroke(joints, np.array(line))
        return layer * (1 - joints[..., None] * np.float32(rng.uniform(0.06, 0.2) * min(1, self.metre * 0.6) / 255))

    # Paint

    def blend(self, mask: np.ndarray, colour: np.ndarray | tuple[int, ...], opacity: float = 1.0) -> None:
        """Lay a colour, (3,) or (H, W, 3), over the picture where `mask` (H, W) uint8 is set."""
        where = window(mask)
        colour = np.asarray(colour, np.float32)
        here = self.image[where]
        here += ((colour if colour.ndim == 1 else colour[where]) - here) * (
            mask[where][..., None] * np.float32(opacity / 255)
        )

    def line(
        self, points: np.ndarray, width: float, colour: tuple[int, ...] | np.ndarray, opacity: float = 1.0
    ) -> None:
        """A line through world points. A line thinner than one pixel is drawn fainter instead."""
        mask = self.empty_mask()
        self.stroke(mask, points, max(1, round(width)))
        self.blend(mask, colour, opacity * min(1.0, width))

    def tracks(self, points: np.ndarray) -> None:
        """Rubber and dirt that wheels leave along a line."""
        self.line(points, 5 * self.metre, self.asphalt * 0.7, self.rng.uniform(0, 0.16))
        self.line(points, 1.6 * self.metre, self.asphalt * 0.6, self.rng.uniform(0, 0.25))

    def text(self, words: str, x: float, y: float, height: float, colour: tuple[int, ...], turn: float = 0.0) -> None:
        """Painted characters, `height` pixels tall, round the world point (x, y).

        `turn` is their angle from the world's x axis.
        """
        (width, tall), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 2.0, 8)
        stencil = np.zeros((tall + 16, width + 16), np.uint8)
        cv2.putText(stencil, words, (8, tall + 8), cv2.FONT_HERSHEY_SIMPLEX, 2.0, 255, 8, cv2.LINE_AA)
        place = matrix(transform(np.array([x, y]), self.world), height / tall, self.angle + turn)
        place[:, 2] -= place[:, :2] @ [stencil.shape[1] / 2, stencil.shape[0] / 2]
        self.blend(cv2.warpAffine(stencil, place, (self.side, self.side)), colour, 0.85)

    def stains(self, mask: np.ndarray, number: int) -> None:
        """Stains of oil and rubber, where `mask` is set."""
        for _ in range(number):
            at = self.rng.uniform(-self.reach, self.reach, 2)
            layer = self.empty_mask()
            axes = np.ceil(self.rng.uniform(0.6, 4, 2) * self.metre * 16).astype(int).tolist()
            centre = fixed_point(self.to_image(at[None]))[0].tolist()
            cv2.ellipse(layer, centre, axes, self.rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA, 4)
            layer = cv2.GaussianBlur(layer, (0, 0), max(0.6, 0.5 * self.metre))
            self.blend(cv2.min(layer, mask), self.image * 0.55, self.rng.uniform(0.2, 0.7))

    # Shadows

    def cast(self, mask: np.ndarray, height: float) -> None:
        """The shadow of a thing that is `height` pixels high. Call it before drawing the thing."""
        reach = -self.sun * height * self.shade
        rows, columns = window(mask, margin=int(np.abs(reach).max()) + 3)
        here = mask[rows, columns]
        shadow = here
        for share in (0.34, 0.67, 1.0):
            move = np.array([[1, 0, reach[0] * share], [0, 1, reach[1] * share]])
            shadow = cv2.max(shadow, cv2.warpAffine(here, move, here.shape[::-1]))
        self.darken(cv2.GaussianBlur(shadow, (0, 0), 0.7), (rows, columns))

    def darken(self, mask: np.ndarray, where: tuple[slice, slice] | None = None) -> None:
        """Put the picture in the shade where `mask` is set. Shade is a little blue.

        `where` (rows, columns) is the part of the picture that the mask covers; None means all of
        it.
        """
        here = self.image[where or window(mask)]
        cover = (mask if where else mask[window(mask)])[..., None] * np.float32(self.dark / 255)
        here *= 1 - cover * np.array([1.0, 0.97, 0.9], np.float32)

    # What is occupied

    def occupy(self, mask: np.ndarray) -> None:
        """Let nothing else stand where `mask` is set, neither an aircraft nor a vehicle."""
        cv2.max(self.blocked, mask, self.blocked)
        cv2.max(self.busy, mask, self.busy)
