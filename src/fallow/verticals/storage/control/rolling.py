"""Adds up what each node was used for, and tells it in one record a node and hour, for epochs (`LendingUsed`).

What a record says and that it was said are written in one transaction: a node's use is in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fallow.domain.decisions import Decision
from fallow.domain.merkle import GrowingTree
from fallow.domain.network_facts import LendingUsed
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.verticals.storage.control.metering import lock_sums
from fallow.verticals.storage.core.handed_in import Added, Window
from fallow.verticals.storage.core.tariff import HOUR_MS, STORED, VERTICAL

NODES_AT_ONCE: Final = 1000
HASH_BYTES: Final = 32
_OPEN: Final = """
SELECT n.node, n.alias, r.egress, r.repaired, r.orders, r.peaks, r.begins_boot, r.begins_seq, r.ends_boot, r.ends_seq
FROM storage.node n LEFT JOIN storage.rolling r USING (alias) WHERE n.node = ANY($1::bytea[])
"""
_KEEP: Final = """
INSERT INTO storage.rolling
    (alias, egress, repaired, orders, peaks, begins_boot, begins_seq, ends_boot, ends_seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (alias) DO UPDATE SET egress = EXCLUDED.egress, repaired = EXCLUDED.repaired, orders = EXCLUDED.orders,
    peaks = EXCLUDED.peaks, begins_boot = EXCLUDED.begins_boot, begins_seq = EXCLUDED.begins_seq,
    ends_boot = EXCLUDED.ends_boot, ends_seq = EXCLUDED.ends_seq
"""
_DUE: Final = """
SELECT n.alias, n.node, n.account, r.egress, r.repaired, r.orders, r.peaks,
    r.begins_boot, r.begins_seq, r.ends_boot, r.ends_seq,
    greatest(div(coalesce(l.bytes * $1::numeric - l.less, 0) - coalesce(r.told_ms, 0), $2::numeric), 0) AS hours
FROM storage.node n LEFT JOIN storage.rolling r USING (alias) LEFT JOIN storage.lender l USING (alias)
WHERE n.alias > $3 AND coalesce(r.window_no, -1) < $4
    AND (r.orders > 0 OR coalesce(l.bytes * $1::numeric - l.less, 0) - coalesce(r.told_ms, 0) >= $2::numeric)
ORDER BY n.alias LIMIT $5
"""
_TOLD: Final = """
INSERT INTO storage.rolling AS r (alias, window_no, told_ms)
SELECT s.alias, $3, s.more FROM unnest($1::integer[], $2::numeric[]) AS s (alias, more)
ON CONFLICT (alias) DO UPDATE SET window_no = EXCLUDED.window_no, told_ms = r.told_ms + EXCLUDED.told_ms,
    egress = 0, repaired = 0, orders = 0, peaks = '', begins_boot = r.ends_boot, begins_seq = r.ends_seq
"""


class Rolling:
    """Several processes may do so at the same time: who does holds the rows of both cursors."""

    def __init__(self, clock: Clock, database: Database, decisions: DecisionStore) -> None:
        self._clock = clock
        self._database = database
        self._decisions = decisions

    async def roll(self) -> None:
        """Tell of all nodes that were used, and of which nothing was told in this hour."""
        after: int | None = 0
        while after is not None:
            after = await self._roll_some(after)

    async def _roll_some(self, after: int) -> int | None:
        """Tell of the next nodes, by alias; returns the last one, if there may be more."""
        now = self._clock.now_ms()
        window = now // HOUR_MS
        async with self._database.transaction() as tx:
            await lock_sums(tx)
            await tx.fetch("SELECT 1 FROM storage.cursor WHERE name = 'log' FOR UPDATE")
            rows = await tx.fetch(_DUE, now, HOUR_MS, after, window, NODES_AT_ONCE)
            await self._decisions.add(tx, [Decision(now, _record(row, window, now)) for row in rows])
            aliases, more = [row["alias"] for row in rows], [int(row["hours"]) * HOUR_MS for row in rows]
            await tx.execute(_TOLD, aliases, more, window)
        return aliases[-1] if len(aliases) == NODES_AT_ONCE else None


async def add_orders(tx: Transaction, added: Mapping[bytes, Sequence[Added]]) -> None:
    """Take orders into the open windows of their nodes, by node; whoever does so holds the cursor of the log."""
    for row in await tx.fetch(_OPEN, list(added)):
        window = _window(row)
        for one in added[row["node"]]:
            window.add(one)
        await tx.execute(
            _KEEP,
            row["alias"],
            window.egress,
            window.repaired,
            window.tree.size,
            b"".join(window.tree.peaks),
            *window.begins,
            *window.ends,
        )


def _record(row: Row, window: int, now_ms: int) -> LendingUsed:
    open_ = _window(row)
    used = {STORED: int(row["hours"]), **open_.used}
    return LendingUsed(
        vertical=VERTICAL,
        node=row["node"],
        payee=row["account"],
        window=window,
        until_ms=now_ms,
        used={meter: quantity for meter, quantity in used.items() if quantity},
        orders=open_.tree.size,
        root=open_.tree.root,
        begins=list(open_.begins),
        ends=list(open_.ends),
    )


def _window(row: Row) -> Window:
    if row["orders"] is None:
        return Window()
    peaks = row["peaks"]
    return Window(
        (row["begins_boot"], row["begins_seq"]),
        (row["ends_boot"], row["ends_seq"]),
        row["egress"],
        row["repaired"],
        GrowingTree([peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)], row["orders"]),
    )
