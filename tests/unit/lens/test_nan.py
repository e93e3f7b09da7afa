"""The NaN microscope names the line, cries no wolf and leaves nothing behind.

Each scene is a small program; the comment BORN stands on the line that the microscope has to name.
"""

import inspect
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.overrides import _get_current_function_mode_stack as modes
from torch.utils.checkpoint import checkpoint

from yolostudy.canvas import style
from yolostudy.lens.nan import gradients as nan_gradients
from yolostudy.lens.nan import microscope as nan_microscope
from yolostudy.lens.nan.finding import folded
from yolostudy.lens.nan.microscope import NaNMicroscope
from yolostudy.lens.nan.picture import draw_finding
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.training import Precision, build_optimizer, train_step

HERE = Path(__file__)
SCENES = {}


def scene(kind="birth", phase="forward", reaches="the loss"):
    """A program; what `microscope.finding` has to say of it."""

    def register(function):
        SCENES[function.__name__] = (function, kind, phase, reaches)
        return function

    return register


def marked(function, word: str = "# BORN") -> int:
    lines, first = inspect.getsourcelines(function)
    (at,) = [number for number, line in enumerate(lines) if word in line]
    return first + at


def leaf(*values, **options):
    return torch.tensor(values, requires_grad=True, **options)


# ---- scenes --------------------------------------------------------------------------------------


@scene()
def logits_to_a_power():
    logits = leaf(-2.0, 0.5, 3.0)
    overlap = torch.rand(3)
    metric = logits**0.5 * overlap**6  # BORN
    metric.sum().backward()


@scene()
def zero_by_zero():
    score, total = leaf(0.0, 0.0), torch.zeros(2)
    share = score / total  # BORN
    (share * 2).sum().backward()


@scene()
def an_empty_target_sum():
    class Loss(nn.Module):
        def forward(self, box, scores):
            weight = scores.sum()
            box = (box * 7.5).sum()
            return box / weight  # BORN

    Loss()(leaf(1.0, 2.0), torch.zeros(3)).backward()


@scene()
def log_of_zero():
    p = leaf(0.2, 0.0, 0.8)
    entropy = -(p * torch.log(p)).sum()  # BORN
    entropy.backward()


@scene(phase="backward", reaches="the gradients")
def sqrt_at_zero_backward():
    difference = leaf(0.0, 0.0)
    squares = (difference * difference).sum()
    distance = squares.sqrt()  # BORN
    (distance + 1).backward()


@scene(phase="backward", reaches="the gradients")
def a_power_at_zero_backward():
    (leaf(0.0, 1.0) ** 0.5).sum().backward()  # BORN


@scene(phase="backward", reaches="the gradients")
def the_angle_at_one_backward():
    cosine = F.cosine_similarity(leaf([1.0, 0.0]), torch.tensor([[1.0, 0.0]]))
    angle = cosine.acos()  # BORN
    angle.sum().backward()


@scene(phase="backward", reaches="the gradients")
def where_protects_no_gradient():
    x = leaf(0.0, 4.0)
    root = torch.sqrt(x)  # BORN
    torch.where(x > 0, root, torch.zeros(())).sum().backward()


@scene()
def exp_overflows():
    logits = leaf(3.0, 91.0)
    weights = logits.exp()  # BORN
    (weights / weights.sum()).sum().backward()


@scene()
def fp16_overflows():
    features = leaf(300.0, 2.0, dtype=torch.float16)
    energy = features * features  # BORN
    energy.float().mean().backward()


@scene()
def a_cast_overflows():
    large = leaf(1e6) * 2
    small = large.half()  # BORN
    small.float().sum().backward()


@scene()
def autocast_overflows():
    torch.manual_seed(0)
    layer, images = nn.Linear(8, 4), torch.full((2, 8), 3e4)
    nn.init.constant_(layer.weight, 1.0)
    with torch.autocast("cpu", dtype=torch.float16):
        out = layer(images)  # BORN
        loss = out.float().mean()
    loss.backward()


