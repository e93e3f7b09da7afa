"""Where a data set lies: from a name, a folder or a file to what a reader opens.

A *description* is one of datasets/*.yaml. It names the folder of a set (its root), the format, the
classes and groups of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

FORMATS = ("voc", "coco", "yolo")
DATASETS = Path(__file__).resolve().parents[2] / "datasets"  # the repository's; an installed package has none
HERE = Path("datasets")  # of the working directory


def datasets_folder() -> Path:
    """The folder for new data: the repository's, or `datasets` of the working directory."""
    return DATASETS if DATASETS.is_dir() else HERE


@dataclass(frozen=True)
class Source:
    """Where a set lies, and what its description says.

    Attributes:
        name: of the set.
        path: what the format's reader opens: a folder, a COCO json or a data.yaml.
        format: voc, coco or yolo.
        class_names: the classes in order, or empty if the data says.
        groups: named selections of classes, such as base and novel.
    """

    name: str
    path: Path
    format: str
    class_names: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


def find(spec: str | Path) -> Path | None:
    """The file or folder of a path, or of a name under `datasets/`, with or without .yaml."""
    candidates = [Path(spec), HERE / spec, DATASETS / spec, HERE / f"{spec}.yaml", DATASETS / f"{spec}.yaml"]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def describe(spec: str | Path) -> Source:
    """Find the set that `spec` names, and its format. A set that is not there is refused."""
    from .reading import load_yaml

    found = find(spec)
    if found is None:
        _refuse_unknown(spec)
    if found.suffix == ".json":
        return Source(found.stem, found, "coco")
    if found.suffix in (".yaml", ".yml"):
        stated = load_yaml(found)
        return _of_description(found, stated) if "format" in stated else Source(found.stem, found, "yolo")
    return _of_folder(found)


def _refuse_unknown(spec: str | Path) -> NoReturn:
    from .reading import misplaced
    from .records import refuse

    path = Path(spec)
    if path.is_absolute():
        refuse(spec, *misplaced(str(spec), Path.cwd()))
    known = {file.stem for shelf in (HERE, DATASETS) for name in ("*.yaml", "planes-*") for file in shelf.glob(name)}
    remedy = f"Known under datasets/: {', '.join(sorted(known)) or 'nothing'}."
    if path.name.startswith("planes-"):
        remedy = f"Make it: yolostudy data planes profile={path.name.removeprefix('planes-')}. {remedy}"
    refuse(spec, "there is no such set, folder or file", remedy)


def _of_description(file: Path, stated: dict) -> Source:
    """The first root that exists, beside the description or under datasets/ here."""
    from .reading import misplaced
    from .records import refuse

    if stated["format"] not in FORMATS:
        refuse(file, f"the format {stated['format']!r} is unknown", f"Known are: {', '.join(FORMATS)}.")
    roots = _roots(stated)
    for root in roots:
        for folder in (file.parent, HERE):
            if (folder / root).exists():
                return _described(folder / root, stated)
    if not roots:
        refuse(file, "it has no root", "Add `root:`, the folder of the data.")
    what, remedy = misplaced(roots[0], file.parent)
    refuse(file, what, f"{remedy} The comments in this file say how to get the data.")


def _of_folder(folder: Path) -> Source:
    """The description that has this folder as its root; without one, the files tell the format."""
    from .reading import load_yaml

    for shelf in (folder.resolve().parent, HERE, DATASETS):
        for file in sorted(shelf.glob("*.yaml")):
            stated = load_yaml(file)
            if "format" in stated and folder.name in _roots(stated):
                return _described(folder, stated)
    if (folder / "data.yaml").is_file():
        return Source(folder.name, folder, "yolo")
    return Source(folder.name, folder, "coco" if any((folder / "annotations").glob("*.json")) else "voc")


def _roots(stated: dict) -> Sequence[str]:
    root = stated.get("root") or []
    return root if isinstance(root, list) else [root]


def _described(path: Path, stated: dict) -> Source:
    groups = {name: tuple(classes) for name, classes in (stated.get("groups") or {}).items()}
    return Source(stated.get("name", path.name), path, stated["format"], tuple(stated.get("class_names") or ()), groups)
