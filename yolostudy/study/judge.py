"""The judge: is an answer right, where does it first differ, and which known mistake is it?

An exercise is judged with the reference around it, so an error never cascades: the reference
edition with one definition of mine in it is loaded, the exercise's probes look at it, and what they
see is compared with what they see of the reference and of each misconception.
"""

import contextlib
import hashlib
import io
import json
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from .course import Course
from .edition import Edition, Package, Statement, load, read_module, transplant
from .exercise import Exercise, Misconception, Probe, read_exercises, read_outline
from .observation import Difference, Frame, Raised, Seen, dumps, first_difference, loads, plain
from .regions import CourseError

PATIENCE = 30.0  # seconds that the probes of one exercise may take: they need a tenth of one
PASSED, NOT_YET, NOT_ATTEMPTED = "passed", "not yet", "not attempted"
WORDS = {PASSED: "PASS", NOT_YET: "FAIL", NOT_ATTEMPTED: "TODO"}
PRINTED_LINES = 12  # of what an answer prints while it is looked at
PRINTED_AT_MOST = 100_000  # characters that are kept of it


@dataclass(frozen=True)
class Result:
    """What one probe found."""

    probe: str
    difference: Difference | None  # None: the same as the reference
    error: Raised | None = None


@dataclass(frozen=True)
class Verdict:
    """What the judge says about one exercise."""

    exercise: Exercise
    state: str  # passed, not yet, not attempted
    results: tuple[Result, ...] = ()
    misconception: Misconception | None = None
    problem: str = ""  # why the probes could not look at all, in a sentence
    notes: tuple[str, ...] = ()  # what is not wrong and should be known
    printed: str = ""
    seconds: float = 0.0
    interrupted: bool = False  # by the learner, so nothing is known about the answer

    @property
    def passed(self) -> int:
        return sum(result.difference is None for result in self.results)

    @property
    def total(self) -> int:
        return len(self.exercise.probes)

    @property
    def first(self) -> Result | None:
        """The first probe that saw something else."""
        return next((result for result in self.results if result.difference), None)

    @property
    def line(self) -> str:
        """One plain line, without a float: what nbval compares."""
        return f"{WORDS[self.state]} {self.exercise.name} {self.passed}/{self.total}"

    def __bool__(self) -> bool:
        return self.state == PASSED

    def __str__(self) -> str:
        lines = [f"{self.exercise.name:<72}{self.passed} of {self.total}"]
        if self.problem:
            lines.append(f"  {self.problem}")
        if self.first:
            lines.append(f"  {self.first.probe}: {self.first.difference}")
            lines += [
                f"    {f.file}:{f.line} in {f.function}: {f.code}"
                for f in (self.first.error.frames if self.first.error else ())
            ]
        if self.misconception:
            lines.append(f'  This is exactly what "{self.misconception.name}" does. {self.misconception.because}')
        if self.printed:
            lines += ["  printed:", *(f"    {line}" for line in self.printed.splitlines())]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass
