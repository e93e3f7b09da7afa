"""Other aircraft on other grounds: what a backbone is trained on before it meets A1 … A20.

Sixty types B1 … B60 are put together at random from the parts of aircraft: one to three pairs of
wings of any plan; no, one or two bodies; engines, fins and discs. They stand on a patchwork of
fields, water and yards in any colour. None of the course's types or grounds is among them, so what
a network learns here and uses there is transfer, not memory.
"""

from __future__ import annotations

import numpy as np

from .geometry import rectangle
from .ground import BLACK, RED, WHITE, YELLOW, Ground, tint
from .layouts import Layout, building, trees
from .parts import Airframe, Part, body, box, duct, ellipse, fin, pod, propeller, surface

# Seeds that were looked at and left out. Their aircraft are in pieces or longer than 1.5 spans, or their
# outline shares more than 70 % of the union with one of A1 … A20, or more than 75 % with another B.
REFUSED = {0, 7, 10, 25, 27, 28, 31, 40, 47, 49, 50, 52, 57, 62, 67, 69, 71, 73, 76}
SEEDS = tuple(seed for seed in range(79) if seed not in REFUSED)


def _wings(rng: np.random.Generator, y: float, span: float, chord: float, sweep: float) -> list[Part]:
    """A random pair of wings with one kink.

    Args:
        y: middle of the wing at the root.
        span: length of one wing.
        chord: width at the root.
        sweep: how far the tip lies behind the root, in spans; a negative value sweeps forward.
    """
    kink, taper = rng.uniform(0.2, 0.8), rng.uniform(0.1, 1.0)
    stations = []
    for share in (0.0, kink, 1.0):
        half = 0.5 * chord * (1 + (taper - 1) * share)
        bend = rng.uniform(-0.12, 0.12) * span if share == kink else 0.0
        middle = y - sweep * span * share
        stations.append((share * span, middle + half + bend, middle - half + bend * rng.uniform(0, 1)))
    return surface(*stations, tilt=rng.uniform(-0.15, 0.35), flaps=chord > 0.09 and rng.random() < 0.7)


def _engines(rng: np.random.Generator, y: float, sweep: float) -> list[Part]:
    """One or two pairs of engines of one kind, on the wing that begins at y with this `sweep`."""
    kind, length, width = rng.integers(4), rng.uniform(0.1, 0.28), rng.uniform(0.05, 0.11)
    parts = []
    for x in sorted(rng.uniform(0.08, 0.46, rng.integers(1, 3))):
        front = y - sweep * x + rng.uniform(0.1, 0.9) * length
        if kind == 0:
            parts += pod(x, front, length, width)
        elif kind == 1:
            parts += propeller(x, front, length, width, rng.uniform(0.1, 0.25), pusher=rng.random() < 0.3)
        elif kind == 2:
            parts += duct(x, front + 0.5 * length, front - 1.5 * length, width)
        else:  # a slender hull, such as a tank, a float or a boom
            for side in (-x, x):
                parts += body(
                    front + 0.5 * length,
                    front - 1.8 * length,
                    width,
                    x=side,
                    nose_share=0.3,
                    tail_share=0.5,
                    glass="none",
                )
    return parts


