"""Benchmarks, which run on the reference and make the data that they need.

From the repository's root: `python -m tests.benchmarks.NAME`.
"""

import os

os.environ.setdefault("YOLOSTUDY_USE", "reference")

import yolostudy  # noqa: F401 (before torch is loaded, because it sets how long torch's threads spin)
