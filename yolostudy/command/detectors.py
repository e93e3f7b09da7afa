"""The words about detectors: train, val, study-table, predict, weights."""

from __future__ import annotations

import argparse

from .settings import KEY_VALUE, add_word, is_first_process, number, refuse_unknown, settle_edition, split_settings

STUDY_KEYS = ("seeds=0,1,2", "rows=…", "out=FOLDER", "jobs=1", "threads=0", "weights=BACKBONE")
PREDICT_KEYS = ("weights=FILE", "out=FOLDER", "score=0.25", "size=640", "device=cpu")
# kind of `yolostudy weights` -> how many places it takes, what they are, its keys
WEIGHTS_KINDS = {
    "fetch": (1, "one name, such as yolov8n", ("out=FILE", "sha256=…", "from=ADDRESS")),
    "show": (1, "one file", ()),
    "import": (1, "one file", ("out=FILE", "part=all|backbone", "size=n|s|m|l|x")),
    "export": (2, "a file and the .pt to write", ()),
}


def add_words(words: argparse._SubParsersAction) -> None:
    word = add_word(words, "train", "train a detector; --list shows all tags and keys", train)
    word.add_argument(
        "tags",
        nargs="?",
        default="",
        metavar="TAGS",
        help="such as planes.nano or mar20.nano.pretrained.cuda@0.batch@16",
    )
    about = "such as profile=mini seed=3 minutes=5 weights=FILE"
    word.add_argument("settings", nargs="*", metavar=KEY_VALUE, help=about)
    about = "continue RUN; without RUN the newest run, or with TAGS the newest of that name"
    word.add_argument("--resume", nargs="?", const="", default=None, metavar="RUN", help=about)
    word.add_argument("--list", action="store_true", help="show all tags and keys with their defaults")

    word = add_word(words, "val", "measure a detector's average precision on a split of a data set", val)
    word.add_argument(
        "tags", nargs="?", default="planes.nano", metavar="TAGS", help="as for train (default: planes.nano)"
    )
    word.add_argument("settings", nargs="*", metavar=KEY_VALUE, help="as for train; weights=FILE is required")
    word.add_argument("--split", default="validation", help="train, validation, test or small (default: validation)")

    about = "train from scratch, pretrained, fine-tuned and distilled, with several seeds, and compare in one table"
    word = add_word(words, "study-table", about, study_table)
    word.add_argument("data", metavar="planes|mar20")
    word.add_argument("settings", nargs="*", metavar=KEY_VALUE, help=f"{' '.join(STUDY_KEYS)}, and keys of train")

    word = add_word(words, "predict", "paint what a detector finds into copies of images", predict)
    about = f"images, or folders of them; {' '.join(PREDICT_KEYS)}"
    word.add_argument("places", nargs="+", metavar="IMAGE|FOLDER", help=about)

    word = add_word(words, "weights", "fetch, show, import or export weights", weights)
    word.add_argument("kind", choices=tuple(WEIGHTS_KINDS))
    about = "fetch yolov8n sha256=… · show FILE · import FILE part=backbone out=FILE · export FILE OUT.pt"
    word.add_argument("places", nargs="+", metavar="NAME|FILE", help=about)


def preset_of(options: argparse.Namespace):
    """The preset that was typed: tags, if any, and `key=value` words."""
    from ..runs import presets

    settings, tags = split_settings([options.tags, *options.settings] if options.tags else options.settings)
    if len(tags) > 1:
        raise presets.PresetError(f"{tags[1]!r} is neither a tag nor key=value. Join tags by dots: {'.'.join(tags)}.")
    return presets.load(tags[0] if tags else "planes.nano", **settings)


def train(options: argparse.Namespace) -> int:
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
    from .. import runs
    from ..runs import folders

    folder = None
    if options.resume is not None:
        folder = folders.find_run(options.resume, preset.run_name if options.tags else "")
        preset = folders.read_preset(folder)
    run = runs.train(preset, folder)
    if is_first_process():
        print(run)
    return 0


def val(options: argparse.Namespace) -> int:
    preset = preset_of(options)
    settle_edition()
    from .. import runs

    evaluation, found = runs.val(preset, options.split)
    print(f"{found.name}, {options.split}: {len(found)} images, {found.object_count} objects\n\n{evaluation}")
    return 0


def study_table(options: argparse.Namespace) -> int:
    settings, rest = split_settings(options.settings)
    if rest:
        raise ValueError(f"study-table: {rest[0]!r} is not key=value. Known keys: {' '.join(STUDY_KEYS)}.")
    chosen = {
        "seeds": [number("seeds", text, int) for text in settings.pop("seeds", "0,1,2").split(",")],
        "names": [name for name in settings.pop("rows", "").split(",") if name],
        "out": settings.pop("out", ""),
        "backbone": settings.pop("weights", ""),
        "jobs": number("jobs", settings.pop("jobs", "1"), int),
        "threads": number("threads", settings.pop("threads", "0"), int),
    }
    settle_edition()
    from ..runs.study_table import study

    text, out = study(options.data, **chosen, settings=settings)
    print(
        f"{text}\n\nAlso as {out / 'table.csv'} and {out / 'table.png'}; each run has its curves and weights in {out}."
    )
    return 0


def predict(options: argparse.Namespace) -> int:
    settings, places = split_settings(options.places)
    refuse_unknown("predict", settings, PREDICT_KEYS)
    if not places:
        raise ValueError(f"predict: no image is named. Give images or folders, and as needed {' '.join(PREDICT_KEYS)}.")
    score = number("score", settings.get("score", "0.25"), float)
    size = number("size", settings["size"], int) if "size" in settings else None
    settle_edition()
    from pathlib import Path

    from tqdm import tqdm

    from .. import views
    from ..runs import detector as detectors
    from ..runs.folders import new_predictions

    images = detectors.find_images(places)
    weights = settings.get("weights") or detectors.default_weights()
    detector = detectors.Detector(weights, size, settings.get("device", "cpu"))
    out = Path(settings["out"]) if settings.get("out") else new_predictions()
    painted = detectors.predict(detector, images, score)
    counts = views.paint_to_folder(tqdm(painted, total=len(images), unit="image", delay=2, leave=False), out)
    judged = ""
    if counts["truths"]:
        judged = (
            f"; of {counts['truths']} true objects {counts['hits']} hit, {counts['misses']} missed, "
            f"{counts['false_alarms']} false alarms"
        )
    print(f"{counts['images']} image(s), {counts['predictions']} detections{judged}. Painted into {out}")
    return 0


def weights(options: argparse.Namespace) -> int:
    settings, places = split_settings(options.places)
    count, needed, keys = WEIGHTS_KINDS[options.kind]
    refuse_unknown(f"weights {options.kind}", settings, keys)
    if len(places) != count:
        raise ValueError(f"weights {options.kind}: give {needed}.")
    settle_edition()
    from ..runs import weights_files

    out = settings.get("out", "")
    if options.kind == "fetch":
        weights_files.fetch(places[0], out, settings.get("sha256", ""), settings.get("from", ""))
    elif options.kind == "show":
        print(weights_files.describe(places[0]))
    elif options.kind == "import":
        part, size = settings.get("part", "all"), settings.get("size", "")
        target, report = weights_files.import_weights(places[0], out, part, size)
        print(f"{report}\nwritten: {target}. Start from it: yolostudy train planes.nano.pretrained weights={target}")
    else:
        target = weights_files.export_weights(*places)
        print(f'written: {target}. In Python: ultralytics.YOLO("{target}")')
    return 0
