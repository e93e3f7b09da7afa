"""Stage 7: a step of training and what goes with it."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from yolostudy.study.exercise import Exercise

from ._fixtures import ramp, seeded, values


class Mix(nn.Module):
    """A 1 x 1 convolution without bias, as a matrix product.

    On maps of a few positions this is faster than torch's convolution.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x.flatten(2)).unflatten(2, x.shape[2:])


class Net(nn.Module):
    """Three parts to freeze: a stem, a neck with a normalisation two levels down, a list of heads.

    The list of heads is never called itself.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(Mix(3, 4), nn.BatchNorm2d(4), nn.Tanh())
        self.neck = nn.Sequential(Mix(4, 5), nn.Sequential(nn.BatchNorm2d(5), nn.Tanh()))
        self.heads = nn.ModuleList(nn.Sequential(Mix(5, 2 + n), nn.BatchNorm2d(2 + n)) for n in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.neck(self.stem(x))
        return torch.cat([head(x) for head in self.heads], dim=1)


def net() -> Net:
    return seeded(Net().float(), train=True)


def moved(model: Net) -> dict[str, list[str]]:
    """Which tensors a step of gradient descent changes, in the model's present mode."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.zero_grad(set_to_none=True)
    y = model(ramp(4, 3, 2, 3).float())
    if y.requires_grad:
        (y * ramp(*y.shape)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    changed = {name: not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()}
    return {
        "moves": [name for name in changed if changed[name]],
        "stays": [name for name in changed if not changed[name]],
    }


# ---- freeze --------------------------------------------------------------------------------------

freeze = Exercise(
    "training.freeze",
    stage=7,
    points=2,
    minutes=15,
    goal="Stop a part of the network from learning, its running statistics too.",
    hints=(
        "A batch normalisation remembers four things. Which two of them does no optimizer ever touch, and what "
        "changes them?",
        "For the weights one call on the whole module is enough. For the statistics find every batch normalisation, "
        "however deep, and make sure that it is in eval mode whenever it runs, whatever was called before.",
        "module.modules() gives the modules of all levels, the module itself included. A function that you register "
        "as a forward pre-hook runs before each forward pass of that layer. The docstring names the function to "
        "register.",
    ),
)


@freeze.probe("the neck is frozen, then the whole model is put in train mode")
def _(course):
    model = net().eval()
    course.training.freeze(model.neck)
    return moved(model.train())


@freeze.probe("what a frozen neck computes")
def _(course):
    model = net()
    course.training.freeze(model.neck)
    return {"a batch": model.neck(3 * ramp(3, 4, 2, 2).float()), "one image": model.neck(3 * ramp(1, 4, 2, 2).float())}


@freeze.probe("a list of layers, and a single normalisation")
def _(course):
    model, other = net(), net()
    course.training.freeze(model.heads)
    course.training.freeze(other.stem[1])
    return {"the heads are frozen": moved(model), "the normalisation of the stem is frozen": moved(other)}


@freeze.probe("frozen twice, unfrozen once")
def _(course):
    model = net()
    for _ in range(2):
        course.training.freeze(model.neck)
    model.train()  # as a trainer does at the start of an epoch
    model(ramp(2, 3, 2, 2).float())
    course.training.unfreeze(model.neck)
    return moved(model)


HOOKS = (
    "    for norm in module.modules():\n        if isinstance(norm, _BatchNorm):\n"
    "            norm.register_forward_pre_hook(_stay_in_eval)\n"
)

freeze.misconception(
    "the running statistics still move",
    swap=(HOOKS, ""),
    because="requires_grad stops the optimizer, but the optimizer never changed the running mean and variance: every "
    "forward pass in training mode does. The frozen backbone gives other maps after each epoch, to weights that "
    "cannot adapt. Keep its batch normalisations in eval mode too.",
    museum=25,
)
freeze.misconception(
    "eval mode is set once",
    swap=("norm.register_forward_pre_hook(_stay_in_eval)", "norm.eval()"),
    because="The trainer calls model.train() at the start of every epoch, and that reaches each layer: from then on "
    "the statistics move again. What must hold at every forward pass has to be set at every forward pass. Register "
    "_stay_in_eval as a forward pre-hook.",
    museum=25,
)
freeze.misconception(
    "requires_grad is set on the module",
    swap=("module.requires_grad_(False)", "module.requires_grad = False"),
    because="A module has no requires_grad. Python makes a new attribute of that name without an error, and the "
    "weights go on learning. Only parameters have one: module.requires_grad_(False), with the underscore, sets it on "
    "all of them.",
)
freeze.misconception(
    "the weights are picked by the beginning of their name",
    swap=(
        "module.requires_grad_(False)",
        'for name, parameter in module.named_parameters():\n        if name.startswith(("stem", "0")):\n'
        "            parameter.requires_grad_(False)",
    ),
    because="The argument is the part to freeze, and its names begin there: within model.backbone no name begins with "
    "backbone, and some other layer may begin with the word that you look for. A layer that does not match goes on "
    "learning, without an error. Freeze all parameters of the module.",
)
freeze.misconception(
    "only the batch normalisations are frozen",
    swap=[
        ("    module.requires_grad_(False)\n", ""),
        (
            "norm.register_forward_pre_hook(_stay_in_eval)",
            "norm.requires_grad_(False).register_forward_pre_hook(_stay_in_eval)",
        ),
    ],
    because="Statistics, scales and shifts stay, but the convolutions between them go on learning: the statistics "
    "soon describe maps that no longer exist. Freeze all parameters of the module.",
)
freeze.misconception(
    "only the direct children are looked at",
    swap=("module.modules()", "(module, *module.children())"),
    because="children() goes one level down. In a backbone the batch normalisations lie deeper, inside ConvModules "
    "inside CSP layers, so hardly any is found. modules() gives all levels.",
    museum=25,
)
freeze.misconception(
    "the whole module gets the hook",
    swap=(HOOKS, "    module.register_forward_pre_hook(_stay_in_eval)\n"),
    because="A hook runs when that very module is called. Lists of layers are never called: their layers are called "
    "one by one, and the statistics move. The hook also switches off a dropout. And unfreeze looks at the "
    "normalisations, so it does not bring them back. Register the hook on each batch normalisation.",
)
freeze.misconception(
    "the momentum of the statistics is set to 0",
    swap=("norm.register_forward_pre_hook(_stay_in_eval)", "norm.momentum = 0.0"),
    because="Mean and variance stay, but in training mode the layer does not use them: it normalises by each batch, "
    "and counts the batches. The frozen part then computes one thing in training and another in evaluation, and "
    "unfreeze never restores the momentum. Only eval mode freezes a batch normalisation.",
)
freeze.misconception(
    "track_running_stats is switched off",
    swap=("norm.register_forward_pre_hook(_stay_in_eval)", "norm.track_running_stats = False"),
    because="The statistics are no longer updated, but in training mode they are no longer used either: each batch is "
    "normalised by itself. The frozen part computes other maps in training than in evaluation. Keep the layer in eval "
    "mode.",
)
freeze.misconception(
    "the forward pass runs without gradient",
    swap=(
        "module.requires_grad_(False)",
        "module.requires_grad_(False)\n    module.forward = torch.no_grad()(module.forward)",
    ),
    because="Frozen weights need no gradient, but the layers before them do: the gradient reaches the stem only "
    "through the neck. Under no_grad the chain is cut, and everything before a frozen part is frozen with it. Leave "
    "the forward pass as it is.",
)


# ---- unfreeze ------------------------------------------------------------------------------------

unfreeze = Exercise(
    "training.unfreeze",
    stage=7,
    points=1,
    minutes=10,
    goal="Undo exactly what freezing did to a part.",
    hints=(
        "Go through what freezing does, line by line, and write the opposite of each. There is one more effect: what "
        "has the hook done to the layer each time it ran?",
        "Each module keeps its forward pre-hooks in a dict, `_forward_pre_hooks`, from a number to a function. Only "
        "`_stay_in_eval` is yours to remove.",
        "Loop over a copy of the dict's items, because you delete from it. A normalisation that had the hook gets the "
        "mode of the module itself: train(mode) takes a bool.",
    ),
)


@unfreeze.probe("frozen, run, unfrozen, and a step of training")
def _(course):
    model = net()
    course.training.freeze(model)
    model(ramp(2, 3, 2, 2).float())
    course.training.unfreeze(model)
    return moved(model)


@unfreeze.probe("unfrozen while the model is in eval mode")
def _(course):
    model = net()
    course.training.freeze(model.neck)
    model(ramp(2, 3, 2, 2).float())
    model.eval()
    course.training.unfreeze(model.neck)
    return {"a step": moved(model), "another, in train mode": moved(model.train())}


@unfreeze.probe("a part of what is frozen")
def _(course):
    model = net()
    course.training.freeze(model)
    model(ramp(2, 3, 2, 2).float())
    course.training.unfreeze(model.heads)
    return moved(model)


@unfreeze.probe("somebody else's hooks")
def _(course):
    model, calls = net(), []
    for name, layer in (("normalisation", model.stem[1]), ("convolution", model.stem[0])):
        layer.register_forward_pre_hook(lambda *_, name=name: calls.append(f"before the {name}"))
        layer.register_forward_hook(lambda *_, name=name: calls.append(f"after the {name}"))
    course.training.freeze(model.stem)
    model.stem[1].register_forward_pre_hook(lambda *_: calls.append("hung on later"))
    course.training.unfreeze(model.stem)
    model(ramp(2, 3, 2, 2).float())
    return {"called": [*calls], "and in training": moved(model)}


NORMS = (
    "    for norm in module.modules():\n        for key, hook in list(norm._forward_pre_hooks.items()):\n"
    "            if hook is _stay_in_eval:\n                del norm._forward_pre_hooks[key]\n"
    "                norm.train(module.training)\n"
)

unfreeze.misconception(
    "the running statistics stay frozen",
    swap=(NORMS, ""),
    because="The weights learn again, but the hooks still put every batch normalisation into eval mode: its "
    "statistics describe the network at the moment when it was frozen, and are further off with each step. Remove the "
    "hooks as well.",
    museum=25,
)
unfreeze.misconception(
    "the normalisations stay in eval mode",
    swap=("                norm.train(module.training)\n", ""),
    because="The hook is gone, but its last effect is not: the layer is still in eval mode until somebody calls "
    "train() on the model. The trainer does that before it calls its hooks, so a whole epoch runs with old "
    "statistics. Put the layer in the mode of the module.",
    museum=25,
)
unfreeze.misconception(
    "train mode is given back without looking",
    swap=("norm.train(module.training)", "norm.train()"),
    because="Somebody may unfreeze between two evaluations, while the model is in eval mode. Its normalisations would "
    "then normalise by batch and learn from the validation images. The module knows its mode: pass its `training` on.",
)
unfreeze.misconception(
    "every hook is removed",
    swap=("if hook is _stay_in_eval:", "if hook:"),
    because="Other code registers hooks on the same layers: a lens that records maps, a counter of operations. They "
    "would stop working without an error. Remove only the function that freezing has registered.",
)
unfreeze.misconception(
    "requires_grad is set on the module",
    swap=("module.requires_grad_(True)", "module.requires_grad = True"),
    because="A module has no requires_grad; Python makes a new attribute of that name, and the weights stay frozen. "
    "The loss still falls a little, because of the parts that are not frozen, which hides the mistake. "
    "module.requires_grad_(True), with the underscore, reaches the parameters.",
)
unfreeze.misconception(
    "only the direct children are looked at",
    swap=("module.modules()", "module.children()"),
    because="children() goes one level down. The batch normalisations of a backbone are deeper, and stay frozen with "
    "their hooks in place. modules() gives all levels.",
    museum=25,
)
unfreeze.misconception(
    "the dict is changed while it is walked through",
    swap=("list(norm._forward_pre_hooks.items())", "norm._forward_pre_hooks.items()"),
    because="A dict must keep its size during a loop over it: after the first deletion Python stops with a "
    "RuntimeError. Loop over a list of its items and delete from the dict.",
)


# ---- WarmupCosine --------------------------------------------------------------------------------

warmup_cosine = Exercise(
    "training.WarmupCosine",
    stage=7,
    points=1,
    minutes=10,
    goal="Raise the learning rate in a straight line, then lower it along half a cosine.",
    hints=(
        "The two factors are independent: one depends on the step, the other on the progress. What is each at the "
        "start, and what at the end?",
        "Step 0 is the first of warmup_steps, so its factor is not 0. After the last of them the factor is 1 and "
        "stays there. The cosine of an angle from 0 to pi runs from 1 to -1: bring that to 1 … 0 first.",
        "From final to 1 is a span of 1 - final. Multiply the cosine by that span and add it to final. A warm-up of "
        "no steps must not divide by 0.",
    ),
)


@warmup_cosine.probe("the first steps, with no progress yet")
def _(course):
    schedule = course.training.WarmupCosine(warmup_steps=8, final=0.1)
    return {f"step {step}": schedule(step, 0.0) for step in (0, 1, 3, 6, 7, 8, 20)}


@warmup_cosine.probe("after the warm-up, from start to end")
def _(course):
    schedule = course.training.WarmupCosine(warmup_steps=8, final=0.1)
    return {f"progress {progress}": schedule(100, progress) for progress in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)}


