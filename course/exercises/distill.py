"""Stage 9: a teacher that only answers, a loss on its maps, a loss on its classes, and the sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, gradient, ramp, seeded, values
from .training import Mix

BINS = 2  # R: the box takes the first 8 channels of a raw map
LAYERS = ("stem", "neck")
STUDENT_CLASSES = ("A1", "A2", "A3", "A4", "A5")
TEACHER_CLASSES = ("A4", "B1", "A2", "A3")  # three are shared, none at the same place in both
SHARED = ((3, 0), (1, 2), (2, 3))  # place of each shared class: student, teacher


class Net(nn.Module):
    """A detector of two levels, with a normalisation in its stem and in its neck.

    It notes the mode in which its layers run.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(Mix(3, 4), nn.BatchNorm2d(4), nn.Tanh())
        self.neck = nn.Sequential(Mix(4, 5), nn.BatchNorm2d(5), nn.Tanh())
        self.heads = nn.ModuleList(Mix(5, 4 * BINS + classes) for _ in range(2))
        self.modes: set[str] = set()

    def forward(self, images: Tensor) -> list[Tensor]:
        self.modes |= {"train" if layer.training else "eval" for layer in self.modules()}
        x = self.neck(self.stem(images))
        return [self.heads[0](x), self.heads[1](x[..., ::2, ::2])]


def net(classes: int = 4, train: bool = True) -> Net:
    return seeded(Net(classes).float(), train)


def pictures(count: int = 3, seed: int = 7) -> Tensor:
    return values(count, 3, 4, 4, low=-1, high=2, seed=seed).float()


# ---- Teacher -------------------------------------------------------------------------------------

teacher = Exercise(
    "distill.Teacher",
    stage=9,
    points=2,
    minutes=15,
    after="training.freeze",
    goal="Make a trained detector answer, and do nothing else.",
    hints=(
        "Three things of a detector can change or cost memory while it answers: its weights, its running statistics, "
        "and a graph for a backward pass that never comes. Which call prevents each?",
        "Somebody may call train() on the wrapped model at any time. So for its normalisations one call in __init__ "
        "is not enough. For the weights it is.",
        "The model does not return the features: `self.taps` has recorded them when the model has run, and its take() "
        "gives the images and the list of features.",
    ),
)


def teach(course, train: bool = True):
    return course.distill.Teacher(net(train=train), TEACHER_CLASSES, LAYERS)


