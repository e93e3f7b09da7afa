"""What becomes of a run that is interrupted, killed, out of disk space, or fed a NaN."""

import io
import json
import os
import random
import signal
import subprocess
import time

import pytest
import torch

from tests import tiny, warm
from tests.tiny import preset_for
from yolostudy import data, hooks, runs
from yolostudy.canvas import style
from yolostudy.hooks import NonFiniteLoss, SaveError, load_weights, replace_file
from yolostudy.losses import LossParts
from yolostudy.runs.folders import read_preset

ROOT = data.DATASETS.parent


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("data") / "tiny")


class Interrupt(hooks.Hook):
    """Raises in the middle of an epoch."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def after_step(self, trainer):
        if trainer.epoch == self.epoch and trainer.steps % 4 == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "overrides", [{}, {"optimizer": "sgd", "schedule": "plateau", "freeze_epochs": 1, "accumulate": 3, "patience": 5}]
)
def test_a_resumed_run_ends_with_the_same_weights(tiny_data, tmp_path, overrides):
    preset = preset_for(tiny_data, **overrides)
    whole = runs.train(preset, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, tmp_path / "broken", [Interrupt(epoch=1)])
    torch.manual_seed(99)  # what the process did in between must not matter
    resumed = runs.train(preset, tmp_path / "broken")
    assert resumed.trainer.steps == whole.trainer.steps == 12
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (load_weights(tmp_path / run / name)[0] for run in ("whole", "broken"))
        assert all(torch.equal(first[key], second[key]) for key in first), name
    rows = [
        [
            line.split(",")[:1] + line.split(",")[2:10]
            for line in (tmp_path / run / "results.csv").read_text().splitlines()
        ]
        for run in ("whole", "broken")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 4


def test_a_finished_run_has_its_files_and_its_card(tiny_data, tmp_path):
    run = runs.train(preset_for(tiny_data, epochs=1, ema=0.0, tensorboard=True), tmp_path / "run")
    assert {"best.safetensors", "last.safetensors", "last.pt", "preset.json", "results.csv", "tensorboard"} <= {
        p.name for p in run.folder.iterdir()
    }
    weights, card = load_weights(run.folder / "best.safetensors")
    assert card["classes"] == ["square", "bar"] and card["epoch"] == 1 and 0 <= card["map50"] <= 1
    assert len(weights) == 354
    assert read_preset(run.folder) == run.preset
    again = runs.train(run.preset, run.folder)  # nothing is left to do, and nothing is lost
    assert again.trainer.steps == run.trainer.steps


def test_tensorboard_gets_curves_and_pictures(tiny_data, tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = runs.train(preset_for(tiny_data, epochs=2, tensorboard=True), tmp_path / "run")
    seen = EventAccumulator(str(run.folder / "tensorboard"))
    seen.Reload()
    assert {"epoch/map50", "epoch/loss"} <= set(seen.Tags()["scalars"])
    assert [event.step for event in seen.Images("predictions")] == [run.trainer.steps // 2, run.trainer.steps]
    batch = seen.Images("batch")[-1]
    assert batch.width == 960 and batch.height > 200
    picture = Image.open(io.BytesIO(batch.encoded_image_string)).convert("RGB")
    assert style.rgb(style.TRUTH) in set(
        picture.get_flattened_data() if hasattr(picture, "get_flattened_data") else picture.getdata()
    )


def test_minutes_stop_and_the_schedule_follows_the_clock(tiny_data, tmp_path):
    run = runs.train(preset_for(tiny_data, minutes=0.05, epochs=1), tmp_path / "run")
    assert run.trainer.progress == 1 and run.trainer.steps > 1
    assert run.trainer.optimizer.param_groups[0]["lr"] < 0.5 * run.preset.rate
    assert "map50" in run.trainer.metrics  # measured at the end, whatever the clock says


def test_an_early_stop_ends_the_run_after_its_patience_and_says_why(tiny_data, tmp_path):
    """With a learning rate of nothing no epoch is better than the first."""
    run = runs.train(preset_for(tiny_data, rate=0.0, ema=0.0, freeze_epochs=99, patience=2, epochs=9), tmp_path / "run")
    assert run.trainer.epoch < 9 and "no better mAP50-95 than" in run.trainer.stop_reason
    assert run.trainer.stop_reason in str(run)


def test_the_backbone_learns_again_when_its_epochs_are_over(tiny_data, tmp_path):
    seen = []

    class Watch(hooks.Hook):
        def before_epoch(self, trainer):
            seen.append(all(p.requires_grad for p in trainer.model.backbone.parameters()))

    run = runs.prepare(preset_for(tiny_data, freeze_epochs=2), tmp_path)
    run.trainer.hooks.append(Watch())
    run.trainer.train()
    assert seen == [False, False, True]


# ---- a number that is none -----------------------------------------------------------------------


def test_nan_guard_names_place_part_and_images_and_keeps_the_batch(tiny_data, tmp_path):
    run = runs.prepare(preset_for(tiny_data), tmp_path)
    honest = run.trainer.loss.forward

    def broken(maps, targets):
        parts = honest(maps, targets)
        return (
            LossParts(parts.total * float("nan"), parts.box, parts.cls, parts.dfl * float("inf"))
            if run.trainer.steps == 5
            else parts
        )

    run.trainer.loss.forward = broken
    before = {}
    run.trainer.hooks.append(Remember(before))
    with pytest.raises(NonFiniteLoss, match=r"epoch 2, step 6: dfl loss inf. Images: .*train_\d+.* kept in") as caught:
        run.trainer.train()
    kept = torch.load(caught.value.path, weights_only=True)
    assert len(kept["names"]) == 4 and kept["images"].shape == (4, 3, 64, 64) and kept["targets"].shape[1] == 6
    assert all(
        torch.equal(tensor, before[name])
        for name, tensor in kept["model"].items()
        if "running" not in name and "tracked" not in name
    )
    assert not run.trainer.loss._forward_hooks  # the guard has left


class Remember(hooks.Hook):
    def __init__(self, into: dict):
        self.into = into

    def before_step(self, trainer):
        self.into |= {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


# ---- the disk ------------------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from yolostudy import runs
from yolostudy.hooks import Hook, SaveError
from yolostudy.runs import presets
import json
settings = json.loads(sys.argv[2])
preset = presets.load("planes.nano", **settings)
class Fill(Hook):
    def before_epoch(self, trainer):
        if trainer.epoch == 1:  # from now on no file may grow over 100 kB
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    runs.train(preset, Path(sys.argv[1]), [Fill()])
except SaveError as error:
    print("SAVE", error)
    sys.exit(7)
"""


