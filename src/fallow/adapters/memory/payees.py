"""To whom accounts are paid, in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.payees import Payee
from fallow.ports.database import Transaction


class MemoryPayeeStore:
    """See `fallow.ports.payees.PayeeStore`."""

    def __init__(self) -> None:
        self._payees: dict[bytes, Payee] = {}
        self._spent: dict[bytes, int] = {}

    async def payee(self, tx: Transaction, account: bytes) -> Payee | None:
        """The latest word of an account."""
        memory_transaction(tx)
        return self._payees.get(account)

    async def spent(self, tx: Transaction, account: bytes) -> int:
        """What was kept with it."""
        memory_transaction(tx)
        return self._spent.get(account, 0)

    async def put(self, tx: Transaction, payee: Payee, before_ms: int, spent_ms: int) -> bool:
        """Keep an account's word."""
        known = self._payees.get(payee.account)
        late = known is not None and known.signed_at_s >= payee.signed_at_s
        if late or self._spent.get(payee.account, 0) != before_ms:
            return False
        memory_transaction(tx).put(self._payees, payee.account, payee)
        memory_transaction(tx).put(self._spent, payee.account, spent_ms)
        return True
