"""Several runs side by side: smoothing, sources, sliders, the tape."""

import math

import numpy as np
import pytest
import torch

from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.training import runs

NAN = float("nan")


def png_size(figure):
    return len(style.as_png(figure))


def tape(losses, rate=1e-3, **options):
    made = views.RunTape(**options)
    for number, loss in enumerate(losses):
        made.update(torch.tensor(loss), rate, last=number == len(losses) - 1)
    return made


def test_smoothing_is_the_unbiased_exponential_average():
    values = [4.0, 2.0, NAN, 1.0]
    weights = np.array([0.8**2, 0.8, 1])
    smooth = runs.smoothed(values, 0.8)
    assert smooth[0] == 4 and smooth[1] == pytest.approx((0.8 * 4 + 2) / 1.8) and np.isnan(smooth[2])
    assert smooth[3] == pytest.approx(weights @ [4, 2, 1] / weights.sum())
    assert np.array_equal(runs.smoothed(values, 0), values, equal_nan=True)


def test_runs_are_compared_from_tapes_files_and_columns(tmp_path):
    good, broken = tape([4, 3, 2, 1.0], label="good"), tape([4, 5, NAN, NAN], rate=0.1)
    numbers = views.compare_runs({"good": good, "broken": broken}, smoothing=0)
    assert numbers["good"].fell_to == 0.25 and numbers["good"].broken_at is None
    assert numbers["broken"].broken_at == 3 and list(numbers["broken"].rate) == [0.1] * 4
    assert good.numbers.fell_to < 1
    assert png_size(views.draw_runs(numbers)) <= style.MAX_BYTES

    (tmp_path / "results.csv").write_text("epoch,lr,loss\n1,0.1,5\n2,0.2,4\n")
    columns = {"epoch": [1, 2], "loss": [3, 2], "lr": [0.1, 0.1]}
    numbers = views.compare_runs({"file": tmp_path, "columns": columns}, x="epoch")
    assert list(numbers["file"].loss) == [5, 4] and list(numbers["columns"].at) == [1, 2]
    views.draw_runs(numbers, "epoch", log=True)
    with pytest.raises(ValueError, match="run 'file' has no column step"):
        views.compare_runs({"file": tmp_path})
    with pytest.raises(ValueError, match="smoothing is 1"):
        views.compare_runs({"good": good}, smoothing=1)


def test_a_run_without_a_finite_loss_is_drawn():
    numbers = views.compare_runs({"nothing": tape([NAN, NAN])})
    assert math.isnan(numbers["nothing"].fell_to) and numbers["nothing"].broken_at == 1
    assert png_size(views.draw_runs(numbers))


def test_the_bench_moves_its_numbers():
    bench = views.RunBench({"one": tape([4, 2, 3, 1.0])}, smoothing=0.9)
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
