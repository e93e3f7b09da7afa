"""A learner's report: points and verdicts as HTML and as JSON, and a table of a class."""

import contextlib
import csv
import html
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..files import replace_file
from ..verdict import WORDS, Verdict

MESSAGE_LENGTH = 600  # characters of a message in a report


@dataclass(frozen=True)
class Ran:
    """A notebook that was run: how many cells pass and fail."""

    name: str
    passed: int
    failed: int
    failures: tuple[str, ...] = ()  # one line for each cell that fails


@dataclass(frozen=True)
class Report:
    """Everything about one learner."""

    learner: str
    folder: Path
    verdicts: tuple[Verdict, ...]
    notebooks: tuple[Ran, ...] = ()
    when: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def points(self) -> int:
        return _points(self.verdicts)

    @property
    def possible(self) -> int:
        return _possible(self.verdicts)

    @property
    def stages(self) -> dict[int, list[Verdict]]:
        numbers = sorted({v.exercise.stage for v in self.verdicts})
        return {number: [v for v in self.verdicts if v.exercise.stage == number] for number in numbers}

    def as_json(self) -> dict:
        return {
            "learner": self.learner,
            "folder": str(self.folder),
            "graded": self.when,
            "points": self.points,
            "possible": self.possible,
            "stages": {
                str(stage): {"points": _points(own), "possible": _possible(own)} for stage, own in self.stages.items()
            },
            "exercises": [_exercise_as_json(v) for v in self.verdicts],
            "notebooks": [vars(ran) | {"failures": list(ran.failures)} for ran in self.notebooks],
        }

    def as_html(self) -> str:
        stages = "".join(
            f'<tbody><tr class="stage"><th>Stage {stage}<td>{sum(map(bool, own))} of {len(own)}<td>'
            f'<td class="n">{_points(own)} of {_possible(own)}<td>{_bar(_points(own), _possible(own))}</tr>'
            f"{''.join(map(_exercise_as_html, own))}</tbody>"
            for stage, own in self.stages.items()
        )
        ran = "".join(
            f'<tr><td class="name">{_e(r.name)}<td class="n">{r.passed}<td class="n">{r.failed}'
            f"<td>{'<br>'.join(map(_e, r.failures))}</tr>"
            for r in self.notebooks
        )
        head = "<h2>Notebooks</h2><p>The shipped notebooks on the answers that passed. They give no points.</p>"
        columns = '<tr class="head"><th>notebook<th class="n">cells pass<th class="n">fail<th>which</tr>'
        return PAGE.format(
            title=_e(f"{self.learner}: {self.points} of {self.possible} points"),
            summary=f"{sum(map(bool, self.verdicts))} of {len(self.verdicts)} exercises pass. Graded {self.when}.",
            stages=stages,
            notebooks=f"{head}<table>{columns}{ran}</table>" if ran else "",
        )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2430; background: #fff; max-width: 72em; margin: 2em auto;
