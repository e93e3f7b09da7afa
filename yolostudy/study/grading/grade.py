"""Grading: the shipped probes and notebooks against a learner's package, and a report as one page
of HTML and one JSON.

Points come from the judge alone, which runs each answer in a sandbox with the reference around it.
The shipped notebooks show in addition that the views work on the answers that passed: no other
answer runs there. A learner's own notebooks are never run: a cell without outputs would pass, and a
cell can say anything.
"""

import argparse
import contextlib
import csv
import html
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from .. import edition_in_use
from ..course import Course
from ..edition import CourseError, Edition, read_module, replace_file, transplant
from ..exercise import Exercise
from ..judge import NOT_ATTEMPTED, NOT_YET, WORDS, Judge, Verdict
from .sandbox import Sandbox, python_folders, walled

LARGEST = 1 << 20  # bytes of a module
LONGEST = 600  # characters of a message in a report
NOTEBOOK_PATIENCE = 1800.0  # seconds for one notebook; its cells have limits of their own


# ---- the report ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """One notebook under nbval."""

    name: str
    passed: int
    failed: int
    failures: tuple[str, ...] = ()  # the cells that did not pass, a line each


@dataclass(frozen=True)
class Report:
    learner: str
    folder: Path
    verdicts: tuple[Verdict, ...]
    notebooks: tuple[Ran, ...] = ()
    when: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def points(self) -> int:
        return _points(self.verdicts)

    @property
    def possible(self) -> int:
        return _possible(self.verdicts)

    @property
    def stages(self) -> dict[int, list[Verdict]]:
        numbers = sorted({v.exercise.stage for v in self.verdicts})
        return {number: [v for v in self.verdicts if v.exercise.stage == number] for number in numbers}

    def as_json(self) -> dict:
        exercises = [
            {
                "name": v.exercise.name,
                "stage": v.exercise.stage,
                "state": v.state,
                "points": _points([v]),
                "possible": v.exercise.points,
                "probes_passed": v.passed,
                "probes": v.total,
                "first_difference": _cut(f"{v.first.probe}: {v.first.difference}") if v.first else "",
                "where": _where(v),
                "misconception": v.misconception.name if v.misconception else "",
                "problem": _cut(v.problem),
                "notes": list(v.notes),
            }
            for v in self.verdicts
        ]
        return {
            "learner": self.learner,
            "folder": str(self.folder),
            "graded": self.when,
            "points": self.points,
            "possible": self.possible,
            "stages": {
                str(stage): {"points": _points(own), "possible": _possible(own)} for stage, own in self.stages.items()
            },
            "exercises": exercises,
            "notebooks": [vars(ran) | {"failures": list(ran.failures)} for ran in self.notebooks],
        }

    def as_html(self) -> str:
        stages = "".join(
            f'<tbody><tr class="stage"><th>Stage {stage}<td>{sum(map(bool, own))} of {len(own)}<td><td '
            f'class="n">{_points(own)} of '
            f"{_possible(own)}<td>{_bar(_points(own), _possible(own))}</tr>{''.join(map(_row, own))}</tbody>"
            for stage, own in self.stages.items()
        )
        ran = "".join(
            f'<tr><td class="name">{_e(r.name)}<td class="n">{r.passed}<td '
            f'class="n">{r.failed}<td>{"<br>".join(map(_e, r.failures))}</tr>'
            for r in self.notebooks
        )
        head = "<h2>Notebooks</h2><p>The shipped notebooks on the answers that passed. They give no points.</p>"
        columns = '<tr class="head"><th>notebook<th class="n">cells pass<th class="n">fail<th>which</tr>'
        return PAGE.format(
            title=_e(f"{self.learner}: {self.points} of {self.possible} points"),
            summary=f"{sum(map(bool, self.verdicts))} of {len(self.verdicts)} exercises pass. Graded {self.when}.",
            stages=stages,
            notebooks=f"{head}<table>{columns}{ran}</table>" if ran else "",
        )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2430; background: #fff; max-width: 72em; margin: 2em auto;
