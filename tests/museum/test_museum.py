"""Every room shows its symptom when broken and not when fixed, and the lens names the cause."""

import json
import subprocess
import sys

import pytest
import torch

from yolostudy.command import main
from yolostudy.study import learner, museum

# row: what the broken program says, what the lens says of it, what the fixed program says
ROWS = {
    1: ("FileNotFoundError", "/images/train/a.png", "bytes read"),
    2: ("TypeError: descriptor '__init__' of 'super'", "in __init__\nTypeError", "made: ConvModule"),
    3: ("TypeError", "16.0, a float", "Conv2d(3, 16"),
    4: ("0 parameters", "1 × 8 × 8 × 8", "232 parameters"),
    5: ("to have 64 channels, but got 128", ">1.conv", "(1, 32, 4, 4)"),
    6: ("cannot unpack non-iterable NoneType", "the backbone returns None", "P2 (1, 32, 16, 16)"),
    7: ("too many values to unpack", "boxes are (2, 336, 64)", "total"),
    8: ("total nan   box nan   cls nan   dfl nan", "NaN born in pow", "total"),
    9: ("box nan   cls inf   dfl nan", "NaN born in div", "box 0   cls 183.8   dfl 0"),
    10: ("0 anchors are responsible", "anchors 0.5 … 15.5, ground truths 0 … 104", "10 anchors are responsible"),
    11: ("off by 96.5", "target boxes 4 … 120", "off by 0"),
    12: ("30 of 672", "0 anchors have a gradient", "672 of 672"),
    13: ("part of the graph", "scores   requires_grad True", "are detached"),
    14: ("1 of mine are unknown", "conv.bias", "0 of mine are unknown"),
    15: ("IndexError", "foreground  torch.float32", "0 anchors are chosen"),
    16: ("loss 0.", "backbone  0\n", "loss 0."),
    17: ("rate 0.1: 0 of 3", "targets 4 … 120", "rate 0.1: 3 of 3"),
    18: ("80 take 6", "80: 6", "80 take 0"),
    19: ("loss of an undecided student -0.", "KL(x, x) = -0.", "undecided student 0."),
    20: ("response loss 0.5", "left 0, left 1", "response loss 0.000"),
    21: ("it teaches 1", "a tensor (2, 4, 4, 4)", "it teaches 2"),
    22: ("AP 2.0", "predicted twice: 2 hits", "AP 1.0"),
    23: ("6 of the teacher", "stem.bn.running_mean", "0 of the teacher"),
    24: ("answers differ by 0.5", "training True, statistics kept False", "answers differ by 0.000"),
    25: ("3 tensors moved", "bn.running_mean", "0 tensors moved"),
    26: ("by the model 3, by its average 0", "torch.int64", "by its average 3"),
    27: ("moved by 0", "is the average: False", "moved by 1.82"),
    28: ("354 matched, 0 missing", "neck        0 of 108", "246 matched, 108 missing"),
    29: ("differ by 0.", "First difference: neck.up", "differ by 0 "),
    30: ("differ by 0.", "First difference: cv1.act", "differ by 0 "),
    31: ("torch.bfloat16", "autocast is on: True", "torch.float32"),
    32: ("one without 1.8", "sum to 0.0", "one without 183.8"),
    33: ("taught as class 1 of 2", "index 7 is out of bounds", "class -1 is out of range"),
    34: ("0 × 0 pixels", "says 16 … 50", "looks like pixels"),
    35: ("0 objects in 1 image", "label/train/a.txt", "0 labels found under this folder"),
    36: ("nan", "NaN born in pow", "0.0]"),
    37: ("166 of 354", "first missing     neck.csp_c.cv1.conv.weight", "354 of 354"),
    38: ("lr0=0.5 was asked for, the optimizer has 0.00", "2 tensors, lr 0.00", "the optimizer has 0.5"),
    39: ("the left tip at x = 80", "x 20 -> 80", "the left tip at x = 20"),
    40: ("seed 3 differ", "0.844, 0.844, 0.844", "seeds 3 and 4 differ"),
    41: ("answers differ by", "bn.running_mean          differs by", "answers differ by 0."),
    42: ("not enough values to unpack", " in forward\nValueError", "labels (2, 1)"),
    43: ("in the total beyond the labels 0.000", "has norm 0", "in the total beyond the labels 0.8"),
    44: ("push 0.500", "taught at column 2, row 9 and column 6, row 4", "push 0.000"),
    45: ("9 of them outside", "chosen     [", "0 of them outside"),
    46: ("loss nan", "infinity born in log", "loss 200"),
    47: ("0.00026 at τ = 20", "τ = 20   0.00026", "0.104 at τ = 20"),
    48: ("tiled 4 × 4 229", "16 times the anchors, 16 times the loss", "tiled 4 × 4 0.7"),
    49: ("response loss 0.000", "softmax 0.731, 0.269", "response loss 4.7"),
    50: ("A1 0.98 -> 0.02", "A1  background  its logit is pushed down", "A1 0.98 -> 0.95"),
    51: ("at x = 50 and 50", "twice: off by 0 pixels; once: the left wing tip is on the right", "at x = 20 and 80"),
    52: (
        "left wing tip is on the right",
        "west red, east green; a real one: west green",
        "left wing tip is on the left",
    ),
    53: (
        "right, left, right, left",
        "four turns together: off by 0 pixels; one alone: right",
        "left, left, left, left",
    ),
    54: ("says -0.5, the pixel is at 0.5", "outside the picture; twice: off by 0", "says 0.5, the pixel is at 0.5"),
    55: ("loss 0.000", "three are labelled, 1 of them learn", "loss 0.950"),
    56: ("a hit at 9 of 10", "  6 pixels off   OKS 0.92", "a hit at 0 of 10"),
    57: ("points 3.00 strides off", "3 strides off   gradient 2e-08", "points 0.00 strides off"),
    58: ("off by 4, 8 and 16 pixels", "0 is decoded as 4, 8, 16", "off by 0, 0 and 0 pixels"),
    59: ("without its gain is 1.000", "true x              16.0 … 120.0", "without its gain is 0.4"),
    60: ("three hidden 0.071", "2 visible   loss 0.142", "three hidden 0.283"),
    61: ("loss 0.000", "a gradient reaches x, y", "loss 0.693"),
    62: ("loss nan", "infinity born in rdiv", "loss 0.000"),
    63: ("20 of 30 anchors", "image 1 gets rows [0, 1]; its own are [0, 2]", "0 of 30 anchors"),
    64: (
        "highest 0.9608, first in column 20, row 20\nσ = 1.5   highest 0.8948",
        "0.368 0.961 0.194",
        "0.625 highest 1.0000",
    ),
    65: ("highest value 1.49", "1 found, in column 11: 1.489", "highest value 1.00"),
    66: ("push 0.2500", " 1 people  push 0.5000", "push 0.0000"),
    67: ("200 curves", "heatmap loss 2: 2 points\nand 197 more", "2 curves"),
    68: ("the teacher is changed, the file 2.00", "6,173,952 trained", "as it was, the file 1.00"),
    69: ("'NoneType' object is not callable", "the registry has the class: True", "a pyramid with 3 levels"),
    70: ("Small. A module registers", "before: Large; after: Large, Small", "There are: Large."),
    71: ("a width of 16 is built", "the new one: False, the old one: True", "refused: backbones: Small is registered"),
    72: ("the loss has 7.5", "{'box': 9.0}, a dict", "the loss has 9"),
    73: ("the head has silu", "alone relu; with a configuration silu", "the head has relu"),
    74: ("64\none too many: accepted", "\nfrom_config(cfg, width=1.0)", "takes from 2 to 3 positional arguments but 4"),
    75: ("has 64 channels", "built PoseHead; asked BoxHead", "has 12 channels"),
    76: ("5 models are in memory", "held by EvaluationHook.trainer", "0 models are in memory"),
    77: ("the hook's file is open", "after_step before_step after_step before_step", "the hook's file is closed"),
    78: (
        "the weights are those of epoch 3",
        "epoch 2: best sees 0.3, measured 0.7",
        "the weights are those of epoch 2",
    ),
    79: ("the resume: boxes 0.4", "2 hooks, keys: Best 0.4", "the resume: boxes 0.8, keypoints 0.4"),
    80: ("the statistics were moved by 2", "True True False False", "the statistics were moved by 6"),
    81: ("0.1785 without and 0.1971", "0 1 2 2 3 4 5: 7 epochs", "0.1785 without and 0.1785"),
    82: ("the teacher says 0.79297", "torch.bfloat16", "the teacher says 0.79059"),
    83: ("3 epochs, 1 different", "epoch 0: [8, 5, 7]   epoch 1: [8, 5, 7]", "3 epochs, 3 different"),
    84: ("rank 0 and rank 1: no answer for 0.8 s", "rank 1: joined.barrier().wait()", "both pass the barrier"),
    85: ("nothing was printed", "imports my_callbacks: False", "rank 1: epoch 1 is done"),
    86: ("the average's: a, b", "DistributedDataParallel; has names: False", "the average's: airliner, fighter"),
    87: ("4 of the last 9", " 1  xxxxxxxxxxxx..x..x.x", "9 of the last 9"),
    88: ("and 3 in a run that was resumed", "MMM", "and 0 in a run that was resumed"),
    89: ("pixels up to 255", "shares its memory: True", "pixels up to 1;"),
    90: ("the highest of 750 steps is 0.0075", "epoch 10  ==============================", "of 750 steps is 0.01"),
    109: (
        "after training, by 0 after loading; on the network's device: yes\nAsAttributes  off by 0",
        "AsAttributes  pixel_mean is in none of them",
        "AsBuffers     off by 0 after training, by 0 after loading; on the network's device: yes",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_room(row):
    before, finding, after = ROWS[row]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    visit = museum.visit(row)
    assert visit.before.shows_bug and before in visit.before.text
    assert finding in str(visit.finding)
    assert not visit.after.shows_bug and after in visit.after.text
    assert visit.room.cause and visit.room.tool and visit.room.place in str(visit)
    assert bool(visit.room.fix) == (visit.room.misconception is not None)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_every_row_is_a_room_or_comes_later():
    assert ROWS.keys() == museum.rooms().keys()
    assert not museum.rooms().keys() & museum.COMING.keys()
    assert sorted([*museum.rooms(), *museum.COMING]) == list(range(1, museum.ROWS + 1))


def test_every_mistake_with_a_row_has_its_room():
    known = {
        m.museum: (name, m.name)
        for name, exercise in learner.judge().exercises.items()
        for m in exercise.misconceptions
        if m.museum
    }
    assert known.keys() <= museum.rooms().keys()
    for row, room in museum.rooms().items():
        if room.mistake and row != 17:  # which borrows the mistake of row 11 for the story of a hidden bug
            name, mistake = room.misconception
            assert mistake.museum == row, f"room {row} shows {name}: {mistake.name}"
        if row in known:
            assert room.mistake, f"room {row} should show the mistake {known[row]}, which an exercise knows"


def test_the_microscope_names_the_line():
    finding = museum.visit(9).finding
    assert (finding.op, finding.reaches) == ("div", "the loss")
    assert finding.source.startswith('parts = {"box": box / normaliser')


def test_the_list_says_what_is_open(capsys):
    assert main(["museum"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[:-1]] == list(range(1, museum.ROWS + 1))
    assert f"{len(ROWS)} rooms are open" in lines[-1]
    assert sum("comes with stage" in line for line in lines) == len(museum.COMING)
    assert museum.labels() == {row: (room.where, room.symptom, room.tool) for row, room in museum.rooms().items()}


def test_the_list_does_not_wait_for_torch():
    code = "import sys; from yolostudy.study import museum; museum.listing(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rooms_are_printed_and_judged(capsys, monkeypatch):
    assert main(["museum", "8", "9"]) == 0
    out = capsys.readouterr().out
    assert "- assigned = self.assigner(class_logits.detach(), predicted" in out
    assert "The program: course/museum/losses.py:" in out
    healthy = museum.Room(1, "nothing", "no cause", broken=1, fixed=1)
    healthy.look(lambda thing: (False, "healthy"))
    healthy.find("a look")(lambda thing: "nothing")
    monkeypatch.setattr(museum, "rooms", lambda: {1: healthy})
    assert main(["museum", "1"]) == 1, "a room without its symptom is reported"


@pytest.mark.parametrize(("row", "words"), [(110, "from 1 to 109"), (91, "comes with stage 12")])
def test_what_is_no_room_is_said(row, words):
    with pytest.raises(ValueError, match=words):
        museum.visit(row)


def test_an_unknown_mistake_is_named():
    room = museum.Room(8, "x", mistake=("losses.DetectionLoss", "no such mistake"))
    with pytest.raises(ValueError, match=r"losses.DetectionLoss does not know. It knows the assigner gets"):
        _ = room.subjects


def test_a_patch_that_does_not_fit_is_named():
    room = museum.Room(25, "x", "why", patch=("training.freeze", ("no such text", "")))
    with pytest.raises(ValueError, match="no such text"):
        _ = room.subjects


def test_frames_of_what_runs_through():
    assert museum.frames(lambda: None) == "nothing was raised"


def test_the_museum_is_closed_in_a_sealed_course(monkeypatch, tmp_path):
    from yolostudy.study import edition_in_use
    from yolostudy.study.course import Course

    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "key.json").write_text(json.dumps({}))
    sealed = Course.open(tmp_path, "yolostudy")
    monkeypatch.setattr(edition_in_use, "course", lambda: sealed)
    museum.rooms.cache_clear()
    with pytest.raises(ValueError, match="sealed"):
        museum.rooms()
    museum.rooms.cache_clear()
