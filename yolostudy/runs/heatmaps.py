"""Train the heatmap network of stage 10 on planes in a few minutes, and measure what it finds.

    train, validation = (runs.open_data("planes-mini", split) for split in ("train", "validation"))
    trained = heatmaps.train(train)
    print(heatmaps.measure(trained.model, heatmaps.build_loader(validation)))

The exercise's plain loss leaves the maps empty here: the peaks are one cell in a hundred, and zeros
everywhere cost almost nothing. Three things bring the peaks up, and none of them changes the
exercise: `PeakWeight` counts a peak more than empty ground, the tag losses get factors that match,
and backbone and neck start from a detector's and learn along.

By the defaults, eight epochs of fp32 took 312 processor seconds on one thread of a busy machine.
On the 200 validation images 81 % of the keypoints were then within 6 px, the median error was
1.6 px, and 60 % of the aircraft had all four keypoints in one person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .. import hooks
from ..blocks import ConvModule, CSPLayer_2Conv
from ..data.augment import Augmentation
from ..data.heatmaps import HeatmapTargets, make_heatmap_loader
from ..data.loader import Loader
from ..data.records import DetectionSet
from ..engine import Hook, Trainer
from ..heatmaps import HeatmapGenerator, HeatmapParts, JointsGenerator, MultiLoss, group_keypoints
from ..network import SIZES, Backbone, Neck
from ..training import Precision, WarmupCosine, build_optimizer, to_unit, train_step
from . import builders
from .folders import SHIPPED

STRIDES = (4, 2)  # pixels per cell of the two maps
FROM_ABOVE = Augmentation(flip_lr=0.5, flip_ud=0.5, quarter_turns=True)


@dataclass(frozen=True)
class Recipe:
    """What the training depends on. The values were found on planes-mini.

    Attributes:
        image_size: side in pixels, a multiple of 32.
        sigmas: of the peaks, in cells of the two maps.
        peak_weight: how much more a cell at a peak counts than one far from it.
        tag_factor: of pull and push. kind: that of `associative_embedding`.
        max_people: rows of the joints.
        epochs, minutes: when to stop; if minutes are given, epochs do not count.
        rate, weight_decay, warmup, batch: of AdamW, as those of the detector's presets.
        ema: decay of the averaged weights.
        weights: a detector of the same size, for backbone and neck; empty starts from random ones.
    """

    image_size: int = 160
    sigmas: tuple[float, float] = (1.0, 2.0)
    peak_weight: float = 20.0
    tag_factor: float = 0.2
    kind: str = "max"
    max_people: int = 30
    epochs: int = 8
    minutes: float | None = None
    rate: float = 3e-3
    weight_decay: float = 5e-4
    warmup: int = 30
    batch: int = 12
    ema: float = 0.99
    seed: int = 0
    size: str = "n"
    weights: str | Path = SHIPPED / "planes-n-mini.safetensors"


# The network
# --------------------------------------------------------------------------------------------------


class HeatmapNetwork(nn.Module):
    """Backbone and neck of the detector, and two maps that are finer: 1/4 and 1/2 of the image.

        P2 ─────────────────────────── csp ─┬─ heatmaps ─┬────── coarse: heatmaps, tags (1/4)
        neck ─ X ─┬─ + context ─── up ──┘   ├─ tags ─────┘
             └ Y ─┘                         └─ with both ─ up ── fine: heatmaps (1/2)

    Whether a wing tip is the left or the right one is seen at the nose, 30 pixels away. `context`
    looks that far: six 3 × 3 convolutions at an eighth of the image. Without it, both wing maps
    still had half a peak at both wing tips after 450 steps.

    The tag branch also gets two maps with the position x and y, from -1 to 1. The same aircraft
    twice must get two tags, and a convolution alone hardly knows where it is.

    Args:
        num_keypoints: K.
        size: n, s, m, l or x.
        width, fine_width: channels at a quarter and at a half of the image.

    Attributes:
        backbone, neck: those of the detector; pretrained weights look for these names.

    Shape:
        images (B, 3, H, W) in 0…1, H and W multiples of 32
        -> [(B, 2·K, H/4, W/4) heatmaps and tags, (B, K, H/2, W/2) heatmaps]

    Sources: Cheng et al. 2020, HigherHRNet, for the two resolutions; Liu et al. 2018, CoordConv,
    for the positions.
    """

    def __init__(self, num_keypoints: int, size: str = "n", width: int = 32, fine_width: int = 16):
        super().__init__()
        self.num_keypoints, self.size = num_keypoints, size
        self.backbone = Backbone(SIZES[size])
        p2, *channels = self.backbone.channels
        self.neck = Neck(tuple(channels), SIZES[size])
        self.context = CSPLayer_2Conv(channels[0] + channels[1], channels[0], repeats=3, shortcut=True)
        self.csp = CSPLayer_2Conv(channels[0] + p2, width)
        self.heatmaps = nn.Conv2d(width, num_keypoints, 1)
        tag_width = width // 2
        self.tags = nn.Sequential(
            ConvModule(width + 2, tag_width, 3),
            ConvModule(tag_width, tag_width, 3),
            nn.Conv2d(tag_width, num_keypoints, 1),
        )
        self.reduce = ConvModule(width + 2 * num_keypoints, fine_width)
        self.fine = nn.Sequential(ConvModule(fine_width, fine_width, 3), nn.Conv2d(fine_width, num_keypoints, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        p2, *maps = self.backbone(images)
        _, x, y, _ = self.neck(*maps)
        x = x + self.context(torch.cat((x, F.interpolate(y, scale_factor=2.0)), dim=1))
        path = self.csp(torch.cat((F.interpolate(x, scale_factor=2.0), p2), dim=1))
        tags = self.tags(torch.cat((path, positions(path)), dim=1))
        coarse = torch.cat((self.heatmaps(path), tags), dim=1)
        fine = self.reduce(torch.cat((path, coarse), dim=1))
        return [coarse, self.fine(F.interpolate(fine, scale_factor=2.0))]


def positions(maps: Tensor) -> Tensor:
    """(B, 2, h, w): x and y of each cell of maps (B, C, h, w), from -1 to 1."""
    y, x = (torch.linspace(-1, 1, side, device=maps.device, dtype=maps.dtype) for side in maps.shape[2:])
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(len(maps), -1, -1, -1)


# Building the other parts
# --------------------------------------------------------------------------------------------------


class PeakWeight(nn.Module):
    """A loss whose masks also say how much a cell counts: 1 on empty ground, 1 + weight at a peak.

        mask · (1 + weight · max over K of the heatmap)

    All K maps share the mask, so the wing tip's map is also asked the more where the nose is.

    Args:
        loss: (outputs, targets) -> `HeatmapParts`.
    """

    def __init__(self, loss: nn.Module, weight: float):
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(self, outputs: Sequence[Tensor], targets: HeatmapTargets) -> HeatmapParts:
        pairs = zip(targets.masks, targets.heatmaps, strict=True)
        masks = [mask * (1 + self.weight * maps.amax(dim=1)) for mask, maps in pairs]
        return self.loss(outputs, replace(targets, masks=masks))


def build_loader(
    detection_set: DetectionSet, recipe: Recipe | None = None, training: bool = False, workers: int | str = "auto"
) -> Loader:
    """Batches of images, heatmaps, masks and joints; shuffled, mirrored and turned for training."""
    recipe = recipe or Recipe()
    sizes, count = [recipe.image_size // stride for stride in STRIDES], len(detection_set.keypoint_names)
    return make_heatmap_loader(
        detection_set,
        recipe.image_size,
        recipe.batch,
        [HeatmapGenerator(size, count, sigma) for size, sigma in zip(sizes, recipe.sigmas, strict=True)],
        [JointsGenerator(recipe.max_people, count, size) for size in sizes],
        augmentation=FROM_ABOVE if training else None,
        shuffle=training,
        drop_last=training and len(detection_set) >= recipe.batch,
        seed=recipe.seed,
        workers=workers,
    )


def build_model(detection_set: DetectionSet, recipe: Recipe | None = None) -> HeatmapNetwork:
    """A new network on the CPU, backbone and neck from the recipe's weights."""
    recipe = recipe or Recipe()
    torch.manual_seed(recipe.seed)
    model = HeatmapNetwork(len(detection_set.keypoint_names), recipe.size)
    if recipe.weights:
        builders.start_from(model, recipe.weights, detection_set.class_names)
    return model.to(memory_format=torch.channels_last)


