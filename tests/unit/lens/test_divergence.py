"""First divergence: a difference planted in any layer is found in that layer."""

import copy
import dataclasses
import random

import numpy as np
import pytest
import torch
from torch import nn

from yolostudy import hooks, network, weights
from yolostudy.bridge import ultralytics as oracle
from yolostudy.canvas import style
from yolostudy.lens.modules import divergence
from yolostudy.lens.modules.divergence_picture import draw_divergence
from yolostudy.lens.modules.pairing import renaming
from yolostudy.lens.modules.weights import copy_weights

PICTURE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
NAMES = {name: f"model.{number}" for number, name in weights.LAYERS.items()}


@pytest.fixture(scope="module")
def ours():
    model = network.YOLO(20)
    weights.transfer(hooks.load_weights("datasets/weights/planes-n-mini.safetensors")[0], model)
    return model.eval()


@pytest.fixture(scope="module")
def theirs(ours):
    model = oracle.build("n", 20, seed=0)
    copy_weights(ours, model)
    return model


LAYERS = [name for name, module in network.YOLO(20).named_modules() if not list(module.children())]


def plant(module: nn.Module) -> nn.Module:
    """Something in the place of a layer that is nearly the layer."""
    if isinstance(module, nn.SiLU):
        return nn.Identity()
    if isinstance(module, nn.Upsample):
        return nn.Upsample(scale_factor=2, mode="bilinear")
    if isinstance(module, nn.MaxPool2d):
        return nn.MaxPool2d(3, 1, 1)
    changed = copy.deepcopy(module)
    with torch.no_grad():
        changed.weight.flatten()[0] += 0.5
    return changed


def planted(model: nn.Module, name: str) -> nn.Module:
    wrong = copy.deepcopy(model)
    parent, _, last = name.rpartition(".")
    setattr(wrong.get_submodule(parent), last, plant(wrong.get_submodule(name)))
    return wrong


@pytest.mark.slow
def test_every_layer_of_nano_in_turn(ours, monkeypatch):
    assert len(LAYERS) == 179, "57 ConvModules of three, six last convolutions, a pool and an up-sampling"
    missed, wrong, record = [], copy.deepcopy(ours), divergence._recorded
    right = record(ours, (PICTURE,), False)  # once, because it takes half the time
    monkeypatch.setattr(divergence, "_recorded", lambda model, *rest: right if model is ours else record(model, *rest))
    for name in LAYERS:
        parent, _, last = name.rpartition(".")
        layer = wrong.get_submodule(name)
        setattr(wrong.get_submodule(parent), last, plant(layer))
        found = divergence.first_divergence(wrong, ours, PICTURE).first
        setattr(wrong.get_submodule(parent), last, layer)
        if found is None or found.name != name or found.input_differs:
            missed.append((name, found and found.name))
    assert not missed


@pytest.mark.parametrize("names", [None, NAMES], ids=["by order", "by names"])
@pytest.mark.parametrize(
    "name", [*LAYERS[::30], "backbone.sppf.cv1.act", "backbone.sppf.pool", "neck.up", "head.cls.2.1.bn"]
)
def test_a_difference_against_ultralytics(ours, theirs, name, names):
    result = divergence.first_divergence(planted(ours, name), theirs, PICTURE, names=names)
    assert result.first.name == name and not result.first.input_differs
    mapped = renaming(NAMES)(name)
    assert name in ("backbone.sppf.pool", "neck.up") or result.first.other == mapped


def test_ours_and_ultralytics_agree_layer_by_layer(ours, theirs):
    result = divergence.first_divergence(ours, theirs, PICTURE)
    assert result.first is None and str(result).startswith("No difference in 264 pairs")
    assert len(result.leaves) == 182 and not result.only_a, "179 layers, two of them called two and three times"
    assert result.only_b == ("model.11", "model.14", "model.17", "model.20", "model.22.dfl.conv"), (
        "what we do without a module"
    )
    rename = renaming(NAMES)
    assert all(
        row.other == rename(row.name) for row in result.leaves if row.name not in ("backbone.sppf.pool", "neck.up")
    )
    containers = {row.name: row.other_kind for row in result.rows if not row.leaf}
    assert containers["backbone.csp2"] == "C2f" and containers["backbone.csp2.m.0"] == "Bottleneck"


# ------------------------------------------------------------------------ what lies between modules


class Small(nn.Module):
    """One layer called twice, a dictionary, a list, and code between them."""

    def __init__(self, shortcut=True, swap=False, activation=None):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.inner, self.last = nn.Conv2d(3, 4, 1), Inner(shortcut, swap), nn.Conv2d(8, 2, 1)
        self.act = activation or nn.ReLU(inplace=True)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        found = self.inner({"map": self.act(self.first(x))})
        return {"out": [self.last(found[0])], "maps": found}


class Inner(nn.Module):
    def __init__(self, shortcut, swap):
        super().__init__()
        self.conv, self.shortcut, self.swap = nn.Conv2d(4, 4, 1), shortcut, swap

    def forward(self, maps):
        x = maps["map"]
        y = self.conv(self.conv(x))
        pair = (y + x if self.shortcut else y, x)
        return [torch.cat(pair[::-1] if self.swap else pair, 1), pair]


