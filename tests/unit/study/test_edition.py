"""Editions: read, strip, transplant, load."""

import ast
import gc
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_course import NOTEBOOKS, ROOMS, SHAPES
from yolostudy.study.edition import Edition, load, parse, read, read_module, strip, transplant
from yolostudy.study.errors import CourseError

STUB = 'raise NotImplementedError("exercise shapes.{}: course/01_shapes.ipynb")'


def edition(**texts: str) -> Edition:
    return Edition({name: parse(text, Path(f"/nowhere/{name}.py")) for name, text in texts.items()})


def dump(text: str) -> str:
    return ast.dump(ast.parse(text))


@pytest.fixture
def reference(tmp_path) -> Edition:
    folder = tmp_path / "solutions"
    folder.mkdir()
    (folder / "shapes.py").write_text(SHAPES)
    (folder / "rooms.py").write_text(ROOMS)
    return read(folder)


@pytest.fixture
def stub(reference) -> Edition:
    return strip(reference, NOTEBOOKS)


# ---- read ----------------------------------------------------------------------------------------

STATEMENTS = [
    "import os",
    "a = 1; b = 2",
    "# a comment",
    "",
    "\t",
    "def f(x):\n\treturn x\n\t# last words",
    "@staticmethod\n@print\ndef g(): pass",
    "class C:\n    '''text\n\n# no comment\n'''\n\n    x = 1",
    "if a:\n    pass\nelse:\n    c = 3\n  # oddly indented",
    "s = '''\n  # BEGIN SOLUTION'''; t = (\n1)",
    "x = 1 \\\n  + 2",
    "\x0cdef after_form_feed(): ...",
    "é = 'ü\u2028'",
]


