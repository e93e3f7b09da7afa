"""Curves from files and in place, with the best epoch found."""

import csv
from types import SimpleNamespace

import pytest

from yolostudy import views
from yolostudy.canvas import panel, style
from yolostudy.views import columns


def write_results(folder, maps):
    folder.mkdir()
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns.COLUMNS)
        writer.writeheader()
        for number, value in enumerate(maps, 1):
            row = dict(
                epoch=number, seconds=5 * number, images=100 * number, lr=0.001, loss=6 / number, box=1, cls=2, dfl=1
            )
            writer.writerow(row if value is None else row | {"map50": value, "map50_95": value / 2})
    return folder


def test_curves_give_the_best_epoch_and_skip_empty_cells(tmp_path):
    run = write_results(tmp_path / "run", [None, 0.5, None, 0.8, 0.7, None])
    figure = views.plot_runs(run)
    expected = dict(epochs=6, seconds=30.0, last_loss=1.0, best_map50=0.8, best_map50_95=0.4, best_epoch=4)
    assert figure.numbers == {"": expected}
    assert figure.axes[2].lines[0].get_xdata().tolist() == [2, 4, 5]
    unmeasured = write_results(tmp_path / "other", [None, None])
    figure = views.plot_runs({"first": run, "second": unmeasured}, x="seconds")
    numbers = figure.numbers
    assert numbers["first"] == expected and numbers["second"]["best_map50"] is None
    assert len(style.as_png(figure)) <= style.MAX_BYTES


def test_a_bad_results_file_is_named_with_its_line(tmp_path):
    run = write_results(tmp_path / "run", [0.1])
    with (run / "results.csv").open("a") as file:
        file.write("2,5,much\n")
    with pytest.raises(ValueError, match=r"results.csv:3: a cell is not a number .*'much'"):
        views.plot_runs(run)
    with pytest.raises(ValueError, match="there is no such file"):
        views.plot_runs(tmp_path / "nowhere")


def test_live_curves_are_silent_in_a_terminal(capsys):
    live = views.LiveCurves()
    assert live.numbers == {}
    live.update({"epoch": 1, "loss": 4.0, "map50": None})
    live.update({"epoch": 2, "loss": 3.0, "map50": 0.25})
    assert live.numbers["best_map50"] == 0.25 and live.numbers["best_epoch"] == 2
    assert capsys.readouterr().out == ""


def test_live_curves_redraw_in_place(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    handle = SimpleNamespace(update=lambda bundle, raw: shown.append(("update", sorted(bundle))))
    monkeypatch.setattr(panel, "in_notebook", lambda: True)
    monkeypatch.setattr(
        display, "display", lambda bundle, raw, display_id: shown.append(("display", sorted(bundle))) or handle
    )
    live = views.LiveCurves(pause=1000)
    live.update({"epoch": 1, "loss": 4.0})
    live.update({"epoch": 2, "loss": 3.0})
    live.redraw()
    kinds = ["image/png", "text/plain"]
    assert shown == [("display", kinds), ("update", kinds)], (
        "one picture, and only the last call draws again within the pause"
    )
