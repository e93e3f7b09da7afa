"""The peaks of what is drawn are the keypoints' cells."""

import numpy as np
import pytest
import torch

from solutions import heatmaps
from tests.unit.views.pose.samples import AIRCRAFT, fits, image, said
from yolostudy import views
from yolostudy.views.heatmaps.looks import tops

PEOPLE = np.stack([AIRCRAFT, AIRCRAFT + np.array([20, 10, 0])]).astype(np.float32)
NAMES = ("nose", "tail", "left wing tip", "right wing tip")


def drawn(size, sigma=1.0):
    return heatmaps.HeatmapGenerator(size, 4, sigma)(PEOPLE * np.float32((size / 120, size / 120, 1)))


def test_the_peaks_are_the_cells_of_the_keypoints():
    small, large = drawn(30), drawn(60, 2.0)
    figure = views.draw_heatmaps(image(), [torch.tensor(small), large])
    assert list(figure.numbers) == ["30 × 30 cells", "60 × 60 cells"]
    for size, stack, row in zip((30, 60), (small, large), figure.numbers.values()):
        assert list(row) == list(NAMES)
        for number, one in enumerate(row.values()):
            cells = {tuple(cell) for cell in (PEOPLE[:, number, :2] * size / 120).astype(int) if (cell < size).all()}
            assert {(int(x), int(y)) for x, y, _ in one["peaks"]} == cells and (one["peaks"][:, 2] == 1).all()
            assert one["sum"] == pytest.approx(stack[number].sum()) and one["highest"] == 1
    words = said(figure)
    assert all(word in words for word in (*NAMES, "2 peaks, highest 1.00", "30 × 30 cells", "together"))
    assert fits(figure)


def test_one_stack_and_titles_will_do():
    assert list(views.draw_heatmaps(image(), drawn(30)).numbers) == ["30 × 30 cells"]
    figure = views.draw_heatmaps(image(), {"truth": drawn(30), "predicted": drawn(30) - 1}, names="abcd")
    assert list(figure.numbers) == ["truth", "predicted"] and list(figure.numbers["truth"]) == list("abcd")
    assert not len(figure.numbers["predicted"]["a"]["peaks"]) and fits(figure)


@pytest.mark.parametrize(
    ("maps", "names", "message"),
    [
        ([drawn(30), drawn(30)], None, "the same size; give them titles"),
        ([drawn(30), drawn(60)[:2]], None, r"K is \[2, 4\]"),
        ([], None, "one stack of maps or more"),
        (drawn(30), ("a",), "1 names were given for 4 maps"),
        ([drawn(30)[0]], None, r"shape \(30, 30\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(maps, names, message):
    with pytest.raises(ValueError, match=message):
        views.draw_heatmaps(image(), maps, names)


def test_a_plateau_is_one_peak():
    flat = np.zeros((9, 9))
    flat[2:4, 2:5], flat[7, 7], flat[0, 8] = 0.5, 0.8, 0.05
    assert tops(flat, 0.1).tolist() == [[7, 7, 0.8], [2, 2, 0.5]]
