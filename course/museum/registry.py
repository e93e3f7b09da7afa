"""Rooms of registries: classes by their names.

The rules are those of fvcore's Registry. Room 70 is issue 780 of detectron2, room 71 issue 3249 of
mmdetection.
"""

import functools
import importlib.util
import tempfile
from pathlib import Path
from types import SimpleNamespace

from yolostudy.study.museum import Room


class Registry:
    """Classes by their names.

    `register(part)` notes a part and returns it; `register()` returns a decorator that does so.
    """

    def __init__(self, name: str):
        self.name, self.parts = name, {}

    def register(self, part: type | None = None):
        if part is None:
            return self.register
        if self.parts.setdefault(part.__name__, part) is not part:
            raise ValueError(f"{self.name} has another {part.__name__} already")
        return part

    def get(self, name: str) -> type:
        if name not in self.parts:
            raise KeyError(f"no object named {name!r} found in {self.name!r}")
        return self.parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def __iter__(self):
        return iter(sorted(self.parts))


class SilentRegistry(Registry):
    def register(self, part: type | None = None):
        if part is None:
            return super().register
        super().register(part)
        return None


a_class_is_none = Room(
    69,
    "the class is None, although it was written two lines above",
    "There are no parentheses after `@NECKS.register`. So Python calls `register` with the class, and puts what comes "
    "back under the name of the class. This `register` notes the class and returns nothing. Return the part in every "
    "case; where the registry is somebody else's, such as fvcore's, write the parentheses.",
    broken=SimpleNamespace(Registry=SilentRegistry),
    fixed=SimpleNamespace(Registry=Registry),
)


def decorated(engine) -> tuple[object, object]:
    """A registry, and what stands under the name of a class that was registered in it."""
    necks = engine.Registry("NECKS")

    @necks.register
    class Pyramid:
        levels = 3

    return necks, Pyramid


@a_class_is_none.look
def _(engine):
    _, pyramid = decorated(engine)
    return False, f"a pyramid with {pyramid().levels} levels is built"


@a_class_is_none.find("printing the type of the name, and what the registry has")
def _(engine):
    necks, pyramid = decorated(engine)
    return f"the name: {type(pyramid).__name__}; the registry has the class: {'Pyramid' in necks}"


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


def only_written(path: Path, backbones: Registry) -> list[object]:
    return []


def written_and_imported(path: Path, backbones: Registry) -> list[object]:
    return [imported(path, BACKBONES=backbones)]


nobody_imported = Room(
    70,
    "no object of that name is found, and its file is there",
    "A decorator runs when its module is imported. Nothing imports this file: a configuration gives the name of a "
    "class, and that imports nothing. Import the module where the training begins, even if no line uses it; a "
    "package can do it in its `__init__.py`.",
    broken=only_written,
    fixed=written_and_imported,
)


def wanted(prepare) -> tuple[Registry, list[object]]:
    """A registry, and the modules that were imported, after one file with a backbone was written."""
    backbones = Registry("BACKBONES")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "my_backbones.py")
        path.write_text(FILE)
        return backbones, prepare(path, backbones)


@nobody_imported.look
def _(prepare):
    backbones, _ = wanted(prepare)
    return False, f"built: {backbones.get('Small').__name__}"


@nobody_imported.find("the keys of the registry beside the modules that were imported")
def _(prepare):
    backbones, modules = wanted(prepare)
    return f"keys: {list(backbones) or 'none'}; my_backbones imported: {bool(modules)}"


def cell_twice(backbones: Registry) -> list[type]:
    """Run a notebook's cell two times."""
    made = []
    for _ in range(2):
        names = {"BACKBONES": backbones, "__name__": "__main__"}
        exec(FILE, names)  # what a notebook does with the text of a cell
        made.append(names["Small"])
    return made


def import_twice(backbones: Registry) -> list[type]:
    """Import a file two times; Python runs it once and keeps the module."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "my_backbones.py")
        path.write_text(FILE)
        once = functools.cache(lambda: imported(path, BACKBONES=backbones))  # what sys.modules is for
        return [once().Small, once().Small]


class Counter(Registry):
    """Lets everything in, so that both classes can be looked at."""

    def register(self, part: type | None = None):
        return part or self.register


a_cell_again = Room(
    71,
    "registered already, says the cell that ran a minute ago",
    "Each run of a cell makes a new class with the same name. The registry holds the one from before, and a "
    "configuration has nothing but the name, so it refuses the second. Keep registered classes in a file and import "
    "it: an import runs once, and the same class twice does no harm.",
    broken=cell_twice,
    fixed=import_twice,
)


@a_cell_again.look
def _(run):
    made = run(Registry("BACKBONES"))
    return False, f"twice, and {len(set(made))} class in the registry"


@a_cell_again.find("comparing the identity of the two classes")
def _(run):
    first, second = run(Counter("BACKBONES"))
    return f"names equal: {first.__name__ == second.__name__}; the same object: {first is second}"
