"""What was used, added up: from changes of what nodes hold to byte-milliseconds, and from these to days.

Each use counts with what it costs, and leaves its owner, when it is added up: by the rates and the fee of that moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from fallow.domain.billing import PPM
from fallow.domain.fees import Fees
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.verticals.storage.control.rates import FIRST, take_means
from fallow.verticals.storage.core.tariff import DAY_MS

CHANGES_AT_ONCE: Final = 500
LENDER_DAYS: Final = 62
"""Owners are shown this month. What is paid is in settled windows, and what buyers used in days of their buckets."""
DAYS_AT_ONCE: Final = 10_000
_LENDERS: Final = """
INSERT INTO storage.lender AS l (alias, bytes, less)
SELECT * FROM unnest($1::integer[], $2::numeric[], $3::numeric[]) ORDER BY 1
ON CONFLICT (alias) DO UPDATE SET bytes = l.bytes + EXCLUDED.bytes, less = l.less + EXCLUDED.less
"""
_LENDER_DAYS: Final = """
WITH used AS (
    SELECT alias, bytes * $1::numeric - less - counted AS more FROM storage.lender
    WHERE bytes * $1::numeric - less > counted
), noted AS (
    UPDATE storage.lender l SET counted = l.counted + used.more FROM used WHERE l.alias = used.alias
)
INSERT INTO storage.lender_day AS d (alias, day, byte_ms, earned)
SELECT alias, $2, more, div(more * coalesce(m.stored, $3::numeric) * $4::numeric, $5::numeric)
FROM used JOIN storage.node n USING (alias) LEFT JOIN storage.mean_rate m ON m.payee = n.account
ON CONFLICT (alias, day) DO UPDATE SET byte_ms = d.byte_ms + EXCLUDED.byte_ms, earned = d.earned + EXCLUDED.earned
"""
_DAYS: Final = """
WITH used AS (
    SELECT bucket, account, greatest(bytes * $1::numeric - less - counted, 0) AS more,
        greatest(payload * $1::numeric - payload_less - payload_counted, 0) AS payload
    FROM storage.payer
    WHERE bytes * $1::numeric - less > counted OR payload * $1::numeric - payload_less > payload_counted
), noted AS (
    UPDATE storage.payer p SET counted = p.counted + used.more, payload_counted = p.payload_counted + used.payload
    FROM used WHERE p.bucket = used.bucket
)
INSERT INTO storage.day AS d (bucket, day, byte_ms, payload_ms, cost)
SELECT bucket, $2, more, payload, more * coalesce(r.stored, $3::numeric)
FROM used LEFT JOIN storage.rate r USING (account)
ON CONFLICT (bucket, day) DO UPDATE SET byte_ms = d.byte_ms + EXCLUDED.byte_ms,
    payload_ms = d.payload_ms + EXCLUDED.payload_ms, cost = d.cost + EXCLUDED.cost
"""
_FORGET_LENDER_DAYS: Final = """
DELETE FROM storage.lender_day WHERE (alias, day) IN (SELECT alias, day FROM storage.lender_day WHERE day < $1 LIMIT $2)
"""


class _Sum(NamedTuple):
    """Bytes from now on, and what bytes x time counts too much: each byte counts from when it came."""

    bytes: int = 0
    less: int = 0

    def plus(self, size: int, at_ms: int, times: int = 1) -> _Sum:
        return _Sum(self.bytes + size * times, self.less + size * times * at_ms)


class Metering:
    """Adds up. Several processes may do so at the same time: who does holds a row."""

    def __init__(self, clock: Clock, database: Database, fees: Fees) -> None:
        self._clock = clock
        self._fees = fees
        self._database = database

    async def add_up(self) -> bool:
        """Take the next changes into the sums; whether there were any."""
        async with self._database.transaction() as tx:
            await lock_sums(tx)
            rows = await tx.fetch(
                "DELETE FROM storage.change WHERE id IN (SELECT id FROM storage.change ORDER BY id LIMIT $1)"
                " RETURNING bucket, nodes, bytes, payload, at_ms",
                CHANGES_AT_ONCE,
            )
            if not rows:
                return False
            await _by_bucket(tx, rows)
            await _by_payee(tx, rows)
            await _by_node(tx, rows)
        return True

    async def count_days(self) -> None:
        """Write what was used since the last time to the day that is now, and forget nodes' days of long ago."""
        now = self._clock.now_ms()
        today = now // DAY_MS
        async with self._database.transaction() as tx:
            await lock_sums(tx)
            await tx.execute(_DAYS, now, today, FIRST.stored)
            await take_means(tx)
            left_ppm = PPM - self._fees.at(now).fee_ppm
            await tx.execute(_LENDER_DAYS, now, today, FIRST.stored, left_ppm, PPM)
            await tx.execute(_FORGET_LENDER_DAYS, today - LENDER_DAYS, DAYS_AT_ONCE)


