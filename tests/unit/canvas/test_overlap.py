"""How much boxes overlap."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from yolostudy.canvas import overlap


@st.composite
def boxes(draw):
    """(n, 4) x1 y1 x2 y2: boxes that often coincide or touch."""
    corners = st.tuples(st.integers(-30, 150), st.integers(-30, 150), st.integers(1, 80), st.integers(1, 80))
    rows = [(x, y, x + width, y + height) for x, y, width, height in draw(st.lists(corners, max_size=8))]
    return np.array(rows, float).reshape(-1, 4)


@settings(deadline=None, max_examples=50)
@given(boxes(), boxes())
def test_the_overlap_is_that_of_torchvision(first, second):
    assert np.allclose(overlap.iou(first, second), box_iou(torch.tensor(first), torch.tensor(second)))