def build_loss(num_keypoints: int, recipe: Recipe | None = None) -> PeakWeight:
    """The exercise's loss with the recipe's factors, and its masks weighed."""
    recipe = recipe or Recipe()
    factors = [recipe.tag_factor] * len(STRIDES)
    loss = MultiLoss(num_keypoints, pull_factors=factors, push_factors=factors, kind=recipe.kind)
    return PeakWeight(loss, recipe.peak_weight)


# Training
# --------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """The trainer after its last step, and the averaged network, which is the one to measure."""

    trainer: Trainer
    model: nn.Module


def train(
    train_set: DetectionSet,
    recipe: Recipe | None = None,
    extra_hooks: Sequence[Hook] = (),
    device: str = "auto",
    precision: str = "auto",
) -> Trained:
    """Train by the recipe with the course's trainer and `train_step`.

    Args:
        extra_hooks: such as `hooks.Progress()`; they act last.
        precision: see `Precision`.
    """
    recipe = recipe or Recipe()
    device = builders.choose_device(device)
    model = build_model(train_set, recipe).to(device)
    averaging = hooks.Averaging(model, recipe.ema, ramp=50)
    trainer = Trainer(
        model,
        build_loss(len(train_set.keypoint_names), recipe),
        build_loader(train_set, recipe, training=True),
        build_optimizer(model, recipe.rate, recipe.weight_decay),
        train_step,
        Precision(device, precision),
        [hooks.NaNGuard(None), hooks.Schedule(WarmupCosine(recipe.warmup)), averaging, *extra_hooks],
        recipe.epochs,
        recipe.minutes,
    )
    trainer.train()
    return Trained(trainer, averaging.average.model)


