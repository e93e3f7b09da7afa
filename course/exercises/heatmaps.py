"""Stage 10, second part: draw heatmaps, list joints, mask the loss, pull and push tags, group."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, gradient, values


def persons(*rows: list[tuple[float, ...]]) -> np.ndarray:
    """Keypoints (G, K, 3 or 4) of several people."""
    return np.array(rows, dtype=np.float64)


def drawn(maps: np.ndarray) -> dict[str, object]:
    return {"maps": maps, "number format": str(maps.dtype)}


# ---- HeatmapGenerator ----------------------------------------------------------------------------

generator = Exercise(
    "heatmaps.HeatmapGenerator",
    stage=10,
    points=3,
    minutes=25,
    goal="Draw a peak of height 1 for each keypoint that somebody has annotated, and cut it off at the border.",
    hints=(
        "Start with kernel: one row of distances from its middle, then the same row as a column. The middle of the "
        "array is the distance 0, whatever σ is, so the radius is a whole number.",
        "In paint, compute first which rows and columns of the map the kernel covers, and limit them to 0 and size. "
        "The same rows and columns, less y and x and plus the radius, are those of the kernel.",
        "Where peaks meet the larger value counts; numpy has an element-wise function for two arrays, which can "
        "write into one of them. An annotated keypoint has a visibility of 1 (occluded) or 2.",
    ),
)

SIDE = 24


@generator.probe("the kernel of three sigmas")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1)
    return {f"σ = {sigma:g}": drawn(make.kernel(sigma)) for sigma in (2, 0.625, 1.5)}


@generator.probe("a peak in the middle of each map")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 2, 2)
    return drawn(make(persons([(11.0, 9.0, 2), (8.0, 13.0, 2)])))


@generator.probe("a sigma that is no integer")
def _(course):
    return {
        f"σ = {sigma:g}": course.heatmaps.HeatmapGenerator(SIDE, 1, sigma)(persons([(10.0, 9.0, 2)]))
        for sigma in (0.625, 1.5)
    }


@generator.probe("the default sigma of a map of 40 cells")
def _(course):
    make = course.heatmaps.HeatmapGenerator(40, 1)
    return {"sigma": make.sigma, "maps": make(persons([(20.0, 12.0, 2)]))}


@generator.probe("keypoints at the borders")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1, 2)
    places = [(0, 0), (2, 11), (SIDE - 1, 3), (12, SIDE - 2), (SIDE - 1, SIDE - 1)]
    return {f"x {x}, y {y}": make(persons([(float(x), float(y), 2)])) for x, y in places}


@generator.probe("positions between two cells, and outside the map")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1, 1)
    places = [(5.9, 7.2), (-0.5, 4.0), (-1.0, 4.0), (7.0, -0.9), (7.0, -1.0), (7.0, -3.0), (SIDE - 0.1, 5.0)]
    places += [(SIDE, 5.0), (4.0, SIDE), (4.0, SIDE + 1.0)]
    return {f"x {x:g}, y {y:g}": make(persons([(x, y, 2)])) for x, y in places}


@generator.probe("two people three cells apart")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1, 2)
    people = persons([(9.0, 10.0, 2)], [(12.0, 10.0, 2)])
    return {"as they come": make(people), "the other way round": make(people[::-1])}


@generator.probe("visible, occluded and unknown keypoints")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 3, 1)
    return drawn(make(persons([(6.0, 6.0, 2), (7.0, 12.0, 1), (15.0, 4.0, 0)])))


@generator.probe("nobody in the image")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 2, 1)
    return drawn(make(np.zeros((0, 2, 3))))


@generator.probe("one image after another")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1, 1)
    people = persons([(6.25, 6.75, 2)])
    first = make(people).copy()
    return {"first": first, "second": make(persons([(15.0, 15.0, 2)])), "keypoints afterwards": people}


@generator.probe("paint on a map that is not empty")
def _(course):
    make = course.heatmaps.HeatmapGenerator(SIDE, 1, 1)
    heatmap = np.full((SIDE, SIDE), 0.5, dtype=np.float32)
    make.paint(heatmap, 3, 20, make.kernel(1))
    return heatmap


RADIUS = "radius = math.ceil(3 * sigma) + 1"
OFFSET = "offset = np.arange(-radius, radius + 1, dtype=np.float64)"
DRAW = "np.exp(-(offset**2 + offset[:, None] ** 2) / (2 * sigma**2))"
INSIDE = "        if not (0 <= x < self.size and 0 <= y < self.size):\n            return\n"
REACH = "radius = len(kernel) // 2"
COLUMNS = "left, right = max(0, x - radius), min(self.size, x + radius + 1)"
ROWS = "top, bottom = max(0, y - radius), min(self.size, y + radius + 1)"
PART = "kernel[top - y + radius : bottom - y + radius, left - x + radius : right - x + radius]"
MERGE = "np.maximum(heatmap[top:bottom, left:right], part, out=heatmap[top:bottom, left:right])"
PAINT = "self.paint(heatmap, int(x), int(y), kernel)"
EMPTY = "np.zeros((self.num_keypoints, self.size, self.size), dtype=np.float32)"
SEEN = "if visibility > 0:"

generator.misconception(
    "peaks that meet are added",
    swap=(MERGE, "heatmap[top:bottom, left:right] += part"),
    because="Three cells apart and with σ = 2 the sum of two peaks is 1.49 in the middle, where nobody has a "
    "keypoint, and that is the only maximum: two people become one. The maximum leaves both at 1.",
    museum=65,
)
generator.misconception(
    "the last peak overwrites the others",
    swap=(MERGE, "heatmap[top:bottom, left:right] = part"),
    because="The corner of the second kernel is nearly 0 and is written over the first peak. Whoever comes last in "
    "the file wins. Take the larger of the two values, cell by cell.",
)
generator.misconception(
    "the smaller value stays where peaks meet",
    swap=("np.maximum(", "np.minimum("),
    because="The map is 0 before anything is painted, and 0 is always the smaller value: all maps stay empty.",
)
generator.misconception(
    "the kernel's middle is 3σ + 1, whole or not",
    swap=[
        (f"{RADIUS}\n        {OFFSET}", "offset = np.arange(0, 6 * sigma + 3) - (3 * sigma + 1)"),
        (REACH, "column, row = (int(np.round(own - (len(kernel) - 1) / 2)) for own in (x, y))"),
        (COLUMNS, "left, right = max(0, column), min(self.size, column + len(kernel))"),
        (ROWS, "top, bottom = max(0, row), min(self.size, row + len(kernel))"),
        (PART, "kernel[top - row : bottom - row, left - column : right - column]"),
    ],
    because="The original does this, and always uses σ = 2, where it is right. With σ = 0.625, which is size / 64 of "
    "a map of 40 cells, the middle falls between two cells: the peak is 0.9608 high. With σ = 1.5 there is no middle "
    "cell at all: four cells share the peak, and in an even row and column the first of them is a cell up and left of "
    "the keypoint. Take a whole radius, and distances from the middle cell.",
    museum=64,
)
generator.misconception(
    "the kernel is one cell smaller on each side",
    swap=(RADIUS, "radius = math.ceil(3 * sigma)"),
    because="The kernel ends at 3σ. The original goes one cell further, and with σ = 1 the map differs there by "
    "0.0003. It hardly matters for training, but maps that should be equal are not.",
)
generator.misconception(
    "the 2 below the square is forgotten",
    swap=(DRAW, DRAW.replace("(2 * sigma**2)", "sigma**2")),
    because="A Gaussian divides by 2σ². Without the 2 the peak is as narrow as one of σ / √2: fewer cells teach where "
    "the keypoint is.",
)
generator.misconception(
    "σ is not squared",
    swap=(DRAW, DRAW.replace("sigma**2", "sigma")),
    because="The exponent has to be without a unit: cells² over cells². With σ = 1 it makes no difference; with "
    "σ = 2 the peak is too narrow, and with σ = 0.625 too wide.",
)
generator.misconception(
    "the kernel sums to 1",
    swap=(DRAW, f"(kernel := {DRAW}) / kernel.sum()"),
    because="That is a density. The network would have to answer 0.04 at a keypoint with σ = 2, and the threshold at "
    "which a peak counts would depend on σ. Peaks of heatmaps are 1 high.",
)
generator.misconception(
    "the maps are in double precision",
    swap=[(EMPTY, EMPTY.replace("32", "64")), (").astype(np.float32)", ")")],
    because="Maps of float64 take twice the memory and the time of every copy from the loader to the device, and the "
    "loss gets another number format than the network's output.",
)
generator.misconception(
    "a position is rounded to the nearest cell",
    swap=(PAINT, PAINT.replace("int(x), int(y)", "round(x), round(y)")),
    because="Cell 5 reaches from 5 to 6, so 5.9 lies in it: its middle is 5.5, and grouping adds this 0.5 again. "
    "Somebody who rounds here is half a cell off there.",
)
generator.misconception(
    "a position is rounded down",
    swap=(PAINT, PAINT.replace("int(x), int(y)", "math.floor(x), math.floor(y)")),
    because="For positive numbers it is the same. int() rounds towards 0, so that -0.5 belongs to column 0 as in the "
    "original, and a keypoint half a cell outside still counts.",
)
generator.misconception(
    "x and y change places",
    swap=(PAINT, PAINT.replace("int(x), int(y)", "int(y), int(x)")),
    because="An array is indexed by row, then column: y, then x. paint wants x first and takes care of it. On a "
    "square map nothing raises, and all keypoints are mirrored at the diagonal.",
)
generator.misconception(
    "only fully visible keypoints count",
    swap=(SEEN, "if visibility == 2:"),
    because="1 means occluded: it is hidden, but somebody knew where it is and has annotated it. A network that "
    "never sees these learns to answer 0 wherever something is in front.",
    museum=55,
)
generator.misconception(
    "unknown keypoints count",
    swap=(SEEN, "if visibility >= 0:"),
    because="0 means that nobody knows where it is. Its x and y are written as 0, so each of them puts a peak into "
    "the upper left corner.",
)
generator.misconception(
    "the kernel is always cut from its upper left corner",
    swap=(PART, "kernel[: bottom - top, : right - left]"),
    because="At the right and lower borders that is correct, at the left and upper ones it is not: there the "
    "kernel's beginning lies outside. The peak moves away from the border.",
)
generator.misconception(
    "the kernel is always cut from its lower right corner",
    swap=(PART, "kernel[len(kernel) - (bottom - top) :, len(kernel) - (right - left) :]"),
    because="At the left and upper borders that is correct. At the right and lower ones the kernel's end lies "
    "outside, and the peak moves away from the border.",
)
generator.misconception(
    "the left and upper borders are not cut",
    swap=[
        (COLUMNS, COLUMNS.replace("max(0, x - radius)", "x - radius")),
        (ROWS, ROWS.replace("max(0, y - radius)", "y - radius")),
    ],
    because="A negative index counts from the end: heatmap[-3:8] is empty, and numpy refuses to write a part of "
    "another shape into it. Limit the first row and column to 0.",
)
generator.misconception(
    "a kernel that does not fit is left out",
    swap=(
        f"{INSIDE}        {REACH}\n",
        f"        {REACH}\n        if not (radius <= min(x, y) and max(x, y) < self.size - radius):\n"
        "            return\n",
    ),
    because="Keypoints near the border vanish from the maps, and the network learns that there are none. Cut off "
    "what reaches over the border.",
)
generator.misconception(
    "a keypoint outside is moved to the border",
    swap=(INSIDE, "        x, y = min(max(x, 0), self.size - 1), min(max(y, 0), self.size - 1)\n"),
    because="The crop has cut the keypoint off. A peak of height 1 at the border says that it is there. Leave it out.",
)
generator.misconception(
    "the right and lower ends are not checked",
    swap=(INSIDE, INSIDE.replace("0 <= x < self.size and 0 <= y < self.size", "x >= 0 and y >= 0")),
    because="The slope of a peak beyond the border reaches into the map: high values, and no peak. Beyond the "
    "kernel's reach the slices even end before they begin. A cell outside is not painted.",
)
generator.misconception(
    "the maps are kept from image to image",
    swap=(f"heatmaps = {EMPTY}", f'heatmaps = self.__dict__.setdefault("maps", {EMPTY})'),
    because="Each image also has the peaks of all images before it. Make new maps at each call.",
)


# ---- ScaleAwareHeatmapGenerator ------------------------------------------------------------------

scale_aware = Exercise(
    "heatmaps.ScaleAwareHeatmapGenerator",
    stage=10,
    points=1,
    minutes=10,
    after="heatmaps.HeatmapGenerator",
    goal="Give each keypoint a peak of its own width.",
    hints=(
        "The parent class has everything but one thing: it makes one kernel for all. Where must the kernel be made "
        "now?",
        "Its methods kernel and paint are yours too. A keypoint has four numbers here.",
        "A σ of 0 says: none of its own. What does `0.0 or 2.0` give in Python?",
    ),
)


@scale_aware.probe("two people of two sizes")
def _(course):
    make = course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 2, 1)
    return drawn(make(persons([(6.0, 7.0, 2, 3), (8.0, 3.0, 2, 3)], [(16.0, 17.0, 2, 1.5), (15.0, 20.0, 1, 1.5)])))


@scale_aware.probe("each keypoint has its own sigma")
def _(course):
    make = course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 3, 1)
    return make(persons([(12.0, 5.0, 2, 2), (7.0, 13.0, 2, 0.625), (20.0, 9.0, 1, 3)]))


@scale_aware.probe("keypoints that bring no sigma")
def _(course):
    make = course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 2, 2)
    return make(persons([(12.0, 5.0, 2, 0), (7.0, 13.0, 2, 1)], [(4.0, 18.0, 2, 0), (18.0, 6.0, 2, 0)]))


@scale_aware.probe("made with two and with three arguments")
def _(course):
    people = persons([(12.0, 12.0, 2, 0)])
    return {
        "three": attempt(lambda: course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 1, 1.5)(people)),
        "two": course.heatmaps.ScaleAwareHeatmapGenerator(64, 1)(people),
    }


@scale_aware.probe("unknown, occluded and outside; and people who meet")
def _(course):
    make = course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 3, 1)
    people = persons(
        [(6.0, 6.0, 0, 2), (7.0, 12.0, 1, 2), (-0.5, 4.0, 2, 1)],
        [(SIDE + 0.0, 6.0, 2, 2), (9.0, 12.0, 2, 1), (3.9, 4.9, 2, 1)],
    )
    return make(people)


@scale_aware.probe("nobody in the image")
def _(course):
    return drawn(course.heatmaps.ScaleAwareHeatmapGenerator(SIDE, 2, 1)(np.zeros((0, 2, 4))))


WIDTH = "self.kernel(float(sigma) or self.sigma)"
AWARE = f"self.paint(heatmap, int(x), int(y), {WIDTH})"

scale_aware.misconception(
    "every peak has the generator's sigma",
    swap=(WIDTH, "self.kernel(self.sigma)"),
    because="This is the parent's map: the fourth number of the keypoints is not used. A small person's peaks run "
    "into each other, a large one's are hard to hit.",
)
scale_aware.misconception(
    "the first keypoint's sigma serves the whole person",
    swap=(WIDTH, "self.kernel(float(person[0][3]) or self.sigma)"),
    because="The original does this, because its σ comes from the person's size. Here each keypoint brings its own: "
    "a wing tip can be placed less exactly than a nose. Use the keypoint's number.",
)
scale_aware.misconception(
    "the first person's sigma serves everybody",
    swap=(WIDTH, "self.kernel(float(keypoints[0][0][3]) or self.sigma)"),
    because="The kernel depends on the keypoint, so it cannot be made once for the image. The second person gets the "
    "width of the first.",
)
scale_aware.misconception(
    "a sigma of 0 is used as it is",
    swap=(WIDTH, "self.kernel(float(sigma))"),
    because="0 means that the keypoint brings none. A kernel of this width divides 0 by 0: its middle is NaN, and "
    "with it the loss.",
)
scale_aware.misconception(
    "sigma is rounded to an integer",
    swap=(WIDTH, "self.kernel(int(sigma) or self.sigma)"),
    because="With the original's kernel that would be a remedy, because it is wrong for any other σ. Yours is right "
    "for all, and rounding makes people of 1.5 as narrow as those of 1.",
)
scale_aware.misconception(
    "the two sigmas are multiplied",
    swap=(WIDTH, "self.kernel(float(sigma) * self.sigma)"),
    because="The keypoint's σ is in cells, no factor on the generator's. And 0 times anything is a kernel of width 0.",
)
scale_aware.misconception(
    "the larger of the two sigmas counts",
    swap=(WIDTH, "self.kernel(max(float(sigma), self.sigma))"),
    because="Then nobody gets a peak that is narrower than the generator's, and small people are the reason for "
    "this class. The generator's σ stands in only where the keypoint has 0.",
)
scale_aware.misconception(
    "only fully visible keypoints count",
    swap=("if visibility > 0:", "if visibility == 2:"),
    because="An occluded keypoint (1) has been annotated, and its place is known. Count everything above 0, as the "
    "parent does.",
    museum=55,
)
scale_aware.misconception(
    "x and y change places",
    swap=(AWARE, AWARE.replace("int(x), int(y)", "int(y), int(x)")),
    because="paint takes the column first. On a square map nothing raises, and all keypoints are mirrored.",
)
scale_aware.misconception(
    "it takes two arguments, and its caller gives three",
    swap=(
        "    def __call__(",
        "    def __init__(self, size: int, num_keypoints: int):\n        super().__init__(size, num_keypoints)\n\n"
        "    def __call__(",
    ),
    because="The original is like this: a setting chooses one of the two generators, and the line that makes it gives "
    "size, K and σ to both. With the scale-aware one it ends with a TypeError, so nobody can ever have trained with "
    "it. Keep the parent's arguments.",
)


# ---- JointsGenerator -----------------------------------------------------------------------------

lister = Exercise(
    "heatmaps.JointsGenerator",
    stage=10,
    points=2,
    minutes=15,
    after="heatmaps.HeatmapGenerator",
    goal="Say for each person where in the flattened tag maps its keypoints lie.",
    hints=(
        "A batch needs arrays of one shape, but people have different numbers of visible keypoints, and images of "
        "people. What fills the rest?",
        "How many numbers of the flattened maps (K, size, size) come before the first one of map k, and how many "
        "before row y of it?",
        "Which keypoints count is the rule of the heatmaps: visibility above 0, and the cell that int() gives is "
        "inside. Gather the entries of a person in a list, then write them to the left end of its row.",
    ),
)


@lister.probe("two people, everything visible")
def _(course):
    joints = course.heatmaps.JointsGenerator(3, 2, 8)(
        persons([(1.0, 2.0, 2), (3.0, 5.0, 2)], [(6.0, 0.0, 2), (7.0, 7.0, 2)])
    )
    return {"joints": joints, "number format": str(joints.dtype)}


@lister.probe("what the entries point at")
def _(course):
    tags = np.arange(2 * 8 * 8).reshape(2, 8, 8)
    joints = course.heatmaps.JointsGenerator(1, 2, 8)(persons([(1.0, 2.0, 2), (3.0, 5.0, 2)]))
    return {"pointed at": tags.ravel()[joints[0, :, 0].astype(int)], "meant": [int(tags[0, 2, 1]), int(tags[1, 5, 3])]}


@lister.probe("hidden and occluded keypoints")
def _(course):
    return course.heatmaps.JointsGenerator(2, 4, 8)(
        persons([(1.0, 2.0, 0), (3.0, 5.0, 2), (0.0, 0.0, 0), (2.0, 4.0, 1)])
    )


@lister.probe("a person of whom nothing is visible, between two others")
def _(course):
    return course.heatmaps.JointsGenerator(4, 2, 8)(
        persons([(1.0, 2.0, 2), (2.0, 2.0, 2)], [(3.0, 3.0, 0), (4.0, 4.0, 0)], [(5.0, 6.0, 0), (6.0, 6.0, 1)])
    )


@lister.probe("positions between two cells, and outside the map")
def _(course):
    places = [(5.9, 6.2), (-0.5, 4.0), (-1.0, 4.0), (7.0, -0.9), (7.0, -1.0), (7.0, -3.0)]
    places += [(7.9, 5.0), (8.0, 5.0), (4.0, 8.0), (4.0, 9.0)]
    return course.heatmaps.JointsGenerator(len(places), 1, 8)(persons(*[[(x, y, 2)] for x, y in places]))


@lister.probe("somebody in the upper left cell")
def _(course):
    return course.heatmaps.JointsGenerator(2, 2, 8)(persons([(0.0, 0.5, 2), (0.0, 0.0, 1)]))


@lister.probe("the same people for two resolutions")
def _(course):
    people = persons([(1.5, 2.0, 2), (3.0, 5.5, 2)])
    return {
        f"maps of {side} cells": course.heatmaps.JointsGenerator(1, 2, side)(people * [side / 8, side / 8, 1])
        for side in (8, 16)
    }


@lister.probe("nobody, as many people as fit, and one more")
def _(course):
    make, one = course.heatmaps.JointsGenerator(2, 1, 8), [(1.0, 1.0, 2)]
    return {
        "nobody": make(np.zeros((0, 1, 3))),
        "two": make(persons(one, one)),
        "three": attempt(lambda: make(persons(one, one, one))),
    }


@lister.probe("keypoints that bring a sigma")
def _(course):
    people = persons([(1.0, 2.0, 2, 5), (3.0, 5.0, 1, 0)])
    return {"joints": course.heatmaps.JointsGenerator(2, 2, 8)(people), "keypoints afterwards": people}


ENTRY = "(k * self.size**2 + y * self.size + x, 1)"
CELL = "x, y = int(x), int(y)"
COUNTS = "if visibility > 0 and 0 <= x < self.size and 0 <= y < self.size:"
WRITE = "row[: len(entries)] = np.array(entries, dtype=np.int64).reshape(-1, 2)"

lister.misconception(
    "all entries point into the first map",
    swap=(ENTRY, "(y * self.size + x, 1)"),
    because="Each kind of keypoint has a tag map of its own, and map k starts at k·size². Without that term a "
    "person's tags are all read from map 0: the other maps learn nothing.",
)
lister.misconception(
    "x and y change places",
    swap=(ENTRY, "(k * self.size**2 + x * self.size + y, 1)"),
    because="Maps are flattened row by row, so y counts whole rows. On a square map nothing raises: the loss teaches "
    "the tags of cells where nobody is.",
)
lister.misconception(
    "the maps are flattened with K last",
    swap=(ENTRY, "((y * self.size + x) * self.num_keypoints + k, 1)"),
    because="That is the order of an image in numpy, (size, size, K). Torch has the channels first: a flattened "
    "(K, size, size) has map after map.",
)
lister.misconception(
    "a map counts size cells",
    swap=(ENTRY, "(k * self.size + y * self.size + x, 1)"),
    because="A row has size cells, a map size². Keypoint 1 is read from one row further down in map 0.",
)
lister.misconception(
    "the entries are not packed to the left",
    swap=[
        (ENTRY, "(k, k * self.size**2 + y * self.size + x, 1)"),
        (WRITE, "for k, *entry in entries:\n                row[k] = entry"),
    ],
    because="Entry k at place k would do for this course's loss, which looks at the flags. The agreed form is packed: "
    "code that stops at the first 0, as the original's compiled loss may, loses what comes behind a hidden keypoint.",
)
lister.misconception(
    "a row without entries is given to the next person",
    swap=("zip(joints, keypoints):", "zip(joints, [own for own in keypoints if (own[:, 2] > 0).any()]):"),
    because="Row g is person g. If rows move up, joints and keypoints of an image no longer belong together, and "
    "whoever paints the tags of person 2 gets those of person 3.",
)
lister.misconception(
    "only fully visible keypoints count",
    swap=(COUNTS, COUNTS.replace("visibility > 0", "visibility == 2")),
    because="Heatmaps have a peak for an occluded keypoint (1). Without its tag nobody teaches the network whose it "
    "is, and grouping makes a new person of it.",
    museum=55,
)
lister.misconception(
    "unknown keypoints count",
    swap=(COUNTS, COUNTS.replace("visibility > 0 and ", "")),
    because="Their x and y are 0: the tags of all upper left cells are pulled towards each person at once.",
)
lister.misconception(
    "keypoints outside the map count",
    swap=(COUNTS, "if visibility > 0:"),
    because="x = 8 in a map of 8 cells is index 0 of the next row, and y = 9 lies in the next map. The entry points "
    "at another place, or behind the end.",
)
lister.misconception(
    "only the columns are checked",
    swap=(COUNTS, COUNTS.replace(" and 0 <= y < self.size", "")),
    because="A keypoint below the map then points into the next keypoint's map. Check both.",
)
lister.misconception(
    "a position is rounded to the nearest cell",
    swap=(CELL, "x, y = round(x), round(y)"),
    because="The heatmap's peak is at int(x), int(y). Here the tag of the neighbouring cell is taught, and grouping "
    "reads the one at the peak.",
)
lister.misconception(
    "a position is rounded down",
    swap=(CELL, "x, y = int(x // 1), int(y // 1)"),
    because="-0.5 becomes -1 and is left out, but the heatmap has a peak for it in column 0. int() rounds towards 0, "
    "in both generators.",
)
lister.misconception(
    "the second number is the visibility",
    swap=(ENTRY, ENTRY.replace(", 1)", ", visibility)")),
    because="It says whether the entry counts, 1 or 0. A loss that multiplies by it would weigh a visible keypoint "
    "twice as much as an occluded one.",
)
lister.misconception(
    "the second number stays 0",
    swap=(ENTRY, ENTRY.replace(", 1)", ", 0)")),
    because="Index 0 is a cell like all others, so the index alone cannot say that an entry is empty. Without the 1 "
    "no entry counts, and pull and push are 0 for ever.",
)
lister.misconception(
    "the list is made of floats",
    swap=("self.num_keypoints, 2), dtype=np.int64)", "self.num_keypoints, 2), dtype=np.float32)"),
    because="Torch indexes by int64 only. And float32 has 24 bits: from 16,777,216 on, which is map 64 of 512 × 512 "
    "cells, it cannot name each cell.",
)
lister.misconception(
    "people who do not fit are left out",
    swap=(
        "        if len(keypoints) > self.max_people:\n            raise ValueError(\n"
        '                f"the image has {len(keypoints)} people, and the list {self.max_people} rows; raise '
        'max_people."\n            )\n',
        "",
    ),
    because="zip stops at the shorter one, without a word: the heatmaps have peaks of everybody, the joints only of "
    "the first, and nobody learns of it. Refuse.",
)


# ---- heatmap_loss --------------------------------------------------------------------------------

masked = Exercise(
    "heatmaps.heatmap_loss",
    stage=10,
    points=1,
    minutes=10,
    after="heatmaps.HeatmapGenerator",
    goal="Compare heatmaps, and say nothing of regions that nobody has annotated.",
    hints=(
        "The result is one number for each image. Over which dimensions goes the mean?",
        "Where the mask is 0 the error counts as 0. If you multiply only one of the two maps by it, the other one is "
        "compared with 0 there.",
        "The mask has no dimension for K. Insert one at the right place, so that it is broadcast over the keypoints "
        "and not over the batch.",
    ),
)


def heatmap_pair(batch: int = 3, count: int = 2, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted maps, targets of which many are 0, and a mask that hides a few columns."""
    predicted = values(batch, count, 4, 6, low=-0.5, high=1.5, seed=5)
    target = values(batch, count, 4, 6, low=-1, high=1, seed=6).clamp(min=0)
    mask = torch.ones(batch, 4, 6)
    mask[0, :, :2] = mask[1, 1:, 3:] = 0
    return predicted.to(dtype or predicted.dtype), target.to(dtype or target.dtype), mask


