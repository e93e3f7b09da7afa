"""Many pictures are written one by one."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.views.detections.scenes import photograph
from yolostudy import views
from yolostudy.canvas import style


def counted_stream(alive, count=12):
    """Painted pictures; fails if more than two of them are alive, the one being written and the one
    being made.
    """
    for number in range(count):
        painted = SimpleNamespace(**{name: 0 for name in ("predictions", "truths", "hits", "misses", "false_alarms")})
        pixels = photograph(number, 32, 32)
        painted.image = pixels
        alive.append(weakref.ref(pixels))
        yield f"{number % 10}.png", painted
        del painted, pixels
        assert sum(ref() is not None for ref in alive) == 0, "a picture is still held after the next was asked for"


def test_a_folder_is_written_one_by_one(tmp_path):
    alive = []
    sums = views.paint_to_folder(counted_stream(alive), tmp_path / "out")
    assert sums["images"] == 12
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{n}.png" for n in range(10)),
        "0-2.png",
        "1-2.png",
    }


def test_a_folder_is_written_as_it_goes(tmp_path):
    def failing():
        yield "first", views.paint(photograph(), [], [[0, 10, 10, 50, 50]])
        assert (tmp_path / "first.jpg").stat().st_size > 0
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        views.paint_to_folder(failing(), tmp_path)


def test_a_sheet_has_rows_of_any_size_of_image():
    images = [
        photograph(n, width, height) for n, (width, height) in enumerate([(160, 160), (640, 320), (20, 400), (64, 64)])
    ]
    whole = views.sheet(iter(images), 3, ["a", "a title that is far too long for its cell", "c"], max_width=600)
    assert whole.shape[1] == 600 and whole.dtype == np.uint8
    assert (whole[0, 0] == style.rgb(style.GROUND)).all()
