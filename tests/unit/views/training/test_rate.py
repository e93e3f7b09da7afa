"""The planned learning rates against the formula, and the sliders."""

import math
from base64 import b64decode

import numpy as np
import pytest

from solutions import training as reference
from yolostudy import views
from yolostudy.canvas import style

NAN = float("nan")


def png_size(figure):
    return len(style.as_png(figure))


def test_the_plan_is_the_schedule_times_the_rate():
    plan = views.plan_rate(reference.WarmupCosine(10, 0.1), 100, 2e-3)
    expected = [2e-3 * min(1, (s + 1) / 10) * (0.1 + 0.9 * (1 + math.cos(math.pi * s / 100)) / 2) for s in range(100)]
    assert np.allclose(plan.rates, expected)
    assert plan.peak == max(expected) and plan.peak_step == expected.index(max(expected))
    assert plan.largest_rise == pytest.approx(max(np.diff([0.0, *expected])))
    assert plan.mean_share == pytest.approx(np.mean(expected) / max(expected))
    assert png_size(views.draw_rates({"a": plan, "b": plan})) <= style.MAX_BYTES


@pytest.mark.parametrize("wrong", [None, NAN, "0.5 of it", math.inf])
def test_a_schedule_that_gives_no_number_is_named(wrong):
    with pytest.raises(ValueError, match="for step 3 of 10; a finite number"):
        views.plan_rate(lambda step, progress: wrong if step == 3 else 1.0, 10)


def test_the_designer_moves_its_numbers_and_says_what_is_wrong():
    bench = views.RateDesigner(reference.WarmupCosine, warmup=40, steps=200)
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
