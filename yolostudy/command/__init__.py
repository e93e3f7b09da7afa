"""The `yolostudy` command.

Each word imports what it needs when it is called, so that `--help` costs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it is loaded: large pages for large tensors

EXAMPLES = """\
examples:
  yolostudy status                                       how far you are
  yolostudy check blocks.SPPF                            judge an exercise, a module, a stage (2), or all
  yolostudy hint|solve|reset|undo|diff blocks.SPPF       next hint, solution, stub, version before, difference
  yolostudy watch                                        check what you change on every save
  yolostudy grade FOLDER                                 judge another repository's answers, for instructors
  yolostudy doctor                                       what this machine can do, and what is missing
  yolostudy data planes profile=mini                     make the procedural data set
  yolostudy train planes.nano minutes=2 seed=3           train a detector from scratch in two minutes
  yolostudy train --resume                               go on with the run that was interrupted last
  yolostudy val planes.nano weights=runs/NAME/best.safetensors
  yolostudy predict photo.jpg folder/                    paint what the detector sees
  yolostudy data check mar20                             read a data set and say what is wrong in it
  yolostudy data export planes-mini yolo exports/planes  write it in another format
  yolostudy weights import yolov8n.pt part=backbone      pretrained weights; nothing in the file is executed
  yolostudy study-table planes                           scratch, pretrained, distilled: three seeds, one table
  yolostudy museum 8                                     a bug as a small program: symptom, finding of its cause, mend
  yolostudy trace ultralytics-pose from=BaseTrainer._do_train to=v8PoseLoss.__call__   who calls whom

