"""How fast `planes` is drawn, in seconds of one core.

    python -m tests.benchmarks.planes [--images 200]

Prints a table, then the same as one line of JSON. CPU time is counted, so that a busy machine gives
the same figures.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np

from yolostudy.data import planes
from yolostudy.data.planes.making import annotation, encode
from yolostudy.data.planes.sprites import maps


def measure(profile: str, images: int) -> dict[str, float | str]:
    """Pictures, aircraft and whole files (with JPEG and XML) a second of one core."""
    settings = planes.PROFILES[profile]
    start = time.process_time()
    for plane in settings.types:
        maps(plane, settings.finest)
    planes.render_scene(profile, 0, "train", 0)
    warm = time.process_time()
    scenes = [planes.render_scene(profile, 0, "train", index) for index in range(images)]
    drawn = time.process_time()
    for index, scene in enumerate(scenes):
        encode(scene.image)
        annotation(str(index), scene, settings.types)
    coded = time.process_time()
    aircraft = int(np.sum([len(scene.classes) for scene in scenes]))
    return {
        "profile": profile,
        "start_s": round(warm - start, 2),
        "images_per_s": round(images / (drawn - warm), 1),
        "aircraft_per_s": round(aircraft / (drawn - warm), 1),
        "files_per_s": round(images / (coded - warm), 1),
        "set_core_s": round(sum(settings.counts) * (coded - warm) / images, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="pictures of the mini profile; laptop draws a tenth")
    images = parser.parse_args().images
    cv2.setNumThreads(1)
    rows = [measure("mini", images), measure("laptop", max(images // 10, 1))]
    print("".join(f"{key:>16}" for key in rows[0]))
    for row in rows:
        print("".join(f"{value:>16}" for value in row.values()))
    print(json.dumps({"benchmark": "planes", "version": planes.VERSION, "rows": rows}))


if __name__ == "__main__":
    main()
