"""Names, shares and refusals, and the words of `yolostudy weights`; that the numbers then agree is
tested in tests/parity.
"""

import hashlib
import http.server
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolostudy.bridge import checkpoints
from yolostudy.command import main
from yolostudy.hooks import load_weights, save_weights
from yolostudy.network import SIZES, YOLO
from yolostudy.runs import weights_files as word
from yolostudy.runs.detector import SHIPPED
from yolostudy.weights import CONSTANTS, LAYERS, TransferError, export_key, rename_key, transfer, widen_classes


def exported(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {export_key(name): tensor.clone() for name, tensor in model.state_dict().items()}


def test_names_go_there_and_back():
    names = list(YOLO(3).state_dict())
    assert [rename_key(export_key(name)) for name in names] == names
    assert all(export_key(name).startswith("model.") for name in names)
    assert len({export_key(name) for name in names}) == len(names)


def test_a_layer_number_is_not_taken_for_the_beginning_of_another():
    assert rename_key("model.1.conv.weight") == "backbone.down2.conv.weight"
    assert rename_key("model.12.cv1.conv.weight") == "neck.csp_c.cv1.conv.weight"
    assert rename_key("model.22.cv2.1.2.bias") == "head.box.1.2.bias"
    assert rename_key("model.22.dfl.conv.weight") is None
    assert rename_key("something.else") == "something.else"
    assert len(set(LAYERS.values())) == len(LAYERS)


def test_a_whole_transfer_copies_everything_and_keeps_the_models_type():
    source, target = YOLO(3), YOLO(3)
    report = transfer(
        {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in exported(source).items()},
        target,
    )
    assert (
        report.share == 1
        and len(report.matched) == 354
        and not (report.missing or report.unexpected or report.wrong_shape)
    )
    wanted = source.state_dict()
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == wanted[name].dtype
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4)


def test_the_backbone_alone_leaves_the_rest_as_it_was():
    source, target = YOLO(80), YOLO(3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = transfer(exported(source), target, part="backbone")
    assert report.share == 1 and report.missing == [] and report.unexpected == []
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name] if name.startswith("backbone.") else before[name])


def test_other_classes_are_named_as_wrong_shapes():
    report = transfer(exported(YOLO(80)), YOLO(3), minimum_share=0.5)
    assert {name.split(".")[0] for name in report.wrong_shape} == {"head"} and 0.5 < report.share < 1
    assert "wrong shape" in str(report)


def test_a_shifted_checkpoint_is_an_error_and_changes_nothing():
    """Museum row 37: a layer inserted, all later names one off, and the log says "162 of 419
    transferred".
    """
    shifted = {}
    for key, tensor in exported(YOLO(3)).items():
        _, number, rest = key.split(".", 2)
        shifted[f"model.{int(number) + (int(number) > 3)}.{rest}"] = tensor
    target = YOLO(3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(
        TransferError, match=r"only \d+\.\d% of the weights fit.*First missing: .*part='backbone'"
    ) as caught:
        transfer(shifted, target)
    assert caught.value.report.share < 0.9 and caught.value.report.missing
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="choose all or backbone"):
        transfer({}, YOLO(3), part="head")


@given(st.sampled_from(sorted(LAYERS.values())), st.text(min_size=1))
def test_whatever_follows_the_layer_stays(layer, rest):
    assert rename_key(export_key(f"{layer}.{rest}")) == f"{layer}.{rest}"


@given(st.sampled_from(sorted(LAYERS)), st.text(min_size=1))
def test_whatever_follows_the_number_stays(number, rest):
    if (key := f"model.{number}.{rest}") not in CONSTANTS and not rest.startswith(("cv2.", "cv3.")):
        assert rename_key(key) == f"{LAYERS[number]}.{rest}" and export_key(rename_key(key)) == key


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["whole", "missing", "reshaped"]), min_size=6, max_size=6),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_every_name_is_accounted_for_once(fates, minimum_share, extra):
    model = nn.ModuleDict(
        {"backbone": nn.ModuleDict({"stem": nn.BatchNorm2d(3)}), "head": nn.Conv2d(2, 5, 1, bias=False)}
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fate = dict(zip(before, fates, strict=True))
    table = {
        name: tensor + 1 if fate[name] == "whole" else torch.ones(7)
        for name, tensor in before.items()
        if fate[name] != "missing"
    }
    table |= {f"extra.{number}": torch.ones(1) for number in range(extra)}
    share = sum(tensor.numel() for name, tensor in before.items() if fate[name] == "whole") / sum(
        t.numel() for t in before.values()
    )
    try:
        report = transfer(table, model, minimum_share=minimum_share)
    except TransferError as error:
        report = error.report
        assert share < minimum_share
    else:
        assert share >= minimum_share
    assert {name: "whole" for name in report.matched} | {name: "missing" for name in report.missing} | {
        name: "reshaped" for name in report.wrong_shape
    } == fate
    assert len(report.unexpected) == extra and report.share == pytest.approx(share)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] + (fate[name] == "whole" and share >= minimum_share))


