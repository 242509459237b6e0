"""The in-memory database with the ways in which a real one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum

from fallow.adapters.memory.database import MemoryDatabase, MemoryTransaction
from fallow.domain.errors import Unavailable


class Fault(Enum):
    """Where a transaction is lost. After `ANSWER` it was written, but nobody was told so."""

    NONE = "none"
    BEGIN = "begin"
    COMMIT = "commit"
    ANSWER = "answer"


class FaultyDatabase(MemoryDatabase):
    """Asks `fault` at each transaction what becomes of it, and again at its end `at_end`, when it shows what it did.

    `committed` counts those that were written.
    """

    def __init__(self, fault: Callable[[], Fault] = lambda: Fault.NONE) -> None:
        super().__init__()
        self.fault = fault
        self.at_end: Callable[[], Fault] = lambda: Fault.NONE
        self.committed = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """See the port."""
        fault = self.fault()
        if fault is Fault.BEGIN:
            raise _gone()
        async with super().transaction() as tx:
            yield tx
            if fault is Fault.NONE:
                fault = self.at_end()
            if fault is Fault.COMMIT:
                raise _gone()
        self.committed += 1
        if fault is Fault.ANSWER:
            raise _gone()


def _gone() -> Unavailable:
    return Unavailable("database.unreachable", "The database went away.")
