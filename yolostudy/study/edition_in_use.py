"""The edition that `import yolostudy.blocks` gives in this process, chosen by `yolostudy.use(...)`.

The environment variable YOLOSTUDY_USE holds its name, so kernels, loader workers and pytest inherit
it. Modules of mine are left to Python's own import. The others are executed from their edition,
which is read from disk at that moment. After a change, names in a notebook follow; objects made
before it keep their old classes.
"""

import importlib
import linecache
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

from . import edition
from .course import Course, EditionWarning
from .errors import CourseError
from .files import replace_file
from .notebook_names import NotebookNames

PACKAGE = __name__.partition(".")[0]
VARIABLE = f"{PACKAGE.upper()}_USE"
forgotten: set[str] = set()  # parts of the package that were imported once and are imported again when asked for
_names = NotebookNames(PACKAGE)
_word = "mine"
_passing: edition.Package | None = None  # kept, because the modules of a package go when it goes
_inherited = os.environ.get(VARIABLE, "")  # before any `use` of this process


def course() -> Course:
    """The course around this package."""
    return Course.open(Path(sys.modules[PACKAGE].__file__).parents[1], PACKAGE)


def use(word: str) -> None:
    """Runs on the edition that `word` names, here and in processes started from here.

    Args:
        word: "mine", "reference", "hybrid" (the reference, with every definition of mine in its
            place that passes), "reference:losses,assigner" (these from the reference, the rest
            mine) or "mine:losses" (the rest hybrid).
    """
    install(word)
    os.environ[VARIABLE] = word
    reload()


def inherited() -> str:
    """The edition that the environment named when this process began.

    Empty if it named none, or the default.
    """
    return _inherited if _inherited != "mine" else ""


def using() -> str:
    """The name of the edition in use."""
    return _word


def install(word: str) -> None:
    """Starts to serve an edition. What is imported already stays as it is."""
    global _word
    here = course()
    plan = here.plan(word)
    edition.serving[PACKAGE] = lambda name: (
        here.module(plan[name], name, _accepts) if plan.get(name, "mine") != "mine" else None
    )
    _word = word


def inherit() -> None:
    """Serves the edition that the environment names, else the one that was kept for this folder.

    `import yolostudy` calls it.
    """
    word, source = os.environ.get(VARIABLE), f"the environment variable {VARIABLE}"
    if not word:
        word, source = _kept().read_text("utf-8").strip(), f"{_kept()} (delete that file, and mine is in use again)"
    try:
        install(word)
    except CourseError as error:
        raise CourseError(f"{source}: {error}") from None


def keep(word: str) -> None:
    """Makes `word` the edition of this folder, for every process whose environment names none.

    "mine" goes back to the plain import.
    """
    install(word)
    file = _kept()
    if word == "mine":
        file.unlink(missing_ok=True)
    else:
        file.parent.mkdir(exist_ok=True)
        replace_file(file, word.encode())


def _kept() -> Path:
    return course().state / "use"


def _accepts(module: str, definition: str) -> bool:
    from .verdict_cache import accepts  # needs numpy, and torch to judge an answer; only hybrid asks

    return accepts(course(), module, definition)


class _Hybrid(edition.Edition):
    """The hybrid edition, whose modules are read and judged when they are first imported."""

    def get(self, name: str, default: edition.Module | None = None) -> edition.Module | None:
        return course().module("hybrid", name, _accepts) if name in self else default


def passing(name: str) -> ModuleType:
    """The exercise module `name`, for a given part that stands on it and must always work.

    It is the module in use. Where that is mine, each definition that is not filled in or does not
    pass its checks is the reference's. Without the course around the package there is only mine.

    Errors: CourseError in a sealed course, which has no reference, while mine does not pass.
    """
    global _passing
    here = course()
    if name not in here.names or here.plan(_word)[name] != "mine":
        return importlib.import_module(f"{PACKAGE}.{name}")
    if here.sealed:
        filled_in = here.filled_in(name)
        for module, _, definition in (exercise.partition(".") for exercise in here.exercise_names):
            if module == name and not (definition in filled_in and _accepts(name, definition)):
                raise CourseError(
                    f"this stands on {name}.{definition}, which does not pass its checks yet, and an exam holds no "
                    f"reference. Finish {name}.{definition} first."
                )
        return importlib.import_module(f"{PACKAGE}.{name}")
    _passing = edition.load(_Hybrid(dict.fromkeys(here.names)), "passing")
    return getattr(_passing, name)


def describe() -> str:
    """The edition in use, in one line."""
    here, plan = course(), course().plan(_word)
    mine = [name for name, kind in plan.items() if kind == "mine"]
    if "hybrid" not in plan.values():
        given = [name for name in plan if name not in mine]
        ours, theirs = f"mine for {', '.join(mine)}", f"the reference for {', '.join(given)}"
        return "running on " + ("mine" if not given else "the reference" if not mine else f"{theirs}; {ours}")
    right, wrong = [f"{name}.*" for name in mine], []
    for name in (name for name in plan if name not in mine):
        try:
            for definition in here.filled_in(name):
                (right if _accepts(name, definition) else wrong).append(f"{name}.{definition}")
        except (SyntaxError, FileNotFoundError):
            continue  # the reference stands in, and importing it warns
    left_out = f"; not passing yet, so the reference: {', '.join(wrong)}" if wrong else ""
    if not right:
        return f"running on the reference ({left_out.removeprefix('; ') or 'no exercise filled in yet'})"
    return f"running on hybrid: mine {', '.join(right)}; the rest is the reference{left_out}"


def reload() -> None:
    """Reads the exercise modules again.

    That happens at once for a module that a name in a notebook came from, else at the next import.
    """
    _names.collect()
    _forget()
    _names.rebind(lambda name: module(name.removeprefix(f"{PACKAGE}."), warn=True))


def module(name: str, warn: bool = False) -> ModuleType | None:
    """A module of the package in use.

    Where the learner's file cannot be imported it is the reference's, or None if there is none.
    """
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except CourseError:
        raise
    except Exception as error:
        here = course()
        if name not in here.names or not here.solutions.is_dir():
            return None
        if warn:
            reason = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
            sentence, line = f"{reason}; the reference stands in for all of {name}", getattr(error, "lineno", None) or 1
            linecache.checkcache()  # or the warning quotes the line as it was before it was edited
            warnings.warn_explicit(sentence, EditionWarning, str(here.mine / f"{name}.py"), line)
        return getattr(edition.load(here.edition("reference"), "reference"), name)


def _forget() -> None:
    """Forgets the exercise modules, and the given ones that may hold names of theirs.

    `study` and the course's `keep` hold none.
    """
    here, package = course(), sys.modules[PACKAGE]
    loaded = {name: name.split(".")[1] for name in sys.modules if name.startswith(f"{PACKAGE}.")}
    if not {*here.names} & {*loaded.values()}:
        return
    for name, part in loaded.items():
        if part not in ("study", *here.keep):
            del sys.modules[name]
            vars(package).pop(part, None)
            forgotten.add(part)
    importlib.invalidate_caches()
