"""Verdicts: what the judge says about one exercise."""

from dataclasses import dataclass

from .exercise import Exercise, Misconception
from .observation import Difference, Raised

PASSED, NOT_YET, NOT_ATTEMPTED = "passed", "not yet", "not attempted"
WORDS = {PASSED: "PASS", NOT_YET: "FAIL", NOT_ATTEMPTED: "TODO"}


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
    state: str  # PASSED, NOT_YET or NOT_ATTEMPTED
    results: tuple[Result, ...] = ()
    misconception: Misconception | None = None
    problem: str = ""  # why no probe could run, in a sentence
    notes: tuple[str, ...] = ()  # what is not wrong but worth knowing
    printed: str = ""
    seconds: float = 0.0
    interrupted: bool = False  # by the learner: nothing is known about the answer

    @property
    def passed(self) -> int:
        return sum(result.difference is None for result in self.results)

    @property
    def total(self) -> int:
        return len(self.exercise.probes)

    @property
    def first(self) -> Result | None:
        """The first probe that found a difference."""
        return next((result for result in self.results if result.difference), None)

    @property
    def line(self) -> str:
        """One plain line without a float, for nbval to compare."""
        return f"{WORDS[self.state]} {self.exercise.name} {self.passed}/{self.total}"

    def __bool__(self) -> bool:
        return self.state == PASSED

    def __str__(self) -> str:
        lines = [f"{self.exercise.name:<72}{self.passed} of {self.total}"]
        if self.problem:
            lines.append(f"  {self.problem}")
        if self.first:
            lines.append(f"  {self.first.probe}: {self.first.difference}")
            frames = self.first.error.frames if self.first.error else ()
            lines += [f"    {f.file}:{f.line} in {f.function}: {f.code}" for f in frames]
        if self.misconception:
            lines.append(f'  This is exactly what "{self.misconception.name}" does. {self.misconception.because}')
        if self.printed:
            lines += ["  printed:", *(f"    {line}" for line in self.printed.splitlines())]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])