def test_code_between_modules_is_told_from_the_modules():
    x = PICTURE[:, :, :8, :8]
    assert divergence.first_divergence(Small(), Small(), x).first is None
    for wrong in (Small(shortcut=False), Small(swap=True)):
        result = divergence.first_divergence(wrong, Small(), x)
        assert result.first.name == "inner" and not result.first.leaf
        assert "every module in it" in result.advice and "Inner.forward" in str(result)
    # a wrong input to a layer, before the container that holds it has ended
    swapped = network.YOLO(20).eval()
    reference = copy.deepcopy(swapped)
    forward = swapped.neck.forward
    swapped.neck.forward = lambda p3, p4, p5: forward(p3, p4.flip(3), p5)
    result = divergence.first_divergence(swapped, reference, PICTURE)
    assert result.first.name == "neck.csp_c.cv1.conv" and result.first.input_differs
    assert "after neck.up" in result.advice


def test_the_second_call_of_a_layer_is_a_row_of_its_own():
    class Twice(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.relu, self.shift = nn.ReLU(), shift

        def forward(self, x):
            return self.relu(self.relu(x) - self.shift)

    result = divergence.first_divergence(Twice(0.5), Twice(0.25), PICTURE)
    assert (result.first.name, result.first.call, result.first.input_differs) == ("relu", 2, True)
    assert "call 2" in str(result)


def test_shapes_that_part_are_found_where_they_part(ours):
    wide = network.YOLO(20).eval()
    wide.backbone.sppf = nn.Conv2d(256, 300, 1)
    result = divergence.first_divergence(wide, network.YOLO(20).eval(), PICTURE)
    assert "RuntimeError in neck.csp_c.cv1.conv" in result.errors[0] and "a stopped at an error" in str(result)
    narrow = copy.deepcopy(ours)
    narrow.head.cls[0][2] = nn.Conv2d(64, 19, 1)
    result = divergence.first_divergence(narrow, ours, PICTURE)
    assert result.first.name == "head.cls.0.2" and result.first.absolute == np.inf
    assert "Shapes: 1 × 19 × 8 × 12 and 1 × 20 × 8 × 12" in str(result)


def test_a_missing_activation_and_an_extra_layer(ours):
    bare = copy.deepcopy(ours)
    module = bare.backbone.sppf.cv1
    module.forward = lambda x: module.bn(module.conv(x))
    result = divergence.first_divergence(bare, ours, PICTURE)
    assert result.first.name == "backbone.sppf.cv1" and result.only_b == ("backbone.sppf.cv1.act",)
    longer = copy.deepcopy(ours)
    longer.backbone.stem = nn.Sequential(longer.backbone.stem, nn.Identity())
    result = divergence.first_divergence(longer, ours, PICTURE)
    assert result.first is None and len(result.only_a) == 1


def test_fresh_norms_are_all_alike_and_still_told_apart():
    fresh = network.YOLO(20).eval()
    for name in [name for name in LAYERS if name.endswith("bn")][::8]:
        wrong = copy.deepcopy(fresh)
        with torch.no_grad():
            wrong.get_submodule(name).weight += 0.5
        assert divergence.first_divergence(wrong, fresh, PICTURE).first.name == name


def test_not_a_number_is_equal_to_itself_and_to_nothing_else():
    x = PICTURE.clone()
    x[0, 0, 0, 0] = float("nan")
    assert divergence.first_divergence(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()), x).first is None
    divided = divergence.first_divergence(Ratio(0.0), Ratio(1.0), x)
    assert divided.first.relative == np.inf


class Ratio(nn.Module):
    def __init__(self, divisor):
        super().__init__()
        self.layer, self.divisor = nn.Identity(), divisor

    def forward(self, x):
        return self.layer(x / self.divisor)


class Given(nn.Module):
    """One layer, and any code around it."""

    def __init__(self, code):
        super().__init__()
        self.layer, self.code = nn.Linear(4, 4), code
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.code(self.layer, x)


def differ(code, other, *inputs, **options):
    return divergence.first_divergence(Given(code), Given(other), *inputs, **options).first


def test_what_is_within_the_inputs_is_given_to_both_alike_and_left_alone():
    def spoils(layer, given):
        given["x"] += 1
        return layer(given["x"])

    given = {"x": torch.zeros(1, 4)}
    weights_ = Given(spoils)
    assert divergence.first_divergence(weights_, copy.deepcopy(weights_), given).first is None
    assert torch.equal(given["x"], torch.zeros(1, 4))


