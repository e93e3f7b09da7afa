"""AP by OKS against pycocotools and Ultralytics on the same predictions, and results by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolostudy.bridge import ultralytics as oracle
from yolostudy.metrics import COCO_IOU_THRESHOLDS, average_precision
from yolostudy.pose import COCO_SIGMAS
from yolostudy.runs.keypoint_metrics import AREA_SHARE, SMALL_SIDE, evaluate_keypoints

TOLERANCE = 1e-9  # the issue asks for 1e-3; both follow the same protocol, so only rounding may differ
SIGMAS = {1: [0.1], 4: [0.05, 0.08, 0.05, 0.2], 17: [s / 1000 for s in COCO_SIGMAS]}


def scenes(seed: int, images: int = 25, count: int = 4, classes: int = 3, dims: int = 3, hidden: float = 0.0):
    """(predictions, truths, areas): boxes of 10 to 90 px, some found twice, some missed, some invented.

    Args:
        hidden: share of the truths without a visible keypoint.
    """
    rng = np.random.default_rng(seed)
    predictions, truths, areas = [], [], []
    for _ in range(images):
        rows = rng.integers(0, 7)
        corner, side = rng.uniform(0, 200, (rows, 2)), rng.uniform(10, 90, (rows, 2))
        points = corner[:, None] + side[:, None] * rng.uniform(-0.05, 1.05, (rows, count, 2))
        visible = rng.integers(0, 3, (rows, count, 1)).astype(float)
        visible[np.arange(rows), rng.integers(0, count, rows)] = 2
        visible[rng.random(rows) < hidden] = 0
        number = rng.integers(0, classes, (rows, 1))
        truth = np.concatenate(
            (number, corner, corner + side, np.concatenate((points, visible), -1).reshape(rows, 3 * count)), 1
        )
        copies = rng.choice(rows, rng.integers(0, 2 * rows + 1)) if rows else np.zeros(0, int)
        off = rng.choice([0.01, 0.05, 0.2], (len(copies), 1, 1)) * side[copies, None]
        guessed = points[copies] + off * rng.normal(size=(len(copies), count, 2))
        boxes = np.concatenate((corner, corner + side), 1)[copies] + rng.normal(size=(len(copies), 4)) * 3
        label = np.where(rng.random((len(copies), 1)) < 0.9, number[copies], rng.integers(0, classes, (len(copies), 1)))
        if dims == 3:
            guessed = np.concatenate((guessed, rng.random((len(copies), count, 1))), -1)
        found = np.concatenate(
            (boxes, rng.random((len(copies), 1)), label, guessed.reshape(len(copies), dims * count)), 1
        )
        predictions.append(found.reshape(-1, 6 + dims * count))
        truths.append(truth.reshape(-1, 5 + 3 * count))
        areas.append(side.prod(1) * rng.uniform(0.3, 0.9, rows))
    return predictions, truths, areas


# ---- pycocotools ---------------------------------------------------------------------------------


def index(rows: list[dict], images: int, classes: int) -> COCO:
    made = COCO()
    categories = [{"id": number, "name": str(number)} for number in range(1, classes + 1)]
    listed = [{"id": number, "width": 300, "height": 300} for number in range(1, images + 1)]
    made.dataset = {"info": {}, "images": listed, "categories": categories, "annotations": rows}
    with contextlib.redirect_stdout(io.StringIO()):
        made.createIndex()
    return made


def coco(predictions, truths, areas, sigmas, classes, only=None, most=100):
    """AP (groups, C, T) of pycocotools for all, small and large; nan for classes without truths.

    Args:
        only: one keypoint; the others are hidden.
    """
    sides, count = ([], []), len(sigmas)
    for image, (found, truth, area) in enumerate(zip(predictions, truths, areas), start=1):
        for row, size in zip(truth, area, strict=True):
            points = row[5:].reshape(count, 3).copy()
            if only is not None:
                points[np.arange(count) != only, 2] = 0
            x1, y1, x2, y2 = row[1:5]
            sides[0].append(
                {
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "area": size,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "category_id": int(row[0]) + 1,
                }
            )
        for row in found:
            points = np.ones((count, 3))
            points[:, :2] = row[6:].reshape(count, -1)[:, :2]
            x1, y1, x2, y2 = row[:4]
            sides[1].append(
                {
                    "keypoints": points.ravel().tolist(),
                    "score": row[4],
                    "category_id": int(row[5]) + 1,
                    "area": (x2 - x1) * (y2 - y1) * AREA_SHARE,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
            )
        for side in sides:
            for number, row in enumerate(side, start=1):
                row.setdefault("image_id", image)
                row |= {"id": number, "iscrowd": 0}
    judge = COCOeval(*(index(side, len(truths), classes) for side in sides), "keypoints")
    small = SMALL_SIDE**2
    judge.params.kpt_oks_sigmas = np.array(sigmas)
    judge.params.areaRng = [[0, 1e10], [0, np.nextafter(small, 0)], [small, 1e10]]
    judge.params.areaRngLbl, judge.params.maxDets = ["all", "small", "large"], [most]
    with contextlib.redirect_stdout(io.StringIO()):
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][..., 0]  # (T, 101, C, groups)
    return np.where(precision < 0, np.nan, precision).mean(axis=1).transpose(2, 1, 0)


def means(ap: np.ndarray) -> list[float]:
    """AP, AP50, AP75 of (C, T)."""
    ap = ap[~np.isnan(ap[:, 0])]
    return [part.mean() if len(ap) else np.nan for part in (ap, ap[:, 0], ap[:, 5])]


def compare(predictions, truths, areas, count, classes=3, most=100):
    sigmas = SIGMAS[count]
    names = [str(number) for number in range(classes)]
    ours = evaluate_keypoints(predictions, truths, sigmas, areas=areas, class_names=names, max_detections=most)
    theirs = coco(predictions, truths, areas, sigmas, classes, most=most)
    np.testing.assert_allclose(ours.per_class, theirs[0], rtol=0, atol=TOLERANCE)
    for group, expected in zip(ours.groups, theirs, strict=True):
        np.testing.assert_allclose(group[2:], means(expected), rtol=0, atol=TOLERANCE)
    for number in {0, count - 1}:
        expected = coco(predictions, truths, areas, sigmas, classes, only=number, most=most)[0]
        found = ours.per_keypoint[number]
        np.testing.assert_allclose((found.ap, found.ap50, found.ap75), means(expected), rtol=0, atol=TOLERANCE)
    return ours


@pytest.mark.parametrize("count", SIGMAS)
@pytest.mark.parametrize("seed", range(6))
def test_pycocotools(seed, count):
    ours = compare(*scenes(seed, count=count, dims=2 + seed % 2, hidden=0.2 * (seed % 3)), count)
    assert 0.1 < ours.ap < 0.9 and {group.truths > 0 for group in ours.groups} == {True}


@pytest.mark.parametrize("most", [1, 2])
def test_pycocotools_with_few_detections(most):
    compare(*scenes(3, images=40), 4, most=most)


# few places give many equal similarities, equal scores, truths that share a place, and hidden ones
spot = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([8, 40]))
truth_rows = st.tuples(st.integers(0, 1), spot, st.integers(0, 2))
found_rows = st.tuples(spot, st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 1))
pictures = st.lists(
    st.tuples(st.lists(found_rows, max_size=8), st.lists(truth_rows, max_size=5)), min_size=1, max_size=3
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pictures)
def test_pycocotools_on_a_coarse_grid(pictures):
    predictions, truths, areas = [], [], []
    for found, true in pictures:
        rows = [[x, y, x + s, y + s, score, label, x + s / 2, y + s / 2] for (x, y, s), score, label in found]
        predictions.append(np.array(rows, dtype=float).reshape(-1, 8))
        rows = [[label, x, y, x + s, y + s, x + s / 2, y + s / 2, seen] for label, (x, y, s), seen in true]
        truths.append(np.array(rows, dtype=float).reshape(-1, 8))
        areas.append(np.array([s * s for _, (_, _, s), _ in true], dtype=float))
    names = ["0", "1"]
    theirs = coco(predictions, truths, areas, [0.1], 2)
    ours = evaluate_keypoints(predictions, truths, 0.1, areas=areas, class_names=names, keypoint_names=["a"])
    np.testing.assert_allclose(ours.per_class, theirs[0], rtol=0, atol=TOLERANCE)
    for group, expected in zip(ours.groups, theirs, strict=True):
        np.testing.assert_allclose(group[2:], means(expected), rtol=0, atol=TOLERANCE)


# ---- Ultralytics ---------------------------------------------------------------------------------


def ultralytics_stats(predictions, truths, sigmas):
    """Hits by OKS (n, 10), scores and classes of all predictions, and the truths' classes."""
    oracle.load()
    from ultralytics.models.yolo.pose import PoseValidator

    judge = PoseValidator.__new__(PoseValidator)
    judge.sigma, judge.iouv, judge.niou = np.array(sigmas), torch.linspace(0.5, 0.95, 10), 10
    hits, rows, labels = [], [], []
    for found, true in zip(predictions, truths):
        found, true = (
            torch.from_numpy(a[np.argsort(-a[:, 4], kind="stable")] if a is found else a) for a in (found, true)
        )
        count = len(sigmas)
        said = {
            "bboxes": found[:, :4],
            "conf": found[:, 4],
            "cls": found[:, 5],
            "keypoints": found[:, 6:].unflatten(1, (count, -1)),
        }
        batch = {"bboxes": true[:, 1:5], "cls": true[:, 0], "keypoints": true[:, 5:].reshape(len(true), count, 3)}
        hits.append(judge._process_batch(said, batch)["tp_p"])
        rows.append(found[:, 4:6].numpy())
        labels.append(true[:, 0].numpy())
    return np.concatenate(hits), *np.concatenate(rows).T, np.concatenate(labels)


