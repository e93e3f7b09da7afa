"""The course machine. To it, exercise modules are sources and observations are data: it could carry
another course.

`edition` (a set of sources) <- `course` (where they lie) <- `edition_in_use` (`use`), `authoring`
(release, build, check); `edition` <- `exercise` (probe, misconception) <- `judge` (observe,
compare, diagnose) <- `learner` (check, hint, solve) <- `notebook`; `desk` (fill, solve, reset,
undo, history) stands on `edition` alone.
"""

import importlib

__all__ = ["check", "diff", "hint", "mistaken", "package", "progress", "rehearse"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module(".learner", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
