"""Ultralytics 8.4.190 as an oracle: its network, loss, decoding, NMS and trainer, spoken to in this
course's own shapes.

Everything that changes between versions of Ultralytics is hidden here: the prediction dict, the
factor B in the loss, the normalised batch, the callbacks, the way it goes to the network when it is
imported. Where in its source each thing lives:

    cfg/models/v8/yolov8.yaml, nn/tasks.py DetectionModel          -> build, state_dict_for
    nn/modules/head.py Detect.forward_head, Detect._inference      -> raw_maps, decode
    utils/loss.py v8DetectionLoss                                  -> Criterion, to_batch, pixel_targets
    utils/nms.py non_max_suppression                               -> nms
    engine/trainer.py BaseTrainer._do_train                        -> fit
    engine/validator.py BaseValidator.__call__                     -> validate

Shapes: B images, A anchors over all levels, C classes, R bins, N objects. Boxes are xyxy in pixels
unless the name says otherwise.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

VERSION = "8.4.190"  # outputs differ between versions that share names and keys, so this is exact
STRIDES = (8, 16, 32)


# The framework itself: quiet, offline, and without leaving traces in the process
# ------------------------------------------------


def load() -> ModuleType:
    """Import Ultralytics offline and quietly, and return the module.

    Its settings and font lie in a private folder, so that neither the user's own settings nor the
    network have a say.

    Raises:
        ImportError: Ultralytics is missing, or another version than the one that the course was
            compared with.
    """
    os.environ.update(
        YOLO_CONFIG_DIR=str(_private_folder()), YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false"
    )
    try:
        with _process_as_found():
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
    """The folder that stands in for Ultralytics' user configuration, with a font in it so that it
    does not look for one to download.
    """
    import matplotlib

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolostudy"
    try:
        (folder / "Ultralytics").mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written: examination rooms, containers
        folder = Path(tempfile.gettempdir()) / f"yolostudy-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        (folder / "Ultralytics").mkdir(parents=True, exist_ok=True)
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        font = folder / "Ultralytics" / name
        if not font.exists():
            half_made = font.with_suffix(f".{os.getpid()}")
            shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", half_made)
            half_made.replace(font)  # parallel tests may all be here at once
    return folder


@contextmanager
def _process_as_found() -> Iterator[None]:
    """Undo what Ultralytics changes for the whole process: thread counts, print options, warning
    filters, `torch.save`.

    On a CPU it sets torch to one thread less than there are cores, which on two cores would halve
    the speed of all that runs afterwards.
    """
    omp, torch_threads, cv2_threads, save = (
        os.environ.get("OMP_NUM_THREADS"),
        torch.get_num_threads(),
        cv2.getNumThreads(),
        torch.save,
    )
    try:
        with warnings.catch_warnings(), np.printoptions():
            yield
    finally:
        if omp is None:
            os.environ.pop("OMP_NUM_THREADS", None)  # it sets 1, which every child process would inherit
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
        torch.set_printoptions(profile="default")
        torch.save = save  # its own retries for seconds when the disk is full


# The network
# --------------------------------------------------------------------------------------------------


def build(size: str = "n", num_classes: int = 80, seed: int | None = None) -> nn.Module:
    """A fresh `DetectionModel` of YOLOv8, in training mode, with the `.args` that a direct
    `model.loss(batch)` needs.

    Args:
        size: one of n, s, m, l, x.
        num_classes: C.
        seed: makes the weights repeatable; the caller's random state is left as it was.
    """
    load()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    if size not in tuple("nsmlx"):
        raise ValueError(f"There is no YOLOv8 of size {size!r}; choose one of n, s, m, l, x.")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = DetectionModel(f"yolov8{size}.yaml", nc=num_classes, verbose=False)
    model.args = get_cfg()
    return model


def state_dict_for(model: nn.Module | str | Path) -> dict[str, Tensor]:
    """The weights in Ultralytics' own names (`model.22.cv2.0.0.conv.weight`), as float32 copies on
    the CPU.

    Args:
        model: a `DetectionModel`, or the path of a `.pt` file (a pickle: open only files that you
            trust).
    """
    load()
    if not isinstance(model, nn.Module):
        from ultralytics.nn.tasks import load_checkpoint

        model, _ = load_checkpoint(str(model))
    return {
        name: (t.float() if t.is_floating_point() else t).detach().cpu().clone()
        for name, t in model.state_dict().items()
    }


def raw_maps(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What the three levels of the head give before any decoding.

    The model is run in the mode that it is in: in training mode this updates its running
    statistics. Gradients flow.

    Args:
        images: (B, 3, H, W) float in 0…1, H and W divisible by 32.

    Returns:
        three maps (B, 4·R + C, H/s, W/s), s = 8, 16, 32: box channels first, then class logits, as
        a concatenated head has them.
    """
    output = model(images)
    return maps_of(output[1] if isinstance(output, tuple) else output)  # in evaluation mode: (decoded, dict)