def test_a_full_disk_loses_nothing_that_was_saved(tiny_data, tmp_path):
    run, settings = tmp_path / "run", {**tiny.QUICK, "data": str(tiny_data)}
    command = warm.words("-c", FULL_DISK, str(run), json.dumps(settings))
    environment = os.environ | {"YOLOSTUDY_USE": "reference", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=ROOT, env=environment)
    assert done.returncode == 7, done.stderr[-2000:]
    assert "could not be written" in done.stdout and "Free some disk space" in done.stdout
    assert torch.load(run / "last.pt", weights_only=True)["trainer"]["epoch"] == 1
    assert load_weights(run / "best.safetensors")[1]["epoch"] == 1
    assert not list(run.glob(".*.part"))
    assert runs.train(read_preset(run), run).trainer.epoch == 3  # there is space again


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(draft):
        draft.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(SaveError, match=r"No space left on device.*untouched"):
        replace_file(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# ---- kill -9 -------------------------------------------------------------------------------------

# One process imports everything and forks for each run, so that the test spends its time on training.
SERVER = """
import sys, json, os
from pathlib import Path
import torch._dynamo  # the optimizer loads it
from yolostudy import runs
from yolostudy.engine import Hook
from yolostudy.runs import presets
from yolostudy.runs.folders import read_preset

class Tell(Hook):
    def before_train(self, trainer):
        print("START", os.getpid(), flush=True)
    def after_step(self, trainer):
        print("STEP", flush=True)

for line in sys.stdin:
    folder, settings = json.loads(line)
    folder = Path(folder)
    if (child := os.fork()) == 0:
        if (folder / "preset.json").exists():
            preset = read_preset(folder)
        else:
            preset = presets.load("planes.nano", **settings)
        run = runs.train(preset, folder, [Tell()])
        print("DONE", run.trainer.epoch, run.trainer.steps, flush=True)
        os._exit(0)
    print("ENDED", os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def server():
    environment = os.environ | {"YOLOSTUDY_USE": "reference", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(warm.words("-c", SERVER), cwd=ROOT, env=environment, **pipes)
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


def until(server, word: str) -> str:
    """The rest of the next line that begins with this word."""
    for line in server.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError(f"the server ended before it said {word}")


@pytest.mark.timeout(1500)
def test_ten_kills_at_random_moments(server, tiny_data, tmp_path):
    """Every file is whole after each, and the run always goes on."""
    run, rng = tmp_path / "run", random.Random(5)
    order = json.dumps([str(run), {**tiny.QUICK, "data": str(tiny_data), "epochs": 40}]) + "\n"
    epochs = [0]
    for _ in range(10):
        server.stdin.write(order)
        server.stdin.flush()
        pid = int(until(server, "START"))
        for _ in range(rng.randrange(14)):  # steps; four make an epoch, and each epoch is saved
            until(server, "STEP")
        time.sleep(rng.uniform(0.0, 0.15))  # about a step: also in the middle of one, or of a write
        os.kill(pid, signal.SIGKILL)
        assert until(server, "ENDED") == str(int(signal.SIGKILL))
        if (run / "last.pt").exists():
            epochs.append(torch.load(run / "last.pt", weights_only=True)["trainer"]["epoch"])
        for path in run.glob("*.safetensors"):
            load_weights(path)
        if (run / "results.csv").exists():
            assert (run / "results.csv").read_text().endswith("\n")
    assert epochs == sorted(epochs) and epochs[-1] >= 2
    settings = json.loads((run / "preset.json").read_text())
    (run / "preset.json").write_text(json.dumps(settings | {"epochs": epochs[-1] + 1}))  # so that the test ends soon
    server.stdin.write(order)
    server.stdin.flush()
    assert until(server, "DONE") == f"{epochs[-1] + 1} {4 * (epochs[-1] + 1)}"
    assert until(server, "ENDED") == "0"
    assert not list(run.glob(".*.part"))