def test_a_call_that_raises_and_is_caught_is_not_the_caller_of_the_next():
    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.right, self.last = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            try:
                x = self.wide(x)
            except RuntimeError:
                x = self.right(x)
            return self.last(x)

    model = Catches()
    result = divergence.first_divergence(model, copy.deepcopy(model), torch.ones(1, 4))
    assert [(row.name, row.parent, row.leaf) for row in result.rows] == [
        ("right", "", True),
        ("last", "", True),
        ("", "", False),
    ]
    assert result.errors == (None, None) and not any(module._forward_hooks for module in model.modules())
    try:
        raise KeyError
    except KeyError:  # dealing with one exception is not the same as being left by one
        assert len(divergence.first_divergence(model, copy.deepcopy(model), torch.ones(1, 4)).rows) == 3


def test_chance_is_the_same_for_both_whichever_generator_draws():
    def draws(layer, x):
        return layer(x) * random.random() + torch.rand(1) + np.random.rand()

    model = Given(draws)
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert divergence.first_divergence(model, copy.deepcopy(model), torch.ones(1, 4)).first is None
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_outputs_in_dataclasses_complex_and_sparse_ones_are_compared():
    @dataclasses.dataclass
    class Out:
        map: torch.Tensor

    x = torch.eye(4)
    assert differ(lambda layer, x: Out(layer(x) * 0), lambda layer, x: Out(layer(x) * 0 + 1), x).name == ""
    assert differ(lambda layer, x: layer(x) * 0 + 1, lambda layer, x: layer(x) * 0 + 1 + 0.5j, x).relative > 0.1
    assert differ(lambda layer, x: (layer(x) * 0).to_sparse(), lambda layer, x: (layer(x) * 0).to_sparse(), x) is None
    assert differ(lambda layer, x: x.to_sparse(), lambda layer, x: (x * 2).to_sparse(), x).relative == 0.5


@pytest.mark.parametrize("training", [False, True])
def test_a_buffer_that_another_took_the_place_of_comes_back(training):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen = self.seen + 1
            return x * self.seen

    model = Counts()
    buffer = model.seen
    assert divergence.first_divergence(model, copy.deepcopy(model), PICTURE, training=training).first is None
    assert model.seen is buffer and float(buffer) == 0


def test_what_is_compiled_is_looked_into_and_what_is_scripted_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    compiled(torch.ones(1, 4))
    result = divergence.first_divergence(model, compiled, torch.ones(1, 4))
    assert len(result.leaves) == 2 and result.first is None and result.errors == (None, None)
    with pytest.raises(TypeError, match="give the model that it was made from"):
        divergence.first_divergence(model, torch.jit.script(model), torch.ones(1, 4))
    part = nn.Sequential(torch.jit.script(model), nn.ReLU())
    assert len(divergence.first_divergence(part, nn.Sequential(model, nn.ReLU()), torch.ones(1, 4)).rows) >= 2
    assert not any(module._forward_hooks for module in (*model, *part.children()))


def test_names_may_map_the_whole_of_a_network():
    inside = renaming({"": "module"})
    assert (inside(""), inside("0.conv")) == ("module", "module.0.conv")
    outside = renaming({"module": ""})
    assert (outside("module"), outside("module.0.conv"), outside("modules")) == ("", "0.conv", None)


# ----------------------------------------------------------------------- copying, cleaning, drawing


def test_weights_are_copied_past_what_is_no_tensor():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state): ...

    assert copy_weights(Extra(2, 2), Extra(2, 2)) == [("weight", "weight"), ("bias", "bias")]


def test_weights_are_copied_by_order_and_by_name(theirs, ours):
    for names in (None, {f"model.{number}": name for number, name in weights.LAYERS.items()}):
        mine = network.YOLO(20)
        assert len(copy_weights(theirs, mine, names)) == 354
        assert all(torch.equal(value, ours.state_dict()[name]) for name, value in mine.state_dict().items())
    small = network.YOLO(20, "s")
    before = copy.deepcopy(small.state_dict())
    with pytest.raises(ValueError, match=r"find no source; the first is backbone\.stem\.conv\.weight, \(32, 3, 3, 3\)"):
        copy_weights(theirs, small)
    assert all(torch.equal(value, small.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, None])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(ours, training, stop):
    model, other = copy.deepcopy(ours), copy.deepcopy(ours).eval()
    model.train()
    model.backbone.eval()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    if stop:

        def fail(x):
            raise stop

        other.neck.csp_y.forward = fail
        with pytest.raises(stop):
            divergence.first_divergence(model, other, PICTURE, training=training)
    else:
        assert divergence.first_divergence(model, other, PICTURE, training=training).first is None
    for network_ in (model, other):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network_.modules())
    assert model.training and not model.backbone.training and model.head.training and not other.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert torch.equal(random, torch.get_rng_state()) and torch.is_grad_enabled()


def test_the_strip_is_drawn_for_every_outcome(ours):
    for name in (None, "neck.up", "backbone.stem.conv"):
        other = ours if name is None else planted(ours, name)
        result = divergence.first_divergence(other, ours, PICTURE)
        picture = draw_divergence(result)
        assert len(style.as_png(picture)) <= style.MAX_BYTES
        numbers = picture.numbers
        assert numbers["first"] == (result.first and result.first.name)
        assert numbers["agree"] <= numbers["layers"] == len(result.leaves) and (name is None) == (
            numbers["agree"] == numbers["layers"]
        )
