"""The heatmap reference against formulas written out in plain loops, and its worked numbers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolostudy.heatmaps import (
    HeatmapGenerator,
    HeatmapParts,
    JointsGenerator,
    MultiLoss,
    ScaleAwareHeatmapGenerator,
    associative_embedding,
    group_keypoints,
    heatmap_loss,
)

SIDE, COUNT = 24, 3


# ---- the formulas, a number at a time ------------------------------------------------------------


def value(dx: int, dy: int, sigma: float) -> float:
    radius = math.ceil(3 * sigma) + 1
    return math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma)) if max(abs(dx), abs(dy)) <= radius else 0.0


def draw(keypoints, side: int, count: int, sigma: float) -> np.ndarray:
    """Every cell asks every keypoint."""
    maps = np.zeros((count, side, side))
    for person in keypoints:
        for k in range(count):
            x, y, visibility, own = [*map(float, person[k]), sigma][:4]
            x, y = math.trunc(x), math.trunc(y)
            if visibility > 0 and 0 <= x < side and 0 <= y < side:
                for row in range(side):
                    for column in range(side):
                        maps[k, row, column] = max(maps[k, row, column], value(column - x, row - y, own or sigma))
    return maps


def original_patch(sigma: int) -> np.ndarray:
    """The kernel of an integer sigma as HigherHRNet computes it: 6σ + 3 cells, middle at 3σ + 1."""
    x = np.arange(0, 6 * sigma + 3, 1, float)
    middle = 3 * sigma + 1
    return np.exp(-((x - middle) ** 2 + (x[:, None] - middle) ** 2) / (2 * sigma**2))


def pull_and_push(tags, joints, kind: str) -> tuple[float, float]:
    """Of one image: tags (K, h, w), joints (P, K, 2)."""
    flat, people = [float(t) for t in tags.flatten()], []
    for row in joints.tolist():
        own = [flat[index] for index, counts in row if counts]
        if own:
            people.append(own)
    means = [sum(own) / len(own) for own in people]
    pull = sum(sum((t - m) ** 2 for t in own) / len(own) for own, m in zip(people, means, strict=True))
    push, n = 0.0, len(people)
    for i in range(n):
        for j in range(n):
            if i != j:
                d = means[i] - means[j]
                push += math.exp(-d * d) if kind == "exp" else max(0.0, 1 - abs(d))
    return pull / max(n, 1), 0.5 * push / (n * (n - 1)) if n > 1 else 0.0


def squared_error(predicted, target, mask) -> float:
    count, height, width = predicted.shape
    cells = [
        (float(predicted[k, y, x]) - float(target[k, y, x])) ** 2 * float(mask[y, x])
        for k in range(count)
        for y in range(height)
        for x in range(width)
    ]
    return sum(cells) / len(cells)


# ---- heatmaps ------------------------------------------------------------------------------------


def people(low: float = -6.0, high: float = SIDE + 6.0, sigma: bool = False):
    numbers = [st.floats(low, high, width=32), st.floats(low, high, width=32), st.sampled_from([0.0, 1.0, 2.0])]
    if sigma:
        numbers.append(st.one_of(st.just(0.0), st.floats(0.25, 4, width=32)))
    keypoint = st.tuples(*numbers)
    persons = st.lists(st.lists(keypoint, min_size=COUNT, max_size=COUNT), max_size=4)
    return persons.map(lambda own: np.array(own, dtype=np.float32).reshape(-1, COUNT, len(numbers)))


@settings(max_examples=40, deadline=None)
@given(people(), st.floats(0.25, 4))
def test_the_maps_equal_the_loops(keypoints, sigma):
    found = HeatmapGenerator(SIDE, COUNT, sigma)(keypoints)
    assert found.dtype == np.float32 and found.shape == (COUNT, SIDE, SIDE)
    np.testing.assert_allclose(found, draw(keypoints, SIDE, COUNT, sigma), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(people(sigma=True), st.floats(0.25, 4))
def test_the_scale_aware_maps_equal_the_loops(keypoints, sigma):
    found = ScaleAwareHeatmapGenerator(SIDE, COUNT, sigma)(keypoints)
    np.testing.assert_allclose(found, draw(keypoints, SIDE, COUNT, sigma), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [1, 2, 3, 4])
def test_the_maps_of_an_integer_sigma_have_the_originals_bits(sigma):
    """Against the original's kernel on a canvas so wide that nothing has to be cut there."""
    drawn, margin = np.random.default_rng(sigma), 30
    keypoints = np.concatenate((drawn.uniform(-2, 42, (5, COUNT, 2)), drawn.integers(0, 3, (5, COUNT, 1))), axis=-1)
    canvas = np.zeros((COUNT, 40 + 2 * margin, 40 + 2 * margin), dtype=np.float32)
    patch = original_patch(sigma)
    for person in keypoints:
        for k, (x, y, visibility) in enumerate(person):
            x, y = int(x), int(y)
            if visibility > 0 and 0 <= x < 40 and 0 <= y < 40:
                top, left = y + margin - 3 * sigma - 1, x + margin - 3 * sigma - 1
                window = canvas[k, top : top + len(patch), left : left + len(patch)]
                window[:] = np.maximum(window, patch)
    wanted = canvas[:, margin:-margin, margin:-margin]
    assert (wanted == 1).sum() > 5
    np.testing.assert_array_equal(HeatmapGenerator(40, COUNT, sigma)(keypoints), wanted)
    given_along = np.concatenate((keypoints, np.full((5, COUNT, 1), sigma)), axis=-1)
    np.testing.assert_array_equal(ScaleAwareHeatmapGenerator(40, COUNT)(given_along), wanted)


