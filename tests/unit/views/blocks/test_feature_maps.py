"""A sheet shows the channels that vary most."""

import numpy as np
import torch

from yolostudy import views
from yolostudy.canvas import style


def test_the_sheet_shows_the_liveliest_channels():
    maps = torch.zeros(6, 10, 12)
    maps[4, 0, 0], maps[1, 5, 5] = 9, -3
    sheet = views.feature_sheet(maps, np.zeros((40, 48, 3), np.uint8), count=2, columns=3)
    assert sheet.numbers == {"shape": (6, 10, 12), "channels": [4, 1], "lowest": -3.0, "highest": 9.0}
    assert sheet.image.ndim == 3 and repr(sheet) == "FeatureSheet(2 of 6 channels)"
    bundle = sheet._repr_mimebundle_()
    assert len(bundle) == 2 and all(len(content) * 3 / 4 <= style.MAX_BYTES for content in bundle.values())
    named = views.feature_sheet(maps[:2], names=("one", "two"))
    assert named.numbers["channels"] == [0, 1]
    assert views.feature_sheet(maps[None]).numbers["channels"][:2] == [4, 1]
