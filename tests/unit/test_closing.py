"""Closing epochs: ingest ends them, their files come into the archive, and the statement says so once."""

# ruff: noqa: D102

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fallow.adapters.archive import StoreArchive, memory_archive
from fallow.adapters.memory.epochs import MemoryEpochStore
from fallow.domain.calls.base import Person
from fallow.domain.calls.epochs import END_EPOCH, END_NOW, EndEpoch, EndNow
from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.lines import LINES, read_lines
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, Manifest, path_of
from fallow.domain.epochs.metering import Use
from fallow.domain.epochs.reading import Filed, checked_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.errors import Conflict, Unavailable
from fallow.ports.archive import whole
from fallow.ports.epochs import without_chain
from fallow.ports.ingest_store import EpochEnd
from fallow.ports.rpc import call
from fallow.services.epochs.service import LEAD_MS, LOOK_S, Closing
from fallow.services.epochs.writing import Spool
from fallow.verticals.compute.core.metering import ComputeMetering
from tests.unit.ingest_world import HOUR_MS, NET, World

DAY_MS = 24 * HOUR_MS
BYTES_MAX = 1 << 20


class ClosingWorld(World):
    """An ingest, and a closer beside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.archive: StoreArchive = memory_archive()
        self.epochs = MemoryEpochStore()
        self.first = self.clock.ms // DAY_MS

    def closing(self, holder: str = "one") -> Closing:
        return Closing(
            net=NET,
            holder=holder,
            sign=lambda message: self.key.sign(message).signature,
            network_key=self.public_key,
            kinds={"lease.accepted"},
            folder=self.folder,
            bus=self.hub.connect(),
            clock=self.clock,
            database=self.database,
            log=self.store,
            store=self.epochs,
            archive=self.archive,
            rules=Rules(),
            meterings={"compute": ComputeMetering()},
            attesting=without_chain(NET),
        )

    @property
    def public_key(self) -> bytes:
        return bytes(self.key.verify_key)

    async def send(self, node: int, *leases: int) -> None:
        sender = self.nodes[node]
        await self.deliver(sender, sender.batch(*leases))
        sender.sent(len(leases))

    def statement(self, epoch: int) -> Statement:
        return Statement.open(whole(self.archive, path_of(epoch, STATEMENT), BYTES_MAX), self.public_key)

    def leases(self, epoch: int) -> list[int]:
        """The leases of an epoch's records, everything in the archive checked."""
        manifest = self.statement(epoch).check_manifest(whole(self.archive, path_of(epoch, MANIFEST), BYTES_MAX))
        records = checked_records(manifest, lambda name: self.archive.read(path_of(epoch, name)), self.public_key)
        return [int.from_bytes(filed.record.body["lease"], "big") for filed in records]

    def next_day(self) -> None:
        self.clock.ms += DAY_MS - self.clock.ms % DAY_MS


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ClosingWorld]:
    world = ClosingWorld(tmp_path)
    async with world.running():
        yield world


@asynccontextmanager
async def closing(world: ClosingWorld) -> AsyncIterator[None]:
    async with world.closing().running():
        yield


async def test_an_epoch_closes_when_its_time_is_over(world: ClosingWorld) -> None:
    async with closing(world):
        await world.send(0, 1, 2)
        await world.send(1, 3)
        await world.clock.advance(LOOK_S)
        assert list(world.archive.names("epochs/")) == []
        world.next_day()
        await world.clock.advance(LOOK_S)
        await world.send(0, 4)
        world.next_day()
        await world.clock.advance(LOOK_S)
    first = world.first
    assert world.leases(first) == [1, 2, 3]
    assert world.leases(first + 1) == [4]
    said, then = world.statement(first), world.statement(first + 1)
    assert (said.from_ms, said.until_ms) == (first * DAY_MS, (first + 1) * DAY_MS)
    assert (then.from_ms, then.until_ms) == ((first + 1) * DAY_MS, (first + 2) * DAY_MS)
    assert said.previous == NONE
    then.check_follows(whole(world.archive, path_of(first, STATEMENT), BYTES_MAX))
    assert list(world.folder.iterdir()) == []


async def test_what_comes_late_counts_in_the_next_epoch_and_what_comes_again_in_none(world: ClosingWorld) -> None:
    """Whatever a record says of its time: a node's clock is a claim, and what is promised is promised once."""
    sender = world.nodes[0]
    early, late = sender.batch(1, at=world.clock.ms), sender.batch(2, at=world.clock.ms, seq=sender.seq + 1)
    async with closing(world):
        promised = await world.deliver(sender, early)
        world.next_day()
        await world.clock.advance(LOOK_S)
        assert await world.deliver(sender, early) == promised, "a replay is answered as it was, and goes nowhere"
        sender.sent()
        await world.deliver(sender, late)
        world.next_day()
        await world.clock.advance(LOOK_S)
        assert await world.deliver(sender, early) == promised
        world.next_day()
        await world.clock.advance(LOOK_S)
    assert [world.leases(world.first + day) for day in range(3)] == [[1], [2], []]


