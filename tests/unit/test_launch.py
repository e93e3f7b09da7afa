"""`.vscode/launch.json`: each configuration is started as VS Code would start it, without the debugger."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".vscode" / "launch.json"
CONFIGURATIONS = {one["name"]: one for one in json.loads(FILE.read_text("utf-8"))["configurations"]}
EXPECTED = {  # name -> exit status, and what is printed
    "Train on planes, two steps": (0, ("1 epoch in", "runs/debug")),
    "One pose step of Ultralytics": (
        0,
        ("BaseTrainer._do_train of PoseTrainer", " of v8PoseLoss  ultralytics/utils/loss.py"),
    ),
    "A museum room that fails: class 7 of 2": (
        0,
        ("IndexError: index 7 is out of bounds", "museum/data.py:", "After it"),
    ),
    "Check one exercise: blocks.SPPF": (1, ("blocks.SPPF 0/",)),
}


def start(configuration: dict, home: Path) -> subprocess.CompletedProcess:
    """What the debugger would start: the module with its arguments, folder and environment."""

    def filled(text: str) -> str:
        return text.replace("${workspaceFolder}", str(ROOT))

    environment = {name: value for name, value in os.environ.items() if name != "YOLOSTUDY_USE"}
    environment |= {name: filled(value) for name, value in configuration["env"].items()}
    environment |= {"YOLOSTUDY_HOME": str(home), "OMP_NUM_THREADS": "1"}  # so that no run is left in this folder
    command = warm.words("-m", configuration["module"], *map(filled, configuration["args"]))
    return subprocess.run(
        command, cwd=filled(configuration["cwd"]), env=environment, capture_output=True, text=True, timeout=120
    )


def test_there_are_the_four():
    assert CONFIGURATIONS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_is_one_that_the_debugger_starts(name):
    one = CONFIGURATIONS[name]
    assert (one["type"], one["request"], one["cwd"]) == ("debugpy", "launch", "${workspaceFolder}")
    assert all(isinstance(text, str) for text in (*one["args"], *one["env"].values()))
    assert one["justMyCode"] is ("Ultralytics" not in name), "a breakpoint in a library needs justMyCode off"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_does_what_its_name_says(name, tmp_path):
    done = start(CONFIGURATIONS[name], tmp_path)
    status, texts = EXPECTED[name]
    printed = done.stdout + done.stderr
    assert done.returncode == status, printed
    for text in texts:
        assert text in printed


def test_git_keeps_the_file():
    done = subprocess.run(["git", "check-ignore", "-q", str(FILE)], cwd=ROOT)
    assert done.returncode in (1, 128), "a rule of .gitignore hides .vscode/launch.json"  # 128: no git checkout
