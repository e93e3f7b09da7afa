"""The sandbox: an answer gets a verdict and does no damage, and the next one is judged."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.tiny_course import write_course
from yolostudy.study import edition_in_use
from yolostudy.study.course import Course
from yolostudy.study.edition import Edition, parse
from yolostudy.study.grading import walls
from yolostudy.study.grading.sandbox import Sandbox
from yolostudy.study.judge import Judge
from yolostudy.study.verdict import NOT_YET, PASSED, Verdict

EXERCISES = """\
from yolostudy.study.exercise import Exercise

square = Exercise("shapes.Square", 1, 2, 5, goal="A square.", hints=("Keep it.", "Keep the side.", "Keep the side on self."))


@square.probe("areas")
def _(course):
    return [course.shapes.Square(side).area() for side in (1.5, 2.0)]


diagonal = Exercise("shapes.diagonal", 1, 1, 5, goal="Its diagonal.", hints=("Pythagoras.", "Two sides.", "Two equal sides."))


@diagonal.probe("of a small one")
def _(course):
    return {"length": course.shapes.diagonal(course.shapes.Square(3.0))}


@diagonal.probe("of a large one")
def _(course):
    return {"length": course.shapes.diagonal(course.shapes.Square(3e5))}


diagonal.misconception(
    "twice the side", swap=("math.hypot(square.side, square.side)", "2 * square.side"), because="That is the way around the corner."
)
"""
KERNEL = walls.landlock()
needs = pytest.mark.skipif
PATIENCE = 1.0


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    course = write_course(tmp_path_factory.mktemp("course").resolve())
    course.exercises.mkdir()
    (course.exercises / "shapes.py").write_text(EXERCISES)
    return course


@pytest.fixture(scope="module")
def judge(course) -> Judge:
    return Judge(course)


@pytest.fixture(scope="module")
def box(course):
    with Sandbox(course, PATIENCE) as opened:
        yield opened


def answer(module: str, text: str) -> Edition:
    return Edition({module: parse(text, Path("yolostudy", f"{module}.py"))})


def ask(judge: Judge, box: Sandbox, body: str, helpers: str = "") -> Verdict:
    """The verdict on `diagonal` with that body.

    The next answer, a right one, must pass whatever this one did.
    """
    text = (
        f"import os, sys\n{dedent(helpers)}\n\ndef diagonal(square):\n    use = os, "
        f"sys\n{indent(dedent(body).strip(), '    ')}\n"
    )
    verdict = judge.check("shapes.diagonal", answer("shapes", text), box.look)
    right = (
        "class Square:\n    def __init__(self, side):\n        self.side = side\n    def area(self):\n        return "
        "self.side**2\n"
    )
    assert judge.check("shapes.Square", answer("shapes", right), box.look).state == PASSED
    return verdict


def test_a_right_answer_passes_and_a_known_mistake_is_named(judge, box):
    assert ask(judge, box, "return (2 * square.side**2) ** 0.5").line == "PASS shapes.diagonal 2/2"
    assert ask(judge, box, "return square.side + square.side").misconception.name == "twice the side"


def test_an_error_is_told_with_the_learners_own_line(judge, box):
    verdict = ask(judge, box, "return square.length")
    assert str(verdict.first.difference) == "AttributeError: 'Square' object has no attribute 'length'"
    frame = verdict.first.error.frames[-1]
    assert (frame.file, frame.line, frame.code) == ("yolostudy/shapes.py", 6, "return square.length")


def test_whoever_imports_the_package_by_its_name_gets_what_is_judged(judge, box):
    body = "from yolostudy.shapes import Square\nassert Square(2).area() == 4\nreturn 2**0.5 * square.side"
    assert ask(judge, box, body).state == PASSED


ENDS = {  # what an answer does instead of answering: what the verdict says
    "while True: pass": "still running after 1 seconds",
    "import time\nwhile True:\n    try:\n        time.sleep(99)\n    except BaseException: "
    "pass": "could not be interrupted",
    "import time\ntime.sleep(99)": "still running after 1 seconds",
    "os._exit(0)": "ended its process: exit status 0",
    "sys.exit('enough')": "your code called exit(enough)",
    "import signal\nsignal.raise_signal(signal.SIGSEGV)": "ended its process: Segmentation fault",
    "import signal\nsignal.raise_signal(40)": "ended its process",
    "import signal\nsignal.raise_signal(signal.SIGSTOP)": "could not be interrupted",
    "import time\nos.closerange(3, 99)\nwhile True:\n    try: time.sleep(99)\n    except BaseException: "
    "pass": "closed the way back",
    "return diagonal(square)": "RecursionError",
    "bytearray(50 << 30)": "MemoryError",
    "raise KeyboardInterrupt": "interrupted",
    "class Strange(BaseException): pass\nraise Strange('so')": "Strange: so",
}


@pytest.mark.parametrize("body", ENDS)
def test_an_answer_that_ends_badly(judge, box, body):
    verdict = ask(judge, box, body)
    assert verdict.state == NOT_YET
    assert ENDS[body] in str(verdict)


def test_what_ends_a_module_while_it_is_imported(judge, box):
    assert "exit status 3" in ask(judge, box, "return HELPER", "HELPER = os._exit(3)").problem
    assert (
        "still running"
        in ask(
            judge, box, "return helper()", "def helper():\n    return LOOP\nLOOP = [0 for _ in iter(int, 1)]"
        ).problem
    )
    verdict = ask(judge, box, "return HELPER", "Square = None\nHELPER = sys.modules[__name__].__dict__.update(UNIT=0)")
    assert verdict.state == NOT_YET


def test_recursion_without_a_limit_ends_somehow(judge, box):
    assert ask(judge, box, "sys.setrecursionlimit(1 << 30)\nreturn diagonal(square)").state == NOT_YET


def test_megabytes_of_print_are_cut(judge, box):
    verdict = ask(
        judge,
        box,
        "print('x' * 30_000_000)\nprint('y\\n' * 1000)\nos.write(1, b'z' * 1_000_000)\nreturn 2**0.5 * square.side",
    )
    assert verdict.state == PASSED
    assert len(verdict.printed) < 3000


FORBIDDEN = {  # each must raise an OSError; FILE and FOLDER belong to the grader, PORT listens
    "signal to the parent": "os.kill(os.getppid(), 9)",
    "signal to the group": "os.killpg(os.getpgid(0), 9)",
    "fork bomb": "while True: os.fork()",
    "process": "import subprocess\nsubprocess.run(['touch', FILE])",
    "spawn": "os.posix_spawn('/bin/sh', ['sh', '-c', f'rm {FILE}'], {})",
    "shell": "os.system(f'rm {FILE}')",
    "other program": "os.execv('/bin/sh', ['sh'])",
    "open for writing": "open(FILE, 'w')",
    "open for appending": "open(os.open(FILE, os.O_RDWR), 'a')",
    "new file": "open('new', 'x')",
    "remove": "os.remove(FILE)",
    "unlink": "import pathlib\npathlib.Path(FILE).unlink()",
    "remove a folder": "import shutil\nshutil.rmtree(FOLDER)",
    "rename": "os.replace(FILE, FILE + '2')",
    "empty": "os.truncate(FILE, 0)",
    "link": "os.symlink(FILE, 'link')",
    "rights": "os.chmod(FILE, 0)",
    "read the solution": "open(f'{FOLDER}/solutions/shapes.py')",
    "read by a roundabout way": "open(f'{os.path.dirname(os.__file__)}/../../../../../../../../../{FOLDER}/solutions/shapes.py')",
    "read the exercises": "open(f'{FOLDER}/course/exercises/shapes.py')",
    "read the learner's neighbour": "open(FILE)",
    "read the parent's secrets": "open(f'/proc/{os.getppid()}/environ')",
    "read passwords": "open('/etc/passwd')",
    "write into the parent": "open(f'/proc/{os.getppid()}/fd/4', 'wb')",
    "connect": "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
    "listen": "import socket\nsocket.socket().bind(('127.0.0.1', 0))",
    "native code": "import ctypes\nctypes.CDLL(None).system(f'rm {FILE}'.encode())",
    "more memory": "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
    "all that lives": "import gc\ngc.get_objects()",
}
DISARM = """
    import builtins, yolostudy.study.grading.server as server, yolostudy.study.grading.walls as walls
    kept = builtins.isinstance, builtins.type, os.path.realpath, os.fsdecode
    walls.guard = walls.wall = walls.PermissionError = server.guard = server.wall = None
    os.O_WRONLY = os.O_RDWR = os.O_CREAT = os.O_TRUNC = os.O_APPEND = 0
    builtins.isinstance = lambda *a: False
    builtins.type = lambda *a: int
    os.path.realpath = os.fsdecode = lambda path: os.__file__
    try:
        open(FILE, "w")
    except BaseException as error:
        trace = error.__traceback__
        while trace:
            trace.tb_frame.f_locals.update(dict(places=("/",), writes=0, kind=lambda x: int, real=lambda x: os.__file__))
            trace = trace.tb_next
    sys.audit = sys.settrace = None
