"""`yolostudy.use(...)`: which edition `import yolostudy.X` gives for an exercise module X in this process.

The word is kept in the environment variable YOLOSTUDY_USE, so kernels, loader workers and pytest inherit it. Modules that
are to be mine are left to Python's own import; the others are executed from their edition, read from disk at that moment.
Objects made before a change keep their old classes.
"""

import importlib
import os
import sys
from pathlib import Path

from . import edition
from .course import Course

PACKAGE = __name__.partition(".")[0]
VARIABLE = f"{PACKAGE.upper()}_USE"
_word = "mine"


def course() -> Course:
    """The course around this package."""
    return Course.open(Path(sys.modules[PACKAGE].__file__).parents[1], PACKAGE)


def use(word: str) -> None:
    """Makes later imports of exercise modules give the edition that `word` names, here and in processes started from here.

    Args:
        word: "mine", "reference", "hybrid" (the reference, with all that is filled in put in its place),
            "reference:losses,assigner" (these from the reference, the rest mine) or "mine:losses" (the rest hybrid).
    """
    install(word)
    os.environ[VARIABLE] = word
    _purge()


def using() -> str:
    """The word that is in force."""
    return _word


def install(word: str) -> None:
    """Starts to serve an edition; what is imported already stays as it is."""
    global _word
    here = course()
    plan = here.plan(word)
    edition.serving[PACKAGE] = lambda name: here.module(plan[name], name) if plan.get(name, "mine") != "mine" else None
    _word = word


def inherit() -> None:
    """Serves what the environment says, as `import yolostudy` does in a process that inherits it."""
    try:
        install(os.environ[VARIABLE])
    except edition.EditionError as error:
        raise edition.EditionError(f"the environment variable {VARIABLE}: {error}") from None


def describe() -> str:
    """What this process runs on, in one line."""
    here, plan = course(), course().plan(_word)
    mine = [name for name, kind in plan.items() if kind == "mine"]
    if "hybrid" not in plan.values():
        given = [name for name in plan if name not in mine]
        ours, theirs = f"mine for {', '.join(mine)}", f"the reference for {', '.join(given)}"
        return "running on " + ("mine" if not given else "the reference" if not mine else f"{theirs}; {ours}")
    filled_in = [f"{name}.*" for name in mine]
    for name in (name for name in plan if name not in mine):
        try:
            filled_in += [f"{name}.{definition}" for definition in here.filled_in(name)]
        except (SyntaxError, FileNotFoundError):
            continue  # the reference stands in, and importing it warns
    if not filled_in:
        return "running on the reference (no exercise filled in yet)"
    return f"running on hybrid: mine {', '.join(filled_in)}; the rest is the reference"


def _purge() -> None:
    """Forgets the exercise modules, and the given ones, which may hold names of theirs. `study` and `keep` hold none."""
    here, package = course(), sys.modules[PACKAGE]
    loaded = {name: name.split(".")[1] for name in sys.modules if name.startswith(f"{PACKAGE}.")}
    if not {*here.names} & {*loaded.values()}:
        return
    for name, part in loaded.items():
        if part not in ("study", *here.keep):
            del sys.modules[name]
            vars(package).pop(part, None)
    importlib.invalidate_caches()
