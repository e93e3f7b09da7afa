"""The assigner microscope: its counts are right, its controls move them, what is wrong is ringed
and what raises is told.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from solutions import assigner as reference  # noqa: E402
from yolostudy.canvas import style  # noqa: E402
from yolostudy.views.assigner import microscope, slides  # noqa: E402

SIDE, CLASSES = 64, 3
TRUTH = torch.tensor([[6.0, 6, 42, 40], [14, 10, 52, 46], [2, 50, 10, 56]])  # two that overlap, and one below 16 pixels
LABELS = torch.tensor([0, 2, 1])


def grid():
    """Anchors (84, 2) and strides (84,) of three levels over the picture, written down without the
    course's own function.
    """
    anchors, strides = [], []
    for stride in (8, 16, 32):
        for y in range(SIDE // stride):
            for x in range(SIDE // stride):
                anchors.append([(x + 0.5) * stride, (y + 0.5) * stride])
                strides.append(float(stride))
    return torch.tensor(anchors), torch.tensor(strides)


def seen(noise=6.0, seed=0, number=2):
    """A slide as a half-trained network would give it: boxes near the first or second truth, scores
    that differ everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    anchors, strides = grid()
    nearest = (anchors[:, None] - (TRUTH[:number, :2] + TRUTH[:number, 2:]) / 2).norm(dim=-1).argmin(dim=1)
    # half of the way to the middle of all objects, so that several claim the anchors between them
    boxes = (
        TRUTH[:number][nearest].lerp(TRUTH[:number].mean(dim=0), 0.5)
        + torch.randn(len(anchors), 4, generator=generator) * noise
    )
    scores = torch.rand(len(anchors), CLASSES, generator=generator)
    image = np.broadcast_to(np.linspace(60, 200, SIDE)[:, None], (SIDE, SIDE, 3)).astype(np.uint8)
    return microscope.Slide(image, scores, boxes, anchors, strides, LABELS[:number], TRUTH[:number], ("A1", "A2", "A3"))


def with_(**functions):
    """The reference with some functions exchanged."""
    return SimpleNamespace(
        **{name: functions.get(name, getattr(reference, name)) for name in microscope.FUNCTION.values()}
    )


def everywhere(anchors, gt_boxes, gt_mask, min_side=16.0):
    return torch.ones(*gt_mask.shape, len(anchors), dtype=torch.bool)


def stub(*arguments):
    raise NotImplementedError("exercise assigner.anchors_inside: course/05_assigner.ipynb")


# ------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("box", [0, 1])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_counts_are_those_of_an_independent_computation(box, k):
    slide = seen()
    row = microscope.look(slide, reference, box=box, k=k).reference
    best, inside_of = [], []
    for truth, label in zip(TRUTH[:2].tolist(), LABELS[:2].tolist(), strict=True):
        x1, y1, x2, y2 = truth
        inside = [i for i, (x, y) in enumerate(slide.anchors.tolist()) if x1 < x < x2 and y1 < y < y2]
        iou = importlib.import_module("solutions.boxes").complete_iou(
            torch.tensor([truth]).expand(len(inside), 4), slide.boxes[inside]
        )
        metric = slide.scores[inside, label].sqrt() * iou.clamp(min=0) ** 6
        inside_of.append(dict(zip(inside, metric.tolist(), strict=True)))
        best.append(
            {
                i: float(o)
                for i, o in sorted(zip(inside, iou, strict=True), key=lambda pair: -inside_of[-1][pair[0]])[:k]
            }
        )
    mine, other = best[box], best[1 - box]
    disputed = {i for i in mine if i in other}
    kept = {i for i in mine if i not in disputed or mine[i] > other[i]}
    assert row.counts == {
        "candidates": len(inside_of[box]),
        "metric": sum(value > 0 for value in inside_of[box].values()),
        "top": len(mine),
        "kept": len(kept),
    }
    assert set(row.chosen.tolist()) == kept
    assert row.chosen.tolist() == sorted(kept, key=lambda i: -inside_of[box][i]), "best first"
    assert (row.owner[row.chosen] == box).all()
    assert row.metric[sorted(mine)] == pytest.approx([inside_of[box][i] for i in sorted(mine)], rel=1e-4)


