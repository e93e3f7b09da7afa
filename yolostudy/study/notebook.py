"""The course in a notebook: `%load_ext yolostudy`.

A cell whose first line is `#| fill blocks.SPPF` is plain Python. After it has run, its definition
is written into the learner's file, the package is read again, names in the notebook follow, and the
card shows the verdict.
"""

import builtins
import os
import sys
import traceback

from . import card, edition_in_use, learner
from .edition import parse
from .errors import CourseError
from .fill_cell import exercise_of
from .progress import Progress
from .verdict import NOT_YET, Verdict

FUNCTIONS = ("check", "hint", "solve", "reset", "undo", "diff", "progress")  # that a notebook gets
USAGE = """%yolostudy stage N       mine for the modules of stage N, hybrid for the rest
%yolostudy use WORD      mine, reference, hybrid, reference:losses,assigner, mine:losses
%yolostudy check|hint|solve|reset|undo|diff [EXERCISE]
%yolostudy status        the progress map"""


class Notebook:
    """The course in one kernel.

    `last` is the exercise that `check()` or `hint()` without a name means.
    """

    def __init__(self, shell):
        self.shell, self.last = shell, ""
        self.stamps = self._stamps()

    # ---- hooks -----------------------------------------------------------------------------------

    def before(self, info) -> None:
        """Before each cell: reads edited files again, and prepares a fill cell.

        The cell gets the names that its module has and the notebook lacks.
        """
        if self._stamps() != self.stamps:
            self.follow()
        text = info.raw_cell or ""
        if not (name := exercise_of(text)):
            return
        try:
            module = name.partition(".")[0]
            cell = parse(text, edition_in_use.course().mine / f"{module}.py")
            used = frozenset().union(*(statement.uses for statement in cell.statements))
            lacking = [n for n in used if n not in self.shell.user_ns and not hasattr(builtins, n)]
            given = getattr(edition_in_use.module(module), "__dict__", {}) if lacking else {}
            self.shell.user_ns.update({n: given[n] for n in lacking if n in given})
        except (CourseError, SyntaxError):
            pass  # after the cell, the card says what is wrong

    def after(self, result) -> None:
        """After each cell: writes a fill cell into the learner's file and judges it."""
        if not (name := exercise_of(result.info.raw_cell or "")):
            return
        try:
            self.fill(name, result.info.raw_cell, result.error_before_exec, result.error_in_exec)
        except CourseError as error:
            self.say(name, str(error), getattr(error, "diff", ""))
        except Exception:  # a bug of ours: IPython would hide the traceback
            traceback.print_exc()

    def fill(
        self, name: str, text: str, unread: BaseException | None = None, raised: BaseException | None = None
    ) -> None:
        exercise = learner.judge().exercise(name)
        self.last = exercise.name
        if isinstance(unread, SyntaxError):
            where = f"line {unread.lineno} of this cell: {unread.msg}"
            self.show(Verdict(exercise, NOT_YET, problem=f"Nothing was written, because Python cannot read {where}."))
            return
        change = None
        if not learner.uses_reference(exercise.module):
            # the notebook's path, as JupyterLab gives it or VS Code
            writer = os.environ.get("JPY_SESSION_NAME") or str(self.shell.user_ns.get("__vsc_ipynb_file__", ""))
            change = learner.fill(exercise.name, text, writer)
        self.follow([exercise])
        if isinstance(raised, KeyboardInterrupt):
            said = "The cell was interrupted, so nothing was checked: check() does it."
            self.say(exercise.name, f"{change.message if change else ''} {said}".strip())
            return
        self.show(learner.check(exercise.name), change)

    # ---- names -----------------------------------------------------------------------------------

    def follow(self, exercises=()) -> None:
        """Reads the package again, with the names of the notebook that came from it.

        The given exercises are bound too.
        """
        self.stamps = self._stamps()
        edition_in_use.reload()
        for exercise in exercises:
            value = getattr(edition_in_use.module(exercise.module), exercise.definition, None)
            if value is not None:
                self.shell.user_ns[exercise.definition] = value

    @staticmethod
    def _stamps() -> dict:
        course = edition_in_use.course()
        files = [course.mine / f"{name}.py" for name in course.names]
        return {file: (s.st_mtime_ns, s.st_size) for file in files if file.exists() and (s := file.stat())}

    # ---- functions of the notebook ---------------------------------------------------------------

    def name(self, name: str) -> str:
        """The exercise or module that is meant, the last exercise if none is named."""
        if not (name or self.last):
            raise CourseError('say which exercise, such as check("blocks.ConvModule").')
        if name not in edition_in_use.course().names:
            self.last = learner.judge().exercise(name or self.last).name
            return self.last
        return name

    def check(self, name: str = ""):
        """Judge an exercise, the last one if none is named.

        A stage (2) or a module ("blocks") means all of its exercises.
        """
        chosen = learner.judge().select(str(name)) if name else [learner.judge().exercise(self.name(""))]
        if len(chosen) == 1:
            self.last = chosen[0].name
            self.show(learner.check(self.last))
            return
        verdicts = [learner.check(exercise.name) for exercise in chosen]
        for verdict in verdicts:
            print(verdict.line)

    def hint(self, name: str = "") -> None:
        """The next hint for an exercise, the last one if none is named."""
        name = self.name(name)
        self.say(name, learner.hint(name), colour=card.GREY)

    def solve(self, name: str = "") -> None:
        """Write the solution into my file. undo() takes it back."""
        self._write("solve", self.name(name))

    def reset(self, name: str = "") -> None:
        """Put the stub back. undo() takes it back."""
        self._write("reset", self.name(name))

    def undo(self, name: str = "") -> None:
        """Go one version of my definition back, and with each further call one further."""
        self._write("undo", self.name(name))

    def diff(self, name: str = "") -> None:
        """Show mine beside the reference, once mine passes."""
        name = self.name(name)
        self.display(card.side_by_side(*learner.diff(name), name), f"{name}: mine and the reference")

    def progress(self, word: str = ""):
        """The progress map."""
        return learner.progress(str(word))

    def _write(self, word: str, name: str) -> None:
        change = learner.write(word, name)
        known = learner.judge().exercises.get(name)
        self.follow([known] if known else [])
        self.say(name, change.message, change.diff, card.GREY)
        if known:
            print(learner.check(name).line)

    def magic(self, line: str) -> object:
        """`%yolostudy WORD …`."""
        word, *rest = line.split() or [""]
        if word == "stage" and len(rest) == 1:
            return self.stage(rest[0])
        if word == "use" and len(rest) == 1:
            edition_in_use.use(rest[0])
            print(edition_in_use.describe())
        elif word == "status":
            return self.progress(*rest)
        elif word in FUNCTIONS and len(rest) < 2:
            return getattr(self, word)(*rest)
        else:
            print(USAGE)

    def stage(self, number: str) -> None:
        """Use mine for the modules of a stage and hybrid for the rest.

        An edition that the environment named stays in use.
        """
        exercises = learner.judge().exercises.values()
        modules = list(dict.fromkeys(e.module for e in exercises if str(e.stage) == number.lstrip("0")))
        if not modules and number.strip("0"):
            stages = ", ".join(map(str, sorted({e.stage for e in exercises})))
            raise CourseError(f"there are no exercises of stage {number!r}; there are those of {stages}.")
        if not edition_in_use.inherited():
            edition_in_use.use(f"mine:{','.join(modules)}" if modules else "hybrid")
        print(edition_in_use.describe())

    # ---- showing ---------------------------------------------------------------------------------

    def show(self, verdict: Verdict, change=None) -> None:
        """Show the card, and under it one plain line without a float.

        Under an answer that does not pass yet stands a button for the next hint.
        """
        self.display(card.card(verdict, change), str(verdict))
        if verdict.state == NOT_YET:
            self._hint_button(verdict)
        print(verdict.line)

    def say(self, name: str, message: str, diff: str = "", colour: str = card.AMBER) -> None:
        self.display(card.notice(name, message, diff, colour), f"{name}: {message}" + (f"\n{diff}" if diff else ""))

    @staticmethod
    def display(page: str, text: str) -> None:
        from IPython.display import display

        display({"text/html": page, "text/plain": text}, raw=True)

    @staticmethod
    def _hint_button(verdict: Verdict) -> None:
        """Show hint 1, and a button that adds the others one by one."""
        import ipywidgets
        from IPython.display import display

        name, total = verdict.exercise.name, len(verdict.exercise.hints)
        shown = max(1, Progress(edition_in_use.course()).get(name)["hints"])

        def page() -> str:
            hints = enumerate(verdict.exercise.hints[:shown], start=1)
            return "".join(f"<div>Hint {number} of {total}: {card.prose(hint)}</div>" for number, hint in hints)

        text = ipywidgets.HTML(page())
        button = ipywidgets.Button(description="next hint", disabled=shown >= total)

        def more(_) -> None:
            nonlocal shown
            shown += 1
            Progress(edition_in_use.course()).put(name, hints=shown)
            text.value, button.disabled = page(), shown >= total

        button.on_click(more)
        display(ipywidgets.VBox([text, button]))


def load(shell) -> None:
    """What `%load_ext yolostudy` does. It may be done twice."""
    unload(shell)
    notebook = shell.yolostudy = Notebook(shell)
    shell.events.register("pre_run_cell", notebook.before)
    shell.events.register("post_run_cell", notebook.after)
    shell.register_magic_function(notebook.magic, "line", edition_in_use.PACKAGE)
    shell.push({word: getattr(notebook, word) for word in FUNCTIONS})
    shell.set_custom_exc((CourseError,), _short_error)


def _short_error(shell, kind, error, trace, tb_offset=None):
    """Prints only the sentence of an error that the learner can correct: our frames do not help."""
    print(f"{error}", file=sys.stderr)
    return []


def unload(shell) -> None:
    if old := getattr(shell, "yolostudy", None):
        shell.events.unregister("pre_run_cell", old.before)
        shell.events.unregister("post_run_cell", old.after)
        del shell.yolostudy
