"""The house itself: what may import what, how fast it opens, and what tracked files may not hold."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from yolostudy.command.doctor import PYTHONS, locked_versions

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "yolostudy"
GIVEN = {"canvas", "data", "study", "lens", "bridge", "views", "hooks", "runs", "command"}
STAGE_ORDER = [
    "trace",
    "blocks",
    "network",
    "boxes",
    "assigner",
    "losses",
    "metrics",
    "training",
    "weights",
    "distill",
    "pose",
    "heatmaps",
]
STAGE_ORDER += ["registry", "engine", "deploy"]
EXERCISES = set(STAGE_ORDER)

# What each folder may not import: arrows point downward only.
FORBIDDEN = {
    "canvas": (GIVEN - {"canvas"}) | EXERCISES,
    "data": (GIVEN - {"data"}) | EXERCISES,
    "study": (GIVEN - {"study"}) | EXERCISES,
    "lens": (GIVEN - {"canvas", "lens"}) | (EXERCISES - {"trace"}),
    "bridge": {"command", "runs", "hooks", "views", "study"},
    "views": {"command", "runs", "hooks", "bridge", "study"},
    "hooks": {"command", "runs", "bridge", "study"},
    "runs": {"command", "study"},
}


# Speed of opening
# --------------------------------------------------------------------------------------------------


def seconds(*command: str, runs: int = 5) -> float:
    """Processor seconds of the best of some runs, less what a bare Python takes.

    Not wall time: a busy machine makes that longer, and says nothing of the code.
    """
    environment = {name: value for name, value in os.environ.items() if name != "YOLOSTUDY_USE"}

    def best(words) -> float:
        times = []
        for _ in range(runs):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment, cwd=ROOT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    return best(command) - best(["-c", "pass"])


def test_the_import_is_quick():
    assert seconds("-c", "import yolostudy") < 0.1


def test_help_is_quick():
    assert seconds("-c", "from yolostudy.command import main; main(['--help'])") < 0.5


@pytest.mark.parametrize("word", ["mine", "reference", "hybrid"])
def test_the_import_needs_no_torch(word):
    code = "import sys, yolostudy; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"YOLOSTUDY_USE": word}, cwd=ROOT)


@pytest.mark.parametrize(
    ("before", "given", "found"),
    [("", {}, "2000"), ("", {"GOMP_SPINCOUNT": "7"}, "7"), ("import torch", {}, "None")],
    ids=["set before torch is loaded", "the user's value stays", "too late once torch is loaded"],
)
def test_threads_do_not_spin_for_long(before, given, found):
    """Beside two busy processes a step of training would take six times as long."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    code = f"{before}\nimport os, yolostudy; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == found


# What may import what
# --------------------------------------------------------------------------------------------------


def imports(file: Path, root: Path = ROOT) -> set[tuple[str, ...]]:
    """Every module that a file imports, as absolute parts; `from . import x` counts as the module
    x. Those inside functions count too.
    """
    found = set()
    home = file.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or "").split(".") if node.module else ())
            found |= {(*module, alias.name) for alias in node.names}
    return found


def parts_of_the_package(file: Path, root: Path = ROOT) -> set[str]:
    """Which folders and exercise modules of yolostudy (or of solutions, which stands for them) a
    file imports.
    """
    return {
        module[1] for module in imports(file, root) if module[0] in ("yolostudy", "solutions") and len(module) > 1
    } & (GIVEN | EXERCISES)


def test_every_folder_is_known():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == GIVEN
    assert {path.stem for path in (ROOT / "solutions").glob("*.py")} - {"__init__"} <= EXERCISES


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows_point_downward(folder):
    wrong = {}
    for file in PACKAGE.joinpath(folder).rglob("*.py"):
        upward = parts_of_the_package(file) & FORBIDDEN[folder]
        if upward:
            wrong[str(file.relative_to(ROOT))] = sorted(upward)
    assert not wrong


