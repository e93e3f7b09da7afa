"""The study: what its experiments are, that it continues where it stopped, what it writes."""

import csv
import json
import statistics
import subprocess
from types import SimpleNamespace

import pytest

from tests import warm
from yolostudy.command import main
from yolostudy.runs import presets, study_table
from yolostudy.views import draw_study

QUICK = ["data=sample", "image_size=64", "batch=4", "epochs=1", "precision=fp32", "warmup=1", "profile=mini", "seeds=0"]


@pytest.fixture(scope="module", autouse=True)
def forked():
    """Each run is a process of its own as always, but need not import torch first."""

    def run(command: list[str], **options) -> subprocess.CompletedProcess:
        return subprocess.run(warm.words(*command[1:]), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_table, "subprocess", SimpleNamespace(run=run))
        yield


@pytest.fixture(scope="module")
def small_table(tmp_path_factory):
    """Two rows, each run in a process of its own: a teacher, and a student that learns from it."""
    out = tmp_path_factory.mktemp("table")
    assert main(["study-table", "planes", "rows=CWD + KL", f"out={out}", *QUICK]) == 0
    return out


def test_students_bring_their_teacher_along(small_table):
    assert {path.name for path in small_table.iterdir()} == {
        "CWD-KL-s0",
        "teacher-s0",
        "table.txt",
        "table.csv",
        "table.png",
    }
    student = presets.from_dict(json.loads((small_table / "CWD-KL-s0" / "preset.json").read_text()))
    assert student.teacher == str(small_table / "teacher-s0" / "last.safetensors")
    assert (student.split, student.feature, student.response, student.classes) == ("small", "cwd", "bernoulli", ())
    rows = list(csv.DictReader((small_table / "table.csv").open()))
    assert [row["row"] for row in rows] == ["teacher", "CWD + KL"]
    assert rows[0]["mAP50 base mean"] and not rows[0]["mAP50 novel mean"]  # it has never heard of the novel classes
    assert float(rows[1]["GiB mean"]) > 0.1


def test_run_twice_it_only_reads(small_table, capsys, monkeypatch):
    monkeypatch.setattr(study_table.subprocess, "run", lambda *a, **k: pytest.fail("a finished run was run again"))
    assert main(["study-table", "planes", "rows=CWD + KL", f"out={small_table}", *QUICK]) == 0
    assert "CWD + KL" in capsys.readouterr().out


def test_other_settings_are_refused_with_the_difference(small_table, capsys):
    assert main(["study-table", "planes", "rows=teacher", f"out={small_table}", *QUICK, "rate=0.5"]) == 1
    assert "rate=0.003 instead of 0.5" in capsys.readouterr().err


def test_a_failed_run_says_which_and_why(tmp_path, capsys):
    assert (
        main(["study-table", "planes", "rows=pretrained", f"out={tmp_path}", *QUICK, "weights=nowhere.safetensors"])
        == 1
    )
    assert "pretrained-s0 did not finish" in (said := capsys.readouterr().err) and "nowhere.safetensors" in said


@pytest.mark.parametrize(
    "words", [["coco"], ["planes", "rows=magic"], ["planes", "seeds=x"], ["planes", "loud"], ["planes", "ratte=1"]]
)
def test_wrong_words(words, capsys, tmp_path):
    assert main(["study-table", *words, f"out={tmp_path}"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_rows_are_the_founding_comparison(tmp_path):
    planned = study_table.plan("mar20", [0, 1], study_table.EXPERIMENTS, tmp_path, "coco.pt", {})
    by_name = {(run.experiment.name, run.preset.seed): run.preset for run in planned}
    assert len(planned) == 2 * len(study_table.EXPERIMENTS) == len({run.folder for run in planned})
    assert {preset.data for preset in by_name.values()} == {"mar20"} and {
        preset.image_size for preset in by_name.values()
    } == {640}
    assert by_name["pretrained", 0].weights == "coco.pt" and by_name["pretrained", 0].part == "backbone"
    assert by_name["teacher", 1].classes == presets.BASE and by_name["teacher", 1].epochs == 150
    assert (
        by_name["fine-tuned", 1].weights
        == by_name["CWD", 1].teacher
        == str(tmp_path / "teacher-s1" / "last.safetensors")
    )
    assert not by_name["from scratch", 0].weights and by_name["CWD + KL without EMA", 0].ema == 0
    first_student = next(index for index, run in enumerate(planned) if run.experiment.teacher)
    assert all(run.experiment.teacher for run in planned[first_student:])


def test_mean_deviation_and_picture(tmp_path):
    rows = {"fine-tuned": [0.6, 0.62, 0.67], "KL": [0.7]}
    filled = {name: {column: values for column in study_table.COLUMNS} for name, values in rows.items()} | {
        "teacher": {column: [0.9] if "base" in column else [] for column in study_table.COLUMNS}
    }
    text = study_table.as_text(filled, "title")
    assert f"0.630 ± {statistics.stdev([0.6, 0.62, 0.67]):.3f}" in text and "0.700 " in text
    read = {row["row"]: row for row in csv.DictReader(study_table.as_csv(filled).splitlines())}
    assert read["fine-tuned"]["mAP50 all deviation"] == "0.0361" and read["KL"]["mAP50 all deviation"] == ""
    assert read["teacher"]["mAP50 novel mean"] == ""
    left = draw_study(filled).axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == list(filled)
    marks = [bar.lines[0].get_xdata()[0] for bar in left.containers]
    assert len(marks) == 3 + 3 + 1 and marks[0] == pytest.approx(0.63)
