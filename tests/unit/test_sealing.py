"""The network's decisions become records that anybody can check against its key."""

# ruff: noqa: D101, D102

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.domain.batches import Batch, Promise, open_batch
from fallow.domain.decisions import Decision
from fallow.domain.encoding import decode
from fallow.domain.errors import Unavailable
from fallow.domain.facts import LeaseSettled, Moved, NodeShown
from fallow.domain.network_facts import RollAnswered
from fallow.domain.records import Opening, check_openings, record_name
from fallow.domain.resources import Resources
from fallow.ports.steady import Steady
from fallow.services.ingest import sealing
from fallow.services.ingest.sealing import Sealer
from tests.faulty_database import Fault, FaultyDatabase
from tests.unit.agent_fakes import FakeClock

NET = "lab-1"
HOUR_MS = 3_600_000
BUYER = b"b" * 20


def settled(number: int) -> Decision:
    body = LeaseSettled(
        vertical="compute",
        lease=number.to_bytes(16, "big"),
        node=bytes(32),
        payee=b"p" * 20,
        payer=BUYER,
        resources=Resources(cpu_milli=1000, memory_mib=128),
        price_microusd_per_hour=36_000,
        spot=False,
        checks=False,
        window=0,
        charged_ms=1000,
        moved=[Moved(credit=1, income=9, fee=1)],
        final=True,
        ok=True,
    )
    return Decision(number, body)


class World:
    def __init__(self) -> None:
        self.key = SigningKey(bytes(32))
        self.node = bytes(self.key.verify_key)
        self.database, self.decisions, self.log = FaultyDatabase(), MemoryDecisionStore(), MemoryIngestStore()
        self.clock, salts = FakeClock(), itertools.count()
        self.sealer = Sealer(
            net=NET,
            node=self.node,
            sign=lambda message: self.key.sign(message).signature,
            new_salt=lambda: next(salts).to_bytes(32, "big"),
            epoch_ms=HOUR_MS,
            clock=Steady(self.clock),
            database=self.database,
            decisions=self.decisions,
            log=self.log,
        )

    async def add(self, *decisions: Decision) -> None:
        async with self.database.transaction() as tx:
            await self.decisions.add(tx, decisions)

    def batches(self) -> list[Batch]:
        return [open_batch(batch.data, net=NET) for batch in self.log.batches.values()]


async def test_decisions_become_numbered_records_under_the_networks_key_with_its_promise() -> None:
    world = World()
    many = [settled(number) for number in range(sealing.DECISIONS_A_BATCH + 3)]
    await world.add(*many)
    assert await world.sealer.seal() == len(many)
    await world.add(Decision(5, NodeShown(node=bytes(32), what="missed")))
    assert await world.sealer.seal() == 1
    assert await world.sealer.seal() == 0
    records = [record for batch in world.batches() for record in batch.records]
    assert [record.seq for record in records] == list(range(len(many) + 1))
    assert {record.node for record in records} == {world.node}
    assert [record.at for record in records] == [*range(len(many)), 5]
    hidden = [msgspec.structs.replace(decision.body, payer=b"") for decision in many]
    assert [record.read(LeaseSettled) for record in records[:-1]] == hidden
    for stored in world.log.batches.values():
        promise = Promise.open(stored.promise, world.node)
        assert (promise.root, promise.seq, promise.epoch) == (stored.root, stored.key.seq, stored.epoch)
        assert stored.epoch == world.clock.now_ms() // HOUR_MS


async def test_who_paid_is_in_no_signed_byte_and_its_opening_fits_the_record() -> None:
    world = World()
    await world.add(settled(1))
    await world.sealer.seal()
    (batch,) = world.batches()
    assert BUYER not in batch.data
    (record,) = batch.records
    opening = world.log.openings[record_name(record.encode()), "payer"]
    assert decode(opening.value) == BUYER
    check_openings(record, {"payer": Opening(opening.salt, decode(opening.value))})


@pytest.mark.parametrize("fault", [Fault.BEGIN, Fault.COMMIT, Fault.ANSWER])
async def test_a_decision_is_sealed_once_whatever_becomes_of_the_transaction(fault: Fault) -> None:
    world = World()
    await world.add(settled(1), settled(2))
    faults = iter([fault])
    world.database.fault = lambda: next(faults, Fault.NONE)
    with pytest.raises(Unavailable):
        await world.sealer.seal()
    await world.sealer.seal()
    assert [record.at for batch in world.batches() for record in batch.records] == [1, 2]
    assert not world.decisions.waiting


async def test_it_goes_on_by_itself() -> None:
    world = World()
    async with world.sealer.running():
        await world.add(settled(1))
        while not world.log.batches:
            await world.clock.advance(1)


async def test_what_another_sealer_has_taken_is_sealed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes decisions while another one seals earlier ones would get ahead of it: the lock comes first."""
    world = World()
    await world.add(settled(1))
    calls: list[str] = []
    for store, name in ((world.log, "lock"), (world.decisions, "take")):
        monkeypatch.setattr(store, name, noted(calls, name, getattr(store, name)))
    assert await world.sealer.seal() == 1
    assert calls == ["lock", "take"]


def noted(calls: list[str], name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Note that a method was called."""

    async def call(*arguments: Any) -> Any:
        calls.append(name)
        return await method(*arguments)

    return call


async def test_decisions_that_are_large_are_cut_into_batches_that_can_be_sent() -> None:
    world = World()
    answers = [
        RollAnswered(call=bytes(32), how="group", node=n.to_bytes(32), cpu_milli=1, answer=b"a" * 4096)
        for n in range(sealing.DECISIONS_A_BATCH)
    ]
    async with world.database.transaction() as tx:
        await world.decisions.add(tx, [Decision(1, body) for body in answers])
    assert await world.sealer.seal() == len(answers)
    batches = [open_batch(batch.data, net=NET) for batch in world.log.batches.values()]
    assert len(batches) > 1
    assert [record.seq for batch in batches for record in batch.records] == list(range(len(answers)))
    assert [record.read(RollAnswered) for batch in batches for record in batch.records] == answers
