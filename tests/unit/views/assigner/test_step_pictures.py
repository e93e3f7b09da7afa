"""The pictures of the steps are small and always the same."""

import torch

from solutions import assigner as reference
from tests.unit.views.assigner.samples import everywhere, seen, with_
from yolostudy import views
from yolostudy.canvas import style


def test_the_picture_is_small_and_the_same_each_time():
    found = views.assign_box(seen(), reference, with_(anchors_inside=everywhere))
    content = style.as_png(views.draw_microscope(found))
    assert len(content) <= style.MAX_BYTES
    assert content == style.as_png(views.draw_microscope(found))
    alone = views.draw_microscope(views.assign_box(seen(), reference), scene=False)
    assert alone.get_figwidth() == style.WIDTH and alone.get_figheight() < views.draw_microscope(found).get_figheight()


def test_targets_are_drawn_for_views_with_and_without_positives():
    empty = views.assign_box(seen(), with_(resolve_conflicts=lambda positive, _: torch.zeros_like(positive)))
    assert len(empty.reference.targets) == 0
    figure = views.draw_target_scores({"some": views.assign_box(seen(), reference), "none": empty})
    assert len(style.as_png(figure)) <= style.MAX_BYTES