def test_the_chosen_anchors_and_their_targets_are_those_of_the_whole_assigner():
    slide = seen()
    assigned = reference.TaskAlignedAssigner(CLASSES)(
        slide.scores[None],
        slide.boxes[None],
        slide.anchors,
        slide.labels[None],
        slide.truth[None],
        torch.ones(1, 2, dtype=torch.bool),
    )
    for box in range(2):
        row = microscope.look(slide, reference, box=box).reference
        taken = (assigned.foreground[0] & (assigned.gt_index[0] == box)).nonzero()[:, 0].tolist()
        assert sorted(row.chosen.tolist()) == taken
        assert row.targets == pytest.approx(assigned.scores[0, row.chosen, int(LABELS[box])].tolist(), rel=1e-5)


def test_conflicts_are_in_the_picture_that_is_tested():
    rows = [microscope.look(seen(), reference, box=box).reference for box in range(2)]
    assert any(row.counts["kept"] < row.counts["top"] for row in rows)


def test_the_reference_agrees_with_itself_and_without_mine_nothing_is_compared():
    view = microscope.look(seen(), reference, reference)
    assert view.differences == dict.fromkeys(microscope.STEPS, 0) and view.positions_that_differ == 0
    alone = microscope.look(seen(), reference)
    assert alone.mine is None and alone.differences == {} and alone.positions_that_differ == 0


def test_a_package_and_a_module_are_both_taken_and_anything_else_is_refused():
    package = SimpleNamespace(assigner=reference)
    assert microscope.look(seen(), package, package).positions_that_differ == 0
    with pytest.raises(ValueError, match="anchors_inside"):
        microscope.look(seen(), SimpleNamespace())
    with pytest.raises(ValueError, match="0 to 1"):
        microscope.look(seen(), reference, box=2)


# -------------------------------------------------------------------------------------- differences


def test_a_wrong_mask_is_counted_position_by_position():
    view = microscope.look(seen(), reference, with_(anchors_inside=everywhere))
    outside = len(grid()[0]) - view.reference.counts["candidates"]
    assert view.differences["candidates"] == outside
    assert view.mine.counts["candidates"] == len(grid()[0])
    assert view.positions_that_differ >= outside
    assert not view.differ["candidates"][view.reference.candidates].any()


def test_another_exponent_changes_the_metric_and_rounding_does_not():
    def other(*arguments):
        return reference.alignment(*arguments[:5], 1.0, 6.0)

    def rounded(*arguments):
        metric, overlaps = reference.alignment(*arguments)
        return metric.double() * (1 + 1e-6), overlaps

    view = microscope.look(seen(), reference, with_(alignment=other))
    assert view.differences["metric"] == view.reference.counts["metric"] and view.differences["candidates"] == 0
    assert microscope.look(seen(), reference, with_(alignment=rounded)).positions_that_differ == 0


def test_to_break_a_tie_of_zeros_otherwise_is_no_mistake_but_to_leave_the_box_is():
    slide = seen(number=1)
    slide.scores.zero_()

    def last_first(metric, candidates, k=10):
        chosen = torch.zeros_like(candidates)
        chosen[0, 0, candidates[0, 0].nonzero()[-k:, 0]] = True
        return chosen

    def outside_too(metric, candidates, k=10):
        return torch.zeros_like(candidates).scatter_(-1, metric.topk(k, dim=-1).indices, True)

    assert microscope.look(slide, reference, with_(top_candidates=last_first)).positions_that_differ == 0
    view = microscope.look(slide, reference, with_(top_candidates=outside_too))
    assert view.differences["top"] == int((view.mine.top & ~view.reference.candidates).sum()) > 0


def test_a_function_that_changes_its_argument_does_not_change_the_step_before():
    def in_place(positive, overlaps):
        return positive.zero_()

    view = microscope.look(seen(), reference, with_(resolve_conflicts=in_place))
    assert view.mine.counts["top"] == 10 and view.mine.counts["kept"] == 0


# ------------------------------------------------------------------------------------------ trouble


