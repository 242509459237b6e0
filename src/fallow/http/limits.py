"""How much one sender may ask for: sizes, rates, open streams, and what a lease stores."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from litestar.connection import ASGIConnection

from fallow.domain.errors import TooMuch
from fallow.domain.networks import line_of
from fallow.ports.clock import Clock
from fallow.ports.rates import Rate


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the control API allows. `address` counts requests without a key, `key` those of one key or node.

    `sign_ins` counts tries to sign in, by address.
    `uploads` counts the bytes that one account stores, `words` what it has recorded for ever and for nothing.
    """

    json_bytes_max: int = 1 << 20
    blob_bytes_max: int = 1 << 30
    address: Rate = Rate(10.0, 60)
    key: Rate = Rate(500.0, 2000)
    sign_ins: Rate = Rate(1 / 6, 30)
    uploads: Rate = Rate(64.0 * (1 << 20), 32 << 30)
    words: Rate = Rate(1 / 600, 10)
    streams_per_account: int = 50
    heartbeat_s: float = 15.0


class Streams:
    """Counts the open streams of each account: of events, of logs and of commands."""

    def __init__(self, per_account: int) -> None:
        self._per_account = per_account
        self._open: Counter[str] = Counter()

    @contextmanager
    def opened(self, account: str) -> Iterator[None]:
        """Count one stream while the context is open.

        Raises:
            TooMuch: the account has all the streams that it may have.
        """
        if self._open[account] >= self._per_account:
            raise TooMuch("rate.streams", f"{self._per_account} streams are open already.", "Close some of them first.")
        self._open[account] += 1
        try:
            yield
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]


class Turns:
    """Heavy work, of which each account has one piece at a time, and all accounts together `in_all`."""

    def __init__(self, in_all: int) -> None:
        self._in_all = in_all
        self._taken: set[str] = set()

    @contextmanager
    def taken(self, account: str) -> Iterator[None]:
        """Have a turn while the context is open.

        Raises:
            TooMuch: the account has one, or there are as many as there may be.
        """
        if account in self._taken:
            raise TooMuch("rate.turn", "One of these is computed for you already.", "Wait for it, or end it.")
        if len(self._taken) >= self._in_all:
            raise TooMuch("rate.turns", f"{self._in_all} of these are computed already.", "Wait for one to end.")
        self._taken.add(account)
        try:
            yield
        finally:
            self._taken.remove(account)


class LeaseWrites:
    """Bounds what a node stores for one lease altogether, so that a ticket cannot fill the disk blob by blob.

    Counted in this process and for the `leases_max` latest leases; repeated uploads count again, hence the allowance.
    Checkpoints come for as long as the lease lasts: each `refill_ms` makes room for one more blob of the largest size.
    """

    allowance_bytes = 16 << 20
    blob_bytes_min = 4 << 10
    refill_ms = 600_000
    leases_max = 10_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._coming: Counter[bytes] = Counter()

    @contextmanager
    def coming(self, lease: bytes, size: int, write_bytes_max: int) -> Iterator[None]:
        """Count a blob of at most `size` bytes while it comes: many at once are no more than one after the other.

        Raises:
            TooMuch: what the lease has stored, and what comes, is more than twice what one blob may have, the
                allowance, and what time added.
        """
        now = self._clock.monotonic_ms()
        written, since = self._written.get(lease, (0, now))
        refilled = write_bytes_max * (now - since) // self.refill_ms
        if written + self._coming[lease] > 2 * write_bytes_max + self.allowance_bytes + refilled:
            raise TooMuch("ticket.writes", "The lease has stored more than it may by now.", "Save checkpoints rarer.")
        self._coming[lease] += size
        try:
            yield
        finally:
            self._coming[lease] -= size
            if not self._coming[lease]:
                del self._coming[lease]

    def add(self, lease: bytes, size: int) -> None:
        """Count a stored blob; a small one counts as what it takes on a disk."""
        written, since = self._written.get(lease, (0, self._clock.monotonic_ms()))
        self._written[lease] = (written + max(size, self.blob_bytes_min), since)
        self._written.move_to_end(lease)
        if len(self._written) > self.leases_max:
            self._written.popitem(last=False)


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return under which name a sender's address is counted."""
    return line_of(connection.client.host) if connection.client else ""
