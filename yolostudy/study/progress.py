"""How far a learner has come: kept in `.yolostudy/progress.json`, shown as a path of stages with a
dot for each exercise.
"""

import contextlib
import html
import json
from dataclasses import dataclass, field

from .course import Course
from .edition import replace_file

# of an exercise that nobody has looked at
UNKNOWN = {"state": "not attempted", "passed": 0, "total": 0, "mark": "", "hints": 0}
# the same to readers with a colour deficiency by their shape: full, half, hollow
DONE, TRIED, OPEN = "#00b368", "#e69f00", "#c3c9d4"
SIGNS = {"passed": "●", "not yet": "◐", "not attempted": "○"}


@dataclass
class Progress:
    """What is known about each exercise:

    `state`, `passed` and `total` probes, `mark` of the answer that was judged, `hints` shown.
    """

    course: Course
    table: dict[str, dict] = field(init=False)

    def __post_init__(self):
        try:
            table = json.loads(self._file.read_text("utf-8"))
            self.table = {
                name: {k: v for k, v in entry.items() if type(v) is type(UNKNOWN.get(k))}
                for name, entry in table.items()
            }
        except (
            OSError,
            ValueError,
            AttributeError,
            TypeError,
        ):  # none yet, or a damaged one: every entry can be judged again
            self.table = {}

    @property
    def _file(self):
        return self.course.state / "progress.json"

    def get(self, name: str) -> dict:
        known = UNKNOWN | self.table.get(name, {})
        return known if known["state"] in SIGNS else dict(UNKNOWN)

    def put(self, name: str, **changes) -> None:
        entry = self.get(name) | changes
        if entry != self.table.get(name):
            self.table = Progress(self.course).table | {name: entry}  # another notebook may have written meanwhile
            # a folder that cannot be written to: all but the hints can be found out again
            with contextlib.suppress(OSError):
                self.course.state.mkdir(exist_ok=True)
                replace_file(self._file, json.dumps(self.table, indent=1).encode())


@dataclass(frozen=True)
class Row:
    """One exercise on the map."""

    name: str
    stage: int
    points: int
    state: str
    passed: int = 0
    total: int = 0
    title: str = ""


@dataclass(frozen=True, repr=False)
class Map:
    """All exercises and how they stand; shows itself in a notebook, and as text elsewhere."""

    rows: tuple[Row, ...]
    notebooks: dict[int, str]  # stage -> the notebook's name

    @property
    def points(self) -> tuple[int, int]:
        """Reached, and there to be reached."""
        return sum(r.points for r in self.rows if r.state == "passed"), sum(r.points for r in self.rows)

    @property
    def stages(self) -> dict[int, list[Row]]:
        stages: dict[int, list[Row]] = {}
        for row in self.rows:
            stages.setdefault(row.stage, []).append(row)
        return stages

    @property
    def caption(self) -> str:
        done = sum(row.state == "passed" for row in self.rows)
        return f"{done} of {len(self.rows)} exercises, {self.points[0]} of {self.points[1]} points."

    @property
    def next(self) -> str:
        """What to turn to, as a sentence: what was begun first, else the first that was not."""
        begun = [row for row in self.rows if row.state == "not yet"]
        left = begun or [row for row in self.rows if row.state == "not attempted"]
        if not left:
            return ""
        notebook = self.notebooks.get(left[0].stage)
        return f"Next: {left[0].name}" + (f", in course/{notebook}.ipynb." if notebook else ".")

    def __str__(self) -> str:
        """A line of dots for each stage, and the names of what was begun; of a single stage all
        names.
        """
        lines = []
        for stage, rows in self.stages.items():
            dots = "".join(SIGNS[row.state] for row in rows)
            lines.append(f"stage {stage:>2}  {dots:<9} {self.notebooks.get(stage, '')}".rstrip())
            for row in rows:
                if row.state == "not yet" or len(self.stages) == 1:
                    count = f"{row.passed}/{row.total}" if row.state != "not attempted" and row.total else ""
                    lines.append(f"          {SIGNS[row.state]} {row.name:<32} {count}".rstrip())
        return "\n".join([*lines, "● passed  ◐ not yet  ○ not attempted", *filter(None, (self.caption, self.next))])

    def __repr__(self) -> str:
        return "progress map"  # without a count: nbval compares it

    def _repr_html_(self) -> str:
        column, top = 128, 34
        deepest = max((len(rows) for rows in self.stages.values()), default=0)
        width, height = column * len(self.stages), top + 26 * deepest + 10
        parts = [f'<line x1="16" y1="14" x2="{width - column + 16}" y2="14" stroke="{OPEN}" stroke-width="3"/>']
        for place, (stage, rows) in enumerate(self.stages.items()):
            x = 16 + column * place
            whole = all(row.state == "passed" for row in rows)
            fill = DONE if whole else "var(--jp-layout-color0, white)"
            parts.append(
                f'<circle cx="{x}" cy="14" r="11" fill="{fill}" stroke="{DONE if whole else OPEN}" stroke-width="2"/>'
            )
            ink = "white" if whole else "currentColor"
            parts.append(f'<text x="{x}" y="18" text-anchor="middle" font-size="12" fill="{ink}">{stage}</text>')
            parts += [_dot(row, x, top + 12 + 26 * number) for number, row in enumerate(rows)]
        caption = html.escape(f"{self.caption} Full: passed, half: not yet, hollow: not attempted. {self.next}")
        return (
            f'<div style="overflow-x:auto"><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" '
            'aria-label="progress map" style="color:var(--jp-ui-font-color1, '
            '#1f2430);font-family:var(--jp-ui-font-family, sans-serif)">'
            f"{''.join(parts)}</svg><div>{caption}</div></div>"
        )


def _dot(row: Row, x: int, y: int) -> str:
    colour = {"passed": DONE, "not yet": TRIED, "not attempted": OPEN}[row.state]
    shape = (
        f'<circle cx="{x}" cy="{y}" r="6" fill="{colour if row.state == "passed" else "none"}" stroke="{colour}" '
        'stroke-width="2"/>'
    )
    if row.state == "not yet":
        shape += f'<path d="M {x} {y - 6} A 6 6 0 0 0 {x} {y + 6} Z" fill="{colour}"/>'
    short = row.name.partition(".")[2]
    short = short if len(short) <= 16 else short[:15] + "…"
    count = f": {row.passed} of {row.total}" if row.total else ""
    tip = html.escape(f"{row.name}, {row.state}{count}. {row.title}")
    return (
        f'<g><title>{tip}</title>{shape}<text x="{x + 12}" y="{y + 4}" font-size="11" '
        f'fill="currentColor">{html.escape(short)}</text></g>'
    )
