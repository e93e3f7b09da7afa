"""`yolostudy doctor`: what is installed, what this machine has, what will run where, what is wrong.

Each problem comes with its remedy. The doctor needs nothing of what it looks for: without torch it
says that torch is missing.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TextIO

from ..data.machine import available_cores

ROOT = Path(__file__).parents[2]
PYTHONS = ((3, 11), (3, 14))  # from, below; pyproject.toml says the same

RUNTIME = ["torch", "torchvision", "ultralytics", "numpy", "opencv-python", "matplotlib", "safetensors", "psutil"]
COURSE = ["jupyterlab", "ipywidgets", "ipykernel"]
OPTIONAL = {
    "jupytext": "building notebooks",
    "nbval": "grading and tests",
    "dask": "grading on many machines",
    "onnxruntime": "stage 12",
}
EXACT = "ultralytics"  # parity is a test, and its versions differ where no key shows it

GB = 1024**3
CARD_FOR_LAPTOP = 6 * GB  # 640 pixels at batch 16, nano
LEAST_FREE_DISK = 2 * GB  # planes at 640 pixels and a few runs
LEAST_MEMORY = 4 * GB
LEAST_SHARED = GB // 4  # Docker gives 64 MB, which loader workers fill at once


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor looked at. A problem is a sentence, and so is its remedy."""

    name: str
    value: str
    problem: str = ""
    remedy: str = ""


def report(file: TextIO | None = None) -> int:
    """Print all findings, then the problems with their remedies.

    Args:
        file: where to print; by default standard output.

    Returns the exit status: 0 without a problem.
    """
    file = file or sys.stdout
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        print(
            f"{sys.executable} does not have the packages of this course. Run `make setup`, then "
            "`.venv/bin/yolostudy doctor`.",
            file=file,
        )
        return 1

    console = Console(file=file, highlight=False, emoji=False)
    problems: list[Finding] = []
    for title, rows in (
        ("Versions", versions()),
        ("Machine", machine()),
        ("What will run where", plans()),
        ("Course", course()),
    ):
        table = Table(
            box=None, show_header=False, title=title, title_justify="left", title_style="bold", padding=(0, 2, 0, 0)
        )
        table.add_column(width=16)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(escape(row.name), escape(row.value), style="yellow" if row.problem else None)
            problems += [row] if row.problem else []
        console.print(table)
        console.print()
    if not problems:
        console.print("No problem found.", style="green")
        return 0
    console.print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", style="bold")
    for number, row in enumerate(problems, start=1):
        console.print(f"{number}. [yellow]{escape(row.problem)}[/] {escape(row.remedy)}")
    return 1


# Versions
# --------------------------------------------------------------------------------------------------


def versions() -> Iterator[Finding]:
    """Python and the packages that matter, and where requirements.lock names another version."""
    here = sys.version_info[:2]
    first, last = f"{PYTHONS[0][0]}.{PYTHONS[0][1]}", f"{PYTHONS[1][0]}.{PYTHONS[1][1] - 1}"
    wrong = (
        ""
        if PYTHONS[0] <= here < PYTHONS[1]
        else f"This is Python {platform.python_version()}, and the course needs {first} to {last}."
    )
    yield Finding(
        "python",
        f"{platform.python_version()}  {sys.executable}",
        wrong,
        "Run `make setup PYTHON=python3.12`, or name another version that you have.",
    )
    locked = locked_versions()
    for name in [*RUNTIME, *COURSE, *OPTIONAL]:
        found, pinned = installed(name), locked.get(name, [])
        if found is None:
            need = f"{name} is not installed." if name not in OPTIONAL else ""
            yield Finding(
                name, "missing" + (f" (for {OPTIONAL[name]})" if name in OPTIONAL else ""), need, "Run `make setup`."
            )
        elif name == EXACT and pinned and found not in pinned:
            what = f"{name} is {found}, and the course needs {pinned[0]}: other versions compute other numbers."
            yield Finding(name, f"{found}, locked is {pinned[0]}", what, "Run `make setup`.")
        else:
            yield Finding(name, found if not pinned or found in pinned else f"{found}, locked is {' or '.join(pinned)}")
    if installed("yolostudy") is None:
        what = "yolostudy itself is not installed in this Python, so a notebook's kernel may not find it."
        yield Finding("yolostudy", "not installed", what, "Run `make setup`, and use .venv/bin/yolostudy.")


