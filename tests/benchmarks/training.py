"""Training speed beside Ultralytics' own trainer, on the same files, size, batch and epochs.

    python -m tests.benchmarks.training [--epochs 2] [--rounds 2]

Two comparisons: each trainer as it ships, and both in fp32 on all cores. As it ships, Ultralytics
trains in fp32 and leaves one core free; ours takes all cores, and bf16 with channels-last memory
where the processor has bf16 units. Each run has a process of its own, and the two take turns.
Counted are the images of the training loop, without validation and saving. The first epoch warms
up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.report import show

OURS = """
import json, sys, time
import yolostudy; yolostudy.use("reference")
from pathlib import Path
from yolostudy import runs
from yolostudy.engine import Hook
from yolostudy.runs import presets
class Clock(Hook):
    rates = []
    def before_epoch(self, trainer): self.started, self.images = time.perf_counter(), 0
    def after_step(self, trainer): self.images += len(trainer.batch.images)
    def after_epoch(self, trainer): self.rates.append(self.images / (time.perf_counter() - self.started))
clock = Clock()
settings = json.loads(sys.argv[1])
run = runs.prepare(presets.load("planes.nano", **settings), Path(sys.argv[2]))
run.trainer.hooks.insert(0, clock)
run.trainer.hooks = [hook for hook in run.trainer.hooks if type(hook).__name__ not in ("Validation", "Checkpoint", "Progress")]
run.trainer.train()
print("RATES", json.dumps(clock.rates))
"""
THEIRS = """
import json, sys
from yolostudy.bridge import ultralytics as oracle
settings = json.loads(sys.argv[1])
result = oracle.fit(sys.argv[2], project=sys.argv[3], **settings)
spent = [0.0] + [epoch.training_seconds for epoch in result.history]
seen = [0] + [epoch.images for epoch in result.history]
print("RATES", json.dumps([(b - a) / (t - s) for a, b, s, t in zip(seen, seen[1:], spent, spent[1:])]))
"""


def rates(script: str, *arguments: str) -> list[float]:
    """Images a second of each epoch."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "YOLOSTUDY_USE")
    }
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.rsplit("RATES", 1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2, help="at least 2, because the first warms up (default: 2)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2, because the first epoch warms up and is not counted.")
    from yolostudy import data, runs
    from yolostudy.data.loader import available_cores

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sets = [runs.open_data("planes-mini", split) for split in ("train", "validation")]
        exported = str(data.write(sets, Path(folder) / "yolo", "yolo"))
        exported = exported if exported.endswith(".yaml") else f"{exported}/data.yaml"
        common = {"epochs": options.epochs, "batch": 16}
        for title, our_extra, their_extra in (
            ("as each ships", {}, {}),
            ("both fp32, all cores", {"precision": "fp32"}, {"threads": available_cores()}),
        ):
            measured: tuple[list, list] = ([], [])
            for number in range(options.rounds):
                ours = {**common, "profile": "mini", "minutes": 0.0, "tensorboard": False, **our_extra}
                measured[0].extend(rates(OURS, json.dumps(ours), str(Path(folder) / f"ours-{title}-{number}"))[1:])
                theirs = {**common, "imgsz": 160, **their_extra}
                measured[1].extend(
                    rates(THEIRS, json.dumps(theirs), exported, str(Path(folder) / f"theirs-{title}-{number}"))[1:]
                )
                time.sleep(1)
            ours, theirs = (statistics.median(values) for values in measured)
            rows.append((title, ours, theirs, ours / theirs))
            print(rows[-1], file=sys.stderr, flush=True)
    show(
        "training, planes mini, 160 px, batch 16",
        ("setting", "ours images/s", "theirs images/s", "times faster"),
        rows,
        {"epochs": options.epochs},
    )


if __name__ == "__main__":
    main()
