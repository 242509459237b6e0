"""What the door takes, what it answers, and that nothing is half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from fallow.domain.batches import open_batch, seal_batch
from fallow.domain.calls.nodes import INGESTED, ingest
from fallow.domain.encoding import decode, encode
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.facts import LeaseAccepted
from fallow.domain.records import Opening, record_name
from fallow.ports.rates import Rate
from fallow.ports.registry_store import NodeRow
from fallow.services.ingest import service
from tests.faulty_database import Fault
from tests.unit.agent_fakes import settle
from tests.unit.ingest_world import HOUR_MS, NET, OWNER, SALT, Sender, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.running():
        yield made


async def refusal(world: World, node: Sender, batch: bytes, openings: object = None, *, subject: str = "") -> str:
    """Code with which a batch is refused; it must leave nothing behind."""
    before = await world.log()
    with pytest.raises(FallowError) as caught:
        await world.deliver(node, batch, openings, subject=subject)
    assert await world.log() == before
    return caught.value.code


async def test_a_batch_is_kept_as_it_came_and_promised(world: World) -> None:
    node = world.nodes[0]
    batch = node.batch(1, 2, 3)
    async with world.hub.connect().subscribe(INGESTED) as news:
        said = world.check_promise(await world.deliver(node, batch), batch)
        assert (await anext(news)).data == b""
    assert (said.at, said.epoch) == (world.clock.ms, world.clock.ms // (24 * HOUR_MS))
    (logged,) = await world.log()
    assert (logged.node, logged.data, logged.received_at) == (node.id, batch, world.clock.ms)


async def test_a_node_that_says_too_much_has_to_wait_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BYTES_A_NODE", Rate(per_s=100, burst=1000))
    world = World()
    noisy, quiet = world.nodes
    batch = noisy.batch()
    async with world.running():
        for _ in range(1000 // len(batch)):
            await world.deliver(noisy, batch)
        assert await refusal(world, noisy, batch) == "rate.requests"
        await world.deliver(quiet, quiet.batch())
        world.clock.ms += 1000 * len(batch) // 100
        await world.deliver(noisy, batch)


async def test_the_same_batch_again_gets_the_same_promise(world: World) -> None:
    node = world.nodes[0]
    batch = node.batch()
    first = await world.deliver(node, batch)
    world.clock.ms += 1000
    assert await world.deliver(node, batch) == first
    node.sent()
    await world.deliver(node, node.batch(2))
    node.reboot()
    await world.deliver(node, node.batch(3))
    assert await world.deliver(node, batch) == first  # however long ago that was
    both = await asyncio.gather(*(world.deliver(world.nodes[1], world.nodes[1].batch()) for _ in range(2)))
    assert both[0] == both[1]
    assert len(await world.log()) == 4


async def test_sealed_fields_go_beside_the_record(world: World) -> None:
    node = world.nodes[0]
    batch, openings = node.binding()
    assert await refusal(world, node, batch) == "record.openings"
    assert await refusal(world, node, batch, {"1": openings["0"]}) == "ingest.openings"
    assert await refusal(world, node, batch, {**openings, "x": {}}) == "ingest.openings"
    for changed in (Opening(SALT, "cellar"), Opening(b"1" * 32, "attic"), Opening(b"short", "attic")):
        code = await refusal(world, node, batch, {"0": {"label": changed}})
        assert code in {"record.openings", "record.salt"}
    assert not world.store.openings
    await world.deliver(node, batch, openings)
    await world.deliver(node, batch, openings)
    (record,) = open_batch(batch, net=NET).records
    (stored,) = world.store.openings.values()
    assert stored == (record_name(record.encode()), "label", SALT, encode("attic"), record.node)


async def test_what_was_altered_or_is_not_its_own_is_refused(world: World) -> None:
    node, other = world.nodes
    batch = node.batch()
    parts = decode(batch)
    longer = {**parts, "records": parts["records"] * 2}
    assert await refusal(world, node, encode({**parts, "sig": bytes(64)})) == "batch.signature"
    assert await refusal(world, node, encode(longer)) == "batch.signature"
    assert await refusal(world, node, encode({**parts, "seq": 1})) == "batch.signature"
    assert await refusal(world, node, batch[:-1]) == "encoding.malformed"
    record, _ = node.record(LeaseAccepted(lease=bytes(16)))
    assert await refusal(world, node, seal_batch([record], other.sign)) == "batch.signature"
    assert await refusal(world, other, batch) == "ingest.not_yours"
    assert await refusal(world, other, batch, subject=ingest("x")) == "ingest.not_yours"
    assert await refusal(world, node, node.batch(net="lab-2")) == "batch.network"
    await world.deliver(node, batch)


async def test_numbers_have_no_gaps_within_a_boot(world: World) -> None:
    node = world.nodes[0]
    node.boot = 3
    assert await refusal(world, node, node.batch(seq=1)) == "ingest.out_of_order"
    await world.deliver(node, node.batch(1, 2))
    assert await refusal(world, node, node.batch(seq=1)) == "ingest.out_of_order"  # overlaps
    assert await refusal(world, node, node.batch(seq=3)) == "ingest.out_of_order"
    assert await refusal(world, node, node.batch(boot=2)) == "ingest.old_boot"
    assert await refusal(world, node, node.batch(boot=4, seq=2)) == "ingest.out_of_order"
    await world.deliver(node, node.batch(boot=4))
    assert await refusal(world, node, node.batch(seq=2)) == "ingest.old_boot"
    await world.deliver(node, node.batch(boot=9))
    await world.deliver(node, node.batch(boot=9, seq=1))


async def test_copies_with_other_clocks_keep_a_nodes_batches_in_the_order_of_their_epochs(world: World) -> None:
    node, day_ms = world.nodes[0], 24 * HOUR_MS
    copy, ahead = World(), world.clock.ms // day_ms + 1
    copy.store, copy.database, copy.registry = world.store, world.database, world.registry
    copy.ingest = copy.made()
    first = await world.deliver(node, batch := node.batch())
    assert world.check_promise(first, batch).epoch == ahead - 1
    node.sent()
    copy.clock.ms = ahead * day_ms + 5
    async with copy.ingest.running():
        second = await copy.deliver(node, batch := node.batch())
    assert copy.check_promise(second, batch).epoch == ahead
    node.sent()
    said = world.check_promise(await world.deliver(node, batch := node.batch()), batch)
    assert (said.epoch, said.at) == (ahead, copy.clock.ms), "the other one's clock says the day before"


async def test_two_truths_under_one_number_are_a_contradiction(world: World) -> None:
    node = world.nodes[0]
    await world.deliver(node, node.batch(1))
    assert await refusal(world, node, node.batch(2)) == "ingest.contradiction"
    assert await refusal(world, node, node.batch(1, 2)) == "ingest.contradiction"
    node.sent()
    results = await asyncio.gather(
        *(world.deliver(node, node.batch(number)) for number in (3, 4)), return_exceptions=True
    )
    assert [type(result) for result in results] == [bytes, Conflict]
    assert len(await world.log()) == 2


async def test_only_enrolled_nodes_are_heard(world: World) -> None:
    stranger, banned = Sender(8), Sender(9)
    async with world.database.transaction() as tx:
        await world.registry.add_node(tx, NodeRow(banned.id, OWNER, "", 1, "spam"))
    for node in (stranger, banned):
        assert await refusal(world, node, node.batch()) == "ingest.not_enrolled"


async def test_one_bad_batch_spoils_no_other_of_its_group(world: World) -> None:
    node, other = world.nodes
    batches = [
        (node, node.batch()),
        (Sender(8), Sender(8).batch()),
        (other, other.batch(seq=5)),
        (other, other.batch()),
    ]
    results = await asyncio.gather(*(world.deliver(*each) for each in batches), return_exceptions=True)
    assert [type(result) for result in results] == [bytes, NotAllowed, Conflict, bytes]


@pytest.mark.mishaps("ingest.write")
async def test_a_batch_that_hits_a_bug_spoils_no_other_and_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, other = world.nodes
    admit = service.Ingest._admit

    def hits_a_bug(self: service.Ingest, waiting: service._Waiting, *rest: Any) -> object:
        if waiting.batch.node == node.id:
            raise LookupError("a bug")
        return admit(self, waiting, *rest)

    monkeypatch.setattr(service.Ingest, "_admit", hits_a_bug)
    batches = [(node, node.batch()), (other, other.batch())]
    bad, good = await asyncio.gather(*(world.deliver(*each) for each in batches), return_exceptions=True)
    assert isinstance(bad, Unavailable)
    assert bad.code == "internal"
    assert isinstance(good, bytes)
    monkeypatch.undo()
    assert isinstance(await world.deliver(*batches[0]), bytes), "and later it is taken"


async def test_many_nodes_share_a_transaction() -> None:
    world = World(nodes=20)
    async with world.running(), asyncio.TaskGroup() as group:
        async with world.database.transaction():  # the database is busy meanwhile
            tasks = [group.create_task(world.deliver(node, node.batch())) for node in world.nodes]
            await settle()
            before = world.database.committed
        for node, task in zip(world.nodes, tasks, strict=True):
            world.check_promise(await task, node.batch())
        assert world.database.committed - before <= 3
    assert len(await world.log()) == 20


async def test_a_noisy_node_cannot_take_all_places(world: World) -> None:
    node, other = world.nodes
    async with asyncio.TaskGroup() as group:
        async with world.database.transaction():
            waiting = [
                group.create_task(world.deliver(node, node.batch(seq=seq))) for seq in range(service.WAITING_A_NODE_MAX)
            ]
            await settle()
            with pytest.raises(Unavailable) as caught:
                await world.deliver(node, node.batch(seq=99))
            assert caught.value.code == "ingest.too_many"
            heard = group.create_task(world.deliver(other, other.batch()))
            await settle()
        world.check_promise(await heard, other.batch())
    assert len({task.result() for task in waiting}) == len(waiting)
    node.sent(len(waiting))
    await world.deliver(node, node.batch())  # its places are free again
    assert not world.ingest._under_way


async def test_more_than_can_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 3)
    world = World(nodes=8)
    async with world.running():
        async with asyncio.TaskGroup() as group, world.database.transaction():
            tasks = [group.create_task(_code(world, node)) for node in world.nodes]
            await settle()
        assert sorted({task.result() for task in tasks}) == ["", "ingest.busy"]
        for node in world.nodes:
            assert await _code(world, node) == ""
        assert len(await world.log()) == len(world.nodes)


async def _code(world: World, node: Sender) -> str:
    try:
        world.check_promise(await world.deliver(node, node.batch()), node.batch())
    except FallowError as error:
        return error.code
    return ""


@pytest.mark.parametrize("fault", [Fault.BEGIN, Fault.COMMIT, Fault.ANSWER])
async def test_a_database_that_is_away_leaves_nothing_half_done(world: World, fault: Fault) -> None:
    batch, openings = world.nodes[0].binding()
    world.database.fault = lambda: fault
    with pytest.raises(Unavailable) as caught:
        await world.deliver(world.nodes[0], batch, openings)
    assert caught.value.code == "database.unreachable"
    world.database.fault = lambda: Fault.NONE
    assert len(await world.log()) == len(world.store.openings) == (fault is Fault.ANSWER)
    world.check_promise(await world.deliver(world.nodes[0], batch, openings), batch)
    assert len(await world.log()) == len(world.store.openings) == 1


async def test_readers_are_not_needed_for_an_answer(world: World) -> None:
    """Who reads the log may be gone, and the bus may drop the news."""
    node = world.nodes[0]
    async with world.hub.connect().subscribe(INGESTED, pending_max=1):
        for seq in range(3):
            await world.deliver(node, node.batch(seq=seq))
    assert len(await world.log()) == 3


async def test_nonsense_on_the_subject_is_answered(world: World) -> None:
    subject = ingest(world.nodes[0].id.hex())
    answer = await world.hub.connect().request(subject, b"\xc1", timeout_s=5)
    assert b"rpc.malformed" in answer
    with pytest.raises(InvalidInput):
        await world.deliver(world.nodes[0], msgspec.msgpack.encode({}))
    assert NET not in str(await world.log())
