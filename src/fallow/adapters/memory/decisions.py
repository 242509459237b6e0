"""The network's outbox in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.decisions import Decision, packed
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
            packed(decision.body)
            self._pos += 1  # not taken back by a rollback, like a sequence
            mine.add(self.waiting, self._pos, decision)

    async def pending(self, tx: Transaction, kind: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Look at those of a kind that wait."""
        memory_transaction(tx)
        return [(pos, one) for pos, one in sorted(self.waiting.items()) if pos > after and one.body.kind == kind][
            :limit
        ]

    async def take(self, tx: Transaction, limit: int) -> list[Decision]:
        """Take out the oldest ones."""
        mine = memory_transaction(tx)
        taken = sorted(self.waiting)[:limit]
        decisions = [self.waiting[pos] for pos in taken]
        for pos in taken:
            mine.drop(self.waiting, pos)
        return decisions