def maps_of(predictions: dict[str, Any]) -> list[Tensor]:
    """The three raw maps that a head's dict of predictions holds in pieces."""
    maps, start = [], 0
    for feature in predictions["feats"]:
        height, width = feature.shape[2:]
        stop = start + height * width
        # (B, 4·R + C, h·w)
        level = torch.cat((predictions["boxes"][..., start:stop], predictions["scores"][..., start:stop]), 1)
        maps.append(level.unflatten(2, (height, width)))
        start = stop
    return maps


def _predictions(maps: Sequence[Tensor], reg_max: int) -> dict[str, Any]:
    """The inverse of `raw_maps`: maps in the form that Ultralytics' loss and decoder take."""
    flat = torch.cat([level.flatten(2) for level in maps], 2)  # (B, 4·R + C, A)
    # of feats, only sizes are read
    return {"boxes": flat[:, : 4 * reg_max], "scores": flat[:, 4 * reg_max :], "feats": list(maps)}


# The loss
# --------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """Box, class and DFL loss, each a scalar tensor with its gain applied, not multiplied by the
    number of images.
    """

    box: Tensor
    cls: Tensor
    dfl: Tensor

    @property
    def total(self) -> Tensor:
        return self.box + self.cls + self.dfl


class Criterion:
    """Ultralytics' `v8DetectionLoss`, called with raw maps and pixel targets.

    The parts carry the default gains (box 7.5, class 0.5, DFL 1.5) and gradients to the maps.
    Ultralytics' own call returns these numbers multiplied by B, and its trainer backpropagates
    that: `B · criterion(...).total`.

    Args:
        num_classes, reg_max: C and R of the maps.
        model: takes strides, gains and device from this `DetectionModel`; without it, YOLOv8's
            defaults on the CPU.
    """

    def __init__(self, num_classes: int, reg_max: int = 16, model: nn.Module | None = None):
        load()
        from ultralytics.utils.loss import v8DetectionLoss

        self.reg_max = reg_max
        self.loss = v8DetectionLoss(model if model is not None else _Outline(num_classes, reg_max))
        if (self.loss.nc, self.loss.reg_max) != (num_classes, reg_max):
            raise ValueError(
                f"The model has {self.loss.nc} classes and {self.loss.reg_max} bins, but {num_classes} and {reg_max} "
                "were asked for; pass the model's own numbers."
            )

    def __call__(self, maps: Sequence[Tensor], targets: Tensor, image_size: tuple[int, int]) -> Parts:
        """Compute the loss.

        Args:
            maps: three raw maps (B, 4·R + C, H/s, W/s).
            targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels. What Ultralytics really sees
                is `pixel_targets(to_batch(targets))`: the way through normalised centres rounds, by
                up to about 1e-5 of the image's side.
            image_size: (H, W) in pixels.
        """
        predictions = _predictions(maps, self.reg_max)
        return Parts(*self.loss.get_assigned_targets_and_loss(predictions, to_batch(targets, image_size))[1])


class _Outline(nn.Module):
    """As much of a `DetectionModel` as its loss looks at, so that a criterion for any R costs no
    network.
    """

    def __init__(self, num_classes: int, reg_max: int):
        super().__init__()
        from ultralytics.cfg import get_cfg

        self.args = get_cfg()
        self.model = [_head(num_classes, reg_max)]
        self.device_probe = nn.Parameter(torch.zeros(()))


def _head(num_classes: int, reg_max: int) -> nn.Module:
    """A `Detect` head over one-channel maps: the smallest thing that knows how Ultralytics decodes."""
    from ultralytics.nn.modules import Detect

    head = Detect(num_classes, reg_max, ch=(1,) * len(STRIDES))
    head.stride = torch.tensor(STRIDES, dtype=torch.float32)
    return head.eval()


def to_batch(targets: Tensor, image_size: tuple[int, int]) -> dict[str, Tensor]:
    """Pixel targets as the batch dict of Ultralytics.

    Rows are sorted by image, as its collate function leaves them: its padding counts on that and
    garbles unsorted rows without a word.

    Args:
        targets: (N, 6) image index, class, x1 y1 x2 y2 in pixels.
        image_size: (H, W) in pixels.

    Returns:
        batch_idx (N,), cls (N, 1), bboxes (N, 4) as centre x, centre y, width, height in 0…1.
    """
    targets = targets[targets[:, 0].argsort(stable=True)].float()
    x1, y1, x2, y2 = targets[:, 2:].unbind(1)
    centre_size = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1)  # (N, 4)
    return {"batch_idx": targets[:, 0], "cls": targets[:, 1:2], "bboxes": centre_size / _scale(image_size, targets)}


def pixel_targets(batch: dict[str, Tensor], image_size: tuple[int, int]) -> Tensor:
    """A batch dict as (N, 6) pixel targets, by the same operations in the same order as the loss
    uses, so equal to the last bit.

    Feed the result to our loss and the batch to theirs, and a difference is never one of rounding
    in the boxes.
    """
    from ultralytics.utils.ops import xywh2xyxy

    boxes = xywh2xyxy(batch["bboxes"] * _scale(image_size, batch["bboxes"]))  # (N, 4)
    return torch.cat((batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), boxes), 1)


def _scale(image_size: tuple[int, int], like: Tensor) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=like.device)


# From maps to boxes
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
def decode(source: nn.Module | Sequence[Tensor], images: Tensor | None = None, reg_max: int = 16) -> Tensor:
    """Every anchor's box and class scores, as the evaluation forward of Ultralytics gives them.

    Args:
        source: a `DetectionModel`, then with `images`; or three raw maps, ours or theirs.
        images: (B, 3, H, W) float in 0…1.
        reg_max: R of the maps.

    Returns:
        (B, 4 + C, A): centre x, centre y, width, height in pixels, then C scores after the sigmoid.
    """
    if isinstance(source, nn.Module):
        was_training = source.training
        decoded = source.eval()(images)[0]
        source.train(was_training)
        return decoded
    load()
    head = _head(source[0].shape[1] - 4 * reg_max, reg_max).to(source[0].device)
    head.stride = head.stride.to(source[0].device)  # a plain attribute, which `.to` does not reach
    return head._inference(_predictions(source, reg_max))


def nms(
    decoded: Tensor,
    score_threshold: float = 0.25,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = False,
) -> list[Tensor]:
    """Ultralytics' per-class non-maximum suppression.

    Args:
        decoded: (B, 4 + C, A) from `decode`.
        multi_label: let one anchor answer for several classes. Its predictor does not, its
            validator does (with score_threshold=0.001).

    Returns:
        per image (n, 6): x1 y1 x2 y2 score class, best score first.
    """
    load()
    from ultralytics.utils.nms import non_max_suppression

    unhurried = 1e9  # seconds an image; by default it gives up after 2 s and hands back empty images
    return non_max_suppression(
        decoded, score_threshold, iou_threshold, max_det=max_detections, multi_label=multi_label, max_time_img=unhurried
    )


# Its trainer and validator
# --------------------------------------------------------------------------------------------------


class Epoch(NamedTuple):
    """State at the end of one epoch; seconds and images count from the start of training.

    Attributes:
        number: 1 for the first.
        images: images trained on so far.
        wall_seconds: training, validation and saving.
        training_seconds: the training loop alone, loading included.
        map50, map50_95: of the moving average of the weights, on the validation split.
    """

    number: int
    images: int
    wall_seconds: float
    training_seconds: float
    map50: float
    map50_95: float


@dataclass
class FitResult:
    """What a run of Ultralytics' trainer did, and how fast.

    Attributes:
        history: one entry per epoch; the last may be a part of an epoch where the budget ended it.
        seconds: from the first batch to the end of the last epoch.
        total_seconds: the same with set-up before and the evaluation of the best weights after.
        weights: `best.pt`.
        settings: what decides whether a comparison is fair, as it stood in the run: optimizer,
            threads, workers, …
    """

    history: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    total_seconds: float = 0.0
    weights: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Of the training loop alone."""
        return self.history[-1].images / self.history[-1].training_seconds if self.history else 0.0

    def seconds_to(self, map50: float) -> float | None:
        """Wall seconds until the validation first showed this mAP50; None if it never did."""
        return next((epoch.wall_seconds for epoch in self.history if epoch.map50 >= map50), None)


