"""The parts of aircraft, seen from above: wings, bodies, engines, propellers and fins.

x points to the right wing and y to the nose. Both are measured in wing spans. Left is the pilot's
left, so with the nose up, left is left in the picture too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WING, BODY, TRIM = range(3)  # the three colours of an aircraft


@dataclass(frozen=True, slots=True)
class Part:
    """One flat piece of an aircraft: its outline, its rounded rim and its paint.

    Attributes:
        outline: (n, 2) closed polygon, x right and y forward.
        bevel: width of the rounded rim. Half the width of a body makes the body a cylinder.
        albedo: brightness of the paint; 1 is the aircraft's own.
        tone: which of the aircraft's three colours the part takes: WING, BODY or TRIM.
        tilt: slope of the whole part across the span (dihedral). A positive slope falls to the
            right.
        solid: False for a turning propeller, through which one can see. It is painted, but it is
            not part of the mask.
    """

    outline: np.ndarray
    bevel: float = 0.012
    albedo: float = 1.0
    tone: int = WING
    tilt: float = 0.0
    solid: bool = True


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, so that a type can be the key of a cache
class Airframe:
    """One type of aircraft.

    Attributes:
        name: the name of its class.
        description: a few words for people.
        parts: from the lowest to the highest.
        keypoints: (4, 2) nose, tail, left and right wing tip.
    """

    name: str
    description: str
    parts: tuple[Part, ...]
    keypoints: np.ndarray

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper corner of all solid parts, each (2,)."""
        points = np.concatenate([part.outline for part in self.parts if part.solid])
        return points.min(0), points.max(0)

    @property
    def size(self) -> float:
        """The longer of wing span and length, in wing spans."""
        low, high = self.bounds
        return float((high - low).max())

    @property
    def centre(self) -> np.ndarray:
        """(2,) middle of the bounds."""
        low, high = self.bounds
        return (low + high) / 2


def _mirrored(outline: np.ndarray) -> np.ndarray:
    return outline[::-1] * np.array([-1.0, 1.0])


def surface(
    *stations: tuple[float, float, float], tilt: float = 0.16, bevel: float = 0.014, flaps: bool = True
) -> list[Part]:
    """A pair of wings or stabilisers.

    Args:
        stations: (x, y of the leading edge, y of the trailing edge), from the root outwards.
        flaps: also draw the gap before flaps and ailerons, the bright leading edge and the seams.
    """
    x, lead, trail = np.array(stations, float).T
    right = np.concatenate([np.stack([x, lead], 1), np.stack([x, trail], 1)[::-1]])
    parts = [Part(right, bevel, tilt=tilt), Part(_mirrored(right), bevel, tilt=-tilt)]
    if flaps:  # the gap at three quarters of the chord, and the leading edge
        chord = lead - trail
        for low, high, albedo in ((0.26, 0.285, 0.72), (0.93, 1.0, 1.1)):
            inner = 0.9 * np.stack([x, trail + low * chord], 1) + 0.1 * np.stack([x, trail + high * chord], 1)
            strip = np.concatenate([inner, np.stack([x, trail + high * chord], 1)[::-1]])
            strip[:, 0] *= 0.985
            parts += [Part(strip, 0.0, albedo, tilt=tilt), Part(_mirrored(strip), 0.0, albedo, tilt=-tilt)]
        for at in (0.42 * x[-1], 0.72 * x[-1]):  # seams between the panels
            low, high = np.interp(at, x, trail), np.interp(at, x, lead)
            seam = np.array([[at, low], [at + 0.004, low], [at + 0.004, high], [at, high]])
            parts += [Part(seam, 0.0, 0.85, tilt=tilt), Part(_mirrored(seam), 0.0, 0.85, tilt=-tilt)]
    return parts


