"""A teacher inside Ultralytics' PoseTrainer: the numbers, what stays in the files, and what goes wrong elsewhere."""

import copy
import csv
import hashlib
import pickle
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from test_detector import build_targets, lively
from test_pose import with_keypoints

from yolostudy.bridge import checkpoints, founding, pose_teachers, scenes
from yolostudy.bridge import ultralytics as oracle
from yolostudy.bridge.distillation import Lesson, TaughtCriterion, open_teacher, teach
from yolostudy.bridge.pose_distillation import PoseDistillationLoss, PoseTeacher
from yolostudy.data.planes import CLASSES, KEYPOINTS
from yolostudy.distill import ChannelWiseLoss, DistillationError, ResponseLoss, Teacher
from yolostudy.hooks import save_weights
from yolostudy.network import YOLO
from yolostudy.pose import PoseLoss, PoseYOLO
from yolostudy.weights import rename_key, transfer

LABELS = ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss")
TAUGHT = ("feat_loss", "resp_loss", "kresp_loss")


def a_network(seed: int = 5, size: str = "n", classes: int = len(CLASSES), shape=(4, 3)) -> PoseYOLO:
    """A network with a seed of its own, whose class logits differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = lively(PoseYOLO(classes, size, keypoint_shape=shape), seed)
        for level in model.head.cls:
            level[-1].bias.data.normal_(-1, 1)
    return model


def a_card(**changes) -> dict:
    card = {"kind": "pose", "classes": [*CLASSES], "preset": {"size": "n"}, "keypoint_shape": [4, 3]}
    return card | {"keypoint_names": [*KEYPOINTS], "flip_index": [0, 1, 3, 2]} | changes


def a_file(folder, **changes):
    path = folder / f"teacher-{len(list(folder.iterdir()))}.safetensors"
    save_weights(path, a_network(), a_card(**changes))
    return path


def a_student(shape=(4, 3), names=KEYPOINTS) -> torch.nn.Module:
    """Ultralytics' network, in training mode, as its trainer prepares it."""
    theirs = lively(oracle.build("n", len(CLASSES), 1, shape), seed=2).train()
    theirs.names = dict(enumerate(CLASSES))
    theirs.kpt_names = {number: [*names] for number in theirs.names}
    return theirs


def a_batch(images: int = 3, side: int = 96) -> tuple[dict, torch.Tensor]:
    """Their batch, and the same as our targets."""
    generator = torch.Generator().manual_seed(3)
    targets = build_targets("ordinary", images, side, side, len(CLASSES), generator)
    targets = with_keypoints(targets, "ordinary", len(KEYPOINTS), generator)
    batch = {"img": torch.rand(images, 3, side, side, generator=generator), **oracle.to_batch(targets, (side, side))}
    return batch, oracle.pixel_targets(batch, (side, side))


def a_lesson(teacher, *given, **named) -> Lesson:
    return Lesson(teacher, *(given or (ChannelWiseLoss(), ResponseLoss, 10.0, 300.0)), **named)


# The numbers
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keypoint", [True, False])
def test_loss_and_gradient_are_those_of_our_own_engine(keypoint):
    named = {} if keypoint else {"keypoint": None}
    theirs, teacher = a_student(), PoseTeacher(a_network(), CLASSES, KEYPOINTS)
    ours = PoseYOLO(len(CLASSES), keypoint_shape=(4, 3)).train()
    transfer(theirs.state_dict(), ours, minimum_share=1.0)
    batch, targets = a_batch()
    a_lesson(teacher, ChannelWiseLoss(), ResponseLoss, 0.7, 40.0, **named).attach(theirs)
    total, items = theirs(batch)
    total.sum().backward()

    response = ResponseLoss(CLASSES, CLASSES)
    gains = {"feature_gain": 0.7, "response_gain": 40.0} | named
    loss = PoseDistillationLoss(PoseLoss(ours), ours, teacher, ChannelWiseLoss(), response, **gains)
    parts = loss(ours(batch["img"]), targets)
    parts.total.backward()
    found = parts._make(float(part.detach()) for part in parts)

    names = [*LABELS, *TAUGHT[: 2 + keypoint]]
    assert list(items) == names and (found.keypoint > 0.01) == keypoint
    for name, mine in zip(names, found[1:], strict=False):
        assert mine > 0.01 and abs(float(items[name]) - mine) <= 1e-5 * mine, name
    assert abs(float(total.sum().detach() / 3) - found.total) <= 1e-5 * found.total
    assert abs(sum(found[1:]) - found.total) <= 1e-5 * found.total
    expected = {rename_key(name): one.grad for name, one in theirs.named_parameters() if one.grad is not None}
    mine = {name: parameter.grad * 3 for name, parameter in ours.named_parameters()}
    assert mine.keys() == expected.keys()
    for name, gradient in mine.items():
        assert float((gradient - expected[name]).norm()) <= 1e-5 * float(expected[name].norm()), name
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_the_share_lowers_the_teachers_columns_alone():
    theirs = a_student()
    lesson = a_lesson(PoseTeacher(a_network(), CLASSES))
    lesson.attach(theirs)
    full = theirs(a_batch()[0])[1]
    lesson.loss.share = 0.25
    less = theirs(a_batch()[0])[1]
    for name, value in full.items():
        torch.testing.assert_close(less[name], value * (0.25 if name in TAUGHT else 1), rtol=1e-5, atol=0)