async def lock_sums(tx: Transaction) -> None:
    """Be the only one that adds up or bills, until the transaction ends."""
    await tx.fetch("SELECT 1 FROM storage.cursor WHERE name = 'bills' FOR UPDATE")


async def _by_bucket(tx: Transaction, rows: Sequence[Row]) -> None:
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    payload: defaultdict[int, _Sum] = defaultdict(_Sum)
    for row in rows:
        sums[row["bucket"]] = sums[row["bucket"]].plus(row["bytes"], row["at_ms"], len(row["nodes"]))
        payload[row["bucket"]] = payload[row["bucket"]].plus(row["payload"], row["at_ms"])
    await tx.execute(
        "UPDATE storage.payer p SET bytes = p.bytes + s.bytes, less = p.less + s.less,"
        "  payload = p.payload + s.payload, payload_less = p.payload_less + s.payload_less"
        " FROM unnest($1::bigint[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[])"
        "  AS s (bucket, bytes, less, payload, payload_less)"
        " WHERE p.bucket = s.bucket",
        list(sums),
        [one.bytes for one in sums.values()],
        [one.less for one in sums.values()],
        [payload[bucket].bytes for bucket in sums],
        [payload[bucket].less for bucket in sums],
    )


async def _by_payee(tx: Transaction, rows: Sequence[Row]) -> None:
    buckets = await tx.fetch(
        "SELECT bucket, account FROM storage.payer WHERE bucket = ANY($1::bigint[])", [row["bucket"] for row in rows]
    )
    nodes = await tx.fetch(
        "SELECT alias, account FROM storage.node WHERE alias = ANY($1::integer[])",
        list({alias for row in rows for alias in row["nodes"]}),
    )
    payers = {row["bucket"]: row["account"] for row in buckets}
    payees = {row["alias"]: row["account"] for row in nodes}
    sums: defaultdict[tuple[bytes, bytes], _Sum] = defaultdict(_Sum)
    for row in rows:
        for alias in row["nodes"]:
            key = payers[row["bucket"]], payees[alias]
            sums[key] = sums[key].plus(row["bytes"], row["at_ms"])
    await tx.execute(
        "INSERT INTO storage.stored AS s (account, payee, bytes, less)"
        " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::numeric[], $4::numeric[])"
        " ON CONFLICT (account, payee) DO UPDATE SET bytes = s.bytes + EXCLUDED.bytes, less = s.less + EXCLUDED.less",
        [account for account, _ in sums],
        [payee for _, payee in sums],
        [one.bytes for one in sums.values()],
        [one.less for one in sums.values()],
    )


async def _by_node(tx: Transaction, rows: Sequence[Row]) -> None:
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    for row in rows:
        for alias in row["nodes"]:
            sums[alias] = sums[alias].plus(row["bytes"], row["at_ms"])
    await tx.execute(_LENDERS, list(sums), [one.bytes for one in sums.values()], [one.less for one in sums.values()])
