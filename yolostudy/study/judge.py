"""The judge: is an answer right, where does it first differ, and which known mistake is it?

An exercise is judged with the reference around it, so an error never cascades. The reference
edition with one definition of mine in it is loaded and the exercise's probes observe it. Their
observations are compared with those of the reference and of each misconception.
"""

import ast
import contextlib
import difflib
import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from .course import Course
from .edition import Edition, Package, Statement, load, read_module, transplant
from .errors import CourseError
from .exercise import Exercise, Misconception, Probe, read_exercises, read_outline
from .isolation import Overdue, Printed, Stopped, frames_of, message_of, time_limit, untouched
from .observation import Difference, Frame, Raised, Seen, first_difference, plain
from .sealed import Key, read_key
from .verdict import NOT_ATTEMPTED, NOT_YET, PASSED, Result, Verdict

PATIENCE = 30.0  # seconds that the probes of one exercise may take: they need a tenth of one
PRINTED_LINES = 12  # lines of an answer's prints that a verdict shows
MESSAGE_LENGTH = 2000  # characters that are kept of an exception's message


@dataclass
class Judge:
    course: Course
    patience: float = PATIENCE
    _dtype: object = None
    _seen: dict = field(default_factory=dict)  # (exercise, misconception or None) -> what its probes have seen

    # ---- exercises and editions ------------------------------------------------------------------

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        found = read_exercises(self.course.exercises, [*self.course.notebooks])
        if torch := sys.modules.get("torch"):
            # the fixtures have this dtype: probes keep to it, whatever a notebook sets later
            self._dtype = torch.get_default_dtype()
        return found

    @cached_property
    def outline(self) -> dict[str, Exercise]:
        """The exercises without probes and misconceptions.

        It is enough for a name, a hint or the map, and is read without torch.
        """
        return read_outline(self.course.exercises, [*self.course.notebooks])

    @property
    def reference(self) -> Edition:
        """The edition around an answer: the reference.

        A sealed course has none, so it is the learner's own.
        """
        return self._mine_or_stub() if self.course.sealed else self._reference

    @cached_property
    def _reference(self) -> Edition:
        return self.course.edition("reference")

    def _mine_or_stub(self) -> Edition:
        modules = dict(self.stub)
        for name in modules:
            with contextlib.suppress(SyntaxError, FileNotFoundError):
                modules[name] = self.course.module("mine", name)
        return Edition(modules)

    @cached_property
    def _key(self) -> Key:
        return read_key(self.course.key)

    @cached_property
    def stub(self) -> Edition:
        return self.course.edition("stub")

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name. `SPPF` alone is enough where no other module has one.

        Raises CourseError, with the names that there are.
        """
        return self.exercises[self.known(name).name]

    def known(self, name: str) -> Exercise:
        """The outline of the exercise of that name."""
        outline = self.outline.values()
        found = [e for e in outline if name in (e.name, e.definition)]
        if len(found) == 1:
            return found[0]
        if found:
            raise CourseError(f"{name!r} could be {' or '.join(e.name for e in found)}. Write the module too.")
        names = {word.casefold(): word for e in outline for word in (e.definition, e.name)}
        if near := difflib.get_close_matches(name.casefold(), names, 1, 0.5):
            raise CourseError(f"there is no exercise {name!r}. Did you mean {names[near[0]]}?")
        modules: dict[str, list[str]] = {}
        for exercise in outline:
            modules.setdefault(exercise.module, []).append(exercise.definition)
        known = "; ".join(f"{module}: {', '.join(own)}" for module, own in modules.items())
        raise CourseError(f"there is no exercise {name!r}. There are {known}")

    def select(self, word: str) -> list[Exercise]:
        """The outlines of the exercises that a word names.

        A word is an exercise (blocks.SPPF), a module, or a stage such as 2. The empty word names
        all.
        """
        found = [e for e in self.outline.values() if word in ("", e.module, str(e.stage), f"{e.stage:02}")]
        if word.isdecimal() and not found:
            stages = ", ".join(map(str, sorted({e.stage for e in self.outline.values()})))
            raise CourseError(f"there are no exercises of stage {word}; there are those of {stages}.")
        return found or [self.known(word)]

    # ---- judging ---------------------------------------------------------------------------------

    def check(self, name: str, mine: Edition | None = None, look: Callable | None = None) -> Verdict:
        """Judges one definition.

        Args:
            name: the exercise.
            mine: an edition that holds the answer; by default the learner's file as it stands on
                disk.
            look: runs the answer; by default `self.look`. Grading runs it in a sandbox.
        """
        exercise = self.exercise(name)
        try:
            mine = mine or self._mine(exercise)
        except FileNotFoundError:
            file = self._shown(self.course.mine / f"{exercise.module}.py")
            problem = f"{file} is missing. `yolostudy reset {exercise.name}` puts the stub back."
            return Verdict(exercise, NOT_ATTEMPTED, problem=problem)
        except SyntaxError as error:
            return Verdict(exercise, NOT_YET, problem=self._syntax(error))
        own = mine.find(exercise.name)
        if not own or not own.definition:
            return Verdict(exercise, NOT_ATTEMPTED if not own else NOT_YET, problem=self._missing(exercise, mine, own))
        if own.same_as(self.stub.find(exercise.name)):
            return Verdict(exercise, NOT_ATTEMPTED)
        return self._judge(exercise, own, transplant(self.reference, exercise.name, mine), look or self.look)

    def _judge(self, exercise: Exercise, own: Statement, edition: Edition, look: Callable) -> Verdict:
        """The verdict on one definition, in an edition with the reference around it."""
        started, stream = time.perf_counter(), Printed()
        try:
            expected = self.reference_seen(exercise)
            seen = look(exercise, edition, (str(own.file),), stream)
            right = _all_same(exercise, expected, seen)
            misconception = None if right else self.diagnose(exercise, seen)
        except Stopped as stopped:
            place = "".join(
                f" It was in {self._shown(f.file)}:{f.line}, {f.function}: {f.code}" for f in stopped.frames[-1:]
            )
            return Verdict(
                exercise,
                NOT_YET,
                problem=f"{stopped}{place}",
                seconds=time.perf_counter() - started,
                interrupted=stopped.interrupted,
            )
        return Verdict(
            exercise,
            PASSED if right else NOT_YET,
            tuple(self._result(*item) for item in zip(exercise.probes, expected, seen, strict=True)),
            misconception,
            notes=tuple(self._notes(exercise, own)),
            printed=_first_lines(stream.getvalue()),
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
            frames = tuple(Frame(self._shown(f.file), f.line, f.function, f.code) for f in frames_of(error, files))
            message = f"your code called exit({error})" if isinstance(error, SystemExit) else message_of(error)
            return Seen(error=Raised(type(error).__name__, message[:MESSAGE_LENGTH], frames))

    def diagnose(self, exercise: Exercise, seen: list[Seen]) -> Misconception | None:
        """The misconception whose observations are exactly these."""
        return next((m for m in exercise.misconceptions if self._matches(exercise, m, seen)), None)

    def _matches(self, exercise: Exercise, misconception: Misconception, seen: list[Seen]) -> bool:
        known = self._key[exercise.name] if self.course.sealed else {}
        wrong = known.get(misconception.name) or self.misconception_seen(exercise, misconception)
        return _all_same(exercise, wrong, seen)

    def misconception_seen(self, exercise: Exercise, misconception: Misconception) -> list[Seen]:
        """What the probes of an exercise see in the reference with this misconception in it."""
        key = exercise.name, misconception.name
        if key not in self._seen:
            self._seen[key] = self.look(exercise, misconception.edition(self.reference, exercise.name))
        return self._seen[key]

    def reference_seen(self, exercise: Exercise) -> list[Seen]:
        """What the probes of an exercise see in the reference."""
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
            return Result(probe.name, Difference("", self._not_filled_in(probe, error)), error)
        difference = first_difference(expected, seen, probe.rtol, probe.atol)
        # no frame of the answer: the probe failed on what the answer gave
        if difference and error and not error.frames and not expected.error:
            difference = replace(difference, sentence=f"what yours gives could not be used: {difference.sentence}")
        return Result(probe.name, difference, error)

    def _not_filled_in(self, probe: Probe, error: Raised) -> str:
        other = error.message.removeprefix("exercise ").partition(":")[0]
        # the stub of another exercise: only a sealed course has one around an answer
        if other in self.exercises and probe not in self.exercises[other].probes:
            return f"needs {other}, which is not filled in yet"
        place = "".join(f" ({f.function}, {f.file}:{f.line})" for f in error.frames[-1:])
        return f"a part is not filled in yet{place}"

    def fingerprint(self, name: str) -> str:
        """Changes with my definition, its helpers, the reference, and the files of the exercises.

        Needs no exercise to be imported.
        """
        module = name.partition(".")[0]
        mine = Edition({module: read_module(self.course.mine / f"{module}.py")})
        if self.course.sealed:  # all of mine stands around it
            parts = [name, *(m.text for m in self.reference.values()), self._course_hashes()]
            return hashlib.sha256("\0".join(parts).encode()).hexdigest()
        answer = transplant(Edition({module: self.course.module("reference", module)}), name, mine)[module].text
        return hashlib.sha256(f"{name}\0{answer}\0{self._course_hashes()}".encode()).hexdigest()

    def _course_hashes(self) -> str:
        folders = self.course.solutions, self.course.exercises
        files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
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
        """Why mine holds no such definition."""
        name, place = exercise.definition, mine[exercise.module].file
        file = self._shown(place)
        if own:
            kind = "imported" if own.text.lstrip().startswith(("from", "import")) else "assigned"
            return f"{name} is {kind} in {file}:{own.line}. Define it there, as a class or function of its own."
        # the file of a graded answer has a relative path, and no others lie beside it
        others = [module for module in self.reference if module != exercise.module] if place.is_absolute() else []
        for other in others:
            with contextlib.suppress(SyntaxError, FileNotFoundError):
                found, theirs = read_module(place.with_name(f"{other}.py")).find(name), self.reference[other].find(name)
                if found and found.definition and not (theirs and theirs.definition):
                    where = f"{self._shown(found.file)}:{found.line}"
                    return f"{file} does not define {name}; {where} does. Move it into {file}."
        return f"{file} does not define {name} any more. `yolostudy reset {exercise.name}` puts the stub back."

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


def _all_same(exercise: Exercise, ones: list[Seen], others: list[Seen]) -> bool:
    return all(same(*item) for item in zip(exercise.probes, ones, others, strict=True))


def _signatures(statement: Statement) -> dict[str, str]:
    """The arguments of each function of a definition, by its name."""
    functions = [node for node in ast.walk(statement.nodes[0]) if isinstance(node, ast.FunctionDef)]
    inner = {id(n) for f in functions for n in ast.walk(f) if n is not f and isinstance(n, ast.FunctionDef)}
    return {
        f.name: ", ".join(a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs))
        for f in functions
        if id(f) not in inner
    }


def _first_lines(printed: str) -> str:
    lines = printed.splitlines()
    rest = [f"... {len(lines) - PRINTED_LINES} more lines"] if len(lines) > PRINTED_LINES else []
    return "\n".join([line[:160] for line in lines[:PRINTED_LINES]] + rest)
