"""The study: every training that this course leads up to, over several seeds, in one table.

Each run has a process of its own, because its peak memory is measured, and a folder of its own with
its figures in `result.json`. A finished run is not run again, and an interrupted one continues. The
table is written anew after each run.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from . import presets
from .folders import SHIPPED, read_preset, runs_folder
from .presets import BASE, NOVEL, Preset, PresetError

DATA = ("planes", "mar20")
GROUPS = {"base": BASE, "novel": NOVEL, "all": BASE + NOVEL}
COLUMNS = [f"{figure} {group}" for figure in ("mAP50", "mAP50-95") for group in GROUPS] + ["minutes", "GiB"]

# What is compared
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """One way to train, run once per seed; a line of the table.

    Attributes:
        name: in the table and of the folders.
        tags: of its preset, after data and size. overrides: its other settings.
        length: which number of epochs it trains, "full", "teacher" or "student"; see EPOCHS.
        teacher: "" for none; "start" from the weights of the seed's teacher; "learn" from it too.
    """

    name: str
    tags: str
    overrides: dict
    length: str
    teacher: str = ""


TEACHER = Experiment("teacher", "teacher", {}, "teacher")
EXPERIMENTS = (
    Experiment("from scratch", "", {}, "full"),
    Experiment("pretrained", "pretrained", {}, "full"),
    TEACHER,
    Experiment("fine-tuned", "fewshot", {}, "student", "start"),
    Experiment("CWD", "distillation", {"response": ""}, "student", "learn"),
    Experiment("KL", "distillation", {"feature": ""}, "student", "learn"),
    Experiment("KL softmax", "distillation", {"feature": "", "response": "softmax"}, "student", "learn"),
    Experiment("CWD + KL", "distillation", {}, "student", "learn"),
    Experiment("CWD + KL without EMA", "distillation", {"ema": 0.0}, "student", "learn"),
)
# The laptop profile has the founding assignment's epochs, with one exception: from scratch trains
# for the 120 epochs of pretrained instead of 200, so that the two can be compared.
EPOCHS = {
    "mini": {"full": 8, "teacher": 16, "student": 60},
    "laptop": {"full": 120, "teacher": 150, "student": 150},
}


def preset_of(
    experiment: Experiment, data: str, seed: int, teacher: Path, backbone: str, settings: Mapping[str, str]
) -> Preset:
    """The preset of one run, as `yolostudy train` would load it; `settings` override all else."""
    tags = ".".join(part for part in (data, "nano", experiment.tags) if part)
    chosen = {
        "seed": seed,
        "tensorboard": False,
        "validate_seconds": 1e9,
        **experiment.overrides,
    }  # validate at the end
    if experiment.teacher:
        chosen["teacher" if experiment.teacher == "learn" else "weights"] = str(teacher)
    if experiment.name == "pretrained":
        chosen["weights"] = backbone
    preset = presets.load(tags, **(chosen | settings))
    if "epochs" in settings or "minutes" in settings:
        return preset
    return replace(preset, epochs=EPOCHS[preset.profile][experiment.length], minutes=0.0)


@dataclass(frozen=True)
class PlannedRun:
    """An experiment with one seed."""

    experiment: Experiment
    folder: Path
    preset: Preset


def plan(
    data: str,
    seeds: Sequence[int],
    experiments: Sequence[Experiment],
    out: Path,
    backbone: str,
    settings: Mapping[str, str],
) -> list[PlannedRun]:
    """Every run of the study. Teachers come first, because students need their weights."""
    if TEACHER not in experiments and any(experiment.teacher for experiment in experiments):
        experiments = [TEACHER, *experiments]
    planned = []
    for experiment in sorted(experiments, key=lambda experiment: bool(experiment.teacher)):
        for seed in seeds:
            folder = out / f"{re.sub('[^A-Za-z]+', '-', experiment.name)}-s{seed}"
            teacher = out / f"{TEACHER.name}-s{seed}" / "last.safetensors"
            preset = preset_of(experiment, data, seed, teacher, backbone, settings)
            planned.append(PlannedRun(experiment, folder, replace(preset, name=folder.name)))
    return planned


# One run
# --------------------------------------------------------------------------------------------------


def result(folder: Path) -> dict | None:
    """The figures of a finished run."""
    path = folder / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def execute(folder: Path, preset: Preset, threads: int = 0) -> None:
    """Run in a process of its own, which continues an interrupted run.

    Args:
        threads: that torch may use; 0 leaves it to torch.

    Errors: PresetError where the folder holds a run with other settings, or where the run failed,
    with the last line that it printed.
    """
    if (folder / "preset.json").is_file():
        there = read_preset(folder)
        if changed := [key for key in presets.KEYS if getattr(there, key) != getattr(preset, key)]:
            what = ", ".join(f"{key}={getattr(there, key)} instead of {getattr(preset, key)}" for key in changed)
            raise PresetError(f"{folder}: holds a run with {what}. Name another folder by out=, or delete this one.")
        if result(folder):
            return
    environment = dict(os.environ) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, "-m", __spec__.name, str(folder), json.dumps(presets.to_dict(preset))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise PresetError(f"{folder.name} did not finish: {last}")


def run_here(folder: Path, preset: Preset) -> None:
    """Train in this process, and write the figures into the folder."""
    from .. import hooks
    from .builders import choose_device
    from .running import train

    run = train(preset, folder)
    found = {
        "per_class": {c.name: [c.ap50, c.ap50_95] for c in run.evaluation.per_class},
        "minutes": run.trainer.seconds / 60,
        "GiB": peak_memory(choose_device(preset.device)) / 2**30,
    }
    text = json.dumps(found, indent=1) + "\n"
    hooks.replace_file(folder / "result.json", lambda draft: draft.write_text(text, encoding="utf-8"))


def peak_memory(device) -> float:
    """The most bytes in use so far: by tensors on a CUDA card, by the whole process on a CPU.

    NaN where the system does not say it.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # of Linux; ru_maxrss would start from the parent's peak
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), float("nan"))


