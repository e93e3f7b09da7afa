"""Pictures: small, the same bytes every time, and legible for every reader."""

import subprocess
import sys

import numpy as np
import pytest

from yolostudy.canvas import drawing, style

COLOURS = {"truth": style.TRUTH, "hit": style.HIT, "miss": style.MISS, "false alarm": style.FALSE_ALARM}


def noise(seed, width, height):
    """What compresses worst."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def noisy_figure():
    figure, axes = style.figure(1, 2)
    for index, axis in enumerate(axes):
        axis.imshow(noise(index, 400, 300))
    return figure


@pytest.mark.parametrize("encode", [lambda: style.as_png(noisy_figure()), lambda: style.as_jpeg(noise(0, 1200, 900))])
def test_a_picture_is_small_and_always_the_same(encode):
    content = encode()
    assert len(content) <= style.MAX_BYTES
    assert content == encode()
    assert b"matplotlib" not in content.lower() and b"date" not in content.lower()


def test_figures_do_without_pyplot_and_leave_the_defaults_alone():
    code = (
        "import matplotlib, sys; before = dict(matplotlib.rcParams);from yolostudy.canvas import style; from "
        "yolostudy.views.training import curves; style.as_png(style.figure()[0]);assert 'matplotlib.pyplot' not in "
        "sys.modules; assert dict(matplotlib.rcParams) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color
# vision deficiency", severity 1.0, linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour, matrix):
    """CIE L*a*b* of a colour as an eye with this deficiency sees it."""
    value = np.array(style.rgb(colour)) / 255
    linear = (matrix @ np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)).clip(0, 1)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ linear
        / (0.9505, 1, 1.089)
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_four_colours_keep_apart_for_every_eye(deficiency):
    seen = {name: lab(colour, DEFICIENCIES[deficiency]) for name, colour in COLOURS.items()}
    for first in seen:
        for second in seen:
            if first < second:
                distance = np.linalg.norm(seen[first] - seen[second])
                assert distance > 25, f"{first} and {second} differ by only {distance:.0f}"


@pytest.mark.parametrize("colour", COLOURS.values())
def test_label_text_reads_on_its_ground(colour):
    assert style.contrast(colour, style.ink_on(colour)) >= 4


def test_axes_lie_where_their_pixels_say():
    figure, axes_at = drawing.by_pixel(400, 200)
    left, bottom, width, height = axes_at(100, 20, 40, 30).get_window_extent().bounds
    assert (left, 200 - bottom - height, width, height) == pytest.approx((100, 20, 40, 30))
    assert figure.canvas.get_width_height() == (400, 200) and len(figure.axes) == 1


def test_a_table_shows_text_as_it_is():
    made = drawing.table(("a", "<b>"), [("1", "&"), ("2", "x")], marked=1)
    assert "&lt;b&gt;" in made and "&amp;" in made and made.count("<tr") == 3 and made.count("background") == 1
    assert "thead" not in drawing.table((), [("1",)])
