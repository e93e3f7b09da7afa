"""Files of weights: import, export and download, as the words of `yolostudy weights` use them."""

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

from yolostudy.bridge import checkpoints
from yolostudy.command import main
from yolostudy.hooks import save_weights
from yolostudy.network import SIZES, YOLO
from yolostudy.pose import PoseYOLO
from yolostudy.runs import weights_files
from yolostudy.runs.folders import SHIPPED
from yolostudy.weights import CONSTANTS, export_key, rename_key, transfer


def exported(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {export_key(name): tensor.clone() for name, tensor in model.state_dict().items()}


# ---- importing and exporting ---------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_first_layer_says_the_size(size):
    with torch.device("meta"):
        weights = YOLO(3, size).state_dict()
    assert weights_files.size_of(weights) == size
    assert weights_files.size_of({export_key(name): tensor for name, tensor in weights.items()}) == size
    assert weights_files.classes_of(weights) == 3


def test_what_is_no_yolov8_is_said(tmp_path):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError,
        match=r"other.pt: these are no weights of a YOLOv8. .* 16 to 80 channels, and here it has 0",
    ):
        weights_files.import_weights(tmp_path / "other.pt")


def test_a_pose_network_goes_out_and_comes_back_with_its_keypoints(tmp_path):
    names, points = ["a", "b"], ["nose", "left tip", "right tip"]
    card = {"kind": "pose", "classes": names, "preset": {"size": "n", "image_size": 160}}
    card |= {"keypoint_shape": [3, 2], "keypoint_names": points, "flip_index": [0, 2, 1]}
    model = PoseYOLO(2, keypoint_shape=(3, 2))
    save_weights(tmp_path / "ours.safetensors", model, card)
    weights_files.export_weights(tmp_path / "ours.safetensors", tmp_path / "theirs.pt")
    made, report = weights_files.import_weights(tmp_path / "theirs.pt", str(tmp_path / "back.safetensors"))
    assert report.share == 1 and (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    weights, read = checkpoints.load(made)
    assert {key: read[key] for key in card} == card
    back = PoseYOLO(2, keypoint_shape=(3, 2))
    transfer(weights, back, minimum_share=1.0)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.state_dict().items())
    made, _ = weights_files.import_weights(tmp_path / "theirs.pt", str(tmp_path / "part.safetensors"), "backbone")
    assert not {"classes", "keypoint_shape", "keypoint_names", "flip_index"} & checkpoints.load(made)[1].keys()


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
        out, _ = weights_files.import_weights(tmp_path / f"{name}.pt", str(tmp_path / f"{name}.safetensors"))
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
        (["import", "yolov8n.pt"], r"yolov8n.pt: there is no such file. .*`yolostudy weights fetch yolov8n"),
        (["import", "a.pt", "part=neck", "colour=red"], r"unknown key 'colour'. Known keys: out=FILE part=all"),
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
    """A file server on this machine that misbehaves as the path says.

    `asked` has the paths; `begun` is set when the body of an answer has begun.
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
    return weights_files.fetch("small", str(folder / "small.pt"), known=known)


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
        ("/changed", ValueError, r"/changed: the download is incomplete or has been changed .*Nothing of it was kept"),
        ("/torn", ValueError, r"/torn: the download is incomplete or has been changed"),
        ("/gone", OSError, r"/gone: could not be downloaded \(HTTP Error 404"),
        ("/dies", OSError, r"/dies: could not be downloaded \(.*[Rr]eset"),
        ("/hangs", OSError, r"/hangs: could not be downloaded \(.*timed out"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"the old file"], ids=["nothing there", "an old file there"])
def test_a_bad_download_leaves_nothing(server, tmp_path, monkeypatch, path, kind, sentence, before):
    monkeypatch.setattr(weights_files, "PATIENCE", 0.5)
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
        weights_files.fetch("yolov8n", str(tmp_path / "a.pt"), SHA256, f"http://127.0.0.1:{port}/small.pt")
    with pytest.raises(ValueError, match=r"from='small.pt' is no address of a file"):
        weights_files.fetch("yolov8n", str(tmp_path / "a.pt"), SHA256, "small.pt")
    assert not [*tmp_path.iterdir()]


def test_an_interrupt_leaves_nothing(server, tmp_path):
    command = [sys.executable, "-m", "yolostudy.command", "weights", "fetch", "yolov8n"]
    command += [f"from={server.address}/hangs", f"sha256={SHA256}", f"out={tmp_path / 'a.pt'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.begun.wait(60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130 and "interrupted; no file is left half-written" in said
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
    """A checksum stands in the table only once somebody has verified it."""
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
