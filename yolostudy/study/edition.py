"""Editions: a complete set of sources of the exercise modules.

An edition maps each module's name to its top-level statements. Each statement remembers the file
and the line that it came from. There are four operations: `read` an edition from files, `strip` the
marked regions, `transplant` one definition from another edition, and `load` it as a temporary
package. Release, solve, fill, check, diagnose, hybrid and drift are all built from these four.
"""

import __future__

import ast
import copy
import importlib
import io
import itertools
import re
import symtable
import sys
import tokenize
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.util import cache_from_source, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from .errors import CourseError
from .files import replace_file
from .regions import find_regions


@dataclass(frozen=True, eq=False)
class Statement:
    """One top-level statement, or several that share a line.

    Two statements are equal only if they are one object; `same_as` compares what they do.
    """

    nodes: tuple[ast.stmt, ...]  # with the line numbers of their own file
    lead: str  # the blank lines and comments above it
    text: str  # from the first decorator to the last indented comment
    file: Path
    line: int  # of the first line of `text`, in `file`
    future: int  # the compiler flags of its file's `from __future__ import ...`

    @cached_property
    def code(self) -> CodeType:
        return compile(
            ast.Module([*self.nodes], type_ignores=[]), str(self.file), "exec", self.future, dont_inherit=True
        )

    @cached_property
    def definition(self) -> str | None:
        """The name of the function or class that it defines, if it defines one."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return self.nodes[0].name if isinstance(self.nodes[0], kinds) else None

    @cached_property
    def binds(self) -> frozenset[str]:
        """The names that it binds in its module; `*` if it imports everything from somewhere."""
        star = {"*" for node in self.nodes if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"}
        return frozenset(
            star.union(s.get_name() for s in self._table.get_symbols() if s.is_assigned() or s.is_imported())
        )

    @cached_property
    def uses(self) -> frozenset[str]:
        """The names that it looks up in its module, when it is executed or called."""
        scopes = list(self._table.get_children())
        for scope in scopes:  # grows while we walk: a scope's scopes
            scopes.extend(scope.get_children())
        inner = {s.get_name() for scope in scopes for s in scope.get_symbols() if s.is_global()}
        return frozenset(inner.union({"*"}, (s.get_name() for s in self._table.get_symbols() if s.is_referenced())))

    @cached_property
    def _table(self) -> symtable.SymbolTable:
        return _table_of(self.text)

    @cached_property
    def _bare(self) -> list[str]:
        """Its syntax tree as text, without docstrings."""
        nodes = copy.deepcopy(self.nodes)
        for node in (inner for statement in nodes for inner in ast.walk(statement)):
            if (
                isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:]
        return [*map(ast.dump, nodes)]

    def same_as(self, other: "Statement") -> bool:
        """Whether both have the same syntax tree.

        Layout, comments and docstrings do not count: a stub with a new docstring is still a stub.
        """
        return self._bare == other._bare


@lru_cache(maxsize=8192)
def _table_of(text: str) -> symtable.SymbolTable:
    return symtable.symtable(text, "a statement", "exec")


@dataclass(frozen=True)
class Module:
    """The source of one exercise module.

    Its `text` is exact, except that line ends are `\\n` until it is written.
    """

    statements: tuple[Statement, ...]
    tail: str  # what follows the last statement
    file: Path  # a name that no file has, where statements of several files are mixed
    newline: str = "\n"
    encoding: str = "utf-8"

    @property
    def text(self) -> str:
        return "".join(s.lead + s.text for s in self.statements) + self.tail

    @property
    def definitions(self) -> list[str]:
        return [s.definition for s in self.statements if s.definition]

    def find(self, name: str) -> Statement | None:
        """The last statement that binds `name`."""
        return next((s for s in reversed(self.statements) if name in s.binds), None)

    def write(self, file: Path) -> None:
        """Writes the text into `file` in one step.

        It keeps the line ends and the encoding that it was read with.
        """
        replace_file(file, self.encode())
        for stale in Path(cache_from_source(str(file))).parent.glob(f"{file.stem}.*.pyc"):
            stale.unlink(missing_ok=True)  # same size, same second: Python would import the old one

    def encode(self) -> bytes:
        return self.text.replace("\n", self.newline).encode(self.encoding)


class Edition(dict[str, Module]):
    """Module name -> its source."""

    def find(self, name: str) -> Statement | None:
        """The statement behind `module.Name`, if there is one."""
        module, _, definition = name.partition(".")
        return self[module].find(definition) if module in self else None

    def exercises(self, stub: "Edition") -> list[str]:
        """Every `module.Name` that a learner writes: what differs from its stub."""
        names = [f"{module}.{name}" for module in self for name in dict.fromkeys(self[module].definitions)]
        return [name for name in names if not (before := stub.find(name)) or not self.find(name).same_as(before)]


# ---- read ----------------------------------------------------------------------------------------


def module_names(folder: Path) -> list[str]:
    """The exercise modules in a folder: its .py files, except private ones."""
    return sorted(file.stem for file in folder.glob("*.py") if not file.name.startswith(("_", ".")))


def read(folder: Path, names: Iterable[str] | None = None) -> Edition:
    return Edition(
        {name: read_module(folder / f"{name}.py") for name in (module_names(folder) if names is None else names)}
    )


def read_module(file: Path) -> Module:
    """Reads one file.

    Raises SyntaxError, with file and line, for everything that Python cannot read.
    """
    data = file.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        if "\0" in text:
            raise ValueError("a null byte")
        ends = re.search(r"\r\n?|\n", text)
        module = parse(text, file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns where the code is run
            # finds errors that parsing does not, such as a return outside a function
            compile(text, str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        error.filename = str(file)
        raise
    except ValueError as error:  # bytes that are not text, or a null byte
        line = data.count(b"\n", 0, getattr(error, "start", data.find(b"\0"))) + 1
        raise SyntaxError(f"not a text that Python can read ({error})", (str(file), line, 1, None)) from error
    return replace(module, newline=ends[0] if ends else "\n", encoding=encoding)


def parse(text: str, file: Path) -> Module:
    """Cuts a text into its top-level statements."""
    text = re.sub(r"\r\n?", "\n", text)
    text += "" if text.endswith("\n") else "\n"
    tree = ast.parse(text, str(file))
    lines = io.StringIO(text).readlines()
    imported = [
        a.name for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__" for a in n.names
    ]
    future = sum(getattr(__future__, name).compiler_flag for name in set(imported))

    groups: list[list] = []  # [first line, last line, nodes]
    for node in tree.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        if groups and first <= groups[-1][1]:  # a semicolon between them
            groups[-1][1:] = node.end_lineno, [*groups[-1][2], node]
        else:
            groups.append([first, node.end_lineno, [node]])

    statements, end = [], 0
    for (first, last, nodes), following in itertools.zip_longest(groups, groups[1:]):
        stop = following[0] - 1 if following else len(lines)
        lead, start = "".join(lines[end : first - 1]), first - 1
        end = max(
            [last, *(i + 1 for i in range(last, stop) if re.match(r"[ \t]+#", lines[i]))]
        )  # END markers are comments
        statements.append(Statement(tuple(nodes), lead, "".join(lines[start:end]), file, first, future))
    return Module(tuple(statements), "".join(lines[end:]), file)


# ---- strip ---------------------------------------------------------------------------------------


def strip(edition: Edition, notebooks: Mapping[str, str]) -> Edition:
    """The stub edition: in place of each marked region an error names exercise and notebook.

    Only the first region of a function raises; `...` replaces the others.
    """
    return Edition({name: _strip_module(name, module, notebooks) for name, module in edition.items()})


def _strip_module(name: str, module: Module, notebooks: Mapping[str, str]) -> Module:
    lines, raising = io.StringIO(module.text).readlines(), set()
    for begin, end, indent, definition, function in find_regions(module.text, module.file):
        if name not in notebooks:
            raise CourseError(
                f"{module.file}:{begin}: no notebook asks for module {name!r}. Name it in course/course.toml."
            )
        task = f'raise NotImplementedError("exercise {name}.{definition}: course/{notebooks[name]}.ipynb")'
        lines[begin - 1 : end] = [f"{indent}{'...' if function in raising else task}\n"] + [""] * (end - begin)
        raising.add(function)
    if not raising:
        return module
    try:
        stub = parse("".join(lines), module.file.with_name(f"{module.file.name} (stub)"))
    except SyntaxError as error:
        raise CourseError(
            f"{module.file}:{error.lineno} of the stub: {error.msg}. Move the markers around it."
        ) from error
    return replace(stub, newline=module.newline, encoding=module.encoding)


# ---- transplant ----------------------------------------------------------------------------------


def transplant(target: Edition, name: str, donor: Edition) -> Edition:
    """`target` with `module.Name` of `donor` in place of its own.

    The definition brings what it uses, directly or not, if `donor` binds it and `target` lacks it:
    the learner's own helpers and imports. What both have stays as `target` has it.
    """
    module = name.partition(".")[0]
    if not (new := donor.find(name)):
        raise CourseError(f"{donor[module].file if module in donor else module}: {name} is not defined there.")
    here, old = target[module], target.find(name)
    known = frozenset().union(*(s.binds for s in here.statements), new.binds)
    coming = [new]
    for statement in coming:  # grows while we walk: a helper's helpers
        lacking = statement.uses - known
        coming += [s for s in donor[module].statements if s.binds & lacking and s not in coming]
    helpers = [s for s in donor[module].statements if s in coming[1:]]
    place = here.statements.index(old) if old else len(here.statements)
    moved = [*helpers, replace(new, lead=old.lead) if old else new]
    statements = (*here.statements[:place], *moved, *here.statements[place + bool(old) :])
    file = here.file if len({s.file for s in statements}) == 1 else here.file.with_name(f"{module}.py (mixed)")
    return Edition({**target, module: replace(here, statements=statements, file=file)})


# ---- load ----------------------------------------------------------------------------------------

serving: dict[
    str, Callable[[str], Module | None]
] = {}  # name of a package -> a function that gives its modules' sources
_numbers = itertools.count(1)


class Package:
    """A loaded edition: `package.blocks.SPPF`.

    A module is executed when it is first asked for, by you or by another module's relative import.
    All of them leave `sys.modules` with the last reference to this object.
    """

    def __init__(self, edition: Edition, name: str):
        self.__name__, self._edition = name, edition
        serving[name] = edition.get
        sys.modules[name] = shell = ModuleType(name)
        shell.__path__ = []
        weakref.finalize(self, _forget, name).atexit = False

    def __getattr__(self, module: str) -> ModuleType:
        if module.startswith("_") or module not in self._edition:
            raise AttributeError(f"this edition has no module {module!r}; it has {', '.join(self._edition)}")
        return importlib.import_module(f"{self.__name__}.{module}")


def load(edition: Edition, name: str = "edition") -> Package:
    """The edition as a package under a private name.

    `sys.modules['yolostudy...']` stays as it is.
    """
    return Package(edition, f"_{name}_{next(_numbers)}")


def _forget(name: str) -> None:
    del serving[name]
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[module]


class _Finder:
    """Finds the modules of every package in `serving`; all others are left to Python."""

    @staticmethod
    def find_spec(fullname: str, path=None, target=None):
        package, _, name = fullname.rpartition(".")
        module = serving[package](name) if package in serving else None
        return spec_from_file_location(fullname, str(module.file), loader=_Loader(module)) if module else None


@dataclass(repr=False)
class _Loader:
    source: Module

    def create_module(self, spec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        line = 1
        for statement in self.source.statements:
            exec(statement.code, vars(module))
            line += statement.lead.count("\n")
            if statement.definition and statement.file != self.source.file:
                # Python looks up a class's source in the text of its module, which is mixed here:
                # give it the line in that text.
                made = vars(module)[statement.definition]
                if "__firstlineno__" in getattr(made, "__dict__", ()):  # Python 3.13
                    made.__firstlineno__ = line
            line += statement.text.count("\n")

    def get_source(self, fullname: str) -> str:
        return self.source.text


sys.meta_path.insert(0, _Finder)
