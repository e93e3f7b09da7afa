"""Stage 11: parts by name, and objects from a configuration."""

from __future__ import annotations

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt

# ---- Registry ------------------------------------------------------------------------------------

registry = Exercise(
    "registry.Registry",
    stage=11,
    points=3,
    minutes=20,
    goal="Keep classes and functions under their names, so that a configuration can choose one by a word.",
    hints=(
        "A decorator is a function that gets the class and whose result takes the class's place. What must it return? "
        "And what must `register()` return, which has no class yet?",
        "With a part: look whether it is a class or a function, look whether another one has its name, keep it, return "
        "it. Without: return something that does the same with the part that comes next.",
        "self.register, the bound method, is such a thing. inspect.isclass and inspect.isfunction tell classes and "
        "functions; `is` tells the same object from another of that name; difflib.get_close_matches finds the nearest "
        "name. KeyError for what is missing, ValueError for a name that is taken, TypeError for the rest.",
    ),
)


def parts() -> tuple:
    class Small: ...

    class Large: ...

    def build_tiny(): ...

    return Small, Large, build_tiny


def named(part: object) -> object:
    """A part by its name, anything else by its type: no address is told."""
    return getattr(part, "__name__", type(part).__name__)


def error(act) -> str:
    """The kind of the exception, or what came instead."""
    found = attempt(act)
    return found.partition(":")[0] if isinstance(found, str) else f"no error: {named(found)}"


def says(act, *words: str) -> dict[str, bool]:
    """Which of the words the exception's message has."""
    try:
        act()
    except Exception as problem:
        return {word: word in str(problem) for word in words}
    return {"raises": False}


@registry.probe("registered by a call")
def _(course):
    small, large, tiny = parts()
    kinds = course.registry.Registry("backbone")
    returned = [error(lambda part=part: kinds.register(part)) for part in (small, large, tiny)]
    return {
        "returned": returned,
        "finds the part": [attempt(lambda n=n: kinds.get(n)) is p for n, p in zip(kinds, (large, small, tiny))],
        "names": list(kinds),
    }


@registry.probe("registered by a decorator, with parentheses and without")
def _(course):
    small, large, tiny = parts()
    kinds = course.registry.Registry("backbone")
    ways = {"with, a class": (small, True), "without": (large, False), "with, a function": (tiny, True)}
    return {
        way: [
            error(lambda part=part, called=called: (kinds.register() if called else kinds.register)(part)),
            attempt(lambda part=part: kinds.get(part.__name__) is part) is True,
        ]
        for way, (part, called) in ways.items()
    }


@registry.probe("one name twice")
def _(course):
    (small, *_), (other, *_) = parts(), parts()
    kinds = course.registry.Registry("backbone")
    kinds.register(small)
    again = attempt(lambda: kinds.register(small) is small)
    taken = error(lambda: kinds.register(other))
    return {
        "the same object again": again,
        "another object": taken,
        "still there": attempt(lambda: kinds.get("Small") is small),
        "count": len(kinds),
        "by a decorator": error(lambda: kinds.register()(other)),
        "the message": says(lambda: kinds.register(other), "backbone", "Small", small.__module__),
    }


@registry.probe("something that is neither a class nor a function")
def _(course):
    small = parts()[0]
    kinds = course.registry.Registry("backbone")
    return {
        "an instance": error(lambda: kinds.register(small())),
        "a name": error(lambda: kinds.register("Small")),
        "a number": error(lambda: kinds.register(0)),
        "the message": says(lambda: kinds.register(0), "backbone"),
        "count": len(kinds),
    }


