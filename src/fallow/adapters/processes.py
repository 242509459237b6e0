"""Arithmetic in processes of its own, one for each processor: Python runs one thread of a process at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fallow.domain.epochs.parts import ALONE, Spread

RECORDS_MIN: Final = 200_000
"""A process takes about a second to begin, in which one judges some hundred thousand records."""


@contextmanager
def spread_over(records: int, processes: int | None = None) -> Iterator[Spread]:
    """Spread the judging of so many records over processes, if they are worth it. They end with the context.

    They begin anew instead of as copies of this one, which has threads. When this process is killed they end, too:
    what they wait on is gone then.
    """
    count = processes or os.cpu_count() or 1
    if records < RECORDS_MIN or count == 1:
        yield ALONE
        return
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield Spread(count, pool.imap)
