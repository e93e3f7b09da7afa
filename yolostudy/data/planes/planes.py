"""`planes`: aerial photographs of aprons with twenty types of aircraft, drawn, not downloaded.

The set is written in the layout of MAR20 (`images/*.jpg`, `annotations/*.xml`, `splits/*.txt`), so
one reader serves both. Each picture is a function of (profile, seed, split, index) alone: same
numbers, same pixels, whatever the number of workers.

Pixels are continuous: the first pixel of an image spans 0 to 1, so a box that fills an image of 160
pixels is 0 0 160 160.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from ..records import DataError
from . import fleet
from .airfield import CLUTTER, LAYOUTS, Ground, painted_cross, tint
from .airframes import FLIP_INDEX, KEYPOINTS, TYPES, Airframe, Sprite, contours, draw, matrix, transform

__all__ = [
    "BASE",
    "FLIP_INDEX",
    "KEYPOINTS",
    "NOVEL",
    "PROFILES",
    "TYPES",
    "Profile",
    "Scene",
    "make",
    "render_scene",
    "type_sheet",
]

# of the pictures: raise it whenever the same seed gives other pixels, so that sets made before are
# not taken for new ones
VERSION = 4
BASE = tuple(plane.name for plane in TYPES[:10])
NOVEL = tuple(plane.name for plane in TYPES[10:])
SPLITS = ("train", "validation", "test")
SHOTS = (10, 15)  # `small`: at least and, where the pictures allow it, at most so many objects of each class
CONTRAST = 0.17  # least difference between an aircraft and the ground, of white
VISIBLE = 0.4  # least share of an aircraft inside the picture
JPEG_QUALITY = 92
# colours of fins and engines
TRIMS = ((0.7, 0.18, 0.16), (0.16, 0.28, 0.56), (0.85, 0.55, 0.14), (0.12, 0.42, 0.34), (0.22, 0.22, 0.25))


@dataclass(frozen=True, slots=True)
class Profile:
    """How large a set is and how its pictures look.

    Attributes:
        side: width and height of a picture in pixels.
        counts: number of pictures in train, validation and test.
        planes: how likely a picture shows 1, 2, 3 … aircraft.
        sizes: smallest and largest size of an aircraft, the longer of span and length, in pixels.
        finest: resolution at which aircraft are drawn, at least twice the largest size.
        fleet: which types stand on which grounds: a key of FLEETS.
    """

    name: str
    side: int
    counts: tuple[int, int, int]
    planes: tuple[float, ...]
    sizes: tuple[float, float]
    finest: int
    fleet: str = "A"

    @property
    def types(self) -> tuple[Airframe, ...]:
        return FLEETS[self.fleet][0]

    @property
    def layouts(self) -> tuple[tuple[Callable[[Ground], None], float], ...]:
        return FLEETS[self.fleet][1]


FLEETS = {"A": (TYPES, LAYOUTS), "B": (fleet.TYPES, fleet.LAYOUTS)}
PROFILES = {
    "sample": Profile("sample", 160, (24, 8, 8), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256),  # shipped with the course
    "mini": Profile("mini", 160, (1200, 200, 200), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256),
    "laptop": Profile("laptop", 640, (2930, 408, 504), (4, 7, 9, 11, 12, 12, 11, 9, 8, 6, 4, 3, 2, 2), (45, 220), 512),
    # to train a backbone on first
    "abroad": Profile("abroad", 160, (4000, 200, 200), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256, "B"),
}


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


# ------------------------------------------------------------------------------------------- scenes


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([VERSION, seed, *key])


@cache
def _plan(profile: Profile, seed: int, split: str) -> tuple[np.ndarray, ...]:
    """The classes of every picture of a split: decks of all types, shuffled, dealt out in turn, so
    that types are balanced.
    """
    rng = _generator(seed, SPLITS.index(split), 1 << 30)
    share = np.array(profile.planes) / sum(profile.planes)
    numbers = 1 + rng.choice(len(share), profile.counts[SPLITS.index(split)], p=share)
    types = len(profile.types)
    decks = np.concatenate([rng.permutation(types) for _ in range(-(-int(numbers.sum()) // types))])
    return tuple(np.split(decks[: numbers.sum()], np.cumsum(numbers)[:-1]))


def _stand(
    ground: Ground, plane: Airframe, profile: Profile, size: float, headings: np.ndarray, before: np.ndarray | None
) -> np.ndarray | None:
    """A free place (2, 3) for an aircraft, at best beside the one placed `before`, or None.

    A place that is found is taken.
    """
    rng, side = ground.rng, ground.side
    for attempt in range(80):
        extent = np.clip(size * (1 - 0.3 * attempt / 80) * rng.uniform(0.82, 1.2), *profile.sizes)
        angle = rng.choice(headings) + rng.normal(0, 0.12) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
        margin = extent * (0.05 if rng.random() < 0.12 or attempt > 60 else 0.52)  # a few are cut by the border
        at = rng.uniform(margin, side - margin, 2)
        if before is not None and attempt < 20 and rng.random() < 0.6:  # in a row, wing tip to wing tip
            across = before[:, 0] / np.linalg.norm(before[:, 0])
            at = (
                before[:, 2]
                + across * rng.choice((-1, 1)) * rng.uniform(1.0, 1.25) * size
                + rng.normal(0, 0.02 * size, 2)
            )
            angle = np.arctan2(across[1], across[0]) + rng.normal(0, 0.05)
            if not (margin < at).all() or not (at < side - margin).all():
                continue
        if attempt < 50 and not ground.paved[int(at[1]), int(at[0])] and ground.paved.any():
            continue
        place = matrix(at, extent, angle, rng.uniform(0.96, 1.04))
        outlines = [transform(outline, place) for outline in contours(plane)]
        corner = np.floor(at - extent * 0.8).astype(int)
        whole = np.zeros((int(1.6 * extent) + 2,) * 2, np.uint8)
        for outline in outlines:
            cv2.fillPoly(whole, [np.round(outline - corner).astype(np.int32)], 255)
        rows, columns, whole_rows, whole_columns = overlap(corner, whole.shape, side)
        inside = whole[whole_rows, whole_columns]
        if np.count_nonzero(inside) < (VISIBLE + 0.05) * np.count_nonzero(whole):
            continue
        gap = max(2, int(0.03 * extent))
        grown = cv2.dilate(inside, np.ones((2 * gap + 1,) * 2, np.uint8))
        if not cv2.min(grown, ground.blocked[rows, columns]).any():
            for taken in (ground.blocked[rows, columns], ground.busy[rows, columns]):
                np.maximum(taken, grown, out=taken)
            return place
    return None


def _clutter(ground: Ground, stands: list[np.ndarray], headings: np.ndarray) -> None:
    """Vehicles and the like: about two for each aircraft that would find room, half of them close
    to an aircraft, few on grass.
    """
    rng = ground.rng
    kinds = np.array([weight for _, weight in CLUTTER])
    for _ in range(rng.poisson(4 + 0.35 * (ground.side / (38 * ground.metre)) ** 2)):
        at = rng.uniform(0, ground.side, 2)
        if stands and rng.random() < 0.5:
            at = stands[rng.integers(len(stands))][:, 2] + rng.normal(0, 26 * ground.metre, 2)
        if (
            not (at >= 0).all()
            or not (at < ground.side).all()
            or (not ground.paved[int(at[1]), int(at[0])] and rng.random() < 0.8)
        ):
            continue
        CLUTTER[rng.choice(len(CLUTTER), p=kinds / kinds.sum())][0](
            ground, at, rng.choice(headings) + rng.normal(0, 0.2)
        )


def overlap(corner: Sequence[int], shape: tuple[int, int], side: int) -> tuple[slice, slice, slice, slice]:
    """Where a patch of `shape` (h, w) at `corner` (x, y) lies over the picture: rows and columns of
    the picture, then of the patch.
    """
    (x, y), (h, w) = corner, shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, side), min(x + w, side)
    return slice(top, bottom), slice(left, right), slice(top - y, bottom - y), slice(left - x, right - x)


def _shadow(ground: Ground, sprites: list[Sprite], sizes: list[float]) -> None:
    """Shadows of the aircraft on the ground: the outline thrown away from the sun, and a little
    gloom under the body.
    """
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
    """What air, lens and sensor do to the picture: haze, exposure, colour cast, blur, noise."""
    rng, image = ground.rng, ground.image
    warm, haze, gain, contrast = (
        rng.normal(0, 0.02),
        rng.uniform(0, 0.1),
        rng.uniform(0.82, 1.14),
        rng.uniform(0.9, 1.15),
    )
    # exposure, then haze, then contrast round the middle grey, as one factor and one summand for
    # each colour
    factor = gain * np.array([1 + warm, 1, 1 - warm]) * (1 - haze) * contrast
    summand = 128 + (haze * np.array([176, 184, 196]) - 128) * contrast
    image = image * factor.astype(np.float32) + summand.astype(np.float32)
    if (blur := rng.uniform(0, 0.75)) > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image += (rng.uniform(0.5, 4) * ground.noise(0))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def render_scene(profile: Profile | str, seed: int, split: str, index: int) -> Scene:
    """Draw picture `index` of a split. The same arguments give the same pixels."""
    profile = PROFILES[profile] if isinstance(profile, str) else profile
    wanted = _plan(profile, seed, split)[index]
    rng = _generator(seed, SPLITS.index(split), index)
    low, high = profile.sizes
    crowd = np.clip(profile.side / np.sqrt(len(wanted)), low / 0.8, high / 1.05)
    typical = np.exp(rng.uniform(np.log(low / 0.85), np.log(crowd)))
    ground = Ground(rng, profile.side, typical / 38)  # an aircraft of middle size is 38 metres long
    weights = np.array([weight for _, weight in profile.layouts])
    profile.layouts[rng.choice(len(weights), p=weights / weights.sum())][0](ground)
    if rng.random() < 0.08:
        painted_cross(ground, rng.uniform(0, profile.side, 2), rng.uniform(0, 2 * np.pi))

    headings = ground.angle + (np.arange(4) * np.pi / 2 if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi, 1))
    stands: list[tuple[int, np.ndarray]] = []
    for number in wanted:
        place = _stand(ground, profile.types[number], profile, typical, headings, stands[-1][1] if stands else None)
        if place is not None:
            stands.append((int(number), place))
    _clutter(ground, [place for _, place in stands], headings)

    contrast = rng.uniform(0.3, 0.55)
    sprites, sizes = [], []
    for number, place in stands:
        for _ in range(6):  # nobody paints an aircraft in the very tone of its apron
            tone = rng.choice((0.93, 0.82, 0.66, 0.5, 0.4), p=(0.35, 0.25, 0.2, 0.12, 0.08)) + tint(rng, 0.03, 0.012)
            if rng.random() < 0.2:
                tone += np.array([0.01, 0.0, -0.06])  # olive
            if abs(tone.mean() - _tone_of_ground(ground, place)) > CONTRAST:
                break
        body = tone * rng.uniform(0.9, 1.12)
        trim = np.array(TRIMS[rng.integers(len(TRIMS))]) if rng.random() < 0.35 else body
        paint = [np.clip(colour, 0.15, 1) for colour in (tone, body, trim)]
        sprites.append(
            draw(profile.types[number], place, ground.sun * contrast, rng.uniform(0.88, 0.98), paint, profile.finest)
        )
        sizes.append(float(np.hypot(place[0, 1], place[1, 1])))
    _shadow(ground, sprites, sizes)

    boxes, classes, points = [], [], []
    for (number, _), sprite in zip(stands, sprites, strict=True):
        rows, columns, inner_rows, inner_columns = overlap(sprite.corner, sprite.mask.shape, profile.side)
        opacity = sprite.opacity[inner_rows, inner_columns, None]
        here = ground.image[rows, columns]
        here += sprite.colour[inner_rows, inner_columns] * 240 - here * opacity
        boxes.append(visible_box(sprite, profile.side))
        classes.append(number)
        inside = ((sprite.keypoints >= 0) & (sprite.keypoints <= profile.side)).all(1, keepdims=True)
        points.append(np.concatenate([sprite.keypoints, np.full((4, 1), 2.0)], 1) * inside)
    return Scene(
        _photograph(ground),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(points, np.float32).reshape(-1, len(KEYPOINTS), 3),
    )


def _tone_of_ground(ground: Ground, place: np.ndarray) -> float:
    """How bright the ground is round an aircraft's place, on the scale of its paint."""
    (x, y), reach = place[:, 2], np.hypot(place[0, 1], place[1, 1]) / 2
    rows, columns = (slice(int(max(value - reach, 0)), int(max(value + reach, 1))) for value in (y, x))
    return float(ground.image[rows, columns].mean()) / 240


