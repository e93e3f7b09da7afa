"""`flight_recorder(target)`: the recorder for a trainer, chosen among installed adapters.

An adapter knows one kind of trainer. A package offers adapters as entry points of the group
`yolostudy.recorders`, so the lens imports none of them, and a package of your own can add one:

    [project.entry-points."yolostudy.recorders"]
    mine = "my_package.recorder:adapter"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from .recorder import Recorder

GROUP = "yolostudy.recorders"


@dataclass(frozen=True)
class Adapter:
    """Knows one kind of trainer by its attributes: `adapter(target)` is its recorder, or None.

    Args:
        kind: the kind of target in words, such as "a trainer of yolostudy.engine".
        recorder: a subclass of Recorder, called as `recorder(target, stop, show)`.
        needs: attribute of the target -> a test on its value.
    """

    kind: str
    recorder: type[Recorder]
    needs: Mapping[str, Callable[[object], bool]]

    def lacks(self, target) -> list[str]:
        """The attributes that a target does not have, or that are not what is needed."""
        return [
            name for name, fits in self.needs.items() if not (hasattr(target, name) and fits(getattr(target, name)))
        ]

    def __call__(self, target) -> type[Recorder] | None:
        return None if self.lacks(target) else self.recorder


def flight_recorder(target, stop: bool = True, show: Callable[[str], object] | None = print) -> Recorder:
    """A recorder for a trainer: of this course, of Ultralytics, or of another installed package.

    Use it in a `with` block, or call its `attach()`: it stays attached until `detach()`.

    Args:
        target: an engine.Trainer, or Ultralytics' `YOLO` or one of its trainers.
        stop, show: as in `Recorder`.

    Errors: TypeError for a target that no adapter knows.
    """
    adapters = {point.name: point.load() for point in entry_points(group=GROUP)}
    for adapter in adapters.values():
        if (recorder := adapter(target)) is not None:
            return recorder(target, stop, show)
    raise TypeError(_refusal(target, adapters))


def _refusal(target, adapters: Mapping[str, Callable]) -> str:
    known = []
    for name, adapter in adapters.items():
        if hasattr(adapter, "lacks"):
            missing = ", ".join(f"`{attribute}`" for attribute in adapter.lacks(target))
            known.append(f"{adapter.kind} (this one lacks {missing})")
        else:
            known.append(name)
    kinds = "; ".join(known) or "nothing: yolostudy is not installed here, so run `make setup`"
    return (
        f"flight_recorder: a {type(target).__name__} is no trainer that is known here. Known: {kinds}. "
        "For a loop of your own, make a Recorder([model]) and call its begin(again, batch) before each step and its "
        "end(loss) after it."
    )
