"""The course in a real kernel: fill cells, cards, functions, and what can go wrong in a cell."""

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from tests.tiny_course import fill, write_course, write_exercises
from yolostudy.study.authoring.release import release
from yolostudy.study.edition import read_module

ROOT = Path(__file__).parents[3]
SQUARE = '''#| fill shapes.Square
class Square:
    """A square."""

    def __init__(self, side: float):
        self.side = side

    def area(self) -> float:
        return self.side * self.side
'''
WRONG = SQUARE.replace("self.side * self.side", "self.side")


class Kernel:
    """A kernel in a tiny course, as one open notebook has it."""

    def __init__(
        self, course, notebook="course/01_shapes.ipynb", use=None, start="%load_ext yolostudy\n%yolostudy stage 1"
    ):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLOSTUDY")}
        environment |= {"PYTHONPATH": str(course.root), "JPY_SESSION_NAME": notebook} | (
            {"YOLOSTUDY_USE": use} if use else {}
        )
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment, cwd=str(course.root))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=600)
        self.first = self.run(start)

    def run(self, code: str, interrupt_after: float | None = None) -> str:
        """All that a cell shows, as text: streams, plain texts of displays, errors."""
        message, shown, before = self.client.execute(code, store_history=True), [], ""
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            self.manager.interrupt_kernel()
        while True:
            found = self.client.get_iopub_msg(timeout=600)
            if found["parent_header"].get("msg_id") != message:
                continue
            kind, content = found["msg_type"], found["content"]
            streaming, before = kind == before == "stream", kind
            if kind == "status" and content["execution_state"] == "idle":
                return "\n".join(shown)
            if kind == "stream":
                printed = shown.pop() if streaming else ""  # a print may arrive in pieces
                shown.append(printed + content["text"])
            elif kind in ("display_data", "execute_result"):
                shown.append(content["data"].get("text/plain", ""))
            elif kind == "error":
                shown.append(f"{content['ename']}: {content['evalue']}")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One course and one kernel for the whole file: a kernel takes seconds to start."""
    course = write_course(tmp_path_factory.mktemp("course"))
    write_exercises(course)
    release(course)
    kernel = Kernel(course)
    yield course, kernel
    kernel.close()


@pytest.fixture
def course(shared):
    """The course as it was at first."""
    course = shared[0]
    shutil.rmtree(course.state, ignore_errors=True)
    for file in course.mine.glob("*.py"):
        if file.stem in course.names:
            file.unlink()
    release(course)
    return course


@pytest.fixture
def kernel(course, shared):
    """The kernel as it was at first."""
    kernel = shared[1]
    kernel.first = kernel.run("%reset -f\n%reload_ext yolostudy\n%yolostudy stage 1")
    return kernel


@pytest.fixture
def open_notebook(course):
    opened = []

    def start(**options) -> Kernel:
        opened.append(Kernel(course, **options))
        return opened[-1]

    yield start
    for kernel in opened:
        kernel.close()


def mine(course, name="Square"):
    return read_module(course.mine / "shapes.py").find(name)


def test_a_stub_a_mistake_and_a_right_answer(course, kernel):
    assert "running on hybrid: mine shapes.*" in kernel.first
    stub = course.edition("stub").find("shapes.Square").text
    before = (course.mine / "shapes.py").read_bytes()
    assert "TODO shapes.Square 0/2" in kernel.run(f"#| fill shapes.Square\n{stub}")
    assert (course.mine / "shapes.py").read_bytes() == before

    shown = kernel.run(WRONG)
    assert "areas: areas[1]: expected 4., yours 2." in shown
    assert 'This is exactly what "a side is taken for an area" does.' in shown
    assert "FAIL shapes.Square 0/2" in shown

    shown = kernel.run(SQUARE)
    assert "PASS shapes.Square 2/2" in shown
    assert "PASS shapes.Square 2/2" in kernel.run(f"#| fill shapes.Square\n{stub}"), (
        "an untouched stub cell overwrites nothing"
    )
    assert (
        kernel.run("import yolostudy.shapes\nprint(Square is yolostudy.shapes.Square, Square(3).area())").strip()
        == "True 9"
    )


def test_the_words(course, kernel):
    kernel.run(WRONG)
    assert "Hint 1 of 3: Keep the side." in kernel.run("hint()")
    assert "Hint 2 of 3" in kernel.run("hint()")
    assert "does not pass yet, and diff shows the reference" in kernel.run("diff()")
    assert "PASS shapes.Square 2/2" in kernel.run("solve()")
    assert "mine and the reference" in kernel.run("diff()")
    assert "FAIL shapes.Square 0/2" in kernel.run("undo()")
    assert "TODO shapes.Square 0/2" in kernel.run("reset()")
    assert "TODO shapes.diagonal 0/1" in kernel.run("check(1)")
    assert "0 of 2 exercises, 0 of 3 points" in kernel.run("print(progress())")
    assert "Did you mean shapes.Square?" in kernel.run('check("shapes.Sqare")')
    assert "%yolostudy stage N" in kernel.run("%yolostudy nonsense")
    assert "there are no exercises of stage '9'" in kernel.run("%yolostudy stage 9")


def test_names_follow_the_file(course, kernel):
    kernel.run(SQUARE)
    kernel.run("from yolostudy import shapes\nfrom yolostudy.shapes import UNIT, given, Square as Quad")
    fill(course, "shapes", "return self.side * self.side", "return 100 * self.side")
    assert kernel.run("print(Square(2).area(), shapes.Square(2).area(), Quad(2).area())").strip() == "200 200 200"


def test_helpers_in_the_cell_come_along_and_foreign_definitions_do_not(course, kernel):
    text = SQUARE.replace("class Square", "def times(a, b):\n    return a * b\n\n\nclass Square")
    text = text.replace("self.side * self.side", "times(self.side, self.side)")
    assert "PASS shapes.Square 2/2" in kernel.run(text)
    assert mine(course, "times")
    assert "PASS shapes.Square 2/2" in kernel.run(SQUARE + "\n\ndef given():\n    return 'mine'\n")
    assert '"given"' in mine(course, "given").text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SQUARE.replace("return", "return ("), "Nothing was written, because Python cannot read line 9 of this cell"),
        (SQUARE.replace("class Square", "class Sqare"), "Square"),
        (SQUARE.replace("fill shapes.Square", "fill shapes.Sqare"), "Did you mean shapes.Square?"),
        (SQUARE + "Square = 3\n", "Square"),
    ],
    ids=["syntax error", "another name", "unknown exercise", "bound twice"],
)
def test_what_cannot_be_filled_changes_nothing(course, kernel, text, said):
    kernel.run(SQUARE)
    before = (course.mine / "shapes.py").read_bytes()
    shown = kernel.run(text)
    assert said in shown
    assert "PASS" not in shown
    assert (course.mine / "shapes.py").read_bytes() == before


def test_a_cell_that_raises_is_filled_all_the_same(course, kernel):
    shown = kernel.run(WRONG + "\nSquare(2).areas()\n")
    assert "AttributeError" in shown
    assert "FAIL shapes.Square 0/2" in shown
    assert mine(course).same_as(read_text(WRONG))


def read_text(text: str):
    from pathlib import Path

    from yolostudy.study.edition import parse

    return parse(text, Path("cell.py")).find("Square")


def test_tabs_and_line_ends(course, kernel):
    assert "PASS shapes.Square 2/2" in kernel.run(SQUARE.replace("    ", "\t"))
    (course.mine / "shapes.py").write_bytes(
        b"\xef\xbb\xbf" + (course.mine / "shapes.py").read_bytes().replace(b"\n", b"\r\n")
    )
    assert "FAIL shapes.Square 0/2" in kernel.run(WRONG)
    content = (course.mine / "shapes.py").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and content.count(b"\n") == content.count(b"\r\n")


def test_a_renamed_argument_is_noticed(course, kernel):
    shown = kernel.run(SQUARE.replace("side: float", "length: float").replace("= side", "= length"))
    assert "FAIL shapes.Square 1/2" in shown
    assert "__init__ was given as __init__(self, side), yours is __init__(self, length)" in shown


def test_a_deleted_definition_and_one_in_another_file(course, kernel):
    kernel.run(SQUARE)
    file = course.mine / "shapes.py"
    text = file.read_text()
    moved = mine(course).text
    file.write_text(text.replace(moved, ""))
    assert "does not define Square any more. `yolostudy reset shapes.Square` puts the stub back." in kernel.run(
        'check("shapes.Square")'
    )
    rooms = course.mine / "rooms.py"
    rooms.write_text(rooms.read_text() + f"\n\n{moved}")
    assert "yolostudy/rooms.py" in kernel.run('check("shapes.Square")')
    assert "TODO shapes.Square 0/2" in kernel.run('reset("shapes.Square")')


def test_a_file_that_python_cannot_read(course, kernel):
    kernel.run(SQUARE)
    fill(course, "shapes", "return self.side * self.side", "return self.side * (")
    shown = kernel.run('check("shapes.Square")')
    assert re.search(r"Python cannot read yolostudy/shapes.py, line \d+", shown)
    assert "FAIL shapes.Square 0/2" in shown
    shown = kernel.run(WRONG)
    assert "syntax error in line 15" in shown and "Run the same cell again" in shown
    assert "FAIL shapes.Square 0/2" in kernel.run(WRONG)
    assert "PASS shapes.Square 2/2" in kernel.run(SQUARE)


def test_edits_outside_the_regions_do_not_reach_the_judge(course, kernel):
    fill(course, "shapes", "UNIT = 1.0", "UNIT = 7.0")
    assert "PASS shapes.Square 2/2" in kernel.run(
        SQUARE.replace("self.side * self.side", "self.side * self.side * UNIT")
    )


def test_an_endless_loop_is_interrupted(course, kernel):
    loop = SQUARE.replace("return self.side * self.side", "while True: pass")
    shown = kernel.run(loop, interrupt_after=3)
    assert "interrupted while shapes.Square was being checked. It was in yolostudy/shapes.py" in shown
    assert "FAIL shapes.Square 0/2" in shown
    assert "PASS shapes.Square 2/2" in kernel.run(SQUARE)
    shown = kernel.run(WRONG + "\nimport time\ntime.sleep(60)\n", interrupt_after=2)
    assert "KeyboardInterrupt" in shown
    assert "The cell was interrupted, so nothing was checked" in shown
    assert mine(course).same_as(read_text(WRONG)), "what was written in the cell is in the file"


def test_exit_is_told_and_ends_nothing(course, kernel):
    shown = kernel.run(SQUARE.replace("return self.side", "exit(3)\n        return self.side"))
    assert "SystemExit: your code called exit(3)" in shown
    assert "FAIL shapes.Square 0/2" in shown


def test_a_file_edited_since_is_not_overwritten_without_a_word(course, kernel):
    kernel.run(SQUARE)
    fill(course, "shapes", "return self.side * self.side", "return self.side**2")
    shown = kernel.run(WRONG)
    assert "-" in shown and "+" in shown and "PASS" not in shown and "FAIL" not in shown
    assert "**2" in mine(course).text
    assert "FAIL shapes.Square 0/2" in kernel.run(WRONG)
    assert "PASS shapes.Square 2/2" in kernel.run("undo()")


def test_two_notebooks_at_once(course, open_notebook):
    first, second = open_notebook(), open_notebook(notebook="course/02_rooms.ipynb")
    assert "PASS" in first.run(SQUARE)
    shown = second.run(WRONG)
    assert "FAIL" not in shown, "the other notebook's work is not overwritten without a word"
    assert "FAIL shapes.Square 0/2" in second.run(WRONG)
    assert "FAIL shapes.Square 0/2" in first.run("check()")
    assert first.run("print(Square(5).area())").strip() == "5"


def test_under_a_reference_nothing_is_written(course, open_notebook):
    before = (course.mine / "shapes.py").read_bytes()
    kernel = open_notebook(use="reference")
    assert "running on the reference" in kernel.first
    assert "PASS shapes.Square 2/2" in kernel.run(WRONG)
    assert kernel.run("print(Square(5).area())").strip() == "25.0"
    assert "nothing was written: the reference is in use for shapes" in kernel.run('solve("shapes.Square")')
    assert (course.mine / "shapes.py").read_bytes() == before


def test_loading_twice_is_harmless(course, kernel):
    kernel.run("%load_ext yolostudy\n%reload_ext yolostudy")
    assert kernel.run(SQUARE).count("PASS shapes.Square 2/2") == 1
    assert "running on hybrid: mine shapes.Square" in kernel.run("%yolostudy stage 0"), (
        "a word of this kernel is not one from outside"
    )


# ---- names follow the edition in use -------------------------------------------------------------

BINDINGS = """
import yolostudy
import yolostudy.shapes
import yolostudy.shapes as alias
from yolostudy import shapes
from yolostudy.lens import Room
from yolostudy.shapes import Square, Square as Quad, diagonal