# Files
# --------------------------------------------------------------------------------------------------


def save(path: Path, model: HeatmapNetwork, keypoint_names: Sequence[str], recipe: Recipe, half: bool = False) -> None:
    """Write the weights with a card that says what `load` needs, and the recipe."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(recipe).items()}
    settings["weights"] = Path(settings["weights"]).name  # no folder of this machine
    card = {"kind": "heatmaps", "keypoint_names": list(keypoint_names), "recipe": settings}
    hooks.save_weights(path, model, card, half)


def load(path: str | Path) -> HeatmapNetwork:
    """The network of a file that `save` wrote, in eval mode.

    Errors: FileNotFoundError, or ValueError for a file of another kind.
    """
    weights, card = hooks.load_weights(path)
    if card.get("kind") != "heatmaps":
        raise ValueError(f"{path}: these are no weights of a heatmap network. Give a file that heatmaps.save wrote.")
    model = HeatmapNetwork(len(card["keypoint_names"]), card["recipe"]["size"])
    model.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    )
    return model.eval()


# Finding keypoints, and measuring
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict_maps(model: nn.Module, images: Tensor, precision: Precision | None = None) -> tuple[Tensor, Tensor]:
    """Heatmaps and tags at the finer resolution, averaged over both as HigherHRNet does.

    Args:
        images: (B, 3, H, W) uint8.

    Returns:
        (B, K, H/2, W/2) twice. Afterwards the model is in the mode that it was in before.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    with (precision or Precision(device, "fp32")).autocast():
        coarse, fine = model(to_unit(images, device))
    model.train(was_training)
    coarse = F.interpolate(coarse.float(), size=fine.shape[2:], mode="bilinear", align_corners=False)
    heatmaps, tags = coarse.chunk(2, dim=1)
    return (heatmaps + fine.float()) / 2, tags


