"""The tree of calls in a notebook: open and close its rows, search in it, read the source of the
chosen call.

`page` is the same tree as HTML that opens and closes without a kernel, so a stored notebook keeps
it.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Sequence

from ...canvas import style
from .tree import Row, draw_tree, find, fold, milliseconds, rows_of, say, source, walk

LISTED = 400  # rows that the list holds at once; a search makes them fewer


def trace(
    function: Callable, *arguments: object, packages: Sequence[str] = (), between: tuple[str, str] | None = None
) -> CallTree:
    """Call `function(*arguments)` and browse who called whom in it.

    Args:
        packages: whose functions are recorded; by default the package that the function is from,
            and the notebook or script itself.
        between: two names, such as ("BaseTrainer._do_train", "v8PoseLoss.__call__"), to open and
            mark the way from the one to the other.
    """
    from ...trace import path_between, record

    tree = record(function, *arguments, packages=packages)
    return CallTree(tree, path_between(tree, *between) if between else ())


class CallTree:
    """A browser for a recorded tree. `numbers` holds calls, rows, visible (names of the rows in the
    list), matches and chosen.

    Args:
        tree: a Call, or a Row.
        chain: calls that are open and marked from the start, as `trace.path_between` gives them.
        depth: levels that are open from the start.
    """

    def __init__(self, tree, chain: Sequence = (), depth: int = 2):
        import ipywidgets as widgets

        self.root = tree if isinstance(tree, Row) else fold(tree)
        self.chain = list(chain)
        self.rows = [*walk(self.root)]
        self.open = {id(row) for row, level, _ in self.rows if level < depth}
        self.marked = set(map(id, rows_of(self.root, chain)))
        for row, _, above in self.rows:
            if id(row) in self.marked:
                self.open |= set(map(id, above))
        self.numbers: dict = {"calls": self.root.total, "rows": len(self.rows)}
        self.search = widgets.Text(placeholder="search: loss, init_criterion, nn/tasks.py", layout={"width": "330px"})
        self.fold_button = widgets.Button(description="open / close", layout={"width": "110px"})
        self.all_button = widgets.Button(description="close all", layout={"width": "90px"})
        self.told = widgets.HTML()
        self.list = widgets.Select(options=[], rows=16, layout={"width": "48%"})
        self.detail = widgets.HTML(layout={"width": "52%"})
        self.search.observe(lambda _: self._searched(), "value")
        self.list.observe(lambda _: self._choose(), "value")
        self.fold_button.on_click(lambda _: self.toggle())
        self.all_button.on_click(lambda _: self.close_all())
        head = widgets.HBox([self.search, self.fold_button, self.all_button, self.told])
        self.widget = widgets.VBox([head, widgets.HBox([self.list, self.detail])])
        self._fill()

    # ---- what a click does -----------------------------------------------------------------------

    def toggle(self) -> None:
        """Open the chosen row, or close it.

        During a search: end the search, and open the row in its place in the whole tree.
        """
        if self.list.value is None:
            return
        chosen = {id(self.rows[self.list.value][0])}
        if self.search.value.strip():
            self.open |= chosen
            self.search.value = ""
        else:
            self.open ^= chosen
            self._fill()

    def close_all(self) -> None:
        self.search.value = ""
        self.open = {id(self.root)}
        self._fill()

    def _searched(self) -> None:
        if not self.search.value.strip() and self.list.value is not None:
            # what was found stays in sight when the search is over
            self.open |= set(map(id, self.rows[self.list.value][2]))
        self._fill()

    def choose(self, name: str) -> None:
        """Choose the first row of that name, opening what is above it."""
        number = next(number for number, (row, *_) in enumerate(self.rows) if row.name == name)
        self.open |= set(map(id, self.rows[number][2]))
        self._fill()
        self.list.value = number

    # ---- what is shown ---------------------------------------------------------------------------

    def _fill(self) -> None:
        searched = self.search.value.strip()
        found = find(self.root, searched) if searched else []
        hits = {id(row) for row, _ in found}
        unfolded = {id(row) for _, above in found for row in above} if searched else self.open
        if searched:
            listed = [n for n, (row, *_) in enumerate(self.rows) if id(row) in hits | unfolded]
        else:
            listed = [n for n, (_, _, above) in enumerate(self.rows) if all(id(row) in unfolded for row in above)]
        visible, before = listed[:LISTED], self.list.value
        self.numbers |= {"matches": len(found), "visible": [self.rows[n][0].name for n in visible]}
        self.list.options = [(self._label(n, unfolded, hits), n) for n in visible]
        best = (
            [before]
            if before in visible and not searched
            else [n for n in visible if id(self.rows[n][0]) in hits] or visible
        )
        self.list.value = best[0] if best else None
        self._choose()
        said = f"{len(found)} found ●" if searched else "the chain ◂" if self.marked else ""
        left_out = f", the first {LISTED} of {len(listed)} rows are listed" if len(listed) > LISTED else ""
        self.told.value = f'<span style="white-space:nowrap">{said}{left_out}</span>'

    def _label(self, number: int, unfolded: set[int], hits: set[int]) -> str:
        row, level, _ = self.rows[number]
        sign = " " if not row.children else "▾" if id(row) in unfolded else "▸"
        marks = (" ●" if id(row) in hits else "") + (" ◂" if id(row) in self.marked else "")
        return f"{chr(0x2003) * level}{sign} {row.name}{f' × {row.count}' if row.count > 1 else ''}{marks}"

    def _choose(self) -> None:
        if self.list.value is None:
            self.numbers["chosen"], self.detail.value = "", "Nothing has that name."
            return
        row = self.rows[self.list.value][0]
        self.numbers |= {"chosen": row.name, "source_lines": len(source(row).splitlines())}
        self.detail.value = detail(row)

    def __repr__(self) -> str:
        return f"CallTree({self.numbers['calls']} calls in {self.numbers['rows']} rows)"

    def _repr_mimebundle_(self, **options) -> dict:
        picture = b64encode(style.as_png(draw_tree(self.root, self.chain)[0])).decode()
        return {**self.widget._repr_mimebundle_(**options), "image/png": picture, "text/plain": repr(self)}


def detail(row: Row) -> str:
    """A row in full, as HTML: place, time, arguments of its first call, result, source."""
    keep = html.escape
    facts = (
        f"{row.count} call{'s' if row.count > 1 else ''}, {milliseconds(row.seconds)}, {row.total - row.count} calls "
        "inside"
    )
    lines = [f"<b>{keep(row.name)}</b><br><code>{keep(row.place)}</code><br>{facts}"]
    told = [*row.arguments.items(), ("returns", row.result)] if row.place else []
    for name, value in told:
        if isinstance(value, dict):
            inner = "".join(f"<br>&emsp;{keep(str(key))}: {keep(say(own, 90))}" for key, own in value.items())
            lines.append(f"<br><b>{keep(name)}</b>: a dict of {len(value)}{inner}")
        else:
            lines.append(f"<br><b>{keep(name)}</b>: {keep(say(value, 160))}")
    if code := source(row):
        look = f"background:{style.GROUND};color:{style.INK};padding:6px;max-height:260px;overflow:auto;"
        look += "white-space:pre-wrap;word-break:normal;line-height:1.3;font-size:12px"  # JupyterLab would break words
        lines.append(f'<pre style="{look}">{keep(code)}</pre>')
    return "".join(lines)


class Page:
    """The tree as HTML that opens and closes by itself; `numbers` holds calls, rows and how many of
    them the page has.
    """

    def __init__(self, text: str, numbers: dict):
        self.html, self.numbers = text, numbers

    def __repr__(self) -> str:
        return f"Page({self.numbers['shown']} of {self.numbers['rows']} rows)"

    def _repr_html_(self) -> str:
        return self.html


def page(tree, depth: int = 5, chain: Sequence = ()) -> Page:
    """The folded tree for a page without a kernel: click a row to open it.

    `depth` levels are there, those of the chain are open.
    """
    root = tree if isinstance(tree, Row) else fold(tree)
    marked = set(map(id, rows_of(root, chain)))
    shown = 0

    def write(row: Row, level: int) -> str:
        nonlocal shown
        shown += 1
        on = id(row) in marked
        name = html.escape(row.name) + (f" × {row.count}" if row.count > 1 else "")
        told = "; ".join(f"{key}: {say(value, 60)}" for key, value in row.arguments.items())
        title = f' title="{html.escape(f"{row.place} ({told})")}"'
        name = f"<b{title}>{name}</b>" if on else f"<span{title}>{name}</span>"
        if not row.children or level >= depth:
            more = f" <small>+ {row.total - row.count} inside</small>" if row.children else ""
            return f'<div style="margin-left:1.1em">{name}{more}</div>'
        inner = "".join(write(child, level + 1) for child in row.children)
        return (
            "<details "
            f'style="margin-left:1.1em"{" open" if level < 2 or on else ""}><summary>{name}</summary>{inner}</details>'
        )

    text = f'<div style="font-size:13px;line-height:1.5">{write(root, 0)}</div>'
    return Page(text, {"calls": root.total, "rows": sum(1 for _ in walk(root)), "shown": shown})
