"""Where accounts are told of their alerts, what they were told, and what waits to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.domain.alerts import Alert
from fallow.ports.database import Transaction


class Channel(NamedTuple):
    """Where an account is told. `salt` (16 bytes) was drawn when it named the address; times are in ms since 1970."""

    account: bytes
    kind: str
    address: str
    language: str
    salt: bytes
    asked_at: int
    confirmed_at: int | None = None
    tries: int = 0
    failed_at: int | None = None
    failure: str = ""


class Message(NamedTuple):
    """What is to be sent to an address, as it was when that was decided. `tries` counts the one that begins, too."""

    seq: int
    account: bytes
    kind: str
    address: str
    language: str
    salt: bytes
    what: str
    body: bytes
    made_at: int
    tries: int


class AlertStore(Protocol):
    """Channels, what they were told, and the queue of messages."""

    async def put(self, tx: Transaction, channel: Channel) -> None:
        """Keep a channel in the place of the account's other one of that kind, which was told nothing."""
        ...

    async def channels(self, tx: Transaction, account: bytes) -> Sequence[Channel]:
        """Those of an account."""
        ...

    async def locked(self, tx: Transaction, account: bytes, kind: str) -> Channel | None:
        """One of them, which nobody else changes until the transaction ends."""
        ...

    async def confirm(self, tx: Transaction, salt: bytes, now: int) -> None:
        """Take note that whoever reads the address wants it."""
        ...

    async def count_try(self, tx: Transaction, salt: bytes) -> None:
        """Take note of a wrong code."""
        ...

    async def end(self, tx: Transaction, account: bytes, kind: str) -> None:
        """Forget a channel, what it was told, and what waits for it."""
        ...

    async def take_looks(self, tx: Transaction, now: int, before: int, limit: int) -> Sequence[Channel]:
        """Return confirmed channels that were last looked at `before` then, and count this as the look `now`.

        Those that another copy is just taking are passed over.
        """
        ...

    async def told(self, tx: Transaction, account: bytes, kind: str) -> list[Alert] | None:
        """What a channel was told and has not ended; None where it was told nothing yet."""
        ...

    async def tell(self, tx: Transaction, account: bytes, kind: str, alerts: Sequence[Alert]) -> None:
        """Keep what it is told by now."""
        ...

    async def add(self, tx: Transaction, channel: Channel, what: str, body: bytes, now: int) -> None:
        """Put a message into the queue."""
        ...

    async def waiting(self, tx: Transaction, salt: bytes) -> int:
        """Count what waits for a channel."""
        ...

    async def take_messages(self, tx: Transaction, kind: str, now: int, again_at: int, limit: int) -> Sequence[Message]:
        """Return what is due, the oldest of each salt alone; should nothing be heard of it, it is due `again_at`.

        What has failed before comes last. What another copy is just taking is passed over.
        """
        ...

    async def sent(self, tx: Transaction, message: Message) -> None:
        """Forget a message; its channel works."""
        ...

    async def failed(self, tx: Transaction, message: Message, now: int, failure: str, due_at: int | None) -> None:
        """Take note of a failure: the message is due again, or given up (None)."""
        ...

    async def count(self, tx: Transaction, key: bytes, day: int, most: int) -> bool:
        """Count one more; False where that day had `most` already."""
        ...

    async def forget_counts(self, tx: Transaction, before_day: int) -> None:
        """Forget the counts of earlier days."""
        ...
