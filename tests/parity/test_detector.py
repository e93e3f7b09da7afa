"""The reference against the installed Ultralytics: the same weights, the same numbers."""

import pytest
import torch

from yolostudy.boxes import decode, make_anchors, non_maximum_suppression, predict
from yolostudy.bridge import ultralytics as oracle
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.weights import transfer


def lively(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give the normalisations of a network some spread, so that a difference can show.

    The outputs of an untrained network are nearly constant.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "bn.running_mean" in name or "bn.bias" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
        elif "bn.running_var" in name or "bn.weight" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model


def pair(size: str, num_classes: int = 20) -> tuple[torch.nn.Module, torch.nn.Module]:
    theirs = lively(oracle.build(size, num_classes, seed=1), seed=2).eval()
    ours = YOLO(num_classes, size).eval()
    report = transfer(oracle.state_dict_for(theirs), ours)
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    return ours, theirs


@pytest.mark.parametrize("size", ["n", "s"])
@pytest.mark.parametrize("height, width", [(320, 320), (640, 640), (384, 640)])
@torch.no_grad()
def test_raw_outputs(size, height, width):
    ours, theirs = pair(size)
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    expected = oracle.raw_maps(theirs, images)
    assert min(float(level.std()) for level in expected) > 0.1  # constant maps would prove nothing
    for level, wanted in zip(ours(images), expected, strict=True):
        assert float((level - wanted).abs().max()) <= 1e-5


def test_training_mode_agrees_too_gradients_and_running_statistics_included():
    ours, theirs = pair("n")
    ours.train(), theirs.train()
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(5))
    for forward in (ours, lambda x: oracle.raw_maps(theirs, x)):
        sum(level.square().mean() for level in forward(images)).backward()
    probe = YOLO(20, "n")
    transfer(oracle.state_dict_for(theirs), probe)
    for (name, mine), wanted in zip(ours.named_buffers(), probe.buffers(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6, msg=name)
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    transfer(
        gradients | {k: v for k, v in oracle.state_dict_for(theirs).items() if "running" in k or "tracked" in k}, probe
    )
    wanted = dict(probe.named_parameters())
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - wanted[name].detach()).abs().max() / wanted[name].detach().abs().max().clamp(
            min=1e-12
        )
        assert float(difference) <= 1e-4, name


# ---- the loss ------------------------------------------------------------------------------------


