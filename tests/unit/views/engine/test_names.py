"""The translation table against the code, the presets and the traces of running engines."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

from yolostudy.canvas import style
from yolostudy.command import main
from yolostudy.runs import presets
from yolostudy.views.engine import names as view
from yolostudy.views.engine import side_by_side

ROOT = Path(__file__).parents[4]
QUICK = ("ours", "yolov6", "detectron2")  # tests/parity/test_engines.py has Ultralytics
names, traced = view.course_engine("names"), view.course_engine("traced")
HAVE = {name for row in names.MOMENTS.values() for own in row.values() for name in own}


@functools.cache
def long_trace(engine):
    """Two epochs of three steps."""
    return traced.seen(traced.record(engine, epochs=2, steps=3), engine)


@functools.cache
def short_trace(engine):
    return traced.record(engine)


# The founding table
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", names.FOUNDING)
def test_every_name_of_a_founding_document_is_a_moment_or_is_here_or_is_missing_with_a_reason(document):
    lost = [name for name in names.FOUNDING[document] if name not in HAVE | names.HERE.keys() | names.MISSING.keys()]
    assert not lost and len(names.FOUNDING[document]) == len(set(names.FOUNDING[document])) > 40
    assert not names.HERE.keys() & names.MISSING.keys() and not HAVE & names.MISSING.keys()
    assert all(len(reason) > 20 for reason in names.MISSING.values())


def test_nothing_is_explained_that_nobody_names():
    named = {name for document in names.FOUNDING.values() for name in document} | names.callbacks()
    assert not (names.HERE.keys() | names.MISSING.keys()) - named


@pytest.mark.parametrize("engine", traced.ENGINES)
def test_every_name_of_the_table_is_in_the_code(engine):
    missing = {name for row in names.MOMENTS.values() for name in row[engine]} - names.known(engine)
    assert not missing


@pytest.mark.parametrize("engine", traced.ENGINES)
def test_every_moment_that_an_engine_offers_is_in_the_table(engine):
    offered = names.hook_points(engine)
    assert len(offered) > 5
    assert not offered - HAVE - names.HERE.keys() - names.MISSING.keys()


def test_main_is_4_0_with_four_methods_renamed():
    changed = {
        old: new for row in names.MOMENTS.values() for old, new in zip(row["yolov6"], row["yolov6_main"]) if old != new
    }
    assert changed == names.RENAMED and len(changed) == 4


def test_an_empty_cell_has_a_reason_and_no_other_cell_has():
    empty = {(moment, engine) for moment, row in names.MOMENTS.items() for engine, own in row.items() if not own}
    assert {(moment, engine) for moment, engine in empty if engine != "yolov6_main"} == names.NONE.keys()
    assert all(names.why_none(*cell) for cell in empty)


def resolve(place):
    """The object, or the preset's default, at `module:name.name` or `key:name`."""
    module, _, path = place.partition(":")
    if module == "key":
        return presets.KEYS[path]
    found = importlib.import_module(module)
    for part in filter(None, path.split(".")):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("place", sorted(set(names.HERE.values())))
def test_what_is_here_is_there(place):
    resolve(place)


def test_a_place_that_is_not_there_is_noticed():
    for place in ("yolostudy.engine:Trainer.nothing", "yolostudy.nothing", "key:nothing"):
        with pytest.raises((KeyError, ImportError, AttributeError)):
            resolve(place)


# Traces
# --------------------------------------------------------------------------------------------------


def disagreements(traces, moments):
    """Names in one row of the table that did not lie between the same backward passes and updates."""
    wrong = []
    for moment, row in moments.items():
        where = {}
        for engine, calls in traces.items():
            found = traced.positions(calls)
            where |= {(engine, name): frozenset(found[name]) for name in row[engine]}
        if len(set(where.values())) > 1:
            wrong.append((moment, where))
    return wrong


def test_one_moment_lies_between_the_same_steps_in_each_engine():
    traces = {engine: long_trace(engine) for engine in QUICK}
    assert not disagreements(traces, names.MOMENTS)


@pytest.mark.parametrize(
    ("one", "other"), [("before_step", "after_step"), ("before_epoch", "after_epoch"), ("before_train", "after_train")]
)
def test_two_names_in_each_others_row_are_noticed(one, other):
    traces = {engine: long_trace(engine) for engine in QUICK}
    swapped = {moment: dict(row) for moment, row in names.MOMENTS.items()}
    swapped[one]["ours"], swapped[other]["ours"] = swapped[other]["ours"], swapped[one]["ours"]
    assert {moment for moment, _ in disagreements(traces, swapped)} >= {one}


@pytest.mark.parametrize("engine", QUICK)
def test_the_positions_of_six_steps(engine):
    """Counted by torch's own backward passes and updates, whatever the engine calls its moments."""
    calls = long_trace(engine)
    where = {moment: set() for moment in names.MOMENTS}
    for call in calls:
        if call.moment in where:
            where[call.moment] |= traced.positions(calls)[call.name]
    steps = range(6)
    assert where["train"] == {(0, 0, 6, 6)} and where["before_train"] == {(0, 0, 0, 0)}
    assert where["run_step"] == {(n, n, n + 1, n + 1) for n in steps}
    assert where["after_step"] == {(n + 1,) * 4 for n in steps}
    assert where["after_train"] == {(6, 6, 6, 6)}
    if engine != "yolov6":  # it has no method there
        assert where["before_step"] == {(n,) * 4 for n in steps}
    if engine != "detectron2":  # it has no epochs
        assert where["before_epoch"] == {(0,) * 4, (3,) * 4} and where["after_epoch"] == {(3,) * 4, (6,) * 4}
    else:
        assert where["after_backward"] == {(n + 1, n, n + 1, n) for n in steps}
        assert where["validation"] == {(3,) * 4, (6,) * 4}
    if engine == "yolov6":
        assert where["update"] == {(n + 1, n, n + 1, n + 1) for n in steps} and where["strip"] == {(6,) * 4}


