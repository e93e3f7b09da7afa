"""The shipped notebooks, run on the answers that passed.

They show that the views work on these answers; no other answer runs there. A learner's own
notebooks are never run: a cell without outputs would pass, and a cell can say anything.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..course import Course
from ..edition import Edition, transplant
from ..exercise import Exercise
from ..fill_cell import exercise_of
from ..judge import Judge
from ..verdict import Verdict
from .report import MESSAGE_LENGTH, Ran, shortened
from .walls import python_folders, walled

PATIENCE = 1800.0  # seconds for one notebook; its cells have limits of their own


def find_notebooks(course: Course, chosen: Iterable[Exercise] = ()) -> list[Path]:
    """The shipped notebooks; if exercises are chosen, those that ask for them."""
    names = {course.notebooks.get(exercise.module) for exercise in chosen}
    return [file for file in course.all_built() if not names or file.stem in names]


def run_notebooks(
    judge: Judge,
    mine: Mapping[str, Edition | str],
    verdicts: Sequence[Verdict],
    notebooks: Sequence[Path],
    cell_timeout: float = 120.0,
) -> tuple[Ran, ...]:
    """Runs shipped notebooks in a copy of the course, on the hybrid edition.

    The copy holds the answers that passed, and stubs for the others.
    """
    from tqdm import tqdm

    from . import nbval_plugin

    course, answers = judge.course, judge.stub
    for verdict in filter(None, verdicts):
        answers = transplant(answers, verdict.exercise.name, mine[verdict.exercise.module])
    with tempfile.TemporaryDirectory(prefix="graded-") as home:
        copy = Path(home).resolve() / "course"
        data_sets = _copy_course(course, copy)
        for name, module in answers.items():
            module.write(copy / course.package / f"{name}.py")
        environment = _environment(course, home, copy)
        readable = [*python_folders(), "/etc", "/proc", "/sys", *map(str, data_sets)]
        writable = [home, "/dev/null", "/dev/shm", *map(str, Path("/dev").glob("nvidia*"))]
        ran = []
        for notebook in tqdm(notebooks, unit="notebook", delay=2, leave=False):
            command = nbval_plugin.command(copy / "course" / notebook.name, cell_timeout, quick=True)
            printed, status = _run(walled(command, course.root, readable, writable), copy / "course", environment)
            ran.append(_result(notebook, printed, status, verdicts))
    return tuple(ran)


def _copy_course(course: Course, copy: Path) -> list[Path]:
    """Copies the course, with links to its data sets, and returns the data sets."""
    skipped = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs")
    for part in ("course", "solutions", course.package):
        shutil.copytree(course.root / part, copy / part, ignore=skipped)
    (copy / "datasets").mkdir()
    data_sets = [*(course.root / "datasets").glob("*")]
    for place in data_sets:
        (copy / "datasets" / place.name).symlink_to(place)
    return data_sets


def _environment(course: Course, home: str, copy: Path) -> dict[str, str]:
    """The environment variables of a notebook: none of the instructor's own."""
    kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "OMP_NUM_THREADS")
    prefix = course.package.upper()
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": home,
        "TMPDIR": home,
        "PYTHONPATH": str(copy),
        "PYTHONHASHSEED": "0",
        "JUPYTER_PLATFORM_DIRS": "1",
        f"{prefix}_USE": "hybrid",
        f"{prefix}_HOME": f"{home}/runs",
    }


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """What a command prints, and its exit status. Nothing of it is left running."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace", start_new_session=True, **pipes
    )
    try:
        return running.communicate(timeout=PATIENCE)[0], running.returncode
    except subprocess.TimeoutExpired:
        return f"It was still running after {PATIENCE:g} seconds.", 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def _result(notebook: Path, printed: str, status: int, verdicts: Sequence[Verdict]) -> Ran:
    """What nbval printed about a notebook, with one line for each cell that fails."""
    cells = [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    wrong, failures = {v.exercise.name for v in verdicts if not v}, []
    reasons = dict(re.findall(r"^Cell (\d+): (.+)$", printed, re.M))
    for number in re.findall(r"^FAILED \S*::Cell (\d+)", printed, re.M):
        source = "".join(cells[int(number)]["source"]).strip()
        why = "it does not pass" if exercise_of(source) in wrong else reasons.get(number, "it fails")
        failures.append(shortened(f"code cell {int(number) + 1}, {source.partition(chr(10))[0]}: {why}"))
    last_line = printed.strip().rpartition("\n")[2]
    count = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|error)", last_line)}
    failed = count.get("failed", 0) + count.get("error", 0)
    if status and not failures:
        failed, failures = max(failed, 1), [printed.strip()[-MESSAGE_LENGTH:] or f"pytest ended with status {status}"]
    return Ran(notebook.stem, count.get("passed", 0), failed, tuple(failures))