@pytest.mark.parametrize(("one", "other"), [("grading", "authoring"), ("authoring", "grading")])
def test_grading_and_authoring_stay_apart(one, other):
    files = [*PACKAGE.joinpath("study", one).rglob("*.py")]
    assert len(files) > 3
    for file in files:
        wrong = [module for module in imports(file) if module[:3] == ("yolostudy", "study", other)]
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_a_views_folder_imports_other_views_folders_only_from_detections():
    folders = {path.name for path in PACKAGE.joinpath("views").iterdir() if path.is_dir()} - {"__pycache__"}
    assert {"detections", "blocks", "network"} <= folders
    wrong = {}
    for file in PACKAGE.joinpath("views").rglob("*.py"):
        others = {module[2] for module in imports(file) if module[:2] == ("yolostudy", "views") and len(module) > 2}
        others = (others & folders) - {file.parent.name, "detections"}
        if others:
            wrong[str(file.relative_to(ROOT))] = sorted(others)
    assert not wrong


PICTURES = ("lens", "views")  # the folders whose public `draw_*` keep the contract of pictures


def functions(file: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}


def carries_numbers(value: ast.expr | None, known: dict[str, ast.FunctionDef]) -> bool:
    """Whether an expression is a picture with its numbers: `figure.with_numbers(…)`,
    `Picture(image, numbers)`, or a call of another function of the module that gives one.
    """
    if not isinstance(value, ast.Call):
        return False
    name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    if name == "with_numbers":
        return True
    if name == "Picture":
        return len(value.args) + len(value.keywords) > 1
    return name in known and returns_numbers(known[name], known)


def returns_numbers(function: ast.FunctionDef, known: dict[str, ast.FunctionDef]) -> bool:
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return bool(returns) and all(carries_numbers(value, known) for value in returns)


def test_every_public_picture_is_one_object_that_carries_its_numbers():
    seen, wrong = 0, []
    for file in (file for folder in PICTURES for file in PACKAGE.joinpath(folder).rglob("*.py")):
        known = functions(file)
        for name, function in known.items():
            if name.startswith(("draw_", "plot_")):
                seen += 1
                kind = ast.unparse(function.returns) if function.returns else ""
                if kind not in ("style.StudyFigure", "style.Picture") or not returns_numbers(function, known):
                    wrong.append(f"{file.relative_to(ROOT)}: {name} -> {kind}")
    assert seen and not wrong


def test_the_picture_reader_tells_right_from_wrong():
    source = """
def draw_right(): return draw().with_numbers({})
def draw_by_another(): return draw_right()
def draw_picture(): return style.Picture(image, numbers)
def draw_bare(): return figure
def draw_pair(): return figure, numbers
def draw_bare_picture(): return style.Picture(image)
def draw_sometimes():
    if numbers: return figure.with_numbers(numbers)
    return figure
"""
    known = {node.name: node for node in ast.parse(source).body}
    assert [name for name in known if returns_numbers(known[name], known)] == [
        "draw_right",
        "draw_by_another",
        "draw_picture",
    ]


@pytest.mark.parametrize("place", ["solutions", "yolostudy"])
def test_an_exercise_module_imports_only_earlier_ones(place):
    """By relative imports. `engine` is used from stage 7 and written in stage 11."""
    files = [file for file in (ROOT / place).glob("*.py") if file.stem in EXERCISES]
    assert files
    for file in files:
        earlier = set(STAGE_ORDER[: STAGE_ORDER.index(file.stem)])
        earlier |= {"engine"} if earlier >= {"losses"} else set()
        assert parts_of_the_package(file) <= earlier, f"{file.name} imports {parts_of_the_package(file) - earlier}"
        tree = ast.parse(file.read_text("utf-8"))
        absolute = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        absolute |= {
            node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
        }
        own = {name for name in absolute if name.split(".")[0] in ("yolostudy", "solutions", "tests", "course")}
        assert not own, f"{file.name} imports {own} by its full name: write `from .module import Name`"