def visible_box(sprite: Sprite, side: int) -> np.ndarray:
    """(4,) the box of the part of an aircraft that lies inside the picture: to half a pixel where
    that agrees with whole pixels.
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
    for number, plane in enumerate(types):
        centre = ((number % 5 + 0.5) * size, (number // 5 + 0.54) * size)
        sprite = draw(
            plane,
            matrix(centre, 0.86 * size, 0.0),
            np.array([-0.3, -0.35]),
            0.92,
            [np.full(3, 0.8), np.full(3, 0.92), np.array(TRIMS[1])],
        )
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


# ------------------------------------------------------------------------------------------ writing


def _stem(profile: Profile, split: str, index: int) -> str:
    return f"planes_{sum(profile.counts[: SPLITS.index(split)]) + index:06d}"


def _annotation(stem: str, scene: Scene, types: tuple[Airframe, ...]) -> str:
    """Pascal VOC, with continuous 0-based edges and one decimal, and a <keypoints> element to each
    object.
    """
    height, width = scene.image.shape[:2]
    lines = ["<annotation>", "  <folder>images</folder>", f"  <filename>{stem}.jpg</filename>"]
    lines += [f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for box, number, points in zip(scene.boxes, scene.classes, scene.keypoints, strict=True):
        cut = int((box[:2] <= 0).any() or (box[2:] >= (width, height)).any())
        edges = "".join(
            f"<{name}>{value:.1f}</{name}>" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        lines += ["  <object>", f"    <name>{types[number].name}</name>", f"    <truncated>{cut}</truncated>"]
        lines += ["    <difficult>0</difficult>", f"    <bndbox>{edges}</bndbox>", "    <keypoints>"]
        for name, (x, y, visible) in zip(KEYPOINTS, points, strict=True):
            lines += [f'      <keypoint name="{name}" x="{x:.1f}" y="{y:.1f}" visible="{int(visible)}"/>']
        lines += ["    </keypoints>", "  </object>"]
    return "\n".join([*lines, "</annotation>", ""])


def _write(job: tuple[Path, Profile, int, str, int]) -> tuple[str, str, np.ndarray]:
    """Draw and write one picture; gives (split, stem, classes)."""
    folder, profile, seed, split, index = job
    scene, stem = render_scene(profile, seed, split, index), _stem(profile, split, index)
    _, data = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / "images" / f"{stem}.jpg").write_bytes(data.tobytes())
    (folder / "annotations" / f"{stem}.xml").write_text(_annotation(stem, scene, profile.types), encoding="utf-8")
    return split, stem, scene.classes


def _quiet() -> None:
    """In a worker: leave Ctrl-C to the parent, and one thread to each process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def few_shot(pictures: list[tuple[str, np.ndarray]], types: int = len(TYPES)) -> list[str]:
    """The `small` split: training pictures, first come first served, until each class is seen at
    least SHOTS[0] times.

    A picture is taken if one of its classes is still wanted and none would go above SHOTS[1]; the
    upper limit is given up last.
    """
    low, high = SHOTS
    seen, chosen = np.zeros(types, int), []
    for limit in (high, 2 * high):
        for stem, classes in pictures:
            count = np.bincount(classes, minlength=types)
            if stem not in chosen and ((seen < low) & (count > 0)).any() and (seen + count <= limit).all():
                seen += count
                chosen.append(stem)
    return sorted(chosen)


