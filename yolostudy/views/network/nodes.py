"""The blocks of a network as nodes of a map, from the shapes of its feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Node:
    """One block of the map.

    Attributes:
        name: unique; `inputs` refer to it.
        kind: what it is, in a few words.
        shape: (C, H, W) of its output.
        inputs: names of the nodes that it reads.
        part: the column of the map that it belongs to.
        detail: sentences for the reader who clicks on it.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    inputs: tuple[str, ...] = ()
    part: str = "backbone"
    detail: str = ""


BLOCKS = (  # name, part, inputs, kind, detail
    ("P2", "backbone", "image", "stem, CSP layer", "Two halvings, then a CSP layer: edges and corners."),
    ("P3", "backbone", "P2", "halve, CSP layer", "Fine enough to tell small objects apart."),
    ("P4", "backbone", "P3", "halve, CSP layer", "Parts: wings, tails, engines."),
    ("P5", "backbone", "P4", "halve, CSP, SPPF", "The coarsest map. SPPF shows each position a wide surrounding."),
    (
        *("C", "top-down", "P5 P4", "double, join, CSP"),
        "P5 doubled in size and joined with P4: what the coarse map knows comes down.",
    ),
    (
        *("X", "top-down", "C P3", "double, join, CSP"),
        "C doubled in size and joined with P3. It feeds the head for small objects.",
    ),
    ("Y", "bottom-up", "X C", "halve, join, CSP", "X halved and joined with C: exact places go up again."),
    (
        *("Z", "bottom-up", "Y P5", "halve, join, CSP"),
        "Y halved and joined with P5. It feeds the head for large objects.",
    ),
)


def yolo_nodes(features: Mapping) -> list[Node]:
    """The nodes of `network.YOLO`, from what `features(images)` gives.

    Args:
        features: P2 … P5, C, X, Y, Z and the list "outputs"; tensors (B, C, H, W), or their shapes
            (C, H, W).
    """
    shape = {name: _shape(value) for name, value in features.items() if name != "outputs"}
    _, height, width = shape["P2"]
    image = (3, 4 * height, 4 * width)
    detail = "The picture as the network gets it: red, green and blue between 0 and 1."
    nodes = [Node("image", "RGB, 0…1", image, detail=detail)]
    nodes += [
        Node(name, kind, shape[name], tuple(inputs.split()), part, detail)
        for name, part, inputs, kind, detail in BLOCKS
    ]
    for source, output in zip("XYZ", features["outputs"], strict=True):
        channels, rows, columns = _shape(output)
        stride = image[1] // rows
        detail = (
            f"{rows * columns} anchors, one every {stride} pixels; each gives four edge distributions of bins and "
            "the class logits."
        )
        nodes.append(Node(f"stride {stride}", "box and class", (channels, rows, columns), (source,), "head", detail))
    return nodes


def network_shapes(size: str = "n", side: int = 640, num_classes: int = 80, network: ModuleType | None = None) -> dict:
    """The shapes of the feature maps that one size of the network makes of a square image.

    They are computed on torch's meta device: no values, no memory.

    Args:
        size: n, s, m, l or x.
        side: of the image in pixels, a multiple of 32.
        network: the module that has YOLO; by default `yolostudy.network` of the edition in use.

    Returns:
        as `yolo_nodes` takes it: name -> (C, H, W), and "outputs", a list of three.
    """
    import torch

    if network is None:
        from ... import network
    with torch.device("meta"), torch.no_grad():
        features = network.YOLO(num_classes, size).eval().features(torch.zeros(1, 3, side, side))
    return {
        name: [_shape(m) for m in value] if name == "outputs" else _shape(value) for name, value in features.items()
    }


def _shape(value) -> tuple[int, int, int]:
    return tuple(int(side) for side in tuple(getattr(value, "shape", value))[-3:])
