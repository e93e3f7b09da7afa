"""The desk: what it writes, what it refuses to write, and that nothing is ever lost."""

import ast
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.tiny_course import NOTEBOOKS, ROOMS, SHAPES
from yolostudy.study import history, page
from yolostudy.study.course import Course
from yolostudy.study.desk import Desk
from yolostudy.study.edition import Module, parse, read_module
from yolostudy.study.errors import CourseError, Refusal

X = "shapes.diagonal"


def diagonal(value: object) -> str:
    return f"def diagonal(square):\n    return {value}\n"


A, B, C = diagonal(1), diagonal(2), diagonal(3)


def make_course(root: Path) -> Course:
    """The exercise modules of the tiny course, as stubs."""
    for folder in ("solutions", "yolostudy"):
        (root / folder).mkdir(parents=True)
    (root / "solutions/shapes.py").write_text(SHAPES)
    (root / "solutions/rooms.py").write_text(ROOMS)
    course = Course(root, "yolostudy", NOTEBOOKS)
    for name in course.names:
        (course.mine / f"{name}.py").write_text(course.module("stub", name).text)
    return course


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test cuts the power, and only that would need it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def course(tmp_path) -> Course:
    return make_course(tmp_path)


@pytest.fixture
def desk(course) -> Desk:
    return Desk(course)


@pytest.fixture
def file(course) -> Path:
    return course.mine / "shapes.py"


@pytest.fixture
def stub(course) -> str:
    return course.module("stub", "shapes").text


def mine(file: Path, name: str = "diagonal") -> str:
    return read_module(file).find(name).text


def edit(file: Path, old: str, new: str) -> bytes:
    content = file.read_bytes()
    assert content.count(old.encode()) == 1
    file.write_bytes(content.replace(old.encode(), new.encode()))
    return file.read_bytes()


def refused(call, *arguments) -> Refusal:
    """What it says; and that it wrote nothing."""
    file = call.__self__.course.mine / "shapes.py"
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    assert (file.read_bytes() if file.exists() else None) == before
    return caught.value


# ---- fill, solve, reset --------------------------------------------------------------------------


def test_fill_writes_one_definition_and_nothing_else(desk, file, stub):
    change = desk.fill(X, f"#| fill {X}\n\n{A}\ndiagonal(3)\n", "nb")
    assert (change.name, change.how, change.file, change.written) == (X, "fill", file, True)
    assert change.message == "wrote shapes.diagonal into yolostudy/shapes.py"
    assert "+    return 1" in change.diff.splitlines()
    old = parse(stub, file).find("diagonal").text
    assert file.read_text() == stub.replace(old, A)


def test_fill_again_writes_nothing(desk, file):
    desk.fill(X, A, "nb")
    stamp = file.stat().st_mtime_ns
    change = desk.fill(X, A, "another")
    assert (change.written, change.message, change.diff) == (
        False,
        "yolostudy/shapes.py holds this shapes.diagonal already",
        "",
    )
    assert file.stat().st_mtime_ns == stamp
    assert [v.how for v in desk.versions(X)] == ["found", "fill"]


def test_solve_and_reset(desk, file, stub):
    edit(file, "\n\ndef given", "\n\n# my own\ndef helper():\n    return 4\n\n\ndef given")
    with_helper = file.read_text()
    assert desk.solve(X).message == "wrote the reference's shapes.diagonal into yolostudy/shapes.py"
    assert mine(file) == parse(SHAPES, file).find("diagonal").text
    assert not desk.solve(X).written
    assert desk.reset(X).message == "put the stub of shapes.diagonal back into yolostudy/shapes.py"
    assert file.read_text() == with_helper
    assert not desk.reset(X).written


def test_all_solved_is_the_reference(desk, file):
    for name in ("shapes.Square", X, "shapes.given"):
        desk.solve(name)
    assert file.read_text() == SHAPES


def test_comments_above_a_definition_stay_and_those_of_the_cell_belong_to_its_helpers(desk, file):
    edit(file, "def diagonal", "# mine: think of Pythagoras\ndef diagonal")
    desk.fill(
        X,
        f"#| fill {X}\n# of the cell\nimport cmath as c\n# on top\n# two lines\ndef root(x):\n    return "
        f"c.sqrt(x)\n{diagonal('root(2)')}",
        "nb",
    )
    assert (
        "        ...\n\nimport c" not in file.read_text()
        and """

# of the cell
import cmath as c


# on top
# two lines
def root(x):
    return c.sqrt(x)


# mine: think of Pythagoras
def diagonal(square):
    return root(2)


def given"""
        in file.read_text()
    )


# ---- helpers -------------------------------------------------------------------------------------


def test_a_changed_helper_replaces_the_one_that_came_before(desk, file):
    cell = "from cmath import sqrt, phase\nSCALE = {}\n\ndef scaled(x):\n    return SCALE * sqrt(x)\n\n" + diagonal(
        "scaled(2)"
    )
    assert desk.fill(X, cell.format(1), "nb").message.endswith(", with SCALE, phase, scaled, sqrt")
    first = file.read_text()
    desk.fill(X, cell.format(2).replace("* sqrt", "+ sqrt"), "nb")
    assert file.read_text() == first.replace("SCALE = 1", "SCALE = 2").replace("* sqrt", "+ sqrt")
    desk.undo(X)
    assert file.read_text() == first


