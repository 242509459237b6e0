"""The store of subscriptions in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.subscriptions import DeliveryKey, Meter, Subscription, SubscriptionState
from fallow.ports.database import Transaction
from fallow.ports.subscription_store import SourceKey


class MemorySubscriptionStore:
    """See `fallow.ports.subscription_store.SubscriptionStore`. Transactions are serial: nothing needs to be locked."""

    def __init__(self) -> None:
        self._subscriptions: dict[bytes, Subscription] = {}
        self._meters: dict[tuple[bytes, DeliveryKey], Meter] = {}
        self._reports: dict[tuple[bytes, SourceKey], int] = {}

    async def add(self, tx: Transaction, subscription: Subscription) -> bool:
        """Add one; False when its key is taken."""
        mine = memory_transaction(tx)
        if subscription.key in self._subscriptions:
            return False
        mine.put(self._subscriptions, subscription.key, subscription)
        return True

    async def lock(self, tx: Transaction, key: bytes) -> Subscription | None:
        """Read one."""
        memory_transaction(tx)
        return self._subscriptions.get(key)

    async def save(self, tx: Transaction, subscription: Subscription) -> None:
        """Write one over its older version."""
        memory_transaction(tx).put(self._subscriptions, subscription.key, subscription)

    async def list_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[Subscription]:
        """Those of an account by id."""
        memory_transaction(tx)
        found = [one for one in self._subscriptions.values() if one.account == account and one.id > after]
        return sorted(found, key=lambda one: one.id)[:limit]

    async def due(self, tx: Transaction, now: int, limit: int) -> list[Subscription]:
        """Those that are due."""
        memory_transaction(tx)
        open_ones = [one for one in self._subscriptions.values() if one.state is not SubscriptionState.ENDED]
        found = [one for one in open_ones if one.due_at <= now]
        return sorted(found, key=lambda one: one.due_at)[:limit]

    async def suspended(self, tx: Transaction, account: bytes, limit: int) -> list[Subscription]:
        """Suspended ones of an account."""
        memory_transaction(tx)
        found = [
            one
            for one in self._subscriptions.values()
            if one.state is SubscriptionState.SUSPENDED and one.account == account
        ]
        return sorted(found, key=lambda one: one.id)[:limit]

    async def meters(self, tx: Transaction, key: bytes, only: Sequence[DeliveryKey]) -> dict[DeliveryKey, Meter]:
        """Those of these deliveries that were ever reported."""
        memory_transaction(tx)
        return {one: self._meters[key, one] for one in only if (key, one) in self._meters}

    async def unsettled(self, tx: Transaction, key: bytes) -> dict[DeliveryKey, Meter]:
        """Deliveries that grew since they were last settled."""
        memory_transaction(tx)
        return {
            one: meter
            for (owner, one), meter in self._meters.items()
            if owner == key and meter.quantity > meter.settled
        }

    async def reported(self, tx: Transaction, key: bytes, only: Sequence[SourceKey]) -> dict[SourceKey, int]:
        """What these sources said last."""
        memory_transaction(tx)
        return {one: self._reports[key, one] for one in only if (key, one) in self._reports}

    async def put_reports(
        self,
        tx: Transaction,
        key: bytes,
        meters: Mapping[DeliveryKey, Meter],
        reported: Mapping[SourceKey, int],
    ) -> None:
        """Write deliveries and reports over their older versions."""
        mine = memory_transaction(tx)
        for delivery, meter in meters.items():
            mine.put(self._meters, (key, delivery), meter)
        for source, quantity in reported.items():
            mine.put(self._reports, (key, source), quantity)

    async def settle(self, tx: Transaction, key: bytes) -> None:
        """Count all that was delivered as settled."""
        mine = memory_transaction(tx)
        for delivery, meter in (await self.unsettled(tx, key)).items():
            mine.put(self._meters, (key, delivery), meter._replace(settled=meter.quantity))
