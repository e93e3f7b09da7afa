"""Our teacher and losses in Ultralytics' trainer: our numbers, and no teacher in a checkpoint."""

import copy
import csv
import inspect
import pickle
import shutil
import subprocess
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_detector import build_targets, lively

from tests import warm
from yolostudy.bridge import checkpoints, scenes
from yolostudy.bridge import ultralytics as oracle
from yolostudy.bridge.distillation import Lesson, TaughtCriterion, open_teacher, teach
from yolostudy.distill import (
    ChannelWiseLoss,
    DistillationError,
    DistillationLoss,
    ResponseLoss,
    Teacher,
    attention_loss,
)
from yolostudy.hooks import save_weights
from yolostudy.losses import DetectionLoss
from yolostudy.network import YOLO
from yolostudy.runs.presets import Preset
from yolostudy.weights import rename_key, transfer

KNOWN = ["A3", "elsewhere", "A1", "A2"]  # the teacher's classes: another order, and one that no student has
LEARNED = ["A1", "A2", "A3", "A4", "A5"]
LOSS_NAMES = ("box_loss", "cls_loss", "dfl_loss", "feat_loss", "resp_loss")


def a_detector(seed: int = 5, size: str = "n", classes: int = len(KNOWN)) -> YOLO:
    """A detector with a seed of its own, whose class logits differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = lively(YOLO(classes, size), seed)
        for level in model.head.cls:
            level[-1].bias.data.normal_(-1, 1)
    return model


def a_file(folder, **card):
    path = folder / f"teacher-{len(list(folder.iterdir()))}.safetensors"
    save_weights(path, a_detector(), {"classes": KNOWN, "preset": {"size": "n"}} | card)
    return path


def students() -> tuple[YOLO, torch.nn.Module]:
    """Our network and Ultralytics' with the same weights, in training mode."""
    theirs = lively(oracle.build("n", len(LEARNED), seed=1), seed=2).train()
    theirs.names = dict(enumerate(LEARNED))
    ours = YOLO(len(LEARNED)).train()
    transfer(theirs.state_dict(), ours, minimum_share=1.0)
    return ours, theirs


def a_batch(images: int = 3, side: int = 96) -> dict:
    generator = torch.Generator().manual_seed(3)
    targets = build_targets("ordinary", images, side, side, len(LEARNED), generator)
    return {"img": torch.rand(images, 3, side, side, generator=generator), **oracle.to_batch(targets, (side, side))}


def a_lesson(teacher, feature=ChannelWiseLoss(), response=ResponseLoss, gains=(10.0, 300.0)) -> Lesson:  # noqa: B008
    return Lesson(teacher, feature, response, *gains)


# The numbers
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "feature, response",
    [
        (ChannelWiseLoss(), ResponseLoss),
        (ChannelWiseLoss(2.0), None),
        (None, partial(ResponseLoss, kind="softmax", temperature=3.0)),
        (attention_loss, partial(ResponseLoss, temperature=2.0)),
    ],
)
def test_loss_and_gradient_are_those_of_our_own_model(feature, response):
    ours, theirs = students()
    teacher, batch, gains = Teacher(a_detector(), KNOWN), a_batch(), (0.7, 40.0)
    a_lesson(teacher, feature, response, gains).attach(theirs)
    total, items = theirs(batch)
    total.sum().backward()
    total = total.detach().sum()

    loss = DistillationLoss(DetectionLoss(ours), ours, teacher, feature, response and response(LEARNED, KNOWN), *gains)
    parts = loss(ours(batch["img"]), oracle.pixel_targets(batch, batch["img"].shape[2:]))
    parts.total.backward()
    parts = parts._make(part.detach() for part in parts)

    assert abs(float(total / 3 - parts.total)) <= 1e-5 * float(parts.total)
    for name, mine in zip(LOSS_NAMES, (parts.box, parts.cls, parts.dfl, parts.feature, parts.response), strict=True):
        assert (name in items) == bool(mine), name
        assert abs(float(items.get(name, 0) - mine)) <= 1e-5 * float(mine), name
    assert (float(parts.feature) > 0.01, float(parts.response) > 0.01) == (bool(feature), bool(response))

    expected = {
        rename_key(name): parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None
    }
    # Ultralytics multiplies the loss by the number of images
    mine = {name: parameter.grad * 3 for name, parameter in ours.named_parameters()}
    assert mine.keys() == expected.keys()
    for name, gradient in mine.items():
        assert float((gradient - expected[name]).norm()) <= 1e-5 * float(expected[name].norm()), name
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_the_maps_that_are_compared_are_the_outputs_of_layers_15_18_and_21():
    _, theirs = students()
    seen, compared = [], []
    for number in (15, 18, 21):
        theirs.model[number].register_forward_hook(lambda _module, _inputs, output: seen.append(output))

    def feature(student, teacher):
        compared.extend(student)
        return student[0].sum()

    a_lesson(Teacher(a_detector(), KNOWN), feature, None).attach(theirs)
    theirs(a_batch())
    assert len(compared) == len(seen) == 3 and all(a is b for a, b in zip(compared, seen, strict=True))


