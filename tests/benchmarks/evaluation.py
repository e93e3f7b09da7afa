"""How long AP over 5,000 images takes, beside pycocotools and faster-coco-eval.

    python -m tests.benchmarks.evaluation [--images 5000] [--rounds 3]

All evaluators get the same boxes and do the same work: one area range, 100 detections, ten IoU
thresholds, one process. Ours starts from tensors, as the trainer has them. The others start from an
index in memory; the time to build it is not counted. pycocotools as it ships evaluates four area
ranges and three detection limits. That is a row of its own and does not count for the verdict.
"""

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import torch

from solutions.metrics import COCO_IOU_THRESHOLDS, evaluate

REQUIRED = 5.0  # times as fast as pycocotools, for the same work


def detections(
    images: int, classes: int, truths: int, predictions: int, seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What a half-trained detector finds: about five predictions a truth, the rest on background.

    Returns predictions, for each image (n, 6) x1 y1 x2 y2 score class, and targets (G, 5) class x1
    y1 x2 y2, both float32.
    """
    random = np.random.default_rng(seed)
    predicted, targets = [], []
    for _ in range(images):
        count = random.poisson(truths)
        near = min(5 * count, predictions)
        size = random.uniform(16, 200, (count + predictions - near, 2))
        corner = random.uniform(0, 640 - size)
        boxes = np.concatenate([corner, corner + size], axis=1)  # the truths, then the background
        kinds = random.integers(0, classes, len(boxes))
        source = np.concatenate([np.arange(near) % max(count, 1), np.arange(count, len(boxes))])  # (predictions,)
        noise = random.normal(0, 4, (predictions, 4)).clip(-7, 7)  # the smallest box is 16 wide: none turns inside out
        confused = random.random(predictions) < 0.2
        kind = np.where(confused, random.integers(0, classes, predictions), kinds[source])
        on_truth = np.arange(predictions) < near
        score = random.beta(np.where(on_truth, 3, 1), np.where(on_truth, 3, 6))
        predicted.append(torch.tensor(np.column_stack([boxes[source] + noise, score, kind]), dtype=torch.float32))
        targets.append(torch.tensor(np.column_stack([kinds[:count], boxes[:count]]), dtype=torch.float32))
    return predicted, targets


def coco_index(library: type, predictions: list[torch.Tensor], targets: list[torch.Tensor], classes: int) -> tuple:
    """The same boxes as a pair of `COCO` objects (truth, detections) of one of the two libraries.

    Ids count from 1.
    """
    images = [{"id": image, "width": 640, "height": 640} for image in range(1, len(targets) + 1)]
    categories = [{"id": number, "name": str(number)} for number in range(1, classes + 1)]
    annotations = ([], [])
    for image, (found, truth) in enumerate(zip(predictions, targets), start=1):
        for side, boxes, kinds, scores in (
            (0, truth[:, 1:], truth[:, 0], truth[:, 0]),
            (1, found[:, :4], found[:, 5], found[:, 4]),
        ):
            for (x1, y1, x2, y2), kind, score in zip(boxes.tolist(), kinds.tolist(), scores.tolist()):
                identity = {"id": len(annotations[side]) + 1, "image_id": image, "category_id": int(kind) + 1}
                box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "score": score}
                annotations[side].append(identity | box)
    indices = []
    for rows in annotations:
        index = library()
        index.dataset = {"info": {}, "images": images, "categories": categories, "annotations": rows}
        with contextlib.redirect_stdout(io.StringIO()):
            index.createIndex()
        indices.append(index)
    return tuple(indices)


def coco_evaluate(
    evaluator: type, index: tuple, max_detections: int = 100, as_shipped: bool = False
) -> dict[str, np.ndarray]:
    """Run `COCOeval` of one of the two libraries.

    Returns its "precision" and "scores", each (T, 101, C); -1 in classes without truths.
    """
    judge = evaluator(*index, iouType="bbox")
    if not as_shipped:
        judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, 1e10]], ["all"], [max_detections]
    with contextlib.redirect_stdout(io.StringIO()):
        judge.evaluate()
        judge.accumulate()
    return {name: np.asarray(judge.eval[name])[:, :, :, 0, -1] for name in ("precision", "scores")}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def contest(options: argparse.Namespace) -> tuple[dict[str, list[float]], float]:
    """Seconds of every evaluator in each round, and the largest difference of AP to pycocotools."""
    predictions, targets = detections(
        options.images, options.classes, options.truths, options.predictions, options.seed
    )
    names = [str(number) for number in range(options.classes)]
    reference = coco_index(pycocotools.coco.COCO, predictions, targets, options.classes)
    faster = coco_index(faster_coco_eval.COCO, predictions, targets, options.classes)
    evaluators = {
        "yolostudy": lambda: evaluate(predictions, targets, names),
        "pycocotools": lambda: coco_evaluate(pycocotools.cocoeval.COCOeval, reference),
        "faster-coco-eval": lambda: coco_evaluate(faster_coco_eval.COCOeval_faster, faster),
    }
    times: dict[str, list[float]] = {name: [] for name in evaluators}
    for _ in range(options.rounds):  # in turns, so that a busy moment of the machine slows all of them
        for name, work in evaluators.items():
            times[name].append(seconds(work))
    shipped = "pycocotools, as it ships"
    times[shipped] = [seconds(lambda: coco_evaluate(pycocotools.cocoeval.COCOeval, reference, as_shipped=True))]

    ours = evaluators["yolostudy"]().ap  # (C, T)
    theirs = evaluators["pycocotools"]()["precision"].mean(axis=1).T  # (C, T)
    difference = np.abs(ours - np.where(theirs < 0, np.nan, theirs))[theirs >= 0].max()
    return times, float(difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"images": 5000, "classes": 80, "truths": 7, "predictions": 100, "rounds": 3, "seed": 0}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    times, difference = contest(options)
    median = {name: statistics.median(each) for name, each in times.items()}
    ratio = {name: median[name] / median["yolostudy"] for name in times if name != "yolostudy"}
    print(f"AP of {options.images} images, {options.classes} classes, {options.predictions} predictions an image,")
    print(f"{len(COCO_IOU_THRESHOLDS)} IoU thresholds; median of {options.rounds} rounds ('as it ships': one round).\n")
    print(f"{'evaluator':<26}{'seconds':>9}{'times ours':>12}")
    for name in median:
        print(f"{name:<26}{median[name]:>9.2f}{ratio.get(name, 1.0):>12.1f}")
    met = ratio["pycocotools"] >= REQUIRED
    verdict = "met" if met else "NOT met"
    print(f"\nlargest difference in AP: {difference:.1e}; {REQUIRED:g} times pycocotools: {verdict}\n")
    figures = {"images": options.images, "seconds": median, "ratio": ratio, "required": REQUIRED, "met": met}
    print(json.dumps({"benchmark": "evaluation", **figures, "ap_difference": difference}))


if __name__ == "__main__":
    main()