def test_a_helper_may_become_several_or_one_and_stays_one_of_its_name(desk, file):
    one, two = "P, Q = 1, 2\n" + diagonal("P + Q"), "P = 3\nQ = 4\n" + diagonal("P + Q")
    for cell in (one, two, one, two, "P = 5\nP = P + 1\n" + diagonal("P"), "P = 7\n" + diagonal("P")):
        desk.fill(X, cell, "nb")
        space = {}
        exec(file.read_text(), space)
        fresh = {}
        exec(cell, fresh)
        assert space["diagonal"](None) == fresh["diagonal"](None)
    assert file.read_text().count("P =") == 1


def test_what_else_a_statement_of_the_file_binds_stays(desk, file):
    edit(file, "import math\n", "import math\nimport json, csv\nlast = json.dumps(1) + csv.__name__\n")
    desk.fill(X, "import json\n" + diagonal("json"), "nb")
    exec(file.read_text(), {})
    edit(file, "def given", "diagonal, other = 1, 2\n\n\ndef given")
    desk.fill(X, A, "nb")
    space = {}
    exec(file.read_text(), space)
    assert (space["diagonal"](None), space["other"]) == (1, 2)


def test_what_the_course_binds_is_not_written_with_another_definition(desk, file, stub):
    edit(file, "UNIT = 1.0", "UNIT = 2.0")
    change = desk.fill(
        X, "import math as m, math\nUNIT = 3\nclass Square:\n    pass\n" + diagonal("UNIT, Square, m"), "nb"
    )
    assert change.message == (
        "wrote shapes.diagonal into yolostudy/shapes.py, with m; Square, UNIT stayed as the file has it: "
        "a fill writes one definition and your own helpers"
    )
    assert "UNIT = 2.0" in file.read_text() and "UNIT = 3" not in file.read_text()
    assert mine(file, "Square") == parse(stub, file).find("Square").text


def test_a_given_import_that_the_file_lacks_comes_along(desk, file):
    edit(file, "import math\n", "")
    desk.fill(X, "import math\n" + diagonal("math.pi"), "nb")
    space = {}
    exec(file.read_text(), space)
    assert space["diagonal"](None) > 3


def test_star_imports_come_along_once(desk, file):
    for value in ("sqrt(4)", "sqrt(9)"):
        desk.fill(X, "from math import *\n" + diagonal(value), "nb")
    assert file.read_text().count("import *") == 1


# ---- what a cell must be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, words",
    [
        ("x = 1\ndef diagonal(square):\n    return (1\n", "line 3 of this cell has a syntax error"),
        ("x = 1\n\ndef diagonal(a, a):\n    return 1\n", "line 3 of this cell has a syntax error"),
        ("def diagonal(a):\n    break\n", "line 2 of this cell has a syntax error"),
        ("x = 1\n\0\n", "line 2 of this cell has a syntax error"),
        ("x = 1\ny = '\ud800'\n", "line 2 of this cell has a syntax error"),
        ("%timeit x\n" + A, "line 1 of this cell has a syntax error"),
        ("", "this cell does not define diagonal. Define it as a class or function in this cell"),
        (
            "def Diagonal(): ...\nclass E: ...\n",
            "does not define diagonal. It defines Diagonal, E. Define it as a class or function",
        ),
        (A + "\n\n" + B, "defines diagonal more than once, in lines 1, 5. Keep one of them"),
        (A + "diagonal = print(diagonal)\n", "defines diagonal more than once, in lines 1, 3"),
        (
            "x = 1\nif x:\n    def diagonal(): ...\n",
            "line 2 of this cell .*Define it as a class or function in this cell, at its left",
        ),
        ("diagonal = lambda square: 1\n", "line 1 of this cell makes diagonal by an assignment, an import or inside"),
        (
            "from elsewhere import diagonal\n",
            "line 1 of this cell makes diagonal by an assignment, an import or inside",
        ),
    ],
)
def test_a_cell_that_cannot_be_written_is_refused_with_its_line(desk, cell, words):
    assert re.search(words, str(refused(desk.fill, X, cell, "nb")))
    refused(desk.fill, X, cell, "nb")  # a second time too