def test_in_half_precision_the_teacher_answers_in_the_students_format():
    _, theirs = students()
    teacher, formats = Teacher(a_detector(), KNOWN), []

    def feature(student, wanted):
        formats.extend(one.dtype for one in (*student, *wanted))
        return ChannelWiseLoss()(student, wanted)

    a_lesson(teacher, feature).attach(theirs)
    batch = a_batch()
    exact = theirs(batch)[0].sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = theirs(batch)
    total.sum().backward()
    assert formats == [torch.float32] * 6 + [torch.bfloat16] * 6
    assert abs(float((total.sum() - exact).detach())) < 0.05 * float(exact.detach())
    assert all(parameter.grad.isfinite().all() for parameter in theirs.parameters() if parameter.grad is not None)


def test_the_share_may_be_lowered_on_the_way():
    _, theirs = students()
    lesson = a_lesson(Teacher(a_detector(), KNOWN))
    lesson.attach(theirs)
    full = theirs(a_batch())[1]
    lesson.loss.share = 0.25
    less = theirs(a_batch())[1]
    for name in LOSS_NAMES:
        torch.testing.assert_close(less[name], full[name] * (0.25 if name in LOSS_NAMES[3:] else 1), rtol=1e-5, atol=0)


def test_the_gains_are_the_presets():
    defaults = {name: parameter.default for name, parameter in inspect.signature(teach).parameters.items()}
    assert (defaults["feature_gain"], defaults["response_gain"]) == (Preset.feature_gain, Preset.response_gain)


# What leaves the training
# --------------------------------------------------------------------------------------------------


def test_a_copy_of_a_taught_model_is_a_plain_one():
    _, theirs = students()
    a_lesson(Teacher(a_detector(), KNOWN)).attach(theirs)
    theirs(a_batch())  # a used one
    for made in (copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
        assert made.criterion is None and list(made(a_batch())[1]) == list(LOSS_NAMES[:3])
    assert isinstance(theirs.criterion, TaughtCriterion)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> SimpleNamespace:
    """Two of three epochs of Ultralytics' DetectionTrainer with a teacher, then a resumed third."""
    folder = tmp_path_factory.mktemp("taught")
    teacher = a_file(folder)
    with scenes.trainer("detect", epochs=3) as trainer:
        lesson = teach(trainer, teacher)
        before = copy.deepcopy(lesson.teacher.model.state_dict())

        def leave(trainer):
            if trainer.epoch == 1:
                shutil.copy(trainer.last, folder / "unfinished.pt")
                trainer.stop = True

        trainer.add_callback("on_model_save", leave)
        trainer.train()
        for name in ("last", "best"):
            shutil.copy(getattr(trainer, name), folder / f"{name}.pt")
        rows = list(csv.DictReader(trainer.csv.open()))
        again = type(trainer)(overrides={"resume": str(folder / "unfinished.pt"), "data": trainer.args.data})
        resumed = teach(again, teacher)
        again.train()
    return SimpleNamespace(
        folder=folder, trainer=trainer, lesson=lesson, before=before, rows=rows, again=again, resumed=resumed
    )


def test_the_terms_are_in_the_log(taught):
    assert taught.trainer.loss_names == LOSS_NAMES
    assert len(taught.rows) == 2
    for row in taught.rows:
        assert all(float(row[f"train/{name}"]) > 0 for name in LOSS_NAMES[3:])
        # the average has no teacher
        assert all(float(row[f"val/{name}"]) == 0 for name in LOSS_NAMES[3:]) and float(row["val/cls_loss"]) > 0
    assert list(taught.trainer.ema.ema.criterion.loss_names) == list(LOSS_NAMES[:3])


def test_the_teacher_is_as_it_was(taught):
    teacher = taught.lesson.teacher.model
    assert all(torch.equal(tensor, taught.before[name]) for name, tensor in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    mine = {id(parameter) for parameter in teacher.parameters()}
    for where in (
        taught.trainer.model.parameters(),
        *(group["params"] for group in taught.trainer.optimizer.param_groups),
    ):
        assert not mine & {id(parameter) for parameter in where}


def test_a_resumed_run_goes_on_with_the_teacher_it_is_given(taught):
    assert (taught.again.start_epoch, taught.again.epoch, taught.again.loss_names) == (2, 2, LOSS_NAMES)
    assert float(taught.again.loss_items["feat_loss"]) > 0 and taught.resumed.loss is not None


@pytest.mark.parametrize("name", ["unfinished", "last", "best"])
def test_a_checkpoint_is_a_plain_student(taught, name):
    path = taught.folder / f"{name}.pt"
    content = torch.load(path, weights_only=False)
    student = content["ema"] or content["model"]
    plain = oracle.build("n", 20)
    assert student.state_dict().keys() == plain.state_dict().keys() and student.criterion is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())
    assert not [
        known for known in torch.serialization.get_unsafe_globals_in_checkpoint(path) if known.startswith("yolostudy")
    ]
    assert path.stat().st_size < (taught.folder / "last.pt").stat().st_size * (1.1 if name == "best" else 8)


def test_it_loads_where_neither_course_nor_teacher_are(taught):
    taught.lesson.source.rename(taught.folder / "hidden")
    code = (
        "import sys, torch; sys.modules['yolostudy'] = None\n"
        "import ultralytics, ultralytics.cfg\n"
        "model = ultralytics.YOLO(sys.argv[1]).model.float().train()\n"
        "model.args = ultralytics.cfg.get_cfg()\n"
        "labels = {'batch_idx': torch.zeros(1), 'cls': torch.zeros(1, 1), 'bboxes': torch.full((1, 4), 0.5)}\n"
        "loss, items = model({'img': torch.rand(2, 3, 64, 64), **labels})\n"
        "print(*items, bool(loss.isfinite().all()))"
    )
    try:
        words = warm.words("-c", code, str(taught.folder / "best.pt"))
        done = subprocess.run(words, capture_output=True, text=True, cwd=taught.folder)
    finally:
        (taught.folder / "hidden").rename(taught.lesson.source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-4:] == [*LOSS_NAMES[:3], "True"]


# Teachers of every kind, and wrong ones
# -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_same_teacher_from_any_source(tmp_path):
    model = a_detector().eval()
    torch.save(checkpoints.make(model.state_dict(), KNOWN, "n"), tmp_path / "teacher.pt")
    theirs = checkpoints.make(model.state_dict(), KNOWN, "n")["model"]
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for source in (a_file(tmp_path), str(tmp_path / "teacher.pt"), theirs, Teacher(model, KNOWN)):
        teacher = open_teacher(source)
        assert teacher.class_names == tuple(KNOWN)
        for given, wanted in zip(teacher(images)[0], model(images), strict=True):
            torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)