@registry.probe("a name that is missing")
def _(course):
    small, large, tiny = parts()
    kinds, empty = course.registry.Registry("backbone"), course.registry.Registry("neck")
    for part in (small, large, tiny):
        attempt(lambda part=part: kinds.register(part))
    return {
        "error": error(lambda: kinds.get("Smal")),
        "in another case": error(lambda: kinds.get("small")),
        "the message": says(lambda: kinds.get("Smal"), "backbone", "Smal", "mean Small", "Large", "build_tiny"),
        "nothing is near": says(lambda: kinds.get("quite"), "backbone", "mean", "Small", "Large", "build_tiny"),
        "nothing is there": error(lambda: empty.get("Small")),
        "count": len(kinds),
    }


@registry.probe("two registries")
def _(course):
    small, large, _ = parts()
    one, two = course.registry.Registry("backbone"), course.registry.Registry("neck")
    one.register(small)
    two.register(large)
    return {"one": list(one), "two": list(two), "in": ["Small" in one, "Small" in two]}


REFUSE = """        if not (inspect.isclass(part) or inspect.isfunction(part)):
            raise TypeError(f"{self.name}: {part!r} is neither a class nor a function. Register the class itself.")
"""
KEPT = "known = self._parts.setdefault(part.__name__, part)"
TAKEN = "if known is not part:"

