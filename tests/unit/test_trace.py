"""The call trace: what it records of real trainers and of a loop, and that nothing stays behind."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from solutions import trace
from tests.unit.recorded import calls, chain_to_the_loss, pose_epoch, profilers
from yolostudy.bridge import scenes
from yolostudy.command import trace as command
from yolostudy.lens.calls import tree as call_tree
from yolostudy.runs import sample

KEYS = {"batch_idx", "bboxes", "cls", "im_file", "img", "keypoints", "ori_shape", "ratio_pad", "resized_shape"}


@pytest.fixture(autouse=True)
def _nothing_stays():
    before = profilers()
    yield
    assert profilers() == before


def owners(chain) -> list[str]:
    return [f"{call.owner}.{call.function.rpartition('.')[2]}" for call in chain]


# The real trainer
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pose():
    return pose_epoch()


@pytest.fixture(scope="module")
def chain(pose):
    return chain_to_the_loss(pose[0])


def test_the_chain_from_the_training_loop_to_the_loss(pose, chain):
    tree, seconds = pose
    assert seconds < 15  # of the processor
    assert [call.function for call in chain] == [
        "BaseTrainer._do_train",
        "BaseModel.forward",
        "BaseModel.loss",
        "v8DetectionLoss.__call__",
    ]
    assert owners(chain) == ["PoseTrainer._do_train", "PoseModel.forward", "PoseModel.loss", "v8PoseLoss.__call__"]
    same = trace.path_between(tree, "PoseTrainer._do_train", "v8DetectionLoss.__call__")
    assert len(same) == len(chain) and all(a is b for a, b in zip(same, chain, strict=True))
    built = trace.path_between(tree, "BaseTrainer._do_train", "PoseModel.init_criterion")
    assert built[:3] == chain[:3] and built[-1].result == "v8PoseLoss"


def test_what_is_handed_to_the_loss(chain):
    arguments = chain[-1].arguments
    assert set(arguments["batch"]) == KEYS
    preds = arguments["preds"]
    assert preds["boxes"] == "float32 (4, 64, 84) cpu" and preds["scores"] == "float32 (4, 20, 84) cpu"
    assert preds["kpts"] == "float32 (4, 12, 84) cpu" and len(preds["feats"]) == 3
    assert set(chain[1].arguments["x"]) == KEYS, "forward is given the batch dict"
    assert [call.arguments.get("x") for call in chain[2].calls if call.named("forward")] == [
        "float32 (4, 3, 64, 64) cpu"
    ]
    assert set(chain[-1].result[1]) >= {"box_loss", "pose_loss", "cls_loss"}


def test_what_else_happens_in_an_epoch(pose):
    tree, _ = pose
    for end in (
        "PoseValidator.__call__",
        "BaseTrainer.final_eval",
        "strip_optimizer",
        "model_info",
        "BaseTrainer.get_validator",
    ):
        name = "PoseTrainer.get_validator" if end.endswith("get_validator") else end
        assert trace.path_between(tree, "BaseTrainer.train", name), end
    folded = call_tree.fold(tree)
    assert sum(row.count for row, _, _ in call_tree.walk(folded) if row.function == "PoseModel.init_criterion") == 2, (
        "also on the EMA copy"
    )
    assert folded.total == calls(tree) > 1000
    assert sum(1 for _ in call_tree.walk(folded)) < folded.total


def test_one_epoch_of_the_real_detector():
    with scenes.trainer("detect") as trainer:
        folder = Path(trainer.args.data).parent
        tree = trace.record(trainer.train, packages=("ultralytics",))
    found = trace.path_between(tree, "BaseTrainer._do_train", "v8DetectionLoss.__call__")
    assert owners(found)[-1] == "v8DetectionLoss.__call__"
    assert set(found[-1].arguments["batch"]) == KEYS - {"keypoints"}
    assert not folder.exists()
    with pytest.raises(ValueError, match="choose one of pose, detect"), scenes.trainer("segment"):
        pass


# Ours, and a plain loop
# --------------------------------------------------------------------------------------------------


def test_our_trainer():
    trainer = sample.sample_trainer(images=2, side=32)
    tree = trace.record(trainer.train, packages=("yolostudy",))
    found = trace.path_between(tree, "Trainer.train", "DetectionLoss.forward")
    assert [call.function for call in found][:3] == ["Trainer.train", "Trainer.run_step", "train_step"]
    assert found[-1].arguments["targets"].startswith("float32 (")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x)


def plain_loop(steps=3):
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        loss = model(torch.ones(5, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_plain_loop():
    tree = trace.record(plain_loop, packages=(__name__, "torch.nn"))
    found = trace.path_between(tree, "plain_loop", "Linear.forward")
    assert owners(found) == [".plain_loop", "Small._wrapped_call_impl", "Small._call_impl", "Small.forward"] + [
        f"Linear.{name}" for name in ("_wrapped_call_impl", "_call_impl", "forward")
    ]
    assert found[-1].result == "float32 (5, 2) cpu"
    alone = trace.record(plain_loop, 2)  # without packages: this module's own
    assert [call.function for call in alone.calls[0].calls] == ["Small.__init__", "Small.forward", "Small.forward"]


# Nothing stays behind
# --------------------------------------------------------------------------------------------------


def boom(depth):
    if depth == 0:
        raise ValueError("boom")
    boom(depth - 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_goes_through_and_leaves_the_tree_so_far(error):
    def fails():
        boom_with(error)

    root, before = trace.Call("kept"), sys.getprofile()
    time.sleep(0.01)
    made = time.perf_counter()  # the root counts from when it is recorded into, not from when it was made
    with pytest.raises(error):
        trace.record(fails, packages=(__name__,), into=root)
    assert sys.getprofile() is before
    assert root.calls[0].result == "Raised" and root.calls[0].calls[0].result == "Raised"
    assert root.seconds < time.perf_counter() - made


def boom_with(error):
    raise error("stop")


def test_the_profiler_that_was_there_is_put_back():
    def mine(*_):
        pass

    before = sys.getprofile()
    sys.setprofile(mine)
    try:
        trace.record(plain_loop, 1)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(before)


def test_other_threads_are_not_written_down():
    def work():
        thread = threading.Thread(target=boom_quietly)
        thread.start()
        thread.join()
        boom_quietly()

    tree = trace.record(work, packages=(__name__,))
    assert [call.function for call in tree.calls[0].calls] == ["boom_quietly"]


def boom_quietly():
    try:
        boom(0)
    except ValueError:
        pass


def test_a_tree_that_grows_too_large_stays_in_step(monkeypatch):
    monkeypatch.setattr(trace, "MAX_CALLS", 5)
    tree = trace.record(boom_in_turn, 10, packages=(__name__,))
    assert calls(tree) == 6 and tree.seconds > 0 and tree.calls[0].seconds > 0


def boom_in_turn(times):
    for _ in range(times):
        boom_quietly()


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_both_ways_of_watching_see_the_same(version, tmp_path):
    """The module needs only Python, so another version can run it, with sys.monitoring or without."""
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    named = f"import sys; sys.exit(sys.version_info[:2] != ({version.replace('.', ', ')}))"
    works = (
        place for place in places if place and not subprocess.run([place, "-c", named], capture_output=True).returncode
    )
    if not (found := next(works, None)):
        pytest.skip(f"no Python {version} here")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    seen = []
    for one in (sys.executable, found):
        done = subprocess.run([one, program, Path(trace.__file__)], capture_output=True, text=True, check=True)
        seen.append(done.stdout)
    assert seen[0] == seen[1] and "Base.loss" in seen[0] and seen[0].endswith("left behind 0\n")


PROGRAM = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("watched_from", sys.argv[1])
trace = sys.modules["watched_from"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trace)

class Base:
    def __call__(self, x): return self.loss(x) + helper(x)
    def loss(self, x): return 2 * x
class Child(Base):
    def loss(self, x): return super().loss(x) + 1
def helper(x, *more, flag=False, **rest): return sum(i for i in numbers(x))
def numbers(n):
    for i in range(n): yield i
def bad(): raise ValueError("no")
def quiet():
    try: bad()
    except ValueError: return None
def main():
    quiet(), [helper(i) for i in range(2)], sorted([3, 1], key=lambda v: helper(v))
    return Child()(3)
def plain(c): return [c.function, c.owner, c.arguments, c.result, [plain(i) for i in c.calls]]
print(json.dumps(plain(trace.record(main, packages=("__main__",)))))
try: trace.record(bad)
except ValueError: pass
tools = [sys.monitoring.get_tool(n) for n in range(6)] if hasattr(sys, "monitoring") else []
print("left behind", (sys.getprofile() is not None) + sum(t is not None for t in tools))
"""


