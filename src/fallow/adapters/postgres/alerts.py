"""Where accounts are told of their alerts, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from fallow.domain.alerts import Alert
from fallow.ports.alert_store import Channel, Message
from fallow.ports.database import Transaction

_CHANNEL: Final = "account, kind, address, language, salt, asked_at, confirmed_at, tries, failed_at, failure"
_MESSAGE: Final = "seq, account, kind, address, language, salt, what, body, made_at, tries"

_PUT: Final = """
INSERT INTO registry.alert_channel (account, kind, address, language, salt, asked_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (account, kind) DO UPDATE SET address = $3, language = $4, salt = $5, asked_at = $6, confirmed_at = NULL,
    tries = 0, looked_at = 0, failed_at = NULL, failure = ''
"""
_TAKE_LOOKS: Final = f"""
UPDATE registry.alert_channel SET looked_at = $1 WHERE (account, kind) IN (
    SELECT account, kind FROM registry.alert_channel WHERE confirmed_at IS NOT NULL AND looked_at < $2
    ORDER BY looked_at LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING {_CHANNEL}
"""  # noqa: S608 - of constants
_TAKE_MESSAGES: Final = f"""
UPDATE registry.alert_message SET due_at = $3, tries = tries + 1 WHERE seq IN (
    SELECT seq FROM registry.alert_message AS one WHERE kind = $1 AND due_at <= $2 AND NOT EXISTS (
        SELECT FROM registry.alert_message AS other WHERE other.salt = one.salt AND other.seq < one.seq
    ) ORDER BY tries, due_at, seq LIMIT $4 FOR UPDATE SKIP LOCKED
) RETURNING {_MESSAGE}
"""  # noqa: S608 - of constants
_TELL: Final = """
INSERT INTO registry.alert_told (account, kind, alerts) VALUES ($1, $2, $3)
ON CONFLICT (account, kind) DO UPDATE SET alerts = $3
"""
_ADD: Final = """
INSERT INTO registry.alert_message (account, kind, address, language, salt, what, body, made_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
"""
_COUNT: Final = """
INSERT INTO registry.alert_count AS c (key, day, sent) VALUES ($1, $2, 1)
ON CONFLICT (key, day) DO UPDATE SET sent = c.sent + 1 WHERE c.sent < $3 RETURNING sent
"""


class PostgresAlertStore:
    """See `fallow.ports.alert_store.AlertStore`."""

    async def put(self, tx: Transaction, channel: Channel) -> None:
        """Keep a channel."""
        await self.end(tx, channel.account, channel.kind)
        await tx.execute(_PUT, *channel[:6])

    async def channels(self, tx: Transaction, account: bytes) -> Sequence[Channel]:
        """Those of an account."""
        rows = await tx.fetch(
            f"SELECT {_CHANNEL} FROM registry.alert_channel WHERE account = $1 ORDER BY kind",  # noqa: S608
            account,
        )
        return [Channel(*row.values()) for row in rows]

    async def locked(self, tx: Transaction, account: bytes, kind: str) -> Channel | None:
        """One of them, for change."""
        query = f"SELECT {_CHANNEL} FROM registry.alert_channel WHERE account = $1 AND kind = $2 FOR UPDATE"  # noqa: S608
        rows = await tx.fetch(query, account, kind)
        return Channel(*rows[0].values()) if rows else None

    async def confirm(self, tx: Transaction, salt: bytes, now: int) -> None:
        """Take note that it is wanted."""
        await tx.execute("UPDATE registry.alert_channel SET confirmed_at = $2 WHERE salt = $1", salt, now)

    async def count_try(self, tx: Transaction, salt: bytes) -> None:
        """Take note of a wrong code."""
        await tx.execute("UPDATE registry.alert_channel SET tries = tries + 1 WHERE salt = $1", salt)

    async def end(self, tx: Transaction, account: bytes, kind: str) -> None:
        """Forget a channel with what hangs on it."""
        rows = await tx.fetch(
            "DELETE FROM registry.alert_channel WHERE account = $1 AND kind = $2 RETURNING salt", account, kind
        )
        for row in rows:
            await tx.execute("DELETE FROM registry.alert_message WHERE salt = $1", row["salt"])

    async def take_looks(self, tx: Transaction, now: int, before: int, limit: int) -> Sequence[Channel]:
        """Return channels that are due for a look."""
        return [Channel(*row.values()) for row in await tx.fetch(_TAKE_LOOKS, now, before, limit)]

    async def told(self, tx: Transaction, account: bytes, kind: str) -> list[Alert] | None:
        """What it was told."""
        rows = await tx.fetch("SELECT alerts FROM registry.alert_told WHERE account = $1 AND kind = $2", account, kind)
        return msgspec.json.decode(rows[0]["alerts"], type=list[Alert]) if rows else None

    async def tell(self, tx: Transaction, account: bytes, kind: str, alerts: Sequence[Alert]) -> None:
        """Keep what it is told."""
        await tx.execute(_TELL, account, kind, msgspec.json.encode(alerts))

    async def add(self, tx: Transaction, channel: Channel, what: str, body: bytes, now: int) -> None:
        """Put a message into the queue."""
        await tx.execute(_ADD, *channel[:5], what, body, now)

    async def waiting(self, tx: Transaction, salt: bytes) -> int:
        """Count what waits."""
        rows = await tx.fetch("SELECT count(*) AS n FROM registry.alert_message WHERE salt = $1", salt)
        return int(rows[0]["n"])

    async def take_messages(self, tx: Transaction, kind: str, now: int, again_at: int, limit: int) -> Sequence[Message]:
        """Return what is due."""
        return [Message(*row.values()) for row in await tx.fetch(_TAKE_MESSAGES, kind, now, again_at, limit)]

    async def sent(self, tx: Transaction, message: Message) -> None:
        """Forget a message. The channel comes first, here as elsewhere: nobody waits for one who waits for him."""
        await tx.execute(
            "UPDATE registry.alert_channel SET failed_at = NULL, failure = '' WHERE salt = $1", message.salt
        )
        await tx.execute("DELETE FROM registry.alert_message WHERE seq = $1", message.seq)

    async def failed(self, tx: Transaction, message: Message, now: int, failure: str, due_at: int | None) -> None:
        """Take note of a failure."""
        await tx.execute(
            "UPDATE registry.alert_channel SET failed_at = $2, failure = $3 WHERE salt = $1", message.salt, now, failure
        )
        if due_at is None:
            await tx.execute("DELETE FROM registry.alert_message WHERE seq = $1", message.seq)
        else:
            await tx.execute("UPDATE registry.alert_message SET due_at = $2 WHERE seq = $1", message.seq, due_at)

    async def count(self, tx: Transaction, key: bytes, day: int, most: int) -> bool:
        """Count one more."""
        return bool(await tx.fetch(_COUNT, key, day, most))

    async def forget_counts(self, tx: Transaction, before_day: int) -> None:
        """Forget the counts of earlier days."""
        await tx.execute("DELETE FROM registry.alert_count WHERE day < $1", before_day)
