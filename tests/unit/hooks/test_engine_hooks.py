"""Which epochs are measured, which are plain, which files stay, and what a checkpoint keeps."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests import tiny
from yolostudy import data, hooks
from yolostudy.bridge import checkpoints as any_weights
from yolostudy.data.augment import Augmentation
from yolostudy.data.loader import make_loader
from yolostudy.engine import Trainer
from yolostudy.hooks import (
    Averaging,
    Checkpoint,
    EarlyStop,
    KeepLast,
    PlainAugmentation,
    Strip,
    Validation,
    load_weights,
    resume,
)
from yolostudy.losses import LossParts
from yolostudy.training import Precision

STRONG = Augmentation(mosaic=1.0, flip_lr=0.5, degrees=20, translate=0.1, scale=0.3, shear=5, hsv=(0.0, 0.2, 0.2))
PLAIN = Augmentation(flip_lr=0.5, hsv=(0.0, 0.2, 0.2))


def step(model, loss, batch, optimizer, precision=None, step=0):
    """A step of SGD on the number that the batch is; with the scaler, where there is a precision."""
    value = (model.weight * batch).sum()
    scaler = precision.scaler if precision else torch.amp.GradScaler("cpu", enabled=False)
    optimizer.zero_grad()
    scaler.scale(value).backward()
    scaler.step(optimizer)
    scaler.update()
    return LossParts(*[value.detach()] * 4)


def trainer(parts=(), epochs=4, loader=(1.0, 2.0), step=step, **keywords):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    keywords.setdefault("precision", Precision("cpu", "fp32"))
    return Trainer(model, nn.Identity(), loader, optimizer, step, hooks=parts, epochs=epochs, **keywords)


class Figures(hooks.Hook):
    """Says that each epoch has these figures; None: it was not measured."""

    def __init__(self, *figures):
        self.figures = figures

    def after_epoch(self, trainer):
        trainer.metrics.pop("map50_95", None)
        if (figure := self.figures[trainer.epoch - 1]) is not None:
            trainer.metrics["map50_95"] = figure


# ---- which epochs are measured -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "heavy_range", "final_only", "expected"),
    [
        (1, 0, False, [*range(1, 13)]),
        (5, 0, False, [5, 10, 12]),
        (5, 4, False, [5, 9, 12]),  # 9 is the first with fewer than four epochs left
        (5, 3, False, [5, 12]),
        (2, 4, False, [2, 4, 6, 8, 10, 12]),  # the interval is never made longer
        (7, 12, False, [3, 6, 9, 12]),
        (50, 0, False, [12]),
        (1, 0, True, [12]),
        (1, 12, True, [12]),
    ],
)
def test_these_epochs_are_measured(every, heavy_range, final_only, expected):
    seen = []

    def measure(model, *_):
        assert not model.training and not torch.is_grad_enabled()
        seen.append(run.epoch)
        return SimpleNamespace(figures={"map50": 0.5, "map50_95": 0.25})

    class Look(hooks.Hook):
        def after_epoch(self, trainer):
            assert ("map50" in trainer.metrics) == (trainer.epoch in expected)  # no figure of an epoch before

    model = nn.Linear(1, 1)
    judge = Validation(model, None, every=every, measure=measure, heavy_range=heavy_range, final_only=final_only)
    run = trainer([judge, Look()], epochs=12)
    run.train()
    assert seen == expected and model.training


def test_the_time_between_two_measurements_counts_as_before():
    seen = []
    judge = Validation(nn.Linear(1, 1), None, every=2, seconds_between=1e9)
    judge.evaluate = lambda model: seen.append(run.epoch) or {"map50": 0.0}
    run = trainer([judge], epochs=5)
    run.train()
    assert seen == [5]


def test_patience_is_judged_in_measured_epochs_only():
    stop = EarlyStop(patience=3)
    run = trainer([Figures(None, None, None, None, 0.5, None, None, None, None, 0.4, None), stop], epochs=11)
    run.train()
    assert run.epoch == 10 and "0.500 of epoch 5 in 3 epochs" in run.stop_reason


# ---- the last epochs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tiny.make(tmp_path_factory.mktemp("data") / "tiny", {"train": 5}, side=32)
    return data.open_set(str(folder), "train")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("start", [0, 3], ids=["from the start", "resumed in the last epochs"])
def test_the_last_epochs_have_no_strong_augmentation(images, workers, start):
    def loader(augmentation, workers=0):
        return make_loader(images, 32, 2, augmentation=augmentation, shuffle=True, seed=7, workers=workers, cache="ram")

    seen = {}

    def keep(model, loss, batch, optimizer, **_):
        seen.setdefault(run.epoch, []).append(batch.images.clone())

    run = trainer([PlainAugmentation(2)], 4, loader(STRONG, workers), keep)
    run.epoch = start
    run.train()
    for epoch in range(start, 4):
        wanted = loader(PLAIN if epoch >= 2 else STRONG)
        wanted.set_epoch(epoch)
        for batch, found in zip(wanted, seen[epoch], strict=True):
            assert torch.equal(batch.images, found), epoch
    assert [*seen] == [*range(start, 4)]
    assert run.loader.dataset.augmentation == STRONG  # for who trains with it next


def test_workers_start_anew_once_and_not_each_epoch(images):
    changes = []
    run = trainer([PlainAugmentation(3)], 4, make_loader(images, 32, 2, augmentation=STRONG), lambda *_, **__: None)
    change = run.loader.set_augmentation
    run.loader.set_augmentation = lambda augmentation: changes.append((run.epoch, augmentation)) or change(augmentation)
    run.train()
    assert changes == [(1, PLAIN), (4, STRONG)]


def test_last_epochs_need_an_end_that_is_known(images, tmp_path):
    for part in (PlainAugmentation(2), KeepLast(tmp_path, nn.Linear(1, 1), {}, 2)):
        with pytest.raises(ValueError, match=r"counts epochs from the end, and minutes end this run\. Give epochs"):
            trainer([part], minutes=1.0).train()
    with pytest.raises(TypeError, match=r"needs a loader with set_augmentation.* this is a tuple"):
        trainer([PlainAugmentation(2)]).train()


def test_the_weights_of_the_last_epochs_stay(tmp_path):
    seen = {}

    class Look(hooks.Hook):
        def after_epoch(self, trainer):
            seen[trainer.epoch] = trainer.model.weight.detach().clone()

    run = trainer([Figures(0.1, 0.2, 0.3, 0.4), Look()], epochs=4)
    run.hooks.append(KeepLast(tmp_path, run.model, {"classes": ["a"]}, 2))
    run.train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_003.safetensors", "epoch_004.safetensors"]
    for epoch in (3, 4):
        weights, card = load_weights(tmp_path / f"epoch_00{epoch}.safetensors")
        assert torch.equal(weights["weight"], seen[epoch])
        assert (card["classes"], card["epoch"], card["map50_95"]) == (["a"], epoch, epoch / 10)


def test_the_best_of_the_plain_epochs_has_a_file_of_its_own(tmp_path):
    figures = Figures(0.9, 0.8, 0.3, None, 0.5, 0.4)
    run = trainer([figures], epochs=6)
    run.hooks.append(Checkpoint(tmp_path, run.model, {}, plain_epochs=4))
    run.train()
    assert load_weights(tmp_path / "best.safetensors")[1]["epoch"] == 1
    assert load_weights(tmp_path / "best_plain.safetensors")[1]["epoch"] == 5
    # a resumed run knows both figures: an epoch between them is no new best of either kind
    again = trainer([Figures(*[0.45] * 7)], epochs=7)
    again.hooks.append(Checkpoint(tmp_path, again.model, {}, plain_epochs=5))
    resume(again, tmp_path / "last.pt")
    again.train()
    assert again.epoch == 7
    assert load_weights(tmp_path / "best_plain.safetensors")[1]["epoch"] == 5


def test_without_plain_epochs_there_is_no_such_file(tmp_path):
    run = trainer([Figures(*[0.1] * 3)], epochs=1)
    run.hooks.append(Checkpoint(tmp_path, run.model, {}))
    run.minutes, run.epoch = 1.0, 1  # by the clock a run may have more epochs than `epochs`
    run.stop_reason = "enough"
    run.epoch += 1
    run.call("after_epoch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.pt", "last.safetensors"]


# ---- what a checkpoint keeps ---------------------------------------------------------------------


def test_two_hooks_of_one_class_keep_a_state_each(tmp_path):
    def made():
        run = trainer(epochs=2)
        run.hooks = [Averaging(run.model, decay) for decay in (0.5, 0.9)]
        return run

    run = made()
    run.hooks.append(Checkpoint(tmp_path, run.model, {}))
    run.train()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert [*state["hooks"]] == ["Averaging", "Averaging 2", "Checkpoint"]
    again = made()
    resume(again, tmp_path / "last.pt")
    weights = [part.average.model.weight for part in (*run.hooks[:2], *again.hooks)]
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[2], weights[3])


def test_a_checkpoint_from_before_resumes(tmp_path):
    """It has no state of newer hooks, and no `best_plain`."""
    run = trainer(epochs=2)
    run.hooks = [Figures(0.5, 0.6), Averaging(run.model), Checkpoint(tmp_path, run.model, {})]
    run.train()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["hooks"] = {"Averaging": state["hooks"]["Averaging"], "Checkpoint": {"best": 0.6}}
    torch.save(state, tmp_path / "last.pt")
    again = trainer(epochs=2)
    parts = [Averaging(again.model), KeepLast(tmp_path, again.model, {}, 1), Checkpoint(tmp_path, again.model, {})]
    again.hooks = parts
    resume(again, tmp_path / "last.pt")
    assert (again.epoch, parts[-1].best, parts[-1].best_plain) == (2, 0.6, -math.inf)
    assert torch.equal(again.model.weight, run.model.weight) and parts[0].average.updates == 4


def test_the_state_of_the_scaler_is_kept(tmp_path):
    """Its factor has grown once; a new scaler would begin with another one."""

    def made(epochs):
        precision = Precision("cpu", "fp32")
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        run = trainer(epochs=epochs, precision=precision)
        run.hooks = [Checkpoint(tmp_path, run.model, {})]
        return run

    whole, run = made(3), made(2)
    run.train()
    scaler = run.precision.scaler
    assert (scaler.get_scale(), scaler.state_dict()["_growth_tracker"]) == (16.0, 1)
    again = made(3)
    resume(again, tmp_path / "last.pt")
    assert again.precision.scaler.state_dict() == scaler.state_dict()
    again.train()
    whole.train()
    assert again.precision.scaler.state_dict() == whole.precision.scaler.state_dict()
    assert again.precision.scaler.get_scale() == 32.0 and torch.equal(again.model.weight, whole.model.weight)


# ---- stripping -----------------------------------------------------------------------------------


def stripping(folder, epochs=2, averaged=True):
    run = trainer(epochs=epochs)
    averaging = [Averaging(run.model)] if averaged else []
    judged = averaging[0].average.model if averaged else run.model
    run.hooks = [*averaging, Checkpoint(folder, judged, {"classes": ["a"]}), Strip(folder)]
    return run, judged


@pytest.mark.parametrize("averaged", [True, False])
def test_a_stripped_checkpoint_holds_half_the_average_and_no_optimizer(tmp_path, capsys, averaged):
    run, judged = stripping(tmp_path, averaged=averaged)
    run.hooks[-1].path = tmp_path / "elsewhere.pt"  # where there is nothing to strip
    run.train()
    full = (tmp_path / "last.pt").stat().st_size
    again, _ = stripping(tmp_path, averaged=averaged)
    resume(again, tmp_path / "last.pt")
    again.train()  # killed after its last epoch, so only this is left to do
    strip = again.hooks[-1]
    assert strip.sizes == (full, (tmp_path / "last.pt").stat().st_size) and strip.sizes[1] < strip.sizes[0]
    assert f"{full / 1e6:.1f} MB, stripped to {strip.sizes[1] / 1e6:.1f} MB" in capsys.readouterr().out
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert {*state} == {"model", "trainer", "card", "stripped"} and state["trainer"]["epoch"] == 2
    weights, card = any_weights.load(tmp_path / "last.pt")
    assert card["classes"] == ["a"] and {tensor.dtype for tensor in state["model"].values()} == {torch.float16}
    assert all(torch.equal(weights[name], tensor.half().float()) for name, tensor in judged.state_dict().items())
    with pytest.raises(ValueError, match=r"last.pt: this run is complete, and its checkpoint was stripped .*weights="):
        resume(stripping(tmp_path)[0], tmp_path / "last.pt")


def test_only_a_complete_run_is_stripped(tmp_path):
    seen = []

    class Look(hooks.Hook):
        def after_epoch(self, trainer):
            seen.append("optimizer" in torch.load(tmp_path / "last.pt", weights_only=True))

    run, _ = stripping(tmp_path, epochs=3)
    run.hooks.append(Look())
    run.train()
    assert seen == [True, True, False]


def test_the_checkpoint_of_an_epoch_before_is_not_stripped(tmp_path):
    """The last one could not be written, so this is what the run has to go on from."""
    run, _ = stripping(tmp_path)
    checkpoint = run.hooks[1]
    save = checkpoint.after_epoch

    def fail(trainer):
        if trainer.finished:
            raise hooks.SaveError("full")
        save(trainer)

    checkpoint.after_epoch = fail
    with pytest.raises(hooks.SaveError):
        run.train()
    assert run.finished and run.hooks[-1].sizes is None
    again, _ = stripping(tmp_path)
    again.epoch = 2
    again.train()  # without resuming: nothing to do, and the file is of epoch 1
    assert torch.load(tmp_path / "last.pt", weights_only=True)["trainer"]["epoch"] == 1
    assert "optimizer" in torch.load(tmp_path / "last.pt", weights_only=True)
