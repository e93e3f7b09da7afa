"""The learner's words in the terminal: what they print, what they write, their exit statuses."""

import json
import os
import pty
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import yolostudy
from tests.tiny_course import EXERCISES, fill, run, write_course, write_exercises
from yolostudy.study.authoring.release import release
from yolostudy.study.progress import ExerciseState, Map, Progress

SIDE = (
    'raise NotImplementedError("exercise shapes.Square: course/01_shapes.ipynb")\n\n    def area',
    "self.side = side\n\n    def area",
)
STUB = 'raise NotImplementedError("exercise shapes.Square: course/01_shapes.ipynb")'
DIAGONAL = 'raise NotImplementedError("exercise shapes.diagonal: course/01_shapes.ipynb")'

# Runs several words, and edits between them, in one process: a tenth of the time that one process
# for each would take.
DRIVER = """
import contextlib, io, json, sys
from pathlib import Path
from yolostudy.command import main
file, told = Path("yolostudy/shapes.py"), []
for step in json.loads(sys.argv[1]):
    if isinstance(step, dict):
        for old, new in step.items():
            text = file.read_text() if file.exists() else ""
            assert old in text, f"{old!r} is not in {text}"
            file.write_text(text.replace(old, new, 1)) if new is not None else file.unlink()
        continue
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(step.split())
        except SystemExit as end:
            status = end.code
    told.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture
def course(tmp_path):
    course = write_course(tmp_path)
    shutil.copytree(
        Path(yolostudy.__file__).parent / "command",
        course.mine / "command",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    write_exercises(course)
    release(course)
    return course


def environment(course, use="", columns="") -> dict[str, str]:
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("YOLOSTUDY") and name not in ("COLUMNS", "NO_COLOR")
    }
    given |= (
        {"PYTHONPATH": str(course.root)}
        | ({"YOLOSTUDY_USE": use} if use else {})
        | ({"COLUMNS": columns} if columns else {})
    )
    return given


def say(course, *steps, **more) -> list[tuple[int, str]]:
    """The exit status of each word and all that it printed.

    A step that is a table edits my shapes.py; None deletes it.
    """
    command = [sys.executable, "-c", DRIVER, json.dumps(steps)]
    done = subprocess.run(
        command, cwd=course.root, env=environment(course, **more), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return [(status, out + err) for status, out, err in json.loads(done.stdout)]


RIGHT = {SIDE[0]: SIDE[1], STUB: "return self.side * self.side * unit"}
WRONG = {SIDE[0]: SIDE[1], STUB: "return self.side * unit"}


# ---- check, hint, diff, status -------------------------------------------------------------------


def test_from_the_stub_to_a_right_answer(course):
    said = say(
        course,
        "status",
        "check Square",
        WRONG,
        "check shapes.Square",
        "diff Square",
        *["hint Square"] * 4,
        "check 1",
        {"return self.side * unit": "return self.side * self.side * unit"},
        "check Square",
        "diff Square",
        "status 1",
        "solve 1",
        "check shapes",
    )
    (
        (status, map_),
        (todo, stub),
        (fail, wrong),
        (refused, reason),
        *hints,
        (_, table),
        (passed, right),
        (same, diff),
    ) = said[:-3]
    assert (status, todo, fail, refused, passed, same) == (0, 1, 1, 1, 0, 0)
    assert "stage  1  ○○        01_shapes" in map_ and "Next: shapes.Square, in course/01_shapes.ipynb." in map_
    assert "TODO shapes.Square 0/2" in stub
    assert (
        "Fill it in in course/01_shapes.ipynb, or in yolostudy/shapes.py, line 8." in stub
        and "About 5 minutes, 2 points" in stub
    )
    assert wrong.splitlines() == [
        f"{'shapes.Square':<73} 0 of 2",
        "  areas: areas[1]: expected 4., yours 2.",
        '  This is exactly what "a side is taken for an area" does. 2 m give 4 square metres.',
        "  Hint 1 of 3: Keep the side.",
        "  `yolostudy hint shapes.Square` says more.",
        "FAIL shapes.Square 0/2",
    ]
    assert (
        reason.startswith("yolostudy: shapes.Square does not pass yet, and diff shows the reference.")
        and reason.count("Square") == 1
    )
    assert [text[:12] for _, text in hints] == ["Hint 1 of 3:", "Hint 2 of 3:", "Hint 3 of 3:", "Hint 3 of 3:"]
    assert "`solve` writes the solution into your file, and `undo` takes it back" in hints[-1][1]
    assert re.search(
        r'FAIL shapes.Square 0/2 +"a side is taken for an area"\nTODO shapes.diagonal 0/1\n0 of 2 passed\.', table
    )
    assert "First to look at: shapes.Square" in table
    assert right.splitlines()[0] == "PASS shapes.Square 2/2"
    assert "-        return side * side * unit" in diff and "+        return self.side * self.side * unit" in diff
    assert "        # BEGIN SOLUTION" not in diff
    (_, one), (_, solved), (everything, last) = said[-3:]
    assert (
        "● shapes.Square                    2/2\n          ○ shapes.diagonal\n" in one
        and "1 of 2 exercises, 2 of 3 points." in one
    )
    assert solved.count("wrote the reference's shapes.") == 2
    assert everything == 0 and last.endswith("2 of 2 passed.\n")


def test_a_word_that_names_nothing(course):
    said = say(
        course,
        "check shapes.Sqare",
        "hint square",
        "check rooms.Room",
        "status 9",
        "solve triangle",
        "undo Square --to 99",
        "undo Square",
        "use refrence",
    )
    assert [status for status, _ in said] == [1] * 8
    for (_, text), sentence in zip(
        said,
        (
            "there is no exercise 'shapes.Sqare'. Did you mean shapes.Square?",
            "there is no exercise 'square'. Did you mean Square?",
            "there is no exercise 'rooms.Room'.",
            "there are no exercises of stage 9; there are those of 1.",
            "there is no exercise 'triangle'.",
            "there is no version 99 of shapes.Square. `yolostudy undo shapes.Square --list` lists those that there "
            "are.",
            "there is no earlier version of shapes.Square",
            "there is no edition 'refrence'.",
        ),
        strict=True,
    ):
        assert text.startswith(f"yolostudy: {sentence}") and text.count("\n") == 1, text


def test_the_command_itself(course):
    said = say(
        course,
        "chek",
        "undo",
        "undo Square --to x",
        "diff Square --against mine",
        "--help",
        "undo --help",
        "use --help",
        columns="60",
    )
    assert [status for status, _ in said] == [2, 2, 2, 2, 0, 0, 0]
    for word in ("check", "hint", "solve", "reset", "undo", "diff", "status", "watch", "use"):
        assert re.search(rf"(?m)^    {word} +\w", said[4][1]), word
    assert "--list" in said[5][1] and "--to NUMBER" in said[5][1]


# ---- undo ----------------------------------------------------------------------------------------


def test_undo_back_and_forth(course):
    stub = (course.mine / "shapes.py").read_bytes()
    said = say(
        course,
        RIGHT,
        "undo Square --list",
        "solve Square",
        "reset Square",
        "check Square",
        *["undo Square"] * 4,
        "undo Square --list",
    )
    answers = [text for _, text in said]
    assert [status for status, _ in said] == [0, 0, 0, 1, 0, 0, 1, 1, 0]
    assert "brought version 2 of shapes.Square (solve" in answers[4]
    assert "brought version 1 of shapes.Square (found" in answers[5]
    assert "there is no earlier version" in answers[6]
    versions = re.findall(
        r"(?m)^([* ]) +(\d+)  \d{4}-\d\d-\d\d \d\d:\d\d  ([a-z -]+?) +\+(\d+) -(\d+) lines$", answers[-1]
    )
    assert [(mark, number, how) for mark, number, how, _, _ in versions] == [
        (" ", "1", "first seen"),
        (" ", "2", "solve"),
        (" ", "3", "reset"),
        (" ", "4", "undo"),
        ("*", "5", "undo"),
    ]
    words = ["undo Square --to 2", "undo Square", "undo shapes --list", "undo shapes", "undo shapes --to 2", "reset 1"]
    said = say(course, *words)
    assert [status for status, _ in said] == [0] * 6
    assert "goes back to" in said[2][1] and "shapes, oldest first" in said[2][1]
    assert (course.mine / "shapes.py").read_bytes() == stub


def test_a_file_that_python_cannot_read_and_one_that_is_gone(course):
    broken = {SIDE[0]: "self.side = (side\n\n    def area", DIAGONAL: "return 1"}
    everything = (course.mine / "shapes.py").read_text()
    said = say(
        course, "check", broken, "check Square", "check", "status", "reset diagonal", "diff Square --against "
                                                                                      "stub", "reset 1", "check",
        RIGHT, "check Square", {everything[:40]: None}, "check Square", "check", "status", "undo Square", "check Square",
    )  # fmt: skip
    _, one, all_, status, refused, diff, mended, stubs, right, gone, all_gone, status_gone, back, again = said
    assert re.search(r"Python cannot read yolostudy/shapes.py, line 12: .* \(side", one[1]) and "Hint" not in one[1]
    assert all_[1].count("Python cannot read") == 1 and "FAIL shapes.diagonal 0/1" in all_[1]
    assert "line 12" in status[1] and "`yolostudy undo shapes`" in status[1] and "◐◐" in status[1]
    assert refused[0] == 1 and "syntax error in line 12" in refused[1]
    assert "+        self.side = (side" in diff[1]
    assert mended[0] == 0, "what could not be reset before the other one was is reset after it"
    assert stubs[1].count("TODO") == 2 and right[0] == 0
    assert "yolostudy/shapes.py is missing" in gone[1] and all_gone[1].count("is missing") == 1
    assert "yolostudy/shapes.py is missing. `yolostudy undo shapes` brings it back." in status_gone[1]
    assert (back[0], again[0]) == (0, 0)


def test_a_return_outside_its_function_is_named_as_that(course):
    moved = {DIAGONAL: "length = 1\nreturn length"}
    twice = {"\nreturn length": "", "side: float": "side, side"}
    (_, first), (_, second), (_, status) = say(course, moved, "check diagonal", twice, "check Square", "status")
    assert "Python cannot read yolostudy/shapes.py, line 24: 'return' outside function" in first
    assert "duplicate argument 'side'" in second and "duplicate argument 'side'" in status
    done = run(course, "import yolostudy.shapes; print(yolostudy.shapes.Square(2).area())", use="hybrid")
    assert done.stdout.strip() == "4.0" and "the reference stands in for all of shapes" in done.stderr


# ---- what is in use ------------------------------------------------------------------------------


def test_the_reference_in_use(course):
    before = (course.mine / "shapes.py").read_bytes()
    said = say(course, "check 1", "status", "solve 1", "undo Square --to 1", "diff Square", "watch", use="reference")
    assert [status for status, _ in said] == [0, 0, 1, 1, 1, 1]
    for status, text in said:
        assert "unset YOLOSTUDY_USE" in text
        assert status == 0 or "reference" in text, text
    assert "2 of 2 passed." in said[0][1] and "●●" in said[1][1]
    assert (course.mine / "shapes.py").read_bytes() == before
    assert say(course, "solve 1", use="reference:rooms")[0][0] == 0


def test_use_counts_for_a_folder_until_the_environment_says_otherwise(course):
    def area():
        return run(course, "from yolostudy.shapes import Square; print(Square(3).area())").stdout.strip()

    assert area() == ""
    (_, hybrid), (_, again), (_, status) = say(course, "use hybrid", "use", "status")
    assert (
        hybrid.startswith("running on the reference (no exercise filled in yet)\n")
        and "`yolostudy use mine` ends that" in hybrid
    )
    assert again == hybrid and "○○" in status
    assert area() == "9.0"
    (_, hybrid), _ = say(course, RIGHT, "use", "use reference:rooms")
    assert hybrid.startswith("running on hybrid: mine shapes.Square; the rest is the reference")
    assert area() == "9.0"
    assert (
        "YOLOSTUDY_USE=reference in your environment still goes first" in say(course, "use mine", use="reference")[0][1]
    )
    assert say(course, "use") == [(0, "running on mine\n")]
    assert not (course.state / "use").exists()


# ---- how it looks --------------------------------------------------------------------------------


def test_lines_break_at_the_width_and_keep_their_indent(course):
    raising = {
        **WRONG,
        "return self.side * unit": "print('\\x1b[2J' + 'x' * 70)\n        raise ValueError('a b c ' * 20)  # "
        + "long " * 20,
    }
    (_, card), (_, many), (_, map_) = say(course, raising, "check Square", "check 1", "status", columns="50")
    lines = card.splitlines()
    assert lines[0] == f"{'shapes.Square':<43} 0 of 2"
    assert "  areas: ValueError: a b c a b c a b c a b c a b c" in lines
    assert all(len(line) <= 50 for line in (many + map_).splitlines())
    assert all(line.startswith("  ") for line in lines[1:-1])
    assert any("in area: raise ValueError" in line and len(line) > 100 for line in lines), "code stays in one line"
    assert "\x1b" not in card and "\ufffd[2J" in card
    ((_, card),) = say(course, "check Square")
    assert "a b c " * 19 in card, "nothing breaks the lines of a pipe"


def test_colours_are_for_a_terminal(course):
    say(course, WRONG)
    command = [sys.executable, "-m", "yolostudy.command", "check", "Square"]
    ours, theirs = pty.openpty()
    given = environment(course, columns="60") | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=course.root, env=given, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while process.poll() is None or not shown.endswith(b"\n"):
        try:
            shown += os.read(ours, 10_000)
        except OSError:  # Linux: the other end has been closed
            break
    os.close(ours)
    assert process.wait(10) == 1
    assert b"\x1b[33mFAIL shapes.Square 0/2\x1b[0m" in shown
    piped = subprocess.run(
        command, cwd=course.root, env=environment(course) | {"PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert piped.returncode == 1 and b"\x1b" not in piped.stdout
    piped = subprocess.run(
        [*command[:3], "status"],
        cwd=course.root,
        env=environment(course) | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert b"stage  1  /.        01_shapes" in piped.stdout


# ---- speed ---------------------------------------------------------------------------------------


def test_only_a_check_imports_torch(course):
    (course.root / "torch.py").write_text("raise SystemExit('torch was imported')")
    (course.exercises / "shapes.py").write_text("import torch\n" + EXERCISES)
    Progress(course).put("shapes.Square", state="passed", passed=2, total=2, mark="judged before")
    steps = [
        "status",
        "hint Square",
        "solve Square",
        "undo Square",
        "undo Square --list",
        "reset 1",
        "diff Square --against stub",
        "use hybrid",
    ]
    for status, text in say(course, *steps, "check Square")[:-1]:
        assert status == 0 and "torch" not in text, text
    assert say(course, "check Square") == [("torch was imported", "")]


# ---- interrupted ---------------------------------------------------------------------------------


def start(course, *words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "yolostudy.command", *words],
        cwd=course.root,
        env=environment(course),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # what runs in the background may be deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_ctrl_c_ends_a_check_says_where_it_was_and_keeps_no_verdict(course):
    say(course, RIGHT, "check Square")
    fill(
        course, "shapes", "return self.side * self.side * unit", "open('began', 'w').close()\n        while True: pass"
    )
    process = start(course, "check")
    try:
        waited = time.monotonic()
        while not (course.root / "began").exists() and time.monotonic() - waited < 600:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (
        "interrupted while shapes.Square was being checked. It was in yolostudy/shapes.py:18, area: while True: pass"
        in shown
    )
    assert "diagonal" not in shown, "one Ctrl-C ends it all"
    assert shown.splitlines()[-1] == "interrupted; no file is left half-written."
    fill(course, "shapes", "while True: pass", "return self.side * self.side * unit")
    assert "● shapes.Square" in say(course, "status 1")[0][1]


class Watching:
    """`yolostudy watch`, and what it prints as it comes."""

    def __init__(self, course):
        self.process, self.lines = start(course, "watch"), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def until(self, end: str, patience: float = 600) -> list[str]:
        lines = []
        while not lines or end not in lines[-1]:
            lines.append(self.lines.get(timeout=patience))
        return lines


def test_watch(course):
    watching = Watching(course)
    file = course.mine / "shapes.py"
    try:
        watching.until("Ctrl-C ends this")
        stub = file.read_text()

        right = stub.replace(SIDE[0], SIDE[1]).replace(STUB, "return self.side * self.side * unit")
        file.write_text(right)
        shown = watching.until("PASS shapes.Square 2/2")
        assert re.fullmatch(r"\d\d:\d\d:\d\d shapes.py: shapes.Square", shown[0]) and len(shown) == 2

        file.write_text(right.replace("self.side = side", "self.side = (side"))
        watching.until("line 12: '(' was never closed")
        file.write_text(right.replace(DIAGONAL, "return half(2)") + "\n\ndef half(n):\n    return n\n")
        shown = watching.until("FAIL shapes.diagonal 0/1")
        assert sum("Square" in line for line in shown) == 0, "one card for each changed definition"
        file.write_text(right.replace(DIAGONAL, "return half(2)") + "\n\ndef half(n):\n    return 2 ** 0.5\n")
        watching.until("PASS shapes.diagonal 1/1")  # its helper changed
        file.unlink()
        watching.until("shapes.py is missing. `yolostudy undo shapes` brings it back.")
        draft = course.mine / "draft"
        draft.write_text("# back\n" + right)
        draft.replace(file)
        shown = watching.until("Fill it in")
        assert not [line for line in shown if "Square" in line]
        file.write_text("# a comment\n" + right)
        watching.until("shapes.py: nothing changed in an exercise")

        watching.process.send_signal(signal.SIGINT)
        watching.until("no longer watching")
        assert watching.process.wait(10) == 0
    finally:
        watching.process.kill()


# ---- the map and the memory ----------------------------------------------------------------------


def test_the_map_names_what_is_next():
    rows = [
        ExerciseState(f"shapes.x{n}", 1 + n // 2, 1, state, n, 4, "<b>")
        for n, state in enumerate(["passed", "not yet", "not attempted"])
    ]
    whole = Map(tuple(rows), {1: "01_shapes", 2: "02_<rooms>"})
    assert str(whole).splitlines()[-1] == "Next: shapes.x1, in course/01_shapes.ipynb."
    assert "shapes.x0" not in str(whole) and "shapes.x0" in str(Map(tuple(rows[:2]), {}))
    assert str(Map(tuple(rows[::2]), {})).splitlines()[-1] == "Next: shapes.x2."
    assert str(Map(tuple(rows[:1]), {})).splitlines()[-1] == "1 of 1 exercises, 1 of 1 points."
    assert "<b>" not in whole._repr_html_() and "<rooms>" not in Map(tuple(rows[2:]), whole.notebooks)._repr_html_()
    assert str(Map((), {})) and Map((), {})._repr_html_()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"a": 1}',
        '{"a": {"state": 7, "hints": "x", "passed": null}}',
        '{"a": {"state": "splendid", "hints": 2}}',
    ],
)
def test_a_damaged_memory_is_forgotten(course, text):
    course.state.mkdir()
    (course.state / "progress.json").write_text(text)
    assert Progress(course).get("a") == {"state": "not attempted", "passed": 0, "total": 0, "mark": "", "hints": 0}
    Progress(course).put("a", hints=1)
    assert Progress(course).get("a")["hints"] == 1


def test_a_folder_that_cannot_be_written_to_forgets(course):
    course.state.write_text("a file where the folder should be")
    Progress(course).put("a", hints=1)
    assert Progress(course).get("a")["hints"] == 0
