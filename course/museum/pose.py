"""Rooms of keypoints: names that a mirror changes, units, and means over nothing."""

import math

import numpy as np
import torch

from yolostudy.data.augment import Item, flip_left_right, flip_up_down, quarter_turn
from yolostudy.lens import NaNMicroscope
from yolostudy.study import package
from yolostudy.study.museum import Room

from ._props import raw_maps

DECODE, SIMILARITY, LOSS, SUM = (
    "pose.decode_keypoints",
    "pose.keypoint_similarity",
    "pose.KeypointLoss",
    "pose.PoseLoss",
)


# ---- mirrors and turns ---------------------------------------------------------------------------

NAMES = ("nose", "left wing tip", "right wing tip", "tail")
PARTNERS = (0, 2, 1, 3)
PICTURE = np.zeros((100, 100, 3), np.uint8)
# an aircraft that flies upwards, in the middle of the picture
NOSE_UP = np.array([[[50, 20, 2], [20, 50, 2], [80, 50, 2], [50, 80, 2]]], np.float32)


def plane(keypoints: np.ndarray = NOSE_UP, picture: np.ndarray = PICTURE) -> Item:
    return Item(picture, np.array([[20, 20, 80, 80]], np.float32), np.array([0]), keypoints)


def side(keypoints: np.ndarray) -> str:
    """On which side the left wing tip lies, seen from the tail."""
    nose, left, _, tail = keypoints[0, :, :2]
    (ahead_x, ahead_y), (tip_x, tip_y) = nose - tail, left - tail
    return "left" if ahead_x * tip_y - ahead_y * tip_x < 0 else "right"  # y points down


def names_stay(item: Item) -> Item:
    return flip_left_right(item, (0, 1, 2, 3))


def names_change(item: Item) -> Item:
    return flip_left_right(item, PARTNERS)


tips_in_the_fuselage = Room(
    51,
    "both wing tips are found in the fuselage",
    "The aircraft looks the same in the mirror, but its left wing tip is now called right: `flip_idx` is the "
    "identity. For one and the same picture half of the training says left and half says right. The network answers "
    "the mean, which is the middle. Name the partner of each keypoint. Flipping twice does not show it, because two "
    "wrong flips are right together.",
    broken=names_stay,
    fixed=names_change,
)


def learned(flip) -> torch.Tensor:
    """Keypoints (4, 2) that a squared error teaches for this picture, from both labels."""
    labels = torch.tensor(np.concatenate((NOSE_UP, flip(plane()).keypoints))[..., :2])
    places = torch.zeros(4, 2, requires_grad=True)
    optimizer = torch.optim.SGD([places], lr=0.2)
    for step in range(200):
        optimizer.zero_grad()
        (places - labels[step % 2]).square().mean(dim=1).sum().backward()
        optimizer.param_groups[0]["lr"] = 0.2 / (1 + step / 20)
        optimizer.step()
    return places.detach()


@tips_in_the_fuselage.look
def _(flip):
    left, right = learned(flip)[1:3, 0].tolist()
    return right - left < 10, f"the wing tips are learned at x = {left:.0f} and {right:.0f}; they are at 20 and 80"


@tips_in_the_fuselage.find("flipping once, beside flipping twice")
def _(flip):
    once = flip(plane())
    twice = np.abs(flip(once).keypoints - NOSE_UP).max()
    return f"twice: off by {twice:g} pixels; once: the left wing tip is on the {side(once.keypoints)}"


def upside_down_plain(item: Item) -> Item:
    return flip_up_down(item, (0, 1, 2, 3))


def upside_down(item: Item) -> Item:
    return flip_up_down(item, PARTNERS)


up_and_down = Room(
    52,
    "left and right are right until pictures are flipped upside down",
    "The partners were named for the flip of left and right only. But every mirror swaps left and right, whatever "
    "its axis: an aircraft that flew up flies down, and seen from its tail the other wing is the left one. Rename "
    "after both flips. People are rarely flipped upside down, so this is found with aircraft.",
    broken=upside_down_plain,
    fixed=upside_down,
)
PORT, STARBOARD = (255, 0, 0), (0, 255, 0)


