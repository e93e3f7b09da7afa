"""Rooms of training.

A mistake that no exercise of stage 7 names brings its own patch, or two functions.
"""

import random

import numpy as np
import torch
from torch import nn

from yolostudy.study import package
from yolostudy.study.museum import Room

AVERAGE = "training.ExponentialMovingAverage"


def train_frozen() -> tuple:
    return learn(freeze=True)


def train_all() -> tuple:
    return learn(freeze=False)


frozen_from_scratch = Room(
    16,
    "the loss is flat",
    "The backbone was frozen for a hundred epochs, and it held no pretrained weights: the rest of the network sees "
    "noise that never gets better. Freeze only a part that already knows something, and look at the gradient of each "
    "part before you look at hyper-parameters.",
    broken=train_frozen,
    fixed=train_all,
    diary=True,
)


def learn(freeze: bool, steps: int = 40):
    """Let a small network learn by heart which 8 of 16 noisy images are meant.

    Returns its losses, and the norm of each part's last gradient.
    """
    course = package("reference")
    images, answers = torch.rand(16, 3, 16, 16), torch.arange(16) % 2.0
    backbone = nn.Sequential(
        course.blocks.ConvModule(3, 8, 3, 2), course.blocks.ConvModule(8, 8, 3, 2), nn.AdaptiveAvgPool2d(1)
    )
    model = nn.Sequential(backbone, nn.Flatten(), nn.Linear(8, 1))
    if freeze:
        course.training.freeze(backbone)
    optimizer, losses = course.training.build_optimizer(model, 0.03), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(images)[:, 0], answers)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    norms = {
        name: sum(p.grad.norm().item() for p in model[part].parameters() if p.grad is not None)
        for name, part in PARTS.items()
    }
    return losses, norms


PARTS = {"backbone": 0, "head": 2}


@frozen_from_scratch.look
def _(train):
    losses, _ = train()
    return losses[-1] > 0.8 * losses[0], f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps"


@frozen_from_scratch.find("the gradient norm of each part")
def _(train):
    return "\n".join(f"{name:<9} {norm:.3g}" for name, norm in train()[1].items())


moving_statistics = Room(
    25, "a frozen network still changes its answers", mistake=("training.freeze", "the running statistics still move")
)


def moved(course) -> list[str]:
    """Names of the buffers and weights that a forward pass changes in a frozen layer."""
    layer = course.blocks.ConvModule(3, 4)
    course.training.freeze(layer)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.train()(torch.rand(4, 3, 8, 8))
    return [name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, before[name])]


@moving_statistics.look
def _(course):
    return moved(course), f"{len(moved(course))} tensors moved while frozen"


@moving_statistics.find("comparing the state before and after")
def _(course):
    return ", ".join(moved(course))


a_counter = Room(26, "the average's counter stands still", mistake=(AVERAGE, "counters are averaged and rounded down"))


def averaged(course):
    """A layer after three passes, and its average."""
    model = course.blocks.ConvModule(3, 4).train()
    average = course.training.ExponentialMovingAverage(model, decay=0.9, ramp=1)
    for _ in range(3):
        model(torch.rand(4, 3, 8, 8))
        average.update(model)
    return model.bn, average.model.bn


@a_counter.look
def _(course):
    model, average = averaged(course)
    counts = model.num_batches_tracked.item(), average.num_batches_tracked.item()
    return counts[0] != counts[1], f"batches seen by the model {counts[0]}, by its average {counts[1]}"


@a_counter.find("the dtype of each buffer")
def _(course):
    return "\n".join(f"{name:<20} {buffer.dtype}" for name, buffer in averaged(course)[1].named_buffers())


unused_average = Room(
    27, "the average changes nothing", mistake=(AVERAGE, "a new model takes the place of the average")
)


def measure(course):
    """Give an evaluator the average before training, and look at it afterwards.

    Returns the weights before training, the evaluated model, and the model of the average.
    """
    model = nn.Linear(2, 1)
    average = course.training.ExponentialMovingAverage(model, decay=0.9, ramp=1)
    evaluated = average.model
    first = evaluated.weight.clone()
    for _ in range(5):
        with torch.no_grad():
            model.weight += 1
        average.update(model)
    return first, evaluated, average.model


@unused_average.look
def _(course):
    first, evaluated, _ = measure(course)
    change = (evaluated.weight - first).abs().max().item()
    return change == 0, f"after five updates the evaluated weights have moved by {change:.3g}"


@unused_average.find("the identity of the evaluated model")
def _(course):
    _, evaluated, average = measure(course)
    return f"the evaluated model is the average: {evaluated is average}"


no_statistics = Room(
    41, "mAP of training and of validation disagree", mistake=(AVERAGE, "only the parameters are averaged")
)


