"""Grading: the shipped probes and notebooks against a learner's package, and a report as one page of HTML and one JSON.

The learner's own notebooks are never run: a cell without outputs would pass, and a cell can say anything. Points come from the judge alone,
which runs each answer in a sandbox with the reference around it. The notebooks show in addition that the views work on those answers.
"""

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from . import nbval_plugin, overlay
from .course import Course
from .edition import Edition, EditionError, read_module, replace_file
from .exercise import Exercise
from .judge import NOT_ATTEMPTED, NOT_YET, PASSED, WORDS, Judge, Verdict
from .sandbox import Sandbox

COLOURS = {PASSED: "#00874e", NOT_YET: "#b35c00", NOT_ATTEMPTED: "#6b7280"}


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
    verdicts: tuple[Verdict, ...]
    notebooks: tuple[Ran, ...] = ()
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def points(self) -> int:
        return sum(v.exercise.points for v in self.verdicts if v)

    @property
    def possible(self) -> int:
        return sum(v.exercise.points for v in self.verdicts)

    def as_json(self) -> dict:
        exercises = [
            {
                "name": v.exercise.name,
                "stage": v.exercise.stage,
                "state": v.state,
                "points": v.exercise.points if v else 0,
                "possible": v.exercise.points,
                "probes_passed": v.passed,
                "probes": v.total,
                "first_difference": f"{v.first.probe}: {v.first.difference}" if v.first else "",
                "misconception": v.misconception.name if v.misconception else "",
                "problem": v.problem,
            }
            for v in self.verdicts
        ]
        return {
            "learner": self.learner,
            "graded": self.when,
            "points": self.points,
            "possible": self.possible,
            "exercises": exercises,
            "notebooks": [vars(ran) | {"failures": list(ran.failures)} for ran in self.notebooks],
        }

    def as_html(self) -> str:
        rows = []
        for v in self.verdicts:
            told = v.problem or (f"{v.first.probe}: {v.first.difference}" if v.first else "")
            known = f"<br><b>{_e(v.misconception.name)}.</b> {_e(v.misconception.because)}" if v.misconception else ""
            rows.append(
                f"<tr><td>{v.exercise.stage}</td><td><code>{_e(v.exercise.name)}</code></td>"
                f'<td style="color:{COLOURS[v.state]}"><b>{WORDS[v.state]}</b></td>'
                f'<td class="n">{v.passed}/{v.total}</td><td class="n">{v.exercise.points if v else 0} of {v.exercise.points}</td>'
                f"<td>{_e(told)}{known}</td></tr>"
            )
        ran = "".join(
            f'<tr><td><code>{_e(r.name)}</code></td><td class="n">{r.passed}</td><td class="n">{r.failed}</td>'
            f"<td>{'<br>'.join(map(_e, r.failures))}</td></tr>"
            for r in self.notebooks
        )
        notebooks = f"<h2>Notebooks</h2><table><tr><th>notebook<th>cells passed<th>failed<th>which</tr>{ran}</table>" if ran else ""
        passed = sum(map(bool, self.verdicts))
        return PAGE.format(
            title=_e(f"{self.learner}: {self.points} of {self.possible} points"),
            summary=f"{passed} of {len(self.verdicts)} exercises pass. Graded {self.when}.",
            rows="".join(rows),
            notebooks=notebooks,
        )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2430; background: #fff; max-width: 70em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35em .7em; border-bottom: 1px solid #e3e6ec }}
