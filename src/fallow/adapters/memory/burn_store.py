"""Burns and their price in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.rewards.oracle import Oracle
from fallow.ports.burn_store import Burn
from fallow.ports.database import Transaction


class MemoryBurnStore:
    """See `fallow.ports.burn_store.BurnStore`."""

    def __init__(self) -> None:
        self._waiting: dict[int, Burn] = {}
        self._places: dict[tuple[int, bytes, int], int] = {}
        self._pos = 0
        self._oracle: dict[str, Oracle] = {}

    async def wait(self, tx: Transaction, burns: Sequence[Burn]) -> None:
        """Have burns credited."""
        mine = memory_transaction(tx)
        for burn in burns:
            if burn[:3] in self._places:
                continue
            self._pos += 1  # not taken back by a rollback, like a sequence
            mine.add(self._places, burn[:3], self._pos)
            mine.add(self._waiting, self._pos, burn)

    async def take(self, tx: Transaction, limit: int) -> list[Burn]:
        """Take out those that wait longest."""
        mine = memory_transaction(tx)
        taken = sorted(self._waiting)[:limit]
        burns = [self._waiting[pos] for pos in taken]
        for pos, burn in zip(taken, burns, strict=True):
            mine.drop(self._waiting, pos)
            mine.drop(self._places, burn[:3])
        return burns

    async def count(self, tx: Transaction) -> int:
        """How many wait."""
        memory_transaction(tx)
        return len(self._waiting)

    async def look(self, tx: Transaction) -> Oracle:
        """What is known of the price, for whoever does not change it."""
        memory_transaction(tx)
        return self._oracle.get("one", Oracle())

    async def oracle(self, tx: Transaction) -> Oracle:
        """What is known of the price."""
        return await self.look(tx)

    async def save(self, tx: Transaction, oracle: Oracle) -> None:
        """Write it over its older version."""
        memory_transaction(tx).put(self._oracle, "one", oracle)
