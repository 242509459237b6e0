"""How far settle has read the network's chain."""

from __future__ import annotations

from typing import Protocol

from fallow.ports.database import Transaction


class ChainStore(Protocol):
    """The next block to read, of each chain."""

    async def next_block(self, tx: Transaction, chain_id: int, first: int) -> int:
        """The block to go on with; `first` where nothing was read yet."""
        ...

    async def advance(self, tx: Transaction, chain_id: int, start: int, after: int) -> bool:
        """Note that all from block `start` up to before `after` was read; False where another one did so meanwhile.

        Others that want the same wait until this transaction ends.
        """
        ...
