"""The pictures of the loss are small, and their controls move them."""

import pytest

from tests.unit.views.losses.batches import a_batch, a_loss, noise, smooth
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.losses import pad_targets


def test_pictures_are_small_enough():
    maps, targets = a_batch(4)
    loss = a_loss()
    found = views.attribute_loss(loss, maps, targets)
    units = views.measure_units(loss, maps, targets)
    row = {"total": 3.0, "box": 1.0, "cls": 1.0, "dfl": 1.0}
    figures = [
        views.draw_loss_shares([("noise", found, "cls")], noise(), 2),
        views.draw_positive_weights(found, smooth(), 2),
        views.draw_two_bins({"one": views.two_bins(3.3, [1] * 8)}),
        views.draw_padding(targets, *pad_targets(targets, 3)),
        views.draw_padding(targets[:0], *pad_targets(targets[:0], 3)),
        views.draw_units({"one": units, "two": units, "three": units}),
        views.draw_loss_steps([row] * 5, smooth()),
    ]
    for figure in figures:
        content = style.as_png(figure)
        assert content.startswith(b"\x89PNG") and len(content) <= style.MAX_BYTES


def test_the_bench_follows_its_controls():
    maps, targets = a_batch(4)
    loss = a_loss()
    both = {
        "one": views.attribute_loss(loss, maps, targets),
        "two": views.attribute_loss(loss, [-level for level in maps], targets),
    }
    bench = views.ShareBench(both, [smooth()] * 3, ["A1", "A2", "A3"])
    first, picture = bench.numbers, bench.picture.value
    assert set(first) == {"one", "two"} and first["one"] == views.loss_breakdown(both["one"], 0, "cls")
    bench.part.value = "box"
    assert bench.numbers["two"] == views.loss_breakdown(both["two"], 0, "box") and bench.picture.value != picture
    bench.image.value = 2
    assert bench.numbers["one"]["image"] == 2 and len(bench.numbers["one"]["objects"]) == 3
    bundle = bench._repr_mimebundle_()
    assert bundle["text/plain"] == "ShareBench(one, two)" and "image/png" in bundle


def test_the_tape_keeps_every_step_and_draws_nothing_in_a_terminal():
    maps, targets = a_batch()
    tape = views.LossTape()
    assert tape.numbers == {"steps": 0}
    for _ in range(3):
        tape.update(a_loss()(maps, targets), picture=lambda: pytest.fail("there is nobody to draw for"), last=True)
    assert tape.numbers["steps"] == 3
    assert tape.numbers["first"]["total"] == pytest.approx(sum(tape.numbers["last"][name] for name in views.LOSS_PARTS))
