"""Stage 11 in small steps: no library for what a loop can do."""

from __future__ import annotations

import difflib
import functools
import inspect


class Config(dict):
    """Given; the judge uses the reference's."""


class Registry:
    def __init__(self, name: str):
        self.name = name
        self._parts = {}

    def register(self, part=None):
        if part is not None:
            return self._keep(part)

        def decorator(later):
            return self._keep(later)

        return decorator

    def _keep(self, part):
        if not inspect.isclass(part) and not inspect.isfunction(part):
            raise TypeError(f"{self.name} keeps classes and functions, and {part} is none")
        for name, old in self._parts.items():
            if name == part.__name__ and old is not part:
                raise ValueError(f"{self.name} has a {name} from {old.__module__} and now one from {part.__module__}")
        self._parts[part.__name__] = part
        return part

    def get(self, name: str):
        for known, part in self._parts.items():
            if known == name:
                return part
        message = f"{self.name} has no {name}."
        for near in difflib.get_close_matches(name, self._parts, n=1):
            message += f" Perhaps you mean {near}."
        for known in self._parts:
            message += f" {known}"
        raise KeyError(message)

    def __contains__(self, name):
        return name in self._parts

    def __iter__(self):
        return iter(sorted(self._parts))

    def __len__(self):
        return len(self._parts)


def configurable(init):
    assert inspect.isfunction(init)
    assert init.__name__ == "__init__"

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        from_config = getattr(self.__class__, "from_config", None)
        if from_config is None:
            raise AttributeError("from_config is missing")
        if not hasattr(from_config, "__self__"):
            raise TypeError("from_config must be a classmethod")
        by_config = False
        if len(args) > 0:
            by_config = isinstance(args[0], Config)
        elif "cfg" in kwargs:
            by_config = isinstance(kwargs["cfg"], Config)
        if not by_config:
            return init(self, *args, **kwargs)
        parameters = list(inspect.signature(from_config).parameters.values())
        if len(parameters) == 0 or parameters[0].name != "cfg":
            raise TypeError("the first argument of from_config is cfg")
        all_of_them = False
        names = []
        for parameter in parameters:
            names.append(parameter.name)
            if parameter.kind is parameter.VAR_POSITIONAL or parameter.kind is parameter.VAR_KEYWORD:
                all_of_them = True
        for_config, for_init = {}, {}
        for name, value in kwargs.items():
            if all_of_them or name in names:
                for_config[name] = value
            else:
                for_init[name] = value
        arguments = dict(from_config(*args, **for_config))
        arguments.update(for_init)
        return init(self, **arguments)

    return wrapper
