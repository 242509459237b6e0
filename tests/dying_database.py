"""A database whose process dies at one of its transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.ports.database import Database, Transaction
from tests.places_world import Killed


class Dying:
    """It dies at the n-th transaction: before it is committed, or behind that."""

    def __init__(self, database: Database, at: int, *, committed: bool) -> None:
        self.database, self.at, self.committed = database, at, committed

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See the port."""
        self.at -= 1
        async with self.database.transaction() as tx:
            yield tx
            if self.at == 0 and not self.committed:
                raise Killed
        if self.at == 0:
            raise Killed
