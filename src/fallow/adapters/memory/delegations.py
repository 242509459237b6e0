"""Delegations, signed orders and receipts in memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.delegations import Delegation
from fallow.ports.database import Transaction
from fallow.ports.delegations import OrderSignature, ReceiptRow


class MemoryDelegationStore:
    """See `fallow.ports.delegations.DelegationStore`."""

    def __init__(self) -> None:
        self._delegations: dict[bytes, Delegation] = {}
        self._orders: dict[tuple[bytes, str], OrderSignature] = {}
        self._receipts: dict[bytes, ReceiptRow] = {}

    async def add_delegation(self, tx: Transaction, delegation: Delegation) -> None:
        """Add one."""
        memory_transaction(tx).add(self._delegations, delegation.key, delegation)

    async def delegation(self, tx: Transaction, key: bytes) -> Delegation | None:
        """Look a key up."""
        memory_transaction(tx)
        return self._delegations.get(key)

    async def delegations(self, tx: Transaction, account: bytes, limit: int) -> list[Delegation]:
        """All of an account, the latest first."""
        memory_transaction(tx)
        mine = [each for each in self._delegations.values() if each.account == account]
        return sorted(mine, key=lambda each: (-each.issued_at, each.key))[:limit]

    async def live(self, tx: Transaction, account: bytes, now: int) -> int:
        """How many of an account are neither revoked nor expired."""
        memory_transaction(tx)
        mine = (each for each in self._delegations.values() if each.account == account)
        return sum(each.revoked_at is None and each.expires_at > now for each in mine)

    async def revoke(self, tx: Transaction, key: bytes, now: int) -> None:
        """End one."""
        mine = memory_transaction(tx)
        known = self._delegations[key]
        if known.revoked_at is None:
            mine.put(self._delegations, key, msgspec.structs.replace(known, revoked_at=now))

    async def add_order(self, tx: Transaction, row: OrderSignature) -> OrderSignature:
        """Add a signed order, unless one is there."""
        mine = memory_transaction(tx)
        name = row.account, row.order
        if name not in self._orders:
            mine.put(self._orders, name, row)
        return self._orders[name]

    async def add_receipts(self, tx: Transaction, rows: Sequence[ReceiptRow]) -> None:
        """Add receipts."""
        mine = memory_transaction(tx)
        for row in rows:
            if row.lease not in self._receipts:
                mine.put(self._receipts, row.lease, row)

    async def mutual(self, tx: Transaction, leases: Sequence[bytes]) -> frozenset[bytes]:
        """Those of `leases` that have a receipt."""
        memory_transaction(tx)
        return frozenset(leases) & self._receipts.keys()
