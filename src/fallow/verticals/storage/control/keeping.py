"""How much an account may keep in this database for nothing, by what `tally` says of its buckets."""

from __future__ import annotations

from typing import Final

from fallow.domain.errors import TooMuch
from fallow.ports.clock import Clock
from fallow.ports.database import Transaction
from fallow.verticals.storage.control.tally import Totals
from fallow.verticals.storage.core.calls.objects import INLINE_FULL, KEPT_BYTES_MAX

REMEMBERED_MS: Final = 10_000
"""An account may keep more than it may by what comes in this time."""
ACCOUNTS_MAX: Final = 100_000
_KEPT: Final = """
SELECT coalesce(sum(t.kept), 0)::bigint AS kept FROM storage.bucket b JOIN storage.tally t ON t.bucket_id = b.id
WHERE b.account = $1
"""


class Keeping:
    """Remembers for some seconds what accounts keep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[int, int]] = {}

    async def check(self, tx: Transaction, account: bytes, change: Totals, *, inline: bool = False) -> None:
        """Refuse what has an account keep more than it may; `inline`: it could as well be stored on nodes.

        Raises:
            TooMuch: `storage.inline_full`; at twice as much, whatever it is, `storage.kept_full`.
        """
        if change.kept <= 0:
            return
        kept = await self._kept(tx, account)
        if inline and kept >= KEPT_BYTES_MAX:
            raise TooMuch(
                INLINE_FULL,
                "The network keeps as much of small objects for this account as it does for nothing.",
                "Store the bytes as a segment, on nodes.",
            )
        if kept >= 2 * KEPT_BYTES_MAX:
            raise TooMuch(
                "storage.kept_full",
                "The account has more small objects, delete markers and metadata than the network keeps for nothing.",
                "Delete versions and delete markers for good, or have a lifecycle rule do it.",
            )

    async def _kept(self, tx: Transaction, account: bytes) -> int:
        now = self._clock.monotonic_ms()
        until, kept = self._known.get(account, (0, 0))
        if now >= until:
            kept = (await tx.fetch(_KEPT, account))[0]["kept"]
            if len(self._known) >= ACCOUNTS_MAX:
                self._known.clear()
            self._known[account] = now + REMEMBERED_MS, kept
        return kept