def test_a_cell_may_do_what_a_notebook_may(desk, file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Python said when the cell ran is not said again
        desk.fill(X, A + "await nothing\n[x async for x in y]\nprint('\\d')\n", "nb")
        desk.fill(X, diagonal("'\\d'"), "nb")
        desk.undo(X)
    assert mine(file) == A


def test_names_are_checked(desk, course):
    assert "no exercise module 'shape'. There are: rooms, shapes" in str(refused(desk.fill, "shape.diagonal", A))
    assert "no definition 'diagnal'. There are: shapes.Square, shapes.diagonal, shapes.given" in str(
        refused(desk.solve, "shapes.diagnal")
    )
    assert "no definition ''" in str(refused(desk.undo, "shapes."))
    for word in (desk.solve, desk.reset, desk.diff):
        refused(word, "shapes")
    refused(desk.fill, "shapes", A)
    assert "no version 9 of shapes.diagonal. `yolostudy undo shapes.diagonal --list` lists" in str(
        refused(desk.restore, X, 9)
    )
    (course.root / "solutions/shapes.py").unlink()
    (course.root / "solutions/rooms.py").unlink()
    (course.root / "solutions").rmdir()
    with pytest.raises(CourseError, match="no folder"):
        Desk(Course(course.root, "yolostudy", NOTEBOOKS)).fill(X, A)


# ---- an untouched stub never overwrites work -----------------------------------------------------


def test_an_untouched_stub_cell_writes_nothing(desk, file, stub):
    cell = f"#| fill {X}\n" + parse(stub, file).find("diagonal").text.replace(":\n", ":  # ...\n")
    change = desk.fill(X, cell, "nb")
    assert (change.written, change.message) == (
        False,
        "this cell is the untouched stub of shapes.diagonal; yolostudy/shapes.py holds the stub too",
    )
    desk.fill(X, A, "nb")
    for writer in ("nb", "nb", "other", "other"):
        change = desk.fill(X, cell, writer)
        assert not change.written and change.message.endswith("holds your work, which stays")
    edit(file, "return 1", "return (1")
    change = desk.fill(X, cell, "nb")
    assert not change.written and change.message.endswith("holds your work, which stays")
    assert "return (1" in file.read_text()


# ---- what a writer did not write -----------------------------------------------------------------


def test_an_edited_definition_is_overwritten_only_the_second_time(desk, course, file):
    desk.fill(X, A, "nb")
    edit(file, "return 1", "return 'by hand'")
    refusal = refused(desk.fill, X, B, "nb")
    assert str(refusal).startswith(
        "nothing was written: yolostudy/shapes.py holds what this notebook did not write (diagonal)."
    )
    assert {"-    return 'by hand'", "+    return 2"} <= {*refusal.diff.splitlines()}
    refused(desk.fill, X, C, "nb")  # another cell
    refused(desk.fill, X, B, "nb")  # not the last that was shown
    refused(desk.fill, X, B, "other")  # another notebook was told nothing
    assert Desk(course).fill(X, B, "nb").written  # not even a restart forgets what was said
    assert any("by hand" in v.text for v in desk.versions(X))
    assert desk.fill(X, C, "nb").written


def test_an_edit_after_the_refusal_is_refused_anew(desk, file):
    edit(file, "def diagonal", "@print\ndef diagonal")
    refused(desk.fill, X, B, "nb")
    edit(file, "@print", "@repr")
    refused(desk.fill, X, B, "nb")
    desk.fill(X, B, "nb")


def test_a_notebook_that_runs_twice_from_top_to_bottom_overwrites_all(desk, file):
    """What is written in between must not make the refusals of the first time void."""
    cells = {
        name: f"#| fill {name}\n\ndef {name[7:]}(*_):\n    x = 1\n    return x\n"
        for name in ("shapes.Square", X, "shapes.given")
    }
    for name in cells:
        desk.solve(name)
    edit(file, 'return "given"', "return 'by hand'")
    for name, cell in cells.items():
        refused(desk.fill, name, cell, "nb")
    for name, cell in cells.items():
        assert desk.fill(name, cell, "nb").written


def test_two_notebooks(desk):
    desk.fill(X, A, "one")
    refused(desk.fill, X, B, "two")
    desk.fill(X, B, "two")
    desk.fill(X, C, "two")
    refused(desk.fill, X, A, "one")
    desk.fill(X, A, "one")
    assert not desk.fill(X, A, "two").written
    desk.fill(X, B, "one")
    desk.fill(X, A, "one")
    desk.undo(X)
    desk.undo(X)
    desk.undo(X)
    assert mine(desk.course.mine / "shapes.py") == C  # what the other wrote stays strange after an undo
    refused(desk.fill, X, B, "one")


def test_an_edited_helper_is_asked_for_too(desk, file):
    cell = "K = 1\n" + diagonal("K")
    desk.fill(X, cell, "nb")
    edit(file, "K = 1", "K = 11")
    assert "did not write (K)" in str(refused(desk.fill, X, cell, "nb"))
    desk.fill(X, cell, "nb")
    desk.fill("shapes.given", "K = 2\ndef given():\n    return K\n", "nb")  # two cells of one notebook share it
    desk.fill(X, cell, "nb")


def test_what_does_not_change_needs_no_asking(desk, file):
    edit(file, "UNIT = 1.0", "UNIT = 7")
    edit(file, "class Square:", "class Square(object):")
    assert desk.fill(X, A, "nb").written
    edit(file, "return 1", "return 2")
    assert not desk.fill(X, B, "nb").written


def test_a_solution_is_not_overwritten_without_a_word(desk):
    desk.fill(X, A, "nb")
    desk.solve(X)
    refused(desk.fill, X, A, "nb")
    desk.undo(X)
    assert not desk.fill(X, A, "nb").written


def test_to_go_back_at_the_desk_is_no_edit(desk, file):
    desk.fill(X, A, "nb")
    desk.fill(X, B, "nb")
    desk.undo(X)
    assert desk.fill(X, C, "nb").written
    desk.undo("shapes")
    assert desk.fill(X, B, "nb").written
    edit(file, "return 2", "return 1")
    refused(desk.fill, X, C, "nb")  # but to go back by hand is


# ---- files that are not as they should be --------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "broken",
    [
        "def diagonal(square:\n    return 1\n",
        "def diagonal(square):\n    return (1\n",
        "def diagonal(square):\n    x = '''1\n",
        "def diagonal(square):\n    x = 1\n  return x\n\n\n  ((\n",
        "def diagonal(square):\nreturn 1\n",
        "def diagonal(a, a):\n    return 1\n",  # ast.parse takes it
        "@staticmethod\n@print\ndef diagonal(square)\n    return 1\n",
        "@print(\ndef diagonal(square):\n    return 1\n",
        "async def diagonal(square)\n    return 1\n",
        "def diagonal(square):\n    return '\0'\n",
    ],
)
def test_a_definition_that_python_cannot_read_is_replaced(desk, file, stub, broken, newline):
    old = parse(stub, file).find("diagonal").text
    stub = stub.replace("def diagonal", "# mine\ndef diagonal").replace("def given", "# given\ndef given")
    whole = stub.replace(old, broken).replace("\n", newline).encode()
    for act, text in [
        (lambda: desk.solve(X), parse(SHAPES, file).find("diagonal").text),
        (lambda: desk.reset(X), old),
        (lambda: desk.fill(X, A, "nb"), A),
    ]:
        file.write_bytes(whole)
        if text == A:
            refusal = refused(desk.fill, X, A, "nb")
            file.write_bytes(whole.replace(b"diagonal(", b"diagonal(("))
            refused(desk.fill, X, A, "nb")  # told of another text
            file.write_bytes(whole)
            refused(desk.fill, X, A, "nb")
            assert "has a syntax error in line" in str(refusal) and all(
                f"-{line}" in refusal.diff for line in broken.splitlines() if line not in A
            )
        assert act().written
        assert file.read_bytes() == stub.replace(old, text).replace("\n", newline).encode()
        assert desk.undo("shapes").written
        assert file.read_bytes() == whole