def test_another_process_opens_the_file_itself(tmp_path):
    """Ultralytics pickles callbacks for the processes of several graphics cards."""
    lesson = a_lesson(a_file(tmp_path), response=partial(ResponseLoss, temperature=2.0), gains=(3.0, 4.0))
    sent = pickle.dumps(lesson)
    assert len(sent) < 2000
    there = pickle.loads(sent)
    assert (there.source, there.gains, there.losses[1].keywords) == (lesson.source, (3.0, 4.0), {"temperature": 2.0})
    assert torch.equal(there.teacher.model.backbone.stem.conv.weight, lesson.teacher.model.backbone.stem.conv.weight)


def test_wrong_teachers_get_a_sentence(tmp_path):
    _, theirs = students()
    for source, error, words in (
        (tmp_path / "nowhere.pt", FileNotFoundError, "there is no such weights file"),
        (a_file(tmp_path, classes=[]), DistillationError, "says: detect, size n, 0 classes"),
        (a_file(tmp_path, kind="pose"), DistillationError, "says: pose, size n, 4 classes"),
        (a_file(tmp_path, preset={}), DistillationError, "says: detect, size unknown, 4 classes"),
        (a_file(tmp_path, preset={"size": "s"}), DistillationError, "is no YOLOv8s detector of 4 classes: only "),
        (torch.nn.Linear(2, 2), DistillationError, "Linear: cannot be a teacher"),
    ):
        with pytest.raises(error, match=words):
            teach(SimpleNamespace(), source)
    with pytest.raises(DistillationError, match="share no class: the teacher knows Z1"):
        a_lesson(Teacher(a_detector(classes=1), ["Z1"])).attach(theirs)
    a_lesson(Teacher(a_detector(size="s"), KNOWN)).attach(theirs)
    with pytest.raises(
        DistillationError, match=r"neck.csp_x: the student's map is \(3, 64, 12, 12\), the teacher's \(3, 128, 12, 12\)"
    ):
        theirs(a_batch())
    a_lesson(Teacher(a_detector(size="s"), KNOWN), feature=None).attach(theirs)
    assert list(theirs(a_batch())[1]) == [*LOSS_NAMES[:3], "resp_loss"]


def test_wrong_lessons_get_a_sentence():
    with pytest.raises(DistillationError, match="the teacher has no effect"):
        teach(SimpleNamespace(), Teacher(a_detector(), KNOWN), None, None)
    with pytest.raises(DistillationError, match=r"several graphics cards .* give a file"):
        teach(SimpleNamespace(ddp=True), Teacher(a_detector(), KNOWN))
    from ultralytics.nn.tasks import SegmentationModel

    student = SegmentationModel("yolov8n-seg.yaml", verbose=False)
    with pytest.raises(DistillationError, match="a SegmentationModel with a head of type Segment cannot be taught"):
        a_lesson(Teacher(a_detector(), KNOWN)).attach(student)
