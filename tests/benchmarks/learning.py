"""How fast a detector learns planes from scratch, beside Ultralytics' trainer.

    python -m tests.benchmarks.learning [--minutes 1.5 5] [--seeds 0 1 2] [--theirs-budget 600]
        [--skip-theirs] [--keep FOLDER]

Each run has a process of its own. Ours, for each seed: the figures after so many minutes, and the
second at which a validation first showed mAP50 0.50. Theirs, with its own defaults on the same
files: when its own validation first showed mAP50 0.50, or that it did not within the budget.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.report import show

THEIRS = """
import json, sys
from yolostudy.bridge import ultralytics as oracle
result = oracle.fit(sys.argv[1], imgsz=160, batch=16, project=sys.argv[2], stop_at_map50=0.5, budget_seconds=float(sys.argv[3]))
last = result.history[-1]
print("RESULT", json.dumps([result.seconds_to(0.5), last.wall_seconds, last.map50, last.map50_95, last.number]))
"""


def run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"YOLOSTUDY_USE": "reference", "YOLOSTUDY_HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout


def ours(minutes: float, seed: int, folder: Path) -> tuple[float, float, float, float | None]:
    """mAP50 and mAP50-95 at the end, the seconds it took, and the seconds until 0.50 was seen."""
    command = [sys.executable, "-m", "yolostudy.command", "train", "planes.nano", "profile=mini"]
    run([*command, f"minutes={minutes}", f"seed={seed}", "name=run", "tensorboard=false"], folder)
    with open(folder / "runs" / "run" / "results.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["map50"]]
    reached = next((float(row["seconds"]) for row in rows if float(row["map50"]) >= 0.5), None)
    return float(rows[-1]["map50"]), float(rows[-1]["map50_95"]), float(rows[-1]["seconds"]), reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.5, 5.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--theirs-budget", type=float, default=600.0, help="seconds")
    parser.add_argument("--skip-theirs", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the runs; without it they are deleted")
    options = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in options.minutes:
            for seed in options.seeds:
                map50, map50_95, seconds, reached = ours(
                    minutes, seed, (options.keep or Path(scratch)) / f"{minutes}-{seed}"
                )
                rows.append(
                    (f"ours, {minutes:g} min, seed {seed}", map50, map50_95, round(seconds), reached and round(reached))
                )
                print(rows[-1], file=sys.stderr, flush=True)
        if not options.skip_theirs:
            from yolostudy import data, runs

            sets = [runs.open_data("planes-mini", split) for split in ("train", "validation")]
            exported = data.write(sets, Path(scratch) / "yolo", "yolo")
            printed = run(
                [sys.executable, "-c", THEIRS, str(exported), scratch, str(options.theirs_budget)], Path(scratch)
            )
            reached, seconds, map50, map50_95, epochs = json.loads(printed.rsplit("RESULT", 1)[1])
            rows.append((f"Ultralytics, {epochs} epochs", map50, map50_95, round(seconds), reached and round(reached)))
    show(
        "learning, planes mini, 160 px, batch 16, from scratch",
        ("run", "mAP50", "mAP50-95", "seconds", "seconds to 0.50"),
        rows,
        {},
    )


if __name__ == "__main__":
    main()