@masked.probe("three images, each with its own mask")
def _(course):
    loss = course.heatmaps.heatmap_loss(*heatmap_pair())
    return {"loss": loss, "shape": list(loss.shape)}


@masked.probe("nothing is hidden")
def _(course):
    predicted, target, mask = heatmap_pair()
    return {
        "loss": course.heatmaps.heatmap_loss(predicted, target, torch.ones_like(mask)),
        "of equal maps": course.heatmaps.heatmap_loss(target, target, torch.ones_like(mask)),
    }


@masked.probe("one image is hidden altogether")
def _(course):
    predicted, target, mask = heatmap_pair()
    mask[1] = 0
    return course.heatmaps.heatmap_loss(predicted, target, mask)


@masked.probe("as many images as keypoints")
def _(course):
    return course.heatmaps.heatmap_loss(*heatmap_pair(3, 3))


@masked.probe("a mask of True and False")
def _(course):
    predicted, target, mask = heatmap_pair()
    return course.heatmaps.heatmap_loss(predicted, target, mask.bool())


@masked.probe("the gradient")
def _(course):
    predicted, target, mask = heatmap_pair()
    predicted.requires_grad_()
    loss = course.heatmaps.heatmap_loss(predicted, target, mask)
    return gradient((loss * torch.arange(1, 1 + loss.numel())).sum(), predicted)


