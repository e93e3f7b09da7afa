"""The regions that a learner writes, between the markers in a solution.

The markers are `# BEGIN SOLUTION` and `# END SOLUTION`, as in nbgrader.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import CourseError

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"


class Region(NamedTuple):
    begin: int  # the markers' lines, counted from 1
    end: int
    indent: str
    definition: str  # the top-level function or class around it
    function: ast.AST  # the innermost function around it


def find_regions(text: str, file: Path) -> list[Region]:
    """Every marked region of a source, in order.

    Raises CourseError, with file and line, for a region that a stub cannot be made of.
    """
    if "SOLUTION" not in text.upper():
        return []
    tree, lines = ast.parse(text, str(file)), io.StringIO(text).readlines()
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return [_place(tree.body, statements, lines, begin, end, f"{file}:{begin}") for begin, end in _pairs(text, file)]


def _pairs(text: str, file: Path) -> Iterator[tuple[int, int]]:
    begin = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or not re.match(r"#+\s*(BEGIN|END)[\s_]*SOLUTION", token.string, re.I):
            continue
        line, where = token.start[0], f"{file}:{token.start[0]}"
        if token.string not in (BEGIN, END) or token.line.strip() != token.string:
            raise CourseError(f"{where}: malformed marker. Write {BEGIN} or {END} on a line of its own.")
        if token.string == BEGIN and begin:
            raise CourseError(f"{where}: a region begins inside the region of line {begin}. End that one first.")
        if token.string == END and not begin:
            raise CourseError(f"{where}: a region ends that never began. Write {BEGIN} above it.")
        if begin:
            yield begin, line
        begin = 0 if begin else line
    if begin:
        raise CourseError(f"{file}:{begin}: the region is never closed. Write {END} under it.")


def _place(
    top: list[ast.stmt], statements: list[ast.stmt], lines: list[str], begin: int, end: int, where: str
) -> Region:
    inside = [node for node in statements if begin < node.lineno < end]
    if not inside:
        raise CourseError(f"{where}: the region holds no code. Put the solution between its markers.")
    last = max(node.end_lineno for node in inside)
    around = [node for node in statements if node.lineno < begin and last <= node.end_lineno]
    functions = [node for node in around if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    definition = next((node for node in top if node in around), None)
    if not functions or not isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        raise CourseError(
            f"{where}: the region is not in the body of one function of a top-level definition. Move its markers."
        )
    if last > end:
        raise CourseError(f"{where}: the region cuts a statement in two. Move its markers.")
    function = max(functions, key=lambda node: node.lineno)
    if function.body[0] in inside and ast.get_docstring(function) is not None:
        raise CourseError(f"{where}: the region contains the docstring, which is always given. Begin it below.")
    indents = [re.match(r"\s*", lines[number - 1])[0] for number in (begin, min(node.lineno for node in inside), end)]
    if len({*indents}) > 1:
        raise CourseError(f"{where}: the markers are not indented like the code between them. Align them.")
    return Region(begin, end, indents[0], definition.name, function)
