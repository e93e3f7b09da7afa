"""How fast batches arrive, beside Ultralytics' own loader on the same files.

    python -m tests.benchmarks.loading [--images 256] [--seconds 4] [--workers 2]

Two profiles: mini (160 px, cached, flips and quarter turns) and laptop (640 px, cached, mosaic,
affine, colour and flips). Only the loader runs; nothing is trained. "ms" is how long the training
process waits for a batch: with 0 workers that is all of the work. Ultralytics has no quarter turns;
its mini row does flips only, which is less work than ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from yolostudy.data.augment import Augmentation
from yolostudy.data.formats import yolo
from yolostudy.data.loader import make_loader
from yolostudy.data.machine import available_cores
from yolostudy.data.records import DetectionSet, Record

BATCH = 16
LIGHT = Augmentation(flip_lr=0.5, flip_ud=0.5, quarter_turns=True)
HEAVY = Augmentation(mosaic=1.0, flip_lr=0.5, degrees=10, translate=0.1, scale=0.5, hsv=(0.015, 0.7, 0.4))
PROFILES = {"mini": (160, LIGHT), "laptop": (640, HEAVY)}
WANTED_MS = 2.0  # of the main process, for a mini batch without workers


def synthetic(folder: Path, images: int, side: int, seed: int = 0) -> DetectionSet:
    """Images of smooth noise, as large as photographs on disk, with one to nine boxes each."""
    rng, records = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    for number in range(images):
        noise = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        path = folder / f"{number:05}.jpg"
        cv2.imwrite(str(path), cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC))
        count = int(rng.integers(1, 10))
        corner = rng.uniform(0, 0.7 * side, (count, 2))
        boxes = np.concatenate((corner, corner + rng.uniform(0.05 * side, 0.3 * side, (count, 2))), axis=1).astype(
            np.float32
        )
        records.append(Record(path, (side, side), boxes, rng.integers(0, 20, count)))
    return DetectionSet("synthetic", tuple(f"A{number}" for number in range(1, 21)), records, split="train")


def ultralytics_loader(description: Path, side: int, strength: Augmentation, workers: int):
    """Ultralytics' training set with its RAM cache, in a plain torch loader.

    Its own InfiniteDataLoader would go on prefetching while others are timed.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset, seed_worker
    from ultralytics.data.utils import check_det_dataset

    hue, saturation, value = strength.hsv
    settings = {"imgsz": side, "cache": "ram", "task": "detect", "mixup": 0.0, "copy_paste": 0.0, "erasing": 0.0}
    settings |= {
        "mosaic": strength.mosaic,
        "fliplr": strength.flip_lr,
        "flipud": strength.flip_ud,
        "degrees": strength.degrees,
    }
    settings |= {
        "translate": strength.translate,
        "scale": strength.scale,
        "hsv_h": hue,
        "hsv_s": saturation,
        "hsv_v": value,
    }
    data = check_det_dataset(str(description))
    dataset = build_yolo_dataset(
        get_cfg(overrides=settings), data["train"], BATCH, data, mode="train", rect=False, stride=32
    )
    return torch.utils.data.DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dataset.collate_fn,
        worker_init_fn=seed_worker,
    )


def measure(loader, seconds: float) -> dict[str, float]:
    """Images per second, the median wait for a batch, and this process's CPU time for a batch.

    Measured over whole passes, after one to warm up. CPU time is the figure to trust while other
    programs run.
    """
    for _ in loader:
        pass
    waits, begin, cpu = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(len(waits))
        batches = iter(loader)
        while True:
            start = time.perf_counter()
            if next(batches, None) is None:
                break
            waits.append(time.perf_counter() - start)
    elapsed, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "images_per_second": BATCH * len(waits) / elapsed,
        "median_ms": 1000 * statistics.median(waits),
        "cpu_ms": 1000 * cpu / len(waits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--workers", type=int, default=available_cores(), help="beside 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ.setdefault("YOLO_VERBOSE", "false")

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for profile, (side, augmentation) in PROFILES.items():
            data = synthetic(Path(folder) / profile, options.images, side)
            description = yolo.write(data, Path(folder) / f"{profile}-yolo")
            for workers in (0, options.workers):
                ours = make_loader(
                    data,
                    side,
                    BATCH,
                    augmentation=augmentation,
                    shuffle=True,
                    drop_last=True,
                    workers=workers,
                    cache="ram",
                )
                theirs = ultralytics_loader(description, side, augmentation, workers)
                for name, loader in (("yolostudy", ours), ("ultralytics", theirs)):
                    rows.append(
                        {"profile": profile, "loader": name, "workers": workers, **measure(loader, options.seconds)}
                    )
                    loader._iterator = None  # ends its workers before the next row is timed

    print(f"\n{options.images} images, batch {BATCH}, all in RAM, {available_cores()} cores.\n")
    print(f"{'profile':<10}{'loader':<14}{'workers':>8}{'images/s':>11}{'ms/batch':>11}{'CPU ms':>9}")
    for row in rows:
        print(f"{row['profile']:<10}{row['loader']:<14}{row['workers']:>8}{row['images_per_second']:>11.0f}", end="")
        print(f"{row['median_ms']:>11.2f}{row['cpu_ms']:>9.2f}")
    first = rows[0]["median_ms"]
    met = first < WANTED_MS
    print(f"\na mini batch without workers in under {WANTED_MS:g} ms: {'met' if met else 'NOT met'}\n")
    print(json.dumps({"benchmark": "loading", "batch": BATCH, "cores": available_cores(), "rows": rows, "met": met}))


if __name__ == "__main__":
    main()
