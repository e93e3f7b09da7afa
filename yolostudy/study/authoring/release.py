"""Release: the stubs of the solutions are written into the package, or into a sealed course.

`solutions/*.py` is the one source of the stubs.
"""

import ast
import os
import re
import shutil
from pathlib import Path

from ..course import Course
from ..edition import Statement, read_module
from ..errors import CourseError
from ..files import replace_file
from ..judge import Judge
from ..sealed import Key, dump_key


def release(course: Course, force: bool = False) -> list[str]:
    """Writes the stub edition into the package and returns the modules that it wrote.

    A file that differs from its stub is a learner's work: then nothing at all is written, unless
    `force` is set.
    """
    stub = course.edition("stub")
    files = {name: course.mine / f"{name}.py" for name in stub}
    pending = [name for name in stub if not files[name].exists() or files[name].read_bytes() != stub[name].encode()]
    if not force and (worked_on := [str(files[name]) for name in pending if files[name].exists()]):
        raise CourseError(
            f"nothing was released: {', '.join(worked_on)} is not the stub any more. --force overwrites it."
        )
    for name in pending:
        stub[name].write(files[name])
    return pending


def release_sealed(course: Course, out: Path) -> Path:
    """A copy of the course for an exam: stubs, and recorded observations.

    Solutions, tests and executed notebooks are not in it.
    """
    if out.exists():
        raise CourseError(f"{out} exists. Name a folder that does not.")
    key = dump_key(record_key(Judge(course)))
    draft = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    leave = shutil.ignore_patterns(
        "__pycache__", ".*", "*.ipynb", "source", "museum", "runs", "planes-mini", "planes-laptop", "mar20"
    )
    for part in ("course", "datasets", course.package):
        if (course.root / part).exists():
            shutil.copytree(course.root / part, draft / part, ignore=leave)
    for file in course.root.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, draft / file.name)
    sealed = Course.open(draft, course.package)
    sealed.stubs.mkdir()
    for name, module in course.edition("stub").items():
        module.write(sealed.mine / f"{name}.py")
        module.write(sealed.stubs / f"{name}.py")
    for file in sealed.exercises.glob("*.py"):
        replace_file(file, _without_swaps(file.read_text("utf-8")).encode())
    replace_file(sealed.key, key.encode())
    os.replace(draft, out)
    return out


def record_key(judge: Judge) -> Key:
    """What the probes see of the reference and of each mistake."""
    key: Key = {}
    for exercise in judge.exercises.values():
        key[exercise.name] = {"": judge.reference_seen(exercise)}
        for mistake in exercise.misconceptions:
            edition = mistake.edition(judge.reference, exercise.name)
            key[exercise.name][mistake.name] = judge.look(exercise, edition)
    return key


def _without_swaps(text: str) -> str:
    """An exercise file without the patches of its misconceptions, which quote the solution."""
    lines = text.encode().splitlines(keepends=True)  # ast counts bytes
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    calls = [
        n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "misconception"
    ]
    swaps = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "swap"]
    content = text.encode()
    for node in sorted(swaps, key=lambda n: -starts[n.lineno - 1] - n.col_offset):
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        content = content[:begin] + b"()" + content[end:]
    return content.decode()


def drift(course: Course) -> list[str]:
    """Where the package differs from the stubs outside the marked regions.

    One line for each definition or statement.
    """
    found = []
    for name, stub in course.edition("stub").items():
        file = course.mine / f"{name}.py"
        try:
            mine = read_module(file)
        except (SyntaxError, FileNotFoundError) as error:
            found.append(
                f"{file}:{getattr(error, 'lineno', None) or 1}: {getattr(error, 'msg', 'the file is missing')}"
            )
            continue
        for given in stub.statements:
            if given.definition:
                own = mine.find(given.definition)
                if not own:
                    found.append(f"{file}:1: {given.definition} is missing")
                elif not _keeps_given_parts(given, own):
                    found.append(
                        f"{file}:{own.line}: {given.definition} differs from the stub outside its marked regions"
                    )
            elif not any(given.same_as(own) for own in mine.statements):
                found.append(f"{file}:1: the given line is missing or changed: {given.text.splitlines()[0]}")
    return found


def _keeps_given_parts(stub: Statement, mine: Statement) -> bool:
    """Whether everything outside the stub's regions is in mine too, in the same order."""
    gaps = r"^[ \t]*(?:raise NotImplementedError\(\"exercise [^\n]*|\.\.\.)$"
    given = [re.sub(r"\s+", " ", part).strip() for part in re.split(gaps, stub.text, flags=re.M)]
    pattern = ".*".join(re.escape(part) for part in given)
    return re.fullmatch(pattern, re.sub(r"\s+", " ", mine.text).strip(), re.S) is not None
