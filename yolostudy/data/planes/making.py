"""Making a set of planes: draw all its pictures and write them in the layout of MAR20.

    images/planes_000000.jpg    annotations/planes_000000.xml    splits/train.txt    planes.json

The files depend on (profile, seed) alone, whatever the number of worker processes.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from ..machine import available_cores
from ..records import DataError
from .parts import Airframe
from .profiles import PROFILES, Profile
from .scenes import VERSION, Scene, render_scene
from .vocabulary import CLASSES, FLIP_INDEX, KEYPOINTS, SPLITS

SHOTS = (10, 15)  # objects of each class in `small`: at least, and where the pictures allow it at most
JPEG_QUALITY = 92


def make(
    folder: Path | str, profile: str = "mini", seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Draw a whole set into `folder`, in the layout of MAR20.

    The set is built beside `folder` and moved there when it is complete, so an interrupted run
    leaves nothing behind. A folder that already holds this profile, seed and version is left as it
    is.

    Args:
        folder: where the set goes. It must be absent, be empty, or hold this very set.
        profile: a name in PROFILES.
        workers: number of processes; by default one for each core.

    Returns:
        The folder.

    Raises:
        DataError: the profile is unknown, or the folder holds something else.
    """
    folder = Path(folder)
    if profile not in PROFILES:
        raise DataError(f"planes: unknown profile {profile!r}. Known profiles: {', '.join(PROFILES)}.")
    identity = {"profile": profile, "seed": seed, "version": VERSION}
    if _holds_this_set(folder, identity):
        if progress:
            print(f"{folder}: planes, profile {profile}, seed {seed}, is already there.")
        return folder
    with _moved_when_complete(folder) as building_site:
        for name in ("images", "annotations", "splits"):
            (building_site / name).mkdir()
        written = _write_pictures(building_site, PROFILES[profile], seed, workers or available_cores(), progress)
        _write_lists(building_site, PROFILES[profile], identity, written)
    return folder


def _holds_this_set(folder: Path, identity: dict) -> bool:
    """Whether the set is there already. A folder that holds something else is refused."""
    described = folder / "planes.json"
    if described.is_file():
        there = json.loads(described.read_text(encoding="utf-8"))
        there = {key: there.get(key) for key in identity}
        if there == identity:
            return True
        raise DataError(f"{folder}: holds planes {there}, not {identity}. Give another folder, or delete this one.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: something is there that is not a planes set. Give another folder, or delete this one."
        )
    return False


@contextmanager
def _moved_when_complete(folder: Path) -> Iterator[Path]:
    """A new folder that becomes `folder` at the end, or is deleted after an exception."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building_site = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield building_site
        if folder.exists():
            folder.rmdir()
        building_site.chmod(0o755)
        building_site.rename(folder)
    except BaseException:
        shutil.rmtree(building_site, ignore_errors=True)
        raise


# The pictures


def _write_pictures(
    folder: Path, profile: Profile, seed: int, workers: int, progress: bool
) -> list[tuple[str, str, np.ndarray]]:
    """Write all pictures and annotations; give (split, stem, classes) of each."""
    sizes = zip(SPLITS, profile.counts, strict=True)
    jobs = [(folder, profile, seed, split, index) for split, count in sizes for index in range(count)]
    bar = {"total": len(jobs), "desc": f"planes {profile.name}", "unit": "image", "disable": not progress}
    if workers == 1:
        return list(tqdm(map(_write_picture, jobs), **bar))
    # spawned, because a forked copy of OpenCV's thread pool would wait for its threads for ever
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker)
    try:
        return list(tqdm(pool.map(_write_picture, jobs, chunksize=16), **bar))
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent process, and compute with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _write_picture(job: tuple[Path, Profile, int, str, int]) -> tuple[str, str, np.ndarray]:
    """Draw and write one picture; give (split, stem, classes)."""
    folder, profile, seed, split, index = job
    stem = f"planes_{sum(profile.counts[: SPLITS.index(split)]) + index:06d}"
    scene = render_scene(profile, seed, split, index)
    (folder / "images" / f"{stem}.jpg").write_bytes(encode(scene.image))
    (folder / "annotations" / f"{stem}.xml").write_text(annotation(stem, scene, profile.types), encoding="utf-8")
    return split, stem, scene.classes


def encode(image: np.ndarray) -> bytes:
    """An RGB image as a JPEG file."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def annotation(stem: str, scene: Scene, types: tuple[Airframe, ...]) -> str:
    """The objects of a picture as Pascal VOC's XML.

    Edges are continuous pixels from 0, with one decimal. `<keypoints>` is an element of our own.
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


# The lists of the splits, and the description


def _write_lists(folder: Path, profile: Profile, identity: dict, written: list[tuple[str, str, np.ndarray]]) -> None:
    """Write splits/*.txt and planes.json."""
    types = len(profile.types)
    lists = {split: [stem for where, stem, _ in written if where == split] for split in SPLITS}
    lists["small"] = few_shot([(stem, classes) for where, stem, classes in written if where == "train"], types)
    classes_of = {stem: classes for _, stem, classes in written}
    counts = {}
    for split, stems in lists.items():
        (folder / "splits" / f"{split}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")
        objects = np.bincount(np.concatenate([classes_of[stem] for stem in stems]), minlength=types)
        counts[split] = {"images": len(stems), "objects": objects.tolist()}
    description = identity | {
        "settings": asdict(profile),
        "class_names": [plane.name for plane in profile.types],
        "class_descriptions": [plane.description for plane in profile.types],
        "keypoint_names": KEYPOINTS,
        "flip_index": FLIP_INDEX,
        "counts": counts,
    }
    (folder / "planes.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def few_shot(pictures: list[tuple[str, np.ndarray]], types: int = len(CLASSES)) -> list[str]:
    """Choose the `small` split from training pictures (stem, classes).

    A picture is taken if one of its classes has fewer than SHOTS[0] objects so far, and none of its
    classes would get more than SHOTS[1]. If that is not enough, a second pass allows twice as many.
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