def moved(module: nn.Module, act) -> list[str]:
    """Names of the weights and buffers that `act` changes."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    act()
    return [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]


@teacher.probe("maps and features")
def _(course):
    maps, features = teach(course, train=False)(pictures())
    return {"maps": maps, "features": features}


@teacher.probe("a model that comes in train mode")
def _(course):
    chosen = teach(course)
    maps, features = chosen(pictures())
    return {"maps": maps, "features": features, "layers ran in": chosen.model.modes}


@teacher.probe("somebody calls train() between two answers")
def _(course):
    chosen = teach(course)
    chosen(pictures())
    chosen.model.train()
    maps, _ = chosen(pictures())
    alone, _ = chosen(pictures()[:1])
    return {
        "an image in a batch": [m[:1] for m in maps],
        "the same image alone": alone,
        "layers ran in": chosen.model.modes,
    }


@teacher.probe("what three answers leave behind")
def _(course):
    chosen = teach(course)
    changed = moved(chosen.model, lambda: [chosen(pictures(seed=n)) for n in range(3)])
    return {
        "weights and statistics that moved": changed,
        "weights that ask for a gradient": [name for name, p in chosen.model.named_parameters() if p.requires_grad],
        "gradients are still recorded": torch.is_grad_enabled(),
        "kept by the listeners": sorted(chosen.taps.seen),
    }


@teacher.probe("the answers in a loss")
def _(course):
    chosen, images = teach(course), pictures().requires_grad_()
    answers = [tensor for list_ in chosen(images) for tensor in list_]
    scale = torch.ones(len(answers), dtype=torch.float32, requires_grad=True)
    loss = sum((answer * own).sum() for answer, own in zip(answers, scale, strict=True))
    loss.backward()
    return {
        "gradient of the student's factors": scale.grad,
        "gradient of the images": "none" if images.grad is None else images.grad,
        "weights with a gradient": [name for name, p in chosen.model.named_parameters() if p.grad is not None],
        "answers with a graph": sum(answer.requires_grad for answer in answers),
    }


@teacher.probe("a module that owns the teacher")
def _(course):
    owner, chosen = nn.Linear(2, 1), teach(course)
    owner.teacher = chosen
    return {
        "its weights": sorted(name for name, _ in owner.named_parameters()),
        "its state": sorted(owner.state_dict()),
    }


FREEZE = "        model.requires_grad_(False)\n"
EVAL = "        self.model.eval()\n"
NORMS = "        for norm in self.model.modules():\n            if isinstance(norm, nn.BatchNorm2d):\n"
ASK = "        with torch.no_grad():\n            maps = self.model(images)\n"

teacher.misconception(
    "eval mode is set once",
    swap=[(EVAL, ""), (FREEZE, FREEZE + "        model.eval()\n")],
    because="Anybody who has the wrapped model, or loops over a student that holds it, may call train(). From then on "
    "the teacher normalises by each batch, and its statistics drift towards the student's few images. What must hold "
    "at every answer has to be set at every answer.",
    museum=23,
)
teacher.misconception(
    "eval mode is never set",
    swap=(EVAL, ""),
    because="A model that was trained in this process comes in train mode. It normalises by the statistics of the "
    "batch, and each answer changes the statistics that it has learned: after an epoch you learn from another "
    "teacher. Call eval() before each answer.",
    museum=23,
)
teacher.misconception(
    "track_running_stats is switched off instead of eval mode",
    swap=(EVAL, f"{NORMS}                norm.track_running_stats = False\n"),
    because="The statistics are no longer updated, so hashes of the buffers agree and nothing seems wrong. But in "
    "train mode they are not used either: each image is normalised by its neighbours in the batch, so the same image "
    "gets another answer in another batch. Only in eval mode does a normalisation use what it has learned.",
    museum=24,
)
teacher.misconception(
    "only the batch normalisations are put into eval mode",
    swap=(EVAL, f"{NORMS}                norm.eval()\n"),
    because="In this detector no other layer depends on the mode. But a teacher with a dropout, such as a "
    "transformer, would give random answers. eval() on the whole model reaches every layer.",
)
teacher.misconception(
    "eval mode comes after the answer",
    swap=[(EVAL, ""), (ASK, ASK + EVAL)],
    because="The first answer after each train() is given in train mode, and moves the statistics once. If somebody "
    "calls train() at each epoch, that is once an epoch: slow enough to be found late. First eval(), then the answer.",
    museum=23,
)
teacher.misconception(
    "the weights still ask for gradients",
    swap=(FREEZE, "        model.requires_grad = False\n"),
    because="An answer under no_grad needs no gradient, so nothing shows here. But code that collects the trainable "
    "parameters by requires_grad takes the teacher's too, and weight decay then shrinks them at every step. Set it on "
    "the weights: a module has no requires_grad of its own, and model.requires_grad = False makes a new attribute "
    "without an error.",
)
teacher.misconception(
    "gradients flow into the teacher",
    swap=[(FREEZE, "        pass\n"), (ASK, "        maps = self.model(images)\n")],
    because="The loss is smallest if both agree, and here the teacher can move as well: it forgets what it knows to "
    "agree with the student. And its whole graph is kept for the backward pass, which doubles the memory. Freeze the "
    "weights, and answer without gradient.",
)
teacher.misconception(
    "the answer is recorded for a backward pass",
    swap=(ASK, "        maps = self.model(images)\n"),
    because="Frozen weights alone prevent a graph only as long as no image requires a gradient. If one does, as in an "
    "attack or behind a layer that learns, the graph of the whole teacher is kept, and backward runs through it. "
    "Answer under torch.no_grad().",
)
teacher.misconception(
    "only the maps are detached",
    swap=(ASK, "        maps = [own.detach() for own in self.model(images)]\n"),
    because="The features are recorded inside the model, before anything is detached: they keep their graph, and with "
    "it every activation of the teacher. Under torch.no_grad() there is no graph in the first place.",
)
teacher.misconception(
    "the answer is given in inference mode",
    swap=("torch.no_grad()", "torch.inference_mode()"),
    because="Tensors made in inference mode can never take part in a computation with gradients: a loss that "
    "multiplies one with the student's map ends with 'Inference tensors cannot be saved for backward'. no_grad makes "
    "ordinary tensors.",
)
teacher.misconception(
    "recording is switched off for good",
    swap=(ASK, "        torch.set_grad_enabled(False)\n        maps = self.model(images)\n"),
    because="Gradients stay off when the teacher is done, for the student as well: its loss has no graph, and "
    "backward says that no element requires grad. A with block restores what it found.",
)
teacher.misconception(
    "the teacher is a module of whoever owns it",
    swap=[
        ("class Teacher:", "class Teacher(nn.Module):"),
        ("        self.model, self.class_names", "        super().__init__()\n        self.model, self.class_names"),
    ],
    because="A module that owns the teacher then owns its weights: they go to the optimizer, are saved in each "
    "checkpoint of the student, are missing wherever it is loaded without a teacher, and the owner's train() reaches "
    "them. A plain object is no submodule.",
)
teacher.misconception(
    "the images are given back too",
    swap=("self.taps.take()[1]", "self.taps.take()"),
    because="take() gives two things, the images and the list of features. A loss that loops over them compares your "
    "images with feature maps. Return the list.",
)
teacher.misconception(
    "only the maps are given back",
    swap=("return maps, self.taps.take()[1]", "return maps"),
    because="The caller wants two lists. If there are two maps, it takes one for the list of maps and one for the "
    "list of features. Return the features too.",
)
teacher.misconception(
    "the features are looked at and not taken",
    swap=("self.taps.take()[1]", "[self.taps.seen[name] for name in self.taps.layers]"),
    because="The hooks keep the last answer: three maps and the images stay in memory while the student runs, when "
    "memory is short. take() returns them and keeps nothing.",
)


# ---- ChannelWiseLoss -----------------------------------------------------------------------------

channel_wise = Exercise(
    "distill.ChannelWiseLoss",
    stage=9,
    points=3,
    minutes=25,
    after="distill.Teacher",
    goal="Teach the student where each channel of the teacher looks, and not how strongly.",
    hints=(
        "What are the possible outcomes of the distribution that one channel makes: classes, channels or places? Put "
        "them all into one dimension. Over which dimension does the softmax go?",
        "In KL(p_T ‖ p_S) the teacher's probability weighs the difference of the logarithms. Divide both sides by τ. "
        "Take the sum over the places, the mean over batch and channels, the sum over the maps.",
        "Take the logarithm and the softmax in one call, on float32, and get the teacher's probabilities back with "
        "exp(): the logarithm of a probability that was rounded to 0 is infinite. zip has an argument that refuses "
        "lists of unequal length.",
    ),
)


def feature_maps(seed: int, batch: int = 2, spread: float = 3.0) -> list[Tensor]:
    return [
        values(batch, 3, 4, 5, low=-spread, high=spread, seed=seed),
        values(batch, 4, 2, 3, low=-spread, high=spread, seed=seed + 1),
    ]


def large(maps: list[Tensor]) -> list[Tensor]:
    """10,000 plus some quarters, with the signs of the maps: exact in float32."""
    return [10_000 * own.sign() + (4 * own).round() / 4 for own in maps]


def judged(loss, student: list[Tensor], teacher: list[Tensor]) -> dict[str, object]:
    """A loss of the student's maps, and its gradient at each of them."""
    leaves = [own.detach().clone().requires_grad_() for own in student]
    found = loss(leaves, teacher)
    return {"loss": found, "gradients": [gradient(found, leaf) for leaf in leaves]}


@channel_wise.probe("two maps")
def _(course):
    return judged(course.distill.ChannelWiseLoss(), feature_maps(1), feature_maps(11))


@channel_wise.probe("other temperatures")
def _(course):
    return {
        f"τ = {t:g}": judged(course.distill.ChannelWiseLoss(t), feature_maps(1), feature_maps(11)) for t in (0.5, 20.0)
    }


