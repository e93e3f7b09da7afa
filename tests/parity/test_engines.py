"""The small engines behave as the engines they stand for, and the real ones have the same moments."""

import copy
import functools
import gc
import importlib.util
import weakref

import pytest
import torch
from torch import nn

from yolostudy.lens.calls.browser import recording
from yolostudy.views.engine import side_by_side
from yolostudy.views.engine.names import course_engine

names, traced, real = course_engine("names"), course_engine("traced"), course_engine("real_yolov6")
y6, d2 = course_engine("yolov6_engine"), course_engine("detectron2_engine")


def yolov6(folder, **changes):
    return y6.Trainer(y6.arguments(folder, **changes), y6.configuration())


class WarmAtOnce(y6.Trainer):
    least_warmup = 0


# YOLOv6-shaped
# --------------------------------------------------------------------------------------------------


def test_yolov6_learns_and_leaves_its_files(tmp_path):
    args = y6.arguments(tmp_path, epochs=8, save_ckpt_on_last_n_epoch=2, stop_aug_last_n_epoch=3)
    made = WarmAtOnce(args, y6.configuration())
    made.train()
    assert made.losses[-1] < 0.2 < made.losses[0]
    kept = {"best_ckpt.pt", "best_stop_aug_ckpt.pt", "last_ckpt.pt", "6_ckpt.pt", "7_ckpt.pt"}
    assert {file.name for file in made.weights.iterdir()} == kept
    stripped, whole = (torch.load(made.weights / f"{name}_ckpt.pt", weights_only=True) for name in ("last", "7"))
    assert stripped["optimizer"] is None and whole["optimizer"]["state"]
    assert stripped["model"]["0.weight"].dtype == torch.float16
    assert torch.equal(stripped["model"]["0.weight"], whole["ema"]["0.weight"].half()), "the averaged weights stay"
    assert made.ema.ema.names == ["red", "green", "blue"], "copied by update_attr"


def test_a_teacher_changes_what_yolov6_learns(tmp_path):
    plain, taught = yolov6(tmp_path / "a", epochs=1), yolov6(tmp_path / "b", epochs=1, distill=True)
    with torch.no_grad():
        for parameter in taught.teacher_model.parameters():
            parameter.add_(1)
    plain.train()
    taught.train()
    assert plain.mean_loss[1] == 0 < taught.mean_loss[1]
    assert not torch.equal(plain.model[5].weight, taught.model[5].weight)


def test_yolov6_strips_only_after_success_and_always_cleans_up(tmp_path):
    called = []

    class Broken(y6.Trainer):
        def print_details(self):
            raise FloatingPointError("here")

        def strip_model(self):
            called.append("strip_model")

        def train_after_loop(self):
            called.append("train_after_loop")

    with pytest.raises(FloatingPointError, match="here"):
        Broken(y6.arguments(tmp_path), y6.configuration()).train()
    assert called == ["train_after_loop"]


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"eval_interval": 4}, [0, 4]),
        ({"eval_interval": 4, "heavy_eval_range": 4}, [0, 3, 6]),  # near the end every third
        ({"eval_final_only": True}, [6]),
        ({"eval_final_only": True, "eval_interval": 4}, []),  # the last epoch's number has to divide too
    ],
)
def test_which_epochs_yolov6_judges(tmp_path, changes, judged):
    epochs = []

    class Noting(y6.Trainer):
        def eval_model(self):
            epochs.append(self.epoch)

    Noting(y6.arguments(tmp_path, epochs=7, steps=1, **changes), y6.configuration()).train()
    assert epochs == judged


def test_yolov6_warms_up_rate_momentum_and_accumulation(tmp_path):
    made = yolov6(tmp_path, epochs=1, steps=2)
    made.train()
    first, _, biases = made.optimizer.param_groups
    assert first["lr"] == pytest.approx(0.05 / 1000) and biases["lr"] == pytest.approx(0.1 - 0.05 / 1000)
    assert first["momentum"] == pytest.approx(0.8 + 0.137 / 1000)
    made.warmup_stepnum, made.step = 4, 1
    made.update_optimizer()
    assert made.accumulate == 2  # a quarter of the way from 1 to 64 / 16, rounded
    made.step = 5
    made.update_optimizer()
    assert made.accumulate == 4