def one(x: float, y: float, size: int = 128, sigma: float | None = None) -> np.ndarray:
    return HeatmapGenerator(size, 1, sigma)(np.array([[[x, y, 2]]]))[0]


def test_the_worked_numbers_of_sigma_two():
    assert HeatmapGenerator(128, 1).sigma == 2
    middle = one(60.9, 60.2)
    row = [1, 0.8825, 0.6065, 0.3247, 0.1353, 0.0439, 0.0111, 0.0022, 0]
    np.testing.assert_allclose(middle[60, 60:69], row, atol=5e-5)
    np.testing.assert_array_equal(middle, middle.T)
    assert (middle > 0).sum() == 15 * 15
    assert one(0, 0).sum() == pytest.approx(9.0375, abs=5e-5)


def test_a_cell_is_truncated_towards_zero():
    np.testing.assert_array_equal(one(-0.5, 5.9), one(0, 5))
    assert one(-1, 5).max() == one(5, 128).max() == 0


@given(st.floats(0.2, 8))
def test_a_peak_is_one_high_in_its_cell_and_symmetric_for_every_sigma(sigma):
    found = one(32, 32, 65, sigma)
    assert found[32, 32] == found.max() == 1 and (found == 1).sum() == 1
    np.testing.assert_array_equal(found, found[::-1, ::-1])


