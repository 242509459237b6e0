"""The store of subscriptions on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fallow.domain.subscriptions import DeliveryKey, Meter, Subscription
from fallow.ports.database import Row, Transaction
from fallow.ports.subscription_store import SourceKey


class PostgresSubscriptionStore:
    """See `fallow.ports.subscription_store.SubscriptionStore`."""

    async def add(self, tx: Transaction, subscription: Subscription) -> bool:
        """Add one; False when its key is taken."""
        done = await tx.execute(
            "INSERT INTO settle.subscription (key, state, due_at, doc, id, account)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            *_columns(subscription),
            subscription.id,
            subscription.account,
        )
        return done == "INSERT 0 1"

    async def lock(self, tx: Transaction, key: bytes) -> Subscription | None:
        """Read one and let nobody else change it."""
        rows = await tx.fetch("SELECT doc FROM settle.subscription WHERE key = $1 FOR UPDATE", key)
        return _subscription(rows[0]) if rows else None

    async def save(self, tx: Transaction, subscription: Subscription) -> None:
        """Write one that is locked over its older version."""
        await tx.execute(
            "UPDATE settle.subscription SET state = $2, due_at = $3, doc = $4 WHERE key = $1", *_columns(subscription)
        )

    async def list_of(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[Subscription]:
        """Those of an account by id."""
        rows = await tx.fetch(
            "SELECT doc FROM settle.subscription WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3",
            account,
            after,
            limit,
        )
        return [_subscription(row) for row in rows]

    async def due(self, tx: Transaction, now: int, limit: int) -> list[Subscription]:
        """Lock those that are due."""
        rows = await tx.fetch(
            "SELECT doc FROM settle.subscription WHERE state <> 'ended' AND due_at <= $1"
            " ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED",
            now,
            limit,
        )
        return [_subscription(row) for row in rows]

    async def suspended(self, tx: Transaction, account: bytes, limit: int) -> list[Subscription]:
        """Lock suspended ones of an account."""
        rows = await tx.fetch(
            "SELECT doc FROM settle.subscription WHERE state = 'suspended' AND account = $1"
            " ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED",
            account,
            limit,
        )
        return [_subscription(row) for row in rows]

    async def meters(self, tx: Transaction, key: bytes, only: Sequence[DeliveryKey]) -> dict[DeliveryKey, Meter]:
        """Those of these deliveries that were ever reported."""
        rows = await tx.fetch(
            "SELECT payee, name, quantity, settled FROM settle.meter WHERE subscription = $1"
            " AND (payee, name) IN (SELECT * FROM unnest($2::bytea[], $3::text[]))",
            key,
            [payee for payee, _ in only],
            [name for _, name in only],
        )
        return _meters(rows)

    async def unsettled(self, tx: Transaction, key: bytes) -> dict[DeliveryKey, Meter]:
        """Deliveries that grew since they were last settled."""
        rows = await tx.fetch(
            "SELECT payee, name, quantity, settled FROM settle.meter WHERE subscription = $1 AND quantity > settled",
            key,
        )
        return _meters(rows)

    async def reported(self, tx: Transaction, key: bytes, only: Sequence[SourceKey]) -> dict[SourceKey, int]:
        """What these sources said last."""
        rows = await tx.fetch(
            "SELECT source, payee, name, quantity FROM settle.report WHERE subscription = $1"
            " AND (source, payee, name) IN (SELECT * FROM unnest($2::text[], $3::bytea[], $4::text[]))",
            key,
            [source for source, _, _ in only],
            [payee for _, payee, _ in only],
            [name for _, _, name in only],
        )
        return {(row["source"], row["payee"], row["name"]): int(row["quantity"]) for row in rows}

    async def put_reports(
        self,
        tx: Transaction,
        key: bytes,
        meters: Mapping[DeliveryKey, Meter],
        reported: Mapping[SourceKey, int],
    ) -> None:
        """Write deliveries and reports over their older versions."""
        await tx.execute(
            "INSERT INTO settle.meter (subscription, payee, name, quantity, settled)"
            " SELECT $1, * FROM unnest($2::bytea[], $3::text[], $4::numeric[], $5::numeric[])"
            " ON CONFLICT (subscription, payee, name)"
            " DO UPDATE SET quantity = EXCLUDED.quantity, settled = EXCLUDED.settled",
            key,
            [payee for payee, _ in meters],
            [name for _, name in meters],
            [meter.quantity for meter in meters.values()],
            [meter.settled for meter in meters.values()],
        )
        await tx.execute(
            "INSERT INTO settle.report (subscription, source, payee, name, quantity)"
            " SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::text[], $5::numeric[])"
            " ON CONFLICT (subscription, source, payee, name) DO UPDATE SET quantity = EXCLUDED.quantity",
            key,
            [source for source, _, _ in reported],
            [payee for _, payee, _ in reported],
            [name for _, _, name in reported],
            list(reported.values()),
        )

    async def settle(self, tx: Transaction, key: bytes) -> None:
        """Count all that was delivered as settled."""
        await tx.execute(
            "UPDATE settle.meter SET settled = quantity WHERE subscription = $1 AND quantity > settled", key
        )


def _columns(subscription: Subscription) -> tuple[bytes, str, int, bytes]:
    return subscription.key, subscription.state.value, subscription.due_at, msgspec.json.encode(subscription)


def _subscription(row: Row) -> Subscription:
    return msgspec.json.decode(row["doc"], type=Subscription)


def _meters(rows: Sequence[Row]) -> dict[DeliveryKey, Meter]:
    return {(row["payee"], row["name"]): Meter(int(row["quantity"]), int(row["settled"])) for row in rows}
