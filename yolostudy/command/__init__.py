"""The `yolostudy` command: read its words, run one, say in one sentence what went wrong.

Each word imports what it needs when it runs, so that `--help` needs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import datasets, detectors, exercises, tools

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it is loaded: large pages for large tensors

DESCRIPTION = "Build a YOLOv8-class detector, train it, and see inside it."
EXAMPLES = """\
examples:
  yolostudy status                                       how far you are
  yolostudy check blocks.SPPF                            judge an exercise, a module, a stage (2), or all
  yolostudy hint|solve|reset|undo|diff blocks.SPPF       next hint, solution, stub, version before, difference
  yolostudy watch                                        check what you change, at every save
  yolostudy grade FOLDER                                 judge another repository's answers, for instructors
  yolostudy doctor                                       what this machine can do, and what is missing
  yolostudy data planes profile=mini                     make the procedural data set
  yolostudy train planes.nano minutes=2 seed=3           train a detector from scratch in two minutes
  yolostudy train planes.nano.pose                       keypoints too: nose, tail, wing tips
  yolostudy train --resume                               continue the newest run
  yolostudy val planes.nano weights=runs/NAME/best.safetensors
  yolostudy predict photo.jpg folder/                    paint what the detector finds
  yolostudy data check mar20                             read a data set and list what is wrong in it
  yolostudy data export planes-mini yolo exports/planes  write it in another format
  yolostudy weights import yolov8n.pt part=backbone      pretrained weights; nothing in the file is executed
  yolostudy study-table planes                           scratch, pretrained, distilled: three seeds, one table
  yolostudy museum 8                                     a bug as a small program: symptom, cause, fix
  yolostudy trace ultralytics-pose from=BaseTrainer._do_train to=v8PoseLoss.__call__   who calls whom

Commands that train or predict run on the hybrid edition: your definitions where they pass their checks, the
reference elsewhere. YOLOSTUDY_USE=mine, reference, hybrid or reference:losses,assigner changes that for one process,
`yolostudy use EDITION` for this folder.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all words.

    Each word sets `func`, which takes the options and returns the exit status.
    """
    parser = argparse.ArgumentParser(
        prog="yolostudy",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = parser.add_subparsers(dest="word", metavar="WORD", required=True)
    for family in (exercises, detectors, datasets, tools):
        family.add_words(words)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns the exit status: 0 done, 1 a problem that the message names, 2 wrong words, 130
    interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in tools.OWN_PARSERS:
        return tools.OWN_PARSERS[argv[0]](argv[1:])
    options = build_parser().parse_args(argv)
    try:
        return options.func(options) or 0
    except KeyboardInterrupt:
        more = " `yolostudy train --resume` continues this training." if options.word == "train" else ""
        print(f"\ninterrupted; no file is left half-written.{more}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NotImplementedError as error:
        if not str(error).startswith("exercise "):
            raise
        print(
            f"yolostudy: {error} is not filled in yet. Fill it in, or let the reference stand in with "
            "YOLOSTUDY_USE=hybrid.",
            file=sys.stderr,
        )
        return 1
    except (OSError, ValueError, FloatingPointError) as error:
        # our code raises these for what a user can correct; anything else is a bug and shows its traceback
        print(f"yolostudy: {error}", file=sys.stderr)
        return 1
