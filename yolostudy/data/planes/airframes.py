"""Twenty aircraft, each a handful of flat parts seen straight from above, and the maps that light
them.

An aircraft is drawn once, large, and kept as *maps* that are linear in the light: with `lit =
albedo * (ambient + n . light)`, warping the maps and then lighting them gives the same picture as
lighting first. So one aircraft costs two affine warps, whatever its detail.

Frame of a plan: x to the right wing, y forward, both in wing spans; `Airframe.size` is the longer
of span and length. Left is the pilot's left: seen from above with the nose up, left is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

KEYPOINTS = ("nose", "tail", "left wing tip", "right wing tip")
FLIP_INDEX = (0, 1, 3, 2)

RESOLUTION = 512  # pixels over the longer side of an aircraft in its largest map
WING, BODY, TRIM = range(3)
MARGIN = 1.125  # side of a map, in sizes: room for propellers and for the blur of the smaller levels


@dataclass(frozen=True, slots=True)
class Part:
    """One flat piece: its outline (n, 2), how it is rounded, and how it is painted.

    Attributes:
        outline: (n, 2) closed polygon, x right and y forward.
        bevel: width of the rounded rim; half the width of a body makes it a cylinder.
        albedo: brightness of the paint, 1 = that of the aircraft.
        tone: which of the aircraft's three colours it takes: WING, BODY or TRIM.
        tilt: slope of the whole part across the span (dihedral), positive falls to the right.
        solid: False for what can be seen through (a turning propeller): it is painted, but is not
            part of the mask.
    """

    outline: np.ndarray
    bevel: float = 0.012
    albedo: float = 1.0
    tone: int = 0
    tilt: float = 0.0
    solid: bool = True


@dataclass(frozen=True, slots=True, eq=False)  # each type is itself alone, and can be a key of the caches below
class Airframe:
    """One type: a name for the label, a sentence for people, parts from the lowest to the highest,
    four keypoints (4, 2).
    """

    name: str
    description: str
    parts: tuple[Part, ...]
    keypoints: np.ndarray

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (2,), (2,) of everything solid."""
        points = np.concatenate([part.outline for part in self.parts if part.solid])
        return points.min(0), points.max(0)

    @property
    def size(self) -> float:
        """The longer of wing span and length, in wing spans."""
        low, high = self.bounds
        return float((high - low).max())

    @property
    def centre(self) -> np.ndarray:
        """(2,) the middle of the bounds."""
        low, high = self.bounds
        return (low + high) / 2


# -------------------------------------------------------------------------------------------- parts


def _mirrored(outline: np.ndarray) -> np.ndarray:
    return outline[::-1] * np.array([-1.0, 1.0])


def surface(
    *stations: tuple[float, float, float], tilt: float = 0.16, bevel: float = 0.014, flaps: bool = True
) -> list[Part]:
    """A pair of wings or stabilisers from stations (x, y of the leading edge, y of the trailing
    edge), from the root outwards.
    """
    x, lead, trail = np.array(stations, float).T
    right = np.concatenate([np.stack([x, lead], 1), np.stack([x, trail], 1)[::-1]])
    parts = [Part(right, bevel, tilt=tilt), Part(_mirrored(right), bevel, tilt=-tilt)]
    if flaps:  # the gap before flaps and ailerons, at three quarters of the chord, and a bright leading edge
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
    """A fuselage from `nose` to `tail` (y) round the line x.

    `sharp`: 0.5 a round nose, 1 a cone. `glass`: airliner, bubble or none.
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
    """A pair of jet engines: a drum with a dark intake and a narrower nozzle."""
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
    """A pair of engine ducts along the body: a raked intake in front, a dark nozzle behind."""
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
    """A pair of propeller engines: a nacelle, a spinner and the turning blades, which from above
    are a thin bright bar.
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
    """Vertical fins, almost on edge: a thin blade at ±x, leaning out by `cant` towards the back."""
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


# -------------------------------------------------------------------------------------------- types


def _twin_jet() -> list[Part]:
    return [
        *surface((0, 0.15, -0.12), (0.17, 0.05, -0.12), (0.5, -0.14, -0.19)),
        *surface((0, -0.38, -0.5), (0.18, -0.49, -0.54)),
        *pod(0.175, 0.17, 0.15, 0.068),
        *body(0.54, -0.54, 0.105),
        *fin(0, -0.36, -0.54),
    ]


