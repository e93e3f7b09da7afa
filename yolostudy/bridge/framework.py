"""Ultralytics itself: imported quietly and offline, with the process left as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

VERSION = "8.4.190"  # exactly: outputs differ between versions that share names and keys


def load() -> ModuleType:
    """Import Ultralytics offline and quietly, and return the module.

    Its settings and its font lie in a private folder, so that neither the user's own settings nor
    the network change what it does.

    Errors: ImportError where Ultralytics is missing, or is another version than the one that the
    course is compared with.
    """
    os.environ.update(
        YOLO_CONFIG_DIR=str(_private_folder()), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false"
    )
    try:
        with process_as_found():
            import ultralytics
    except ModuleNotFoundError as error:
        if error.name != "ultralytics":
            raise
        raise ImportError(
            f"Ultralytics is not installed; run `python -m pip install ultralytics=={VERSION}`."
        ) from error
    if ultralytics.__version__ != VERSION:
        raise ImportError(
            f"yolostudy is compared with Ultralytics {VERSION}, but {ultralytics.__version__} is installed, whose "
            f"outputs may differ; run `python -m pip install ultralytics=={VERSION}` and restart Python."
        )
    reporters = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune")
    if any(ultralytics.settings[name] for name in reporters):
        ultralytics.settings.update(dict.fromkeys(reporters, False))
    return ultralytics


def _private_folder() -> Path:
    """The folder for Ultralytics' settings. It holds a font, so that none is downloaded."""
    import matplotlib

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolostudy"
    try:
        (folder / "Ultralytics").mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to: examination rooms, containers
        folder = Path(tempfile.gettempdir()) / f"yolostudy-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        (folder / "Ultralytics").mkdir(parents=True, exist_ok=True)
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        font = folder / "Ultralytics" / name
        if not font.exists():
            draft = font.with_suffix(f".{os.getpid()}")
            shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", draft)
            draft.replace(font)  # parallel tests may all be here at once
    return folder


@contextmanager
def process_as_found() -> Iterator[None]:
    """Undo what Ultralytics changes for the whole process when the block ends.

    It changes thread counts, print options, warning filters and `torch.save`. On a CPU it sets
    torch to one thread less than there are cores, which on two cores halves the speed of everything
    that runs afterwards.
    """
    omp, save = os.environ.get("OMP_NUM_THREADS"), torch.save
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        with warnings.catch_warnings(), np.printoptions():
            yield
    finally:
        if omp is None:
            os.environ.pop("OMP_NUM_THREADS", None)  # it sets 1, which every child process would inherit
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
        torch.set_printoptions(profile="default")
        torch.save = save  # Ultralytics' own tries again for seconds when the disk is full
