"""A learner's folder: what its report is called, and the answers in it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..course import Course
from ..edition import Edition, read_module
from ..errors import CourseError
from .report import read_reports

MAX_BYTES = 1 << 20  # of a module


def name_learners(folders: Iterable[Path], out: Path) -> dict[str, Path]:
    """A report's name for each folder: the folder's own name.

    Where two are the same, here or in earlier reports, the folders above it come before it.
    """
    known = {told["folder"]: told["learner"] for told in read_reports(out)}
    taken = {name.casefold(): place for place, name in known.items()}
    paths = [path for path in dict.fromkeys(folder.resolve() for folder in folders) if path != out.resolve()]
    shared = Counter(path.name.casefold() for path in paths)
    named = {}
    for path in paths:
        parts = path.parts[1:] or ("learner",)
        depths = range(1 + (shared[path.name.casefold()] > 1), len(parts) + 1)
        names = [known[str(path)]] if str(path) in known else []
        names += [*("-".join(parts[-depth:]) for depth in depths), *map(str, range(9999))]
        name = next(name for name in names if taken.get(name.casefold(), str(path)) == str(path))
        taken[name.casefold()] = str(path)
        named[name] = path
    return named


def find_answers(folder: Path, course: Course) -> Path:
    """The folder with a learner's modules: a repository's package, or the folder itself."""
    for place in (folder / course.package, folder):
        if any((place / f"{name}.py").is_file() for name in course.names):
            return place
    raise CourseError(
        f"{folder}: no {course.package}/{course.names[0]}.py and no {course.names[0]}.py. Name a learner's repository."
    )


def read_answers(folder: Path, course: Course) -> dict[str, Edition | str]:
    """Module -> its source, or a sentence that says why there is none.

    The sentence is empty where the file is missing.
    """
    place = find_answers(folder, course)
    return {name: _read(place / f"{name}.py", folder.resolve(), course.package) for name in course.names}


def _read(file: Path, folder: Path, package: str) -> Edition | str:
    shown = Path(package, file.name)  # its name in a report, whatever the learner's repository is called
    if not file.is_file():
        return ""
    if not file.resolve().is_relative_to(folder):
        return f"{shown} is a link to a place outside of the folder that is graded."
    if file.stat().st_size > MAX_BYTES:
        return f"{shown} is larger than a megabyte."
    try:
        module = read_module(file)
        for statement in module.statements:
            _ = statement.binds, statement.uses  # computed here, where an error becomes a sentence
    except SyntaxError as error:
        line = f": {error.text.strip()}" if error.text else ""
        return f"Python cannot read {shown}, line {error.lineno}: {error.msg}{line}"
    except Exception as error:  # nested too deeply, a strange encoding: a text can do many things to a parser
        return f"Python cannot read {shown}: {type(error).__name__}: {error}"
    statements = tuple(replace(statement, file=shown) for statement in module.statements)
    return Edition({file.stem: replace(module, file=shown, statements=statements)})
