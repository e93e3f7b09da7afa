"""The real YOLOv6 4.0 for one epoch on the CPU, where it is installed: something real to trace.

    pip install yolov6detect==0.4.1

The package is `yolov6detect` on PyPI: YOLOv6 0.4.0 under the GPL-3, packed by a third party. It was
written for older libraries, so while a trainer lives here two things are as they were then:
`numpy.int` exists, and `torch.load` opens files that hold whole modules.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from yolostudy import data

PACKAGES = ("yolov6.core.engine", "yolov6.utils.ema", "yolov6.utils.checkpoint", "yolov6.tools.eval")


def is_installed() -> bool:
    """Whether YOLOv6 can be imported."""
    return importlib.util.find_spec("yolov6") is not None


@contextmanager
def as_it_was() -> Iterator[None]:
    """`numpy.int` exists and `torch.load` trusts its file, until the block ends."""
    load, had_int = torch.load, "int" in vars(np)
    torch.load = functools.partial(load, weights_only=False)
    if not had_int:
        np.int = int
    try:
        yield
    finally:
        torch.load = load
        if not had_int:
            del np.int


def write_planes(folder: Path, images: int) -> Path:
    """Write images and boxes of the sample in YOLO's layout, and the description that YOLOv6 reads.

    YOLOv6 wants the class names as a list, and labels of boxes without keypoints.
    """
    splits = [data.open_set("sample", name) for name in ("train", "validation")]
    few = [replace(split, records=[replace(one, keypoints=None) for one in split.records[:images]]) for split in splits]
    description = data.write(few, folder / "planes", "yolo")
    known = yaml.safe_load(Path(description).read_text("utf-8"))
    names = known["names"]
    names = list(names.values()) if isinstance(names, dict) else list(names)
    root = Path(description).parent
    places = {"train": str(root / known["train"]), "val": str(root / known["val"])}
    file = root / "yolov6.yaml"
    file.write_text(yaml.safe_dump({**places, "nc": len(names), "names": names, "is_coco": False}), "utf-8")
    return file


@contextmanager
def trainer(images: int = 4, side: int = 64, epochs: int = 1, batch: int = 4) -> Iterator[Any]:
    """YOLOv6's own Trainer on a few images, ready for its `train()`; its files go with the block.

    Args:
        images: how many to train on, and as many to validate.
        side: of the images, in pixels, a multiple of 32.

    Errors: ModuleNotFoundError where the extra `yolov6` is not installed.
    """
    if not is_installed():
        raise ModuleNotFoundError("YOLOv6 is not installed. Install it with: pip install yolov6detect==0.4.1")
    with tempfile.TemporaryDirectory(prefix="yolostudy-yolov6-") as folder, as_it_was():
        import yolov6
        from yolov6.core.engine import Trainer
        from yolov6.tools.train import get_args_parser
        from yolov6.utils.config import Config
        from yolov6.utils.events import LOGGER

        cfg = Config.fromfile(str(Path(yolov6.__file__).parent / "configs" / "yolov6n.py"))
        cfg.training_mode = "repvgg"
        words = {"data-path": write_planes(Path(folder), images), "img-size": side, "batch-size": batch}
        words |= {"epochs": epochs, "workers": 0, "device": "cpu", "eval-interval": 1}
        args = get_args_parser().parse_args([part for word in words for part in (f"--{word}", str(words[word]))])
        args.rank = args.local_rank = -1
        args.world_size, args.save_dir = 1, folder
        level = LOGGER.level
        LOGGER.setLevel(logging.ERROR)
        try:
            yield Trainer(args, cfg, torch.device("cpu"))
        finally:
            LOGGER.setLevel(level)