"""


@pytest.mark.parametrize("disarm", ["", DISARM], ids=["plain", "disarmed"])
def test_nothing_forbidden_is_done(judge, box, course, tmp_path, disarm):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        names = f"FILE, FOLDER, PORT = {str(kept)!r}, {str(course.root)!r}, {listening.getsockname()[1]}"
        for act in FORBIDDEN.values():
            tried = f"{names}\n{dedent(disarm)}\ntry:\n{indent(act, '    ')}\nexcept BaseException as error:\n"
            tried += "    builtins.isinstance, builtins.type, os.path.realpath, os.fsdecode = kept\n" if disarm else ""
            verdict = ask_once(judge, box, f"{tried}    return f'refused: {{error.__class__.__name__}}'\nreturn 'done'")
            assert "'refused: " in str(verdict), (act, str(verdict))
            assert disarm or "PermissionError" in str(verdict), (act, str(verdict))
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert (kept.read_text(), kept.stat().st_mode & 0o600) == ("kept", 0o600)
    assert [*tmp_path.iterdir()] == [kept]
    assert (course.solutions / "shapes.py").exists()
    assert ask(judge, box, "return 2**0.5 * square.side").state == PASSED


def ask_once(judge: Judge, box: Sandbox, body: str) -> Verdict:
    text = f"import os, sys\n\ndef diagonal(square):\n{indent(dedent(body).strip(), '    ')}\n"
    return judge.check("shapes.diagonal", answer("shapes", text), box.look)


@needs(KERNEL < 6, reason="this kernel does not keep signals in")
def test_the_kernel_stops_what_no_audit_event_tells_of(judge, box, tmp_path):
    for act in (
        "import signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
        f"os.mkfifo({str(tmp_path / 'pipe')!r})",
        f"os.listdir({str(tmp_path)!r})",
    ):
        assert "PermissionError" in str(ask(judge, box, act))
    assert not [*tmp_path.iterdir()]


SEARCH = """
    needle, seen, found, queue = "hyp" + "ot(square", set(), [], [dict(sys.modules)]
    frame = sys._getframe().f_back
    while frame:
        queue += [dict(frame.f_locals), frame.f_globals]
        frame = frame.f_back
    while queue and len(seen) < 200_000:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            found += [thing] if needle in thing and needle != thing else []
        elif isinstance(thing, dict):
            queue += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (list, tuple, set, frozenset)):
            queue += thing
        elif str(type(thing).__module__).startswith(("yolostudy", "_exercises", "_judged", "builtins")):
            queue += [vars(thing)] if hasattr(thing, "__dict__") else []
            queue += [thing.__closure__ or (), thing.__defaults__ or ()] if hasattr(thing, "__closure__") else []
            queue += [thing.cell_contents] if type(thing).__name__ == "cell" else []
    assert len(seen) > 1000
