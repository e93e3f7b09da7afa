"""From a preset to a trained detector: the library behind the `yolostudy` command.

    from yolostudy import runs
    from yolostudy.runs import presets

    run = runs.train(presets.load("planes.nano", profile="mini", minutes=2))
    detector = runs.Detector(run.folder / "best.safetensors")

`presets` says what to train, `builders` make each part from a few values, `running` puts the parts
together. The names below are imported when they are first used, because torch takes seconds.
"""

from importlib import import_module

PLACES = {
    "Detector": "detector",
    "Run": "running",
    "build_loader": "builders",
    "default_weights": "detector",
    "open_data": "builders",
    "prepare": "running",
    "train": "running",
    "val": "running",
}
__all__ = [*PLACES]


def __getattr__(name: str):
    if name in PLACES:
        return getattr(import_module(f".{PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
