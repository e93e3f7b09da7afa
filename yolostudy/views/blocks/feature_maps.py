"""What a map holds: its channels as small pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...canvas import style
from ..detections.sheet import sheet

if TYPE_CHECKING:
    from torch import Tensor


class FeatureSheet(style.Picture):
    """A sheet of channels.

    Its numbers: shape of the map, channels that are shown, lowest and highest value of the map.
    """

    _repr_jpeg_ = None  # the bundle below holds the picture in one format, the smaller one

    def __repr__(self) -> str:
        return f"FeatureSheet({len(self.numbers['channels'])} of {self.numbers['shape'][0]} channels)"

    def _repr_mimebundle_(self, **options) -> dict:
        # PNG holds the few large squares of a coarse map better; a fine map is more like a photograph.
        found = {"image/png": style.image_as_png(self.image), "image/jpeg": style.as_jpeg(self.image)}
        kind = min(found, key=lambda kind: len(found[kind]))
        return {kind: b64encode(found[kind]).decode(), "text/plain": repr(self)}


def feature_sheet(
    features: Tensor,
    image: np.ndarray | None = None,
    count: int = 15,
    columns: int = 8,
    names: Sequence[str] | None = None,
) -> FeatureSheet:
    """The channels of a map that vary most.

    Each channel has a range of its own, from dark (its lowest value) to bright (its highest).

    Args:
        features: (C, H, W), or a batch of one.
        image: (H', W', 3) uint8 that they were made from; it comes first.
        count: maximum number of channels.
        names: one for each channel; then all of them are shown, in their order.
    """
    maps = features.detach().float().cpu().numpy()
    maps = maps[0] if maps.ndim == 4 else maps
    chosen = np.arange(len(maps)) if names is not None else np.argsort(-maps.std((1, 2)), kind="stable")[:count]
    enlarge = max(1, 120 // max(maps.shape[1:]))
    tiles = [] if image is None else [image]
    for channel in chosen:
        low, high = maps[channel].min(), maps[channel].max()
        tile = (255 * style.HEAT((maps[channel] - low) / (high - low or 1.0))[..., :3]).astype(np.uint8)
        tiles.append(tile.repeat(enlarge, 0).repeat(enlarge, 1))  # whole squares: each is one position of the map
    titles = [*([] if image is None else ["image"]), *(names or (f"channel {channel}" for channel in chosen))]
    numbers = {
        "shape": maps.shape,
        "channels": [int(channel) for channel in chosen],
        "lowest": float(maps.min()),
        "highest": float(maps.max()),
    }
    return FeatureSheet(sheet(tiles, columns, titles), numbers)