"""


def test_the_solution_is_nowhere_in_its_process(judge, box):
    look = f"{dedent(SEARCH)}\nreturn len(found)"
    assert "4.2426 against 0" in str(ask(judge, box, look).first.difference)
    own = "import linecache\n" + look  # the search does find what is there: its own text
    assert "against 0" not in str(
        ask(judge, box, own.replace('"hyp" + "ot(square"', '"len(fou" + "nd)"')).first.difference
    )


PATCHES = {
    "what compares": """
        import numpy, yolostudy.study.judge as judge, yolostudy.study.observation as observation
        numpy.isclose = numpy.array_equal = numpy.allclose = lambda *a, **k: True
        observation.first_difference = judge.first_difference = judge.same = lambda *a, **k: None
        observation.plain = judge.plain = observation.dumps = lambda value: value
        return 0.0
    """,
    "the verdict": """
        import yolostudy.study.judge as judge
        judge.Verdict.passed = property(lambda self: 9)
        judge.Judge.check = judge.Judge.look = lambda self, *a: []
        return 0.0
    """,
    "a number that equals everything": """
        class Liar(float):
            __eq__ = __le__ = __ge__ = lambda self, other: True
            __hash__ = None
            __repr__ = __str__ = lambda self: '4.242640687119285'
        return Liar(0)
    """,
    "something like a tensor": """
        class Liar:
            dtype = 'float'
            __eq__ = lambda self, other: True
            detach = cpu = float = lambda self: self
            def __array__(self, *a, **k): return 1 / 0
        return Liar()
    """,
    "a mapping without end": """
        import collections.abc
        class Liar(collections.abc.Mapping):
            __len__ = lambda self: 1
            __iter__ = lambda self: iter(int, 1)
            __getitem__ = lambda self, key: self
        return Liar()
    """,
}


@pytest.mark.parametrize("what", PATCHES)
def test_patching_and_lying_do_not_help(judge, box, what):
    verdict = ask(judge, box, PATCHES[what])
    assert (verdict.state, verdict.passed) == (NOT_YET, 0)


def test_taking_the_probes_away_does_not_help(judge, box):
    body = """
        for name, module in list(sys.modules.items()):
            if name.startswith("_exercises_") and hasattr(module, "diagonal"):
                module.diagonal.probes.clear()
        return 0.0
    """
    assert "1 observations for 2 probes" in ask(judge, box, body).problem


FORGE = """
    import json, struct
    def forged(text):
        flood(2 * (struct.pack(">Q", len(text)) + text.encode()))
    def flood(content):
        for pipe in range(3, 64):
            try:
                os.write(pipe, content)
            except OSError:
                pass
        os._exit(0)
    def seen(count, values):
        return json.dumps(count * [{"values": values, "error": None}])
