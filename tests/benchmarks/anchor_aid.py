"""What the anchor branch is worth: `fuse_ab` against plain, at equal time, on planes mini.

    python -m tests.benchmarks.anchor_aid [--seconds 100] [--seeds 0 1 2] [--keep runs/anchor-aid] [--clock wall]

Each run has a process of its own, one thread, and its loader in the same process. A plain run and a
fused one of the same seed take turns, so that a slow hour of the machine meets both. The time of a
run is that of its training, validations included; the schedule follows the same clock. The clock
"processor" counts the processor time of the process and not the time that others take from it.

Measured are mAP50-95 and mAP50 of the last averaged weights on the test split, by `runs.val`. A run
that is done is kept as a row of `rows.jsonl` in the folder, and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.report import show

CLOCKS = ("processor", "wall")
KINDS = {"plain": "false", "fused": "true"}

ONE = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from yolostudy import engine, runs
from yolostudy.runs import presets

clock, seconds, seed, fuse_ab, folder = sys.argv[1:]
started = time.perf_counter(), time.process_time()
if clock == "processor":
    engine.time = SimpleNamespace(perf_counter=time.process_time)  # what the trainer calls seconds
keys = {"profile": "mini", "minutes": str(float(seconds) / 60), "seed": seed, "fuse_ab": fuse_ab}
preset = presets.load("planes.nano.cpu", **keys, workers="0", cache="ram", tensorboard="false")
trainer = runs.train(preset, Path(folder)).trainer
taken = {"wall": time.perf_counter() - started[0], "processor": time.process_time() - started[1]}
weights = {"weights": str(Path(folder) / "last.safetensors")}
found = runs.val(presets.load("planes.nano.cpu", profile="mini", **weights), "test")[0]
figures = {"map50_95": found.map50_95, "map50": found.map50, "steps": trainer.steps, "seconds": trainer.seconds}
print("ROW", json.dumps(figures | taken))
"""


def measure(kind: str, seed: int, options: argparse.Namespace) -> dict:
    """One run in a process of its own, and its row."""
    folder = options.keep / f"{kind}-{seed}-{options.clock}-{options.seconds:g}"  # else one run would go on in another
    environment = os.environ | {"YOLOSTUDY_USE": "reference", "OMP_NUM_THREADS": "1"}
    words = [options.clock, str(options.seconds), str(seed), KINDS[kind], str(folder)]
    done = subprocess.run([sys.executable, "-c", ONE, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    figures = json.loads(done.stdout.rsplit("ROW", 1)[1])
    return {"kind": kind, "seed": seed, "clock": options.clock, "asked": options.seconds, **figures}


def read(path: Path, options: argparse.Namespace) -> list[dict]:
    """The rows of earlier calls with the same clock and seconds."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if (row["clock"], row["asked"]) == (options.clock, options.seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=100.0, help="of training, for each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, default=Path("runs/anchor-aid"), help="a folder for runs and rows")
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    options = parser.parse_args()
    path = options.keep / "rows.jsonl"
    options.keep.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for kind in KINDS if seed % 2 == 0 else reversed(KINDS):
            if not any((row["kind"], row["seed"]) == (kind, seed) for row in read(path, options)):
                row = measure(kind, seed, options)
                with open(path, "a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, file=sys.stderr, flush=True)
    rows = {(row["kind"], row["seed"]): row for row in read(path, options)}
    columns = ("map50_95", "map50", "steps", "seconds", "processor", "wall")
    table = [(f"{kind}, seed {seed}", *(rows[kind, seed][name] for name in columns)) for kind, seed in sorted(rows)]
    differences = [rows["fused", seed]["map50_95"] - rows["plain", seed]["map50_95"] for seed in options.seeds]
    facts = {"fused minus plain, mAP50-95": differences, "mean of these": statistics.mean(differences)}
    title = f"fuse_ab on planes mini, test split, {options.seconds:g} s of {options.clock} time"
    show(title, ("run", "mAP50-95", "mAP50", *columns[2:]), table, facts)


if __name__ == "__main__":
    main()
