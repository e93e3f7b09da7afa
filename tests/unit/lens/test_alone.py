"""The lenses need torch, numpy and matplotlib, and nothing else that the course brings along."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
for name in ("ultralytics", "cv2", "ipywidgets", "tensorboard", "torchvision"):
    sys.modules[name] = None

import torch
from torch import nn
from yolostudy import lens

assert all(getattr(lens, name) for name in lens.__all__)
with lens.NaNMicroscope() as microscope:
    (torch.ones(3, requires_grad=True) - 1).log().mul(0).sum().backward()
assert microscope.finding.op == "log" and "The logarithm is -inf at 0" in str(microscope.finding)
assert lens.draw_finding(microscope.finding).numbers["op"] == "log"

a, b = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(2))
images = torch.rand(2, 3, 8, 8)
assert "2 × 4 × 6 × 6" in str(lens.shapes(a, images))
assert "First difference: 0 (Conv2d)" in str(lens.first_divergence(a, b, images))
lens.copy_weights(a, b)
assert lens.first_divergence(a, b, images).first is None
assert "MiB at the peak" in str(lens.step_memory(a, (2, 3, 8, 8)))

flight = lens.Recorder([a], show=None)
flight.begin(lambda: None)
flight.end(torch.tensor(0.0))
try:
    lens.flight_recorder(a)
except TypeError as refused:
    assert "Known: a trainer of yolostudy.engine" in str(refused), refused

def outer(number):
    return inner(number) + 1

def inner(number):
    return 2 * number

tree = lens.trace(outer, 3)
assert [line.rsplit("  ", 1)[0] for line in str(tree).splitlines()] == ["record", "└─ outer", "   └─ inner"], str(tree)
assert {"text/plain", "image/png"} == set(tree._repr_mimebundle_())
"""


def test_the_lenses_work_where_the_rest_is_missing():
    environment = {name: value for name, value in os.environ.items() if name != "YOLOSTUDY_USE"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