"""
FORGED = {  # what is sent instead of observations: what the verdict says
    "forged('{}')": "no observations",
    "forged('[')": "no observations",
    "forged('[' * 100_000)": "no observations",
    'forged(\'{"seen": 5, "printed": 5}\')': "no observations",
    "forged(json.dumps({'seen': seen(9, 1.0), 'printed': ''}))": "9 observations for 2",
    "forged(json.dumps({'seen': seen(2, {'length': 1.0}), 'printed': ''}))": "expected 4.2426, yours 1.",
    "forged(json.dumps({'seen': seen(2, {'length': {'#dtype': 'O', 'shape': [1], 'data': ''}}), 'printed': "
    "''}))": "no observations",
    "forged(json.dumps({'stopped': 'x' * 1_000_000, 'frames': []}))": "xxxx",
    "forged(json.dumps({'stopped': 'x', 'frames': [{'file': 3, 'line': [], 'function': {}, 'code': "
    "None}]}))": "x It was in 3",
    "flood(b'\\xff' * 99)": "more than the 16777216 bytes",
}


@pytest.mark.parametrize("body", FORGED)
def test_forged_observations_are_data_like_any_other(judge, box, body):
    verdict = ask(judge, box, dedent(FORGE) + body)
    assert verdict.state == NOT_YET
    assert FORGED[body] in str(verdict)
    assert len(str(verdict)) < 10_000


def test_a_server_that_is_gone_is_started_again(judge, box):
    ask(judge, box, "return 0.0")
    os.kill(box._server.pid, 9)
    box._server.wait()
    assert ask(judge, box, "return 2**0.5 * square.side").state == PASSED


def test_a_server_that_cannot_start_says_why(course, judge, tmp_path):
    broken = write_course(tmp_path.resolve())
    broken.exercises.mkdir()
    (broken.exercises / "shapes.py").write_text("import nothing_of_that_name\n")
    with Sandbox(broken) as box, pytest.raises(Exception, match=r"did not start.*nothing_of_that_name"):
        box.look(judge.exercise("shapes.Square"), judge.reference, (), None)


def test_nothing_is_left_when_it_closes(course, judge):
    with Sandbox(course, PATIENCE) as box:
        ask(judge, box, "return 0.0")
        server, home = box._server, Path(box._home.name)
        assert home.exists()
    assert server.returncode == -9
    assert not home.exists()


def test_an_orphan_ends_with_its_time(course, judge):
    """An answer that runs on is ended by the kernel even if grader and server are killed."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from yolostudy.study.grading.walls import limit; limit(-9); [0 for _ in iter(int, 1)]",
        ],
        env={**os.environ, "PYTHONPATH": str(course.root), "YOLOSTUDY_USE": "mine"},
        timeout=600,
    )
    assert done.returncode < 0


