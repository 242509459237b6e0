"""Segments that wait for pieces as rows: those that need repair, and behind these all that began short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fallow.ports.database import Transaction
from fallow.verticals.storage.control.health import Whereabouts
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.core.endangered import days_to_loss
from fallow.verticals.storage.core.profiles import Profile

TAKEN_MS: Final = 3_600_000
"""Who takes a segment is done with it by then, or has died."""
RETRY_MS: Final = 900_000
RETRY_MS_MAX: Final = 4 * 3_600_000

_NOTE: Final = """
INSERT INTO storage.short (segment, days, due_ms) VALUES ($1, $2, $3) ON CONFLICT (segment) DO NOTHING
"""


class Queue(NamedTuple):
    """Segments in `table`, of which `enough` pieces are to count; none is taken where `unless` holds."""

    table: str
    enough: Callable[[Profile], int]
    unless: str

    async def take(self, tx: Transaction, now_ms: int) -> bytes | None:
        """Take the segment that is likeliest to be lost, if there is one that nobody else works at."""
        rows = await tx.fetch(
            f"UPDATE {self.table} SET due_ms = $1 + $2, tries = tries + 1 WHERE segment ="  # noqa: S608 - our words
            f" (SELECT segment FROM {self.table} WHERE due_ms <= $1 AND NOT {self.unless}"
            "  ORDER BY days LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING segment",
            now_ms,
            TAKEN_MS,
        )
        return rows[0]["segment"] if rows else None

    async def done(self, tx: Transaction, segment: bytes) -> None:
        """It waits no more."""
        await tx.execute(f"DELETE FROM {self.table} WHERE segment = $1", segment)  # noqa: S608 - our words

    async def fail(self, tx: Transaction, segment: bytes, reason: str, now_ms: int) -> None:
        """It is tried again later, and later each time."""
        await tx.execute(
            f"UPDATE {self.table} SET reason = $2, due_ms = $3 + least($5::bigint, $4::bigint * tries)"  # noqa: S608 - ours
            " WHERE segment = $1",
            segment,
            reason,
            now_ms,
            RETRY_MS,
            RETRY_MS_MAX,
        )

    def suffices(self, segment: Damaged, nodes: Sequence[int], known: Whereabouts) -> bool:
        """Whether a segment whose pieces are on these nodes need not wait here."""
        countries = segment.countries
        return known.healthy(nodes, countries) >= self.enough(segment.code) and not known.is_abroad(nodes, countries)


REPAIR: Final = Queue("storage.repair", lambda profile: profile.repair + 1, unless="false")
SHORT: Final = Queue(
    "storage.short",
    lambda profile: profile.pieces,
    unless="EXISTS (SELECT 1 FROM storage.repair WHERE due_ms <= $1)",
)


async def note_if_short(tx: Transaction, segment: bytes, profile: Profile, pieces: int, now_ms: int) -> None:
    """Have a segment that is stored, or was repaired, with so many pieces wait for those that lack, if any does.

    For a while at first: what is deleted by then costs nothing.
    """
    if pieces < profile.pieces:
        await tx.execute(_NOTE, segment, days_to_loss(profile, pieces, pieces), now_ms + RETRY_MS)