def test_a_file_that_cannot_be_put_right_says_how_to_go_back(desk, file):
    desk.fill(X, A, "nb")
    good = file.read_bytes()
    broken = edit(file, "return UNIT" if b"return UNIT" in good else "unit = UNIT", "unit = (")
    for call, arguments in ((desk.fill, (X, B, "nb")), (desk.solve, (X,)), (desk.reset, (X,)), (desk.undo, (X,))):
        refusal = refused(call, *arguments)
        assert "yolostudy/shapes.py has a syntax error in line 16" in str(refusal)
        assert "`yolostudy undo shapes`" in str(refusal)
    edit(file, "unit = (", "unit = ((")
    desk.notice("shapes")
    assert desk.undo("shapes").written
    assert file.read_bytes() == good
    assert broken in [
        (file.parents[1] / f".yolostudy/history/shapes/{v.sha}.py").read_bytes() for v in desk.versions("shapes")
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"# coding: klingon\n", b"def diagonal(:\n    '\xff'\n", b"(\n", b""])
def test_a_file_of_anything(desk, file, content):
    good = file.read_bytes()
    desk.notice("shapes")
    file.write_bytes(content)
    if content:
        refused(desk.fill, X, A, "nb")
        refused(desk.solve, X)
        assert desk.diff(X) and desk.versions(X)
    else:
        desk.solve(X)
        assert mine(file) == parse(SHAPES, file).find("diagonal").text
        desk.undo("shapes")
    desk.undo("shapes")
    assert file.read_bytes() == good


def test_undo_of_one_definition_puts_a_broken_one_right(desk, file):
    desk.fill(X, A, "nb")
    edit(file, "return 1", "return (1")
    assert "version 2" in desk.undo(X).message
    assert mine(file) == A


def test_a_missing_file_is_made_from_the_stub(desk, file, stub):
    desk.fill("shapes.given", "def given():\n    return 'mine'\n", "nb")
    whole = file.read_bytes()
    file.unlink()
    desk.notice("shapes")
    assert len(desk.versions("shapes")) == 2
    assert desk.fill(X, A, "nb").written
    assert file.read_text() == stub.replace(parse(stub, file).find("diagonal").text, A)
    assert desk.undo("shapes.given").written
    assert mine(file, "given") == "def given():\n    return 'mine'\n"
    file.unlink()
    assert desk.fill(X, stub, "nb").written
    assert file.read_text() == stub
    file.unlink()
    desk.diff(X)
    assert not file.exists()
    desk.undo("shapes")
    assert file.read_text() == stub
    desk.undo("shapes"), desk.undo("shapes"), desk.undo("shapes")
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "name, text", [("shapes.Square", "class Square:\n    side = 3\n"), (X, A), ("shapes.given", "def given(): ...\n")]
)
def test_a_deleted_definition_comes_back_at_its_place(desk, file, stub, name, text):
    old = parse(stub, file).find(name.partition(".")[2])
    edit(file, old.lead + old.text, "")
    edit(file, "UNIT = 1.0  # metres\n", "UNIT = 1.0  # metres\n\n\nif __name__ == '__main__':\n    print(1)\n")
    whole = file.read_text()
    for act, *arguments in ((desk.fill, name, text, "nb"), (desk.reset, name), (desk.solve, name)):
        assert act(*arguments).written
        assert read_module(file).definitions == ["Square", "diagonal", "given"]
        assert desk.undo("shapes").written
        assert file.read_text() == whole


