"""What a teacher costs in an epoch of Ultralytics' own PoseTrainer.

    python -m tests.benchmarks.pose_teacher [--side 160] [--images 64] [--batch 16] [--rounds 3]

The training loops of whole epochs are timed, loading and updates included, validation and saving
not, which a teacher does not touch. A plain run and a taught one take turns. Each has one epoch
more, which warms up and is not counted. The ratio is that of the medians; at most 1.6 is wanted.
The teacher is of the student's size and untrained, which costs as much as a trained one. Each of
the teacher's parts is timed as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.report import show
from yolostudy import data, runs
from yolostudy.bridge import scenes
from yolostudy.bridge.distillation import teach
from yolostudy.bridge.pose_teachers import a_teacher

KINDS = {
    "plain": None,
    "taught": {},
    "response alone": {"feature": None, "keypoint": None},
    "keypoints alone": {"feature": None, "response": None},
}


def write(folder: Path, images: int) -> str:
    """The first images of planes mini in YOLO's layout; validation has four."""
    splits = runs.open_data("planes-mini", "train"), runs.open_data("planes-mini", "validation")
    few = [replace(one, records=one.records[:count]) for one, count in zip(splits, (images, 4), strict=True)]
    return str(data.write(few, folder / "planes", "yolo"))


def epochs(options: argparse.Namespace, described: str, teaching: dict | None) -> list[float]:
    """Seconds of the training loop of each epoch but the first."""
    started, taken = [], []
    settings = dict(data=described, batch=options.batch, epochs=options.rounds + 1, val=False, mosaic=0.0)
    with scenes.trainer("pose", side=options.side, **settings) as trainer:
        if teaching is not None:
            teach(trainer, a_teacher(), **teaching)
        trainer.add_callback("on_train_epoch_start", lambda _: started.append(time.perf_counter()))
        trainer.add_callback("on_train_epoch_end", lambda _: taken.append(time.perf_counter() - started[-1]))
        trainer.train()
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 160), ("images", 64), ("batch", 16), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        described = write(Path(folder), options.images)
        seconds: dict[str, list[float]] = {name: [] for name in KINDS}
        for _ in range(2):
            for name, teaching in KINDS.items():
                seconds[name] += epochs(options, described, teaching)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    rows = [(name, 1000 * value, value / medians["plain"]) for name, value in medians.items()]
    title = (
        f"an epoch of PoseTrainer, yolov8n-pose, {options.images} images of {options.side} px, batch {options.batch}"
    )
    show(title, ("what", "ms", "of a plain epoch"), rows, {"rounds": options.rounds})


if __name__ == "__main__":
    main()
