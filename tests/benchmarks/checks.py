"""How long a learner waits for a card, in a warm process.

    python -m tests.benchmarks.checks

Every exercise is checked with a right answer and with every known mistake. The diagnosis of an
exercise's last mistake is timed on its own, because it compares with all others first.
"""

from __future__ import annotations

import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    from yolostudy.study import edition_in_use
    from yolostudy.study.judge import Judge

    judge = Judge(edition_in_use.course())
    started = time.perf_counter()
    exercises = [*judge.exercises.values()]
    print(f"reading {len(exercises)} exercises, torch included: {time.perf_counter() - started:.1f} s")
    first, right, wrong, diagnosis = [], [], [], {}
    for exercise in exercises:
        first.append(timed(judge.check, exercise.name, judge.reference))
        edition = exercise.misconceptions[-1].edition(judge.reference, exercise.name)
        # the last one: all others are looked at before it
        diagnosis[exercise.name] = timed(judge.check, exercise.name, edition)
        for _ in range(5):
            right.append(timed(judge.check, exercise.name, judge.reference))
        for misconception in exercise.misconceptions:
            edition = misconception.edition(judge.reference, exercise.name)
            wrong.append(timed(judge.check, exercise.name, edition))
    table = {"first check of an exercise": first, "right answers": right, "wrong answers, named": wrong}
    for name, seconds in table.items():
        told = sorted(seconds)
        median, late = statistics.median(told), told[int(0.95 * len(told))]
        print(f"{name:<28}{len(told):>5} checks  median {median:.3f} s  95 % {late:.3f} s  max {told[-1]:.3f} s")
    slowest = max(diagnosis, key=diagnosis.get)
    print(f"first diagnosis over all misconceptions of an exercise: slowest {slowest}, {diagnosis[slowest]:.2f} s")


def timed(act, *arguments) -> float:
    started = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
