"""The learner's progress: kept in `.yolostudy/progress.json`, shown as a map."""

import contextlib
import html
import json
from dataclasses import dataclass, field

from .course import Course
from .files import replace_file
from .verdict import NOT_ATTEMPTED, NOT_YET, PASSED

# of an exercise that was never judged
UNKNOWN = {"state": NOT_ATTEMPTED, "passed": 0, "total": 0, "mark": "", "hints": 0}
# the shapes of the dots (full, half, hollow) say the same to colour-blind readers
COLOURS = {PASSED: "#00b368", NOT_YET: "#e69f00", NOT_ATTEMPTED: "#c3c9d4"}
SIGNS = {PASSED: "●", NOT_YET: "◐", NOT_ATTEMPTED: "○"}


@dataclass
class Progress:
    """What is known about each exercise.

    An entry holds the `state`, the `passed` and `total` probes, the `mark` of the answer that was
    judged, and how many `hints` were shown.
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
        except (OSError, ValueError, AttributeError, TypeError):
            self.table = {}  # there is no file, or it is damaged: every answer can be judged again

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
            with contextlib.suppress(OSError):  # the folder cannot be written to: only the count of hints is lost
                self.course.state.mkdir(exist_ok=True)
                replace_file(self._file, json.dumps(self.table, indent=1).encode())


@dataclass(frozen=True)
class ExerciseState:
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
    """The state of every exercise, drawn in a notebook and as text elsewhere."""

    rows: tuple[ExerciseState, ...]
    notebooks: dict[int, str]  # stage -> the notebook's name

    @property
    def points(self) -> tuple[int, int]:
        """The points reached, and the points of all exercises."""
        return sum(r.points for r in self.rows if r.state == PASSED), sum(r.points for r in self.rows)

    @property
    def stages(self) -> dict[int, list[ExerciseState]]:
        stages: dict[int, list[ExerciseState]] = {}
        for row in self.rows:
            stages.setdefault(row.stage, []).append(row)
        return stages

    @property
    def caption(self) -> str:
        done = sum(row.state == PASSED for row in self.rows)
        return f"{done} of {len(self.rows)} exercises, {self.points[0]} of {self.points[1]} points."

    @property
    def next(self) -> str:
        """A sentence that names the next exercise: the first begun, else the first not begun."""
        begun = [row for row in self.rows if row.state == NOT_YET]
        left = begun or [row for row in self.rows if row.state == NOT_ATTEMPTED]
        if not left:
            return ""
        notebook = self.notebooks.get(left[0].stage)
        return f"Next: {left[0].name}" + (f", in course/{notebook}.ipynb." if notebook else ".")

    def __str__(self) -> str:
        """A line of dots for each stage, and the names of the exercises that were begun.

        A single stage lists all its names.
        """
        lines = []
        for stage, rows in self.stages.items():
            dots = "".join(SIGNS[row.state] for row in rows)
            lines.append(f"stage {stage:>2}  {dots:<9} {self.notebooks.get(stage, '')}".rstrip())
            for row in rows:
                if row.state == NOT_YET or len(self.stages) == 1:
                    count = f"{row.passed}/{row.total}" if row.state != NOT_ATTEMPTED and row.total else ""
                    lines.append(f"          {SIGNS[row.state]} {row.name:<32} {count}".rstrip())
        return "\n".join([*lines, "● passed  ◐ not yet  ○ not attempted", *filter(None, (self.caption, self.next))])

    def __repr__(self) -> str:
        return "progress map"  # without a count: nbval compares it

    def _repr_html_(self) -> str:
        column, top = 128, 34
        deepest = max((len(rows) for rows in self.stages.values()), default=0)
        width, height = column * len(self.stages), top + 26 * deepest + 10
        path = COLOURS[NOT_ATTEMPTED]
        parts = [f'<line x1="16" y1="14" x2="{width - column + 16}" y2="14" stroke="{path}" stroke-width="3"/>']
        for place, (stage, rows) in enumerate(self.stages.items()):
            x = 16 + column * place
            whole = all(row.state == PASSED for row in rows)
            edge = COLOURS[PASSED] if whole else path
            fill, ink = (edge, "white") if whole else ("var(--jp-layout-color0, white)", "currentColor")
            parts.append(f'<circle cx="{x}" cy="14" r="11" fill="{fill}" stroke="{edge}" stroke-width="2"/>')
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


def _dot(row: ExerciseState, x: int, y: int) -> str:
    colour = COLOURS[row.state]
    fill = colour if row.state == PASSED else "none"
    shape = f'<circle cx="{x}" cy="{y}" r="6" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
    if row.state == NOT_YET:
        shape += f'<path d="M {x} {y - 6} A 6 6 0 0 0 {x} {y + 6} Z" fill="{colour}"/>'
    short = row.name.partition(".")[2]
    short = short if len(short) <= 16 else short[:15] + "…"
    count = f": {row.passed} of {row.total}" if row.total else ""
    tip = html.escape(f"{row.name}, {row.state}{count}. {row.title}")
    return (
        f'<g><title>{tip}</title>{shape}<text x="{x + 12}" y="{y + 4}" font-size="11" '
        f'fill="currentColor">{html.escape(short)}</text></g>'
    )
