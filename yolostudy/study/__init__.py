"""The course machine.

Exercise modules are sources to it, and observations are data, so it could carry another course.

- `edition` (a set of sources) <- `course` (where they lie) <- `edition_in_use` (`yolostudy.use`)
- `edition` <- `exercise` (probe, misconception) <- `judge` (observe, compare, diagnose); it gives a
  `verdict`, runs answers in `isolation` and reads the key of a `sealed` course
- `edition` <- `history` (versions of the learner's files) <- `page` (one file) <- `desk` (fill,
  solve, reset, undo)
- all of these <- `learner` (check, hint, solve, progress) <- `notebook`, `museum`
- `grading` judges learners' packages, `authoring` releases, builds and checks the course
"""

import importlib

__all__ = ["check", "diff", "hint", "mistaken", "package", "progress", "rehearse"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(importlib.import_module(".learner", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