def test_a_stub_is_told_in_words_and_the_steps_after_it_go_on():
    view = microscope.look(seen(), reference, with_(anchors_inside=stub, top_candidates=stub))
    assert view.mine.trouble == {"candidates": "not filled in yet", "top": "not filled in yet"}
    assert view.mine.counts["candidates"] is None and view.mine.counts["metric"] == view.reference.counts["metric"]
    assert view.differences == {"metric": 0, "kept": 0}
    style.as_png(microscope.draw_microscope(view))


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("alignment", lambda *_: (torch.zeros(2, 3), torch.zeros(2, 3)), "shape (2, 3) where (1, 2, 84) is expected"),
        ("alignment", lambda *_: None, "TypeError"),
        ("resolve_conflicts", lambda positive, _: positive.float(), "torch.float32 where torch.bool is expected"),
        ("resolve_conflicts", lambda positive, _: positive.nonzero(), "shape"),
        ("top_candidates", lambda *_: [1, 2], "list where a tensor is expected"),
        ("anchors_inside", lambda *_: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_an_exception_or_a_wrong_form_is_told_in_words(name, function, words):
    view = microscope.look(seen(), reference, with_(**{name: function}))
    (step,) = view.mine.trouble
    assert microscope.FUNCTION[step] == name and words in view.mine.trouble[step]
    assert view.reference.counts == microscope.look(seen(), reference).reference.counts


def test_a_nan_in_mine_is_a_difference_and_can_be_drawn():
    def poisoned(*arguments):
        metric, overlaps = reference.alignment(*arguments)
        return torch.where(metric > 0, torch.nan, metric), overlaps

    view = microscope.look(seen(), reference, with_(alignment=poisoned))
    assert view.differences["metric"] == view.reference.counts["metric"] and view.mine.counts["metric"] == 0
    style.as_png(microscope.draw_microscope(view))


def test_an_error_of_the_reference_is_raised():
    with pytest.raises(NotImplementedError):
        microscope.look(seen(), with_(anchors_inside=stub), reference)


# ----------------------------------------------------------------------------------------- pictures


def test_the_picture_is_small_and_the_same_each_time():
    view = microscope.look(seen(), reference, with_(anchors_inside=everywhere))
    content = style.as_png(microscope.draw_microscope(view))
    assert len(content) <= style.MAX_BYTES
    assert content == style.as_png(microscope.draw_microscope(view))
    alone = microscope.draw_microscope(microscope.look(seen(), reference), scene=False)
    assert (
        alone.get_figwidth() == style.WIDTH and alone.get_figheight() < microscope.draw_microscope(view).get_figheight()
    )


def test_fixed_rules_take_what_geometry_says():
    slide = seen(number=1)
    numbers = microscope.rules(slide, reference)
    anchors, strides = slide.anchors.numpy(), slide.strides.numpy()
    x1, y1, x2, y2 = TRUTH[0].tolist()
    centre = [
        i
        for i, ((x, y), s) in enumerate(zip(anchors, strides, strict=True))
        if s == 8 and x1 < x < x2 and y1 < y < y2 and abs(x - 24) < 12 and abs(y - 23) < 12
    ]
    assert numbers.taken["near the centre"].nonzero()[0].tolist() == centre and centre
    boxes = importlib.import_module("solutions.boxes")
    squares = torch.cat((slide.anchors - 2 * slide.strides[:, None], slide.anchors + 2 * slide.strides[:, None]), dim=1)
    fits = boxes.box_iou(squares, TRUTH[:1])[:, 0] >= 0.5
    assert (numbers.taken["an anchor box fits"] == fits.numpy()).all()
    assert numbers.counts["task-aligned"] == microscope.look(slide, reference).reference.counts["kept"]
    assert len(style.as_png(microscope.draw_rules(numbers))) <= style.MAX_BYTES


def test_whole_assignments_count_every_candidate_once():
    networks = {"rough": seen(12.0), "fine": seen(2.0)}
    numbers = microscope.assignments(networks, reference)
    for slide, rows, lost, overlap, score in zip(
        networks.values(),
        numbers.rows.values(),
        numbers.lost,
        numbers.mean("overlaps"),
        numbers.mean("scores"),
        strict=True,
    ):
        assert [row.counts for row in rows] == [
            microscope.look(slide, reference, box=box).reference.counts for box in range(2)
        ]
        owner = rows[0].owner
        assert sum(row.counts["kept"] for row in rows) == (owner >= 0).sum() and (rows[1].owner == owner).all()
        assert lost == sum(row.counts["top"] - row.counts["kept"] for row in rows)
        anchors = torch.tensor(owner >= 0)
        box = torch.tensor(owner)[anchors]
        expected = (
            importlib.import_module("solutions.boxes").complete_iou(slide.truth[box], slide.boxes[anchors]).clamp(min=0)
        )
        assert overlap == pytest.approx(float(expected.mean()), rel=1e-5)
        assert score == pytest.approx(float(slide.scores[anchors, slide.labels[box]].mean()), rel=1e-5)
    rough, fine = numbers.mean("overlaps")
    assert fine > rough
    assert len(style.as_png(microscope.draw_assignments(numbers))) <= style.MAX_BYTES


def test_targets_are_drawn_for_views_with_and_without_positives():
    empty = microscope.look(seen(), with_(resolve_conflicts=lambda positive, _: torch.zeros_like(positive)))
    assert len(empty.reference.targets) == 0
    figure = microscope.draw_targets({"some": microscope.look(seen(), reference), "none": empty})
    assert len(style.as_png(figure)) <= style.MAX_BYTES


# ------------------------------------------------------------------------------------------- slides


def test_a_slide_is_made_from_raw_maps():
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(1, 4 * 16 + CLASSES, SIDE // s, SIDE // s, generator=generator).requires_grad_()
        for s in (8, 16, 32)
    ]
    truth = np.column_stack([LABELS.numpy(), TRUTH.numpy()])
    slide = microscope.slide(np.zeros((SIDE, SIDE, 3), np.uint8), maps, truth, ("A1", "A2", "A3"))
    anchors, strides = grid()
    assert torch.equal(slide.anchors, anchors) and torch.equal(slide.strides, strides)
    assert slide.boxes.shape == (84, 4) and slide.scores.shape == (84, CLASSES) and not slide.boxes.requires_grad
    # of many numbers at once and of three, a sigmoid may differ in its last bit
    torch.testing.assert_close(slide.scores[70], maps[1][0, 64:, 1, 2].sigmoid().detach(), rtol=1e-6, atol=0)
    assert slide.name(1) == "2: A3" and slide.labels.tolist() == LABELS.tolist()


def test_a_slide_says_what_it_cannot_show():
    maps = [torch.zeros(2, 67, SIDE // s, SIDE // s) for s in (8, 16, 32)]
    with pytest.raises(ValueError, match="no object"):
        microscope.slide(np.zeros((SIDE, SIDE, 3), np.uint8), [m[:1] for m in maps], np.zeros((0, 5)))
    with pytest.raises(ValueError, match="2 images"):
        microscope.slide(np.zeros((SIDE, SIDE, 3), np.uint8), maps, [[0, 1, 2, 30, 40]])


# ------------------------------------------------------------------------------------------- widget


def blank(width):
    figure, axes = style.figure(width=width, height=0.2)
    axes.remove()
    return figure


@pytest.fixture
def quick(monkeypatch):
    """Numbers without the picture: drawing it is what takes time."""
    monkeypatch.setattr(microscope, "draw_microscope", lambda view, scene=True: blank(0.2 + 0.1 * view.box))


@pytest.fixture
def scope(quick):
    pytest.importorskip("ipywidgets")
    return microscope.Microscope(
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
    scope = microscope.Microscope({"rough": seen(12.0), "fine": seen(2.0, number=3)}, reference, reference)
    bundle = scope._repr_mimebundle_()
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    assert bundle["text/plain"] == "Microscope(2 slides, 2 boxes)"
    assert len(bundle["image/png"]) * 3 // 4 <= style.MAX_BYTES


def test_a_stub_does_not_stop_the_widget(quick):
    pytest.importorskip("ipywidgets")
    scope = microscope.Microscope(seen(), reference, with_(**dict.fromkeys(microscope.FUNCTION.values(), stub)))
    scope.k.value = 5
    assert set(scope.numbers.mine.trouble) == set(microscope.STEPS) and "not filled in yet" in scope.facts.value
    assert scope.numbers.reference.counts["top"] == 5


def test_what_was_filled_in_meanwhile_counts():
    package = importlib.import_module("yolostudy.assigner")
    right = package.resolve_conflicts
    try:
        package.resolve_conflicts = stub
        assert "kept" in microscope.look(seen(), reference, package).mine.trouble
    finally:
        package.resolve_conflicts = right
    assert slides._functions(package) is importlib.import_module("yolostudy.assigner")
