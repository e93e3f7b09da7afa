"""The answers of a student and of its teacher to the same pictures.

No loss is written a second time: every number comes from the `distill` module in use, so a mistake
in it shows in the picture.

Shapes: C channels of a layer, h w its size, K classes that both know.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np


class TeacherAnswers:
    """The answers of a student and its teacher, computed once for all positions of the sliders.

    Args:
        student: images (B, 3, H, W) in 0…1 -> raw maps. It has submodules with the names of the
            teacher's layers, and runs in eval mode.
        teacher: a `distill.Teacher`; its `layers` are the levels, finest first, and each has a raw
            map.
        pictures: (n, H, W, 3) uint8, RGB, H and W multiples of 32.
        class_names: of the student's class channels, in order.
        distill: the module that computes the losses; by default `yolostudy.distill` of the edition
            in use.
    """

    def __init__(
        self,
        student,
        teacher,
        pictures: Sequence[np.ndarray],
        class_names: Sequence[str],
        distill: ModuleType | None = None,
    ):
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
                f"the teacher gives {len(layers)} layers, {', '.join(layers)}, and there are {len(student_maps)} raw "
                "maps; one for each is needed."
            )
        labels = dict(zip(NECK, "XYZ", strict=True))
        self.levels = [labels.get(layer, layer) for layer in layers]
        self.features = dict(zip(self.levels, zip(student_features, teacher_features, strict=True), strict=True))
        self.maps = dict(zip(self.levels, zip(student_maps, teacher_maps, strict=True), strict=True))

    def surest(self, image: int, level: str) -> tuple[int, int]:
        """Row and column of the teacher's highest class score."""
        scores = self.maps[level][1][image, 4 * self.reg_max :].amax(0)
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        return row, column

    def per_channel(self, image: int, level: str, temperature: float) -> np.ndarray:
        """(C,) the channel-wise loss of each channel alone; their mean is the loss of the map."""
        loss = self.distill.ChannelWiseLoss(temperature)
        student, teacher = (side[image : image + 1] for side in self.features[level])
        return np.array(
            [float(loss([student[:, c : c + 1]], [teacher[:, c : c + 1]])) for c in range(student.shape[1])]
        )

    def response(
        self, kind: str, image: int, level: str, position: tuple[int, int], temperature: float, shift: float
    ) -> float:
        """The response loss of one position, with `shift` added to the student's class logits."""
        loss = self.distill.ResponseLoss(self.class_names, self.teacher_names, kind, temperature, self.reg_max)
        student, teacher = (
            side[image, :, position[0], position[1]].clone().view(1, -1, 1, 1) for side in self.maps[level]
        )
        student[:, 4 * self.reg_max :] += shift
        return float(loss([student], [teacher]))

    def logits(self, image: int, level: str, position: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The student's and the teacher's logits, (K,) each, of the classes that both know."""
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
