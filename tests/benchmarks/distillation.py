"""What a teacher costs in time and memory, and what it is worth in Ultralytics' own training.

    python -m tests.benchmarks.distillation [--side 160] [--batch 16] [--rounds 12]
        [--precision auto]
    python -m tests.benchmarks.distillation --train [--epochs 15] [--seed 0]

Time: whole training steps of nano (forward, loss, backward, update), with and without a teacher of
the same size, take turns in one process. A ratio is the median over the rounds of a step against
the plain step of its round; at most 1.6 is wanted. The last two rows are Ultralytics' network and
criterion in float32, plain and taught.

Memory: the most that the CPU's allocator has given out during a step, from PyTorch's profiler, and
the growth of another process over three steps. The teacher may add its weights and the activations
of one forward pass, which are the outputs of all its layers.

--train fine-tunes Ultralytics' nano from the teacher's weights on the 50 images of the few-shot
split, with its own trainer, twice: on labels alone, and with the teacher. Its own validator
measures.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks.loss import measure_peak
from tests.benchmarks.report import show
from tests.benchmarks.steps import noise_batch
from yolostudy.runs.folders import SHIPPED

TEACHER = SHIPPED / "planes-n-mini-teacher.safetensors"
CLASSES = [f"A{number}" for number in range(1, 21)]
LOSSES = {"plain": None, "CWD": (True, False), "KL": (False, True), "CWD + KL": (True, True)}


def our_step(options: argparse.Namespace, which: str, student: torch.nn.Module):
    """A training step of this course's engine, its teacher or None, and its precision."""
    from yolostudy.bridge.distillation import open_teacher
    from yolostudy.distill import ChannelWiseLoss, DistillationLoss, ResponseLoss
    from yolostudy.losses import DetectionLoss
    from yolostudy.training import Precision, build_optimizer, train_step

    model = copy.deepcopy(student)
    loss, teacher = DetectionLoss(model), None
    if LOSSES[which]:
        teacher = open_teacher(TEACHER)
        teacher.model.to(memory_format=torch.channels_last)
        feature, response = LOSSES[which]
        response = ResponseLoss(CLASSES, teacher.class_names) if response else None
        loss = DistillationLoss(loss, model, teacher, ChannelWiseLoss() if feature else None, response)
    precision = Precision("cpu", options.precision)
    return (
        partial(train_step, model, loss, noise_batch(options.batch, options.side), build_optimizer(model), precision),
        teacher,
        precision,
    )


def a_student() -> torch.nn.Module:
    from yolostudy.network import YOLO

    torch.manual_seed(0)
    return YOLO(len(CLASSES)).to(memory_format=torch.channels_last).train()


def their_steps(options: argparse.Namespace) -> list:
    """The same with Ultralytics' network and criterion, plain and taught."""
    from yolostudy.bridge import ultralytics as bridge
    from yolostudy.bridge.distillation import Lesson
    from yolostudy.distill import ChannelWiseLoss, ResponseLoss

    batch = noise_batch(options.batch, options.side)
    images = batch.images.contiguous().float() / 255
    labels = {"img": images, **bridge.to_batch(batch.targets, images.shape[2:])}
    steps = []
    for lesson in (None, Lesson(TEACHER, ChannelWiseLoss(), ResponseLoss, 10.0, 300.0)):
        model = bridge.build("n", len(CLASSES), seed=0).train()
        model.names = dict(enumerate(CLASSES))
        if lesson:
            lesson.attach(model)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

        def step(model=model, optimizer=optimizer):
            model(labels)[0].sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()

        steps.append(step)
    return steps


def measure_time(options: argparse.Namespace) -> None:
    student = a_student()
    steps = {}
    for which in LOSSES:
        steps[which], teacher, precision = our_step(options, which, student)
    images = noise_batch(options.batch, options.side).images.float() / 255

    def forward_alone():
        with precision.autocast():
            teacher(images)

    steps["teacher's forward"] = forward_alone
    plain, taught = their_steps(options)
    steps |= {"Ultralytics plain": plain, "Ultralytics taught": taught}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, taken in seconds.items():
        base = seconds["Ultralytics plain" if name.startswith("Ultralytics") else "plain"]
        ratio = statistics.median(mine / other for mine, other in zip(taken, base, strict=True))
        rows.append((name, 1000 * statistics.median(taken), ratio))
    title = f"a step with a teacher, yolov8n, {options.side} px, batch {options.batch}, {precision.name}"
    show(title, ("what", "ms", "of a plain step"), rows, {"rounds": options.rounds})


