"""Printing for people: lines as wide as the terminal, in colours and characters that it knows."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap

MAX_WIDTH = 100  # characters of a line of prose, however wide the terminal is
COLOURS = {"PASS": "green", "FAIL": "yellow", "TODO": "bright_black", "+": "green", "-": "red", "@@": "cyan"}
ASCII = str.maketrans({"●": "x", "◐": "/", "○": ".", "…": "~"})  # for an output that has no such characters


def columns() -> int:
    """How wide lines may be; 0, for no limit, without a terminal and without COLUMNS."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return 0
    return max(30, min(shutil.get_terminal_size().columns, MAX_WIDTH))


def wrapped(text: str) -> str:
    """The text with lines broken at the terminal's width; each keeps its indent.

    Lines indented by four or more are code and stay as they are.
    """
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if not columns() or len(line) <= columns() or len(indent) >= 4:
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line, columns(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines)


def show(text: str) -> None:
    """Print lines without breaking them, in colours on a terminal.

    Control characters and lone surrogates become `\\ufffd`: they could steer the terminal.
    """
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    coding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(coding)
    except UnicodeEncodeError:  # such as a pipe on Windows
        text = text.translate(ASCII).encode(coding, "replace").decode(coding)
    if not sys.stdout.isatty():
        print(text, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for line in text.splitlines():
        colour = next((colour for start, colour in COLOURS.items() if line.startswith(start)), "")
        console.print(Text(line, style=colour))


def say(text: str) -> None:
    """Print sentences, broken at the terminal's width."""
    show(wrapped(text))


def complain(error: Exception, name: str = "") -> None:
    """Print a refusal to standard error, with its diff if it has one.

    Args:
        name: of the exercise, put before a message that does not name it.
    """
    message = f"yolostudy: {error}" if name in str(error) else f"yolostudy: {name}: {error}"
    print(wrapped(message), file=sys.stderr)
    if diff := getattr(error, "diff", ""):
        print(diff, file=sys.stderr)
