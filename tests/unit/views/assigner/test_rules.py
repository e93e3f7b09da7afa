"""Fixed rules take what geometry says."""

import importlib

import torch

from solutions import assigner as reference
from tests.unit.views.assigner.samples import TRUTH, seen
from yolostudy import views
from yolostudy.canvas import style


def test_fixed_rules_take_what_geometry_says():
    slide = seen(number=1)
    numbers = views.compare_rules(slide, reference)
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
    assert numbers.counts["task-aligned"] == views.assign_box(slide, reference).reference.counts["kept"]
    assert len(style.as_png(views.draw_rules(numbers))) <= style.MAX_BYTES
