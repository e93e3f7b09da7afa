"""The recipe of stage 10 builds, learns, and is measured by what it finds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from yolostudy import data
from yolostudy.data.heatmaps import HeatmapTargets
from yolostudy.heatmaps import MultiLoss
from yolostudy.hooks import Hook
from yolostudy.runs import heatmaps
from yolostudy.runs.heatmaps import HeatmapNetwork, PeakWeight, Recipe, compare

QUICK = Recipe(image_size=64, batch=4, epochs=1, weights="", warmup=4)


@pytest.fixture(scope="module")
def planes():
    found = data.open_set("sample", "train")
    return replace(found, records=found.records[:8])


# The network
# --------------------------------------------------------------------------------------------------


def test_the_network_gives_both_resolutions():
    model = HeatmapNetwork(3).eval()
    coarse, fine = model(torch.rand(2, 3, 64, 96))
    assert coarse.shape == (2, 6, 16, 24) and fine.shape == (2, 3, 32, 48)


def test_only_the_tags_know_where_they_are():
    """On an even image, features in the middle of the map are equal; the tags still differ."""
    torch.manual_seed(0)
    model = HeatmapNetwork(2).eval()
    with torch.no_grad():
        coarse, _ = model(torch.full((1, 3, 512, 512), 0.5))
    middle = coarse[0, :, 48:80, 48:80].flatten(1)
    spread = (middle.amax(dim=1) - middle.amin(dim=1)).tolist()
    assert max(spread[:2]) < 0.2 * min(spread[2:])


def test_positions_run_from_one_border_to_the_other():
    found = heatmaps.positions(torch.zeros(2, 5, 3, 5))
    assert found.shape == (2, 2, 3, 5)
    assert found[1, 0, 2].tolist() == [-1, -0.5, 0, 0.5, 1] and found[0, 1, :, 4].tolist() == [-1, 0, 1]


def test_the_recipe_starts_from_a_detector(planes):
    recipe = Recipe()
    model = heatmaps.build_model(planes, recipe)
    other = heatmaps.build_model(planes, replace(recipe, weights=""))
    names = {name.split(".")[0] for name, tensor in model.state_dict().items()
             if not torch.equal(tensor, other.state_dict()[name])}  # fmt: skip
    assert names == {"backbone", "neck"}


# The loss
# --------------------------------------------------------------------------------------------------


def targets(maps, mask):
    return HeatmapTargets([maps], [mask], [torch.zeros(len(maps), 3, maps.shape[1], 2, dtype=torch.long)])


def test_a_peak_counts_more_and_a_hole_stays_a_hole():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 1, 2, 3] = 0.5
    mask = torch.ones(1, 4, 4)
    mask[0, 0] = 0
    loss = MultiLoss(2, (True,), (True,), (1.0,), (1e-3,), (1e-3,))
    weighted = PeakWeight(loss, weight=6.0)([torch.zeros(1, 4, 4, 4)], targets(maps, mask))
    assert weighted.heatmap.item() == pytest.approx(4 * 0.25 / 32)  # (1 + 6 · 0.5) · 0.5² in 2·4·4 cells
    wrong = torch.zeros(1, 4, 4, 4)
    wrong[0, 0, 2, 3] = 1.0  # the other map, at the peak of map 1
    wrong[0, 1, 0, 0] = 9.0  # inside the hole
    wrong[0, 0, 1, 1] = 1.0  # on empty ground
    found = PeakWeight(loss, weight=6.0)([wrong], targets(maps, mask)).heatmap.item()
    assert found == pytest.approx((4 * 0.25 + 4 * 1 + 1) / 32)
    plain = PeakWeight(loss, weight=0.0)([wrong], targets(maps, mask))
    assert torch.equal(plain.total, loss([wrong], targets(maps, mask)).total)


# Training
# --------------------------------------------------------------------------------------------------


class Losses(Hook):
    def __init__(self):
        self.totals = []

    def after_step(self, trainer):
        self.totals.append(float(trainer.parts.total))


def test_the_recipe_learns_a_few_images(planes):
    seen = Losses()
    recipe = replace(QUICK, epochs=15)
    trained = heatmaps.train(planes, recipe, [seen], device="cpu", precision="fp32")
    assert len(seen.totals) == trained.trainer.steps == 30
    assert trained.trainer.parts._fields == ("total", "heatmap", "pull", "push")
    assert np.mean(seen.totals[-4:]) < 0.6 * np.mean(seen.totals[:4])
    assert trained.model is not trained.trainer.model and not trained.model.training


def test_the_same_seed_trains_the_same_network(planes):
    first, second, other = (
        heatmaps.train(planes, replace(QUICK, seed=seed), device="cpu", precision="fp32").model.state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["heatmaps.weight"], other["heatmaps.weight"])


# Measuring
# --------------------------------------------------------------------------------------------------


class Truth(nn.Module):
    """Answers with the true heatmaps of a batch, and a tag for each aircraft that is its number."""

    def __init__(self, batch, shift=0):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # train_step and predict ask where the model is
        coarse, fine = batch.targets.heatmaps
        tags = torch.zeros_like(coarse)
        for image, people in enumerate(batch.targets.joints[0]):
            for number, joints in enumerate(people):
                for k, (place, valid) in enumerate(joints.tolist()):
                    if valid:
                        size = coarse.shape[-1]
                        k, y, x = np.unravel_index(place, (len(tags[image]), size, size))
                        # all cells round the joint, because tags are read from the enlarged map
                        tags[image, k, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 3.0 * (number + 1)
        self.outputs = [torch.cat((coarse, tags), dim=1), fine.roll(shift, dims=-1)]

    def forward(self, images):
        return self.outputs


def apart(planes):
    """The records whose keypoints of one kind are far from each other: no tag paints over another."""
    kept = []
    for record in planes.records:
        points = record.keypoints[..., :2]
        distance = np.abs(points[:, None] - points[None]).max(axis=-1) + 999 * np.eye(len(points))[..., None]
        if (distance > 24).all() and (record.keypoints[..., 2] > 0).all():
            kept.append(record)
    return replace(planes, records=kept)


def test_true_maps_are_found_whole():
    found = apart(data.open_set("sample", "train"))
    assert len(found) >= 4
    loader = heatmaps.build_loader(found, Recipe(batch=len(found)), workers=0)
    batch = next(iter(loader))
    model = Truth(batch).train()
    measured = heatmaps.measure(model, loader)
    assert model.training  # as it was before
    assert measured.aircraft == measured.people == sum(len(record.classes) for record in found.records)
    assert measured.whole == 1 and measured.within(6) == 1
    assert measured.errors.max() < 3 and measured.median < 1.5  # a cell is 2 px
    assert "100% of" in str(measured) and "aircraft whole" in str(measured)


def test_blank_maps_find_nobody(planes):
    loader = heatmaps.build_loader(planes, replace(QUICK, batch=8), workers=0)
    model = Truth(next(iter(loader)))
    model.outputs = [output * 0 for output in model.outputs]
    measured = heatmaps.measure(model, loader)
    assert measured.people == 0 and measured.within(10) == 0 and measured.whole == 0
    assert np.isnan(measured.median) and measured.aircraft > 0


def test_people_are_matched_to_aircraft_one_to_one():
    keypoints = np.float32([[[10, 10, 2], [20, 10, 1]], [[50, 50, 2], [60, 50, 0]]])
    people = np.full((3, 2, 4), np.nan, np.float32)
    people[..., 2] = 0
    people[0, 0] = (53, 54, 0.9, 2.0)  # 5 px from the second aircraft
    people[1, 0] = (10, 12, 0.9, 1.0)
    people[1, 1] = (20, 30, 0.9, 1.0)
    people[2, 1] = (20, 11, 0.9, 0.0)  # closer, but another person
    errors = compare(people, keypoints)
    assert errors[0].tolist() == pytest.approx([2, 20])
    assert errors[1, 0] == pytest.approx(5) and np.isnan(errors[1, 1])
    assert np.isinf(compare(people[:0], keypoints)[0]).all()
    assert compare(people, keypoints[:0]).shape == (0, 2)


def test_a_keypoint_that_was_not_found_is_infinitely_far():
    keypoints = np.float32([[[10, 10, 2], [20, 10, 2]]])
    people = np.zeros((1, 2, 4), np.float32)
    people[0, 1] = (20, 13, 0.5, 0)
    assert compare(people, keypoints).tolist() == [[np.inf, 3]]