padding: 0 1em }}
h1 {{ font-size: 24px; margin-bottom: 0 }} h2 {{ font-size: 18px; margin: 2em 0 .3em }}
p {{ margin: .2em 0 1.2em; color: #525b6b }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .35em .7em; border-bottom: 1px solid #e3e6ec;
font-weight: 400 }}
.head th {{ color: #525b6b; font-size: 13px }}
.stage > * {{ background: #f1f4f8; font-weight: 600; border-top: 1.4em solid #fff }}
.n {{ white-space: nowrap; text-align: right }} .name, pre {{ font-family: ui-monospace, monospace; font-size: 13px }}
.passed {{ color: #00874e }} .not-yet {{ color: #b35c00 }} .not-attempted {{ color: #6b7280 }}
.state {{ font-weight: 600 }}
.told {{ width: 55%; overflow-wrap: anywhere }}
.known {{ border-left: 3px solid #b35c00; padding-left: .7em; margin: .4em 0 }}
pre {{ margin: .3em 0; padding: .4em .7em; background: #f7f8fa; white-space: pre-wrap }}
.bar {{ display: inline-block; width: 9em; height: .7em; background: #d9dee6; vertical-align: baseline }}
.bar i {{ display: block; height: 100%; background: #00874e }}
tbody {{ break-inside: avoid }}
</style></head><body><h1>{title}</h1><p>{summary}</p>
<table><thead><tr class="head"><th>exercise<th>verdict<th>probes<th class="n">points<th>what differs first</tr>
</thead>{stages}</table>
{notebooks}</body></html>
"""


def _exercise_as_json(v: Verdict) -> dict:
    return {
        "name": v.exercise.name,
        "stage": v.exercise.stage,
        "state": v.state,
        "points": _points([v]),
        "possible": v.exercise.points,
        "probes_passed": v.passed,
        "probes": v.total,
        "first_difference": shortened(f"{v.first.probe}: {v.first.difference}") if v.first else "",
        "where": _where(v),
        "misconception": v.misconception.name if v.misconception else "",
        "problem": shortened(v.problem),
        "notes": list(v.notes),
    }


def _exercise_as_html(v: Verdict) -> str:
    told = [f"<div>{_e(shortened(v.problem))}</div>"] if v.problem else []
    if v.first:
        told.append(f"<div><b>{_e(v.first.probe)}</b>: {_e(shortened(str(v.first.difference)))}</div>")
        if where := _where(v):
            told.append(f"<pre>{_e(where)}\n    {_e(shortened(v.first.error.frames[-1].code))}</pre>")
    if v.misconception:
        name, because = _e(v.misconception.name), _e(v.misconception.because)
        told.append(f'<div class="known">This is exactly what <b>“{name}”</b> does. {because}</div>')
    told += [f"<div>{_e(note)}</div>" for note in v.notes]
    if v.printed and not v:
        told.append(f"<div>It printed:</div><pre>{_e(shortened(v.printed))}</pre>")
    return (
        f'<tr><td class="name">{_e(v.exercise.name)}<td class="state {v.state.replace(" ", "-")}">{WORDS[v.state]}'
        f'<td class="n">{v.passed}/{v.total}<td class="n">{_points([v])} of {v.exercise.points}'
        f'<td class="told">{"".join(told)}</tr>'
    )


def _bar(points: int, possible: int) -> str:
    return f'<span class="bar"><i style="width:{round(100 * points / max(possible, 1))}%"></i></span>'


def _where(v: Verdict) -> str:
    """The line of the learner's code where the first failed probe raised; empty if none did."""
    frames = v.first.error.frames if v.first and v.first.error else ()
    return f"{frames[-1].file}:{frames[-1].line} in {frames[-1].function}" if frames else ""


def _points(verdicts: Iterable[Verdict]) -> int:
    return sum(v.exercise.points for v in verdicts if v)


def _possible(verdicts: Iterable[Verdict]) -> int:
    return sum(v.exercise.points for v in verdicts)


def shortened(text: str) -> str:
    more = len(text) - MESSAGE_LENGTH
    return text if more <= 0 else f"{text[:MESSAGE_LENGTH]} … ({more} more characters)"


def _e(text: object) -> str:
    return html.escape(str(text))


def write(report: Report, out: Path) -> Path:
    """Writes the report as NAME.html and NAME.json into a folder, and returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{report.learner}.html"
    replace_file(page, report.as_html().encode("utf-8", "replace"))
    replace_file(out / f"{report.learner}.json", (json.dumps(report.as_json(), indent=1) + "\n").encode())
    return page


def read_reports(out: Path) -> list[dict]:
    """Every report in a folder, as `Report.as_json` wrote it."""
    found = []
    for file in sorted(out.glob("*.json")):
        with contextlib.suppress(ValueError, OSError):
            told = json.loads(file.read_text("utf-8"))
            if isinstance(told, dict) and {"learner", "folder", "points", "possible", "stages"} <= told.keys():
                found.append(told)
    return found


def write_summary(out: Path) -> Path:
    """Writes summary.csv: one row for each report in the folder, whichever call wrote it."""
    reports, text = read_reports(out), io.StringIO()
    stages = sorted({stage for told in reports for stage in told["stages"]}, key=int)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["learner", "points", "possible", *(f"stage {stage}" for stage in stages)])
    for told in reports:
        own = [told["stages"].get(stage, {}).get("points", "") for stage in stages]
        table.writerow([told["learner"], told["points"], told["possible"], *own])
    replace_file(out / "summary.csv", text.getvalue().encode())
    return out / "summary.csv"