@channel_wise.probe("equal maps, and maps that differ by a constant in each channel")
def _(course):
    loss, maps = course.distill.ChannelWiseLoss(2.0), feature_maps(1)
    shifted = [own + 2 * ramp(own.shape[1])[:, None, None] for own in maps]
    return {"with itself": loss(maps, maps), "shifted": loss(shifted, maps), "another": loss(shifted, feature_maps(11))}


@channel_wise.probe("tiled maps, a repeated batch, repeated channels")
def _(course):
    loss, first, second = course.distill.ChannelWiseLoss(), feature_maps(1), feature_maps(11)

    def repeated(*times: int) -> Tensor:
        return loss([own.repeat(*times) for own in first], [own.repeat(*times) for own in second])

    return {
        "2 × 3 tiles": repeated(1, 1, 2, 3),
        "twice the batch": repeated(2, 1, 1, 1),
        "twice the channels": repeated(1, 2, 1, 1),
    }


@channel_wise.probe("very large values")
def _(course):
    return judged(course.distill.ChannelWiseLoss(), large(feature_maps(1)), large(feature_maps(11)))


@channel_wise.probe("maps in bfloat16")
def _(course):
    student, teacher = ([own.bfloat16() for own in feature_maps(seed, spread=6.0)] for seed in (1, 11))
    return course.distill.ChannelWiseLoss(1.5)(student, teacher)


@channel_wise.probe("one map, and a map too few")
def _(course):
    loss, maps = course.distill.ChannelWiseLoss(), feature_maps(1)
    refused = {
        "the teacher's is missing": attempt(lambda: loss(maps, feature_maps(11)[:1])),
        "the student's is missing": attempt(lambda: loss(maps[:1], feature_maps(11))),
    }
    told = {name: said.partition(":")[0] if isinstance(said, str) else said for name, said in refused.items()}
    return {"one map each": loss(maps[1:], feature_maps(11)[1:])} | told


LOG_S = "F.log_softmax(mine.float().flatten(2) / self.temperature, dim=-1)"
LOG_T = "F.log_softmax(wanted.float().flatten(2) / self.temperature, dim=-1)"
DIVERGENCE = "(log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1)"
ADDED = "loss + divergence.mean() * self.temperature**2"

channel_wise.misconception(
    "the divergence is taken the other way round",
    swap=("(log_p_t.exp() * (log_p_t - log_p_s))", "(log_p_s.exp() * (log_p_s - log_p_t))"),
    because="KL(p_S ‖ p_T) weighs by the student: places that the teacher finds important, but where the student does "
    "not look, weigh nothing, and those are the ones to learn. The teacher comes first and gives the weights.",
)
channel_wise.misconception(
    "probabilities stand where logarithms belong",
    swap=(LOG_S, "F.softmax(mine.float().flatten(2) / self.temperature, dim=-1)"),
    because="A probability is compared with a logarithm. The result is a number, even a negative one, and it is not 0 "
    "for equal maps. kl_div(p_S, p_T) does the same, because it expects logarithms as its first argument.",
)
channel_wise.misconception(
    "the weights are logarithms",
    swap=("log_p_t.exp() * (", "log_p_t * ("),
    because="Logarithms of probabilities are negative, so each place has a negative weight, and the least likely ones "
    "the largest: the student is driven away from the teacher. Weigh by the probability.",
)
channel_wise.misconception(
    "the logarithm of a softmax",
    swap=[
        (LOG_S, LOG_S.replace("F.log_softmax", "F.softmax") + ".log()"),
        (LOG_T, LOG_T.replace("F.log_softmax", "F.softmax") + ".log()"),
    ],
    because="If one value is 104 above another, float32 rounds the smaller probability to 0, and its logarithm is "
    "minus infinity: the loss becomes inf or NaN. log_softmax never computes the probability: it subtracts.",
    museum=46,
)
channel_wise.misconception(
    "τ² is forgotten",
    swap=(ADDED, "loss + divergence.mean()"),
    because="Divided by τ, the maps differ by less, and the gradient falls with 1/τ²: at τ = 20 it is four hundred "
    "times too small, and the student learns nothing from the teacher. Multiply by τ².",
    museum=47,
)
channel_wise.misconception(
    "multiplied by τ, not by its square",
    swap=("self.temperature**2", "self.temperature"),
    because="One 1/τ comes from the derivative of map / τ, a second one from the probabilities, which get closer to "
    "each other. Two factors are lost, so multiply by both.",
)
channel_wise.misconception(
    "the temperature is on the student's side only",
    swap=(LOG_T, "F.log_softmax(wanted.float().flatten(2), dim=-1)"),
    because="A softened student is compared with a sharp teacher: equal maps have a loss, and to lower it the student "
    "has to make its map τ times as steep. Divide both.",
)
channel_wise.misconception(
    "the temperature is on the teacher's side only",
    swap=(LOG_S, "F.log_softmax(mine.float().flatten(2), dim=-1)"),
    because="A sharp student is compared with a softened teacher: equal maps have a loss, and to lower it the student "
    "has to flatten its map. Divide both.",
)
channel_wise.misconception(
    "the temperature is on the loss only",
    swap=[
        (LOG_S, "F.log_softmax(mine.float().flatten(2), dim=-1)"),
        (LOG_T, "F.log_softmax(wanted.float().flatten(2), dim=-1)"),
    ],
    because="Nothing is softened: τ² alone is one more gain, and no more places count than before. Divide the maps.",
)
channel_wise.misconception(
    "the maps are multiplied by the temperature",
    swap=[(LOG_S, LOG_S.replace("/", "*")), (LOG_T, LOG_T.replace("/", "*"))],
    because="That sharpens: at τ = 4 all of the weight lies on one place. A high temperature should make the "
    "differences smaller: divide.",
)
channel_wise.misconception(
    "the softmax goes over the channels",
    swap=[(LOG_S, LOG_S.replace("dim=-1", "dim=1")), (LOG_T, LOG_T.replace("dim=-1", "dim=1"))],
    because="Then each place says which channel is strong there, and a constant added to one channel changes "
    "everything. The channels of a feature map are not alternatives to each other; the places at which one fires are. "
    "The places are the last dimension.",
)
channel_wise.misconception(
    "the softmax goes over the batch",
    swap=[(LOG_S, LOG_S.replace("dim=-1", "dim=0")), (LOG_T, LOG_T.replace("dim=-1", "dim=0"))],
    because="Images of a batch then compete with each other, and with a batch of one every probability is 1 and the "
    "loss 0. The places are the last dimension.",
)
channel_wise.misconception(
    "all channels share one softmax",
    swap=[(LOG_S, LOG_S.replace("flatten(2)", "flatten(1)")), (LOG_T, LOG_T.replace("flatten(2)", "flatten(1)"))],
    because="The strongest channel takes all of the probability, and the others teach nothing. Keep batch and "
    "channels, and join the two dimensions of places.",
)
channel_wise.misconception(
    "each row has its own softmax",
    swap=[(LOG_S, LOG_S.replace(".flatten(2)", "")), (LOG_T, LOG_T.replace(".flatten(2)", ""))],
    because="Without joining height and width the softmax goes along a row. A row of empty apron then weighs as much "
    "as the row with the aircraft. Join both into one dimension of h·w places.",
)
channel_wise.misconception(
    "the mean is taken over the places too",
    swap=(".sum(dim=-1)", ".mean(dim=-1)"),
    because="A divergence is a sum over outcomes, whose probabilities add up to 1. If it is divided by h·w once more, "
    "the fine map, which sees the small aircraft, counts a sixteenth of the coarse one.",
)
channel_wise.misconception(
    "the sum is taken over batch and channels",
    swap=("divergence.mean()", "divergence.sum()"),
    because="The loss grows with the batch and with the width of the network: each gain that you find is right for "
    "one size of model on one card only. Take the mean over batch and channels.",
)
channel_wise.misconception(
    "only the batch is averaged",
    swap=("divergence.mean()", "divergence.sum() / len(mine)"),
    because="That is reduction='batchmean' of kl_div on (B, C, h·w): it divides by B alone. A map of 256 channels "
    "then weighs four times as much as one of 64. Divide by B·C.",
)
channel_wise.misconception(
    "only the first map is compared",
    swap=(
        f"            loss = {ADDED}\n        return loss\n",
        f"            loss = {ADDED}\n            return loss\n",
    ),
    because="The return is inside the loop, and the function ends after one map. The medium and the large aircraft "
    "are in the others.",
)
channel_wise.misconception(
    "the last map alone is kept",
    swap=(ADDED, "divergence.mean() * self.temperature**2"),
    because="Each map's loss replaces the one before. Add them up.",
)
channel_wise.misconception(
    "the mean is taken over the maps",
    swap=("        return loss\n", "        return loss / len(student)\n"),
    because="The published loss sums over the maps, and gains are given for that sum: for three maps yours is a third "
    "of it.",
)
channel_wise.misconception(
    "a map too many is dropped",
    swap=("zip(student, teacher, strict=True)", "zip(student, teacher)"),
    because="zip stops at the end of the shorter list, without an error. A teacher of two levels then teaches a "
    "student of three, and the third is forgotten. Let zip refuse.",
)
channel_wise.misconception(
    "computed in the format of the maps",
    swap=[(LOG_S, LOG_S.replace(".float()", "")), (LOG_T, LOG_T.replace(".float()", ""))],
    because="Under mixed precision the maps have three digits. A sum over thousands of places of differences of "
    "logarithms is then mostly rounding errors. Convert to float32 first.",
)
channel_wise.misconception(
    "the student's map is detached",
    swap=("mine.float()", "mine.detach().float()"),
    because="The loss is right, and it is in the log, but it has no effect: no gradient reaches the student. Only the "
    "teacher's side has none.",
)
channel_wise.misconception(
    "cross-entropy instead of a divergence",
    swap=("(log_p_t.exp() * (log_p_t - log_p_s))", "(-log_p_t.exp() * log_p_s)"),
    because="The gradient is the same. But the value contains the teacher's own entropy, which grows with the size of "
    "the map. It is not 0 for equal maps, so the curve does not show whether anything is left to learn, and a bound "
    "on it means nothing.",
)
channel_wise.misconception(
    "the probabilities are compared by their squared difference",
    swap=(DIVERGENCE, "(log_p_t.exp() - log_p_s.exp()).square().sum(dim=-1)"),
    because="Over a thousand places a probability is about 0.001, and its square a millionth: there is nothing left "
    "to learn from. A divergence compares ratios.",
)