@scene()
def bf16_overflows_in_a_convolution():
    conv = nn.Conv2d(3, 4, 3)
    nn.init.constant_(conv.weight, 1e20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(torch.full((1, 3, 8, 8), 1e20))  # BORN
    out.float().sum().backward()


@scene()
def softmax_of_minus_infinity():
    scores = leaf([1.0, 2.0], [3.0, 4.0])
    blocked = torch.tensor([[False, True], [True, True]])
    scores = scores.masked_fill(blocked, -math.inf)
    attention = scores.softmax(dim=-1)  # BORN
    attention.sum().backward()


@scene()
def attention_over_padding_alone():
    q = torch.randn(1, 3, 4, requires_grad=True)
    mask = torch.zeros(3, 3)
    mask[2] = -torch.inf
    weights = F.softmax(q @ q.transpose(1, 2) + mask, dim=-1)  # BORN
    (weights @ q).sum().backward()


@scene()
def division_by_a_norm():
    direction = leaf([3.0, 4.0], [0.0, 0.0])
    unit = direction / direction.norm(dim=1, keepdim=True)  # BORN
    unit.sum().backward()


@scene()
def std_of_one_sample():
    batch = torch.rand(1, 4, requires_grad=True)
    centred = batch - batch.mean(0)
    whitened = centred / batch.std(dim=0)  # BORN
    whitened.sum().backward()


@scene(kind="uninitialised")
def an_uninitialised_buffer():
    x = leaf(1.0, 2.0, 3.0)
    total = torch.empty(3)  # BORN
    total += x
    total.sum().backward()


@scene(kind="uninitialised")
def a_buffer_written_in_part():
    box = torch.rand(5, 4, requires_grad=True)
    out = torch.empty_like(box)  # BORN
    out[:, :2] = box[:, :2]
    out[:, 3] = box[:, 3]
    (out * 2).sum().backward()


@scene(kind="outside")
def nan_in_data(images=torch.tensor([[1.0, math.nan], [2.0, 3.0]])):  # noqa: B008
    layer = nn.Linear(2, 2)
    flat = images.view(2, 2).t()
    out = layer(flat)  # BORN
    out.relu().mean().backward()


@scene(kind="outside")
def nan_in_a_label(target=torch.tensor([0.5, math.nan])):  # noqa: B008
    prediction = leaf(0.1, 0.2)
    loss = F.mse_loss(prediction, target)  # BORN
    loss.backward()


@scene(kind="outside")
def infinity_in_data_reaches_the_loss(depth=torch.tensor([1.0, math.inf])):  # noqa: B008
    error = leaf(0.1, 0.2) - depth  # BORN
    error.abs().mean().backward()


@scene()
def a_rate_that_explodes():
    weight = leaf(1.0, -2.0)
    x = torch.tensor([3.0, 1.0])
    optimizer = torch.optim.SGD([weight], lr=1e15)
    for _ in range(4):
        loss = ((weight * x).sum() - 2) ** 2  # BORN
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@scene(reaches="the weights")
def an_update_that_explodes():
    weight = leaf(1.0, -2.0)
    optimizer = torch.optim.SGD([weight], lr=1e30)
    (weight * 1e10).sum().backward()
    optimizer.step()  # BORN


@scene()
def an_update_that_explodes_in_one_kernel():
    weights = [leaf(1.0, -2.0), leaf(3.0)]
    optimizer = torch.optim.AdamW(weights, lr=1e38, weight_decay=0.1, fused=True)
    for _ in range(9):
        sum(weight.sum() * 1e10 for weight in weights).backward()
        optimizer.step()  # BORN


@scene(reaches="the weights")
def an_update_that_explodes_over_lists():
    weights = [leaf(1.0, -2.0), leaf(3.0)]
    optimizer = torch.optim.SGD(weights, lr=1e30, foreach=True)
    sum(weight.sum() * 1e10 for weight in weights).backward()
    optimizer.step()  # BORN


@scene()
def acos_beyond_one():
    cosine = leaf(1.0001, 0.3)
    angle = torch.acos(cosine)  # BORN
    angle.mean().backward()


@scene()
def zero_times_infinity():
    scores = leaf(1.0, 2.0)
    mask = torch.tensor([0.0, -math.inf])
    bias = mask * torch.tensor([1.0, 0.0])  # BORN
    (scores + bias).sum().backward()


@scene()
def infinity_minus_infinity():
    best = torch.full((2,), -math.inf)
    x = leaf(1.0, 2.0) + best
    gap = x - best  # BORN
    gap.sum().backward()


@scene()
def cross_entropy_by_hand():
    p, target = torch.sigmoid(leaf(120.0, 0.3)), torch.tensor([0.0, 1.0])
    positive = target * p.log()
    negative = (1 - target) * (1 - p).log()  # BORN
    (-(positive + negative)).mean().backward()


@scene()
def mean_over_nothing():
    error = leaf(1.0, 2.0)
    found = error[error > 5]
    loss = found.mean()  # BORN
    (loss + error.sum()).backward()


@scene()
def every_label_ignored():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = F.cross_entropy(logits, torch.full((3,), -100))  # BORN
    loss.backward()


@scene()
def in_place_on_a_view():
    x = leaf(1.0, 0.0, 2.0) * 1
    tail = x[1:]
    tail.log_()  # BORN
    x.sum().backward()


@scene(kind="constant")
def nan_written_as_a_constant():
    x = leaf(1.0, 2.0) * 1
    x[0] = float("nan")  # BORN
    x.sum().backward()


@scene(kind="constant")
def a_mask_that_reaches_the_loss():
    x = leaf(1.0, 2.0)
    x = x.masked_fill(x > 1, -math.inf)  # BORN
    x.sum().backward()


@scene(kind="constant")
def an_array_with_nan():
    weight = torch.as_tensor(np.array([1.0, np.nan], np.float32).tolist())  # BORN
    (leaf(1.0, 2.0) * weight).sum().backward()


@scene(reaches="")
def without_a_backward_pass():
    with torch.no_grad():
        (torch.zeros(2).log() * 2).sum()  # BORN


@scene(reaches="neither the loss nor a gradient")
def a_side_branch():
    x = leaf(1.0, 2.0)
    shown = (x / 0).clamp(max=9)  # BORN
    del shown
    x.sum().backward()


@scene(phase="backward", reaches="the gradients")
def through_autograd_grad():
    x = leaf(0.0)
    y = x.sqrt()  # BORN
    torch.autograd.grad(y.sum(), x)


@scene(phase="backward", reaches="the gradients")
def an_fp16_gradient_overflows():
    x = leaf(1.0, dtype=torch.float16)
    y = x * 600  # BORN
    (y.float() * 200).sum().backward()


@scene()
def in_a_module_of_a_model():
    class Block(nn.Module):
        def forward(self, x):
            return (x - 50).log()  # BORN

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(inplace=True), Block(), nn.Conv2d(4, 1, 1))
    model(torch.rand(1, 3, 4, 4)).mean().backward()


