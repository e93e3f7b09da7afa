"""Where runs, data sets and weights lie on the disk; planes that are missing are made there.

Imports no torch, so that `yolostudy doctor` can ask without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from .. import data
from .presets import Preset, PresetError, from_dict

SHIPPED = data.DATASETS / "weights"  # weights that come with the repository


def runs_folder() -> Path:
    """Where run folders lie: `runs` under YOLOSTUDY_HOME, or under the working directory."""
    return Path(os.environ.get("YOLOSTUDY_HOME", ".")) / "runs"


def make_missing(name: str) -> None:
    """Make `planes-PROFILE` if it is missing, with a progress bar; leave other names alone."""
    kind, _, profile = name.partition("-")
    if kind != "planes" or data.find(name) is not None:
        return
    from ..data import planes

    if profile in planes.PROFILES:
        planes.make(data.datasets_folder() / name, profile)


def weights_folder() -> Path:
    """Where weights are put that somebody fetched or imported."""
    return data.datasets_folder() / "weights"


# Run folders
# --------------------------------------------------------------------------------------------------


def new_run(name: str) -> Path:
    """A folder for a new run: NAME, or NAME-2, NAME-3 … where earlier runs have that name."""
    return _first_free(name if number == 1 else f"{name}-{number}" for number in count(1))


def new_predictions() -> Path:
    """A folder for painted images: the first free one of `predict-1`, `predict-2` …"""
    return _first_free(f"predict-{number}" for number in count(1))


def _first_free(names: Iterable[str]) -> Path:
    return next(folder for name in names if not (folder := runs_folder() / name).exists())


def find_run(folder: str = "", name: str = "") -> Path:
    """The run to continue.

    Args:
        folder: path of a run folder, or its name under `runs_folder()`.
        name: without a folder, the newest run whose name begins with this.
    """
    if folder:
        for path in (Path(folder), runs_folder() / folder):
            if (path / "preset.json").is_file():
                return path
        raise PresetError(
            f"{folder}: this is no run folder, because it holds no preset.json. Runs lie under {runs_folder()}."
        )
    found = [path.parent for path in runs_folder().glob(f"{name}*/preset.json")]
    if not found:
        which = f"no run {name!r}" if name else "no run"
        raise PresetError(f"there is {which} under {runs_folder()} to continue. Start one without --resume.")
    return max(found, key=lambda path: path.stat().st_mtime)


def read_preset(folder: Path) -> Preset:
    """The preset that a run was started with."""
    return from_dict(json.loads((folder / "preset.json").read_text(encoding="utf-8")))