def test_a_deleted_definition_comes_back_below_its_helper_and_above_what_follows(desk, file):
    cell = "def twice(f):\n    return f\n\n@twice\n" + A
    desk.fill(X, cell, "nb")
    edit(file, f"\n\n@twice\n{A}", "")
    desk.fill(X, cell, "nb")
    exec(file.read_text(), {})
    assert read_module(file).definitions == ["Square", "twice", "diagonal", "given"]


def test_a_definition_comes_back_below_a_last_line_without_end(desk, file):
    file.write_bytes(file.read_bytes().partition(b"\n\n\ndef given")[0])
    desk.reset("shapes.given")
    assert file.read_text() == desk.course.module("stub", "shapes").text


def test_a_solution_brings_no_other_solution(desk, file):
    names = ["Square", "diagonal", "given"]
    for first, second in itertools.permutations(names, 2):
        file.write_text("UNIT = 2\n")
        desk.solve(f"shapes.{first}"), desk.solve(f"shapes.{second}")
        assert read_module(file).definitions == sorted([first, second], key=names.index)
        assert ("import math\n" in file.read_text()) == ("diagonal" in (first, second))
    file.write_text("import math\n")
    desk.solve("shapes.Square")
    assert "UNIT = 1.0  # metres\n" in file.read_text()  # what is given comes along


def test_what_was_deleted_by_hand_comes_back_by_undo(desk, file):
    desk.fill(X, A, "nb")
    edit(file, A, "")
    assert desk.undo(X).written
    assert mine(file) == A


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ends", [("\r\n",), ("\r",), ("\n",), ("\r\n", "\n", "\n"), ("\n", "\n", "\r\n"), ("\n", "\r")]
)
@pytest.mark.parametrize("bom, final", [(b"", True), (b"\xef\xbb\xbf", True), (b"", False)])
@pytest.mark.parametrize("cell_end", ["\n", "\r\n"])
def test_line_ends_and_mark_stay(desk, file, stub, ends, bom, final, cell_end):
    lines = stub.replace("metres", "mètres").splitlines()
    raw = [line.encode() + end.encode() for line, end in zip(lines, itertools.cycle(ends))]
    raw[-1] = raw[-1] if final else raw[-1].rstrip()
    start = lines.index("def diagonal(square: Square) -> float:")
    file.write_bytes(content := bom + b"".join(raw))
    for text in ("def diagonal(square):\n\tif square:\n\t\treturn 'é'\n", A):
        desk.fill(X, text.replace("\n", cell_end), "nb")
        expected = text.replace("\n", ends[0]).encode()
        assert file.read_bytes() == bom + b"".join(raw[:start]) + expected + b"".join(raw[start + 2 :])
    desk.undo(X), desk.undo(X)
    assert mine(file) == parse(stub, file).find("diagonal").text
    assert len(ends) > 1 or file.read_bytes() == content
    desk.restore("shapes", 1)
    assert file.read_bytes() == content


def test_a_declared_encoding_stays_and_what_it_lacks_is_refused(desk, file):
    file.write_bytes("# coding: latin-1\n# é\n".encode("latin-1") + file.read_bytes())
    desk.fill(X, diagonal("'ü'"), "nb")
    assert b"'\xfc'" in file.read_bytes() and b"# \xe9\n" in file.read_bytes()
    assert "yolostudy/shapes.py is written in iso-8859-1, which lacks '✓'" in str(
        refused(desk.fill, X, diagonal("'✓'"), "nb")
    )


def test_what_is_compiled_already_is_forgotten(desk, file):
    (cache := file.parent / "__pycache__").mkdir()
    (cache / "shapes.cpython-311.pyc").touch()
    desk.fill(X, A)
    assert not [*cache.iterdir()]


# ---- undo, versions, restore, diff ---------------------------------------------------------------


def test_undo_walks_back_through_every_fill_and_a_later_fill_goes_on_from_there(desk, file, stub):
    for text in (A, B, C):
        desk.fill(X, text, "nb")
    assert [(v.how, v.text + "\n") for v in desk.versions(X)[1:]] == [("fill", A), ("fill", B), ("fill", C)]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", v.when) for v in desk.versions(X))
    desk.undo(X), desk.undo(X)
    desk.fill(X, D := diagonal(4), "nb")
    seen = [mine(file)]
    while (change := desk.undo(X)).written:
        assert change.how == "undo" and "back into yolostudy/shapes.py" in change.message
        seen.append(mine(file))
    assert seen == [D, A, parse(stub, file).find("diagonal").text]
    assert (change.message, change.diff) == ("there is no earlier version of shapes.diagonal", "")
    assert {v.text + "\n" for v in desk.versions(X)} >= {A, B, C, D}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_undo_is_a_stack_that_survives_restarts_edits_and_other_definitions(data):
    """A write or an edit of the definition pushes, undo pops, whatever else the file does."""
    with tempfile.TemporaryDirectory() as folder:
        course = make_course(Path(folder))
        desk, file, values = Desk(course), course.mine / "shapes.py", itertools.count(1)
        desk.notice("shapes")
        stack = [mine(file)]
        for act in data.draw(
            st.lists(
                st.sampled_from("fill undo undo edit solve reset restore other outside restart".split()), max_size=14
            )
        ):
            if act == "fill":
                stack.append(diagonal(next(values)))
                try:
                    desk.fill(X, stack[-1], "nb")
                except Refusal:
                    desk.fill(X, stack[-1], "nb")
            elif act == "undo":
                assert desk.undo(X).written == (len(stack) > 1)
                stack = stack[:-1] or stack
            elif act == "edit":
                stack.append(diagonal(next(values)))
                file.write_text(file.read_text().replace(stack[-2], stack[-1]))
                desk.notice("shapes")
            elif act in ("solve", "reset", "restore"):
                versions = desk.versions(X)
                change = (
                    desk.restore(X, data.draw(st.sampled_from(versions)).number)
                    if act == "restore"
                    else getattr(desk, act)(X)
                )
                stack += [mine(file)] if change.written else []
            elif act == "other":
                desk.fill("shapes.given", f"def given():\n    return {next(values)}\n", "nb")
            elif act == "outside":
                file.write_text(f"# {next(values)}\n" + file.read_text())
            else:
                desk = Desk(course)
            assert mine(file) == stack[-1]


