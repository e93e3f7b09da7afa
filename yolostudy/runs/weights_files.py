"""Files of weights: download, describe, import into this course, export to Ultralytics."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from .. import hooks
from ..bridge import checkpoints
from ..network import SIZES, YOLO, scale_channels
from ..pose import PoseYOLO
from ..weights import TransferReport, export_key, rename_key, transfer
from .folders import weights_folder

PATIENCE = 30.0  # seconds without a byte, after which the server counts as gone
ABANDONED = 3600.0  # seconds, after which a draft was left by a killed download; a younger one may be in use

# Fetching
# --------------------------------------------------------------------------------------------------


def fetch(
    name: str,
    out: str = "",
    sha256: str = "",
    address: str = "",
    known: Mapping[str, checkpoints.Source] = checkpoints.PUBLIC,
) -> Path:
    """Download public weights, unless they are there already.

    Only a file with the right checksum is kept.

    Args:
        name: a name in the table `known`.
        out: the file; by default `datasets/weights/NAME.pt`.
        sha256: the checksum that the file must have, where the table does not know it.
        address: where to download from instead, such as a copy in a class room's own network.

    Errors: ValueError for an unknown name or checksum, and for an incomplete or changed file;
    OSError where the server does not deliver.
    """
    address, expected = _source(name, sha256, address, known)
    path = Path(out) if out else weights_folder() / f"{name}.pt"
    if path.is_file() and _digest(path) == expected:
        print(f"{path}: already there, and its checksum is right")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    for draft in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - draft.stat().st_mtime > ABANDONED:
            draft.unlink()
    try:
        # writes a draft beside the file, compares the checksum, then renames; always removes its draft
        with _patience(PATIENCE):
            torch.hub.download_url_to_file(address, str(path), hash_prefix=expected, progress=sys.stderr.isatty())
    except RuntimeError as error:
        raise ValueError(
            f"{address}: the download is incomplete or has been changed ({error}). Nothing of it was kept. Try again. "
            "If it happens twice, the checksum belongs to another file than the one at this address."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{address}: could not be downloaded ({error or type(error).__name__}). Nothing was kept; try again."
        ) from error
    print(f"{path}: downloaded, and its checksum is right. Next: yolostudy weights import {path}")
    return path


def _source(name: str, sha256: str, address: str, known: Mapping[str, checkpoints.Source]) -> tuple[str, str]:
    """Where to download from, and the checksum to expect; refuses what cannot be verified."""
    if name not in known:
        raise ValueError(f"weights fetch: {name!r} is not in the table. It has {', '.join(known)}.")
    address, expected = address or known[name].address, (sha256 or known[name].sha256).lower()
    if not expected:
        raise ValueError(
            f"weights fetch: nobody has verified a SHA-256 of {name} for this course yet, so {address} was not "
            "downloaded: a changed file could not be told from the real one. Look the checksum up in a source that you "
            "trust and add sha256=…, or download the file by other means and give it to `yolostudy weights import "
            "FILE`, which runs nothing that is in it."
        )
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise ValueError(f"weights fetch: sha256={expected!r} is no SHA-256, which has 64 hexadecimal digits.")
    if not re.match("https?://[^/]", address):
        raise ValueError(
            f"weights fetch: from={address!r} is no address of a file, which begins with https:// or http://."
        )
    return address, expected


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _patience(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# Describing, importing, exporting
# --------------------------------------------------------------------------------------------------


def size_of(weights: Mapping[str, Tensor], file: str | Path = "the file") -> str:
    """The size of the network, n, s, m, l or x, from the width of its first convolution."""
    stem = next(
        (tensor for key, tensor in weights.items() if rename_key(key) == "backbone.stem.conv.weight"), torch.empty(0)
    )
    sizes = [size for size, scale in SIZES.items() if scale_channels(64, scale.width) == len(stem)]
    if not sizes:
        raise ValueError(
            f"{file}: these are no weights of a YOLOv8. The first convolution of a YOLOv8 has 16 to 80 channels, and "
            f"here it has {len(stem)}."
        )
    return sizes[0]


def classes_of(weights: Mapping[str, Tensor]) -> int:
    """How many classes the class layer has; 0 without a class layer."""
    return next((len(tensor) for key, tensor in weights.items() if rename_key(key) == "head.cls.0.2.bias"), 0)


def describe(path: str | Path) -> str:
    """The content of a file as text: its card, then each layer with its tensors and numbers."""
    weights, card = checkpoints.load(path)
    lines = [f"{path}: {len(weights)} tensors, {sum(tensor.numel() for tensor in weights.values()):,} numbers"]
    for key, value in card.items():
        text = ", ".join(value) if key == "classes" else json.dumps(value)
        lines.append(f"  {key:<12} {text if len(text) <= 110 else text[:109] + '…'}")
    tensors, numbers, places = Counter(), Counter(), {}
    for key, tensor in weights.items():
        layer = ".".join(key.split(".")[:2])
        tensors[layer] += 1
        numbers[layer] += tensor.numel()
        name = rename_key(key) or "made here"
        places.setdefault(layer, set()).add(".".join(name.split(".")[:2]) if name != key else key.split(".")[0])
    lines.append(f"  {'layer':<24} {'tensors':>8} {'numbers':>12}  here")
    lines += [
        f"  {layer:<24} {tensors[layer]:>8} {numbers[layer]:>12,}  {', '.join(sorted(places[layer]))}"
        for layer in tensors
    ]
    return "\n".join(lines)


def import_weights(path: str | Path, out: str = "", part: str = "all", size: str = "") -> tuple[Path, TransferReport]:
    """Import a checkpoint whose weights fit our network.

    Writes them as safetensors, under Ultralytics' names.

    Args:
        path: any file that `bridge.checkpoints.load` opens.
        out: the file; by default `datasets/weights/STEM.safetensors`, for a backbone
            `STEM-backbone.safetensors`.
        part: "all" or "backbone".
        size: of the network, where the weights do not say it.

    Returns:
        The new file, and the report of what was transferred.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file. Give a checkpoint that you have, or download one: `yolostudy weights "
            "fetch yolov8n sha256=…`."
        )
    weights, card = checkpoints.load(path)
    size = size or size_of(weights, path)
    classes, shape = max(1, classes_of(weights)), card.get("keypoint_shape")
    report = transfer(weights, PoseYOLO(classes, size, keypoint_shape=shape) if shape else YOLO(classes, size), part)
    fitting = {None, *report.matched} if part == "all" else {*report.matched}
    kept = {export_key(key): tensor for key, tensor in weights.items() if rename_key(key) in fitting}
    if all(torch.equal(tensor.half().float(), tensor) for tensor in kept.values() if tensor.is_floating_point()):
        # float16 loses nothing here, and the file is half as large
        kept = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in kept.items()}
    card["preset"] = {"image_size": 640} | card.get("preset", {}) | {"size": size}
    card |= {"part": part, "source": Path(path).name}
    card.pop("args", None)  # they name folders of the machine on which it was trained
    if part != "all":
        for key in ("classes", "keypoint_names", "keypoint_shape", "flip_index"):  # a backbone has no such layers
            card.pop(key, None)
    stem = Path(path).stem if part == "all" else f"{Path(path).stem}-{part}"
    target = Path(out) if out else weights_folder() / f"{stem}.safetensors"
    tensors = {key: tensor.contiguous() for key, tensor in kept.items()}
    content = safetensors_bytes(tensors, metadata={"card": json.dumps(card)})
    hooks.replace_file(target, lambda draft: draft.write_bytes(content))
    return target, report


def export_weights(path: str | Path, out: str | Path) -> Path:
    """Write a detector or pose network as a checkpoint that the installed Ultralytics opens with `YOLO(path)`."""
    out = Path(out)
    if out.suffix != ".pt":
        raise ValueError(f"{out}: Ultralytics opens only files whose name ends in .pt. Give such a name.")
    weights, card = checkpoints.load(path)
    names = card.get("classes") or [str(number) for number in range(classes_of(weights))]
    image_size = card.get("preset", {}).get("image_size", 640)
    keypoints = card.get("keypoint_shape"), card.get("keypoint_names") or ()
    checkpoint = checkpoints.make(weights, names, size_of(weights, path), image_size, *keypoints)
    hooks.replace_file(out, lambda draft: torch.save(checkpoint, draft))
    return out
