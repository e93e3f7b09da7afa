"""The words about data sets: data planes, data check, data export."""

from __future__ import annotations

import argparse

from .settings import KEY_VALUE, add_word, number, read_settings

PLANES_KEYS = ("profile=mini|laptop|abroad", "seed=0", "out=FOLDER", "workers=2")


def add_words(words: argparse._SubParsersAction) -> None:
    word = add_word(words, "data", "make, check or export a data set")
    kinds = word.add_subparsers(dest="kind", metavar="planes|check|export", required=True)

    kind = add_word(kinds, "planes", "make the procedural data set", planes)
    kind.add_argument("settings", nargs="*", metavar=KEY_VALUE, help=" ".join(PLANES_KEYS))

    kind = add_word(kinds, "check", "read a data set and list what is wrong in it", check)
    kind.add_argument(
        "spec", metavar="SET", help="a name under datasets/, a folder, a description, a COCO json or a YOLO data.yaml"
    )
    kind.add_argument("--deep", action="store_true", help="decode every image; else only its size is read")
    about = "stop at the first problem, or list all (default: skip)"
    kind.add_argument("--on-bad", choices=("fail", "skip"), default="skip", help=about)

    kind = add_word(kinds, "export", "write a data set in another format", export)
    kind.add_argument("spec", metavar="SET", help="as for check; planes that are missing are made first")
    kind.add_argument("format", choices=("voc", "coco", "yolo"))
    kind.add_argument("out", metavar="FOLDER")
    about = "stop at a bad entry, or leave it out (default: fail)"
    kind.add_argument("--on-bad", choices=("fail", "skip"), default="fail", help=about)


def planes(options: argparse.Namespace) -> int:
    settings = read_settings("data planes", options.settings, PLANES_KEYS)
    seed = number("seed", settings.get("seed", "0"), int)
    workers = number("workers", settings["workers"], int) if "workers" in settings else None
    from ..data import datasets_folder, planes

    profile = settings.get("profile", "mini")
    folder = planes.make(settings.get("out", datasets_folder() / f"planes-{profile}"), profile, seed, workers)
    print(f"planes are in {folder}")
    return 0


def check(options: argparse.Namespace) -> int:
    from ..data import check, open_set, splits

    worst = 0
    for split in splits(options.spec):
        found = open_set(options.spec, split, on_bad=options.on_bad)
        if options.deep:
            found.problems.extend(check.decode(found))
        print(f"{split}\n{check.report(found)}\n")
        worst = max(worst, len(found.problems))
    return int(worst > 0)


def export(options: argparse.Namespace) -> int:
    from ..data import open_set, splits, write
    from ..runs.folders import make_missing

    make_missing(options.spec)
    sets = [open_set(options.spec, split, on_bad=options.on_bad) for split in splits(options.spec)]
    print(f"written: {write(sets, options.out, options.format)}")
    for found in sets:
        for problem in found.problems:
            print(f"left out: {problem}")
    return 0
