"""How every benchmark prints: a table for people, one line of JSON for programs."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence

import torch


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence], facts: dict) -> None:
    """Print a table; the last line is the same as JSON, with the machine it was measured on."""
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    print(f"\n{title}")
    for line in [list(columns), *cells]:
        print(
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(line, widths, strict=True))
            )
        )
    machine = {"cores": torch.get_num_threads(), "torch": torch.__version__, "processor": platform.machine()}
    print(
        json.dumps(
            {
                "benchmark": title,
                "rows": [dict(zip(columns, row, strict=True)) for row in rows],
                **facts,
                "machine": machine,
            }
        )
    )
