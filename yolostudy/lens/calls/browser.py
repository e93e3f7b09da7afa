"""The tree of calls, to browse in a notebook, or to print.

In a notebook it is a widget: open and close rows, search, read the source of a call. `page` is the
same tree as HTML that opens and closes without a kernel, for a stored notebook.
"""

from __future__ import annotations

import functools
import html
import importlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from types import ModuleType

from ...canvas import style
from .picture import draw_tree
from .tree import CallRow, as_row, as_text, find, milliseconds, rows_of, say, source, walk

MAX_LISTED = 400  # rows in the list at once; a search makes them fewer


def trace(
    function: Callable, *arguments: object, packages: Sequence[str] = (), between: tuple[str, str] | None = None
) -> CallTree:
    """Call `function(*arguments)` and show who calls whom in it.

    A notebook shows the tree as a widget; `print` writes it as text.

    Args:
        packages: the packages whose functions are recorded. By default the package of the function,
            and the notebook or script itself.
        between: two names, such as ("BaseTrainer._do_train", "v8PoseLoss.__call__"): the chain of
            calls from the one to the other is opened and marked.
    """
    module = recording()
    tree = module.record(function, *arguments, packages=packages)
    return CallTree(tree, module.path_between(tree, *between) if between else ())


def recording() -> ModuleType:
    """The module `trace` with `record` and `path_between`, which a learner writes in stage 1.

    A wheel brings the finished module along. In the course it is the learner's, where that passes
    its checks, else the reference.
    """
    try:
        return importlib.import_module(".finished_trace", __package__)
    except ModuleNotFoundError:
        from ... import passing

        return passing("trace")


class CallTree:
    """A recorded tree: a widget in a notebook, text for `print`.

    Attributes:
        numbers: calls, rows, visible (the names in the list), matches (of the search), chosen, and
            source_lines of the chosen row.

    Args:
        tree: a Call, or a CallRow.
        chain: calls to open and mark, as `trace.path_between` returns them.
        depth: how many levels are open at first.
    """

    def __init__(self, tree, chain: Sequence = (), depth: int = 2):
        self.root = as_row(tree)
        self.chain = list(chain)
        self.rows = [*walk(self.root)]
        self.open = {id(row) for row, level, _ in self.rows if level < depth}
        self.marked = set(map(id, rows_of(self.root, chain)))
        for row, _, above in self.rows:
            if id(row) in self.marked:
                self.open |= set(map(id, above))
        self.searched = ""
        self.chosen: int | None = None  # index in `rows`
        self.labels: list[tuple[str, int]] = []  # of the list: text, index in `rows`
        self.message = ""
        self.numbers: dict = {"calls": self.root.total, "rows": len(self.rows)}
        self._list()

    @functools.cached_property
    def controls(self) -> _Controls:
        """The widgets, made when the tree is first shown: nothing else needs ipywidgets."""
        return _Controls(self)

    @property
    def widget(self):
        return self.controls.box

    # ---- what a click does -----------------------------------------------------------------------

    def toggle(self) -> None:
        """Open or close the chosen row. During a search, end it and open the row in the tree."""
        if self.chosen is None:
            return
        row = {id(self.rows[self.chosen][0])}
        if self.searched:
            self.open |= row
            self.search("")
        else:
            self.open ^= row
            self._list()

    def close_all(self) -> None:
        self.searched, self.open = "", {id(self.root)}
        self._list()

    def search(self, text: str) -> None:
        """List the rows whose name or place contains `text`. "" ends the search."""
        if not text.strip() and self.chosen is not None:
            self.open |= set(map(id, self.rows[self.chosen][2]))  # what was found stays visible
        self.searched = text.strip()
        self._list()

    def choose(self, name: str) -> None:
        """Choose the first row of that name, and open what is above it."""
        number = next(number for number, (row, *_) in enumerate(self.rows) if row.name == name)
        self.open |= set(map(id, self.rows[number][2]))
        self._list()
        self.choose_row(number)

    def choose_row(self, number: int | None) -> None:
        self.chosen = number
        row = None if number is None else self.rows[number][0]
        self.numbers |= {"chosen": row.name if row else "", "source_lines": len(source(row).splitlines()) if row else 0}
        self._show()

    # ---- what is shown ---------------------------------------------------------------------------

    def _list(self) -> None:
        found = find(self.root, self.searched) if self.searched else []
        hits = {id(row) for row, _ in found}
        unfolded = {id(row) for _, above in found for row in above} if self.searched else self.open
        if self.searched:
            listed = [n for n, (row, *_) in enumerate(self.rows) if id(row) in hits | unfolded]
        else:
            listed = [n for n, (_, _, above) in enumerate(self.rows) if all(id(row) in unfolded for row in above)]
        visible = listed[:MAX_LISTED]
        self.labels = [(self._label(n, unfolded, hits), n) for n in visible]
        self.numbers |= {"matches": len(found), "visible": [self.rows[n][0].name for n in visible]}
        told = f"{len(found)} found ●" if self.searched else "the chain ◂" if self.marked else ""
        more = f", the first {MAX_LISTED} of {len(listed)} rows are listed" if len(listed) > MAX_LISTED else ""
        self.message = f"{told}{more}"
        if self.searched or self.chosen not in visible:
            self.chosen = next((n for n in visible if id(self.rows[n][0]) in hits), visible[0] if visible else None)
        self.choose_row(self.chosen)

    def _label(self, number: int, unfolded: set[int], hits: set[int]) -> str:
        row, level, _ = self.rows[number]
        sign = " " if not row.children else "▾" if id(row) in unfolded else "▸"
        marks = (" ●" if id(row) in hits else "") + (" ◂" if id(row) in self.marked else "")
        return f"{chr(0x2003) * level}{sign} {row.name}{f' × {row.count}' if row.count > 1 else ''}{marks}"

    def _show(self) -> None:
        if "controls" in vars(self):  # they exist
            self.controls.show()

    def __str__(self) -> str:
        return as_text(self.root)

    def __repr__(self) -> str:
        return f"CallTree({self.numbers['calls']} calls in {self.numbers['rows']} rows)"

    def _repr_mimebundle_(self, **options) -> dict:
        picture = b64encode(style.as_png(draw_tree(self.root, self.chain))).decode()
        bundle = {"image/png": picture, "text/plain": repr(self)}
        try:
            return {**self.widget._repr_mimebundle_(**options), **bundle}
        except ImportError:  # no ipywidgets: the picture alone
            return bundle