registry.misconception(
    "register returns nothing",
    swap=(
        '                "registry anew in the same cell."\n            )\n        return part\n',
        '                "registry anew in the same cell."\n            )\n',
    ),
    because="What a decorator returns takes the place of what it decorates. Without `return part` the part is in "
    "the registry, and its own name stands for None in its module: the next line that uses the class says that "
    "'NoneType' is not callable.",
    museum=69,
)
registry.misconception(
    "the parentheses are always needed",
    swap=(
        "        if part is None:\n            return self.register\n",
        "        if part is not None and inspect.isclass(part):\n            return None\n"
        "        if part is None:\n            return lambda part: self._parts.setdefault(part.__name__, part)\n",
    ),
    because="`@REGISTRY.register` without parentheses calls register with the class at once. Here nothing is kept "
    "then, and the name of the class stands for None. register(part) has to do the work, and register() has to "
    "return something that does the same.",
    museum=69,
)
registry.misconception(
    "only the call works, not the decorator",
    swap=("            return self.register\n", "            return None\n"),
    because="`@REGISTRY.register()` first calls register() and then calls what that returned, with the class. None "
    "cannot be called. Return something that takes a part: the bound method self.register is such a thing.",
)
registry.misconception(
    "the later one wins",
    swap=((KEPT, "known = self._parts[part.__name__] = part"),),
    because="Two modules that register the same name then silently take each other's place, and which of them a "
    "configuration gets depends on the order of imports. Refuse the second, and say where both come from.",
    museum=71,
)
registry.misconception(
    "the first one wins silently",
    swap=((TAKEN, "if False:"),),
    because="The second part of that name is dropped without a word: somebody edits a class, runs the cell again, "
    "and trains the old one. A name that is taken is an error.",
    museum=71,
)
registry.misconception(
    "the same object twice is refused",
    swap=(
        (KEPT, "known = self._parts.get(part.__name__)\n        self._parts.setdefault(part.__name__, part)"),
        (TAKEN, "if known is not None:"),
    ),
    because="A module that is imported under two names, or a line that runs twice, registers the very same object. "
    "That does no harm, so it is no error. Only another object of that name is.",
)
registry.misconception(
    "the error comes after the old part is gone",
    swap=((KEPT, "known = self._parts.get(part.__name__, part)\n        self._parts[part.__name__] = part"),),
    because="The exception is raised, and the new part is in the registry all the same. Who catches it, or runs the "
    "next cell, goes on with the wrong one. Look first, then keep.",
)
registry.misconception(
    "instances are registered",
    swap=((REFUSE, ""),),
    because="An instance has no __name__, so this ends in an AttributeError that speaks of something else. And if "
    "it had one, every configuration would share that one object with its weights. Refuse what is neither a class "
    "nor a function with a TypeError.",
)
registry.misconception(
    "an instance is registered under its class's name",
    swap=(
        (REFUSE, ""),
        (KEPT, 'known = self._parts.setdefault(getattr(part, "__name__", type(part).__name__), part)'),
        (TAKEN, "if known is not part and known.__name__:"),
    ),
    because="An instance is in the registry now, under the name of its class. Each configuration that asks for the "
    "name gets this one object, with its weights, and calling it does a forward pass instead of making one. Refuse "
    "it.",
)
registry.misconception(
    "only classes may be registered",
    swap=(("if not (inspect.isclass(part) or inspect.isfunction(part)):", "if not inspect.isclass(part):"),),
    because="A function that builds a part, such as `build_resnet_fpn`, is as good as a class: both are called with "
    "arguments and return the part. detectron2 registers mostly functions.",
)
registry.misconception(
    "a missing name gives None",
    swap=(
        (
            "        if name not in self._parts:\n            close",
            "        if name not in self._parts:\n            return None\n            close",
        ),
    ),
    because="The None travels on, and some lines later the program says that 'NoneType' is not callable. At the "
    "place of the mistake one still knows which name was asked for: raise a KeyError there.",
    museum=70,
)
registry.misconception(
    "the message does not say what there is",
    swap=((" There are: {', '.join(self) or 'none'}. ", " "),),
    because="Somebody who reads this has a typing error or has not imported a module. The names that there are "
    "decide which of the two it is, in one look.",
    museum=70,
)
registry.misconception(
    "the message does not say the nearest name",
    swap=(('nearest = f"; did you mean {close[0]}?" if close else "."', 'nearest = "."'),),
    because="Most missing names are typing errors. difflib.get_close_matches(name, names, n=1) finds the one that "
    "was meant.",
)
registry.misconception(
    "any name counts as near",
    swap=(
        (
            "difflib.get_close_matches(name, self._parts, n=1)",
            "difflib.get_close_matches(name, self._parts, n=1, cutoff=0)",
        ),
    ),
    because="With a cutoff of 0 the message proposes a name that has nothing to do with what was typed. Leave the "
    "cutoff as it is: where nothing is near, propose nothing.",
)
registry.misconception(
    "upper and lower case are the same",
    swap=(
        (
            "        if name not in self._parts:\n            close",
            "        name = next((own for own in self._parts if own.lower() == name.lower()), name)\n"
            "        if name not in self._parts:\n            close",
        ),
    ),
    because="`small` finds `Small` here, and in the next engine it does not. A configuration that is nearly right "
    "is refused with the right name, not guessed.",
)
registry.misconception(
    "all registries share one dictionary",
    swap=(
        (
            "        self._parts: dict[str, object] = {}\n",
            '        type(self)._parts = getattr(type(self), "_parts", {})\n',
        ),
    ),
    because="What belongs to the class belongs to all its instances: a neck is found among the backbones, and two "
    "parts of one name collide across kinds. Each registry has its own dictionary, made in __init__.",
)
registry.misconception(
    "get returns an instance",
    swap=(("        return self._parts[name]\n", "        return self._parts[name]()\n"),),
    because="The registry would have to know the arguments. It gives the class or the function, and who asked for "
    "it calls it with what the configuration says.",
)


# ---- configurable --------------------------------------------------------------------------------

configurable = Exercise(
    "registry.configurable",
    stage=11,
    points=5,
    minutes=40,
    goal="Let one __init__ be called with arguments or with a configuration, by detectron2's exact rules.",
    hints=(
        "The wrapper gets self and whatever the caller wrote. First it looks at the class, whatever was written. "
        "Then it decides which of two calls this is. What alone may decide that?",
        "With a configuration there are two sets of keywords: those that from_config names in its signature, and the "
        "rest. Which of them goes where, and which wins, if from_config returned the same name?",
        "type(self).from_config, not the one of the class where __init__ stands. isinstance(first, Config), not dict. "
        "inspect.signature(…).parameters has the names, and the kinds VAR_POSITIONAL and VAR_KEYWORD. "
        "init(self, **{**made, **rest}) lets the rest win, and changes nothing that from_config returned.",
    ),
)


