"""The other words: trace, museum, doctor, grade, author."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .settings import KEY_VALUE, add_word, settle_edition, split_settings


def add_words(words: argparse._SubParsersAction) -> None:
    word = add_word(words, "trace", "run something and show who calls whom in it", trace)
    word.add_argument("what", metavar="ultralytics-pose|ultralytics-detect|ours|MODULE:CALLABLE")
    word.add_argument(
        "settings", nargs="*", metavar=KEY_VALUE, help="packages= depth= from= to= find= out=FILE.txt|.json|.mmd|.trace"
    )
    about = "the bugs of this course as small programs: what one sees, how the cause is found, the fix"
    word = add_word(words, "museum", about, museum)
    word.add_argument("rooms", nargs="*", type=int, metavar="N", help="rooms to run; without a number they are listed")
    add_word(
        words, "doctor", "versions, device, memory, what will run where, and what to do about each problem", doctor
    )
    words.add_parser("grade", help="for instructors: judge learners' packages and write reports", add_help=False)
    words.add_parser("author", help="for authors: release, build, check", add_help=False)


def trace(options: argparse.Namespace) -> int:
    settings, rest = split_settings(options.settings)
    settle_edition()
    from . import trace as tracing

    return tracing.run(options.what, settings, rest)


def museum(options: argparse.Namespace) -> int:
    from ..study import museum

    if not options.rooms:
        print(museum.listing())
        return 0
    visits = [museum.visit(number) for number in options.rooms]
    print("\n\n".join(map(str, visits)))
    return 0 if all(visit.as_it_should_be for visit in visits) else 1


def doctor(options: argparse.Namespace) -> int:
    from . import doctor

    return doctor.report()


def grade(argv: Sequence[str]) -> int:
    from ..study.grading.main import main

    return main(argv)


def author(argv: Sequence[str]) -> int:
    from ..study.authoring.main import main

    return main(argv)


OWN_PARSERS = {"grade": grade, "author": author}  # words that parse the rest of the line themselves
