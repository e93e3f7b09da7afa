"""A training engine in the shape of detectron2's, small, on a network that trains in a second.

`TrainerBase` is a loop over iterations with hooks, and knows neither model nor data. `SimpleTrainer`
gives it one step. `DefaultTrainer` builds everything from a configuration, and hands each step to a
`SimpleTrainer` that it owns, `_trainer`. There are no epochs.

Names, order and conditions are those of detectron2 0.6, `engine/train_loop.py`, `engine/defaults.py`
and `engine/hooks.py`; the code is ours. What differs: the network sorts small images by their
brightest colour, and checkpoints, scalars and evaluation are small.
"""

from __future__ import annotations

import math
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class EventStorage:
    """Scalars of a training by name: lists of (iteration, value)."""

    current: ClassVar[list[EventStorage]] = []  # `get_event_storage` gives the innermost

    def __init__(self, start_iter: int = 0):
        self.iter, self.history = start_iter, {}

    def put_scalar(self, name: str, value: float, cur_iter: int | None = None) -> None:
        self.history.setdefault(name, []).append((self.iter if cur_iter is None else cur_iter, float(value)))

    def __enter__(self) -> EventStorage:
        self.current.append(self)
        return self

    def __exit__(self, *_) -> None:
        self.current.pop()


def get_event_storage() -> EventStorage:
    return EventStorage.current[-1]


# ---- hooks ---------------------------------------------------------------------------------------


class HookBase:
    """What takes part in training. The trainer sets `trainer`, a weak proxy, when it registers it."""

    trainer: TrainerBase = None

    def before_train(self) -> None: ...
    def after_train(self) -> None: ...
    def before_step(self) -> None: ...
    def after_backward(self) -> None: ...
    def after_step(self) -> None: ...
    def state_dict(self) -> dict:
        return {}


class IterationTimer(HookBase):
    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        self.trainer.storage.put_scalar("time", time.perf_counter() - self.started)


class LRScheduler(HookBase):
    """Note the rate of the step that was done, then set that of the next."""

    def after_step(self) -> None:
        self.trainer.storage.put_scalar("lr", self.trainer.scheduler.get_last_lr()[0])
        self.trainer.scheduler.step()

    def state_dict(self) -> dict:
        return self.trainer.scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.trainer.scheduler.load_state_dict(state)


class Periodic(HookBase):
    def __init__(self, period: int, act: Callable):
        self.period, self.act = period, act

    def is_due(self) -> bool:
        return self.period > 0 and (self.trainer.iter + 1) % self.period == 0


class PreciseBN(Periodic):
    """Measure the statistics of all normalisation layers anew, with the weights as they now are."""

    def after_step(self) -> None:
        if self.is_due() or self.trainer.iter + 1 == self.trainer.max_iter:
            self.act()


class PeriodicCheckpointer(Periodic):
    def after_step(self) -> None:
        if self.is_due():
            self.act(f"model_{self.trainer.iter:07d}")
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.act("model_final")


class EvalHook(Periodic):
    def after_step(self) -> None:
        if self.is_due() and self.trainer.iter + 1 != self.trainer.max_iter:
            self.evaluate()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:  # not after a failed training
            self.evaluate()

    def evaluate(self) -> None:
        for name, value in self.act().items():
            self.trainer.storage.put_scalar(name, value)


class PeriodicWriter(Periodic):
    def after_step(self) -> None:
        if self.is_due() or self.trainer.iter == self.trainer.max_iter - 1:
            self.act(self.trainer.storage)

    def after_train(self) -> None:
        self.act(self.trainer.storage)  # what the last evaluation wrote


# ---- trainers ------------------------------------------------------------------------------------


