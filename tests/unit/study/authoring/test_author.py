"""Release, drift, build and check of a tiny course."""

import json
import os

import nbformat
import pytest

from tests.tiny_course import SHAPES, fill, write_course, write_exercises
from yolostudy.study.authoring.build import build, sources
from yolostudy.study.authoring.check import check
from yolostudy.study.authoring.main import main
from yolostudy.study.authoring.outputs import LEAK, clean, without_paths
from yolostudy.study.authoring.release import drift, release, release_sealed
from yolostudy.study.course import Course
from yolostudy.study.errors import CourseError
from yolostudy.study.judge import Judge

RAISE = 'raise NotImplementedError("exercise shapes.diagonal: course/01_shapes.ipynb")'

NOTEBOOK = """\
# Shapes

A square has four sides.

```{code-cell}
:tags: [nbval-check-output]

import sys
import yolostudy
from yolostudy.shapes import Square

print(yolostudy.using(), Square(3).area())
for step in range(3):
    print(f"\\r{step}0%|###   | {step}/3 [00:00<00:01,  2.51it/s]", end="", file=sys.stderr)
object()
```

```{code-cell}
:tags: [raises-exception]

Square()
```

```{code-cell}
1
```

```{code-cell}
1
```
"""


@pytest.fixture
def course(tmp_path):
    return write_course(tmp_path)


# ---- release and drift ---------------------------------------------------------------------------


def test_a_release_writes_the_stubs_once(course):
    assert release(course) == ["rooms", "shapes"]
    assert release(course) == []
    assert RAISE in (course.mine / "shapes.py").read_text()
    assert drift(course) == []


def test_a_release_never_overwrites_work_unless_it_is_told_to(course):
    release(course)
    file = fill(course, "shapes", RAISE, "return 1")
    (course.mine / "rooms.py").unlink()
    work = file.read_text()
    with pytest.raises(CourseError, match=r"nothing was released: .*/yolostudy/shapes\.py is not the stub any more"):
        release(course)
    assert file.read_text() == work
    assert not (course.mine / "rooms.py").exists()
    assert release(course, force=True) == ["rooms", "shapes"]
    assert RAISE in file.read_text()


def test_the_stubs_keep_the_solutions_line_ends_and_mark(course):
    (course.solutions / "shapes.py").write_bytes(
        b"\xef\xbb\xbf" + SHAPES.replace("\n", "\r\n").replace("    ", "\t").encode()
    )
    release(course)
    stub = (course.mine / "shapes.py").read_bytes()
    assert (
        stub.startswith(b"\xef\xbb\xbf")
        and stub.count(b"\r\n") == stub.count(b"\n")
        and b"\t\traise NotImplementedError" in stub
    )


@pytest.mark.parametrize(
    "old, new, found",
    [
        (RAISE, "width = square.side\n    # a comment\n    return width * 1.4", []),
        (RAISE, "return helper(square)\n\n\ndef helper(square):\n    return 1", []),
        ("        ...\n", "        return self.side**2\n", []),
        ("import math\n", "import math\nimport cmath\n", []),
        ("import math\n", "", ["shapes.py:1: the given line is missing or changed: import math"]),
        ("UNIT = 1.0", "UNIT = 2.0", ["shapes.py:1: the given line is missing or changed: UNIT = 1.0  # metres"]),
        (
            "def diagonal(square: Square)",
            "def diagonal(room: Square)",
            ["shapes.py:28: diagonal differs from the stub outside its marked regions"],
        ),
        (
            '"""In square metres."""',
            '"""In feet."""',
            ["shapes.py:9: Square differs from the stub outside its marked regions"],
        ),
        (
            'check = "# BEGIN SOLUTION"',
            "check = 1",
            ["shapes.py:9: Square differs from the stub outside its marked regions"],
        ),
        ("def given()", "def taken()", ["shapes.py:1: given is missing"]),
        (RAISE, "return (", ["shapes.py:29: '(' was never closed"]),
    ],
)
def test_drift_is_a_change_outside_the_marked_regions(course, old, new, found):
    release(course)
    fill(course, "shapes", old, new)
    lines = [line.removeprefix(f"{course.mine}/") for line in drift(course)]
    assert [line.split(":", 2)[2] for line in lines] == [line.split(":", 2)[2] for line in found]


