"""How fast Ultralytics' own trainer learns a data set, as a table and as JSON.

    python -m tests.benchmarks.ultralytics_baseline DATA.yaml [--epochs 100] [--imgsz 160]
        [--stop-at 0.5] [--budget 600] [mosaic=0.0 …]
    python -m tests.benchmarks.ultralytics_baseline --shapes 200      a quick made-up set instead

It runs in a process of its own, so that neither trainer inherits the other's threads. The last line
of the output is the JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import yaml

from yolostudy.bridge import ultralytics as bridge

SHAPES = ("square", "disc", "triangle")


def draw_shapes(folder: Path, train: int = 200, val: int = 50, size: int = 160, seed: int = 0) -> Path:
    """A set that is quick to draw and to learn: one to three filled shapes on noise.

    In YOLO's layout; returns its data.yaml.
    """
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            image = random.integers(60, 120, (size, size, 3), dtype=np.uint8)
            rows = []
            for _ in range(random.integers(1, 4)):
                kind, radius = int(random.integers(len(SHAPES))), int(random.integers(size // 12, size // 6))
                x, y = (int(v) for v in random.integers(radius, size - radius, 2))
                colour = tuple(int(v) for v in random.integers(130, 256, 3))
                if kind == 0:
                    cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), colour, -1)
                elif kind == 1:
                    cv2.circle(image, (x, y), radius, colour, -1)
                else:
                    cv2.fillPoly(
                        image, [np.array([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)])], colour
                    )
                rows.append(f"{kind} {x / size:.6f} {y / size:.6f} {2 * radius / size:.6f} {2 * radius / size:.6f}")
            cv2.imwrite(str(images / f"{number:05}.jpg"), image)
            (labels / f"{number:05}.txt").write_text("\n".join(rows) + "\n")
    description = folder / "data.yaml"
    text = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(SHAPES)),
    }
    description.write_text(yaml.safe_dump(text))
    return description


def _show(epoch: bridge.Epoch) -> None:
    number, images, wall, training, map50, map50_95 = epoch
    print(f"{number:5d} {images:8d} {wall:9.1f} {training:9.1f} {map50:8.3f} {map50_95:9.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "words", nargs="*", metavar="DATA.yaml | key=value", help="the data set, and settings of Ultralytics' own"
    )
    parser.add_argument("--shapes", type=int, default=200, help="images of the made-up set, where no data is given")
    parser.add_argument("--size", default="n")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, help="of torch; by default Ultralytics' own choice, one less than there are cores"
    )
    parser.add_argument("--stop-at", type=float, help="mAP50 at which to stop")
    parser.add_argument("--budget", type=float, help="wall seconds after which to stop")
    arguments = parser.parse_args()
    overrides = {
        key: yaml.safe_load(value) for key, equals, value in (word.partition("=") for word in arguments.words) if equals
    }
    data = next((Path(word) for word in arguments.words if "=" not in word), None)

    with tempfile.TemporaryDirectory() as folder:
        data = data or draw_shapes(Path(folder) / "shapes", train=arguments.shapes, size=arguments.imgsz)
        print("epoch   images  wall [s] train [s]    mAP50  mAP50-95")
        result = bridge.fit(
            data,
            arguments.epochs,
            arguments.imgsz,
            arguments.batch,
            arguments.seed,
            project=Path(folder) / "runs",
            callback=_show,
            size=arguments.size,
            stop_at_map50=arguments.stop_at,
            budget_seconds=arguments.budget,
            threads=arguments.threads,
            **overrides,
        )
    print(
        f"{result.images_per_second:.1f} images/s in the training loop; {result.seconds:.1f} s, "
        f"{result.total_seconds:.1f} s in all"
    )
    report = {
        "images_per_second": result.images_per_second,
        "seconds": result.seconds,
        "total_seconds": result.total_seconds,
        "seconds_to_map50": {str(wished): result.seconds_to(wished) for wished in (0.5, 0.6, 0.9)},
        "settings": result.settings,
        "history": [epoch._asdict() for epoch in result.history],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