table, several = {"Square": Square}, [Square]

class Circle(Square):
    pass

class Diagonal:
    __module__, __qualname__ = "yolostudy.shapes", "diagonal"

def area_of(square):
    return square.area()

def gives(act):
    try:
        return act()
    except NotImplementedError:
        return "stub"

def swapped():
    followed = Square, Quad, shapes.Square, alias.Square, yolostudy.shapes.Square
    areas = [gives(lambda: area_of(square(2))) for square in followed] + [gives(lambda: Room().area())]
    print(*areas, gives(lambda: round(diagonal(Square(1)), 1)))

def kept():
    old = [gives(lambda: area_of(square(2))) for square in (table["Square"], several[0], Circle)]
    print(*old, Circle.__mro__[1] is table["Square"], Diagonal.__qualname__, gives.__module__)
"""
SWAPS = {
    "magic": ("%yolostudy use reference", "%yolostudy use mine"),
    "call": ('yolostudy.use("reference")', 'yolostudy.use("mine")'),
}
STUBS, SOLUTIONS = "stub stub stub stub stub stub stub", "4.0 4.0 4.0 4.0 4.0 0 1.4"


def test_a_kernel_of_the_environment_judges_its_first_cell(course, open_notebook):
    """After a restart, or in an editor: no `%load_ext` was run."""
    config = Path(sys.prefix, "etc", "ipython", "ipython_kernel_config.py")
    if not config.exists():
        pytest.skip(f"{config} is missing: this environment was not made by `make setup`")
    assert config.read_text("utf-8") == (ROOT / "course" / "lab" / config.name).read_text("utf-8"), "run `make setup`"
    kernel = open_notebook(start="")
    assert "FAIL shapes.Square" in kernel.run(WRONG)
    assert kernel.run("%load_ext yolostudy") == "", "a second load says nothing"


# Every kernel of the course's .venv loads the extension by itself.
WITHOUT = "import yolostudy; yolostudy.unload_ipython_extension(get_ipython())"


@pytest.mark.parametrize(
    ("swap", "loaded"), [("magic", True), ("call", True), ("call", False)], ids=["magic", "call", "plain kernel"]
)
def test_names_follow_the_edition_in_use(course, kernel, open_notebook, swap, loaded):
    to_reference, to_mine = SWAPS[swap]
    kernel = kernel if loaded else open_notebook(start=WITHOUT)
    kernel.run(f"import yolostudy\n{to_mine}\n{BINDINGS}")
    assert kernel.run("swapped()").strip() == STUBS
    assert "Error" not in kernel.run(to_reference)
    assert kernel.run("swapped()").strip() == SOLUTIONS
    assert kernel.run("kept()").strip() == "stub stub stub True diagonal __main__", "the learner's own names stay"
    kernel.run(f"old = Square(3)\n{to_mine}")
    assert kernel.run("swapped()").strip() == STUBS
    assert kernel.run("print(old.area(), type(old) is Square)").strip() == "9.0 False", "an object keeps its class"
    assert kernel.run(f"{to_reference}\nprint(Square(5).area())").strip().endswith("25.0"), "in the same cell too"


def test_names_follow_a_stage(course, kernel):
    kernel.run("%yolostudy use reference\nfrom yolostudy.shapes import Square\nfrom yolostudy import rooms as halls")
    assert kernel.run("print(halls.Room(Square(2)).area())").strip() == "4.0"
    assert "running on hybrid: mine shapes.*; the rest is the reference" in kernel.run("%yolostudy stage 1")
    assert "NotImplementedError: exercise shapes.Square" in kernel.run("Square(2)")
    assert kernel.run("print(halls.Room().area())").strip() == "0"
    kernel.run("%yolostudy stage 0")
    assert kernel.run("print(halls.Room(Square(2)).area())").strip() == "4.0"


def test_a_name_comes_back_from_a_file_that_python_could_not_read(course, kernel):
    kernel.run(SQUARE)
    kernel.run("from yolostudy.shapes import Square as Quad\nQuad")
    file = fill(course, "shapes", "return self.side * self.side", "return 7 * (")
    shown = kernel.run("print(Quad(2).area())")
    assert shown.startswith("4.0\n")
    assert "yolostudy/shapes.py:15: EditionWarning: '(' was never closed; the reference stands in for all of" in shown
    file.write_text(file.read_text().replace("7 * (", "7"))
    assert kernel.run("print(Quad(2).area())").strip() == "7"
    assert kernel.run("5\n\nprint(_)") and kernel.run("5") and kernel.run("print(_)").strip() == "5", "IPython's own"
