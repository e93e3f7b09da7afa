"""Rooms of weights from elsewhere.

Both logs look like good news; the list of what was really copied says more.
"""

from yolostudy.study import package
from yolostudy.study.museum import Room


def checkpoint(course, without: str = ""):
    """A network's weights under Ultralytics' names, without those of one part."""
    weights = package("reference").network.YOLO(3).state_dict()
    return {
        course.weights.export_key(name): tensor
        for name, tensor in weights.items()
        if not without or not name.startswith(without)
    }


vanished = Room(
    28,
    "missing keys vanish from the report",
    mistake=("weights.transfer", "the model's own state is merged before the check"),
)


@vanished.look
def _(course):
    report = course.weights.transfer(checkpoint(course, without="neck."), course.network.YOLO(3), minimum_share=0.0)
    return not report.missing, f"of a checkpoint without a neck: {report}"


@vanished.find("comparing the model with the checkpoint, part by part")
def _(course):
    table, model = checkpoint(course, without="neck."), course.network.YOLO(3)
    course.weights.transfer(table, model, minimum_share=0.0)
    lines = []
    for part, module in model.named_children():
        names = [f"{part}.{name}" for name in module.state_dict()]
        lines.append(
            f"{part:<9} {sum(course.weights.export_key(name) in table for name in names):>3} of {len(names)} tensors "
            "are there"
        )
    return "\n".join(lines)


shifted = Room(
    37,
    "162 of 419 tensors transferred",
    mistake=("weights.rename_key", "the layers are counted as they stand in the table"),
)


def transferred(course):
    model = course.network.YOLO(3)
    return course.weights.transfer(checkpoint(course), model, minimum_share=0.0), len(model.state_dict())


@shifted.look
def _(course):
    report, count = transferred(course)
    return report.share < 0.9, f"{len(report.matched)} of {count} tensors transferred"


@shifted.find("the share of the numbers, and the first name that is missing")
def _(course):
    report, _ = transferred(course)
    first = report.missing[0] if report.missing else "none"
    return (
        f"{report}\nfirst missing     {first}\nfirst unexpected  "
        f"{report.unexpected[0] if report.unexpected else 'none'}"
    )