# ---- other classes -------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", [False, True], ids=["our names", "their names"])
def test_classes_go_by_their_names(theirs):
    old, new, model = ("a", "b", "c"), ("d", "c", "a", "e"), YOLO(4)
    source = YOLO(3)
    for level in source.head.cls:
        nn.init.normal_(level[-1].bias)
    table = exported(source) | {CONSTANTS[0]: torch.arange(16.0)} if theirs else source.state_dict()
    keys, before = [*table], {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = transfer(widen_classes(table, old, new, model), model, minimum_share=1.0)
    assert len(report.matched) == 354 and not report.unexpected and [*table] == keys
    for level in range(3):
        for kind in ("weight", "bias"):
            mine, own = model.state_dict()[f"head.cls.{level}.2.{kind}"], before[f"head.cls.{level}.2.{kind}"]
            known = source.state_dict()[f"head.cls.{level}.2.{kind}"]
            assert torch.equal(mine, torch.stack([own[0], known[2], known[0], own[3]]))
    assert torch.equal(model.backbone.stem.conv.weight, source.backbone.stem.conv.weight)


def test_nano_is_as_wide_for_10_classes_as_for_20_and_not_for_80():
    widths = {classes: YOLO(classes).head.cls[0][0].conv.out_channels for classes in (1, 10, 20, 64, 65, 80)}
    assert widths == {1: 64, 10: 64, 20: 64, 64: 64, 65: 65, 80: 80}


def test_class_names_that_do_not_belong_are_refused():
    weights, model = YOLO(3).state_dict(), YOLO(2)
    with pytest.raises(
        ValueError,
        match=r"head.cls.0.2.weight has 3 classes in the weights and 2 in the model, but 2 and 2 class names",
    ):
        widen_classes(weights, ["a", "b"], ["a", "b"], model)
    with pytest.raises(ValueError, match=r"but 3 and 1 class names"):
        widen_classes(weights, ["a", "b", "c"], ["a"], model)
    with pytest.raises(ValueError, match=r"has 0 classes in the weights"):
        widen_classes({}, ["a"], ["a", "b"], model)
    names = [str(number) for number in range(80)]
    with pytest.raises(ValueError, match=r"80 channels wide in the weights and 64 in the model.*part='backbone'"):
        widen_classes(YOLO(80).state_dict(), names, names[:2], model)


def test_saved_weights_come_back_with_their_card(tmp_path):
    model, card = YOLO(2), {"classes": ["a", "b"], "map50": 0.5}
    save_weights(tmp_path / "full.safetensors", model, card)
    save_weights(tmp_path / "half.safetensors", model, card, half=True)
    weights, read = load_weights(tmp_path / "full.safetensors")
    assert read == card and all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size < 16e6


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("this ran",))

    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(ValueError, match=r"hostile.pt: cannot be read as weights"):
        load_weights(tmp_path / "hostile.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(ValueError, match=r"torn.safetensors: cannot be read as weights"):
        load_weights(tmp_path / "torn.safetensors")


# ---- bringing in and handing out -----------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_first_layer_says_the_size(size):
    with torch.device("meta"):
        weights = YOLO(3, size).state_dict()
    assert word.size_of(weights) == size
    assert word.size_of({export_key(name): tensor for name, tensor in weights.items()}) == size
    assert word.classes_of(weights) == 3


def test_what_is_no_yolov8_is_said(tmp_path):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match="no weights of a YOLOv8: its first convolution has 16 to 80 channels, and this file's has 0"
    ):
        word.bring_in(tmp_path / "other.pt")


