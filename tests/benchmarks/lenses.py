"""What the NaN microscope and the flight recorder add to a training step, as ratios within one run.

    python -m tests.benchmarks.lenses [--rounds 30] [--side 160] [--batch 4]

Each round runs a bare step, then a step with each lens, so that a busy machine slows all of them.
Counted is the time of the processor, so that other programs do not count. The ratio is that of the
medians; its spread is the middle half of the rounds' own ratios. "again" is the bare step once
more: it says how far ratios can be trusted. Wanted: microscope at most 1.5, recorder at most 1.03.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from tests.benchmarks.report import show
from tests.benchmarks.steps import noise_batch
from yolostudy.bridge import ultralytics as oracle
from yolostudy.engine import Trainer
from yolostudy.lens import NaNMicroscope
from yolostudy.lens import flight_recorder as recorder
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.training import Precision, build_optimizer, train_step


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def ours(size: int, side: int, precision: str) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = YOLO(20, "n").train()
    loss, batch = DetectionLoss(model), noise_batch(size, side)
    trainer = Trainer(model, loss, [batch], build_optimizer(model, 1e-5), train_step, Precision("cpu", precision))
    trainer.batch = batch

    def bare() -> None:
        trainer.call("before_step")
        trainer.run_step(0)
        trainer.call("after_step")

    def microscope() -> None:
        with NaNMicroscope() as scope:
            bare()
        assert scope.finding is None, scope.finding

    recorder(trainer, show=None).attach()
    hooks = list(trainer.hooks)

    def recorded() -> None:
        trainer.hooks[:] = hooks
        bare()
        trainer.hooks.clear()

    def within() -> float:
        """A recorded step; returns the seconds that the recorder took."""
        trainer.hooks[:] = hooks
        before = seconds(lambda: trainer.call("before_step"))
        trainer.run_step(0)
        after = seconds(lambda: trainer.call("after_step"))
        trainer.hooks.clear()
        return before + after

    trainer.hooks.clear()
    return {"bare": bare, "again": bare, "microscope": microscope, "recorder": recorded, "1 + recorder's own": within}


def theirs(size: int, side: int) -> dict[str, Callable[[], object]]:
    """Ultralytics' own network and loss in a plain loop."""
    oracle.load()
    from ultralytics.cfg import get_cfg

    model = oracle.build("n", num_classes=20, seed=0).train()
    model.args = get_cfg()
    batch = noise_batch(size, side)
    boxes = batch.targets[:, 2:] / side
    boxes = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1)
    data = {
        "img": batch.images.float() / 255,
        "batch_idx": batch.targets[:, 0],
        "cls": batch.targets[:, 1:2],
        "bboxes": boxes,
    }
    optimizer = torch.optim.SGD(model.parameters(), 1e-5, momentum=0.9, nesterov=True)

    def bare() -> None:
        model(data)[0].sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    def microscope() -> None:
        with NaNMicroscope() as scope:
            bare()
        assert scope.finding is None, scope.finding

    return {"bare": bare, "again": bare, "microscope": microscope}


def ratios(kinds: dict[str, Callable[[], object]], rounds: int) -> list[tuple[str, float, float, float, float]]:
    """Name, median seconds, ratio to the bare step, and the quartiles of the rounds' own ratios.

    A kind whose name begins with "1 +" returns the seconds that the lens itself took. They are
    compared with the bare step.
    """
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds + 2):
        names = list(kinds) if number % 2 else list(kinds)[::-1]
        for name in names:
            spent = kinds[name]() if name.startswith("1 +") else seconds(kinds[name])
            if number >= 2:
                times[name].append(spent)
    base, rows = times["bare"], []
    for name, spent in times.items():
        one = 1.0 if name.startswith("1 +") else 0.0
        quartiles = statistics.quantiles([one + mine / other for mine, other in zip(spent, base, strict=True)], n=4)
        ratio = one + statistics.median(spent) / statistics.median(base)
        rows.append((name, statistics.median(spent), ratio, quartiles[0], quartiles[2]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    rows = []
    for title, kinds in (
        ("ours fp32", ours(options.batch, options.side, "fp32")),
        ("ours bf16", ours(options.batch, options.side, "bf16")),
        ("Ultralytics fp32", theirs(options.batch, options.side)),
    ):
        rows += [(f"{title}, {name}", *rest) for name, *rest in ratios(kinds, options.rounds)]
    show(
        f"lenses over a training step, yolov8n, {options.side} px, batch {options.batch}",
        ("step", "seconds", "ratio", "lower quartile", "upper quartile"),
        rows,
        {"rounds": options.rounds, "targets": {"microscope": 1.5, "recorder": 1.03}},
    )


if __name__ == "__main__":
    main()
