"""Build: the notebooks are made from their sources, and run.

`course/source/*.md` is the one source of the notebooks.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..course import Course
from ..errors import CourseError
from ..files import replace_file
from ..fill_cell import exercise_of
from .outputs import RAISES, clean

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}  # without the version of this Python
CELL_TIMEOUT = 600  # seconds


def sources(course: Course, names: Sequence[str] = ()) -> list[Path]:
    """The notebooks' sources. `names` chooses some, in full or by number: 02_blocks or 02."""
    files = course.all_sources()
    for name in names:
        if not any(name in (file.stem, file.stem.partition("_")[0]) for file in files):
            raise CourseError(
                f"there is no notebook {name!r}. They are {', '.join(file.stem for file in files) or 'none yet'}."
            )
    return [file for file in files if not names or {file.stem, file.stem.partition("_")[0]} & {*names}]


def build(course: Course, names: Sequence[str] = (), execute: bool = False) -> list[Path]:
    """Makes the notebooks from their sources, byte for byte the same each time.

    With `execute`, they run on the reference in a fresh kernel. Without, cells that did not change
    keep their outputs.
    """
    return [_build(course, source, execute) for source in sources(course, names)]


def _build(course: Course, source: Path, execute: bool) -> Path:
    import nbformat

    file = course.built(source.stem)
    notebook = compose(course, source)
    if execute:
        _execute(course, notebook, file)
    elif file.exists():
        stored = {cell.id: cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell.id in stored:
                cell.outputs, cell.execution_count = stored[cell.id].outputs, stored[cell.id].execution_count
    replace_file(file, (nbformat.writes(notebook) + "\n").encode())
    return file


def compose(course: Course, source: Path):
    """The notebook of a MyST source, not executed. A cell's id is made from its content.

    A cell that holds only `#| fill module.Name` gets the stub below that line.
    """
    import jupytext
    import nbformat

    notebook = jupytext.reads(source.read_text("utf-8"), fmt="md:myst")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:
        name = exercise_of(cell.source) if cell.cell_type == "code" else ""
        if name and "\n" not in cell.source.strip():
            if not (stub := course.edition("stub").find(name)):
                raise CourseError(f"{source}: a cell fills {name}, and the reference defines no {name}.")
            cell.source = f"{cell.source.strip()}\n{stub.text.rstrip()}"
        content = f"{cell.cell_type}\n{cell.source}"
        cell.id = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:12]
        seen[content] += 1
    return notebook


def _execute(course: Course, notebook, file: Path) -> None:
    """Runs a notebook's cells, and cleans their outputs."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    tags = [list(cell.metadata.get("tags", [])) for cell in notebook.cells]
    for cell, own in zip(notebook.cells, tags, strict=True):
        if RAISES & {*own}:
            cell.metadata["tags"] = [*own, "raises-exception"]
    path = os.pathsep.join(filter(None, (str(course.root), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        f"{course.package.upper()}_USE": "reference",
        "PYTHONPATH": path,
        "PYTHONHASHSEED": "0",
    }
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(file.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise CourseError(f"{file}: not built, because a cell fails:\n{error}") from None
    notebook.metadata = nbformat.from_dict(METADATA)  # in place of the kernel's own, which nbclient wrote
    for cell, own in zip(notebook.cells, tags, strict=True):
        if own:
            cell.metadata["tags"] = own
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in (clean(course, output) for output in cell.outputs) if output]
