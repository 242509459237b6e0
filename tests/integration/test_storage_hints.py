"""Readers say that a node did not give what was stored: the network looks for itself, and only what it finds counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from blake3 import blake3

from fallow.domain.errors import InsufficientFunds, Unavailable
from fallow.domain.identity import address_text
from fallow.verticals.storage.control.hints import NODES_A_DAY
from fallow.verticals.storage.control.questioning import Contained
from fallow.verticals.storage.control.repairing import READ_S
from fallow.verticals.storage.core.calls.segments import Place, Plan, SayAltered
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.core.reputation import DAY_MS
from tests.epoch_files import NETWORK_KEY
from tests.memory_nodes import Wants
from tests.places_world import BUCKET, BUYER, HOUR_MS, NAME, Machine, machines
from tests.repair_world import RepairWorld, payload_of, pieces_of, repair_world

PAYLOAD = payload_of(600_000)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[RepairWorld]:
    """A network with sixteen machines, which no auditor has met yet."""
    async with repair_world(postgres_dsn, lambda: list(machines(16))) as world:
        yield world


async def holder(world: RepairWorld, plan: Plan) -> Machine:
    """One that has a piece."""
    return next(one for one in await world.holders(plan.segment) if one)


async def say(world: RepairWorld, segment: bytes, *nodes: Machine, account: bytes = BUYER) -> None:
    """Somebody who reads for an account says so of these."""
    for one in nodes:
        said = SayAltered(account=address_text(account), bucket=NAME, segment=segment, node=one.id)
        await world.places.altered(said)


async def look(world: RepairWorld) -> list[OrderLimit]:
    """Have the network look at all that is due within the hour; returns what it read by."""
    limits, open_ = list[OrderLimit](), world.reach.open

    async def opened(place: Place, request: bytes) -> Any:
        limits.append(OrderLimit.open(place.limit, NETWORK_KEY))
        return await open_(place, request)

    world.reach.open = opened  # type: ignore[method-assign]  # the test listens
    world.clock.advance(HOUR_MS)
    await world.tell()
    while await world.hinted.look_next():
        pass
    world.reach.open = open_  # type: ignore[method-assign]
    return limits


@pytest.mark.parametrize("what", ["one bit of what it keeps", "what it sends", "gone"])
async def test_what_a_reader_saw_is_seen_by_the_network_itself_and_only_then_counts(
    world: RepairWorld, what: str
) -> None:
    """`what it sends`: its answers to auditors, and what it keeps, are right."""
    plan = await world.put(PAYLOAD)
    liar = await holder(world, plan)
    kept, piece = world.kept[liar.id], world.secrets.piece(plan.segment, liar.id)
    if what == "what it sends":
        kept.wants = Wants(flips=True)
    elif what == "gone":
        world.lose(plan.segment, liar)
    else:
        altered = bytearray(kept.pieces[piece])
        altered[len(altered) // 2] ^= 1
        kept.pieces[piece] = bytes(altered)
    await say(world, plan.segment, liar)
    assert await world.found() == []
    assert liar in await world.holders(plan.segment)
    (limit,) = await look(world)
    [(node, code, evidence)] = await world.found()
    assert (node, code) == (liar.id, "storage.audit_failed")
    assert evidence is not None
    expected = "storage.no_piece" if what == "gone" else "storage.other_piece"
    assert evidence.found.startswith(f"failed: not given to a reader ({expected})")
    assert (await world.audits())[liar.id] == (1, 1000 * 0.999 / (1000 * 0.999 + 1))
    assert liar not in await world.holders(plan.segment), "it counts as lost at once"
    size = len(pieces_of(plan, PAYLOAD)[0])
    assert (limit.action, limit.node, limit.piece, limit.bytes_max) == ("get", liar.id, piece, size)


async def test_a_reader_who_lies_has_an_honest_node_read_once_a_day_and_no_more(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    honest = await holder(world, plan)
    keys = set[bytes]()
    for day in (1, 2):
        for _ in range(50):
            await say(world, plan.segment, honest)
        limits = await look(world)
        keys |= {limit.client for limit in limits}
        assert len(limits) == 1
        await say(world, plan.segment, honest)
        assert await look(world) == []
        assert (await world.audits())[honest.id] == (day, 1.0)
        await world.pass_time(DAY_MS)
    assert await world.found() == []
    assert len(keys) == 2, "nobody knows who reads"
    assert bytes(world.secrets.repairer().verify_key) not in keys
    assert honest in await world.holders(plan.segment)


async def test_nobody_is_heard_of_others_buckets_of_who_has_no_piece_or_of_more_nodes_than_a_few(
    world: RepairWorld,
) -> None:
    plan = await world.put(PAYLOAD)
    holders = [one for one in await world.holders(plan.segment) if one]
    await say(world, plan.segment, *(one for one in world.machines.values() if one not in holders))
    await say(world, b"?" * 16, *holders)
    world.versions.bucket = BUCKET._replace(id=BUCKET.id + 1)
    await say(world, plan.segment, *holders)
    assert await world.count("hint") == 0
    with pytest.raises(InsufficientFunds):
        await say(world, plan.segment, *holders, account=b"x" * 20)
    world.versions.bucket = BUCKET
    others = [await world.put(PAYLOAD, bytes([number]) * 16) for number in range(4)]
    for one in [plan, *others]:
        await say(world, one.segment, *(each for each in await world.holders(one.segment) if each))
    assert await world.count("hint") == NODES_A_DAY
    world.versions.bucket = BUCKET._replace(account=b"y" * 20)
    for one in others:
        await say(world, one.segment, *(each for each in await world.holders(one.segment) if each))
    assert await world.count("hint") > NODES_A_DAY, "others are heard"


class TooSlow(Wants):
    """It begins when nobody waits any more."""

    def __init__(self, world: RepairWorld) -> None:
        super().__init__()
        self._world = world

    async def pause(self) -> None:
        """See `Wants`."""
        self._world.clock.advance(int(READ_S * 1000))
        await self._world.tell()
        await asyncio.Event().wait()


async def test_who_is_slow_when_he_is_looked_at_has_not_failed_and_is_asked_by_an_auditor(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    slow = await holder(world, plan)
    world.kept[slow.id].wants = TooSlow(world)
    await say(world, plan.segment, slow)
    await look(world)
    assert await world.found() == []
    assert await world.contained() == {slow.id: Contained(plan.segment, -1, 0)}
    assert slow in await world.holders(plan.segment)


class Hidden(dict[bytes, bytes]):
    """Claims that a node does not show."""

    def __missing__(self, piece: bytes) -> bytes:
        """Err in their place."""
        raise Unavailable("storage.disk_failing", f"The disk makes errors at {piece.hex()}.")


async def test_who_gives_something_else_and_does_not_say_what_was_claimed_answers_for_it_to_an_auditor(
    world: RepairWorld,
) -> None:
    """What comes of that: `tests/attacks/test_storage_audits.py`."""
    plan = await world.put(PAYLOAD)
    liar = await holder(world, plan)
    kept, piece = world.kept[liar.id], world.secrets.piece(plan.segment, liar.id)
    kept.pieces[piece] = bytes(len(kept.pieces[piece]))
    kept.claims = Hidden()
    await say(world, plan.segment, liar)
    await look(world)
    assert await world.found() == []
    assert await world.contained() == {liar.id: Contained(plan.segment, -1, 0, blake3(kept.pieces[piece]).digest())}


async def test_who_is_away_is_looked_at_when_he_is_back_and_what_has_gone_not_at_all(world: RepairWorld) -> None:
    plan, gone = await world.put(PAYLOAD), await world.put(PAYLOAD, b"g" * 16)
    away = await holder(world, plan)
    other = next(one for one in await world.holders(gone.segment) if one and one is not away)
    await say(world, plan.segment, away)
    await say(world, gone.segment, other)
    await world.drop(b"g" * 16)
    world.leave(away)
    assert await look(world) == []
    world.come_back(away)
    assert [limit.node for limit in await look(world)] == [away.id]
    assert await look(world) == []
