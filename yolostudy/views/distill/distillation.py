"""A teacher's maps and class answers beside the student's: what a teacher knows and labels do not.

Shapes: C channels of a layer, h w its size, K classes that both know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ...canvas import drawing, style
from ...canvas.panel import Panel
from .answers import TeacherAnswers

TEACHER, STUDENT = style.CYCLE[0], style.CYCLE[1]
KINDS = {"bernoulli": "sigmoid, a coin for each class", "softmax": "softmax, one cake for all classes"}


@dataclass(frozen=True, eq=False)
class DistillationNumbers:
    """The numbers of one picture, level, channel, temperature and position.

    Attributes:
        per_channel: (C,) channel-wise loss of each channel.
        student_map, teacher_map: (h, w) softmax of the chosen channel; each sums to 1.
        student, teacher: kind -> (K,) probabilities at the position.
        response: kind -> loss at the position.
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


@style.house()
def draw_distillation(
    answers: TeacherAnswers,
    image: int = 0,
    level: str = "",
    channel: int | None = None,
    temperature: float = 1.0,
    position: tuple[int, int] | None = None,
    shift: float = 0.0,
) -> style.StudyFigure:
    """The map of a channel and the class answers at a position, the teacher's beside the student's.

    Its numbers: a `DistillationNumbers`.

    Args:
        level: of `answers.levels`; by default the first.
        channel: by default the one with the largest loss.
        temperature: of the maps and of the answers.
        position: row and column on that level, framed in all pictures; by default the position of
            the teacher's highest class score.
        shift: added to every class logit of the student.
    """
    numbers = distillation_numbers(answers, image, level, channel, temperature, position, shift)
    return _draw(numbers, answers.pictures[image]).with_numbers(numbers)


def distillation_numbers(
    answers: TeacherAnswers,
    image: int = 0,
    level: str = "",
    channel: int | None = None,
    temperature: float = 1.0,
    position: tuple[int, int] | None = None,
    shift: float = 0.0,
) -> DistillationNumbers:
    """The numbers of `draw_distillation`, without the picture."""
    level = level or answers.levels[0]
    if level not in answers.levels:
        raise ValueError(f"there is no level {level!r}; there are {', '.join(answers.levels)}.")
    per_channel = answers.per_channel(image, level, temperature)
    channel = int(per_channel.argmax()) if channel is None else channel
    position = answers.surest(image, level) if position is None else tuple(position)
    maps = [side[image, channel].double().numpy(force=True) for side in answers.features[level]]
    student_map, teacher_map = (_softmax(side / temperature) for side in maps)
    logits = answers.logits(image, level, position)
    raised = (logits[0] + shift) / temperature, logits[1] / temperature
    student, teacher = ({"bernoulli": (1 + np.tanh(side / 2)) / 2, "softmax": _softmax(side)} for side in raised)
    response = {kind: answers.response(kind, image, level, position, temperature, shift) for kind in KINDS}
    maps_and_answers = per_channel, student_map, teacher_map, student, teacher, response
    names = tuple(answers.shared)
    return DistillationNumbers(level, channel, temperature, shift, position, names, *maps_and_answers)


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def _draw(numbers: DistillationNumbers, picture: np.ndarray) -> style.StudyFigure:
    figure, axes_at = drawing.by_pixel(900, 560)
    shape = 205, 205 * picture.shape[0] / picture.shape[1]  # of each of the three maps, in pixels on paper
    most = max(numbers.teacher_map.max(), numbers.student_map.max())
    _draw_picture(axes_at(10, 52, *shape), numbers, picture)
    maps = (223, "teacher", TEACHER, numbers.teacher_map), (436, "student", STUDENT, numbers.student_map)
    for left, whose, colour, shown in maps:
        axes = axes_at(left, 52, *shape)
        _draw_map(axes, numbers, picture, shown, most)
        axes.set_title(f"{whose}: {numbers.level}, channel {numbers.channel}", fontsize=10, color=colour)
    figure.text(0.011, 0.965, f"temperature {numbers.temperature:.3g}", fontsize=11, weight="bold")
    _draw_channels(axes_at(705, 52, 180, 205), numbers)
    answers = [axes_at(left, 370, 375, 155) for left in (64, 510)]
    for axes, kind in zip(answers, KINDS, strict=True):
        _draw_answers(axes, numbers, kind)
    answers[0].set_ylabel("probability", labelpad=3)
    handles = answers[0].get_legend_handles_labels()
    figure.legend(*handles, loc="center right", bbox_to_anchor=(0.99, 0.43), ncols=2)
    moved = f", the student's logits {numbers.shift:+g}" if numbers.shift else ""
    figure.text(0.011, 0.42, f"classes at the framed position{moved}", fontsize=11, weight="bold")
    return figure


