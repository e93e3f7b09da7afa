"""The card under an exercise cell: what passed, the first difference, the mistake, what to do next.

It is HTML with a few styles of its own, in the colours of JupyterLab's theme. The card of a passed
exercise is the same everywhere: nbval compares it.
"""

import difflib
import html
import re

import numpy as np

from .observation import Difference
from .page import Change
from .verdict import NOT_ATTEMPTED, PASSED, Verdict

GREEN, AMBER, GREY = "#00874e", "#b35c00", "#8b93a3"
# the ends of the two scales of a heat map
COLD, WARM = ((236, 243, 250), (8, 48, 107)), ((243, 243, 243), (150, 70, 0))
SIDE = 14  # cells along a side of a heat map, at most
STYLE = (
    "border:1px solid var(--jp-border-color1,#c3c9d4);border-left:6px solid {colour};border-radius:4px;padding:8px "
    "14px;margin:4px "
    "0;max-width:62em;font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;line-height:1.5;color:var(--jp-ui-font-color1,#1f2430);background:var(--jp-layout-color1,#fff)"
)
CODE = "font-family:var(--jp-code-font-family,monospace);font-size:12px;white-space:pre-wrap;margin:4px 0"


class Card:
    """A verdict that a notebook displays as a card."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict

    def __repr__(self) -> str:
        return str(self.verdict)

    def _repr_html_(self) -> str:
        return card(self.verdict)


def card(verdict: Verdict, change: Change | None = None) -> str:
    """A verdict as HTML."""
    exercise, state = verdict.exercise, verdict.state
    colour = {PASSED: GREEN, NOT_ATTEMPTED: GREY}.get(state, AMBER)
    parts = [_head(exercise.name, colour, _bar(verdict), f"{verdict.passed} of {verdict.total}, {state}")]
    if change and change.message and state != PASSED:
        parts.append(_line(change.message, faint=True))
    if state == NOT_ATTEMPTED and not verdict.problem:
        parts.append(_line(f"{exercise.goal} About {exercise.minutes} minutes, {exercise.points} points."))
    if verdict.problem:
        parts.append(_line(verdict.problem))
    if first := verdict.first:
        parts.append(
            f"<div><b>{html.escape(first.probe)}</b>: "
            f"{html.escape(str(first.difference))}</div>{_draw(first.difference)}"
        )
        frames = first.error.frames if first.error else ()
        if frames:
            lines = "\n".join(f"{f.file}:{f.line} in {f.function}\n    {f.code}" for f in frames)
            parts.append(f'<pre style="{CODE}">{html.escape(lines)}</pre>')
    if wrong := verdict.misconception:
        parts.append(
            f'<div style="border-left:3px solid {colour};padding-left:8px;margin:6px 0">This is exactly what '
            f"<b>“{html.escape(wrong.name)}”</b> does. {prose(wrong.because)}</div>"
        )
    if verdict.printed:
        parts.append(
            f'<div>Printed while it was checked:</div><pre style="{CODE}">{html.escape(verdict.printed)}</pre>'
        )
    parts += [_line(note) for note in verdict.notes]
    if state == PASSED:
        parts.append(_line(f'diff("{exercise.name}") shows yours beside the reference.', faint=True))
    return _box(colour, parts)


def notice(name: str, message: str, diff: str = "", colour: str = AMBER) -> str:
    """A card without a verdict: something was refused or written."""
    parts = [_head(name, colour), _line(message)]
    if diff:
        parts.append(f'<pre style="{CODE}">{_coloured(diff)}</pre>')
    return _box(colour, parts)


def side_by_side(mine: str, reference: str, name: str) -> str:
    """Two texts in two columns. Lines that only one of them has are marked."""
    left, right = mine.splitlines(), reference.splitlines()
    columns: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        height = max(b - a, d - c)
        for column, lines in zip(columns, (left[a:b], right[c:d])):
            ground = "" if kind == "equal" else "background:rgba(230,159,0,.18);"
            column += [f'<div style="{ground}min-height:1.4em">{html.escape(line) or " "}</div>' for line in lines]
            column += ['<div style="min-height:1.4em"> </div>'] * (height - len(lines))
    cells = "".join(
        f'<div style="flex:1 1 0;min-width:24em;overflow-x:auto"><b>{title}</b>'
        f'<div style="{CODE};white-space:pre">{"".join(column)}</div></div>'
        for title, column in zip(("yours", "the reference"), columns)
    )
    return _box(
        GREEN, [_head(name, GREEN), f'<div style="display:flex;gap:16px;flex-wrap:wrap">{cells}</div>']
    ).replace("max-width:62em;", "")


def _box(colour: str, parts: list[str]) -> str:
    return f'<div class="yolostudy-card" style="{STYLE.format(colour=colour)}">{"".join(parts)}</div>'


def prose(text: str) -> str:
    """A sentence as HTML; text between backticks becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _head(name: str, colour: str, middle: str = "", right: str = "") -> str:
    return (
        '<div style="display:flex;gap:12px;align-items:center"><b '
        f'style="font-size:14px">{html.escape(name)}</b>{middle}'
        f'<span style="margin-left:auto;color:{colour};font-weight:600">{html.escape(right)}</span></div>'
    )


