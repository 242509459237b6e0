"""The store of budgets in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.budgets import NO_BUDGET, Budget
from fallow.ports.database import Transaction


class MemoryBudgetStore:
    """See `fallow.ports.budgets.BudgetStore`. Transactions are serial: nothing needs to be locked."""

    def __init__(self) -> None:
        self._budgets: dict[bytes, Budget] = {}

    async def lock(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these."""
        return await self.read(tx, accounts)

    async def read(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these."""
        memory_transaction(tx)
        return {account: self._budgets.get(account, NO_BUDGET) for account in accounts}

    async def save(self, tx: Transaction, budgets: Mapping[bytes, Budget]) -> None:
        """Write some over their older versions."""
        mine = memory_transaction(tx)
        for account, budget in budgets.items():
            mine.put(self._budgets, account, budget)
