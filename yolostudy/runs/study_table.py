"""`yolostudy study-table planes`: the runs that this course leads up to, over several seeds, in one
table.

Each run has a process of its own, for its peak memory, and a folder of its own with the answer in
`result.json`. What is there already is not run again, and a run that was interrupted goes on. The
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from . import presets
from .presets import BASE, NOVEL, Preset, PresetError

GROUPS = {"base": BASE, "novel": NOVEL, "all": BASE + NOVEL}
COLUMNS = [f"{figure} {group}" for figure in ("mAP50", "mAP50-95") for group in GROUPS] + ["minutes", "GiB"]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: in the table, and of the folders.
        tags: of its preset, after data and size. overrides: its other settings.
        length: which number of epochs it has, "full", "teacher" or "student".
        teacher: "" for none; "start" from the weights of the seed's teacher; "learn" from it as
            well.
    """

    name: str
    tags: str
    overrides: dict
    length: str
    teacher: str = ""


ROWS = (
    Row("from scratch", "", {}, "full"),
    Row("pretrained", "pretrained", {}, "full"),
    Row("teacher", "teacher", {}, "teacher"),
    Row("fine-tuned", "fewshot", {}, "student", "start"),
    Row("CWD", "distillation", {"response": ""}, "student", "learn"),
    Row("KL", "distillation", {"feature": ""}, "student", "learn"),
    Row("KL softmax", "distillation", {"feature": "", "response": "softmax"}, "student", "learn"),
    Row("CWD + KL", "distillation", {}, "student", "learn"),
    Row("CWD + KL without EMA", "distillation", {"ema": 0.0}, "student", "learn"),
)
# of the laptop profile the founding assignment's; but from scratch has the 120 of pretrained, not
# its 200, for equal epochs
EPOCHS = {
    "mini": {"full": 8, "teacher": 16, "student": 60},
    "laptop": {"full": 120, "teacher": 150, "student": 150},
}


def preset_of(row: Row, data: str, seed: int, teacher: Path, backbone: str, settings: dict[str, str]) -> Preset:
    """What a row means, as `yolostudy train` would load it; `settings` have the last word."""
    tags = ".".join(part for part in (data, "nano", row.tags) if part)
    chosen = {"seed": seed, "tensorboard": False, "validate_seconds": 1e9, **row.overrides}  # measured at the end alone
    if row.teacher:
        chosen["teacher" if row.teacher == "learn" else "weights"] = str(teacher)
    if row.name == "pretrained":
        chosen["weights"] = backbone
    preset = presets.load(tags, **(chosen | settings))
    if "epochs" in settings or "minutes" in settings:
        return preset
    return replace(preset, epochs=EPOCHS[preset.profile][row.length], minutes=0.0)


@dataclass(frozen=True)
class Planned:
    """One run of the table."""

    row: Row
    folder: Path
    preset: Preset


def plan(data: str, seeds: Sequence[int], rows: Sequence[Row], out: Path, backbone: str, settings: dict[str, str]) -> list[Planned]:
    """Every run, teachers first, because students need them."""
    teacher = next(row for row in ROWS if row.name == "teacher")
    if teacher not in rows and any(row.teacher for row in rows):
        rows = [teacher, *rows]
    runs = []
    for row in sorted(rows, key=lambda row: bool(row.teacher)):
        for seed in seeds:
            folder = out / f"{re.sub('[^A-Za-z]+', '-', row.name)}-s{seed}"
            preset = preset_of(row, data, seed, out / f"{teacher.name}-s{seed}" / "last.safetensors", backbone, settings)
            runs.append(Planned(row, folder, replace(preset, name=folder.name)))
    return runs


def result(folder: Path) -> dict | None:
    """What a finished run came to."""
    path = folder / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def execute(folder: Path, preset: Preset, threads: int | None) -> None:
    """One run in a process of its own, which goes on where an earlier one stopped.

    Errors: PresetError where the folder holds a run with other settings, or the run failed, with
    its last words.
    """
    described = folder / "preset.json"
    if described.is_file():
        there = presets.from_dict(json.loads(described.read_text(encoding="utf-8")))
        if changed := [key for key in presets.KEYS if getattr(there, key) != getattr(preset, key)]:
            what = ", ".join(f"{key}={getattr(there, key)} instead of {getattr(preset, key)}" for key in changed)
            raise PresetError(f"{folder}: holds a run with {what}. Give another folder by out=, or delete this one.")
        if result(folder):
            return
    environment = dict(os.environ) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, "-m", f"{__package__}.table", str(folder), json.dumps(presets.to_dict(preset))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise PresetError(f"{folder.name} did not finish: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def run_here(folder: Path, preset: Preset) -> None:
    """Train, and leave the figures in the folder."""
    import torch

    from .. import hooks
    from . import running as train

    run = train.train(preset, folder)
    found = {
        "per_class": {c.name: [c.ap50, c.ap50_95] for c in run.evaluation.per_class},
        "minutes": run.trainer.seconds / 60,
        "GiB": peak_memory(torch.device(train.device_of(preset))) / 2**30,
    }
    hooks.replace_file(folder / "result.json", lambda draft: draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))


