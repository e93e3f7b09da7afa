"""Rooms of teachers inside somebody else's trainer."""

import functools

from yolostudy.study.museum import Room

BROKEN, FIXED = "a module of the model", "the criterion"


@functools.cache
def epoch(way: str):
    """One epoch of the real PoseTrainer takes seconds, so each is run once."""
    from yolostudy.bridge import pose_teachers

    return pose_teachers.run(way)


unfrozen = Room(
    68,
    "the teacher learns too, and the student's file is twice as large",
    "the teacher is an attribute of the model, so it is one of its modules. The trainer asks every parameter of the "
    "model for a gradient, also those that were frozen, and its optimizer, average and file hold what the model "
    "holds. Keep the teacher in the criterion, which is set when all of these are built and which no file keeps.",
    broken=BROKEN,
    fixed=FIXED,
    diary=True,
)


@unfrozen.look
def _(way):
    left, plain = epoch(way), epoch("no teacher")
    changed = "changed" if left.teacher_changed else "as it was"
    larger = left.bytes / plain.bytes
    return left.teacher_changed or larger > 1.5, f"the teacher is {changed}, the file {larger:.2f} of a plain one"


@unfrozen.find("counting what is trained, averaged and saved")
def _(way):
    left, plain = epoch(way), epoch("no teacher")
    rows = (("plain", plain), (way, left))
    return "\n".join(
        f"{name:<23}{found.trained:>10,} trained{found.averaged:>11,} averaged{found.bytes / 1e6:>6.1f} MB"
        for name, found in rows
    )
