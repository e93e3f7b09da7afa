"""The views of stage 7: their numbers against another computation, their controls, and that the
recorder leaves nothing behind.
"""

import copy
import math
from base64 import b64decode

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

from solutions import metrics
from solutions import training as reference
from yolostudy.canvas import style
from yolostudy.views.training import gradients as training_gradients
from yolostudy.views.training import quality as training_quality
from yolostudy.views.training import rate as training_rate
from yolostudy.views.training import runs as training_views

NAN = float("nan")


def png_size(figure):
    return len(style.as_png(figure))


# ------------------------------------------------------------------------------------ learning rate


def test_the_plan_is_the_schedule_times_the_rate():
    plan = training_rate.plan_rate(reference.WarmupCosine(10, 0.1), 100, 2e-3)
    expected = [2e-3 * min(1, (s + 1) / 10) * (0.1 + 0.9 * (1 + math.cos(math.pi * s / 100)) / 2) for s in range(100)]
    assert np.allclose(plan.rates, expected)
    assert plan.peak == max(expected) and plan.peak_step == expected.index(max(expected))
    assert plan.largest_rise == pytest.approx(max(np.diff([0.0, *expected])))
    assert plan.mean_share == pytest.approx(np.mean(expected) / max(expected))
    assert png_size(training_rate.draw_rates({"a": plan, "b": plan})) <= style.MAX_BYTES


@pytest.mark.parametrize("wrong", [None, NAN, "0.5 of it", math.inf])
def test_a_schedule_that_gives_no_number_is_named(wrong):
    with pytest.raises(ValueError, match="for step 3 of 10; a finite number"):
        training_rate.plan_rate(lambda step, progress: wrong if step == 3 else 1.0, 10)


def test_the_designer_moves_its_numbers_and_says_what_is_wrong():
    bench = training_rate.RateDesigner(reference.WarmupCosine, warmup=40, steps=200)
    gentle = bench.numbers.largest_rise
    bench.warmup.value = 0
    assert bench.numbers.peak_step == 0 and bench.numbers.largest_rise > 20 * gentle
    assert len(bench.figure.axes[0].lines) == 1
    bench.rate.value, bench.steps.value = 0.1, 100
    assert len(bench.numbers.rates) == 100 and bench.numbers.peak == pytest.approx(0.1)
    bench.final.value = 1.0
    assert bench.numbers.mean_share == pytest.approx(1)

    def broken(warmup, final):
        if final < 0.5:
            raise NotImplementedError("exercise training.WarmupCosine")
        return lambda step, progress: 1.0

    bench.schedule = broken
    before = bench.picture.value
    bench.final.value = 0.1
    assert (
        "NotImplementedError: exercise training.WarmupCosine" in bench.message.value and bench.picture.value == before
    )
    bench.final.value = 0.9
    assert bench.message.value == "" and bench.numbers.largest_rise == pytest.approx(0.1)
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES


# ------------------------------------------------------------------------------------- several runs


def tape(losses, rate=1e-3, **options):
    made = training_views.RunTape(**options)
    for number, loss in enumerate(losses):
        made.update(torch.tensor(loss), rate, last=number == len(losses) - 1)
    return made


def test_smoothing_is_the_unbiased_exponential_average():
    values = [4.0, 2.0, NAN, 1.0]
    weights = np.array([0.8**2, 0.8, 1])
    smooth = training_views.smoothed(values, 0.8)
    assert smooth[0] == 4 and smooth[1] == pytest.approx((0.8 * 4 + 2) / 1.8) and np.isnan(smooth[2])
    assert smooth[3] == pytest.approx(weights @ [4, 2, 1] / weights.sum())
    assert np.array_equal(training_views.smoothed(values, 0), values, equal_nan=True)


