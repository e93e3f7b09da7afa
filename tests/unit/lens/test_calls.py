"""A recorded program as a tree: folded, exported, drawn, browsed."""

import json
from pathlib import Path

import pytest

from solutions import trace
from tests.unit.recorded import calls, chain_to_the_loss, pose_epoch, profilers
from yolostudy.canvas import style
from yolostudy.lens.calls import browser as call_browser
from yolostudy.lens.calls import tree as call_tree
from yolostudy.lens.calls.picture import MAX_ROWS, draw_chain, draw_tree


@pytest.fixture(autouse=True)
def _nothing_stays():
    before = profilers()
    yield
    assert profilers() == before


@pytest.fixture(scope="module")
def pose():
    return pose_epoch()


@pytest.fixture(scope="module")
def chain(pose):
    return chain_to_the_loss(pose[0])


def boom_quietly():
    try:
        boom()
    except ValueError:
        pass


def boom():
    raise ValueError("boom")


def boom_in_turn(times):
    for _ in range(times):
        boom_quietly()


def test_repeated_calls_are_one_row():
    tree = trace.record(boom_in_turn, 4, packages=(__name__,))
    row = call_tree.fold(tree).children[0]
    (quiet,) = row.children
    assert (quiet.name, quiet.count, quiet.children[0].count, quiet.total) == ("boom_quietly", 4, 4, 8)
    assert quiet.seconds == pytest.approx(sum(call.seconds for call in tree.calls[0].calls))
    text = call_tree.as_text(tree, times=False)
    assert text.splitlines() == ["record", "└─ boom_in_turn", "   └─ boom_quietly × 4", "      └─ boom × 4"]


def test_exports_hold_every_call(pose, chain):
    tree, _ = pose
    nested = json.loads(call_tree.as_json(tree))
    assert calls_of_json(nested) == calls(tree)
    events = json.loads(call_tree.as_chrome(tree))["traceEvents"]
    assert len(events) == calls(tree) and {event["ph"] for event in events} == {"X"}
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events)
    assert any(event["name"] == "v8DetectionLoss.__call__ of v8PoseLoss" for event in events)
    flow = call_tree.as_mermaid(tree, chain=chain).splitlines()
    assert (
        flow[0] == "flowchart LR" and len(flow) == 1 + 4 + 3 and "v8PoseLoss<br/>ultralytics/utils/loss.py:" in flow[4]
    )
    whole = call_tree.as_mermaid(tree, depth=2).splitlines()
    assert whole[0] == "flowchart TD" and sum("-->" in line for line in whole) == sum("[" in line for line in whole) - 1


def calls_of_json(call) -> int:
    return 1 + sum(map(calls_of_json, call["calls"]))


def test_json_knows_no_nan():
    tree = trace.record(float, "nan")
    assert json.loads(call_tree.as_json(tree), parse_constant=pytest.fail)["result"] == "nan"


def test_the_pictures(pose, chain):
    whole = draw_tree(pose[0], chain)
    assert len(whole.numbers["marked"]) == 4 and whole.numbers["rows"] <= MAX_ROWS
    assert len(style.as_png(whole)) <= style.MAX_BYTES
    figure = draw_chain(chain)
    assert figure.numbers["places"][-1].startswith("ultralytics/utils/loss.py:")
    assert len(style.as_png(figure)) <= style.MAX_BYTES


def test_the_source_of_a_call(chain):
    text = call_tree.source(call_tree.fold(chain[-1]))
    assert text.startswith("def __call__(") and "parse_output" in text
    assert call_tree.source(call_tree.fold(trace.Call("record"))) == ""


def test_one_word_records_and_browses():
    from yolostudy import lens

    def outer(number):
        return inner(number) + 1

    def inner(number):
        return 2 * number

    browser = lens.trace(outer, 3, packages=(__name__,), between=("outer", "inner"))
    assert [name.rpartition(".")[2] for name in browser.numbers["visible"]] == ["record", "outer", "inner"]
    assert [call.arguments["number"] for call in browser.chain] == [3, 3]


def test_the_browser(pose, chain):
    tree, _ = pose
    browser = call_browser.CallTree(tree, chain)
    shown = browser.numbers["visible"]
    assert "v8DetectionLoss.__call__ of v8PoseLoss" in shown and len(shown) < browser.numbers["rows"]
    browser.controls.search.value = "init_criterion"
    assert browser.numbers["matches"] == 2 and browser.numbers["chosen"] == "PoseModel.init_criterion"
    assert browser.numbers["source_lines"] >= 3 and "def init_criterion" in browser.controls.detail.value
    browser.controls.search.value = "no such name"
    assert browser.numbers["visible"] == [] and browser.numbers["chosen"] == ""
    browser.controls.search.value = ""
    browser.close_all()
    assert browser.numbers["visible"] == ["record", "BaseTrainer.train of PoseTrainer"]
    browser.choose("BaseTrainer.train of PoseTrainer")
    browser.toggle()
    assert len(browser.numbers["visible"]) > 2
    browser.toggle()
    assert len(browser.numbers["visible"]) == 2
    browser.choose("v8DetectionLoss.__call__ of v8PoseLoss")
    assert "keypoints" in browser.controls.detail.value
    assert {"image/png", "text/plain"} <= set(browser._repr_mimebundle_())
    page = call_browser.page(tree, chain=chain)
    assert (
        page.html.count("<details") > 20 and page.numbers["shown"] <= page.numbers["rows"] and len(page.html) < 200_000
    )
    assert str(Path.home()) not in page.html
