"""The assigner and the whole loss beside Ultralytics', in time and in peak memory.

    python -m tests.benchmarks.loss [--images 16] [--side 640] [--boxes 100] [--classes 20]
        [--rounds 7]

The loss runs forward and backward. Both get the same maps and targets and take turns, and the
medians are compared. Peak memory is how much a process of its own grows in one pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

from tests.benchmarks.report import show


def build(options: argparse.Namespace):
    """Pairs (ours, theirs) of callables without arguments, for the assigner and for the loss."""
    from yolostudy.boxes import decode, make_anchors
    from yolostudy.bridge import ultralytics as oracle
    from yolostudy.losses import DetectionLoss, pad_targets
    from yolostudy.network import YOLO

    generator = torch.Generator().manual_seed(0)
    side, count = options.side, options.images * options.boxes
    maps = [
        torch.randn(options.images, 64 + options.classes, side // s, side // s, generator=generator)
        for s in (8, 16, 32)
    ]
    for level in maps:
        level[:, 64:] -= 3
    centre, extent = (
        torch.rand(count, 2, generator=generator) * side,
        (torch.rand(count, 2, generator=generator) * 0.2 + 0.02) * side,
    )
    boxes = torch.cat((centre - extent / 2, centre + extent / 2), dim=1).clamp(0, side)
    image = torch.arange(options.images).repeat_interleave(options.boxes)[:, None]
    targets = torch.cat(
        (image, torch.randint(0, options.classes, (count, 1), generator=generator), boxes), dim=1
    ).float()
    batch = oracle.to_batch(targets, (side, side))
    targets = oracle.pixel_targets(batch, (side, side))

    criterion, loss = oracle.Criterion(options.classes), DetectionLoss(YOLO(options.classes))
    labels, padded, mask = pad_targets(targets, options.images)
    predicted, scores = decode(maps)
    anchors, steps = make_anchors([level.shape[2:] for level in maps])
    anchors = anchors * steps

    def leaves():
        return [level.clone().requires_grad_() for level in maps]

    def ours():
        loss(leaves(), targets).total.backward()

    def theirs():
        criterion(leaves(), targets, (side, side)).total.backward()

    def our_assigner():
        loss.assigner(scores, predicted, anchors, labels, padded, mask)

    def their_assigner():
        criterion.loss.assigner(scores, predicted, anchors, labels[..., None].float(), padded, mask[..., None].float())

    return {"assigner": (our_assigner, their_assigner), "loss and backward": (ours, theirs)}


def peak(options: argparse.Namespace, what: str, whose: int) -> float:
    """MiB by which one pass makes the process grow."""
    arguments = [f"--{name}={getattr(options, name)}" for name in ("images", "side", "boxes", "classes")]
    command = [sys.executable, "-m", "tests.benchmarks.loss", *arguments, f"--peak={what}", f"--whose={whose}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure_peak(function) -> float:
    def resident(field: str) -> int:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field))

    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # resets the peak of the resident memory
    function()
    return (resident("VmHWM") - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 16), ("side", 640), ("boxes", 100), ("classes", 20), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--whose", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    pairs = build(options)
    if options.peak:
        print(measure_peak(pairs[options.peak][options.whose]))
        return

    rows = []
    for what, functions in pairs.items():
        seconds: tuple[list, list] = ([], [])
        for round_number in range(options.rounds + 1):
            for function, taken in zip(functions, seconds, strict=True):
                started = time.perf_counter()
                function()
                if round_number:  # the first warms up
                    taken.append(time.perf_counter() - started)
        ours, theirs = (statistics.median(taken) for taken in seconds)
        memory = [peak(options, what, whose) for whose in (0, 1)]
        rows.append((what, ours, theirs, theirs / ours, memory[0], memory[1]))
    title = f"{options.side} px, batch {options.images}, {options.boxes} boxes an image, {options.classes} classes"
    show(
        title,
        ("what", "ours s", "theirs s", "times faster", "ours MiB", "theirs MiB"),
        rows,
        {"options": json.loads(json.dumps(vars(options)))},
    )


if __name__ == "__main__":
    main()
