"""The anchor branch: its anchors, its loss, what it leaves behind, and that it resumes exactly."""

import copy
import gc
import math
import os
import subprocess

import numpy as np
import pytest
import torch

from tests import tiny, warm
from tests.tiny import preset_for
from yolostudy import data, hooks, runs
from yolostudy.boxes import complete_iou
from yolostudy.data.records import DataError, DetectionSet, Record
from yolostudy.hooks import load_weights
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.pose import PoseLoss, PoseYOLO
from yolostudy.runs import presets
from yolostudy.runs.anchor_aid import (
    AnchorAid,
    AnchorAidedLoss,
    AnchorBranch,
    AnchorLoss,
    cluster_sizes,
    training_sizes,
)
from yolostudy.runs.presets import PresetError

ANCHORS = torch.tensor(
    [[[10.0, 12], [20, 14], [16, 24]], [[30, 20], [24, 36], [32, 32]], [[60, 40], [40, 60], [64, 64]]]
)


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("data") / "tiny")


def a_network(seed: int = 0) -> YOLO:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return YOLO(2)


def a_batch() -> tuple[torch.Tensor, torch.Tensor]:
    targets = torch.tensor([[0, 1, 8, 8, 40, 48], [0, 0, 30, 20, 60, 50], [1, 0, 4, 10, 36, 60]], dtype=torch.float32)
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)), targets


# Anchors
# --------------------------------------------------------------------------------------------------


