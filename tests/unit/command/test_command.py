"""The `yolostudy` command as its user meets it: words, errors in one sentence, exit statuses."""

import json
import os
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest

from tests import tiny, warm
from yolostudy import data, hooks
from yolostudy.command import main
from yolostudy.runs import presets
from yolostudy.runs.folders import runs_folder

QUICK = ["profile=mini", "image_size=64", "batch=4", "epochs=1", "tensorboard=false", "precision=fp32"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny set, and the run that a training on it left."""
    root = tmp_path_factory.mktemp("trained")
    folder = tiny.make(root / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOSTUDY_HOME", str(root))
        assert main(["train", "planes.nano", f"data={folder}", "name=first", *QUICK]) == 0
    return folder, root / "runs" / "first"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOSTUDY_HOME", str(tmp_path))
    return tmp_path


# ---- presets -------------------------------------------------------------------------------------


def test_tags_and_keys_compose():
    preset = presets.load("mar20.small.cuda@0.batch@8", seed="3", classes="A1,A2")
    assert (preset.data, preset.size, preset.device, preset.batch, preset.seed) == ("mar20", "s", "cuda:0", 8, 3)
    assert preset.profile == "laptop" and preset.image_size == 640 and preset.classes == ("A1", "A2")
    assert presets.from_dict(json.loads(json.dumps(presets.to_dict(preset)))) == preset


def test_a_key_has_the_last_word_over_its_tag_and_profile():
    assert presets.load("planes.nano.mini.batch@8", batch="4", image_size="96").batch == 4
    assert (
        presets.load("planes.nano.mini").minutes == 5.0 and presets.load("planes.nano.mini", epochs="2").minutes == 0.0
    )


@pytest.mark.parametrize(
    "tags, settings, message",
    [
        ("planes.nanno", {}, r"unknown tag 'nanno'.*did you mean 'nano'.*Known tags: .*mar20.*cuda@…"),
        ("planes.nano", {"epoch": "3"}, r"unknown key 'epoch'; did you mean 'epochs'.*Known keys: .*patience"),
        ("planes.nano", {"batch": "many"}, r"batch=many: this takes a whole number"),
        ("planes.nano", {"batch": "-1"}, r"batch=-1: this takes a whole number from 0"),
        ("planes.nano", {"tensorboard": "perhaps"}, r"tensorboard=perhaps: this takes true or false"),
        ("planes.nano", {"profile": "huge"}, r"unknown profile 'huge'. Known profiles: auto, mini, laptop"),
    ],
)
def test_unknown_words_are_errors_that_list_the_known_ones(tags, settings, message):
    with pytest.raises(presets.PresetError, match=message):
        presets.load(tags, **settings)


# ---- train, val ----------------------------------------------------------------------------------


def test_training_twice_makes_two_runs_and_resume_needs_no_name(trained, home, capsys):
    folder, _ = trained
    for _ in range(2):
        assert main(["train", "planes.nano", f"data={folder}", *QUICK]) == 0
    assert sorted(path.name for path in (home / "runs").iterdir()) == ["own-n-mini-s0", "own-n-mini-s0-2"]
    assert main(["train", "--resume"]) == 0
    assert "own-n-mini-s0-2" in capsys.readouterr().out
    assert len(list((home / "runs").iterdir())) == 2


def test_val_prints_every_class(trained, capsys):
    folder, run = trained
    assert (
        main(
            ["val", "planes.nano", f"data={folder}", f"weights={run}/best.safetensors", "profile=mini", "image_size=64"]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "square" in printed and "bar" in printed and "AP50-95" in printed and "8 images" in printed


def test_classes_are_matched_by_name_and_none_is_made_up(trained, capsys):
    """Weights that know one class measure it, whatever its number, and refuse the other."""
    folder, run = trained
    words = [f"data={folder}", "profile=mini", "image_size=64"]
    assert (
        main(
            ["train", "planes.nano", "classes=bar", "name=bars", f"weights={run}/best.safetensors", *words, *QUICK[2:]]
        )
        == 0
    )
    bars = hooks.load_weights(runs_folder() / "bars" / "best.safetensors")
    assert bars[1]["classes"] == ["bar"] and bars[0]["head.cls.0.2.weight"].shape[0] == 1
    assert main(["val", "planes.nano", "classes=bar", f"weights={run}/best.safetensors", *words]) == 0
    measured = [f"weights={runs_folder()}/bars/best.safetensors", *words]
    assert main(["val", "planes.nano", "classes=bar", *measured]) == 0
    assert main(["val", "planes.nano", *measured]) == 1
    assert "they do not know square. Add classes=bar" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["train"], "say what to train"),
        (["train", "planes", "nano"], "'nano' is neither a tag nor key=value. Join tags by dots: planes.nano"),
        (["train", "planes.nano", "data=nowhere"], "nowhere: there is no such set, folder or file"),
        (["train", "planes.nano", "--resume"], "there is no run 'planes-n-mini-s0'"),
        (["train", "--resume"], "there is no run under "),
        (["train", "--resume", "elsewhere"], "elsewhere: this is no run folder"),
        (["train", "planes.nano.pretrained", "profile=mini", "data={tiny}"], "pretrained needs weights"),
        (
            ["train", "planes.nano", "weights=gone.safetensors", "data={tiny}"],
            "gone.safetensors: there is no such weights file",
        ),
        (
            ["train", "planes.nano.distillation", "split=train", "data={tiny}"],
            "distillation needs a teacher: add teacher=FILE",
        ),
        (["train", "planes.nano", "teacher=gone.pt", "data={tiny}"], "gone.pt: there is no such weights file"),
        (
            [
                "train",
                "planes.nano",
                "feature=cwd",
                "layers=neck.csp_w",
                "teacher={run}/best.safetensors",
                "data={tiny}",
            ],
            "the network has no neck.csp_w. It has neck.csp_",
        ),
        (
            ["train", "planes.nano", "feature=magic", "teacher={run}/best.safetensors", "data={tiny}"],
            "feature=magic: unknown; choose cwd",
        ),
        (["val", "planes.nano"], "val needs weights"),
        (["predict", "nothing.jpg"], "nothing.jpg: there is no such image or folder"),
        (["predict", "weight=x", "photo.jpg"], "unknown key 'weight'"),
        (["data", "check", "nowhere"], "nowhere: there is no such set"),
        (["data", "planes", "profil=mini"], "unknown key 'profil'"),
        (["data", "planes", "seed=one"], "seed=one: this takes a whole number"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_1(trained, capsys, words, message):
    assert main([word.format(tiny=trained[0], run=trained[1]) for word in words]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("yolostudy: ")


def test_two_processes_train_together(trained, tmp_path):
    """The whole command under torchrun: one run folder, written by one of them."""
    command = warm.words("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command += ["--no-python", *warm.words("-m", "yolostudy.command")]
    command += [
        "train",
        "planes.nano",
        f"data={trained[0]}",
        "name=pair",
        "freeze_epochs=1",
        *QUICK,
        "epochs=2",
        "batch=2",
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "YOLOSTUDY_HOME": str(tmp_path),
        "PYTHONPATH": str(data.DATASETS.parent),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["pair"]
    rows = (tmp_path / "runs" / "pair" / "results.csv").read_text().splitlines()
    assert len(rows) == 3 and done.stdout.count("2 epochs in") == 1


def test_an_empty_exercise_is_named_with_the_way_round_it(trained, tmp_path):
    command = warm.words("-m", "yolostudy.command", "train", "planes.nano", f"data={trained[0]}", *QUICK)
    environment = os.environ | {
        "YOLOSTUDY_USE": "mine",
        "YOLOSTUDY_HOME": str(tmp_path),
        "PYTHONPATH": str(data.DATASETS.parent),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    assert done.returncode == 1
    assert "exercise network." in done.stderr and "YOLOSTUDY_USE=hybrid" in done.stderr.splitlines()[-1]


def test_an_interrupt_ends_with_one_line_and_the_way_to_go_on(trained, tmp_path):
    command = warm.words("-m", "yolostudy.command", "train", "planes.nano", f"data={trained[0]}", *QUICK)
    command += ["epochs=500", "save_seconds=0"]
    environment = os.environ | {"YOLOSTUDY_HOME": str(tmp_path), "PYTHONPATH": str(data.DATASETS.parent)}
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a shell starts what runs in the background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    last = tmp_path / "runs" / "own-n-mini-s0" / "last.pt"
    try:
        while not last.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "yolostudy train --resume" in printed.splitlines()[-1] and "Traceback" not in printed
    assert not list(last.parent.glob(".*.part"))


# ---- predict, data -------------------------------------------------------------------------------


def test_predict_paints_a_plain_photograph_and_a_set_with_truth(trained, tmp_path, capsys):
    folder, run = trained
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (90, 150, 3), dtype=np.uint8))
    out = tmp_path / "out"
    assert (
        main(["predict", str(photo), str(folder), f"weights={run}/best.safetensors", f"out={out}", "score=0.001"]) == 0
    )
    printed = capsys.readouterr().out
    assert "25 image(s)" in printed and "true objects" in printed
    assert len(list(out.glob("*"))) == 25 and cv2.imread(str(out / "photo.jpg")) is not None


def test_check_reports_and_its_status_says_whether_something_is_wrong(trained, capsys, tmp_path):
    assert main(["data", "check", str(trained[0])]) == 0
    assert "square" in capsys.readouterr().out
    bad = tiny.make(tmp_path / "bad")
    file = next((bad / "annotations").glob("*.xml"))
    file.write_text(file.read_text().replace("<name>", "<name>x", 1))
    assert main(["data", "check", str(bad)]) == 1
    assert file.name in capsys.readouterr().out


@pytest.mark.parametrize("format", data.FORMATS)
def test_export_can_be_read_again(trained, tmp_path, format):
    assert main(["data", "export", str(trained[0]), format, str(tmp_path / format)]) == 0
    again = data.open_set(tmp_path / format, "validation")
    assert len(again) == 8 and again.class_names == ("square", "bar")