# ---- ResponseLoss --------------------------------------------------------------------------------

response = Exercise(
    "distill.ResponseLoss",
    stage=9,
    points=3,
    minutes=30,
    after="distill.ChannelWiseLoss",
    goal="Teach the student to give the shared classes the same probabilities as the teacher.",
    hints=(
        "You need only some channels of a raw map. Where do the class channels begin, and which of them does each "
        "side's index pick? Concatenate the maps of all levels first: boxes has a function for that.",
        "A coin has two sides, and its divergence two terms: how likely is the class, and how likely is it not. The "
        "probability of not is the sigmoid of minus the logit. With a softmax the shared classes are the outcomes of "
        "one distribution.",
        "F.logsigmoid and log_softmax give logarithms that cannot underflow. Divide both sides by τ, take the mean "
        "over images, anchors and shared classes, and restore the size of the gradient with τ².",
    ),
)


def raw_maps(seed: int, classes: int, batch: int = 2) -> list[Tensor]:
    return [
        values(batch, 4 * BINS + classes, *size, low=-4, high=3, seed=seed + n)
        for n, size in enumerate(((2, 3), (2, 2), (1, 2)))
    ]


def mine(batch: int = 2) -> list[Tensor]:
    return raw_maps(1, len(STUDENT_CLASSES), batch)


def theirs(batch: int = 2) -> list[Tensor]:
    return raw_maps(21, len(TEACHER_CLASSES), batch)


def agreeing(shift: float = 0.0) -> list[Tensor]:
    """Maps of a student whose shared classes have the teacher's logits plus a shift.

    Everything else differs.
    """
    maps = mine()
    for own, wanted in zip(maps, theirs(), strict=True):
        for here, there in SHARED:
            own[:, 4 * BINS + here] = wanted[:, 4 * BINS + there] + shift
    return maps


def responses(course, temperature: float = 1.0) -> dict[str, object]:
    return {
        kind: course.distill.ResponseLoss(STUDENT_CLASSES, TEACHER_CLASSES, kind, temperature, BINS)
        for kind in ("bernoulli", "softmax")
    }


