"""Every notebook runs from top to bottom on the reference and prints what is stored in it.

Cells that train for long are shortened where their tag allows it (`quick-epochs-4`); building the
notebooks runs them at full length. `YOLOSTUDY_FULL_NOTEBOOKS=1` does so here, too.
"""

import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from tests import warm
from yolostudy.study.grading import nbval_plugin

COURSE = Path(__file__).parents[2] / "course"
NOTEBOOKS = sorted(COURSE.glob("*.ipynb"))


def test_the_course_has_its_first_notebook():
    assert (COURSE / "00_start.ipynb") in NOTEBOOKS


@pytest.mark.notebook
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(notebook, tmp_path):
    command = nbval_plugin.command(notebook, cell_timeout=900, quick=not os.environ.get("YOLOSTUDY_FULL_NOTEBOOKS"))
    command, environment = warm.notebook(command, tmp_path / "jupyter")
    environment |= {"YOLOSTUDY_USE": "reference", "YOLOSTUDY_HOME": str(tmp_path / "home")}
    environment.pop("MPLBACKEND", None)  # the kernel's own shows figures inline
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, env=environment)
    assert done.returncode == 0, done.stdout[-6000:]
    code_cells = sum(cell.cell_type == "code" for cell in nbformat.read(notebook, as_version=4).cells)
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed == code_cells, "some cells were skipped or allowed to fail:\n" + done.stdout[-3000:]