# The table
# --------------------------------------------------------------------------------------------------

Table = dict[str, dict[str, list[float]]]  # name of an experiment -> column -> one value per finished run


def figures(found: dict) -> dict[str, float]:
    """The columns of one run, without the groups of which it does not know every class."""
    row = {key: found[key] for key in ("minutes", "GiB")}
    for place, figure in enumerate(("mAP50", "mAP50-95")):
        for group, classes in GROUPS.items():
            values = [found["per_class"][name][place] for name in classes if name in found["per_class"]]
            if len(values) == len(classes):
                row[f"{figure} {group}"] = statistics.fmean(values)
    return row


def gather(planned: Sequence[PlannedRun]) -> Table:
    """The figures of every run that has finished so far."""
    table: Table = {}
    for experiment in EXPERIMENTS:
        mine = [run for run in planned if run.experiment == experiment]
        if done := [figures(found) for run in mine if (found := result(run.folder))]:
            table[experiment.name] = {column: [run[column] for run in done if column in run] for column in COLUMNS}
    return table


def as_text(table: Table, title: str) -> str:
    """The table for people: mean and standard deviation over the seeds."""
    lines = [title, "", f"{'':<22}" + "".join(f"{column:>15}" for column in COLUMNS) + f"{'runs':>6}"]
    for name, columns in table.items():
        cells = "".join(f"{_mean_and_deviation(values):>15}" for values in columns.values())
        lines.append(f"{name:<22}{cells}{len(columns['minutes']):>6}")
    return "\n".join(lines)


def _mean_and_deviation(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def as_csv(table: Table) -> str:
    """The table for programs; `views.read_study` reads it back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "runs", *(f"{column} {what}" for column in COLUMNS for what in ("mean", "deviation"))])
    for name, columns in table.items():
        cells = []
        for values in columns.values():
            mean = f"{statistics.fmean(values):.4f}" if values else ""
            cells += [mean, f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""]
        writer.writerow([name, len(columns["minutes"]), *cells])
    return text.getvalue()


def write(table: Table, out: Path, title: str) -> str:
    """Write the table as text, as CSV and as a figure. Returns the text."""
    from ..canvas import style
    from ..hooks import replace_file
    from ..views import draw_study

    text = as_text(table, title)
    replace_file(out / "table.txt", lambda draft: draft.write_text(text + "\n", encoding="utf-8"))
    replace_file(out / "table.csv", lambda draft: draft.write_text(as_csv(table), encoding="utf-8"))
    picture = style.as_png(draw_study(table, title))
    replace_file(out / "table.png", lambda draft: draft.write_bytes(picture))
    return text


# The whole study
# --------------------------------------------------------------------------------------------------


def study(
    data: str,
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] = (),
    out: str | Path = "",
    backbone: str = "",
    jobs: int = 1,
    threads: int = 0,
    settings: Mapping[str, str] | None = None,
) -> tuple[str, Path]:
    """Run every experiment with every seed.

    Returns the table as text, and the folder that holds every run and the table.

    Args:
        data: "planes" or "mar20".
        names: of the experiments to run; empty runs all.
        out: the folder; by default `table-DATA` among the runs.
        backbone: weights that `pretrained` starts from; by default the shipped ones.
        jobs: how many runs at a time. threads: of each; 0 leaves it to torch.
        settings: keys of a preset that override those of every experiment.
    """
    if data not in DATA:
        raise PresetError(f"study-table: unknown data {data!r}; choose {' or '.join(DATA)}.")
    known = {experiment.name: experiment for experiment in EXPERIMENTS}
    if unknown := [name for name in names if name not in known]:
        raise PresetError(f"rows={unknown[0]}: there is no such row. Rows: {', '.join(known)}.")
    out = Path(out or runs_folder() / f"table-{data}")
    backbone = backbone or str(SHIPPED / "backbone-n-planes.safetensors")
    planned = plan(data, seeds, [known[name] for name in names or known], out, backbone, settings or {})
    out.mkdir(parents=True, exist_ok=True)
    profile = planned[0].preset.profile
    title = f"{data}, {profile}, YOLOv8 nano, validation, {len(seeds)} seed(s): mean ± standard deviation"
    with tqdm(total=len(planned), unit="run") as bar:
        for needs_teacher in (False, True):
            phase = [run for run in planned if bool(run.experiment.teacher) == needs_teacher]
            with ThreadPoolExecutor(max(1, jobs)) as pool:
                waiting = {pool.submit(execute, run.folder, run.preset, threads): run for run in phase}
                try:
                    for done in as_completed(waiting):
                        done.result()
                        bar.update()
                        bar.set_postfix_str(waiting[done].folder.name)
                        write(gather(planned), out, title)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    return write(gather(planned), out, title), out


if __name__ == "__main__":
    run_here(Path(sys.argv[1]), presets.from_dict(json.loads(sys.argv[2])))