def _heavy_jet() -> list[Part]:
    return [
        *surface((0, 0.28, -0.1), (0.14, 0.15, -0.14), (0.5, -0.24, -0.33)),
        *surface((0, -0.3, -0.47), (0.24, -0.5, -0.58)),
        *pod(0.19, 0.2, 0.15, 0.065),
        *pod(0.35, 0.02, 0.15, 0.065),
        *body(0.5, -0.54, 0.175, tail_width=0.1, tail_share=0.45),
        *fin(0, -0.3, -0.54, 0.022),
    ]


def _four_propellers() -> list[Part]:
    return [
        *body(0.42, -0.44, 0.15, tail_share=0.5, tail_width=0.15, nose_share=0.18),
        *surface((0, 0.17, -0.01), (0.16, 0.17, -0.01), (0.5, 0.11, 0.03), tilt=0.08),
        *surface((0, -0.29, -0.43), (0.22, -0.32, -0.42), tilt=0.06),
        *propeller(0.15, 0.28, 0.23, 0.055, 0.12),
        *propeller(0.3, 0.26, 0.2, 0.055, 0.12),
        *fin(0, -0.28, -0.46, 0.02),
    ]


def _rotodome() -> list[Part]:
    return [
        *surface((0, 0.26, 0.06), (0.5, -0.02, -0.09)),
        *surface((0, -0.37, -0.46), (0.19, -0.46, -0.52)),
        *pod(0.2, 0.24, 0.14, 0.055),
        *body(0.5, -0.52, 0.1),
        *fin(0, -0.38, -0.54),
        ellipse(0, -0.13, 0.19, 0.19, bevel=0.09, albedo=0.86),
        box(0, -0.13, 0.37, 0.05, bevel=0.0, albedo=0.5),
    ]


def _flying_wing() -> list[Part]:
    edges = (
        (0, 0.27, -0.22),
        (0.1, 0.155, -0.1),
        (0.22, 0.02, -0.22),
        (0.3, -0.07, -0.16),
        (0.48, -0.27, -0.335),
        (0.5, -0.3, -0.33),
    )
    return [
        *surface(*edges, tilt=0.2, flaps=False),
        *body(0.24, -0.16, 0.15, sharp=0.8, nose_share=0.5, tail_share=0.6, glass="none"),
        *pod(0.1, 0.07, 0.13, 0.05),
        Part(np.array([[-0.045, 0.15], [0, 0.185], [0.045, 0.15], [0.03, 0.13], [-0.03, 0.13]]), 0.0, 0.2),
    ]


def _ogival_delta() -> list[Part]:
    stations = (
        (0, 0.42, -0.5),
        (0.07, 0.32, -0.52),
        (0.14, 0.12, -0.53),
        (0.22, -0.07, -0.53),
        (0.32, -0.2, -0.52),
        (0.43, -0.34, -0.51),
        (0.5, -0.48, -0.52),
    )
    return [
        *surface(*stations, tilt=0.12),
        *duct(0.2, -0.3, -0.57, 0.13),
        *body(0.78, -0.62, 0.09, sharp=0.9, nose_share=0.3, tail_share=0.3),
        *fin(0, -0.3, -0.6, 0.02),
    ]


def _canard_delta() -> list[Part]:
    return [
        *surface((0, 0.08, -0.42), (0.08, 0.04, -0.42), (0.46, -0.26, -0.36), (0.5, -0.32, -0.37), tilt=0.08),
        *surface((0.04, 0.46, 0.24), (0.31, 0.22, 0.14), flaps=False),
        *body(0.66, -0.54, 0.15, sharp=0.95, nose_share=0.38, tail_share=0.2, tail_width=0.7, glass="bubble"),
        box(0, -0.53, 0.09, 0.03, bevel=0.0, albedo=0.3),
        *fin(0, -0.22, -0.54, 0.022),
    ]


def _forward_swept() -> list[Part]:
    return [
        *surface((0, -0.08, -0.4), (0.5, 0.27, 0.13), tilt=0.1),
        *surface((0, -0.42, -0.56), (0.21, -0.52, -0.6), flaps=False),
        *pod(0.1, 0.12, 0.18, 0.07),
        *body(0.56, -0.56, 0.12, sharp=0.7, nose_share=0.3),
        *fin(0, -0.36, -0.58),
    ]


