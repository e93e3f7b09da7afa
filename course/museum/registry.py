"""Rooms of registries and of classes that are built from a configuration.

Room 70 is issue 780 of detectron2, room 71 issue 3249 of mmdetection, room 74 issue 2065 of detectron2.
"""

import importlib.util
import inspect
import tempfile
from pathlib import Path

from yolostudy.study.museum import Room

REGISTRY, CONFIGURABLE = "registry.Registry", "registry.configurable"

# ---- a registry ----------------------------------------------------------------------------------

a_class_is_none = Room(
    69, "the class is None, although it was written two lines above", mistake=(REGISTRY, "register returns nothing")
)


def decorated(course) -> tuple[object, object]:
    """A registry, and what stands under the name of a class that was registered in it."""
    necks = course.registry.Registry("necks")

    @necks.register
    class Pyramid:
        levels = 3

    return necks, Pyramid


@a_class_is_none.look
def _(course):
    _, pyramid = decorated(course)
    return False, f"a pyramid with {pyramid().levels} levels is built"


@a_class_is_none.find("printing the type of the name, and what the registry has")
def _(course):
    necks, pyramid = decorated(course)
    return f"the name: {type(pyramid).__name__}; the registry has the class: {'Pyramid' in necks}"


nobody_imported = Room(
    70,
    "nothing of that name is found, and its file is there",
    "A decorator runs when its module is imported, and nobody imports this one: a configuration gives the name of a "
    "class, and that imports nothing. From the message nobody can tell this from a typing error. Say in it which "
    "names there are: if the whole file is missing among them, it was not imported. Import it where the training "
    "begins, even if no line uses it.",
    mistake=(REGISTRY, "the message does not say what there is"),
)
FILE = '''
@BACKBONES.register
class Small:
    """A backbone."""
'''