def random_maps(
    batch: int, height: int, width: int, num_classes: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """Maps as of an untrained to half-trained network: distributions with peaks, low scores."""
    sharpness = float(torch.rand((), generator=generator)) * 4
    maps = []
    for stride in (8, 16, 32):
        level = torch.randn(batch, 64 + num_classes, height // stride, width // stride, generator=generator)
        level[:, :64] *= sharpness
        level[:, 64:] = level[:, 64:] * 2 - 3
        maps.append(level)
    return maps


def random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    side = torch.exp(torch.rand(count, 2, generator=generator) * 4 + 1)  # 3 to 150 pixels
    boxes = torch.cat((centre - side / 2, centre + side / 2), dim=1)
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def build_targets(
    kind: str, batch: int, height: int, width: int, num_classes: int, generator: torch.Generator
) -> torch.Tensor:
    if kind == "no objects at all":
        return torch.zeros(0, 6)
    counts = torch.randint(1, 12, (batch,), generator=generator)
    if kind == "an image without objects":
        counts[1] = 0
    if kind == "150 boxes in one image":
        counts[0] = 150
    image = torch.arange(batch).repeat_interleave(counts)
    boxes = random_boxes(len(image), height, width, generator)
    if kind == "one-pixel boxes":
        boxes[:, 2:] = boxes[:, :2] + 1
    if kind == "boxes over the border":
        boxes = boxes + torch.randn(len(boxes), 1, generator=generator) * 60
    if kind == "identical boxes":
        boxes[1::2] = boxes[: 2 * (len(boxes) // 2) : 2]
    labels = torch.randint(0, num_classes, (len(image),), generator=generator)
    return torch.cat((image[:, None].float(), labels[:, None].float(), boxes), dim=1)


KINDS = [
    "ordinary",
    "an image without objects",
    "no objects at all",
    "one-pixel boxes",
    "boxes over the border",
    "identical boxes",
    "150 boxes in one image",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("height, width, num_classes", [(160, 160, 20), (256, 320, 3)])
def test_losses_and_gradients(kind, height, width, num_classes):
    """Eight batches for each case: 112 in all."""
    criterion = oracle.Criterion(num_classes)
    loss = DetectionLoss(YOLO(num_classes))
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        targets = build_targets(kind, 3, height, width, num_classes, generator)
        batch = oracle.to_batch(targets, (height, width))
        maps = random_maps(3, height, width, num_classes, generator)
        mine = [level.clone().requires_grad_() for level in maps]
        theirs = [level.clone().requires_grad_() for level in maps]
        parts = loss(mine, oracle.pixel_targets(batch, (height, width)))
        expected = criterion(theirs, targets, (height, width))
        parts.total.backward()
        expected.total.backward()
        for name in ("box", "cls", "dfl"):
            wanted = getattr(expected, name)
            assert float((getattr(parts, name) - wanted).detach().abs()) <= 1e-5 * max(
                float(wanted.detach().abs()), 1e-6
            ), (seed, name)
        for a, b in zip(mine, theirs, strict=True):
            assert float((a.grad - b.grad).abs().max()) <= 1e-4 * max(float(b.grad.abs().max()), 1e-12), seed
        assert float(mine[0].grad[:, 64:].abs().min()) > 0  # the background learns, with objects and without


def test_the_batches_above_have_foreground():
    """Zeros on both sides would prove nothing."""
    generator = torch.Generator().manual_seed(0)
    targets = build_targets("ordinary", 3, 160, 160, 20, generator)
    parts = DetectionLoss(YOLO(20))(random_maps(3, 160, 160, 20, generator), targets)
    assert parts.box.item() > 0.1 and parts.dfl.item() > 0.1


# ---- boxes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(320, 320), (384, 640)])
def test_decoded_boxes_and_scores(height, width):
    maps = random_maps(2, height, width, 20, torch.Generator().manual_seed(6))
    boxes, scores = decode(maps)
    wanted = oracle.decode(maps).transpose(1, 2)  # (B, A, 4 + C) with centre and size
    corners = torch.cat((wanted[..., :2] - wanted[..., 2:4] / 2, wanted[..., :2] + wanted[..., 2:4] / 2), dim=-1)
    assert float((boxes - corners).abs().max()) <= 1e-3
    assert float((scores - wanted[..., 4:]).abs().max()) <= 1e-6


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("score_threshold, iou_threshold", [(0.25, 0.7), (0.05, 0.45), (0.999, 0.7)])
def test_the_same_boxes_are_kept(score_threshold, iou_threshold, multi_label):
    for seed in range(5):
        maps = random_maps(2, 160, 192, 5, torch.Generator().manual_seed(seed))
        mine = predict(maps, score_threshold, iou_threshold, multi_label=multi_label)
        theirs = oracle.nms(oracle.decode(maps), score_threshold, iou_threshold, multi_label=multi_label)
        for a, b in zip(mine, theirs, strict=True):
            assert len(a) == len(b) and (score_threshold > 0.9 or len(a) > 20)
            assert torch.equal(a[:, 5], b[:, 5])
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_suppression_agrees_with_torchvision_on_random_boxes():
    from torchvision.ops import batched_nms

    generator = torch.Generator().manual_seed(7)
    boxes = random_boxes(400, 200, 200, generator)
    scores, classes = torch.rand(400, generator=generator), torch.randint(0, 3, (400,), generator=generator).float()
    for threshold in (0.1, 0.5, 0.9):
        mine = non_maximum_suppression(boxes, scores, classes, threshold, max_detections=400)
        assert torch.equal(mine, batched_nms(boxes, scores, classes, threshold))


def test_anchors():
    from ultralytics.utils.tal import make_anchors as their_anchors

    sizes = [(12, 20), (6, 10), (3, 5)]
    anchors, strides = their_anchors([torch.zeros(1, 1, *size) for size in sizes], torch.tensor([8.0, 16.0, 32.0]))
    mine, mine_strides = make_anchors(sizes)
    assert torch.equal(mine, anchors) and torch.equal(mine_strides, strides)
