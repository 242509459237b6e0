"""The store of payouts in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction


class MemoryPayoutStore:
    """See `fallow.ports.payout_store.PayoutStore`."""

    def __init__(self) -> None:
        self._done: dict[int, bool] = {}

    async def last(self, tx: Transaction) -> int | None:
        """The latest epoch whose earnings have left."""
        memory_transaction(tx)
        return max(self._done, default=None)

    async def add(self, tx: Transaction, epoch: int) -> None:
        """Note that an epoch's have."""
        memory_transaction(tx).put(self._done, epoch, True)
