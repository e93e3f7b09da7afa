"""Bars of base and novel classes, and the means of each group."""

import math
from types import SimpleNamespace

import pytest

from solutions import metrics
from yolostudy.canvas import style
from yolostudy.views import draw_class_bars

CLASSES = ("A1", "A2", "A3", "A4")
SOME = ("A3", "A1")


def judged(ap, names=CLASSES):
    rows = [metrics.ClassResult(name, 1, value, value / 2, 0, 0, 0) for name, value in zip(names, ap)]
    return SimpleNamespace(per_class=rows)


def test_the_bars_stand_by_group_and_the_means_are_of_the_group():
    figure = draw_class_bars({"one": judged([0.8, 0.1, 0.6, 0.3]), "two": judged([0.5, 0.2, 0.5, 0.4])}, SOME)
    numbers = figure.numbers
    assert numbers["one"] == pytest.approx({"base": 0.7, "novel": 0.2, "all": 0.45})
    assert numbers["two"] == pytest.approx({"base": 0.5, "novel": 0.3, "all": 0.4})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A1", "A3", "A2", "A4"]
    assert [bar.get_height() for bar in axes.containers[0]] == [0.8, 0.6, 0.1, 0.3]
    assert len(style.as_png(figure)) <= style.MAX_BYTES


def test_bars_of_one_group_alone():
    figure = draw_class_bars({"teacher": judged([0.8, 0.6], SOME)}, SOME)
    numbers = figure.numbers
    assert numbers["teacher"]["base"] == numbers["teacher"]["all"] == pytest.approx(0.7) and math.isnan(
        numbers["teacher"]["novel"]
    )
    style.as_png(figure)


@pytest.mark.parametrize("wrong", [{}, {"one": judged([1, 1]), "two": judged([1, 1], SOME)}])
def test_bars_of_other_classes_are_refused(wrong):
    with pytest.raises(ValueError, match="the same classes"):
        draw_class_bars(wrong, SOME)