def _twin_boom() -> list[Part]:
    return [
        *surface((0, 0.16, -0.05), (0.2, 0.15, -0.04), (0.5, 0.09, 0.02), tilt=0.12),
        *surface((0, -0.36, -0.47), (0.26, -0.37, -0.46), tilt=0.0),
        *propeller(0.19, 0.3, 0.76, 0.07, 0.2),
        *body(0.34, -0.16, 0.14, nose_share=0.35, tail_share=0.5, glass="bubble"),
        *fin(0.19, -0.34, -0.48, 0.02),
    ]


def _glider() -> list[Part]:
    return [
        *surface((0, 0.09, -0.02), (0.25, 0.075, -0.01), (0.5, 0.045, 0.005), tilt=0.12),
        *body(0.24, -0.32, 0.06, nose_share=0.3, tail_share=0.6, glass="bubble"),
        *surface((0, -0.25, -0.32), (0.13, -0.265, -0.315), flaps=False),
        *fin(0, -0.2, -0.33, 0.012),
    ]


def _twin_fin_fighter() -> list[Part]:
    return [
        *surface((0, 0.24, -0.14), (0.12, 0.15, -0.13), (0.5, -0.16, -0.24), tilt=0.06),
        *surface((0.1, -0.34, -0.52), (0.36, -0.5, -0.63), flaps=False),
        *duct(0.085, 0.16, -0.6, 0.15),
        *body(0.68, -0.4, 0.13, sharp=0.9, nose_share=0.35, tail_share=0.5, glass="bubble"),
        *fin(0.17, -0.28, -0.56, 0.03, 0.04),
    ]


def _tip_tanks() -> list[Part]:
    tanks = [
        part
        for x in (-0.46, 0.46)
        for part in body(0.26, -0.2, 0.085, x=x, nose_share=0.3, tail_share=0.4, glass="none", albedo=0.95)
    ]
    return [
        *surface((0, 0.14, -0.1), (0.46, 0.09, -0.05), tilt=0.1),
        *surface((0, -0.35, -0.47), (0.2, -0.38, -0.46), flaps=False),
        *tanks,
        *body(0.5, -0.48, 0.14, sharp=0.6, nose_share=0.35, tail_share=0.4, glass="bubble"),
        *fin(0, -0.3, -0.5),
    ]


def _rhomboid() -> list[Part]:
    return [
        *surface((0, 0.3, -0.34), (0.5, -0.0, -0.06), tilt=0.14, flaps=False),
        *surface((0.07, -0.26, -0.56), (0.31, -0.5, -0.58), tilt=0.35, flaps=False),
        *duct(0.14, 0.12, -0.44, 0.13),
        *body(0.66, -0.5, 0.13, sharp=0.95, nose_share=0.4, tail_share=0.4, glass="bubble"),
    ]


def _rear_engines() -> list[Part]:
    return [
        *surface((0, 0.02, -0.18), (0.14, -0.06, -0.19), (0.5, -0.21, -0.27)),
        box(0, -0.31, 0.2, 0.08, bevel=0.01),
        *pod(0.115, -0.22, 0.2, 0.085),
        *body(0.62, -0.58, 0.1, tail_share=0.25),
        *surface((0, -0.49, -0.62), (0.21, -0.6, -0.67)),
        *fin(0, -0.4, -0.6, 0.022),
    ]


def _ellipse_wing() -> list[Part]:
    x = 0.5 * np.sin(np.linspace(0, np.pi / 2, 20))
    chord = np.sqrt(np.clip(1 - (x / 0.5) ** 2, 0, 1))
    wing = [(a, 0.04 + 0.11 * c, 0.04 - 0.23 * c) for a, c in zip(x, chord, strict=True)]
    tail = [(0.36 * a, -0.37 + 0.04 * c, -0.37 - 0.07 * c) for a, c in zip(x, chord, strict=True)]
    return [
        *surface(*wing, tilt=0.18),
        *surface(*tail, flaps=False),
        *body(0.34, -0.46, 0.1, nose_share=0.15, tail_share=0.7, glass="none"),
        ellipse(0, -0.02, 0.03, 0.06, albedo=0.25, bevel=0.02),
        *propeller(0, 0.34, 0, 0.09, 0.3),
        *fin(0, -0.34, -0.48),
    ]