def classes(course):
    """A configurable class; its instances keep what __init__ got."""

    class Head:
        @course.registry.configurable
        def __init__(self, channels, reg_max=16, *, act="silu"):
            """Makes a head."""
            self.got = {"channels": channels, "reg_max": reg_max, "act": act}

        @classmethod
        def from_config(cls, cfg, channels):
            return {"channels": channels, "reg_max": cfg.head.reg_max}

    return Head


def settings(course, **more):
    return course.registry.Config({"head": {"reg_max": 8}, **more})


def got(act) -> object:
    """What __init__ got, or the exception: its kind alone."""
    try:
        return act().got
    except Exception as problem:
        return type(problem).__name__


@configurable.probe("without a configuration")
def _(course):
    Head = classes(course)
    return {
        "by place": got(lambda: Head(64, 4)),
        "by name": got(lambda: Head(channels=64, act="relu")),
        "a plain dictionary is an argument": got(lambda: Head({"head": {"reg_max": 8}})),
        "a plain dictionary as cfg": got(lambda: Head(cfg={"head": {"reg_max": 8}}, channels=64)),
        "nothing": got(lambda: Head()),
        "an unknown keyword": got(lambda: Head(64, depth=3)),
        "a configuration in the second place": got(lambda: Head(64, settings(course))),
        "returns": attempt(lambda: Head.__init__(Head.__new__(Head), 64)),
    }


@configurable.probe("with a configuration")
def _(course):
    Head = classes(course)
    cfg = settings(course)
    return {
        "by place": got(lambda: Head(cfg, 64)),
        "by place, the rest by name": got(lambda: Head(cfg, channels=64)),
        "as cfg": got(lambda: Head(cfg=cfg, channels=64)),
        "an argument is missing": got(lambda: Head(cfg)),
        "one argument too many": got(lambda: Head(cfg, 64, 4)),
    }


@configurable.probe("explicit arguments beside a configuration")
def _(course):
    Head = classes(course)
    cfg = settings(course)
    return {
        "one that from_config returned": got(lambda: Head(cfg, channels=64, reg_max=4)),
        "one that only __init__ knows": got(lambda: Head(cfg, channels=64, act="relu")),
        "a false value": got(lambda: Head(cfg, channels=64, reg_max=0)),
        "one that neither knows": got(lambda: Head(cfg, channels=64, depth=3)),
    }


@configurable.probe("from_config with **kwargs, or with *args")
def _(course):
    seen = []

    class Greedy:
        @course.registry.configurable
        def __init__(self, channels, reg_max=16):
            self.got = {"channels": channels, "reg_max": reg_max}

        @classmethod
        def from_config(cls, cfg, **kwargs):
            seen.append(sorted(kwargs))
            return {"channels": 1, "reg_max": cfg.head.reg_max}

    class Listing(Greedy):
        @classmethod
        def from_config(cls, cfg, *channels):
            seen.append(list(channels))
            return {"channels": sum(channels)}

    cfg = settings(course)
    return {
        "the keywords are swallowed": got(lambda: Greedy(cfg, channels=64, reg_max=4)),
        "places": got(lambda: Listing(cfg, 3, 4)),
        "a keyword beside *args": got(lambda: Listing(cfg, 3, reg_max=4)),
        "what from_config got": list(seen),
    }


@configurable.probe("a subclass")
def _(course):
    Head = classes(course)

    class Wide(Head):
        @classmethod
        def from_config(cls, cfg, channels):
            return {"channels": 2 * channels, "act": cls.__name__}

    class Same(Head): ...

    class Own(Head):
        @course.registry.configurable
        def __init__(self, channels, reg_max=1):
            super().__init__(channels, reg_max)

    cfg = settings(course)
    return {
        "with a from_config of its own": got(lambda: Wide(cfg, 64)),
        "that inherits all": got(lambda: Same(cfg, 64)),
        "with an __init__ of its own": got(lambda: Own(cfg, 64)),
        "the parent afterwards": got(lambda: Head(cfg, 64)),
    }


