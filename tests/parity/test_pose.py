"""The pose reference against the installed Ultralytics: the same weights, the same keypoints, losses and gradients."""

import pytest
import torch

from tests.parity.test_detector import build_targets, lively, random_maps
from yolostudy.boxes import flatten_maps, make_anchors
from yolostudy.bridge import ultralytics as oracle
from yolostudy.bridge.networks import to_predictions
from yolostudy.pose import PoseLoss, PoseYOLO, decode_keypoints
from yolostudy.weights import transfer

SHAPES = [(4, 3), (4, 2), (1, 3), (17, 3)]


def pair(size: str, num_classes: int = 20, shape: tuple[int, int] = (4, 3)) -> tuple[PoseYOLO, torch.nn.Module]:
    theirs = lively(oracle.build(size, num_classes, 1, shape), seed=2).eval()
    ours = PoseYOLO(num_classes, size, keypoint_shape=shape).eval()
    report = transfer(oracle.state_dict_for(theirs), ours)
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    return ours, theirs


@pytest.mark.parametrize("size", ["n", "s"])
@pytest.mark.parametrize("height, width", [(320, 320), (640, 640), (384, 640)])
@torch.no_grad()
def test_raw_outputs(size, height, width):
    ours, theirs = pair(size)
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    found, expected = ours(images), oracle.raw_maps(theirs, images)
    assert float(flatten_maps(expected)[..., -12:].std()) > 0.05  # the keypoints; constant ones would prove nothing
    for level, wanted in zip(found, expected, strict=True):
        assert float((level - wanted).abs().max()) <= 1e-5


@pytest.mark.parametrize("size", "nsmlx")
@torch.no_grad()
def test_every_size_takes_every_weight(size):
    ours, theirs = pair(size, 1, (17, 3))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    for level, wanted in zip(ours(images), oracle.raw_maps(theirs, images), strict=True):
        torch.testing.assert_close(level, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_decoded_keypoints(shape):
    ours, theirs = pair("n", 3, shape)
    images = torch.rand(1, 3, 256, 320, generator=torch.Generator().manual_seed(5))
    decoded, _ = theirs(images)
    maps = ours(images)
    anchors, strides = make_anchors([m.shape[2:] for m in maps])
    keypoints = decode_keypoints(ours.split(maps)[1], anchors, strides)
    difference = keypoints.flatten(2).transpose(1, 2) - decoded[:, 4 + 3 :]
    assert float(difference.abs().max()) <= 1e-3


# ---- the loss ------------------------------------------------------------------------------------

KINDS = ["ordinary", "no objects at all", "an image without objects", "no visible keypoint", "keypoints outside"]


def with_keypoints(targets: torch.Tensor, kind: str, count: int, generator: torch.Generator) -> torch.Tensor:
    """Targets (N, 6) with K keypoints inside each box, of visibility 0, 1 and 2."""
    corner, extent = targets[:, None, 2:4], targets[:, None, 4:6] - targets[:, None, 2:4]
    points = corner + extent * torch.rand(len(targets), count, 2, generator=generator)
    if kind == "keypoints outside":
        points = points + torch.randn(points.shape, generator=generator) * 80
    visible = torch.randint(0, 3, (len(targets), count, 1), generator=generator).float()
    if kind == "no visible keypoint":
        visible = visible * 0
    return torch.cat((targets, torch.cat((points, visible), dim=-1).flatten(1)), dim=1)


def their_loss(theirs, maps, targets, height, width):
    batch = oracle.to_batch(targets, (height, width))
    return theirs.init_criterion()(to_predictions(maps, 16, theirs.model[-1].nc), batch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients(kind, shape):
    """Five batches each: 100 in all."""
    height, width, classes, size = 192, 256, 3, 2
    ours, theirs = PoseYOLO(classes, "n", keypoint_shape=shape), oracle.build("n", classes, 1, shape)
    loss = PoseLoss(ours)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        targets = build_targets(kind, size, height, width, classes, generator)
        targets = with_keypoints(targets, kind, shape[0], generator)
        numbers = shape[0] * shape[1]
        leaves = []
        for m in random_maps(size, height, width, classes, generator):
            keypoints = torch.randn(size, numbers, *m.shape[2:], generator=generator) * 2
            leaves.append(torch.cat((m, keypoints), dim=1).requires_grad_())
        parts = loss(leaves, targets)
        parts.total.backward()
        mine = [leaf.grad.clone() for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        total, items = their_loss(theirs, leaves, targets, height, width)
        (total.sum() / size).backward()
        wanted = [items[name] for name in ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss")]
        for found, expected in zip(parts[1:], wanted, strict=True):
            torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-7)
        for found, leaf in zip(mine, leaves, strict=True):
            assert float((found - leaf.grad).abs().max()) <= 1e-4 * float(leaf.grad.abs().max().clamp(min=1e-12))
