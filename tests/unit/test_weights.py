"""Names, shares and refusals; that the numbers then agree is tested in tests/parity."""

import pytest
import torch

from yolostudy.hooks import load_weights, save_weights
from yolostudy.network import YOLO
from yolostudy.weights import LAYERS, TransferError, export_key, rename_key, transfer


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
    report = transfer({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in exported(source).items()}, target)
    assert report.share == 1 and len(report.matched) == 354 and not (report.missing or report.unexpected or report.wrong_shape)
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
    """Museum row 37: a layer inserted, all later names one off, and the log says "162 of 419 transferred"."""
    shifted = {}
    for key, tensor in exported(YOLO(3)).items():
        _, number, rest = key.split(".", 2)
        shifted[f"model.{int(number) + (int(number) > 3)}.{rest}"] = tensor
    target = YOLO(3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(TransferError, match=r"only \d+\.\d% of the weights fit.*First missing: .*part='backbone'") as caught:
        transfer(shifted, target)
    assert caught.value.report.share < 0.9 and caught.value.report.missing
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="choose all or backbone"):
        transfer({}, YOLO(3), part="head")


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
