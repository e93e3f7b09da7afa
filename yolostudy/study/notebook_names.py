"""Names in a notebook follow the edition in use.

`from yolostudy.blocks import SPPF` binds a name to a class of the edition that was in use at that
moment. When the modules are read again, each such name is bound to what the new module holds.
Names of the learner's own, and values inside a list or a dict, stay as they are.
"""

import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

OUTPUT = re.compile(r"_+\d*")  # `_`, `__`, `_12`: IPython keeps the outputs of cells there and must find them unchanged


class Origin(NamedTuple):
    """Where a value was imported from."""

    module: str  # the full name
    attribute: str  # empty for the module itself


class NotebookNames:
    """The names of this process's notebook that came from a package.

    `collect` them before the modules of the package are forgotten, `rebind` them afterwards.
    """

    def __init__(self, package: str):
        self.package = package
        self._bound: dict[str, tuple[object, Origin]] = {}  # name -> its value when it was last seen, and the origin

    def collect(self) -> None:
        """Remember which names came from the package."""
        found = {name: (value, self._origin(name, value)) for name, value in list(_namespace().items())}
        self._bound = {name: (value, origin) for name, (value, origin) in found.items() if origin}

    def rebind(self, import_module: Callable[[str], ModuleType | None]) -> None:
        """Bind each collected name to what its module holds now.

        A name that the module lacks stays as it was.
        """
        modules = {name: import_module(name) for name in {origin.module for _, origin in self._bound.values()}}
        for name, (_, origin) in self._bound.items():
            module = modules[origin.module]
            value = getattr(module, origin.attribute, None) if origin.attribute else module
            if value is not None:
                _namespace()[name] = value
                self._bound[name] = value, origin

    def _origin(self, name: str, value: object) -> Origin | None:
        if OUTPUT.fullmatch(name):
            return None
        value_before, origin = self._bound.get(name, (None, None))
        if origin and value is value_before:  # its module may be gone, or another one stood in for it
            return origin
        if isinstance(value, ModuleType):
            return Origin(value.__name__, "") if value.__name__.startswith(f"{self.package}.") else None
        home = getattr(value, "__module__", None)
        if not isinstance(home, str) or not home.startswith(f"{self.package}."):
            return None
        attribute = getattr(value, "__qualname__", "")
        held = vars(sys.modules[home]).get(attribute) if home in sys.modules else None
        return Origin(home, attribute) if held is value else None


def _namespace() -> dict[str, object]:
    """The names of the notebook or IPython session in this process; empty where there is none.

    IPython is not imported for it.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return shell.user_ns if shell else {}
