"""The hardened nbval run: each notebook here is broken in one way, and the run must say so."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests import warm
from yolostudy.study.grading import nbval_plugin

# often enough that no wait of the plugin ever runs empty
PRINTS_ON = """
import time
while True:
    try:
        while True:
            print("x" * 80, flush=True)
            time.sleep(0.01)
    except KeyboardInterrupt:
        pass
"""
SILENT = "get_ipython()._showtraceback = lambda *args, **kwargs: None"


def cell(source: str, printed: str | None = None, tags: tuple[str, ...] = (), run: bool = True):
    outputs = [] if printed is None else [new_output("stream", name="stdout", text=printed)]
    return new_code_cell(source, execution_count=1 if run else None, outputs=outputs, metadata={"tags": list(tags)})


def run(folder: Path, cells: list, cell_timeout: float = 3, hardened: bool = True) -> subprocess.CompletedProcess:
    """Run a notebook of these cells."""
    notebook = folder / "made.ipynb"
    nbformat.write(new_notebook(cells=cells), notebook)
    command = nbval_plugin.command(notebook, cell_timeout)
    if not hardened:
        at = command.index(nbval_plugin.__name__)
        del command[at - 1 : at + 1]  # -p and its name
    command, environment = warm.notebook(command, folder / "jupyter")
    return subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=folder, env=environment)


def test_a_sound_notebook_passes(tmp_path):
    cells = [
        cell("x = 6 * 7"),
        cell("print(x)", "42\n", ("nbval-check-output",)),
        cell("print('another time')", "this is not compared\n"),
        cell("1 / 0", tags=("raises-exception",)),
        cell("", run=False),
    ]
    done = run(tmp_path, cells, cell_timeout=60)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


CHECK = ("nbval-check-output",)
BROKEN = {  # what is wrong: cells, what the run says about each
    "prints something else": ([cell("print(41)", "42\n", CHECK)], ["Cell outputs differ"]),
    "kills its kernel": ([cell("import os; os._exit(0)")], ["process ended while it ran this cell"]),
    "never ends and prints on": (
        [cell(PRINTS_ON)],
        ["Timeout of 3 seconds exceeded"],
    ),
}
HOLES = {  # plain nbval passes all of these; should it learn better, the plugin can shrink
    "tags that are not met": (
        [cell("x = 1", tags=("raises-exception",)), cell("print(42)", tags=CHECK, run=False)],
        ["it did not raise", "stored without running it"],
    ),
    "raises with its traceback switched off": ([cell(SILENT), cell("1 / 0")], ["ZeroDivisionError: division by zero"]),
    "swallows the interrupt": (
        [cell("import time\ntry: time.sleep(99)\nexcept KeyboardInterrupt: pass")],
        ["swallowed the interrupt"],
    ),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """All broken notebooks, run side by side: most of their time is waiting for a timeout."""

    def start(fault: str) -> subprocess.CompletedProcess:
        # a dead kernel is noticed, not waited for: run() would not wait that long
        patience = 3000 if fault == "kills its kernel" else 3
        return run(tmp_path_factory.mktemp("broken"), (BROKEN | HOLES)[fault][0], cell_timeout=patience)

    faults = [*BROKEN, *HOLES]
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(faults, pool.map(start, faults), strict=True))


@pytest.mark.notebook
@pytest.mark.parametrize("fault", BROKEN | HOLES)
def test_a_broken_notebook_fails(broken, fault):
    done, messages = broken[fault], (BROKEN | HOLES)[fault][1]
    assert done.returncode == 1, done.stdout
    for message in messages:
        assert message in done.stdout
    assert f"{len(messages)} failed" in done.stdout


@pytest.mark.notebook
def test_it_is_the_plugin_that_closes_the_holes(tmp_path):
    cells = [cell for cells, _ in HOLES.values() for cell in cells]
    done = run(tmp_path, cells, hardened=False)
    assert done.returncode == 0, done.stdout
    assert f"{len(cells)} passed" in done.stdout


def test_a_tag_shortens_a_cell():
    source = "recipe = load(epochs=50, seed=0)"
    assert nbval_plugin.shortened(source, ["quick-epochs-4"]) == "recipe = load(epochs=4, seed=0)"
    assert nbval_plugin.shortened(source, ["nbval-check-output"]) == source
    for wrong in (source.replace("50", "n"), f"{source}; epochs=3"):
        with pytest.raises(ValueError, match="needs `epochs=NUMBER` once"):
            nbval_plugin.shortened(wrong, ["quick-epochs-4"])
    words = 'opened = load(split="train"), load("validation"), epochs=50'
    assert nbval_plugin.shortened(words, ["quick-split-small", "quick-epochs-4"]) == (
        'opened = load(split="small"), load("validation"), epochs=4'
    )
    with pytest.raises(ValueError, match="needs `split=WORD in quotes` once"):
        nbval_plugin.shortened(source, ["quick-split-small"])


def test_the_plugin_needs_no_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, yolostudy.study.grading.nbval_plugin; sys.exit('torch' in sys.modules)"],
        check=True,
    )