@masked.probe("maps in bfloat16")
def _(course):
    loss = course.heatmaps.heatmap_loss(*heatmap_pair(dtype=torch.bfloat16))
    return {"loss": loss}


ERROR = "(predicted.float() - target).square()"
MASK = f"{ERROR} * mask[:, None]"
MEAN = "error.mean(dim=(1, 2, 3))"

masked.misconception(
    "the mask is forgotten",
    swap=(MASK, ERROR),
    because="A crowd in the background has heads too, and nobody has annotated them. The network finds them and is "
    "told that it is wrong: it learns to overlook small people.",
)
masked.misconception(
    "the mask is on the predicted maps only",
    swap=(MASK, "(predicted.float() * mask[:, None] - target).square()"),
    because="What is hidden is compared as 0 with the target. No gradient flows there, but every peak of the target "
    "under the mask makes the loss larger, and no training can lower it.",
)
masked.misconception(
    "the mask is on the target only",
    swap=(MASK, "(predicted.float() - target * mask[:, None]).square()"),
    because="Under the mask the network is now told to answer 0, which is just what the mask should prevent.",
)
masked.misconception(
    "the mask is turned round",
    swap=(MASK, f"{ERROR} * (1 - mask[:, None].float())"),
    because="The mask is 1 where the error counts. Turned round, the network learns only from what nobody has "
    "annotated.",
)
masked.misconception(
    "the mask is broadcast over the batch",
    swap=(MASK, f"{ERROR} * mask[None]"),
    because="A dimension of size 1 in front makes (1, B, h, w): image b's mask is laid on keypoint b of all images. "
    "With as many images as keypoints nothing raises. The 1 belongs at the place of K.",
)
masked.misconception(
    "the mean is over the visible cells",
    swap=(MEAN, "error.sum(dim=(1, 2, 3)) / (mask.float().sum(dim=(1, 2)) * error.shape[1])"),
    because="It seems fairer, but an image of which a corner is visible then counts as much as a whole one, and its "
    "few cells get a huge gradient. An image that is hidden altogether divides by 0. The divisor is K·h·w.",
)
masked.misconception(
    "the mean is over the batch too",
    swap=(MEAN, "error.mean()"),
    because="The caller wants a number for each image. MultiLoss takes the mean over them.",
)
masked.misconception(
    "the errors are added",
    swap=(MEAN, "error.sum(dim=(1, 2, 3))"),
    because="The loss of maps of twice the resolution is then four times as large, and the factor between heatmaps "
    "and tags depends on the size of the image.",
)
masked.misconception(
    "the errors are added over the keypoints",
    swap=(MEAN, "error.mean(dim=(2, 3)).sum(dim=1)"),
    because="The loss grows with K: 17 keypoints make it 17 times as large, against the same pull and push.",
)
masked.misconception(
    "the root is taken",
    swap=(MEAN, "error.mean(dim=(1, 2, 3)).sqrt()"),
    because="The root weighs images: one with a small error gets a larger gradient, and one with none an infinite "
    "one. The loss is the mean of the squares.",
)
masked.misconception(
    "the absolute difference is taken",
    swap=(MASK, MASK.replace("square", "abs")),
    because="Nearly all cells are 0. The absolute error is smallest if the network answers the median, which is 0 "
    "everywhere. The squared error prefers the mean, so peaks survive.",
)
masked.misconception(
    "only the peaks are compared",
    swap=(MASK, f"{MASK} * (target > 0)"),
    because="A network that answers 1 everywhere then has nearly no loss. Cells without a keypoint have to say 0.",
)
masked.misconception(
    "the error is computed in half precision",
    swap=[(MASK, MASK.replace(".float()", "")), (MEAN, "error.to(predicted.dtype).mean(dim=(1, 2, 3))")],
    because="bfloat16 has 8 bits: small errors next to larger ones vanish when they are added. The maps come in half "
    "precision under autocast; turn them into float32 before you subtract.",
)