@given(
    st.lists(st.sampled_from(STATEMENTS)),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_file_is_read_and_written_unchanged(tmp_path_factory, parts, newline, encoding):
    file = tmp_path_factory.mktemp("read") / "x.py"
    text = "\n".join(parts) + "\n"
    file.write_bytes(content := text.replace("\n", newline).encode(encoding))
    module = read_module(file)
    module.write(file)
    assert file.read_bytes() == content
    assert [n for s in module.statements for n in map(ast.dump, s.nodes)] == [*map(ast.dump, ast.parse(text).body)]
    for statement in module.statements:
        assert text.split("\n")[statement.line - 1] == statement.text.split("\n")[0]


def test_a_declared_encoding_survives(tmp_path):
    file = tmp_path / "x.py"
    file.write_bytes(content := "# coding: latin-1\nname = 'é'\n".encode("latin-1"))
    module = read_module(file)
    assert "é" in module.text
    assert module.encode() == content


@pytest.mark.parametrize(
    "content, line",
    [(b"a = 1\nb = (\n", 2), (b"a = 1\nb = '\xff'\n", 2), (b"a = 1\n\0\n", 2), (b"# coding: klingon\n", None)],
)
def test_what_python_cannot_read_is_a_syntax_error_with_file_and_line(tmp_path, content, line):
    (file := tmp_path / "x.py").write_bytes(content)
    with pytest.raises(SyntaxError) as caught:
        read_module(file)
    assert (caught.value.filename, caught.value.lineno) == (str(file), line)


def test_writing_removes_what_python_compiled_before(tmp_path):
    module = parse("a = 1", tmp_path / "x.py")
    (cache := tmp_path / "__pycache__").mkdir()
    for name in ("x.cpython-311.pyc", "x.cpython-313.opt-1.pyc", "xy.cpython-311.pyc"):
        (cache / name).touch()
    module.write(module.file)
    assert [file.name for file in cache.iterdir()] == ["xy.cpython-311.pyc"]
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["__pycache__", "x.py"]


# ---- strip ---------------------------------------------------------------------------------------


def test_a_stub_keeps_all_that_is_given(stub):
    expected = SHAPES
    for old, new in [
        ("self.side = side", STUB.format("Square")),
        ("side = self.side", STUB.format("Square")),
        ("return side * side * unit", "..."),
        ("return math.hypot(square.side, square.side)", STUB.format("diagonal")),
    ]:
        expected = expected.replace(f"# BEGIN SOLUTION\n        {old}\n        # END SOLUTION", new)
        expected = expected.replace(f"# BEGIN SOLUTION\n    {old}\n    # END SOLUTION", new)
    assert stub["shapes"].text == expected


def test_a_stub_raises_by_name(stub):
    with pytest.raises(NotImplementedError, match=r"^exercise shapes\.Square: course/01_shapes\.ipynb$"):
        load(stub).shapes.Square(1)


def test_strip_is_idempotent(stub):
    assert {name: module.text for name, module in strip(stub, NOTEBOOKS).items()} == {
        name: m.text for name, m in stub.items()
    }


def test_the_exercises_are_the_definitions_with_a_region(reference, stub):
    assert reference.exercises(stub) == ["rooms.Room", "shapes.Square", "shapes.diagonal"]
    assert reference.exercises(reference) == []


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("def f():\n    # BEGIN SOLUTION\n    return 1\n", 2, "never closed"),
        ("def f():\n    return 1\n    # END SOLUTION\n", 3, "never began"),
        (
            "def f():\n    # BEGIN SOLUTION\n    # BEGIN SOLUTION\n    return 1\n    # END SOLUTION\n",
            3,
            "inside the region of line 2",
        ),
        ("def f():\n    # begin solution\n    return 1\n    # END SOLUTION\n", 2, "malformed"),
        ("def f():\n    ### BEGIN SOLUTION\n    return 1\n    # END SOLUTION\n", 2, "malformed"),
        ("def f():\n    x = 1  # BEGIN SOLUTION\n    return 1\n    # END SOLUTION\n", 2, "malformed"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n", 1, "not in the body of one function"),
        ("# BEGIN SOLUTION\ndef f():\n    return 1\n# END SOLUTION\n", 1, "not in the body of one function"),
        (
            "if x:\n    def f():\n        # BEGIN SOLUTION\n        return 1\n        # END SOLUTION\n",
            3,
            "top-level definition",
        ),
        ("class A:\n    # BEGIN SOLUTION\n    x = 1\n    # END SOLUTION\n", 2, "not in the body of one function"),
        (
            "class A:\n    # BEGIN SOLUTION\n    def f(self): pass\n    # END SOLUTION\n",
            2,
            "not in the body of one function",
        ),
        (
            "class A:\n    def f(self):\n        # BEGIN SOLUTION\n        x\n\n    def g(self):\n        # END "
            "SOLUTION\n        y\n",
            3,
            "not in the body",
        ),
        (
            "def f():\n    # BEGIN SOLUTION\n    if x:\n        a\n    # END SOLUTION\n    else:\n        b\n",
            2,
            "cuts a statement",
        ),
        ("def f():\n    # BEGIN SOLUTION\n    # nothing\n    # END SOLUTION\n    return 1\n", 2, "holds no code"),
        ("x = [\n    # BEGIN SOLUTION\n    1,\n    # END SOLUTION\n]\n", 2, "holds no code"),
        ("def f():\n    # BEGIN SOLUTION\n    '''Given.'''\n    return 1\n    # END SOLUTION\n", 2, "docstring"),
        ("def f():\n  # BEGIN SOLUTION\n    return 1\n    # END SOLUTION\n", 2, "not indented like"),
        ("def f():\n  # BEGIN SOLUTION\n    return 1\n  # END SOLUTION\n", 2, "not indented like"),
        (
            "def f():\n    try:\n        # BEGIN SOLUTION\n        x\n    except E:\n        y\n        # END "
            "SOLUTION\n",
            3,
            "of the stub",
        ),
    ],
)
def test_a_region_that_no_stub_can_be_made_of_is_named_with_file_and_line(text, line, words):
    ast.parse(text)
    with pytest.raises(CourseError, match=words) as caught:
        strip(edition(shapes=text), NOTEBOOKS)
    assert re.match(rf"/nowhere/shapes\.py:{line}\b", str(caught.value))


