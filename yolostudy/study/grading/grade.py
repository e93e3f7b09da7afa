"""Grading: the shipped probes against a learner's package.

The judge alone gives points. It runs each answer in a sandbox, with the reference around it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..edition import Edition
from ..exercise import Exercise
from ..judge import Judge
from ..verdict import NOT_ATTEMPTED, NOT_YET, Verdict
from .answers import read_answers
from .notebooks import run_notebooks
from .report import Report
from .sandbox import Sandbox


def grade(
    judge: Judge,
    sandbox: Sandbox,
    folder: Path,
    chosen: Sequence[Exercise],
    learner: str = "",
    notebooks: Sequence[Path] = (),
) -> Report:
    """The report on one learner's folder."""
    mine = read_answers(folder, judge.course)
    verdicts = judge_answers(judge, sandbox, mine, chosen)
    ran = run_notebooks(judge, mine, verdicts, notebooks) if notebooks else ()
    return Report(learner or folder.resolve().name, folder.resolve(), verdicts, ran)


def judge_answers(
    judge: Judge, sandbox: Sandbox, mine: Mapping[str, Edition | str], chosen: Sequence[Exercise]
) -> tuple[Verdict, ...]:
    """A verdict for each exercise, each answer run in the sandbox."""
    from tqdm import tqdm

    verdicts = []
    for exercise in tqdm([judge.exercises[e.name] for e in chosen], unit="exercise", delay=2, leave=False):
        own = mine[exercise.module]
        if not isinstance(own, Edition):
            problem = own or f"{exercise.module}.py is missing."
            verdicts.append(Verdict(exercise, NOT_YET if own else NOT_ATTEMPTED, problem=problem))
            continue
        try:
            verdicts.append(judge.check(exercise.name, own, sandbox.look))
        except (RecursionError, MemoryError) as error:
            problem = f"it is nested too deeply to be compared ({type(error).__name__})."
            verdicts.append(Verdict(exercise, NOT_YET, problem=problem))
    return tuple(verdicts)