# ---- associative_embedding -----------------------------------------------------------------------

embedding = Exercise(
    "heatmaps.associative_embedding",
    stage=10,
    points=3,
    minutes=25,
    after="heatmaps.JointsGenerator",
    goal="Pull the tags of each person together, and push different people apart.",
    hints=(
        "Read the tags first: flatten the maps of an image, and gather at the first numbers of joints. Entries whose "
        "second number is 0 point at cell 0 and must not count, neither in a mean nor in a divisor.",
        "pull is a mean of means: over the keypoints of a person, then over the people of the image who have any. "
        "Rows without an entry are nobody.",
        "For push, subtract the means (B, P) of all from all: (B, P, P). Which of these pairs are two different, "
        "present people? Their number is n(n - 1), and may be 0.",
    ),
)


def tags_of(*images: list[tuple[float | None, ...]], rows: int = 4) -> tuple[Tensor, Tensor]:
    """Tag maps (B, K, 5, 5) and joints (B, P, K, 2) in which people have these tags.

    None is a hidden keypoint. All other cells hold tags that must not be read.
    """
    count = max(len(person) for image in images for person in image)
    tags = values(len(images), count, 5, 5, low=4, high=9, seed=8)
    joints = torch.zeros(len(images), rows, count, 2, dtype=torch.long)
    for b, image in enumerate(images):
        for p, person in enumerate(image):
            entries = [(k * 25 + p * 5 + 1 + k % 4, tag) for k, tag in enumerate(person) if tag is not None]
            for place, (index, tag) in enumerate(entries):
                tags[b].view(-1)[index] = tag
                joints[b, p, place] = torch.tensor([index, 1])
    return tags, joints


TWO = [(0.0, 0.2), (1.0, 1.4)]
THREE = [(0.1, 0.5, 0.9), (1.1, None, 1.6), (None, 2.5, None)]
GAP = [(0.1, 0.5, 0.9), (None, None, None), (1.1, None, 1.6)]


def both(course, tags: Tensor, joints: Tensor, kind: str = "exp") -> dict[str, object]:
    pull, push = course.heatmaps.associative_embedding(tags, joints, kind)
    return {"pull": pull, "push": push}


@embedding.probe("two people with two keypoints each")
def _(course):
    return {kind: both(course, *tags_of(TWO), kind) for kind in ("exp", "max")}


@embedding.probe("a batch of images with three, two and two people")
def _(course):
    return {
        kind: both(course, *tags_of(THREE, GAP, [(0.3, 0.4, 0.8), (0.2, None, 0.1)]), kind) for kind in ("exp", "max")
    }


@embedding.probe("the list has room for many more people")
def _(course):
    return both(course, *tags_of(THREE, rows=12))


@embedding.probe("nobody, and one person")
def _(course):
    return both(course, *tags_of([(None, None)], [(0.3, 0.9)]))


@embedding.probe("one person alone with one keypoint, and two")
def _(course):
    return both(course, *tags_of([(0.3, None)], [(0.3, None), (None, 0.8)]))


@embedding.probe("three people with the same tags")
def _(course):
    return {kind: both(course, *tags_of([(0.5, 0.5)] * 3), kind) for kind in ("exp", "max")}


@embedding.probe("people far apart")
def _(course):
    return {kind: both(course, *tags_of([(-6.0, -6.0), (0.0, 0.0), (6.0, 8.0)]), kind) for kind in ("exp", "max")}


@embedding.probe("a keypoint in the upper left cell of the first map")
def _(course):
    """Its index is 0, as in an empty entry; only the second number tells the two apart."""
    tags, joints = tags_of(TWO)
    tags[0, 0, 0, 0], joints[0, 0, 0, 0] = 0.6, 0
    return both(course, tags, joints)


@embedding.probe("the gradients")
def _(course):
    found = {}
    for kind in ("exp", "max"):
        tags, joints = tags_of(THREE, GAP)
        tags.requires_grad_()
        pull, push = course.heatmaps.associative_embedding(tags, joints, kind)
        weights = torch.arange(1.0, 3.0)
        found[kind] = {"pull": gradient((pull * weights).sum(), tags), "push": gradient((push * weights).sum(), tags)}
    return found


@embedding.probe("maps in bfloat16")
def _(course):
    tags, joints = tags_of(THREE)
    return both(course, tags.to(torch.bfloat16), joints)


FOUND = "found = tags.float().flatten(1).gather(1, index.flatten(1)).view(index.shape)"
MEANS = "means = (found * valid).sum(dim=-1) / counts.clamp(min=1)"
SQUARES = "((found - means[..., None]).square() * valid).sum(dim=-1)"
VARIANCES = f"variances = {SQUARES} / counts.clamp(min=1)"
PULL = "pull = variances.sum(dim=-1) / people.clamp(min=1)"
DISTANCE = "distance = means[:, :, None] - means[:, None]"
CLOSE = 'close = torch.exp(-distance.square()) if kind == "exp" else F.relu(1 - distance.abs())'
PAIRS = "pairs = present[:, :, None] & present[:, None] & others"
PUSH = "push = 0.5 * (close * pairs).sum(dim=(1, 2)) / (people * (people - 1)).clamp(min=1)"