def _bar(verdict: Verdict) -> str:
    """One square for each probe: full if it passed, else hollow; hovering shows its name."""
    squares = []
    for number, probe in enumerate(verdict.exercise.probes):
        right = number < len(verdict.results) and verdict.results[number].difference is None
        fill = GREEN if right else "transparent"
        edge = GREEN if right else GREY if not verdict.results else AMBER
        tip = html.escape(f"{probe.name}: {'passed' if right else 'not yet'}", quote=True)
        squares.append(
            f'<span title="{tip}" style="display:inline-block;width:22px;height:9px;border:1.5px solid '
            f'{edge};background:{fill}"></span>'
        )
    return f'<span style="display:inline-flex;gap:3px">{"".join(squares)}</span>'


def _line(text: str, faint: bool = False) -> str:
    return f'<div style="{"opacity:.75" if faint else ""}">{prose(text)}</div>'


def _coloured(diff: str) -> str:
    grounds = {"+": "rgba(0,179,104,.16)", "-": "rgba(230,120,0,.16)"}
    return "\n".join(
        f'<span style="background:{grounds[line[0]]}">{html.escape(line)}</span>'
        if line[:1] in grounds
        else html.escape(line)
        for line in diff.splitlines()
    )


# ---- the first difference, drawn -----------------------------------------------------------------


def _draw(difference: Difference) -> str:
    one, other = difference.expected, difference.yours
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return ""
    if one.shape != other.shape:
        return _shapes(one.shape, other.shape)
    if one.size < 4 or one.dtype.kind not in "biuf":
        return ""
    return _heat(one, other)


def _shapes(one: tuple[int, ...], other: tuple[int, ...]) -> str:
    """Both shapes as rows of bars, one bar for each axis."""
    longest, widest = max((*one, *other, 1)), 560.0
    rows = []
    for place, (title, shape) in enumerate((("expected", one), ("yours", other))):
        parts, x = [f'<text x="0" y="{place * 28 + 16}" font-size="11" fill="currentColor">{title}</text>'], 70
        for axis, length in enumerate(shape):
            width = 18 + 90 * length / longest
            same = axis < min(len(one), len(other)) and len(one) == len(other) and one[axis] == other[axis]
            parts.append(
                f'<rect x="{x}" y="{place * 28 + 3}" width="{width:.0f}" height="18" rx="2" '
                f'fill="{GREY if same else AMBER}"/>'
                f'<text x="{x + width / 2:.0f}" y="{place * 28 + 16}" font-size="11" text-anchor="middle" '
                f'fill="white">{length}</text>'
            )
            x += width + 6
            widest = max(widest, x)
        rows.append("".join(parts))
    head = (
        f'<svg width="{widest:.0f}" height="58" role="img" aria-label="the two shapes" '
        'style="display:block;margin:4px 0">'
    )
    return f"{head}{''.join(rows)}</svg>"


def _heat(one: np.ndarray, other: np.ndarray) -> str:
    """Expected, yours and their difference side by side, in a slice around the first difference."""
    with np.errstate(all="ignore"):
        return _panels(*_window(one, other))


def _window(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same part of both arrays, at most SIDE × SIDE, with the first difference in it."""
    one, other = (np.atleast_2d(a.astype(np.float64)) for a in (one, other))
    wrong = np.argwhere(~np.isclose(other, one, 1e-4, 1e-5, equal_nan=True))
    first = wrong[0] if len(wrong) else np.zeros(one.ndim, int)
    for place in first[:-2]:  # the leading axes stay where the first difference is
        one, other = one[place], other[place]
    start = [max(0, min(int(at) - SIDE // 2, length - SIDE)) for at, length in zip(first[-2:], one.shape)]
    window = tuple(slice(s, s + SIDE) for s in start)
    return one[window], other[window]


def _panels(one: np.ndarray, other: np.ndarray) -> str:
    finite = np.concatenate([a[np.isfinite(a)] for a in (one, other)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    apart = np.nan_to_num(np.abs(one - other), nan=np.inf)
    apart = np.where(np.isclose(other, one, 1e-4, 1e-5, equal_nan=True), 0, apart)
    largest = np.max(apart, where=np.isfinite(apart), initial=0.0)
    cell = 10
    width = max(one.shape[1] * cell, 84) + 18
    panels = []
    for number, (title, values) in enumerate((("expected", one), ("yours", other), ("difference", apart))):
        squares = []
        for (row, column), value in np.ndenumerate(values):
            fill = _shade(value, low, high) if number < 2 else _shade(value, 0, largest, WARM)
            squares.append(
                f'<rect x="{column * cell}" y="{row * cell + 14}" width="{cell}" height="{cell}" fill="{fill}"/>'
            )
        caption = f'<text y="10" font-size="11" fill="currentColor">{title}</text>'
        panels.append(f'<g transform="translate({number * width},0)">{caption}{"".join(squares)}</g>')
    note = f"light {low:.3g}, dark {high:.3g}"
    note += ", red: NaN or infinite" if finite.size < one.size + other.size else ""
    return (
        f'<svg width="{3 * width}" height="{one.shape[0] * cell + 16}" role="img" '
        'aria-label="expected and yours as heat maps" '
        f'style="display:block;margin:4px 0">{"".join(panels)}</svg>'
        f'<div style="opacity:.75;font-size:11px">{note}</div>'
    )


def _shade(value: float, low: float, high: float, ends: tuple = COLD) -> str:
    """A colour from light to dark; red for NaN and infinity."""
    if not np.isfinite(value):
        return "#d62728"
    # halves, because high - low may overflow
    fraction = min(1.0, max(0.0, (value / 2 - low / 2) / (high / 2 - low / 2))) if high > low else 0.0
    light, dark = ends
    return "#" + "".join(f"{round(a + (b - a) * fraction):02x}" for a, b in zip(light, dark))
