"""Moving a subscription's money: a refusal of the ledger that another spender explains, and one that is a bug."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fallow.domain.chart import Kind
from fallow.domain.errors import Unavailable
from fallow.domain.ledger import Result, Transfer
from fallow.ports.database import Transaction
from fallow.ports.ledger import Ledger

RACES_MAX: Final = 10
"""As often one may be too late, each time after the same was read: then nobody has spent anything, and it is a bug."""

Available = Mapping[int, int]


class Misposted(Exception):
    """The money of a subscription cannot be moved as its rules want it, and nobody else's doing explains why: a bug."""


class Posting:
    """Posts to the ledger, and remembers what it was too late for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._late: tuple[bytes, Available, int] = b"", {}, 0

    async def post(
        self, tx: Transaction, key: bytes, transfers: Sequence[Transfer], available: Available | None, now: int
    ) -> None:
        """Post what moves for subscription `key`.

        `available` is what its account could spend as it was read, where something is reserved from that.

        Raises:
            Unavailable: another spender was faster; it is to be tried again from what is stored then.
            Misposted: it cannot be moved.
        """
        results = await self._ledger.post(tx, transfers, now)
        refused = [(result, entry) for result, entry in zip(results, transfers, strict=True) if not result.ok]
        if not refused:
            return
        # A chain fails as a whole: what only shared it with the cause comes before the cause itself.
        own = [refusal for refusal in refused if refusal[0] is not Result.LINKED_EVENT_FAILED]
        result, entry = (own or refused)[0]
        why = f"The ledger refused a transfer of subscription {key.hex()}: {result} ({entry.id.hex()})."
        if result is Result.EXCEEDS_CREDITS and entry.code == Kind.WINDOW and self._may_be_late(key, available):
            raise Unavailable("subscription.money_raced", why, "Try again.")
        raise Misposted(why)

    def _may_be_late(self, key: bytes, available: Available | None) -> bool:
        if available is None:
            return False
        times = 1 + (self._late[2] if self._late[:2] == (key, available) else 0)
        self._late = key, available, times
        return times < RACES_MAX