def _tandem_wing() -> list[Part]:
    return [
        *surface((0, 0.33, 0.17), (0.5, 0.3, 0.2), tilt=0.14),
        *surface((0, -0.2, -0.36), (0.46, -0.23, -0.33), tilt=-0.14),
        *body(0.46, -0.48, 0.13, nose_share=0.25, glass="airliner"),
        *fin(0.44, -0.2, -0.38, 0.02),
        *propeller(0, 0.46, 0, 0.08, 0.2),
    ]


def _twin_fuselage() -> list[Part]:
    hulls = [part for x in (-0.2, 0.2) for part in body(0.38, -0.36, 0.085, x=x)]
    tails = [
        Part(p.outline + np.array([x, 0]), p.bevel, p.albedo, p.tone, p.tilt)
        for x in (-0.2, 0.2)
        for p in surface((0, -0.27, -0.35), (0.13, -0.3, -0.36))
    ]
    return [
        *surface((0, 0.12, -0.02), (0.5, 0.085, 0.02), tilt=0.04),
        *tails,
        *pod(0.31, 0.17, 0.11, 0.05),
        *pod(0.39, 0.16, 0.11, 0.05),
        *hulls,
        *fin(0.2, -0.24, -0.37),
        *body(0.2, -0.14, 0.07, sharp=0.8, nose_share=0.4, glass="none"),
    ]


def _gull_wing() -> list[Part]:
    return [
        *surface((0, -0.02, -0.24), (0.24, 0.22, 0.02), (0.5, -0.16, -0.26), tilt=0.3),
        *surface((0, -0.38, -0.47), (0.17, -0.38, -0.46), flaps=False),
        *pod(0.24, 0.32, 0.24, 0.085),
        *body(0.45, -0.5, 0.13, nose_share=0.2),
        *fin(0, -0.34, -0.52),
    ]


def _pusher_canard() -> list[Part]:
    return [
        *surface((0, -0.02, -0.36), (0.18, -0.16, -0.36), (0.5, -0.34, -0.44)),
        *surface((0, 0.34, 0.25), (0.25, 0.31, 0.25), flaps=False),
        *propeller(0.15, -0.12, 0.28, 0.075, 0.17, pusher=True),
        *body(0.44, -0.4, 0.12, nose_share=0.35, sharp=0.65, tail_share=0.4),
        *fin(0.485, -0.3, -0.5, 0.028),
    ]


def _joined_wing() -> list[Part]:
    return [
        *surface((0, -0.42, -0.54), (0.5, -0.07, -0.14), tilt=-0.15),
        *surface((0, 0.3, 0.17), (0.5, -0.05, -0.13), tilt=0.15),
        box(0, -0.3, 0.18, 0.07, bevel=0.01),
        *pod(0.1, -0.22, 0.16, 0.07),
        *body(0.48, -0.5, 0.11),
        *fin(0.488, -0.02, -0.16, 0.03),
        *fin(0, -0.36, -0.56),
    ]


def _airframe(
    number: int, description: str, build: Callable[[], list[Part]], nose: float, tail: float, tip: tuple[float, float]
) -> Airframe:
    keypoints = np.array([[0, nose], [0, tail], [-tip[0], tip[1]], [tip[0], tip[1]]])
    return Airframe(f"A{number}", description, tuple(build()), keypoints)


