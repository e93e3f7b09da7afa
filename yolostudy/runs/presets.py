"""What to train: a dataclass from dotted tags, such as `planes.nano.pretrained.cuda@0.batch@16`.

The first tag names the data, and each other tag sets one thing. `key=value` overrides tags. An
unknown tag or key is an error that lists the known ones. The founding assignment had dotted tags
already.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from ..data.planes import BASE, NOVEL
from .conflicts import EVALUATION, PresetError, check_epochs

if TYPE_CHECKING:
    from ..data.augment import Augmentation

PROFILES = {
    # 160-pixel images, for a processor with two cores. Seen from above a plane has no upright side,
    # so quarter turns and flips are augmentation enough.
    "mini": {
        "image_size": 160,
        "batch": 16,
        "minutes": 5.0,
        "quarter_turns": True,
        "flip_ud": 0.5,
        "rate": 3e-3,
        "cls_gain": 2.0,  # at this size boxes are learned in seconds, twenty classes are not
        "ema": 0.99,  # five minutes are about 2,000 steps; an average over 1,000 of them would lag behind
        "ema_ramp": 50.0,
        "validate_seconds": 25.0,
        "save_seconds": 10.0,
    },
    # 640-pixel images, for a graphics card with 8 GB; the sizes of the founding assignment
    "laptop": {
        "image_size": 640,
        "batch": 16,
        "epochs": 200,
        "quarter_turns": True,
        "flip_ud": 0.5,
        "mosaic": 0.5,
        "scale": 0.3,
        "translate": 0.1,
        "hsv_h": 0.015,
        "hsv_s": 0.5,
        "hsv_v": 0.3,
    },
}

TAGS = {
    "planes": {"data": "planes"},
    "mar20": {"data": "mar20", "profile": "laptop"},
    "nano": {"size": "n"},
    "small": {"size": "s"},
    "medium": {"size": "m"},
    "large": {"size": "l"},
    "xlarge": {"size": "x"},
    "mini": {"profile": "mini"},
    "laptop": {"profile": "laptop"},
    "pretrained": {"part": "backbone"},
    "frozen": {"freeze_epochs": 10},
    "base": {"classes": BASE},
    "teacher": {"classes": BASE},
    "novel": {"classes": NOVEL},
    "fewshot": {"split": "small"},
    "distillation": {"split": "small", "feature": "cwd", "response": "bernoulli"},
    "pose": {"task": "pose"},
    "cpu": {"device": "cpu"},
}
TASKS = ("detect", "pose")
TAGS_WITH_VALUE = {
    "cuda": ("device", "cuda:{}"),
    "batch": ("batch", "{}"),
    "size": ("image_size", "{}"),
    "seed": ("seed", "{}"),
}


@dataclass(frozen=True)
class Preset:
    """Everything that a run depends on.

    Attributes:
        data: "planes", "mar20", or a path: a folder, a description, a COCO json, a YOLO data.yaml.
        profile: "mini", "laptop", or "auto", which is laptop with a CUDA card and mini without.
        task: "detect", or "pose" for keypoints too; the data must then have keypoints.
        split: of the training images. classes: names of the classes to keep; empty keeps all.
            on_bad: "fail" or "skip" bad entries.
        size: of the network: n, s, m, l or x. image_size: in pixels. batch: images per step.
            accumulate: steps per update.
        epochs, minutes: when to stop. If minutes is given it decides, and the schedule follows the
            clock.
        optimizer, rate, weight_decay, clip: of the update. cls_gain: gain of the class loss.
        pose_gain, visibility_gain: gains of the two keypoint losses. sigma, sigma_final: the σ of
            every keypoint in the loss, at the start and at the end of training. metric_sigma: the
            σ with which keypoints are measured; 0 takes COCO's for its 17 keypoints, else 0.05.
        schedule: "cosine" or "plateau". warmup: in steps. final: the last learning rate, as a
            fraction of `rate`.
        ema, ema_ramp: decay of the averaged weights and its ramp in updates; 0 for no average.
        patience: epochs without a better mAP50-95 before training stops early; 0 for never.
        precision: auto, fp32, bf16 or fp16. device: auto, cpu, cuda:0 ….
        weights: a file to start from. part: "all" of it, or its "backbone". freeze_epochs: for so
            many epochs the backbone does not learn.
        teacher: a file with a teacher's weights. The student starts from them too, unless `weights`
            names others.
        feature: loss on maps of the network: "cwd", "attention", or "" for none. feature_gain,
            feature_temperature: its gain and τ.
        layers: the submodules whose maps the feature loss compares.
        response: loss on class logits: "bernoulli", "softmax", or "" for none. response_gain,
            response_temperature: its gain and τ. keypoint_gain: in a pose run, of the loss on the
            teacher's keypoints; 0 for none.
        dfl_gain, dfl_temperature: of the loss on the teacher's distributions of distances, and its
            τ; a gain of 0 for none.
        distill_final: the factor on the teacher's gains at the end of training, reached along half
            a cosine; 1 keeps them.
        fuse_ab: whether a second branch, with anchors, learns beside the detector and is dropped;
            see `runs.anchor_aid`. anchor_gain: of its loss.
        warmup_momentum, warmup_bias_rate: momentum and rate of the biases at step 0, from which they
            go to their values during the warm-up; 0 for no such warm-up. With either, the rate of
            all others starts at 0, as in YOLOv6. A bias rate such as 0.1 is meant for optimizer=sgd.
        warmup_floor: the warm-up has at least so many steps, but never more than the run.
        nominal_batch: images that an update should see over all processes; 0 for no such number.
            The accumulation grows from 1 to it in the warm-up, and `weight_decay` is for it.
            scale_rate: whether `rate` is for that number too.
        ema_attributes: attributes of the model that the averaged model gets after each epoch.
        sync_bn: whether all processes normalise over their images together.
        validate_seconds, save_seconds: the least time between two validations, two checkpoints.
        workers, cache: of the loader; see `data.loader.make_loader`.
        flip_lr … hsv_v: of the augmentation; see `data.augment.Augmentation`.
        tensorboard: whether to write TensorBoard's files. name: of the run's folder.
        eval_interval: epochs between two validations. heavy_eval_range: within so many epochs of
            the end that interval is at most 3. eval_final_only: validate after the last epoch only.
        plain_epochs: for so many last epochs there is no strong augmentation: mosaic, degrees,
            scale and translate. The best weights of these epochs are `best_plain.safetensors`.
        keep_last: of so many last epochs the weights are kept, as `epoch_NNN.safetensors`.
        strip: at the end of training, leave only the averaged weights in `last.pt`, as float16.
        batch_pictures: epochs between two pictures of the training batch and of predictions in
            TensorBoard; 0 for one at each validation.
    """

    data: str = "planes"
    profile: str = "auto"
    task: str = "detect"
    split: str = "train"
    classes: tuple[str, ...] = ()
    on_bad: str = "fail"
    size: str = "n"
    image_size: int = 640
    batch: int = 16
    accumulate: int = 1
    epochs: int = 100
    minutes: float = 0.0
    optimizer: str = "adamw"
    rate: float = 2e-3
    weight_decay: float = 5e-4
    warmup: int = 60
    final: float = 0.02
    clip: float = 10.0
    cls_gain: float = 0.5
    pose_gain: float = 12.0
    visibility_gain: float = 1.0
    sigma: float = 0.2  # a smaller one at the start learns nothing: the gradient of a far keypoint vanishes
    sigma_final: float = 0.05
    metric_sigma: float = 0.0
    schedule: str = "cosine"
    ema: float = 0.999
    ema_ramp: float = 200.0
    patience: int = 0
    precision: str = "auto"
    device: str = "auto"
    weights: str = ""
    part: str = "all"
    freeze_epochs: int = 0
    teacher: str = ""
    feature: str = ""
    feature_gain: float = 10.0
    feature_temperature: float = 1.0
    layers: tuple[str, ...] = ("neck.csp_x", "neck.csp_y", "neck.csp_z")  # what the head reads
    response: str = ""
    response_gain: float = 300.0
    response_temperature: float = 1.0
    keypoint_gain: float = 5.0
    dfl_gain: float = 0.0
    dfl_temperature: float = 1.0
    distill_final: float = 1.0
    fuse_ab: bool = False
    anchor_gain: float = 1.0
    warmup_momentum: float = 0.0
    warmup_bias_rate: float = 0.0
    warmup_floor: int = 0
    nominal_batch: int = 0
    scale_rate: bool = False
    ema_attributes: tuple[str, ...] = ()
    sync_bn: bool = False
    seed: int = 0
    validate_seconds: float = 0.0
    save_seconds: float = 0.0
    workers: str = "auto"
    cache: str = "auto"
    flip_lr: float = 0.5
    flip_ud: float = 0.0
    quarter_turns: bool = False
    mosaic: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    tensorboard: bool = True
    name: str = ""
    # evaluation, and what is different near the end
    eval_interval: int = 1
    heavy_eval_range: int = 0
    eval_final_only: bool = False
    plain_epochs: int = 0
    keep_last: int = 0
    strip: bool = False
    batch_pictures: int = 0

    @property
    def data_name(self) -> str:
        """What `data.open_set` opens: the procedural planes are one data set per profile."""
        return f"planes-{self.profile}" if self.data == "planes" else self.data

    @property
    def augmentation(self) -> Augmentation:
        """How training images are changed."""
        from ..data.augment import Augmentation  # imports OpenCV

        hsv = (self.hsv_h, self.hsv_s, self.hsv_v)
        plain = ("mosaic", "flip_lr", "flip_ud", "quarter_turns", "degrees", "scale", "translate")
        return Augmentation(**{key: getattr(self, key) for key in plain}, hsv=hsv)

    @property
    def run_name(self) -> str:
        """The name of the run's folder: `name`, or one made from data, size, profile and seed."""
        data = self.data if self.data in ("planes", "mar20") else "own"
        task = "-pose" if self.task == "pose" else ""
        role = "-distilled" if self.teacher else "-base" if self.classes == BASE else ""
        return self.name or f"{data}-{self.size}{task}-{self.profile}{role}-s{self.seed}"


