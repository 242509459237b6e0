"""The network's outbox in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.decisions import Decision
from fallow.ports.database import Transaction


class MemoryDecisionStore:
    """See `fallow.ports.decisions.DecisionStore`."""

    def __init__(self) -> None:
        self.waiting: dict[int, Decision] = {}
        self._pos = 0

    async def add(self, tx: Transaction, decisions: Sequence[Decision]) -> None:
        """Have decisions sealed."""
        mine = memory_transaction(tx)
        for decision in decisions:
            self._pos += 1  # not taken back by a rollback, like a sequence
            mine.add(self.waiting, self._pos, decision)

    async def take(self, tx: Transaction, limit: int) -> list[Decision]:
        """Take out the oldest ones."""
        mine = memory_transaction(tx)
        taken = sorted(self.waiting)[:limit]
        decisions = [self.waiting[pos] for pos in taken]
        for pos in taken:
            mine.drop(self.waiting, pos)
        return decisions
