"""Rooms of distillation: a teacher that changes, wrong divergences, and a student that forgets."""

import torch
from torch import nn

from yolostudy.lens import NaNMicroscope
from yolostudy.study.museum import Room

TEACHER, CHANNELS, RESPONSE, SUM = (
    "distill.Teacher",
    "distill.ChannelWiseLoss",
    "distill.ResponseLoss",
    "distill.DistillationLoss",
)
OLD, ALL = ("A1", "A2"), ("A1", "A2", "A3")  # classes of the teacher, classes of the student
BINS = 4  # R
EDGES = ("left", "top", "right", "bottom")


class Small(nn.Module):
    """Two layers and two raw maps: as much of a detector as distillation needs."""

    def __init__(self, course, classes: int):
        super().__init__()
        self.stem, self.neck = course.blocks.ConvModule(3, 4, 3), course.blocks.ConvModule(4, 5, 3)
        self.head = nn.Conv2d(5, 4 * BINS + classes, 1)

    def forward(self, images):
        maps = self.head(self.neck(self.stem(images)))
        return [maps, maps[..., ::2, ::2]]


def teach(course):
    return course.distill.Teacher(Small(course, len(OLD)), OLD, ("stem", "neck"))


def response_of(course, kind: str = "bernoulli"):
    return course.distill.ResponseLoss(ALL, OLD, kind, reg_max=BINS)


def raw_maps(classes: int, side: int = 4) -> list:
    return [2 * torch.randn(2, 4 * BINS + classes, size, size) for size in (side, side // 2)]


def agreeing(shift: float = 0.0) -> tuple[list, list]:
    """The student's raw maps and the teacher's.

    The logits of the shared classes are equal, up to a shift; everything else differs.
    """
    student, teacher = raw_maps(len(ALL)), raw_maps(len(OLD))
    for own, wanted in zip(student, teacher, strict=True):
        own[:, 4 * BINS : 4 * BINS + len(OLD)] = wanted[:, 4 * BINS :] + shift
    return student, teacher


no_divergence = Room(
    19, "negative or meaningless KL", mistake=(RESPONSE, "probabilities stand where logarithms belong"), diary=True
)


@no_divergence.look
def _(course):
    student, teacher = raw_maps(len(ALL)), raw_maps(len(OLD))
    values = [
        response_of(course, "softmax")([own * factor for own in student], teacher).item() for factor in (0.0, 1.0)
    ]
    return min(values) < 0, "loss of an undecided student {:.3f}, of another {:.3f}".format(*values)


@no_divergence.find("the KL of a distribution with itself")
def _(course):
    return f"KL(x, x) = {response_of(course, 'softmax')(*agreeing()).item():.3f}"


wrong_channels = Room(
    20,
    "shape error or wrong classes in a slice of the teacher's channels",
    mistake=(RESPONSE, "the class channels are counted from the first channel"),
    diary=True,
)


@wrong_channels.look
def _(course):
    value = response_of(course)(*agreeing()).item()
    return value > 1e-6, f"the classes that both know agree everywhere: response loss {value:.3f}"


@wrong_channels.find("naming the channels that have a gradient")
def _(course):
    student, teacher = raw_maps(len(ALL)), raw_maps(len(OLD))
    student[0].requires_grad_()
    response_of(course)(student, teacher).backward()
    names = [f"{edge} {bin}" for edge in EDGES for bin in range(BINS)] + [f"class {name}" for name in ALL]
    taught = student[0].grad.abs().amax(dim=(0, 2, 3)) > 0
    return ", ".join(name for name, one in zip(names, taught, strict=True) if one)


one_map = Room(
    21, "one map given, a list expected", mistake=(SUM, "one map is given where a list is expected"), diary=True
)


class Labels(nn.Module):
    """In place of a detection loss: every class of every position against a target of its own."""

    def __init__(self, course):
        super().__init__()
        self.parts = course.losses.LossParts

    def forward(self, maps, targets):
        cls = nn.functional.binary_cross_entropy_with_logits(maps[0][:, 4 * BINS :], targets)
        return self.parts(cls, cls.new_zeros(()), cls, cls.new_zeros(()))


def taught(course, feature=None):
    """A student's first step with a teacher: the student, and the parts of the loss."""
    student = Small(course, len(ALL)).train()
    loss = course.distill.DistillationLoss(
        Labels(course), student, teach(course), feature, response_of(course), 2.0, 3.0
    )
    maps = student(torch.rand(2, 3, 4, 4))
    return student, loss(maps, torch.zeros(2, len(ALL), 4, 4))


@one_map.look
def _(course):
    student, parts = taught(course, course.distill.ChannelWiseLoss())
    gradient = torch.autograd.grad(parts.feature, student.neck.conv.weight, allow_unused=True)[0]
    reached = gradient is not None and gradient.abs().max().item() > 0
    return (
        not reached,
        f"feature loss {parts.feature.item():.3f}; of two layers that are compared, it teaches {1 + reached}",
    )


@one_map.find("what the feature loss is given")
def _(course):
    given = []

    def note(student, teacher):
        given.append(
            f"a tensor {tuple(student.shape)}" if torch.is_tensor(student) else f"a list of {len(student)} maps"
        )
        return student[0].sum()

    taught(course, note)
    return f"{given[0]}, and a loop over it goes image by image" if "tensor" in given[0] else given[0]


drifting = Room(23, "the teacher drifts", mistake=(TEACHER, "eval mode is set once"))


def moved(course) -> list[str]:
    """Names of a teacher's tensors that change over three answers after somebody called train()."""
    teacher = teach(course)
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    teacher.model.train()
    for _ in range(3):
        teacher(torch.rand(4, 3, 4, 4))
    return [name for name, tensor in teacher.model.state_dict().items() if not torch.equal(tensor, before[name])]


@drifting.look
def _(course):
    return moved(course), f"three answers after a train(): {len(moved(course))} of the teacher's tensors have changed"


@drifting.find("comparing its buffers before and after")
def _(course):
    return ", ".join(moved(course))


in_company = Room(
    24,
    "the teacher answers by the statistics of the batch",
    mistake=(TEACHER, "track_running_stats is switched off instead of eval mode"),
)


@in_company.look
def _(course):
    teacher, images = teach(course), torch.rand(4, 3, 4, 4)
    apart = (teacher(images)[0][0][:1] - teacher(images[:1])[0][0]).abs().max().item()
    return apart > 1e-4, f"the same image, alone and with three others: answers differ by {apart:.3f}"


@in_company.find("the mode of each normalisation while it answers")
def _(course):
    teacher, seen = teach(course), []
    for name, layer in teacher.model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda own, _inputs, _output, name=name: seen.append(
                    f"{name}  training {own.training}, statistics kept {own.track_running_stats}"
                )
            )
    teacher(torch.rand(2, 3, 4, 4))
    return "\n".join(seen)


never_added = Room(
    43, "the distillation term is absent from the log", mistake=(SUM, "the teacher's losses are never added")
)


@never_added.look
def _(course):
    _, parts = taught(course, course.distill.ChannelWiseLoss())
    rest = parts.total - parts.box - parts.cls - parts.dfl
    return (
        rest.abs() < 1e-6,
        f"feature {parts.feature:.3f}, response {parts.response:.3f}; in the total beyond the labels {rest.item():.3f}",
    )


@never_added.find("the gradient of the total, less that of the labels")
def _(course):
    student, parts = taught(course, course.distill.ChannelWiseLoss())
    weight = student.stem.conv.weight
    whole, labels = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (parts.total, parts.cls))
    return f"the teacher's part of it has norm {(whole - labels).norm().item():.3g}"


