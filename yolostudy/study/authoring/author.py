"""What an author of the course does: release the stubs, build the notebooks, check both.

`solutions/*.py` is the one source of the stubs, `course/source/*.md` the one source of the
notebooks.
"""

import argparse
import ast
import hashlib
import html
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .. import edition_in_use
from ..course import Course
from ..edition import CourseError, Statement, read_module, replace_file

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}  # without the patch version of this Python
RAISES = {"raises-exception", "nbval-raises-exception"}  # tags of a cell that is meant to fail
PIXELS = ("image/png", "image/jpeg")  # base64: nothing to read, and long enough to keep a pattern busy for minutes
PROGRESS = re.compile(r"[^\n]*\d+%\|[^\n]*\n?|[^\n]*\d+it \[[^\n]*\n?")  # what tqdm draws
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
FILL = re.compile(r"\s*#\|[ \t]*fill[ \t]+([\w.]+)\s*")
# A place on somebody's machine, or a package registry: neither belongs in a shipped output.
LEAK = re.compile(
    r"(?<![\w.~/])/(?:home|root|Users|tmp|work|mnt|opt|usr|var)/[\w./-]*|\b[A-Z]:\\[\w.\\-]+"
    r"|https?://[^\s/]*(?:pypi|pythonhosted|anaconda|conda|npmjs)[^\s\"']*|https?://[^\s\"']*/simple\b"
)


# ---- stubs ---------------------------------------------------------------------------------------


def release(course: Course, force: bool = False) -> list[str]:
    """Writes the stub edition into the package and returns the modules that it wrote.

    A file that is there and is not its stub is a learner's work: unless `force` is set, nothing at
    all is written.
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
    """A copy of the course for an exam: stubs, and recorded observations in the place of solutions,
    tests and executed notebooks.
    """
    import shutil

    from ..judge import Judge, recorded

    if out.exists():
        raise CourseError(f"{out} exists. Name a folder that does not.")
    key = recorded(Judge(course))
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


def _without_swaps(text: str) -> str:
    """An exercise file without the patches of its misconceptions: they quote the solution."""
    lines = text.encode().splitlines(keepends=True)  # the places that ast gives count bytes
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
    """Where the package differs from the stubs outside the marked regions: one line for each
    definition or statement.
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
                elif not _frames(given, own):
                    found.append(
                        f"{file}:{own.line}: {given.definition} differs from the stub outside its marked regions"
                    )
            elif not any(given.same_as(own) for own in mine.statements):
                found.append(f"{file}:1: the given line is missing or changed: {given.text.splitlines()[0]}")
    return found


def _frames(stub: Statement, mine: Statement) -> bool:
    """Whether all that stands outside the stub's regions stands in mine too, in the same order."""
    gaps = r"^[ \t]*(?:raise NotImplementedError\(\"exercise [^\n]*|\.\.\.)$"
    given = [re.sub(r"\s+", " ", part).strip() for part in re.split(gaps, stub.text, flags=re.M)]
    pattern = ".*".join(re.escape(part) for part in given)
    return re.fullmatch(pattern, re.sub(r"\s+", " ", mine.text).strip(), re.S) is not None


# ---- notebooks -----------------------------------------------------------------------------------


def sources(course: Course, names: Sequence[str] = ()) -> list[Path]:
    """The notebooks' sources; `names` picks some, in full or by their number: 02_blocks or 02."""
    files = sorted((course.root / "course" / "source").glob("*.md"))
    for name in names:
        if not any(name in (file.stem, file.stem.partition("_")[0]) for file in files):
            raise CourseError(
                f"there is no notebook {name!r}. They are {', '.join(file.stem for file in files) or 'none yet'}."
            )
    return [file for file in files if not names or {file.stem, file.stem.partition("_")[0]} & {*names}]