@scene()
def in_place_activation():
    x = leaf(3e38, 1.0) * 1.0
    y = F.elu(x.mul_(5.0), 1.0, True)  # BORN
    y.sum().backward()


class Root(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.sqrt()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient / (2 * y)


class Logarithm(torch.autograd.Function):
    """Computed where no microscope looks."""

    @staticmethod
    def forward(ctx, x):
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.log(x.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def scripted(x):
    return x.log()


@scene(reaches="the gradients")
def a_hook_on_a_gradient():
    y = leaf(1.0, 2.0) * 2
    y.register_hook(lambda gradient: gradient / 0)  # BORN
    y.sum().backward()


@scene(phase="backward", reaches="the gradients")
def a_reentrant_checkpoint():
    def inside(x):
        return (x * 1).sqrt()  # BORN

    checkpoint(inside, leaf(0.0, 4.0) * 1, use_reentrant=True).sum().backward()


@scene()
def a_network_of_torchvision():
    model = torchvision.models.mobilenet_v3_small(weights=None)
    (model(torch.rand(2, 3, 32, 32)) * 0 - 1).log().sum().backward()  # BORN


@scene()
def attention_with_every_place_closed():
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.rand(1, 3, 8)
    out, _ = attention(x, x, x, attn_mask=torch.full((3, 3), -math.inf))  # BORN
    out.sum().backward()


@scene()
def a_recurrent_network_that_explodes():
    rnn = nn.RNN(4, 4, nonlinearity="relu")
    nn.init.constant_(rnn.weight_hh_l0, 1e20)
    out, _ = rnn(torch.ones(10, 1, 4))  # BORN
    out.sum().backward()


@scene(kind="uninitialised")
def a_buffer_of_a_module_never_written():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.empty(3))  # BORN

        def forward(self, x):
            return x * self.scale

    Scaled()(leaf(1.0, 2.0, 3.0)).sum().backward()


@scene()
def an_update_by_hand():
    weight = leaf(1.0, -2.0)
    (weight * 1e20).sum().backward()
    with torch.no_grad():
        weight -= 1e30 * weight.grad  # BORN
    (weight * 1).sum().backward()


@scene()
def division_in_place():
    x = torch.rand(3, 4) * torch.ones(3, 4, requires_grad=True)
    x -= x
    x /= x.sum(1, keepdim=True)  # BORN
    x.sum().backward()


def watched(function) -> NaNMicroscope:
    torch.manual_seed(0)
    with NaNMicroscope() as microscope:
        function()
    return microscope


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.filterwarnings("ignore:std")
def test_the_line_is_named(name):
    function, kind, phase, reaches = SCENES[name]
    finding = watched(function).finding
    assert finding is not None
    assert (Path(finding.file), finding.line) == (HERE, marked(function)), str(finding)
    assert "# BORN" in finding.source
    assert (finding.kind, finding.phase, finding.reaches) == (kind, phase, reaches), str(finding)
    assert finding.chain[0] is finding.event and finding.path[0] is finding.event
    assert all(event.outputs for event in finding.chain)
    for event in finding.chain[1:]:
        assert event.parents
    assert str(finding).count("\n") >= 3
    made = draw_finding(finding)
    assert finding.event.place.short in {text.get_text().split("  ")[0] for text in made.axes[0].texts}
    numbers = made.numbers
    assert (numbers["kind"], numbers["op"], numbers["line"], numbers["reaches"]) == (
        kind,
        finding.op,
        marked(function),
        reaches,
    )
    assert numbers["rows"] >= 1 and (numbers["folded"] == 0 or len(finding.chain) > 10)


@pytest.mark.parametrize("name", ["softmax_of_minus_infinity", "in_a_module_of_a_model"])
def test_a_picture_is_small(name):
    assert len(style.as_png(draw_finding(watched(SCENES[name][0]).finding))) < style.MAX_BYTES


def test_there_are_enough_scenes():
    assert len(SCENES) >= 15


# ---- no wolf -------------------------------------------------------------------------------------


def masked_attention():
    scores = torch.randn(2, 4, 4, requires_grad=True)
    mask = torch.full((4, 4), -math.inf).triu(1)
    ((scores + mask).softmax(-1) @ torch.rand(4, 3)).sum().backward()


def masked_fill_and_log_softmax():
    scores = torch.randn(3, 4, requires_grad=True)
    closed = torch.eye(3, 4).bool()
    scores.masked_fill(closed, -torch.inf).log_softmax(-1)[~closed].sum().backward()


def fused_attention():
    q = torch.randn(1, 2, 4, 8, requires_grad=True)
    bias = torch.zeros(4, 4).masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
    F.scaled_dot_product_attention(q, q, q, attn_mask=bias).sum().backward()


def a_running_best():
    best = torch.tensor(-math.inf)
    low = torch.full((3,), math.inf)
    for _ in range(3):
        x = torch.rand(3, requires_grad=True)
        best, low = torch.maximum(best, x.max()), torch.minimum(low, x)
    (best + low.sum()).backward()


def a_buffer_filled_piece_by_piece():
    x = torch.rand(5, 4, requires_grad=True)
    out = torch.empty_like(x)
    out[..., 0] = x[..., 0] - 1
    out[..., 1] = x[..., 1]
    out[..., 2:].copy_(x[..., 2:])
    out.sum().backward()
    ready = torch.empty(3).uniform_() + torch.zeros(3, out=torch.empty(3))
    ready += nn.Linear(3, 3)(ready)


def top_k_over_closed_places():
    x = torch.rand(6, requires_grad=True) * 1
    x[x < 0.3] = -math.inf
    x.topk(2).values.sum().backward()


def missing_values_sorted_out(data=torch.tensor([1.0, math.nan, 3.0])):  # noqa: B008
    x = torch.where(data.isnan(), 0.0, data) * leaf(1.0, 2.0, 3.0)
    (x.sum() + data.nan_to_num().mean() + data[data.isfinite()].sum()).backward()


def a_large_sum_in_fp16():
    x = torch.full((300, 300), 3.0, dtype=torch.float16, requires_grad=True)
    (x * 2).float().mean().backward()


def a_float32_sum_that_overflows():
    x = torch.full((4,), 2e38, requires_grad=True)
    (x * 1.5).mul(1e-38).sum().backward()


def a_training_step():
    torch.manual_seed(0)
    model = YOLO(2, "n").train()
    optimizer = build_optimizer(model)
    loss = DetectionLoss(model)
    batch = SimpleNamespace(images=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    batch.targets = torch.tensor([[0, 1, 4.0, 4, 40, 30], [1, 0, 10, 10, 50, 60]])
    for precision in ("fp32", "bf16"):
        train_step(model, loss, batch, optimizer, Precision("cpu", precision))


INNOCENT = (
    masked_attention,
    masked_fill_and_log_softmax,
    fused_attention,
    a_running_best,
    a_buffer_filled_piece_by_piece,
)
INNOCENT += (
    top_k_over_closed_places,
    missing_values_sorted_out,
    a_large_sum_in_fp16,
    a_float32_sum_that_overflows,
    a_training_step,
)


@pytest.mark.parametrize("function", INNOCENT, ids=lambda function: function.__name__)
def test_it_does_not_cry_wolf(function):
    microscope = watched(function)
    assert microscope.finding is None, str(microscope.finding)
    assert microscope.operations > 3


def test_it_changes_no_number():
    def step():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.SiLU(inplace=True),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.LazyLinear(2),
        )
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.rand(2, 3, 8, 8)).square().mean()
            loss.backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    bare = step()
    with NaNMicroscope():
        assert torch.equal(step(), bare)