def test_runs_are_compared_from_tapes_files_and_columns(tmp_path):
    good, broken = tape([4, 3, 2, 1.0], label="good"), tape([4, 5, NAN, NAN], rate=0.1)
    numbers = training_views.compare_runs({"good": good, "broken": broken}, smoothing=0)
    assert numbers["good"].fell_to == 0.25 and numbers["good"].broken_at is None
    assert numbers["broken"].broken_at == 3 and list(numbers["broken"].rate) == [0.1] * 4
    assert good.numbers.fell_to < 1
    assert png_size(training_views.draw_runs(numbers)) <= style.MAX_BYTES

    (tmp_path / "results.csv").write_text("epoch,lr,loss\n1,0.1,5\n2,0.2,4\n")
    columns = {"epoch": [1, 2], "loss": [3, 2], "lr": [0.1, 0.1]}
    numbers = training_views.compare_runs({"file": tmp_path, "columns": columns}, x="epoch")
    assert list(numbers["file"].loss) == [5, 4] and list(numbers["columns"].at) == [1, 2]
    training_views.draw_runs(numbers, "epoch", log=True)
    with pytest.raises(ValueError, match="run 'file' has no column step"):
        training_views.compare_runs({"file": tmp_path})
    with pytest.raises(ValueError, match="smoothing is 1"):
        training_views.compare_runs({"good": good}, smoothing=1)


def test_a_run_without_a_finite_loss_is_drawn():
    numbers = training_views.compare_runs({"nothing": tape([NAN, NAN])})
    assert math.isnan(numbers["nothing"].fell_to) and numbers["nothing"].broken_at == 1
    assert png_size(training_views.draw_runs(numbers))


def test_the_bench_moves_its_numbers():
    bench = training_views.RunBench({"one": tape([4, 2, 3, 1.0])}, smoothing=0.9)
    before, picture = bench.numbers["one"].fell_to, bench.picture.value
    bench.smoothing.value = 0
    assert bench.numbers["one"].fell_to == 0.25 < before
    bench.log.value = True
    assert bench.picture.value != picture and bench.figure.axes[0].get_yscale() == "log"


def test_the_tape_redraws_in_place_with_earlier_runs_beside(monkeypatch):
    shown = []
    monkeypatch.setattr("yolostudy.views.training.runs.InPlace.show", lambda self, draw: shown.append(len(draw().axes)))
    tape([3, 2, 1.0], label="now", beside={"before": tape([4, 3.0])}, pause=1e9)
    assert shown[-1] == 4  # loss and rate of two runs


# ---------------------------------------------------------------------------------------- gradients


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.head(self.backbone(images))


def steps(model, optimizer, count=3, error=None):
    images = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
    for _ in range(count):
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if error is not None:
            raise error


def test_the_recorder_measures_what_the_optimizer_gets():
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with training_gradients.GradientRecorder(model, depth=1) as recorder:
        steps(model, optimizer)
        stranger = nn.Parameter(torch.ones(1))
        torch.optim.SGD([stranger], lr=0.1).step()  # another optimizer of the same process is not looked at
    numbers = recorder.numbers
    model(torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)).square().mean().backward()
    expected = [
        math.sqrt(sum(float(p.grad.square().sum()) for p in part.parameters())) for part in (model.backbone, model.head)
    ]
    assert numbers.modules == ("backbone", "head") and numbers.norms.shape == (3, 2)
    assert np.allclose(numbers.norms, expected, rtol=1e-4) and np.allclose(numbers.typical, expected, rtol=1e-4)
    assert numbers.silent == () and numbers.parameters.tolist() == [3 * 4 * 9 + 4 + 8, 10]


def test_the_recorder_finds_the_frozen_backbone_even_if_it_is_frozen_on_the_way():
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference.freeze(model.backbone)
    with training_gradients.GradientRecorder(model) as recorder:
        steps(model, optimizer)
        frozen = recorder.numbers
        reference.unfreeze(model.backbone)
        steps(model, optimizer)
    assert frozen.silent == ("backbone.0", "backbone.1") and frozen.silent_share == pytest.approx(120 / 130)
    later = recorder.numbers
    assert later.silent == () and (later.norms[:3, :2] == 0).all() and (later.norms[3:] > 0).all()
    assert png_size(training_gradients.draw_gradients(frozen)) <= style.MAX_BYTES
    for empty in (
        training_gradients.GradientRecorder(model).numbers,
        training_gradients.GradientRecorder(nn.ReLU()).numbers,
    ):
        assert png_size(training_gradients.draw_gradients(empty))


