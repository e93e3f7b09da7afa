"""The main job in a real browser: the first notebook opens in JupyterLab, all its cells run, planes
are detected in the picture.
"""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.lab import errors, images, text

START = Path(__file__).parents[2] / "course" / "00_start.ipynb"
DETECTED = "planes detected"  # the line that 00_start prints once the reference detector found planes in a picture

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]

# without it JupyterLab asks which kernel
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PICTURE = "import matplotlib.pyplot as plt\nplt.imshow([[0, 1], [2, 3]]);"


def test_the_harness_sees_text_picture_and_error(lab, page):
    sources = ["%matplotlib inline\nprint('hello')", PICTURE, "1 / 0", "#" + 300 * " long"]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources], metadata=KERNEL)
    nbformat.write(notebook, lab.folder / "tiny.ipynb")
    outputs = lab.run(page, "tiny.ipynb")
    assert "hello\n" in text(outputs)
    assert images(outputs) == 1
    assert errors(outputs) == ["ZeroDivisionError: division by zero"]
    # by the settings of `make lab`, what is too long for a cell is wrapped
    lines = page.locator(".jp-CodeCell .cm-line").last
    assert lines.bounding_box()["height"] > 3 * page.locator(".jp-CodeCell .cm-line").first.bounding_box()["height"]


def test_the_first_notebook_detects_planes(lab, page, tmp_path):
    shutil.copy(START, lab.folder)
    outputs = lab.run(page, START.name, seconds=300)
    picture = page.locator(".jp-OutputArea-output img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # JupyterLab draws the cells in view a moment after it has scrolled
    page.screenshot(path=tmp_path / "00_start.png")
    print(f"screenshot: {tmp_path / '00_start.png'}")
    assert errors(outputs) == []
    assert DETECTED in text(outputs)
    assert images(outputs) > 0