infinite = Room(46, "infinite channel-wise loss", mistake=(CHANNELS, "the logarithm of a softmax"))


def of_large_maps(course):
    """The channel-wise loss of maps in which single values stand far above the others."""
    maps = [torch.zeros(1, 2, 4, 4) for _ in range(2)]
    for place, own in enumerate(maps):
        own[..., place] = 200
    maps[0].requires_grad_()
    return course.distill.ChannelWiseLoss()(maps[:1], maps[1:])


@infinite.look
def _(course):
    value = of_large_maps(course).item()
    return not torch.tensor(value).isfinite(), f"loss {value:.4g}"


@infinite.find("the NaN microscope")
def _(course):
    with NaNMicroscope() as microscope:
        of_large_maps(course).backward()
    return microscope.finding


faint = Room(47, "the gradient dies at a high temperature", mistake=(CHANNELS, "τ² is forgotten"))


def gradient_norms(course, *temperatures: float) -> list[float]:
    student, teacher = torch.randn(1, 4, 6, 6, requires_grad=True), torch.randn(1, 4, 6, 6)
    losses = [course.distill.ChannelWiseLoss(temperature)([student], [teacher]) for temperature in temperatures]
    return [torch.autograd.grad(loss, student)[0].norm().item() for loss in losses]


@faint.look
def _(course):
    cool, hot = gradient_norms(course, 1.0, 20.0)
    return hot < 0.05 * cool, f"norm of the gradient: {cool:.3g} at τ = 1, {hot:.3g} at τ = 20"


