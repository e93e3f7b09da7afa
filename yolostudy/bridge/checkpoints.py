"""Checkpoints of Ultralytics and others: read without running anything in them, and written.

Ultralytics saves the whole network as a pickle. A pickle is a program: it names classes to make and
functions to call, so opening one runs whatever its author wrote. Torch's `weights_only` reader
calls only what is on a list. Ultralytics' classes are not put on that list, because then their
`__setstate__` would run, and they would have to be installed. Instead, an inert record stands for
each class of which a network may consist: it keeps its state, none of its methods is called, and
nothing is imported. The tensors are then collected from the records. Any other name in the file,
such as `os.system`, is refused before a byte of the pickle is interpreted.

Source: Ultralytics 8.4.190 `nn/tasks.py`, `_SafeLoad` (the names in its checkpoints) and
`load_checkpoint` (what it expects to find); torch `_weights_only_unpickler.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ..data.keypoints import mirror
from ..weights import CONSTANTS, export_key


class Source(NamedTuple):
    """Where a public checkpoint lies.

    Attributes:
        sha256: in hexadecimal; "" while nobody has verified one for this table.
    """

    address: str
    size: int | None  # bytes
    sha256: str


# `utils/downloads.py`, attempt_download_asset
RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
PUBLIC = {
    name: Source(f"{RELEASE}/{name}.pt", None, "")
    for name in (f"yolov8{size}{task}" for task in ("", "-pose") for size in "nsmlx")
}
KINDS = {"DetectionModel": "detect", "PoseModel": "pose", "SegmentationModel": "segment", "OBBModel": "obb"}
KINDS |= {"ClassificationModel": "classify"}

# The names in Ultralytics' checkpoints, besides torch's own tensors. An inert record stands for each.
PACKAGES = ("ultralytics.", "torch.nn.modules.")
RECORDS = {"types.SimpleNamespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
RECORDS |= {f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")}


class Inert:
    """Stands for an object of any class: it keeps its state and does nothing."""

    def __new__(cls, *_: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


class InertMethod(Inert):
    """Stands for `getattr(layer, "forward")`, which older checkpoints hold.

    It looks nothing up, and refuses any other use of getattr.
    """

    def __init__(self, owner: object = None, name: object = None, *rest: object):
        harmless = isinstance(owner, Inert) or (isinstance(owner, type) and issubclass(owner, Inert))
        if rest or not harmless or name not in ("forward", "forward_fuse"):
            raise ValueError(
                f"opening it would call getattr for {name!r}, which no checkpoint of weights needs, so it was not "
                "opened"
            )


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and card of any file of weights. Nothing in the file is executed.

    Ultralytics need not be installed.

    Args:
        path: an Ultralytics checkpoint, a state dict (`.pt`, `.pth`), a `.safetensors`, or a run's
            `last.pt`. Where the file has averaged weights (EMA), those are read.

    Returns:
        The tensors under the file's own names, on the CPU, floats as float32; and a card of plain
        values. An Ultralytics checkpoint gives `classes` (names), `kind` (detect, pose …),
        `num_classes`, `args` (of its training) and `preset` with `size` and `image_size`. One for
        pose gives `keypoint_shape` [K, d] too, and where its keypoints have names,
        `keypoint_names` and `flip_index`; the index is not in the file, it follows from left and
        right in the names. A `.safetensors` gives its own card, other files an empty one.

    Errors: FileNotFoundError and ValueError, each with a sentence that names what was refused.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such weights file. Train one with `yolostudy train`, or look in datasets/weights/."
        )
    try:
        weights, card = _read_safetensors(path) if path.suffix == ".safetensors" else _interpret(_read_pickle(path))
        weights = {name: _plain(name, tensor) for name, tensor in weights.items()}
    except (Exception, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{path}: cannot be read as weights: {reason}. Give a .safetensors file, or a .pt that torch or "
            "Ultralytics saved."
        ) from error
    return weights, card


def _plain(name: object, tensor: object) -> Tensor:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise ValueError(f"{name!r} is {type(tensor).__name__}, no tensor")
    return (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).contiguous()


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(
            (file.metadata() or {}).get("card", "{}")
        )


def _read_pickle(path: Path) -> object:
    """The content of a file of `torch.save`: tensors, plain values, and an `Inert` for all else."""
    with _only_torchs_own():
        try:
            # read from the pickle's instructions; nothing runs
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except ValueError as error:
            if "torchscript" in str(error):  # a program, not weights
                raise
            names = []  # no zip file, as before torch 1.6; the reader below refuses every name by itself
        stands_for = {
            name: InertMethod if name in ("builtins.getattr", "__builtin__.getattr") else _inert(name) for name in names
        }
        if refused := sorted(name for name, inert in stands_for.items() if inert is None):
            raise ValueError(
                f"opening it would call {refused[0]}, which no checkpoint of weights needs, so it was not opened"
            )
        with torch.serialization.safe_globals([(inert, name) for name, inert in stands_for.items()]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _inert(name: str) -> type[Inert] | None:
    """An inert class for the name of a class of which networks consist; None for any other name."""
    if name not in RECORDS and not name.startswith(PACKAGES):
        return None
    return type(name.rpartition(".")[2], (Inert,), {})


@contextmanager
def _only_torchs_own() -> Iterator[None]:
    """A block in which torch's list of safe classes has only torch's own.

    Others add to it: Ultralytics leaves its own classes there for the whole process.
    """
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def _interpret(content: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and card from the content of a file.

    It may be a network, a table around one, a state dict, or a run of this course.
    """
    if not isinstance(content, dict):
        content = {"model": content}
    if averaging := (content.get("hooks") or {}).get("Averaging"):
        return averaging["model"], content.get("card", {})
    found = next((content[key] for key in ("ema", "model", "state_dict") if content.get(key)), content)
    if isinstance(found, dict):
        return found, content.get("card", {})
    if not isinstance(found, Inert) or "_modules" not in vars(found):
        raise ValueError(f"it holds a {type(found).__name__} where a network or a table of tensors should be")
    return dict(_tensors(vars(found))), _card(found, content)


