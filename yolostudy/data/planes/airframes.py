"""The twenty types of aircraft A1 … A20, each built from a handful of parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .parts import Airframe, Part, body, box, duct, ellipse, fin, pod, propeller, surface
from .vocabulary import CLASSES


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
    return Airframe(CLASSES[number - 1], description, tuple(build()), keypoints)


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
