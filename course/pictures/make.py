"""Make the pictures of the README from the real thing: `python course/pictures/make.py`.

The scenes are painted by the shipped detector; the card is the HTML of `study.rehearse`, photographed
by Chromium; the report and the microscope are what stage 6 and stage 5 show.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import yolostudy

yolostudy.use("reference")

from yolostudy import hooks, lens, study, views  # noqa: E402 - the edition is chosen first
from yolostudy.canvas import style  # noqa: E402
from yolostudy.data import DATASETS, planes  # noqa: E402
from yolostudy.runs.detector import Detector, default_weights  # noqa: E402

HERE = Path(__file__).parent
MISTAKE = ("blocks.SPPF", "the pools run side by side")
CARD_WIDTH = 400  # CSS pixels


def scenes() -> Image.Image:
    """Twelve aerial scenes that the shipped detector has never seen, painted with what it found."""
    detector = Detector(default_weights())
    painted = []
    for index in range(12):
        scene = planes.render_scene("mini", seed=2026, split="test", index=index)
        truth = np.column_stack([scene.classes, scene.boxes])
        painted.append(views.paint(scene.image, detector(scene.image), truth, detector.class_names, side=240))
    return Image.fromarray(views.sheet(painted, columns=4, max_width=600))


def card() -> Image.Image:
    """The card under a wrong answer, as a notebook shows it."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium photographs the card, and there is none on this machine. Install chromium.")
    body = study.rehearse(*MISTAKE)._repr_html_()
    look = f"margin:0;padding:6px;display:inline-block;width:{CARD_WIDTH}px;font:15px sans-serif;background:white"
    page_text = f"<body style='{look}'>{body}</body>"
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(profile, executable_path=chromium, args=flags)
        page = browser.new_page()
        page.set_content(page_text)
        taken = page.locator("body > *").first.screenshot()
        browser.close()
    return Image.open(io.BytesIO(taken)).convert("RGB")


def side_by_side(left: Image.Image, right: Image.Image, gap: int = 24) -> Image.Image:
    """Both on white, centred on the same line."""
    height = max(left.height, right.height)
    whole = Image.new("RGB", (left.width + gap + right.width, height), "white")
    whole.paste(left, (0, (height - left.height) // 2))
    whole.paste(right, (left.width + gap, (height - right.height) // 2))
    return whole


def shipped_detector():
    state, described = hooks.load_weights(DATASETS / "weights" / "planes-n-mini.safetensors")
    reference = study.package("reference")
    detector = reference.network.YOLO(len(described["classes"])).eval()
    reference.weights.transfer(state, detector, minimum_share=1.0)
    return detector, described["classes"]


def nan_report() -> Image.Image:
    """The microscope's finding on the founding diary's mistake: logits raised to a power."""
    detector, _ = shipped_detector()
    scene = planes.render_scene("mini", seed=5, split="test", index=6)
    image = torch.from_numpy(scene.image).permute(2, 0, 1)[None] / 255
    boxes = torch.from_numpy(np.column_stack([np.zeros(len(scene.boxes)), scene.classes, scene.boxes])).float()
    mistaken = study.mistaken("losses.DetectionLoss", "the sigmoid is missing").losses.DetectionLoss(detector)
    maps = [level.detach().requires_grad_() for level in detector(image)]
    with lens.NaNMicroscope() as microscope:
        mistaken(maps, boxes).total.backward()
    return as_image(lens.draw_finding(microscope.finding))


def assigner_microscope() -> Image.Image:
    detector, names = shipped_detector()
    scene = planes.render_scene("mini", seed=5, split="test", index=6)
    with torch.no_grad():
        maps = detector(torch.from_numpy(scene.image).permute(2, 0, 1)[None] / 255)
    slide = views.make_slide(scene.image, maps, np.column_stack([scene.classes, scene.boxes]), names)
    return as_image(views.draw_microscope(views.assign_box(slide, study.package("reference"), box=2)))


def as_image(figure: style.StudyFigure) -> Image.Image:
    return Image.open(io.BytesIO(style.as_png(figure))).convert("RGB")


def main() -> None:
    """Write the three pictures, each small enough for a README."""
    made = {
        "scenes_and_card": side_by_side(scenes(), card()),
        "nan_report": nan_report(),
        "assigner_microscope": assigner_microscope(),
    }
    for name, picture in made.items():
        picture.quantize(256, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
        print(
            f"{HERE / name}.png: {picture.width} × {picture.height}, {(HERE / f'{name}.png').stat().st_size // 1000} kB"
        )


if __name__ == "__main__":
    main()
