"""`fallow storage usage`: what buckets used and cost, and what the same costs elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import seconds, usd
from fallow.sdk.sync import Client
from fallow.verticals.storage.core.billing import LINES_MAX, BucketLine, GetBill, StorageBill
from fallow.verticals.storage.core.calls.accounts import USAGE_BUCKETS_MAX, Usage, UsedBucket
from fallow.verticals.storage.core.tariff import MONTH_HOURS, VERTICAL

DAY_S = 86_400
GB = 10**9


class DailyBill(StorageBill, frozen=True, kw_only=True):
    """The same with its span and its days."""

    from_day: str
    to_day: str
    days: list[UsedBucket]


def usage(
    *,
    since: Annotated[
        str, Parameter(help="What was used in this time until now: 12h, 30d. Days are whole, UTC.")
    ] = "30d",
    json: Json = False,
) -> None:
    """Show what each of your buckets used and cost, and what the same would have cost elsewhere.

    You pay for the bytes of pieces on nodes: payload with the parity that keeps it when nodes leave.
    """
    now_s = int(datetime.now(UTC).timestamp())
    from_day, to_day = max(0, now_s - seconds(since)) // DAY_S, now_s // DAY_S
    with profiles.connect() as client:
        found = _bill(client, from_day, to_day)
        if json:
            days = [one for one in _buckets(client, from_day, to_day) if one.days]
            whole = msgspec.structs.asdict(found)
            show_json(DailyBill(**whole, from_day=_day(from_day), to_day=_day(to_day), days=days))
            return
    columns = ["BUCKET", ">OBJECTS", ">HOLDS", ">STORED", ">OF PAYLOAD", ">READ", ">REQUESTS", ">COST"]
    table(columns, map(_row, found.buckets), empty="Nothing was stored in this time.")
    for line in _total_lines(found, from_day, to_day):
        say(line)
    if found.elsewhere:
        columns = ["ELSEWHERE", "KIND", ">THE SAME COSTS", "AS OF", "SOURCE"]
        table(columns, [(o.name, o.kind, usd(o.cost_microusd), o.as_of, o.source) for o in found.elsewhere], empty="")


def _bill(client: Client, from_day: int, to_day: int) -> StorageBill:
    asked = GetBill(account="", from_day=from_day, to_day=to_day)
    answer = client.ask_vertical(VERTICAL, GetBill.name, msgspec.msgpack.encode(asked), again=True)
    return msgspec.msgpack.decode(answer, type=StorageBill)


def _buckets(client: Client, from_day: int, to_day: int) -> list[UsedBucket]:
    found: list[UsedBucket] = []
    while True:
        asked = Usage(account="", from_day=from_day, to_day=to_day, after=found[-1].id if found else 0)
        answer = client.ask_vertical(VERTICAL, Usage.name, msgspec.msgpack.encode(asked), again=True)
        page = msgspec.msgpack.decode(answer, type=list[UsedBucket])
        found += page
        if len(page) < USAGE_BUCKETS_MAX:
            return found


def _total_lines(found: StorageBill, from_day: int, to_day: int) -> Iterator[str]:
    if len(found.buckets) == LINES_MAX:
        yield f"These are the {LINES_MAX:,} buckets that cost most; the sums are of all."
    yield f"From {_day(from_day)} to {_day(to_day)} (UTC) this cost {usd(found.cost_microusd)}; nothing else is added."
    if found.elsewhere:
        yield "Elsewhere payload is charged for; requests, least times and least sizes there are not counted."


def _row(line: BucketLine) -> tuple[object, ...]:
    return (
        line.bucket or f"(dropped, {line.id})",
        f"{line.objects:,}",
        _gb(line.bytes),
        _gb_months(line.stored_byte_hours),
        _gb_months(line.payload_byte_hours),
        _gb(line.egress_bytes),
        f"{sum(line.requests.values()):,}",
        usd(line.cost_microusd),
    )


def _gb(size: int) -> str:
    return f"{size / GB:,.3f} GB"


def _gb_months(byte_hours: int) -> str:
    return f"{byte_hours / GB / MONTH_HOURS:,.3f} GB-months"


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat()