@response.probe("two sets of maps, three shared classes")
def _(course):
    return {kind: judged(loss, mine(), theirs()) for kind, loss in responses(course).items()}


@response.probe("other temperatures")
def _(course):
    return {
        f"{kind}, τ = {t:g}": judged(loss, mine(), theirs())
        for t in (0.5, 20.0)
        for kind, loss in responses(course, t).items()
    }


@response.probe("the shared classes agree, and are shifted by 12")
def _(course):
    return {
        f"{kind}, shifted by {shift}": loss(agreeing(shift), theirs())
        for kind, loss in responses(course).items()
        for shift in (0, 12)
    }


@response.probe("tiled maps, and a repeated batch")
def _(course):
    found = {}
    for kind, loss in responses(course).items():
        for name, times in (("2 × 3 tiles", (1, 1, 2, 3)), ("twice the batch", (2, 1, 1, 1))):
            found[f"{kind}, {name}"] = loss([m.repeat(*times) for m in mine()], [m.repeat(*times) for m in theirs()])
    return found


@response.probe("one shared class, and the same classes on both sides")
def _(course):
    make = course.distill.ResponseLoss
    seen = {
        kind: make(STUDENT_CLASSES, ("B1", "A5", "B2", "B3"), kind, reg_max=BINS)(mine(), theirs())
        for kind in ("bernoulli", "softmax")
    }
    return seen | {
        "all": make(STUDENT_CLASSES, STUDENT_CLASSES, reg_max=BINS)(mine(), raw_maps(31, len(STUDENT_CLASSES)))
    }


@response.probe("very large logits")
def _(course):
    return {kind: judged(loss, large(mine()), large(theirs())) for kind, loss in responses(course).items()}


@response.probe("maps in bfloat16")
def _(course):
    student, wanted = ([own.bfloat16() for own in maps] for maps in (mine(), theirs()))
    return {kind: loss(student, wanted) for kind, loss in responses(course, 1.5).items()}


MINE = "flatten_maps(student).float()[..., 4 * self.reg_max :][..., self.student_index] / self.temperature"
WANTED = "flatten_maps(teacher).float()[..., 4 * self.reg_max :][..., self.teacher_index] / self.temperature"
LOGS = "log_p_s, log_p_t = mine.log_softmax(dim=-1), wanted.log_softmax(dim=-1)"
YES = "F.logsigmoid(wanted) - F.logsigmoid(mine)"
NO = "F.logsigmoid(-wanted) - F.logsigmoid(-mine)"
COIN = "wanted.sigmoid() * yes + (-wanted).sigmoid() * no"
MEAN = "divergence.mean() * self.temperature**2"