embedding.misconception(
    "pull adds the squares of a person",
    swap=(VARIANCES, f"variances = {SQUARES}"),
    because="A person with many visible keypoints is then pulled harder at each of them than one with few. Take the "
    "mean over the person's keypoints.",
)
embedding.misconception(
    "pull is a standard deviation",
    swap=(VARIANCES, f"{VARIANCES}\n    variances = variances.sqrt()"),
    because="Pull is the variance: the mean of the squares, no root. The root's gradient is infinite where all tags "
    "are equal, which is just where training should lead.",
)
embedding.misconception(
    "pull divides by one keypoint less",
    swap=(VARIANCES, f"variances = {SQUARES} / (counts - 1).clamp(min=1)"),
    because="n - 1 belongs to the estimate of a variance from a sample, and is what torch.var does by default. A "
    "person's keypoints are no sample: the tags are all there. Divide by n.",
)
embedding.misconception(
    "pull is the distance and not its square",
    swap=(VARIANCES, VARIANCES.replace("square()", "abs()")),
    because="The absolute distance pulls a tag that is nearly right as hard as one that is far away, so tags jump "
    "around their mean. Take the square.",
)
embedding.misconception(
    "pull is a sum over the people",
    swap=(PULL, "pull = variances.sum(dim=-1)"),
    because="An image with 30 people would pull 30 times as hard, while push is a mean over pairs. Divide by the "
    "number of people.",
)
embedding.misconception(
    "pull is divided by the rows of the list",
    swap=(PULL, "pull = variances.sum(dim=-1) / joints.shape[1]"),
    because="The list has 30 rows for two people: pull is 15 times too small, and changes if somebody raises "
    "max_people. n counts those who have a keypoint.",
)
embedding.misconception(
    "pull is a mean over all keypoints of the image",
    swap=(PULL, f"pull = ({SQUARES}).sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)"),
    because="Then a person with three visible keypoints counts three times as much as one with a single one. First "
    "the mean of each person, then the mean over the people.",
)
embedding.misconception(
    "the mean tag counts hidden keypoints",
    swap=(MEANS, "means = (found * valid).mean(dim=-1)"),
    because="Hidden keypoints are zeros in that mean: it moves towards 0, and the tags are pulled to a value that is "
    "not their middle. Divide by the number of visible ones.",
)
embedding.misconception(
    "empty entries are read",
    swap=[(MEANS, "means = found.mean(dim=-1)"), (VARIANCES, "variances = found.var(dim=-1, correction=0)")],
    because="An empty entry is (0, 0), and index 0 is the upper left cell of the first map: its tag is pulled towards "
    "everybody. Only entries with a 1 count.",
)
embedding.misconception(
    "a person of whom nothing is visible counts",
    swap=("present = counts > 0", "present = counts >= 0"),
    because="An empty row has the mean tag 0. Real people are pushed away from 0 by people who are not there, and "
    "both divisors count all rows of the list.",
)
embedding.misconception(
    "present people are pushed away from empty rows",
    swap=(PAIRS, "pairs = others"),
    because="An empty row has the mean tag 0, so with 28 empty rows nearly all pairs are with nobody: push drives "
    "all tags away from 0, and is larger the emptier the image is. Both of a pair must be present.",
)
embedding.misconception(
    "an image without people divides by 0",
    swap=(PULL, "pull = variances.sum(dim=-1) / people"),
    because="0 / 0 is NaN, and one such image makes the loss of the whole batch NaN. Images without people are "
    "ordinary training data.",
)
embedding.misconception(
    "one person alone divides by 0",
    swap=(PUSH, PUSH.replace(".clamp(min=1)", "")),
    because="n(n - 1) is 0 for one person, and for nobody. There is no pair, so the sum is 0 as well, and 0 / 0 is "
    "NaN. Limit the divisor to 1.",
)
embedding.misconception(
    "push keeps the diagonal",
    swap=(PAIRS, "pairs = present[:, :, None] & present[:, None]"),
    because="Everybody is at a distance of 0 from themselves, so the sum has n terms of 1 that no training can "
    "lower: the curve of push has a floor of 1 / (2(n - 1)), and one person alone has 1/2. Only i ≠ j counts.",
    museum=66,
)
embedding.misconception(
    "push is divided by n²",
    swap=(PUSH, PUSH.replace("people * (people - 1)", "people * people")),
    because="That is the number of pairs with the diagonal. Without it there are n(n - 1): for two people n² makes "
    "push half as large as it should be.",
)
embedding.misconception(
    "push is a sum over the pairs",
    swap=(PUSH, "push = 0.5 * (close * pairs).sum(dim=(1, 2))"),
    because="The number of pairs grows with the square of the people: a crowd of 30 would push 435 times as hard as "
    "two people. Divide by the number of pairs.",
)
embedding.misconception(
    "push has no 1/2",
    swap=(PUSH, PUSH.replace("0.5 * ", "")),
    because="The factor belongs to the published loss, and its weights were chosen with it. Equal tags have a push "
    "of 0.5, not 1.",
)
embedding.misconception(
    "each pair counts once",
    swap=(
        "others = ~torch.eye(present.shape[1], dtype=torch.bool, device=tags.device)",
        "others = torch.ones(present.shape[1], present.shape[1], dtype=torch.bool).triu(1)",
    ),
    because="Σ over i ≠ j has each pair twice, and n(n - 1) counts it twice. If the sum has it once and the divisor "
    "twice, push is half of what it should be.",
)
embedding.misconception(
    "the larger the distance, the larger the push",
    swap=(CLOSE, 'close = distance.square() if kind == "exp" else distance.abs()'),
    because="Minimised, this brings all tags to the same value, together with pull. Push has to be large where two "
    "people are close, and nearly 0 where they are far apart.",
)
embedding.misconception(
    "the exponent is not squared",
    swap=(CLOSE, CLOSE.replace("distance.square()", "distance.abs()")),
    because="exp(-|d|) has a kink at 0 and pushes far people as well. The published loss has exp(-d²).",
)
embedding.misconception(
    "the margin has no absolute value",
    swap=(CLOSE, CLOSE.replace("distance.abs()", "distance")),
    because="Of two people one has the negative distance: 1 - d is then larger than 1, and grows with the distance. "
    "Only |d| says how far they are apart.",
)
embedding.misconception(
    "the margin is not cut off at 0",
    swap=(CLOSE, CLOSE.replace("F.relu(1 - distance.abs())", "1 - distance.abs()")),
    because="People who are far apart make the loss negative, and are driven apart without end. From a distance of 1 "
    "on there is nothing left to push: max(0, 1 - |d|).",
)
embedding.misconception(
    "the exponential is used for both kinds",
    swap=(CLOSE, "close = torch.exp(-distance.square())"),
    because="The argument is accepted and not used. Somebody compares the two losses and finds no difference.",
)
embedding.misconception(
    "one of the two of a pair stands still",
    swap=(DISTANCE, "distance = means[:, :, None] - means[:, None].detach()"),
    because="The value is right and the gradient half as large: each person is pushed as one of a pair and not as "
    "the other. Let it flow to both.",
)
embedding.misconception(
    "pull and push change places",
    swap=("return pull, push", "return push, pull"),
    because="The original returns push first; here pull comes first. Both are small numbers, so only the curves look "
    "strange: the wrong factor works on each.",
)
embedding.misconception(
    "the mean over the batch is taken",
    swap=("return pull, push", "return pull.mean(), push.mean()"),
    because="The caller wants both numbers of each image. MultiLoss takes the mean.",
)
embedding.misconception(
    "all images read the tags of the first",
    swap=(FOUND, FOUND.replace("tags.float()", "tags.float()[:1].expand_as(tags)")),
    because="Joints count within one image, so each row of the batch has to be gathered from its own maps. With a "
    "batch of one nothing shows.",
)
embedding.misconception(
    "the maps are flattened with K last",
    swap=(FOUND, FOUND.replace("flatten(1).gather", "permute(0, 2, 3, 1).flatten(1).gather")),
    because="The index is k·size² + y·size + x: map after map, as torch has them. With K last it names other cells.",
)
embedding.misconception(
    "the tags are squeezed into -1 … 1",
    swap=(FOUND, FOUND.replace("tags.float()", "tags.float().tanh()")),
    because="Tags have no range: with 30 people in an image they need room. Squeezed, they get no gradient where "
    "tanh is flat.",
)


# ---- MultiLoss -----------------------------------------------------------------------------------

multi = Exercise(
    "heatmaps.MultiLoss",
    stage=10,
    points=2,
    minutes=20,
    after=("heatmaps.heatmap_loss", "heatmaps.associative_embedding"),
    goal="Add up the losses of both resolutions, each with its own targets and factors.",
    hints=(
        "Go through the outputs with their number: every list of the targets and every factor has an entry for each "
        "resolution. Both losses give a number for each image; a part is their mean.",
        "An output has its heatmaps first, as far as it has any, and then its tag maps. At which channel do the tags "
        "start if it has no heatmaps?",
        "Whether a resolution has tags does not depend on whether it has heatmaps: two conditions, side by side. A "
        "part that no resolution has is a tensor 0.",
    ),
)