# ---- what it says --------------------------------------------------------------------------------


def test_the_numbers_of_a_finding():
    images = torch.rand(2, 3, 4, 4)
    scale = torch.linspace(-1, 5, 32).reshape(2, 1, 4, 4)
    with NaNMicroscope() as microscope:
        rooted = (images * 0 + scale).sqrt()
        loss = (rooted + 1).mean()
        loss.requires_grad_().backward()
    finding = microscope.finding
    (given,), (made,) = finding.inputs, finding.event.outputs
    assert (given.shape, given.dtype, given.device, given.low, given.high) == (
        (2, 3, 4, 4),
        "float32",
        "cpu",
        -1.0,
        5.0,
    )
    wrong = int((scale < 0).sum()) * 3
    assert (made.nans, made.infs, made.low) == (wrong, 0, float(scale[scale >= 0].min().sqrt()))
    assert [event.op for event in finding.chain] == ["sqrt", "add", "mean"]
    assert "square" not in finding.why and "root of a negative" in finding.why
    text = str(finding)
    assert "NaN born in sqrt" in text and "-1 … 5" in text and f"{wrong} NaN" in text and "It reached the loss" in text
    start, stop = finding.event.place.columns
    assert finding.source[start:stop] == "(images * 0 + scale).sqrt()"
    assert "Finding(NaN born in sqrt" in repr(finding)