def _craft(name: str, seed: int) -> Airframe:
    """A random type: symmetric, one span wide."""
    rng = np.random.default_rng([20, seed])
    nose, tail = rng.uniform(0.25, 0.75), -rng.uniform(0.25, 0.65)
    width = rng.uniform(0.06, 0.24)
    y, sweep = rng.uniform(-0.15, 0.2), rng.uniform(-0.5, 1.1)
    parts = _wings(rng, y, 0.5, rng.uniform(0.08, 0.5), sweep)
    for at in rng.permutation([0.85 * nose, 0.9 * tail])[: rng.choice(3, p=(0.15, 0.6, 0.25))]:
        parts += _wings(rng, at, rng.uniform(0.12, 0.42), rng.uniform(0.06, 0.22), rng.uniform(-0.6, 1.1))
    engines = _engines(rng, y, sweep) if rng.random() < 0.7 else []
    above = rng.random() < 0.4
    parts += [] if above else engines
    hulls = {0: (), 1: (0.0,), 2: (-(x := rng.uniform(0.1, 0.3)), x)}[int(rng.choice(3, p=(0.12, 0.7, 0.18)))]
    hull = {
        "width": width / max(1, 0.7 * len(hulls)),
        "sharp": rng.uniform(0.5, 1),
        "nose_share": rng.uniform(0.15, 0.5),
        "tail_share": rng.uniform(0.2, 0.7),
        "tail_width": rng.uniform(0.05, 0.8),
        "glass": str(rng.choice(["airliner", "bubble", "none"])),
    }
    for x in hulls:
        parts += body(nose, tail, x=x, **hull)
    parts += engines if above else []
    extra = rng.integers(5)
    if extra == 0:
        parts.append(
            ellipse(0, rng.uniform(-0.2, 0.2), *rng.uniform(0.08, 0.22, 2), bevel=0.06, albedo=rng.uniform(0.6, 1.1))
        )
    elif extra == 1:
        parts.append(
            box(
                0,
                rng.uniform(tail, nose),
                rng.uniform(0.1, 0.5),
                rng.uniform(0.03, 0.12),
                bevel=0.02,
                albedo=rng.uniform(0.5, 1.1),
            )
        )
    length, thick, cant = rng.uniform(0.1, 0.25), rng.uniform(0.014, 0.035), rng.uniform(0, 0.05)
    if rng.random() < 0.5 and hulls:
        parts += fin(hulls[-1], tail + length, tail, thick, cant * (len(hulls) - 1))
    else:  # on the wing
        x = rng.uniform(0.1, 0.48)
        parts += fin(x, y - sweep * x + 0.4 * length, y - sweep * x - 0.6 * length, thick, cant)
    outline = np.concatenate([part.outline for part in parts if part.solid])
    axis = np.concatenate([outline[np.abs(outline[:, 0]) < 0.02, 1], [nose, tail] if 0.0 in hulls else []])
    tip = outline[outline[:, 0].argmax()]
    keypoints = np.array([[0, axis.max()], [0, axis.min()], [-tip[0], tip[1]], tip])
    return Airframe(name, f"a craft put together by chance, number {seed}", tuple(parts), keypoints)


TYPES: tuple[Airframe, ...] = tuple(_craft(f"B{number + 1}", seed) for number, seed in enumerate(SEEDS))


def patchwork(ground: Ground) -> None:
    """Patches of any colour: fields, water and yards with lines, numbers, trees and sheds."""
    rng, m, reach = ground.rng, ground.metre, ground.reach
    base = rng.uniform(50, 215) + tint(rng, 0, 14)
    patches = [(-reach, -reach, reach, reach)]
    for _ in range(rng.integers(0, 9)):  # cut the largest patch in two
        patches.sort(key=lambda patch: (patch[2] - patch[0]) * (patch[3] - patch[1]))
        left, low, right, high = patches.pop()
        share = rng.uniform(0.25, 0.75)
        if right - left > high - low:
            middle = left + share * (right - left)
            patches += [(left, low, middle, high), (middle, low, right, high)]
        else:
            middle = low + share * (high - low)
            patches += [(left, low, right, middle), (left, middle, right, high)]
    for left, low, right, high in patches:
        patch = ground.mask(rectangle((left + right) / 2, (low + high) / 2, right - left, high - low))
        colour = base + rng.normal(0, 26) + tint(rng, 0, 12)
        grain = sum(rng.uniform(0, 0.05) * ground.noise(octave) for octave in range(4))
        ground.blend(patch, np.clip(colour, 25, 235) * (1 + grain)[..., None])
        if rng.random() < 0.4:  # furrows, lanes or waves
            for at in np.arange(left, right, rng.uniform(3, 14) * m):
                ground.line(
                    np.array([[at, low], [at, high]]), rng.uniform(0.4, 1.5) * m, colour * rng.uniform(0.75, 1.2), 0.6
                )
        if rng.random() < 0.5:  # a way along the edge
            ground.line(np.array([[left, low], [right, low]]), rng.uniform(1, 8) * m, base * rng.uniform(0.6, 1.3), 0.9)
    for _ in range(rng.integers(0, 7)):
        colour = (YELLOW, WHITE, RED, BLACK)[rng.integers(4)]
        points = rng.uniform(-reach, reach, (rng.integers(2, 5), 2))
        ground.line(points, rng.uniform(0.4, 2.5) * m, colour, rng.uniform(0.3, 0.9))
    for _ in range(rng.integers(0, 4)):
        ground.text(
            str(rng.integers(1, 1000)),
            *rng.uniform(-0.6, 0.6, 2) * reach,
            rng.uniform(6, 22) * m,
            WHITE,
            rng.uniform(0, 6),
        )
    if rng.random() < 0.4:
        at = rng.uniform(0.3, 0.65, 2) * reach * rng.choice((-1, 1), 2)
        building(ground, *at, *rng.uniform(20, 60, 2) * m, rng.uniform(5, 14) * m)
    if rng.random() < 0.4:
        trees(ground, np.full_like(ground.paved, 255), rng.integers(0, 14))
    ground.paved[:] = 255  # aircraft may stand anywhere


LAYOUTS: tuple[tuple[Layout, float], ...] = ((patchwork, 1.0),)