response.misconception(
    "the class channels are counted from the first channel",
    swap=[
        (MINE, MINE.replace("[..., 4 * self.reg_max :]", "")),
        (WANTED, WANTED.replace("[..., 4 * self.reg_max :]", "")),
    ],
    because="A raw map begins with the 4·R channels of the box. Channel 0 is a bin of the left edge, not class A1: a "
    "loss that is meant for classes teaches the student's boxes, and its classes not at all. Leave the first 4·R out.",
    museum=20,
)
response.misconception(
    "R channels are cut off, not 4·R",
    swap=[(MINE, MINE.replace("4 * ", "")), (WANTED, WANTED.replace("4 * ", ""))],
    because="There is a distribution over R bins for each of four edges. With only R channels left out, the classes "
    "of the loss are bins of the top edge.",
    museum=20,
)
response.misconception(
    "student's and teacher's index are exchanged",
    swap=[
        (MINE, MINE.replace("student_index", "teacher_index")),
        (WANTED, WANTED.replace("teacher_index", "student_index")),
    ],
    because="Each index gives the place of a shared class on its own side. Exchanged, A4 of the student is compared "
    "with another class of the teacher at that place, or with none.",
)
response.misconception(
    "classes are matched by their place",
    swap=[
        (MINE, MINE.replace("self.student_index", ": len(self.student_index)")),
        (WANTED, WANTED.replace("self.teacher_index", ": len(self.teacher_index)")),
    ],
    because="The first classes of one list are compared with the first of the other. That is right as long as both "
    "begin alike, as A1 … A10 do. With the first list in another order it teaches an airliner as a fighter. Each side "
    "has its own index, made from names.",
)
response.misconception(
    "the teacher's places are used on both sides",
    swap=(MINE, MINE.replace("student_index", "teacher_index")),
    because="The index gives the place of the class in the teacher's list. In the student's list, which has more "
    "classes, another class is at that place. Each side has its own.",
)
response.misconception(
    "only the finest level is compared",
    swap=[(MINE, MINE.replace("(student)", "(student[:1])")), (WANTED, WANTED.replace("(teacher)", "(teacher[:1])"))],
    because="Three quarters of the anchors lie there, and only small objects. What the teacher says about the large "
    "ones is in the other maps. Concatenate all levels.",
)
response.misconception(
    "a softmax over the classes, whatever is asked for",
    swap=('if self.kind == "softmax":', "if True:"),
    because="A softmax sees only differences between classes. A student whose logits are all higher by 12 sees all "
    "classes everywhere, and still agrees with the teacher. Each of YOLOv8's classes has its own sigmoid: a coin for "
    "each class shows the difference.",
    museum=49,
)
response.misconception(
    "coins, whatever is asked for",
    swap=('if self.kind == "softmax":', "if False:"),
    because="The founding assignment's loss is the softmax one, and its results can only be repeated with it. Do what "
    "`kind` says.",
)
response.misconception(
    "the two kinds are exchanged",
    swap=('self.kind == "softmax"', 'self.kind == "bernoulli"'),
    because="A caller who asks for coins gets a softmax, and the other way round. Both train, so only a shift of all "
    "logits tells them apart.",
    museum=49,
)
response.misconception(
    "the softmax goes over the anchors",
    swap=(LOGS, LOGS.replace("-1", "1")),
    because="That is the channel-wise loss, on class channels: it asks where a class is likely, not which class is "
    "likely. Here the classes of one anchor are the outcomes; they are the last dimension.",
)
response.misconception(
    "the softmax goes over all classes",
    swap=[
        (MINE, "flatten_maps(student).float()[..., 4 * self.reg_max :] / self.temperature"),
        (WANTED, "flatten_maps(teacher).float()[..., 4 * self.reg_max :] / self.temperature"),
        (
            LOGS,
            "log_p_s = mine.log_softmax(dim=-1)[..., self.student_index]\n"
            "            log_p_t = wanted.log_softmax(dim=-1)[..., self.teacher_index]",
        ),
        (
            "            yes = ",
            "            mine, wanted = mine[..., self.student_index], wanted[..., self.teacher_index]\n            "
            "yes = ",
        ),
    ],
    because="The teacher's probabilities are divided among ten classes, the student's among twenty. The probability "
    "that the student gives to a new class is missing from the old ones, so it is punished for seeing what the "
    "teacher cannot know. Select first, then the softmax.",
)
response.misconception(
    "a sigmoid before the softmax",
    swap=(LOGS, "log_p_s, log_p_t = mine.sigmoid().log_softmax(dim=-1), wanted.sigmoid().log_softmax(dim=-1)"),
    because="A softmax takes logits. After the sigmoid all values lie within 0 … 1, so every class is about equally "
    "likely, and sure and unsure teachers give nearly the same.",
)
response.misconception(
    "probabilities stand where logarithms belong",
    swap=(LOGS, "log_p_s, log_p_t = mine.softmax(dim=-1), wanted.log_softmax(dim=-1)"),
    because="The loss is not 0 for equal logits and can be negative: it falls for ever, and the curve looks like "
    "learning. kl_div(p_S, p_T) does the same, because it expects logarithms as its first argument. The divergence of "
    "a distribution from itself is 0: try it.",
    museum=19,
)
response.misconception(
    "the divergence is taken the other way round",
    swap=[
        ("log_p_t.exp() * (log_p_t - log_p_s)", "log_p_s.exp() * (log_p_s - log_p_t)"),
        (COIN, "-mine.sigmoid() * yes - (-mine).sigmoid() * no"),
    ],
    because="KL(p_S ‖ p_T) weighs by the student, so a class that the student has forgotten weighs nothing, but that "
    "class has to be taught. The teacher comes first and gives the weights.",
)
response.misconception(
    "only one side of the coin",
    swap=(COIN, "wanted.sigmoid() * yes"),
    because="p · (log p_T - log p_S) alone can be negative, and is smallest if the student says yes everywhere. A "
    'coin has two sides: "the class is not there", with 1 - p, is an answer too, and the most frequent one.',
)
response.misconception(
    "binary cross-entropy instead of a divergence",
    swap=(COIN, "-wanted.sigmoid() * F.logsigmoid(mine) - (-wanted).sigmoid() * F.logsigmoid(-mine)"),
    because="The gradient is the same. But the value keeps the teacher's own entropy: it is not 0 for equal logits, "
    "so the curve does not show whether anything is left to learn. Subtract it, or compare the logarithms.",
)
response.misconception(
    "the logarithm of a sigmoid",
    swap=[
        (YES, "wanted.sigmoid().log() - mine.sigmoid().log()"),
        (NO, "(-wanted).sigmoid().log() - (-mine).sigmoid().log()"),
    ],
    because="Below a logit of -104 float32 rounds a sigmoid to 0, its logarithm is minus infinity, and 0 times "
    "infinity is NaN. logsigmoid never computes the probability.",
    museum=46,
)
response.misconception(
    "the probability of no is one minus a rounded yes",
    swap=(NO, "(1 - wanted.sigmoid()).log() - (1 - mine.sigmoid()).log()"),
    because="From a logit of 17 on float32 rounds the sigmoid to 1, and the logarithm of 1 - 1 is minus infinity. The "
    "probability of no is the sigmoid of minus the logit; take its logarithm with logsigmoid.",
    museum=46,
)
response.misconception(
    "the squared difference of the probabilities",
    swap=(COIN, "(wanted.sigmoid() - mine.sigmoid()).square()"),
    because="Most anchors are background, with probabilities near 0, and squared differences of small numbers are "
    "next to nothing: 0.01 and 0.0001 count as equal. A divergence compares ratios.",
)
response.misconception(
    "the temperature is on the student's side only",
    swap=(WANTED, WANTED.removesuffix(" / self.temperature")),
    because="A softened student is compared with a sharp teacher: equal logits have a loss. Divide both.",
)
response.misconception(
    "the temperature is on the loss only",
    swap=[(MINE, MINE.removesuffix(" / self.temperature")), (WANTED, WANTED.removesuffix(" / self.temperature"))],
    because="Nothing is softened, and τ² is one more gain. Divide the logits.",
)
response.misconception(
    "τ² is forgotten",
    swap=(MEAN, "divergence.mean()"),
    because="The gradient falls with 1/τ²: at τ = 20 it is four hundred times too small, whatever the curve looks "
    "like. Multiply by τ².",
    museum=47,
)
response.misconception(
    "the sum is taken over the anchors",
    swap=("divergence.mean()", "divergence.sum(dim=1).mean()"),
    because="At 640 pixels there are 8400 anchors, at 160 there are 525: the same picture, larger, has sixteen times "
    "the loss, and a gain that was found on small images lets it dominate the detection loss on large ones. Divide by "
    "the number of anchors.",
    museum=48,
)
response.misconception(
    "only the batch is averaged",
    swap=("divergence.mean()", "divergence.sum() / len(mine)"),
    because="That is reduction='batchmean' of kl_div, which divides by the first dimension alone: the loss grows with "
    "the image and with the number of classes. Divide by B·A·C.",
    museum=48,
)
response.misconception(
    "computed in the format of the maps",
    swap=[(MINE, MINE.replace(".float()", "")), (WANTED, WANTED.replace(".float()", ""))],
    because="Under mixed precision the maps have three digits, and the difference of two nearly equal logarithms has "
    "none. Convert to float32 first.",
)
response.misconception(
    "the student's logits are detached",
    swap=(MINE, MINE.replace(".float()", ".detach().float()")),
    because="The loss is right, and it is in the log, but it has no effect: no gradient reaches the student.",
)


# ---- DistillationLoss ----------------------------------------------------------------------------