def test_strong_augmentation_ends_and_a_resumed_run_goes_on(tmp_path):
    made = yolov6(tmp_path, epochs=3, stop_aug_last_n_epoch=1, save_ckpt_on_last_n_epoch=3)
    strong = made.train_loader[0][0].clone()
    made.train()
    plain = made.train_loader[0][0]
    assert not torch.equal(strong, plain) and torch.equal(strong, plain.roll(8, -1))
    again = yolov6(tmp_path, epochs=3, resume=str(made.weights / "1_ckpt.pt"))
    assert again.start_epoch == 2 and again.ema.updates == 16
    again.train()
    assert again.epoch == 2 and len(again.losses) == 8


def test_an_argument_that_yolov6_has_not(tmp_path):
    with pytest.raises(ValueError, match="unknown arguments heavy_eval; known: batch_size"):
        y6.arguments(tmp_path, heavy_eval=1)


# detectron2-shaped
# --------------------------------------------------------------------------------------------------


def test_detectron2_learns_and_its_hooks_stand_in_order(tmp_path):
    made = d2.DefaultTrainer(d2.get_cfg(tmp_path))
    order = "IterationTimer LRScheduler PreciseBN PeriodicCheckpointer EvalHook PeriodicWriter"
    assert [type(hook).__name__ for hook in made._hooks] == order.split()
    assert made.train() == {"accuracy": 1.0}
    loss = made.storage.history["total_loss"]
    assert [at for at, _ in loss] == list(range(40)) and loss[-1][1] < 0.1 < loss[0][1]
    assert [at for at, _ in made.storage.history["accuracy"]] == [19, 40], "every period, and once after all"
    assert made.iter == made.max_iter == 40
    assert {file.name for file in tmp_path.iterdir()} == {
        "model_0000019.pth",
        "model_0000039.pth",
        "model_final.pth",
        "last_checkpoint",
    }


def test_a_hook_does_not_own_its_trainer():
    made = d2.SimpleTrainer(nn.Linear(1, 1), [], None)
    hook, gone = d2.HookBase(), weakref.ref(made)
    made.register_hooks([None, hook])
    assert isinstance(hook.trainer, weakref.ProxyType) and made._hooks == [hook]
    gc.disable()
    try:
        del made
        assert gone() is None, "no circle keeps it"
    finally:
        gc.enable()
    with pytest.raises(TypeError, match="is no HookBase: register an instance"):
        d2.TrainerBase().register_hooks([d2.HookBase])


class Noting(d2.HookBase):
    def __init__(self):
        self.seen = []

    def before_train(self):
        self.seen.append("before_train")

    def after_backward(self):
        self.seen.append("after_backward")

    def after_train(self):
        self.seen.append(("after_train", self.trainer.iter))


def test_after_train_comes_after_an_exception_and_tells_failure_by_the_iteration(tmp_path):
    made, hook = d2.DefaultTrainer(d2.get_cfg(tmp_path, 3)), Noting()
    made.register_hooks([hook])
    made._trainer._data_loader_iter = iter([])
    with pytest.raises(StopIteration):
        made.train()
    assert hook.seen == ["before_train", ("after_train", 0)]
    assert "accuracy" not in made.storage.history, "no evaluation after a failed training"


def test_after_backward_reaches_only_the_hooks_of_the_inner_trainer(tmp_path):
    made, outer, inner = d2.DefaultTrainer(d2.get_cfg(tmp_path, 2)), Noting(), Noting()
    made.register_hooks([outer])
    made._trainer.register_hooks([inner])
    made.train()
    assert outer.seen == ["before_train", ("after_train", 2)] and inner.seen == ["after_backward"] * 2


def test_metrics_land_at_the_iteration_that_was_handed_down(tmp_path):
    class Forgetful(d2.DefaultTrainer):
        def run_step(self):
            self._trainer.run_step()

    made = Forgetful(d2.get_cfg(tmp_path, 3))
    made.train()
    assert [at for at, _ in made.storage.history["total_loss"]] == [0, 0, 0]


def test_of_two_stateful_hooks_of_one_class_the_first_is_kept():
    class Counter(d2.HookBase):
        def __init__(self, count):
            self.count = count

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    first, second, made = Counter(1), Counter(2), d2.TrainerBase()
    made.register_hooks([first, second])
    (state,) = made.state_dict()["hooks"].values()
    assert state == {"count": 1}
    first.count = 7
    made.load_state_dict(made.state_dict() | {"hooks": {type(first).__qualname__: {"count": 5}}})
    assert (first.count, second.count) == (5, 2)