@up_and_down.look
def _(flip):
    found = side(flip(plane()).keypoints)
    return found == "right", f"flipped upside down, the left wing tip is on the {found}"


@up_and_down.find("the colours of the wings: red belongs to the left one")
def _(flip):
    """Paint the wings of a nose-up aircraft, flip, and paint a fresh one where the keypoints say."""
    keypoints = flip(plane()).keypoints[0]
    heading = "down" if keypoints[0, 1] > keypoints[3, 1] else "up"
    west, east = sorted(keypoints[1:3], key=lambda point: point[0])
    name = {tuple(keypoints[1]): "red", tuple(keypoints[2]): "green"}
    wanted = "west green, east red" if heading == "down" else "west red, east green"
    return f"flies {heading}: west {name[tuple(west)]}, east {name[tuple(east)]}; a real one: {wanted}"


def turn_and_swap(item: Item) -> Item:
    turned = quarter_turn(item)
    return Item(turned.image, turned.boxes, turned.classes, turned.keypoints[:, list(PARTNERS)])


a_turn = Room(
    53,
    "wings are swapped in turned pictures",
    "A turn is no mirror: left stays left. Whoever renames after every transform swaps the wings at each turn. Two "
    "turns, and four, are right again, so look at each. Rename after mirrors only.",
    broken=turn_and_swap,
    fixed=quarter_turn,
)


def sides(turn) -> list[str]:
    item, found = plane(), []
    for _ in range(4):
        item = turn(item)
        found.append(side(item.keypoints))
    return found


@a_turn.look
def _(turn):
    found = sides(turn)
    return "right" in found, f"after 1, 2, 3, 4 turns the left wing tip is on the {', '.join(found)}"


@a_turn.find("four turns, each looked at")
def _(turn):
    item = plane()
    for _ in range(4):
        item = turn(item)
    apart = np.abs(item.keypoints - NOSE_UP).max()
    return f"four turns together: off by {apart:g} pixels; one alone: {sides(turn)[0]}"


def mirror_of_indices(item: Item) -> Item:
    flipped, keypoints = flip_left_right(item, PARTNERS), item.keypoints[:, list(PARTNERS)].copy()
    keypoints[..., 0] = item.image.shape[1] - 1 - keypoints[..., 0]
    return Item(flipped.image, flipped.boxes, flipped.classes, keypoints)


one_pixel = Room(
    54,
    "keypoints of mirrored pictures are one pixel off",
    "w - 1 - x mirrors the index of a pixel. A coordinate is no index: pixel 0 covers 0 to 1, so the picture ends at "
    "w, and the mirror of x is w - x. Flipping twice hides it. At a stride of 8 it is an eighth of a position, and "
    "half of the pictures have it.",
    broken=mirror_of_indices,
    fixed=names_change,
)


def edge(flip) -> tuple[float, float]:
    """Where a flip puts a keypoint in the last pixel of a row of 25, and where the pixel itself is."""
    picture = np.zeros((25, 25, 3), np.uint8)
    picture[12, 24] = 255
    keypoints = np.full((1, 4, 3), (24.5, 12.5, 2), np.float32)
    flipped = flip(plane(keypoints, picture))
    return float(flipped.keypoints[0, 0, 0]), float(flipped.image[12, :, 0].argmax()) + 0.5


@one_pixel.look
def _(flip):
    said, seen = edge(flip)
    return (
        said != seen,
        f"a white pixel in column 24 of 25, flipped: the keypoint says {said:g}, the pixel is at {seen:g}",
    )


@one_pixel.find("a point at the edge, and two flips")
def _(flip):
    said, _ = edge(flip)
    twice = np.abs(flip(flip(plane())).keypoints - NOSE_UP).max()
    return f"24.5 of 25 becomes {said:g}, {'outside' if said < 0 else 'inside'} the picture; twice: off by {twice:g}"


# ---- what counts ---------------------------------------------------------------------------------

occluded = Room(55, "hidden keypoints are never learned", mistake=(LOSS, "occluded keypoints are not learned"))


