"""Two bins against the distribution focal loss, and the floor of a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.views.losses.batches import a_batch, a_loss
from yolostudy import views
from yolostudy.boxes import make_anchors
from yolostudy.losses import DistributionFocalLoss


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 6.99), st.lists(st.floats(0.01, 1), min_size=8, max_size=8))
def test_two_bins_agree_with_the_loss(distance, weights):
    found = views.two_bins(distance, weights)
    expected = DistributionFocalLoss()(
        found_logits := torch.tensor(found.probabilities).log(), torch.tensor(distance, dtype=torch.float64)
    )
    assert found.loss == pytest.approx(float(expected), abs=1e-9)
    assert found.expectation == pytest.approx(float(found_logits.softmax(-1) @ torch.arange(8.0, dtype=torch.float64)))
    assert found.loss >= found.floor - 1e-12


def test_the_floor_is_what_the_best_distribution_costs():
    assert views.two_bins(3.3, [0, 0, 0, 0.7, 0.3, 0, 0, 0]).loss == pytest.approx(views.two_bins(3.3, [1] * 8).floor)
    assert views.two_bins(4.0, [1] * 8).floor == 0


def test_no_distribution_goes_below_the_floor_of_its_batch():
    """Maps whose two bins hold exactly what the distances ask for have the floor as their DFL."""
    maps, targets = a_batch(4)
    loss = a_loss()
    assert views.distribution_floor(loss, maps, targets) < float(loss(maps, targets).dfl)
    assert views.distribution_floor(loss, maps, targets[:0]) == 0
    found = views.attribute_loss(loss, maps, targets)
    best = 0.0
    anchors, strides = (value.numpy() for value in make_anchors([level.shape[2:] for level in maps]))
    for image in (0, 2):
        for anchor in np.flatnonzero(found.owner[image] >= 0):
            box = found.objects(image)[found.owner[image][anchor], 1:] / strides[anchor]
            edges = np.concatenate((anchors[anchor] - box[:2], box[2:] - anchors[anchor])).clip(0, 14.99)
            best += found.weight[image, anchor] * np.mean([views.two_bins(edge, [1] * 16).floor for edge in edges])
    expected = 1.5 * best / max(1.0, found.weight.sum())
    assert views.distribution_floor(loss, maps, targets) == pytest.approx(expected, rel=1e-4)
