"""Burns that wait for a price, and what is known of that price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.domain.rewards.oracle import Oracle
from fallow.ports.database import Transaction


class Burn(NamedTuple):
    """Units of the token that were burned for credits of `account`, by log number `place` of a transaction."""

    chain_id: int
    transaction: bytes
    place: int
    account: bytes
    amount: int


class BurnStore(Protocol):
    """What settle keeps for burned credits."""

    async def wait(self, tx: Transaction, burns: Sequence[Burn]) -> None:
        """Have burns credited. One that waits already waits once."""
        ...

    async def take(self, tx: Transaction, limit: int) -> list[Burn]:
        """Take out those that wait longest; they are back if this transaction fails. Others that take do not wait."""
        ...

    async def count(self, tx: Transaction) -> int:
        """How many wait."""
        ...

    async def look(self, tx: Transaction) -> Oracle:
        """What is known of the price. Whoever looks waits for nobody, and lets nobody wait."""
        ...

    async def oracle(self, tx: Transaction) -> Oracle:
        """What is known of the price; nobody else changes it until the transaction ends."""
        ...

    async def save(self, tx: Transaction, oracle: Oracle) -> None:
        """Write what was read in this transaction over its older version."""
        ...
