"""Grading a class: points, reports that nothing overwrites, the shipped notebooks."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny_course import SHAPES, write_course
from yolostudy.study import edition_in_use
from yolostudy.study.authoring.build import build
from yolostudy.study.authoring.release import release
from yolostudy.study.course import Course
from yolostudy.study.grading import notebooks
from yolostudy.study.grading.answers import name_learners
from yolostudy.study.grading.grade import grade
from yolostudy.study.grading.main import main
from yolostudy.study.grading.notebooks import find_notebooks
from yolostudy.study.grading.sandbox import Sandbox
from yolostudy.study.judge import Judge
from yolostudy.study.verdict import NOT_ATTEMPTED, NOT_YET, PASSED

EXERCISES = """\
from yolostudy.study.exercise import Exercise

hints = ("One.", "One and two.", "One, two and three.")
square = Exercise("shapes.Square", stage=1, points=2, minutes=5, goal="A square.", hints=hints)
diagonal = Exercise("shapes.diagonal", stage=1, points=1, minutes=5, goal="Its diagonal.", hints=hints)
room = Exercise("rooms.Room", stage=2, points=3, minutes=5, goal="A room.", hints=hints)


@square.probe("areas")
def _(course):
    return [course.shapes.Square(side).area() for side in (1.5, 2.0)]


@diagonal.probe("of <small> ones")
def _(course):
    return {"length": [course.shapes.diagonal(course.shapes.Square(side)) for side in (1.0, 3.0)]}


@room.probe("area of two squares")
def _(course):
    return course.rooms.Room(course.shapes.Square(1.0), course.shapes.Square(2.0)).area()


diagonal.misconception(
    "twice the side", swap=("math.hypot(square.side, square.side)", "2 * square.side"), because="That is the way around the corner."
)
"""
HYPOT = "math.hypot(square.side, square.side)"


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    course = write_course(tmp_path_factory.mktemp("course").resolve())
    course.exercises.mkdir()
    (course.exercises / "shapes.py").write_text(EXERCISES)
    release(course)
    return course


@pytest.fixture(scope="module")
def judge(course) -> Judge:
    return Judge(course)


@pytest.fixture(scope="module")
def box(course):
    with Sandbox(course, 5.0) as opened:
        yield opened


@pytest.fixture(autouse=True)
def on_this_course(course, monkeypatch):
    monkeypatch.setattr(edition_in_use, "course", lambda: course)


def enrol(course: Course, folder: Path, **texts: str | bytes) -> Path:
    """A learner's repository: all solved, but for the modules that are given as texts."""
    (folder / "yolostudy").mkdir(parents=True)
    for name in course.names:
        file, text = (
            folder / "yolostudy" / f"{name}.py",
            texts.get(name, (course.solutions / f"{name}.py").read_bytes()),
        )
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def states(course, judge, box, folder: Path) -> list[str]:
    return [v.state for v in grade(judge, box, folder, judge.select("")).verdicts]


# ---- one learner ---------------------------------------------------------------------------------


def test_points_come_from_what_passes(course, judge, box, tmp_path):
    report = grade(
        judge, box, enrol(course, tmp_path / "ben", shapes=SHAPES.replace(HYPOT, "2 * square.side")), judge.select("")
    )
    assert (report.learner, report.points, report.possible) == ("ben", 5, 6)
    told = report.as_json()
    assert told["stages"] == {"1": {"points": 2, "possible": 3}, "2": {"points": 3, "possible": 3}}
    wrong = told["exercises"][1]
    assert (wrong["name"], wrong["state"], wrong["points"], wrong["misconception"]) == (
        "shapes.diagonal",
        NOT_YET,
        0,
        "twice the side",
    )
    page = report.as_html()
    assert "of &lt;small&gt; ones" in page and "<small>" not in page
    assert "Stage 1" in page and "2 of 3" in page and "That is the way around the corner." in page


