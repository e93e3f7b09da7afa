"""The doctor says what is wrong and what to do, and needs nothing of what it looks for."""

import io
import re
import subprocess
import sys
from importlib import metadata

import pytest

from yolostudy.command import doctor
from yolostudy.command.doctor import GB, Finding
from yolostudy.study import edition_in_use


def run() -> tuple[int, str]:
    """Exit status and text, with line breaks undone."""
    out = io.StringIO()
    status = doctor.report(out)
    assert max(map(len, out.getvalue().splitlines())) <= 80
    return status, re.sub(r"\s+", " ", out.getvalue())


@pytest.fixture
def healthy(monkeypatch):
    """A machine on which nothing is wrong, so that a test's own fault is the only one."""
    locked = {name: versions[0] for name, versions in doctor.locked_versions().items()}
    monkeypatch.setattr(doctor, "installed", lambda name: locked.get(name, "1.0"))
    monkeypatch.setattr(doctor, "machine", lambda: iter(()))
    monkeypatch.setattr(doctor, "filled_in", lambda here: iter(()))


def test_a_healthy_machine_has_no_problem(healthy):
    status, text = run()
    assert status == 0
    assert "No problem found." in text
    assert "ultralytics 8.4.190" in text


def test_this_machine_is_described():
    _, text = run()
    for title in ("Versions", "Machine", "What will run where", "Course"):
        assert title in text
    assert metadata.version("torch") in text
    assert re.search(r"train planes.nano|profile (mini|laptop) on", text)


def test_another_ultralytics_is_a_problem(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: "8.3.0")
    status, text = run()
    assert status == 1
    assert (
        "1 problem 1. ultralytics is 8.3.0, and the course needs 8.4.190: other versions compute other numbers. "
        "Run `make setup`." in text
    )


def test_it_runs_without_torch():
    hidden = (
        "import sys; sys.modules.update(torch=None, torchvision=None); from yolostudy.command.doctor import report; "
        "sys.exit(report())"
    )
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "torch does not import" in done.stdout
    assert "make setup" in done.stdout


def test_missing_torch_is_named_once(monkeypatch, healthy):
    monkeypatch.setattr(
        doctor, "installed", lambda name: None if name == "torch" else doctor.locked_versions().get(name, ["1"])[0]
    )
    monkeypatch.setattr(doctor, "attempt", lambda name: (None, "ModuleNotFoundError"))
    monkeypatch.setattr(doctor, "machine", doctor.accelerator)
    status, text = run()
    assert status == 1
    assert "1 problem 1. torch is not installed. Run `make setup`." in text


def test_without_rich_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = io.StringIO()
    assert doctor.report(out) == 1
    assert "make setup" in out.getvalue()


def test_a_missing_system_library_is_named(monkeypatch):
    reason = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    attempt = doctor.attempt
    monkeypatch.setattr(doctor, "attempt", lambda name: (None, reason) if name == "cv2" else attempt(name))
    problems = [row for row in doctor.machine() if row.problem]
    assert any("opencv does not import" in row.problem and "libGL.so.1" in row.remedy for row in problems)


def test_a_card_that_torch_cannot_use(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "said", lambda *command: "GeForce 4060, 535.10")
    row = next(doctor.accelerator())
    assert "GeForce 4060" in row.problem
    assert "driver" in row.remedy


def test_a_run_folder_that_cannot_be(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLOSTUDY_HOME", str(tmp_path / "file"))
    row = doctor.home()
    assert str(tmp_path / "file") in row.problem
    assert "YOLOSTUDY_HOME" in row.remedy


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("YOLOSTUDY_HOME", str(tmp_path))
    assert doctor.home().problem == ""
    usage = type("Usage", (), {"free": GB, "total": GB})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert "1.0 GB are free" in doctor.home().problem


class Course:
    names = ("blocks", "boxes", "losses")

    def filled_in(self, name: str) -> list[str]:
        if name == "blocks":
            return ["SPPF"]
        if name == "boxes":
            raise FileNotFoundError
        raise SyntaxError("'(' was never closed", ("losses.py", 12, 1, ""))


def test_the_learners_files_are_looked_at():
    rows = list(doctor.filled_in(Course()))
    assert rows[-1] == Finding("filled in", "blocks.SPPF")
    problems = [row.problem for row in rows if row.problem]
    assert problems == [
        "yolostudy/losses.py:12: '(' was never closed.",
        "Some of your modules are missing: yolostudy/boxes.py.",
    ]


def test_the_edition_is_named(monkeypatch):
    monkeypatch.delenv(edition_in_use.VARIABLE, raising=False)
    assert "is not set" in next(doctor.course()).value
    monkeypatch.setenv(edition_in_use.VARIABLE, "reference")
    assert "running on" in next(doctor.course()).value