def make(
    folder: Path | str, profile: str = "mini", seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Draw a whole set into `folder`, in the layout of MAR20.

    The set is built beside `folder` and moved there when it is complete: an interrupted run leaves
    nothing behind. A folder that already holds this profile, seed and version is left as it is.

    Args:
        folder: where to; must be absent, empty, or hold this very set.
        profile: a name in PROFILES.
        workers: processes; by default one for each core.
    Returns:
        The folder.
    Raises:
        DataError: the profile is unknown, or the folder holds something else.
    """
    folder = Path(folder)
    if profile not in PROFILES:
        raise DataError(f"planes: unknown profile {profile!r}. Known profiles: {', '.join(PROFILES)}.")
    chosen, described = PROFILES[profile], folder / "planes.json"
    identity = {"profile": profile, "seed": seed, "version": VERSION}
    if described.is_file():
        there = json.loads(described.read_text(encoding="utf-8"))
        there = {key: there.get(key) for key in identity}
        if there == identity:
            if progress:
                print(f"{folder}: planes, profile {profile}, seed {seed}, is already there.")
            return folder
        raise DataError(f"{folder}: holds planes {there}, not {identity}. Give another folder, or delete this one.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already there and not a planes set. Give another folder, or delete this one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    workers = workers or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    building_site = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in ("images", "annotations", "splits"):
            (building_site / name).mkdir()
        sizes = zip(SPLITS, chosen.counts, strict=True)
        jobs = [(building_site, chosen, seed, split, index) for split, count in sizes for index in range(count)]
        bar = {"total": len(jobs), "desc": f"planes {profile}", "unit": "image", "disable": not progress}
        if workers == 1:
            written = list(tqdm(map(_write, jobs), **bar))
        else:  # spawned, because a forked copy of OpenCV's threads waits for them for ever
            pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet)
            try:
                written = list(tqdm(pool.map(_write, jobs, chunksize=16), **bar))
            finally:
                pool.shutdown(cancel_futures=True)
        stems = {split: [(stem, classes) for where, stem, classes in written if where == split] for split in SPLITS}
        lists = {split: [stem for stem, _ in pictures] for split, pictures in stems.items()} | {
            "small": few_shot(stems["train"], len(chosen.types))
        }
        for split, names in lists.items():
            (building_site / "splits" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        by_stem = {stem: classes for _, stem, classes in written}
        counts = {
            split: {
                "images": len(names),
                "objects": np.bincount(
                    np.concatenate([by_stem[name] for name in names]), minlength=len(chosen.types)
                ).tolist(),
            }
            for split, names in lists.items()
        }
        description = identity | {
            "settings": asdict(chosen),
            "class_names": [plane.name for plane in chosen.types],
            "class_descriptions": [plane.description for plane in chosen.types],
            "keypoint_names": KEYPOINTS,
            "flip_index": FLIP_INDEX,
            "counts": counts,
        }
        (building_site / "planes.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        building_site.chmod(0o755)
        building_site.rename(folder)
    except BaseException:
        shutil.rmtree(building_site, ignore_errors=True)
        raise
    return folder