def test_a_backbone_is_brought_in_under_their_names(tmp_path, capsys):
    source = YOLO(80)
    torch.save(exported(source) | {CONSTANTS[0]: torch.arange(16.0).reshape(1, 16, 1, 1)}, tmp_path / "yolov8n.pt")
    out = tmp_path / "made" / "b.safetensors"
    assert main(["weights", "import", str(tmp_path / "yolov8n.pt"), "part=backbone", f"out={out}"]) == 0
    assert "162 matched, 0 missing, 0 unexpected, 0 wrong shape; 100.0% of the numbers fit" in capsys.readouterr().out
    weights, card = checkpoints.load(out)
    assert len(weights) == 162 and all(re.match(r"model\.[0-9]\.", key) for key in weights)
    assert card == {"preset": {"image_size": 640, "size": "n"}, "part": "backbone", "source": "yolov8n.pt"}
    target = YOLO(3)
    transfer(weights, target, "backbone", minimum_share=1.0)
    assert all(
        torch.equal(tensor, source.backbone.state_dict()[name]) for name, tensor in target.backbone.state_dict().items()
    )
    assert [*out.parent.iterdir()] == [out]


def test_halves_stay_halves_and_nothing_else_does(tmp_path):
    half, full = YOLO(2), YOLO(2)
    for tensor in half.state_dict().values():
        tensor.copy_(tensor.half()) if tensor.is_floating_point() else tensor
    torch.save(
        {key: t.half() if t.is_floating_point() else t for key, t in exported(half).items()}, tmp_path / "half.pt"
    )
    torch.save(exported(full), tmp_path / "full.pt")
    for name, model, megabytes in (("half", half, 6), ("full", full, 12)):
        out, _ = word.bring_in(tmp_path / f"{name}.pt", str(tmp_path / f"{name}.safetensors"))
        assert megabytes - 0.5 < out.stat().st_size / 1e6 < megabytes + 0.5
        weights = checkpoints.load(out)[0]
        assert {rename_key(key) for key in weights} == model.state_dict().keys()
        assert all(torch.equal(tensor, model.state_dict()[rename_key(key)]) for key, tensor in weights.items())


def test_too_little_is_no_weights_file(tmp_path, capsys):
    torch.save({"model.0.conv.weight": torch.ones(16, 3, 3, 3)}, tmp_path / "little.pt")
    assert main(["weights", "import", str(tmp_path / "little.pt"), f"out={tmp_path / 'a.safetensors'}"]) == 1
    assert "only 0.0% of the weights fit" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["little.pt"]


def test_shipped_weights_are_shown_and_handed_out(tmp_path, capsys):
    shipped = SHIPPED / "planes-n-mini.safetensors"
    assert main(["weights", "show", str(shipped)]) == 0
    shown = capsys.readouterr().out
    assert (
        "354 tensors" in shown
        and "classes      A1, A2" in shown
        and re.search(r"backbone.sppf +12 +[\d,]+  backbone", shown)
    )
    out = tmp_path / "planes.pt"
    assert main(["weights", "export", str(shipped), str(out)]) == 0
    back, card = checkpoints.load(out)
    weights, own = checkpoints.load(shipped)
    assert card["classes"] == own["classes"] and card["preset"] == {"size": "n", "image_size": 160}
    assert all(torch.equal(back[export_key(name)], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "a.safetensors", "b.onnx"], r"b.onnx: Ultralytics opens only files whose name ends in .pt"),
        (["export", "a.safetensors"], r"weights export: give a file and the .pt to write"),
        (["show", "nowhere.pt"], r"nowhere.pt: there is no such weights file"),
        (["import", "a.pt", "part=neck", "colour=red"], r"'colour' is unknown. Known keys: out, part, size"),
        (["fetch", "yolov9n"], r"'yolov9n' is not in the table. It has yolov8n, yolov8s"),
        (
            ["fetch", "yolov8n"],
            r"nobody has verified a SHA-256 of yolov8n.*v8.4.0/yolov8n.pt was not downloaded.*sha256=",
        ),
        (["fetch", "yolov8n", "sha256=abc"], r"'abc' is no SHA-256, which has 64 hexadecimal digits"),
    ],
)
def test_wrong_words_are_answered(words, sentence, capsys):
    assert main(["weights", *words]) == 1
    assert re.search(sentence, capsys.readouterr().err)


