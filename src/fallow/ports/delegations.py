"""What the registry keeps of keys that sign for buyers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.domain.delegations import Delegation
from fallow.ports.database import Transaction


class OrderSignature(NamedTuple):
    """A signed order: the exact bytes, and who signed them. An account signs one order under an id."""

    account: bytes
    order: str
    key: bytes
    signature: bytes
    body: bytes


class ReceiptRow(NamedTuple):
    """A buyer's receipt for a lease: the leaf at `place` of `leaves`, over whose root the signature is."""

    lease: bytes
    account: bytes
    key: bytes
    signature: bytes
    leaves: Sequence[bytes]
    place: int


class DelegationStore(Protocol):
    """Delegations, signed orders and receipts."""

    async def add_delegation(self, tx: Transaction, delegation: Delegation) -> None:
        """Add one; Conflict when the key is there."""
        ...

    async def delegation(self, tx: Transaction, key: bytes) -> Delegation | None:
        """Look a key up."""
        ...

    async def delegations(self, tx: Transaction, account: bytes, limit: int) -> list[Delegation]:
        """All of an account, the latest first."""
        ...

    async def live(self, tx: Transaction, account: bytes, now: int) -> int:
        """How many of an account are neither revoked nor expired."""
        ...

    async def revoke(self, tx: Transaction, key: bytes, now: int) -> None:
        """End one; the first time stays."""
        ...

    async def add_order(self, tx: Transaction, row: OrderSignature) -> OrderSignature:
        """Add a signed order, unless one is there under this account and id; returns the one that is there then."""
        ...

    async def add_receipts(self, tx: Transaction, rows: Sequence[ReceiptRow]) -> None:
        """Add receipts that were signed together; where a lease has one already, that one stays."""
        ...

    async def mutual(self, tx: Transaction, leases: Sequence[bytes]) -> frozenset[bytes]:
        """Those of `leases` that have a receipt."""
        ...
