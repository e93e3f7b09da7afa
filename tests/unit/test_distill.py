"""The teacher teaches, and is not there: what the losses are worth, whom the gradient reaches, and
what a student's run leaves behind.
"""

import copy
import gc
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests import tiny
from yolostudy import hooks, runs
from yolostudy.distill import (
    NECK,
    ChannelWiseLoss,
    DistillationError,
    DistillationLoss,
    ResponseLoss,
    Teacher,
    attention_loss,
)
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.runs import folders, presets
from yolostudy.training import ExponentialMovingAverage, Precision, build_optimizer, train_step, validate

KINDS = ("bernoulli", "softmax")
STUDENT = ("A1", "A2", "A3", "A4")
TEACHER = ("A3", "A1", "B1")
SEEDS = st.integers(0, 10_000)
TEMPERATURES = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 20.0])
BINS = 2


def noise(seed: int, *shape: int, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def feature_maps(seed: int, sizes, spread: float = 2.0) -> list[torch.Tensor]:
    return [noise(seed + n, 2, 3 + n, *size, spread=spread) for n, size in enumerate(sizes)]


def raw_maps(seed: int, classes: int, spread: float = 2.0, sizes=((4, 3), (2, 2), (1, 2))) -> list[torch.Tensor]:
    return [noise(seed + n, 2, 4 * BINS + classes, *size, spread=spread) for n, size in enumerate(sizes)]


def response(kind: str = "bernoulli", temperature: float = 1.0) -> ResponseLoss:
    return ResponseLoss(STUDENT, TEACHER, kind, temperature, BINS)


def coded(seed: int, seed_of_teacher: int, kind: str, temperature: float = 1.0, spread: float = 2.0):
    return response(kind, temperature)(
        raw_maps(seed, len(STUDENT), spread), raw_maps(seed_of_teacher, len(TEACHER), spread)
    )


# ---- the losses against sums written out ---------------------------------------------------------


def probabilities(logits: list[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(value - top) for value in logits]
    return [power / math.fsum(powers) for power in powers]


def divergence(wanted: list[float], own: list[float]) -> float:
    """KL of two lists of logits in Python's float64; terms of a probability that is exactly 0 are
    0.
    """
    p, q = probabilities(wanted), probabilities(own)
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def close(found: torch.Tensor, expected: float, temperature: float) -> bool:
    """Before τ² both are equal to 1e-6, relative where the divergence is above 1; τ² multiplies
    float32's rounding with the rest.
    """
    square = temperature**2
    return abs(found.item() - expected) <= 1e-6 * max(square, expected)


@settings(max_examples=30, deadline=None)
@given(
    SEEDS,
    TEMPERATURES,
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    st.floats(0.1, 5.0),
)
def test_the_channel_wise_loss_is_its_formula(seed, temperature, sizes, spread):
    student, wanted = feature_maps(seed, sizes, spread), feature_maps(seed + 50, sizes, spread)
    expected = 0.0
    for mine, theirs in zip(student, wanted, strict=True):
        rows = [
            (t / temperature, s / temperature)
            for t, s in zip(theirs.double().flatten(0, 1), mine.double().flatten(0, 1), strict=True)
        ]
        expected += (
            temperature**2
            * math.fsum(divergence(t.flatten().tolist(), s.flatten().tolist()) for t, s in rows)
            / len(rows)
        )
    assert close(ChannelWiseLoss(temperature)(student, wanted), expected, temperature)


@settings(max_examples=30, deadline=None)
@given(SEEDS, TEMPERATURES, st.sampled_from(KINDS), st.floats(0.1, 5.0))
def test_the_response_loss_is_its_formula(seed, temperature, kind, spread):
    """Class by class, by name: A1 and A3 are known to both."""
    student, wanted = raw_maps(seed, len(STUDENT), spread), raw_maps(seed + 50, len(TEACHER), spread)
    terms = []
    for mine, theirs in zip(student, wanted, strict=True):
        for image in range(len(mine)):
            for own, other in zip(
                mine[image].flatten(1).T.double() / temperature,
                theirs[image].flatten(1).T.double() / temperature,
                strict=True,
            ):
                pairs = [
                    (other[4 * BINS + TEACHER.index(n)].item(), own[4 * BINS + STUDENT.index(n)].item())
                    for n in ("A1", "A3")
                ]
                coins = [divergence([t, 0.0], [s, 0.0]) for t, s in pairs]
                terms.append(math.fsum(coins) if kind == "bernoulli" else divergence(*zip(*pairs, strict=True)))
    expected = temperature**2 * math.fsum(terms) / (2 * len(terms))
    assert close(response(kind, temperature)(student, wanted), expected, temperature)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SEEDS, TEMPERATURES, st.floats(0.0, 30.0))
def test_a_divergence_is_nothing_with_itself_and_never_negative(seed, other, temperature, spread):
    """Up to float32's rounding, which τ² multiplies."""
    sizes, allowed = ((3, 5), (2, 2)), 1e-6 * temperature**2
    maps = feature_maps(seed, sizes, spread)
    assert ChannelWiseLoss(temperature)(maps, [own.clone() for own in maps]).item() == 0
    assert ChannelWiseLoss(temperature)(maps, feature_maps(other, sizes, spread)) >= -allowed
    for kind in KINDS:
        loss = ResponseLoss(STUDENT, STUDENT, kind, temperature, BINS)
        same = raw_maps(seed, len(STUDENT), spread)
        assert loss(same, [own.clone() for own in same]).item() == 0
        assert coded(seed, other, kind, temperature, spread) >= -allowed


def student_gradient(loss, student, wanted) -> torch.Tensor:
    leaves = [own.clone().requires_grad_() for own in student]
    return torch.cat([own.flatten() for own in torch.autograd.grad(loss(leaves, wanted), leaves)])


@pytest.mark.parametrize("kind", ["cwd", *KINDS])
def test_the_gradient_keeps_its_size_at_a_high_temperature(kind):
    """τ² gives back what softening takes: from τ = 20 to τ = 100 the gradient hardly changes;
    without it 25 times less would be left.
    """

    def norm(temperature: float) -> float:
        if kind == "cwd":
            return (
                student_gradient(ChannelWiseLoss(temperature), feature_maps(1, ((4, 4),)), feature_maps(9, ((4, 4),)))
                .norm()
                .item()
            )
        return (
            student_gradient(response(kind, temperature), raw_maps(1, len(STUDENT)), raw_maps(9, len(TEACHER)))
            .norm()
            .item()
        )

    assert 0.9 < norm(100.0) / norm(20.0) < 1.1
    assert norm(20.0) > 0.2 * norm(1.0)


@settings(max_examples=20, deadline=None)
@given(SEEDS, TEMPERATURES, st.integers(1, 3), st.integers(1, 3))
def test_where_a_channel_looks_does_not_change_by_tiling_or_by_a_constant(seed, temperature, down, across):
    loss, sizes = ChannelWiseLoss(temperature), ((3, 4), (2, 1))
    student, wanted = feature_maps(seed, sizes), feature_maps(seed + 50, sizes)
    plain = loss(student, wanted).item()
    tiled = loss(*([own.repeat(1, 1, down, across) for own in maps] for maps in (student, wanted)))
    raised = loss([own + noise(seed + 7, 1, own.shape[1], 1, 1, spread=3.0) for own in student], wanted)
    assert close(tiled, plain, temperature) and abs(raised.item() - plain) <= 4e-6 * max(temperature**2, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_response_loss_does_not_grow_with_the_image(kind):
    student, wanted = raw_maps(1, len(STUDENT)), raw_maps(9, len(TEACHER))
    tiled = [[own.repeat(1, 1, 3, 2) for own in maps] for maps in (student, wanted)]
    assert close(response(kind)(*tiled), response(kind)(student, wanted).item(), 1.0)


def test_coins_notice_a_shift_and_a_softmax_does_not():
    wanted = raw_maps(1, len(STUDENT))
    shifted = [torch.cat((own[:, : 4 * BINS], own[:, 4 * BINS :] + 12), dim=1) for own in wanted]
    coins, softmax = (ResponseLoss(STUDENT, STUDENT, kind, 1.0, BINS)(shifted, wanted).item() for kind in KINDS)
    assert coins > 1 and abs(softmax) < 1e-6


@pytest.mark.parametrize("form", [torch.float32, torch.bfloat16])
def test_large_values_give_finite_losses_and_gradients(form):
    sizes = ((3, 5), (2, 2))
    for student, wanted, losses in (
        (feature_maps(1, sizes), feature_maps(9, sizes), [ChannelWiseLoss(), attention_loss]),
        (raw_maps(1, len(STUDENT)), raw_maps(9, len(TEACHER)), [response(kind) for kind in KINDS]),
    ):
        for loss in losses:
            leaves = [(1e4 * own.sign() + own).to(form).requires_grad_() for own in student]
            value = loss(leaves, [(1e4 * own.sign() + own).to(form) for own in wanted])
            assert value.dtype == torch.float32 and value.isfinite()
            assert all(own.isfinite().all() for own in torch.autograd.grad(value, leaves))


def test_lists_of_unequal_length_are_refused():
    maps = feature_maps(1, ((2, 2), (2, 3)))
    with pytest.raises(ValueError, match="shorter"):
        ChannelWiseLoss()(maps, maps[:1])


@pytest.mark.parametrize(
    ("student", "wanted", "words"),
    [
        (
            raw_maps(1, 3),
            raw_maps(2, 4),
            r"the student's raw maps have 11 channels; its 4 classes and 4 · 2 for the box make 12",
        ),
        (raw_maps(1, 4), raw_maps(2, 4), r"the teacher's raw maps have 12 channels; its 3 classes"),
        (raw_maps(1, 4)[0], raw_maps(2, 3)[0], r"Give two lists of raw maps"),
    ],
    ids=["exchanged", "other classes", "one map"],
)
def test_maps_that_cannot_be_meant_are_refused(student, wanted, words):
    with pytest.raises(DistillationError, match=words):
        response()(student, wanted)


def test_an_unknown_kind_and_strange_classes_are_refused():
    with pytest.raises(ValueError, match="choose bernoulli or softmax"):
        ResponseLoss(STUDENT, TEACHER, "cosine")
    with pytest.raises(
        DistillationError, match=r"share no class: the teacher knows C1; the student learns A1, A2.*matched by name"
    ):
        ResponseLoss(STUDENT, ["C1"])


# ---- real networks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nano():
    """A student of four classes and a teacher of three, at 64 pixels."""
    torch.manual_seed(0)
    return YOLO(len(STUDENT), "n"), YOLO(len(TEACHER), "n")


def pair(nano):
    student, model = (copy.deepcopy(own) for own in nano)
    teacher = Teacher(model.train(), TEACHER)
    loss = DistillationLoss(
        DetectionLoss(student),
        student.train(),
        teacher,
        ChannelWiseLoss(),
        ResponseLoss(STUDENT, TEACHER),
        feature_gain=10,
        response_gain=100,
    )
    return student, teacher, loss


class Batch:
    def __init__(self, seed: int = 0):
        self.images = torch.randint(
            0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
        )
        self.targets = torch.tensor([[0, 1, 8, 8, 40, 40], [1, 3, 20, 4, 60, 50.0]])


def test_the_gradient_reaches_the_student_alone(nano):
    student, teacher, loss = pair(nano)
    before = copy.deepcopy(teacher.model.state_dict())
    started = copy.deepcopy(student.state_dict())
    optimizer = build_optimizer(student, 1e-2)
    for step in range(3):
        teacher.model.train()  # somebody walks through everything that there is
        parts = train_step(student.train(), loss, Batch(step), optimizer)
        assert parts.feature > 0 and parts.response > 0
        assert parts.total.item() == pytest.approx(sum(part.item() for part in parts[1:]), rel=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())
    assert any(not torch.equal(tensor, started[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("part", ["feature", "response"])
def test_each_part_alone_teaches(nano, part):
    """Its gradient reaches the first layer of the student, and with gain 0 the total is the plain
    detection loss.
    """
    student, _, loss = pair(nano)
    images = Batch().images / 255
    parts = loss(student(images), Batch().targets)
    gradient = torch.autograd.grad(getattr(parts, part), student.backbone.stem.conv.weight)[0]
    assert gradient.abs().max() > 0
    loss.share = 0.0
    maps = student(images)
    assert torch.equal(loss(maps, Batch().targets).total, loss.detection(maps, Batch().targets).total)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_computes_in_the_format_of_the_student(nano, precision):
    student, teacher, loss = pair(nano)
    seen = []
    teacher.model.head.register_forward_hook(lambda _module, _inputs, maps: seen.extend(own.dtype for own in maps))
    parts = train_step(student, loss, Batch(), build_optimizer(student), Precision("cpu", precision))
    assert {*seen} == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert all(part.isfinite() for part in parts)


def test_the_teacher_costs_its_weights_and_one_forward_pass(nano):
    """It saves nothing for a backward pass and keeps nothing; what the step saves beyond a plain
    one are the losses' own small maps.
    """
    student, teacher, loss = pair(nano)
    images = Batch().images / 255

    def saved(act) -> int:
        """Bytes that autograd keeps for the backward pass, each storage once."""
        storages = {}

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            kept = act()
        del kept
        return sum(storages.values())

    assert saved(lambda: teacher(images)) == 0
    maps, features = teacher(images)
    assert all(own.grad_fn is None and not own.requires_grad for own in [*maps, *features])
    assert not teacher.taps.seen
    plain = saved(lambda: loss.detection(student(images), Batch().targets))
    taught = saved(lambda: loss(student(images), Batch().targets))
    of_the_losses = sum(own.nbytes for own in features) * 8 + sum(own.nbytes for own in maps) * 8
    teachers_graph = saved(lambda: nano[1].train()(images))
    assert 0 < taught - plain < of_the_losses < teachers_graph


# ---- who owns what -------------------------------------------------------------------------------


def test_a_students_checkpoint_is_a_plain_one(nano, tmp_path):
    student, _, loss = pair(nano)
    plain = YOLO(len(STUDENT), "n")
    assert [*student.state_dict()] == [*plain.state_dict()]
    hooks.save_weights(tmp_path / "student.safetensors", student, {"classes": STUDENT})
    del loss
    state, _ = hooks.load_weights(tmp_path / "student.safetensors")
    plain.load_state_dict(state, strict=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for mine, theirs in zip(plain.eval()(images), student.eval()(images), strict=True):
            assert torch.equal(mine, theirs)


def test_the_loss_holds_nothing_of_the_teacher(nano):
    _, teacher, loss = pair(nano)
    own = {p.data_ptr() for p in loss.parameters()} | {b.data_ptr() for b in loss.buffers()}
    theirs = {tensor.data_ptr() for tensor in teacher.model.state_dict().values()}
    assert not own & theirs and not any("teacher" in name for name in loss.state_dict())
    assert [*loss.state_dict()] == [f"detection.{name}" for name in loss.detection.state_dict()]
    loss.train()
    assert teacher.model not in [*loss.modules()]


def listeners(model: nn.Module) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in model.modules())


def test_the_listeners_go_with_the_loss(nano):
    student, teacher, loss = pair(nano)
    model = teacher.model
    assert listeners(student) == listeners(model) == 1 + len(NECK)
    del loss, teacher
    gc.collect()
    assert listeners(student) == listeners(model) == 0


def test_nothing_is_heard_of_an_average_nor_of_a_validation(nano, tiny_data):
    student, _, loss = pair(nano)
    average = ExponentialMovingAverage(student)  # its copy has the listeners too, and is never in training mode
    with torch.no_grad():
        average.model(torch.rand(1, 3, 64, 64))
    assert not loss.taps.seen
    run = runs.prepare(preset_for(tiny_data), tiny_data)
    validate(student, run.validation.loader)
    assert not loss.taps.seen and student.training
    with pytest.raises(DistillationError, match="has not run in training mode since the last loss"):
        loss([torch.zeros(1, 64 + len(STUDENT), 1, 1)], torch.zeros(0, 6))


def test_what_was_heard_is_given_away_once(nano):
    student, _, loss = pair(nano)
    maps = student(Batch().images / 255)
    assert {*loss.taps.seen} == {"images", *NECK}
    loss(maps, Batch().targets)
    assert not loss.taps.seen


def test_a_feature_loss_wants_a_teacher_of_the_same_size(nano):
    student = copy.deepcopy(nano[0]).train()
    teacher = Teacher(YOLO(len(TEACHER), "s"), TEACHER)
    loss = DistillationLoss(DetectionLoss(student), student, teacher, feature=ChannelWiseLoss())
    with pytest.raises(
        DistillationError,
        match=r"neck.csp_x: the student's map is \(2, 64, 8, 8\), the teacher's \(2, 128, 8, 8\).*size",
    ):
        loss(student(Batch().images / 255), Batch().targets)
    alone = DistillationLoss(DetectionLoss(student), student, teacher, response=ResponseLoss(STUDENT, TEACHER))
    assert alone(student(Batch().images / 255), Batch().targets).response > 0


# ---- runs ----------------------------------------------------------------------------------------

preset_for = partial(tiny.preset_for, epochs=2)


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("data") / "tiny")


def write_teacher(path, classes=("bar",), size="n"):
    torch.manual_seed(3)
    hooks.save_weights(path, YOLO(len(classes) or 1, size), {"classes": list(classes), "preset": {"size": size}})
    return path


class Interrupt(hooks.Hook):
    def after_step(self, trainer):
        if trainer.epoch == 1 and trainer.steps % 4 == 2:
            raise KeyboardInterrupt


def test_a_resumed_distillation_ends_as_if_it_had_not_stopped(tiny_data, tmp_path):
    teacher = write_teacher(tmp_path / "teacher.safetensors")
    preset = preset_for(
        tiny_data,
        teacher=str(teacher),
        feature="cwd",
        response="bernoulli",
        response_gain=50.0,
        distill_final=0.1,
        epochs=3,
    )
    whole = runs.train(preset, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, tmp_path / "broken", [Interrupt()])
    torch.manual_seed(99)  # what the process did in between must not matter
    resumed = runs.train(folders.read_preset(tmp_path / "broken"), tmp_path / "broken")
    assert resumed.trainer.steps == whole.trainer.steps == 12
    assert resumed.trainer.loss.share == whole.trainer.loss.share < 0.2
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (hooks.load_weights(tmp_path / run / name)[0] for run in ("whole", "broken"))
        assert all(torch.equal(first[key], second[key]) for key in first), name
    tables = [(tmp_path / run / "results.csv").read_text().splitlines() for run in ("whole", "broken")]
    columns = tables[0][0].split(",")
    assert {"feature", "response"} <= {*columns} and len(tables[0]) == 4
    timed = [place for place, name in enumerate(columns) if "seconds" in name]
    rows = [
        [[value for place, value in enumerate(line.split(",")) if place not in timed] for line in table]
        for table in tables
    ]
    assert rows[0] == rows[1]
    # a checkpoint of the run is one of a plain student
    kept = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)
    assert kept["model"].keys() == YOLO(2, "n").state_dict().keys()
    teacher.unlink()
    assert runs.val(preset_for(tiny_data, weights=str(tmp_path / "whole" / "best.safetensors")))[0] is not None


def test_a_preset_says_which_maps_are_compared(tiny_data, tmp_path):
    teacher = write_teacher(tmp_path / "teacher.safetensors")
    preset = preset_for(tiny_data, teacher=str(teacher), feature="cwd", layers=("backbone.sppf", "neck.csp_z"))
    trainer = runs.prepare(preset, tmp_path / "run").trainer
    student, loss = trainer.model.train(), trainer.loss
    compared = []
    loss.feature = lambda mine, wanted: compared.append([tuple(own.shape) for own in (*mine, *wanted)]) or mine[0].sum()
    loss(student(torch.rand(1, 3, 64, 64)), torch.empty(0, 6))
    assert compared == [[(1, 256, 2, 2)] * 4]


@pytest.mark.parametrize(
    ("make", "overrides", "error", "words"),
    [
        (lambda path: path, {}, FileNotFoundError, r"teacher.safetensors: there is no such weights file"),
        (
            lambda path: path.write_bytes(b"nothing") and path,
            {},
            ValueError,
            r"teacher.safetensors: cannot be read as weights",
        ),
        (
            lambda path: write_teacher(path, classes=("truck",)),
            {},
            DistillationError,
            "share no class: the teacher knows truck; the student learns square, bar",
        ),
        (
            lambda path: write_teacher(path, classes=()),
            {},
            DistillationError,
            "0 classes, keypoint shape none. Take weights",
        ),
        (
            lambda path: write_teacher(path),
            {"feature": "fgd"},
            presets.PresetError,
            "feature=fgd: unknown; choose cwd, attention",
        ),
    ],
    ids=["missing", "unreadable", "no shared class", "no classes", "unknown loss"],
)
def test_a_teacher_that_cannot_teach_is_told_in_a_sentence(tiny_data, tmp_path, make, overrides, error, words):
    teacher = make(tmp_path / "teacher.safetensors")
    preset = preset_for(tiny_data, teacher=str(teacher), **{"feature": "cwd", "response": "bernoulli", **overrides})
    with pytest.raises(error, match=words) as caught:
        runs.prepare(preset, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_teacher_of_another_size_is_told_in_a_sentence(tiny_data, tmp_path):
    """A student with weights of its own: the first step says which map does not fit.

    The response loss alone needs no equal maps.
    """
    torch.manual_seed(4)
    hooks.save_weights(tmp_path / "own.safetensors", YOLO(2, "n"), {"classes": ["square", "bar"]})
    chosen = {
        "teacher": str(write_teacher(tmp_path / "t.safetensors", size="s")),
        "weights": str(tmp_path / "own.safetensors"),
        "epochs": 1,
    }
    with pytest.raises(
        DistillationError,
        match=r"the student's map is .*take a teacher of the student's size, or the response loss alone",
    ):
        runs.train(preset_for(tiny_data, feature="cwd", **chosen), tmp_path / "cwd")
    assert runs.train(preset_for(tiny_data, response="bernoulli", **chosen), tmp_path / "kl").trainer.steps == 4


def test_distillation_without_a_teacher_is_told_in_a_sentence(tiny_data, tmp_path):
    with pytest.raises(presets.PresetError, match="distillation needs a teacher: add teacher=FILE"):
        runs.prepare(preset_for(tiny_data, feature="cwd"), tmp_path)
