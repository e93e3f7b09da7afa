"""The key of a sealed course: what the probes saw of the reference and of each known mistake.

It stands in the place of the solutions, so that answers can be judged where there are none.
"""

import json
from pathlib import Path

from .observation import Seen, dumps, loads

# exercise -> name of the mistake, or "" for the reference -> what each probe saw
Key = dict[str, dict[str, list[Seen]]]


def dump_key(key: Key) -> str:
    """The key as JSON."""
    return json.dumps({name: {mistake: dumps(seen) for mistake, seen in own.items()} for name, own in key.items()})


def read_key(file: Path) -> Key:
    table = json.loads(file.read_text("utf-8"))
    return {name: {mistake: loads(seen) for mistake, seen in own.items()} for name, own in table.items()}