@warmup_cosine.probe("a warm-up that reaches into the descent")
def _(course):
    schedule = course.training.WarmupCosine(warmup_steps=50, final=0.02)
    return {f"step {step} of 100": schedule(step, step / 100) for step in (40, 20, 30, 60)}


@warmup_cosine.probe("a warm-up of one step, and of none")
def _(course):
    return {
        f"{steps} steps": [course.training.WarmupCosine(steps, 0.2)(step, 0.5) for step in (0, 1)] for steps in (1, 0)
    }


COSINE = "self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2"

warmup_cosine.misconception(
    "the first step stands still",
    swap=("(step + 1) / max(1, self.warmup_steps)", "step / max(1, self.warmup_steps)"),
    because="Steps count from 0, so the first step would have a learning rate of 0: its batch is read for nothing, "
    "and a warm-up of 60 steps ends at the 61st. Step 0 is the first of warmup_steps: count it.",
)
warmup_cosine.misconception(
    "the warm-up does not end",
    swap=("min(1.0, (step + 1) / max(1, self.warmup_steps))", "(step + 1) / max(1, self.warmup_steps)"),
    because="The straight line goes on: after ten times the warm-up the rate is ten times too high, and the loss "
    "turns to NaN somewhere in the first epochs. Stop at 1.",
)
warmup_cosine.misconception(
    "the warm-up divides in whole numbers",
    swap=("(step + 1) / max", "(step + 1) // max"),
    because="// rounds down: the rate is 0 until the last step of the warm-up and then jumps to its full height, and "
    "the warm-up is there to avoid exactly that. Divide with /.",
)
warmup_cosine.misconception(
    "the cosine falls to 0",
    swap=(COSINE, "(1 + math.cos(math.pi * progress)) / 2"),
    because="At a rate of 0 the last epochs change nothing and cost as much as the others. Let the cosine run from 1 "
    "to final.",
)
warmup_cosine.misconception(
    "final is added on top",
    swap=("(1 - self.final) * ", ""),
    because="The factor then starts at 1 + final, above the rate that was asked for: with a final of 0.1 training "
    "starts 10 % too fast. The cosine has to span only the range from final to 1.",
)
warmup_cosine.misconception(
    "final is a floor under the cosine",
    swap=(COSINE, "max(self.final, (1 + math.cos(math.pi * progress)) / 2)"),
    because="The curve is cut off where it would fall below final, so the last epochs run at one constant rate, after "
    "a sharp bend. Shrink the cosine into the span from 1 to final instead.",
)
warmup_cosine.misconception(
    "the cosine is not halved",
    swap=("(1 + math.cos(math.pi * progress)) / 2", "(1 + math.cos(math.pi * progress))"),
    because="1 + cos runs from 2 to 0, so training begins at almost twice the rate that was asked for. Half of it runs "
    "from 1 to 0.",
)
warmup_cosine.misconception(
    "the cosine is a whole one",
    swap=("math.pi * progress", "2 * math.pi * progress"),
    because="A whole cosine goes down and up again: the last step has the highest rate of all, and destroys what the "
    "quiet middle has learned. Half a cosine ends at an angle of pi.",
)
warmup_cosine.misconception(
    "the angle is in degrees",
    swap=("math.pi * progress", "180 * progress"),
    because="math.cos wants radians. With 180 in place of pi the rate swings up and down some thirty times in one "
    "training. Use math.pi.",
)
warmup_cosine.misconception(
    "the cosine rises",
    swap=("(1 + math.cos", "(1 - math.cos"),
    because="1 - cos runs from 0 to 2: the rate starts at its lowest, and is highest when the network should settle. "
    "cos(0) is 1: add it.",
)
warmup_cosine.misconception(
    "the smaller of the two factors counts",
    swap=("return warmup * cosine", "return min(warmup, cosine)"),
    because="If the warm-up is short both give the same, because one of the two factors is then nearly 1. If it "
    "overlaps with the descent, both factors should slow the step, and the smaller one alone does not. Multiply them, "
    "as the docstring says.",
)