td.n {{ white-space: nowrap }} code {{ font-size: 13px }}
</style></head><body><h1>{title}</h1><p>{summary}</p>
<table><tr><th>stage<th>exercise<th>verdict<th>probes<th>points<th>what differs first</tr>{rows}</table>{notebooks}</body></html>
"""


def _e(text: str) -> str:
    return html.escape(text)


def find_answers(folder: Path, course: Course) -> Path:
    """The folder of a learner's modules: a repository's package, or the modules themselves."""
    for place in (folder / course.package, folder):
        if any((place / f"{name}.py").is_file() for name in course.names):
            return place
    raise EditionError(
        f"{folder}: there is no {course.package}/{course.names[0]}.py and no {course.names[0]}.py. Name a learner's repository."
    )


def judge_answers(judge: Judge, answers: Path, chosen: Iterable[Exercise], bar: bool = True) -> tuple[Verdict, ...]:
    """A verdict for each exercise, each answer run in the sandbox."""
    from tqdm import tqdm

    read: dict[str, Edition | Exception] = {}
    verdicts = []
    with Sandbox(judge.course) as sandbox:
        for exercise in tqdm([*chosen], unit="exercise", delay=2, leave=False, disable=not bar):
            name = exercise.module
            if name not in read:
                read[name] = _read(answers, name, judge.course.package)
            mine = read[name]
            if isinstance(mine, FileNotFoundError):
                verdicts.append(Verdict(exercise, NOT_ATTEMPTED, problem=f"{name}.py is missing."))
            elif isinstance(mine, Exception):
                verdicts.append(Verdict(exercise, NOT_YET, problem=f"Python cannot read {name}.py: {mine}"))
            else:
                verdicts.append(judge.check(exercise.name, mine, sandbox.look))
    return tuple(verdicts)


def _read(answers: Path, name: str, package: str) -> Edition | Exception:
    file = answers / f"{name}.py"
    try:
        if file.stat().st_size > 1 << 20:
            return ValueError("it is larger than a megabyte")
        module = read_module(file)
    except (OSError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
        return error
    from dataclasses import replace

    shown = Path(package, file.name)  # what a report shows, whatever folder the learner's repository lies in
    return Edition({name: replace(module, file=shown, statements=tuple(replace(s, file=shown) for s in module.statements))})


def run_notebooks(
    course: Course, answers: Path, verdicts: Sequence[Verdict], names: Sequence[str] = (), cell_timeout: float = 120.0
) -> tuple[Ran, ...]:
    """Runs the shipped notebooks against the answers: a copy of the course with them in it, on the hybrid edition."""
    from tqdm import tqdm

    notebooks = [file for file in sorted((course.root / "course").glob("*.ipynb")) if not names or file.stem in names]
    ran = []
    with tempfile.TemporaryDirectory(prefix="graded-") as home:
        copy = Path(home) / "course"
        for part in ("course", "solutions", "datasets", course.package):
            if (course.root / part).exists():
                shutil.copytree(course.root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs"))
        for name in course.names:
            if (answers / f"{name}.py").is_file():
                shutil.copyfile(answers / f"{name}.py", copy / course.package / f"{name}.py")
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "OMP_NUM_THREADS") if name in os.environ}
        environment |= {"HOME": home, "TMPDIR": home, "PYTHONPATH": str(copy), f"{course.package.upper()}_USE": "hybrid"}
        environment |= {f"{course.package.upper()}_HOME": str(Path(home) / "runs"), "PYTHONHASHSEED": "0", "JUPYTER_PLATFORM_DIRS": "1"}
        for notebook in tqdm(notebooks, unit="notebook", delay=2, leave=False):
            command = nbval_plugin.command(copy / "course" / notebook.name, cell_timeout)
            done = subprocess.run(command, cwd=copy / "course", env=environment, capture_output=True, text=True, errors="replace")
            count = {
                kind: int(number)
                for number, kind in re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1] if done.stdout else "")
            }
            failures = tuple(
                line.removeprefix("FAILED ")[:200] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))
            )
            failed = count.get("failed", 0) + count.get("error", 0)
            if done.returncode and not failed:
                failed, failures = 1, ((done.stderr or done.stdout).strip()[-300:],)
            ran.append(Ran(notebook.stem, count.get("passed", 0), failed, failures))
    return tuple(ran)


def grade(course: Course, folder: Path, word: str = "", notebooks: bool = True) -> Report:
    """Everything about one learner's folder."""
    judge = Judge(course)
    answers, chosen = find_answers(folder, course), judge.select(word)
    verdicts = judge_answers(judge, answers, chosen)
    stages = {course.notebooks.get(e.module, "") for e in chosen} if word else ()
    ran = run_notebooks(course, answers, tuple(stages)) if notebooks else ()
    return Report(folder.resolve().name, verdicts, ran)


def write(report: Report, out: Path) -> tuple[Path, Path]:
    """The report as NAME.html and NAME.json in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    page, data = out / f"{report.learner}.html", out / f"{report.learner}.json"
    replace_file(page, report.as_html().encode())
    replace_file(data, (json.dumps(report.as_json(), indent=1) + "\n").encode())
    return page, data


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="yolostudy grade",
        description="Judge learners' packages with this folder's reference: points and verdicts, one HTML and one JSON each.",
        epilog="A FOLDER is a learner's repository, or a folder with blocks.py and so on in it; `yolostudy grade .` grades this one.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="EXERCISE|MODULE|STAGE", help="such as 2, or blocks, or blocks.SPPF")
    parser.add_argument("--out", type=Path, default=Path("grades"), help="where the reports go (default: grades)")
    parser.add_argument("--no-notebooks", dest="notebooks", action="store_false", help="the judge alone: seconds instead of minutes")
    options = parser.parse_args(argv)
    course, unreadable = overlay.course(), 0
    for folder in options.folders:
        try:
            report = grade(course, folder, options.only, options.notebooks)
        except EditionError as error:
            unreadable += 1
            print(error, file=sys.stderr)
            continue
        page, data = write(report, options.out)
        cells = f", {sum(r.failed for r in report.notebooks)} notebook cells failed" if report.notebooks else ""
        print(f"{report.learner}: {report.points} of {report.possible} points{cells}. {page} and {data.name}")
    return 1 if unreadable else 0
