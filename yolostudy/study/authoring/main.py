"""`yolostudy author`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import edition_in_use
from ..course import Course
from ..errors import CourseError
from .build import build
from .check import check
from .release import release, release_sealed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="yolostudy author", description="Release the stubs, build the notebooks, check both."
    )
    parser.add_argument("--root", type=Path, help="the repository; by default the one that this package lies in")
    words = parser.add_subparsers(dest="word", required=True)
    word = words.add_parser("release", help="write the stubs made from solutions/ into the package")
    word.add_argument("--force", action="store_true", help="also over files that are filled in")
    word.add_argument(
        "--sealed",
        type=Path,
        metavar="OUT",
        help="an exam: a new folder with recorded observations instead of solutions",
    )
    word = words.add_parser("build", help="make the notebooks from course/source")
    word.add_argument("--execute", action="store_true", help="and run them, on the reference")
    word.add_argument("names", nargs="*", metavar="NAME", help="02_blocks or 02; all when left out")
    words.add_parser("check", help="say what is not fit to ship")
    options = parser.parse_args(argv)
    course = Course.open(options.root.resolve(), edition_in_use.PACKAGE) if options.root else edition_in_use.course()
    try:
        if options.word == "release" and options.sealed:
            print(f"sealed: {release_sealed(course, options.sealed)}")
        elif options.word == "release":
            print(f"released: {', '.join(release(course, options.force)) or 'nothing, all stubs are up to date'}")
        elif options.word == "build":
            for file in build(course, options.names, options.execute):
                print(f"built: {file.relative_to(course.root)}")
        else:
            found = check(course)
            print("\n".join(found) or "nothing found")
            return bool(found)
    except (CourseError, SyntaxError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
