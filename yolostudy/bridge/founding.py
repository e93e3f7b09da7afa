"""The founding chain with the teacher in it, and the validator's life, read off a running epoch.

    seen = founding.taught_epoch("teacher.safetensors")
    lens.CallTree(seen.tree, seen.chains["the teacher"])
    print(seen)

Nothing here is told from memory: one epoch of Ultralytics' PoseTrainer runs with a teacher, every
call is recorded with stage 1's `record`, and the chains are looked up with its `path_between`.

Source: Ultralytics 8.4.190 `engine/trainer.py` _setup_train, _do_train, validate, final_eval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

from .. import trace
from ..distill import Teacher
from ..lens.calls import tree as call_tree
from . import scenes
from .distillation import teach

PACKAGES = ("ultralytics", "yolostudy.bridge", "yolostudy.distill", "yolostudy.network")
# name -> first and last call, as `trace.path_between` takes them
CHAINS = {
    "the criterion is made": ("BaseTrainer._do_train", "v8PoseLoss.__init__"),
    "the labels' loss": ("BaseTrainer._do_train", "v8PoseLoss.__call__"),
    "the teacher": ("BaseTrainer._do_train", "PoseYOLO.forward"),
    "validation makes its own": ("BaseTrainer.validate", "PoseModel.init_criterion"),
}
# what happens, first and last call, what it may change
LIFE = (
    ("built, once", ("_do_train", "PoseTrainer.get_validator"), "nothing yet; it gets a copy of the settings"),
    (
        "the rate is set",
        ("_setup_train", "BaseTrainer._setup_scheduler"),
        "nothing of it, ever: a function of the epoch's number",
    ),
    ("after each epoch", ("_do_train", "PoseValidator.__call__"), "the metrics; it judges the averaged weights"),
    ("its fitness is noted", ("_do_train", "BaseTrainer.validate"), "`best_fitness`"),
    ("its fitness may end it", ("_do_train", "EarlyStopping.__call__"), "`stop`, when `patience` is over"),
    (
        "its fitness marks the best",
        ("_do_train", "BaseTrainer.save_model"),
        "`best.pt`, written when it is the best yet",
    ),
    ("the end: files are stripped", ("final_eval", "strip_optimizer"), "`last.pt` and `best.pt`: average only, half"),
    ("the end: the best is judged", ("final_eval", "PoseValidator.__call__"), "the metrics that are reported"),
)


class Moment(NamedTuple):
    """One moment of the validator's life.

    Attributes:
        what: what happens.
        chain: the calls that lead there.
        may: what may change by it.
    """

    what: str
    chain: list
    may: str

    def __str__(self) -> str:
        return f"{self.what:<28}{_way(self.chain):<58}{self.may}"


@dataclass
class TaughtEpoch:
    """One recorded epoch.

    Attributes:
        tree: the `Call` of `BaseTrainer.train`, with all calls inside.
        chains: name -> calls from the training loop to the place of that name.
        life: the validator's moments, in the order in which they come.
    """

    tree: Any
    chains: dict[str, list]
    life: list[Moment]

    @property
    def picture(self) -> Any:
        """The tree with nothing in it but the chains, for `lens.draw_tree` and `call_tree`."""
        return only(self.tree, self.chains.values())

    def __str__(self) -> str:
        return "\n".join([call_tree.as_text(self.picture, depth=12, times=False), "", *map(str, self.life)])


def taught_epoch(
    teacher: str | Path | nn.Module | Teacher,
    tracer: ModuleType = trace,
    teaching: dict | None = None,
    **overrides: Any,
) -> TaughtEpoch:
    """Train Ultralytics' pose nano for one epoch on four pictures with a teacher, and record it.

    Args:
        teacher: as for `distillation.teach`, for planes' twenty classes and four keypoints.
        tracer: the module with `record` and `path_between`; another edition's may be given.
        teaching: other arguments of `teach`.
        overrides: any of Ultralytics' settings.

    It takes about four seconds.
    """
    with scenes.trainer("pose", **overrides) as trainer:
        teach(trainer, teacher, **teaching or {})
        root = tracer.record(trainer.train, packages=PACKAGES)
    chains = {name: tracer.path_between(root, *ends) for name, ends in CHAINS.items()}
    return TaughtEpoch(root.calls[0], chains, validator_life(root, tracer))


def validator_life(tree: Any, tracer: ModuleType = trace) -> list[Moment]:
    """The moments of the validator's life in a recorded training.

    Args:
        tree: the root that `record` returned for a PoseTrainer's `train`.
        tracer: the module with `path_between`.
    """
    return [Moment(what, tracer.path_between(tree, *ends), may) for what, ends, may in LIFE]


def only(tree: Any, chains: Iterable[Sequence]) -> Any:
    """A copy of a tree that has nothing but some chains of calls, and what is above them."""
    wanted = {id(call) for chain in chains for call in chain}

    def keep(call: Any) -> Any:
        inner = [kept for below in call.calls if (kept := keep(below)) is not None]
        return replace(call, calls=inner) if inner or id(call) in wanted else None

    return keep(tree) or replace(tree, calls=[])


def _way(chain: Sequence) -> str:
    """The chain in short names; `__call__` says nothing, so the object's class stands for it."""
    names = [call.function.rpartition(".")[2] for call in chain]
    short = [call.owner if name == "__call__" else name for call, name in zip(chain, names)]
    return " > ".join(name for k, name in enumerate(short) if short[k - 1 : k] != [name]) or "not called"
