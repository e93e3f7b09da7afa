"""A training step alone and beside two busy processes, for several values of GOMP_SPINCOUNT.

    python -m tests.benchmarks.busy [--rounds 9] [--side 160] [--batch 16]

libgomp's threads wait for work in a loop of GOMP_SPINCOUNT turns, and then sleep. While they spin
they take a core from whoever has work, the other threads of their own step included. `import
yolostudy` sets a moderate count if the user has set none. The row "unset" shows a step without it.
Each figure has a process of its own, because libgomp reads the variable when torch is loaded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from tests.benchmarks.report import show

BUSY = "while True: pass"
COUNTS = ("unset", "0", "2000", "10000", "100000")


def step_seconds(rounds: int, side: int, batch: int) -> float:
    """Median seconds of a training step in fp32, with one more step first to warm up."""
    import torch

    from tests.benchmarks.steps import noise_batch
    from yolostudy.losses import DetectionLoss
    from yolostudy.network import YOLO
    from yolostudy.training import build_optimizer, train_step

    torch.manual_seed(0)
    model = YOLO(20).to(memory_format=torch.channels_last).train()
    loss, optimizer, images = DetectionLoss(model), build_optimizer(model), noise_batch(batch, side)
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        train_step(model, loss, images, optimizer)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def measure(count: str, others: int, options: argparse.Namespace) -> float:
    """Seconds of a step in a process of its own, beside so many busy ones."""
    unwanted = ("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    if count != "unset":
        environment["GOMP_SPINCOUNT"] = count
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
    try:
        call = f"step_seconds({options.rounds}, {options.side}, {options.batch})"
        # torch comes first, because yolostudy would set the variable that is measured here
        code = f"import torch; from tests.benchmarks.busy import step_seconds; print({call})"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 9), ("side", 160), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--counts", nargs="+", default=COUNTS, metavar="COUNT", help=" ".join(COUNTS))
    options = parser.parse_args()
    rows = []
    for count in options.counts:
        alone, beside = (measure(count, others, options) for others in (0, 2))
        rows.append((count, alone, beside, beside / alone))
        print(rows[-1], file=sys.stderr, flush=True)
    title = f"a training step, yolov8n, fp32, {options.side} px, batch {options.batch}"
    columns = ("GOMP_SPINCOUNT", "alone s", "beside two busy processes s", "ratio")
    show(title, columns, rows, {"rounds": options.rounds})


if __name__ == "__main__":
    main()