# The terminal
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*command.KINDS])
def test_the_command_writes_what_it_recorded(tmp_path, capsys, suffix):
    out = tmp_path / f"tree{suffix}"
    assert command.run(f"{__name__}:boom_quietly", {"packages": __name__, "out": str(out)}) == 0
    told = capsys.readouterr().out
    assert "boom_quietly" in told and "2 calls" in told and "boom_quietly" in out.read_text()


def test_the_command_finds_chains_and_rows(capsys):
    what = {"packages": __name__}
    assert command.run(f"{__name__}:boom_quietly", what | {"from": "boom_quietly", "to": "boom"}) == 0
    assert "boom  " in capsys.readouterr().out
    assert command.run(f"{__name__}:boom_quietly", what | {"from": "boom", "to": "boom_quietly"}) == 1
    assert "No call of boom_quietly was made inside a boom." in capsys.readouterr().out
    assert command.run(f"{__name__}:boom_quietly", what | {"find": "BOOM_Q"}) == 0
    assert "boom_quietly × 1" in capsys.readouterr().out


def fails_at_once():
    boom(2)


def test_the_command_shows_what_there_is_of_a_program_that_fails(capsys):
    assert command.run(f"{__name__}:fails_at_once", {"packages": __name__}) == 1
    captured = capsys.readouterr()
    assert "ended by ValueError: boom" in captured.err and "boom" in captured.out


@pytest.mark.parametrize(
    ("what", "settings", "sentence"),
    [
        ("somewhere", {}, "write MODULE:CALLABLE"),
        ("no_such_module:main", {}, "there is no module"),
        ("json:no_such", {}, "json has no no_such"),
        ("json:__doc__", {}, "cannot be called"),
        ("json:dumps", {"colour": "red"}, "unknown key 'colour'"),
        ("json:dumps", {"from": "a"}, "belong together"),
        ("json:dumps", {"out": "tree.png"}, "must end in one of"),
    ],
)
def test_the_command_says_what_is_wrong(what, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        command.run(what, settings)