async def test_the_operator_ends_an_epoch_early(world: ClosingWorld) -> None:
    async with closing(world):
        await world.send(0, 1)
        ended = await call(world.hub.connect(), END_NOW, EndNow(), EpochEnd)
        assert ended == EpochEnd(world.first, world.first * DAY_MS, world.clock.ms)
        await world.send(0, 2)
        await world.clock.advance(LOOK_S)
        assert world.leases(world.first) == [1]
        world.next_day()
        await world.send(0, 3)
        world.next_day()
        await world.clock.advance(LOOK_S)
    # The next one lasts until the calendar has come to its end, too.
    assert world.leases(world.first + 1) == [2, 3]
    assert world.statement(world.first + 1).from_ms == ended.until_ms
    assert world.statement(world.first + 1).until_ms == (world.first + 2) * DAY_MS


async def test_a_network_that_was_off_closes_all_epochs_that_passed(world: ClosingWorld) -> None:
    await world.send(0, 1)
    world.clock.ms += 3 * DAY_MS
    async with closing(world):
        await world.clock.advance(LOOK_S)
    assert [world.leases(world.first + day) for day in range(3)] == [[1], [], []]


async def test_a_network_without_a_record_has_an_epoch_to_end(world: ClosingWorld) -> None:
    async with closing(world):
        ended = await call(world.hub.connect(), END_NOW, EndNow(), EpochEnd)
        await world.clock.advance(LOOK_S)
    assert ended.epoch == world.first
    assert world.leases(world.first) == []


async def test_ending_again_answers_the_same_and_skips_nothing(world: ClosingWorld) -> None:
    bus = world.hub.connect()
    assert await call(bus, END_EPOCH, EndEpoch(after=None), list[EpochEnd]) == []
    ended = await call(bus, END_EPOCH, EndEpoch(after=None, early=True), list[EpochEnd])
    await world.clock.advance(60)
    assert await call(bus, END_EPOCH, EndEpoch(after=None, early=True), list[EpochEnd]) == ended
    assert await call(bus, END_EPOCH, EndEpoch(after=world.first - 1), list[EpochEnd]) == ended
    with pytest.raises(Conflict, match=r"epoch\.not_next"):
        await call(bus, END_EPOCH, EndEpoch(after=world.first + 1, early=True), list[EpochEnd])


async def test_who_names_the_epoch_before_ends_one_epoch_however_often_he_asks(world: ClosingWorld) -> None:
    bus, by = world.hub.connect(), Person(account="0x" + "0f" * 20, key_id="op2")
    async with closing(world):
        await world.send(0, 1)
        first = await call(bus, END_NOW, EndNow(), EpochEnd)
        again = [await call(bus, END_NOW, EndNow(after=first.epoch, by=by), EpochEnd) for _ in range(2)]
        await world.clock.advance(LOOK_S)
        again.append(await call(bus, END_NOW, EndNow(after=first.epoch), EpochEnd))
        assert {end.epoch for end in again} == {first.epoch + 1}
        with pytest.raises(Conflict, match=r"epoch\.not_next"):
            await call(bus, END_NOW, EndNow(after=first.epoch + 5, by=by), EpochEnd)
    async with world.database.transaction() as tx:
        (action,) = await world.registry.actions(tx, "", 10)
    assert (action.what, action.about, action.key_id) == ("epoch.close", str(first.epoch + 1), "op2")


async def test_files_are_written_while_the_epoch_is_open_and_are_those_of_one_that_was_filed_at_its_end(
    world: ClosingWorld,
) -> None:
    filing = Filing(NET, world.first, {"lease.accepted"})
    async with closing(world):
        for number in range(3):
            await world.send(0, number, number + 10)
            await world.send(1, number)
            await world.clock.advance(LOOK_S)
            assert list(world.archive.names("epochs/")) == []
        async with world.database.transaction() as tx:
            for batch in await world.store.of_epoch(tx, world.first, 0, 100):
                filing.add(batch.data, batch.promise)
        world.next_day()
        await world.clock.advance(LOOK_S)
        assert whole(world.archive, path_of(world.first, MANIFEST), BYTES_MAX) == filing.manifest().encode()
        await world.send(0, 20)
        await world.clock.advance(LOOK_S)
    assert list(world.folder.iterdir()) == []
    assert world.leases(world.first) == [0, 10, 0, 1, 11, 1, 2, 12, 2]


async def test_copies_write_ahead_beside_each_other_and_either_closes(world: ClosingWorld) -> None:
    one, two = world.closing("one"), world.closing("two")
    for number in range(3):
        await world.send(0, number)
        for copy in (one, two):
            await copy.file_ahead()
            assert copy._files._spool is not None
            async with world.database.transaction() as tx:
                assert not await world.store.of_epoch(tx, world.first, copy._files._spool.pos, 1), "all is written"
    world.next_day()
    assert await two.close_next() is not None
    await one.file_ahead()
    assert world.leases(world.first) == [0, 1, 2]
    for copy in (one, two):
        async with copy.running():
            pass  # as it goes it closes its files


