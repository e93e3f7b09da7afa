"""`planes`: aerial pictures of airfields with twenty types of aircraft, drawn by a program.

    from yolostudy.data import planes

    planes.render_scene("mini", seed=0, split="train", index=3)
    planes.make("datasets/planes-mini", "mini")

A picture depends on (profile, seed, split, index) alone: the same numbers give the same pixels,
whatever the number of workers. Sets are written in the layout of MAR20, so one reader serves both.

Nothing is imported until it is asked for. The names of classes, keypoints and splits cost nothing;
what draws needs OpenCV.
"""

from __future__ import annotations

from importlib import import_module

_HOME = {  # public name -> the module that defines it
    "BASE": "vocabulary",
    "CLASSES": "vocabulary",
    "FLIP_INDEX": "vocabulary",
    "KEYPOINTS": "vocabulary",
    "NOVEL": "vocabulary",
    "SPLITS": "vocabulary",
    "PROFILES": "profiles",
    "Profile": "profiles",
    "TYPES": "airframes",
    "Scene": "scenes",
    "VERSION": "scenes",
    "render_scene": "scenes",
    "type_sheet": "scenes",
    "visible_box": "scenes",
    "SHOTS": "making",
    "few_shot": "making",
    "make": "making",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"yolostudy.data.planes has no {name!r}; it offers {', '.join(sorted(_HOME))}.")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
