"""The steps of an assignment: the counts are right, what is wrong is marked, what raises is told."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from solutions import assigner as reference
from tests.unit.views.assigner.samples import CLASSES, LABELS, TRUTH, everywhere, grid, seen, stub, with_
from yolostudy import views
from yolostudy.canvas import style
from yolostudy.views.assigner import steps


@pytest.mark.parametrize("box", [0, 1])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_counts_are_those_of_an_independent_computation(box, k):
    slide = seen()
    row = views.assign_box(slide, reference, box=box, k=k).reference
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
        row = views.assign_box(slide, reference, box=box).reference
        taken = (assigned.foreground[0] & (assigned.gt_index[0] == box)).nonzero()[:, 0].tolist()
        assert sorted(row.chosen.tolist()) == taken
        assert row.targets == pytest.approx(assigned.scores[0, row.chosen, int(LABELS[box])].tolist(), rel=1e-5)


def test_conflicts_are_in_the_picture_that_is_tested():
    rows = [views.assign_box(seen(), reference, box=box).reference for box in range(2)]
    assert any(row.counts["kept"] < row.counts["top"] for row in rows)


def test_the_reference_agrees_with_itself_and_without_mine_nothing_is_compared():
    found = views.assign_box(seen(), reference, reference)
    assert found.differences == dict.fromkeys(steps.STEPS, 0) and found.positions_that_differ == 0
    alone = views.assign_box(seen(), reference)
    assert alone.mine is None and alone.differences == {} and alone.positions_that_differ == 0


def test_a_package_and_a_module_are_both_taken_and_anything_else_is_refused():
    package = SimpleNamespace(assigner=reference)
    assert views.assign_box(seen(), package, package).positions_that_differ == 0
    with pytest.raises(ValueError, match="anchors_inside"):
        views.assign_box(seen(), SimpleNamespace())
    with pytest.raises(ValueError, match="0 to 1"):
        views.assign_box(seen(), reference, box=2)


def test_a_wrong_mask_is_counted_position_by_position():
    found = views.assign_box(seen(), reference, with_(anchors_inside=everywhere))
    outside = len(grid()[0]) - found.reference.counts["candidates"]
    assert found.differences["candidates"] == outside
    assert found.mine.counts["candidates"] == len(grid()[0])
    assert found.positions_that_differ >= outside
    assert not found.differ["candidates"][found.reference.candidates].any()


def test_another_exponent_changes_the_metric_and_rounding_does_not():
    def other(*arguments):
        return reference.alignment(*arguments[:5], 1.0, 6.0)

    def rounded(*arguments):
        metric, overlaps = reference.alignment(*arguments)
        return metric.double() * (1 + 1e-6), overlaps

    found = views.assign_box(seen(), reference, with_(alignment=other))
    assert found.differences["metric"] == found.reference.counts["metric"] and found.differences["candidates"] == 0
    assert views.assign_box(seen(), reference, with_(alignment=rounded)).positions_that_differ == 0


def test_to_break_a_tie_of_zeros_otherwise_is_no_mistake_but_to_leave_the_box_is():
    slide = seen(number=1)
    slide.scores.zero_()

    def last_first(metric, candidates, k=10):
        chosen = torch.zeros_like(candidates)
        chosen[0, 0, candidates[0, 0].nonzero()[-k:, 0]] = True
        return chosen

    def outside_too(metric, candidates, k=10):
        return torch.zeros_like(candidates).scatter_(-1, metric.topk(k, dim=-1).indices, True)

    assert views.assign_box(slide, reference, with_(top_candidates=last_first)).positions_that_differ == 0
    found = views.assign_box(slide, reference, with_(top_candidates=outside_too))
    assert found.differences["top"] == int((found.mine.top & ~found.reference.candidates).sum()) > 0


def test_a_function_that_changes_its_argument_does_not_change_the_step_before():
    def in_place(positive, overlaps):
        return positive.zero_()

    found = views.assign_box(seen(), reference, with_(resolve_conflicts=in_place))
    assert found.mine.counts["top"] == 10 and found.mine.counts["kept"] == 0


def test_a_stub_is_told_in_words_and_the_steps_after_it_go_on():
    found = views.assign_box(seen(), reference, with_(anchors_inside=stub, top_candidates=stub))
    assert found.mine.trouble == {"candidates": "not filled in yet", "top": "not filled in yet"}
    assert found.mine.counts["candidates"] is None and found.mine.counts["metric"] == found.reference.counts["metric"]
    assert found.differences == {"metric": 0, "kept": 0}
    style.as_png(views.draw_microscope(found))


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
def test_an_exception_or_a_wrong_shape_is_told_in_words(name, function, words):
    found = views.assign_box(seen(), reference, with_(**{name: function}))
    (step,) = found.mine.trouble
    assert steps.FUNCTION[step] == name and words in found.mine.trouble[step]
    assert found.reference.counts == views.assign_box(seen(), reference).reference.counts


def test_a_nan_in_mine_is_a_difference_and_can_be_drawn():
    def poisoned(*arguments):
        metric, overlaps = reference.alignment(*arguments)
        return torch.where(metric > 0, torch.nan, metric), overlaps

    found = views.assign_box(seen(), reference, with_(alignment=poisoned))
    assert found.differences["metric"] == found.reference.counts["metric"] and found.mine.counts["metric"] == 0
    style.as_png(views.draw_microscope(found))


def test_an_error_of_the_reference_is_raised():
    with pytest.raises(NotImplementedError):
        views.assign_box(seen(), with_(anchors_inside=stub), reference)


def test_what_was_filled_in_meanwhile_counts():
    package = importlib.import_module("yolostudy.assigner")
    right = package.resolve_conflicts
    try:
        package.resolve_conflicts = stub
        assert "kept" in views.assign_box(seen(), reference, package).mine.trouble
    finally:
        package.resolve_conflicts = right
    assert steps.functions_of(package) is importlib.import_module("yolostudy.assigner")
