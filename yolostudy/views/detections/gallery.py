"""Images of a detection set with their truth: a browser, and a contact sheet.

`browse` needs a notebook with widgets; `contact_sheet` is one picture and works everywhere. Both
give numbers. Neither keeps images in memory: each is read, painted and released.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ...canvas import drawing, style
from ...canvas.panel import Panel
from ...data.records import DataError, DetectionSet, Record
from .joints import skeleton_of
from .painter import SIDE, Painted, paint
from .sheet import sheet


def contact_sheet(
    detection_set: DetectionSet,
    count: int = 24,
    columns: int = 6,
    seed: int = 0,
    class_name: str | None = None,
    max_width: int = 960,
) -> style.Picture:
    """A random choice of images with their truth, in rows.

    Its numbers: images, objects, per_class (only classes that are seen).

    Args:
        count: maximum number of images.
        class_name: only images that show this class.

    Errors: DataError for an unknown class or a set without such images.
    """
    chosen = _matching(detection_set, class_name)
    if not chosen:
        raise DataError(
            f"{detection_set.name}: no image{' shows ' + class_name if class_name else ''}. Choose another class or "
            "split."
        )
    picked = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:count])
    records = [detection_set.records[chosen[index]] for index in picked]
    cell = max_width // columns
    pictures = (paint_record(record, detection_set, side=cell) for record in records)
    return style.Picture(sheet(pictures, columns, max_width=max_width), _counted(records, detection_set))


def paint_record(record: Record, detection_set: DetectionSet, *, side: int = SIDE, keypoints: bool = False) -> Painted:
    """The image of a record with its truth, and its keypoints on demand."""
    with Image.open(record.image) as file:
        image = np.asarray(file.convert("RGB"))
    truth = np.column_stack([record.classes, record.boxes])
    shown = record.keypoints if keypoints else None
    skeleton = skeleton_of(0 if shown is None else shown.shape[1])
    return paint(image, None, truth, detection_set.class_names, keypoints=shown, skeleton=skeleton, side=side)


class Browser(Panel):
    """A widget: a picture with a slider, previous and next, and choices of split and class.

    `numbers` says what is shown now.
    """

    def __init__(self, splits: Mapping[str, DetectionSet]):
        import ipywidgets as widgets

        self.splits = dict(splits)
        any_keypoints = any(
            record.keypoints is not None for chosen in self.splits.values() for record in chosen.records[:1]
        )
        self.split = widgets.Dropdown(options=list(self.splits), description="split", layout={"width": "210px"})
        self.class_name = widgets.Dropdown(description="class", layout={"width": "210px"})
        self.slider = widgets.IntSlider(
            min=0, max=0, description="image", continuous_update=False, layout={"width": "420px"}
        )
        self.keypoints = widgets.Checkbox(value=False, description="keypoints", indent=False, layout={"width": "110px"})
        back, forward = (
            widgets.Button(description=text, layout={"width": "90px"}) for text in ("◀ previous", "next ▶")
        )
        self.picture = widgets.Image(format="jpeg", layout={"max_width": "640px"})
        self.facts = widgets.HTML(layout={"margin": "0 0 0 18px"})

        back.on_click(lambda _: self.step(-1))
        forward.on_click(lambda _: self.step(1))
        self._choose_split()
        self.split.observe(lambda _: self._choose_split(), "value")
        self.class_name.observe(lambda _: self._choose_class(), "value")
        choices = [self.split, self.class_name, *([self.keypoints] if any_keypoints else [])]
        rows = [widgets.HBox(choices), widgets.HBox([self.slider, back, forward])]
        self._begin(rows, [self.slider, self.keypoints], widgets.HBox([self.picture, self.facts]))

    @property
    def set(self) -> DetectionSet:
        return self.splits[self.split.value]

    def step(self, by: int) -> None:
        """Move on by `by` images; after the last comes the first."""
        if self._chosen:
            self.slider.value = (self.slider.value + by) % len(self._chosen)

    def _choose_split(self) -> None:
        present = _counted(self.set.records, self.set)["per_class"]
        wanted = self.class_name.value
        with self._at_once():
            self.class_name.options = [("all", ""), *((f"{name} ({number})", name) for name, number in present.items())]
            self.class_name.value = wanted if wanted in present else ""
            self._choose_class()

    def _choose_class(self) -> None:
        with self._at_once():
            self._chosen = _matching(self.set, self.class_name.value or None)
            self.slider.value = 0
            self.slider.max = max(0, len(self._chosen) - 1)

    def _draw(self) -> None:
        self.numbers = {
            "split": self.split.value,
            "class": self.class_name.value or None,
            "index": self.slider.value,
            **_counted([self.set.records[index] for index in self._chosen], self.set),
        }
        if not self._chosen:
            self.facts.value = "No image in this split."
            return
        record = self.set.records[self._chosen[self.slider.value]]
        try:
            painted = paint_record(record, self.set, keypoints=self.keypoints.value)
        except OSError as error:  # any image may be missing, even the first: the browser goes on
            self.facts.value = f"<b>Cannot read this image.</b> {html.escape(str(error))}"
            return
        self.numbers["shown"] = painted.truths
        self.picture.value = style.as_jpeg(painted.image)
        self.facts.value = _facts(record, self.set, self.slider.value, len(self._chosen))

    def _on_paper(self) -> dict[str, bytes]:
        return {"image/jpeg": self.picture.value}

    def __repr__(self) -> str:
        return f"Browser({', '.join(self.splits)})"


def browse(splits: DetectionSet | Mapping[str, DetectionSet]) -> Browser:
    """A browser over one detection set, or over several by the names of their splits."""
    return Browser(splits if isinstance(splits, Mapping) else {splits.name: splits})


def _matching(detection_set: DetectionSet, class_name: str | None) -> list[int]:
    """Indices of the records that show a class; of all records without one."""
    if class_name is None:
        return list(range(len(detection_set)))
    if class_name not in detection_set.class_names:
        raise DataError(
            f"{detection_set.name}: unknown class {class_name}. Known classes: {', '.join(detection_set.class_names)}."
        )
    number = detection_set.class_names.index(class_name)
    return [index for index, record in enumerate(detection_set.records) if number in record.classes]


def _counted(records: list[Record], detection_set: DetectionSet) -> dict:
    classes = np.concatenate([np.zeros(0, np.int64), *(record.classes for record in records)])
    totals = np.bincount(classes, minlength=len(detection_set.class_names))
    per_class = {name: int(total) for name, total in zip(detection_set.class_names, totals, strict=True) if total}
    return {"images": len(records), "objects": len(classes), "per_class": per_class}


def _facts(record: Record, detection_set: DetectionSet, index: int, count: int) -> str:
    names = (detection_set.class_names[number] for number in record.classes)
    sizes = [(name, f"{x2 - x1:.0f} × {y2 - y1:.0f} px") for name, (x1, y1, x2, y2) in zip(names, record.boxes)]
    return (
        f"<div style='line-height:1.5'><b>{html.escape(record.image.name)}</b><br>image {index + 1} of {count}<br>"
        f"{record.size[0]} × {record.size[1]} pixels<br>objects: {len(record.classes)}{drawing.table((), sizes)}</div>"
    )