distillation = Exercise(
    "distill.DistillationLoss",
    stage=9,
    points=2,
    minutes=20,
    after=("distill.Teacher", "distill.ChannelWiseLoss", "distill.ResponseLoss"),
    goal="Add the teacher's losses to the detection loss, and return each part.",
    hints=(
        "Six numbers are returned: the sum, three unchanged parts of the detection loss, and two of the teacher's. "
        "Which of them has a share and a gain?",
        "Either of the two functions may be None: its part is then a zero tensor of the same dtype and device as the "
        "total, so that a log can stack all six.",
        "feature compares the features, response the raw maps, each the student's list first. The log shows exactly "
        "what is added: multiply by gain and share once, before both.",
    ),
)


class Detection(nn.Module):
    """In place of the detection loss: three parts that depend on the maps and on the targets."""

    def __init__(self, parts: type):
        super().__init__()
        self.parts = parts

    def forward(self, maps: list[Tensor], targets: Tensor):
        box = sum(own[:, : 4 * BINS].square().mean() for own in maps) + targets.mean()
        cls = sum(own[:, 4 * BINS :].sigmoid().mean() for own in maps)
        dfl = maps[0].abs().mean()
        return self.parts(7.5 * box + 0.5 * cls + 1.5 * dfl, box, cls, dfl)


