"""A recorded program as a picture: the folded tree with its times, and a chain of calls."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import FancyBboxPatch

from ...canvas import style
from .tree import CallRow, as_row, milliseconds, place, row_name, rows_of, say, walk

MAX_ROWS = 24  # of a picture


def outline(tree, chain: Sequence = (), rows: int = MAX_ROWS, depth: int = 6) -> list[tuple[CallRow, int, bool]]:
    """The most important rows: first the chain and the rows beside it, then the slowest.

    Returns:
        (row, depth, whether it is on the chain), from top to bottom.
    """
    root = as_row(tree)
    marked = set(map(id, rows_of(root, chain)))
    listed = [(row, level, above) for row, level, above in walk(root) if level <= depth or id(row) in marked]
    ranks = sorted(
        listed,
        key=lambda item: (id(item[0]) not in marked, not item[2] or id(item[2][-1]) not in marked, -item[0].seconds),
    )
    kept: set[int] = set()
    for row, _, above in ranks:
        needed = {id(row), *map(id, above)} - kept
        if len(kept) + len(needed) <= rows:
            kept |= needed
    return [(row, level, id(row) in marked) for row, level, _ in listed if id(row) in kept]


@style.house()
def draw_tree(tree, chain: Sequence = (), rows: int = MAX_ROWS, depth: int = 6) -> style.StudyFigure:
    """The tree as an indented list, with a bar of time beside each row and the chain marked.

    `numbers`: rows drawn; marked, the names on the chain; calls in the whole tree.

    Args:
        tree: a Call, or a CallRow from `fold`.
        chain: calls as `trace.path_between` returns them.
    """
    shown = outline(tree, chain, rows, depth)
    whole = max((row.seconds for row, *_ in shown), default=0.0) or 1.0
    figure, (names, bars) = style.figure(1, 2, height=0.55 + 0.24 * len(shown), width_ratios=(3.1, 1), sharey=True)
    for axes in (names, bars):
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(False)
    names.axis("off")
    names.set_xlim(0, 100)
    drawn = {id(row) for row, *_ in shown}
    for number, (row, level, marked) in enumerate(shown):
        colour, weight = (style.CYCLE[0], "bold") if marked else (style.INK, "normal")
        text = f"{row.name}{f' × {row.count}' if row.count > 1 else ''}"
        names.text(2.6 * level, number, text, va="center", fontsize=8.5, color=colour, weight=weight)
        hidden = row.total - row.count - sum(child.total for child in row.children if id(child) in drawn)
        if hidden:
            names.text(100, number, f"+ {hidden} inside", va="center", ha="right", fontsize=7.5, color=style.FAINT)
        fill = style.CYCLE[0] if marked else style.BAND["backbone"]
        bars.barh(number, row.seconds * 1000, height=0.62, color=fill, edgecolor=style.FAINT)
        bars.text((row.seconds + 0.015 * whole) * 1000, number, milliseconds(row.seconds), va="center", fontsize=7.5)
    bars.set(xlim=(0, 1.35 * whole * 1000), yticks=[])
    bars.set_xlabel("time with all calls inside (ms)", fontsize=8.5)
    bars.tick_params(labelsize=8)
    bars.locator_params(axis="x", nbins=4)
    on_chain = [row.name for row, _, marked in shown if marked]
    return figure.with_numbers({"rows": len(shown), "marked": on_chain, "calls": as_row(tree).total})


@style.house()
def draw_chain(chain: Sequence, width: int = 120) -> style.StudyFigure:
    """A chain of calls from the top down: who calls whom, where it is written, and its arguments.

    A dict is written out where it first appears; later the same dict is only named.

    `numbers`: names and places, one for each call.
    """
    blocks = _blocks(chain, width)
    line, gap, head = 0.19, 0.28, 0.34  # inches
    heights = [head + line * len(text) for _, text in blocks]
    height = max(0.5, sum(heights) + gap * (len(blocks) - 1) + 0.1)
    figure, axes = style.figure(height=height)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    axes.axis("off")
    top = 0.05
    for number, ((call, text), tall) in enumerate(zip(blocks, heights)):
        face = style.BAND["head" if number in (0, len(blocks) - 1) else "backbone"]
        look = dict(boxstyle="round,pad=0,rounding_size=0.06", facecolor=face, edgecolor=style.INK, linewidth=0.9)
        axes.add_patch(FancyBboxPatch((0.1, top), style.WIDTH - 0.2, tall, **look))
        axes.text(0.22, top + 0.18, row_name(call), va="center", fontsize=10, weight="bold")
        axes.text(style.WIDTH - 0.22, top + 0.18, place(call), va="center", ha="right", fontsize=8)
        for index, words in enumerate(text):
            axes.text(0.34, top + 0.38 + line * index, words, va="center", fontsize=8)
        if number < len(blocks) - 1:
            arrow = dict(arrowstyle="-|>", color=style.FAINT, linewidth=1.4)
            axes.annotate("", (0.8, top + tall + gap), (0.8, top + tall), arrowprops=arrow)
            axes.text(0.92, top + tall + gap / 2, "calls", va="center", fontsize=8)
        top += tall + gap
    return figure.with_numbers({"names": [row_name(call) for call in chain], "places": [place(call) for call in chain]})


def _blocks(chain: Sequence, width: int) -> list[tuple[object, list[str]]]:
    """Each call with the lines that tell its arguments."""
    blocks, known = [], []
    for call in chain:
        text = []
        for name, value in call.arguments.items():
            if isinstance(value, dict) and value in known:
                text.append(f"{name}: the same dict of {len(value)}")
            elif isinstance(value, dict) and value:
                known.append(value)
                text.append(f"{name}: a dict of {len(value)}")
                text += [f"    {key}: {say(own, width - 14)}" for key, own in value.items()]
            elif value not in ({}, []):
                text.append(f"{name} = {say(value, width - len(name))}")
        blocks.append((call, text))
    return blocks