def test_nobody_imports_the_command():
    """The library behind it is `runs`; only tests may call the command."""
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "solutions").rglob("*.py"), *(ROOT / "course").rglob("*.py")]:
        if PACKAGE / "command" not in file.parents:
            assert "command" not in parts_of_the_package(file), file
    for file in [*(ROOT / "course/source").glob("*.md"), *(ROOT / "tests/benchmarks").glob("*.py")]:
        assert not re.search(r"(from|import) +yolostudy(\.command| +import .*\bcommand\b)", file.read_text("utf-8")), (
            file
        )


def test_only_the_bridge_knows_ultralytics():
    users = {
        file.relative_to(PACKAGE).parts[0]
        for file in PACKAGE.rglob("*.py")
        if any(module[0] == "ultralytics" for module in imports(file))
    }
    assert users <= {"bridge"}


def test_no_identifier_outside_the_bridge_names_ultralytics():
    named = []
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] != "bridge":
            with open(file, "rb") as source:
                tokens = [token for token in tokenize.tokenize(source.readline) if token.type == tokenize.NAME]
            named += [f"{file.relative_to(ROOT)}:{t.start[0]} {t.string}" for t in tokens if "Ultralytics" in t.string]
    assert not named


def test_every_name_that_the_lens_offers_is_shown_somewhere():
    """In the README, in a notebook or in the notes for instructors: what nobody needs is not offered."""
    from yolostudy import lens

    files = [ROOT / "README.md", ROOT / "course" / "INSTRUCTORS.md", *(ROOT / "course" / "source").glob("*.md")]
    words = set(re.findall(r"\w+", " ".join(file.read_text("utf-8") for file in files)))
    assert not set(lens.__all__) - words


def test_the_import_reader_sees_what_there_is(tmp_path):
    file = tmp_path / "yolostudy" / "data" / "made.py"
    file.parent.mkdir(parents=True)
    lines = ["import torch.nn", "from .. import lens", "from ..blocks import SPPF", "from .records import Record"]
    file.write_text("\n".join([*lines, "def f():", "    import yolostudy.command"]))
    assert parts_of_the_package(file, tmp_path) == {"lens", "blocks", "command", "data"}


# The shape of the house
# --------------------------------------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, without the package's own."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A way through the arrows that ends where it began; empty where there is none."""
    done: set[str] = set()

    def visit(place: str, way: list[str]) -> list[str]:
        if place in way:
            return [*way[way.index(place) :], place]
        if place in done:
            return []
        for following in sorted(arrows.get(place, ())):
            if found := visit(following, [*way, place]):
                return found
        done.add(place)
        return []

    return next((found for place in sorted(arrows) if (found := visit(place, []))), [])


def arrows_between_modules() -> dict[str, set[str]]:
    """Imports inside the package; those inside functions count too. A package's lazy table is not an import."""
    known = modules()
    arrows: dict[str, set[str]] = {}
    for name, file in known.items():
        targets = set()
        for module in imports(file):
            if module[0] != "yolostudy":
                continue
            target = ".".join(module[1:])
            targets.add(target if target in known else target.rpartition(".")[0])
        arrows[name] = {target for target in targets & known.keys() if target and target != name}
    return arrows


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_no_circle_among_modules():
    assert not circle(arrows_between_modules())


def test_no_circle_among_rooms():
    """A room is a folder with its subfolders apart: `lens/nan`, `views/boxes`, `study/grading`; a flat file is a room of its own."""
    known = modules()

    def room(module: str) -> str:
        file = known[module]
        return str(file.parent.relative_to(PACKAGE)) if file.parent != PACKAGE else module

    rooms: dict[str, set[str]] = {}
    for module, targets in arrows_between_modules().items():
        rooms.setdefault(room(module), set()).update(room(target) for target in targets)
    assert not circle({place: targets - {place} for place, targets in rooms.items()})


