"""How far the chain was read, in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction


class MemoryChainStore:
    """See `fallow.ports.chain_store.ChainStore`."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    async def next_block(self, tx: Transaction, chain_id: int, first: int) -> int:
        """The block to go on with."""
        mine = memory_transaction(tx)
        if chain_id not in self._next:
            mine.add(self._next, chain_id, first)
        return self._next[chain_id]

    async def advance(self, tx: Transaction, chain_id: int, start: int, after: int) -> bool:
        """Note what was read."""
        mine = memory_transaction(tx)
        if self._next.get(chain_id) != start:
            return False
        mine.put(self._next, chain_id, after)
        return True
