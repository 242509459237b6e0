"""Who pays for what is stored and read: the network's side of storage's bills on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.calls.subscriptions import SubscriptionRef
from fallow.domain.errors import InsufficientFunds
from fallow.domain.identity import address_text
from fallow.domain.subscriptions import Price
from fallow.ports.database import Transaction
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import LATE_MS as LATE_MS_OF_ORDERS
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.core.tariff import DAY_MS, TARIFF
from tests.epoch_files import NETWORK, NETWORK_KEY
from tests.places_world import (
    BUCKET,
    BUYER,
    HOUR_MS,
    OTHER,
    STREAM,
    Killed,
    Machine,
    World,
    machines,
    places_world,
    signing,
    stocked_world,
)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with stocked_world(postgres_dsn) as world:
        yield world


async def test_without_a_subscription_nothing_is_served(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.enrol(*machines(8))
        with pytest.raises(InsufficientFunds) as refused:
            await world.begin()
        assert refused.value.code == "storage.no_subscription"
        with pytest.raises(InsufficientFunds):
            await world.places.paying.may_open(address_text(BUYER))
        await world.subscribe()
        world.clock.advance(10_000)
        await world.tell()
        await world.begin()


async def test_stored_bytes_are_paid_by_the_hour_to_the_owners_of_nodes(world: World) -> None:
    plan = await world.store(SEGMENT_BYTES)
    size = Layout(SEGMENT_BYTES, 4).piece_bytes
    await world.places.meter()
    world.clock.advance(10 * HOUR_MS)
    await world.places.meter()
    await world.places.meter()  # nothing is new
    holders = sorted(world.machines[place.node].account for place in plan.places[:8])
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT payee, name, quantity FROM settle.meter ORDER BY payee")
    assert [(row["payee"], row["name"], row["quantity"]) for row in rows] == [
        (owner, "stored_byte_hours", size * 10) for owner in holders
    ]
    usage = await world.usage()
    assert sum(day.stored_byte_hours for day in usage) == 8 * size * 10


@pytest.mark.parametrize(
    ("kept", "purge", "hours", "paid"),
    [
        pytest.param(True, False, 1, 7 * 24, id="lies in the trash for seven days"),
        pytest.param(True, False, 8 * 24, 8 * 24, id="was there for longer"),
        pytest.param(True, True, 1, 1, id="is purged"),
        pytest.param(False, False, 1, 1, id="no version was made of it"),
    ],
)
async def test_what_is_dropped_was_paid_for_as_long_as_the_trash_keeps_it_and_costs_nothing_from_then_on(
    world: World, *, kept: bool, purge: bool, hours: int, paid: int
) -> None:
    await world.store(SEGMENT_BYTES)
    if kept:
        await world.keep()
    await world.places.meter()
    world.clock.advance(hours * HOUR_MS)
    await world.drop(STREAM, purge=purge)
    for _ in range(2):
        world.clock.advance(5 * HOUR_MS)
        await world.tell()
        await world.collect()
        await world.places.meter()
        usage = await world.usage()
        assert sum(day.stored_byte_hours for day in usage) == 8 * paid * Layout(SEGMENT_BYTES, 4).piece_bytes
    assert bool(sum(len(machine.trashed) for machine in world.machines.values())) == (kept and not purge)


async def read_limit(world: World) -> tuple[Machine, bytes]:
    await world.store(SEGMENT_BYTES)
    await world.keep()
    (segment,) = await world.read(0, SEGMENT_BYTES)
    return world.machines[segment.places[0].node], segment.places[0].limit


async def egress(world: World) -> int:
    await world.read_log()
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT coalesce(sum(bytes), 0) AS n FROM storage.egress")
    return int(rows[0]["n"])


async def test_what_was_read_counts_once_however_often_it_is_handed_in(world: World) -> None:
    machine, limit = await read_limit(world)
    await world.say(machine, world.served((limit, 1000), (limit, 1500)), world.served((limit, 1500)))
    assert await egress(world) == 1500
    await world.say(machine, world.served((limit, 1500)))
    await world.say(machine, world.served((limit, 900)))
    assert await egress(world) == 1500
    await world.say(machine, world.served((limit, 2000)))
    assert await egress(world) == 2000
    (day,) = await world.usage()
    assert day.egress_bytes == 2000
    async with world.database.transaction() as tx:  # another process reads the same
        await tx.execute("UPDATE storage.cursor SET pos = 0 WHERE name = 'log'")
    assert await egress(world) == 2000


async def test_what_came_in_time_and_is_read_days_later_counts_once_as_well(world: World) -> None:
    machine, limit = await read_limit(world)
    served = world.served((limit, 1500))
    await world.say(machine, served)
    assert await egress(world) == 1500
    world.clock.advance(LATE_MS_OF_ORDERS)
    await world.say(machine, served)
    world.clock.advance(3 * DAY_MS)
    await world.places.meter()
    assert await egress(world) == 1500
    await world.places.follower.forget()
    assert await world.count("serial") == 0


@pytest.mark.parametrize("how", ["other node", "other client", "too much", "put", "forged limit", "no payer", "late"])
async def test_what_does_not_hold_is_not_paid(world: World, how: str) -> None:
    machine, limit = await read_limit(world)
    other = next(one for one in world.machines.values() if one is not machine)
    plan = await world.begin(index=5)
    opened = OrderLimit.open(limit, NETWORK_KEY)
    pair = [limit, world.order(limit, 100)]
    match how:
        case "other node":
            machine = other
        case "other client":
            pair[1] = world.order(limit, 100, SigningKey(b"x" * 32))
        case "too much":
            pair[1] = world.order(limit, opened.bytes_max + 1)
        case "put":
            machine = world.machines[plan.places[0].node]
            pair = [plan.places[0].limit, world.order(plan.places[0].limit, 100)]
        case "forged limit":
            pair[0] = opened.seal(signing(machine.key))
        case "no payer":
            unknown = msgspec.structs.replace(opened, whose=b"x" * 44)
            pair[0] = unknown.seal(signing(NETWORK))
        case _:
            world.clock.advance(9 * DAY_MS)
    await world.say(machine, StorageServed(served=[pair]))
    assert await egress(world) == 0


@pytest.mark.parametrize("dear", [1, 4], ids=["the version's tariff", "four times that"])
async def test_what_a_window_cannot_pay_waits_for_the_next_one(postgres_dsn: str, dear: int) -> None:
    async with places_world(postgres_dsn) as world:
        tariff = {meter: Price(microusd=dear * one.microusd, per=one.per) for meter, one in TARIFF.items()}
        await world.subscribe(limit_microusd=100 * dear, tariff=tariff)
        await world.enrol(*machines(8))
        await world.store(SEGMENT_BYTES)
        charged = 0
        for hours, windows, paid in ((1000, 3, range(270, 301)), (1, 20, range(925, 945))):
            for _ in range(windows):
                world.clock.advance(hours * HOUR_MS)
                await world.settle.roll_one()
                await world.places.meter()
            (subscription,) = await world.owed()
            charged = subscription.settled_microusd + subscription.owed_microusd
            assert charged // dear in paid
        price_microusd = 8 * Layout(SEGMENT_BYTES, 4).piece_bytes * 3020 * 1_500_000 * dear // (648 * 10**12)
        assert price_microusd - 8 <= charged <= price_microusd


async def test_who_used_more_than_a_window_may_cost_is_served_again_once_he_has_paid_for_it(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe(limit_microusd=100)
        await world.enrol(*machines(8))
        await world.store(SEGMENT_BYTES)
        world.clock.advance(1000 * HOUR_MS)
        for paid in (100, 200, 300):
            await world.tell()
            await world.settle.roll_one()
            await world.places.meter()
            (subscription,) = await world.owed()
            assert subscription.settled_microusd + subscription.owed_microusd == paid
            world.clock.advance(HOUR_MS)
            await world.settle.roll_one()
            await world.tell()
            with pytest.raises(InsufficientFunds) as refused:
                await world.begin(stream=OTHER)
            assert refused.value.code == "storage.suspended"
        await world.places.meter()
        await world.begin(stream=OTHER)


async def test_of_two_subscriptions_the_one_that_can_pay_counts(postgres_dsn: str) -> None:
    async with places_world(postgres_dsn) as world:
        await world.subscribe(limit_microusd=1, number=1)
        await world.enrol(*machines(8))
        await world.store(SEGMENT_BYTES)
        world.clock.advance(1000 * HOUR_MS)
        await world.settle.roll_one()
        await world.places.meter()
        await world.tell()
        with pytest.raises(InsufficientFunds):
            await world.begin(stream=OTHER)
        await world.subscribe(number=2)
        await world.places.meter()
        await world.begin(stream=OTHER)


async def test_a_new_subscription_is_not_told_what_the_one_before_was(world: World) -> None:
    await world.store(SEGMENT_BYTES)
    world.clock.advance(1000 * HOUR_MS)
    await world.places.meter()
    (first,) = await world.owed()
    await world.settle.close(SubscriptionRef(account=address_text(BUYER), id=first.id))
    await world.subscribe(number=2)
    world.clock.advance(100 * HOUR_MS)
    await world.places.meter()
    first, second = await world.owed()
    assert second.owed_microusd < first.settled_microusd // 9


async def test_a_report_whose_answer_was_lost_is_sent_again_and_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(tx: Transaction, *_: object) -> None:
        del tx
        raise Killed

    await world.store(SEGMENT_BYTES)
    world.clock.advance(1000 * HOUR_MS)
    with monkeypatch.context() as patched:
        patched.setattr("fallow.verticals.storage.control.bills._counted", killed)
        with pytest.raises(Killed):
            await world.places.meter()
    (before,) = await world.owed()
    await world.places.meter()
    (after,) = await world.owed()
    assert before.owed_microusd == after.owed_microusd > 0


async def test_processes_that_add_up_and_collect_at_once_count_everything_once(world: World) -> None:
    world.versions.bucket = BUCKET._replace(profile="lab")
    for number in range(12):
        await world.store(SEGMENT_BYTES, stream=number.to_bytes(16))
    world.clock.advance(HOUR_MS)
    await world.drop(*(number.to_bytes(16) for number in range(6)))
    world.clock.advance(HOUR_MS)
    copies = [world.process() for _ in range(4)]
    for copy in copies:
        await world.tell(copy)
    async with asyncio.TaskGroup() as group:
        for copy in copies:
            group.create_task(world.collect(copy))
            group.create_task(copy.meter())
    async with asyncio.TaskGroup() as group:
        for copy in copies:
            group.create_task(copy.meter())
    size = 8 * Layout(SEGMENT_BYTES, 4).piece_bytes
    (day,) = await world.usage()
    assert day.stored_byte_hours == size * (6 * 1 + 6 * 2)
    async with world.database.transaction() as tx:
        (told,) = await tx.fetch("SELECT sum(quantity) AS n FROM settle.meter")
    assert size * 18 - 12 < told["n"] <= size * 18


async def test_a_subscription_with_all_payees_that_fit_goes_on_and_new_ones_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.bills.DELIVERIES_MAX", 5)
    await world.store(SEGMENT_BYTES)
    for _ in range(2):
        world.clock.advance(100 * HOUR_MS)
        await world.places.meter()
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT quantity FROM settle.meter")
    assert [row["quantity"] for row in rows] == [200 * Layout(SEGMENT_BYTES, 4).piece_bytes] * 5
