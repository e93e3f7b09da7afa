"""Every line of the README's code blocks runs, on a fresh copy of what git tracks: from stubs, without data, without runs.

Long work is cut short by words that are added to a line (`epochs=1`), never by leaving a line out.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests import warm
from yolostudy.study import edition_in_use
from yolostudy.study.judge import Judge

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SHORT = "image_size=64 batch=4 epochs=1 minutes=0 tensorboard=false data=sample device=cpu"
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("sh", "python")}

# What is added to a line of the README that would run for minutes, or that names a file of the reader's own.
ADDED = {
    "yolostudy train planes.nano profile=mini minutes=5": f"{SHORT} name=first",
    "yolostudy train planes.nano.pretrained profile=mini epochs=8": SHORT,
    "yolostudy train planes.nano.distillation profile=mini epochs=60": SHORT,
    "yolostudy train planes.nano.pose profile=mini epochs=48": SHORT,
    "yolostudy study-table planes profile=mini": f'{SHORT} seeds=0 "rows=from scratch" out=table',
    "yolostudy train mar20.nano.cuda@0.batch@16": SHORT,
}


def lines() -> list[str]:
    """The commands of the shell blocks, without their comments."""
    found = [line.partition("#")[0].strip() for block in BLOCKS["sh"] for line in block.splitlines()]
    return [line for line in found if line.startswith("yolostudy ")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """What a fresh clone holds: the tracked files as they stand now."""
    place = tmp_path_factory.mktemp("a fresh clone")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (source := ROOT / name).is_file() and not name.startswith("tests/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(source.read_bytes())
    return place


def run(copy: Path, program: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "YOLOSTUDY_USE"}
    environment |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        warm.words("-c", program, *arguments), cwd=copy, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_command_runs(copy):
    """All in one process, one after the other, as somebody would type them."""
    program = """
import json, shlex, sys
from pathlib import Path
import yolostudy.command
from yolostudy.bridge import checkpoints, ultralytics
import torch, shutil

model = ultralytics.build("n", num_classes=20, seed=0)
torch.save({"model": model.half(), "train_args": {}}, "yolov8n.pt")
Path("folder").mkdir()
shutil.copy("datasets/sample/images/planes_000000.jpg", "photo.jpg")
shutil.copy("datasets/sample/images/planes_000001.jpg", "folder")
for line in json.loads(sys.argv[1]):
    print("$", line, flush=True)
    status = yolostudy.command.main(shlex.split(line)[1:])
    assert status == 0, f"{line}: exit status {status}"
"""
    typed = []
    for line in lines():
        added = next((more for start, more in ADDED.items() if line.startswith(start)), "")
        assert added or "train planes" not in line, f"{line}: would train for minutes; say in ADDED how it is shortened"
        line = line.replace("runs/NAME", "runs/first").replace("FOLDER", "datasets/sample")
        line = line.replace("planes-mini yolo", "sample yolo").replace(
            "val planes.nano", "val planes.nano data=sample image_size=64"
        )
        typed.append(f"{line} {added}".strip())
    said = run(copy, program, json.dumps(typed))
    assert said.count("$ yolostudy") == len(typed) == len(lines()) >= 13


def test_what_is_not_ours_to_run_is_tested_elsewhere():
    """`torchrun` and make: tests/unit/command has two processes, tests/unit/test_house.py make."""
    others = [line for block in BLOCKS["sh"] for line in block.splitlines() if not line.startswith("yolostudy ")]
    assert [shlex.split(line)[0] for line in others if line.strip()] == ["make", "make", "torchrun"]


def test_the_detector_in_python(copy):
    code = next(block for block in BLOCKS["python"] if "make_loader" in block)
    assert "minutes=2" in code and 'planes.make("datasets/planes-mini", "mini", workers=1)' in code
    code = code.replace("minutes=2", "minutes=0.01").replace(
        'planes.make("datasets/planes-mini", "mini", workers=1)', '"sample"'
    )
    run(copy, code)


def test_the_lenses_in_python(copy):
    """From stubs: no lens runs on what the learner has not written yet."""
    code = next(block for block in BLOCKS["python"] if "NaNMicroscope" in block)
    before = """
import torch
from torch import nn
model = mine = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU())
theirs.load_state_dict(mine.state_dict())
images = batch = torch.randn(2, 3, 16, 16)
def step(batch):
    return (model(batch) - 5).log().mean()
import contextlib
from yolostudy.bridge import scenes
stack = contextlib.ExitStack()
trainer = stack.enter_context(scenes.trainer("detect"))
"""
    said = run(copy, f"{before}\n{code}")
    assert "born in log" in said and "(ReLU) against" in said and "Conv2d" in said and "at the peak" in said


@pytest.mark.parametrize("name", re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
def test_a_picture_is_there_legible_and_small(name):
    path = ROOT / name
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert picture.width >= 800 and picture.mode in ("RGB", "P"), "opaque, so that it reads on a dark page too"


def test_every_picture_says_what_it_shows():
    pictures = re.findall(r"!\[([^\]]*)\]", README)
    assert len(pictures) == 3 and all(len(text) > 60 for text in pictures)


@pytest.mark.parametrize("page", ["README.md", "course/source/00_start.md"])
def test_the_table_of_stages_says_what_the_exercises_announce(page):
    outline = Judge(edition_in_use.course()).outline.values()
    text = (ROOT / page).read_text("utf-8")
    for stage in sorted({exercise.stage for exercise in outline}):
        own = [exercise for exercise in outline if exercise.stage == stage]
        row = next(line for line in text.splitlines() if re.match(rf"\| {stage}\b", line))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert str(sum(exercise.minutes for exercise in own)) in cells, row
        if page == "README.md":
            assert cells[2] == str(len(own)), row
    hours = sum(exercise.minutes for exercise in outline) / 60
    assert f"about {hours:.0f} hours" in text
