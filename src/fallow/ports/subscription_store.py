"""What settle keeps beside the ledger: subscriptions, and what was delivered under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fallow.domain.subscriptions import DeliveryKey, Meter, Subscription
from fallow.ports.database import Transaction

SourceKey = tuple[str, bytes, str]
"""Who counted, payee and meter."""


class SubscriptionStore(Protocol):
    """Subscriptions, what was delivered on them, and what each source last reported. All keys are the ledger's."""

    async def add(self, tx: Transaction, subscription: Subscription) -> bool:
        """Add one; False when its key is taken."""
        ...

    async def lock(self, tx: Transaction, key: bytes) -> Subscription | None:
        """Read one and let nobody else change it until the transaction ends."""
        ...

    async def save(self, tx: Transaction, subscription: Subscription) -> None:
        """Write one that is locked over its older version."""
        ...

    async def list_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[Subscription]:
        """Those of an account by id, from the first one above `after` on."""
        ...

    async def due(self, tx: Transaction, now: int, limit: int) -> list[Subscription]:
        """Lock those that are due, the longest overdue first, without those that others have locked."""
        ...

    async def suspended(self, tx: Transaction, account: bytes, limit: int) -> list[Subscription]:
        """Lock suspended ones of an account, without those that others have locked."""
        ...

    async def meters(self, tx: Transaction, key: bytes, only: Sequence[DeliveryKey]) -> dict[DeliveryKey, Meter]:
        """Those of these deliveries that were ever reported."""
        ...

    async def unsettled(self, tx: Transaction, key: bytes) -> dict[DeliveryKey, Meter]:
        """Deliveries that grew since they were last settled."""
        ...

    async def reported(self, tx: Transaction, key: bytes, only: Sequence[SourceKey]) -> dict[SourceKey, int]:
        """What these sources said last."""
        ...

    async def put_reports(
        self,
        tx: Transaction,
        key: bytes,
        meters: Mapping[DeliveryKey, Meter],
        reported: Mapping[SourceKey, int],
    ) -> None:
        """Write deliveries and reports over their older versions."""
        ...

    async def settle(self, tx: Transaction, key: bytes) -> None:
        """Count all that was delivered as settled."""
        ...