KEYS = {field.name: field for field in fields(Preset)}


def load(tags: str = "planes.nano", **overrides) -> Preset:
    """Compose a preset from dotted tags and keys.

    Args:
        tags: such as `planes.nano.batch@8`.
        overrides: keys with Python values, or with text as somebody typed it.

    Errors: PresetError for an unknown tag, key or value; it lists the known ones.
    """
    chosen: dict = {}
    for tag in tags.split("."):
        name, at, value = tag.partition("@")
        if at and name in TAGS_WITH_VALUE:
            key, pattern = TAGS_WITH_VALUE[name]
            chosen[key] = parse(key, pattern.format(value))
        elif not at and name in TAGS:
            chosen |= TAGS[name]
        else:
            known = [*TAGS, *(f"{name}@…" for name in TAGS_WITH_VALUE)]
            raise PresetError(f"unknown tag {tag!r} in {tags!r}{suggest(name, known)}. Known tags: {', '.join(known)}.")
    for key, value in overrides.items():
        if key not in KEYS:
            raise PresetError(f"unknown key {key!r}{suggest(key, KEYS)}. Known keys: {', '.join(KEYS)}.")
        chosen[key] = parse(key, value) if isinstance(value, str) else value
    profile = chosen.get("profile", "auto")
    if profile == "auto":
        profile = "laptop" if cuda_is_there(chosen.get("device", "auto")) else "mini"
    if profile not in PROFILES:
        raise PresetError(f"unknown profile {profile!r}. Known profiles: auto, {', '.join(PROFILES)}.")
    if chosen.get("task", "detect") not in TASKS:
        raise PresetError(f"task={chosen['task']}: unknown. Known tasks: {', '.join(TASKS)}.")
    settings = {**PROFILES[profile], **chosen, "profile": profile}
    if "epochs" in chosen and "minutes" not in chosen:
        settings["minutes"] = 0.0  # the profile's minutes must not end a run for which somebody asked epochs
    if chosen.keys() & set(EVALUATION) and "validate_seconds" not in chosen:
        settings["validate_seconds"] = 0.0  # nor its seconds skip a validation that somebody asked for
    preset = replace(Preset(), **settings)
    check_epochs(preset)
    return preset