def allocated(function) -> float:
    """MiB that the CPU's allocator gives out during a call, at the peak."""
    from torch.profiler import ProfilerActivity, profile

    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    live = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / 2**20


def outputs(model: torch.nn.Module, images: torch.Tensor, precision) -> float:
    """MiB of the outputs of all layers in one forward pass; each storage counts once."""
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is used twice

    def keep(_module, _inputs, output):
        for tensor in output if isinstance(output, list | tuple) else [output]:
            if isinstance(tensor, torch.Tensor):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()

    handles = [module.register_forward_hook(keep) for module in model.modules()]
    with torch.no_grad(), precision.autocast():
        model(images)
    for handle in handles:
        handle.remove()
    return sum(storage.nbytes() for storage in storages.values()) / 2**20


def measure_memory(options: argparse.Namespace) -> None:
    student = a_student()
    images = noise_batch(options.batch, options.side).images.float() / 255
    peaks = {}
    for which in ("plain", "CWD + KL"):
        step, teacher, precision = our_step(options, which, student)
        words = [f"--{name}={getattr(options, name)}" for name in ("side", "batch", "precision")]
        command = [sys.executable, "-m", __spec__.name, *words, f"--peak={which}"]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[which] = allocated(step), float(process.stdout.split()[-1])
    weights = sum(tensor.nbytes for tensor in teacher.model.state_dict().values()) / 2**20
    forward = outputs(teacher.model, images, precision)
    (plain, plain_process), (taught, taught_process) = peaks.values()
    rows = [
        ("a plain step", plain, plain_process),
        ("with CWD + KL", taught + weights, taught_process),
        ("what the teacher adds", taught + weights - plain, taught_process - plain_process),
        ("its weights and one forward's activations", weights + forward, weights + forward),
    ]
    title = f"memory with a teacher, yolov8n, {options.side} px, batch {options.batch}, {precision.name}"
    show(title, ("what", "allocator MiB", "process MiB"), rows, {"weights MiB": weights, "activations MiB": forward})


def process_peak(options: argparse.Namespace) -> float:
    """MiB by which this process grows at most, while it builds a network and does three steps."""
    from yolostudy.runs.running import keep_freed_memory

    keep_freed_memory()  # as `yolostudy train` does

    def run():
        step = our_step(options, options.peak, a_student())[0]
        for _ in range(3):
            step()

    return measure_peak(run)


def fine_tune(options: argparse.Namespace) -> None:
    from yolostudy import data, runs
    from yolostudy.bridge import checkpoints, scenes
    from yolostudy.bridge import ultralytics as bridge
    from yolostudy.bridge.distillation import teach
    from yolostudy.runs.presets import BASE, NOVEL

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        few, judged = (runs.open_data("planes-mini", split) for split in ("small", "validation"))
        described = str(data.write([replace(few, split="train"), judged], Path(folder) / "planes", "yolo"))
        weights, card = checkpoints.load(TEACHER)
        start = Path(folder) / "teacher.pt"
        torch.save(checkpoints.make(weights, card["classes"], "n", 160), start)
        recipe = dict(
            optimizer="AdamW",
            lr0=1e-3,
            warmup_epochs=2.0,
            nbs=16,
            cls=2.0,
            flipud=0.5,
            scale=0.0,
            translate=0.0,
            hsv_h=0.0,
        )
        for name in ("labels alone", "with the teacher"):
            settings = dict(model=str(start), data=described, pretrained=True, seed=options.seed, batch=16, val=False)
            started = time.perf_counter()
            with scenes.trainer("detect", side=160, epochs=options.epochs, **settings, **recipe) as trainer:
                if name == "with the teacher":
                    teach(trainer, TEACHER)
                trainer.train()
                seconds = time.perf_counter() - started
                scores = bridge.validate(trainer.last, described, imgsz=160)
            groups = [statistics.fmean(scores.per_class[one] for one in group) for group in (BASE, NOVEL)]
            rows.append((name, *groups, scores.map50, scores.map50_95, seconds))
            print(rows[-1], file=sys.stderr, flush=True)
    title = f"Ultralytics' trainer on 50 images, {options.epochs} epochs, seed {options.seed}: validation"
    show(title, ("run", "mAP50 base", "mAP50 novel", "mAP50 all", "mAP50-95 all", "seconds"), rows, {"recipe": recipe})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 160), ("batch", 16), ("rounds", 12), ("epochs", 15), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--train", action="store_true", help="compare in Ultralytics' trainer instead")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(process_peak(options))
    elif options.train:
        fine_tune(options)
    else:
        measure_time(options)
        measure_memory(options)


if __name__ == "__main__":
    main()
