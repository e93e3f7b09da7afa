"""The album counts and shows its pages."""

from base64 import b64decode

import numpy as np
import pytest

from solutions import metrics
from tests.unit.views.detections.scenes import judged
from yolostudy import views
from yolostudy.canvas import style


def test_the_album_counts_and_shows_its_pages():
    predictions, truths = judged(images=2)
    pictures = [np.full((100, 100, 3), 90, np.uint8)] * 2
    album = views.Album(pictures, truths, ["A1", "A2"])
    with pytest.raises(ValueError, match="no page yet"):
        views.draw_album(album)
    album.add("epoch 0", [np.zeros((0, 6))] * 2)
    album.add("epoch 4", predictions)
    expected = sum(
        int((metrics.match_predictions(p[p[:, 4] >= 0.25], t, np.array([0.5])) >= 0).sum())
        for p, t in zip(predictions, truths)
    )
    assert album.numbers["epoch 0"] == {"truths": 8, "hits": 0, "misses": 8, "false_alarms": 0}
    assert album.numbers["epoch 4"]["hits"] == expected
    picture = views.draw_album(album)
    assert picture.numbers["epoch 4"]["hits"] == expected and picture.image.shape[1] <= 960
    assert len(picture._repr_jpeg_()) <= style.MAX_BYTES
    assert views.draw_album(album, ["epoch 4"]).numbers.keys() == {"epoch 4"}

    bench = views.AlbumBench(album)
    assert bench.numbers["title"] == "epoch 4"
    bench.page.value = "epoch 0"
    assert bench.numbers["hits"] == 0
    assert len(b64decode(bench._repr_mimebundle_()["image/jpeg"])) <= style.MAX_BYTES
    with pytest.raises(ValueError, match="1 predictions for 2 pictures"):
        album.add("epoch 5", predictions[:1])
