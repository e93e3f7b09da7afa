"""Two processes that train together: start them, see what both did, and what each way of sharing copies.

The processes run `course/engines/two_processes.py` under torchrun, on the CPU. `run` starts them
and ends them in any case. `draw_processes` shows what they found and when each of them waited.
`compare_parallel` counts what DataParallel (DP) and DistributedDataParallel (DDP) copy.
"""

from __future__ import annotations

import contextlib
import html
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

from ...canvas import drawing, style
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


# ---- DP against DDP -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copied:
    """One row: how many bytes, and what DP and DDP do with them, and when."""

    what: str
    bytes: int
    dp: str
    ddp: str


class ParallelTable:
    """What DP and DDP copy, as text and as HTML.

    Attributes:
        rows: a `Copied` for parameters, gradients, buffers, images, outputs and optimizer state.
        dp_step, ddp_step: bytes in one training step that leave or enter the first device of DP,
            and that one process of DDP sends.
    """

    def __init__(self, rows: tuple[Copied, ...], dp_step: int, ddp_step: int):
        self.rows, self.dp_step, self.ddp_step = rows, dp_step, ddp_step

    def cell(self, what: str) -> Copied:
        return next(row for row in self.rows if row.what == what)

    @property
    def caption(self) -> str:
        return (
            f"In one training step {_size(self.dp_step)} pass through DP's first device; a process of DDP sends "
            f"{_size(self.ddp_step)}."
        )

    def __str__(self) -> str:
        lines = [self.caption]
        for row in self.rows:
            lines += [f"{row.what}, {_size(row.bytes)}", f"  DP:  {row.dp}", f"  DDP: {row.ddp}"]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        titles = ("what", "size", "DataParallel, one process", "DistributedDataParallel, a process each")
        rows = [(row.what, _size(row.bytes), row.dp, row.ddp) for row in self.rows]
        return f"<p>{html.escape(self.caption)}</p>" + drawing.table(titles, rows)


def _size(count: float) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**17 else f"{count / 2**10:.1f} KiB"


def compare_parallel(model, image=(3, 160, 160), batch: int = 16, devices: int = 2, state: int = 2) -> ParallelTable:
    """What is copied between devices by DP and by DDP when this model is trained.

    Sizes are counted from the model; the outputs from a forward pass on the meta device, which
    computes nothing. The text is what the torch 2.15 documentation says of both classes. A ring
    all-reduce is assumed: each process sends 2 (N − 1) / N of the gradients (Patarasuk and Yuan,
    2009).

    Args:
        image: C, H, W of one image, fp32. batch: images in one step, over all devices.
        state: numbers that the optimizer keeps for each parameter: 2 for AdamW, 1 for momentum.
    """
    import copy

    import torch

    def bytes_of(tensors) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights, gradients, buffers = bytes_of(model.parameters()), bytes_of(trained), bytes_of(model.buffers())
    inputs = batch * int(np.prod(image)) * 4
    with torch.no_grad():
        answer = copy.deepcopy(model).to("meta")(torch.empty(batch, *image, device="meta"))
    outputs = bytes_of(torch.utils._pytree.tree_leaves(answer))
    others, share = devices - 1, (devices - 1) / devices
    rows = (
        Copied(
            "parameters", weights, f"to {others} more at each forward pass", "from rank 0, once, by the constructor"
        ),
        Copied(
            "gradients",
            gradients,
            "of all devices summed on the first at each backward pass",
            "all-reduced to the mean at each backward pass, in buckets of 25 MiB, while it still runs",
        ),
        Copied(
            "buffers",
            buffers,
            "to the others at each forward pass; only the first device's changes are kept",
            "from rank 0 before each forward pass in training",
        ),
        Copied(
            "images", inputs, f"{share:.0%} of each batch leave the first device", "none: each process loads its own"
        ),
        Copied(
            "outputs",
            outputs,
            f"{share:.0%} come back to the first device, for the loss",
            "none: a loss in each process",
        ),
        Copied(
            "optimizer state", state * gradients, "kept once, on the first device", "kept by each process, never sent"
        ),
    )
    dp_step = others * (weights + buffers + gradients) + share * (inputs + outputs)
    return ParallelTable(rows, int(dp_step), int(2 * share * gradients + buffers))
