"""Which closed epochs' earnings have left the ledger."""

from __future__ import annotations

from typing import Protocol

from fallow.ports.database import Transaction


class PayoutStore(Protocol):
    """A note a closed epoch, written when all of its transfers are."""

    async def last(self, tx: Transaction) -> int | None:
        """The latest epoch whose earnings have left."""
        ...

    async def add(self, tx: Transaction, epoch: int) -> None:
        """Note that an epoch's have; noting it again changes nothing."""
        ...
