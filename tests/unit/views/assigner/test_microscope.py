"""The widget: its controls move the numbers, and a click chooses a box."""

import pytest

from solutions import assigner as reference
from tests.unit.views.assigner.samples import TRUTH, everywhere, seen, stub, with_
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.assigner import microscope, steps


def blank(width):
    figure, axes = style.figure(width=width, height=0.2)
    axes.remove()
    return figure


@pytest.fixture
def quick(monkeypatch):
    """Numbers without the picture: drawing it is what takes time."""
    monkeypatch.setattr(microscope, "draw_microscope", lambda found, scene=True: blank(0.2 + 0.1 * found.box))


@pytest.fixture
def scope(quick):
    pytest.importorskip("ipywidgets")
    return views.Microscope(
        {"rough": seen(12.0), "fine": seen(2.0, number=3)}, reference, with_(anchors_inside=everywhere)
    )


def test_a_click_on_a_box_chooses_it(scope):
    before = scope.picture.value
    scope.buttons[1].click()
    assert scope.numbers.box == 1 == scope.box.value and scope.picture.value != before
    assert [("chosen" in button._dom_classes) for button in scope.buttons] == [False, True]


def test_sliders_move_the_numbers_and_one_button_sets_them_back(scope):
    start = scope.numbers
    scope.k.value = 3
    assert scope.numbers.k == 3 and scope.numbers.reference.counts["top"] == 3
    scope.alpha.value, scope.beta.value = 0.0, 0.0
    inside = scope.numbers.reference.candidates
    assert scope.numbers.reference.metric[inside] == pytest.approx(1.0), (
        "with both exponents 0 all candidates are equally good"
    )
    scope._set_back()
    assert scope.numbers.reference.counts == start.reference.counts and (scope.k.value, scope.beta.value) == (10, 6)


def test_another_network_brings_its_own_picture_boxes_and_numbers(scope):
    scope.network.value = "fine"
    assert len(scope.buttons) == 3 == len(scope.box.options)
    scope.buttons[2].click()
    assert scope.numbers.slide is scope.slides["fine"] and scope.numbers.box == 2
    scope.network.value = "rough"
    assert scope.numbers.box == 0 and len(scope.buttons) == 2, "a box that the other picture lacks is not looked for"


def test_a_small_box_lies_above_a_large_one(scope):
    scope.network.value = "fine"
    sheet = scope.scene.children[0].value
    height = [int(sheet.split(f"-{number}{{")[1].split("z-index:")[1].split("}")[0]) for number in range(3)]
    area = (TRUTH[:, 2:] - TRUTH[:, :2]).prod(dim=1).tolist()
    assert sorted(range(3), key=lambda i: height[i]) == sorted(range(3), key=lambda i: -area[i])


def test_the_stored_notebook_has_the_picture():
    pytest.importorskip("ipywidgets")
    scope = views.Microscope({"rough": seen(12.0), "fine": seen(2.0, number=3)}, reference, reference)
    bundle = scope._repr_mimebundle_()
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    assert bundle["text/plain"] == "Microscope(2 slides, 2 boxes)"
    assert len(bundle["image/png"]) * 3 // 4 <= style.MAX_BYTES


def test_a_stub_does_not_stop_the_widget(quick):
    pytest.importorskip("ipywidgets")
    scope = views.Microscope(seen(), reference, with_(**dict.fromkeys(steps.FUNCTION.values(), stub)))
    scope.k.value = 5
    assert set(scope.numbers.mine.trouble) == set(steps.STEPS) and "not filled in yet" in scope.facts.value
    assert scope.numbers.reference.counts["top"] == 5
