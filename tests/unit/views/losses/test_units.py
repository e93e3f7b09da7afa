"""Every value of a loss is measured, and its unit is the right one."""

import pytest

from tests.unit.views.losses.batches import a_batch, a_loss
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.losses import units


def test_every_unit_is_what_it_should_be():
    maps, targets = a_batch(4)
    readings = views.measure_units(a_loss(), maps, targets)
    by_name = {(r.place, r.name): r for r in readings}
    assert all(r.unit in units.UNITS and r.finite for r in readings)
    assert (by_name["into the assigner", "anchors"].low, by_name["into the assigner", "anchors"].high) == (4.0, 92.0)
    assert by_name["the batch", "targets"].high == pytest.approx(float(targets[:, 2:].max()))
    assert by_name["into the assigner", "ground truths"].low == pytest.approx(float(targets[:, 2:].min())), (
        "padding is left out"
    )
    assert by_name["into the box loss", "anchors"].high <= 11.5
    assert by_name["into the box loss", "target boxes"].high <= 12
    for name in (
        ("into the assigner", "scores"),
        ("out of the assigner", "target scores"),
        ("into the box loss", "weight"),
    ):
        assert 0 <= by_name[name].low <= by_name[name].high <= 1
    assert 0 <= by_name["into DFL", "distances"].low and by_name["into DFL", "distances"].high <= 14.99


def test_units_of_an_empty_batch_are_nothing():
    maps, targets = a_batch(empty=True)
    readings = views.measure_units(a_loss(), maps, targets)
    assert [r.finite for r in readings].count(False) == 6
    style.as_png(views.draw_units({"empty": readings}))