class Judge:
    course: Course
    patience: float = PATIENCE
    _dtype: object = None
    _seen: dict = field(default_factory=dict)  # (exercise, misconception or None) -> what the probes saw so far

    # ---- what there is ---------------------------------------------------------------------------

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        found = read_exercises(self.course.exercises)
        if torch := sys.modules.get("torch"):
            # that the fixtures are made of: probes keep to it, whatever a notebook says later
            self._dtype = torch.get_default_dtype()
        return found

    @cached_property
    def outline(self) -> dict[str, Exercise]:
        """The exercises without what looks at an answer: enough for a name, a hint or the map, and
        found without torch.
        """
        return read_outline(self.course.exercises)

    @property
    def reference(self) -> Edition:
        """What stands around an answer: the reference; in a sealed course, where there is none,
        whatever else the learner has.
        """
        return self._around_mine() if self.course.sealed else self._reference

    @cached_property
    def _reference(self) -> Edition:
        return self.course.edition("reference")

    def _around_mine(self) -> Edition:
        modules = dict(self.stub)
        for name in modules:
            with contextlib.suppress(SyntaxError, FileNotFoundError):
                modules[name] = self.course.module("mine", name)
        return Edition(modules)

    @cached_property
    def _key(self) -> dict[str, dict[str, list[Seen]]]:
        """In a sealed course: exercise -> the mistake's name, or nothing for the reference -> what
        the probes saw.
        """
        table = json.loads(self.course.key.read_text("utf-8"))
        return {name: {mistake: loads(seen) for mistake, seen in recorded.items()} for name, recorded in table.items()}

    @cached_property
    def stub(self) -> Edition:
        return self.course.edition("stub")

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name; `SPPF` alone does where no other module has one.

        Raises CourseError with what there is.
        """
        return self.exercises[self.known(name).name]

    def known(self, name: str) -> Exercise:
        """The same as its outline."""
        outline = self.outline.values()
        found = [e for e in outline if name in (e.name, e.definition)]
        if len(found) == 1:
            return found[0]
        import difflib

        if found:
            raise CourseError(f"{name!r} could be {' or '.join(e.name for e in found)}. Write the module too.")
        names = {word.casefold(): word for e in outline for word in (e.definition, e.name)}
        if near := difflib.get_close_matches(name.casefold(), names, 1, 0.5):
            raise CourseError(f"there is no exercise {name!r}. Did you mean {names[near[0]]}?")
        modules = {
            module: [e.definition for e in outline if e.module == module]
            for module in dict.fromkeys(e.module for e in outline)
        }
        raise CourseError(
            f"there is no exercise {name!r}. There are "
            + "; ".join(f"{m}: {', '.join(own)}" for m, own in modules.items())
        )

    def select(self, word: str) -> list[Exercise]:
        """The outlines of what a word names: blocks.SPPF, a module, a stage such as 2; of all
        exercises for the empty word.
        """
        found = [e for e in self.outline.values() if word in ("", e.module, str(e.stage), f"{e.stage:02}")]
        if word.isdecimal() and not found:
            stages = sorted({e.stage for e in self.outline.values()})
            raise CourseError(
                f"there are no exercises of stage {word}; there are those of {', '.join(map(str, stages))}."
            )
        return found or [self.known(word)]

    # ---- judging ---------------------------------------------------------------------------------

    def check(self, name: str, mine: Edition | None = None, look: Callable | None = None) -> Verdict:
        """Judges one definition.

        Args:
            name: the exercise.
            mine: an edition that holds the answer; by default the learner's file as it stands on
                disk.
            look: how the answer is run, `self.look` if left out; grading runs it in a sandbox.
        """
        started = time.perf_counter()
        exercise = self.exercise(name)
        try:
            mine = mine or self._mine(exercise)
        except FileNotFoundError:
            file = self._shown(self.course.mine / f"{exercise.module}.py")
            return Verdict(
                exercise,
                NOT_ATTEMPTED,
                problem=f"{file} is missing. `yolostudy reset {exercise.name}` puts the stub back.",
            )
        except SyntaxError as error:
            return Verdict(exercise, NOT_YET, problem=self._syntax(error))
        own = mine.find(exercise.name)
        if not own or not own.definition:
            return Verdict(exercise, NOT_ATTEMPTED if not own else NOT_YET, problem=self._missing(exercise, mine, own))
        if own.same_as(self.stub.find(exercise.name)):
            return Verdict(exercise, NOT_ATTEMPTED)
        edition, stream = transplant(self.reference, exercise.name, mine), Printed()
        try:
            expected = self.reference_seen(exercise)
            seen = (look or self.look)(exercise, edition, (str(own.file),), stream)
            right = all(same(*item) for item in zip(exercise.probes, expected, seen, strict=True))
            misconception = None if right else self.diagnose(exercise, seen)
        except Stopped as stopped:
            place = "".join(
                f" It was in {self._shown(f.file)}:{f.line}, {f.function}: {f.code}" for f in stopped.frames[-1:]
            )
            seconds = time.perf_counter() - started
            return Verdict(
                exercise, NOT_YET, problem=f"{stopped}{place}", seconds=seconds, interrupted=stopped.interrupted
            )
        results = tuple(
            self._result(probe, *pair)
            for probe, pair in zip(exercise.probes, zip(expected, seen, strict=True), strict=True)
        )
        return Verdict(
            exercise,
            PASSED if right else NOT_YET,
            results,
            misconception,
            notes=tuple(self._notes(exercise, own)),
            printed=_short(stream.getvalue()),
            seconds=time.perf_counter() - started,
        )

    def look(
        self, exercise: Exercise, edition: Edition, files: tuple[str, ...] = (), stream: io.StringIO | None = None
    ) -> list[Seen]:
        """What each probe of an exercise sees in an edition.

        `files` are those whose frames a traceback shows.
        """
        with untouched(stream or io.StringIO(), self._dtype), time_limit(self.patience, exercise, files):
            package = load(edition, "judged")
            return [self._look(probe, package, files) for probe in exercise.probes]

    def _look(self, probe: Probe, package: Package, files: tuple[str, ...]) -> Seen:
        try:
            return Seen(values=plain(probe.look(package)))
        except (KeyboardInterrupt, Overdue):
            raise
        except BaseException as error:  # an answer may raise anything
            frames = tuple(Frame(self._shown(f.file), f.line, f.function, f.code) for f in _frames(error, files))
            message = f"your code called exit({error})" if isinstance(error, SystemExit) else _message(error)
            return Seen(error=Raised(type(error).__name__, message[:2000], frames))

    def diagnose(self, exercise: Exercise, seen: list[Seen]) -> Misconception | None:
        """The misconception whose observations are exactly these."""
        return next((m for m in exercise.misconceptions if self._matches(exercise, m, seen)), None)

    def _matches(self, exercise: Exercise, misconception: Misconception, seen: list[Seen]) -> bool:
        wrong = (
            self._key[exercise.name].get(misconception.name)
            if self.course.sealed
            else self._seen.get((exercise.name, misconception.name))
        )
        if wrong is None:
            wrong = self._seen[exercise.name, misconception.name] = self.look(
                exercise, misconception.edition(self.reference, exercise.name)
            )
        return all(same(*item) for item in zip(exercise.probes, wrong, seen, strict=True))

    def reference_seen(self, exercise: Exercise) -> list[Seen]:
        if self.course.sealed:
            return self._key[exercise.name][""]
        if (exercise.name, None) not in self._seen:
            seen = self.look(exercise, self.reference, (str(self.reference[exercise.module].file),))
            for probe, one in zip(exercise.probes, seen, strict=True):
                if one.error:
                    raise CourseError(f"{exercise.name}: the probe {probe.name!r} fails on the reference: {one.error}")
            self._seen[exercise.name, None] = seen
        return self._seen[exercise.name, None]

    def _result(self, probe: Probe, expected: Seen, seen: Seen) -> Result:
        error = seen.error
        if error and error.kind == "NotImplementedError" and error.message.startswith("exercise "):
            other = error.message.removeprefix("exercise ").partition(":")[0]
            # only where no reference stands around it
            if other in self.exercises and probe not in self.exercises[other].probes:
                return Result(probe.name, Difference("", f"needs {other}, which is not filled in yet"), error)
            place = (
                f" ({error.frames[-1].function}, {error.frames[-1].file}:{error.frames[-1].line})"
                if error.frames
                else ""
            )
            return Result(probe.name, Difference("", f"a part is not filled in yet{place}"), error)
        difference = first_difference(expected, seen, probe.rtol, probe.atol)
        # the probe stumbled over what it was given
        if difference and error and not error.frames and not expected.error:
            difference = replace(difference, sentence=f"what yours gives could not be used: {difference.sentence}")
        return Result(probe.name, difference, error)

    def fingerprint(self, name: str) -> str:
        """Changes with my definition, its helpers, the reference, and the files of the exercises.

        Needs no exercise to be imported.
        """
        module = name.partition(".")[0]
        mine = Edition({module: read_module(self.course.mine / f"{module}.py")})
        if self.course.sealed:  # all of mine stands around it
            return hashlib.sha256(
                "\0".join([name, *(m.text for m in self.reference.values()), self._around()]).encode()
            ).hexdigest()
        answer = transplant(Edition({module: self.course.module("reference", module)}), name, mine)[module].text
        return hashlib.sha256(f"{name}\0{answer}\0{self._around()}".encode()).hexdigest()

    def _around(self) -> str:
        files = [
            file for folder in (self.course.solutions, self.course.exercises) for file in sorted(folder.glob("*.py"))
        ]
        return "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)

    # ---- sentences -------------------------------------------------------------------------------

    def _mine(self, exercise: Exercise) -> Edition:
        return Edition({exercise.module: read_module(self.course.mine / f"{exercise.module}.py")})

    def _shown(self, file: object) -> str:
        return str(file).removeprefix(f"{self.course.root}/")

    def _syntax(self, error: SyntaxError) -> str:
        line = f": {error.text.strip()}" if error.text else ""
        return f"Python cannot read {self._shown(error.filename)}, line {error.lineno}: {error.msg}{line}"

    def _missing(self, exercise: Exercise, mine: Edition, own: Statement | None) -> str:
        file = self._shown(mine[exercise.module].file)
        if own:
            kind = "imported" if own.text.lstrip().startswith(("from", "import")) else "assigned"
            return (
                f"{exercise.definition} is {kind} in {file}:{own.line}. Define it there, as a class or function of "
                "its own."
            )
        here = mine[exercise.module].file
        # graded answers lie nowhere
        others = [name for name in self.reference if name != exercise.module] if here.is_absolute() else []
        for other in others:
            with contextlib.suppress(SyntaxError, FileNotFoundError):
                found = read_module(here.with_name(f"{other}.py")).find(exercise.definition)
                theirs = self.reference[other].find(exercise.definition)
                if found and found.definition and not (theirs and theirs.definition):
                    place = f"{self._shown(found.file)}:{found.line}"
                    return f"{file} does not define {exercise.definition}; {place} does. Move it into {file}."
        return (
            f"{file} does not define {exercise.definition} any more. `yolostudy reset {exercise.name}` puts the stub "
            "back."
        )

    def _notes(self, exercise: Exercise, own: Statement) -> Iterator[str]:
        given, yours = _signatures(self.stub.find(exercise.name)), _signatures(own)
        for function, signature in given.items():
            if function in yours and yours[function] != signature:
                yield (
                    f"{function} was given as {function}({signature}), yours is {function}({yours[function]}): "
                    "others call it so."
                )


def same(probe: Probe, one: Seen, other: Seen) -> bool:
    return first_difference(one, other, probe.rtol, probe.atol) is None


def _signatures(statement: Statement) -> dict[str, str]:
    """The arguments of each function of a definition, by its name."""
    import ast

    functions = [node for node in ast.walk(statement.nodes[0]) if isinstance(node, ast.FunctionDef)]
    inner = {id(n) for f in functions for n in ast.walk(f) if n is not f and isinstance(n, ast.FunctionDef)}
    return {
        f.name: ", ".join(a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs))
        for f in functions
        if id(f) not in inner
    }


def _short(printed: str) -> str:
    lines = printed.splitlines()
    rest = [f"... {len(lines) - PRINTED_LINES} more lines"] if len(lines) > PRINTED_LINES else []
    return "\n".join([line[:160] for line in lines[:PRINTED_LINES]] + rest)


# ---- an answer is looked at without leaving traces -----------------------------------------------


class Stopped(Exception):
    """An answer was ended from outside while it was looked at; `frames` say where it was."""

    def __init__(self, message: str, frames: tuple[Frame, ...] = (), interrupted: bool = False):
        super().__init__(message)
        self.frames, self.interrupted = frames, interrupted


class Overdue(BaseException):
    """The time is up. No `except Exception` of an answer swallows it."""


class Printed(io.StringIO):
    """What an answer prints.

    An endless loop that prints would fill the memory before its time is up.
    """

    def write(self, text: str) -> int:
        return super().write(text) if self.tell() < PRINTED_AT_MOST else len(text)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an answer's own exception may have a wrong __str__
        return ""


def _frames(error: BaseException, files: tuple[str, ...]) -> tuple[Frame, ...]:
    """Those of some files.

    A recursion passes the same line a thousand times: three of each are told.
    """
    found, times = [], Counter()
    for f in traceback.extract_tb(error.__traceback__):
        times[f.filename, f.lineno] += 1
        if f.filename in files and times[f.filename, f.lineno] <= 3:
            found.append(Frame(f.filename, f.lineno or 0, f.name, f.line or ""))
    return tuple(found)


@contextlib.contextmanager
def time_limit(seconds: float, exercise: Exercise, files: tuple[str, ...]) -> Iterator[None]:
    """Ends what runs for longer, or is interrupted, as `Stopped`.

    Only the main thread can be timed, and only where there are signals.
    """

    def ring(number, frame):
        raise Overdue

    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    started = time.monotonic()
    if timed:
        handler, (remaining, interval) = (
            signal.signal(signal.SIGALRM, ring),
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds),
        )  # again, for one that swallows the first
    try:
        yield
    except Overdue as error:
        raise Stopped(
            f"{exercise.name} was still running after {seconds:g} seconds. Is there a loop that never ends?",
            _frames(error, files),
        ) from None
    except KeyboardInterrupt as error:
        raise Stopped(
            f"interrupted while {exercise.name} was being checked.", _frames(error, files), interrupted=True
        ) from None
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if remaining:
                signal.setitimer(signal.ITIMER_REAL, max(0.001, remaining - (time.monotonic() - started)), interval)


@contextlib.contextmanager
def untouched(stream: io.StringIO, dtype: object = None) -> Iterator[None]:
    """What runs inside changes no random state and no setting of torch's outside, and prints into
    `stream`.
    """
    torch, numpy = sys.modules.get("torch"), sys.modules["numpy"]
    states: list[tuple[Callable, object]] = [
        (random.setstate, random.getstate()),
        (numpy.random.set_state, numpy.random.get_state()),
    ]
    settings = [(sys.getrecursionlimit, sys.setrecursionlimit), (numpy.geterr, lambda old: numpy.seterr(**old))]
    if torch:
        states.append((torch.set_rng_state, torch.get_rng_state()))
        settings += [
            (torch.get_default_dtype, torch.set_default_dtype),
            (torch.get_default_device, torch.set_default_device),
        ]
        settings += [(torch.is_grad_enabled, torch.set_grad_enabled), (torch.get_num_threads, torch.set_num_threads)]
        settings.append((torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly))
    before = [read() for read, _ in settings]
    if torch:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(dtype or torch.get_default_dtype())
        if torch.get_default_device().type != "cpu":
            torch.set_default_device("cpu")  # where the fixtures were made
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for put_back, state in states:
            put_back(state)
        for (read, put_back), old in zip(settings, before, strict=True):
            if read() != old:
                put_back(old)


def recorded(judge: Judge) -> str:
    """The key of a sealed course: what the probes see of the reference and of each mistake, as
    JSON.
    """
    table = {}
    for exercise in judge.exercises.values():
        mistakes = {
            m.name: judge.look(exercise, m.edition(judge.reference, exercise.name)) for m in exercise.misconceptions
        }
        table[exercise.name] = {
            name: dumps(seen) for name, seen in ({"": judge.reference_seen(exercise)} | mistakes).items()
        }
    return json.dumps(table)


# ---- what a course may ship ----------------------------------------------------------------------


def mistaken(judge: Judge, name: str, misconception: str) -> Package:
    """The reference with one named mistake in it, loaded: for a crime scene."""
    exercise = judge.exercise(name)
    return load(exercise.mistake(misconception).edition(judge.reference, exercise.name), "mistaken")


def faults(judge: Judge, names: list[str] | None = None) -> Iterator[str]:
    """What is wrong with the exercises themselves, one sentence each: nothing, before they ship."""
    for exercise in judge.exercises.values():
        if names is None or exercise.name in names:
            yield from _faults(judge, exercise)


def _faults(judge: Judge, exercise: Exercise) -> Iterator[str]:
    where = f"course/exercises/{exercise.module}.py: {exercise.name}"
    solution = judge.reference.find(exercise.name)
    if not solution or solution.same_as(judge.stub.find(exercise.name)):
        yield f"{where}: the reference has no marked region in it."
        return
    if unknown := [name for name in exercise.after if name not in judge.exercises]:
        yield f"{where}: it comes after {unknown[0]}, which is no exercise."
    if len(exercise.hints) != 3 or len({*exercise.hints}) != 3 or not all(exercise.hints):
        yield f"{where}: there must be three hints that differ."
    lines = {line.strip() for line in solution.text.splitlines()} - {
        line.strip() for line in judge.stub.find(exercise.name).text.splitlines()
    }
    for number, hint in enumerate(exercise.hints, start=1):
        flat = "".join(hint.split())
        if given := next(
            (line for line in lines if len(line) > 14 and "".join(line.partition("  #")[0].split()) in flat), None
        ):
            yield f"{where}: hint {number} gives a line of the solution away: {given}"
    if not exercise.probes:
        yield f"{where}: there is no probe."
        return
    try:
        right = judge.reference_seen(exercise)
        if first_again := next(
            (
                p.name
                for p, *two in zip(exercise.probes, right, judge.look(exercise, judge.reference))
                if not same(p, *two)
            ),
            None,
        ):
            yield f"{where}: the probe {first_again!r} sees something else each time."
        empty = judge.look(exercise, transplant(judge.reference, exercise.name, judge.stub))
        if any(same(*item) for item in zip(exercise.probes, right, empty)):
            passing = [item[0].name for item in zip(exercise.probes, right, empty) if same(*item)]
            yield f"{where}: the stub passes the probe {passing[0]!r}."
        known: list[tuple[str, list[Seen]]] = []
        for misconception in exercise.misconceptions:
            seen = judge.look(exercise, misconception.edition(judge.reference, exercise.name))
            if all(same(*item) for item in zip(exercise.probes, right, seen)):
                yield f"{where}: misconception {misconception.name!r} is not told from the solution by any probe."
            for other, its in known:
                if all(same(*item) for item in zip(exercise.probes, its, seen)):
                    yield f"{where}: misconceptions {other!r} and {misconception.name!r} look the same to the probes."
            known.append((misconception.name, seen))
    except (CourseError, Stopped) as error:
        yield f"{where}: {error}"