async def test_what_was_filed_of_an_open_epoch_is_begun_anew_after_a_crash_or_a_fault(
    world: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = world.closing()
    await world.send(0, 1)
    await died.file_ahead()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    await world.send(0, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add", full)
        with pytest.raises(OSError, match="no space"):
            await died.file_ahead()
    await died.file_ahead()
    async with closing(world):
        await world.clock.advance(LOOK_S)
        world.next_day()
        await world.clock.advance(LOOK_S)
    assert world.leases(world.first) == [1, 2]
    async with died.running():
        pass  # as it goes it closes its files


STEPS = ["_file", "_say", "_note"]


class Broken(Exception):
    """The process is gone."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_closing_that_was_cut_short_comes_to_the_same_end(
    world: ClosingWorld, monkeypatch: pytest.MonkeyPatch, step: str, *, done: bool
) -> None:
    await world.send(0, 1, 2)
    world.next_day()
    original = getattr(Closing, step)

    async def broken(self: Closing, *given: Any) -> Any:
        if done:
            await original(self, *given)
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(Closing, step, broken)
        with pytest.raises(Broken):
            await world.closing().close_next()
    await world.send(0, 3)
    before = {found.name: whole(world.archive, found.name, BYTES_MAX) for found in world.archive.names("epochs/")}
    assert (path_of(world.first, STATEMENT) in before) == (step == "_note" or (step, done) == ("_say", True))
    said = await world.closing().close_next()
    if (step, done) == ("_note", True):  # all was done: the next epoch goes on
        assert said is None
    assert world.leases(world.first) == [1, 2]
    for name, data in before.items():
        assert whole(world.archive, name, BYTES_MAX) == data
    async with world.database.transaction() as tx:
        last = await world.epochs.last(tx)
    assert last is not None
    assert last.statement == whole(world.archive, path_of(world.first, STATEMENT), BYTES_MAX)


class Failing(ComputeMetering):
    """A policy with a bug."""

    def meter(self, filed: Filed) -> Use | None:
        raise ZeroDivisionError(filed.record.kind)


@pytest.mark.mishaps("epochs.policy.compute")
async def test_an_epoch_is_closed_although_a_policy_fails_and_its_operator_is_told(
    world: ClosingWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tests.unit.test_closing.ComputeMetering", Failing)
    async with closing(world):
        await world.send(0, 1, 2)
        world.next_day()
        await world.clock.advance(LOOK_S)
    assert world.leases(world.first) == [1, 2]
    lines = read_lines(whole(world.archive, path_of(world.first, LINES), BYTES_MAX))
    assert [line.verdicts for line in lines if line.vertical == "compute"] == [[("rejected", "plugin.error", 2)]]
    assert "ZeroDivisionError: lease.accepted" in caplog.text


async def test_one_closer_at_a_time(world: ClosingWorld) -> None:
    await world.send(0, 1)
    world.next_day()
    async with world.database.transaction() as tx:
        assert await world.epochs.lead(tx, "other", world.clock.ms, world.clock.ms + LEAD_MS)
    with pytest.raises(Conflict, match=r"epoch\.busy"):
        await world.closing().close_next()
    await world.clock.advance(LEAD_MS / 1000)
    assert await world.closing().close_next() is not None


async def test_an_archive_of_another_network_is_refused(world: ClosingWorld) -> None:
    world.next_day()
    await world.send(0, 1)
    stranger = Statement(net="other-1", epoch=world.first + 1, from_ms=0, until_ms=1, manifest=NONE)
    world.archive.create(
        path_of(stranger.epoch, STATEMENT), stranger.seal(lambda message: world.key.sign(message).signature)
    )
    world.next_day()
    with pytest.raises(Conflict, match=r"epoch\.foreign"):
        await world.closing().close_next()


async def test_an_archive_that_is_away_is_waited_for(world: ClosingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.send(0, 1)
    world.next_day()

    def away(*_: Any) -> None:
        raise Unavailable("archive.unavailable", "The archive does not answer.")

    async with closing(world):
        with monkeypatch.context() as patch:
            patch.setattr(StoreArchive, "put", away)
            await world.clock.advance(10 * LOOK_S)
        await world.clock.advance(LOOK_S)
    assert world.leases(world.first) == [1]


async def test_a_statement_holds_on_to_its_manifest(world: ClosingWorld) -> None:
    await world.send(0, 1)
    world.next_day()
    await world.closing().close_next()
    world.next_day()
    await world.closing().close_next()
    swapped = whole(world.archive, path_of(world.first + 1, MANIFEST), BYTES_MAX)
    assert Manifest.decode(swapped).epoch == world.first + 1
    said = world.statement(world.first)
    assert said.manifest == hashlib.sha256(whole(world.archive, path_of(world.first, MANIFEST), BYTES_MAX)).digest()
    with pytest.raises(Exception, match=r"archive\.manifest"):
        said.check_manifest(swapped)
