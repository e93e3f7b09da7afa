"""Whole assignments count every candidate once."""

import importlib

import pytest
import torch

from solutions import assigner as reference
from tests.unit.views.assigner.samples import seen
from yolostudy import views
from yolostudy.canvas import style


def test_whole_assignments_count_every_candidate_once():
    networks = {"rough": seen(12.0), "fine": seen(2.0)}
    numbers = views.assign_all(networks, reference)
    for slide, rows, lost, overlap, score in zip(
        networks.values(),
        numbers.boxes.values(),
        numbers.lost,
        numbers.mean("overlaps"),
        numbers.mean("scores"),
        strict=True,
    ):
        assert [row.counts for row in rows] == [
            views.assign_box(slide, reference, box=box).reference.counts for box in range(2)
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
    assert len(style.as_png(views.draw_assignments(numbers))) <= style.MAX_BYTES
