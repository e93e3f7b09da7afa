"""One epoch of the real PoseTrainer, recorded once a process, for tests of trace and lens."""

import functools
import sys
import time

from solutions import trace
from yolostudy.bridge import scenes
from yolostudy.bridge import ultralytics as bridge


def profilers() -> int:
    """How many watch this process: none may be left behind."""
    tools = [sys.monitoring.get_tool(number) for number in range(6)] if hasattr(sys, "monitoring") else []
    return (sys.getprofile() is not None) + sum(tool is not None for tool in tools)


def calls(tree) -> int:
    return 1 + sum(map(calls, tree.calls))


@functools.cache
def pose_epoch() -> tuple[trace.Call, float]:
    """The tree, and the processor seconds that it took."""
    bridge.load()
    started = time.process_time()
    with scenes.trainer("pose") as trainer:
        tree = trace.record(trainer.train, packages=("ultralytics",))
    return tree, time.process_time() - started


def chain_to_the_loss(tree: trace.Call) -> list[trace.Call]:
    return trace.path_between(tree, "BaseTrainer._do_train", "v8PoseLoss.__call__")