def ultralytics_ap(hits, scores, classes, labels, names) -> np.ndarray:
    from ultralytics.utils.metrics import PoseMetrics

    judge = PoseMetrics(dict(enumerate(names)))
    stat = {"tp": hits, "tp_p": hits, "conf": scores, "pred_cls": classes, "target_cls": labels, "target_img": labels}
    judge.update_stats(stat | {"im_name": "all"})
    judge.process()
    return judge.pose.all_ap


@pytest.mark.parametrize("count", SIGMAS)
@pytest.mark.parametrize("seed", range(6))
def test_ultralytics(seed, count):
    """The same hits, so the same AP by one interpolation; theirs joins the points of the curve by lines."""
    predictions, truths, _ = scenes(seed, count=count)
    names = ["0", "1", "2"]
    ours = evaluate_keypoints(predictions, truths, SIGMAS[count], class_names=names)
    hits, scores, classes, labels = ultralytics_stats(predictions, truths, SIGMAS[count])
    for number in range(3):
        mine = classes == number
        expected, _ = average_precision(hits[mine], scores[mine], int((labels == number).sum()))
        np.testing.assert_allclose(ours.per_class[number], expected, rtol=0, atol=1e-3)
    theirs = ultralytics_ap(hits, scores, classes, labels, names)
    assert abs(ours.ap - theirs.mean()) <= 0.01