def _draw_picture(axes, numbers: DistillationNumbers, picture: np.ndarray) -> None:
    drawing.ground(axes, picture, interpolation="nearest")
    drawing.frame(axes, _framed(numbers, picture), style.PAPER)
    axes.set(xticks=[], yticks=[])
    axes.set_title("picture", fontsize=10)


def _draw_map(axes, numbers: DistillationNumbers, picture: np.ndarray, shown: np.ndarray, most: float) -> None:
    """The softmax of a channel over the area of the picture."""
    high, wide = picture.shape[:2]
    drawing.ground(axes, None)
    axes.imshow(shown, style.HEAT, vmin=0, vmax=most, extent=(0, wide, high, 0), interpolation="nearest")
    drawing.frame(axes, _framed(numbers, picture), style.INK, linewidth=3.6)
    drawing.frame(axes, _framed(numbers, picture), style.PAPER)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"peak {shown.max():.3f}, evenly spread {1 / shown.size:.3f}", fontsize=8)


def _framed(numbers: DistillationNumbers, picture: np.ndarray) -> tuple[float, float, float, float]:
    """The chosen position as a box in pixels of the picture."""
    stride = picture.shape[1] / numbers.teacher_map.shape[1]
    row, column = numbers.position
    return column * stride, row * stride, (column + 1) * stride, (row + 1) * stride


def _draw_channels(axes, numbers: DistillationNumbers) -> None:
    """The loss of every channel, sorted, with the chosen one marked."""
    order, own = np.argsort(-numbers.per_channel), numbers.per_channel[numbers.channel]
    at = np.arange(len(order)) + 0.5
    axes.fill_between(at, numbers.per_channel[order], step="mid", color=style.FAINT, alpha=0.5, linewidth=0)
    place = int(np.flatnonzero(order == numbers.channel)[0]) + 0.5
    axes.plot(place, own, "o", color=style.INK)
    align = "left" if place < len(order) * 0.55 else "right"
    look = dict(textcoords="offset points", fontsize=9, va="center", ha=align)
    axes.annotate(f"this one {own:.3g}", (place, own), (10, 0), **look)
    axes.set_title(f"CWD {numbers.per_channel.mean():.3g}", fontsize=10)
    axes.set_xlabel(f"{len(order)} channels, sorted", fontsize=9)
    axes.set(xlim=(0, len(order)), ylim=(0, max(1.15 * numbers.per_channel.max(), 1e-9)))


def _draw_answers(axes, numbers: DistillationNumbers, kind: str) -> None:
    """The probabilities of both at the framed position, class by class."""
    places = np.arange(len(numbers.class_names))
    sides = (-0.2, "teacher", TEACHER, numbers.teacher), (0.2, "student", STUDENT, numbers.student)
    for shift, label, colour, values in sides:
        axes.bar(places + shift, values[kind], 0.38, color=colour, label=label)
    axes.set_xticks(places, numbers.class_names)
    axes.set_title(f"{KINDS[kind]}: KL {numbers.response[kind]:.3g}", fontsize=10)
    axes.set_ylim(0, 1.04)
    axes.grid(axis="x", visible=False)


class DistillationLens(Panel):
    """A widget: sliders for everything that `draw_distillation` shows.

    `numbers` is a `DistillationNumbers`.

    Args:
        student, teacher, images, class_names, distill: as in `TeacherAnswers`.
        temperature: first value of its slider.
    """

    def __init__(
        self,
        student,
        teacher,
        images: Sequence[np.ndarray],
        class_names: Sequence[str],
        distill: ModuleType | None = None,
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
        """Set row, column and channel for the picture and level that are chosen now.

        They become the position of the teacher's highest class score, and the channel with the
        largest loss.
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
        figure = draw_distillation(
            self.answers,
            self.image.value,
            self.level.value,
            self.channel.value,
            self.temperature.value,
            where,
            self.shift.value,
        )
        return figure.numbers, figure