@pytest.mark.parametrize("error", [ValueError("a fault"), KeyboardInterrupt(), None])
def test_the_recorder_leaves_nothing_behind(error):
    model, before = Small(), dict(_global_optimizer_pre_hooks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = training_gradients.GradientRecorder(model)
    try:
        with recorder:
            assert len(_global_optimizer_pre_hooks) == len(before) + 1
            with pytest.raises(RuntimeError, match="recording already"):
                recorder.__enter__()
            steps(model, optimizer, error=error)
    except BaseException as caught:
        assert caught is error
    assert dict(_global_optimizer_pre_hooks) == before
    count = len(recorder.rows)
    steps(model, optimizer)
    assert len(recorder.rows) == count
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in model.modules()
    )


def test_what_moved_keeps_weights_statistics_and_counters_apart():
    model = Small()
    before = copy.deepcopy(model.state_dict())
    assert training_gradients.what_moved(before, model).still
    model.backbone.requires_grad_(False)
    steps(model, torch.optim.SGD(model.head.parameters(), lr=0.1))
    moved = training_gradients.what_moved(before, model, depth=1)
    assert moved.modules == ("backbone", "head")
    assert moved.weights[0] == 0 < moved.weights[1] and moved.statistics[0] > 0 and np.isnan(moved.statistics[1])
    assert moved.counters == 1 and not moved.still
    change = (model.head.weight - before["head.weight"]).square().sum() + (
        model.head.bias - before["head.bias"]
    ).square().sum()
    size = before["head.weight"].square().sum() + before["head.bias"].square().sum()
    assert moved.weights[1] == pytest.approx(float((change / size).detach().sqrt()), rel=1e-4)
    assert png_size(training_gradients.draw_movement({"one": moved, "two": moved})) <= style.MAX_BYTES
    with pytest.raises(ValueError, match=r"has no 'backbone\.0\.weight'"):
        training_gradients.what_moved({}, model)


# ------------------------------------------------------------------------------------------ quality


def judged(seed=0, images=12, classes=2):
    """Truths on a grid, predictions near them with a score that knows something, and false alarms."""
    random = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(images):
        corner = np.array([[10.0, 10], [60, 10], [10, 60], [60, 60]])
        label = random.integers(0, classes, 4).astype(float)
        truths.append(np.column_stack([label, corner, corner + 30]))
        near = corner + random.normal(0, 4, corner.shape)
        hits = np.column_stack([near, near + 30, random.uniform(0.3, 0.99, 4), label])
        away = random.uniform(0, 60, (3, 2))
        false = np.column_stack([away, away + 30, random.uniform(0.01, 0.7, 3), random.integers(0, classes, 3)])
        predictions.append(np.concatenate([hits, false]))
    return predictions, truths


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.999])
def test_an_operating_point_agrees_with_counting(threshold):
    predictions, truths = judged()
    evaluation = metrics.evaluate(predictions, truths, ["A1", "A2"])
    for number, name in enumerate(("A1", "A2")):
        kept = [rows[(rows[:, 4] >= threshold) & (rows[:, 5] == number)] for rows in predictions]
        own = [rows[rows[:, 0] == number] for rows in truths]
        found = [metrics.match_predictions(p, t, np.array([0.5])) >= 0 for p, t in zip(kept, own)]
        hits, count = sum(int(f.sum()) for f in found), sum(map(len, kept))
        point = training_quality.operate(evaluation, threshold, name)
        assert point.recall == pytest.approx(hits / sum(map(len, own)), abs=0.0101)
        assert point.precision >= (hits / count if hits else 0) - 1e-9
        assert point.ap == pytest.approx(evaluation.ap[number, 0])
        assert np.all(np.diff(point.by_score[2]) <= 1e-12)  # a higher threshold never finds more