def scene(visibility: tuple[int, ...], apart: float = 2.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One object of 6 × 4 strides: predictions (1, K, 3) that are `apart` off, truth, area."""
    places = torch.tensor([[3.0, 0], [0, 2], [6, 2], [3, 4]])[: len(visibility)]
    truth = torch.cat((places, torch.tensor(visibility, dtype=torch.float32)[:, None]), dim=1)[None]
    predicted = truth + torch.tensor([apart, 0, 0])
    predicted[..., 2] = 0
    return predicted, truth, torch.tensor([24.0])


def points_of(course, visibility: tuple[int, ...], apart: float = 2.0) -> float:
    return course.pose.KeypointLoss([0.25] * len(visibility))(*scene(visibility, apart))[0].item()


@occluded.look
def _(course):
    loss = points_of(course, (1, 1, 1, 1), apart=6.0)
    return loss < 0.01, f"four occluded keypoints, each 6 strides off: loss {loss:.3f}"


@occluded.find("counting the keypoints that have a gradient")
def _(course):
    predicted, truth, area = scene((2, 1, 1, 0))
    predicted.requires_grad_()
    course.pose.KeypointLoss([0.25] * 4)(predicted, truth, area)[0].backward()
    taught = int((predicted.grad[..., :2].abs().sum(dim=-1) > 0).sum())
    return f"visibility 2, 1, 1, 0: three are labelled, {taught} of them learn"


A_QUARTER, STRICT = 1 / 4, 0.05
THRESHOLDS = [0.5 + 0.05 * step for step in range(10)]

a_kind_measure = Room(
    56,
    "AP near 1, and the points lie beside the aircraft",
    "σ says how near is near enough. Where nobody gives it, it is 1 / K: a quarter of the object's size for four "
    "keypoints, where COCO's loosest keypoint, the hip, has 0.107. Give the metric a "
    "σ that you would accept by eye, and always look at the error in pixels beside it.",
    broken=A_QUARTER,
    fixed=STRICT,
)


def oks(sigma: float, pixels: float, box: float = 40.0) -> float:
    """The similarity of an object in a square box, all keypoints off by so many pixels."""
    area = torch.tensor(0.53 * box**2)
    truth = torch.tensor([[20.0, 0, 2], [0, 20, 2], [40, 20, 2], [20, 40, 2]])
    similarity = package("reference").pose.keypoint_similarity
    return similarity(truth[:, :2] + torch.tensor([pixels, 0]), truth, area, torch.full((4,), sigma)).item()


@a_kind_measure.look
def _(sigma):
    found = oks(sigma, 6.0)
    passed = sum(found > threshold for threshold in THRESHOLDS)
    return passed > 5, f"6 pixels off in a box of 40: OKS {found:.2f}, a hit at {passed} of 10 thresholds"


@a_kind_measure.find("the error in pixels beside the similarity")
def _(sigma):
    rows = [f"{pixels:>3} pixels off   OKS {oks(sigma, pixels):.2f}" for pixels in (1, 2, 4, 6, 10)]
    return "\n".join([f"σ = {sigma:g}, a box of 40 × 40", *rows])


a_strict_loss = Room(
    57,
    "the pose loss stays at 1",
    "With a small σ the exponential is dead before anything is learned: three strides off, e to the minus 18 has no "
    "gradient that float32 could use. So the σ of the metric is not the σ to begin a training with. Begin with a "
    "large one and let it fall.",
    broken=(0.05, 0.05),
    fixed=(0.2, 0.05),
)


def trained(sigmas: tuple[float, float], apart: float = 3.0) -> tuple[float, float]:
    """Loss at the end, and how many strides the keypoints are off, after 200 steps.

    `sigmas` are those of the first and the second half.
    """
    predicted, truth, area = scene((2, 2, 2, 2), apart)
    predicted = predicted[..., :2].clone().requires_grad_()
    optimizer = torch.optim.SGD([predicted], lr=0.5)
    losses = [package("reference").pose.KeypointLoss([sigma] * 4) for sigma in sigmas]
    for step in range(200):
        optimizer.zero_grad()
        loss = losses[step >= 100](predicted, truth, area)[0]
        loss.backward()
        optimizer.step()
    return loss.item(), (predicted - truth[..., :2]).norm(dim=-1).max().item()


@a_strict_loss.look
def _(sigmas):
    loss, off = trained(sigmas)
    return (
        off > 1,
        f"σ {sigmas[0]:g}, then {sigmas[1]:g}: 200 steps later the loss is {loss:.3f}, points {off:.2f} strides off",
    )


@a_strict_loss.find("the gradient of a keypoint that is far away")
def _(sigmas):
    rows = []
    for apart in (0.5, 1.0, 3.0):
        predicted, truth, area = scene((2, 2, 2, 2), apart)
        predicted.requires_grad_()
        package("reference").pose.KeypointLoss([sigmas[0]] * 4)(predicted, truth, area)[0].backward()
        rows.append(f"{apart:g} strides off   gradient {predicted.grad[0, 0, 0]:.1g}")
    return "\n".join([f"σ = {sigmas[0]:g}", *rows])


# ---- formulas ------------------------------------------------------------------------------------

half_a_cell = Room(
    58, "keypoints are off by half a position", mistake=(DECODE, "the half before the anchor is forgotten")
)


def round_trip(course) -> torch.Tensor:
    """Pixels that a keypoint is off on each level, if it is encoded for the loss and decoded."""
    anchors, strides = course.boxes.make_anchors([(4, 4), (2, 2), (1, 1)])
    pixels = torch.tensor([13.0, 21.0]).expand(len(anchors), 1, 2)
    raw = (pixels / strides[:, None] - anchors[:, None] + 0.5) / 2
    off = (course.pose.decode_keypoints(raw, anchors, strides) - pixels).abs().amax(dim=(1, 2))
    return torch.stack([off[strides[:, 0] == stride].max() for stride in (8, 16, 32)])


@half_a_cell.look
def _(course):
    off = round_trip(course)
    return off.max() > 1e-3, "encoded and decoded, off by {:.3g}, {:.3g} and {:.3g} pixels".format(*off.tolist())


@half_a_cell.find("what a raw 0 means on each level")
def _(course):
    anchors, strides = course.boxes.make_anchors([(1, 1)] * 3)
    x = course.pose.decode_keypoints(torch.zeros(3, 1, 2), anchors, strides)[:, 0, 0]
    return "the first position begins at 0, and 0 is decoded as " + ", ".join(f"{one:g}" for one in x.tolist())


mixed_units = Room(
    59, "the keypoint loss is 1, whatever is learned", mistake=(SUM, "the true keypoints stay in pixels")
)

SHAPE = (4, 3)
# image, class, box; two objects in the second image, which comes first
BOXES = torch.tensor([[1, 2, 16, 4, 60, 30], [0, 1, 40, 40, 88, 104], [1, 0, 70, 64, 120, 120.0]])


def targets() -> torch.Tensor:
    """(3, 6 + 3·4): nose, wing tips and tail in the middle of the edges of each box."""
    x1, y1, x2, y2 = BOXES[:, 2:].T
    x, y, seen = (x1 + x2) / 2, (y1 + y2) / 2, torch.full_like(x1, 2)
    points = [(x, y1), (x1, y), (x2, y), (x, y2)]
    return torch.cat((BOXES, *(torch.stack((*point, seen), dim=1) for point in points)), dim=1)


def pose_maps() -> list[torch.Tensor]:
    """Maps as of an untrained network, with keypoints at their positions."""
    maps = [level.detach() for level in raw_maps()]
    return [torch.cat((m, torch.randn(len(m), 12, *m.shape[2:]) / 4), dim=1).requires_grad_() for m in maps]


def inside(course):
    """Run a pose loss: the parts, and what its keypoint loss was given."""
    model = course.pose.PoseYOLO(3, keypoint_shape=SHAPE)
    loss, given = course.pose.PoseLoss(model), []
    judge = loss.keypoint_loss

    def note(*arguments):
        given[:] = arguments
        return judge(*arguments)

    loss.keypoint_loss = note
    return loss(pose_maps(), targets()), given, loss.assigned


@mixed_units.look
def _(course):
    pose = inside(course)[0].pose.item() / 12
    return pose > 0.99, f"an untrained network: the keypoint loss without its gain is {pose:.3f}"


@mixed_units.find("a table of units")
def _(course):
    _, (predicted, truth, area), _ = inside(course)
    rows = {"predicted x": predicted[..., 0], "true x": truth[..., 0], "root of the area": area.sqrt()}
    return "\n".join(f"{name:<17} {value.min():6.1f} … {value.max():.1f}" for name, value in rows.items())


cheap_to_hide = Room(60, "objects get cheaper the more of them is hidden", mistake=(LOSS, "the factor is missing"))
HIDING = ((2, 2, 2, 2), (2, 2, 2, 0), (2, 2, 0, 0), (2, 0, 0, 0))


@cheap_to_hide.look
def _(course):
    whole, single = points_of(course, HIDING[0]), points_of(course, HIDING[3])
    return single < 0.9 * whole, f"every keypoint 2 strides off: all seen {whole:.3f}, three hidden {single:.3f}"


@cheap_to_hide.find("hiding one keypoint after the other")
def _(course):
    return "\n".join(f"{sum(v > 0 for v in seen)} visible   loss {points_of(course, seen):.3f}" for seen in HIDING)


unjudged = Room(61, "the visibility loss is 0 in every epoch", mistake=(LOSS, "the visibility is never judged"))


@unjudged.look
def _(course):
    predicted, truth, area = scene((2, 2, 0, 0))
    loss = course.pose.KeypointLoss([0.25] * 4)(predicted, truth, area)[1].item()
    return loss == 0, f"an undecided network, two of four keypoints visible: loss {loss:.3f}"


@unjudged.find("counting the columns: of the prediction, of the truth, and those that learn")
def _(course):
    predicted, truth, area = scene((2, 2, 0, 0))
    predicted[..., 1] += 1
    predicted.requires_grad_()
    sum(course.pose.KeypointLoss([0.25] * 4)(predicted, truth, area)).backward()
    taught = (predicted.grad.abs().sum(dim=(0, 1)) > 0).tolist()
    names = [name for name, one in zip("xyv", taught, strict=True) if one]
    return f"prediction {predicted.shape[-1]}, truth {truth.shape[-1]}; a gradient reaches {', '.join(names)}"


nobody_visible = Room(
    62, "the pose loss is NaN now and then", mistake=(LOSS, "the factor divides by nothing where nothing is visible")
)


@nobody_visible.look
def _(course):
    loss = points_of(course, (0, 0, 0, 0))
    return math.isnan(loss), f"an object at the border, all of its keypoints outside: loss {loss:.3f}"


@nobody_visible.find("the NaN microscope")
def _(course):
    with NaNMicroscope() as microscope:
        points_of(course, (0, 0, 0, 0))
    told = str(microscope.finding).splitlines()
    return "\n".join(line for line in told if line.lstrip().startswith(("infinity", "argument", "output", "It ")))


another_image = Room(
    63,
    "with a batch of one it learns, with more it draws a mean skeleton",
    mistake=(SUM, "the keypoints of another image"),
)


def outside(course) -> tuple[int, int]:
    """How many foreground anchors get keypoints outside their own target box, and how many there are."""
    _, (_, truth, _), assigned = inside(course)
    image, anchor = assigned.foreground.nonzero(as_tuple=True)
    sizes = [m.shape[2:] for m in raw_maps()]
    boxes = assigned.boxes[image, anchor] / course.boxes.make_anchors(sizes)[1][anchor]
    off = ((truth[..., :2] < boxes[:, None, :2] - 1e-3) | (truth[..., :2] > boxes[:, None, 2:] + 1e-3)).any(dim=(1, 2))
    return int(off.sum()), len(off)


@another_image.look
def _(course):
    off, count = outside(course)
    return off > 0, f"{off} of {count} anchors are told to place keypoints outside their own box"


@another_image.find("the rows of the targets that each image's anchors get")
def _(course):
    _, (_, truth, _), assigned = inside(course)
    image, anchor = assigned.foreground.nonzero(as_tuple=True)
    strides = course.boxes.make_anchors([m.shape[2:] for m in raw_maps()])[1][anchor]
    pixels = torch.cat((truth[..., :2] * strides[:, None], truth[..., 2:]), dim=-1).flatten(1)
    row = torch.cdist(pixels, targets()[:, 6:]).argmin(dim=1)
    return "\n".join(
        f"image {number} gets rows {row[image == number].unique().tolist()}; "
        f"its own are {(BOXES[:, 0] == number).nonzero()[:, 0].tolist()}"
        for number in (0, 1)
    )