# ---- notebooks -----------------------------------------------------------------------------------


def test_a_notebook_is_built_on_the_reference_and_the_same_byte_for_byte(course):
    release(course)
    (course.root / "course/source/01_shapes.md").write_text(NOTEBOOK)
    (file,) = build(course, execute=True)
    first = file.read_bytes()
    assert build(course, ["01"], execute=True) == [file]
    assert file.read_bytes() == first
    assert build(course, ["01_shapes"]) == [file]  # not executed: outputs of unchanged cells stay
    assert file.read_bytes() == first

    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    text, stream, failing, *twins = notebook.cells
    assert text.source.startswith("# Shapes")
    assert stream.metadata.tags == ["nbval-check-output"]
    assert [(o.output_type, o.get("text") or o.data["text/plain"]) for o in stream.outputs] == [
        ("stream", "reference 9.0\n"),
        ("execute_result", "<object at 0x...>"),
    ]
    assert failing.outputs[0].ename == "TypeError"
    assert str(course.root) not in first.decode()
    assert twins[0].id != twins[1].id
    assert "version" not in notebook.metadata.language_info
    assert check(course) == []


def test_a_failing_cell_stops_the_build_and_leaves_the_notebook_as_it_was(course):
    (course.root / "course/source/02_rooms.md").write_text("```{code-cell}\nside = 0\n1 / side\n```\n")
    (file,) = build(course)
    before = file.read_bytes()
    with pytest.raises(CourseError, match=r"02_rooms\.ipynb: not built, because a cell fails:(?s:.*)ZeroDivisionError"):
        build(course, execute=True)
    assert file.read_bytes() == before


def test_one_edited_cell_changes_its_own_lines_only(course):
    source = course.root / "course/source/01_shapes.md"
    source.write_text(NOTEBOOK)
    (file,) = build(course)
    before = file.read_text().splitlines()
    source.write_text(NOTEBOOK.replace("four sides", "4 sides"))
    build(course)
    after = file.read_text().splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after)) <= 3


def test_an_unknown_notebook_lists_the_known(course):
    (course.root / "course/source/01_shapes.md").write_text(NOTEBOOK)
    with pytest.raises(CourseError, match=r"no notebook '02'\. They are 01_shapes"):
        sources(course, ["02"])


def test_outputs_lose_what_differs_from_run_to_run(course):
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "8f2a", "version_major": 2},
        "text/plain": "IntSlider()",
    }
    output = clean(course, nbformat.v4.new_output("display_data", widget))
    assert output.data["application/vnd.jupyter.widget-view+json"] == {"model_id": "", "version_major": 2}
    progress = "train:  40%|####      | 4/10 [00:01<00:02,  3.1it/s]\n7it [00:00, 99.0it/s]\n"
    assert clean(course, nbformat.v4.new_output("stream", name="stderr", text=progress)) is None
    assert (
        clean(course, nbformat.v4.new_output("stream", name="stderr", text=progress + "careful\n")).text == "careful\n"
    )
    assert (
        clean(course, nbformat.v4.new_output("stream", name="stdout", text="40%|####| 4/10\n")).text
        == "40%|####| 4/10\n"
    )
    assert without_paths(course, f"File {course.root}/yolostudy/a.py") == "File yolostudy/a.py"
    assert without_paths(course, 'File "/tmp/ipykernel_17/39.py", line 1') == 'File "<cell>", line 1'
    assert without_paths(course, "/x/lib/python3.11/site-packages/torch/nn.py") == "site-packages/torch/nn.py"


