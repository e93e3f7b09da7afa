"""What recording costs: a training step inside `trace.record` beside the same step alone.

    python -m tests.benchmarks.tracing [--rounds 9] [--side 64] [--images 4]

Three steps: Ultralytics' (its own packages watched), ours, and a plain torch loop over a small
network. Steps alone and recorded take turns, and the medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

from tests.benchmarks.report import show

LIMIT = 3.0


def steps(side: int, images: int) -> dict[str, tuple[Callable, tuple[str, ...]]]:
    """Name -> one training step, and the packages to watch in it."""
    from yolostudy.bridge import ultralytics as bridge
    from yolostudy.losses import DetectionLoss
    from yolostudy.network import YOLO
    from yolostudy.training import build_optimizer, train_step

    pictures = torch.randint(0, 255, (images, 3, side, side), dtype=torch.uint8)
    row = torch.tensor([0.0, 1, side * 0.2, side * 0.2, side * 0.7, side * 0.8])
    targets = torch.stack([row + torch.tensor([n, 0, 0, 0, 0, 0]) for n in range(images)])
    theirs = bridge.build("n", num_classes=20, seed=0)
    their_batch = {"img": pictures / 255, **bridge.to_batch(targets, (side, side))}
    their_optimizer = torch.optim.SGD(theirs.parameters(), 1e-4)

    def ultralytics():
        loss, _ = theirs(their_batch)
        loss.sum().backward()
        their_optimizer.step()
        their_optimizer.zero_grad()

    ours = YOLO(20)
    loss, optimizer = DetectionLoss(ours), build_optimizer(ours)
    batch = SimpleNamespace(images=pictures, targets=targets)
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
    )
    plain(pictures / 255)
    plain_optimizer = torch.optim.Adam(plain.parameters())

    def loop():
        value = nn.functional.cross_entropy(plain(pictures / 255), torch.zeros(images, dtype=torch.long))
        value.backward()
        plain_optimizer.step()
        plain_optimizer.zero_grad()

    return {
        "Ultralytics": (ultralytics, ("ultralytics",)),
        "ours": (lambda: train_step(ours, loss, batch, optimizer), ("yolostudy",)),
        "plain torch loop, torch.nn watched": (loop, ("torch.nn", __name__)),
    }


def measure(step: Callable, packages: tuple[str, ...], rounds: int) -> tuple[float, float, int]:
    """Median seconds alone and recorded, and how many calls were recorded."""
    from yolostudy import trace

    def calls(call) -> int:
        return 1 + sum(map(calls, call.calls))

    alone, recorded, tree = [], [], trace.record(step, packages=packages)
    for _ in range(rounds):
        for seconds, act in ((alone, step), (recorded, lambda: trace.record(step, packages=packages))):
            started = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - started)
    return statistics.median(alone), statistics.median(recorded), calls(tree) - 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--images", type=int, default=4)
    options = parser.parse_args()
    rows = []
    for name, (step, packages) in steps(options.side, options.images).items():
        alone, recorded, calls = measure(step, packages, options.rounds)
        rows.append((name, calls, alone * 1000, recorded * 1000, recorded / alone))
    show(
        f"recording a training step, {options.images} images of {options.side} px",
        ("step", "calls", "alone ms", "recorded ms", "ratio"),
        rows,
        {"limit": LIMIT, "met": max(row[-1] for row in rows) <= LIMIT},
    )


if __name__ == "__main__":
    main()