def test_clusters_are_found_and_come_by_area():
    centres = torch.tensor([[40.0, 10], [10, 10], [30, 60]])
    noise = torch.rand(40, 3, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    found = cluster_sizes((centres + noise).reshape(-1, 2), 3)
    torch.testing.assert_close(found, centres[[1, 0, 2]], rtol=0, atol=0.2)
    assert torch.equal(found, cluster_sizes((centres + noise).reshape(-1, 2), 3))


def test_a_large_box_counts_no_more_than_a_small_one():
    """By the distance of widths and heights 10 would go to 20 and not to 2; by the IoU it does not matter how large."""
    sizes = torch.tensor([[2.0, 2], [2, 2], [2.5, 2.5], [20, 20], [25, 25], [25, 25]])
    small, large = cluster_sizes(sizes, 2)
    torch.testing.assert_close(large, small * (large[0] / small[0]))
    assert 2 < small[0] < 2.5 and 20 < large[0] < 25
    torch.testing.assert_close(cluster_sizes(sizes * 7, 2), torch.stack((small, large)) * 7)


def test_fewer_sizes_than_clusters():
    found = cluster_sizes(torch.tensor([[8.0, 4], [8, 4], [3, 3]]), 9)
    assert found.shape == (9, 2) and {tuple(row) for row in found.tolist()} == {(3, 3), (8, 4)}


def records(*shapes: tuple[tuple[int, int], list]) -> DetectionSet:
    found = [
        Record(None, size, np.float32(boxes).reshape(-1, 4), np.zeros(len(boxes), np.int64)) for size, boxes in shapes
    ]
    return DetectionSet("some", ("A1",), found)


def test_sizes_are_those_of_the_letterbox():
    some = records(((128, 64), [(0, 0, 64, 16)]), ((32, 32), [(1, 1, 5, 9), (0, 0, 32, 2)]), ((64, 64), []))
    assert training_sizes(some, 64).tolist() == [[32, 8], [8, 16], [64, 4]]
    assert training_sizes(some, 64, quarter_turns=True)[3:].tolist() == [[8, 32], [16, 8], [4, 64]]
    with pytest.raises(DataError, match="some: no image has an object, and fuse_ab takes its anchors"):
        training_sizes(records(((64, 64), [])), 64)


# Branch and loss
# --------------------------------------------------------------------------------------------------


def features(model: YOLO, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    widths = [(box[-1].in_channels, cls[-1].in_channels) for box, cls in zip(model.head.box, model.head.cls)]
    sides = [64 // stride for stride in model.strides]
    return [
        tuple(torch.randn(2, width, side, side, generator=generator) for width in pair)
        for pair, side in zip(widths, sides, strict=True)
    ]


def test_an_untrained_branch_answers_with_its_anchors_at_every_anchor_point():
    model = a_network()
    state = torch.get_rng_state()
    branch = AnchorBranch(model, ANCHORS)
    assert torch.equal(torch.get_rng_state(), state)
    maps = branch(features(model))
    assert [tuple(level.shape) for level in maps] == [(2, 6, side, side) for side in (8, 8, 8, 4, 4, 4, 2, 2, 2)]
    boxes, logits, points, strides = AnchorLoss(model, 3).decode(maps)
    boxes, place = boxes * strides, 0
    for level, stride in enumerate(model.strides):
        for width, height in ANCHORS[level].tolist():
            for row in range(64 // stride):
                for column in range(64 // stride):
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                    torch.testing.assert_close(boxes[1, place], torch.tensor(expected))
                    assert (points * strides)[place].tolist() == [x, y]
                    place += 1
    assert place == boxes.shape[1] == 252
    # three answers at a position expect together what the head's one does
    for start, cls in zip((0, 192, 240), model.head.cls, strict=True):
        torch.testing.assert_close(logits[0, start] + math.log(3), cls[-1].bias)


def test_a_raw_number_moves_the_centre_by_strides_and_widens_to_four_times_at_most():
    model = a_network()
    branch = AnchorBranch(model, ANCHORS)
    branch.box[1].bias.data[4:8] = torch.tensor([0.5, -1.0, 50.0, -50.0])  # the second anchor of stride 16
    centre_and_size = branch(features(model))[4][0, :4, 0, 0]
    torch.testing.assert_close(centre_and_size, torch.tensor([0.5, -1.0, 4 * 24 / 16, 0.0]))


def test_the_loss_is_that_of_a_plain_loop():
    model, (_, targets) = a_network(), a_batch()
    branch, loss = AnchorBranch(model, ANCHORS), AnchorLoss(model, 3, box_gain=3.0, cls_gain=2.0)
    for parameter in branch.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.02)
    maps, kept, assign = branch(features(model)), [], loss.assigner
    loss.assigner = lambda *arguments: kept.append(assign(*arguments)) or kept[-1]
    found = loss(maps, targets)
    boxes, logits, _, strides = loss.decode(maps)
    assigned, box, cls = kept[0], 0.0, 0.0
    for image in range(2):
        for answer in range(252):
            for k in range(2):
                p, t = logits[image, answer, k].sigmoid(), assigned.scores[image, answer, k]
                cls = cls - t * p.log() - (1 - t) * (1 - p).log()
            if assigned.foreground[image, answer]:
                overlap = complete_iou(boxes[image, answer] * strides[answer], assigned.boxes[image, answer])
                box = box + (1 - overlap) * assigned.scores[image, answer].sum()
    expected = (3 * box + 2 * cls) / assigned.scores.sum().clamp(min=1)
    assert loss.assigner and assign.k == 20 and 20 < int(assigned.foreground.sum()) <= 60
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    nothing = loss(branch(features(model)), targets[:0])
    assert bool(nothing.isfinite()) and nothing.requires_grad


def test_its_gradient_reaches_all_that_both_read_and_not_the_heads_last_convolutions():
    model, (images, targets) = a_network().train(), a_batch()
    loss = AnchorAidedLoss(DetectionLoss(model), model, ANCHORS)
    for parameter in loss.branch.parameters():  # at 0 only the branch itself learns
        parameter.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    loss(model(images), targets).anchor.backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0}
    assert silent == {
        f"head.{kind}.{level}.2.{what}" for kind in ("box", "cls") for level in range(3) for what in ("weight", "bias")
    }
    assert all(float(p.grad.abs().max()) > 0 for p in loss.branch.parameters())


def test_the_parts_of_the_loss_inside_stay_and_anchor_is_one_more():
    model, (images, targets) = a_network().train(), a_batch()
    state = copy.deepcopy(model.state_dict())
    plain = DetectionLoss(model)(model(images), targets)
    model.load_state_dict(state)
    parts = AnchorAidedLoss(DetectionLoss(model), model, ANCHORS, gain=0.5)(model(images), targets)
    model.load_state_dict(state)
    whole = AnchorAidedLoss(DetectionLoss(model), model, ANCHORS)(model(images), targets)
    assert parts._fields == ("total", "box", "cls", "dfl", "anchor")
    assert all(torch.equal(getattr(parts, name), getattr(plain, name)) for name in ("box", "cls", "dfl"))
    torch.testing.assert_close(parts.total, plain.total + parts.anchor)
    torch.testing.assert_close(parts.anchor, whole.anchor / 2)


def test_a_pose_network_is_aided_too():
    with torch.random.fork_rng():
        model = PoseYOLO(2, keypoint_shape=(4, 3)).train()
    images, targets = a_batch()
    targets = torch.cat((targets, torch.ones(3, 12) * 20), dim=1)
    parts = AnchorAidedLoss(PoseLoss(model), model, ANCHORS)(model(images), targets)
    parts.total.backward()
    assert parts._fields == ("total", "box", "pose", "visibility", "cls", "dfl", "anchor") and parts.anchor.item() > 0


def test_it_needs_a_pass_in_training_mode_and_leaves_nothing_on_the_model():
    model, (images, targets) = a_network(), a_batch()
    loss = AnchorAidedLoss(DetectionLoss(model), model, ANCHORS)
    with torch.no_grad():
        maps = model.eval()(images)
    with pytest.raises(RuntimeError, match="has not run in training mode since the last loss"):
        loss(maps, targets)
    loss(model.train()(images), targets)
    assert not loss.towers.seen  # the graph of this step is not kept
    assert {*model.state_dict()} == {*a_network().state_dict()}
    del loss
    gc.collect()
    assert not any(module._forward_pre_hooks for module in model.modules())


# In a run
# --------------------------------------------------------------------------------------------------


def states(*folders, name: str = "last.safetensors") -> list[dict]:
    return [load_weights(folder / name)[0] for folder in folders]


class Interrupt(hooks.Hook):
    def after_step(self, trainer):
        if trainer.steps == 6:
            raise KeyboardInterrupt


@pytest.mark.parametrize("overrides", [{}, {"optimizer": "sgd", "accumulate": 3, "clip": 0.5}])
def test_a_resumed_run_ends_with_the_same_weights_and_none_of_the_branchs(tiny_data, tmp_path, overrides):
    preset = preset_for(tiny_data, fuse_ab=True, **overrides)
    whole = runs.train(preset, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, tmp_path / "broken", [Interrupt()])
    torch.manual_seed(99)
    resumed = runs.train(preset, tmp_path / "broken")
    assert resumed.trainer.steps == whole.trainer.steps == 12
    for name in ("last.safetensors", "best.safetensors"):
        first, second = states(tmp_path / "whole", tmp_path / "broken", name=name)
        assert {*first} == {*YOLO(2).state_dict()}, name
        assert all(torch.equal(first[key], second[key]) for key in first), name
    first, second = (run.trainer.loss.branch.state_dict() for run in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert float(first["box.0.weight"].abs().max()) > 1e-4  # it has learned
    kept = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)
    assert {*kept["model"]} == {*YOLO(2).state_dict()} and {*kept["hooks"]["AnchorAid"]} == {*first}
    assert not whole.trainer.optimizer._optimizer_step_pre_hooks


def test_a_gain_of_nothing_trains_the_weights_of_a_plain_run_bit_for_bit(tiny_data, tmp_path):
    plain = runs.train(preset_for(tiny_data, epochs=2), tmp_path / "plain")
    runs.train(preset_for(tiny_data, epochs=2, fuse_ab=True, anchor_gain=0.0), tmp_path / "fused")
    runs.train(preset_for(tiny_data, epochs=2, fuse_ab=True), tmp_path / "aided")
    first, second, third = states(*(tmp_path / name for name in ("plain", "fused", "aided")))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)
    # off, nothing of it is there
    assert type(plain.trainer.loss) is DetectionLoss and not any(isinstance(h, AnchorAid) for h in plain.trainer.hooks)
    assert [len(group["params"]) for group in plain.trainer.optimizer.param_groups] == [63, 120]
    assert not any(module._forward_pre_hooks for module in plain.trainer.model.modules())


def test_beside_a_teacher_and_the_average_has_no_listener(tiny_data, tmp_path):
    teacher = runs.train(preset_for(tiny_data, epochs=1), tmp_path / "teacher")
    keys = {"teacher": str(teacher.folder / "last.safetensors"), "response": "bernoulli", "distill_final": 0.1}
    run = runs.train(preset_for(tiny_data, epochs=2, fuse_ab=True, dfl_gain=2.0, **keys), tmp_path / "student")
    assert run.trainer.parts._fields[1:] == ("box", "cls", "dfl", "feature", "response", "distance", "anchor")
    assert run.trainer.metrics["distance"] > 0 and run.trainer.metrics["anchor"] > 0
    assert 0.1 < run.trainer.loss.share < 0.5  # faded, through both losses
    assert [len(group["params"]) for group in run.trainer.optimizer.param_groups] == [63 + 6, 120 + 6]
    assert not any(module._forward_pre_hooks for module in run.validation.model.modules())
    assert {*states(run.folder)[0]} == {*YOLO(2).state_dict()}


def test_the_branchs_biases_warm_up_with_the_others(tiny_data, tmp_path):
    keys = {"fuse_ab": True, "warmup_bias_rate": 0.05, "optimizer": "sgd"}
    run = runs.prepare(preset_for(tiny_data, **keys), tmp_path)
    groups, own = run.trainer.optimizer.param_groups, dict(run.trainer.loss.branch.named_parameters())
    place = {id(parameter): bool(group.get("biases")) for group in groups for parameter in group["params"]}
    assert len(place) == 183 + 12 == sum(len(group["params"]) for group in groups)
    assert all(place[id(parameter)] == name.endswith("bias") for name, parameter in own.items())


def test_a_value_that_would_have_no_effect_is_refused(tiny_data, tmp_path):
    for keys, words in (
        ({"anchor_gain": 2.0}, "there is none: add fuse_ab=true"),
        ({"anchor_gain": -1.0, "fuse_ab": True}, "a gain of at least 0"),
        ({"dfl_gain": 1.0}, "distillation needs a teacher"),
        ({"dfl_temperature": 2.0}, "add dfl_gain=1 and a teacher"),
    ):
        with pytest.raises(PresetError, match=words):
            runs.prepare(preset_for(tiny_data, **keys), tmp_path)
    assert presets.load("planes", fuse_ab="true", anchor_gain="0.5").anchor_gain == 0.5


def test_the_branchs_gradient_is_clipped_by_itself():
    model, (images, targets) = a_network().train(), a_batch()
    loss = AnchorAidedLoss(DetectionLoss(model), model, ANCHORS, gain=100.0)
    optimizer, hook, norms = torch.optim.SGD(loss.branch.parameters(), lr=1.0), AnchorAid(loss.branch, 0.25), []
    hook.before_train(type("Trainer", (), {"optimizer": optimizer}))
    optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.stack([p.grad.norm() for p in loss.branch.parameters()]).norm().item())
    )
    loss(model(images), targets).total.backward()
    optimizer.step()
    hook.after_train(None)
    optimizer.step()
    assert norms[0] == pytest.approx(0.25, rel=1e-4) and len(optimizer._optimizer_step_pre_hooks) == 1


