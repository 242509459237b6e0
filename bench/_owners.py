"""What owners do with their machines, as a story known beforehand: their own load, and when they switch off."""

from __future__ import annotations

import csv
import random
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

TRACE = Path(__file__).parents[2] / "shared" / "data" / "openb" / "openb_pod_list_default.csv"
TRACE_MACHINE_MILLI = 64_000
"""Processor of the trace's smallest machines: a pod takes the same part of ours."""

CORES = (8, 16, 32)
USE = (0.15, 0.30)
OFF_EVERY_S = 4 * 3_600.0
OFF_S = (300.0, 3_600.0)


class Pod(NamedTuple):
    """A piece of an owner's own load: its part of a machine, and how long it runs."""

    part: float
    seconds: float


class Change(NamedTuple):
    """From `at` on (seconds) the owner leaves so many cores; None while the machine is off."""

    at: float
    cores: int | None


class Machine(NamedTuple):
    """A machine, all that its owner will do, and the part of it that he uses himself on average."""

    cores: int
    changes: tuple[Change, ...]
    used: float

    def free_core_s(self, start: float, end: float) -> float:
        """What he leaves between two moments."""
        return sum(cores * (to - since) for since, to, cores in self._steps(start, end))

    def oracle_core_s(self, start: float, end: float, shortest_s: float) -> float:
        """What somebody who knows the story could fill with whole items at best: gaps that hold the shortest item.

        Cores that come are paired with cores that go, first come first gone, which leaves the longest gaps.
        """
        open_since: deque[float] = deque()
        gaps: list[float] = []
        for since, _, cores in self._steps(start, end):
            while len(open_since) < cores:
                open_since.append(since)
            while len(open_since) > cores:
                gaps.append(since - open_since.popleft())
        gaps += [end - since for since in open_since]
        return sum(gap for gap in gaps if gap >= shortest_s)

    def _steps(self, start: float, end: float) -> list[tuple[float, float, int]]:
        ends = [change.at for change in self.changes[1:]] + [end]
        steps = [
            (max(start, change.at), min(end, to), change.cores or 0)
            for change, to in zip(self.changes, ends, strict=True)
        ]
        return [step for step in steps if step[0] < step[1]]


def read_pods(draw: random.Random) -> tuple[list[Pod], str]:
    """The trace's pods where it is at hand, otherwise as many with the same quartiles; and which of them it is."""
    if TRACE.exists():
        with TRACE.open() as file:
            rows = list(csv.DictReader(file))
        pods = [
            Pod(int(row["cpu_milli"]) / TRACE_MACHINE_MILLI, float(row["deletion_time"]) - float(row["creation_time"]))
            for row in rows
        ]
        return [pod for pod in pods if pod.seconds > 0], "openb"
    return [
        Pod(draw.choice((0.05, 0.06, 0.18, 0.19, 0.26)), draw.lognormvariate(6.3, 1.8)) for _ in range(8_000)
    ], "generated"


def machines(count: int, seconds: float, pods: Sequence[Pod], draw: random.Random) -> list[Machine]:
    """Owners who use 15 to 30 % of their machines: pods come at random, as often as that takes."""
    mean = sum(pod.part * min(pod.seconds, seconds) for pod in pods) / len(pods)
    return [_machine(draw.choice(CORES), draw.uniform(*USE) / mean, seconds, pods, draw) for _ in range(count)]


def _machine(cores: int, rate_s: float, seconds: float, pods: Sequence[Pod], draw: random.Random) -> Machine:
    steps: list[tuple[float, float]] = []
    at = -seconds  # what began earlier still runs
    while (at := at + draw.expovariate(rate_s)) < seconds:
        pod = draw.choice(pods)
        steps += [(at, pod.part), (at + min(pod.seconds, seconds), -pod.part)]
    off = _off(seconds, draw)
    moments = sorted(
        {0.0, *(at for at, _ in steps if 0 < at < seconds), *(at for gap in off for at in gap if at < seconds)}
    )
    changes: list[Change] = []
    total = 0.0
    for at, to in pairwise([*moments, seconds]):
        used = min(1.0, sum(part for began, part in steps if began <= at))
        total += used * (to - at)
        left = None if any(start <= at < end for start, end in off) else max(0, int(cores * (1 - used) + 1e-9))
        if not changes or changes[-1].cores != left:
            changes.append(Change(at, left))
    return Machine(cores, tuple(changes), total / seconds)


def _off(seconds: float, draw: random.Random) -> list[tuple[float, float]]:
    gaps: list[tuple[float, float]] = []
    at = 0.0
    while (at := at + draw.expovariate(1 / OFF_EVERY_S)) < seconds:
        gaps.append((at, at + draw.uniform(*OFF_S)))
        at = gaps[-1][1]
    return gaps