def imported(path: Path, **names) -> object:
    """Import a file as a module that knows some names of ours."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    spec.loader.exec_module(module)
    return module


def backbones(course):
    """A registry with one part; another one waits in a file."""
    found = course.registry.Registry("backbones")

    class Large: ...

    found.register(Large)
    return found


@nobody_imported.look
def _(course):
    try:
        backbones(course).get("Small")
    except KeyError as error:
        return "Large" not in error.args[0], error.args[0]
    return False, "found"


@nobody_imported.find("the keys of the registry before and after importing the file")
def _(course):
    known = backbones(course)
    before = list(known)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "my_backbones.py")
        path.write_text(FILE)
        imported(path, BACKBONES=known)
    return f"before: {', '.join(before)}; after: {', '.join(known)}"


a_cell_again = Room(
    71,
    "a class was changed and its cell run again, and the old class is trained",
    "Each run of a cell makes a new class with the same name. The registry holds the one from before, and dropped the "
    "new one without a word. It has to refuse, because a configuration has nothing but the name. Then the second run "
    "of the cell fails: make the registry in the same cell, or keep registered classes in a file, since an import "
    "runs once.",
    mistake=(REGISTRY, "the first one wins silently"),
)


def two_runs(course) -> tuple[type, type, object]:
    """The class of the first and of the second run of a cell, and the one that the registry gives.

    The last is an error's message where the registry refuses.
    """
    known, made = course.registry.Registry("backbones"), []
    for width in (16, 32):
        names = {"__name__": "__main__"}
        exec(f"class Small:\n    width = {width}", names)  # what a notebook does with the text of a cell
        made.append(names["Small"])
    try:
        for kind in made:
            known.register(kind)
    except ValueError as error:
        return *made, str(error)
    return *made, known.get("Small")


@a_cell_again.look
def _(course):
    _, second, got = two_runs(course)
    if isinstance(got, str):
        return False, f"refused: {got}"
    return got is not second, f"a width of {second.width} was written, a width of {got.width} is built"


@a_cell_again.find("comparing the classes by name and by identity")
def _(course):
    first, second, got = two_runs(course)
    equal = first.__name__ == second.__name__
    return f"names equal: {equal}; registered is the new one: {got is second}, the old one: {got is first}"


# ---- a class that is built from a configuration --------------------------------------------------

any_dict = Room(
    72, "gains are given, and the defaults are used", mistake=(CONFIGURABLE, "a dictionary counts as a configuration")
)


def weighted(course, heard: list | None = None):
    """A loss whose argument is a dict of gains, given explicitly."""

    class Loss:
        @course.registry.configurable
        def __init__(self, gains):
            self.gains = gains

        @classmethod
        def from_config(cls, cfg):
            if heard is not None:
                heard.append(cfg)
            return {"gains": cfg.get("gains", {"box": 7.5})}

    return Loss({"box": 9.0})


@any_dict.look
def _(course):
    gains = weighted(course).gains
    return gains != {"box": 9.0}, f"a box gain of 9 was given, the loss has {gains['box']:g}"


@any_dict.find("the repr and the type of what `from_config` was given")
def _(course):
    heard = []
    weighted(course, heard)
    return "\n".join(f"{found!r}, a {type(found).__name__}" for found in heard) or "it was not called"


def head(course) -> type:
    """A head with one argument of `from_config` and one of `__init__`."""

    class Head:
        @course.registry.configurable
        def __init__(self, channels, activation="silu"):
            self.channels, self.activation = channels, activation

        @classmethod
        def from_config(cls, cfg, width=1.0):
            return {"channels": int(width * cfg.channels), "activation": cfg.activation}

    return Head


def config(course):
    return course.registry.Config(channels=64, activation="silu")


an_override_is_lost = Room(
    73,
    "an explicit argument has no effect",
    "What `from_config` returned won over what somebody wrote down, without a word. In {**a, **b} the later one wins, "
    "so the explicit arguments have to stand last. With that mended there is a second trap: `from_config(cls, cfg, "
    "**kw)` takes every keyword, and one that it does not return is lost too. Leave `**kw` out, or return it.",
    mistake=(CONFIGURABLE, "explicit arguments lose"),
)


@an_override_is_lost.look
def _(course):
    found = head(course)(config(course), activation="relu").activation
    return found != "relu", f"activation='relu' was given, the head has {found}"


@an_override_is_lost.find("the same argument without a configuration, and with one")
def _(course):
    kind = head(course)
    alone, beside = kind(64, activation="relu"), kind(config(course), activation="relu")
    returned = kind.from_config(config(course))
    return f"alone {alone.activation}; with a configuration {beside.activation}; from_config returned {returned}"


three_were_given = Room(
    74,
    "a second positional argument disappears",
    "With a configuration first, every further positional argument belongs to `from_config`. Here it was dropped. If "
    "there are more than `from_config` takes, Python's TypeError is the right answer, although it reads strangely: it "
    "counts the class and names a function that nobody called. After a configuration give arguments by name.",
    mistake=(CONFIGURABLE, "further positional arguments are dropped"),
)


@three_were_given.look
def _(course):
    """The width is 0.5; then one argument too many."""
    kind, cfg, said = head(course), config(course), []
    channels = kind(cfg, 0.5).channels
    try:
        kind(cfg, 0.5, "relu")
        said.append("one too many: accepted")
    except TypeError as error:
        said.append(str(error).rpartition(".")[2])
    return channels != 32, f"half of 64 channels: {channels}\n" + "\n".join(said)


@three_were_given.find("the signatures of both functions")
def _(course):
    kind = head(course)
    return f"__init__{inspect.signature(kind.__init__)}\nfrom_config{inspect.signature(kind.from_config)}"


of_the_parent = Room(
    75,
    "a subclass is built with its parent's configuration",
    mistake=(CONFIGURABLE, "from_config of the class where __init__ stands"),
)


def subclass(course) -> tuple[object, list[str]]:
    """A pose head that inherits `__init__`, and the classes whose `from_config` was called."""
    asked = []

    class BoxHead:
        @course.registry.configurable
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

    return PoseHead(course.registry.Config(boxes=64, keypoints=12)), asked


@of_the_parent.look
def _(course):
    built, _ = subclass(course)
    return built.channels != 12, f"keypoints=12 in the configuration, the pose head has {built.channels} channels"


@of_the_parent.find("building a subclass, and noting whose `from_config` is called")
def _(course):
    built, asked = subclass(course)
    return f"built {type(built).__name__}; asked {', '.join(asked)}"
