"""Two processes that train together: start them, and see what both did.

The processes run `course/engines/two_processes.py` under torchrun, on the CPU. `run` starts them
and ends them in any case. `draw_processes` shows what they found and when each of them waited.
What each way of sharing copies, `parallel.compare_parallel` counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...canvas import style
from ...data import DATASETS

DEMOS = ("gradients", "no_set_epoch", "averaged_twice", "rank1_also_saves", "eval_on_one_rank")
PROGRAM = DATASETS.parent / "course" / "engines" / "two_processes.py"
GRACE = 5.0  # seconds between asking the processes to end and killing them


@dataclass(frozen=True, slots=True)
class Span:
    """What one process did from `start` to `end`, in seconds since the first span began."""

    rank: int
    name: str
    start: float
    end: float
    waits: bool


@dataclass(frozen=True)
class Result:
    """What two processes said, found and did.

    Attributes:
        said: rank -> its sentences, in order.
        numbers: rank -> what it measured; the names depend on the demonstration.
        spans: of both, by start.
        seconds: from the start of torchrun to its end.
    """

    demo: str
    said: dict[int, list[str]] = field(default_factory=dict)
    numbers: dict[int, dict] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    seconds: float = 0.0

    def waited(self, rank: int) -> float:
        """Seconds that a process waited for the other."""
        return sum(span.end - span.start for span in self.spans if span.rank == rank and span.waits)

    def __str__(self) -> str:
        return "\n".join(f"rank {rank}: {line}" for rank, lines in sorted(self.said.items()) for line in lines)

    __repr__ = __str__


# ---- starting and ending --------------------------------------------------------------------------


def run(demo: str, seconds: float = 90.0, progress: bool = True) -> Result:
    """Start one demonstration in two processes and wait for both to end.

    The port is a free one that torchrun chooses. Whatever happens, an interrupt too, no process is
    left behind.

    Args:
        demo: one of DEMOS.
        seconds: after which both are ended.
        progress: show a line with what was said last.

    Raises:
        ValueError: an unknown demonstration.
        FileNotFoundError: the course's program is not there.
        TimeoutError: the time is over.
        RuntimeError: a process failed; the message ends with what it printed.
    """
    if demo not in DEMOS:
        raise ValueError(f"processes.run: {demo!r} is no demonstration. Name one of {', '.join(DEMOS)}.")
    if not PROGRAM.is_file():
        raise FileNotFoundError(
            f"processes.run: there is no {PROGRAM}. The program is part of the course's repository, not of the "
            "installed package: run the notebook from there."
        )
    with tempfile.TemporaryDirectory(prefix="two processes ", ignore_cleanup_errors=True) as name:
        folder, began = Path(name), time.monotonic()
        with _started(demo, folder) as launcher, _bar(demo, progress) as tell:
            while launcher.poll() is None:
                if time.monotonic() - began > seconds:
                    raise TimeoutError(
                        f"processes.run: {demo} was not done after {seconds:g} s, so both processes were ended. On a "
                        "busy machine give it more seconds=."
                    )
                time.sleep(0.05)
                tell(folder)
        result = _read(demo, folder, time.monotonic() - began)
        if launcher.returncode:
            printed = (folder / "printed.txt").read_text("utf-8", errors="replace").strip()
            raise RuntimeError(
                f"processes.run: {demo} ended with status {launcher.returncode}. The last lines that it printed:\n"
                + "\n".join(printed.splitlines()[-25:])
            )
        return result


def _command(demo: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    return [*launcher, "--nproc-per-node", "2", str(PROGRAM), demo]


@contextlib.contextmanager
def _started(demo: str, folder: Path) -> Iterator[subprocess.Popen]:
    """torchrun, in a session of its own; at the end nothing that it started is left."""
    import psutil

    ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in ranks and "TORCHELASTIC" not in name}
    kept |= {"YOLOSTUDY_DIARY": str(folder), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    with (folder / "printed.txt").open("wb") as printed:
        launcher = subprocess.Popen(
            _command(demo),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=kept,
            cwd=folder,
            start_new_session=True,  # Ctrl-C in a terminal reaches the notebook alone, which then ends both
        )
        try:
            yield launcher
        finally:
            # torchrun gives each process a session of its own, so ending its group would not end them
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(launcher.pid).children(recursive=True)
                if launcher.poll() is None:
                    launcher.terminate()
                _, alive = psutil.wait_procs([*family, psutil.Process(launcher.pid)], timeout=GRACE)
                for process in alive:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            launcher.wait()


@contextlib.contextmanager
def _bar(demo: str, shown: bool) -> Iterator:
    """A line that shows the seconds and what was said last."""
    from tqdm.auto import tqdm

    with tqdm(desc=f"two processes: {demo}", bar_format="{desc} {elapsed}", leave=False, disable=not shown) as bar:

        def tell(folder: Path) -> None:
            said = [text for lines in _read(demo, folder, 0).said.values() for text in lines[-1:]] if shown else []
            bar.set_description_str(f"two processes: {demo}" + (f": {said[-1][:60]}" if said else ""), refresh=False)
            bar.update()

        yield tell


def _read(demo: str, folder: Path, seconds: float) -> Result:
    """What is in the diaries so far; an unfinished last line is left out."""
    said, numbers, spans = {}, {}, []
    for rank in range(2):
        file = folder / f"rank{rank}.jsonl"
        text = file.read_text("utf-8") if file.exists() else ""
        entries = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        said[rank] = [entry["said"] for entry in entries if "said" in entry]
        numbers[rank] = {}
        for entry in entries:
            numbers[rank] |= entry.get("numbers", {})
            if "span" in entry:
                spans.append(Span(rank, entry["span"], entry["start"], entry["end"], entry["waits"]))
    zero = min((span.start for span in spans), default=0.0)
    spans = [Span(span.rank, span.name, span.start - zero, span.end - zero, span.waits) for span in spans]
    return Result(demo, said, numbers, tuple(sorted(spans, key=lambda span: span.start)), seconds)


# ---- pictures -------------------------------------------------------------------------------------


@style.house()
def draw_processes(result: Result) -> style.StudyFigure:
    """Above, what both processes found; below, a lane in time for each, hatched where it waited."""
    parts = [(_PANELS[result.demo], result.numbers)] if result.demo in _PANELS else []
    parts += [(_lanes, _merged(result.spans))] if result.spans else []
    figure, axes = style.figure(len(parts), 1, height=2.5 * len(parts), squeeze=False)
    for axis, (panel, content) in zip(axes[:, 0], parts):
        panel(axis, content)
    return figure.with_numbers(result)


def _merged(spans: tuple[Span, ...]) -> list[Span]:
    """Neighbours of one name as one span."""
    merged: list[Span] = []
    for rank in (0, 1):
        for span in (span for span in spans if span.rank == rank):
            if merged and merged[-1].rank == rank and merged[-1].name == span.name:
                span = Span(rank, span.name, merged.pop().start, span.end, span.waits)
            merged.append(span)
    return merged


def _lanes(axis, spans: list[Span]) -> None:
    total = max(span.end for span in spans)
    for span in spans:
        wide, middle = span.end - span.start, (span.start + span.end) / 2
        colour = style.FALSE_ALARM if span.waits else style.cycle(span.rank)
        look = dict(facecolor=style.PAPER, hatch="////") if span.waits else dict(facecolor=colour)
        axis.barh(span.rank, wide, left=span.start, height=0.66, edgecolor=colour, linewidth=0.8, **look)
        letters = int(wide / total * 88)
        words = textwrap.wrap(span.name, max(1, letters), break_long_words=False)
        if len(words) < 4 and max(map(len, words)) <= letters:
            box = dict(facecolor=style.PAPER, edgecolor="none", pad=1) if span.waits else None
            ink = style.INK if span.waits else style.PAPER
            look = dict(ha="center", va="center", fontsize=8, color=ink, bbox=box)
            axis.text(middle, span.rank, "\n".join(words), **look)
    axis.set_yticks((0, 1), ("rank 0", "rank 1"))
    axis.set(ylim=(1.6, -0.6), xlim=(0, total * 1.01), xlabel="seconds")
    axis.set_title("who does what; hatched: waits for the other")
    axis.grid(axis="y", visible=False)


def _gradients(axis, numbers: dict[int, dict]) -> None:
    own, mean = [np.array(numbers[rank]["own"]) for rank in (0, 1)], np.array(numbers[0]["mean"])
    places = np.arange(len(mean))
    for rank, values in enumerate(own):
        axis.bar(places + 0.28 * (rank - 0.5), values, 0.26, color=style.cycle(rank), label=f"rank {rank}, its own")
    axis.hlines(mean, places - 0.4, places + 0.4, color=style.INK, linewidth=2, label="both, after the all-reduce")
    axis.axhline(0, color=style.FAINT, linewidth=0.8)
    axis.set_xticks(places, [*(f"weight {n}" for n in range(len(mean) - 1)), "bias"])
    axis.set_title("the gradients of two processes and their mean")
    axis.legend(ncols=3, loc="best")


def _cells(axis, rows: dict[str, list[int]], colours, words, title: str) -> None:
    """Rows of cells: `colours` and `words` map a cell's number to its colour and its text."""
    for row, cells in enumerate(rows.values()):
        for column, cell in enumerate(cells):
            colour = colours(cell)
            axis.barh(row, 0.94, left=column, height=0.8, color=colour)
            dark = np.dot(style.matplotlib.colors.to_rgb(colour), (0.3, 0.59, 0.11)) < 0.55
            ink = style.PAPER if dark else style.INK
            axis.text(column + 0.47, row, words(cell), ha="center", va="center", fontsize=8, color=ink)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(ylim=(len(rows) - 0.5, -0.5), title=title, xticks=[])
    axis.grid(False)


