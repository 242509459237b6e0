"""What processes take, as the kernel counts it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

MB = 1_000_000


def unique_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: shared pages are split among those who share them, so that the sum counts each once."""
    return sum(_kb(pid, "Pss:") for pid in pids) * 1024


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident set size, shared pages counted for each process."""
    return sum(_kb(pid, "Rss:") for pid in pids) * 1024


def processor_s(pid: int) -> float:
    """Processor time of a process so far, with that of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def share_of_a_core(pids: list[int], seconds: float) -> float:
    """Part of one core that processes use together over a while."""
    before, began = sum(map(processor_s, pids)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(processor_s, pids)) - before) / (time.monotonic() - began)


def _kb(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))