class TrainerBase:
    """A loop with hooks. `iter` is the current iteration; after success it is `max_iter`."""

    def __init__(self):
        self._hooks: list[HookBase] = []
        self.iter = self.start_iter = 0

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        hooks = [hook for hook in hooks if hook is not None]
        for hook in hooks:
            if not isinstance(hook, HookBase):
                raise TypeError(f"{hook!r} is no HookBase: register an instance of a subclass of it.")
            hook.trainer = weakref.proxy(self)  # hook and trainer must not own each other
        self._hooks.extend(hooks)

    def train(self, start_iter: int, max_iter: int) -> None:
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter += 1  # so after_train can tell success from failure
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Called by `run_step`, so with a DefaultTrainer only hooks of its `_trainer` are told."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError("a subclass of TrainerBase has to define run_step.")

    def state_dict(self) -> dict:
        """The iteration, and the states of hooks by class name: of two of one class the first's."""
        states: dict[str, dict] = {}
        for hook in self._hooks:
            if (state := hook.state_dict()) and type(hook).__qualname__ not in states:
                states[type(hook).__qualname__] = state
        return {"iteration": self.iter, "hooks": states}

    def load_state_dict(self, state_dict: dict) -> None:
        self.iter = state_dict["iteration"]
        for name, state in state_dict["hooks"].items():
            first = next((hook for hook in self._hooks if type(hook).__qualname__ == name), None)
            if first is not None:
                first.load_state_dict(state)


