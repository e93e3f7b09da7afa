"""Profiles: how large a set of planes is, and how its pictures look."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layouts import Layout
    from .parts import Airframe

# for each fleet the module of its aircraft (TYPES) and that of its grounds (LAYOUTS), imported when something is drawn
FLEETS = {"A": ("airframes", "layouts"), "B": ("abroad", "abroad")}


@dataclass(frozen=True, slots=True)
class Profile:
    """How large a set is and how its pictures look.

    Attributes:
        side: width and height of a picture in pixels.
        counts: number of pictures in train, validation and test.
        planes: how likely a picture shows 1, 2, 3 … aircraft.
        sizes: smallest and largest size of an aircraft, the longer of span and length, in pixels.
        finest: resolution at which aircraft are drawn, at least twice the largest size.
        fleet: which aircraft stand on which grounds, a key of FLEETS.
    """

    name: str
    side: int
    counts: tuple[int, int, int]
    planes: tuple[float, ...]
    sizes: tuple[float, float]
    finest: int
    fleet: str = "A"

    @property
    def types(self) -> tuple[Airframe, ...]:
        """The types of aircraft; a class index counts in this order."""
        return import_module(f".{FLEETS[self.fleet][0]}", __package__).TYPES

    @property
    def layouts(self) -> tuple[tuple[Layout, float], ...]:
        """The grounds, each with its weight."""
        return import_module(f".{FLEETS[self.fleet][1]}", __package__).LAYOUTS


PROFILES = {
    "sample": Profile("sample", 160, (24, 8, 8), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256),  # shipped with the course
    "mini": Profile("mini", 160, (1200, 200, 200), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256),
    "laptop": Profile("laptop", 640, (2930, 408, 504), (4, 7, 9, 11, 12, 12, 11, 9, 8, 6, 4, 3, 2, 2), (45, 220), 512),
    # other aircraft on other grounds, on which a backbone is trained first
    "abroad": Profile("abroad", 160, (4000, 200, 200), (0, 0.05, 0.2, 0.35, 0.4), (40, 72), 256, "B"),
}