def build(course: Course, names: Sequence[str] = (), execute: bool = False) -> list[Path]:
    """Makes the notebooks from their sources, byte for byte the same each time.

    Executed, they run on the reference in a fresh kernel; else cells that did not change keep the
    outputs they had.
    """
    return [_build(course, source, execute) for source in sources(course, names)]


def _build(course: Course, source: Path, execute: bool) -> Path:
    import nbformat

    file = source.parents[1] / f"{source.stem}.ipynb"
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
    """The notebook of a MyST text, not executed. A cell's id is made from its content.

    A cell that says `#| fill module.Name` and nothing else gets the stub below it.
    """
    import jupytext
    import nbformat

    notebook = jupytext.reads(source.read_text("utf-8"), fmt="md:myst")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:
        if cell.cell_type == "code" and (asked := FILL.fullmatch(cell.source)):
            if not (stub := course.edition("stub").find(asked[1])):
                raise CourseError(f"{source}: a cell fills {asked[1]}, and the reference defines no such thing.")
            cell.source = f"{cell.source.strip()}\n{stub.text.rstrip()}"
        content = f"{cell.cell_type}\n{cell.source}"
        cell.id = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:12]
        seen[content] += 1
    return notebook


def _execute(course: Course, notebook, file: Path) -> None:
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
        timeout=600,
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
    notebook.metadata = nbformat.from_dict(METADATA)  # nbclient wrote the kernel's own into it
    for cell, own in zip(notebook.cells, tags, strict=True):
        if own:
            cell.metadata["tags"] = own
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in (_clean(course, output) for output in cell.outputs) if output]


def _clean(course: Course, output):
    """An output without what differs from run to run and from machine to machine; None if nothing
    is left.
    """
    if output.output_type == "stream":
        if output.name == "stderr":
            output.text = PROGRESS.sub("", output.text)
        output.text = _scrub(course, output.text)
        return output if output.text.strip() else None
    if output.output_type == "error":
        output.evalue, output.traceback = (
            _scrub(course, output.evalue),
            [_scrub(course, line) for line in output.traceback],
        )
        return output
    for kind, value in output.data.items():
        if kind == "application/vnd.jupyter.widget-view+json":
            output.data[kind] = {**value, "model_id": ""}  # Lab hides a view without a model until the cell is run
        elif isinstance(value, str) and kind not in PIXELS:
            output.data[kind] = _scrub(course, value)
    return output


def _scrub(course: Course, text: str) -> str:
    text = text.replace(f"{course.root}{os.sep}", "").replace(str(course.root), ".")
    text = re.sub(r"[^\s\"'(]*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = re.sub(r"[^\s\"'(]*/site-packages/", "site-packages/", text)
    return ADDRESS.sub("0x...", text.replace(sys.base_prefix, "python"))


# ---- check ---------------------------------------------------------------------------------------


def check(course: Course) -> list[str]:
    """What is wrong with the course as it would ship: one sentence each."""
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
    for source in sources(course):
        found += _check_notebook(course, source)
    return [*found, *_check_exercises(course)]


def _check_exercises(course: Course) -> list[str]:
    """The exercises against the solutions, and against the notebooks that ask for them."""
    from tqdm import tqdm

    from ..judge import Judge, faults

    judge = Judge(course)
    try:
        names = [*judge.exercises]
    except Exception as error:  # a fault in an exercise file, of whatever kind
        return [f"{course.exercises}: {type(error).__name__}: {error}"]
    modules = {name.partition(".")[0] for name in names}
    asked = [name for name in judge.reference.exercises(judge.stub) if name.partition(".")[0] in modules]
    found = [
        f"{course.exercises}: no exercise for {name}, which has a marked region." for name in asked if name not in names
    ]
    for name in names:
        notebook = (
            course.root / "course" / "source" / f"{course.notebooks.get(judge.exercises[name].module, 'none')}.md"
        )
        cells = (
            len(re.findall(rf"^#\|[ \t]*fill[ \t]+{re.escape(name)}[ \t]*$", notebook.read_text("utf-8"), re.M))
            if notebook.exists()
            else 0
        )
        if cells != 1:
            found.append(f"{notebook}: {cells} cells fill {name}; there must be one.")
        built = notebook.parents[1] / f"{notebook.stem}.ipynb"
        if built.exists() and _stored_probes(built, name) != [probe.name for probe in judge.exercises[name].probes]:
            found.append(
                f"{built}: the card of {name} was stored with other probes. Run: yolostudy author build --execute "
                f"{built.stem}"
            )
    for name in tqdm(names, unit="exercise", delay=2, leave=False):
        found += faults(judge, [name])
    return found


def _stored_probes(file: Path, name: str) -> list[str]:
    """The probes that the stored card of an exercise shows as passed."""
    import nbformat

    cells = [
        c
        for c in nbformat.read(file, as_version=4).cells
        if re.match(rf"#\|[ \t]*fill[ \t]+{re.escape(name)}\b", c.source)
    ]
    pages = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs]
    return [html.unescape(tip) for page in pages for tip in re.findall(r'<span title="([^"]*): passed"', page)]


