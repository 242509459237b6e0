"""What the buckets of an account used, day by day, for its bill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address
from fallow.domain.prices import Offer
from fallow.ports.database import Database, Row, Transaction
from fallow.verticals.storage.core.billing import LINES_MAX, BucketLine, GetBill, StorageBill, bill_of, line_of
from fallow.verticals.storage.core.calls.accounts import USAGE_BUCKETS_MAX, USAGE_DAYS_MAX, Usage, UsedBucket, UsedDay
from fallow.verticals.storage.core.tariff import FINE, HOUR_MS

_BUCKETS: Final = """
SELECT i.id, coalesce(b.name, '') AS name,
    coalesce(t.objects, 0)::bigint AS objects, coalesce(t.bytes, 0)::bigint AS bytes
FROM (
    SELECT id FROM storage.bucket WHERE account = $1 AND id > $4
    UNION SELECT p.bucket FROM storage.payer p WHERE p.account = $1 AND p.bucket > $4 AND EXISTS (
        SELECT FROM storage.day d WHERE d.bucket = p.bucket AND d.day BETWEEN $2 AND $3)
    UNION SELECT bucket_id FROM storage.operation WHERE account = $1 AND day BETWEEN $2 AND $3 AND bucket_id > $4
    ORDER BY 1 LIMIT $5
) i LEFT JOIN storage.bucket b USING (id)
LEFT JOIN LATERAL (
    SELECT sum(objects) AS objects, sum(bytes) AS bytes FROM storage.tally WHERE bucket_id = i.id
) t ON true
ORDER BY i.id
"""
_DAYS: Final = """
SELECT bucket, day, div(byte_ms, $4::numeric) AS stored, div(payload_ms, $4::numeric) AS payload, egress, cost
FROM storage.day WHERE bucket = ANY($1::bigint[]) AND day BETWEEN $2 AND $3
"""
_SUMS: Final = """
SELECT bucket, sum(div(byte_ms, $4::numeric)) AS stored, sum(div(payload_ms, $4::numeric)) AS payload,
    sum(egress) AS egress, sum(cost) AS cost
FROM storage.day WHERE bucket = ANY($1::bigint[]) AND day BETWEEN $2 AND $3 GROUP BY bucket
"""
_REQUESTS: Final = """
SELECT bucket_id, day, kind, count AS requests FROM storage.operation
WHERE account = $1 AND day BETWEEN $2 AND $3 AND bucket_id = ANY($4::bigint[])
"""
_REQUEST_SUMS: Final = """
SELECT bucket_id, kind, sum(count)::bigint AS requests FROM storage.operation
WHERE account = $1 AND day BETWEEN $2 AND $3 AND bucket_id = ANY($4::bigint[]) GROUP BY bucket_id, kind
"""


class Used:
    """The handler of the calls. `offers` are what others ask."""

    def __init__(self, database: Database, offers: Sequence[Offer] = ()) -> None:
        self._database = database
        self._offers = offers

    async def usage(self, call: Usage) -> list[UsedBucket]:
        """See the call."""
        account, span = address(call.account), _span(call)
        async with self._database.transaction() as tx:
            buckets = await tx.fetch(_BUCKETS, account, *span, call.after, USAGE_BUCKETS_MAX)
            days = await _days(tx, account, [row["id"] for row in buckets], span)
        return [_bucket(row, days[row["id"]]) for row in buckets]

    async def bill(self, call: GetBill) -> StorageBill:
        """See the call. The database adds days up: dropped buckets may be many, and each page looks for all of them."""
        account, span = address(call.account), _span(call)
        lines: list[BucketLine] = []
        cost = 0
        while True:
            async with self._database.transaction() as tx:
                page, more = await _lines(tx, account, span, lines[-1].id if lines else 0)
            lines += page
            cost += more
            if len(page) < LINES_MAX:
                break
        whole = bill_of(lines, cost // FINE, self._offers)
        costliest = sorted(whole.buckets, key=lambda line: (-line.cost_microusd, line.id))[:LINES_MAX]
        return msgspec.structs.replace(whole, buckets=costliest)


def _span(call: Usage | GetBill) -> tuple[int, int]:
    if not 0 <= call.to_day - call.from_day < USAGE_DAYS_MAX:
        raise InvalidInput("storage.days", f"Usage is shown of 1 to {USAGE_DAYS_MAX} days.")
    return call.from_day, call.to_day


async def _lines(tx: Transaction, account: bytes, span: tuple[int, int], after: int) -> tuple[list[BucketLine], int]:
    """What the next buckets used in all the days, and what that costs in `FINE` parts."""
    buckets = await tx.fetch(_BUCKETS, account, *span, after, LINES_MAX)
    ids = [row["id"] for row in buckets]
    used = {row["bucket"]: row for row in await tx.fetch(_SUMS, ids, *span, HOUR_MS)}
    requests: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in await tx.fetch(_REQUEST_SUMS, account, *span, ids):
        requests[row["bucket_id"]][row["kind"]] = row["requests"]
    lines = [line_of(_bucket(row, []), _used(0, used.get(row["id"]), requests[row["id"]])) for row in buckets]
    return lines, sum(int(row["cost"]) for row in used.values())


def _bucket(row: Row, days: list[UsedDay]) -> UsedBucket:
    return UsedBucket(id=row["id"], bucket=row["name"], objects=row["objects"], bytes=row["bytes"], days=days)


async def _days(
    tx: Transaction, account: bytes, buckets: Sequence[int], span: tuple[int, int]
) -> defaultdict[int, list[UsedDay]]:
    """What each bucket used, in the order of days."""
    used = {(row["bucket"], row["day"]): row for row in await tx.fetch(_DAYS, buckets, *span, HOUR_MS)}
    requests: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    for row in await tx.fetch(_REQUESTS, account, *span, buckets):
        requests[row["bucket_id"], row["day"]][row["kind"]] = row["requests"]
    days: defaultdict[int, list[UsedDay]] = defaultdict(list)
    for bucket, day in sorted({*used, *requests}):
        days[bucket].append(_used(day, used.get((bucket, day)), requests.get((bucket, day), {})))
    return days


def _used(day: int, row: Row | None, requests: dict[str, int]) -> UsedDay:
    """What the database says of a day, or of more of them together."""
    if row is None:
        return UsedDay(day=day, requests=requests)
    return UsedDay(
        day=day,
        stored_byte_hours=int(row["stored"]),
        payload_byte_hours=int(row["payload"]),
        egress_bytes=int(row["egress"]),
        requests=requests,
        cost_microusd=int(row["cost"]) // FINE,
    )