def parse(key: str, text: str):
    """Read the value of a key from text; the error says which kind of value the key takes."""
    kind = type(KEYS[key].default)
    try:
        if kind is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind is str:
            return text
        value = ast.literal_eval(text)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (kind is int and value != int(value))
            or value < 0
        ):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, OverflowError, SyntaxError):
        kinds = {
            tuple: "names with commas between",
            bool: "true or false",
            int: "a whole number from 0",
            float: "a number from 0",
        }
        raise PresetError(f"{key}={text}: this takes {kinds[kind]}.") from None


def listing() -> str:
    """All tags, profiles and keys with their defaults, for `yolostudy train --list`."""

    def lines(table: dict[str, dict]) -> list[str]:
        return [
            f"  {name:<12} {', '.join(f'{key}={value}' for key, value in row.items())}" for name, row in table.items()
        ]

    tags, profiles = lines(TAGS), lines(PROFILES)
    tags += [f"  {name + '@…':<12} {key}={pattern.format('…')}" for name, (key, pattern) in TAGS_WITH_VALUE.items()]
    keys = [f"  {name:<17} {field.default if field.default not in ('', ()) else '-'}" for name, field in KEYS.items()]
    return "\n".join(["tags", *tags, "", "profiles", *profiles, "", "keys and their defaults", *keys])


def suggest(word: str, known) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def cuda_is_there(device: str) -> bool:
    if device.startswith("cuda"):
        return True
    if device != "auto":
        return False
    import torch

    return torch.cuda.is_available()


def to_dict(preset: Preset) -> dict:
    """The preset as plain values, for a run's `preset.json` and the card of its weights."""
    return asdict(preset)


def from_dict(values: dict) -> Preset:
    return Preset(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