def _orders(axis, numbers: dict[int, dict]) -> None:
    rows = {}
    for label in ("without", "with"):
        for epoch in range(2):
            both = [numbers[rank]["orders"][label][epoch] for rank in (0, 1)]
            rows[f"{label}, epoch {epoch + 1}"] = [*both[0], *both[1]]
    count = len(next(iter(rows.values())))
    title = "the images of rank 0 (left half) and of rank 1 (right half), without set_epoch and with it"
    _cells(axis, rows, lambda index: style.HEAT(index / (count - 1)), str, title)
    axis.axvline(count / 2 - 0.03, color=style.INK, linewidth=2)


def _scalings(axis, numbers: dict[int, dict]) -> None:
    found = numbers[0]["scalings"]
    ratios = [one["ratio"] for one in found.values()]
    colours = [style.cycle(0) if abs(ratio - 1) < 1e-3 else style.cycle(1) for ratio in ratios]
    axis.barh(range(len(found)), ratios, 0.6, color=colours)
    for row, ratio in enumerate(ratios):
        axis.text(ratio + 0.02, row, f"{ratio:.2f}", va="center", fontsize=9)
    axis.axvline(1, color=style.INK, linewidth=1.2)
    axis.set_yticks(range(len(found)), list(found))
    axis.set(ylim=(len(found) - 0.5, -0.5), xlabel="DDP's gradient ÷ that of one process with all images")
    axis.set_title("the same sixteen images, the loss scaled in five ways")
    axis.grid(axis="y", visible=False)


def _writers(axis, numbers: dict[int, dict]) -> None:
    found = numbers[0]
    rows = {"both, in the middle": found["torn"], "both, at the end": found["final"], "rank 0 alone": found["alone"]}
    colours = {0: style.GROUND, 1: style.cycle(0), 2: style.cycle(1)}
    names = {0: "nobody", 1: "rank 0", 2: "rank 1"}
    _cells(axis, rows, colours.get, names.get, "who wrote each tensor of the checkpoint that a reader loads")


_PANELS = {
    "gradients": _gradients,
    "no_set_epoch": _orders,
    "averaged_twice": _scalings,
    "rank1_also_saves": _writers,
}