def test_an_engine_that_nobody_knows():
    with pytest.raises(ValueError, match=r"no engine 'mmengine'.*ours, ultralytics"):
        traced.record("mmengine")


def test_the_command_traces_a_small_engine(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(
        ["trace", "course.engines.detectron2_engine:main", "from=TrainerBase.train", "to=HookBase.after_backward"]
    )
    assert "No call of HookBase.after_backward was made inside a TrainerBase.train" in capsys.readouterr().out
    words = ["trace", "course.engines.yolov6_engine:main", "from=Trainer.train", "to=ModelEMA.update"]
    assert main(words) == 0
    shown = [
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith(("Trainer", "Mod"))
    ]
    assert shown[1:4] == ["Trainer.train_in_loop", "Trainer.train_in_steps", "Trainer.update_optimizer"]


# Pictures
# --------------------------------------------------------------------------------------------------


def trees():
    return {engine: short_trace(engine) for engine in QUICK}


def test_the_picture_has_each_column_in_the_order_of_its_trace():
    figure = side_by_side.three_engines(trees())
    for engine in QUICK:
        calls = side_by_side.moments_of(trees())[engine]
        order = [call.name for call in sorted(calls, key=lambda call: call.start)]
        assert list(dict.fromkeys(order)) == list(dict.fromkeys(figure.numbers["names"][engine]))
        moments = figure.numbers["moments"][engine]
        assert moments.index("before_train") < moments.index("run_step") < moments.index("backward")
        assert moments.index("backward") < moments.index("optimizer.step") < moments.index("after_step")
        assert moments.index("after_step") < moments.index("after_train")
    assert [name for name in figure.numbers["names"]["detectron2"]].count("run_step") == 2, (
        "the trainer and its _trainer"
    )


def test_the_picture_names_every_call_once_and_gives_one_colour_to_a_moment():
    figure = side_by_side.three_engines(trees())
    axes = figure.axes[0]
    said = [text.get_text().removeprefix("torch: ").rpartition(".")[2] for text in axes.texts]
    for engine in QUICK:
        assert all(name.rpartition(".")[2] in said for name in figure.numbers["names"][engine])
    assert {title for key, title in names.ENGINES.items() if key in QUICK} <= {text.get_text() for text in axes.texts}
    assert len(style.as_png(figure)) <= style.MAX_BYTES
    colours = [view.colour_of(moment) for moment in names.MOMENTS]
    assert len(set(colours)) == len(colours) and style.PAPER not in colours
    assert all(style.contrast(style.ink_on(colour), colour) >= 4.5 for colour in colours)


def test_no_two_calls_of_a_column_share_a_row():
    columns = {e: side_by_side.first_calls(calls) for e, calls in side_by_side.moments_of(trees()).items()}
    for rows in side_by_side._layout(columns).values():
        assert rows == sorted(set(rows))


def test_the_page_has_every_call_nested():
    page = side_by_side.engines_page(trees())
    calls = side_by_side.moments_of(trees())
    assert page.numbers["calls"] == sum(map(len, calls.values()))
    assert page.html.count(f"background:{view.colour_of('run_step')}") == 4  # ours, YOLOv6's, and detectron2's two
    assert "title='SimpleTrainer.run_step" in page.html and "margin:2px 0 2px 2em" in page.html


def test_a_tree_that_is_none():
    with pytest.raises(ValueError, match="no engine 'mine'; name the tree one of ours, ultralytics"):
        side_by_side.three_engines({"mine": short_trace("ours")})
    with pytest.raises(ValueError, match=r"the tree of 'detectron2' holds no moment.*do not fold"):
        side_by_side.three_engines({"detectron2": short_trace("yolov6").calls[0].calls[0]})


def test_the_table_as_text_and_as_html():
    table = view.translation_table()
    assert table.numbers["moments"] == len(names.MOMENTS) and table.numbers["here"] == len(names.HERE)
    line = next(line for line in str(table).splitlines() if line.startswith("before the first step"))
    assert line.split()[4:] == [
        "before_train",
        "on_train_start",
        "train_before_loop",
        "before_train_loop",
        "before_train",
    ]
    shown = table._repr_html_()
    for row in names.MOMENTS.values():
        assert all(name in shown for own in row.values() for name in own)
    assert "it counts iterations" in shown and "RepVGGOptimizer" in shown and "key:heavy_eval_range" in shown
    assert shown.count(f"background:{view.colour_of('after_step')}") == len(names.ENGINES)


def test_a_missing_engine_says_where_it_should_be(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*mmengine\.py.*it has detectron2_engine, names"):
        view.course_engine("mmengine")
    monkeypatch.setattr(view, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"belong to the repository, not to the installed package\.$"):
        view.course_engine("names")


def test_the_engines_hold_no_import_of_the_engine_they_stand_for():
    for name in ("yolov6_engine", "detectron2_engine"):
        tree = ast.parse((ROOT / "course" / "engines" / f"{name}.py").read_text("utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {part.split(".")[0] for part in imported} & {"yolov6", "detectron2", "yolostudy", "ultralytics"}