# ---- by hand -------------------------------------------------------------------------------------

POINTS = np.array([[12, 15], [30, 20], [40, 40], [20, 45]], dtype=float)


def off_by(pixels: float, images: int = 50, visible: float = 2):
    """One box of 40 px an image; every keypoint is found `pixels` to the right of its place."""
    truth = np.concatenate(([0, 10, 10, 50, 50], np.column_stack((POINTS, np.full(4, visible))).ravel()))[None]
    found = [
        np.concatenate(([10, 10, 50, 50, 0.9 - i / 1000, 0], (POINTS + np.array([pixels, 0])).ravel()))[None]
        for i in range(images)
    ]
    return found, [truth] * images


def test_two_pixels_in_a_box_of_forty():
    """OKS .790 with the area .53 · w · h, .882 with w · h: the AP is 6 or 8 of 10 thresholds."""
    predictions, truths = off_by(2)
    ours = evaluate_keypoints(predictions, truths)
    assert (ours.ap, ours.ap50, ours.ap75) == pytest.approx((0.6, 1, 1))
    assert evaluate_keypoints(predictions, truths, area_share=1).ap == pytest.approx(0.8)
    assert coco(predictions, truths, [np.array([1600.0])] * 50, [0.05] * 4, 1)[0].mean() == pytest.approx(0.8)
    stats = ultralytics_stats(predictions, truths, [0.05] * 4)
    assert ultralytics_ap(*stats, ["0"]).mean() == pytest.approx(0.597, abs=5e-4)
    assert (ours.median_error, ours.mean_error, ours.matched) == (2, 2, 50)
    assert all(own[5:] == (2, 2) and own.ap == pytest.approx(0.6) for own in ours.per_keypoint)


def test_a_large_sigma_hides_an_error_that_the_pixels_show():
    """BUGS.md row 56: six pixels in a box of forty, an AP of .9 with σ 1/K, of 0 with .05."""
    predictions, truths = off_by(6)
    loose, tight = (evaluate_keypoints(predictions, truths, sigma) for sigma in (0.25, 0.05))
    assert loose.ap == pytest.approx(0.9) and tight.ap == 0
    assert loose.median_error == tight.median_error == 6 and loose.matched == tight.matched == 50


def test_a_truth_without_a_visible_keypoint_is_left_out_here_and_in_pycocotools_but_missed_in_ultralytics():
    predictions, truths = off_by(0)
    hidden = off_by(0, visible=0)[1]
    truths = truths[:25] + hidden[25:]
    ours = evaluate_keypoints(predictions, truths)
    assert ours.ap == 1 and ours.groups[0].truths == ours.matched == 25
    assert coco(predictions, truths, [np.array([848.0])] * 50, [0.05] * 4, 1)[0].mean() == pytest.approx(1)
    stats = ultralytics_stats(predictions, truths, [0.05] * 4)
    assert ultralytics_ap(*stats, ["0"]).mean() == pytest.approx(0.495, abs=0.006)