# ---- fetching ------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A file server on this machine that misbehaves as its path says; `asked` has the paths,
    `begun` is set when a body has begun.
    """
    asked, begun, over = [], threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/gone":
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if self.path == "/changed":
                self.wfile.write(CONTENT[:5000] + b"x" + CONTENT[5001:])
            elif self.path == "/torn":
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
            elif self.path in ("/dies", "/hangs"):
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
                self.wfile.flush()
                begun.set()
                if self.path == "/hangs":
                    over.wait(60)
                else:  # close with a reset, as a machine that goes down does
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    os.close(self.connection.detach())
            else:
                self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

        def finish(self):
            try:
                super().finish()
            except OSError:
                pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.daemon_threads, made.handle_error = True, lambda *_: None
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield SimpleNamespace(address=f"http://127.0.0.1:{made.server_port}", asked=asked, begun=begun)
        over.set()
        made.shutdown()
        thread.join()


def fetch(server, path: str, folder, sha256: str = SHA256):
    known = {"small": checkpoints.Source(server.address + path, len(CONTENT), sha256)}
    return word.fetch("small", str(folder / "small.pt"), known=known)


def test_a_download_is_checked_and_happens_once(server, tmp_path, capsys):
    path = fetch(server, "/whole", tmp_path / "new")
    assert path.read_bytes() == CONTENT and [*path.parent.iterdir()] == [path]
    assert "downloaded, and its checksum is right" in capsys.readouterr().out
    fetch(server, "/whole", tmp_path / "new")
    assert server.asked == ["/whole"] and "already there" in capsys.readouterr().out
    path.write_bytes(CONTENT[:100])
    fetch(server, "/whole", tmp_path / "new")
    assert server.asked == ["/whole"] * 2 and path.read_bytes() == CONTENT
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("/changed", ValueError, r"/changed: what came is torn or has been changed .*Nothing of it was kept"),
        ("/torn", ValueError, r"/torn: what came is torn or has been changed"),
        ("/gone", OSError, r"/gone: could not be downloaded \(HTTP Error 404"),
        ("/dies", OSError, r"/dies: could not be downloaded \(.*[Rr]eset"),
        ("/hangs", OSError, r"/hangs: could not be downloaded \(.*timed out"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"the old file"], ids=["nothing there", "an old file there"])
def test_a_bad_download_leaves_nothing(server, tmp_path, monkeypatch, path, kind, sentence, before):
    monkeypatch.setattr(word, "PATIENCE", 0.5)
    if before:
        (tmp_path / "small.pt").write_bytes(before)
    with pytest.raises(kind, match=sentence):
        fetch(server, path, tmp_path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before] * bool(before)


def test_no_server_and_no_address(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match=r"could not be downloaded .*refused.*Nothing was kept"):
        word.fetch("yolov8n", str(tmp_path / "a.pt"), SHA256, f"http://127.0.0.1:{port}/small.pt")
    with pytest.raises(ValueError, match=r"from='small.pt' is no address of a file"):
        word.fetch("yolov8n", str(tmp_path / "a.pt"), SHA256, "small.pt")
    assert not [*tmp_path.iterdir()]


def test_an_interrupt_leaves_nothing(server, tmp_path):
    command = [sys.executable, "-m", "yolostudy.command", "weights", "fetch", "yolov8n"]
    command += [f"from={server.address}/hangs", f"sha256={SHA256}", f"out={tmp_path / 'a.pt'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.begun.wait(60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted; nothing is left half-written" in said
    assert not [*tmp_path.iterdir()]


def test_drafts_of_a_killed_fetch_go_away(server, tmp_path):
    old, young, other = (
        tmp_path / name for name in ("small.pt.abc.partial", "small.pt.def.partial", "big.pt.abc.partial")
    )
    for draft in (old, young, other):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    fetch(server, "/whole", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"small.pt", young.name, other.name}


def test_no_checksum_was_invented():
    """Whoever fills the table in has verified what is written there; until then nothing is
    downloaded.
    """
    for name, source in checkpoints.PUBLIC.items():
        assert source.address == f"https://github.com/ultralytics/assets/releases/download/v8.4.0/{name}.pt"
        assert source.sha256 == "" or re.fullmatch("[0-9a-f]{64}", source.sha256)


def test_the_address_is_the_one_that_ultralytics_takes():
    import inspect

    from yolostudy.bridge import ultralytics as oracle

    oracle.load()
    from ultralytics.utils import downloads

    release = inspect.signature(downloads.attempt_download_asset).parameters["release"].default
    assert f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/{release}" == checkpoints.RELEASE
    assert all(f"{name}.pt" in downloads.GITHUB_ASSETS_NAMES for name in checkpoints.PUBLIC)