@configurable.probe("what from_config returned stays as it was")
def _(course):
    shared = {"channels": 5, "reg_max": 7}

    class Shared:
        @course.registry.configurable
        def __init__(self, channels, reg_max=16):
            self.got = {"channels": channels, "reg_max": reg_max}

        @classmethod
        def from_config(cls, cfg):
            return shared

    cfg = settings(course)
    keywords = {"reg_max": 4}
    first = got(lambda: Shared(cfg, **keywords))
    return {"first": first, "second": got(lambda: Shared(cfg)), "shared": dict(shared), "cfg": dict(cfg.head)}


@configurable.probe("mistakes of whoever uses it")
def _(course):
    decorate = course.registry.configurable

    class Without:
        @decorate
        def __init__(self, channels):
            self.got = "an object"

    class Plain:
        @decorate
        def __init__(self, channels):
            self.got = "an object"

        def from_config(self, cfg): ...

    class Static:
        @decorate
        def __init__(self, channels):
            self.got = "an object"

        @staticmethod
        def from_config(cfg): ...

    class Misnamed:
        @decorate
        def __init__(self, channels):
            self.got = "an object"

        @classmethod
        def from_config(cls, config):
            return {"channels": 64}

    class Empty:
        @decorate
        def __init__(self, channels):
            self.got = "an object"

        @classmethod
        def from_config(cls): ...

    cfg = settings(course)
    return {
        "no from_config": [got(lambda: Without(cfg)), got(lambda: Without(64))],
        "no classmethod": [got(lambda: Plain(cfg)), got(lambda: Plain(64))],
        "the messages": [says(lambda: Plain(cfg), "from_config"), says(lambda: Misnamed(cfg), "from_config", "cfg")],
        "a static method": [got(lambda: Static(cfg)), got(lambda: Static(64))],
        "its first argument has another name": [got(lambda: Misnamed(cfg)), got(lambda: Misnamed(64))],
        "it has no argument": got(lambda: Empty(cfg)),
        "a function that is not __init__": error(lambda: decorate(parts)),
        "a class": error(lambda: decorate(Without)),
        "a class of that name": error(lambda: decorate(type("__init__", (), {}))),
    }


@configurable.probe("the decorated __init__ still looks like itself")
def _(course):
    init = classes(course).__init__
    return {"name": init.__name__, "docstring": init.__doc__, "wraps": hasattr(init, "__wrapped__")}


TEST = 'if not isinstance(args[0] if args else kwargs.get("cfg"), Config):'
CALL = "return init(self, **{**own.from_config(*args, **asked), **rest})"
ASKED = "asked = {name: value for name, value in kwargs.items() if takes_all or name in named}"
OWN = "own = type(self)"
NO_MAKER = """        if not hasattr(own, "from_config"):
            raise AttributeError(f"{own.__name__} is configurable, so it needs a classmethod from_config(cls, cfg, …).")
        if not inspect.ismethod(own.from_config):
            raise TypeError(f"{own.__name__}.from_config is no classmethod. Write @classmethod above it.")
"""
PASS_ON = f"        {TEST}\n            return init(self, *args, **kwargs)\n"