# ---- ExponentialMovingAverage --------------------------------------------------------------------

moving_average = Exercise(
    "training.ExponentialMovingAverage",
    stage=7,
    points=2,
    minutes=15,
    goal="Keep a slow copy of the network, weights and statistics alike.",
    hints=(
        "state_dict() holds weights and buffers under the same names in both models. Its tensors share their memory "
        "with the model: if you change one in place, the model changes.",
        "Count the update first. The weight of the old average is the decay times a ramp that starts near 0 and ends "
        "at 1. Some of the tensors are whole numbers: what should become of them?",
        "The new average is d times the old one plus 1 - d times the model's; lerp_ moves one tensor towards another "
        "by a given fraction. If is_floating_point() says no, copy_ the model's value.",
    ),
)


class Worker(nn.Module):
    """A tensor of each kind: weights, running statistics, torch's counter of batches, a mask."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([True, False, False]))


def worker(turn: int = 0) -> Worker:
    model = seeded(Worker().float())
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                tensor.add_(turn * (2 + number % 3))
    model.norm.num_batches_tracked.fill_(41 * turn)
    model.mask.copy_(torch.tensor([turn == 0, turn == 1, turn > 0]))
    return model


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@moving_average.probe("one update, then a second and a third")
def _(course):
    average = course.training.ExponentialMovingAverage(worker(), decay=0.9, ramp=2.0)
    seen = {}
    for turn in (1, 2, 1):
        average.update(worker(turn))
        seen[f"update {len(seen) + 1}"] = {name: t for name, t in state(average.model).items() if t.is_floating_point()}
    return seen


@moving_average.probe("counters and masks")
def _(course):
    average = course.training.ExponentialMovingAverage(worker(), decay=0.5, ramp=0.01)
    average.update(worker(1))
    average.update(worker(2))
    return {"batches counted": average.model.norm.num_batches_tracked, "mask": average.model.mask}


@moving_average.probe("an average that has seen 400 updates before")
def _(course):
    average = course.training.ExponentialMovingAverage(worker(), decay=0.8, ramp=300.0)
    average.updates = 400
    average.update(worker(1))
    return {"weight": average.model.linear.weight, "updates": average.updates}


@moving_average.probe("whoever holds the average, and the model that is averaged")
def _(course):
    first, model = worker(), worker(1)
    average = course.training.ExponentialMovingAverage(first, decay=0.9, ramp=2.0)
    held, weight = average.model, average.model.linear.weight
    average.update(model)
    after = state(model)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()  # the model goes on learning; the average must not change with it
    return {
        "the average, held since the start": {
            "weight": held.linear.weight,
            "running mean": held.norm.running_mean,
            "mask": held.mask,
        },
        "its weight, held since the start": weight,
        "the model after the update": after,
        "the copied model": state(first),
        "mode and gradients of the average": [
            average.model.training,
            any(p.requires_grad for p in average.model.parameters()),
        ],
    }


moving_average.misconception(
    "counters are averaged with the rest",
    swap=("[name for name, tensor in average.items() if tensor.is_floating_point()]", "list(average)"),
    because="state_dict() also holds num_batches_tracked, a whole number, and torch refuses to average it. Ask each "
    "tensor is_floating_point(), and copy those that say no.",
    museum=26,
)
moving_average.misconception(
    "counters are averaged and rounded down",
    swap=(
        "average[name].copy_(current[name])",
        "average[name].copy_(decay * average[name] + (1 - decay) * current[name])",
    ),
    because="A whole number cannot move by a small step: 0.999 times the old count plus 0.001 times the new one is "
    "cut off to a whole number again, so the counter lags or never moves. There is no error. Copy what is not "
    "floating-point.",
    museum=26,
)
moving_average.misconception(
    "counters are left behind",
    swap=("            average[name].copy_(current[name])\n", "            pass\n"),
    because="The average keeps the counters of the moment when it was made, and its checkpoint says that its batch "
    "normalisations have seen no batch. They cannot be averaged, but they can be copied.",
    museum=26,
)
moving_average.misconception(
    "only the parameters are averaged",
    swap=(
        "[name for name, tensor in average.items() if tensor.is_floating_point()]",
        "[name for name, _ in self.model.named_parameters()]\n        average = {name: average[name] for name in "
        "floating}",
    ),
    because="Running means and variances are buffers, not parameters. The average keeps those of an untrained network "
    "beside trained weights, and its mAP stays low while the loss falls. state_dict() holds both.",
    museum=41,
)
moving_average.misconception(
    "the running statistics are copied instead of averaged",
    swap=(
        "[name for name, tensor in average.items() if tensor.is_floating_point()]",
        "[name for name, _ in self.model.named_parameters()]",
    ),
    because="The statistics of the newest weights then stand beside averaged weights, which give other maps. The "
    "statistics are floating-point: average them by the same rule.",
)
moving_average.misconception(
    "old and new change places",
    swap=("1 - decay)\n        for", "decay)\n        for"),
    because="The average then takes 99.9 % of the newest model and keeps 0.1 % of itself: it is the model, one step "
    "late. The decay is the weight of the old average; lerp_ wants the fraction to move.",
)
moving_average.misconception(
    "the ramp is left out",
    swap=("self.decay * (1 - math.exp(-self.updates / self.ramp))", "self.decay"),
    because="With 0.999 from the start the average still holds 37 % of the random weights after a thousand steps: a "
    "short training is judged by a network that has hardly moved. Let the decay grow.",
)
moving_average.misconception(
    "the ramp is a straight line",
    swap=("(1 - math.exp(-self.updates / self.ramp))", "min(1.0, self.updates / self.ramp)"),
    because="With a straight line the decay has its full value after `ramp` updates, but the docstring says 63 %, "
    "which is 1 - 1/e. Use the exponential.",
)
moving_average.misconception(
    "the update is counted afterwards",
    swap=[
        ("        self.updates += 1\n", ""),
        (
            "            average[name].copy_(current[name])\n",
            "            average[name].copy_(current[name])\n        self.updates += 1\n",
        ),
    ],
    because="At the first update the ramp is then exactly 0, nothing of the average stays, and each later decay is "
    "one step late. `updates` counts this update already: add 1 first.",
)
moving_average.misconception(
    "the updates are not counted",
    swap=("        self.updates += 1\n", ""),
    because="The ramp stays at 0 for ever, and so does the decay: the average is a plain copy of the model, and costs "
    "as much as an average. Count each update.",
)
moving_average.misconception(
    "a new model takes the place of the average",
    swap=(
        "average, current = self.model.state_dict(), model.state_dict()",
        "self.model = copy.deepcopy(self.model)\n        average, current = self.model.state_dict(), "
        "model.state_dict()",
    ),
    because="An evaluator or a saving hook that was given the average before holds the old object. It measures the "
    "same weights epoch after epoch, and the average is never used. Change the tensors in place.",
    museum=27,
)
moving_average.misconception(
    "the model is moved instead of its average",
    swap=(
        "[average[name] for name in floating], [current[name] for name in floating]",
        "[current[name] for name in floating], [average[name] for name in floating]",
    ),
    because="lerp_ changes its first argument. Here that is the network in training: at every step it is pulled back "
    "to where it started, while the average stays. Put the average first.",
)


# ---- train_step ----------------------------------------------------------------------------------

train_step = Exercise(
    "training.train_step",
    stage=7,
    points=3,
    minutes=25,
    goal="Write the step that everything else in training serves: forward, loss, backward, update.",
    hints=(
        "There are two parts. The first runs for each batch: forward, loss, backward. The second runs only when "
        "`accumulate` batches are complete: which steps are those, if step counts from 0?",
        "Gradients add up until they are cleared, so for the mean over `accumulate` batches each loss has to be "
        "divided. Only the forward pass runs under precision.autocast(). precision.scaler does nothing in float32, so "
        "you may always call it.",
        "The scaler scales the loss before backward. When an update is due: let it unscale the gradients, clip their "
        "common norm, let it step the optimizer, update it, clear the gradients.",
    ),
)


class Line(nn.Module):
    """Two numbers for each image, from a weight and a bias."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(values(12, 2, low=-1, high=1, seed=5).float())
        self.bias = nn.Parameter(torch.tensor([0.5, -0.25], dtype=torch.float32))
        self.seen: list[str] = []

    def forward(self, images: Tensor) -> list[Tensor]:
        self.seen.append(f"autocast {'on' if torch.is_autocast_enabled('cpu') else 'off'}")
        return [images.flatten(1) @ self.weight + self.bias]