def test_two_people_keep_their_peaks():
    keypoints = np.array([[[20, 20, 2]], [[23, 20, 1]]])
    found = HeatmapGenerator(64, 1, 2)(keypoints)[0]
    assert found[20, 20] == found[20, 23] == found.max() == 1


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: HeatmapGenerator(8, 2, 0.0), "positive"),
        (lambda: HeatmapGenerator(8, 2)(np.zeros((1, 3, 3))), "take \\(people, 2, 3\\)"),
        (lambda: HeatmapGenerator(8, 2)(np.zeros((1, 2, 4))), "take \\(people, 2, 3\\)"),
        (lambda: ScaleAwareHeatmapGenerator(8, 1)(np.array([[[1, 1, 2, -1.0]]])), "below 0"),
        (lambda: ScaleAwareHeatmapGenerator(8, 1)(np.array([[[1, 1, 2, np.nan]]])), "below 0"),
        (lambda: JointsGenerator(1, 2, 8)(np.zeros((2, 2, 3))), "raise max_people"),
        (lambda: JointsGenerator(1, 2, 8)(np.zeros((1, 3, 3))), "take \\(people, 2, 3\\)"),
        (lambda: associative_embedding(torch.zeros(1, 4, 2, 2), torch.zeros(1, 1, 2, 2).long()), "4 tag maps for 2"),
        (lambda: associative_embedding(torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 2, 2).long(), "min"), "exp or max"),
        (lambda: MultiLoss(2, with_tags=(True,)), "five lists"),
        (lambda: MultiLoss(2)([torch.zeros(1, 4, 2, 2)], None), "ask for \\[4, 2\\]"),
        (lambda: group_keypoints(np.zeros((2, 4, 4)), np.zeros((2, 8, 8))), "must both be"),
        (lambda: group_keypoints(np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), window=4), "an odd one"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(act, said):
    with pytest.raises(ValueError, match=said):
        act()


# ---- joints --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(people())
def test_the_list_points_at_the_cells(keypoints):
    joints = JointsGenerator(5, COUNT, SIDE)(keypoints)
    assert joints.shape == (5, COUNT, 2) and joints.dtype == np.int64
    for number, row in enumerate(joints.tolist()):
        wanted = []
        for k, (x, y, visibility) in enumerate(keypoints[number].tolist() if number < len(keypoints) else ()):
            x, y = math.trunc(x), math.trunc(y)
            if visibility and min(x, y) >= 0 and max(x, y) < SIDE:
                wanted.append([np.ravel_multi_index((k, y, x), (COUNT, SIDE, SIDE)), 1])
        assert row == wanted + [[0, 0]] * (COUNT - len(wanted))


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_masked_error_equals_the_loops(seed):
    drawn = torch.Generator().manual_seed(seed)
    predicted, target = torch.randn(2, 2, COUNT, 5, 7, generator=drawn)
    mask = torch.rand(2, 5, 7, generator=drawn) > 0.3
    found = heatmap_loss(predicted, target, mask)
    assert found.tolist() == pytest.approx([squared_error(*own) for own in zip(predicted, target, mask, strict=True)])
    assert torch.equal(heatmap_loss(predicted, target, mask.float()), found)