class SimpleTrainer(TrainerBase):
    """One model, one loader, one optimizer. The model returns a dict of losses in training."""

    def __init__(self, model: nn.Module, data_loader, optimizer: torch.optim.Optimizer):
        super().__init__()
        model.train()
        self.model, self.data_loader, self.optimizer = model, data_loader, optimizer
        self._data_loader_iter = iter(data_loader)

    def run_step(self) -> None:
        if not self.model.training:
            raise AssertionError("[SimpleTrainer] the model was switched to eval mode.")
        data = next(self._data_loader_iter)
        loss_dict = self.model(data)
        losses = sum(loss_dict.values())
        self.optimizer.zero_grad()
        losses.backward()
        self.after_backward()
        self._write_metrics(loss_dict)
        self.optimizer.step()

    def _write_metrics(self, loss_dict: dict[str, Tensor]) -> None:
        values = {name: float(value.detach()) for name, value in loss_dict.items()}
        if not math.isfinite(sum(values.values())):
            raise FloatingPointError(f"The loss is not finite at iteration {self.iter}: {values}.")
        for name, value in {**values, "total_loss": sum(values.values())}.items():
            get_event_storage().put_scalar(name, value, self.iter)

    def state_dict(self) -> dict:
        return super().state_dict() | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class DefaultTrainer(TrainerBase):
    """Model, optimizer, loader, schedule and hooks from a configuration, built in this order."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = SimpleTrainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, weakref.proxy(self))
        self.model, self.cfg, self.max_iter = model, cfg, cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the last checkpoint if there is one, else load MODEL.WEIGHTS if that is set.

        A checkpoint holds the iteration that was finished, so training goes on at the next.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase | None]:
        """Hooks in the order in which they are called at each moment.

        Precise statistics come before the checkpoint, which saves them. Evaluation comes after it:
        if it fails, the checkpoint exists. Writers come last and write the evaluation's figures.
        """
        cfg = self.cfg

        def test_and_save_results() -> dict[str, float]:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        return [
            IterationTimer(),
            LRScheduler(),
            PreciseBN(cfg.TEST.EVAL_PERIOD, self.update_bn_stats) if cfg.TEST.PRECISE_BN else None,
            PeriodicCheckpointer(cfg.SOLVER.CHECKPOINT_PERIOD, self.checkpointer.save),
            EvalHook(cfg.TEST.EVAL_PERIOD, test_and_save_results),
            *(PeriodicWriter(20, writer) for writer in self.build_writers()),
        ]

    def build_writers(self) -> list[Callable[[EventStorage], None]]:
        self.written: list[int] = []
        return [lambda storage: self.written.append(storage.iter)]

    def train(self) -> dict[str, float]:
        super().train(self.start_iter, self.max_iter)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter  # without this line its metrics would land at iteration 0
        self._trainer.run_step()

    def update_bn_stats(self) -> None:
        with torch.no_grad():
            for batch in self.build_test_loader(self.cfg, "small"):
                self.model(batch)

    def state_dict(self) -> dict:
        return super().state_dict() | {"_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        torch.manual_seed(1)
        return SmallNetwork(**SmallNetwork.from_config(cfg))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), cfg.SOLVER.BASE_LR, momentum=0.9)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer):
        """A step to a tenth at three quarters of the iterations."""
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [cfg.SOLVER.MAX_ITER * 3 // 4])

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        """Batches without end: lists of dicts with an image (3, 16, 16) and its label."""
        random = torch.Generator().manual_seed(0)
        while True:
            yield [_sorted_image(random) for _ in range(cfg.SOLVER.IMS_PER_BATCH)]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> list[list[dict]]:
        random = torch.Generator().manual_seed(1)
        return [[_sorted_image(random) for _ in range(32)] for _ in range(2)]

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Callable[[list[dict], Tensor], list[bool]]:
        return lambda inputs, outputs: (outputs.argmax(1) == _labels(inputs)).tolist()

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> dict[str, float]:
        evaluator, was_training = cls.build_evaluator(cfg, "small"), model.training
        model.eval()
        with torch.no_grad():
            right = [hit for batch in cls.build_test_loader(cfg, "small") for hit in evaluator(batch, model(batch))]
        model.train(was_training)
        return {"accuracy": sum(right) / len(right)}


# ---- parts ---------------------------------------------------------------------------------------


class Checkpointer:
    """Files of a run: `NAME.pth` with model and trainer, and `last_checkpoint`, which names one."""

    def __init__(self, model: nn.Module, save_dir: str, trainer: TrainerBase):
        self.model, self.folder, self.trainer = model, Path(save_dir), trainer

    def save(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"model": self.model.state_dict(), "trainer": self.trainer.state_dict()}
        torch.save(state | {"iteration": self.trainer.iter}, self.folder / f"{name}.pth")
        (self.folder / "last_checkpoint").write_text(f"{name}.pth")

    def has_checkpoint(self) -> bool:
        return (self.folder / "last_checkpoint").exists()

    def resume_or_load(self, path: str, resume: bool = True) -> None:
        if resume and self.has_checkpoint():
            name = (self.folder / "last_checkpoint").read_text()
            state = torch.load(self.folder / name, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.trainer.load_state_dict(state["trainer"])
        elif path:
            self.model.load_state_dict(torch.load(path, weights_only=True)["model"])


class SmallNetwork(nn.Module):
    """Sort images by their brightest colour.

    Mean and deviation of the pixels are buffers: they follow the model to its device, no optimizer
    sees them, and with persistent=False they are in no checkpoint.
    """

    def __init__(self, pixel_mean: Sequence[float], pixel_std: Sequence[float], input_format: str, vis_period: int):
        super().__init__()
        self.input_format, self.vis_period = input_format, vis_period
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        layers = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.layers = nn.Sequential(*layers, nn.Linear(8, 3))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        names = {"input_format": cfg.INPUT.FORMAT, "vis_period": cfg.VIS_PERIOD}
        return names | {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | Tensor:
        """In training the losses by name, else the logits (B, 3)."""
        images = torch.stack([one["image"] for one in batched_inputs]).float()
        logits = self.layers((images - self.pixel_mean) / self.pixel_std)
        return {"loss_cls": cross_entropy(logits, _labels(batched_inputs))} if self.training else logits


def _labels(inputs: list[dict]) -> Tensor:
    return torch.tensor([one["label"] for one in inputs])


def _sorted_image(random: torch.Generator) -> dict:
    label = int(torch.randint(3, (), generator=random))
    image = torch.randint(0, 160, (3, 16, 16), generator=random, dtype=torch.uint8)
    image[label] += 60
    return {"image": image, "label": label}


class CfgNode(dict):
    """A dict whose entries are attributes too."""

    __getattr__, __setattr__ = dict.__getitem__, dict.__setitem__


def get_cfg(output_dir: str | Path = "", max_iter: int = 40) -> CfgNode:
    """The defaults: detectron2's names, for a run of a second."""
    cfg = CfgNode(OUTPUT_DIR=str(output_dir), VIS_PERIOD=0)
    cfg.MODEL = CfgNode(WEIGHTS="", PIXEL_MEAN=[100.0] * 3, PIXEL_STD=[50.0] * 3)
    cfg.INPUT = CfgNode(FORMAT="BGR")
    cfg.SOLVER = CfgNode(MAX_ITER=max_iter, BASE_LR=0.05, IMS_PER_BATCH=16, CHECKPOINT_PERIOD=20)
    cfg.TEST = CfgNode(EVAL_PERIOD=20, PRECISE_BN=True)
    return cfg


def main() -> None:
    """One step, to be traced: `yolostudy trace course.engines.detectron2_engine:main`."""
    with tempfile.TemporaryDirectory() as folder:
        DefaultTrainer(get_cfg(folder, max_iter=1)).train()