def body(
    nose: float, tail: float, width: float, *, x: float = 0.0, sharp: float = 0.5, nose_share: float = 0.2,
    tail_share: float = 0.35, tail_width: float = 0.12, glass: str = "airliner", albedo: float = 1.0,
) -> list[Part]:  # fmt: skip
    """A fuselage from `nose` to `tail` (both y) along the line x.

    Args:
        sharp: 0.5 gives a round nose, 1 a cone.
        nose_share, tail_share: parts of the length in which the nose widens and the tail narrows.
        tail_width: width at the tail, as a part of `width`.
        glass: the cockpit: airliner, bubble or none.
    """
    length = nose - tail
    t = np.concatenate([np.linspace(0, nose_share, 14) ** 2 / nose_share, np.linspace(nose_share, 1, 24)[1:]])
    front = 1 - (1 - np.clip(t / nose_share, 0, 1)) ** 2
    half = front**sharp
    back = np.clip((t - (1 - tail_share)) / tail_share, 0, 1)
    half = half * (1 - (1 - tail_width) * back**1.6) * width / 2
    y = nose - t * length
    outline = np.concatenate([np.stack([x + half, y], 1), np.stack([x - half, y], 1)[::-1]])
    parts = [Part(outline, width / 2, albedo, BODY)]
    if glass == "airliner":
        y0, w = nose - 0.32 * width, 0.3 * width
        panes = np.array(
            [[x - w, y0 - 0.22 * width], [x - 0.55 * w, y0], [x + 0.55 * w, y0], [x + w, y0 - 0.22 * width]]
        )
        panes = np.concatenate([panes, np.array([[x + 0.6 * w, y0 - 0.26 * width], [x - 0.6 * w, y0 - 0.26 * width]])])
        parts.append(Part(panes, 0.0, 0.2))
    elif glass == "bubble":
        parts.append(ellipse(x, nose - 0.2 * length, 0.24 * width, 0.085 * length, albedo=0.25, bevel=0.2 * width))
    return parts


def ellipse(x: float, y: float, a: float, b: float, **paint: float) -> Part:
    """An ellipse with half axes a (across) and b (along)."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return Part(np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1), **paint)


def box(x: float, y: float, width: float, length: float, **paint: float) -> Part:
    """A rectangle round (x, y)."""
    a, b = width / 2, length / 2
    return Part(np.array([[x - a, y - b], [x + a, y - b], [x + a, y + b], [x - a, y + b]]), **paint)


def pod(x: float, front: float, length: float, width: float) -> list[Part]:
    """A pair of jet engines at ±x: a drum with a dark intake and a narrower nozzle."""
    parts = []
    for side in (-x, x) if x else (0.0,):
        shape = np.array(
            [[-0.42, 0], [-0.5, -0.2], [-0.5, -0.5], [-0.3, -1], [0.3, -1], [0.5, -0.5], [0.5, -0.2], [0.42, 0]]
        )
        parts.append(Part(shape * [width, length] + [side, front], width / 2, 0.95, TRIM))
        parts.append(box(side, front - 0.03 * length, 0.8 * width, 0.1 * length, bevel=0.0, albedo=0.3))
        parts.append(box(side, front - 0.97 * length, 0.6 * width, 0.1 * length, bevel=0.0, albedo=0.35))
    return parts


def duct(x: float, front: float, back: float, width: float) -> list[Part]:
    """A pair of engine ducts along the body: a slanted intake in front, a dark nozzle behind."""
    parts = []
    for side in (-1.0, 1.0):
        a, length = width / 2, front - back
        shape = np.array(
            [[-a, length], [a, 0.9 * length], [a, 0.12 * length], [0.6 * a, 0], [-0.6 * a, 0], [-a, 0.12 * length]]
        )
        lip = np.array([[-a, length], [a, 0.9 * length], [a, 0.86 * length], [-a, 0.96 * length]])
        nozzle = np.array([[-0.7 * a, 0.07 * length], [0.7 * a, 0.07 * length], [0.55 * a, 0], [-0.55 * a, 0]])
        for outline, bevel, albedo in ((shape, 0.8 * a, 1.0), (lip, 0.0, 0.35), (nozzle, 0.0, 0.35)):
            parts.append(Part((outline + np.array([x, back])) * [side, 1], bevel, albedo, BODY))
    return parts


def propeller(x: float, front: float, length: float, width: float, disc: float, *, pusher: bool = False) -> list[Part]:
    """A pair of propeller engines at ±x: nacelle, spinner and turning blades.

    Seen from above, the blades are a thin bright bar of length `disc`.
    """
    parts = []
    for side in (-x, x) if x else (0.0,):
        if length:
            parts += body(
                front, front - length, width, x=side, nose_share=0.25, tail_share=0.5, tail_width=0.3, glass="none"
            )
        at = front - length - 0.006 if pusher else front + 0.006
        parts.append(ellipse(side, at, 0.22 * width, 0.02, albedo=0.4, bevel=0.02))
        parts.append(ellipse(side, at, disc / 2, 0.011, albedo=0.6, bevel=0.0, solid=False))
    return parts


def fin(x: float, front: float, back: float, width: float = 0.016, cant: float = 0.0) -> list[Part]:
    """Vertical fins at ±x, seen almost on edge. They lean out by `cant` towards the back."""
    parts = []
    for side in (-1.0, 1.0) if x else (1.0,):
        blade = np.array(
            [
                [x, front],
                [x + width / 2 + cant / 2, (front + back) / 2],
                [x + cant, back],
                [x - width / 2 + cant / 2, (front + back) / 2],
            ]
        )
        parts.append(Part(blade * [side, 1], width / 2, 1.08, TRIM, 0.5 * side))
    return parts