@pytest.mark.parametrize(
    "text, leak",
    [
        ("saved to /home/ann/runs/1", "/home/ann/runs/1"),
        ("/tmp/x.pt", "/tmp/x.pt"),
        (r"C:\Users\ann\x", r"C:\Users\ann\x"),
        ("from https://pypi.example/simple/torch", "https://pypi.example/simple/torch"),
        ("http://10.0.0.1:8080/simple/torch", "http://10.0.0.1:8080/simple"),
        ("runs/home/x and ~/tmp/y and https://github.com/tmp/z", None),
        ("mAP 0.9 / 0.8, images/s", None),
    ],
)
def test_a_leak_is_seen(text, leak):
    found = LEAK.search(text)
    assert (found and found[0]) == leak


# ---- check and the command -----------------------------------------------------------------------


def test_check_names_what_is_not_fit_to_ship(course):
    release(course)
    (course.root / "course/source/01_shapes.md").write_text(NOTEBOOK)
    (course.root / "course/source/02_rooms.md").write_text("```{code-cell}\n1 / 0\n```\n")
    (course.root / "course/source/03_none.md").write_text("# None\n")
    build(course, ["01", "02"])
    fill(course, "shapes", RAISE, "return 1")
    (course.mine / "attic.py").touch()
    (course.root / "course/source/01_shapes.md").write_text(NOTEBOOK + "\nMore.\n")
    file = course.root / "course/02_rooms.ipynb"
    notebook = json.loads(file.read_text())
    notebook["cells"][0]["outputs"] = [
        {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": []},
        {"output_type": "stream", "name": "stdout", "text": ["wrote /home/ann/x\n"]},
    ]
    file.write_text(json.dumps(notebook))
    found = check(course)
    for line, words in zip(
        found,
        [
            "shapes.py: not the stub",
            "attic.py: no module",
            "01_shapes.ipynb: not up to date",
            "ZeroDivisionError",
            "/home/ann/x",
            "03_none.ipynb: not built",
        ],
    ):
        assert words in line
    assert len(found) == 6


def test_the_command(course, capsys):
    root = ["--root", str(course.root)]
    assert main([*root, "check"]) == 1
    assert "rooms.py: not the stub" in capsys.readouterr().out
    assert main([*root, "release"]) == 0
    assert capsys.readouterr().out == "released: rooms, shapes\n"
    assert main([*root, "check"]) == 0
    fill(course, "shapes", RAISE, "return 1")
    assert main([*root, "release"]) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*root, "release", "--force"]) == 0
    (course.root / "course/source/01_shapes.md").write_text("# Shapes\n")
    assert main([*root, "build"]) == 0
    assert capsys.readouterr().out.endswith(f"built: course{os.sep}01_shapes.ipynb\n")
    (course.solutions / "shapes.py").write_text("def f():\n    # BEGIN SOLUTION\n    pass\n")
    assert main([*root, "check"]) == 1
    assert "shapes.py:2: the region is never closed" in capsys.readouterr().out


# an exam
# --------------------------------------------------------------------------------------------------


def test_a_sealed_course_judges_without_solutions(tmp_path):
    course = write_course(tmp_path / "course")
    write_exercises(course)
    sealed = Course.open(release_sealed(course, tmp_path / "exam"), "yolostudy")
    assert sealed.sealed and not sealed.solutions.exists()
    solution = "return side * side * unit"
    held = [file for file in sealed.root.rglob("*") if file.is_file() and solution.encode() in file.read_bytes()]
    assert held == [], "the solution stands in it"
    with pytest.raises(CourseError, match="needs the reference"):
        sealed.edition("reference")

    judge = Judge(sealed)
    assert judge.check("shapes.Square").state == "not attempted"
    assert "needs shapes.Square, which is not filled in yet" in str(
        judge.check("shapes.diagonal", course.edition("reference"))
    )
    sealed.mine.joinpath("shapes.py").write_text((course.solutions / "shapes.py").read_text())
    assert Judge(sealed).check("shapes.Square") and Judge(sealed).check("shapes.diagonal")
    fill(sealed, "shapes", "side * side * unit", "side * unit")
    assert Judge(sealed).check("shapes.Square").misconception.name == "a side is taken for an area"
    with pytest.raises(CourseError, match="exists"):
        release_sealed(course, sealed.root)