TYPES: tuple[Airframe, ...] = (
    _airframe(1, "airliner: swept wing, two engines under it", _twin_jet, 0.54, -0.54, (0.495, -0.165)),
    _airframe(2, "heavy jet: broad body, sharply swept wing, four engines", _heavy_jet, 0.5, -0.54, (0.495, -0.285)),
    _airframe(
        3, "transport: straight wing, four propellers, deep round body", _four_propellers, 0.42, -0.44, (0.495, 0.07)
    ),
    _airframe(4, "radar aircraft: a rotodome on its back", _rotodome, 0.5, -0.52, (0.495, -0.055)),
    _airframe(5, "flying wing: no body, saw-tooth trailing edge", _flying_wing, 0.27, -0.22, (0.495, -0.315)),
    _airframe(6, "supersonic airliner: ogival delta, needle nose", _ogival_delta, 0.78, -0.62, (0.495, -0.5)),
    _airframe(7, "fighter: delta wing behind canards", _canard_delta, 0.66, -0.54, (0.495, -0.345)),
    _airframe(8, "bomber: wing swept forward", _forward_swept, 0.56, -0.56, (0.495, 0.2)),
    _airframe(9, "twin boom: two tail booms behind propellers", _twin_boom, 0.34, -0.47, (0.495, 0.055)),
    _airframe(10, "glider: very long, very thin straight wing", _glider, 0.24, -0.32, (0.495, 0.025)),
    _airframe(11, "fighter: cropped wing, twin fins, large stabilisers", _twin_fin_fighter, 0.68, -0.6, (0.495, -0.2)),
    _airframe(12, "trainer: straight wing with tip tanks", _tip_tanks, 0.5, -0.48, (0.5, 0.03)),
    _airframe(13, "rhomboid: diamond wing and V tail", _rhomboid, 0.66, -0.5, (0.495, -0.03)),
    _airframe(14, "regional jet: engines at the rear, T tail", _rear_engines, 0.62, -0.62, (0.495, -0.24)),
    _airframe(15, "propeller aircraft: elliptical wing", _ellipse_wing, 0.34, -0.46, (0.498, 0.03)),
    _airframe(16, "tandem: two equal wings, one behind the other", _tandem_wing, 0.46, -0.48, (0.495, 0.25)),
    _airframe(17, "carrier: two fuselages under one wing", _twin_fuselage, 0.2, -0.14, (0.495, 0.05)),
    _airframe(18, "gull wing: swept forward, then back", _gull_wing, 0.45, -0.5, (0.495, -0.21)),
    _airframe(
        19, "pusher: canard in front, wing and propellers at the back", _pusher_canard, 0.44, -0.4, (0.495, -0.39)
    ),
    _airframe(20, "joined wing: front and rear wing meet at the tips", _joined_wing, 0.48, -0.54, (0.495, -0.09)),
)