def predict(
    model: nn.Module, images: Tensor, threshold: float = 0.4, precision: Precision | None = None
) -> list[np.ndarray]:
    """The people (here: aircraft) in each image: (people, K, 4) x y in pixels, score, tag.

    Args:
        images: (B, 3, H, W) uint8.
        threshold: see `group_keypoints`. Weighed training also leaves low peaks on uncertain
            ground, so it is higher than that default.
    """
    found = []
    for heatmaps, tags in zip(*predict_maps(model, images, precision), strict=True):
        people = group_keypoints(heatmaps, tags, threshold=threshold)
        found.append(people * np.float32([STRIDES[-1], STRIDES[-1], 1, 1]))
    return found


@dataclass(frozen=True)
class Measured:
    """How well the keypoints of a set were found. Printed, it is one sentence.

    Attributes:
        errors: (joints,) pixels between each annotated keypoint and the one found for it; infinite
            where none was.
        aircraft, people: annotated, and found.
        whole: share of aircraft whose keypoints all lie within 10 px in one and the same person.
    """

    errors: np.ndarray
    aircraft: int
    people: int
    whole: float

    @property
    def median(self) -> float:
        """Median error in pixels of the keypoints found; NaN if there is none."""
        found = self.errors[np.isfinite(self.errors)]
        return float(np.median(found)) if len(found) else float("nan")

    def within(self, pixels: float) -> float:
        """Share of all annotated keypoints that were found closer than that."""
        return float((self.errors < pixels).mean()) if len(self.errors) else float("nan")

    def __str__(self) -> str:
        return (
            f"{self.within(6):.0%} of {len(self.errors)} keypoints within 6 px, {self.within(10):.0%} within 10 px; "
            f"median {self.median:.1f} px; {self.whole:.0%} of {self.aircraft} aircraft whole "
            f"({self.people} people found)"
        )


def compare(people: np.ndarray, keypoints: np.ndarray, near: float = 10.0) -> np.ndarray:
    """Errors of one image: match people to aircraft, then measure keypoint by keypoint.

    The matching is one to one. It makes the number of keypoints closer than `near` as large as
    possible, and among equals prefers small errors.

    Args:
        people: (P, K, 4) as of `predict`. keypoints: (G, K, 3) x y in pixels, visibility.

    Returns:
        (G, K) pixels; infinite where nothing was found, NaN where nothing is annotated.
    """
    distance = np.linalg.norm(people[None, ..., :2] - keypoints[:, None, :, :2], axis=-1)  # (G, P, K)
    distance = np.where(people[None, ..., 2] > 0, distance, np.inf)
    annotated = keypoints[..., 2] > 0  # (G, K)
    close = np.exp(-distance / near) / keypoints.shape[1] / 2
    gain = (((distance < near) + close) * annotated[:, None]).sum(axis=-1)
    errors = np.full(annotated.shape, np.inf)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    errors[rows] = distance[rows, columns]
    return np.where(annotated, errors, np.nan)


def measure(
    model: nn.Module, loader: Loader, threshold: float = 0.4, near: float = 10.0, precision: Precision | None = None
) -> Measured:
    """Find the keypoints of a loader's images, group them by tags, and compare with the truth."""
    errors, people = [], 0
    for batch in loader:
        for found, truth in zip(predict(model, batch.images, threshold, precision), batch.keypoints, strict=True):
            people += len(found)
            errors.append(compare(found, truth.numpy(), near))
    errors = np.concatenate(errors)  # (aircraft, K)
    annotated = ~np.isnan(errors)
    seen = annotated.any(axis=1)
    whole = (errors < near)[seen] | ~annotated[seen]
    return Measured(errors[annotated], int(seen.sum()), people, float(whole.all(axis=1).mean()) if len(whole) else 0.0)
