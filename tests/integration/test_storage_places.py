"""Where pieces go, whether they came, who deletes and who pays: the network's side of segments on PostgreSQL."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.calls.subscriptions import SubscriptionRef
from fallow.domain.errors import Conflict, FallowError, InsufficientFunds, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.streams import CERTIFICATE_BYTES_MAX, DirectAddress, StreamTicket
from fallow.domain.subscriptions import Price
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.ports.database import Transaction
from fallow.verticals.storage.control.nodes import ROOM_BYTES_MAX
from fallow.verticals.storage.control.segments import BEGUN_BYTES_MIN, FORGOTTEN_MS, LATE_MS
from fallow.verticals.storage.core.calls.objects import GetUnpurged, Unpurged
from fallow.verticals.storage.core.calls.segments import SEGMENTS_AT_ONCE, EndSegment, MorePlaces, Place, Plan
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import LATE_MS as LATE_MS_OF_ORDERS
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SEGMENT_BYTES, SHARE_BYTES, Layout
from fallow.verticals.storage.core.orders import OrderLimit, PieceReceipt, check_limit
from fallow.verticals.storage.core.tariff import DAY_MS, TARIFF
from tests.epoch_files import NET, NETWORK, NETWORK_KEY
from tests.places_world import (
    BUCKET,
    BUYER,
    HOUR_MS,
    NAME,
    STREAM,
    Killed,
    Machine,
    World,
    machines,
    places_world,
    signing,
)

OTHER = b"o" * 16
PIECE = Layout(1_000_000, 4).piece_bytes


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    """A network with twelve machines, and a buyer who has a subscription."""
    async with places_world(postgres_dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(12))
        yield world


# Places


async def test_a_segment_is_planned_for_distinct_owners_stored_and_read(world: World) -> None:
    plan = await world.begin()
    assert (plan.needed, plan.pieces, plan.enough, len(plan.places)) == (4, 8, 7, 10)
    assert len({world.machines[place.node].account for place in plan.places}) == 10
    for place in plan.places:
        limit = check_limit(place.limit, net=NET, network_key=NETWORK_KEY, node=place.node, now_ms=world.clock.now_ms())
        assert (limit.action, limit.bytes_max, limit.client) == ("put", PIECE, bytes(world.client.verify_key))
        ticket = StreamTicket.open(place.ticket, NETWORK_KEY)
        assert (ticket.node, ticket.purpose, ticket.account) == (place.node, "service:storage", limit.client)
    await world.end(plan)
    assert await world.keep() == 1_000_000
    (segment,) = await world.read(0, 1_000_000)
    by_number = {place.number: place.node for place in plan.places}
    assert all(by_number[place.number] == place.node for place in segment.places)
    assert [place.number for place in segment.places[:4]] == [0, 1, 2, 3]
    assert segment.payload == 1_000_000


async def test_any_named_node_may_have_any_piece(world: World) -> None:
    plan = await world.begin()
    spare = plan.places[8]
    receipts = world.receipts(plan)
    receipts[3] = world.machines[spare.node].receipt(spare.limit)
    await world.end(plan, receipts)
    await world.keep()
    (segment,) = await world.read(0, 1)
    assert {place.number: place.node for place in segment.places}[3] == spare.node


async def test_nodes_in_trouble_without_room_banned_or_silent_get_nothing(world: World) -> None:
    ill, full, banned, silent = [*world.machines.values()][:4]
    ill.trouble, full.room, silent.away = "The disk is full.", 10, True
    world.clock.advance(30_000)
    async with world.database.transaction() as tx:
        await world.registry.set_ban(tx, banned.id, "test")
    await world.tell()
    plan = await world.begin()
    assert len(plan.places) == 8
    assert not {place.node for place in plan.places} & {ill.id, full.id, banned.id, silent.id}
    full.room = 10**12
    ill.room = 0
    await world.tell()
    assert len((await world.begin()).places) == 9


async def test_a_node_that_tells_what_postgresql_cannot_keep_holds_up_no_other(world: World) -> None:
    world.clock.advance(30_000)
    next(iter(world.machines.values())).trouble = "\0"
    await world.tell()
    assert len(world.places.nodes.online()) == 11


async def test_nodes_that_are_known_use_up_no_aliases(world: World) -> None:
    """Written every ten seconds, ten thousand nodes would have used all of them up within a month."""
    for _ in range(5):
        await world.tell()
    await world.enrol(Machine(90), Machine(91))
    assert sorted(one.alias for one in world.places.nodes.all()) == list(range(1, 15))


async def test_who_says_that_his_room_has_no_end_is_drawn_as_one_large_disk(world: World) -> None:
    world.versions.bucket = BUCKET._replace(profile="lab")
    await world.enrol(*(Machine(number, room=ROOM_BYTES_MAX) for number in range(20, 60)), Machine(99, room=1 << 62))
    drawn = Counter([place.node for index in range(60) for place in (await world.begin(index=index)).places])
    liar = next(machine.id for machine in world.machines.values() if machine.room == 1 << 62)
    assert drawn[liar] < 40, "one of some forty places for each"


async def test_of_nodes_on_unknown_networks_a_segment_uses_one(world: World) -> None:
    await world.enrol(*(Machine(number, network="unknown") for number in range(20, 25)))
    for _ in range(5):
        plan = await world.begin()
        assert len([one for one in plan.places if world.machines[one.node].network == "unknown"]) <= 1


async def test_too_few_nodes_are_counted_in_words(world: World) -> None:
    for machine in [*world.machines.values()][:5]:
        machine.away = True
    world.clock.advance(30_000)
    await world.tell()
    with pytest.raises(Unavailable, match=r"7 nodes .* the profile lab needs 8") as refused:
        await world.begin()
    assert refused.value.code == "storage.too_few_nodes"


async def test_a_bucket_in_a_country_has_its_pieces_there(world: World) -> None:
    await world.enrol(*(Machine(number) for number in range(30, 39)), country="DE")
    world.versions.bucket = BUCKET._replace(countries=("DE", "FR"))
    plan = await world.begin()
    assert len(plan.places) == 9
    assert {world.machines[place.node].account[-1] for place in plan.places} == set(range(30, 39))


async def test_a_named_profile_is_taken_and_no_other(world: World) -> None:
    await world.enrol(*(Machine(number) for number in range(30, 50)))
    assert (await world.begin()).pieces == 8
    world.versions.bucket = BUCKET._replace(profile="small")
    plan = await world.begin()
    assert (plan.needed, plan.pieces, plan.enough, len(plan.places)) == (16, 20, 19, 24)
    world.versions.bucket = BUCKET._replace(profile="wide")
    with pytest.raises(Unavailable, match="the profile wide needs 100"):
        await world.begin()


async def test_what_a_node_was_named_for_is_not_promised_to_others_before_it_tells(world: World) -> None:
    for machine in world.machines.values():
        machine.room = PIECE
    await world.tell()
    await world.begin()
    with pytest.raises(Unavailable, match="2 nodes"):
        await world.begin()


async def test_further_places_are_on_nodes_that_the_plan_did_not_have(world: World) -> None:
    plan = await world.begin()
    request = MorePlaces(account=address_text(BUYER), segment=plan.segment, numbers=[2, 5, 6])
    more = await world.places.more(request)
    assert [place.number for place in more] == [2, 5]
    assert not {place.node for place in more} & {place.node for place in plan.places}
    with pytest.raises(Unavailable, match="No further node"):
        await world.places.more(request)
    receipts = world.receipts(plan)
    receipts[2] = world.machines[more[0].node].receipt(more[0].limit)
    await world.end(plan, receipts)
    with pytest.raises(NotFound):
        await world.places.more(request)


async def test_a_process_that_starts_knows_the_nodes_and_one_that_met_none_looks_them_up(world: World) -> None:
    await world.store()
    await world.keep()
    late = world.process()
    world.places, late = late, world.places
    (segment,) = await world.read(0, 1)
    assert len(segment.places) == 6
    another = world.process()
    async with another.running():
        world.places = another
        assert len((await world.begin(stream=OTHER)).places) == 10


async def test_what_an_account_begins_and_does_not_end_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.segments.BEGUN_BYTES_MAX", 3 * SEGMENT_BYTES)
    await world.begin(SEGMENT_BYTES, index=0)
    first = await world.begin(2 * SEGMENT_BYTES - BEGUN_BYTES_MIN, index=1)
    await world.begin(1, index=2)
    for _ in range(2):
        with pytest.raises(TooMuch) as refused:
            await world.begin(1, index=3)
        assert refused.value.code == "storage.too_much_begun"
    await world.end(first)
    first = await world.begin(SEGMENT_BYTES, index=1)
    with pytest.raises(TooMuch):
        await world.begin(SEGMENT_BYTES, index=1)  # anew: what was brought for the one before is still there
    world.clock.advance(FORGOTTEN_MS + 1)
    await world.tell()
    await world.collect()
    with pytest.raises(TooMuch):
        await world.begin(SEGMENT_BYTES, index=5)  # forgotten, and still there
    world.clock.advance(LATE_MS + HOUR_MS)
    await world.tell()
    await world.collect()
    assert await world.count("abandoned") == 0
    await world.begin(3 * SEGMENT_BYTES, index=5)


async def until_refused(step: Callable[[int], Awaitable[None]]) -> tuple[int, str]:
    """How often it was done, and with what code it was refused then."""
    for number in range(40):
        try:
            await step(number)
        except FallowError as error:
            return number, error.code
    pytest.fail("It was never refused.")


async def test_what_is_begun_anew_without_end_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.segments.BEGUN_BYTES_MAX", 8 * SEGMENT_BYTES)

    async def begin(_: int) -> None:
        world.receipts(await world.begin(SEGMENT_BYTES))

    assert await until_refused(begin) == (8, "storage.too_much_begun")
    assert await world.count("abandoned") == 1


async def test_those_who_show_grants_leave_room_to_each_other_and_to_the_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.segments.BEGUN_BYTES_MAX", 16 * SEGMENT_BYTES)

    async def begin_all(grant: bytes) -> int:
        async def begin(number: int) -> None:
            await world.begin(SEGMENT_BYTES, stream=OTHER, index=number % 2, by_grant=grant)

        number, code = await until_refused(begin)
        assert code == "storage.too_much_begun"
        return number

    assert [await begin_all(bytes([number]) * 16) for number in range(1, 6)] == [2, 2, 2, 2, 0]
    assert await begin_all(b"") == 8


async def test_no_more_nodes_are_named_for_a_segment_than_four_times_its_pieces(world: World) -> None:
    plan, named = await world.begin(), 10
    await world.enrol(*(Machine(number) for number in range(100, 140)))

    async def more(_: int) -> None:
        nonlocal named
        named += len(await world.places.more(request))

    request = MorePlaces(account=address_text(BUYER), segment=plan.segment, numbers=list(range(8)))
    assert await until_refused(more) == (3, "storage.too_few_nodes")
    assert named == 4 * plan.pieces


# Receipts


@pytest.mark.parametrize("how", ["forged", "foreign", "short", "number", "twice", "stranger", "rubbish"])
async def test_a_receipt_that_does_not_hold_is_refused(world: World, how: str) -> None:
    plan, other = await world.begin(), await world.begin(index=1)
    receipts = world.receipts(plan)
    place = plan.places[0]
    limit = OrderLimit.open(place.limit, NETWORK_KEY)
    said = PieceReceipt(net=NET, node=place.node, piece=limit.piece, length=PIECE, hash=bytes(32), durable=True)
    stranger = Machine(99)
    match how:
        case "forged":
            receipts[0] = said.seal(signing(SigningKey(b"f" * 32)))
        case "foreign":
            receipts[0] = world.receipts(other)[0]
        case "short":
            receipts[0] = world.machines[place.node].receipt(place.limit, PIECE - 1)
        case "number":
            receipts[8] = receipts.pop(0)
        case "twice":
            receipts[1] = receipts[0]
        case "stranger":
            receipts[0] = msgspec.structs.replace(said, node=stranger.id).seal(signing(stranger.key))
        case _:
            receipts[0] = b"\xa0"
    with pytest.raises(InvalidInput) as refused:
        await world.end(plan, receipts)
    assert refused.value.code == "storage.receipts"
    assert await world.count("segment") == 0


async def test_too_few_pieces_are_no_segment_and_the_rest_can_follow(world: World) -> None:
    plan = await world.begin()
    receipts = world.receipts(plan)
    last = receipts.pop(7), receipts.pop(6)
    with pytest.raises(Conflict) as refused:
        await world.end(plan, receipts)
    assert refused.value.code == "storage.too_few_pieces"
    receipts[6] = last[1]
    await world.end(plan, receipts)
    await world.end(plan, receipts)  # its answer was lost
    assert await world.count("segment") == 1


async def test_a_segment_is_its_account_s_alone(world: World) -> None:
    plan = await world.begin()
    stranger = address_text(b"x" * 20)
    await world.subscribe(number=2, account=b"x" * 20)
    with pytest.raises(NotFound) as refused:
        await world.places.more(MorePlaces(account=stranger, segment=plan.segment, numbers=[1]))
    assert refused.value.code == "storage.no_segment"
    with pytest.raises(NotFound):
        await world.places.end(EndSegment(account=stranger, segment=plan.segment, receipts=world.receipts(plan)))


# Reading


async def test_a_range_names_the_segments_that_hold_it_and_limits_what_is_needed(world: World) -> None:
    await world.store(SEGMENT_BYTES, index=0)
    await world.store(SEGMENT_BYTES, index=1)
    await world.store(100, index=2)
    await world.keep()
    start = SEGMENT_BYTES + 5 * BLOCK_BYTES
    (one,) = await world.read(start, start + 10)
    assert (one.index, one.start) == (1, SEGMENT_BYTES)
    assert OrderLimit.open(one.places[0].limit, NETWORK_KEY).bytes_max == SHARE_BYTES
    two = await world.read(SEGMENT_BYTES * 2 - 1, SEGMENT_BYTES * 2 + 1)
    assert [segment.index for segment in two] == [1, 2]
    assert await world.read(7, 7) == []
    everything = await world.read(0, 2 * SEGMENT_BYTES + 100)
    limits = [OrderLimit.open(segment.places[0].limit, NETWORK_KEY).bytes_max for segment in everything]
    assert limits == [Layout(size, 4).piece_bytes for size in (SEGMENT_BYTES, SEGMENT_BYTES, 100)]


async def test_parts_are_read_in_their_order_and_what_the_version_does_not_have_is_left_out(world: World) -> None:
    into = STREAM
    for part, size in ((1, 500), (3, 700), (4, 90)):
        await world.store(size, stream=part.to_bytes(16))
        async with world.database.transaction() as tx:
            await world.places.segments.adopt(tx, BUCKET.id, part.to_bytes(16), into, part)
    world.versions.version = into, 1200, [(1, 500), (3, 700)]
    found = await world.read(0, 1200)
    assert [(one.part, one.start, one.payload) for one in found] == [(1, 0, 500), (3, 500, 700)]
    world.versions.version = into, 1300, [(1, 500), (3, 800)]
    with pytest.raises(Unavailable) as broken:
        await world.read(0, 1300)
    assert broken.value.code == "storage.incomplete"


async def test_nodes_that_are_away_are_not_named_unless_there_are_too_few(world: World) -> None:
    plan = await world.store()
    await world.keep()
    away = [world.machines[place.node] for place in plan.places[:3]]
    for machine in away:
        machine.away = True
    world.clock.advance(30_000)
    await world.tell()
    (segment,) = await world.read(0, 1)
    assert sorted(place.number for place in segment.places) == [3, 4, 5, 6, 7]
    world.machines[plan.places[3].node].trouble = "Its owner has paused it."
    await world.tell()
    (segment,) = await world.read(0, 1)
    assert sorted(place.number for place in segment.places) == [4, 5, 6, 7]
    world.clock.advance(30_000)
    (segment,) = await world.read(0, 1)
    assert len(segment.places) == 8


async def test_what_is_read_goes_over_the_bus_whatever_nodes_make_of_it(world: World) -> None:
    await world.enrol(*(Machine(number) for number in range(20, 110)))
    for index in range(SEGMENTS_AT_ONCE):
        await world.store(1000, index=index)
    size = await world.keep()
    chosen = DirectAddress(host="2001:db8::" + "f" * 35, port=65_535, certificate="c" * CERTIFICATE_BYTES_MAX)
    world.places._direct = lambda _: chosen
    all_there, away = await world.read(0, size), [*world.machines.values()][:80]
    assert {len(segment.places) for segment in all_there} == {43}
    for machine in away:
        machine.away = True
    world.clock.advance(30_000)
    await world.tell()
    few_there = await world.read(0, size)
    assert {len(segment.places) for segment in few_there} == {80}
    for found in (all_there, few_there):
        assert [segment.index for segment in found] == [*range(len(found))]
        assert MESSAGE_BYTES_MAX // 2 < len(msgspec.msgpack.encode(found)) < MESSAGE_BYTES_MAX


# The bytes of versions


async def test_bytes_count_up_to_a_gap_and_only_once_they_are_stored(world: World) -> None:
    await world.store(10, index=0)
    await world.store(20, index=2)
    await world.begin(30, index=1)
    assert await world.keep() == 10
    await world.store(30, index=1)
    assert await world.keep() == 60
    assert await world.keep(OTHER) == 0


async def test_bytes_of_a_version_are_not_replaced_and_others_are(world: World) -> None:
    await world.store(10)
    await world.store(20)
    assert await world.keep() == 20
    with pytest.raises(Conflict) as refused:
        await world.store(30)
    assert refused.value.code == "storage.stream_kept"


async def test_what_was_begun_in_the_same_place_before_cannot_be_ended(world: World) -> None:
    before, after = await world.begin(10), await world.begin(20)
    with pytest.raises(NotFound):
        await world.end(before)
    await world.end(after)
    assert await world.keep() == 20


async def test_an_adopted_part_replaces_the_one_before(world: World) -> None:
    async def adopt(stream: bytes) -> int:
        async with world.database.transaction() as tx:
            await world.places.segments.adopt(tx, BUCKET.id, stream, STREAM, 5)
            return await world.places.segments.stored_bytes(tx, BUCKET.id, STREAM, 5)

    await world.store(10, stream=OTHER)
    assert await adopt(OTHER) == 10
    await world.store(25, stream=b"2" * 16)
    assert await adopt(b"2" * 16) == 25
    assert await adopt(b"2" * 16) == 25  # it came again
    assert await world.count("dropped") == 3  # the spare places of both, and the part before


async def waiting(world: World) -> None:
    """Return once a transaction waits for another one."""
    async with world.database.transaction() as tx:
        while not await tx.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass


async def test_who_makes_a_version_and_who_replaces_its_bytes_at_once_do_not_both_succeed(world: World) -> None:
    await world.store(10)
    late = await world.begin(20)
    async with asyncio.TaskGroup() as group, world.database.transaction() as tx:
        assert await world.places.segments.stored_bytes(tx, BUCKET.id, STREAM, 0) == 10
        ending = group.create_task(caught(world.end(late)))
        await waiting(world)
    error = ending.result()
    assert isinstance(error, Conflict)
    assert error.code == "storage.stream_kept"
    assert await world.keep() == 10


async def caught(work: Coroutine[Any, Any, None]) -> FallowError | None:
    try:
        await work
    except FallowError as error:
        return error
    return None


# Garbage


async def test_what_is_dropped_is_trashed_by_every_node_that_has_it_and_by_nobody_else(world: World) -> None:
    kept, dropped = await world.store(), await world.store(stream=OTHER)
    await world.keep(OTHER)
    await world.keep()
    await world.drop(OTHER)
    await world.collect()
    for place in dropped.places[:8]:
        assert OrderLimit.open(place.limit, NETWORK_KEY).piece in world.machines[place.node].trashed
    live = {OrderLimit.open(place.limit, NETWORK_KEY).piece for place in kept.places[:8]}
    assert not any(live & {*machine.trashed, *machine.purged} for machine in world.machines.values())
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert (await world.count("garbage"), await world.count("dropped")) == (0, 0)
    assert not any(live & {*machine.trashed, *machine.purged} for machine in world.machines.values())


async def test_a_purge_is_one(world: World) -> None:
    plan = await world.store()
    await world.drop(STREAM, purge=True)
    await world.collect()
    assert all(len(world.machines[place.node].purged) == 1 for place in plan.places[:8])


async def unpurged(world: World) -> Unpurged:
    """What its owner is told of a bucket."""
    return await world.places.unpurged(GetUnpurged(account=address_text(BUYER), bucket=NAME))


async def test_of_what_is_purged_its_owner_hears_who_has_not_answered(world: World) -> None:
    plan = await world.store()
    await world.keep()
    await world.store(stream=OTHER)
    await world.keep(OTHER)
    away = world.machines[plan.places[0].node]
    away.away = True
    await world.drop(OTHER)
    await world.drop(STREAM, purge=True)
    assert (await unpurged(world)).pieces == 8, "before it is said to any node"
    await world.collect()
    due_ms = world.clock.now_ms() + LATE_MS
    assert await unpurged(world) == Unpurged(pieces=3, nodes=3, later=2, due_ms=due_ms), "two more may get a piece yet"
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert await unpurged(world) == Unpurged(pieces=1, nodes=1)
    away.away = False
    await world.tell()
    await world.collect()
    assert await unpurged(world) == Unpurged()
    assert OrderLimit.open(plan.places[0].limit, NETWORK_KEY).piece in away.purged
    with pytest.raises(NotFound):
        await world.places.unpurged(GetUnpurged(account=address_text(b"x" * 20), bucket=NAME))


async def test_what_nodes_before_were_to_put_into_the_trash_is_purged_too(world: World) -> None:
    plan = await world.store()
    await world.keep()
    before = next(machine for machine in world.machines.values() if machine.id not in {one.node for one in plan.places})
    async with world.database.transaction() as tx:  # a repair moved its piece, and it is away
        await tx.execute(
            "INSERT INTO storage.garbage (alias, segment, purge, due_ms)"
            " SELECT alias, $2, false, 0 FROM storage.node WHERE node = $1",
            before.id,
            plan.segment,
        )
    before.away = True
    await world.drop(STREAM, purge=True)
    await world.collect()
    before.away = False
    await world.tell()
    await world.collect()
    assert (len(before.purged), before.trashed) == (1, [])


async def test_nodes_that_are_away_are_asked_when_they_are_back(world: World) -> None:
    plan = await world.store()
    await world.keep()
    machine = world.machines[plan.places[0].node]
    machine.away = True
    await world.drop(STREAM)
    await world.collect()
    assert machine.trashed == []
    world.clock.advance(400 * DAY_MS)
    machine.away = False
    await world.tell()
    await world.collect()
    assert machine.trashed == [OrderLimit.open(plan.places[0].limit, NETWORK_KEY).piece]


async def test_what_may_still_come_is_asked_for_when_it_cannot_any_more(world: World) -> None:
    plan = await world.begin()
    world.clock.advance(FORGOTTEN_MS - 1)
    await world.tell()
    await world.collect()
    assert (await world.count("begun"), await world.count("dropped")) == (1, 0)
    world.clock.advance(2)
    await world.tell()
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())
    with pytest.raises(NotFound):
        await world.end(plan)
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert sum(len(machine.purged) for machine in world.machines.values()) == 10
    assert not any(machine.trashed for machine in world.machines.values()), "nobody paid for it"


async def test_a_whole_segment_that_no_version_was_made_of_goes_and_a_kept_one_stays(world: World) -> None:
    await world.store()
    await world.keep()
    await world.store(stream=OTHER)
    world.clock.advance(FORGOTTEN_MS + 1)
    await world.tell()
    await world.collect()
    assert await world.count("segment") == 1
    assert await world.keep() == 1_000_000
    assert sum(len(machine.purged) for machine in world.machines.values()) == 10 + 2
    assert not any(machine.trashed for machine in world.machines.values())


async def test_parts_that_are_not_wanted_go(world: World) -> None:
    for part in (1, 2, 3):
        await world.store(100, stream=part.to_bytes(16))
        async with world.database.transaction() as tx:
            await world.places.segments.adopt(tx, BUCKET.id, part.to_bytes(16), STREAM, part)
    async with world.database.transaction() as tx:
        await world.places.segments.drop_parts(tx, BUCKET.id, STREAM, [2])
    assert await world.keep() == 100
    async with world.database.transaction() as tx:
        await world.places.segments.drop_parts(tx, BUCKET.id, STREAM, None)
    assert await world.keep() == 0


async def test_a_drop_that_was_not_committed_deletes_nothing(world: World) -> None:
    await world.store()
    await world.keep()
    with pytest.raises(Killed):  # noqa: PT012 - that is the end of a transaction
        async with world.database.transaction() as tx:
            await world.places.segments.drop(tx, BUCKET.id, [STREAM], purge=True)
            raise Killed
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())
    assert len((await world.read(0, 1))[0].places) == 6


async def test_an_answer_that_nobody_heard_is_asked_for_again(world: World) -> None:
    plan = await world.store()
    await world.drop(STREAM)
    holders = [world.machines[place.node] for place in plan.places[:8]]
    for machine in holders:
        machine.dies = True
    with pytest.raises(ExceptionGroup):
        await world.collect()
    assert await world.count("garbage") >= 8
    for machine in holders:
        machine.dies = False
    await world.collect(world.process())  # it has heard of no node
    await world.tell()
    await world.collect()
    assert not any(machine.has for machine in holders)
    assert any(len(machine.purged) == 2 for machine in holders)


async def test_a_row_about_a_live_piece_deletes_nothing(world: World) -> None:
    await world.store()
    async with world.database.transaction() as tx:  # what no code does
        await tx.execute(
            "INSERT INTO storage.garbage (alias, segment, purge, due_ms) SELECT n, id, true, 0"
            " FROM storage.segment, unnest(nodes) AS n"
        )
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())


class Course:
    """Does at random what clients, versions, nodes, processes and clocks can do."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.plans: list[tuple[bytes, Plan]] = []
        self.stored: dict[bytes, list[Place]] = {}
        self.kept: set[bytes] = set()
        self.latest_ms = world.clock.ms

    async def begin(self) -> None:
        stream = self.rng.randbytes(16)
        self.plans.append((stream, await self.world.begin(1000, stream)))

    async def end(self) -> None:
        stream, plan = self.rng.choice(self.plans)
        receipts = {
            number: receipt
            for number, receipt in self.world.receipts(plan).items()
            if self.holds(plan.places[number])  # it did not refuse the limit
        }
        if await caught(self.world.end(plan, receipts)) is None and stream not in self.stored:
            self.stored[stream] = [plan.places[number] for number in receipts]

    def holds(self, place: Place) -> bool:
        return OrderLimit.open(place.limit, NETWORK_KEY).piece in self.world.machines[place.node].has

    async def keep(self) -> None:
        stream, _ = self.rng.choice(self.plans)
        if await self.world.keep(stream):
            self.kept.add(stream)

    async def drop(self) -> None:
        stream, _ = self.rng.choice(self.plans)
        await self.world.drop(stream, purge=self.rng.random() < 0.5)
        self.kept.discard(stream)

    async def bring_late(self) -> None:
        place = self.rng.choice(self.rng.choice(self.plans)[1].places)
        self.world.machines[place.node].receipt(place.limit)

    async def leave_or_come(self) -> None:
        machine = self.rng.choice([*self.world.machines.values()])
        others = [one for one in self.world.machines.values() if one.away and one is not machine]
        machine.away = not machine.away and len(others) < 2

    async def die_or_live(self) -> None:
        machine = self.rng.choice([*self.world.machines.values()])
        machine.dies = not machine.dies

    async def collect(self) -> None:
        try:
            await self.world.collect()
        except ExceptionGroup:
            self.world.places = self.world.process()

    async def pass_time(self) -> None:
        """A clock that goes back does so by half an hour at most."""
        self.latest_ms = max(self.latest_ms, self.world.clock.ms)
        self.world.clock.ms = self.latest_ms + self.rng.choice([1, HOUR_MS, 30 * HOUR_MS, -HOUR_MS // 2])

    async def step(self) -> None:
        steps = [self.begin, self.leave_or_come, self.die_or_live, self.collect, self.collect, self.pass_time]
        if self.plans:
            steps += [self.begin, self.end, self.end, self.keep, self.keep, self.drop, self.bring_late]
        await self.rng.choice(steps)()
        await self.world.tell()

    def live(self) -> dict[bytes, set[bytes]]:
        """Pieces that must be there, by node."""
        pieces: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for stream in self.kept:
            for place in self.stored[stream]:
                pieces[place.node].add(OrderLimit.open(place.limit, NETWORK_KEY).piece)
        return pieces

    async def heal(self) -> None:
        for machine in self.world.machines.values():
            machine.away = machine.dies = False
        for _ in range(3):
            self.world.clock.ms = self.latest_ms = self.latest_ms + FORGOTTEN_MS + LATE_MS + HOUR_MS
            await self.world.tell()
            await self.world.collect()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_live_pieces_stay_and_all_others_go(world: World, seed: int) -> None:
    world.clock.ms += 10**9
    await world.tell()
    course = Course(world, seed)
    for _ in range(80):
        await course.step()
        for node, pieces in course.live().items():
            assert pieces <= world.machines[node].has
    await course.heal()
    live = course.live()
    assert {machine.id: machine.has for machine in world.machines.values() if machine.has} == live


# Money


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