def _tensors(state: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """As `state_dict`: parameters, saved buffers, then those of the modules inside."""
    own = state["_parameters"] | {
        k: v for k, v in state["_buffers"].items() if k not in state.get("_non_persistent_buffers_set", ())
    }
    yield from ((prefix + name, tensor) for name, tensor in own.items() if tensor is not None)
    for name, module in state["_modules"].items():
        if module is not None:
            yield from _tensors(vars(module), f"{prefix}{name}.")


def _card(network: Inert, content: dict) -> dict[str, Any]:
    """The plain values that a checkpoint of Ultralytics holds about its network."""
    state = vars(network)
    names, settings, outline = state.get("names"), state.get("args"), state.get("yaml") or {}
    settings = content.get("train_args") or (vars(settings) if isinstance(settings, Inert) else settings) or {}
    settings = {key: value for key, value in settings.items() if isinstance(value, (str, int, float, bool, type(None)))}
    classes = [str(name) for name in (names.values() if isinstance(names, dict) else names or ())]
    card = {"kind": KINDS.get(type(network).__name__, type(network).__name__), "classes": classes, "args": settings}
    card["num_classes"] = len(classes) or outline.get("nc")
    card["preset"] = {"size": str(outline.get("scale") or ""), "image_size": settings.get("imgsz") or 640}
    if shape := state.get("kpt_shape") or outline.get("kpt_shape"):
        card["keypoint_shape"] = [int(number) for number in shape]
        if keypoint_names := names_of_keypoints(state.get("kpt_names")):
            card |= {"keypoint_names": [*keypoint_names], "flip_index": [*mirror(keypoint_names)]}
    return card


def names_of_keypoints(table: object) -> tuple[str, ...]:
    """The names of the keypoints in Ultralytics' table, class number -> list of names.

    Empty where it has none of its own: its trainer then writes "0", "1" and so on for each class;
    and empty where the classes do not agree, because then a keypoint has no one name.
    """
    lists = {tuple(map(str, names)) for names in table.values()} if isinstance(table, dict) else set()
    names = lists.pop() if len(lists) == 1 else ()
    return () if names == tuple(map(str, range(len(names)))) else names


def make(
    weights: dict[str, Tensor],
    class_names: Sequence[str],
    size: str = "n",
    image_size: int = 640,
    keypoint_shape: Sequence[int] | None = None,
    keypoint_names: Sequence[str] = (),
) -> dict[str, Any]:
    """A checkpoint for `torch.save` that the installed Ultralytics opens with `YOLO(path)`.

    Args:
        weights: of a whole detector, under this package's names or Ultralytics'.
        class_names: one for each class.
        size: n, s, m, l or x.
        image_size: in pixels; Ultralytics predicts at this size unless told otherwise.
        keypoint_shape: (K, d) of a pose network; None for a detector.
        keypoint_names: K names, or none.

    Errors: ValueError where the weights are not those of such a network; ImportError where
    Ultralytics is missing.
    """
    from .framework import VERSION
    from .networks import build

    if keypoint_names and (not keypoint_shape or len(keypoint_names) != keypoint_shape[0]):
        raise ValueError(
            f"{len(keypoint_names)} keypoint names are given, and the keypoint shape is "
            f"{keypoint_shape and tuple(keypoint_shape)}. Give as many names as there are keypoints, or none."
        )
    kind = "detector" if keypoint_shape is None else "pose network"
    network = build(size, len(class_names), keypoint_shape=keypoint_shape).eval()
    try:
        left = network.load_state_dict({export_key(name): tensor for name, tensor in weights.items()}, strict=False)
    except RuntimeError as error:
        raise ValueError(
            f"the weights do not fit a YOLOv8{size} of {len(class_names)} classes: {str(error).splitlines()[1].strip()}"
        ) from error
    if wrong := [*(set(left.missing_keys) - set(CONSTANTS)), *left.unexpected_keys]:
        raise ValueError(
            f"the weights are not those of a YOLOv8{size} {kind}: {len(wrong)} names differ, such as "
            f"{sorted(wrong)[0]}. A backbone alone cannot be exported."
        )
    settings = {"task": "detect" if keypoint_shape is None else "pose", "imgsz": image_size}
    network.names, network.args = dict(enumerate(class_names)), settings
    if keypoint_names:  # as their trainer keeps them: for every class
        network.kpt_names = {number: [*keypoint_names] for number in range(len(class_names))}
    return {
        "epoch": -1,
        "model": network,
        "ema": None,
        "optimizer": None,
        "train_args": settings,
        "version": VERSION,
    }