def test_what_came_from_outside_says_so():
    finding = watched(nan_in_a_label).finding
    assert finding.headline == "NaN came in from outside as argument 1 of mse_loss, the first operation that saw it"
    assert [value.nans for value in finding.inputs] == [0, 1]


def test_a_loss_that_was_made_unseen_is_placed_in_the_users_code():
    loss = leaf(-1.0).log().sum()
    with NaNMicroscope() as microscope:
        loss.backward()  # BORN
    finding = microscope.finding
    assert finding.kind == "outside" and (Path(finding.file), finding.line) == (
        HERE,
        marked(test_a_loss_that_was_made_unseen_is_placed_in_the_users_code),
    )


def test_an_in_place_operation_keeps_the_range_that_it_was_given():
    finding = watched(in_place_on_a_view).finding
    assert (finding.inputs[0].low, finding.inputs[0].high, finding.inputs[0].finite) == (0.0, 2.0, True)


def test_the_mask_behind_a_nan_is_named():
    finding = watched(softmax_of_minus_infinity).finding
    assert [event.op for event in finding.infinities] == ["masked_fill"]
    assert "wrote the infinity" in str(finding)


def test_a_gradient_keeps_what_the_forward_pass_had():
    finding = watched(sqrt_at_zero_backward).finding
    assert [value.name for value in finding.inputs] == ["gradient of output 0", "kept result"]
    assert finding.inputs[1].low == 0 and "slope of the root" in finding.why