# --------------------------------------------------------------------------------------------- maps


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What is needed to draw one aircraft at any angle, size and light, at one resolution.

    Attributes:
        light: (S, S, 4) float32: opacity * albedo, the same times the normal's x and y (image axes,
            nose up), opacity.
        paint: (S, S, 3) float32: opacity * share of the body's colour, the same of the trim's,
            opacity of the mask (solid parts only).
        scale: pixels per `size` of the aircraft.
    """

    light: np.ndarray
    paint: np.ndarray
    scale: float


def _bake(plane: Airframe, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    side = round(resolution * MARGIN)
    unit = resolution / plane.size  # pixels per wing span
    light, paint = np.zeros((side, side, 4), np.float32), np.zeros((side, side, 3), np.float32)
    pad = int(0.05 * resolution)
    for part in plane.parts:
        points = (part.outline - plane.centre) * [1, -1] * unit + side / 2
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - pad, 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + pad, side)
        mask8 = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask8, [np.round((points - [x0, y0] - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        mask = mask8[..., None].astype(np.float32) / 255 * (1.0 if part.solid else 0.55)  # (h, w, 1)
        below, colours = light[y0:y1, x0:x1], paint[y0:y1, x0:x1]
        above = np.zeros_like(below)  # albedo, normal x, normal y, opacity
        above[..., 0], above[..., 1], above[..., 3] = part.albedo, part.tilt, 1.0
        if part.bevel:
            radius = part.bevel * unit
            depth = cv2.distanceTransform((mask8 > 127).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            height = radius * np.sqrt(1 - (1 - np.clip(depth / radius, 0, 1)) ** 2)
            height = cv2.GaussianBlur(height, (0, 0), (0.003 if part.bevel < 0.02 else 0.007) * resolution)
            slope = -np.dstack(
                [cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)]
            )
            above[..., 1:3] += slope / np.sqrt(1 + (slope**2).sum(-1, keepdims=True))
            # what lies below is darker beside a part that stands above it
            below[..., 0] *= 1 - 0.35 * cv2.GaussianBlur(mask[..., 0], (0, 0), 0.01 * resolution) * (1 - mask[..., 0])
        below += (above - below) * mask
        colours[..., :2] += (np.array([part.tone == BODY, part.tone == TRIM], np.float32) - colours[..., :2]) * mask
        if part.solid:
            colours[..., 2:] += (1 - colours[..., 2:]) * mask
    # Painting over nothing leaves albedo and normal already weighted by the opacity; only the
    # product of the two is still to be made.
    opacity = np.maximum(light[..., 3:], 1e-6)
    light[..., 1:3] *= light[..., :1] / opacity
    return light, paint


@cache
def maps(plane: Airframe, finest: int = RESOLUTION) -> tuple[Maps, ...]:
    """The maps of a type, from `finest` pixels an aircraft downwards, each half the one before."""
    light, paint = _bake(plane, finest)
    levels = [Maps(light, paint, float(finest))]
    while levels[-1].scale >= 64 and levels[-1].light.shape[0] % 2 == 0:
        light, paint = (cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for x in (light, paint))
        levels.append(Maps(light, paint, levels[-1].scale / 2))
    return tuple(levels)


@cache
def silhouette(plane: Airframe, span: int = 96) -> np.ndarray:
    """The mask of a type, nose up, (S, S) bool, `span` pixels between the wing tips, centred."""
    side = int(span * 1.7)
    mask = np.zeros((side * 4, side * 4), np.uint8)
    low, high = plane.bounds
    for part in plane.parts:
        if part.solid:
            points = (part.outline - plane.centre) * [1, -1] * span * 4 / (high - low)[0] + side * 2
            cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) > 127


@cache
def contours(plane: Airframe) -> list[np.ndarray]:
    """Outlines (n, 2) of the parts of a type in sizes, image axes (x right, y down), nose up,
    centred.
    """
    return [
        ((part.outline - plane.centre) * [1, -1] / plane.size).astype(np.float32)
        for part in plane.parts
        if part.solid and part.bevel
    ]


def keypoints(plane: Airframe) -> np.ndarray:
    """(4, 2) keypoints of a type in sizes, image axes, nose up, centred."""
    return (plane.keypoints - plane.centre) * [1, -1] / plane.size


# ------------------------------------------------------------------------------------------ drawing


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """One aircraft, drawn."""

    colour: np.ndarray  # (h, w, 3) float32, 0…1, weighted by the opacity
    opacity: np.ndarray  # (h, w) float32
    mask: np.ndarray  # (h, w) float32, opacity of the solid parts
    corner: tuple[int, int]  # x, y of the first pixel in the image
    box: np.ndarray  # (4,) in image pixels, of the whole aircraft
    keypoints: np.ndarray  # (4, 2)


def matrix(centre: Sequence[float], size: float, angle: float, stretch: float = 1.0) -> np.ndarray:
    """(2, 3) from sizes (image axes, nose up) to image pixels; `angle` turns clockwise in the
    image, `stretch` widens the span.
    """
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c * size * stretch, -s * size, centre[0]], [s * size * stretch, c * size, centre[1]]])


def transform(points: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) matrix to points (..., 2)."""
    return points @ m[:, :2].T + m[:, 2]


def draw(
    plane: Airframe,
    m: np.ndarray,
    light: np.ndarray,
    ambient: float,
    colours: Sequence[np.ndarray],
    finest: int = RESOLUTION,
) -> Sprite:
    """Draw a type placed by `m`, lit from `light` (2,) in image axes, in colours (3,) of 0…1 for
    wing, body and trim.
    """
    size = float(np.hypot(m[0, 1], m[1, 1]))
    levels = maps(plane, finest)
    level = next((x for x in reversed(levels) if x.scale >= 2 * size), levels[0])
    reach = 0.5 * MARGIN * np.abs(m[:, :2]).sum(1) + 2
    x0, y0 = np.floor(m[:, 2] - reach).astype(int)
    x1, y1 = np.ceil(m[:, 2] + reach).astype(int)
    # from level pixels to pixels of the patch at twice the resolution; the halves are pixel centres
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
    local = turn.T @ light
    brightness = np.maximum(lit[..., 0] * ambient + lit[..., 1] * local[0] + lit[..., 2] * local[1], 0)
    wing, body, trim = colours
    share = paint[..., :2] / np.maximum(lit[..., 3:], 1e-3)
    colour = brightness[..., None] * (wing + (body - wing) * share[..., :1] + (trim - wing) * share[..., 1:])
    return Sprite(
        colour.astype(np.float32), lit[..., 3], paint[..., 2], (int(x0), int(y0)), box, transform(keypoints(plane), m)
    )
