"""What buckets used, by day; what gateways take to do; uploads that nobody goes on with: on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest

from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.identity import address_text
from fallow.ports.database import Database, Transaction
from fallow.verticals.storage.control.operations import Operations
from fallow.verticals.storage.control.stale import STALE_MS
from fallow.verticals.storage.control.usage import Used
from fallow.verticals.storage.core.billing import GetBill
from fallow.verticals.storage.core.calls.accounts import USAGE_BUCKETS_MAX, Usage, UsedBucket
from fallow.verticals.storage.core.calls.buckets import Bucket, DropBucket, MakeBucket, SetBucket
from fallow.verticals.storage.core.calls.uploads import BeginUpload, GetUpload, PutPart
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.tariff import DAY_MS, FINE, TARIFF, TERABYTE, rates_of
from fallow.verticals.storage.core.upkeep import TakeDue
from tests.places_world import BUCKET, BUYER, HOUR_MS, STREAM, machines, places_world
from tests.storage_objects import ACCOUNT, NOW_MS, OTHER, B, ObjectsWorld, objects_world, put

RULES: Final = "lifecycle"
TODAY: Final = NOW_MS // DAY_MS


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


def cost(stored_byte_hours: int) -> int:
    return stored_byte_hours * HOUR_MS * rates_of(TARIFF).stored // FINE


async def usage(world: ObjectsWorld, account: str = ACCOUNT, after: int = 0) -> list[UsedBucket]:
    await world.operations.flush()
    return await world.ask(Usage(account=account, from_day=TODAY - 1, to_day=TODAY + 1, after=after))


async def test_bytes_of_pieces_and_of_payload_are_counted_by_bucket_and_day(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(12))
        began_day = world.clock.now_ms() // DAY_MS
        await world.store(SEGMENT_BYTES)
        await world.store(1_000_000, stream=b"o" * 16)
        await world.places.meter()
        world.clock.advance(10 * HOUR_MS)
        await world.drop(STREAM)
        world.clock.advance(HOUR_MS)
        await world.tell()
        await world.collect()
        await world.places.meter()
        operations = Operations(world.database, world.clock)
        operations.count(BUYER, BUCKET.id, "get")
        await operations.flush()
        asked = Usage(account=address_text(BUYER), from_day=began_day, to_day=began_day + 1)
        (found,) = await Used(world.database).usage(asked)
        (day,) = found.days
        stored = 8 * (10 * Layout(SEGMENT_BYTES, 4).piece_bytes + 11 * Layout(1_000_000, 4).piece_bytes)
        assert found.id == BUCKET.id
        assert (day.stored_byte_hours, day.payload_byte_hours) == (stored, 10 * SEGMENT_BYTES + 11 * 1_000_000)
        assert (day.requests, day.cost_microusd) == ({"get": 1}, cost(stored))


async def test_a_terabyte_of_pieces_for_720_hours_costs_what_nodes_get_and_the_fee() -> None:
    assert cost(TERABYTE * 720) == 1_666_666
    assert TERABYTE * rates_of(TARIFF).egress // FINE == 2_222_222


async def test_a_dropped_bucket_stays_on_the_bill_without_a_name(world: ObjectsWorld) -> None:
    await put(world, b"a")
    (before,) = await usage(world)
    assert (before.bucket, before.objects, before.bytes) == (B, 1, 4)
    assert before.days[0].requests == {"put": 1}
    async with world.database.transaction() as tx:
        await tx.execute("DELETE FROM storage.object")
    await world.ask(DropBucket(account=ACCOUNT, bucket=B))
    (after,) = await usage(world)
    assert (after.id, after.bucket, after.objects) == (before.id, "", 0)
    assert after.days[0].requests == {"put": 2}


async def test_usage_shows_only_the_accounts_own_buckets_in_pages(world: ObjectsWorld) -> None:
    await world.ask(MakeBucket(account=OTHER, bucket="others"))
    for number in range(USAGE_BUCKETS_MAX + 5):
        await world.ask(MakeBucket(account=ACCOUNT, bucket=f"more-{number:02}"))
    first = await usage(world)
    rest = await usage(world, after=first[-1].id)
    assert (len(first), len(rest)) == (USAGE_BUCKETS_MAX, 6)
    assert [one.bucket for one in (*first, *rest)] == [B, *(f"more-{n:02}" for n in range(USAGE_BUCKETS_MAX + 5))]
    with pytest.raises(InvalidInput):
        await world.ask(Usage(account=ACCOUNT, from_day=1, to_day=0))


async def test_a_bill_is_what_all_days_of_all_buckets_come_to_and_is_added_up_in_few_questions(
    world: ObjectsWorld,
) -> None:
    for number in range(2 * USAGE_BUCKETS_MAX):
        await world.ask(MakeBucket(account=ACCOUNT, bucket=f"more-{number:02}"))
        await put(world, b"a", bucket=f"more-{number:02}")
    await world.operations.flush()
    async with world.database.transaction() as tx:
        await tx.execute("INSERT INTO storage.payer (bucket, account) SELECT id, account FROM storage.bucket")
        await tx.execute(
            "INSERT INTO storage.day (bucket, day, byte_ms, payload_ms, egress, cost)"
            " SELECT id, $1 + n, id * 10::numeric ^ 20 + n, id * 10::numeric ^ 19 + n, id * 10::numeric ^ 12,"
            "  id * 10::numeric ^ 39 + id * 10::numeric ^ 35 * 3"
            " FROM storage.bucket CROSS JOIN generate_series(-2, 1) n",
            TODAY,
        )
    found = await usage(world)
    while page := await usage(world, after=found[-1].id):
        found += page
    asked = GetBill(account=ACCOUNT, from_day=TODAY - 1, to_day=TODAY + 1)
    bill = await world.ask(asked)
    assert len(bill.buckets) == 2 * USAGE_BUCKETS_MAX + 1
    ids = [one.id for one in found]
    assert bill.cost_microusd == 3 * sum(ids) * 10_003 // 10, "the days of the span, rounded once"
    for line, one in zip(sorted(bill.buckets, key=lambda line: line.id), found, strict=True):
        assert line.cost_microusd == 3 * line.id * 10_003 // 10
        assert (line.id, line.bucket, line.objects, line.bytes) == (one.id, one.bucket, one.objects, one.bytes)
        assert line.egress_bytes == sum(day.egress_bytes for day in one.days)
        assert line.stored_byte_hours == sum(day.stored_byte_hours for day in one.days)
        assert line.payload_byte_hours == sum(day.payload_byte_hours for day in one.days)
        assert line.requests.get("put", 0) == sum(day.requests.get("put", 0) for day in one.days)
    counted = Counted(world.database)
    assert await Used(counted).bill(asked) == bill
    assert counted.transactions == 1
    with pytest.raises(InvalidInput):
        await world.ask(GetBill(account=ACCOUNT, from_day=1, to_day=0))


class Counted:
    """A database that counts what it is asked."""

    def __init__(self, database: Database) -> None:
        self.transactions = 0
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """See the port."""
        self.transactions += 1
        return self._database.transaction()


async def test_a_bucket_with_rules_is_handed_to_one_gateway_and_again_an_hour_later(world: ObjectsWorld) -> None:
    for name in ("one", "two", "none"):
        await world.ask(MakeBucket(account=OTHER, bucket=name))
    for name in ("one", "two"):
        await world.ask(SetBucket(account=OTHER, bucket=name, settings={RULES: b"rules"}))
    taken = await asyncio.gather(*(take(world) for _ in range(4)))
    found = sorted(bucket.name for one in taken for bucket in one)
    assert found == ["one", "two"]
    assert all(bucket.settings == {RULES: b"rules"} for one in taken for bucket in one)
    world.clock.now += HOUR_MS - 1
    assert await take(world) == []
    world.clock.now += 1
    assert len(await take(world)) == 2


async def test_buckets_that_are_dropped_meanwhile_take_no_others_with_them(world: ObjectsWorld) -> None:
    some = ["one", "two", "three"]
    for turn in range(10):
        for name in some:
            await world.ask(MakeBucket(account=OTHER, bucket=name, settings={RULES: b"rules"}))
        dropping = asyncio.gather(*(world.ask(DropBucket(account=OTHER, bucket=name)) for name in some))
        taken, _ = await asyncio.gather(take(world), dropping)
        assert {bucket.name for bucket in taken} <= {*some}, turn


async def test_an_upload_that_nobody_touches_for_a_week_is_given_up(world: ObjectsWorld) -> None:
    left, goes_on = world.stream(), world.stream()
    for stream in (left, goes_on):
        await world.ask(BeginUpload(account=ACCOUNT, bucket=B, object=b"a", stream=stream))
        await part(world, stream, 1)
    world.clock.now += STALE_MS - 1
    await part(world, goes_on, 2)
    assert await world.objects.stale.give_up_some() == 0
    world.clock.now += 2
    assert await world.objects.stale.give_up_some() == 1
    with pytest.raises(NotFound):
        await world.ask(GetUpload(account=ACCOUNT, bucket=B, object=b"a", stream=left))
    await world.ask(GetUpload(account=ACCOUNT, bucket=B, object=b"a", stream=goes_on))
    assert {stream for stream, *_ in await world.segments()} == {goes_on}
    assert await world.garbage() == {left: True}


async def take(world: ObjectsWorld) -> list[Bucket]:
    return await world.ask(TakeDue(account="", setting=RULES, every_ms=HOUR_MS))


async def part(world: ObjectsWorld, upload: bytes, number: int) -> None:
    bytes_of = await world.stored(B, 10)
    await world.ask(
        PutPart(account=ACCOUNT, bucket=B, stream=upload, bytes_of=bytes_of, number=number, size=10, etag="e")
    )
