"""Where the files of a course lie, and its editions: `mine`, `reference`, `stub`, `hybrid`."""

import re
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .edition import Edition, Module, module_names, read_module, strip, transplant
from .errors import CourseError

# the edition of the modules that a word such as "reference:losses" does not name
REST = {"mine": "hybrid", "reference": "mine"}
WORDS = '"mine", "reference", "hybrid", "reference:losses,assigner" (the rest mine) or "mine:losses" (the rest hybrid)'


@dataclass(frozen=True)
class Course:
    """A repository: `solutions/`, `course/course.toml` and the package that a learner fills in."""

    root: Path
    package: str  # the import package, and its folder under `root`
    notebooks: Mapping[str, str]  # exercise module -> the notebook that asks for it
    keep: tuple[str, ...] = ()  # given subpackages that import no exercise module: a change of edition keeps them

    @classmethod
    def open(cls, root: Path, package: str) -> "Course":
        file = root / "course" / "course.toml"
        table = tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
        return cls(root, package, table.get("notebooks", {}), tuple(table.get("keep", ())))

    @property
    def solutions(self) -> Path:
        return self.root / "solutions"

    @property
    def mine(self) -> Path:
        return self.root / self.package

    @property
    def exercises(self) -> Path:
        return self.root / "course" / "exercises"

    def source(self, notebook: str) -> Path:
        """The MyST source of a notebook."""
        return self.root / "course" / "source" / f"{notebook}.md"

    def built(self, notebook: str) -> Path:
        """The notebook that is built from a source."""
        return self.root / "course" / f"{notebook}.ipynb"

    def all_sources(self) -> list[Path]:
        return sorted((self.root / "course" / "source").glob("*.md"))

    def all_built(self) -> list[Path]:
        return sorted((self.root / "course").glob("*.ipynb"))

    @property
    def state(self) -> Path:
        """What the machine remembers about this learner."""
        return self.root / f".{self.package}"

    @property
    def key(self) -> Path:
        """In a sealed course: what the probes saw of the reference and of each mistake."""
        return self.root / "course" / "key.json"

    @property
    def stubs(self) -> Path:
        """In a sealed course: the stubs as they were released."""
        return self.root / "course" / "stubs"

    @property
    def sealed(self) -> bool:
        return self.key.exists() and not self.solutions.is_dir()

    @cached_property
    def exercise_names(self) -> list[str]:
        """Every exercise that a file of `exercises` names.

        The files are read and not imported, because they import torch.
        """
        texts = [file.read_text("utf-8") for file in sorted(self.exercises.glob("[!_.]*.py"))]
        return [name for text in texts for name in re.findall(r"\bExercise\(\s*\"(\w+\.\w+)\"", text)]

    @cached_property
    def names(self) -> list[str]:
        """The exercise modules."""
        return module_names(self.solutions) or module_names(self.stubs) or list(self.notebooks)

    def edition(self, word: str, accept: Callable[[str, str], bool] | None = None) -> Edition:
        """The edition that a word names, read from disk."""
        plan = self.plan(word)
        return Edition({name: self.module(plan[name], name, accept) for name in self.names})

    def plan(self, word: str) -> dict[str, str]:
        """Exercise module -> "mine", "reference", "hybrid" or "stub"."""
        kind, colon, listed = word.partition(":")
        chosen = [name.strip() for name in listed.split(",")] if colon else self.names
        if kind not in ("mine", "reference", "hybrid", "stub") or (colon and kind not in REST):
            raise CourseError(f"there is no edition {word!r}. Write {WORDS}.")
        if unknown := [name for name in chosen if name not in self.names]:
            raise CourseError(
                f"{word!r} names no exercise module with {unknown[0]!r}. They are {', '.join(self.names) or 'none'}."
            )
        plan = {name: kind if name in chosen else REST[kind] for name in self.names}
        if {*plan.values(), kind} != {"mine"} and not self.solutions.is_dir() and not (self.sealed and kind == "stub"):
            raise CourseError(
                f"{word!r} needs the reference, and there is no folder {self.solutions}. Only 'mine' can be used here."
            )
        return plan

    def module(self, kind: str, name: str, accept: Callable[[str, str], bool] | None = None) -> Module:
        """One module of one of the four editions."""
        if kind == "mine":
            return read_module(self.mine / f"{name}.py")
        if kind == "stub" and self.sealed:
            return read_module(self.stubs / f"{name}.py")
        reference = Edition({name: read_module(self.solutions / f"{name}.py")})
        if kind == "reference":
            return reference[name]
        stub = strip(reference, self.notebooks)
        return stub[name] if kind == "stub" else self._hybrid(name, reference, stub, accept)[name]

    def filled_in(self, name: str) -> list[str]:
        """The definitions of one module that are no longer the stub's.

        Raises SyntaxError for a file that cannot be read.
        """
        mine, stub = self.module("mine", name), self.module("stub", name)
        return [d for d in dict.fromkeys(stub.definitions) if (own := mine.find(d)) and not own.same_as(stub.find(d))]

    def _hybrid(
        self, name: str, reference: Edition, stub: Edition, accept: Callable[[str, str], bool] | None
    ) -> Edition:
        """The reference, with every definition of mine in its place that is filled in and accepted.

        `accept` takes module and definition and says whether mine passes; without it, all are
        accepted.
        """
        file = self.mine / f"{name}.py"
        try:
            mine = Edition({name: read_module(file)})
        except (SyntaxError, FileNotFoundError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else "the file is missing"
            line = getattr(error, "lineno", None) or 1
            warnings.warn_explicit(
                f"{reason}; the reference stands in for all of {name}", EditionWarning, str(file), line
            )
            return reference
        hybrid = reference
        for definition in dict.fromkeys(stub[name].definitions):
            own = mine[name].find(definition)
            if own and not own.same_as(stub[name].find(definition)) and (accept is None or accept(name, definition)):
                hybrid = transplant(hybrid, f"{name}.{definition}", mine)
        return hybrid


class EditionWarning(UserWarning):
    """A file cannot be read, and the reference stands in for it."""
