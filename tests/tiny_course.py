"""A course of two modules, without torch, around a copy of the course machine, for its tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import yolostudy
from yolostudy.study.course import Course

SHAPES = '''\
"""Shapes."""

import math

UNIT = 1.0  # metres


class Square:
    """A square."""

    def __init__(self, side: float):
        # BEGIN SOLUTION
        self.side = side
        # END SOLUTION

    def area(self) -> float:
        """In square metres."""
        unit = UNIT
        # BEGIN SOLUTION
        side = self.side
        # END SOLUTION
        check = "# BEGIN SOLUTION"
        # BEGIN SOLUTION
        return side * side * unit
        # END SOLUTION


def diagonal(square: Square) -> float:
    # BEGIN SOLUTION
    return math.hypot(square.side, square.side)
    # END SOLUTION


def given() -> str:
    return "given"
'''

ROOMS = """\
from .shapes import Square


class Room:
    def __init__(self, *squares: Square):
        self.squares = squares

    def area(self) -> float:
        # BEGIN SOLUTION
        return sum(square.area() for square in self.squares)
        # END SOLUTION
"""

EXERCISES = """\
from yolostudy.study.exercise import Exercise

HINTS = ("Keep the side.", "An area is a side times a side.", "Keep the side in __init__ and multiply it with itself in area.")

square = Exercise("shapes.Square", stage=1, points=2, minutes=5, goal="Make a square.", hints=HINTS)


@square.probe("areas")
def _(course):
    return {"areas": [course.shapes.Square(side).area() for side in (1.0, 2.0, 3.0)]}


@square.probe("the side is kept")
def _(course):
    return {"area": course.shapes.Square(side=5.0).area(), "given": course.shapes.given()}


square.misconception("a side is taken for an area", swap=("side * side * unit", "side * unit"), because="2 m give 4 square metres.")
square.misconception("the side is halved", swap=("self.side = side", "self.side = side / 2"), because="Half a side is another square.")

diagonal = Exercise("shapes.diagonal", stage=1, points=1, minutes=5, goal="Across the square.", hints=HINTS, after="shapes.Square")


@diagonal.probe("a diagonal")
def _(course):
    return {"length": course.shapes.diagonal(course.shapes.Square(1.0))}


diagonal.misconception("half the way round", swap=("math.hypot(square.side, square.side)", "2 * square.side"), because="Cut across.")
"""

NOTEBOOKS = {"shapes": "01_shapes", "rooms": "02_rooms"}


def write_course(root: Path) -> Course:
    """A repository with solutions, the course's table, and a package without exercise modules."""
    for folder in ("solutions", "course/source", "yolostudy/lens", "yolostudy/data"):
        (root / folder).mkdir(parents=True)
    (root / "solutions/shapes.py").write_text(SHAPES)
    (root / "solutions/rooms.py").write_text(ROOMS)
    table = "".join(f'{name} = "{notebook}"\n' for name, notebook in NOTEBOOKS.items())
    (root / "course/course.toml").write_text(f'keep = ["data"]\n[notebooks]\n{table}')
    package = Path(yolostudy.__file__).parent
    shutil.copy(package / "__init__.py", root / "yolostudy")
    shutil.copytree(package / "study", root / "yolostudy/study", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "yolostudy/lens/__init__.py").write_text("from ..rooms import Room\n")
    (root / "yolostudy/data/__init__.py").write_text("class Record: ...\n")
    return Course.open(root, "yolostudy")


def write_exercises(course: Course) -> None:
    course.exercises.mkdir(exist_ok=True)
    (course.exercises / "shapes.py").write_text(EXERCISES)


def fill(course: Course, module: str, old: str, new: str) -> Path:
    """Edits one of the learner's files."""
    file = course.mine / f"{module}.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


def run(course: Course, code: str, use: str | None = None) -> subprocess.CompletedProcess:
    """Runs code in a fresh Python that sees the tiny course's package instead of the real one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLOSTUDY")}
    environment |= {"PYTHONPATH": str(course.root)} | ({"YOLOSTUDY_USE": use} if use else {})
    command = [sys.executable, "-c", dedent(code)]
    return subprocess.run(command, env=environment, cwd=course.root, capture_output=True, text=True, timeout=600)
