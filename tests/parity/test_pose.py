"""The pose reference against the installed Ultralytics: the same weights, the same keypoints, losses and gradients."""

import pytest
import torch

from tests.parity.test_detector import build_targets, lively, random_maps
from yolostudy.boxes import flatten_maps, make_anchors
from yolostudy.bridge import ultralytics as oracle
from yolostudy.pose import PoseLoss, PoseYOLO, decode_keypoints
from yolostudy.weights import transfer

SHAPES = [(4, 3), (4, 2), (1, 3), (17, 3)]


def build(size: str = "n", num_classes: int = 20, shape: tuple[int, int] = (4, 3), seed: int = 1) -> torch.nn.Module:
    """A fresh `PoseModel` of Ultralytics."""
    oracle.load()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import PoseModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PoseModel(f"yolov8{size}-pose.yaml", nc=num_classes, data_kpt_shape=shape, verbose=False)
    model.args = get_cfg()
    return model


def pair(size: str, num_classes: int = 20, shape: tuple[int, int] = (4, 3)) -> tuple[PoseYOLO, torch.nn.Module]:
    theirs = lively(build(size, num_classes, shape), seed=2).eval()
    ours = PoseYOLO(num_classes, size, keypoint_shape=shape).eval()
    report = transfer(oracle.state_dict_for(theirs), ours)
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    return ours, theirs


def raw_of(theirs: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Their boxes and scores (B, A, 4·R + C), and raw keypoints (B, A, K·d)."""
    _, said = theirs(images)
    return torch.cat((said["boxes"], said["scores"]), dim=1).transpose(1, 2), said["kpts"].transpose(1, 2)


@pytest.mark.parametrize("size", ["n", "s"])
@pytest.mark.parametrize("height, width", [(320, 320), (640, 640), (384, 640)])
@torch.no_grad()
def test_raw_outputs(size, height, width):
    ours, theirs = pair(size)
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    detector_maps, raw = ours.split(ours(images))
    boxes, keypoints = raw_of(theirs, images)
    assert float(keypoints.std()) > 0.05
    assert float((flatten_maps(detector_maps) - boxes).abs().max()) <= 1e-5
    assert float((raw.flatten(2) - keypoints).abs().max()) <= 1e-5


@pytest.mark.parametrize("size", "nsmlx")
@torch.no_grad()
def test_every_size_takes_every_weight(size):
    ours, theirs = pair(size, 1, (17, 3))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    raw = ours.split(ours(images))[1]
    torch.testing.assert_close(raw.flatten(2), raw_of(theirs, images)[1], rtol=0, atol=1e-5)


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


def their_loss(theirs, maps, raw, targets, height, width):
    batch = oracle.to_batch(targets[:, :6], (height, width))
    keypoints = targets[:, 6:].unflatten(-1, (-1, 3)).clone()
    keypoints[..., :2] /= torch.tensor([width, height])
    batch["keypoints"] = keypoints
    flat = flatten_maps(maps).transpose(1, 2)
    said = {"boxes": flat[:, :64], "scores": flat[:, 64:], "feats": maps, "kpts": raw.flatten(2).transpose(1, 2)}
    return theirs.init_criterion()(said, batch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients(kind, shape):
    """Five batches each: 100 in all."""
    height, width, classes, size = 192, 256, 3, 2
    ours, theirs = PoseYOLO(classes, "n", keypoint_shape=shape), build("n", classes, shape)
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
        detector_maps, raw = ours.split(leaves)
        total, items = their_loss(theirs, detector_maps, raw, targets, height, width)
        (total.sum() / size).backward()
        wanted = [items[name] for name in ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss")]
        for found, expected in zip(parts[1:], wanted, strict=True):
            torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-7)
        for found, leaf in zip(mine, leaves, strict=True):
            assert float((found - leaf.grad).abs().max()) <= 1e-4 * float(leaf.grad.abs().max().clamp(min=1e-12))
