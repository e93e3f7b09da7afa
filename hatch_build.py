"""What a wheel holds besides `yolostudy/`: the finished module that `lens.trace` stands on.

In the repository `yolostudy/trace.py` is the learner's, and the reference lies in `solutions/`,
which a wheel does not hold. Nothing is added to an editable install, nor where there is no
`solutions/`: the sealed edition for an exam.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FinishedTrace(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        finished = Path(self.root, "solutions", "trace.py")
        if version == "standard" and finished.exists():
            build_data["force_include"][str(finished)] = "yolostudy/lens/calls/finished_trace.py"
