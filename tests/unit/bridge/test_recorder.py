"""The flight recorder in Ultralytics' own trainer."""

import inspect
from pathlib import Path

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack as modes

from tests import tiny
from yolostudy import data
from yolostudy.bridge import ultralytics
from yolostudy.canvas import style
from yolostudy.lens import NonFiniteStep, draw_finding
from yolostudy.lens import flight_recorder as recorder

HERE = Path(__file__)


@pytest.mark.slow
@pytest.mark.parity
def test_one_line_puts_it_into_ultralytics_own_trainer(tmp_path):
    folder = str(tiny.make(tmp_path / "tiny"))
    sets = [data.open_set(folder, split) for split in ("train", "validation")]
    written = data.write(sets, tmp_path / "yolo", "yolo")
    model = ultralytics.load().YOLO("yolov8n.yaml")
    flight = recorder(model, show=None).attach()

    def spoil(trainer):
        spoil.calls += 1
        if spoil.calls == 3:
            trainer.model.model[4].register_forward_hook(lambda module, inputs, out: (out - 9).log())  # BORN

    spoil.calls = 0
    model.add_callback("on_train_batch_start", spoil)
    settings = dict(
        epochs=1, imgsz=64, batch=4, device="cpu", workers=0, amp=False, plots=False, pretrained=False, verbose=False
    )
    with pytest.raises(NonFiniteStep, match="Step 3: the loss is nan"):
        model.train(data=str(written), optimizer="SGD", mosaic=0.0, project=str(tmp_path / "runs"), **settings)
    finding = flight.finding
    line = inspect.getsourcelines(test_one_line_puts_it_into_ultralytics_own_trainer)
    assert (Path(finding.file), finding.line) == (
        HERE,
        line[1] + next(n for n, text in enumerate(line[0]) if "# BORN" in text),
    )
    assert finding.reaches == "the loss" and len(finding.chain) > 50
    assert len(style.as_png(draw_finding(finding))) < style.MAX_BYTES
    trainer = flight.trainer
    flight.detach()
    assert not trainer.model._forward_hooks and not trainer.model._forward_pre_hooks and not modes()
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    assert not any(
        function in registered for function in flight.callbacks.values() for registered in trainer.callbacks.values()
    )


def test_other_trainers_with_callbacks_are_not_taken_for_it():
    """That of transformers has `add_callback` too, and calls other callbacks."""

    class Trainer:
        callback_handler = None

        def add_callback(self, callback): ...

        def train(self): ...

    for target in (Trainer(), type("Lightning", (Trainer,), {"callbacks": []})()):
        with pytest.raises(TypeError, match=r"Ultralytics' YOLO or one of its trainers \(this one lacks `callbacks`\)"):
            recorder(target)