Commands that train or predict run on the hybrid edition: your definitions where they pass their checks, the
reference elsewhere. YOLOSTUDY_USE=mine, reference, hybrid or reference:losses,assigner changes that for a process,
`yolostudy use WORD` for this folder.
"""

LEARNERS = {
    "check": "judge exercises as they stand in your files",
    "hint": "the next hint",
    "solve": "write the solution into your file; undo takes it back",
    "reset": "put the stub back; undo takes it back",
    "undo": "one version of a definition back, again for further back; blocks: of that whole file",
    "diff": "yours beside the reference, once yours passes",
    "status": "how far you are",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="yolostudy",
        description="Build a YOLOv8-class detector, train it, and see inside it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = parser.add_subparsers(dest="word", metavar="WORD", required=True)
    settings = "key=value …"

    for name, text in LEARNERS.items():
        word = words.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        needed = name not in ("check", "status")
        word.add_argument(
            "what",
            nargs=None if needed else "?",
            default="",
            metavar="EXERCISE|MODULE|STAGE",
            help="blocks.SPPF, SPPF, blocks or 2",
        )
        if name == "diff":
            word.add_argument(
                "--against", choices=("reference", "stub", "last"), default="reference", help="(default: reference)"
            )
        if name == "undo":
            word.add_argument("--list", action="store_true", help="list every version that was ever written or seen")
            word.add_argument("--to", type=int, metavar="NUMBER", help="back to that version")
    words.add_parser("watch", help="check again what you change, on every save")
    word = words.add_parser(
        "use", help="which edition this folder runs on from now on", description="Which edition this folder runs on."
    )
    word.add_argument(
        "edition",
        nargs="?",
        default="",
        metavar="EDITION",
        help="mine, reference, hybrid, reference:losses,assigner, mine:losses",
    )

    word = words.add_parser(
        "train", help="train a detector", description="Train a detector. `yolostudy train --list` shows tags and keys."
    )
    word.add_argument(
        "tags",
        nargs="?",
        default="",
        metavar="TAGS",
        help="such as planes.nano or mar20.nano.pretrained.cuda@0.batch@16",
    )
    word.add_argument(
        "settings", nargs="*", metavar=settings, help="such as profile=mini seed=3 minutes=5 weights=FILE"
    )
    word.add_argument(
        "--resume",
        nargs="?",
        const="",
        default=None,
        metavar="RUN",
        help="go on with RUN, or with the newest run of that name",
    )
    word.add_argument("--list", action="store_true", help="show all tags and keys with their defaults")

    word = words.add_parser(
        "val", help="measure a detector's average precision", description="Measure weights on a split of a data set."
    )
    word.add_argument("tags", nargs="?", default="planes.nano", metavar="TAGS")
    word.add_argument("settings", nargs="*", metavar=settings, help="weights=FILE is needed")
    word.add_argument("--split", default="validation", help="train, validation, test or small (default: validation)")

    word = words.add_parser(
        "study-table", help="scratch, pretrained, teacher, fine-tuned, distilled: one table over several seeds"
    )
    word.add_argument("data", metavar="planes|mar20")
    word.add_argument(
        "settings",
        nargs="*",
        metavar=settings,
        help="seeds=0,1,2 rows=… out=FOLDER jobs=1 threads=0 weights=BACKBONE, and keys of train",
    )

    word = words.add_parser(
        "predict", help="paint what a detector sees", description="Paint detections into copies of images."
    )
    word.add_argument(
        "places",
        nargs="+",
        metavar="IMAGE|FOLDER",
        help="images, or folders of them; weights=FILE out=FOLDER score=0.25 size=640",
    )

    word = words.add_parser("data", help="make, check or export a data set")
    kinds = word.add_subparsers(dest="kind", metavar="planes|check|export", required=True)
    kind = kinds.add_parser("planes", help="make the procedural data set")
    kind.add_argument(
        "settings", nargs="*", metavar=settings, help="profile=mini|laptop|abroad seed=0 out=FOLDER workers=2"
    )
    kind = kinds.add_parser("check", help="read a data set and say what is wrong in it")
    kind.add_argument(
        "spec", metavar="SET", help="a name under datasets/, a folder, a description, a COCO json or a YOLO data.yaml"
    )
    kind.add_argument("--deep", action="store_true", help="decode every image, instead of reading its size")
    kind.add_argument(
        "--on-bad",
        choices=("fail", "skip"),
        default="skip",
        help="stop at the first problem, or list all (default: skip)",
    )
    kind = kinds.add_parser("export", help="write a data set in another format")
    kind.add_argument("spec", metavar="SET")
    kind.add_argument("format", choices=("voc", "coco", "yolo"))
    kind.add_argument("out", metavar="FOLDER")
    kind.add_argument(
        "--on-bad", choices=("fail", "skip"), default="fail", help="what to do about a bad entry (default: fail)"
    )

    word = words.add_parser("weights", help="fetch, look into, bring in or hand out pretrained weights")
    word.add_argument("kind", choices=("fetch", "show", "import", "export"))
    word.add_argument(
        "places",
        nargs="+",
        metavar="NAME|FILE",
        help="fetch yolov8n sha256=… · show FILE · import FILE part=backbone out= · export FILE OUT.pt",
    )

    word = words.add_parser("trace", help="run something and show who calls whom in it")
    word.add_argument("what", metavar="ultralytics-pose|ultralytics-detect|ours|MODULE:CALLABLE")
    word.add_argument(
        "settings", nargs="*", metavar=settings, help="packages= depth= from= to= find= out=FILE.txt|.json|.mmd|.trace"
    )

    word = words.add_parser(
        "museum", help="the bugs of this course as small programs: what is seen, how the cause is found, the mend"
    )
    word.add_argument("rooms", nargs="*", type=int, metavar="N", help="rooms to run; without a number they are listed")
    words.add_parser("doctor", help="versions, device, memory, what will run where, each problem with its remedy")
    words.add_parser("grade", help="for instructors: judge learners' packages and write reports", add_help=False)
    words.add_parser("author", help="for authors: release, build, check", add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 1 a problem that the message names, 2 wrong
    words, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["author"]:
        from ..study.authoring.main import main as author

        return author(argv[1:])
    if argv[:1] == ["grade"]:
        from ..study.grading.main import main as grade

        return grade(argv[1:])
    options = build_parser().parse_args(argv)
    try:
        return globals()[f"run_{options.word.replace('-', '_')}"](options) or 0
    except KeyboardInterrupt:
        more = " `yolostudy train --resume` goes on with this training." if options.word == "train" else ""
        print(f"\ninterrupted; nothing is left half-written.{more}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NotImplementedError as error:
        if not str(error).startswith("exercise "):
            raise
        print(
            f"yolostudy: {error} is not filled in yet. YOLOSTUDY_USE=hybrid lets the reference stand in.",
            file=sys.stderr,
        )
        return 1
    except (
        OSError,
        ValueError,
        FloatingPointError,
    ) as error:  # what ours raise for what a user can mend; anything else is a bug
        print(f"yolostudy: {error}", file=sys.stderr)
        return 1


def settle_edition() -> None:
    """Hybrid unless told otherwise, and one line that says what this runs on."""
    import yolostudy

    if yolostudy.using() == "mine" and not os.environ.get("YOLOSTUDY_USE"):
        yolostudy.use("hybrid")
    if os.environ.get("RANK", "0") == "0":
        print(yolostudy.describe())


def split_settings(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """`key=value` words as a table, and the others; a file whose name has an equals sign in it
    counts as a file.
    """
    pairs = [word.partition("=") for word in words if "=" in word and not os.path.exists(word)]
    return {key: value for key, _, value in pairs}, [word for word in words if "=" not in word or os.path.exists(word)]


def preset_of(options: argparse.Namespace):
    from ..runs import presets

    words = [options.tags, *options.settings] if options.tags else options.settings
    settings, tags = split_settings(words)
    if len(tags) > 1:
        raise presets.PresetError(f"{tags[1]!r} is neither a tag nor key=value. Join tags by dots: {'.'.join(tags)}.")
    return presets.load(tags[0] if tags else "planes.nano", **settings)


def run_check(options: argparse.Namespace) -> int:
    from . import study

    return study.check(options.what)


def run_hint(options: argparse.Namespace) -> int:
    from . import study

    return study.each(options.what, study.learner.hint)


def run_solve(options: argparse.Namespace) -> int:
    from . import study

    return study.write(options.word, options.what, getattr(options, "list", False), getattr(options, "to", None))


run_reset = run_undo = run_solve


def run_diff(options: argparse.Namespace) -> int:
    from . import study

    return study.diff(options.what, options.against)


def run_status(options: argparse.Namespace) -> int:
    from . import study

    return study.status(options.what)


def run_watch(options: argparse.Namespace) -> int:
    from . import study

    return study.watch()


def run_use(options: argparse.Namespace) -> int:
    from . import study

    return study.use(options.edition)


def run_train(options: argparse.Namespace) -> int:
    from ..runs import presets

    if options.list:
        print(presets.listing())
        return 0
    if not options.tags and options.resume is None:
        raise presets.PresetError(
            "say what to train, such as `yolostudy train planes.nano`; `yolostudy train --list` shows tags and keys."
        )
    preset = preset_of(options)
    settle_edition()
    from ..runs import running as training

    folder = None
    if options.resume is not None:
        folder = training.find_run(preset if options.tags else None, options.resume)
        preset = training.read_preset(folder)
    run = training.train(preset, folder)
    print(training.summary(run))
    return 0


def run_val(options: argparse.Namespace) -> int:
    preset = preset_of(options)
    settle_edition()
    from ..runs import running as training

    evaluation, detection_set = training.val(preset, options.split)
    print(training.table(evaluation, detection_set, options.split))
    return 0


def run_study_table(options: argparse.Namespace) -> int:
    settings, rest = split_settings(options.settings)
    if rest:
        raise ValueError(f"study-table: {rest[0]!r} is not key=value.")
    settle_edition()
    from ..runs import study_table as table

    return table.run(options.data, settings)


def run_predict(options: argparse.Namespace) -> int:
    settings, places = split_settings(options.places)
    unknown = settings.keys() - {"weights", "out", "score", "size", "device"}
    if unknown or not places:
        what = f"unknown key {sorted(unknown)[0]!r}" if unknown else "no image is named"
        raise ValueError(
            f"predict: {what}. Give images or folders, and weights=FILE out=FOLDER score=0.25 size=640 device=cpu as "
            "you need them."
        )
    settle_edition()
    from ..runs import detector as prediction
    from ..runs.presets import number
    from ..views import paint_to_folder

    images = prediction.find_images(places)
    size = number("size", settings["size"], int) if "size" in settings else None
    score = number("score", settings.get("score", "0.25"), float)
    detector = prediction.Detector(
        settings.get("weights") or prediction.default_weights(), size, settings.get("device", "cpu")
    )
    out = prediction.new_folder(settings.get("out"))
    from tqdm import tqdm

    painted = tqdm(prediction.predict(detector, images, score), total=len(images), unit="image", delay=2, leave=False)
    sums = paint_to_folder(painted, out)
    judged = (
        (
            f"; of {sums['truths']} true objects {sums['hits']} hit, {sums['misses']} missed, {sums['false_alarms']} "
            "false alarms"
        )
        if sums["truths"]
        else ""
    )
    print(f"{sums['images']} image(s), {sums['predictions']} detections{judged}. Painted into {out}")
    return 0


def run_trace(options: argparse.Namespace) -> int:
    settings, rest = split_settings(options.settings)
    settle_edition()
    from . import trace as tracing

    return tracing.run(options.what, settings, rest)


def run_weights(options: argparse.Namespace) -> int:
    settings, places = split_settings(options.places)
    settle_edition()
    from ..runs import weights_files as weights

    return weights.run(options.kind, places, settings)


def run_museum(options: argparse.Namespace) -> int:
    from ..study import museum

    if not options.rooms:
        print(museum.listing())
        return 0
    visits = [museum.visit(number) for number in options.rooms]
    print("\n\n".join(map(str, visits)))
    return 0 if all(visit.as_it_should_be for visit in visits) else 1


def run_data(options: argparse.Namespace) -> int:
    from .. import data

    if options.kind == "planes":
        from ..data import planes
        from ..runs.presets import number

        settings, rest = split_settings(options.settings)
        unknown = rest + sorted(settings.keys() - {"profile", "seed", "out", "workers"})
        if unknown:
            raise ValueError(
                f"data planes: {unknown[0]!r} is unknown. Known keys: profile=mini|laptop|abroad, seed=0, "
                "out=FOLDER, workers=2."
            )
        profile = settings.get("profile", "mini")
        default = data.datasets_folder() / f"planes-{profile}"
        workers = number("workers", settings["workers"], int) if "workers" in settings else None
        folder = planes.make(
            settings.get("out", default), profile, number("seed", settings.get("seed", "0"), int), workers
        )
        print(f"planes are in {folder}")
    elif options.kind == "check":
        from ..data import check

        worst = 0
        for split in data.splits(options.spec):
            found = data.open_set(options.spec, split, on_bad=options.on_bad)
            if options.deep:
                found.problems.extend(check.decode(found))
            print(f"{split}\n{check.report(found)}\n")
            worst = max(worst, len(found.problems))
        return int(worst > 0)
    else:
        sets = [data.open_set(options.spec, split, on_bad=options.on_bad) for split in data.splits(options.spec)]
        print(f"written: {data.write(sets, options.out, options.format)}")
        for found in sets:
            for problem in found.problems:
                print(f"left out: {problem}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    from . import doctor

    return doctor.report()
