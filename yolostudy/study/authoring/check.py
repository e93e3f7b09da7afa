"""Check: is the course fit to ship? Stubs, notebooks and exercises, one sentence for each fault."""

import html
import re
from pathlib import Path

from ..course import Course
from ..errors import CourseError
from ..fill_cell import exercise_of, exercises_in
from ..judge import Judge
from .build import compose
from .faults import faults
from .outputs import LEAK, RAISES, text_of


def check(course: Course) -> list[str]:
    """Everything that is wrong with the course as it would ship: one sentence each."""
    try:
        stub = course.edition("stub")
    except (CourseError, SyntaxError) as error:
        return [str(error)]
    found = []
    for name, module in stub.items():
        file = course.mine / f"{name}.py"
        if not file.exists() or file.read_bytes() != module.encode():
            found.append(f"{file}: not the stub of {course.solutions / file.name}. Run: yolostudy author release")
    strays = {file.stem for file in course.mine.glob("[!_.]*.py")} - {*stub}
    found += [
        f"{course.mine / name}.py: no module of that name in {course.solutions}. Remove it." for name in sorted(strays)
    ]
    for source in course.all_sources():
        found += _check_notebook(course, source)
    return [*found, *_check_exercises(course)]


def _check_exercises(course: Course) -> list[str]:
    """The exercises against the solutions, and against the notebooks that ask for them."""
    from tqdm import tqdm

    judge = Judge(course)
    try:
        names = [*judge.exercises]
    except Exception as error:  # an exercise file may raise anything
        return [f"{course.exercises}: {type(error).__name__}: {error}"]
    modules = {name.partition(".")[0] for name in names}
    asked = [name for name in judge.reference.exercises(judge.stub) if name.partition(".")[0] in modules]
    missing = [name for name in asked if name not in names]
    found = [f"{course.exercises}: no exercise for {name}, which has a marked region." for name in missing]
    for name in names:
        notebook = course.notebooks.get(judge.exercises[name].module, "none")
        source, built = course.source(notebook), course.built(notebook)
        cells = exercises_in(source.read_text("utf-8")).count(name) if source.exists() else 0
        if cells != 1:
            found.append(f"{source}: {cells} cells fill {name}; there must be one.")
        if built.exists() and _stored_probes(built, name) != [probe.name for probe in judge.exercises[name].probes]:
            found.append(
                f"{built}: the card of {name} was stored with other probes. Run: yolostudy author build --execute "
                f"{notebook}"
            )
    for name in tqdm(names, unit="exercise", delay=2, leave=False):
        found += faults(judge, [name])
    return found


def _stored_probes(file: Path, name: str) -> list[str]:
    """The probes that the stored card of an exercise shows as passed."""
    import nbformat

    cells = [cell for cell in nbformat.read(file, as_version=4).cells if exercise_of(cell.source) == name]
    pages = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs]
    return [html.unescape(tip) for page in pages for tip in re.findall(r'<span title="([^"]*): passed"', page)]


def _check_notebook(course: Course, source: Path) -> list[str]:
    """A built notebook against its source, and its outputs."""
    import nbformat

    file = course.built(source.stem)
    if not file.exists():
        return [f"{file}: not built. Run: yolostudy author build --execute {source.stem}"]
    notebook, found = nbformat.read(file, as_version=4), []
    stored, composed = ([(c.cell_type, c.source) for c in n.cells] for n in (notebook, compose(course, source)))
    if stored != composed:
        found.append(f"{file}: not up to date with {source}. Run: yolostudy author build --execute {source.stem}")
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            where = f"{file}: cell {number}"
            if output.output_type == "error" and not RAISES & {*cell.metadata.get("tags", [])}:
                found.append(
                    f"{where}: stored with an error, {output.ename}: {output.evalue}. Correct it, or tag the cell "
                    "raises-exception."
                )
            if leak := LEAK.search(text_of(output)):
                found.append(
                    f"{where}: an output names a path on one machine or a registry, {leak[0]}. Do not print it."
                )
    return found
