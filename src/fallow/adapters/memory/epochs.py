"""The closing's store in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction
from fallow.ports.epochs import Closed


class MemoryEpochStore:
    """See `fallow.ports.epochs.EpochStore`."""

    def __init__(self) -> None:
        self._closed: dict[int, Closed] = {}
        self._closer: dict[str, tuple[str, int]] = {}

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> bool:
        """Become the one closer, or stay it."""
        mine = memory_transaction(tx)
        other, its_until = self._closer.get("closer", (holder, 0))
        if other != holder and its_until > now:
            return False
        mine.put(self._closer, "closer", (holder, until))
        return True

    async def last(self, tx: Transaction) -> Closed | None:
        """The latest epoch that is closed."""
        memory_transaction(tx)
        return self._closed[max(self._closed)] if self._closed else None

    async def after(self, tx: Transaction, epoch: int | None) -> Closed | None:
        """The first closed epoch after one."""
        memory_transaction(tx)
        later = [number for number in self._closed if epoch is None or number > epoch]
        return self._closed[min(later)] if later else None

    async def add(self, tx: Transaction, closed: Closed) -> None:
        """Note that an epoch is closed."""
        memory_transaction(tx).add(self._closed, closed.epoch, closed)
