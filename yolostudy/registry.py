"""How an engine finds its parts: by name, and from a configuration.

Sources: fvcore `common/registry.py` (Registry); detectron2 `config/config.py` (configurable). Both
at small size.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping


class Registry:
    """Parts by name, so that a line of a configuration can choose one.

        BACKBONES = Registry("backbone")

        @BACKBONES.register()          # also without parentheses
        class Small(nn.Module): ...

        BACKBONES.register(Large)      # also as a call
        BACKBONES.get("Small")         # the class, not an instance

    The name of a part is its `__name__`. `in`, `len` and a loop over the sorted names work.

    Args:
        name: what kind of parts these are; the errors say it.
    """

    def __init__(self, name: str):
        self.name = name
        self._parts: dict[str, object] = {}

    def register(self, part: object = None):
        """Keep a class or a function under its name, and return it.

        Without a part, return a decorator. To register the very same object again does no harm.

        Errors: TypeError for what is neither a class nor a function, such as an instance; ValueError
            if another object has the name already: it says in which modules both stand.
        """
        raise NotImplementedError("exercise registry.Registry: course/11_engines.ipynb")

    def get(self, name: str):
        """The part of that name.

        Errors: KeyError; it says which names there are and which is nearest. A name is missing too
            where nobody has imported the module that registers it.
        """
        raise NotImplementedError("exercise registry.Registry: course/11_engines.ipynb")

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __len__(self) -> int:
        return len(self._parts)


class Config(dict):
    """Settings by name, also as attributes: `cfg.head.reg_max`. Dictionaries inside become ones too.

    Only a Config counts as a configuration: `configurable` takes a plain dictionary as an argument.
    """

    def __init__(self, values: Mapping = {}, **more):
        super().__init__({**values, **more})
        for name, value in self.items():
            if isinstance(value, dict):
                self[name] = Config(value)

    def __getattr__(self, name: str):
        if name not in self:
            raise AttributeError(f"this configuration has no {name}. It has {', '.join(self) or 'nothing'}.")
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def clone(self) -> Config:
        """A copy that shares nothing with this one, lists included."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict) -> Config:
        return Config({name: copy.deepcopy(value, memo) for name, value in self.items()})


def configurable(init: Callable) -> Callable:
    """Decorate `__init__`, so that an object can also be made from a configuration.

        class Head:
            @configurable
            def __init__(self, channels, reg_max=16): ...

            @classmethod
            def from_config(cls, cfg, channels):
                return {"channels": channels, "reg_max": cfg.head.reg_max}

        Head(64, reg_max=8)                  # as if there were no decorator
        Head(cfg, channels=64)               # from_config says the arguments
        Head(cfg=cfg, channels=64, reg_max=8)   # an explicit argument wins over the configuration

    `from_config` of the object's own class is asked when the first positional argument, or the
    keyword `cfg`, is a `Config`; a plain dictionary is an ordinary argument. It gets all positional
    arguments and those keywords that its signature names, or all of them if it has `*args` or
    `**kwargs`. The other keywords go to `__init__` as they are, and win. What `from_config` returned
    is not changed.

    Errors: AssertionError if what is decorated is not a function `__init__`. At each call, with a
        configuration or without: AttributeError where the class has no `from_config`, TypeError
        where it is no classmethod. With a configuration: TypeError if its first argument is not
        called `cfg`.
    """
    raise NotImplementedError("exercise registry.configurable: course/11_engines.ipynb")