def fit(
    data_yaml: str | Path,
    epochs: int = 100,
    imgsz: int = 640,
    batch: int = 16,
    seed: int = 0,
    project: str | Path | None = None,
    callback: Callable[[Epoch], None] | None = None,
    *,
    size: str = "n",
    stop_at_map50: float | None = None,
    budget_seconds: float | None = None,
    threads: int | None = None,
    **overrides: Any,
) -> FitResult:
    """Run Ultralytics' own trainer from random weights on the CPU, with its own defaults.

    Only the plots are off and no weights are loaded. Its learning rate falls over `epochs`, so give
    the number that a user would and let `stop_at_map50` or `budget_seconds` end the run early.

    Args:
        data_yaml: a data set in YOLO layout.
        project: folder for the run; a temporary one that stays by default.
        callback: called with each `Epoch`.
        size: n, s, m, l or x.
        stop_at_map50: end after the epoch whose validation shows this much.
        budget_seconds: end, with a validation, after the batch that passes this many wall seconds.
        threads: of torch. None leaves Ultralytics' own choice: one less than there are cores, at
            most 8.
        overrides: any of its settings, for example optimizer="SGD", mosaic=0.0, cache="ram".
            `workers` counts too, though on a CPU Ultralytics itself would set it to 0.
    """
    begin = time.perf_counter()
    load()
    from ultralytics.models.yolo.detect import DetectionTrainer

    settings = dict(
        model=f"yolov8{size}.yaml",
        data=str(Path(data_yaml).resolve()),
        epochs=epochs,
        imgsz=imgsz,
        batch=batch,
        seed=seed,
        device="cpu",
        pretrained=False,
        plots=False,
        project=str(Path(project or tempfile.mkdtemp(prefix="yolostudy-ultralytics-")).resolve()),
    )
    result = FitResult()
    with _process_as_found():
        cv2.setNumThreads(0)  # as Ultralytics sets it on import
        trainer = DetectionTrainer(overrides=settings | overrides)
        if "workers" in overrides:
            trainer.args.workers = overrides["workers"]
        if threads is not None:
            torch.set_num_threads(threads)
        stopwatch = _Stopwatch(result, callback, stop_at_map50, budget_seconds)
        for event in ("train_start", "train_epoch_start", "train_batch_end", "train_epoch_end", "fit_epoch_end"):
            trainer.add_callback(f"on_{event}", getattr(stopwatch, event))
        trainer.train()
        result.settings = {
            name: getattr(trainer.args, name)
            for name in ("optimizer", "lr0", "workers", "cache", "mosaic", "close_mosaic")
        }
        result.settings |= {"threads": torch.get_num_threads(), "amp": trainer.amp, "batch": trainer.batch_size}
    result.weights = trainer.best
    result.total_seconds = time.perf_counter() - begin
    return result