def resolutions(heatmaps=(True, True), tags=(True, False), batch: int = 2) -> tuple[list[Tensor], SimpleNamespace]:
    """Outputs of 4 and 8 cells for K = 2, and targets with people in all images.

    All joints lie in the upper half, so that those of one resolution are valid for the other.
    """
    targets = SimpleNamespace(heatmaps=[], masks=[], joints=[])
    outputs = []
    for stage, side in enumerate((4, 8)):
        outputs.append(values(batch, 2 * (heatmaps[stage] + tags[stage]), side, side, low=-1, high=1, seed=stage + 1))
        targets.heatmaps.append(values(batch, 2, side, side, seed=stage + 3))
        mask = torch.ones(batch, side, side)
        mask[0, : side // 2, stage:] = 0
        targets.masks.append(mask)
        joints = torch.zeros(batch, 3, 2, 2, dtype=torch.long)
        for image in range(batch):
            for person in range(image + 1):
                for k in range(2):
                    cell = person * side + (1 + image + k) % 4 + stage
                    joints[image, person, k] = torch.tensor([k * 8 + cell, 1])
        targets.joints.append(joints)
    return outputs, targets


FACTORS = {"heatmap_factors": (2.0, 3.0), "pull_factors": (5.0, 7.0), "push_factors": (11.0, 13.0)}


@multi.probe("heatmaps twice, tags in the first output")
def _(course):
    return course.heatmaps.MultiLoss(2, **FACTORS)(*resolutions())


@multi.probe("the factors that it has by default", atol=1e-7)
def _(course):
    return course.heatmaps.MultiLoss(2)(*resolutions())


@multi.probe("both outputs have both")
def _(course):
    chosen = (True, True), (True, True)
    return course.heatmaps.MultiLoss(2, *chosen, **FACTORS)(*resolutions(*chosen))


@multi.probe("an output with tags alone")
def _(course):
    chosen = (False, True), (True, False)
    return course.heatmaps.MultiLoss(2, *chosen, **FACTORS)(*resolutions(*chosen))


@multi.probe("no tags at all")
def _(course):
    chosen = (True, True), (False, False)
    return course.heatmaps.MultiLoss(2, *chosen, **FACTORS)(*resolutions(*chosen))


@multi.probe("one resolution, and three")
def _(course):
    (first, second), targets = resolutions()
    one = SimpleNamespace(**{name: own[:1] for name, own in vars(targets).items()})
    three = SimpleNamespace(**{name: [own[0], *own] for name, own in vars(targets).items()})
    first_twice = course.heatmaps.MultiLoss(2, (True,) * 3, (True, True, False), *[(2.0, 3.0, 5.0)] * 3)
    return {
        "one": course.heatmaps.MultiLoss(2, (True,), (True,), (2.0,), (3.0,), (5.0,))([first], one),
        "three": first_twice([first, first, second], three),
    }


@multi.probe("an image with nobody")
def _(course):
    outputs, targets = resolutions()
    targets.joints[0][0] = 0
    return course.heatmaps.MultiLoss(2, **FACTORS)(outputs, targets)


@multi.probe("another kind of push")
def _(course):
    return course.heatmaps.MultiLoss(2, **FACTORS, kind="max")(*resolutions())


@multi.probe("a larger batch")
def _(course):
    return course.heatmaps.MultiLoss(2, **FACTORS)(*resolutions(batch=3))


@multi.probe("the gradient of the total at each output")
def _(course):
    outputs, targets = resolutions()
    outputs = [own.requires_grad_() for own in outputs]
    parts = course.heatmaps.MultiLoss(2, **FACTORS)(outputs, targets)
    return [gradient(parts.total, own) for own in outputs]


@multi.probe("detached, as a step of training does it")
def _(course):
    chosen = (True, True), (False, False)
    parts = course.heatmaps.MultiLoss(2, *chosen)(*resolutions(*chosen))
    parts = parts._make(part.detach() for part in parts)
    return {"parts": parts, "kind": type(parts).__name__}


@multi.probe("channels that do not fit are still refused")
def _(course):
    make, (outputs, targets) = course.heatmaps.MultiLoss(2), resolutions()
    refused = attempt(lambda: make(outputs[::-1], targets))
    return {"refused": refused, "otherwise": make(outputs, targets)}


START = "            tags_start = 0\n"
HEATMAP_ARGUMENTS = "heatmap_loss(output[:, :tags_start], targets.heatmaps[stage], targets.masks[stage])"
HEATMAP = "heatmap = heatmap + loss.mean() * self.heatmap_factors[stage]"
TAGS = "            if self.with_tags[stage]:\n"
EMBED = "together, apart = associative_embedding(output[:, tags_start:], targets.joints[stage], self.kind)"
TOGETHER = "pull = pull + together.mean() * self.pull_factors[stage]"
APART = "push = push + apart.mean() * self.push_factors[stage]"
SUM = "return HeatmapParts(heatmap + pull + push, heatmap, pull, push)"
TAGS_BRANCH = f"{TAGS}                {EMBED}\n                {TOGETHER}\n                {APART}\n"

multi.misconception(
    "the joints of the other resolution are used",
    swap=(EMBED, EMBED.replace("joints[stage]", "joints[1 - stage]")),
    because="The index k·size² + y·size + x belongs to one size of map. In a map of another size the same number is "
    "another cell, often of another keypoint: the loss falls, because any cells can be given equal tags, and people "
    "are never told apart. Nothing raises unless an index lies behind the end.",
    museum=44,
)
multi.misconception(
    "every resolution uses the first joints",
    swap=(EMBED, EMBED.replace("joints[stage]", "joints[0]")),
    because="As long as only the first output has tags, it is right. As soon as the second one gets some, its tags "
    "are taught at cells of the smaller map.",
    museum=44,
)
multi.misconception(
    "every resolution uses the first mask",
    swap=(HEATMAP_ARGUMENTS, HEATMAP_ARGUMENTS.replace("masks[stage]", "masks[0]")),
    because="The mask has the size of its map. Here torch refuses the second one; with sizes 1 and n it would be "
    "broadcast.",
)
multi.misconception(
    "the masks are not used",
    swap=(
        HEATMAP_ARGUMENTS,
        HEATMAP_ARGUMENTS.replace("targets.masks[stage]", "torch.ones_like(targets.masks[stage])"),
    ),
    because="Regions that nobody has annotated count as background again: whoever is there is taught as nobody.",
)
multi.misconception(
    "push and pull count only where there are heatmaps",
    swap=(TAGS_BRANCH, "".join(f"    {line}\n" for line in TAGS_BRANCH.splitlines())),
    because="The original is written like this, and its outputs with tags all have heatmaps too. An output with tags "
    "alone is computed and never taught, without an error. The two conditions do not depend on each other.",
)
multi.misconception(
    "every output is taken to have tags",
    swap=(TAGS, "            if True:\n"),
    because="The second output has K channels, all of them heatmaps: there is nothing behind them. Ask with_tags.",
)
multi.misconception(
    "the last K channels are taken for tags everywhere",
    swap=[(TAGS, "            if True:\n"), (EMBED, EMBED.replace("tags_start:", "-self.num_keypoints :"))],
    because="In the second output the last K channels are its heatmaps. They are now pulled to one value at all "
    "keypoints of a person and apart between people, against the heatmap loss, which wants 1 at all of them.",
)
multi.misconception(
    "the tags always start at channel K",
    swap=(START, "            tags_start = self.num_keypoints\n"),
    because="An output without heatmaps has its tags at channel 0; behind channel K there is nothing. The start "
    "depends on what stands in front.",
)
multi.misconception(
    "the tags come before the heatmaps",
    swap=[
        (HEATMAP_ARGUMENTS, HEATMAP_ARGUMENTS.replace("output[:, :tags_start]", "output[:, -tags_start:]")),
        (EMBED, EMBED.replace("output[:, tags_start:]", "output[:, : self.num_keypoints]")),
    ],
    because="Each half is trained as the other one. Training runs well; but whoever reads the outputs, grouping "
    "among them, takes tags for heatmaps.",
)
multi.misconception(
    "all channels are compared with the heatmaps",
    swap=(HEATMAP_ARGUMENTS, HEATMAP_ARGUMENTS.replace("output[:, :tags_start]", "output")),
    because="2·K channels do not fit K heatmaps. Only the first K are heatmaps.",
)
multi.misconception(
    "the tag loss reads all channels",
    swap=(EMBED, EMBED.replace("output[:, tags_start:]", "output")),
    because="There is one tag map for each keypoint. The heatmaps in front of them are no tags, and shift every index "
    "by K·size².",
)
multi.misconception(
    "only the last resolution counts",
    swap=(HEATMAP, "heatmap = loss.mean() * self.heatmap_factors[stage]"),
    because="Each turn of the loop overwrites the one before: the first output's heatmaps have no loss. Add.",
)
multi.misconception(
    "the mean over the resolutions is taken",
    swap=(SUM, f"heatmap = heatmap / len(outputs)\n        {SUM}"),
    because="The factors weigh the resolutions already. With a further division the heatmaps count half as much "
    "against the tags, which only one output has.",
)
multi.misconception(
    "the images are added",
    swap=(HEATMAP, HEATMAP.replace("loss.mean()", "loss.sum()")),
    because="The loss of a batch of 32 would be 16 times that of a batch of 2, and the learning rate would have to "
    "follow. Take the mean over the images.",
)
multi.misconception(
    "the first factor serves every resolution",
    swap=(HEATMAP, HEATMAP.replace("[stage]", "[0]")),
    because="Each list has a factor for each resolution. Somebody who gives the larger map more weight sees no "
    "difference.",
)
multi.misconception(
    "pull and push have no factor",
    swap=[(TOGETHER, "pull = pull + together.mean()"), (APART, "push = push + apart.mean()")],
    because="The mean squared error of a heatmap is about a thousandth, because nearly all cells are right. Pull and "
    "push are means over people and hundreds of times as large: the network learns tags, and no peaks. Hence 0.001.",
)
multi.misconception(
    "push has the factor of pull",
    swap=(APART, APART.replace("push_factors", "pull_factors")),
    because="By default they are equal, so nothing shows until somebody changes one of them.",
)
multi.misconception(
    "the factors do not work on the parts",
    swap=(SUM, SUM.replace("pull, push)", "pull / self.pull_factors[0], push / self.push_factors[0])")),
    because="The total is right, but the parts do not add up to it: the curves do not say what drives the training. "
    "The parts are reported with their factors.",
)
multi.misconception(
    "push is left out of the total",
    swap=(SUM, SUM.replace("heatmap + pull + push", "heatmap + pull")),
    because="Push has a curve, and teaches nothing. With pull alone the best answer is the same tag for everybody.",
)
multi.misconception(
    "pull and push change places",
    swap=(EMBED, EMBED.replace("together, apart", "apart, together")),
    because="associative_embedding gives pull first. The factors and the curves are exchanged.",
)
multi.misconception(
    "the kind of push is not handed on",
    swap=(EMBED, EMBED.replace(", self.kind", "")),
    because="associative_embedding then takes its own default. The argument of MultiLoss has no effect.",
)
multi.misconception(
    "the parts are plain numbers",
    swap=(SUM, "return HeatmapParts(*(float(own) for own in (heatmap + pull + push, heatmap, pull, push)))"),
    because="A float has no graph, so backward has nothing to start from. The parts are tensors; train_step detaches "
    "them.",
)


# ---- group_keypoints -----------------------------------------------------------------------------

grouping = Exercise(
    "heatmaps.group_keypoints",
    stage=10,
    points=4,
    minutes=25,
    after="heatmaps.associative_embedding",
    goal="Find the peaks, and give each of them to the person whose tags are nearest.",
    hints=(
        "A cell is a peak if a max-pooling of stride 1 leaves its value as it is. topk on the flattened maps gives "
        "scores and places; a place is y · width + x.",
        "Keep two lists: the people, each an array (K, 4) full of missing keypoints, and their tags so far. For each "
        "map make the table of distances, candidates by people, and from it the table of costs for "
        "`linear_sum_assignment`, which takes tables that are not square and returns rows and columns.",
        "Candidates without a partner, and those whose partner is tag_threshold or more away, found a new person. "
        "Without any people yet, all of them do. Look up the four neighbours of a peak for the quarter of a cell.",
    ),
)


def planted(count: int, *peaks: tuple[int, int, int, float, float], shape=(12, 16)) -> tuple[Tensor, Tensor]:
    """Heatmaps and tags (K, h, w) with peaks (map, x, y, score, tag)."""
    heatmaps, tags = torch.zeros(count, *shape), values(count, *shape, low=20, high=30, seed=4)
    for k, x, y, score, tag in peaks:
        heatmaps[k, y, x], tags[k, y, x] = score, tag
    return heatmaps, tags


def slopes(heatmaps: Tensor, *cells: tuple[int, int, int, float]) -> Tensor:
    for k, x, y, score in cells:
        heatmaps[k, y, x] = score
    return heatmaps


@grouping.probe("two people with three keypoints each")
def _(course):
    peaks = [(0, 3, 2, 0.9, 0.1), (0, 12, 9, 0.8, 3.0), (1, 4, 5, 0.7, 0.3), (1, 11, 6, 0.95, 2.8)]
    peaks += [(2, 5, 8, 0.6, 0.0), (2, 14, 3, 0.5, 3.2)]
    found = course.heatmaps.group_keypoints(*planted(3, *peaks))
    return {"people": found, "number format": str(found.dtype)}


@grouping.probe("three people whose peaks come in another order")
def _(course):
    """In the second map the highest peak is the second person's. Its faint peaks lie where the first map is high."""
    peaks = [(0, 3, 2, 0.9, 0.0), (0, 12, 9, 0.8, 3.0), (0, 8, 5, 0.7, 6.0)]
    peaks += [(1, 4, 3, 0.5, 0.2), (1, 11, 8, 0.75, 2.8), (1, 8, 6, 0.6, 6.2)]
    return course.heatmaps.group_keypoints(*planted(2, *peaks))


@grouping.probe("missing keypoints, and somebody who appears late")
def _(course):
    peaks = [(0, 3, 2, 0.9, 0.1), (1, 11, 6, 0.95, 2.8), (2, 5, 8, 0.6, 0.0), (2, 14, 3, 0.5, 3.2), (2, 9, 1, 0.4, 9.0)]
    return course.heatmaps.group_keypoints(*planted(3, *peaks))


@grouping.probe("the slopes of a peak")
def _(course):
    heatmaps, tags = planted(1, (0, 5, 4, 0.9, 1.0), (0, 11, 7, 0.8, 4.0))
    slopes(heatmaps, (0, 12, 7, 0.3), (0, 10, 7, 0.45), (0, 11, 6, 0.4), (0, 11, 8, 0.5), (0, 11, 9, 0.2))
    slopes(heatmaps, (0, 6, 4, 0.6), (0, 4, 4, 0.5), (0, 5, 3, 0.7), (0, 5, 5, 0.4), (0, 6, 3, 0.45), (0, 7, 4, 0.3))
    return course.heatmaps.group_keypoints(heatmaps, tags)


@grouping.probe("peaks in the corners, and equal neighbours")
def _(course):
    heatmaps, tags = planted(1, (0, 0, 0, 0.9, 1.0), (0, 15, 11, 0.8, 2.5), (0, 8, 5, 0.7, 4.0))
    slopes(heatmaps, (0, 1, 0, 0.3), (0, 15, 10, 0.3), (0, 14, 11, 0.2), (0, 15, 0, 0.05), (0, 7, 5, 0.2))
    return course.heatmaps.group_keypoints(slopes(heatmaps, (0, 9, 5, 0.2)), tags)


@grouping.probe("faint peaks")
def _(course):
    maps = planted(1, (0, 3, 2, 0.9, 0.1), (0, 9, 2, 0.25, 3.0), (0, 3, 9, 0.05, 6.0))
    return {f"threshold {t:g}": course.heatmaps.group_keypoints(*maps, threshold=t) for t in (0.1, 0.25, 0.01, 0.95)}


@grouping.probe("the nearer one is not always the right one")
def _(course):
    """The first candidate could go to either person; the second one only to the second person."""
    peaks = [(0, 3, 2, 0.9, 0.0), (0, 12, 9, 0.8, 0.7), (1, 4, 5, 0.9, 0.4), (1, 11, 6, 0.8, 1.6)]
    return course.heatmaps.group_keypoints(*planted(2, *peaks))


@grouping.probe("more candidates than people")
def _(course):
    """Within half a unit the score decides; the fainter one is nearer."""
    peaks = [(0, 3, 2, 0.9, 0.0), (1, 4, 5, 0.9, 0.4), (1, 11, 6, 0.5, 0.1)]
    three = [
        (0, 3, 2, 0.9, 0.75),
        (0, 12, 9, 0.8, 1.25),
        (1, 4, 5, 0.9, 0.85),
        (1, 11, 6, 0.7, 0.6),
        (1, 1, 9, 0.5, 1.35),
    ]
    return {
        "two for one": course.heatmaps.group_keypoints(*planted(2, *peaks)),
        "three for two": course.heatmaps.group_keypoints(*planted(2, *three)),
    }


@grouping.probe("peaks of a hundred outweigh the distance")
def _(course):
    """The second candidate is a rounded unit farther away, and about 100 higher."""
    return {
        f"{score:g}": course.heatmaps.group_keypoints(
            *planted(2, (0, 3, 2, 0.9, 0.0), (1, 4, 5, 0.5, 0.0), (1, 11, 6, score, 0.75))
        )
        for score in (100.0, 101.0)
    }


@grouping.probe("tags at a distance of 0.99 and of 1")
def _(course):
    found = {}
    for tag in (0.99, 1.0):
        maps = planted(2, (0, 3, 2, 0.9, 0.0), (1, 4, 5, 0.9, tag))
        found[f"{tag:g}"] = course.heatmaps.group_keypoints(*maps)
    maps = planted(2, (0, 3, 2, 0.9, 0.0), (1, 4, 5, 0.9, 1.5))
    return found | {"1.5 of 2 allowed": course.heatmaps.group_keypoints(*maps, tag_threshold=2.0)}


@grouping.probe("tags that wander from map to map")
def _(course):
    """The fourth one is 1.2 from the last tag, 0.9 from the mean, and 0.9 from the first."""
    wander = [(0, 3, 2, 0.9, 0.0), (1, 4, 3, 0.9, 0.9), (2, 5, 4, 0.9, -0.1), (3, 6, 5, 0.9, 1.2)]
    other = [(0, 3, 9, 0.8, 5.0), (1, 4, 9, 0.8, 4.2), (2, 5, 9, 0.8, 5.2), (3, 6, 9, 0.8, 3.9)]
    return {
        "one": course.heatmaps.group_keypoints(*planted(4, *wander)),
        "another": course.heatmaps.group_keypoints(*planted(4, *other)),
    }


@grouping.probe("two people with the same tag")
def _(course):
    peaks = [(0, 3, 2, 0.9, 1.0), (0, 12, 9, 0.8, 1.0), (1, 4, 5, 0.7, 1.25)]
    return course.heatmaps.group_keypoints(*planted(2, *peaks))


@grouping.probe("no more people than asked for")
def _(course):
    peaks = [
        (0, 3, 2, 0.9, 0.0),
        (0, 12, 9, 0.8, 3.0),
        (1, 4, 5, 0.9, -4.0),
        (1, 11, 6, 0.8, 3.25),
        (1, 1, 10, 0.7, -8.0),
    ]
    return {f"{n}": course.heatmaps.group_keypoints(*planted(2, *peaks), max_people=n) for n in (1, 2, 3, 4)}


@grouping.probe("a map full of peaks, and one with fewer cells than people")
def _(course):
    """36 peaks, each higher than the one before."""
    cells = [(2 * n % 16, n // 8 * 2) for n in range(36)]
    full = planted(1, *((0, x, y, 0.2 + 0.02 * n, 3.0 * n) for n, (x, y) in enumerate(cells)))
    return {
        "30 of 36": course.heatmaps.group_keypoints(*full, window=3),
        "33 of 36": course.heatmaps.group_keypoints(*full, window=3, max_people=33),
        "small": course.heatmaps.group_keypoints(*planted(1, (0, 3, 2, 0.9, 1.0), shape=(4, 5))),
    }


@grouping.probe("two peaks three cells apart, and another window")
def _(course):
    maps = planted(1, (0, 5, 4, 0.9, 1.0), (0, 8, 4, 0.8, 3.0), (0, 5, 9, 0.7, 5.0))
    return {f"window {n}": course.heatmaps.group_keypoints(*maps, window=n) for n in (3, 5, 7)}


@grouping.probe("nobody, and arrays in place of tensors")
def _(course):
    heatmaps, tags = planted(2, (0, 3, 2, 0.9, 0.0), (1, 4, 5, 0.9, 0.25))
    nobody = course.heatmaps.group_keypoints(heatmaps * 0, tags)
    return {
        "nobody": nobody,
        "number format of nobody": str(nobody.dtype),
        "arrays": course.heatmaps.group_keypoints(heatmaps.numpy(), tags.numpy()),
        "with a graph": course.heatmaps.group_keypoints(heatmaps.requires_grad_() * 1, tags.requires_grad_() * 1),
    }


PEAKS = "peaks = heatmaps.masked_fill(heatmaps < highest, -math.inf)"
PLACE = "place = places[k][scores[k] > threshold]"
XY = "x, y, score, tag = place % width, place // width, heatmaps[k].flatten()[place], tags[k].flatten()[place]"
RIGHT = "right, left = heatmaps[k][y, (x + 1).clamp(max=width - 1)], heatmaps[k][y, (x - 1).clamp(min=0)]"
BELOW = "below, above = heatmaps[k][(y + 1).clamp(max=height - 1), x], heatmaps[k][(y - 1).clamp(min=0), x]"
SHIFT = "x, y = x + 0.5 + 0.25 * (right - left).sign(), y + 0.5 + 0.25 * (below - above).sign()"
PERSON_MEANS = "means = np.array([np.mean(own) for own in person_tags])"
ASSIGN = "rows, columns = linear_sum_assignment(100 * np.round(distance) - candidates[:, 2:3])"
NEAR = "person = {row: col for row, col in zip(rows, columns, strict=True) if distance[row, col] < tag_threshold}"
FULL = "                if len(people) >= max_people:\n                    continue\n"
MISSING = "np.array([np.nan, np.nan, 0, np.nan], dtype=np.float32)"
NEW = "            if row not in person:\n"

grouping.misconception(
    "every cell above the threshold is a peak",
    swap=(PEAKS, "peaks = heatmaps"),
    because="Around each peak lie dozens of cells above 0.1. Each becomes a candidate, and those that find no free "
    "person become people. Only the highest cell of its window counts.",
)
grouping.misconception(
    "the threshold is not used",
    swap=(PLACE, "place = places[k][scores[k] > 0]"),
    because="An empty map has peaks as well, of 0.001. Each of them becomes somebody's keypoint, or somebody.",
)
grouping.misconception(
    "a score equal to the threshold counts",
    swap=(PLACE, PLACE.replace("> threshold", ">= threshold")),
    because="Above means above. It matters where scores are round numbers: with a threshold of 0 every cell of an "
    "empty map would be a peak.",
)
grouping.misconception(
    "x and y change places",
    swap=(XY, XY.replace("place % width, place // width", "place // width, place % width")),
    because="place = y · width + x: the remainder is x. On a map that is not square the other one is even outside.",
)
grouping.misconception(
    "the place is divided by the height",
    swap=(XY, XY.replace("place % width, place // width", "place % height, place // height")),
    because="A row has width cells. On a square map it makes no difference, on others everything is shifted.",
)
grouping.misconception(
    "all tags are read from the first map",
    swap=(XY, XY.replace("tags[k]", "tags[0]")),
    because="Each kind of keypoint has a tag map of its own. Where a wing tip is, the nose's map holds anything.",
)
grouping.misconception(
    "the half cell is not added",
    swap=(SHIFT, SHIFT.replace(" + 0.5", "")),
    because="Cell 5 reaches from 5 to 6. Its index is its left edge: all keypoints are half a cell up and left, and "
    "at a quarter of the resolution that is two pixels of the image.",
    museum=58,
)
grouping.misconception(
    "a peak stays in the middle of its cell",
    swap=(SHIFT, "x, y = x + 0.5, y + 0.5"),
    because="The neighbours say on which side of the middle the keypoint lies. Without the quarter of a cell the "
    "error is half a cell at most, with it a quarter.",
)
grouping.misconception(
    "a peak moves away from the higher neighbour",
    swap=(SHIFT, SHIFT.replace("right - left", "left - right").replace("below - above", "above - below")),
    because="The higher neighbour is nearer to the true place. The error grows to three quarters of a cell.",
)
grouping.misconception(
    "a peak moves by half a cell",
    swap=(SHIFT, SHIFT.replace("0.25", "0.5")),
    because="That is the edge of the cell, the farthest place that it can stand for. A quarter is the middle of the "
    "half in which it lies.",
)
grouping.misconception(
    "equal neighbours move the peak to the left and up",
    swap=(
        SHIFT,
        "x, y = x + 0.5 + 0.25 * torch.where(right > left, 1, -1), y + 0.5 + 0.25 * torch.where(below > above, 1, -1)",
    ),
    because="The original does this: it asks whether the right neighbour is higher, and else goes left. A perfectly "
    "symmetric peak is then a quarter of a cell off. Equal neighbours say nothing.",
)
grouping.misconception(
    "at the border the neighbour on the other side is read",
    swap=[
        (RIGHT, "right, left = heatmaps[k][y, (x + 1) % width], heatmaps[k][y, x - 1]"),
        (BELOW, "below, above = heatmaps[k][(y + 1) % height, x], heatmaps[k][y - 1, x]"),
    ],
    because="Index -1 is the last column: a keypoint at the left border is moved by what stands at the right one. "
    "Nothing raises. Limit the index.",
)
grouping.misconception(
    "each candidate takes the nearest person",
    swap=(
        ASSIGN,
        "rows, columns = np.arange(len(candidates)), distance.argmin(axis=1) if people else []\n"
        "        rows = rows[: len(columns)]",
    ),
    because="Two noses may choose the same person, and the second overwrites the first. A person has each keypoint "
    "once.",
)
grouping.misconception(
    "the best candidates choose first",
    swap=(
        ASSIGN,
        "rows, columns = [], []\n"
        "        for row in range(min(distance.shape)):\n"
        "            free = [col for col in range(len(people)) if col not in columns]\n"
        "            rows.append(row)\n"
        "            columns.append(min(free, key=lambda col: distance[row, col]))",
    ),
    because="A candidate that could go to either of two people takes the one whom another candidate needs. That one "
    "then becomes a person of its own: three people in place of two. An assignment looks at all pairs together.",
)
grouping.misconception(
    "the assignment is the dearest",
    swap=(ASSIGN, ASSIGN[:-1] + ", maximize=True)"),
    because="The cost is a distance. Maximised, everybody gets the keypoints of the farthest person, and all of them "
    "are then refused by the threshold.",
)
grouping.misconception(
    "the score plays no part in the cost",
    swap=(ASSIGN, ASSIGN.replace(" - candidates[:, 2:3]", "")),
    because="Of two candidates whose tags are about as near, the one with the higher score is the better guess. The "
    "rounding makes them equal, so that the score can decide.",
)
grouping.misconception(
    "the distance is not rounded",
    swap=(ASSIGN, ASSIGN.replace("np.round(distance)", "distance")),
    because="A hundredth of a tag outweighs the whole score. Tags are that inexact, so a faint false peak wins "
    "against a clear one. Rounded, distances below a half count as equal.",
)
grouping.misconception(
    "an assigned candidate is never refused",
    swap=(NEAR, NEAR.replace(" if distance[row, col] < tag_threshold", "")),
    because="The assignment gives everybody a partner if there is one, however far away. Somebody's nose gets a "
    "stranger's wing. From tag_threshold on it is a new person.",
)
grouping.misconception(
    "a distance equal to the threshold still belongs to the person",
    swap=(NEAR, NEAR.replace("< tag_threshold", "<= tag_threshold")),
    because="From tag_threshold on it is a new person. That is also the margin of the push loss of kind max.",
)
grouping.misconception(
    "the distance is that to the latest tag",
    swap=(PERSON_MEANS, "means = np.array([own[-1] for own in person_tags])"),
    because="One tag that is a little off leads the next one further away. The mean of all tags so far is steadier; "
    "it is what pull and push work on.",
)
grouping.misconception(
    "the distance is that to the first tag",
    swap=(PERSON_MEANS, "means = np.array([own[0] for own in person_tags])"),
    because="If the first tag is a little off, all others are measured against it. The mean of all tags so far is "
    "steadier.",
)
grouping.misconception(
    "people are told apart by their first tag",
    swap=[
        (
            NEW,
            "            if row not in person and [candidate[3]] in person_tags:\n"
            "                person[row] = person_tags.index([candidate[3]])\n            if row not in person:\n",
        ),
    ],
    because="The original keeps people in a dictionary whose key is the first tag. Two people with the same tag, "
    "and before training that is everybody, share an entry, and the second overwrites the first. Keep a list.",
)
grouping.misconception(
    "all people begin in the first map",
    swap=(NEW, f"{NEW}                if k > 0 and people:\n                    continue\n"),
    because="The nose may be hidden. Somebody whose first visible keypoint is in a later map begins there.",
)
grouping.misconception(
    "every peak is a person",
    swap=(NEAR, "person = {}"),
    because="Nothing is grouped: each person has one keypoint, and the tags play no part.",
)
grouping.misconception(
    "candidates without a partner are left out",
    swap=(
        NEW,
        f"            if row not in person and len(means) and row not in rows:\n                continue\n{NEW}",
    ),
    because="If a map has more candidates than there are people, the assignment leaves some alone. They are people "
    "whose earlier keypoints were hidden.",
)
grouping.misconception(
    "max_people limits the peaks of a map only",
    swap=(FULL, ""),
    because="Each map may bring further people, so their number grows beyond the limit. A list of fixed length "
    "behind it would overflow.",
)
grouping.misconception(
    "missing keypoints are at 0, 0",
    swap=(MISSING, "np.zeros(4, dtype=np.float32)"),
    because="The upper left corner is a place like all others. Whoever computes with it without looking at the "
    "score draws wings to the corner. NaN cannot be overlooked.",
)
grouping.misconception(
    "only the best peak of each map is taken",
    swap=("topk(min(max_people, height * width))", "topk(1)"),
    because="That finds one person. Each map has a peak for everybody in the image.",
)
