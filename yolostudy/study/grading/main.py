"""`yolostudy grade`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import edition_in_use
from ..errors import CourseError
from ..judge import Judge
from .answers import find_answers, name_learners
from .grade import grade
from .notebooks import find_notebooks
from .report import write, write_summary
from .sandbox import Sandbox


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="yolostudy grade",
        description="Judge learners' packages with this folder's reference: points, verdicts, one HTML and one JSON "
        "each, summary.csv.",
        epilog="A FOLDER is a learner's repository, or a folder with blocks.py and so on in it; `yolostudy grade .` "
        "grades this one.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--only", default="", metavar="EXERCISE|MODULE|STAGE", help="such as 2, or blocks, or blocks.SPPF"
    )
    parser.add_argument("--out", type=Path, default=Path("grades"), help="where the reports go (default: grades)")
    parser.add_argument(
        "--no-notebooks", dest="notebooks", action="store_false", help="the judge alone: seconds instead of minutes"
    )
    options = parser.parse_args(argv)
    course, refused = edition_in_use.course(), 0
    try:
        judge = Judge(course)
        chosen = judge.select(options.only)
        notebooks = find_notebooks(course, chosen if options.only else ()) if options.notebooks else []
        if notebooks and not importlib.util.find_spec("nbval"):
            raise CourseError(
                'the notebooks are run by nbval: pip install "yolostudy[grade]", or grade with --no-notebooks.'
            )
        with Sandbox(course) as sandbox:
            for learner, folder in name_learners(options.folders, options.out).items():
                try:
                    find_answers(folder, course)
                except CourseError as error:
                    refused += 1
                    print(error, file=sys.stderr)
                    continue
                report = grade(judge, sandbox, folder, chosen, learner, notebooks)
                page = write(report, options.out)
                write_summary(options.out)
                cells = f", {sum(r.failed for r in report.notebooks)} notebook cells fail" if report.notebooks else ""
                print(f"{report.learner}: {report.points} of {report.possible} points{cells}. {page}", flush=True)
    except KeyboardInterrupt:
        print(
            "\ninterrupted; nothing is left half-written, and the reports of those who were finished are there.",
            file=sys.stderr,
        )
        return 130
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if refused else 0
