"""What a teacher's maps know and labels do not: its channels and class answers beside the
student's.

No loss is written a second time: every number here is asked of the `distill` module in use, so a
mistake in it shows in the picture.

Shapes: C channels of a layer, h w its size, K classes that both know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel

TEACHER, STUDENT = style.CYCLE[0], style.CYCLE[1]
KINDS = {"bernoulli": "sigmoid, a coin for each class", "softmax": "softmax, one cake for all classes"}


class TeacherAnswers:
    """What a student and its teacher say about some pictures, kept so that nobody need be asked
    again when a slider moves.

    Args:
        student: images (B, 3, H, W) in 0…1 -> raw maps, with submodules of the names of the
            teacher's layers; it is asked in eval mode.
        teacher: a `distill.Teacher`; its `layers` are the levels, finest first, of which each has a
            raw map.
        pictures: (n, H, W, 3) uint8, RGB, H and W multiples of 32.
        class_names: of the student's class channels, in order.
        distill: the module that is asked for the losses; the package's own where none is given.
    """

    def __init__(self, student, teacher, pictures: Sequence[np.ndarray], class_names: Sequence[str], distill=None):
        import torch

        from ...distill import NECK
        from ...training import to_unit

        if distill is None:
            from ... import distill
        self.pictures, self.distill, self.reg_max = np.asarray(pictures), distill, student.reg_max
        self.class_names, self.teacher_names = tuple(class_names), tuple(teacher.class_names)
        self.shared = [name for name in self.teacher_names if name in self.class_names]
        layers = teacher.taps.layers
        images = to_unit(torch.from_numpy(self.pictures).permute(0, 3, 1, 2), next(student.parameters()).device)
        taps, was_training = distill.Taps(student, layers, training_only=False), student.training
        try:
            with torch.no_grad():
                student_maps, (teacher_maps, teacher_features) = student.eval()(images), teacher(images)
            student_features = taps.take()[1]
        finally:
            taps.remove()
            student.train(was_training)
        if len(layers) != len(student_maps):
            raise ValueError(
                f"the teacher gives the layers {', '.join(layers)}, and there are {len(student_maps)} raw maps; one "
                "for each."
            )
        labels = dict(zip(NECK, "XYZ", strict=True))
        self.levels = [labels.get(layer, layer) for layer in layers]
        self.features = dict(zip(self.levels, zip(student_features, teacher_features, strict=True), strict=True))
        self.maps = dict(zip(self.levels, zip(student_maps, teacher_maps, strict=True), strict=True))

    def surest(self, image: int, level: str) -> tuple[int, int]:
        """Row and column where the teacher is surest of a class."""
        scores = self.maps[level][1][image, 4 * self.reg_max :].amax(0)
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        return row, column

    def per_channel(self, image: int, level: str, temperature: float) -> np.ndarray:
        """(C,) the channel-wise loss of each channel alone; their mean is that of the map."""
        loss = self.distill.ChannelWiseLoss(temperature)
        student, teacher = (side[image : image + 1] for side in self.features[level])
        return np.array(
            [float(loss([student[:, c : c + 1]], [teacher[:, c : c + 1]])) for c in range(student.shape[1])]
        )

    def response(
        self, kind: str, image: int, level: str, position: tuple[int, int], temperature: float, shift: float
    ) -> float:
        """The response loss of one position, the student's class logits shifted."""
        loss = self.distill.ResponseLoss(self.class_names, self.teacher_names, kind, temperature, self.reg_max)
        student, teacher = (
            side[image, :, position[0], position[1]].clone().view(1, -1, 1, 1) for side in self.maps[level]
        )
        student[:, 4 * self.reg_max :] += shift
        return float(loss([student], [teacher]))

    def logits(self, image: int, level: str, position: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(K,) logits of the classes that both know, the student's and the teacher's."""
        sides = zip(self.maps[level], (self.class_names, self.teacher_names), strict=True)
        return tuple(
            np.array(
                [
                    float(side[image, 4 * self.reg_max + names.index(name), position[0], position[1]])
                    for name in self.shared
                ]
            )
            for side, names in sides
        )


@dataclass(frozen=True, eq=False)
class LensNumbers:
    """What the lens shows.

    Attributes:
        per_channel: (C,) channel-wise loss of each channel. student_map, teacher_map: (h, w)
            softmax of the chosen one, each sums to 1.
        student, teacher: kind -> (K,) probabilities at the position. response: kind -> loss at the
            position.
    """

    level: str
    channel: int
    temperature: float
    shift: float
    position: tuple[int, int]
    class_names: tuple[str, ...]
    per_channel: np.ndarray
    student_map: np.ndarray
    teacher_map: np.ndarray
    student: dict[str, np.ndarray]
    teacher: dict[str, np.ndarray]
    response: dict[str, float]


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


@style.house()
def draw_distillation(
    answers: TeacherAnswers,
    image: int = 0,
    level: str = "",
    channel: int | None = None,
    temperature: float = 1.0,
    position: tuple[int, int] | None = None,
    shift: float = 0.0,
) -> tuple[style.StudyFigure, LensNumbers]:
    """Where a channel looks and what is answered at a position, the teacher's beside the student's.

    Args:
        level: of `answers.levels`; the first where none is given.
        channel: the one with the largest loss where none is given.
        temperature: of the maps and of the answers.
        position: row and column on that level, framed in all pictures; where the teacher is surest,
            if none is given.
        shift: added to every class logit of the student.
    """
    level = level or answers.levels[0]
    if level not in answers.levels:
        raise ValueError(f"there is no level {level!r}; there are {', '.join(answers.levels)}.")
    per_channel = answers.per_channel(image, level, temperature)
    channel = int(per_channel.argmax()) if channel is None else channel
    position = answers.surest(image, level) if position is None else tuple(position)
    maps = [side[image, channel].double().numpy(force=True) for side in answers.features[level]]
    student_map, teacher_map = (softmax(side / temperature) for side in maps)
    logits = answers.logits(image, level, position)
    raised = (logits[0] + shift) / temperature, logits[1] / temperature
    student, teacher = ({"bernoulli": (1 + np.tanh(side / 2)) / 2, "softmax": softmax(side)} for side in raised)
    response = {kind: answers.response(kind, image, level, position, temperature, shift) for kind in KINDS}
    maps_and_answers = per_channel, student_map, teacher_map, student, teacher, response
    numbers = LensNumbers(level, channel, temperature, shift, position, tuple(answers.shared), *maps_and_answers)
    return _draw(numbers, answers.pictures[image]), numbers


def _draw(numbers: LensNumbers, picture: np.ndarray) -> style.StudyFigure:
    figure, axes_at = drawing.by_pixel(900, 560)
    high, wide = picture.shape[:2]
    step = wide / numbers.teacher_map.shape[1]
    row, column = numbers.position
    box = (column * step, row * step, (column + 1) * step, (row + 1) * step)
    top = max(numbers.teacher_map.max(), numbers.student_map.max())
    colours = {"teacher": TEACHER, "student": STUDENT}
    name = f"{numbers.level}, channel {numbers.channel}"
    for place, (title, shown) in enumerate(
        {"picture": None, "teacher": numbers.teacher_map, "student": numbers.student_map}.items()
    ):
        axes = axes_at(10 + 213 * place, 52, 205, 205 * high / wide)
        drawing.ground(axes, picture if shown is None else None, interpolation="nearest")
        if shown is not None:
            axes.imshow(shown, style.HEAT, vmin=0, vmax=top, extent=(0, wide, high, 0), interpolation="nearest")
            drawing.frame(axes, box, style.INK, linewidth=3.6)
        drawing.frame(axes, box, style.PAPER)
        axes.set(xticks=[], yticks=[])
        axes.set_title(
            f"{title}: {name}" if shown is not None else title, fontsize=10, color=colours.get(title, style.INK)
        )
        if shown is not None:
            axes.set_xlabel(f"peak {shown.max():.3f}, evenly spread {1 / shown.size:.3f}", fontsize=8)
    figure.text(0.011, 0.965, f"temperature {numbers.temperature:.3g}", fontsize=11, weight="bold")

    bars = axes_at(705, 52, 180, 205)
    order = np.argsort(-numbers.per_channel)
    bars.fill_between(
        np.arange(len(order)) + 0.5, numbers.per_channel[order], step="mid", color=style.FAINT, alpha=0.5, linewidth=0
    )
    at = int(np.flatnonzero(order == numbers.channel)[0])
    bars.plot(at + 0.5, numbers.per_channel[numbers.channel], "o", color=style.INK)
    bars.annotate(
        f"this one {numbers.per_channel[numbers.channel]:.3g}",
        (at + 0.5, numbers.per_channel[numbers.channel]),
        (10, 0),
        textcoords="offset points",
        fontsize=9,
        va="center",
        ha="left" if at < len(order) * 0.55 else "right",
    )
    bars.set_title(f"CWD {numbers.per_channel.mean():.3g}", fontsize=10)
    bars.set_xlabel(f"{len(order)} channels, sorted", fontsize=9)
    bars.set(xlim=(0, len(order)), ylim=(0, max(1.15 * numbers.per_channel.max(), 1e-9)))

    places = np.arange(len(numbers.class_names))
    for number, (kind, what) in enumerate(KINDS.items()):
        axes = axes_at(64 + 446 * number, 370, 375, 155)
        for shift, label, colour, values in (
            (-0.2, "teacher", TEACHER, numbers.teacher),
            (0.2, "student", STUDENT, numbers.student),
        ):
            axes.bar(places + shift, values[kind], 0.38, color=colour, label=label)
        axes.set_xticks(places, numbers.class_names)
        axes.set_title(f"{what}: KL {numbers.response[kind]:.3g}", fontsize=10)
        axes.set_ylim(0, 1.04)
        axes.grid(axis="x", visible=False)
        if not number:
            axes.set_ylabel("probability", labelpad=3)
            figure.legend(*axes.get_legend_handles_labels(), loc="center right", bbox_to_anchor=(0.99, 0.43), ncols=2)
    moved = f", the student's logits {numbers.shift:+g}" if numbers.shift else ""
    figure.text(0.011, 0.42, f"classes at the framed position{moved}", fontsize=11, weight="bold")
    return figure


class DistillationLens(Panel):
    """Sliders for all that `draw_distillation` shows; `numbers` is a `LensNumbers`.

    Arguments as `TeacherAnswers` takes them.
    """

    def __init__(
        self,
        student,
        teacher,
        images: Sequence[np.ndarray],
        class_names: Sequence[str],
        distill=None,
        temperature: float = 1.0,
    ):
        import ipywidgets as widgets

        self.answers = TeacherAnswers(student, teacher, images, class_names, distill)
        look = dict(style={"description_width": "90px"}, layout={"width": "280px"})
        self.image = widgets.IntSlider(value=0, max=len(self.answers.pictures) - 1, description="picture", **look)
        self.level = widgets.ToggleButtons(options=self.answers.levels, style={"button_width": "50px"})
        self.channel, self.row, self.column = (
            widgets.IntSlider(description=name, **look) for name in ("channel", "row", "column")
        )
        self.temperature = widgets.FloatLogSlider(
            value=temperature, min=-1, max=2, step=0.05, description="temperature", **look
        )
        self.shift = widgets.FloatSlider(value=0, min=-12, max=12, step=0.5, description="shift student", **look)
        self._settle()
        for control in (self.image, self.level):
            control.observe(lambda _: self._moved(), "value")
        controls = [self.temperature, self.channel, self.shift, self.row, self.column]
        rows = [self.temperature, self.channel, self.level], [self.image, self.row, self.column], [self.shift]
        self._begin([widgets.HBox(row) for row in rows], controls)

    def _settle(self) -> None:
        """The place where the teacher is surest and the channel with the largest loss, of the
        picture and level that are chosen now.
        """
        image, level = self.image.value, self.level.value
        shape = self.answers.features[level][0].shape[1:]
        for control, size in zip((self.channel, self.row, self.column), shape, strict=True):
            control.max = size - 1
        self.channel.value = int(self.answers.per_channel(image, level, self.temperature.value).argmax())
        self.row.value, self.column.value = self.answers.surest(image, level)

    def _moved(self) -> None:
        with self._at_once():
            self._settle()

    def _look(self):
        where = (self.row.value, self.column.value)
        figure, numbers = draw_distillation(
            self.answers,
            self.image.value,
            self.level.value,
            self.channel.value,
            self.temperature.value,
            where,
            self.shift.value,
        )
        return numbers, figure
