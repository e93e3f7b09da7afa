"""Rooms of classes that are built from a configuration.

The rules are those of `configurable` in detectron2's `config/config.py`. Room 74 is issue 2065 of
detectron2.
"""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace

from yolostudy.study.museum import Room


class Config(dict):
    """A configuration: a dict whose keys are attributes too."""

    def __getattr__(self, name: str):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no {name}") from None


def arguments(from_config: Callable, args: tuple, given: dict) -> dict:
    """What `__init__` gets: what `from_config` makes of the configuration, then the explicit ones.

    A keyword that `from_config` takes goes there and not to `__init__`.
    """
    names = inspect.signature(from_config).parameters.values()
    if any(name.kind is name.VAR_KEYWORD for name in names):
        return from_config(*args, **given)
    known = {name.name for name in names}
    taken = {key: value for key, value in given.items() if key in known}
    return from_config(*args, **taken) | {key: value for key, value in given.items() if key not in known}


def decorator(kind: type = Config, of_whom: Callable = lambda self, wrapped: type(self)) -> Callable:
    """`configurable` with two places for a mistake.

    Args:
        kind: an object of this class is a configuration.
        of_whom: (object, its `__init__`) -> the class whose `from_config` is asked.
    """

    def configurable(init: Callable) -> Callable:
        @functools.wraps(init)
        def wrapped(self, *args, **given):
            if isinstance(args[0] if args else given.get("cfg"), kind):
                init(self, **arguments(of_whom(self, wrapped).from_config, args, given))
            else:
                init(self, *args, **given)

        return wrapped

    return configurable


def where_it_was_decorated(self, wrapped: Callable) -> type:
    return next(kind for kind in type(self).__mro__ if vars(kind).get("__init__") is wrapped)


RIGHT = SimpleNamespace(Config=Config, configurable=decorator())
configurable = RIGHT.configurable

any_dict = Room(
    72,
    "gains are given, and the defaults are used",
    "The first argument of this class is a dict of gains. The test for a configuration accepts every dict, so the "
    "gains went to `from_config`, which found none of its keys and took the defaults. Test for the class of "
    "configurations. Then a plain dict is argument one, as in detectron2: who wants a configuration has to make one.",
    broken=SimpleNamespace(Config=Config, configurable=decorator(kind=dict)),
    fixed=RIGHT,
)


def weighted(engine, heard: list | None = None):
    """A loss whose argument is a dict of gains, given explicitly."""

    class Loss:
        @engine.configurable
        def __init__(self, gains):
            self.gains = gains

        @classmethod
        def from_config(cls, cfg):
            if heard is not None:
                heard.append(cfg)
            return {"gains": cfg.get("gains", {"box": 7.5})}

    return Loss({"box": 9.0})


@any_dict.look
def _(engine):
    gains = weighted(engine).gains
    return gains != {"box": 9.0}, f"a box gain of 9 was given, the loss has {gains['box']:g}"


@any_dict.find("the repr and the type of what `from_config` was given")
def _(engine):
    heard = []
    weighted(engine, heard)
    return "\n".join(f"{found!r}, a {type(found).__name__}" for found in heard) or "it was not called"


class Swallowing:
    """A head whose `from_config` takes every keyword."""

    @configurable
    def __init__(self, channels: int, activation: str = "silu"):
        self.channels, self.activation = channels, activation

    @classmethod
    def from_config(cls, cfg, **_rest):
        return {"channels": cfg.channels}


class Head(Swallowing):
    """The same, but it takes the configuration only."""

    @classmethod
    def from_config(cls, cfg):
        return {"channels": cfg.channels}


CONFIG = Config(channels=64)
an_override_is_lost = Room(
    73,
    "an explicit argument has no effect",
    "`from_config(cls, cfg, **kw)` takes every keyword, so the explicit argument went there, and it was not in what "
    "came back. Only keywords that `from_config` does not take are passed on to `__init__`. Name the ones that it "
    "needs and leave `**kw` out. Where it has to stay, return `kw` with the rest.",
    broken=Swallowing,
    fixed=Head,
)


@an_override_is_lost.look
def _(kind):
    found = kind(CONFIG, activation="relu").activation
    return found != "relu", f"activation='relu' was given, the head has {found}"


@an_override_is_lost.find("the signature of `from_config`, and the value with and without a configuration")
def _(kind):
    explicit = kind(64, activation="relu").activation
    return f"from_config{inspect.signature(kind.from_config)}; all arguments explicit: {explicit}"


def positional(kind: type):
    return kind(CONFIG, "relu")


def by_name(kind: type):
    return kind(CONFIG, activation="relu")


three_were_given = Room(
    74,
    "takes 2 positional arguments but 3 were given",
    "With a configuration first, every further positional argument goes to `from_config`, which takes the class and "
    "the configuration. The message counts the class, so its numbers look wrong, and its name is not the one that was "
    "called. After a configuration give arguments by name.",
    broken=positional,
    fixed=by_name,
)


@three_were_given.look
def _(build):
    return False, f"the head has {build(Head).activation}"


@three_were_given.find("the signatures of both functions")
def _(build):
    """Of the one that was called, and of the one that got the arguments."""
    return f"__init__{inspect.signature(Head.__init__)}\nfrom_config{inspect.signature(Head.from_config)}"


of_the_parent = Room(
    75,
    "a subclass is built with its parent's configuration",
    "`from_config` was looked up in the class where `__init__` was decorated. The subclass inherits `__init__` and has "
    "a `from_config` of its own, which nobody asks. Ask `type(self).from_config`: the class of the object, which is "
    "known only when it is built.",
    broken=SimpleNamespace(Config=Config, configurable=decorator(of_whom=where_it_was_decorated)),
    fixed=RIGHT,
)


def subclass(engine) -> tuple[object, list[str]]:
    """A pose head that inherits `__init__`, and the classes whose `from_config` was called."""
    asked = []

    class BoxHead:
        @engine.configurable
        def __init__(self, channels):
            self.channels = channels

        @classmethod
        def from_config(cls, cfg):
            asked.append("BoxHead")
            return {"channels": cfg.boxes}

    class PoseHead(BoxHead):
        @classmethod
        def from_config(cls, cfg):
            asked.append("PoseHead")
            return {"channels": cfg.keypoints}

    return PoseHead(engine.Config(boxes=64, keypoints=12)), asked


@of_the_parent.look
def _(engine):
    head, _ = subclass(engine)
    return head.channels != 12, f"keypoints=12 in the configuration, the pose head has {head.channels} channels"


@of_the_parent.find("building a subclass, and noting whose `from_config` is called")
def _(engine):
    head, asked = subclass(engine)
    return f"built {type(head).__name__}; asked {', '.join(asked)}"
