"""A cell that fills an exercise: plain Python below the line `#| fill blocks.SPPF`."""

import ast
import re
from dataclasses import replace
from pathlib import Path

from .edition import Module, Statement, parse
from .errors import Refusal

DIRECTIVE = r"#\|[ \t]*fill[ \t]+([\w.]+)[ \t]*"
FIRST_LINE = re.compile(rf"(?:[ \t]*\n)*{DIRECTIVE}(?:\n|$)")  # the first that is not empty


def exercise_of(cell: str) -> str:
    """The exercise that a cell fills; empty for any other cell."""
    found = FIRST_LINE.match(cell)
    return found[1] if found else ""


def exercises_in(source: str) -> list[str]:
    """The exercises that the cells of a notebook's source fill, one for each cell."""
    return re.findall(rf"^{DIRECTIVE}$", source, re.M)


def read_cell(definition: str, text: str) -> Module:
    """The statements of a cell.

    It must define `definition` once, as a class or a function at the left margin.
    """
    try:
        cell = parse(text, Path("this cell"))
        compile(cell.text, "this cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        bound = [s for s in cell.statements if definition in s.binds]
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte, or half of a character
        place = max(text.find("\0"), getattr(error, "start", 0))
        line = getattr(error, "lineno", None) or text.count("\n", 0, place) + 1
        reason = getattr(error, "msg", error)
        raise Refusal(
            f"line {line} of this cell has a syntax error ({reason}). Correct it and run the cell again."
        ) from error
    if not bound:
        found = f"It defines {', '.join(cell.definitions)}. " if cell.definitions else ""
        raise Refusal(f"this cell does not define {definition}. {found}Define it as a class or function in this cell.")
    if len(bound) > 1:
        lines = ", ".join(str(s.line) for s in bound)
        raise Refusal(f"this cell defines {definition} more than once, in lines {lines}. Keep one of them.")
    if bound[0].definition != definition:
        raise Refusal(
            f"line {bound[0].line} of this cell makes {definition} by an assignment, an import or inside another "
            "statement. Define it as a class or function in this cell, at its left margin."
        )
    return replace(cell, statements=tuple(replace(s, lead=_lead(s)) for s in cell.statements))


def _lead(statement: Statement) -> str:
    """The comments above a statement, without notebook directives, spaced as in a file."""
    notes = [line for line in statement.lead.splitlines() if line.startswith("#") and not line.startswith("#|")]
    return "\n" * (2 if statement.definition else 1) + "".join(f"{note}\n" for note in notes)