class Descent:
    """Gradient descent with momentum.

    Torch's own optimizers import for seconds when first used, once a process.
    """

    def __init__(self, parameters, rate: float = 0.1, momentum: float = 0.0):
        self.param_groups, self.rate, self.momentum = [{"params": [*parameters], "lr": rate}], rate, momentum
        self.velocity = [torch.zeros_like(parameter) for parameter in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self) -> None:
        for parameter, velocity in zip(self.param_groups[0]["params"], self.velocity, strict=True):
            if parameter.grad is not None:
                velocity.mul_(self.momentum).add_(parameter.grad)
                parameter.sub_(self.rate * velocity)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.param_groups[0]["params"]:
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad.zero_()


class Loss(nn.Module):
    """Squared distance of the numbers from the targets, times `steep`."""

    def __init__(self, parts: type, steep: float = 1.0):
        super().__init__()
        self.parts, self.steep, self.seen = parts, steep, []

    def forward(self, maps: list[Tensor], targets: Tensor):
        self.seen.append(f"autocast {'on' if torch.is_autocast_enabled('cpu') else 'off'}, maps in {maps[0].dtype}")
        box = (maps[0].float() - targets[:, 4:]).square().mean() * self.steep
        cls, dfl = maps[0].float().abs().mean() * self.steep, maps[0].float().sum() * self.steep
        return self.parts(box + 0.5 * cls + 0.1 * dfl, box, cls, dfl)


