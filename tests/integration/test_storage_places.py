"""Where pieces go, whether they came, and who reads them: the network's side of segments on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.streams import CERTIFICATE_BYTES_MAX, DirectAddress, StreamTicket
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.verticals.storage.control.nodes import ROOM_BYTES_MAX
from fallow.verticals.storage.control.segments import BEGUN_BYTES_MIN, CRUMB_BYTES, FORGOTTEN_MS, LATE_MS
from fallow.verticals.storage.core.calls.segments import SEGMENTS_AT_ONCE, EndSegment, MorePlaces
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SEGMENT_BYTES, SHARE_BYTES, Layout
from fallow.verticals.storage.core.orders import OrderLimit, PieceReceipt, check_limit
from tests.epoch_files import NET, NETWORK_KEY
from tests.places_world import (
    BUCKET,
    BUYER,
    HOUR_MS,
    OTHER,
    STREAM,
    Machine,
    World,
    caught,
    signing,
    stocked_world,
)

PIECE = Layout(1_000_000, 4).piece_bytes


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with stocked_world(postgres_dsn) as world:
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
    (again,) = await world.read(0, 1_000_000, every=True)
    assert (len(segment.places), len(again.places)) == (6, 8), "for whom those were too few, all of them"


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
    await world.store(1000, index=0)
    await world.store(2000, index=2)
    await world.begin(3000, index=1)
    assert await world.keep() == 1000
    await world.store(3000, index=1)
    assert await world.keep() == 6000
    assert await world.keep(OTHER) == 0


async def test_what_is_cut_into_crumbs_is_not_kept(world: World) -> None:
    """Rows of segments would take more room than their bytes pay for."""
    for index in range(3):
        await world.store(CRUMB_BYTES // 2, index=index)
    with pytest.raises(InvalidInput) as refused:
        await world.keep()
    assert refused.value.code == "storage.crumbs"
    async with world.database.transaction() as tx:
        assert not await tx.fetch("SELECT FROM storage.segment WHERE kept")
    await world.store(CRUMB_BYTES, index=3)
    await world.store(1, index=4)
    with pytest.raises(InvalidInput):
        await world.keep()
    await world.store(3 * CRUMB_BYTES, index=5)
    assert await world.keep() == 5 * CRUMB_BYTES + CRUMB_BYTES // 2 + 1


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