def test_the_report_shows_the_line_and_cuts_what_is_long(course, judge, box, tmp_path):
    text = SHAPES.replace(HYPOT, "square.missing").replace("side * side * unit", "'<x>' * 100_000")
    report = grade(judge, box, enrol(course, tmp_path / "ben", shapes=text), judge.select("shapes"))
    assert report.as_json()["exercises"][1]["where"] == "yolostudy/shapes.py:30 in diagonal"
    page = report.as_html()
    assert "yolostudy/shapes.py:30 in diagonal\n    return square.missing" in page
    assert "&lt;x&gt;" in page and len(page) < 10_000
    assert len(json.dumps(report.as_json())) < 5_000


def test_modules_may_lie_in_the_folder_itself(course, judge, box, tmp_path):
    for name in course.names:
        shutil.copy(course.solutions / f"{name}.py", tmp_path)
    assert states(course, judge, box, tmp_path) == [PASSED] * 3


FORMS = {
    "byte order mark and carriage returns": b"\xef\xbb\xbf" + SHAPES.replace("\n", "\r\n").encode(),
    "latin-1": b"# coding: latin-1\n# \xe9\n" + SHAPES.encode(),
}
BROKEN = {  # what the file holds: what the report says
    "syntax": (b"class Square(:\n", "Python cannot read yolostudy/shapes.py, line 1"),
    "null byte": (b"x = 1\n\0", "line 2: not a text"),
    "no text": (b"\xff\xfe\x00", "Python cannot read yolostudy/shapes.py"),
    "unknown encoding": (b"# coding: nothing\n", "unknown encoding"),
    "encoding that is none": (b"# coding: zip\n", "Python cannot read yolostudy/shapes.py"),
    "large": (b"#" * (100 << 20), "larger than a megabyte"),
    "brackets": (b"x = " + b"(" * 100_000, "Python cannot read yolostudy/shapes.py"),
    "minus": (b"x = " + b"-" * 100_000 + b"1\n", "Python cannot read yolostudy/shapes.py"),
    "a number": (b"x = " + b"9" * 100_000, "Python cannot read yolostudy/shapes.py"),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_text_is_read(course, judge, box, tmp_path, form):
    assert states(course, judge, box, enrol(course, tmp_path / "ben", shapes=FORMS[form])) == [PASSED] * 3


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_module_costs_its_own_points_only(course, judge, box, tmp_path, how):
    content, message = BROKEN[how]
    report = grade(judge, box, enrol(course, tmp_path / "ben", shapes=content), judge.select(""))
    assert [v.state for v in report.verdicts] == [NOT_YET, NOT_YET, PASSED]
    assert message in report.verdicts[0].problem


def test_a_definition_that_is_nested_too_deeply(course, judge, box, tmp_path):
    text = SHAPES.replace(HYPOT, f"square.side {'+ 1' * 9000}")
    report = grade(judge, box, enrol(course, tmp_path / "ben", shapes=text), judge.select(""))
    assert [v.state for v in report.verdicts][1:] == [NOT_YET, PASSED]
    assert "Recursion" in str(report.verdicts[1])


def test_what_is_missing_is_not_attempted(course, judge, box, tmp_path):
    folder = enrol(course, tmp_path / "ben", shapes=(course.mine / "shapes.py").read_bytes())
    (folder / "yolostudy/rooms.py").unlink()
    (folder / "yolostudy/rooms.py").mkdir()
    report = grade(judge, box, folder, judge.select(""))
    assert [v.state for v in report.verdicts] == [NOT_ATTEMPTED] * 3
    assert report.verdicts[2].problem == "rooms.py is missing."


@pytest.mark.parametrize("link", ["module", "package"])
def test_a_link_to_the_solutions_is_not_followed(course, judge, box, tmp_path, link):
    folder = enrol(course, tmp_path / "ben")
    if link == "module":
        (folder / "yolostudy/shapes.py").unlink()
        (folder / "yolostudy/shapes.py").symlink_to(course.solutions / "shapes.py")
    else:
        shutil.rmtree(folder / "yolostudy")
        (folder / "yolostudy").symlink_to(course.solutions)
    report = grade(judge, box, folder, judge.select("shapes"))
    assert [v.state for v in report.verdicts] == [NOT_YET] * 2
    assert "a link to a place outside" in report.verdicts[0].problem


# ---- a class -------------------------------------------------------------------------------------


def rows(out: Path) -> list[dict]:
    with open(out / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_class_in_one_call(course, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    enrol(course, tmp_path / "anna")
    enrol(course, tmp_path / "ben", shapes=SHAPES.replace(HYPOT, "2 * square.side"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("anna, ben")
    (tmp_path / "grades").mkdir()
    assert main(["--no-notebooks", *(p.name for p in sorted(tmp_path.iterdir()))]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == ["anna: 6 of 6 points. grades/anna.html", "ben: 5 of 6 points. grades/ben.html"]
    assert [line.partition(": no ")[0] for line in told.err.splitlines() if ": no " in line] == [
        str(tmp_path / "empty"),
        str(tmp_path / "list.txt"),
    ]
    assert rows(tmp_path / "grades") == [
        {"learner": "anna", "points": "6", "possible": "6", "stage 1": "3", "stage 2": "3"},
        {"learner": "ben", "points": "5", "possible": "6", "stage 1": "2", "stage 2": "3"},
    ]
    assert {file.name for file in (tmp_path / "grades").iterdir()} == {
        "anna.html",
        "anna.json",
        "ben.html",
        "ben.json",
        "summary.csv",
    }


def test_reports_of_the_same_name_stay_apart(course, tmp_path, capsys):
    out, folders = tmp_path / "grades", [enrol(course, tmp_path / year / "repo") for year in ("2024", "2025", "2026")]
    call = ["--no-notebooks", "--only", "rooms", "--out", str(out)]
    assert main([*call, str(folders[0]), str(folders[0] / "../repo"), str(folders[1])]) == 0
    assert {file.stem for file in out.glob("*.html")} == {"2024-repo", "2025-repo"}
    assert main([*call, str(folders[2])]) == 0
    assert main([*call, str(folders[0])]) == 0  # again: its own report is written anew
    assert {json.loads(file.read_text())["learner"] for file in out.glob("*.json")} == {
        "2024-repo",
        "2025-repo",
        "repo",
    }
    assert [(row["learner"], row["points"]) for row in rows(out)] == [
        ("2024-repo", "3"),
        ("2025-repo", "3"),
        ("repo", "3"),
    ]


def test_names_that_differ_by_case_only_are_the_same_on_some_disks(tmp_path):
    named = name_learners([tmp_path / "a/Repo", tmp_path / "b/repo", tmp_path / "grades"], tmp_path / "grades")
    assert [*named] == ["a-Repo", "b-repo"]


def test_the_repository_itself_can_be_graded(course, capsys, monkeypatch):
    monkeypatch.chdir(course.root)
    assert main([".", "--no-notebooks", "--out", "made/grades"]) == 0
    assert capsys.readouterr().out.startswith(f"{course.root.name}: 0 of 6 points")
    shutil.rmtree(course.root / "made")


def test_an_unknown_exercise_is_refused_before_anybody_is_graded(course, tmp_path, capsys):
    assert main(["--no-notebooks", "--only", "triangles", "--out", str(tmp_path / "grades"), str(tmp_path)]) == 1
    assert "there is no exercise 'triangles'" in capsys.readouterr().err
    assert not (tmp_path / "grades").exists()


def test_an_interrupt_leaves_whole_reports_and_no_process(course, tmp_path):
    slow = SHAPES.replace("import math", "import math, time").replace(HYPOT, "time.sleep(15)")
    folders = [enrol(course, tmp_path / "anna"), enrol(course, tmp_path / "slow", shapes=slow)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLOSTUDY")} | {
        "PYTHONPATH": str(course.root)
    }
    command = [
        sys.executable,
        "-m",
        "yolostudy.study.grading",
        "--no-notebooks",
        "--out",
        str(tmp_path / "grades"),
        *map(str, folders),
    ]
    before = servers(course)
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert running.stdout.readline().startswith("anna: 6 of 6 points")
    time.sleep(0.5)  # the second learner's turn
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=600)
    assert (running.returncode, "interrupted" in said, "Traceback" in said) == (130, True, False), said
    assert {file.name for file in (tmp_path / "grades").iterdir()} == {"anna.html", "anna.json", "summary.csv"}
    assert [row["learner"] for row in rows(tmp_path / "grades")] == ["anna"]
    assert servers(course) == before


def servers(course) -> set[str]:
    """The processes, where there is a /proc, that name this course."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found |= {file.parent.name} if str(course.root).encode() in file.read_bytes() else set()
    return found


# ---- notebooks -----------------------------------------------------------------------------------

NOTEBOOK = """\
# Shapes

```{code-cell} ipython3
%load_ext yolostudy
%yolostudy stage 1
```

```{code-cell} ipython3
:tags: [nbval-check-output]

#| fill shapes.Square
```

```{code-cell} ipython3
:tags: [nbval-check-output]

#| fill shapes.diagonal
```

```{code-cell} ipython3
:tags: [nbval-check-output]

from yolostudy.shapes import Square, diagonal

print(Square(2).area(), round(diagonal(Square(2))))
```

```{code-cell} ipython3
:tags: [nbval-check-output]

import os
from pathlib import Path

print(sorted(name for name in os.environ if name in ("SECRET", "YOLOSTUDY_USE")))
```
"""


@pytest.mark.notebook
def test_the_shipped_notebooks_run_on_what_passed(course, judge, box, tmp_path, monkeypatch):
    """One wrong answer: its fill cell fails, and nothing else.

    It would end the kernel, so it never runs there.
    """
    (course.root / "course/source/01_shapes.md").write_text(NOTEBOOK)
    monkeypatch.setenv("YOLOSTUDY_USE", "reference")
    (notebook,) = build(course, execute=True)
    before = notebook.read_bytes()
    monkeypatch.setenv("SECRET", "of the teacher")
    shapes = SHAPES.replace(HYPOT, "__import__('os')._exit(1)").replace("side * side * unit", "unit * side**2")
    folder = enrol(course, tmp_path / "ben", shapes=shapes)
    (folder / "course").mkdir()
    (folder / "course/01_shapes.ipynb").write_text("a learner's notebook is never looked at")
    report = grade(judge, box, folder, judge.select(""), "ben", find_notebooks(course))
    (ran,) = report.notebooks
    assert (ran.name, ran.passed, ran.failed) == ("01_shapes", 4, 1), ran
    assert ran.failures == ("code cell 3, #| fill shapes.diagonal: it does not pass",)
    assert report.points == 5
    assert "fill shapes.diagonal: it does not pass" in report.as_html()
    assert notebook.read_bytes() == before
    assert [v.state for v in report.verdicts] == [PASSED, NOT_YET, PASSED]


def test_notebooks_are_chosen_by_exercise(course, judge):
    for name in ("00_start", "01_shapes", "02_rooms"):
        (course.root / f"course/{name}.ipynb").touch()
    assert [file.stem for file in find_notebooks(course)] == ["00_start", "01_shapes", "02_rooms"]
    assert [file.stem for file in find_notebooks(course, judge.select("rooms"))] == ["02_rooms"]


def test_a_notebook_that_cannot_be_run_is_told(tmp_path):
    notebook = tmp_path / "01_shapes.ipynb"
    notebook.write_text('{"cells": []}')
    ran = notebooks._result(notebook, "ERROR: nothing collected\n", 4, [])
    assert (ran.passed, ran.failed, ran.failures) == (0, 1, ("ERROR: nothing collected",))