RANK_SCRIPT = """
import torch
from torch.nn.parallel import DistributedDataParallel
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.runs.anchor_aid import AnchorAidedLoss, aided
from yolostudy.runs import anchor_aid, presets
from yolostudy.training import build_optimizer
torch.manual_seed(0)
torch.set_num_threads(1)
model = YOLO(2).train()
for part in (model.backbone, model.neck, *(layer for level in (*model.head.box, *model.head.cls) for layer in level[:2])):
    part.eval()  # statistics of half a batch differ
images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
targets = torch.tensor([[0, 0, 8, 8, 40, 40], [0, 1, 20, 4, 60, 30], [1, 1, 10, 10, 30, 60], [3, 0, 5, 30, 50, 60.]])
sizes = targets[:, 4:] - targets[:, 2:4]
anchor_aid.training_sizes = lambda *_: sizes
preset = presets.load("planes.nano", profile="mini", fuse_ab=True)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()

def gradients(model, wrapped, images, targets):
    loss, _ = aided(preset, DetectionLoss(model), model, build_optimizer(model), None)
    branch = getattr(loss.branch, "module", loss.branch)
    for parameter in branch.parameters():
        parameter.data.normal_(0, 0.02, generator=torch.Generator().manual_seed(2))
    loss(wrapped(images), targets).total.backward()
    return {n: p.grad.clone() for part in (model, branch) for n, p in part.named_parameters()}

half = slice(2 * rank, 2 * rank + 2)
mine = targets[(targets[:, 0] >= half.start) & (targets[:, 0] < half.stop)].clone()
mine[:, 0] -= half.start
together = gradients(model, DistributedDataParallel(model), images[half], mine)
torch.distributed.destroy_process_group()
if rank == 0:
    model.zero_grad()
    alone = gradients(model, model, images, targets)
    print("WORST", max(float((together[n] - g).abs().max() / g.abs().max().clamp(min=1e-9)) for n, g in alone.items()), len(alone))
"""


def test_two_processes_give_the_gradients_of_one_with_the_doubled_batch():
    command = warm.words("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command += ["--no-python", *warm.words("-c", RANK_SCRIPT)]
    environment = os.environ | {"YOLOSTUDY_USE": "reference", "PYTHONPATH": str(data.DATASETS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    worst, count = done.stdout.split("WORST")[1].split()
    assert float(worst) <= 1e-4 and int(count) == 183 + 12