def test_a_copy_of_a_taught_model_is_a_plain_one():
    theirs = a_student()
    a_lesson(PoseTeacher(a_network(), CLASSES)).attach(theirs)
    theirs(a_batch()[0])  # a used one
    for made in (copy.deepcopy(theirs), pickle.loads(pickle.dumps(theirs))):
        assert made.criterion is None and list(made(a_batch()[0])[1]) == list(LABELS)
    assert isinstance(theirs.criterion, TaughtCriterion)


# What leaves the training
# --------------------------------------------------------------------------------------------------


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> SimpleNamespace:
    """Two of three epochs of Ultralytics' PoseTrainer with a teacher, then a resumed third."""
    folder = tmp_path_factory.mktemp("taught")
    teacher = a_file(folder)
    file = digest(teacher)
    with scenes.trainer("pose", epochs=3) as trainer:
        lesson = teach(trainer, teacher)
        before = pose_teachers.digest(lesson.teacher.model)

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
        folder=folder, trainer=trainer, lesson=lesson, before=before, file=file, rows=rows, again=again, resumed=resumed
    )


def test_the_terms_are_in_the_log(taught):
    assert taught.trainer.loss_names == (*LABELS, *TAUGHT)
    assert len(taught.rows) == 2 and max(map(len, TAUGHT)) < 11  # the width of a column of the progress line
    for row in taught.rows:
        assert all(float(row[f"train/{name}"]) > 0 for name in TAUGHT)
        # the average has no teacher
        assert all(float(row[f"val/{name}"]) == 0 for name in TAUGHT) and float(row["val/cls_loss"]) > 0
    assert list(taught.trainer.ema.ema.criterion.loss_names) == list(LABELS)


def test_the_teacher_is_as_it_was(taught):
    teacher = taught.lesson.teacher.model
    assert pose_teachers.digest(teacher) == taught.before and digest(taught.lesson.source) == taught.file
    assert not any(module.training for module in teacher.modules())
    mine = {id(parameter) for parameter in teacher.parameters()}
    groups = [group["params"] for group in taught.trainer.optimizer.param_groups]
    for where in (taught.trainer.model.parameters(), taught.trainer.ema.ema.parameters(), *groups):
        assert not mine & {id(parameter) for parameter in where}


def test_a_resumed_run_goes_on_with_the_teacher_it_is_given(taught):
    assert (taught.again.start_epoch, taught.again.epoch, taught.again.loss_names) == (2, 2, (*LABELS, *TAUGHT))
    assert float(taught.again.loss_items["kresp_loss"]) > 0 and taught.resumed.loss is not None


@pytest.mark.parametrize("name", ["unfinished", "last", "best"])
def test_a_checkpoint_is_a_plain_student(taught, name):
    path = taught.folder / f"{name}.pt"
    content = torch.load(path, weights_only=False)
    student = content["ema"] or content["model"]
    plain = oracle.build("n", 20, keypoint_shape=(4, 3))
    assert type(student) is type(plain) and student.state_dict().keys() == plain.state_dict().keys()
    assert student.criterion is None and set(vars(student)) <= {*vars(plain), "criterion", "nc", "class_weights"} | {
        "kpt_oks_sigmas",
        "kpt_names",
    }
    known = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    assert not [one for one in known if one.startswith("yolostudy")]


