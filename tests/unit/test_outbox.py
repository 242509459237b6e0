"""The outbox: durable before it returns, in order, never two signatures over one number, and nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.agent.identity import NodeKey
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_rows import Entry
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.sender import Sender
from fallow.domain.batches import BATCH_BYTES_MAX, open_batch
from fallow.domain.calls.nodes import Deliver
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.facts import LeaseAccepted, NodeEnrolled, OfferMade, UsageReceipt
from fallow.domain.records import Body, check_openings
from fallow.domain.resources import Resources, Terms
from tests.unit.agent_fakes import NET, FakeClock, FakeIngest, Inline, eventually, promise_for, settle

KEY = NodeKey(bytes(range(32)))
NETWORK = SigningKey(bytes(32))
NETWORK_PUBLIC = bytes(NETWORK.verify_key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def reopen(path: Path, request: pytest.FixtureRequest) -> Callable[[int], OutboxStore]:
    """Open the file as a new process would; nobody closed it in between, as after a crash."""

    def open_it(boot: int = 1) -> OutboxStore:
        boots = itertools.count(boot + 1)
        store = OutboxStore(path, net=NET, key=KEY, boot=boot, next_boot=lambda: next(boots))
        request.addfinalizer(store.close)
        return store

    return open_it


def accepted(number: int) -> LeaseAccepted:
    return LeaseAccepted(lease=number.to_bytes(16, "big"))


def entries(*numbers: int) -> list[Entry]:
    return [Entry(accepted(number), 1000 + number) for number in numbers]


def numbers(store: OutboxStore) -> list[tuple[int, int, int]]:
    """Boot, sequence number and lease of each record that waits."""
    records = [record for waiting in store.oldest(100) for record in open_batch(waiting.data, net=NET).records]
    return [(record.boot, record.seq, record.read(LeaseAccepted).lease[-1]) for record in records]


def large_offer() -> Body:
    attributes = {f"name-{index}": "x" * 190 for index in range(60)}
    return OfferMade(
        offer=1,
        open=True,
        total=Resources(cpu_milli=1, memory_mib=1),
        terms=Terms(price_microusd_per_core_hour=1),
        attributes=attributes,
    )


def test_records_are_numbered_from_zero_and_signed(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    assert store.append(entries(1, 2, 3)) == 1
    (waiting,) = store.oldest(10)
    batch = open_batch(waiting.data, net=NET)
    assert (batch.node, batch.boot, batch.seq, batch.root) == (KEY.node, 1, 0, waiting.root)
    assert [record.seq for record in batch.records] == [0, 1, 2]
    assert [record.at for record in batch.records] == [1001, 1002, 1003]


def test_what_was_appended_survives_a_crash_with_its_exact_bytes(reopen: Callable[..., OutboxStore]) -> None:
    first = reopen()
    first.append(entries(1))
    before = first.oldest(10)
    again = reopen(boot=2)
    assert again.oldest(10) == before
    again.append(entries(2))
    assert [(waiting.boot, waiting.seq) for waiting in again.oldest(10)] == [(1, 0), (2, 0)]


def test_a_number_is_never_signed_twice_even_by_the_same_boot(reopen: Callable[..., OutboxStore]) -> None:
    first = reopen()
    first.append(entries(1, 2))
    (waiting,) = first.oldest(1)
    first.promised(waiting, promise_for(waiting.data, NETWORK), NETWORK_PUBLIC)
    again = reopen()
    again.append(entries(3))
    assert [waiting.seq for waiting in again.oldest(10)] == [2]


def test_a_crash_inside_the_transaction_leaves_nothing(
    reopen: Callable[..., OutboxStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = reopen()
    store.append(entries(1))
    signed: list[bytes] = []

    def failing(message: bytes) -> bytes:
        signed.append(message)
        raise KeyboardInterrupt

    monkeypatch.setattr(store._key, "sign", failing)
    with pytest.raises(KeyboardInterrupt):
        store.append(entries(2))
    monkeypatch.undo()
    assert signed
    again = reopen()
    again.append(entries(3))
    seen = [record for waiting in again.oldest(10) for record in open_batch(waiting.data, net=NET).records]
    assert [(record.seq, record.read(LeaseAccepted).lease[-1]) for record in seen] == [(0, 1), (1, 3)]


def test_older_boots_are_sent_first(reopen: Callable[..., OutboxStore]) -> None:
    for boot in (2, 10, 9):
        reopen(boot).append(entries(boot))
    store = reopen(11)
    assert [waiting.boot for waiting in store.oldest(10)] == [2, 9, 10]
    assert store.count(before_boot=10) == 2


def test_a_promise_lets_the_batch_go_and_is_kept(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    store.append(entries(1))
    (waiting,) = store.oldest(1)
    promise = promise_for(waiting.data, NETWORK)
    store.promised(waiting, promise, NETWORK_PUBLIC)
    assert store.count() == 0
    assert reopen().promises() == [promise]
    with pytest.raises(NotFound):
        store.promised(waiting, promise, NETWORK_PUBLIC)


@pytest.mark.parametrize(
    "changes", [{"root": bytes(32)}, {"count": 2}, {"seq": 1}, {"boot": 2}, {"net": "other"}, {"node": bytes(32)}]
)
def test_a_promise_for_something_else_is_refused(
    reopen: Callable[..., OutboxStore], changes: dict[str, object]
) -> None:
    store = reopen()
    store.append(entries(1))
    (waiting,) = store.oldest(1)
    with pytest.raises(NotAllowed, match="something else"):
        store.promised(waiting, promise_for(waiting.data, NETWORK, **changes), NETWORK_PUBLIC)
    assert store.oldest(1) == [waiting]


def test_a_promise_by_another_key_is_refused(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    store.append(entries(1))
    (waiting,) = store.oldest(1)
    with pytest.raises(NotAllowed):
        store.promised(waiting, promise_for(waiting.data, SigningKey(b"x" * 32)), NETWORK_PUBLIC)
    with pytest.raises(InvalidInput):
        store.promised(waiting, b"no promise", NETWORK_PUBLIC)
    assert store.count() == 1
    assert store.promises() == []


def test_a_refused_batch_is_kept_but_not_in_the_way(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    store.append(entries(1))
    store.append(entries(2))
    store.set_aside(store.oldest(1)[0], "it is wrong")
    assert reopen().refused() == [(1, 0, 1, "it is wrong")]
    store.append(entries(3))
    assert numbers(store) == [(2, 0, 2), (2, 1, 3)]


def test_numbers_that_the_network_will_not_take_are_replaced(reopen: Callable[..., OutboxStore]) -> None:
    reopen(1).append(entries(1, 2))
    store = reopen(2)
    enrolled = NodeEnrolled(account=bytes(20), account_signature=bytes(65), label="attic")
    store.append([*entries(3), Entry(enrolled, 5)])
    store.renumber(store.oldest(1)[0])
    assert store.refused() == []
    (waiting,) = store.oldest(10)
    records = open_batch(waiting.data, net=NET).records
    assert [(record.boot, record.seq, record.at) for record in records] == [
        (3, 0, 1001),
        (3, 1, 1002),
        (3, 2, 1003),
        (3, 3, 5),
    ]
    check_openings(records[3], waiting.openings["3"])
    assert reopen(2).leases(finals=False) == {f"{number:032x}" for number in (1, 2, 3)}
    store.append(entries(4))
    assert [(waiting.boot, waiting.seq) for waiting in store.oldest(10)] == [(3, 0), (3, 4)]


def test_private_fields_travel_as_openings(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    enrolled = NodeEnrolled(account=bytes(20), account_signature=bytes(65), label="attic")
    store.append([*entries(1), Entry(enrolled, 5)])
    (waiting,) = store.oldest(1)
    records = open_batch(waiting.data, net=NET).records
    assert b"attic" not in waiting.data
    check_openings(records[1], waiting.openings["1"])
    assert waiting.openings["1"]["label"].value == "attic"
    assert set(waiting.openings) == {"1"}


def test_too_much_for_one_batch_becomes_several(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    assert store.append([Entry(large_offer(), 1)] * 60) > 1
    assert store.append(entries(*range(600))) == 2
    batches = store.oldest(100)
    assert all(len(waiting.data) <= BATCH_BYTES_MAX for waiting in batches)
    seqs = [record.seq for waiting in batches for record in open_batch(waiting.data, net=NET).records]
    assert seqs == list(range(660))


def test_it_knows_which_leases_are_not_settled(reopen: Callable[..., OutboxStore]) -> None:
    store = reopen()
    over = UsageReceipt(lease=(2).to_bytes(16, "big"), window=0, used_ms=1, final=True)
    store.append([*entries(1), Entry(over, 1)])
    assert reopen(2).leases(finals=True) == {f"{2:032x}"}
    assert reopen(2).leases(finals=False) == {f"{1:032x}", f"{2:032x}"}


def test_a_full_disk_leaves_nothing_half_written(reopen: Callable[..., OutboxStore], path: Path) -> None:
    store = reopen()
    store.append(entries(1))
    pages = store._db.execute("pragma page_count").fetchone()[0]
    store._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(Unavailable) as caught:
        store.append([Entry(large_offer(), 1)] * 40)
    assert caught.value.code == "agent.disk_full"
    assert store.count() == 1
    store._db.execute("pragma max_page_count = 1000000")
    store.append(entries(2))
    assert [waiting.seq for waiting in store.oldest(10)] == [0, 1]
    with sqlite3.connect(path) as other:
        assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    other.close()


# With the loop around it


class Sending:
    """An outbox with its writer and sender running, and the network that it talks to."""

    def __init__(self, store: OutboxStore) -> None:
        self.clock = FakeClock()
        self.store = store
        self.outbox = Outbox(store, self.clock, waiting_max=3, executor=Inline())
        self.hub = MemoryHub()
        self.ingest = FakeIngest(self.hub, NETWORK, KEY.text)
        jitter = random.Random(1)
        self.sender = Sender(
            self.outbox, self.hub.connect(), self.clock, node=KEY.text, network_key=NETWORK_PUBLIC, jitter=jitter
        )
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._tasks = [self._group.create_task(self.outbox.run()), self._group.create_task(self.sender.run())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)


async def test_what_comes_together_is_signed_together(reopen: Callable[..., OutboxStore]) -> None:
    async with Sending(reopen()) as it, asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(it.outbox.append(accepted(number)))
    assert it.outbox.waiting <= 2
    seqs = [record.seq for waiting in it.store.oldest(10) for record in open_batch(waiting.data, net=NET).records]
    assert seqs == list(range(100))


async def test_one_that_does_not_fit_does_not_hurt_the_others(reopen: Callable[..., OutboxStore]) -> None:
    offer = large_offer()
    assert isinstance(offer, OfferMade)
    huge = OfferMade(
        offer=1, open=True, total=offer.total, terms=offer.terms, attributes={f"a{n}": "x" * 200 for n in range(90)}
    )
    async with Sending(reopen()) as it:
        results = await asyncio.gather(
            it.outbox.append(accepted(1)), it.outbox.append(huge), it.outbox.append(accepted(2)), return_exceptions=True
        )
    assert [type(result) for result in results] == [type(None), InvalidInput, type(None)]


async def test_records_reach_the_network_in_order_once_it_is_there(reopen: Callable[..., OutboxStore]) -> None:
    reopen(1).append(entries(1))
    async with Sending(reopen(2)) as it:
        await it.outbox.append(accepted(2))
        await settle()
        assert it.ingest.records == []
        assert it.sender.trouble
        async with it.ingest.serving():
            await it.clock.advance(60)
            assert [(record.boot, record.seq) for record in it.ingest.records] == [(1, 0), (2, 0)]
            assert it.outbox.waiting == 0
            assert it.sender.trouble == ""
            await it.outbox.append(accepted(3))
            await eventually(lambda: it.outbox.waiting == 0)


@pytest.mark.parametrize("error", [NotAllowed("x.y", "No."), InvalidInput("x.y", "No."), Conflict("x.y", "No.")])
async def test_a_refusal_for_good_sets_aside_and_goes_on(
    reopen: Callable[..., OutboxStore], error: FallowError
) -> None:
    async with Sending(reopen()) as it, it.ingest.serving():
        it.ingest.refuse = lambda request: error if open_batch(request.batch, net=NET).boot == 1 else None
        await it.outbox.append(accepted(1))
        await eventually(lambda: it.outbox.waiting == 0)
        await it.outbox.append(accepted(2))
        await eventually(lambda: bool(it.ingest.records))
        (refused,) = await it.outbox.refused()
    assert (refused.seq, refused.reason) == (0, "No. [x.y]")


async def test_a_network_that_went_on_under_other_numbers_gets_new_ones(reopen: Callable[..., OutboxStore]) -> None:
    def strict(request: Deliver) -> FallowError | None:
        batch = open_batch(request.batch, net=NET)
        return Conflict("ingest.old_boot", "Boot 7 is over.") if batch.boot <= 7 else None

    async with Sending(reopen(5)) as it, it.ingest.serving():
        it.ingest.refuse = strict
        await it.outbox.append(accepted(1), accepted(2))
        await eventually(lambda: it.outbox.waiting == 0)
        await it.outbox.append(accepted(3))
        await eventually(lambda: it.outbox.waiting == 0)
        assert await it.outbox.refused() == []
    assert [(record.boot, record.seq) for record in it.ingest.records] == [(8, 0), (8, 1), (8, 2)]


@pytest.mark.parametrize(
    "error",
    [
        TooMuch("rate.records", "Slower."),
        Unavailable("x.y", "Not now."),
        NotAllowed("ingest.not_enrolled", "Not enrolled."),
    ],
)
async def test_a_refusal_for_now_is_tried_again(reopen: Callable[..., OutboxStore], error: FallowError) -> None:
    async with Sending(reopen()) as it, it.ingest.serving():
        it.ingest.refuse = lambda _: error
        await it.outbox.append(accepted(1))
        await it.clock.advance(5)
        assert it.outbox.waiting == 1
        it.ingest.refuse = lambda _: None
        await it.clock.advance(60)
        assert it.outbox.waiting == 0
        assert len(it.ingest.records) == 1


async def test_a_forged_promise_frees_nothing(reopen: Callable[..., OutboxStore]) -> None:
    async with Sending(reopen()) as it:
        it.ingest._key = SigningKey(b"f" * 32)
        async with it.ingest.serving():
            await it.outbox.append(accepted(1))
            await it.clock.advance(5)
            assert it.outbox.waiting == 1
            assert "not signed by the expected key" in it.sender.trouble
            it.ingest._key = NETWORK
            await it.clock.advance(60)
            assert it.outbox.waiting == 0


async def test_it_says_when_it_is_full_but_drops_nothing(reopen: Callable[..., OutboxStore]) -> None:
    async with Sending(reopen()) as it:
        for number in range(6):
            await it.outbox.append(accepted(number))
        assert it.outbox.full
        assert it.outbox.overfull
        assert it.store.count() == 6


async def test_what_must_not_be_lost_waits_for_the_disk(reopen: Callable[..., OutboxStore]) -> None:
    async with Sending(reopen()) as it:
        await it.outbox.append(accepted(1))
        it.store._db.execute("pragma max_page_count = 1")
        with pytest.raises(Unavailable):
            await it.outbox.append(*[large_offer()] * 8)
        assert it.outbox.trouble == "agent.disk_full"
        async with asyncio.TaskGroup() as group:
            kept = group.create_task(it.outbox.append_surely(*[large_offer()] * 8))
            await it.clock.advance(30)
            assert not kept.done()
            it.store._db.execute("pragma max_page_count = 1000000")
            await it.clock.advance(30)
        assert it.outbox.trouble == ""
