"""What accounts may spend in a month, and spent: beside the ledger, in the transaction that reserves or settles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from fallow.domain.budgets import Budget
from fallow.ports.database import Transaction


class BudgetStore(Protocol):
    """One row an account. Whoever reserves or settles for an account locks its row first, and then reads the ledger.

    So no two roles can pass one another: what the one reserved the other sees.
    """

    async def lock(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these and let nobody else change them until the transaction ends; in one fixed order."""
        ...

    async def read(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these, to show them or to answer early."""
        ...

    async def save(self, tx: Transaction, budgets: Mapping[bytes, Budget]) -> None:
        """Write some that are locked over their older versions."""
        ...