def test_undo_of_a_module_goes_back_by_whole_files(desk, file):
    contents = [file.read_bytes()]
    for act in (
        lambda: desk.fill(X, A, "nb"),
        lambda: desk.solve("shapes.Square"),
        lambda: edit(file, "return 1", "return (1"),
    ):
        act()
        contents.append(file.read_bytes())
    desk.notice("shapes")
    desk.solve(X)
    assert (
        "version 5 of shapes (edited, " not in (change := desk.undo("shapes")).message
        and "of shapes (edited" in change.message
    )
    for content in contents[-2::-1]:
        desk.undo("shapes")
        assert file.read_bytes() == content
    assert not desk.undo("shapes").written
    for version, content in zip(desk.versions("shapes"), contents):
        desk.restore("shapes", version.number)
        assert (file.read_bytes(), version.text) == (content, content.decode())


def test_undo_of_a_module_moves_its_definitions_back_too(desk, file, stub):
    for text in (A, B):
        desk.fill(X, text, "nb")
    desk.undo("shapes")
    assert mine(file) == A
    desk.undo(X)
    assert file.read_text() == stub


def test_restore_brings_any_version_back_and_can_be_undone(desk, file):
    desk.fill(X, "K = 1\n" + diagonal("K"), "nb")
    desk.fill(X, "K = 2\n" + diagonal("K"), "nb")
    desk.fill("shapes.given", "def given(): ...\n", "nb")
    old = desk.versions(X)[1]
    assert old.text == "K = 1\n\n\n" + diagonal("K").rstrip()
    change = desk.restore(X, old.number)
    assert re.fullmatch(
        rf"brought version {old.number} of {X} \(fill, [^ ]+Z\) back into yolostudy/shapes.py", change.message
    )
    assert "K = 1" in file.read_text() and "def given(): ..." in file.read_text()
    assert not desk.restore(X, old.number).written
    desk.undo(X)
    assert "K = 2" in file.read_text()


def test_diff(desk, file):
    assert desk.diff(X, "stub") == ""
    desk.fill(X, "K = 1\n" + diagonal("K"), "nb")
    desk.fill(X, "K = 2\n" + diagonal("K"), "nb")
    assert [line for line in desk.diff(X, "last").splitlines() if line[0] in "+-"][2:] == ["-K = 1", "+K = 2"]
    lines = desk.diff(X).splitlines()
    assert lines[:2] == ["--- shapes.diagonal (reference)", "+++ shapes.diagonal (mine)"]
    assert "-    return math.hypot(square.side, square.side)" in lines and "SOLUTION" not in "".join(lines)
    edit(file, "return K", "return (K")
    assert "+    return (K" in desk.diff(X, "stub") and "+    return (K" in desk.diff(X, "last")
    desk.solve(X)
    assert desk.diff(X) == ""
    assert 'Say "reference", "stub" or "last"' in str(refused(desk.diff, X, "mine"))


def test_notice_remembers_what_it_sees_once(desk, file):
    for text in ("a = 1\n", "a = 1\n", "a = (\n", "a = 1\n"):
        file.write_text(text)
        desk.notice("shapes"), desk.notice("shapes")
    assert [(v.how, v.text) for v in desk.versions("shapes")] == [
        ("found", "a = 1\n"),
        ("edited", "a = (\n"),
        ("edited", "a = 1\n"),
    ]


# ---- nothing is lost -----------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing in the desk catches it."""


def everything(course: Course) -> set[bytes]:
    """Each version of the file of shapes, brought back by a desk that has just been opened."""
    desk, file = Desk(course), course.mine / "shapes.py"
    versions = desk.versions("shapes")
    return {desk.restore("shapes", version.number) and file.read_bytes() for version in versions}