def test_a_custom_functions_own_backward_is_named(monkeypatch):
    lines, first = inspect.getsourcelines(Root.backward)
    if nan_microscope.REDISPATCH is not None:
        finding = watched(lambda: (Root.apply(leaf(0.0, 1.0)) * 3).sum().backward()).finding
        assert (finding.op, finding.line, finding.reaches) == ("div", first + len(lines) - 1, "the gradients")
    monkeypatch.setattr(nan_microscope, "REDISPATCH", None)  # as in older versions of torch
    finding = watched(lambda: (Root.apply(leaf(0.0, 1.0)) * 3).sum().backward()).finding
    assert (finding.op, finding.event.place.function) == ("Root (RootBackward)", "backward") and finding.line == first


@pytest.mark.parametrize(
    "unseen, name", [(Logarithm.apply, "LogarithmBackward"), (torch.jit.script(scripted), "LogBackward0")]
)
def test_what_is_computed_out_of_sight_is_said_to_be(unseen, name):
    finding = watched(lambda: (unseen(leaf(-1.0, 1.0) * 1) * 2).sum().backward()).finding
    assert f"as argument 0 (made unseen by {name}) of mul" in finding.headline


def test_what_was_compiled_runs_as_it_was_written():
    def work(x):
        y = x + 1
        return (y - 1).log()  # BORN

    compiled = torch.compile(work, backend="eager")
    compiled(torch.ones(2))
    finding = watched(lambda: compiled(leaf(0.0, -1.0)).sum().backward()).finding
    assert finding.line == marked(work) and finding.op == "log"
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_the_module_and_the_parameters_are_named():
    finding = watched(in_a_module_of_a_model).finding
    assert finding.event.place.module == "2 (Block)"
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    with torch.no_grad():
        model[1].weight[0, 1] = math.nan
    with NaNMicroscope() as microscope:
        model(torch.ones(1, 2)).sum().backward()
    assert microscope.finding.headline.startswith("NaN came in from outside as argument 1 (1.weight) of linear")
    assert microscope.finding.event.place.module == "1 (Linear)"
    with NaNMicroscope() as microscope:
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        (model(torch.zeros(1, 2)) * 0).sum().sqrt().backward()
    assert set(microscope.finding.parameters) == {"0.weight", "0.bias"}


