"""Build a YOLOv8-class detector from an empty package, and see inside every part of it.

Flat files are the learner's, folders are given. `yolostudy.use(...)` decides whose version of the
flat files is imported.
"""

import importlib
import os
import sys

# torch's threads wait for work in a loop of so many turns, then sleep. Their default is so long that beside two busy
# processes a training step takes six times as long (tests/benchmarks/busy.py). libgomp reads this as torch is loaded.
if "torch" not in sys.modules:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.1.0"
__all__ = ["describe", "use", "using"]


def __getattr__(name: str):
    if name in __all__:  # the course machine is imported when it is first asked for
        return getattr(importlib.import_module(".study.edition_in_use", __name__), name)
    if name == "study":
        return importlib.import_module(".study", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell) -> None:
    """`%load_ext yolostudy`: fill cells, cards, and the words check, hint, solve, reset, undo,
    diff, progress.
    """
    importlib.import_module(".study.notebook", __name__).load(shell)


def unload_ipython_extension(shell) -> None:
    importlib.import_module(".study.notebook", __name__).unload(shell)


_kept = os.path.join(os.path.dirname(os.path.dirname(__file__)), ".yolostudy", "use")  # what `yolostudy use` wrote
if os.environ.get("YOLOSTUDY_USE", "") != "mine" and (os.environ.get("YOLOSTUDY_USE") or os.path.exists(_kept)):
    importlib.import_module(".study.edition_in_use", __name__).inherit()