@faint.find("the gradient at a row of temperatures")
def _(course):
    row = (1.0, 5.0, 10.0, 20.0)
    return "\n".join(f"τ = {t:<4g} {norm:.2g}" for t, norm in zip(row, gradient_norms(course, *row), strict=True))


larger = Room(48, "KL grows with the image", mistake=(RESPONSE, "the sum is taken over the anchors"))


def tiled(course, sides: int):
    student, teacher = ([own.repeat(1, 1, sides, sides) for own in raw_maps(len(names))] for names in (ALL, OLD))
    return response_of(course)(student, teacher).item(), sum(own[0, 0].numel() for own in student)


def twice(course) -> list:
    """The loss and the anchors of a picture, then of the same picture tiled 4 × 4."""
    found = []
    for sides in (1, 4):
        torch.manual_seed(0)
        found.append(tiled(course, sides))
    return found


@larger.look
def _(course):
    (small, _), (large, _) = twice(course)
    return large > 2 * small, f"response loss of a picture {small:.3f}, tiled 4 × 4 {large:.3f}"


@larger.find("tiling the map")
def _(course):
    (small, few), (large, many) = twice(course)
    return f"{many / few:g} times the anchors, {large / small:.3g} times the loss"


unnoticed = Room(
    49, "a shift of all logits goes unnoticed", mistake=(RESPONSE, "a softmax over the classes, whatever is asked for")
)


@unnoticed.look
def _(course):
    value = response_of(course)(*agreeing(shift=12.0)).item()
    return value < 0.01, f"a student that sees every class everywhere: response loss {abs(value):.3f}"


@unnoticed.find("probabilities of one anchor, as sigmoids and as a softmax")
def _(course):
    logits = torch.tensor([-4.0, -5.0])
    rows = [("teacher", logits), ("student", logits + 12)]
    return "\n".join(f"{who}   sigmoid {_few(own.sigmoid())}   softmax {_few(own.softmax(0))}" for who, own in rows)


def _few(values) -> str:
    return ", ".join(f"{value:.3f}" for value in values.tolist())


forgotten = Room(50, "old classes are forgotten", mistake=(SUM, "the response loss is forgotten"))


class Colours(nn.Module):
    """A detector that sees red as A1, green as A2, and blue as nothing yet."""

    def __init__(self, classes: int):
        super().__init__()
        self.head = nn.Conv2d(3, 4 * BINS + classes, 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.fill_(-4.0)
            for known in range(len(OLD)):
                self.head.weight[4 * BINS + known, known] = 8.0

    def forward(self, images):
        return [self.head(images)]


def scene() -> tuple:
    """An image with an object of each class, and labels (1, 3, 4, 4) for the new class alone.

    Each object lies in a row of its own.
    """
    images, labels = torch.zeros(1, 3, 4, 4), torch.zeros(1, len(ALL), 4, 4)
    for number in range(len(ALL)):
        images[:, number, number] = 1
    labels[:, 2, 2] = 1
    return images, labels


def scores(model, images) -> list[float]:
    """The model's score of each class where its object lies."""
    logits = model(images)[0][0, 4 * BINS :]
    return [logits[number, number].sigmoid().mean().item() for number in range(len(ALL))]


@forgotten.look
def _(course):
    student, (images, labels) = Colours(len(ALL)).train(), scene()
    teacher = course.distill.Teacher(Colours(len(OLD)), OLD, ())
    loss = course.distill.DistillationLoss(
        Labels(course), student, teacher, response=response_of(course), response_gain=20.0
    )
    before = scores(student, images)
    for _ in range(150):
        student.zero_grad(set_to_none=True)
        loss(student(images), labels).total.backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= 2.0 * parameter.grad
    after = scores(student, images)
    said = [f"{name} {first:.2f} -> {last:.2f}" for name, first, last in zip(ALL, before, after, strict=True)]
    return min(after[: len(OLD)]) < 0.5, f"scores where the objects are, only A3 labelled: {', '.join(said)}"


@forgotten.find("what the labels say of each object, and what they teach")
def _(course):
    student, (images, labels) = Colours(len(ALL)), scene()
    maps = student(images)
    maps[0].retain_grad()
    Labels(course)(maps, labels).total.backward()
    pulled = [maps[0].grad[0, 4 * BINS + number, number].mean().item() for number in range(len(ALL))]
    named = [bool(labels[0, number, number].any()) for number in range(len(ALL))]
    return "\n".join(
        f"{name}  {'labelled  ' if one else 'background'}  its logit is pushed {'up' if pull < 0 else 'down'}"
        for name, one, pull in zip(ALL, named, pulled, strict=True)
    )