def far(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """A feature loss that is symmetric neither in student and teacher nor in the maps."""
    return sum(
        (n + 1) * (own - wanted).square().mean() + own.mean()
        for n, (own, wanted) in enumerate(zip(student, teacher, strict=True))
    )


def apart(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """The same for raw maps, on the first class channels of both."""
    front = slice(4 * BINS, 4 * BINS + len(TEACHER_CLASSES))
    return far([own[:, front] for own in student], [own[:, front] for own in teacher]) + 0.25


def one_loss(course, feature=far, response=apart, share: float | None = None, **gains: float) -> dict[str, object]:
    """The parts of a distillation loss, and the gradient of each on the student's first layer."""
    student = net(len(STUDENT_CLASSES))
    loss = course.distill.DistillationLoss(
        Detection(course.losses.LossParts), student, teach(course), feature=feature, response=response, **gains
    )
    if share is not None:
        loss.share = share
    maps = student(pictures())
    parts = loss(maps, ramp(4, 6).float())
    fields = parts._asdict() if hasattr(parts, "_asdict") else {"it returns": type(parts).__name__}
    weight = student.stem[0].weight
    scalars = {
        name: own if own.shape == () else f"of shape {tuple(own.shape)}"
        for name, own in fields.items()
        if torch.is_tensor(own)
    }
    return {
        "parts": fields | scalars,
        "gradients": {name: gradient(own, weight) for name, own in scalars.items() if torch.is_tensor(own)},
        "stacked": torch.stack(tuple(parts)),
    }


@distillation.probe("both losses, with gains")
def _(course):
    return one_loss(course, feature_gain=2.0, response_gain=3.0)


@distillation.probe("a share of a quarter")
def _(course):
    return one_loss(course, share=0.25, feature_gain=2.0, response_gain=3.0)


@distillation.probe("one of the two, and none")
def _(course):
    return {
        "no feature loss": one_loss(course, feature=None, response_gain=3.0),
        "no response loss": one_loss(course, response=None, feature_gain=2.0),
        "neither": one_loss(course, feature=None, response=None),
    }


@distillation.probe("what the two functions are given")
def _(course):
    given = {}

    def note(name: str):
        def loss(student, teacher):
            lists = {"the student's": student, "the teacher's": teacher}
            given[name] = {
                who: [f"{tuple(t.shape)}, {'with' if t.requires_grad else 'without'} a gradient" for t in maps]
                for who, maps in lists.items()
            }
            return far(student[:1], [student[0].detach()])

        return loss

    one_loss(course, feature=note("feature"), response=note("response"))
    return given


PARTS = "        parts = self.detection(maps, targets)\n"
FEATURE = "self.feature(features, wanted_features) * self.feature_gain * self.share"
RESPONSE = "self.response(maps, wanted_maps) * self.response_gain * self.share"
RETURN = (
    "return DistillationParts(parts.total + feature + response, parts.box, parts.cls, parts.dfl, feature, response)"
)

distillation.misconception(
    "the teacher's losses are never added",
    swap=(RETURN, RETURN.replace("parts.total + feature + response", "parts.total")),
    because="Both are computed, both are in the log, but backward starts at the total: nothing from the teacher "
    "reaches the student. The curves even fall a little, because the labels teach the same. Add them.",
    museum=43,
)
distillation.misconception(
    "the teacher's losses are added and not logged",
    swap=(RETURN, RETURN.replace("feature, response)", "feature.new_zeros(()), response.new_zeros(()))")),
    because="The sum is right, but the log says that the teacher teaches nothing. If a gain is wrong, nobody sees "
    "which. Return each part.",
    museum=43,
)
distillation.misconception(
    "the teacher's losses are detached",
    swap=(RETURN, RETURN.replace("feature + response,", "feature.detach() + response.detach(),")),
    because="The total has the right value and the wrong gradient: only the labels teach. The parts in the sum keep "
    "their graph; the training step detaches those in the log.",
    museum=43,
)
distillation.misconception(
    "the teacher's losses become plain numbers",
    swap=[(FEATURE, f"({FEATURE}).item()"), (RESPONSE, f"({RESPONSE}).item()")],
    because="item() drops the graph: the number is added and teaches nothing. And the program has to wait for the "
    "device at each step. Keep tensors.",
    museum=43,
)
distillation.misconception(
    "the detection loss is left out",
    swap=(RETURN, RETURN.replace("parts.total + feature", "feature")),
    because="The student imitates the teacher and never learns what the teacher does not know: the new classes. Keep "
    "the loss of the labels.",
)
distillation.misconception(
    "the parts are added without the detection gains",
    swap=(RETURN, RETURN.replace("parts.total", "parts.box + parts.cls + parts.dfl")),
    because="A detection loss may weigh its `total` in another way than the parts in the log. Build on the total.",
)
distillation.misconception(
    "the gains are left out",
    swap=[
        (FEATURE, FEATURE.replace(" * self.feature_gain", "")),
        (RESPONSE, RESPONSE.replace(" * self.response_gain", "")),
    ],
    because="A divergence per anchor and class is a thousandth of the detection loss. Without its gain the teacher "
    "has next to no effect.",
)
distillation.misconception(
    "the gains are exchanged",
    swap=[
        (FEATURE, FEATURE.replace("feature_gain", "response_gain")),
        (RESPONSE, RESPONSE.replace("response_gain", "feature_gain")),
    ],
    because="The two losses have very different sizes, and so have their gains. Each loss has its own.",
)
distillation.misconception(
    "the gains are multiplied in twice",
    swap=(
        RETURN,
        RETURN.replace("+ feature + response,", "+ feature * self.feature_gain + response * self.response_gain,"),
    ),
    because="The gain is applied once to the part and once in the sum: a gain of 10 counts as 100, and the log shows "
    "the part with 10. Multiply once, before both.",
)
distillation.misconception(
    "the log shows the parts without their gains",
    swap=[
        (FEATURE, "self.feature(features, wanted_features)"),
        (RESPONSE, "self.response(maps, wanted_maps)"),
        (
            RETURN,
            RETURN.replace(
                "+ feature + response,", "+ self.share * (feature * self.feature_gain + response * self.response_gain),"
            ),
        ),
    ],
    because="The sum is right. But the parts in the log no longer add up to it, so nobody sees which one dominates, "
    "and a falling share does not show. All parts are logged with gains included.",
)
distillation.misconception(
    "the share is left out",
    swap=[(FEATURE, FEATURE.replace(" * self.share", "")), (RESPONSE, RESPONSE.replace(" * self.share", ""))],
    because="A schedule lowers the share and nothing happens: until the end the teacher pulls the student towards its "
    "own mistakes. Multiply both gains by it.",
)
distillation.misconception(
    "the share lowers the feature loss only",
    swap=(RESPONSE, RESPONSE.replace(" * self.share", "")),
    because="share is a factor on both gains. Here it frees the maps, but holds the classes until the end.",
)
distillation.misconception(
    "the share lowers the detection loss too",
    swap=[
        (FEATURE, FEATURE.replace(" * self.share", "")),
        (RESPONSE, RESPONSE.replace(" * self.share", "")),
        (RETURN, RETURN.replace("parts.total + feature + response", "(parts.total + feature + response) * self.share")),
    ],
    because="Then the schedule lowers the whole gradient, like a learning rate, and the balance between labels and "
    "teacher never changes.",
)
distillation.misconception(
    "teacher and student change places",
    swap=[
        (FEATURE, FEATURE.replace("features, wanted_features", "wanted_features, features")),
        (RESPONSE, RESPONSE.replace("maps, wanted_maps", "wanted_maps, maps")),
    ],
    because="A divergence is not symmetric, and the student is the one with a gradient. The student's list comes "
    "first.",
)
distillation.misconception(
    "features and raw maps are exchanged",
    swap=[
        (FEATURE, FEATURE.replace("features, wanted_features", "maps, wanted_maps")),
        (RESPONSE, RESPONSE.replace("maps, wanted_maps", "features, wanted_features")),
    ],
    because="The feature loss is for the maps of the neck, the response loss for the class channels of the head. The "
    "other way round the channels have no classes in them.",
)
distillation.misconception(
    "one map is given where a list is expected",
    swap=(FEATURE, FEATURE.replace("features, wanted_features", "features[0], wanted_features[0]")),
    because="A feature loss loops over a list. It also loops over one tensor: image by image, and takes each for a "
    "map. Its channels are then taken for the batch and its rows for channels; nothing fails. Give the lists.",
    museum=21,
)
distillation.misconception(
    "the whole tuple is given",
    swap=(FEATURE, FEATURE.replace("features, wanted_features", "(images, features), (images, wanted_features)")),
    because="take() returned a pair: images and features. A feature loss that gets the pair compares images with "
    "images and then fails at a list. Give the features.",
    museum=21,
)
distillation.misconception(
    "only the first level is taught",
    swap=[
        (FEATURE, FEATURE.replace("features, wanted_features", "features[:1], wanted_features[:1]")),
        (RESPONSE, RESPONSE.replace("maps, wanted_maps", "maps[:1], wanted_maps[:1]")),
    ],
    because="The finest map sees the small objects only. Give all levels.",
)
distillation.misconception(
    "a loss that is not there is called",
    swap=("        if self.feature:\n            feature =", "        if True:\n            feature ="),
    because="feature=None asks for the response loss alone, and None cannot be called: 'NoneType' object is not "
    "callable. Test before you call.",
)
distillation.misconception(
    "the part of a loss that is not there is a plain zero",
    swap=("parts.total.new_zeros(())", "0.0"),
    because="The sum is right. But the log stacks six tensors, on the device, and a float is none. Make a zero of the "
    "same dtype and device as the total.",
)
distillation.misconception(
    "the student's features are detached",
    swap=(FEATURE, FEATURE.replace("(features,", "([own.detach() for own in features],")),
    because="The value is right, but no gradient reaches the neck: the feature loss has no effect. Only the teacher's "
    "side has no gradient.",
    museum=43,
)
distillation.misconception(
    "the labels are compared with the teacher's maps",
    swap=(PARTS, PARTS.replace("maps, targets", "wanted_maps, targets")),
    because="The detection loss then judges the teacher, which no longer learns. The student never sees a label.",
)
distillation.misconception(
    "the student is compared with itself",
    swap=(RESPONSE, RESPONSE.replace("wanted_maps", "[own.detach() for own in maps]")),
    because="The divergence of a map from itself is 0 and has no gradient: the response loss has no effect from the "
    "first step on. Compare with the teacher's maps.",
)
distillation.misconception(
    "the response loss is forgotten",
    swap=(f"        if self.response:\n            response = {RESPONSE}\n", ""),
    because="The new images show old classes too, and nobody has labelled them: for the detection loss they are "
    "background, and the student is trained not to see them. The feature loss alone does not prevent that; only the "
    "teacher's response says what is there.",
    museum=50,
)
distillation.misconception(
    "feature and response change places in the log",
    swap=(RETURN, RETURN.replace("feature, response)", "response, feature)")),
    because="Somebody who changes a gain watches the wrong curve. The order is that of DistillationParts.",
)
distillation.misconception(
    "the parts of the detection loss are returned alone",
    swap=(RETURN, "return parts._replace(total=parts.total + feature + response)"),
    because="The training is right, but log and curves have no line for the teacher. DistillationParts has two more "
    "fields.",
    museum=43,
)