class _Controls:
    """The widgets of a CallTree: search, buttons, the list of rows, and the chosen row in full."""

    def __init__(self, tree: CallTree):
        import ipywidgets as widgets

        self.tree, self._showing = tree, False
        self.search = widgets.Text(placeholder="search: loss, init_criterion, nn/tasks.py", layout={"width": "330px"})
        self.fold_button = widgets.Button(description="open / close", layout={"width": "110px"})
        self.all_button = widgets.Button(description="close all", layout={"width": "90px"})
        self.message = widgets.HTML()
        self.list = widgets.Select(options=[], rows=16, layout={"width": "48%"})
        self.detail = widgets.HTML(layout={"width": "52%"})
        head = widgets.HBox([self.search, self.fold_button, self.all_button, self.message])
        self.box = widgets.VBox([head, widgets.HBox([self.list, self.detail])])
        self.show()
        self.search.observe(lambda change: self._showing or tree.search(change["new"]), "value")
        self.list.observe(lambda change: self._showing or tree.choose_row(change["new"]), "value")
        self.fold_button.on_click(lambda _: tree.toggle())
        self.all_button.on_click(lambda _: tree.close_all())

    def show(self) -> None:
        """Show the state of the tree. Widgets that change here must not report it as a click."""
        self._showing = True
        try:
            if self.search.value.strip() != self.tree.searched:
                self.search.value = self.tree.searched
            if self.list.options != tuple(self.tree.labels):
                self.list.options = self.tree.labels
            self.list.value = self.tree.chosen
            self.message.value = f'<span style="white-space:nowrap">{self.tree.message}</span>'
            row = None if self.tree.chosen is None else self.tree.rows[self.tree.chosen][0]
            self.detail.value = "Nothing has that name." if row is None else detail(row)
        finally:
            self._showing = False


def detail(row: CallRow) -> str:
    """A row in full, as HTML: place, time, arguments and result of its first call, source."""
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
    """The tree as HTML that opens and closes without a kernel.

    `numbers`: calls, rows, and shown, the rows that the page has.
    """

    def __init__(self, text: str, numbers: dict):
        self.html, self.numbers = text, numbers

    def __repr__(self) -> str:
        return f"Page({self.numbers['shown']} of {self.numbers['rows']} rows)"

    def _repr_html_(self) -> str:
        return self.html


def page(tree, depth: int = 5, chain: Sequence = ()) -> Page:
    """The folded tree as a page: click a row to open it.

    Args:
        depth: how many levels the page has.
        chain: calls to open and mark.
    """
    root = as_row(tree)
    marked = set(map(id, rows_of(root, chain)))
    shown = 0

    def write(row: CallRow, level: int) -> str:
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