@pytest.mark.parametrize("act", ["fill", "undo", "solve", "edited and fill", "missing and fill"])
def test_a_crash_at_any_step_loses_nothing(tmp_path, monkeypatch, act):
    for step in itertools.count():
        course = make_course(tmp_path / str(step))
        desk, file = Desk(course), course.mine / "shapes.py"
        desk.fill(X, A, "nb"), desk.fill(X, B, "nb")
        if "edited" in act:
            edit(file, "return UNIT" if "return UNIT" in file.read_text() else "unit = UNIT", "unit = 5")
        before = file.read_bytes()
        if "missing" in act:
            file.unlink()
        left = step

        def step_or_die(function):
            def stepped(*arguments, **options):
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return function(*arguments, **options)

            return stepped

        with monkeypatch.context() as patch:
            for name in ("replace", "fsync"):
                patch.setattr(os, name, step_or_die(getattr(os, name)))
            patch.setattr(history.History, "add", step_or_die(history.History.add))
            patch.setattr(Module, "write", step_or_die(Module.write))
            patch.setattr(history, "open", step_or_die(open), raising=False)
            try:
                done = (
                    {"undo": desk.undo, "solve": desk.solve}[act](X)
                    if act in ("undo", "solve")
                    else desk.fill(X, C, "nb")
                )
            except Killed:
                done = None
        after = file.read_bytes() if file.exists() else None
        assert after == before or "missing" in act or ast.parse(after)
        found = everything(course)
        assert before in found and (after is None or after in found)
        assert Desk(course).solve("shapes.Square").written
        if done:
            assert step > 6
            break


def test_a_line_of_the_log_that_was_cut_in_two_is_read_over(desk, course, file):
    desk.fill(X, A, "nb")
    whole = file.read_bytes()
    log = course.root / ".yolostudy/history/shapes/log.jsonl"
    before = log.read_bytes()
    desk.fill(X, B, "nb")
    after, content = log.read_bytes(), file.read_bytes()
    for cut in range(len(before), len(after), 7):
        log.write_bytes(after[:cut] + b"\0" * (cut % 2))
        file.write_bytes(content)
        desk = Desk(course)
        assert [v.text + "\n" for v in desk.versions(X)[1:]] == [A, B]
        assert desk.undo(X).written and file.read_bytes() == whole
        assert [v.how for v in Desk(course).versions(X)] == ["found", "fill", "edited", "undo"]


def test_a_history_that_somebody_removed_begins_anew(desk, course, file):
    import shutil

    desk.fill(X, A, "nb")
    desk.fill(X, B, "nb")
    shutil.rmtree(course.root / ".yolostudy")
    desk.notice("shapes")
    assert [v.text + "\n" for v in desk.versions(X)] == [B]
    desk.fill(X, B, "nb"), refused(desk.fill, X, A, "nb"), desk.fill(X, A, "nb")
    for blob in (course.root / ".yolostudy/history/shapes").glob("*.py"):
        blob.unlink()
    assert desk.solve(X).written and desk.undo(X).written and mine(file) == A


def test_an_editor_that_saves_in_between_is_not_overwritten(desk, file, monkeypatch):
    merge, saved = page.Page.merge, diagonal("'saved just now'")

    def slow(opened, donor):
        merged = merge(opened, donor)
        file.write_text(saved)
        return merged

    monkeypatch.setattr(page.Page, "merge", slow)
    with pytest.raises(Refusal, match="saved by something else"):
        desk.fill(X, A, "nb")
    assert file.read_text() == saved


@pytest.mark.parametrize("lock", [True, False])
def test_threads_take_turns(course, file, monkeypatch, lock):
    if not lock:
        monkeypatch.setattr(history, "fcntl", None)  # as on Windows, where one desk alone must do
    names = ["shapes.Square", X, "shapes.given"]

    def work(name: str) -> None:
        for value in range(4):
            Desk(course).fill(name, f"def {name[7:]}(*a):\n    return {value}\n", name)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
        thread.join(None if not lock else 0)
    for thread in threads:
        thread.join()
    for name in names:
        assert [v.text[-1] for v in Desk(course).versions(name)[1:]] == list("0123")


WRITER = """
import itertools, sys
from pathlib import Path
from yolostudy.study.course import Course
from yolostudy.study.desk import Desk
from yolostudy.study.errors import Refusal

root, name, writer = sys.argv[1:]
desk = Desk(Course(Path(root), "yolostudy", {"shapes": "01_shapes", "rooms": "02_rooms"}))
for number in itertools.count():
    for _ in range(20):
        try:
            desk.fill(name, f"def {name[7:]}(*_):\\n    return '{writer}{number}'\\n", writer)
            break
        except Refusal:
            pass
    else:
        continue
    print(f"{writer}{number}", flush=True)
"""


@pytest.mark.parametrize("writers", [(X,), (X, X), (X, "shapes.Square")])
def test_writers_that_are_killed_lose_nothing(course, file, writers):
    given, dice = mine(file, "given"), random.Random(len(writers))
    for _ in range(2 if len(writers) == 1 else 1):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(course.root), name, letter], stdout=subprocess.PIPE, text=True
            )
            for name, letter in zip(writers, "ab")
        ]
        said = [[process.stdout.readline().strip()] for process in processes]
        threading.Event().wait(dice.uniform(0.1, 0.5))
        for process, done in zip(processes, said):
            process.kill()
            done += process.stdout.read().split("\n")[:-1]
            process.wait()
        assert mine(file, "given") == given
        for name, done in zip(writers, said):
            assert all(re.fullmatch(r"[ab]\d+", number) for number in done)
            desk = Desk(course)
            versions = {version.text: version for version in desk.versions(name)}
            for number in done:
                assert f"def {name[7:]}(*_):\n    return '{number}'" in versions
            for number in dice.sample(done, min(3, len(done))):
                desk.restore(name, versions[f"def {name[7:]}(*_):\n    return '{number}'"].number)
                assert number in mine(file, name[7:])