class _Stopwatch:
    """Ultralytics' callbacks, each named after its event; they fill a `FitResult` and may set
    `trainer.stop`.
    """

    def __init__(
        self, result: FitResult, callback: Callable | None, stop_at_map50: float | None, budget_seconds: float | None
    ):
        self.result, self.callback, self.stop_at_map50, self.budget_seconds = (
            result,
            callback,
            stop_at_map50,
            budget_seconds,
        )
        self.images, self.training_seconds, self.open = 0, 0.0, False

    def train_start(self, trainer: Any) -> None:
        self.begin = time.perf_counter()

    def train_epoch_start(self, trainer: Any) -> None:
        self.lap, self.batches, self.open = time.perf_counter(), 0, True

    def train_batch_end(self, trainer: Any) -> None:
        self.batches += 1
        if self.budget_seconds is not None and time.perf_counter() - self.begin >= self.budget_seconds:
            trainer.stop = True

    def train_epoch_end(self, trainer: Any) -> None:
        self.training_seconds += time.perf_counter() - self.lap
        self.images += min(self.batches * trainer.batch_size, len(trainer.train_loader.dataset))

    def fit_epoch_end(self, trainer: Any) -> None:
        if not self.open:  # fired once more after the run, for the best weights
            return
        self.open = False
        self.result.seconds = time.perf_counter() - self.begin
        scores = (trainer.metrics["metrics/mAP50(B)"], trainer.metrics["metrics/mAP50-95(B)"])
        epoch = Epoch(trainer.epoch + 1, self.images, self.result.seconds, self.training_seconds, *map(float, scores))
        self.result.history.append(epoch)
        if self.stop_at_map50 is not None and epoch.map50 >= self.stop_at_map50:
            trainer.stop = True
        if self.callback is not None:
            self.callback(epoch)


class Scores(NamedTuple):
    """Average precision by Ultralytics' validator; `per_class` is name -> AP at 0.50, for the
    classes that occur.
    """

    map50: float
    map50_95: float
    per_class: dict[str, float]


def validate(
    model: nn.Module | str | Path, data_yaml: str | Path, imgsz: int = 640, batch: int = 16, **overrides: Any
) -> Scores:
    """Average precision of a `DetectionModel` or a `.pt` file on the validation split, by
    Ultralytics' validator on the CPU.
    """
    load()
    from ultralytics.models.yolo.detect import DetectionValidator

    settings = dict(data=str(Path(data_yaml).resolve()), imgsz=imgsz, batch=batch, device="cpu", plots=False)
    with _process_as_found(), tempfile.TemporaryDirectory() as folder:
        cv2.setNumThreads(0)
        validator = DetectionValidator(save_dir=Path(folder), args=settings | overrides)
        stats = validator(model=model if isinstance(model, nn.Module) else str(model))
    box = validator.metrics.box
    per_class = {validator.names[int(index)]: float(ap) for index, ap in zip(box.ap_class_index, box.ap50, strict=True)}
    return Scores(stats["metrics/mAP50(B)"], stats["metrics/mAP50-95(B)"], per_class)
