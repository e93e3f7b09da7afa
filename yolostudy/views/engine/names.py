"""The translation table: what each training engine calls one moment of training.

The table is data of the course, `course/engines/names.py`, and is checked there against traces.
"""

from __future__ import annotations

import html
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from ...canvas import style

FOLDER = Path(__file__).parents[3] / "course" / "engines"
_SHELL = "_engines"  # the name under which the course's files are imported

# moment -> a colour of the cycle, and how pale: before and after share a colour, before is the paler
_LOOK = {
    "train": (0, 0.8),
    "before_train": (0, 0.55),
    "epoch": (1, 0.8),
    "before_epoch": (1, 0.55),
    "before_step": (2, 0.55),
    "run_step": (4, 0.3),
    "after_backward": (3, 0.2),
    "update": (5, 0.1),
    "after_step": (2, 0.15),
    "before_validation": (6, 0.75),
    "validation": (6, 0.45),
    "after_epoch": (1, 0.15),
    "strip": (6, 0.0),
    "after_train": (0, 0.0),
}


def course_engine(name: str) -> ModuleType:
    """The module `course/engines/NAME.py`.

    It is "yolov6_engine" or "detectron2_engine", the small engines; "traced", which runs and reads
    all of them; "real_yolov6"; or "names", the table.

    Errors: FileNotFoundError where the folder or the file is missing.
    """
    file = FOLDER / f"{name}.py"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("[!_.]*.py")))
        raise FileNotFoundError(
            f"there is no {file}. The course's engines belong to the repository, not to the installed package"
            f"{f'; it has {known}' if known else ''}."
        )
    if _SHELL not in sys.modules:
        shell = ModuleType(_SHELL)
        shell.__path__ = [str(FOLDER)]
        sys.modules[_SHELL] = shell
    return importlib.import_module(f"{_SHELL}.{name}")


def colour_of(moment: str) -> str:
    """`#rrggbb` of a moment, the same in every picture; white for what torch does."""
    if moment not in _LOOK:
        return style.PAPER
    number, paleness = _LOOK[moment]
    mixed = np.array(style.rgb(style.cycle(number))) * (1 - paleness) + 255 * paleness
    return "#{:02x}{:02x}{:02x}".format(*mixed.astype(int))


class TranslationTable:
    """Moments and their names: HTML in a notebook, text for `print`.

    Attributes:
        engines: their titles, by the key of the columns.
        rows: moment, what happens, and for each engine its names and "" or no names and the reason.
        here, missing: name -> where this course has it, and why it has none.
        numbers: how many moments, names, and entries of `here` and `missing`.
    """

    def __init__(self, names: ModuleType):
        self.engines, self.here, self.missing = dict(names.ENGINES), dict(names.HERE), dict(names.MISSING)
        self.rows = [
            (
                moment,
                names.MEANING[moment],
                {engine: (own, "" if own else names.why_none(moment, engine)) for engine, own in row.items()},
            )
            for moment, row in names.MOMENTS.items()
        ]
        written = sum(len(own) for _, _, cells in self.rows for own, _ in cells.values())
        self.numbers = {"moments": len(self.rows), "names": written}
        self.numbers |= {"here": len(self.here), "missing": len(self.missing)}

    def __str__(self) -> str:
        head = ["", *self.engines.values()]
        body = [
            [meaning, *(", ".join(own) or f"({reason})" for own, reason in cells.values())]
            for _, meaning, cells in self.rows
        ]
        widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
        return "\n".join(
            "  ".join(f"{text:<{wide}}" for text, wide in zip(row, widths)).rstrip() for row in [head, *body]
        )

    def __repr__(self) -> str:
        return f"TranslationTable({self.numbers['moments']} moments of {len(self.engines)} engines)"

    def _repr_html_(self) -> str:
        look = "text-align:left;padding:3px 8px"
        head = "".join(f"<th style='{look}'>{html.escape(text)}</th>" for text in ("", *self.engines.values()))
        body = "".join(self._line(*row, look) for row in self.rows)
        table = f"<table style='font-size:12px'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return table + self._list("Where ours has the rest", self.here) + self._list("What ours has not", self.missing)

    def _line(self, moment: str, meaning: str, cells: dict, look: str) -> str:
        ground = colour_of(moment)
        filled = f"background:{ground};color:{style.ink_on(ground)}"
        line = f"<td style='{look}'>{html.escape(meaning)}</td>"
        for own, reason in cells.values():
            if own:
                text = f"<code style='color:inherit;background:none'>{', '.join(own)}</code>"
                line += f"<td style='{look};{filled}'>{text}</td>"
            else:
                line += f"<td style='{look};color:{style.FAINT}'><i>{html.escape(reason)}</i></td>"
        return f"<tr>{line}</tr>"

    @staticmethod
    def _list(title: str, table: dict[str, str]) -> str:
        lines = "".join(
            f"<li><code>{name}</code>: {html.escape(table[name])}</li>" for name in sorted(table, key=str.lower)
        )
        return f"<details><summary>{title}: {len(table)} names</summary><ul>{lines}</ul></details>"


def translation_table() -> TranslationTable:
    """What each engine calls each moment, and where ours has everything else they name."""
    return TranslationTable(course_engine("names"))
