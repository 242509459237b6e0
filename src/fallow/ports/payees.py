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

    async def spent(self, tx: Transaction, account: bytes) -> int:
        """What was kept with it, of `fallow.domain.payees.spaced`; 0 where there is none."""
        ...

    async def put(self, tx: Transaction, payee: Payee, before_ms: int, spent_ms: int) -> bool:
        """Keep an account's word; whether it was kept.

        Not where one that is as late is there, nor where `spent` is not `before_ms` any more.
        """
        ...
