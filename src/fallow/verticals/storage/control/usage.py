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
from fallow.verticals.storage.core.billing import LINES_MAX, GetBill, StorageBill, make_bill
from fallow.verticals.storage.core.calls import USAGE_BUCKETS_MAX, USAGE_DAYS_MAX, Usage, UsedBucket, UsedDay
from fallow.verticals.storage.core.tariff import HOUR_MS, cost_microusd

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
SELECT bucket, day, byte_ms, payload_ms, egress FROM storage.day
WHERE bucket = ANY($1::bigint[]) AND day BETWEEN $2 AND $3
"""
_REQUESTS: Final = """
SELECT bucket_id, day, kind, count AS requests FROM storage.operation
WHERE account = $1 AND day BETWEEN $2 AND $3 AND bucket_id = ANY($4::bigint[])
"""


class Used:
    """The handler of the calls. `offers` are what others ask."""

    def __init__(self, database: Database, offers: Sequence[Offer] = ()) -> None:
        self._database = database
        self._offers = offers

    async def usage(self, call: Usage) -> list[UsedBucket]:
        """See the call."""
        if not 0 <= call.to_day - call.from_day < USAGE_DAYS_MAX:
            raise InvalidInput("storage.days", f"Usage is shown of 1 to {USAGE_DAYS_MAX} days.")
        account, span = address(call.account), (call.from_day, call.to_day)
        async with self._database.transaction() as tx:
            buckets = await tx.fetch(_BUCKETS, account, *span, call.after, USAGE_BUCKETS_MAX)
            days = await _days(tx, account, [row["id"] for row in buckets], span)
        return [
            UsedBucket(
                id=row["id"], bucket=row["name"], objects=row["objects"], bytes=row["bytes"], days=days[row["id"]]
            )
            for row in buckets
        ]

    async def bill(self, call: GetBill) -> StorageBill:
        """See the call."""
        found: list[UsedBucket] = []
        while True:
            after = found[-1].id if found else 0
            asked = Usage(account=call.account, from_day=call.from_day, to_day=call.to_day, after=after)
            page = await self.usage(asked)
            found += page
            if len(page) < USAGE_BUCKETS_MAX:
                break
        whole = make_bill(found, self._offers)
        costliest = sorted(whole.buckets, key=lambda line: (-line.cost_microusd, line.id))[:LINES_MAX]
        return msgspec.structs.replace(whole, buckets=costliest)


async def _days(
    tx: Transaction, account: bytes, buckets: Sequence[int], span: tuple[int, int]
) -> defaultdict[int, list[UsedDay]]:
    """What each bucket used, in the order of days."""
    used = {(row["bucket"], row["day"]): row for row in await tx.fetch(_DAYS, buckets, *span)}
    requests: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    for row in await tx.fetch(_REQUESTS, account, *span, buckets):
        requests[row["bucket_id"], row["day"]][row["kind"]] = row["requests"]
    days: defaultdict[int, list[UsedDay]] = defaultdict(list)
    for bucket, day in sorted({*used, *requests}):
        days[bucket].append(_day(day, used.get((bucket, day)), requests.get((bucket, day), {})))
    return days


def _day(day: int, row: Row | None, requests: dict[str, int]) -> UsedDay:
    if row is None:
        return UsedDay(day=day, requests=requests)
    stored, egress = int(row["byte_ms"] // HOUR_MS), int(row["egress"])
    return UsedDay(
        day=day,
        stored_byte_hours=stored,
        payload_byte_hours=int(row["payload_ms"] // HOUR_MS),
        egress_bytes=egress,
        requests=requests,
        cost_microusd=cost_microusd(stored, egress),
    )
