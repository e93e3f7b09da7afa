"""The desk: the commands that write into the learner's files. Nothing is ever lost there.

Each one writes a single definition, and the version before it stays in the history.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .course import Course
from .errors import Refusal
from .fill_cell import read_cell
from .history import History, Version, digest
from .page import Change, Page, unified
from .regions import BEGIN, END


class Desk:
    """Writes into the learner's files of one course, and remembers every version of them."""

    def __init__(self, course: Course):
        self.course = course

    def fill(self, name: str, text: str, writer: str = "") -> Change:
        """Puts `module.Name` of a notebook cell into its file, with the helpers that it uses.

        Args:
            text: the cell.
            writer: the notebook. What it did not write itself is overwritten only when the same
                cell comes a second time; the first time raises Refusal with the diff.
        """
        with self._open(name) as page:
            cell = read_cell(page.definition, text)
            new, stub, old = (m.find(page.definition) for m in (cell, page.stub, page.base))
            if new.same_as(stub) and old and page.content is not None:
                holds = "your work, which stays" if page.error or not old.same_as(stub) else "the stub too"
                return page.change("fill", f"this cell is the untouched stub of {name}; {page.shown} holds {holds}")
            merged, own = page.merge(cell), {n for s in page.parts(cell)[:-1] for n in s.binds - page.given - {"*"}}
            page.refuse_once(merged, writer)
            said = f"wrote {name} into {page.shown}" + (f", with {', '.join(sorted(own))}" if own else "")
            left = {
                n
                for s in page.changed_givens(cell)
                for n in s.binds & page.given
                if (kept := merged.find(n)) and not kept.same_as(s)
            }
            if left:
                said += (
                    f"; {', '.join(sorted(left))} stayed as the file has it: a fill writes one definition and your "
                    "own helpers"
                )
            return page.write("fill", merged, said, writer=writer)

    def solve(self, name: str) -> Change:
        """Puts the reference's definition into the file."""
        with self._open(name) as page:
            reference = self.course.module("reference", page.module)
            return page.write("solve", page.merge(reference), f"wrote the reference's {name} into {page.shown}")

    def reset(self, name: str) -> Change:
        """Puts the stub's definition into the file. The learner's helpers stay."""
        with self._open(name) as page:
            return page.write("reset", page.merge(page.stub), f"put the stub of {name} back into {page.shown}")

    def undo(self, name: str) -> Change:
        """Goes one version back, and with each further call one further.

        A module's name means its whole file. What is written after an undo continues from the
        version that undo had reached.
        """
        with self._open(name, whole=True) as page:
            version = page.newest  # the file may lack even this one: the definition is deleted or cannot be read
            while version:
                if not (page.error and isinstance(page.history.module(version.sha), SyntaxError)):
                    change = page.bring("undo", version, to=version.number)
                    if change.written:
                        return change
                version = page.versions.get(version.back)
            return page.change("undo", f"there is no earlier version of {name}")

    def restore(self, name: str, number: int) -> Change:
        """Brings any version back."""
        with self._open(name, whole=True) as page:
            if number not in page.versions:
                raise Refusal(
                    f"there is no version {number} of {name}. `yolostudy undo {name} --list` lists those that there "
                    "are."
                )
            return page.bring("restore", page.versions[number])

    def versions(self, name: str) -> list[Version]:
        """Every version of a definition, or of a module, that was written or seen; oldest first."""
        with self._open(name, whole=True) as page:
            return [*page.versions.values()]

    def notice(self, module: str) -> None:
        """Remembers the file of a module as it is now, if it has changed since it was last seen."""
        history = History(self.course, module)
        with history.locked():
            history.see()

    def diff(self, name: str, other: str = "reference") -> str:
        """A diff to mine, from the "reference", the "stub", or the version before ("last")."""
        with self._open(name) as page:
            if other == "last":
                newest = page.newest
                before = page.versions.get(newest.back) if newest and newest.text == page.text else newest
                theirs = before.text if before else ""
            elif other in ("reference", "stub"):
                theirs = self.course.module(other, page.module).find(page.definition).text
            else:
                raise Refusal(f'there is nothing called {other!r} to compare with. Say "reference", "stub" or "last".')
            return unified(_unmarked(theirs), _unmarked(page.text), f"{name} ({other})", f"{name} (mine)")

    @contextmanager
    def _open(self, name: str, whole: bool = False) -> Iterator[Page]:
        """The learner's file around a definition.

        With `whole`, a module's name opens its whole file.
        """
        module, _, definition = name.partition(".")
        history = History(self.course, module)
        self.course.plan("stub")  # raises CourseError if there are no solutions to make a stub of
        with history.locked(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns where the code is run; once is enough
            stub = self.course.module("stub", module)
            if definition not in stub.definitions and not (whole and name == module):
                known = ", ".join(f"{module}.{d}" for d in dict.fromkeys(stub.definitions))
                raise Refusal(f"{module} has no definition {definition!r}. There are: {known}.")
            content = history.see()
            mine = stub if content is None else history.module(digest(content))
            shown = history.file.relative_to(self.course.root).as_posix()
            yield Page(name, module, definition, history, shown, content, stub, mine)


def _unmarked(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() not in (BEGIN, END))