@needs(not KERNEL, reason="this kernel has no Landlock")
def test_a_walled_command_writes_and_reads_only_where_it_may(course, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").write_text("other")
    code = f"""
        import pathlib, subprocess
        here = pathlib.Path({str(tmp_path)!r})
        (here / "mine/made").write_text("made")
        for act in (lambda: (here / "other").read_text(), lambda: (here / "other").unlink(), lambda: (here / "new").write_text("")):
            try:
                print(act())
            except PermissionError:
                print("refused")
        print(subprocess.run(["ls", str(here)], capture_output=True).returncode > 0)
    """
    command = walls.walled(
        [sys.executable, "-c", dedent(code)], course.root, walls.python_folders(), [str(tmp_path / "mine")]
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["refused", "refused", "refused", "True"], done.stderr
    assert (tmp_path / "mine/made").read_text() == "made"
    assert (tmp_path / "other").read_text() == "other"


# ---- the real course -----------------------------------------------------------------------------


TORCH = """\
class Liar(torch.Tensor):
    def detach(self):
        return self.zero_()
    def numpy(self, *a, **k):
        return [[0.0]]
    @classmethod
    def __torch_function__(cls, *a, **k):
        return True


class SPPF(nn.Module):
    def __init__(self, c_in, c_out, kernel_size=5):
        super().__init__()
        torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.one.as_subclass(Liar)
"""
NATIVE = """\
import cv2


class SPPF(nn.Module):
    def __init__(self, c_in, c_out, kernel_size=5):
        super().__init__()
        cv2.imwrite(PICTURE, __import__("numpy").zeros((9, 9)))
        self.stolen = torch.UntypedStorage.from_file(SOLUTION, False, 9)
"""


def test_the_real_exercises_of_stage_2(tmp_path):
    judge = Judge(edition_in_use.course())
    names = [e.name for e in judge.select("blocks")]
    picture, solution = tmp_path / "picture.png", judge.course.solutions / "blocks.py"
    picture.write_bytes(b"mine")
    with Sandbox(judge.course, 30.0) as box:
        blocks = Edition({"blocks": judge.reference["blocks"]})
        started = time.monotonic()
        assert [judge.check(name, blocks, box.look).state for name in names] == [PASSED] * len(names)
        assert judge.check("blocks.SPPF", answer("blocks", TORCH), box.look).passed == 0
        wrong = parse(solution.read_text("utf-8").replace("self.pool(maps[-1])", "self.pool(maps[0])"), solution)
        assert (
            judge.check("blocks.SPPF", Edition({"blocks": wrong}), box.look).misconception.name
            == "the pools run side by side"
        )
        if KERNEL:  # native code opens files without an audit event
            text = NATIVE.replace("PICTURE", repr(str(picture))).replace("SOLUTION", repr(str(solution)))
            verdict = judge.check("blocks.SPPF", answer("blocks", text), box.look)
            assert "Permission denied" in str(verdict) or "unable to open" in str(verdict)
            assert picture.read_bytes() == b"mine"
        assert time.monotonic() - started < 600
    with contextlib.suppress(OSError):
        picture.unlink()
