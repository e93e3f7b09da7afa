"""What fits on a card: predicted from two small batches, or measured where there is one."""

import pytest
from torch import nn

from yolostudy.canvas import style
from yolostudy.lens.modules import memory
from yolostudy.views.network import memory_table


def test_what_fits_follows_from_two_small_predictions():
    table = memory_table.what_fits(0.5, "n", (160, 320), (1, 4, 16), ("fp32", "bf16"), reserve_gb=0.1, measure=False)
    assert len(table.cells) == 12 and not any(cell.measured for cell in table.cells)
    model, loss = memory_table.course_detector("n", 20, 20)
    for precision in ("fp32", "bf16"):
        direct = memory.predict_memory(
            model, (16, 3, 160, 160), lambda maps: loss(maps, 16, 160), precision, "adamw", True
        )
        assert table.cell("n", 160, 16, precision).bytes == pytest.approx(direct.peak, rel=0.02)
    sizes = [cell.bytes for cell in table.cells[:3]]
    assert sizes == sorted(sizes) and [cell.fits for cell in table.cells[:3]] == [
        size + 0.1 * 2**30 <= 0.5 * 2**30 for size in sizes
    ]
    assert table.largest("n", 320, "bf16") >= table.largest("n", 320, "fp32")
    assert "0 cells measured, 12 predicted" in str(table) and table._repr_html_().count("<tr>") == 5
    assert len(style.as_png(memory_table.draw_what_fits(table))) <= style.MAX_BYTES


def test_cells_say_whether_they_were_measured_and_a_full_card_does_not_fit(monkeypatch):
    """The card is played; what it would say is not tested here."""
    seen = []

    def card(build, size, side, batch, precision, optimizer, limit):
        seen.append((batch, limit))
        return 7 * 2**20 if batch == 1 else None

    def build(size):
        return nn.Conv2d(3, 8, 3, padding=1), lambda maps, batch, side: maps.float().square().mean()

    monkeypatch.setattr(memory_table, "_measured_cell", card)
    table = memory_table.what_fits(
        0.01, "n", (64,), (1, 4, 400), ("fp32",), reserve_gb=0.002, measure=True, build=build
    )
    assert [batch for batch, _ in seen] == [1, 4] and seen[0][1] == pytest.approx(0.008 * 2**30, rel=1e-6)
    assert [(cell.measured, cell.fits) for cell in table.cells] == [(True, True), (True, False), (False, False)]
    assert table.cells[0].bytes == 7 * 2**20 and table.largest("n", 64, "fp32") == 1
    assert len(style.as_png(memory_table.draw_what_fits(table))) <= style.MAX_BYTES
