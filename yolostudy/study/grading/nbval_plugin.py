"""A pytest plugin that hardens nbval 0.11: no broken notebook passes, and none hangs the run.

Plain nbval waits out the whole cell timeout for a kernel that is dead. It passes a cell that
swallowed the interrupt of its own timeout, waits for ever on one that keeps printing, and judges
failure by the displayed traceback alone. Here the kernel is watched while it works, the reply's own
status decides, and an expectation that was never recorded or never met is a failure.

Use: `command(notebook)` gives the command line; or `pytest -p yolostudy.study.grading.nbval_plugin
--nbval-lax --nbval-current-env …`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from queue import Empty

import nbval.plugin
import pytest
from nbval.kernel import RunningKernel

POLL_SECONDS = 0.5  # how soon a dead kernel is noticed
GRACE_SECONDS = 5.0  # how long an interrupted cell may take to end


def command(notebook: Path, cell_timeout: float = 120.0, quick: bool = False) -> list[str]:
    """The command that runs one notebook and compares the cells tagged `nbval-check-output`.

    The notebook gets its own kernel. No file in its folder and no other installed plugin takes
    part. The command exits with 0 if every cell passed.

    Args:
        cell_timeout: seconds for each cell.
        quick: shorten the cells that a tag such as `quick-epochs-4` allows to be shortened.
    """
    place = notebook.parent  # without --confcutdir pytest looks for a conftest.py in every folder above it
    alone = ["-c", os.devnull, f"--rootdir={place}", f"--confcutdir={place}", "--disable-plugin-autoload"]
    plugins = ["-p", "no:cacheprovider", "-p", nbval.plugin.__name__, "-p", __name__]
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={cell_timeout:g}"]
    options += ["--quick-cells"] * quick
    return [sys.executable, "-m", "pytest", *alone, *plugins, *options, "--color=no", "-rf", str(notebook)]


class KernelDied(RuntimeError):
    pass


class WatchedKernel(RunningKernel):
    """A kernel that is watched while it works.

    `reply` and `overdue` say how the last cell ended.
    """

    def __init__(self, *args, **kwargs):
        self.reply: dict = {}
        self.overdue = False
        self.give_up_at = float("inf")
        super().__init__(*args, **kwargs)

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Wait for the reply to `msg_id`.

        Raises:
            Empty: after `timeout` seconds, however many other messages came in between.
            KernelDied: at most POLL_SECONDS after the kernel's process ended.
        """
        self.reply, self.overdue, self.give_up_at = {}, False, float("inf")
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            try:
                message = self.get_message("shell", timeout=POLL_SECONDS)
            except Empty:
                if not self.is_alive():
                    raise KernelDied(
                        "The kernel's process ended while it ran this cell (out of memory, or the cell ended it)."
                    ) from None
            else:
                if message["parent_header"].get("msg_id") == msg_id:
                    self.reply = message["content"]
                    return
            if time.monotonic() > deadline:
                self.overdue = True
                self.give_up_at = time.monotonic() + GRACE_SECONDS
                raise Empty

    def get_message(self, stream: str, timeout: float | None = None) -> dict:
        # a cell that prints on after its interrupt never lets the channel run empty
        if time.monotonic() > self.give_up_at:
            raise Empty
        return super().get_message(stream, timeout=timeout)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick-cells", action="store_true", help="shorten cells tagged quick-NAME-VALUE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.quick_cells:
        for item in items:
            if isinstance(item, nbval.plugin.IPyNbCell):
                item.cell.source = shortened(item.cell.source, item.cell.metadata.get("tags", []))


def shortened(source: str, tags: list[str]) -> str:
    """The source with `epochs=50` replaced by `epochs=4` where a tag says `quick-epochs-4`.

    A word is replaced as text: `quick-split-small` makes `split="small"` of `split="train"`.

    Errors: ValueError unless the cell holds such a setting exactly once.
    """
    for name, value in (match.groups() for tag in tags if (match := re.fullmatch(r"quick-(\w+)-(\w+)", tag))):
        old, new = (r"\d+", value) if value.isdecimal() else (r'"\w+"', f'"{value}"')
        source, found = re.subn(rf"\b{name}={old}", f"{name}={new}", source)
        if found != 1:
            raise ValueError(
                f"the tag quick-{name}-{value} needs `{name}={'NUMBER' if value.isdecimal() else 'WORD in quotes'}` "
                f"once in its cell; it is there {found} times."
            )
    return source


def pytest_configure(config: pytest.Config) -> None:
    nbval.plugin.RunningKernel = WatchedKernel


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    if not isinstance(item, nbval.plugin.IPyNbCell):
        return (yield)
    try:
        result = yield
    except KernelDied as error:
        item.raise_cell_error(str(error))
    kernel, options, tags = item.parent.kernel, item.options, item.cell.metadata.get("tags", [])
    if kernel.overdue:
        item.raise_cell_error(
            f"Timeout of {item.config.option.nbval_cell_timeout:g} seconds exceeded; the cell swallowed the interrupt."
        )
    failed = kernel.reply.get("status") == "error"
    if failed and not options["check_exception"]:
        raised = f"{kernel.reply.get('ename')}: {kernel.reply.get('evalue')}"
        item.raise_cell_error(f"The cell raised {raised}, and its traceback was not shown.")
    if options["check_exception"] and not failed:
        item.raise_cell_error("The cell is tagged as one that raises, and it did not raise.")
    if "nbval-check-output" in tags and item.cell.execution_count is None:
        item.raise_cell_error("The cell is tagged nbval-check-output, but the notebook was stored without running it.")
    return result