def test_no_module_is_longer_than_four_hundred_lines():
    long = {
        name: lines for name, file in modules().items() if (lines := len(file.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def test_no_function_is_longer_than_sixty_lines():
    """From its `def` to its last line, without its docstring."""
    long = {}
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "solutions").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                told = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                if (lines := node.end_lineno - node.lineno + 1 - told) > 60:
                    long[f"{file.relative_to(ROOT)}:{node.name}"] = lines
    assert not long


# Set-up
# --------------------------------------------------------------------------------------------------


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_lock_meets_the_list_of_dependencies():
    wanted = [
        *project()["dependencies"],
        *(word for extra in project()["optional-dependencies"].values() for word in extra),
    ]
    locked = locked_versions()
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower()
        assert name in locked, f"{name} is not in requirements.lock: run `make lock`"
        for version in locked[name]:
            assert Version(version) in requirement.specifier, (
                f"{name} {version} is locked, {requirement} is wanted: run `make lock`"
            )


def test_the_lock_is_hashed_and_names_no_address():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^-e|file:", lock, re.MULTILINE)
    for entry in re.split(r"\n(?=\w)", lock)[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_installed_package_makes_nothing_else_of_this_folder_importable(tmp_path):
    """`import datasets` must find Hugging Face's library or nothing, never our folder of that name."""
    code = """
import importlib.util, yolostudy
for name in ("datasets", "tests", "course", "solutions"):
    found = importlib.util.find_spec(name)
    print(name, *([] if found is None else found.submodule_search_locations or [found.origin]), sep=chr(9))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, *places = line.split("\t")
        ours = [place for place in places if Path(place).is_relative_to(ROOT) and "site-packages" not in place]
        assert not ours, f"`import {name}` finds {ours}: run `make setup`"


def test_python_versions_agree():
    first, below = (".".join(map(str, version)) for version in PYTHONS)
    assert project()["requires-python"] == f">={first},<{below}"
    assert (
        f"({PYTHONS[0][0]}, {PYTHONS[0][1]}) <= sys.version_info < ({PYTHONS[1][0]}, {PYTHONS[1][1]})"
        in (ROOT / "Makefile").read_text()
    )


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_help_lists_every_target():
    targets = re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"))
    # as typed, also under `make test`
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment).stdout
    assert {"help", "setup", "lab", "test", "lint"} <= set(targets)
    for target in targets:
        assert re.search(rf"(?m)^  make {target} +\S", shown), (
            f"make {target} has no line in `make help`: give it one after ##"
        )


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_setup_names_a_python_that_will_do(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "course" / "lab", tmp_path / "course" / "lab")
    old = tmp_path / "old python"
    old.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info, sys.version = (3, 9), \'3.9.1 x\'; '
        'exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    link = tmp_path / "python3.9"
    link.symlink_to(old)
    for python, sentence in (
        ("no-such-python", "There is no no-such-python here."),
        (str(link), "is Python 3.9.1, and yolostudy needs 3.11"),
    ):
        done = subprocess.run(["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0
        assert sentence in done.stdout + done.stderr
    assert not (tmp_path / ".venv").exists()


def test_environment_yml_is_read():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["name"] == "yolostudy"
    python = next(word for word in environment["dependencies"] if word.startswith("python="))
    assert PYTHONS[0] <= tuple(map(int, python.removeprefix("python=").split("."))) < PYTHONS[1]


# Tracked files
# --------------------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_tracked_file_holds_a_path_of_a_machine():
    home = re.compile(rb"(?<!\w)/(work|root)/")  # a folder of that name inside an address is none
    holders = [str(file.relative_to(ROOT)) for file in tracked() if home.search(file.read_bytes())]
    assert not holders


def test_no_tracked_file_is_large():
    large = {str(file.relative_to(ROOT)): file.stat().st_size for file in tracked() if file.stat().st_size > 7_500_000}
    assert not large
