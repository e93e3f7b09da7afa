"""`yolostudy weights`: fetch public weights, look into a file of them, bring them into the house,
and hand ours to Ultralytics.
"""

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

from .. import data, hooks
from ..bridge import checkpoints
from ..network import SIZES, YOLO, scale_channels
from ..weights import TransferReport, export_key, rename_key, transfer

PATIENCE = 30.0  # seconds without a byte, after which a server counts as gone


def folder() -> Path:
    return data.datasets_folder() / "weights"


# Fetching
# --------------------------------------------------------------------------------------------------


def fetch(
    name: str, out: str = "", sha256: str = "", address: str = "", known: Mapping[str, checkpoints.Source] = checkpoints.PUBLIC
) -> Path:
    """Download public weights, unless they are there already; only a file with the right checksum
    is ever put in place.

    Args:
        name: one of the table.
        out: the file; `datasets/weights/NAME.pt` by default.
        sha256: what the file must hash to, where the table does not know it.
        address: to take it from instead, such as a copy in a class room's own network.
        known: the table.

    Errors: ValueError for an unknown name or checksum and for a file that is torn or changed;
    OSError when the server does not deliver.
    """
    if name not in known:
        raise ValueError(f"weights fetch: {name!r} is not in the table. It has {', '.join(known)}.")
    address, expected = address or known[name].address, (sha256 or known[name].sha256).lower()
    if not expected:
        raise ValueError(
            f"weights fetch: nobody has verified a SHA-256 of {name} for this course yet, so {address} was not "
            "downloaded: a changed file could not be told from the real one. Look the checksum up where you trust "
            "it, and add sha256=… ; or download the file by other means and give it to `yolostudy weights import "
            "FILE`, which runs nothing that is in it."
        )
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise ValueError(f"weights fetch: sha256={expected!r} is no SHA-256, which has 64 hexadecimal digits.")
    if not re.match("https?://[^/]", address):
        raise ValueError(f"weights fetch: from={address!r} is no address of a file, which begins with https:// or "
                         "http://.")
    path = Path(out) if out else folder() / f"{name}.pt"
    if path.is_file() and _digest(path) == expected:
        print(f"{path}: already there, and its checksum is right")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    for draft in path.parent.glob(f"{path.name}.*.partial"):
        if time.time() - draft.stat().st_mtime > 3600:  # of a fetch that was killed; a younger one may be at work
            draft.unlink()
    try:
        # writes beside the place, compares the checksum, then moves; removes its draft whatever
        # happens
        with _patience(PATIENCE):
            torch.hub.download_url_to_file(address, str(path), hash_prefix=expected, progress=sys.stderr.isatty())
    except RuntimeError as error:
        raise ValueError(
            f"{address}: what came is torn or has been changed ({error}). Nothing of it was kept. Try again; if it "
            "happens twice, the file there is another one than the checksum is of."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{address}: could not be downloaded ({error or type(error).__name__}). Nothing was kept; try "
                      "again.") from error
    print(f"{path}: downloaded, and its checksum is right. Next: yolostudy weights import {path}")
    return path


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


# Reading, bringing in, handing out
# --------------------------------------------------------------------------------------------------


def size_of(weights: Mapping[str, Tensor]) -> str:
    """n, s, m, l or x: what the first convolution's width says."""
    stem = next((tensor for key, tensor in weights.items() if rename_key(key) == "backbone.stem.conv.weight"), torch.empty(0))
    sizes = [size for size, scale in SIZES.items() if scale_channels(64, scale.width) == len(stem)]
    if not sizes:
        raise ValueError("these are no weights of a YOLOv8: its first convolution has 16 to 80 channels, and this "
                         f"file's has {len(stem)}.")
    return sizes[0]


def classes_of(weights: Mapping[str, Tensor]) -> int:
    """How many classes the class layer has; 0 without one."""
    return next((len(tensor) for key, tensor in weights.items() if rename_key(key) == "head.cls.0.2.bias"), 0)


