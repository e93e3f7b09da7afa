"""Two processes: each demonstration shows what it says, and none is left behind."""

import json
import runpy
import subprocess
import sys
import time

import psutil
import pytest
import torch

from tests import warm
from yolostudy.canvas.style import MAX_BYTES, as_png
from yolostudy.views.engine import parallel, processes

REAL = processes._command
PROGRAM = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


def quick(demo: str) -> list[str]:
    """`processes._command` with forked Pythons."""
    _, _, launcher, *options, program, demo = REAL(demo)
    return [*warm.words("-m", launcher), *options, "--no-python", *warm.words("-c", PROGRAM), program, demo]


@pytest.fixture(scope="module")
def results():
    """demo -> its result; each runs once, when it is asked for."""
    known = {}

    def get(demo: str) -> processes.Result:
        if demo not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(processes, "_command", quick)
                known[demo] = processes.run(demo, progress=False)
        return known[demo]

    return get


# ---- the demonstrations ---------------------------------------------------------------------------


def test_the_program_knows_the_same_demonstrations():
    assert tuple(runpy.run_path(str(processes.PROGRAM), run_name="read")["DEMOS"]) == processes.DEMOS


def test_the_gradients_meet_in_their_mean(results):
    result = results("gradients")
    one, other = (result.numbers[rank] for rank in (0, 1))
    assert one["born"] != other["born"] and one["same"] == other["same"] == one["born"]
    assert one["own"] != other["own"]
    assert one["mean"] == other["mean"]
    torch.testing.assert_close(
        torch.tensor(one["mean"]), (torch.tensor(one["own"]) + torch.tensor(other["own"])) / 2, atol=1e-6, rtol=1e-6
    )
    assert result.waited(0) > 0.25 > result.waited(1), "rank 1 loads 0.4 s longer"


def test_without_set_epoch_each_epoch_has_the_same_order(results):
    orders = [results("no_set_epoch").numbers[rank]["orders"] for rank in (0, 1)]
    for mine, other in (orders, orders[::-1]):
        first, second = mine["without"]
        assert first == second
        first, second = mine["with"]
        assert first != second
        for label in ("without", "with"):
            for epoch in range(2):
                assert sorted(mine[label][epoch] + other[label][epoch]) == list(range(12))


def test_a_loss_that_is_averaged_twice_has_half_the_gradient(results):
    for rank in (0, 1):
        found = results("averaged_twice").numbers[rank]["scalings"]
        ratios = {name: one["ratio"] for name, one in found.items()}
        assert ratios == pytest.approx(
            {"mean": 1, "mean / world size": 0.5, "mean × world size": 2, "sum": 0.5, "sum × world size": 1}
        )
        for one in found.values():
            scaled = torch.tensor(one["single"]) * one["ratio"]
            torch.testing.assert_close(torch.tensor(one["together"]), scaled, atol=1e-5, rtol=1e-5)


def test_two_writers_tear_a_file_and_one_does_not(results):
    for rank in (0, 1):
        numbers = results("rank1_also_saves").numbers[rank]
        assert numbers["torn"] == [2, 2, 0, 0, 1, 1, 1, 1]
        assert numbers["final"] == [2] * 8
        assert numbers["alone"] == [1] * 8


def test_an_evaluation_on_one_rank_ends_after_its_patience(results):
    result = results("eval_on_one_rank")
    for rank in (0, 1):
        assert 1.9 < result.numbers[rank]["waited"] < 15
        assert result.numbers[rank]["reason"]
        assert "Evaluate the bare model" in result.said[rank][-1]
        assert result.waited(rank) > 1.9
    assert "in the broadcast of its evaluation" in result.said[0][-1]
    assert "at the barrier" in result.said[1][-1]
    assert any("imed out" in result.numbers[rank]["reason"] for rank in (0, 1))


@pytest.mark.parametrize("demo", processes.DEMOS)
def test_each_is_drawn_and_printed(results, demo):
    result = results(demo)
    figure = processes.draw_processes(result)
    assert figure.numbers is result and len(as_png(figure)) < MAX_BYTES
    assert str(result).startswith("rank 0: ") and "\n" in str(result)


