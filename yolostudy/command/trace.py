"""`yolostudy trace`: run something, then print or write who called whom in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..lens.calls import tree as call_tree
from .settings import number, refuse_unknown

KINDS = {
    ".txt": call_tree.as_text,
    ".json": call_tree.as_json,
    ".mmd": call_tree.as_mermaid,
    ".trace": call_tree.as_chrome,
}
KEYS = ("packages=torch.nn,mine", "depth=4", "from=NAME", "to=NAME", "find=TEXT", f"out=FILE{'|'.join(KINDS)}")
SCENES = {"ultralytics-pose": "pose", "ultralytics-detect": "detect"}


@contextmanager
def scene(what: str) -> Iterator[tuple[Callable, tuple[str, ...]]]:
    """A callable without arguments, and the packages to watch in it."""
    if what in SCENES:
        from ..bridge import scenes

        with scenes.trainer(SCENES[what]) as trainer:
            yield trainer.train, ("ultralytics",)
    elif what == "ours":
        from ..runs.sample import sample_trainer

        yield sample_trainer().train, ("yolostudy",)
    else:
        yield named(what), ()


def named(what: str) -> Callable:
    """What `package.module:function` or `package.module:Class.method` names.

    Modules in the working directory are found too.
    """
    module, colon, path = what.partition(":")
    if not colon or not path:
        raise ValueError(
            f"trace: {what!r} is none of {', '.join(SCENES)}, ours. For your own code write MODULE:CALLABLE, such as "
            "mine:main."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"trace: there is no module {module!r}. It is searched where Python imports from, and in this folder."
        ) from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"trace: {module} has no {path}.")
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"trace: {what} cannot be called. Name a function, a method or a class.")
    return found


def run(what: str, settings: dict[str, str], rest: Sequence[str] = ()) -> int:
    """Record, print, write.

    An interrupt or an exception ends the recording; what was recorded until then is shown.
    """
    from .. import trace

    check(settings, rest)
    out = Path(settings["out"]) if "out" in settings else None
    depth = number("depth", settings.get("depth", "4"), int)
    tree, failed = trace.Call("record"), None
    with scene(what) as (function, packages):
        packages = tuple(settings["packages"].split(",")) if settings.get("packages") else packages
        try:
            trace.record(function, packages=packages, into=tree)
        except (Exception, KeyboardInterrupt) as error:
            failed = error
    if failed is not None:
        print(f"ended by {type(failed).__name__}: {failed}. What was recorded until then:", file=sys.stderr)
    chain = trace.path_between(tree, settings["from"], settings["to"]) if "from" in settings else []
    print(report(tree, depth, settings, chain))
    if out:
        text = call_tree.as_mermaid(tree, depth, chain) if out.suffix == ".mmd" else KINDS[out.suffix](tree)
        out.write_text(text + "\n", encoding="utf-8")
        print(f"written: {out}")
    return int(failed is not None or ("from" in settings and not chain))


def check(settings: dict[str, str], rest: Sequence[str]) -> None:
    """Refuse wrong settings before anything runs."""
    if rest:
        raise ValueError(f"trace: {rest[0]!r} is not key=value. Known keys: {' '.join(KEYS)}.")
    refuse_unknown("trace", settings, KEYS)
    if ("from" in settings) != ("to" in settings):
        raise ValueError(
            "trace: from= and to= belong together, such as from=BaseTrainer._do_train to=v8PoseLoss.__call__."
        )
    if "out" in settings and Path(settings["out"]).suffix not in KINDS:
        raise ValueError(f"trace: out={settings['out']} must end in one of {', '.join(KINDS)}.")


def report(tree, depth: int, settings: dict[str, str], chain: Sequence) -> str:
    """The chain between `from=` and `to=`, the rows that `find=` finds, or the whole tree."""
    root = call_tree.fold(tree)
    if "from" in settings:
        lines = []
        for level, call in enumerate(chain):
            lines.append(f"{'   ' * level}{call_tree.fold(call).name}  {call_tree.place(call)}")
            lines += [
                f"{'   ' * level}       {name} = {call_tree.say(value, 400)}" for name, value in call.arguments.items()
            ]
        return "\n".join(lines) or f"No call of {settings['to']} was made inside a {settings['from']}."
    if "find" in settings:
        lines = [
            f"{row.name} × {row.count}  {row.place}\n    below {' > '.join(r.name for r in above[1:])}"
            for row, above in call_tree.find(root, settings["find"])
        ]
        return "\n".join(lines) or f"No call has {settings['find']!r} in its name or place."
    return f"{call_tree.as_text(root, depth)}\n{root.total - 1} calls"