def test_a_resumed_detectron2_goes_on_after_the_finished_iteration_and_ignores_the_weights(tmp_path):
    whole = d2.DefaultTrainer(d2.get_cfg(tmp_path / "whole", 20))
    whole.train()
    cfg = d2.get_cfg(tmp_path / "whole", 25)
    cfg.MODEL.WEIGHTS = str(tmp_path / "there is none.pth")
    made = d2.DefaultTrainer(cfg)
    made.resume_or_load(resume=True)
    assert made.start_iter == 20 and torch.equal(made.model.layers[0].weight, whole.model.layers[0].weight)
    made.train()
    assert [at for at, _ in made.storage.history["total_loss"]] == list(range(20, 25))
    with pytest.raises(FileNotFoundError):
        made.resume_or_load(resume=False)


def test_mean_and_deviation_are_buffers():
    model = d2.DefaultTrainer.build_model(d2.get_cfg())
    assert {name for name, _ in model.named_buffers()} > {"pixel_mean", "pixel_std"}
    assert not {"pixel_mean", "pixel_std"} & {*model.state_dict(), *dict(model.named_parameters())}
    assert copy.deepcopy(model).double().pixel_mean.dtype == torch.float64, "it follows the model"


# The real ones
# --------------------------------------------------------------------------------------------------


@functools.cache
def long_traces():
    return {e: traced.seen(traced.record(e, epochs=2, steps=3), e) for e in ("ultralytics", "ours", "yolov6")}


@pytest.mark.parity
def test_ultralytics_moments_lie_where_ours_and_yolov6s_do():
    where = {engine: traced.positions(calls) for engine, calls in long_traces().items()}
    compared = 0
    for row in names.MOMENTS.values():
        places = [frozenset(where[engine][name]) for engine in where for name in row[engine]]
        assert len(set(places)) <= 1, row
        compared += len(places)
    assert compared > 25


@pytest.mark.parity
def test_the_order_of_ultralytics_moments_and_their_column():
    calls = long_traces()["ultralytics"]
    order = [call.moment for call in sorted(calls, key=lambda call: call.start)]
    first = {moment: order.index(moment) for moment in order}
    for one, next_one in zip(
        ("train", "before_train", "before_epoch", "before_step", "backward", "update", "optimizer.step", "after_step"),
        ("before_train", "before_epoch", "before_step", "backward", "update", "optimizer.step", "after_step", "strip"),
    ):
        assert first[one] < first[next_one], (one, next_one)
    assert first["before_validation"] < first["validation"] < first["after_epoch"] < first["strip"]
    assert order[-2:] == ["after_train", "after_train"]
    assert [order.count(moment) for moment in ("before_epoch", "before_step", "after_train")] == [2, 6, 2]
    column = side_by_side.first_calls(calls)
    assert {call.name for call in column} >= {"on_train_start", "optimizer_step", "on_fit_epoch_end", "teardown"}


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.skipif(not real.is_installed(), reason="YOLOv6 is not installed: pip install yolov6detect==0.4.1")
def test_one_epoch_of_the_real_yolov6_from_train_before_loop_to_strip_model():
    with real.trainer() as made:
        tree = recording().record(made.train, packages=(*real.PACKAGES, "torch._tensor", "torch.optim"))
        theirs = {name for name in vars(type(made)) if not name.startswith("_")}
    assert not theirs - set(names.FOUNDING["yolov6"]), "every method of the real engine is in the founding table"
    assert {name for row in names.MOMENTS.values() for name in row["yolov6"]} <= theirs
    real_calls, small_calls = (traced.seen(one, "yolov6") for one in (tree, traced.record("yolov6")))
    assert [(call.name, call.level) for call in real_calls] == [(call.name, call.level) for call in small_calls]
    assert traced.positions(real_calls) == traced.positions(small_calls)
    assert [call.name for call in real_calls][1] == "train_before_loop"
    assert [call.name for call in real_calls][-2:] == ["strip_model", "train_after_loop"]
    assert torch.load.__module__ == "torch.serialization", "the shims went with the trainer"


@pytest.mark.parity
@pytest.mark.skipif(
    not importlib.util.find_spec("detectron2"), reason="detectron2 is not installed (it is not on PyPI)"
)
def test_the_real_detectron2_has_the_names():
    from detectron2 import engine

    for owner in ("TrainerBase", "SimpleTrainer", "DefaultTrainer", "HookBase"):
        small, there = getattr(d2, owner), getattr(engine, owner)
        named = {name for name in vars(small) if not name.startswith("_")} & set(names.FOUNDING["detectron2"])
        assert not named - set(dir(there)), owner


def test_without_yolov6_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(real, "is_installed", lambda: False)
    with pytest.raises(ModuleNotFoundError, match="pip install yolov6detect"), real.trainer():
        pass
