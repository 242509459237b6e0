"""Nodes that leave as rows: how far the search for pieces is, which are to be moved, and what became of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import locks
from fallow.verticals.storage.core.exiting import Tally

TAKEN_MS: Final = 3_600_000
"""Who takes a piece is done with it by then, or has died."""
SEGMENTS_AT_ONCE: Final = 2000
"""As for what is drawn to be audited."""

_BEGIN: Final = """
WITH new AS (
    INSERT INTO storage.exit (alias, wish, began_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING alias
)
UPDATE storage.node n SET exit = 'leaving' FROM new WHERE n.alias = new.alias
"""
_OPEN: Final = "SELECT * FROM storage.exit WHERE NOT told AND alias = ANY($1::integer[]) ORDER BY alias"
_ONE: Final = "SELECT * FROM storage.exit WHERE alias = $1 FOR UPDATE SKIP LOCKED"
_PLACE: Final = "SELECT after FROM storage.exit_search FOR UPDATE SKIP LOCKED"
_START: Final = """
UPDATE storage.exit e SET searching = true, found = 0, sure = NOT storing
FROM (
    SELECT alias, EXISTS (SELECT 1 FROM storage.begun b WHERE x.alias = ANY(b.nodes)) OR EXISTS
         (SELECT 1 FROM storage.garbage g WHERE g.alias = x.alias AND g.due_ms > $1 AND NOT g.purge) AS storing,
        EXISTS (SELECT 1 FROM storage.leaving l WHERE l.alias = x.alias) AS waits
    FROM storage.exit x WHERE x.receipt IS NULL AND (x.found IS NULL OR NOT (x.sure AND x.found = 0))
) w WHERE w.alias = e.alias AND (e.found IS NULL OR NOT (w.waits OR w.storing)) RETURNING e.alias
"""
"""What repair brings is garbage that is not due yet, until the segment counts on it."""
_FIND: Final = """
WITH page AS (
    SELECT id, nodes FROM storage.segment WHERE id > $1 ORDER BY id LIMIT $2
), here AS (
    SELECT e.alias, p.id FROM page p CROSS JOIN LATERAL unnest(p.nodes) AS n (alias)
    JOIN storage.exit e USING (alias) WHERE e.searching
), new AS (
    INSERT INTO storage.leaving (alias, segment, due_ms) SELECT alias, id, $3 FROM here ON CONFLICT DO NOTHING
), counted AS (
    UPDATE storage.exit e SET found = e.found + c.n
    FROM (SELECT alias, count(*) AS n FROM here GROUP BY alias) c WHERE c.alias = e.alias
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM page) AS n
"""
_GO_ON: Final = "UPDATE storage.exit_search SET after = $1"
_FOUND: Final = "UPDATE storage.exit SET searching = false WHERE searching"
_TAKE: Final = """
UPDATE storage.leaving l SET due_ms = $2 + $3 FROM (
    SELECT d.alias, d.segment FROM unnest($1::integer[]) WITH ORDINALITY AS a (alias, turn) CROSS JOIN LATERAL (
        SELECT alias, segment FROM storage.leaving WHERE alias = a.alias AND due_ms <= $2
        ORDER BY due_ms LIMIT 1 FOR UPDATE SKIP LOCKED
    ) d ORDER BY a.turn LIMIT 1
) t WHERE l.alias = t.alias AND l.segment = t.segment RETURNING l.alias, l.segment, l.tries
"""
_SIGNERS: Final = """
SELECT CASE WHEN s.client = 0 THEN '{}' ELSE
    ARRAY(SELECT c.key FROM storage.client c WHERE c.id = abs(s.client) OR c.repairs) END AS signers
FROM storage.segment s WHERE s.id = $1
"""
_LATER: Final = """
UPDATE storage.leaving SET due_ms = $3, tries = tries + $4, blamed = $5 WHERE alias = $1 AND segment = $2
"""
_REASON: Final = "UPDATE storage.exit SET reason = $2 WHERE alias = $1"
_DONE: Final = "DELETE FROM storage.leaving WHERE alias = $1 AND segment = ANY($2::bytea[])"
_COUNT: Final = """
UPDATE storage.exit SET moved = moved + $2, moved_bytes = moved_bytes + $3, failed = failed + $4,
    failed_bytes = failed_bytes + $5, gone = gone + $6, unplaced = unplaced + $7 WHERE alias = $1
"""
_WAITED: Final = "UPDATE storage.exit SET read_ms = read_ms + $2 WHERE alias = $1"
_IN_VAIN: Final = "SELECT count(*) AS n FROM storage.leaving WHERE alias = $1 AND NOT blamed"
_SOME: Final = "SELECT segment, blamed FROM storage.leaving WHERE alias = $1 LIMIT $2 FOR UPDATE SKIP LOCKED"
_WAITING: Final = "SELECT count(*) AS n FROM storage.leaving WHERE alias = $1"
_GARBAGE_DUE: Final = "SELECT 1 FROM storage.garbage WHERE alias = $1 AND due_ms <= $2 LIMIT 1"
_FORGET: Final = "DELETE FROM storage.garbage WHERE alias = $1"
_STAYS: Final = "DELETE FROM storage.leaving WHERE alias = $1"
_END: Final = "UPDATE storage.exit SET receipt = $2, why = $3 WHERE alias = $1"
_OTHERS: Final = """
SELECT 1 FROM storage.node n JOIN storage.lender l USING (alias) LEFT JOIN storage.exit e USING (alias)
WHERE n.account = $1 AND e.why IS DISTINCT FROM '' LIMIT 1
"""
_LEFT: Final = "UPDATE storage.node SET exit = 'left' WHERE alias = $1"
_TOLD: Final = "UPDATE storage.exit SET told = true WHERE alias = $1 AND receipt IS NOT NULL"


class Taken(NamedTuple):
    """A piece that is to be moved off its node; `tries` ended at that node so far."""

    alias: int
    segment: bytes
    tries: int


async def begin(tx: Transaction, alias: int, wish: bytes, now_ms: int) -> None:
    """Have a node be one that leaves; where it is already, nothing changes."""
    await tx.execute(_BEGIN, alias, wish, now_ms)


async def open_exits(tx: Transaction, aliases: Collection[int]) -> Sequence[Row]:
    """Those of these nodes that leave, or do not know yet that they have left."""
    return await tx.fetch(_OPEN, list(aliases))


async def lock(tx: Transaction, alias: int) -> Row | None:
    """The row of a node that leaves, unless another process works at it."""
    rows = await tx.fetch(_ONE, alias)
    return rows[0] if rows else None


async def search(tx: Transaction, now_ms: int) -> bool:
    """Note the pieces in the next segments, of all nodes that a search is for; whether it goes on behind them.

    In the order of ids: who repairs a segment writes its row anew, elsewhere on the disk, but its id stays. Another
    search is begun for those of which all that the last one found is moved, while nothing is being stored there; for
    none of which one found for sure that there is nothing.
    """
    place = await tx.fetch(_PLACE)
    if not place:
        return False  # another process has it
    after = place[0]["after"]
    if after is None:
        if not await tx.fetch(_START, now_ms):
            return False
        after = b""
    (page,) = await tx.fetch(_FIND, after, SEGMENTS_AT_ONCE, now_ms)
    goes_on = page["n"] == SEGMENTS_AT_ONCE
    await tx.execute(_GO_ON, page["last"] if goes_on else None)
    if not goes_on:
        await tx.execute(_FOUND)
    return bool(goes_on)


async def take(tx: Transaction, aliases: Sequence[int], now_ms: int) -> Taken | None:
    """Take a piece that is to be moved off the first of these nodes that has one which nobody else works at."""
    rows = await tx.fetch(_TAKE, list(aliases), now_ms, TAKEN_MS)
    return Taken(**dict(rows[0])) if rows else None


async def signers(tx: Transaction, segment: bytes) -> Collection[bytes]:
    """Whose claims on its pieces count; nobody's are known of a segment from before there were any."""
    rows = await tx.fetch(_SIGNERS, segment)
    return rows[0]["signers"] if rows else ()


async def later(tx: Transaction, taken: Taken, due_ms: int, reason: str, *, blamed: bool, counts: bool) -> None:
    """It is tried again later: whether that is because of the node, and counts as one of its tries."""
    await tx.execute(_LATER, taken.alias, taken.segment, due_ms, int(counts), blamed)
    await tx.execute(_REASON, taken.alias, reason)


async def count(tx: Transaction, alias: int, segments: Collection[bytes], tally: Tally) -> None:
    """What became of pieces that are not to be moved any more."""
    await tx.execute(_DONE, alias, list(segments))
    await tx.execute(_COUNT, alias, *tally)


async def waited(tx: Transaction, alias: int, read_ms: int) -> None:
    """So long the network has waited for a piece."""
    await tx.execute(_WAITED, alias, read_ms)


async def in_vain(tx: Transaction, alias: int) -> int:
    """How many pieces that are still to be moved no other node took when they were tried."""
    (row,) = await tx.fetch(_IN_VAIN, alias)
    return int(row["n"])


async def some(tx: Transaction, alias: int, limit: int) -> dict[bytes, bool | None]:
    """Some pieces that are still to be moved, and whether their node is to blame for it; None: they were not tried."""
    return {row["segment"]: row["blamed"] for row in await tx.fetch(_SOME, alias, limit)}


async def waiting(tx: Transaction, alias: int) -> int:
    """How many pieces are still to be moved."""
    (row,) = await tx.fetch(_WAITING, alias)
    return int(row["n"])


async def is_over(tx: Transaction, row: Row, now_ms: int, *, late: bool) -> bool:
    """Whether nothing counts on a node any more, or can come to; and, unless it is late, it has deleted what it had."""
    clear = _is_clear(row) and not await waiting(tx, row["alias"])
    return clear and (late or not await tx.fetch(_GARBAGE_DUE, row["alias"], now_ms))


async def end(tx: Transaction, alias: int, receipt: bytes, why: str) -> None:
    """It has left: what it was yet to delete, or to give, is its own business."""
    await tx.execute(_STAYS, alias)
    await tx.execute(_END, alias, receipt, why)
    await tx.execute(_LEFT, alias)
    await tx.execute(_FORGET, alias)


async def all_have_left(tx: Transaction, account: bytes) -> bool:
    """Whether each node of an account that ever held anything has left, with success; the last one hears of it."""
    await locks.leave(tx, account)
    return not await tx.fetch(_OTHERS, account)


async def told(tx: Transaction, alias: int) -> None:
    """It has its receipt."""
    await tx.execute(_TOLD, alias)


def _is_clear(row: Row) -> bool:
    return not row["searching"] and row["sure"] and row["found"] == 0