def _check_notebook(course: Course, source: Path) -> list[str]:
    import nbformat

    file = source.parents[1] / f"{source.stem}.ipynb"
    if not file.exists():
        return [f"{file}: not built. Run: yolostudy author build --execute {source.stem}"]
    notebook, found = nbformat.read(file, as_version=4), []
    if [(c.cell_type, c.source) for c in notebook.cells] != [
        (c.cell_type, c.source) for c in compose(course, source).cells
    ]:
        found.append(f"{file}: not in step with {source}. Run: yolostudy author build --execute {source.stem}")
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            where = f"{file}: cell {number}"
            if output.output_type == "error" and not RAISES & {*cell.metadata.get("tags", [])}:
                found.append(
                    f"{where}: stored with an error, {output.ename}: {output.evalue}. Mend it, or tag it "
                    "raises-exception."
                )
            if leak := LEAK.search(_shown(output)):
                found.append(
                    f"{where}: an output names a place on one machine or a registry, {leak[0]}. Do not print it."
                )
    return found


def _shown(output) -> str:
    if output.output_type == "error":
        return "\n".join([output.evalue, *output.traceback])
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *(str(v) for kind, v in data.items() if kind not in PIXELS)])


# ---- the command ---------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="yolostudy author", description="Release the stubs, build the notebooks, check both."
    )
    parser.add_argument("--root", type=Path, help="the repository; by default the one that this package lies in")
    words = parser.add_subparsers(dest="word", required=True)
    word = words.add_parser("release", help="write the stubs made from solutions/ into the package")
    word.add_argument("--force", action="store_true", help="also over files that are filled in")
    word.add_argument(
        "--sealed",
        type=Path,
        metavar="OUT",
        help="an exam: a new folder with recorded observations instead of solutions",
    )
    word = words.add_parser("build", help="make the notebooks from course/source")
    word.add_argument("--execute", action="store_true", help="and run them, on the reference")
    word.add_argument("names", nargs="*", metavar="NAME", help="02_blocks or 02; all when left out")
    words.add_parser("check", help="say what is not fit to ship")
    options = parser.parse_args(argv)
    course = Course.open(options.root.resolve(), edition_in_use.PACKAGE) if options.root else edition_in_use.course()
    try:
        if options.word == "release" and options.sealed:
            print(f"sealed: {release_sealed(course, options.sealed)}")
        elif options.word == "release":
            print(f"released: {', '.join(release(course, options.force)) or 'nothing, all stubs are up to date'}")
        elif options.word == "build":
            for file in build(course, options.names, options.execute):
                print(f"built: {file.relative_to(course.root)}")
        else:
            found = check(course)
            print("\n".join(found) or "nothing found")
            return bool(found)
    except (CourseError, SyntaxError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