configurable.misconception(
    "a dictionary counts as a configuration",
    swap=((", Config):", ", dict):"),),
    because="Some parts take a plain dictionary as their first argument. With this test it would be taken for a "
    "configuration, and from_config would look for attributes that it does not have. Only the type Config decides.",
    museum=72,
)
configurable.misconception(
    "cfg is known by its name alone",
    swap=((TEST, 'if not (args and isinstance(args[0], Config) or "cfg" in kwargs):'),),
    because="A keyword cfg that holds no Config is an ordinary argument, and __init__ has to say that it does not "
    "know it. Look at the type in both places.",
)
configurable.misconception(
    "cfg as a keyword is not noticed",
    swap=((TEST, "if not (args and isinstance(args[0], Config)):"),),
    because="Head(cfg=cfg) is as common as Head(cfg). Here it goes on to __init__, which knows no cfg.",
)
configurable.misconception(
    "a configuration at any place counts",
    swap=((TEST, "if not any(isinstance(value, Config) for value in (*args, *kwargs.values())):"),),
    because="A part may well take a configuration as its second argument. Only the first place, or the name cfg, "
    "says that this call is one by configuration.",
)
configurable.misconception(
    "explicit arguments lose",
    swap=((CALL, "return init(self, **{**rest, **own.from_config(*args, **asked)})"),),
    because="Head(cfg, channels=64, reg_max=4) got the reg_max of the configuration: what somebody wrote down was "
    "dropped without a word. In {**a, **b} the later one wins, so the explicit arguments have to stand last.",
    museum=73,
)
configurable.misconception(
    "explicit arguments are dropped",
    swap=((CALL, "return init(self, **own.from_config(*args, **asked))"),),
    because="What from_config does not name has to reach __init__ as it is. Here reg_max=4 and act='relu' disappear "
    "without a word.",
    museum=73,
)
configurable.misconception(
    "explicit arguments that are false are dropped",
    swap=(
        (
            "rest = {name: value for name, value in kwargs.items() if name not in asked}",
            "rest = {name: value for name, value in kwargs.items() if name not in asked and value}",
        ),
    ),
    because="reg_max=0 was given, and 0 is a value. Ask whether the name was given, not whether its value is true.",
)
configurable.misconception(
    "all keywords go to from_config",
    swap=((ASKED, "asked = kwargs"),),
    because="from_config names in its signature what it wants. A keyword that it does not name raises a TypeError "
    "there, although __init__ would have taken it.",
)
configurable.misconception(
    "no keyword goes to from_config",
    swap=((ASKED, 'asked = {name: value for name, value in kwargs.items() if name == "cfg"}'),),
    because="from_config(cls, cfg, channels) asks for channels, and Head(cfg, channels=64) gives it by name. The "
    "names in the signature of from_config say which keywords are its own.",
)
configurable.misconception(
    "keywords of from_config go to __init__ too",
    swap=((CALL, "return init(self, **{**own.from_config(*args, **asked), **kwargs})"),),
    because="What from_config asked for is its own: it may return it changed, or not at all. Here it reaches "
    "__init__ a second time, and undoes what from_config made of it; cfg itself arrives there too.",
)
configurable.misconception(
    "**kwargs of from_config is not noticed",
    swap=(("p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)", "p.kind == p.VAR_POSITIONAL"),),
    because="A from_config with **kwargs says that it takes all keywords. detectron2 then gives it all, and "
    "__init__ gets only what it returned. That swallows overrides, so it is a trap; but a loop that was written for "
    "it relies on it.",
    museum=73,
)
configurable.misconception(
    "*args of from_config is not noticed",
    swap=(("p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)", "p.kind == p.VAR_KEYWORD"),),
    because="By detectron2's rule *args counts as **kwargs does: all keywords go to from_config. One that it does "
    "not name is then a TypeError.",
)
configurable.misconception(
    "further positional arguments go to __init__",
    swap=(
        (
            CALL,
            "return init(self, *args[1:], **{**own.from_config(*args[:1], **asked), **rest})",
        ),
    ),
    because="Head(cfg, 64) gives the 64 to from_config, whose second argument it is. __init__ gets keywords only: "
    "what from_config returned, and the explicit ones.",
    museum=74,
)
configurable.misconception(
    "further positional arguments are dropped",
    swap=((CALL, "return init(self, **{**own.from_config(*args[:1], **asked), **rest})"),),
    because="Head(cfg, 64) gives the 64 to from_config by its place. Here it disappears. Where there are more than "
    "from_config takes, its TypeError is the right answer.",
    museum=74,
)
configurable.misconception(
    "from_config of the class where __init__ stands",
    swap=((OWN, 'own = next(c for c in type(self).__mro__ if "__init__" in vars(c))'),),
    because="A subclass that only changes from_config gets its parent's configuration here. Ask the class of the "
    "object: type(self).from_config.",
    museum=75,
)
configurable.misconception(
    "from_config gets the object for its class",
    swap=((CALL, "return init(self, **{**own.from_config.__func__(self, *args, **asked), **rest})"),),
    because="from_config runs before there is a finished object: it is a classmethod, and its first argument is the "
    "class. Here it gets an object that __init__ has not touched yet.",
)
configurable.misconception(
    "what from_config returned is changed",
    swap=(
        (CALL, "made = own.from_config(*args, **asked)\n        made.update(rest)\n        return init(self, **made)"),
    ),
    because="A from_config may return a dictionary that it keeps, such as a table of defaults. update writes the "
    "override of one object into it, and all that are made later have it too. Make a new dictionary: {**made, "
    "**rest}.",
)
configurable.misconception(
    "a missing from_config is noticed only with a configuration",
    swap=((NO_MAKER + PASS_ON, PASS_ON + NO_MAKER),),
    because="The class is wrong from the start, and it should say so at the first call, not in the first run from a "
    "configuration, months later. detectron2 asks at each call.",
)
configurable.misconception(
    "a missing from_config is never noticed",
    swap=(
        (
            """        if not hasattr(own, "from_config"):
            raise AttributeError(f"{own.__name__} is configurable, so it needs a classmethod from_config(cls, cfg, …).")
        if not inspect.ismethod""",
            """        if hasattr(own, "from_config") and not inspect.ismethod""",
        ),
    ),
    because="Without from_config the class cannot be made from a configuration at all, which is what the decorator "
    "promises. Say so at each call.",
)
configurable.misconception(
    "from_config need not be a classmethod",
    swap=(
        (
            """        if not inspect.ismethod(own.from_config):
            raise TypeError(f"{own.__name__}.from_config is no classmethod. Write @classmethod above it.")
""",
            "",
        ),
    ),
    because="A from_config without @classmethod takes the configuration for self. inspect.ismethod tells: fetched "
    "from the class, a classmethod is a bound method, and a plain function is none.",
)
configurable.misconception(
    "the first argument of from_config may have any name",
    swap=(('if next(iter(named), "") != "cfg":', "if not named:"),),
    because="Head(cfg=cfg) only works if from_config calls its first argument cfg. Where it does not, that is said "
    "at the first call by configuration, however it was written.",
)
configurable.misconception(
    "the name cfg is asked for in every call",
    swap=(
        (PASS_ON, ""),
        (
            "        takes_all =",
            f"        {TEST}\n            return init(self, *args, **kwargs)\n        takes_all =",
        ),
    ),
    because="How from_config calls its arguments matters only when it is called. Without a configuration __init__ "
    "gets its arguments as if there were no decorator.",
)
configurable.misconception(
    "every function may be decorated",
    swap=(
        (
            """    if not (inspect.isfunction(init) and init.__name__ == "__init__"):
        raise AssertionError(f"@configurable decorates __init__ of a class, and this is {init!r}.")

""",
            "",
        ),
    ),
    because="On a class, or on another function, the wrapper would take something else for self and fail far away "
    "from the mistake. Refuse it where the decorator stands.",
)
configurable.misconception(
    "the wrapper hides what it wraps",
    swap=(("    @functools.wraps(init)\n", ""),),
    because="Without functools.wraps the class's __init__ is called `wrapped`, has no docstring, and "
    "inspect.signature shows (*args, **kwargs): help, editors and error messages say nothing of the arguments.",
)