@settings(max_examples=60, deadline=None)
@given(st.lists(people(), min_size=1, max_size=3), st.sampled_from(["exp", "max"]), st.integers(0, 1000))
def test_pull_and_push_equal_the_loops(images, kind, seed):
    joints = torch.from_numpy(np.stack([JointsGenerator(4, COUNT, SIDE)(own) for own in images]))
    tags = torch.randn(len(images), COUNT, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    pull, push = associative_embedding(tags, joints, kind)
    for number in range(len(images)):
        wanted = pull_and_push(tags[number], joints[number], kind)
        assert (pull[number].item(), push[number].item()) == pytest.approx(wanted, abs=1e-6)


def tagged(*persons: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tag maps (1, 2, 4, 4) and joints in which each person has those tags."""
    tags, keypoints = torch.full((1, 2, 4, 4), 9.0), np.zeros((len(persons), 2, 3))
    for row, person in enumerate(persons):
        for k, tag in enumerate(person):
            tags[0, k, row, row] = tag
            keypoints[row, k] = row, row, 2
    return tags, torch.from_numpy(JointsGenerator(6, 2, 4)(keypoints))[None]


@pytest.mark.parametrize(
    ("persons", "kind", "pull", "push"),
    [
        ([(0, 0.2), (1, 1.4)], "exp", 0.025, 0.149099),
        ([(0, 0.2), (1, 1.4)], "max", 0.025, 0),
        ([(3, 3), (3, 3), (3, 3)], "exp", 0, 0.5),
        ([(3, 3), (3, 3), (3, 3)], "max", 0, 0.5),
        ([], "exp", 0, 0),
        ([], "max", 0, 0),
        ([(0, 0.2)], "exp", 0.01, 0),
        ([(0, 0.2)], "max", 0.01, 0),
        ([(5,), (-5,)], "exp", 0, 0),
        ([(0, 0.2), (), (1, 1.4)], "exp", 0.025, 0.149099),
    ],
)
def test_the_worked_numbers_of_pull_and_push(persons, kind, pull, push):
    found = associative_embedding(*tagged(*persons), kind)
    assert [part.item() for part in found] == pytest.approx([pull, push], abs=5e-7)


@pytest.mark.parametrize("kind", ["exp", "max"])
def test_gradients_are_finite_with_nobody_and_with_equal_tags(kind):
    for persons in ([], [(3, 3), (3, 3)]):
        tags, joints = tagged(*persons)
        sum(associative_embedding(tags.requires_grad_(), joints, kind)).sum().backward()
        assert tags.grad.isfinite().all() and not tags.grad.any()


def a_batch(seed: int):
    drawn = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    sizes = (8, 16)
    keypoints = [
        np.concatenate((rng.uniform(0, 8, (n, COUNT, 2)), rng.integers(0, 3, (n, COUNT, 1))), -1) for n in (0, 3)
    ]
    joints = [
        torch.from_numpy(np.stack([JointsGenerator(3, COUNT, s)(k * [s / 8, s / 8, 1]) for k in keypoints]))
        for s in sizes
    ]
    targets = SimpleNamespace(
        heatmaps=[torch.rand(2, COUNT, s, s, generator=drawn) for s in sizes],
        masks=[(torch.rand(2, s, s, generator=drawn) > 0.2).float() for s in sizes],
        joints=joints,
    )
    return [torch.randn(2, 2 * COUNT, s, s, generator=drawn) for s in sizes], targets


@pytest.mark.parametrize(
    ("heatmaps", "tags"),
    [
        ((True, True), (True, False)),
        ((True, True), (True, True)),
        ((False, True), (True, False)),
        ((False, False), (False, True)),
    ],
)
def test_the_sum_over_the_resolutions(heatmaps, tags):
    outputs, targets = a_batch(3)
    outputs = [own[:, : COUNT * (h + t)].requires_grad_() for own, h, t in zip(outputs, heatmaps, tags, strict=True)]
    factors = (2.0, 3.0), (5.0, 7.0), (11.0, 13.0)
    parts = MultiLoss(COUNT, heatmaps, tags, *factors, kind="max")(outputs, targets)
    wanted = [0.0, 0.0, 0.0]
    for stage in range(2):
        for image in range(2):
            own = outputs[stage][image].detach()
            if heatmaps[stage]:
                truth = targets.heatmaps[stage][image], targets.masks[stage][image]
                wanted[0] += factors[0][stage] * squared_error(own[:COUNT], *truth) / 2
            if tags[stage]:
                pull, push = pull_and_push(own[-COUNT:], targets.joints[stage][image], "max")
                wanted[1] += factors[1][stage] * pull / 2
                wanted[2] += factors[2][stage] * push / 2
    assert isinstance(parts, HeatmapParts) and all(part.shape == () for part in parts)
    assert [part.item() for part in parts] == pytest.approx([sum(wanted), *wanted], rel=1e-6, abs=1e-7)
    parts.total.backward()


# ---- grouping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_planted_people_are_found(seed):
    """Two to five people on a grid, some keypoints hidden; the tags of a person vary by 0.2."""
    rng, side, count = np.random.default_rng(seed), 48, 4
    n = rng.integers(2, 6)
    cells = np.stack([rng.permutation(36)[:n] for _ in range(count)], axis=1)  # of a 6 × 6 grid, for each map
    truth = np.stack((cells % 6 * 8 + 4, cells // 6 * 8 + 4, rng.integers(0, 3, (n, count))), axis=-1).astype(float)
    truth[..., :2] += rng.uniform(-2, 2, (n, count, 2))
    truth[:, rng.integers(count), 2] = 2  # nobody is hidden altogether
    heatmaps = HeatmapGenerator(side, count, 1.5)(truth)
    tags = rng.normal(size=(count, side, side)).astype(np.float32) * 50
    for number, person in enumerate(truth):
        for k, (x, y, _) in enumerate(person.astype(int)):
            tags[k, y, x] = 3 * number + rng.uniform(-0.2, 0.2)
    found = group_keypoints(torch.from_numpy(heatmaps), tags)
    assert found.shape == (n, count, 4) and found.dtype == np.float32
    found = found[np.nanmean(found[..., 3], axis=1).argsort()]
    visible = truth[..., 2] > 0
    np.testing.assert_array_equal(found[..., 2] > 0, visible)
    np.testing.assert_array_equal(found[visible][:, :2], np.floor(truth[visible][:, :2]) + 0.5)
    assert np.isnan(found[~visible][:, [0, 1, 3]]).all()


def slope(*peaks: tuple[int, int, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A map (1, 12, 12) with peaks at (x, y) of that score and tag."""
    heatmap, tags = np.zeros((1, 12, 12), dtype=np.float32), np.zeros((1, 12, 12), dtype=np.float32)
    for x, y, score, tag in peaks:
        heatmap[0, y, x], tags[0, y, x] = score, tag
    return heatmap, tags


def test_a_quarter_of_a_cell_towards_the_higher_neighbour():
    heatmap, tags = slope((5, 3, 0.8, 7), (6, 3, 0.4, 0), (5, 2, 0.3, 0))
    np.testing.assert_allclose(group_keypoints(heatmap, tags), [[[5.75, 3.25, 0.8, 7]]], rtol=1e-6)


def test_an_assignment_and_no_race():
    """The best candidate is nearer to the second person; but then the other one would be nobody's."""
    first, first_tags = slope((2, 2, 0.9, 0.0), (8, 8, 0.8, 0.7))
    second, second_tags = slope((2, 3, 0.9, 0.4), (8, 9, 0.8, 1.6))
    found = group_keypoints(np.concatenate((first, second)), np.concatenate((first_tags, second_tags)))
    assert found[:, 1, 3].tolist() == pytest.approx([0.4, 1.6]) and len(found) == 2


def test_equal_tags_make_people_of_their_own_in_the_first_map():
    heatmap, tags = slope((2, 2, 0.9, 1.0), (8, 8, 0.8, 1.0))
    assert len(group_keypoints(heatmap, tags)) == 2


@pytest.mark.parametrize(("tag", "people"), [(0.99, 1), (1.0, 2)])
def test_a_new_person_from_a_distance_of_one(tag, people):
    maps = [slope((2, 2, 0.9, 0.0)), slope((3, 3, 0.8, tag))]
    heatmaps, tags = (np.concatenate(own) for own in zip(*maps, strict=True))
    assert len(group_keypoints(heatmaps, tags)) == people


def test_no_more_people_than_asked_for():
    peaks = [(2, 2, 0.9, 0.0), (8, 2, 0.8, 5.0), (2, 8, 0.7, 10.0)]
    other = [(2, 2, 0.9, 20.0), (8, 8, 0.2, 30.0)]
    heatmaps, tags = (np.concatenate(own) for own in zip(slope(*peaks), slope(*other), strict=True))
    assert [len(group_keypoints(heatmaps, tags, max_people=n)) for n in (1, 2, 4, 5, 30)] == [1, 2, 4, 5, 5]
    assert len(group_keypoints(heatmaps, tags, threshold=0.75)) == 3
    assert group_keypoints(heatmaps * 0, tags).shape == (0, 2, 4)