def batch(number: int) -> SimpleNamespace:
    images = values(2, 3, 2, 2, low=0, high=255, seed=40 + number).to(torch.uint8)
    return SimpleNamespace(images=images, targets=values(2, 6, low=-2, high=2, seed=60 + number).float())


def run(course, steps: int, steep: float = 1.0, momentum: float = 0.0, **settings) -> dict:
    """Do some steps; the weights and the loss after each."""
    model, loss = Line(), Loss(course.training.LossParts, steep)
    optimizer = Descent(model.parameters(), momentum=momentum)
    seen = {}
    for step in range(steps):
        parts = course.training.train_step(model, loss, batch(step), optimizer, step=step, **settings)
        seen[f"after step {step}"] = {
            "weight": model.weight.detach().clone(),
            "bias": model.bias.detach().clone(),
            "loss": parts.total,
        }
    return seen


def scaled() -> SimpleNamespace:
    """Float32 with a gradient scaler, as float16 needs on a graphics card.

    The scaler doubles its scale after two updates without an overflow.
    """
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    return SimpleNamespace(name="fp32", device=torch.device("cpu"), autocast=contextlib.nullcontext, scaler=scaler)


@train_step.probe("three steps, an update at each")
def _(course):
    return run(course, 3, momentum=0.5, clip=1e6)