padding: 0 1em }}
h1 {{ font-size: 24px; margin-bottom: 0 }} h2 {{ font-size: 18px; margin: 2em 0 .3em }}
p {{ margin: .2em 0 1.2em; color: #525b6b }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35em .7em; border-bottom: 1px solid #e3e6ec;
font-weight: 400 }}
.head th {{ color: #525b6b; font-size: 13px }}
.stage > * {{ background: #f1f4f8; font-weight: 600; border-top: 1.4em solid #fff }}
.n {{ white-space: nowrap; text-align: right }} .name, pre {{ font-family: ui-monospace, monospace; font-size: 13px }}
.passed {{ color: #00874e }} .not-yet {{ color: #b35c00 }} .not-attempted {{ color: #6b7280 }}
.state {{ font-weight: 600 }}
.told {{ width: 55%; overflow-wrap: anywhere }}
.known {{ border-left: 3px solid #b35c00; padding-left: .7em; margin: .4em 0 }}
pre {{ margin: .3em 0; padding: .4em .7em; background: #f7f8fa; white-space: pre-wrap }}
.bar {{ display: inline-block; width: 9em; height: .7em; background: #d9dee6; vertical-align: baseline }}
.bar i {{ display: block; height: 100%; background: #00874e }}
tbody {{ break-inside: avoid }}
</style></head><body><h1>{title}</h1><p>{summary}</p>
<table><thead><tr class="head"><th>exercise<th>verdict<th>probes<th class="n">points<th>what differs first</tr>
</thead>{stages}</table>
{notebooks}</body></html>
"""


def _row(v: Verdict) -> str:
    told = [f"<div>{_e(_cut(v.problem))}</div>"] if v.problem else []
    if v.first:
        told.append(f"<div><b>{_e(v.first.probe)}</b>: {_e(_cut(str(v.first.difference)))}</div>")
        if where := _where(v):
            told.append(f"<pre>{_e(where)}\n    {_e(_cut(v.first.error.frames[-1].code))}</pre>")
    if v.misconception:
        name, because = _e(v.misconception.name), _e(v.misconception.because)
        told.append(f'<div class="known">This is exactly what <b>“{name}”</b> does. {because}</div>')
    told += [f"<div>{_e(note)}</div>" for note in v.notes]
    if v.printed and not v:
        told.append(f"<div>It printed:</div><pre>{_e(_cut(v.printed))}</pre>")
    return (
        f'<tr><td class="name">{_e(v.exercise.name)}<td class="state {v.state.replace(" ", "-")}">{WORDS[v.state]}'
        f'<td class="n">{v.passed}/{v.total}<td class="n">{_points([v])} of {v.exercise.points}<td '
        f'class="told">{"".join(told)}</tr>'
    )


def _bar(points: int, possible: int) -> str:
    return f'<span class="bar"><i style="width:{round(100 * points / max(possible, 1))}%"></i></span>'


def _where(v: Verdict) -> str:
    """The line of the learner's own code at which the first probe that failed was stopped, if an
    exception stopped it.
    """
    frames = v.first.error.frames if v.first and v.first.error else ()
    return f"{frames[-1].file}:{frames[-1].line} in {frames[-1].function}" if frames else ""


def _points(verdicts: Iterable[Verdict]) -> int:
    return sum(v.exercise.points for v in verdicts if v)


def _possible(verdicts: Iterable[Verdict]) -> int:
    return sum(v.exercise.points for v in verdicts)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"


def _e(text: object) -> str:
    return html.escape(str(text))


def write(report: Report, out: Path) -> Path:
    """The report as NAME.html and NAME.json in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{report.learner}.html"
    replace_file(page, report.as_html().encode("utf-8", "replace"))
    replace_file(out / f"{report.learner}.json", (json.dumps(report.as_json(), indent=1) + "\n").encode())
    return page


def read_reports(out: Path) -> list[dict]:
    """Every report that lies in a folder, as `Report.as_json` wrote it."""
    found = []
    for file in sorted(out.glob("*.json")):
        with contextlib.suppress(ValueError, OSError):
            told = json.loads(file.read_text("utf-8"))
            if isinstance(told, dict) and {"learner", "folder", "points", "possible", "stages"} <= told.keys():
                found.append(told)
    return found


def write_summary(out: Path) -> Path:
    """summary.csv: one row for each report of the folder, whichever call wrote it."""
    reports, text = read_reports(out), io.StringIO()
    stages = sorted({stage for told in reports for stage in told["stages"]}, key=int)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["learner", "points", "possible", *(f"stage {stage}" for stage in stages)])
    for told in reports:
        own = [told["stages"].get(stage, {}).get("points", "") for stage in stages]
        table.writerow([told["learner"], told["points"], told["possible"], *own])
    replace_file(out / "summary.csv", text.getvalue().encode())
    return out / "summary.csv"


# ---- whose answers -------------------------------------------------------------------------------


def name_learners(folders: Iterable[Path], out: Path) -> dict[str, Path]:
    """A report's name for each folder: the folder's own, with the names above it where two are the
    same, here or in earlier reports.
    """
    known = {told["folder"]: told["learner"] for told in read_reports(out)}
    taken = {name.casefold(): place for place, name in known.items()}
    paths = [path for path in dict.fromkeys(folder.resolve() for folder in folders) if path != out.resolve()]
    shared = Counter(path.name.casefold() for path in paths)
    named = {}
    for path in paths:
        parts = path.parts[1:] or ("learner",)
        depths = range(1 + (shared[path.name.casefold()] > 1), len(parts) + 1)
        names = [known[str(path)]] if str(path) in known else []
        names += [*("-".join(parts[-depth:]) for depth in depths), *map(str, range(9999))]
        name = next(name for name in names if taken.get(name.casefold(), str(path)) == str(path))
        taken[name.casefold()] = str(path)
        named[name] = path
    return named


def find_answers(folder: Path, course: Course) -> Path:
    """The folder of a learner's modules: a repository's package, or the modules themselves."""
    for place in (folder / course.package, folder):
        if any((place / f"{name}.py").is_file() for name in course.names):
            return place
    raise CourseError(
        f"{folder}: no {course.package}/{course.names[0]}.py and no {course.names[0]}.py. Name a learner's repository."
    )


def read_answers(folder: Path, course: Course) -> dict[str, Edition | str]:
    """Module -> its source, or the sentence why there is none; an empty one where the file is
    missing.
    """
    place = find_answers(folder, course)
    return {name: _read(place / f"{name}.py", folder.resolve(), course.package) for name in course.names}


def _read(file: Path, folder: Path, package: str) -> Edition | str:
    shown = Path(package, file.name)  # what a report shows, whatever folder the learner's repository lies in
    if not file.is_file():
        return ""
    if not file.resolve().is_relative_to(folder):
        return f"{shown} is a link to a place outside of the folder that is graded."
    if file.stat().st_size > LARGEST:
        return f"{shown} is larger than a megabyte."
    try:
        module = read_module(file)
        for statement in module.statements:
            _ = statement.binds, statement.uses  # now, while what they cannot digest is told
    except SyntaxError as error:
        return f"Python cannot read {shown}, line {error.lineno}: {error.msg}" + (
            f": {error.text.strip()}" if error.text else ""
        )
    except Exception as error:  # nested too deeply, an encoding of its own, ...: whatever a text can do to a parser
        return f"Python cannot read {shown}: {type(error).__name__}: {error}"
    return Edition(
        {file.stem: replace(module, file=shown, statements=tuple(replace(s, file=shown) for s in module.statements))}
    )


# ---- grading -------------------------------------------------------------------------------------


def grade(
    judge: Judge,
    sandbox: Sandbox,
    folder: Path,
    chosen: Sequence[Exercise],
    learner: str = "",
    notebooks: Sequence[Path] = (),
) -> Report:
    """Everything about one learner's folder."""
    mine = read_answers(folder, judge.course)
    verdicts = judge_answers(judge, sandbox, mine, chosen)
    ran = run_notebooks(judge, mine, verdicts, notebooks) if notebooks else ()
    return Report(learner or folder.resolve().name, folder.resolve(), verdicts, ran)


def judge_answers(
    judge: Judge, sandbox: Sandbox, mine: Mapping[str, Edition | str], chosen: Sequence[Exercise]
) -> tuple[Verdict, ...]:
    """A verdict for each exercise, each answer run in the sandbox."""
    from tqdm import tqdm

    verdicts = []
    for exercise in tqdm([judge.exercises[e.name] for e in chosen], unit="exercise", delay=2, leave=False):
        own = mine[exercise.module]
        if isinstance(own, Edition):
            try:
                verdicts.append(judge.check(exercise.name, own, sandbox.look))
            except (RecursionError, MemoryError) as error:
                verdicts.append(
                    Verdict(
                        exercise, NOT_YET, problem=f"it is nested too deeply to be compared ({type(error).__name__})."
                    )
                )
        else:
            verdicts.append(
                Verdict(exercise, NOT_YET if own else NOT_ATTEMPTED, problem=own or f"{exercise.module}.py is missing.")
            )
    return tuple(verdicts)


def find_notebooks(course: Course, chosen: Iterable[Exercise] = ()) -> list[Path]:
    """The shipped notebooks; those that ask for the chosen exercises, if any are named."""
    names = {course.notebooks.get(exercise.module) for exercise in chosen}
    return [file for file in sorted((course.root / "course").glob("*.ipynb")) if not names or file.stem in names]


def run_notebooks(
    judge: Judge,
    mine: Mapping[str, Edition | str],
    verdicts: Sequence[Verdict],
    notebooks: Sequence[Path],
    cell_timeout: float = 120.0,
) -> tuple[Ran, ...]:
    """Runs shipped notebooks in a copy of the course: the answers that passed, stubs for the
    others, on the hybrid edition.
    """
    from tqdm import tqdm

    from . import nbval_plugin

    course, answers, skipped = (
        judge.course,
        judge.stub,
        shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"),
    )
    for verdict in filter(None, verdicts):
        answers = transplant(answers, verdict.exercise.name, mine[verdict.exercise.module])
    with tempfile.TemporaryDirectory(prefix="graded-") as home:
        copy = Path(home).resolve() / "course"
        for part in ("course", "solutions", course.package):
            shutil.copytree(course.root / part, copy / part, ignore=skipped)
        (copy / "datasets").mkdir()
        sets = [*(course.root / "datasets").glob("*")]
        for place in sets:
            (copy / "datasets" / place.name).symlink_to(place)
        for name, module in answers.items():
            module.write(copy / course.package / f"{name}.py")
        environment = {
            name: os.environ[name]
            for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "OMP_NUM_THREADS")
            if name in os.environ
        }
        environment |= {
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(copy),
            f"{course.package.upper()}_USE": "hybrid",
        }
        environment |= {
            f"{course.package.upper()}_HOME": f"{home}/runs",
            "PYTHONHASHSEED": "0",
            "JUPYTER_PLATFORM_DIRS": "1",
        }
        readable = [*python_folders(), "/etc", "/proc", "/sys", *map(str, sets)]
        writable = [home, "/dev/null", "/dev/shm", *map(str, Path("/dev").glob("nvidia*"))]
        ran = []
        for notebook in tqdm(notebooks, unit="notebook", delay=2, leave=False):
            command = nbval_plugin.command(copy / "course" / notebook.name, cell_timeout)
            printed, status = _run(walled(command, course.root, readable, writable), copy / "course", environment)
            ran.append(_told(notebook, printed, status, verdicts))
    return tuple(ran)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """What a command prints, and its exit status. Nothing of it is left running."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace", start_new_session=True, **pipes
    )
    try:
        return running.communicate(timeout=NOTEBOOK_PATIENCE)[0], running.returncode
    except subprocess.TimeoutExpired:
        return f"It was still running after {NOTEBOOK_PATIENCE:g} seconds.", 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def _told(notebook: Path, printed: str, status: int, verdicts: Sequence[Verdict]) -> Ran:
    """What nbval said of a notebook, each failed cell by its first line."""
    cells = [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    wrong, failures = {v.exercise.name for v in verdicts if not v}, []
    reasons = dict(re.findall(r"^Cell (\d+): (.+)$", printed, re.M))
    for number in re.findall(r"^FAILED \S*::Cell (\d+)", printed, re.M):
        first = "".join(cells[int(number)]["source"]).strip().partition("\n")[0]
        why = "it does not pass" if first.removeprefix("#| fill ") in wrong else reasons.get(number, "it fails")
        failures.append(_cut(f"code cell {int(number) + 1}, {first}: {why}"))
    count = {
        kind: int(number)
        for number, kind in re.findall(r"(\d+) (passed|failed|error)", printed.strip().rpartition("\n")[2])
    }
    failed = count.get("failed", 0) + count.get("error", 0)
    if status and not failures:
        failed, failures = max(failed, 1), [printed.strip()[-LONGEST:] or f"pytest ended with status {status}"]
    return Ran(notebook.stem, count.get("passed", 0), failed, tuple(failures))


# ---- the command ---------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="yolostudy grade",
        description="Judge learners' packages with this folder's reference: points, verdicts, one HTML and one JSON "
        "each, summary.csv.",
        epilog="A FOLDER is a learner's repository, or a folder with blocks.py and so on in it; `yolostudy grade .` "
        "grades this one.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--only", default="", metavar="EXERCISE|MODULE|STAGE", help="such as 2, or blocks, or blocks.SPPF"
    )
    parser.add_argument("--out", type=Path, default=Path("grades"), help="where the reports go (default: grades)")
    parser.add_argument(
        "--no-notebooks", dest="notebooks", action="store_false", help="the judge alone: seconds instead of minutes"
    )
    options = parser.parse_args(argv)
    course, refused = edition_in_use.course(), 0
    try:
        judge = Judge(course)
        chosen = judge.select(options.only)
        notebooks = find_notebooks(course, chosen if options.only else ()) if options.notebooks else []
        if notebooks and not importlib.util.find_spec("nbval"):
            raise CourseError(
                'the notebooks are run by nbval: pip install "yolostudy[grade]", or grade with --no-notebooks.'
            )
        with Sandbox(course) as sandbox:
            for learner, folder in name_learners(options.folders, options.out).items():
                try:
                    find_answers(folder, course)
                except CourseError as error:
                    refused += 1
                    print(error, file=sys.stderr)
                    continue
                report = grade(judge, sandbox, folder, chosen, learner, notebooks)
                page = write(report, options.out)
                write_summary(options.out)
                cells = f", {sum(r.failed for r in report.notebooks)} notebook cells fail" if report.notebooks else ""
                print(f"{report.learner}: {report.points} of {report.possible} points{cells}. {page}", flush=True)
    except KeyboardInterrupt:
        print(
            "\ninterrupted; nothing is left half-written, and the reports of those who were finished are there.",
            file=sys.stderr,
        )
        return 130
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if refused else 0
