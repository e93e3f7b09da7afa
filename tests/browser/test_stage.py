"""A learner's evening in a real browser: stage 2 from the stubs, each exercise once wrong and once
right, then the whole notebook.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.browser import lab as jupyterlab
from tests.browser.lab import KERNEL_IS_READY, errors, images
from yolostudy.study import edition_in_use
from yolostudy.study.judge import Judge

ROOT = Path(__file__).parents[2]
NOTEBOOK = "course/02_blocks.ipynb"
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]

RUN_CELL = """async ([start, source]) => {
  const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.widgets;
  const index = cells.findIndex(cell => cell.model.sharedModel.getSource().startsWith(start));
  if (index < 0) throw new Error(`no cell begins with ${start}`);
  if (source !== null) cells[index].model.sharedModel.setSource(source);
  panel.content.activeCellIndex = index;
  panel.content.deselectAll();
  await window.jupyterapp.commands.execute("notebook:run-cell");
  cells[index].node.scrollIntoView({block: "start"});
  return cells[index].model.sharedModel.toJSON().outputs;
}"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """What a learner has after cloning: everything but history and outputs of runs, and stubs in
    the package.
    """
    folder = tmp_path / "clone"
    for part in ("yolostudy", "solutions", "course", "datasets"):
        shutil.copytree(
            ROOT / part,
            folder / part,
            ignore=shutil.ignore_patterns("__pycache__", "planes-mini", "runs", ".ipynb_checkpoints"),
        )
    for name, module in edition_in_use.course().edition("stub").items():
        (folder / "yolostudy" / f"{name}.py").write_bytes(module.encode())
    return folder


def printed(outputs: list[dict]) -> str:
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def test_stage_2_from_the_stubs(chromium, page, clone, tmp_path, tmp_path_factory):
    judge = Judge(edition_in_use.course())
    names = [exercise.name for exercise in judge.select("2")]
    environment = {name: value for name, value in os.environ.items() if name not in ("YOLOSTUDY_USE", "MPLBACKEND")}
    environment |= {"PYTHONPATH": str(clone), "YOLOSTUDY_HOME": str(tmp_path / "home")}
    with jupyterlab.start(clone, tmp_path_factory.mktemp("jupyter"), environment) as server:
        page.goto(f"{server.address}lab/tree/{NOTEBOOK}?reset&token={server.token}")
        page.wait_for_function(KERNEL_IS_READY, timeout=300_000)
        page.evaluate(RUN_CELL, ["%load_ext yolostudy", None])
        for name in names:
            mistake = judge.exercises[name].misconceptions[0]
            wrong = mistake.edition(judge.reference, name).find(name).text
            right = judge.reference.find(name).text
            outputs = page.evaluate(RUN_CELL, [f"#| fill {name}", None])
            assert f"TODO {name} 0/" in printed(outputs), "an untouched stub cell is not attempted"
            outputs = page.evaluate(RUN_CELL, [f"#| fill {name}", f"#| fill {name}\n{wrong}"])
            assert f"FAIL {name}" in printed(outputs)
            card = page.locator(".yolostudy-card", has_text=mistake.name)
            card.wait_for(timeout=240_000)
            page.get_by_role("button", name="next hint").last.click()
            page.get_by_text("Hint 2 of 3").last.wait_for(timeout=240_000)
            page.screenshot(path=tmp_path / f"{name}-wrong.png")
            outputs = page.evaluate(RUN_CELL, [f"#| fill {name}", f"#| fill {name}\n{right}"])
            assert f"PASS {name}" in printed(outputs)
            assert errors(outputs) == []
            page.screenshot(path=tmp_path / f"{name}-right.png")
        model = page.evaluate(jupyterlab.RUN_ALL_CELLS, 200)
        outputs = [output for cell in model["cells"] for output in cell.get("outputs", [])]
        page.wait_for_timeout(1500)
        page.screenshot(path=tmp_path / "end.png")
    raising = {i for i, cell in enumerate(model["cells"]) if "raises-exception" in cell["metadata"].get("tags", [])}
    assert [
        e for i, cell in enumerate(model["cells"]) if i not in raising for e in errors(cell.get("outputs", []))
    ] == []
    assert images(outputs) > 0
    print(f"screenshots: {tmp_path}")
    mine = (clone / "yolostudy" / "blocks.py").read_text()
    assert "raise NotImplementedError" not in mine
    assert (clone / ".yolostudy" / "progress.json").exists()