def test_a_module_without_a_notebook_is_named():
    with pytest.raises(CourseError, match="no notebook asks for module 'other'"):
        strip(edition(other=SHAPES), NOTEBOOKS)


def test_a_region_in_an_inner_function_and_after_a_nested_one():
    text = (
        "def f():\n    def g():\n        # BEGIN SOLUTION\n        return 1\n        # END SOLUTION\n"
        "    # BEGIN SOLUTION\n    return g()\n    # END SOLUTION\n"
    )
    task = STUB.format("f")
    assert (
        strip(edition(shapes=text), NOTEBOOKS)["shapes"].text == f"def f():\n    def g():\n        {task}\n    {task}\n"
    )


# ---- transplant ----------------------------------------------------------------------------------


def test_the_stub_with_every_definition_of_the_reference_is_the_reference(reference, stub):
    whole = stub
    for name in reference.exercises(stub):
        whole = transplant(whole, name, reference)
    for module in reference:
        assert dump(whole[module].text) == dump(reference[module].text)
    assert whole["shapes"].text == reference["shapes"].text  # here even the layout


NAMES = ["a", "b", "c", "d", "e"]


@settings(max_examples=200)
@given(st.data())
def test_helpers_come_along_and_nothing_else(data):
    """Random call graphs: a definition brings what it reaches and the target lacks."""
    calls = {name: data.draw(st.lists(st.sampled_from(NAMES), unique=True), name) for name in NAMES}
    had = {*data.draw(st.sets(st.sampled_from(NAMES[1:])), "had"), "a"}
    donor = edition(
        m="\n".join(f"def {n}(seen):\n    return seen.get('{n}') or [{', '.join(calls[n])}]" for n in NAMES)
    )
    target = edition(m="\n".join(f"def {n}(seen): return 'old'" for n in NAMES if n in had))
    after = transplant(target, "m.a", donor)

    reached, todo = {"a"}, ["a"]
    for name in todo:
        new = {n for n in calls[name] if n not in had} - reached
        reached |= new
        todo += new
    assert {*after["m"].definitions} == had | reached
    package = load(after)
    assert [f.__name__ for f in package.m.a({})] == calls["a"]
    assert all(getattr(package.m, n)({}) == "old" for n in had - {"a"})


def test_imports_constants_and_their_like_come_along():
    donor = """\
        from __future__ import annotations
        import cmath as c, os.path
        from math import *
        try:
            import json
        except ImportError:
            json = None
        first, *rest = 1, 2, 3
        TABLE: Missing = {}
        TABLE["x"] = 7
        UNUSED = 1

        def wrap(function):
            return lambda: (function(), os.path.sep)

        @wrap
        def f():
            def g():
                return [json.dumps(rest), round(c.pi), TABLE, sqrt(4)]
            return g()
    """
    after = transplant(edition(m="def f():\n    pass\n\n\nend = f\n"), "m.f", edition(m=dedent(donor)))
    package = load(after)
    assert package.m.f() == (["[2, 3]", 3, {}, 2.0], os.path.sep)  # a statement that binds nothing stays behind
    assert package.m.end is package.m.f
    assert "UNUSED" not in after["m"].text


def test_what_both_have_stays_as_the_target_has_it():
    after = transplant(edition(m="K = 1\ndef f(): return 0\n"), "m.f", edition(m="K = 2\ndef f(): return K\n"))
    assert load(after).m.f() == 1


def test_the_comment_above_a_definition_stays_the_targets():
    after = transplant(edition(m="# theirs\ndef f(): return 0\n"), "m.f", edition(m="# mine\ndef f(): return 1\n"))
    assert after["m"].text == "# theirs\ndef f(): return 1\n"


