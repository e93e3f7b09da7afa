"""Build a YOLOv8-class detector from an empty package, and see inside every part of it.

Flat files are the learner's, folders are given. `yolostudy.use(...)` decides whose version of the flat files is imported.
"""

import importlib
import os

__version__ = "0.1.0"
__all__ = ["describe", "use", "using"]


def __getattr__(name: str):
    if name in __all__:  # the course machine is imported when it is first asked for
        return getattr(importlib.import_module(".study.overlay", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if os.environ.get("YOLOSTUDY_USE", "mine") not in ("", "mine"):
    importlib.import_module(".study.overlay", __name__).inherit()
