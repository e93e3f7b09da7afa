"""PoseLoss finds each anchor's keypoints whatever order `pad_targets` gives the objects of an image."""

from pathlib import Path

import pytest
import torch

from tests.parity.test_detector import build_targets, random_maps
from yolostudy.study import edition_in_use
from yolostudy.study.edition import Edition, load, read, transplant
from yolostudy.study.judge import Judge

# its pad_targets puts the last object of an image first
OTHERS = Path(__file__).parents[1] / "exercises" / "alternatives" / "library_calls"
CLASSES, KEYPOINTS, BATCH, SIDE = 3, 3, 2, 128


def reversed_order(edition: Edition) -> Edition:
    return transplant(edition, "losses.pad_targets", read(OTHERS, ["losses"]))


def batch(seed: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Raw maps, and targets (N, 6 + 9) with the rows of both images mixed."""
    generator = torch.Generator().manual_seed(seed)
    rows = build_targets("ordinary", BATCH, SIDE, SIDE, CLASSES, generator)
    points = torch.rand(len(rows), KEYPOINTS, 2, generator=generator) * SIDE
    seen = torch.randint(0, 3, (len(rows), KEYPOINTS, 1), generator=generator)
    targets = torch.cat((rows, torch.cat((points, seen), dim=-1).flatten(1)), dim=1)
    maps = [
        torch.cat((m, torch.randn(BATCH, 3 * KEYPOINTS, *m.shape[2:], generator=generator)), dim=1)
        for m in random_maps(BATCH, SIDE, SIDE, CLASSES, generator)
    ]
    return maps, targets[torch.randperm(len(targets), generator=generator)]


def parts_and_slots(edition: Edition, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    course = load(edition)
    maps, targets = batch(seed)
    with torch.no_grad():
        loss = course.pose.PoseLoss(course.pose.PoseYOLO(CLASSES, "n", keypoint_shape=(KEYPOINTS, 3)))
        return torch.stack(tuple(loss(maps, targets))), loss.assigned.gt_index[loss.assigned.foreground]


@pytest.mark.parametrize("seed", range(5))
def test_another_order_of_the_objects_changes_no_part(seed):
    reference = edition_in_use.course().edition("reference")
    parts, slots = parts_and_slots(reference, seed)
    others, other_slots = parts_and_slots(reversed_order(reference), seed)
    assert not torch.equal(slots, other_slots)  # the same anchors found their objects in other slots
    assert float(parts[2]) > 0
    torch.testing.assert_close(others, parts, rtol=1e-5, atol=1e-6)


def test_the_test_would_notice_a_loss_that_assumes_an_order():
    """First row of the image plus slot: the objects then depend on the order."""
    reference = edition_in_use.course().edition("reference")
    exercise = Judge(edition_in_use.course()).exercise("pose.PoseLoss")
    assuming = next(m for m in exercise.misconceptions if m.name.startswith("the targets are taken to be in the order"))
    edition = assuming.edition(reference, "pose.PoseLoss")
    parts, others = (parts_and_slots(own, 0)[0] for own in (edition, reversed_order(edition)))
    assert float((parts[2] - others[2]).abs()) > 1e-3
    torch.testing.assert_close(
        others[[1, 4, 5]], parts[[1, 4, 5]], rtol=1e-5, atol=1e-6
    )  # box, cls and dfl pair their objects themselves