def test_a_definition_may_be_an_assignment_and_the_last_one_counts():
    donor = edition(m="def f(): return 1\ndef other(): return 2\nf = other\n")
    assert load(transplant(edition(m="def f(): return 0\n"), "m.f", donor)).m.f() == 2


def test_a_definition_that_the_target_lacks_is_added_and_one_that_the_donor_lacks_is_an_error():
    assert load(transplant(edition(m=""), "m.f", edition(m="def f(): return 1"))).m.f() == 1
    with pytest.raises(CourseError, match=r"/nowhere/m\.py: m\.f is not defined there"):
        transplant(edition(m="def f(): pass"), "m.f", edition(m=""))


# ---- load ----------------------------------------------------------------------------------------


def test_a_traceback_and_getsource_point_at_each_statements_own_file(tmp_path, reference):
    (mine := tmp_path / "mine").mkdir()
    (mine / "shapes.py").write_text(
        "# my file\n\n\ndef half(x):\n    return x / 0\n\n\ndef diagonal(square):\n    return half(square.side)\n"
    )
    package = load(transplant(reference, "shapes.diagonal", read(mine)))
    with pytest.raises(ZeroDivisionError) as caught:
        package.shapes.diagonal(package.shapes.Square(2))
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert [(f.filename, f.lineno, f.line) for f in frames] == [
        (str(mine / "shapes.py"), 9, "return half(square.side)"),
        (str(mine / "shapes.py"), 5, "return x / 0"),
    ]
    shapes = package.shapes
    assert inspect.getsource(shapes.diagonal) == "def diagonal(square):\n    return half(square.side)\n"
    assert inspect.getsourcefile(shapes.Square.area) == str(tmp_path / "solutions/shapes.py")
    assert inspect.getsource(shapes.Square) == reference["shapes"].find("Square").text.split("\n\n\ndef")[0]
    assert inspect.getsource(shapes) == transplant(reference, "shapes.diagonal", read(mine))["shapes"].text


def test_getsource_of_a_transplanted_class(tmp_path, reference):
    (mine := tmp_path / "mine").mkdir()
    text = "class Square:\n    side = 3\n\n    def area(self):\n        return helper\n"
    (mine / "shapes.py").write_text(f"# first line\nhelper = 1\n{text}")
    package = load(transplant(reference, "shapes.Square", read(mine)))
    shapes = package.shapes
    assert inspect.getsource(shapes.Square) == text
    assert inspect.getsourcefile(shapes.Square.area) == str(mine / "shapes.py")


def test_editions_side_by_side_share_nothing_and_leave_nothing(reference):
    before = {*sys.modules}
    one, two = load(reference), load(reference)
    assert one.rooms.Square is one.shapes.Square is not two.shapes.Square
    assert one.rooms.Room(one.shapes.Square(3), one.shapes.Square(4)).area() == 25
    keep = two.rooms.Room(two.shapes.Square(2))
    assert {name.split(".")[0] for name in {*sys.modules} - before} == {one.__name__, two.__name__}
    del one, two
    gc.collect()
    assert {*sys.modules} <= before
    assert keep.area() == 4  # what is held still works


def test_a_module_is_executed_when_it_is_asked_for():
    package = load(edition(good="x = 1", bad="from .good import x\nraise RuntimeError(x)"))
    assert package.good.x == 1
    for _ in range(2):
        with pytest.raises(RuntimeError):
            _ = package.bad
    with pytest.raises(AttributeError, match="no module 'ugly'; it has good, bad"):
        _ = package.ugly


def test_future_imports_hold_for_the_statements_of_their_own_file():
    donor = edition(m="from __future__ import annotations\ndef f(x: Missing): return x\n")
    assert load(donor).m.f.__annotations__ == {"x": "Missing"}
    package = load(transplant(edition(m="def f(): pass\ndef g(x: int): return x\n"), "m.f", donor))
    assert (package.m.f.__annotations__, package.m.g.__annotations__) == ({"x": "Missing"}, {"x": int})
