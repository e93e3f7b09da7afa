"""The learner's words: check, hint, solve, reset, undo, diff, status, watch, use."""

from __future__ import annotations

import argparse

from .settings import add_word

# word -> what it does
ABOUT = {
    "check": "judge exercises as they stand in your files",
    "hint": "show the next hint",
    "solve": "write the solution into your file; undo takes it back",
    "reset": "write the stub back into your file; undo takes it back",
    "undo": "go back one version of a definition, or of a whole module's file; repeat it to go further",
    "diff": "compare your definition with the reference, once yours passes",
    "status": "show how far you are",
}


def add_words(words: argparse._SubParsersAction) -> None:
    actions = {"check": check, "hint": hint, "diff": diff, "status": status}
    for name, about in ABOUT.items():
        word = add_word(words, name, about, actions.get(name, write))
        word.add_argument(
            "what",
            nargs="?" if name in ("check", "status") else None,
            default="",
            metavar="EXERCISE|MODULE|STAGE",
            help="blocks.SPPF, SPPF, blocks or 2",
        )
        if name == "diff":
            word.add_argument(
                "--against",
                choices=("reference", "stub", "last"),
                default="reference",
                help="what to compare with; last is your version before (default: reference)",
            )
        if name == "undo":
            word.add_argument("--list", action="store_true", help="list every version that there ever was")
            word.add_argument("--to", type=int, metavar="NUMBER", help="go to that version")
    add_word(words, "watch", "check again what you change, at every save", watch)
    word = add_word(words, "use", "choose the edition that this folder runs on from now on", use)
    word.add_argument(
        "edition",
        nargs="?",
        default="",
        metavar="EDITION",
        help="mine, reference, hybrid, reference:losses,assigner, mine:losses; leave it out to see which is in use",
    )


# `study` imports numpy, which takes half a second: too long for --help


def check(options: argparse.Namespace) -> int:
    from . import study

    return study.check(options.what)


def hint(options: argparse.Namespace) -> int:
    from . import study

    return study.each(options.what, study.learner.hint)


def write(options: argparse.Namespace) -> int:
    """solve, reset and undo."""
    from . import study

    return study.write(options.word, options.what, getattr(options, "list", False), getattr(options, "to", None))


def diff(options: argparse.Namespace) -> int:
    from . import study

    return study.diff(options.what, options.against)


def status(options: argparse.Namespace) -> int:
    from . import study

    return study.status(options.what)


def use(options: argparse.Namespace) -> int:
    from . import study

    return study.use(options.edition)


def watch(options: argparse.Namespace) -> int:
    from . import watching

    return watching.watch()