NAMES = {"shapes.Square": "Square", X: "diagonal", "shapes.given": "given"}


class Life(RuleBasedStateMachine):
    """What learners, editors and notebooks do to one file, in any order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.course = make_course(Path(self.folder.name))
        self.file, self.values = self.course.mine / "shapes.py", itertools.count(1)
        self.desk = Desk(self.course)
        self.seen, self.edited = [], set()

    def teardown(self):
        self.desk.notice("shapes")
        self.look()
        for content in {*self.seen}:
            number = next(
                v.number for v in self.desk.versions("shapes") if (self.blobs / f"{v.sha}.py").read_bytes() == content
            )
            self.desk.restore("shapes", number)
            assert self.file.read_bytes() == content
        self.file.write_text(self.course.module("stub", "shapes").text)
        for name, definition in NAMES.items():
            kept = {v.text.split("\n\n\n")[-1]: v.number for v in self.desk.versions(name)}
            for text in {text for content in self.seen if (text := self.text(content, definition))}:
                self.desk.restore(name, kept[text.rstrip("\n")])
                assert self.text(self.file.read_bytes(), definition) == text
        self.folder.cleanup()

    @property
    def blobs(self) -> Path:
        return self.course.root / ".yolostudy/history/shapes"

    @staticmethod
    def text(content: bytes, definition: str) -> str | None:
        try:
            found = parse(content.decode(), Path("x")).find(definition)
        except (SyntaxError, ValueError):
            return None
        return found and found.text

    def look(self) -> bytes | None:
        content = self.file.read_bytes() if self.file.exists() else None
        self.seen += [content] if content is not None else []
        return content

    def act(self, call, name: str, *arguments) -> None:
        """One command at the desk.

        The other definitions stay, a refusal writes nothing, and a change says whether it wrote.
        """
        before = self.look()
        try:
            change = call(name, *arguments)
        except Refusal:
            assert (self.file.read_bytes() if self.file.exists() else None) == before
            return
        after = self.look()
        assert change.written == (after != before)
        if before is not None and name in NAMES:
            for other in {*NAMES.values()} - {NAMES[name]}:
                if old := self.text(before, other):
                    newline = "\r\n" if b"\r\n" in before else "\n"
                    assert old.replace("\n", newline).encode().rstrip() in after

    @rule(
        name=st.sampled_from([*NAMES]),
        writer=st.sampled_from("ab"),
        kind=st.integers(0, 3),
        value=st.integers(0, 3),
        twice=st.booleans(),
    )
    def fill(self, name, writer, kind, value, twice):
        helper = [
            "",
            f"K = {value}\n\n",
            f"import cmath as c\ndef k():\n    return c.pi + {value}\n",
            "class Square: ...\nUNIT = 9\n",
        ][kind]
        body = [value, "K", "k()", "UNIT"][kind]
        cell = (
            f"#| fill {name}\n{helper if name != 'shapes.Square' or kind < 3 else ''}def "
            f"{NAMES[name]}(*_):\n\treturn {body}\n"
        )
        for _ in range(1 + twice):
            self.act(self.desk.fill, name, cell, writer)

    @rule(name=st.sampled_from([*NAMES]), word=st.sampled_from(["solve", "reset", "undo", "undo", "undo"]))
    def word(self, name, word):
        self.act(getattr(self.desk, word), name)

    @rule(data=st.data(), name=st.sampled_from([*NAMES, "shapes"]))
    def restore(self, data, name):
        self.look()
        if versions := self.desk.versions(name):
            self.act(self.desk.restore, name, data.draw(st.sampled_from(versions)).number)

    @rule()
    def undo_module(self):
        self.act(self.desk.undo, "shapes")

    @rule(
        how=st.sampled_from(["value", "break", "break", "delete", "helper", "crlf", "missing", "comment", "rubbish"]),
        name=st.sampled_from([*NAMES]),
    )
    def edit(self, how, name):
        if not self.file.exists():
            return
        text, own = self.file.read_bytes().decode(), self.text(self.file.read_bytes(), NAMES[name])
        newline = "\r\n" if "\r\n" in text else "\n"
        old = own.replace("\n", newline) if own else "\0"
        if how == "missing":
            self.file.unlink()
            return
        text = {
            "value": text.replace(old, f"def {NAMES[name]}(*_):{newline}    return {next(self.values)}.5{newline}"),
            "break": text.replace(old, old[:-3] + "((" + newline),
            "delete": text.replace(old, ""),
            "helper": text.replace("K = ", "K = 1"),
            "crlf": text.replace("\r\n", "\n").replace("\n", "\r\n"),
            "comment": text.replace(old, f"# {next(self.values)}{newline}{old}"),
            "rubbish": text + "x = (\n",
        }[how]
        self.file.write_bytes(text.encode())
        self.edited.add(text.encode())

    @rule()
    def notice(self):
        self.look()
        self.desk.notice("shapes")

    @rule()
    def restart(self):
        self.desk = Desk(self.course)

    @invariant()
    def it_parses_or_the_editor_left_it_so(self):
        if self.file.exists() and (content := self.file.read_bytes()) not in self.edited:
            ast.parse(content)


def test_nothing_is_ever_lost():
    run_state_machine_as_test(Life, settings=settings(max_examples=20, stateful_step_count=12, deadline=None))