def installed(name: str) -> str | None:
    """The version of an installed package, without importing it; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def locked_versions(lock: Path = ROOT / "requirements.lock") -> dict[str, list[str]]:
    """Package -> the versions that the lock names; several where they depend on Python."""
    table: dict[str, list[str]] = {}
    for name, version in re.findall(
        r"(?m)^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock.read_text("utf-8") if lock.exists() else ""
    ):
        table.setdefault(name, []).append(version)
    return table


# The machine
# --------------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    cores, units = available_cores(), bf16_units()
    yield Finding(
        "processor",
        f"{processor()}, {cores} core{'s' if cores > 1 else ''}, "
        f"{f'bf16 units ({units})' if units else 'no bf16 units'}",
    )
    yield from accelerator()
    for name, package in (("opencv", "cv2"), ("torchvision", "torchvision")):
        _, failure = attempt(package)
        if failure and installed({"cv2": "opencv-python"}.get(package, package)):  # `versions` reports what is missing
            missing = re.search(r"(lib\S+\.so\S*?):", failure)
            remedy = (
                f"Install the system library {missing[1]} (Debian: apt install libgl1 libglib2.0-0)."
                if missing
                else "Run `make setup`."
            )
            yield Finding(name, "does not import", f"{name} does not import: {failure}.", remedy)
    psutil, failure = attempt("psutil")
    if not failure:
        memory = psutil.virtual_memory()
        little = (
            f"The machine has {memory.total / GB:.1f} GB of memory; training needs {LEAST_MEMORY / GB:.0f}."
            if memory.total < LEAST_MEMORY
            else ""
        )
        value = f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB of it available"
        yield Finding(
            "memory", value, little, "Train with the tag batch@4 and workers=0 cache=none, and close other programs."
        )
    shared = Path("/dev/shm")
    if shared.exists() and (size := shutil.disk_usage(shared).total) < LEAST_SHARED:
        what = f"Shared memory (/dev/shm) is {size / GB * 1024:.0f} MB, and loader workers crash when it is full."
        yield Finding(
            "shared memory",
            f"{size / GB * 1024:.0f} MB",
            what,
            "Start the container with --shm-size=1g, or train with workers=0.",
        )
    yield home()


def home() -> Finding:
    """Where run folders go, and whether there is room for them."""
    from ..runs.folders import runs_folder

    runs = runs_folder().absolute()
    existing = next(folder for folder in (runs, *runs.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    problem = ""
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problem = f"Nothing can be written to {existing}, where runs would go."
    elif free < LEAST_FREE_DISK:
        problem = f"Only {free / GB:.1f} GB are free where runs go ({existing}); {LEAST_FREE_DISK / GB:.0f} are needed."
    value = f"{runs} ({free / GB:.0f} GB free)"
    return Finding("run folder", value, problem, "Set YOLOSTUDY_HOME to a folder with room that you may write to.")


def attempt(name: str) -> tuple[ModuleType | None, str]:
    """The module, or the reason why it does not import."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name), ""
    except Exception as error:  # a broken wheel raises anything: OSError for a library, RuntimeError for a wrong match
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return (
        named[1]
        if named
        else said("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()
    )


def bf16_units() -> str:
    """The processor's bf16 instructions, as the system names them; empty if it has none."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return ", ".join(sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"}))


def said(*command: str) -> str:
    """The first line that a command printed; empty if there is no such command or it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def accelerator() -> Iterator[Finding]:
    """The graphics cards, and whether torch can use them."""
    torch, failure = attempt("torch")
    if failure:
        if installed("torch"):  # `versions` reports a torch that is missing
            yield Finding(
                "torch", "does not import", f"torch does not import: {failure}.", "Remove .venv and run `make setup`."
            )
        return
    driver = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            value = (
                f"{card.name}, {card.total_memory / GB:.1f} GB, CUDA {torch.version.cuda}, driver "
                f"{driver.rpartition(', ')[2] or 'unknown'}"
            )
            yield Finding(f"cuda:{index}", value)
    elif driver:
        what = f"There is an NVIDIA card ({driver}), but torch {torch.__version__} cannot use it."
        remedy = (
            f"Install a driver for CUDA {torch.version.cuda} or later."
            if torch.version.cuda
            else "This torch is built for the CPU: `make setup`."
        )
        yield Finding("cuda", f"not usable: {driver}", what, remedy + " Until then everything runs on the CPU.")
    else:
        yield Finding("cuda", "no card; the CPU does the work")
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple's GPU is there; device=mps asks for it (nothing was measured on one)")


# What will run where
# --------------------------------------------------------------------------------------------------


def plans() -> Iterator[Finding]:
    """What `auto` means on this machine."""
    from ..runs import presets

    torch, failure = attempt("torch")
    if failure:
        yield Finding("nothing yet", "torch is needed for everything")
        return
    preset = presets.load("planes.nano")
    card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    if card:
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    else:
        precision = "bf16" if bf16_units() else "fp32"
    place = f"on {card.name}" if card else "on the CPU"
    small = ""
    if card and preset.profile == "laptop" and card.total_memory < CARD_FOR_LAPTOP:
        has, wanted = f"{card.total_memory / GB:.1f} GB", f"{CARD_FOR_LAPTOP / GB:.0f} GB"
        small = f"{card.name} has {has}, and {preset.image_size} pixels at batch {preset.batch} need {wanted}."
    stop = f"{preset.minutes:g} minutes" if preset.minutes else f"{preset.epochs} epochs"
    value = f"profile {preset.profile} {place}: {preset.image_size} px, batch {preset.batch}, {precision}, {stop}"
    yield Finding("train planes.nano", value, small, "Use the tag batch@4, or profile=mini.")
    yield Finding("notebooks", f"profile {preset.profile} {place}")


# The course
# --------------------------------------------------------------------------------------------------


def course() -> Iterator[Finding]:
    """Which edition is in use, and which parts of the course are here."""
    import yolostudy

    from ..data import DATASETS
    from ..runs.folders import SHIPPED
    from ..study import edition_in_use

    here = edition_in_use.course()
    word = os.environ.get(edition_in_use.VARIABLE)
    default = f"{edition_in_use.VARIABLE} is not set: notebooks import mine, the command runs on hybrid"
    yield Finding("edition", yolostudy.describe() if word else default)
    if not here.solutions.is_dir():
        yield Finding("solutions/", "absent: only your own modules can be imported")
    else:
        yield Finding("solutions/", f"{len(here.names)} reference modules")
        yield from filled_in(here)
    weights = sorted(SHIPPED.glob("*.safetensors"))
    yield Finding(
        "weights", ", ".join(file.stem for file in weights) or "none shipped; `yolostudy train planes.nano` makes some"
    )
    sets = sorted(folder.name for folder in DATASETS.glob("*/") if folder.name != "weights")
    yield Finding("data", ", ".join(sets) or "none yet; planes are made when they are first asked for")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    yield Finding("chromium", browser or "absent; only the browser tests need it, and without it they are skipped")


def filled_in(here) -> Iterator[Finding]:
    """The learner's own definitions, and each file that is missing or cannot be read."""
    mine: list[str] = []
    missing: list[str] = []
    for name in here.names:
        try:
            mine += [f"{name}.{definition}" for definition in here.filled_in(name)]
        except FileNotFoundError:
            missing.append(f"yolostudy/{name}.py")
        except SyntaxError as error:
            what = f"yolostudy/{name}.py:{error.lineno}: {error.msg}."
            yield Finding(
                f"{name}.py",
                f"line {error.lineno}: {error.msg}",
                what,
                "Correct that line; until then the reference stands in.",
            )
    if missing:
        files = " ".join(missing)
        yield Finding(
            "missing",
            files,
            f"Some of your modules are missing: {files}.",
            f"`git restore {files}` brings the stubs back.",
        )
    yield Finding("filled in", ", ".join(mine) or "nothing yet")
