"""What every picture and widget of the course keeps to: it is offered, and it carries its numbers."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

from solutions import assigner, blocks, boxes, heatmaps, losses, metrics, network, pose, training
from tests.unit.views.assigner.samples import seen
from tests.unit.views.boxes.functions import APART, DECODE, FIXED, MEASURE, NMS, OVERLAPPING, candidates
from tests.unit.views.detections.scenes import judged
from tests.unit.views.losses.batches import a_batch, a_loss, smooth
from tests.unit.views.pose.samples import AIRCRAFT, BOX
from yolostudy import views
from yolostudy.canvas.panel import Panel
from yolostudy.canvas.style import Picture, StudyFigure
from yolostudy.views import columns
from yolostudy.views.detections import gallery


def modules():
    for found in pkgutil.walk_packages(views.__path__, f"{views.__name__}."):
        yield importlib.import_module(found.name)


def public_pictures_and_widgets() -> set[str]:
    """Functions `draw_*` and `plot_*`, and panels, where they are defined."""
    found = set()
    for module in modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            drawn = inspect.isfunction(thing) and name.startswith(("draw_", "plot_"))
            if drawn or (inspect.isclass(thing) and issubclass(thing, Panel)):
                found.add(name)
    return found


def test_every_public_picture_and_widget_is_offered():
    assert public_pictures_and_widgets() - {gallery.Browser.__name__} <= set(views.__all__), (
        "`browse` makes the browser"
    )


@pytest.mark.parametrize("name", views.__all__)
def test_every_offered_name_is_there_and_says_what_it_is(name):
    thing = getattr(views, name)
    assert name in dir(views)
    assert name == "LOSS_PARTS" or inspect.getdoc(thing)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no 'draw_everything'; it offers .*draw_activations"):
        views.draw_everything  # noqa: B018


def test_the_parts_of_the_loss_are_those_of_the_loss():
    assert tuple(columns.LOSS_PARTS) == losses.LossParts._fields[1:]
    assert {*columns.LOSS_PARTS, *columns.TAUGHT} < {*columns.COLUMNS}


# Each picture once
# --------------------------------------------------------------------------------------------------


def of_blocks():
    field = views.receptive_field(blocks.SPPF(4, 4), 4)
    yield views.draw_receptive_field(field)
    yield views.draw_activations(views.activation_curves())
    gradient = views.input_gradient(lambda x: torch.nn.functional.avg_pool2d(x, 16), torch.ones(1, 3, 96, 96), (2, 2))
    yield views.draw_input_gradients(smooth(), {"one": gradient})


def of_network(tmp_path):
    nodes = views.yolo_nodes(views.network_shapes("n", 64, network=network))
    yield views.draw_network(nodes)
    yield views.draw_family(views.family_members(20, 32, network=network)[:1])

    def build(size):
        return torch.nn.Conv2d(3, 4, 3), lambda maps, batch, side: maps.sum()

    yield views.draw_what_fits(views.what_fits(8, "n", (32,), (1,), ("fp32",), measure=False, build=build))


def of_boxes():
    functions = dict(make_anchors=boxes.make_anchors, box_to_distance=boxes.box_to_distance)
    yield views.draw_anchors(views.anchor_survey((30, 20, 90, 70), (96, 160), **functions))
    yield views.draw_distributions(views.read_distributions(np.zeros((4, 16)), **DECODE))
    yield views.draw_overlaps([(OVERLAPPING, FIXED)], boxes.box_iou)
    yield views.draw_box_comparison(views.compare_boxes(APART, FIXED, **MEASURE))
    yield views.draw_box_regression(views.regress_box((8, 60, 28, 92), **MEASURE))
    yield views.draw_suppression(views.suppress(*candidates(), **NMS))


def of_assigner():
    found = views.assign_box(seen(), assigner)
    yield views.draw_microscope(found)
    yield views.draw_target_scores({"one": found})
    yield views.draw_rules(views.compare_rules(seen(), assigner))
    yield views.draw_assignments(views.assign_all({"one": seen()}, assigner))


def of_losses():
    maps, targets = a_batch(4)
    found = views.attribute_loss(a_loss(), maps, targets)
    yield views.draw_loss_shares([("one", found, "cls")], smooth())
    yield views.draw_positive_weights(found, smooth())
    yield views.draw_units({"one": views.measure_units(a_loss(), maps, targets)})
    yield views.draw_two_bins({"one": views.two_bins(3.3, [1] * 8)})
    yield views.draw_padding(targets, *losses.pad_targets(targets, 3))
    yield views.draw_loss_steps([{"total": 3.0, "box": 1.0, "cls": 1.0, "dfl": 1.0}])


def of_training(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,lr,loss,map50\n1,0.1,5,0.2\n2,0.2,4,0.3\n")
    yield views.plot_runs(tmp_path)
    yield views.draw_runs(views.compare_runs({"one": tmp_path}, x="epoch"), "epoch")
    yield views.draw_rates({"one": views.plan_rate(training.WarmupCosine(3, 0.1), 10)})
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    yield views.draw_gradients(views.GradientRecorder(model).numbers)
    yield views.draw_movement({"one": views.what_moved(model.state_dict(), model)})
    predictions, truths = judged(images=1)
    album = views.Album([smooth()], truths)
    album.add("epoch 1", predictions)
    yield views.draw_album(album)


def of_metrics():
    evaluation = metrics.evaluate(*judged(images=2), ["A1", "A2"])
    yield views.draw_operating_point(views.operating_point(evaluation, 0.5))


def of_weights():
    model = torch.nn.Linear(2, 2)
    yield views.draw_keys(views.map_keys(model.state_dict(), model, lambda key: key))


def of_distill():
    evaluation = metrics.evaluate(*judged(images=2), ["A1", "A2"])
    yield views.draw_class_bars({"one": evaluation}, ["A1"])
    yield views.draw_study({"KL": {"mAP50 base": [0.1, 0.5]}})


def of_pose():
    yield views.draw_oks(smooth(), AIRCRAFT, BOX)
    yield views.draw_sigma_reach()
    yield views.draw_keypoint_comparison(views.compare_keypoints(AIRCRAFT, AIRCRAFT, BOX, 0.1, pose), smooth())
    yield views.draw_flip(smooth(), AIRCRAFT, (0, 1, 3, 2))
    yield views.draw_keypoint_errors({"nose": [1.0, 2.0]})
    yield views.draw_answers(smooth(), AIRCRAFT[None], AIRCRAFT[None], AIRCRAFT[None])


def of_heatmaps():
    people = AIRCRAFT[None] / (6, 6, 1)
    maps = heatmaps.HeatmapGenerator(20, 4)(people)
    yield views.draw_heatmaps(smooth(), maps)
    yield views.draw_peaks(views.meeting_peaks(1.0, 3.0, heatmaps=heatmaps))
    yield views.draw_tags(smooth(), {"one": maps}, AIRCRAFT[None], heatmaps=heatmaps)
    yield views.draw_groups(smooth(), heatmaps.group_keypoints(maps, maps))


def of_engine():
    yield views.draw_warmup({"weights": [0.0, 0.1], "biases": [0.1, 0.1]}, [0.8, 0.9], [1, 4])


FOLDERS = (of_blocks, of_network, of_boxes, of_assigner, of_losses, of_training, of_metrics, of_weights, of_distill)
FOLDERS += (of_pose, of_heatmaps, of_engine)


@pytest.mark.parametrize("pictures", FOLDERS, ids=lambda function: function.__name__)
def test_a_picture_is_one_object_with_numbers(pictures, tmp_path):
    for picture in pictures(*[tmp_path] * len(inspect.signature(pictures).parameters)):
        assert isinstance(picture, StudyFigure | Picture) and picture.numbers is not None


def test_every_picture_is_drawn_once():
    """`draw_distillation` needs a trained pair, `draw_processes` two processes: tests of their own."""
    source = "".join(map(inspect.getsource, FOLDERS))
    drawn = {name for name in views.__all__ if name.startswith(("draw_", "plot_"))} - {
        "draw_distillation",
        "draw_processes",
    }
    assert not {name for name in drawn if f"views.{name}(" not in source}