def test_a_branched_way_is_whole_and_a_long_one_is_folded():
    with NaNMicroscope() as microscope:
        x = leaf(0.0, 1.0).log()
        y = x * 2
        for _ in range(30):
            y = y + 1
        loss = (y + x.exp() * 0 + x).sum()
        unrelated = x * 3
        loss.backward()
    finding = microscope.finding
    ops = [event.op for event in finding.chain]
    assert ops.count("add") == 32 and ops[-1] == "sum" and len(finding.chain) < len(microscope.events)
    assert [event.op for event in finding.path] == ["log", "add", "sum"]
    rows = folded(finding.chain)
    assert len(rows) == 10 and sum(-row for row in rows if isinstance(row, int)) == len(finding.chain) - 9
    assert unrelated is not None


def test_uninitialised_memory_is_left_alone_on_request():
    with NaNMicroscope(fill_uninitialised=False) as microscope:
        torch.empty(4).fill_(2.0).sum()
        assert not torch.empty(4, dtype=torch.long).is_floating_point()
    assert microscope.finding is None


def test_real_losses_with_a_broken_label():
    torch.manual_seed(0)
    model = YOLO(2, "n").train()
    loss = DetectionLoss(model)
    targets = torch.tensor([[0, 1, 4.0, 4, math.nan, 30], [0, 0, 10, 10, 50, 60]])
    with NaNMicroscope() as microscope:
        loss(model(torch.rand(1, 3, 64, 64)), targets)
    finding = microscope.finding
    assert (finding.kind, finding.event.has_nan) == ("outside", True)
    assert Path(finding.file).name == "losses.py" and "targets" in finding.source


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_card_under_autocast(dtype):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.LazyLinear(2)).cuda()
    scaler = torch.amp.GradScaler(enabled=dtype == torch.float16)
    with NaNMicroscope() as microscope, torch.autocast("cuda", dtype=dtype):
        out = model(torch.rand(2, 3, 8, 8, device="cuda"))
        assert microscope.finding is None
        broken = (out.float() * 0).sqrt()  # BORN
        scaler.scale(broken.sum()).backward()
    line = inspect.getsourcelines(test_on_a_card_under_autocast)
    assert microscope.finding.line == line[1] + next(n for n, text in enumerate(line[0]) if "# BORN" in text)
    assert microscope.finding.phase == "backward" and microscope.finding.inputs[0].device == "cuda:0"


# ---- it cleans up --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_stays_behind_after_an_exception(error, monkeypatch):
    x = leaf(1.0, 4.0)
    with pytest.raises(error), NaNMicroscope():
        loss = (x.sqrt() * 2).sum()
        loss.backward(retain_graph=True)
        raise error
    assert not modes()
    looked = []
    for module in (nan_microscope, nan_gradients):
        monkeypatch.setattr(module, "is_finite", lambda tensor: looked.append(tensor) or True)
    loss.backward()
    torch.zeros(2).log()
    assert not looked


def test_the_hooks_go_when_a_backward_pass_breaks_off(monkeypatch):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("broken on purpose")

    x = leaf(1.0)
    watches = []
    original = nan_gradients.BackwardWatch.remove
    monkeypatch.setattr(
        nan_gradients.BackwardWatch, "remove", lambda self: (watches.append(len(self.handles)), original(self))
    )
    with pytest.raises(RuntimeError, match="on purpose"), NaNMicroscope():
        Broken.apply(x * 3).sum().backward()
    assert watches and watches[0] >= 3 and not modes()


def test_other_modes_go_on_working():
    with torch.device("meta"), NaNMicroscope() as microscope:
        assert torch.ones(3).log().device.type == "meta"
    assert microscope.finding is None and not modes()
