"""Where decisions wait until they are sealed: whoever decides adds them in the transaction in which it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fallow.domain.decisions import Decision
from fallow.ports.database import Transaction


class DecisionStore(Protocol):
    """The network's outbox. Those of one writer come out in the order in which they went in."""

    async def add(self, tx: Transaction, decisions: Sequence[Decision]) -> None:
        """Have decisions sealed, if this transaction commits.

        Raises:
            msgspec.ValidationError: one could not be read again: a bug of who decides.
        """
        ...

    async def pending(self, tx: Transaction, kind: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Look at those of a kind that wait, above a position, in their order: each with its position."""
        ...

    async def take(self, tx: Transaction, limit: int) -> list[Decision]:
        """Take out the oldest ones; they are back if this transaction fails. Others that take do not wait."""
        ...