def describe(path: str | Path) -> str:
    """What is in a file of weights, as text: its card, and each layer with its tensors, numbers and
    place here.
    """
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
    lines += [f"  {layer:<24} {tensors[layer]:>8} {numbers[layer]:>12,}  {', '.join(sorted(places[layer]))}" for layer in tensors]
    return "\n".join(lines)


def bring_in(path: str | Path, out: str = "", part: str = "all", size: str = "") -> tuple[Path, TransferReport]:
    """Write a checkpoint's weights as safetensors under Ultralytics' names, if they fit the network
    of this course.

    Args:
        path: any file that `bridge.checkpoints.load` opens.
        out: the file; `datasets/weights/STEM.safetensors` by default, for a part
            `STEM-backbone.safetensors`.
        part: "all" or "backbone".
        size: of the network, where the weights do not say it.

    Returns:
        The new file, and what became of every name.
    """
    weights, card = checkpoints.load(path)
    size = size or size_of(weights)
    report = transfer(weights, YOLO(max(1, classes_of(weights)), size), part)
    fitting = {None, *report.matched} if part == "all" else {*report.matched}
    kept = {export_key(key): tensor for key, tensor in weights.items() if rename_key(key) in fitting}
    if all(torch.equal(tensor.half().float(), tensor) for tensor in kept.values() if tensor.is_floating_point()):
        # nothing is lost
        kept = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in kept.items()}
    card["preset"] = {"image_size": 640} | card.get("preset", {}) | {"size": size}
    card |= {"part": part, "source": Path(path).name}
    card.pop("args", None)  # they name folders of the machine that trained it
    if part != "all":
        card.pop("classes", None)  # a backbone knows none
    target = Path(out) if out else folder() / f"{Path(path).stem}{'' if part == 'all' else f'-{part}'}.safetensors"
    content = safetensors_bytes({key: tensor.contiguous() for key, tensor in kept.items()}, metadata={"card": json.dumps(card)})
    hooks.replace_file(target, lambda draft: draft.write_bytes(content))
    return target, report


def hand_out(path: str | Path, out: str | Path) -> Path:
    """Write a detector's weights as a checkpoint that the installed Ultralytics opens with
    `YOLO(path)`.
    """
    out = Path(out)
    if out.suffix != ".pt":
        raise ValueError(f"{out}: Ultralytics opens only files whose name ends in .pt. Give such a name.")
    weights, card = checkpoints.load(path)
    names = card.get("classes") or [str(number) for number in range(classes_of(weights))]
    checkpoint = checkpoints.make(weights, names, size_of(weights), card.get("preset", {}).get("image_size", 640))
    hooks.replace_file(out, lambda draft: torch.save(checkpoint, draft))
    return out


def run(kind: str, places: list[str], settings: dict[str, str]) -> int:
    """The words of `yolostudy weights`."""
    known = {"fetch": {"out", "sha256", "from"}, "import": {"out", "part", "size"}}.get(kind, set())
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"weights {kind}: {unknown[0]!r} is unknown. Known keys: "
                         f"{', '.join(sorted(known)) or 'none'}.")
    if (needed := 2 if kind == "export" else 1) != len(places):
        raise ValueError(
            f"weights {kind}: give "
            f"{'a file and the .pt to write' if needed == 2 else 'one name' if kind == 'fetch' else 'one file'}."
        )
    if kind == "fetch":
        fetch(places[0], settings.get("out", ""), settings.get("sha256", ""), settings.get("from", ""))
    elif kind == "show":
        print(describe(places[0]))
    elif kind == "import":
        target, report = bring_in(places[0], settings.get("out", ""), settings.get("part", "all"), settings.get("size", ""))
        print(f"{report}\nwritten: {target}. Start from it: yolostudy train planes.nano.pretrained weights={target}")
    else:
        print(f'written: {hand_out(*places)}. In Python: ultralytics.YOLO("{places[1]}")')
    return 0