def peak_memory(device) -> float:
    """Bytes at most: of tensors on a graphics card, of the whole process on a CPU, where the system
    tells.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # of Linux; ru_maxrss would begin with the parent's peak
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), float("nan"))


def figures(found: dict) -> dict[str, float]:
    """The columns of one run; a group of which it knows no class is left out."""
    row = {key: found[key] for key in ("minutes", "GiB")}
    for place, figure in enumerate(("mAP50", "mAP50-95")):
        for group, classes in GROUPS.items():
            values = [found["per_class"][name][place] for name in classes if name in found["per_class"]]
            if len(values) == len(classes):
                row[f"{figure} {group}"] = statistics.fmean(values)
    return row


def gather(runs: Sequence[Planned]) -> dict[str, dict[str, list[float]]]:
    """Row name -> column -> one value for each finished run."""
    table: dict[str, dict[str, list[float]]] = {}
    for row in ROWS:
        done = [figures(found) for run in runs if run.row == row and (found := result(run.folder))]
        if done:
            table[row.name] = {column: [run[column] for run in done if column in run] for column in COLUMNS}
    return table


def as_text(table: dict[str, dict[str, list[float]]], title: str) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [title, "", f"{'':<22}" + "".join(f"{column:>15}" for column in COLUMNS) + f"{'runs':>6}"]
    for name, columns in table.items():
        cells = "".join(f"{spread(values):>15}" for values in columns.values())
        lines.append(f"{name:<22}{cells}{len(columns['minutes']):>6}")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.fmean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def as_csv(table: dict[str, dict[str, list[float]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "runs", *(f"{column} {what}" for column in COLUMNS for what in ("mean", "deviation"))])
    for name, columns in table.items():
        cells = []
        for values in columns.values():
            cells += [f"{statistics.fmean(values):.4f}" if values else "", f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""]
        writer.writerow([name, len(columns["minutes"]), *cells])
    return text.getvalue()


def write(table: dict[str, dict[str, list[float]]], out: Path, title: str) -> str:
    """The table as text, which is returned, as CSV, and as a figure."""
    from ..hooks import replace_file
    from ..views import draw_study
    from ..canvas import style

    text = as_text(table, title)
    replace_file(out / "table.txt", lambda draft: draft.write_text(text + "\n", encoding="utf-8"))
    replace_file(out / "table.csv", lambda draft: draft.write_text(as_csv(table), encoding="utf-8"))
    picture = style.as_png(draw_study(table, title))
    replace_file(out / "table.png", lambda draft: draft.write_bytes(picture))
    return text


def shipped_backbone() -> Path:
    from ..data import DATASETS

    return DATASETS / "weights" / "backbone-n-planes.safetensors"


def run(data: str, settings: dict[str, str]) -> int:
    """The whole table.

    `settings`: seeds=, rows=, out=, jobs=, threads=, weights= of the pretrained backbone, and any
    key of a preset.
    """
    if data not in ("planes", "mar20"):
        raise PresetError(f"study-table: unknown data {data!r}; choose planes or mar20.")
    settings = dict(settings)
    seeds = [presets.number("seeds", text, int) for text in settings.pop("seeds", "0,1,2").split(",")]
    names = settings.pop("rows", "").split(",") if settings.get("rows") else [row.name for row in ROWS]
    known = {row.name: row for row in ROWS}
    if unknown := [name for name in names if name not in known]:
        raise PresetError(f"rows={unknown[0]}: there is no such row. Rows: {', '.join(known)}.")
    backbone = settings.pop("weights", "") or str(shipped_backbone())
    jobs, threads = (presets.number(key, settings.pop(key, "0"), int) for key in ("jobs", "threads"))
    from .running import runs_folder

    out = Path(settings.pop("out", runs_folder() / f"table-{data}"))
    runs = plan(data, seeds, [known[name] for name in names], out, backbone, settings)
    for folder in {run.folder.parent for run in runs}:
        folder.mkdir(parents=True, exist_ok=True)
    title = (f"{data}, {runs[0].preset.profile}, YOLOv8 nano, validation, {len(seeds)} seed(s): mean ± standard "
            "deviation")
    with tqdm(total=len(runs), unit="run") as bar:
        for needs_teacher in (False, True):
            phase = [run for run in runs if bool(run.row.teacher) == needs_teacher]
            with ThreadPoolExecutor(max(1, jobs)) as pool:
                waiting = {pool.submit(execute, run.folder, run.preset, threads): run for run in phase}
                try:
                    for done in as_completed(waiting):
                        done.result()
                        bar.update()
                        bar.set_postfix_str(waiting[done].folder.name)
                        write(gather(runs), out, title)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    print(write(gather(runs), out, title))
    print(f"\nAlso as {out / 'table.csv'} and {out / 'table.png'}; each run has its curves and weights in {out}.")
    return 0


if __name__ == "__main__":
    run_here(Path(sys.argv[1]), presets.from_dict(json.loads(sys.argv[2])))