def test_the_mean_leaves_out_classes_without_truths():
    predictions, truths = judged()
    evaluation = metrics.evaluate(predictions, truths, ["A1", "A2", "nobody"])
    mean = training_quality.operate(evaluation, 0.5)
    single = [training_quality.operate(evaluation, 0.5, name) for name in ("A1", "A2")]
    assert mean.recall == pytest.approx(np.mean([one.recall for one in single])) and mean.ap == pytest.approx(
        evaluation.map50
    )
    with pytest.raises(ValueError, match="no class 'A9'"):
        training_quality.operate(evaluation, 0.5, "A9")
    with pytest.raises(ValueError, match="nobody has no ground truth"):
        training_quality.operate(evaluation, 0.5, "nobody")


def test_a_class_without_predictions_has_recall_0():
    evaluation = metrics.evaluate([np.zeros((0, 6))], [np.array([[0, 1, 1, 9, 9]])], ["A1"])
    point = training_quality.operate(evaluation, 0.5)
    assert (point.recall, point.ap, point.f1) == (0, 0, 0)
    assert png_size(training_quality.draw_operation(point))


def test_the_threshold_moves_the_point_and_the_picture():
    predictions, truths = judged()
    pictures = [np.full((100, 100, 3), 90, np.uint8)] * len(truths)
    bench = training_quality.ThresholdBench(
        metrics.evaluate(predictions, truths, ["A1", "A2"]), pictures, predictions, truths
    )
    low, picture = bench.numbers, bench.picture.value
    bench.threshold.value = 0.8
    assert (
        bench.numbers.recall < low.recall
        and bench.numbers.precision >= low.precision
        and bench.picture.value != picture
    )
    bench.class_name.value = "A2"
    assert bench.numbers.name == "A2"
    before = bench.picture.value
    bench.picture_number.value = 3
    assert bench.picture.value != before
    assert len(b64decode(bench._repr_mimebundle_()["image/png"])) <= style.MAX_BYTES
    plain = training_quality.ThresholdBench(metrics.evaluate(predictions, truths, ["A1", "A2"]))
    assert len(plain.figure.axes) == 2


def test_the_album_counts_and_shows_its_pages():
    predictions, truths = judged(images=2)
    pictures = [np.full((100, 100, 3), 90, np.uint8)] * 2
    album = training_quality.Album(pictures, truths, ["A1", "A2"])
    with pytest.raises(ValueError, match="no page yet"):
        training_quality.draw_album(album)
    album.add("epoch 0", [np.zeros((0, 6))] * 2)
    album.add("epoch 4", predictions)
    expected = sum(
        int((metrics.match_predictions(p[p[:, 4] >= 0.25], t, np.array([0.5])) >= 0).sum())
        for p, t in zip(predictions, truths)
    )
    assert album.numbers["epoch 0"] == {"truths": 8, "hits": 0, "misses": 8, "false_alarms": 0}
    assert album.numbers["epoch 4"]["hits"] == expected
    picture = training_quality.draw_album(album)
    assert picture.numbers["epoch 4"]["hits"] == expected and picture.image.shape[1] <= 960
    assert len(picture._repr_jpeg_()) <= style.MAX_BYTES
    assert training_quality.draw_album(album, ["epoch 4"]).numbers.keys() == {"epoch 4"}

    bench = training_quality.AlbumBench(album)
    assert bench.numbers["title"] == "epoch 4"
    bench.page.value = "epoch 0"
    assert bench.numbers["hits"] == 0
    assert len(b64decode(bench._repr_mimebundle_()["image/jpeg"])) <= style.MAX_BYTES
    with pytest.raises(ValueError, match="1 predictions for 2 pictures"):
        album.add("epoch 5", predictions[:1])