def trained(course):
    """A layer that has seen 120 bright batches, and its average, which validation evaluates."""
    model = course.blocks.ConvModule(3, 4).train()
    average = course.training.ExponentialMovingAverage(model, decay=0.9, ramp=1)
    for _ in range(120):
        model(5 + torch.rand(4, 3, 8, 8))
        average.update(model)
    return model.eval(), average.model


@no_statistics.look
def _(course):
    model, average = trained(course)
    images = 5 + torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        apart = (model(images) - average(images)).abs().max().item()
    return apart > 1, f"the same images, the same weights: answers differ by {apart:.2f}"


@no_statistics.find("a table of the two states")
def _(course):
    states = [module.state_dict() for module in trained(course)]
    apart = {name: (states[0][name] - states[1][name]).abs().max().item() for name in states[0]}
    return "\n".join(f"{name:<24} differs by {value:.3g}" for name, value in apart.items())


always_mixed = Room(
    31,
    "mixed precision where nobody asked for it",
    'A torch.device is never equal to a string, so `device != "cpu"` is true on the CPU as well, and mixed precision '
    "is always on. On cards that are bad at float16 the result is a NaN. Compare `device.type`, or better: ask which "
    "precision was chosen.",
    patch=("training.Precision", ('enabled=self.name != "fp32"', 'enabled=self.device != "cpu"')),
)


@always_mixed.look
def _(course):
    with course.training.Precision("cpu", "fp32").autocast():
        dtype = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    return dtype != torch.float32, f"fp32 was asked for, a product is {dtype}"


@always_mixed.find("the state of autocast inside the block")
def _(course):
    device = torch.device("cpu")
    with course.training.Precision(device, "fp32").autocast():
        return f"autocast is on: {torch.is_autocast_enabled('cpu')}\ntorch.device('cpu') != 'cpu': {device != 'cpu'}"


def chosen_by_itself() -> dict:
    return {"optimizer": "auto"}


def chosen_by_name() -> dict:
    return {"optimizer": "SGD"}


ignored_rate = Room(
    38,
    "the learning rate is ignored",
    "Ultralytics' default is optimizer=auto: it chooses the optimizer, the learning rate and the momentum by the "
    "number of steps. The lr0 of the user is dropped, with one line in the log. Name the optimizer.",
    broken=chosen_by_itself,
    fixed=chosen_by_name,
)


def groups(settings: dict) -> list[dict]:
    """The groups that Ultralytics' trainer makes for a network, when lr0=0.5 is asked for."""
    from yolostudy.bridge import scenes

    with scenes.trainer("detect", images=1, lr0=0.5, **settings) as trainer:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        return trainer.build_optimizer(network, trainer.args.optimizer, trainer.args.lr0, iterations=100).param_groups


@ignored_rate.look
def _(settings):
    rates = {group["lr"] for group in groups(settings())}
    return rates != {
        0.5
    }, f"lr0=0.5 was asked for, the optimizer has {', '.join(f'{rate:g}' for rate in sorted(rates))}"


@ignored_rate.find("printing the groups of the optimizer")
def _(settings):
    return "\n".join(
        f"{len(group['params'])} tensors, lr {group['lr']:g}, weight decay {group['weight_decay']:g}"
        for group in groups(settings())
    )


def unseeded(seed: int, worker: int) -> float:
    return np.random.default_rng().random()


def fixed_inside(seed: int, worker: int) -> float:
    return random.Random(0).random()


def seeded(seed: int, worker: int) -> float:
    return np.random.default_rng((seed, worker)).random()


seeds = Room(
    40,
    "two runs differ, or all seeds agree",
    "A worker that takes its seed from the operating system differs in every run. A worker with a fixed seed gives "
    "every run and every worker the same pictures. Derive each generator from the seed of the run, the epoch and the "
    "sample.",
    broken=(unseeded, fixed_inside),
    fixed=(seeded,),
)


def drawn(draw, seed: int) -> list[float]:
    return [draw(seed, worker) for worker in range(3)]


@seeds.look
def _(draws):
    ill, said = False, []
    for draw in draws:
        again, other = drawn(draw, 3) == drawn(draw, 3), drawn(draw, 3) == drawn(draw, 4)
        ill |= not again or other
        said.append(
            f"{draw.__name__}: two runs of seed 3 {'agree' if again else 'differ'}, seeds 3 and 4 "
            f"{'agree' if other else 'differ'}"
        )
    return ill, "\n".join(said)


@seeds.find("what each of three workers draws")
def _(draws):
    return "\n".join(f"{draw.__name__:<13}{', '.join(f'{value:.3f}' for value in drawn(draw, 3))}" for draw in draws)
