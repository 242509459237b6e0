"""To whom accounts are paid, as the registry knows it."""

from __future__ import annotations

from typing import Protocol

from fallow.domain.payees import Payee
from fallow.ports.database import Transaction


class PayeeStore(Protocol):
    """One row an account that ever changed it."""

    async def payee(self, tx: Transaction, account: bytes) -> Payee | None:
        """The latest word of an account."""
        ...

    async def put(self, tx: Transaction, payee: Payee) -> bool:
        """Keep an account's word, unless one that is as late is there; whether it was kept."""
        ...
