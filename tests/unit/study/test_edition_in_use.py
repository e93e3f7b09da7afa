"""`yolostudy.use`: which edition an import gives, in this process and in those that it starts."""

import re

import pytest

from tests.tiny_course import fill, run, write_course, write_exercises
from yolostudy.study.authoring.release import release
from yolostudy.study.errors import CourseError

RAISE = 'raise NotImplementedError("exercise shapes.diagonal: course/01_shapes.ipynb")'


@pytest.fixture
def course(tmp_path):
    course = write_course(tmp_path)
    release(course)
    return course


def lines(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PROBE = """
import yolostudy
from yolostudy.rooms import Room, Square
from yolostudy.shapes import diagonal
for value in (lambda: diagonal(Square(3)), lambda: Room(Square(2)).area()):
    try:
        print(round(value(), 1))
    except NotImplementedError as error:
        print(error)
print(yolostudy.using())
"""


@pytest.mark.parametrize(
    "word, expected",
    [
        (
            None,
            [
                "exercise shapes.Square: course/01_shapes.ipynb",
                "exercise shapes.Square: course/01_shapes.ipynb",
                "mine",
            ],
        ),
        (
            "mine",
            [
                "exercise shapes.Square: course/01_shapes.ipynb",
                "exercise shapes.Square: course/01_shapes.ipynb",
                "mine",
            ],
        ),
        ("reference", ["4.2", "4", "reference"]),
        ("hybrid", ["-1", "4", "hybrid"]),
        ("reference:rooms", ["exercise shapes.Square: course/01_shapes.ipynb"] * 2 + ["reference:rooms"]),
        ("reference:shapes", ["4.2", "exercise rooms.Room: course/02_rooms.ipynb", "reference:shapes"]),
        ("reference:shapes, rooms", ["4.2", "4", "reference:shapes, rooms"]),
        ("mine:rooms", ["-1", "exercise rooms.Room: course/02_rooms.ipynb", "mine:rooms"]),
    ],
)
def test_a_word_decides_by_module(course, word, expected):
    fill(course, "shapes", RAISE, "return -1")
    expected = [re.sub(r"\.0$", "", line) for line in expected]
    for done in (
        run(course, PROBE, use=word),
        run(course, f"import yolostudy; yolostudy.use({word or 'mine'!r})\n{PROBE}"),
    ):
        assert [re.sub(r"\.0$", "", line) for line in lines(done)] == expected


@pytest.mark.parametrize("word", ["refrence", "", "hybrid:rooms", "reference:rooms,romes", "reference:"])
def test_an_unknown_word_is_an_error_that_lists_the_known_and_changes_nothing(course, word):
    code = f"""
        import os, yolostudy
        from yolostudy.study.errors import CourseError
        yolostudy.use("reference")
        try:
            yolostudy.use({word!r})
        except CourseError as error:
            print(error)
        print(yolostudy.using(), os.environ["YOLOSTUDY_USE"])
    """
    message, after = lines(run(course, code))
    assert "reference" in message and ("rooms, shapes" in message or '"hybrid"' in message)
    assert after == "reference reference"


def test_an_unknown_word_in_the_environment_stops_the_import_by_name(course):
    done = run(course, "import yolostudy", use="refrence")
    assert done.returncode == 1
    assert "the environment variable YOLOSTUDY_USE: there is no edition 'refrence'" in done.stderr


def test_a_change_reaches_given_modules_and_leaves_the_ground_alone(course):
    code = """
        import sys, yolostudy
        yolostudy.use("reference")
        from yolostudy import data, lens, rooms, study
        old = rooms.Room()
        yolostudy.use("mine")
        from yolostudy import rooms as mine
        import yolostudy.lens
        print(mine is yolostudy.rooms is not rooms, yolostudy.lens is lens)
        print(yolostudy.lens.Room is yolostudy.rooms.Room, isinstance(old, yolostudy.rooms.Room))
        print(sys.modules["yolostudy.data"] is data, sys.modules["yolostudy.study"] is study, old.area())
    """
    assert lines(run(course, code)) == ["True False", "True False", "True True 0"]


def test_an_attribute_of_the_package_is_imported_again(course):
    code = """
        import sys, yolostudy, yolostudy.lens, yolostudy.shapes
        yolostudy.use("reference")
        print(yolostudy.shapes.Square(2).area(), yolostudy.lens.Room is yolostudy.rooms.Room)
        print(hasattr(yolostudy, "no_such_part"), "IPython" in sys.modules)
    """
    assert lines(run(course, code)) == ["4.0 True", "False False"]


def test_nothing_is_purged_before_an_exercise_module_was_imported(course):
    (course.mine / "command").mkdir()
    (course.mine / "command/__init__.py").write_text("import yolostudy\nyolostudy.use('reference')\n")
    code = "import sys, yolostudy.command as c; print(sys.modules['yolostudy.command'] is c)"
    assert lines(run(course, code)) == ["True"]


def test_pickles_processes_reload_and_sources(course):
    fill(course, "shapes", RAISE, "return -1")
    (course.root / "job.py").write_text("""
import importlib, inspect, multiprocessing, pickle, subprocess, sys
import yolostudy

def work(square):
    from yolostudy.shapes import diagonal
    return square.area() + diagonal(square), yolostudy.using()

if __name__ == "__main__":
    yolostudy.use("hybrid")
    import yolostudy.shapes as shapes
    square = pickle.loads(pickle.dumps(shapes.Square(2)))
    print(type(square) is shapes.Square, square.area())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [square]))
    print(subprocess.check_output([sys.executable, "-c", "import yolostudy; print(yolostudy.using())"], text=True).strip())
    print(inspect.getsourcefile(shapes.diagonal).endswith("yolostudy/shapes.py"), inspect.getsourcefile(shapes.given).split("/")[-2])
    print(inspect.getsource(shapes.Square).splitlines()[0], inspect.getsource(shapes.diagonal).splitlines()[-1])
    with open("yolostudy/shapes.py") as file:
        text = file.read()
    with open("yolostudy/shapes.py", "w") as file:
        file.write(text.replace("return -1", "return -2"))
    print(importlib.reload(shapes) is shapes, shapes.diagonal(None))
""")
    assert lines(run(course, "import runpy; runpy.run_path('job.py', run_name='__main__')")) == [
        "True 4.0",
        "[(3.0, 'hybrid')]",
        "hybrid",
        "True solutions",
        "class Square:     return -1",
        "True -2",
    ]


def test_describe(course):
    def described(word):
        (line,) = lines(run(course, "import yolostudy; print(yolostudy.describe())", use=word))
        return line

    assert described("hybrid") == "running on the reference (no exercise filled in yet)"
    assert described("reference") == "running on the reference"
    assert described("mine") == "running on mine"
    assert described("reference:rooms") == "running on the reference for rooms; mine for shapes"
    fill(course, "shapes", RAISE, "return -1")
    assert described("hybrid") == "running on hybrid: mine shapes.diagonal; the rest is the reference"
    assert described("mine:rooms") == "running on hybrid: mine rooms.*, shapes.diagonal; the rest is the reference"


@pytest.mark.parametrize("damage", ["syntax", "missing"])
def test_hybrid_survives_a_file_that_cannot_be_read(course, damage):
    file = course.mine / "shapes.py"
    if damage == "syntax":
        fill(course, "shapes", RAISE, "return (")
    else:
        file.unlink()
    done = run(course, PROBE, use="hybrid")
    assert [round(float(line)) for line in lines(done)[:2]] == [4, 4]
    (warning,) = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert re.match(
        rf"{re.escape(str(file))}:{23 if damage == 'syntax' else 1}: EditionWarning: .+; the reference stands in for all of shapes",
        warning,
    )
    assert run(course, PROBE, use="mine").returncode == 1


def test_formatting_and_comments_do_not_make_a_stub_mine(course):
    file = course.mine / "shapes.py"
    text = file.read_text().replace("def diagonal(square: Square)", "# mine?\ndef diagonal( square : Square )")
    file.write_bytes(("\ufeff" + text.replace("\n", "\r\n").replace("    ", "\t")).encode())
    assert course.filled_in("shapes") == []
    assert course.edition("hybrid")["shapes"].text == course.edition("reference")["shapes"].text


def test_a_hybrid_takes_what_is_accepted(course):
    fill(course, "shapes", RAISE, "return -1")
    asked = []
    hybrid = course.edition("hybrid", accept=lambda module, name: asked.append((module, name)))
    assert asked == [("shapes", "diagonal")]
    assert hybrid["shapes"].text == course.edition("reference")["shapes"].text


def test_without_solutions_there_is_only_mine(course):
    for file in course.solutions.iterdir():
        file.unlink()
    course.solutions.rmdir()
    sealed = type(course).open(course.root, course.package)
    for word in ("reference", "hybrid", "reference:rooms", "mine:rooms"):
        with pytest.raises(
            CourseError, match=r"needs the reference, and there is no folder .*/solutions\. Only 'mine' can be used"
        ):
            sealed.plan(word)
    assert {*sealed.plan("mine").values()} == {"mine"}
    assert lines(run(course, "import yolostudy.shapes; print(yolostudy.using())")) == ["mine"]


@pytest.mark.parametrize("word", [None, "hybrid"])
def test_the_import_is_quick_and_needs_no_torch(course, word):
    code = """
        import sys, time
        started = time.process_time()
        import yolostudy
        print(time.process_time() - started)
        print("torch" in sys.modules, "numpy" in sys.modules, "yolostudy.study" in sys.modules)
    """
    best = min((lines(run(course, code, use=word)) for _ in range(5)), key=lambda printed: float(printed[0]))
    assert float(best[0]) < 0.1
    assert best[1] == f"False False {word is not None}"


def test_hybrid_takes_only_what_passes_its_checks(course):
    write_exercises(course)
    fill(course, "shapes", RAISE, "return math.hypot(square.side, square.side)")
    done = run(course, "import yolostudy; print(yolostudy.describe())", use="hybrid")
    assert done.stdout.strip() == "running on hybrid: mine shapes.diagonal; the rest is the reference"
    fill(course, "shapes", "return math.hypot(square.side, square.side)", "return 2 * square.side")
    done = run(course, "import yolostudy; print(yolostudy.describe())", use="hybrid")
    assert done.stdout.strip() == "running on the reference (not passing yet, so the reference: shapes.diagonal)"
    done = run(
        course, "from yolostudy.shapes import Square, diagonal; print(round(diagonal(Square(1)), 2))", use="hybrid"
    )
    assert done.stdout.strip() == "1.41", done.stderr