def test_it_loads_where_neither_course_nor_teacher_are(taught):
    taught.lesson.source.rename(taught.folder / "hidden")
    code = (
        "import sys, torch; sys.modules['yolostudy'] = None\n"
        "import ultralytics, ultralytics.cfg\n"
        "opened = ultralytics.YOLO(sys.argv[1])\n"
        "model = opened.model.float().train()\n"
        "model.args = ultralytics.cfg.get_cfg()\n"
        "labels = {'batch_idx': torch.zeros(1), 'cls': torch.zeros(1, 1), 'bboxes': torch.full((1, 4), 0.5)}\n"
        "labels['keypoints'] = torch.full((1, 4, 3), 0.5)\n"
        "loss, items = model({'img': torch.rand(2, 3, 64, 64), **labels})\n"
        "print(opened.task, *items, bool(loss.isfinite().all()))"
    )
    try:
        words = [sys.executable, "-c", code, str(taught.folder / "best.pt")]
        done = subprocess.run(words, capture_output=True, text=True, cwd=taught.folder)
    finally:
        (taught.folder / "hidden").rename(taught.lesson.source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-7:] == ["pose", *LABELS, "True"]


def one_epoch(call: str = "", folder=None) -> SimpleNamespace:
    """Numbers, log and size of the file of one epoch, whatever `call` did before."""
    with scenes.trainer("pose", warmup_epochs=0.0) as trainer:
        if call == "taught":
            teach(trainer, a_file(folder))
        trainer.train()
        rows = [{k: v for k, v in row.items() if k != "time"} for row in csv.DictReader(trainer.csv.open())]
        weights = pose_teachers.digest(trainer.ema.ema), pose_teachers.digest(trainer.model)
        return SimpleNamespace(weights=weights, rows=rows, bytes=trainer.best.stat().st_size)