# ---- starting and ending --------------------------------------------------------------------------


def of_this_test(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


HANGS = """
import json, os, time
with open(os.path.join(os.environ["YOLOSTUDY_DIARY"], "rank" + os.environ["RANK"] + ".jsonl"), "w") as file:
    file.write(json.dumps({"said": "here"}) + "\\n{unfinished")
time.sleep(100)
"""


def test_at_the_end_of_the_time_nothing_is_left(monkeypatch, tmp_path):
    """Real torchrun and real processes, in a folder with spaces."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    program = folder / "hangs.py"
    program.write_text(HANGS)
    monkeypatch.setattr(processes, "PROGRAM", program)
    seen = []
    read = processes._read

    def reading(demo, place, seconds):
        found = read(demo, place, seconds)
        if all(found.said.values()):
            seen.extend(of_this_test(str(program)))
            raise KeyboardInterrupt  # as a user who presses Ctrl-C
        return found

    monkeypatch.setattr(processes, "_read", reading)
    with pytest.raises(KeyboardInterrupt):
        processes.run("gradients", seconds=60)
    assert len(seen) == 3  # torchrun and two processes
    assert not of_this_test(str(program))


def test_a_time_that_is_over_and_a_process_that_fails_say_so(monkeypatch, tmp_path):
    def command(code):
        monkeypatch.setattr(processes, "_command", lambda demo: [sys.executable, "-S", "-c", code])

    command("import time; time.sleep(100)")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"gradients was not done after 0.3 s, so both processes were ended"):
        processes.run("gradients", seconds=0.3)
    assert time.monotonic() - began < 5
    command("import sys; print('the last word'); sys.exit(3)")
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 3.*the last word"):
        processes.run("gradients")
    with pytest.raises(ValueError, match=r"'gradient' is no demonstration. Name one of gradients, no_set_epoch"):
        processes.run("gradient")
    monkeypatch.setattr(processes, "PROGRAM", tmp_path / "nowhere.py")
    with pytest.raises(FileNotFoundError, match="run the notebook from there"):
        processes.run("gradients")


def test_the_program_alone_says_how_to_start_it():
    for words, text in ((["gradient"], "Name one of gradients"), (["gradients"], "torchrun --standalone")):
        command = warm.words("-c", PROGRAM, str(processes.PROGRAM), *words)
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and text in done.stderr, done


# ---- DP against DDP -------------------------------------------------------------------------------


def test_the_table_counts_what_is_copied():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    table = parallel.compare_parallel(model, image=(3, 8, 8), batch=6, devices=3)
    found = {row.what: row.bytes for row in table.rows}
    assert found == {
        "parameters": 4 * (12 + 8),
        "gradients": 4 * 8,  # the convolution is frozen
        "buffers": 4 * 8 + 8,  # mean, variance, and a counter in int64
        "images": 4 * 6 * 3 * 64,
        "outputs": 4 * 6 * 4 * 64,
        "optimizer state": 2 * 4 * 8,
    }
    assert table.dp_step == 2 * (80 + 40 + 32) + 2 * (4608 + 6144) // 3
    assert table.ddp_step == int(2 * 2 / 3 * 32 + 40)
    assert model[1].running_mean.device.type == "cpu" and model[1].num_batches_tracked == 0
    assert "DDP" in str(table) and "<table>" in table._repr_html_()


def test_a_diary_reads_as_far_as_it_is_written(tmp_path):
    span = {"span": "work", "start": 10.0, "end": 11.0, "waits": False}
    later = span | {"start": 11.0, "end": 13.0}
    (tmp_path / "rank1.jsonl").write_text("\n".join(map(json.dumps, (span, later))) + '\n{"said": "hal')
    result = processes._read("gradients", tmp_path, 0)
    assert result.said == {0: [], 1: []}
    assert [(one.start, one.end) for one in result.spans] == [(0, 1), (1, 3)]
    assert [(one.start, one.end) for one in processes._merged(result.spans)] == [(0, 3)]