def test_the_pixel_error_of_each_keypoint_takes_only_what_is_visible_and_matched():
    predictions, truths = off_by(0, images=2)
    predictions[0][0, 6:8] += [3, 4]
    predictions[1][0, 6:8] += [300, 400]
    truths[1] = truths[1].copy()
    truths[1][0, 7] = 0  # the far point of the second image is hidden
    ours = evaluate_keypoints(predictions, truths, keypoint_names=["nose", "tail", "left", "right"])
    assert [own.points for own in ours.per_keypoint] == [1, 2, 2, 2]
    assert [own.median_error for own in ours.per_keypoint] == [5, 0, 0, 0]
    assert (ours.median_error, ours.mean_error) == pytest.approx((0, 5 / 7))
    predictions[0][0, :4] = [200, 200, 240, 240]  # OKS looks at keypoints alone, the pixel error at boxes
    moved = evaluate_keypoints(predictions, truths)
    assert moved.matched == 1 and moved.ap == ours.ap


@pytest.mark.parametrize(
    ("count", "sigmas", "says"),
    [
        (4, None, "sigma 0.05 (by default)"),
        (17, None, "sigma 0.025 to 0.107 (COCO's, by default)"),
        (4, 0.1, "sigma 0.1 (as given)"),
        (4, [0.1, 0.2, 0.1, 0.1], "sigma 0.1 to 0.2 (as given)"),
    ],
)
def test_the_table_says_which_sigma(count, sigmas, says):
    predictions, truths, _ = scenes(1, count=count)
    table = str(evaluate_keypoints(predictions, truths, sigmas))
    assert says in table and "area 0.53 of the box" in table and "median px" in table


@pytest.mark.parametrize("kind", ["lists", "float32", "gradient", "nothing found", "nothing there", "no image"])
def test_what_it_takes(kind):
    predictions, truths = off_by(0, images=3)
    if kind == "lists":
        predictions, truths = [own.tolist() for own in predictions], [own.tolist() for own in truths]
    elif kind in ("float32", "gradient"):
        predictions = [torch.tensor(own, dtype=torch.float32, requires_grad=kind == "gradient") for own in predictions]
        truths = [torch.tensor(own, dtype=torch.float32) for own in truths]
    elif kind == "nothing found":
        predictions = [[], np.zeros((0, 18)), torch.zeros(0, 6)]
    elif kind == "nothing there":
        truths = [np.zeros((0, 17))] * 3
    elif kind == "no image":
        predictions, truths = [], []
    ours = evaluate_keypoints(predictions, truths, keypoint_names="abcd")
    expected = {"nothing found": 0, "nothing there": np.nan, "no image": np.nan}.get(kind, 1)
    np.testing.assert_equal(ours.ap, expected)
    assert "nan" in str(ours)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"predictions": []}, "0 predictions for 3 truths"),
        ({"predictions": [np.zeros((1, 17))] * 3}, r"predictions\[0\] has shape \(1, 17\); it has to be \(rows, 14\)"),
        ({"truths": [np.zeros((1, 16))] * 3}, "The truths have 16 columns; they need 5"),
        ({"truths": [np.zeros((1, 5))] * 3}, "The truths have 5 columns; they need 5"),
        ({"truths": [np.zeros((1, 8)), np.zeros((1, 11)), []]}, r"have \[8, 11\] columns"),
        ({"predictions": [[]], "truths": [[]]}, "No truth says how many keypoints"),
        ({"sigmas": [0.1, 0.1]}, "give one positive number, or 4"),
        ({"sigmas": 0}, "give one positive number, or 4"),
        ({"sigmas": float("nan")}, "give one positive number, or 4"),
        ({"keypoint_names": "abc"}, "3 keypoint names for 4 keypoints"),
        ({"class_names": []}, "Class 0 occurs"),
        ({"areas": [[1]]}, "1 areas for 3 truths"),
        ({"areas": [[1, 2]] * 3}, r"areas\[0\] has shape \(2,\) for 1 truths"),
    ],
)
def test_wrong_input_is_named(change, sentence):
    predictions, truths = off_by(0, images=3)
    with pytest.raises(ValueError, match=sentence):
        evaluate_keypoints(**({"predictions": predictions, "truths": truths} | change))


def test_thresholds_are_cocos():
    assert COCO_IOU_THRESHOLDS[[0, 5, 9]] == pytest.approx([0.5, 0.75, 0.95])
