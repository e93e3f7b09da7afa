"""`lens.trace` never runs on a stub: it stands on an answer that passes, else on the reference."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import warm
from yolostudy.study import edition
from yolostudy.study.course import Course

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
import yolostudy
from yolostudy import lens
from yolostudy.lens.calls.browser import recording

def outer(number):
    return inner(number) + 1

def inner(number):
    return 2 * number

assert yolostudy.__file__.startswith(sys.argv[1]), yolostudy.__file__
tree = lens.trace(outer, 3, between=("outer", "inner"))
print(*tree.numbers["visible"], tree.root.children[0].result, [call.arguments for call in tree.chain])
print(recording().record.__code__.co_filename)
"""
SEEN = "record outer inner 7 [{'number': 3}, {'number': 3}]"


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "YOLOSTUDY_USE"}
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{PROGRAM}"
    program = ["-c", program, str(folder)]
    command = [sys.executable, *flags, *program] if flags else warm.words(*program)
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


def written_in(done: subprocess.CompletedProcess) -> Path:
    """The file that `record` was read from, once the tree was right."""
    assert done.returncode == 0, done.stderr
    tree, file = done.stdout.splitlines()
    assert tree == SEEN
    return Path(file)


def release(course: Course, **texts: tuple[str, str]) -> None:
    """Write the stubs, with these definitions of `trace` filled in: the reference, edited."""
    reference, made = course.edition("reference"), course.edition("stub")
    for name, (old, new) in texts.items():
        assert old in reference.find(f"trace.{name}").text
        text = reference["trace"].text.replace(old, new)
        answer = edition.Edition({"trace": edition.parse(text, course.mine / "trace.py")})
        made = edition.transplant(made, f"trace.{name}", answer)
    for name, module in made.items():
        module.write(course.mine / f"{name}.py")


@pytest.fixture
def course(tmp_path) -> Course:
    """A fresh copy of the repository, as far as it matters."""
    for part in ("yolostudy", "solutions", "course"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    made = Course.open(tmp_path, "yolostudy")
    release(made)
    return made


def test_from_stubs_it_is_the_reference(course):
    assert written_in(run(course.root)) == course.solutions / "trace.py"


def test_a_wrong_answer_is_left_out(course):
    release(course, record=("stack[-1].calls.append(call)", "root.calls.append(call)"))
    assert written_in(run(course.root)) == course.solutions / "trace.py"
    assert (course.state / "progress.json").exists(), "it was judged"


def test_a_right_answer_is_used_beside_the_reference(course):
    release(course, record=("", ""))
    assert written_in(run(course.root)) == course.mine / "trace.py"


def test_a_file_that_cannot_be_read_is_left_out(course):
    (course.mine / "trace.py").write_text("def record(:\n")
    assert written_in(run(course.root)) == course.solutions / "trace.py"


def test_an_exam_names_the_exercise_that_is_missing(course):
    stubs = course.edition("stub")
    course.stubs.mkdir()
    for name, module in stubs.items():
        module.write(course.stubs / f"{name}.py")
    course.key.write_text("{}")
    shutil.rmtree(course.solutions)
    done = run(course.root)
    assert done.returncode != 0
    assert "this stands on trace.summarize, which does not pass its checks yet, and an exam" in done.stderr


def wheel(root: Path, out: Path) -> Path:
    """What `pip wheel .` builds of a repository, unpacked."""
    program = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", program, str(out)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        archive.extractall(out / "unpacked")
    return out / "unpacked"


def test_a_wheel_brings_the_finished_module_along(tmp_path):
    unpacked = wheel(ROOT, tmp_path / "wheel")
    assert not (unpacked / "solutions").exists() and not (unpacked / "course").exists()
    assert written_in(run(unpacked, "-I")) == unpacked / "yolostudy" / "lens" / "calls" / "finished_trace.py"


def test_a_wheel_of_an_exam_holds_no_solution(course, tmp_path):
    shutil.rmtree(course.solutions)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, course.root)
    assert not [*wheel(course.root, tmp_path / "wheel").rglob("finished_trace.py")]