def test_without_a_teacher_nothing_differs_by_a_bit_and_with_one_the_file_is_as_large(tmp_path):
    """The plain run beside it is of a process that never sees the bridge's distillation."""
    code = (
        "import csv, sys\n"
        "from yolostudy.bridge import scenes\n"
        "import hashlib\n"
        "with scenes.trainer('pose', warmup_epochs=0.0) as trainer:\n"
        "    trainer.train()\n"
        "    for model in (trainer.ema.ema, trainer.model):\n"
        "        made = hashlib.sha256()\n"
        "        for tensor in model.state_dict().values():\n"
        "            made.update(tensor.detach().cpu().contiguous().numpy().tobytes())\n"
        "        print('>', made.hexdigest())\n"
        "    print('>', trainer.best.stat().st_size)\n"
        "print('>', any('distillation' in name for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *weights, size, imported = [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]
    assert imported == "False"
    here = one_epoch()
    assert [*here.weights] == weights
    assert one_epoch().rows == here.rows
    with_one = one_epoch("taught", tmp_path)
    assert with_one.weights != here.weights
    assert abs(with_one.bytes - int(size)) <= 0.01 * int(size)


# Teachers of every kind, and wrong ones
# -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_same_teacher_from_any_source(tmp_path):
    model = a_network().eval()
    made = checkpoints.make(model.state_dict(), CLASSES, "n", 160, (4, 3), KEYPOINTS)
    torch.save(made, tmp_path / "teacher.pt")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    given = PoseTeacher(model, CLASSES, KEYPOINTS)
    for source in (a_file(tmp_path), str(tmp_path / "teacher.pt"), made["model"], given):
        teacher = open_teacher(source)
        assert (teacher.class_names, teacher.keypoint_names) == (tuple(CLASSES), tuple(KEYPOINTS))
        assert teacher.model.keypoint_shape == (4, 3)
        for answer, wanted in zip(teacher(images)[0], model(images), strict=True):
            torch.testing.assert_close(answer, wanted, rtol=1e-5, atol=1e-5)


def test_another_process_opens_the_file_itself(tmp_path):
    lesson = a_lesson(a_file(tmp_path), keypoint_gain=3.0)
    there = pickle.loads(pickle.dumps(lesson))
    assert (there.source, there.keypoint, there.keypoint_gain) == (lesson.source, lesson.keypoint, 3.0)


@pytest.mark.parametrize(
    ("teacher", "student", "words"),
    [
        (lambda: PoseTeacher(a_network(shape=(5, 3)), CLASSES), {}, r"shape is \(5, 3\), the student's \(4, 3\)"),
        (lambda: PoseTeacher(a_network(shape=(4, 2)), CLASSES), {}, r"shape is \(4, 2\), the student's \(4, 3\)"),
        (lambda: PoseTeacher(a_network(), CLASSES, KEYPOINTS[::-1]), {}, "keypoints in another order: .*; the student"),
        (lambda: PoseTeacher(a_network(), CLASSES, "abcd"), {}, "keypoints under other names: a, b, c, d; the student"),
        (lambda: Teacher(YOLO(20), CLASSES), {}, "the teacher is a detector, which knows none"),
    ],
    ids=["more keypoints", "no visibility", "another order", "other names", "a detector"],
)
def test_teachers_of_other_keypoints_get_a_sentence(teacher, student, words):
    with pytest.raises(DistillationError, match=words):
        a_lesson(teacher()).attach(a_student(**student))


def test_names_that_nobody_gave_are_not_compared():
    """Ultralytics' trainer writes numbers where data.yaml has no `kpt_names`."""
    for names, known in (("0123", KEYPOINTS), (KEYPOINTS, ())):
        theirs = a_student(names=names)
        a_lesson(PoseTeacher(a_network(), CLASSES, known)).attach(theirs)
        assert list(theirs(a_batch()[0])[1]) == [*LABELS, *TAUGHT]


def test_wrong_lessons_get_a_sentence(tmp_path):
    detector = oracle.build("n", len(CLASSES), 1)
    detector.names = dict(enumerate(CLASSES))
    with pytest.raises(DistillationError, match="the teacher is a pose network and the student a detector"):
        a_lesson(PoseTeacher(a_network(), CLASSES)).attach(detector)
    with pytest.raises(DistillationError, match="keypoint_gain= are for a pose network"):
        a_lesson(Teacher(YOLO(20), CLASSES), keypoint_gain=2.0).attach(detector)
    with pytest.raises(DistillationError, match="the teacher has no effect"):
        teach(SimpleNamespace(), PoseTeacher(a_network(), CLASSES), None, None, keypoint=None)
    for changes, words in (
        ({"keypoint_shape": None}, "says: pose, size n, 20 classes, keypoint shape none"),
        ({"keypoint_shape": [5, 3]}, r"is no YOLOv8n pose network with keypoints \(5, 3\) of 20 classes: only"),
        ({"kind": "detect"}, r"says: detect, size n, 20 classes, keypoint shape \[4, 3\]"),
    ):
        with pytest.raises(DistillationError, match=words):
            teach(SimpleNamespace(), a_file(tmp_path, **changes))


# The ways that go wrong
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes() -> dict[str, pose_teachers.Outcome]:
    return {way: pose_teachers.run(way) for way in pose_teachers.WAYS}


def test_a_module_of_the_model_is_trained_averaged_and_saved(outcomes):
    plain, found = outcomes["no teacher"], outcomes["a module of the model"]
    assert found.teacher_changed and found.trained == 2 * plain.trained and found.averaged == 2 * plain.averaged
    assert 1.9 < found.bytes / plain.bytes < 2.1 and found.strangers == ()


def test_a_list_hides_the_teacher_from_the_trainer_and_not_from_pickle(outcomes):
    plain, found = outcomes["no teacher"], outcomes["a list of the model"]
    assert not found.teacher_changed and (found.trained, found.averaged) == (plain.trained, plain.averaged)
    assert 2.8 < found.bytes / plain.bytes < 3.2  # the student in half precision, the teacher in full


def test_a_subclass_is_named_in_the_file_and_its_average_is_taught(outcomes, tmp_path):
    plain, found = outcomes["no teacher"], outcomes["a subclass"]
    assert not found.teacher_changed and found.trained == plain.trained
    assert abs(found.bytes / plain.bytes - 1) < 0.01
    assert found.strangers == ("yolostudy.bridge.pose_teachers.TaughtPoseModel",)
    assert found.teach_loss > 0 and found.validation_loss > 0


def test_who_has_no_such_class_cannot_open_the_subclass(tmp_path):
    teacher = pose_teachers.a_teacher()
    with scenes.trainer("pose") as trainer:
        pose_teachers.by_subclass(trainer, teacher)
        trainer.train()
        shutil.copy(trainer.best, tmp_path / "best.pt")
    code = "import sys; sys.modules['yolostudy'] = None\nimport torch\ntorch.load(sys.argv[1], weights_only=False)"
    words = [sys.executable, "-c", code, str(tmp_path / "best.pt")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode and "ModuleNotFoundError" in done.stderr and "yolostudy" in done.stderr


def test_the_criterion_leaves_nothing_behind(outcomes):
    plain, found = outcomes["no teacher"], outcomes["the criterion"]
    assert not found.teacher_changed and (found.trained, found.averaged) == (plain.trained, plain.averaged)
    assert abs(found.bytes / plain.bytes - 1) < 0.01 and found.strangers == ()
    assert found.teach_loss > 0 and found.validation_loss == 0 and plain.teach_loss == 0


def test_an_unknown_way_is_named():
    with pytest.raises(ValueError, match="choose one of no teacher, a module of the model"):
        pose_teachers.run("a hook")


# The founding chain, and the validator
# --------------------------------------------------------------------------------------------------


def names(chain) -> list[str]:
    return [f"{call.owner}.{call.function.rpartition('.')[2]}" for call in chain]


def test_the_founding_chain_with_the_teacher_in_it():
    seen = founding.taught_epoch(pose_teachers.a_teacher())
    assert names(seen.chains["the teacher"]) == [
        "PoseTrainer._do_train",
        "PoseModel.forward",
        "PoseModel.loss",
        "TaughtCriterion.__call__",
        "PoseDistillationLoss.forward",
        "PoseDistillationLoss.forward",
        "PoseTeacher.__call__",
        "PoseYOLO.forward",
    ]
    assert names(seen.chains["the labels' loss"])[-2:] == ["TaughtCriterion.__call__", "v8PoseLoss.__call__"]
    assert names(seen.chains["the criterion is made"])[-4:] == [
        "Lesson.__call__",
        "Lesson.attach",
        "PoseModel.init_criterion",
        "v8PoseLoss.__init__",
    ]
    assert names(seen.chains["validation makes its own"])[-2:] == ["PoseModel.loss", "PoseModel.init_criterion"]
    life = {moment.what: names(moment.chain) for moment in seen.life}
    assert all(life.values())
    assert life["built, once"] == ["PoseTrainer._do_train", "PoseTrainer._setup_train", "PoseTrainer.get_validator"]
    assert life["after each epoch"][-2:] == ["PoseTrainer.validate", "PoseValidator.__call__"]
    assert life["the end: the best is judged"] == ["PoseTrainer.final_eval", "PoseValidator.__call__"]
    text = str(seen)
    assert text.count("PoseModel.init_criterion") == 2 and "Teacher.__call__ of PoseTeacher" in text
    assert len(text.splitlines()) < 40


def two_epochs(answer, **settings) -> tuple[list[dict], int]:
    """The rows of the log when the validator's fitness is `answer(epoch)`, and the epoch of best.pt."""
    with scenes.trainer("pose", epochs=4, **settings) as trainer:
        validate, kept = trainer.validate, []

        def changed():
            metrics, _ = validate()
            fitness = answer(trainer.epoch)
            trainer.best_fitness = fitness if trainer.epoch == 0 else max(trainer.best_fitness, fitness)
            return metrics, fitness

        trainer.validate = changed
        trainer.add_callback("on_model_save", lambda t: kept.append(torch.load(t.best, weights_only=False)["epoch"]))
        trainer.train()
        return list(csv.DictReader(trainer.csv.open())), kept[-1]


def test_the_validator_chooses_the_best_and_may_stop_and_never_sets_the_rate():
    better, best = two_epochs(lambda epoch: 0.1 * (epoch + 1))
    worse, first = two_epochs(lambda epoch: 0.9 - 0.1 * epoch)
    assert (best, first) == (3, 0) and len(better) == len(worse) == 4
    rates = [[row[name] for name in row if name.startswith("lr/")] for row in better]
    assert rates == [[row[name] for name in row if name.startswith("lr/")] for row in worse]
    assert len({tuple(row) for row in rates}) > 1
    stopped, _ = two_epochs(lambda epoch: 0.9 - 0.1 * epoch, patience=1)
    assert len(stopped) == 2