@train_step.probe("steep losses, clipped")
def _(course):
    return run(course, 2, steep=50.0, clip=0.5)


@train_step.probe("six steps, an update at every third")
def _(course):
    return run(course, 6, clip=1e6, accumulate=3)


@train_step.probe("with a gradient scaler")
def _(course):
    precision = scaled()
    seen = run(course, 4, steep=3.0, clip=0.5, accumulate=2, precision=precision)
    return seen | {"scale at the end": precision.scaler.get_scale()}


@train_step.probe("with a gradient scaler, and a loss that overflows")
def _(course):
    precision = scaled()
    return run(course, 1, steep=1e37, precision=precision) | {"scale": precision.scaler.get_scale()}


@train_step.probe("number formats in bfloat16")
def _(course):
    model, loss = Line(), Loss(course.training.LossParts)
    optimizer = Descent(model.parameters())
    precision = course.training.Precision("cpu", "bf16")
    course.training.train_step(model, loss, batch(0), optimizer, precision)
    return {"the model": model.seen, "the loss": loss.seen}


CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), clip)\n"
CLEAR = "        optimizer.zero_grad(set_to_none=True)\n"
BACKWARD = "    precision.scaler.scale(parts.total / accumulate).backward()\n"

train_step.misconception(
    "the gradients are never cleared",
    swap=(CLEAR, ""),
    because="backward adds to the gradients that are already there. Each step then follows the sum of all gradients "
    "since the start, and the loss swings more and more. Clear them after each update.",
)
train_step.misconception(
    "the gradients are cleared before the update",
    swap=[(CLEAR, ""), (BACKWARD, BACKWARD + "    optimizer.zero_grad(set_to_none=True)\n")],
    because="The gradients that backward has just computed are thrown away before the optimizer reads them: no weight "
    "ever moves. Clear after the update.",
)
train_step.misconception(
    "the gradients are cleared at every batch",
    swap=[(CLEAR, ""), (BACKWARD, "    optimizer.zero_grad(set_to_none=True)\n" + BACKWARD)],
    because="With accumulate=1 nothing shows. With more, only the last batch of each group counts, divided by the "
    "size of the group: a small card trains on a fraction of its images. Clear once for each update.",
)
train_step.misconception(
    "the update comes before backward",
    swap=[
        (BACKWARD, ""),
        (CLEAR, CLEAR + BACKWARD),
    ],
    because="The optimizer sees the gradients of the batch before, and at the first step none at all. Forward, loss, "
    "backward, update.",
)
train_step.misconception(
    "the loss is not divided by the number of batches",
    swap=("parts.total / accumulate", "parts.total"),
    because="Gradients of several batches add up, so four batches make a step four times as long, and the same "
    "learning rate means something else on each machine. Divide each loss by accumulate.",
)
train_step.misconception(
    "the first step of each group updates",
    swap=("(step + 1) % accumulate == 0", "step % accumulate == 0"),
    because="Step 0 is divisible by accumulate, so the first update is made from one batch, and the last batches of "
    "an epoch make none. An update is due when a group is full: after step accumulate - 1.",
)
train_step.misconception(
    "every batch updates",
    swap=("if (step + 1) % accumulate == 0:", "if True:"),
    because="Each batch takes a step of a fraction of the length, and nothing is accumulated: the noise of small "
    "batches stays. Update only when `accumulate` batches are complete.",
)
train_step.misconception(
    "the gradients are not clipped, or too late",
    swap=(CLIP, ""),
    because="One batch with a crowded image or a bad label can have a gradient a hundred times as long as the others, "
    "and one step along it ruins the weights. Clip the common norm of all gradients, after backward and before the "
    "optimizer reads them.",
)
train_step.misconception(
    "each value is clipped by itself",
    swap=("nn.utils.clip_grad_norm_(", "nn.utils.clip_grad_value_("),
    because="Clipping single numbers turns the step into another direction, and its length still grows with the "
    "number of weights. clip is the maximum norm of all gradients together: clip_grad_norm_ shortens the step and "
    "keeps its direction.",
)
train_step.misconception(
    "each parameter is clipped by itself",
    swap=(
        CLIP,
        "        for parameter in model.parameters():\n            nn.utils.clip_grad_norm_(parameter, clip)\n",
    ),
    because="Two hundred tensors with a norm of 10 each make a step fourteen times as long as allowed, and in another "
    "direction. Clip the norm of all of them together.",
)
train_step.misconception(
    "clipped while still scaled",
    swap=("        precision.scaler.unscale_(optimizer)\n", ""),
    because="Gradients of a scaled loss are thousands of times too long. All are cut to the clip and then divided by "
    "the scale, so the steps are next to nothing. In float32 and bfloat16 nothing shows. Unscale first.",
)
train_step.misconception(
    "the loss is not scaled",
    swap=("precision.scaler.scale(parts.total / accumulate).backward()", "(parts.total / accumulate).backward()"),
    because="The scaler divides the gradients by a factor that the loss was never multiplied by. The steps are far "
    "too short, and float16 loses the small gradients that the scale should have saved. In float32 and bfloat16 "
    "nothing shows. Scale the loss before backward.",
)
train_step.misconception(
    "the optimizer steps without asking the scaler",
    swap=("precision.scaler.step(optimizer)", "optimizer.step()"),
    because="The scaler skips a step whose gradients have overflowed. If the optimizer steps by itself, one such "
    "batch makes every weight NaN. Let precision.scaler step the optimizer.",
)
train_step.misconception(
    "the scale is never adjusted",
    swap=("        precision.scaler.update()\n", ""),
    because="The scaler finds its scale by trying: up after a while without overflow, down after one. Without "
    "update() it also believes that the optimizer has stepped already, and stops at the next unscale_. Call it after "
    "each step.",
)
train_step.misconception(
    "the loss computes under autocast too",
    swap=("    parts = loss(maps, targets)", "        parts = loss(maps, targets)"),
    because="Box coordinates need more than the three digits of bfloat16. Under autocast the matrix products inside "
    "the loss, such as the expected distance, are computed in it even if the maps were made float32. Only the forward "
    "pass belongs there.",
)
train_step.misconception(
    "autocast is left out",
    swap=("    with precision.autocast():\n        maps = model(images)", "    maps = model(images)"),
    because="Everything is computed in float32, whatever was asked for: a graphics card then needs more memory and "
    "more time, without an error. Put the forward pass under precision.autocast().",
)
train_step.misconception(
    "one part of the loss goes backward",
    swap=("parts.total / accumulate", "parts.box / accumulate"),
    because="Only the boxes learn. The class loss is printed, and never falls. Call backward on the total.",
)
