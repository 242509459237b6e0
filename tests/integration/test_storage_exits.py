"""A node leaves with its disk: its pieces go to others, whatever stops in the middle, and its receipt says what was."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from blake3 import blake3

from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.domain.errors import Unavailable
from fallow.domain.network_facts import NodeLendingReturned
from fallow.verticals.storage.client.waiting import Watch
from fallow.verticals.storage.control import exit_rows, repair_rows
from fallow.verticals.storage.control.exit_rows import TAKEN_MS
from fallow.verticals.storage.control.exits import PIECES_AT_ONCE, RETRY_MS, Exits
from fallow.verticals.storage.control.mending import repairs
from fallow.verticals.storage.control.segments import piece_bytes
from fallow.verticals.storage.core.calls.segments import Plan
from fallow.verticals.storage.core.exiting import LENGTH_MAX_MS, ExitReceipt, Why
from fallow.verticals.storage.core.orders import PieceClaim
from fallow.verticals.storage.core.questions import Evidence
from fallow.verticals.storage.core.reputation import DAY_MS, WINDOW_MS, Reputation
from tests.dying_database import Dying
from tests.engines import Engines
from tests.epoch_files import NET, NETWORK_KEY
from tests.memory_nodes import Wants
from tests.network import BOUND
from tests.places_world import HOUR_MS, Killed, Machine, machines, signing
from tests.repair_world import RepairWorld, payload_of, pieces_of, repair_world
from tests.rolled import Rolled
from tests.unit.fake_network import HandClock

STREAMS = [bytes([number]) * 16 for number in range(1, 7)]
PAYLOADS = {stream: payload_of(40_000, stream[0]) for stream in STREAMS}


STEPS = 14
"""More transactions than it takes to begin, to search, and to move a piece."""


class ExitWorld:
    """A network of twelve machines with six segments, and the machine of them that has most pieces."""

    def __init__(self, world: RepairWorld) -> None:
        self.world = world
        self.plans: dict[bytes, Plan] = {}
        self.leaver: Machine
        self.had = 0

    async def fill(self) -> None:
        for stream, payload in PAYLOADS.items():
            self.plans[stream] = await self.world.put(payload, stream)
        kept = self.world.kept
        self.leaver = max(self.world.machines.values(), key=lambda one: len(kept[one.id].pieces))
        self.had = len(kept[self.leaver.id].pieces)

    async def lent_for(self, days: int) -> None:
        """The one that leaves was audited first so long ago, and always there."""
        await self.world.places.audits.take(0)  # each has a row from then on
        now = self.world.clock.now_ms() // WINDOW_MS
        state = Reputation(windows=[(now, 1, 1)], first_window=now - days * DAY_MS // WINDOW_MS)
        async with self.world.database.transaction() as tx:
            await tx.execute(
                "UPDATE storage.reputation r SET state = $2 FROM storage.node n"
                " WHERE n.alias = r.alias AND n.node = $1",
                self.leaver.id,
                msgspec.msgpack.encode(state),
            )

    async def go_on(self) -> None:
        """Do all that can be done now."""
        for _ in range(4):
            await self.world.tell()
            await self.world.exits.look()
            await self.world.exits.tell()
            while await self.world.exits.move_next():
                pass
            await self.world.collect()

    async def leave_dying(self, *, committed: bool) -> AsyncIterator[bool]:
        """Leave, while processes die one step later each; whether each of them did."""
        world, tries = self.world, 0
        while self.receipt is None:
            database = Dying(world.database, tries % STEPS + 1, committed=committed)
            ground = world.ground()._replace(database=database)
            world.exits = Exits(
                ground, world.places.nodes, repairs(ground, world.places.nodes, world.reach, Watch(world.clock))
            )
            tries += 1
            try:
                await self.go_on()
            except (Killed, ExceptionGroup):
                yield True
            else:
                yield False
            await world.pass_time(TAKEN_MS + 1)

    def wish(self) -> None:
        self.leaver.wish_to_leave(self.world.clock.now_ms())

    @property
    def receipt(self) -> ExitReceipt | None:
        sealed = self.leaver.says[-1].receipt if self.leaver.says else b""
        return ExitReceipt.open(sealed, NETWORK_KEY) if sealed else None

    async def all_is_whole(self) -> None:
        """Each segment has all of its pieces, none of them where the node was that left."""
        for stream, plan in self.plans.items():
            assert await self.world.pieces(plan.segment) == pieces_of(plan, PAYLOADS[stream])
            assert self.leaver not in await self.world.holders(plan.segment)


@pytest.fixture
async def net(postgres_dsn: str) -> AsyncIterator[ExitWorld]:
    """See `ExitWorld`."""
    async with repair_world(postgres_dsn, lambda: list(machines(12))) as world:
        net = ExitWorld(world)
        await world.repairs.introduce()
        await net.fill()
        yield net


async def test_pieces_go_to_others_byte_for_byte_and_the_receipt_says_so(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    began_ms = net.world.clock.now_ms()
    net.wish()
    await net.go_on()
    await net.all_is_whole()
    receipt = net.receipt
    assert receipt is not None
    assert (receipt.node, receipt.account, receipt.began_ms) == (net.leaver.id, net.leaver.account, began_ms)
    assert (receipt.held, receipt.moved, receipt.failed, receipt.gone, receipt.unplaced) == (net.had, net.had, 0, 0, 0)
    assert receipt.moved_bytes == net.had * piece_bytes(40_000, "lab")
    assert receipt.why == ""
    assert net.world.kept[net.leaver.id].pieces == {}, "it was asked to delete what it had"


@pytest.mark.parametrize(("days", "standing"), [(0, ""), (8, ""), (0, "suspended")])
async def test_who_has_left_before_a_restore_shows_it_and_is_returned_what_is_held_of_his_pay_once(
    net: ExitWorld, engines: Engines, days: int, standing: str
) -> None:
    await net.lent_for(days=181)
    rolled = Rolled(net.world, engines)
    await rolled.keep()
    net.wish()
    await net.go_on()
    sealed = net.leaver.says[-1].receipt
    await rolled.back()
    net.world.restart()
    other = next(one for one in net.world.machines.values() if one is not net.leaver)
    net.leaver.left = other.left = sealed
    next(one for one in net.world.places.nodes.all() if one.node == net.leaver.id).standing = standing
    net.world.clock.advance(days * DAY_MS)
    for _ in range(2):
        await net.go_on()
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT n.node, n.exit, e.told FROM storage.node n JOIN storage.exit e USING (alias)")
        decisions = await PostgresDecisionStore().take(tx, 100)
    found = [(row["node"], row["exit"], row["told"]) for row in rows]
    returned = [one.body for one in decisions if isinstance(one.body, NodeLendingReturned)]
    if days or standing:
        assert (found, returned) == ([], []), "it is of no use to who goes on, and is found out later"
        return
    assert found == [(net.leaver.id, "left", True)]
    assert [(one.node, one.receipt, one.last) for one in returned] == [(net.leaver.id, sealed, True)]
    assert net.leaver.id not in {one.node for one in net.world.places.nodes.there()}


async def test_nothing_new_is_placed_on_who_leaves_nor_on_who_has_left(net: ExitWorld) -> None:
    net.wish()
    await net.world.tell()
    await net.world.exits.look()
    net.leaver.trouble = ""  # it says nothing of it any more
    for _ in range(2):
        await net.world.tell()
        assert net.leaver.id not in {one.node for one in net.world.places.nodes.candidates()}
        assert len(net.world.places.nodes.candidates()) == 11
        await net.go_on()
    assert net.receipt is not None
    fresh = net.world.process()
    async with fresh.nodes.running(net.world.ground()):
        await net.world.tell(fresh)
        assert len(fresh.nodes.candidates()) == 11, "another process knows it, too"


async def test_who_does_not_listen_holds_up_no_other(net: ExitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = [one for one in net.world.machines.values() if net.world.kept[one.id].pieces][:2]
    heard = asyncio.Event()

    async def silent(question: bytes) -> bytes:
        await heard.wait()
        return await Machine.asked(first, question)

    async def hears(question: bytes) -> bytes:
        heard.set()
        return await Machine.asked(other, question)

    monkeypatch.setattr(first, "asked", silent)
    monkeypatch.setattr(other, "asked", hears)
    for one in (first, other):
        one.wish_to_leave(net.world.clock.now_ms())
    await net.world.tell()
    async with asyncio.timeout(BOUND):
        await net.world.exits.look()
        await net.world.exits.tell()
    assert first.says
    assert other.says


async def test_who_is_slow_and_came_first_holds_up_no_other(net: ExitWorld) -> None:
    world, slow = net.world, net.leaver
    fast = next(one for one in world.machines.values() if one is not slow and world.kept[one.id].pieces)
    world.kept[slow.id].wants = Wants(stalls=True)
    for one in (slow, fast):
        one.wish_to_leave(world.clock.now_ms())
        await world.tell()
        await world.exits.look()
        world.clock.advance(1)
    assert net.had >= PIECES_AT_ONCE
    async with asyncio.TaskGroup() as group:
        moving = [group.create_task(world.exits.move_next()) for _ in range(PIECES_AT_ONCE)]
        _, stuck = await asyncio.wait(moving, timeout=BOUND, return_when=asyncio.FIRST_COMPLETED)
        for task in stuck:
            task.cancel()
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT n.node FROM storage.exit e JOIN storage.node n USING (alias) WHERE e.moved > 0")
    assert [row["node"] for row in rows] == [fast.id]


@pytest.mark.parametrize("committed", [True, False])
async def test_whatever_step_a_process_dies_at_no_piece_is_lost_and_none_is_counted_twice(
    net: ExitWorld, committed: bool
) -> None:
    deaths = 0
    await net.lent_for(days=181)
    net.wish()
    async for died in net.leave_dying(committed=committed):
        deaths += died
        for plan in net.plans.values():
            assert None not in await net.world.pieces(plan.segment)
    assert deaths > STEPS // 2
    await net.all_is_whole()
    assert net.receipt is not None
    assert (net.receipt.held, net.receipt.moved, net.receipt.why) == (net.had, net.had, "")


async def test_whatever_step_a_process_dies_at_what_failed_is_booked_once(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    net.world.kept[net.leaver.id].wants = Wants(flips=True)
    net.wish()
    assert [died async for died in net.leave_dying(committed=True)].count(True) > STEPS // 2
    assert net.receipt is not None
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT code FROM storage.finding WHERE kind = ''")
    assert [row["code"] for row in rows] == ["storage.audit_failed"] * net.receipt.failed
    assert net.receipt.failed == net.had


@pytest.mark.parametrize("kind", ["deleted", "altered", "another_claim"])
async def test_who_deletes_or_alters_before_its_end_is_found_out(net: ExitWorld, kind: str) -> None:
    await net.lent_for(days=181)
    kept = net.world.kept[net.leaver.id]
    lost = next(iter(kept.pieces))
    if kind == "deleted":
        del kept.pieces[lost]
    elif kind == "altered":
        kept.wants = Wants(flips=True)
    else:
        kept.claims[lost] = kept.claims[[*kept.claims][1]]
    net.wish()
    await net.go_on()
    receipt = net.receipt
    assert receipt is not None
    failed = net.had if kind == "altered" else 1
    assert (receipt.moved, receipt.failed, receipt.why) == (net.had - failed, failed, "storage.exit_failed")
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT kind, code, text FROM storage.finding ORDER BY id")
    assert [row["code"] for row in rows if not row["kind"]] == ["storage.audit_failed"] * failed
    assert all("when it left" in row["text"] for row in rows if not row["kind"])
    for plan in net.plans.values():
        assert net.leaver not in await net.world.holders(plan.segment), "nobody counts on it"


async def test_who_only_fails_to_answer_is_asked_again_and_a_database_that_is_away_is_no_fault_of_his(
    net: ExitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("database.timeout", "a statement took too long")

    net.wish()
    await net.world.tell()
    await net.world.exits.look()
    with monkeypatch.context() as patch:
        patch.setattr(exit_rows, "waited", away)
        with pytest.raises(Unavailable, match="took too long"):
            await net.world.exits.move_next()
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT tries, blamed FROM storage.leaving")
    assert [(row["tries"], row["blamed"]) for row in rows] == [(0, None)] * net.had
    net.world.kept[net.leaver.id].wants = Wants(refuses=True)
    await net.go_on()
    assert net.receipt is None
    assert net.leaver.says[-1].waiting == net.had
    assert "storage.full" in net.leaver.says[-1].reason
    net.world.kept[net.leaver.id].wants = Wants()
    await net.world.pass_time(HOUR_MS)
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.moved == net.had, "a disk that was busy has lost nothing"


async def test_an_error_for_each_question_is_a_failure_at_the_fourth(net: ExitWorld) -> None:
    net.world.kept[net.leaver.id].wants = Wants(refuses=True)
    net.wish()
    for _ in range(4):
        assert net.receipt is None
        await net.go_on()
        await net.world.pass_time(HOUR_MS)
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.failed == net.had


class Erring(dict[bytes, bytes]):
    """Claims of a node that answers with an error of its own making."""

    def __getitem__(self, piece: bytes) -> bytes:
        raise Unavailable("\0" + "x" * 1000, "\0" + "y" * 1_000_000)


async def test_whatever_words_a_node_errs_with_its_failures_are_booked(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    net.world.kept[net.leaver.id].claims = Erring()
    net.wish()
    for _ in range(4):
        await net.go_on()
        await net.world.pass_time(HOUR_MS)
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.failed == net.had
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch("SELECT evidence FROM storage.finding WHERE kind = ''")
    evidence = [msgspec.msgpack.decode(row["evidence"], type=Evidence) for row in rows]
    assert len(evidence) == net.had, "and its owner can be told of them"


async def test_who_is_away_waits_and_goes_on_where_it_was(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    net.wish()
    await net.world.tell()
    await net.world.exits.look()
    assert await net.world.exits.move_next()
    net.world.leave(net.leaver)
    assert await net.world.exits.move_next()  # the network has not noticed yet
    await net.world.pass_time(RETRY_MS)
    assert not await net.world.exits.move_next()
    net.world.come_back(net.leaver)
    await net.go_on()
    assert net.receipt is not None
    assert (net.receipt.moved, net.receipt.failed, net.receipt.why) == (net.had, 0, "")


async def test_what_nobody_takes_waits_with_the_reason_and_is_no_fault_when_time_is_up(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    net.wish()
    for machine in net.world.machines.values():
        machine.room = 0
    await net.go_on()
    assert net.leaver.says[-1].waiting == net.had
    assert "No further node" in net.leaver.says[-1].reason
    await net.world.pass_time(LENGTH_MAX_MS)
    await net.go_on()
    assert net.receipt is not None
    assert (net.receipt.unplaced, net.receipt.failed, net.receipt.why) == (net.had, 0, "")


async def test_who_says_for_thirty_days_that_its_owner_needs_it_has_failed(net: ExitWorld) -> None:
    await net.lent_for(days=181)
    net.world.kept[net.leaver.id].wants = Wants(busy=True)
    net.wish()
    for _ in range(6):
        await net.go_on()
        await net.world.pass_time(RETRY_MS)
    assert net.receipt is None
    await net.world.pass_time(LENGTH_MAX_MS)
    await net.go_on()
    assert net.receipt is not None
    assert (net.receipt.failed, net.receipt.why) == (net.had, "storage.exit_failed")


@pytest.mark.parametrize("slow", [True, False])
async def test_what_was_never_asked_of_it_has_failed_only_where_the_network_waited_for_it(
    net: ExitWorld, *, slow: bool
) -> None:
    """In place of thirty days of slow reads there is one, of which a row says that it was many."""
    await net.lent_for(days=181)
    net.world.kept[net.leaver.id].wants = wants = TakesItsTime(net.world.clock)
    net.wish()
    await net.world.tell()
    await net.world.exits.look()
    assert await net.world.exits.move_next()
    assert wants.waited_ms > 0
    async with net.world.database.transaction() as tx:
        rows = await tx.fetch(
            "UPDATE storage.exit SET read_ms = read_ms * $1 RETURNING read_ms", 300_000 if slow else 1
        )
    assert [row["read_ms"] for row in rows] == [wants.waited_ms * (300_000 if slow else 1)]
    await net.world.pass_time(LENGTH_MAX_MS)
    await net.world.exits.look()
    net.world.kept[net.leaver.id].wants = Wants()
    await net.go_on()
    assert net.receipt is not None
    rest = net.had - 1
    assert (net.receipt.moved, net.receipt.failed, net.receipt.unplaced) == (1, rest * slow, rest * (not slow))
    assert net.receipt.why == ("storage.exit_failed" if slow else "")


class TakesItsTime(Wants):
    """Five seconds to begin."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock
        self.waited_ms = 0

    async def pause(self) -> None:
        self._clock.advance(5000)
        self.waited_ms += 5000


async def test_what_was_being_stored_when_it_wished_is_moved_too(net: ExitWorld) -> None:
    world, payload, stream = net.world, payload_of(40_000, 9), b"9" * 16
    plan = await world.begin(len(payload), stream)
    while net.leaver.id not in {place.node for place in plan.places[:8]}:
        plan = await world.begin(len(payload), stream)
    net.wish()
    await net.go_on()
    assert net.receipt is None, "a piece may still come to count on it"
    made = await world.bring(plan, payload, stream)
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.moved == net.had + 1
    assert await world.pieces(made.segment) == pieces_of(made, payload)


async def test_what_a_repair_was_bringing_when_it_wished_is_moved_too(net: ExitWorld) -> None:
    world, payload = net.world, payload_of(40_000, 9)
    plan = await world.put(payload, b"9" * 16)
    while net.leaver.id in {place.node for place in plan.places}:
        net.had += net.leaver in await world.holders(plan.segment)
        plan = await world.put(payload, random.randbytes(16))
    piece, id_ = pieces_of(plan, payload)[0], world.secrets.piece(plan.segment, net.leaver.id)
    claim = PieceClaim(net=NET, piece=id_, length=len(piece), hash=blake3(piece).digest())
    world.kept[net.leaver.id].pieces[id_] = piece
    world.kept[net.leaver.id].claims[id_] = claim.seal(signing(world.client))
    async with world.database.transaction() as tx:
        segment = await repair_rows.look_up(tx, plan.segment)
        assert segment is not None
        (row,) = await tx.fetch("SELECT alias FROM storage.node WHERE node = $1", net.leaver.id)
        named = await repair_rows.name(tx, segment, [row["alias"]], world.clock.now_ms())
    net.wish()
    await net.go_on()
    assert net.receipt is None, "a piece may still come to count on it"
    async with world.database.transaction() as tx:
        await repair_rows.move(tx, segment, {0: row["alias"]}, [named], world.clock.now_ms())
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.moved == net.had + 1
    assert await world.pieces(plan.segment) == pieces_of(plan, payload)


async def test_who_does_not_delete_what_he_had_has_nothing_searched_for_any_more(
    net: ExitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.wish()
    await net.world.tell()
    for _ in range(2):
        await net.world.exits.look()
        while await net.world.exits.move_next():
            pass
    await net.world.exits.look()
    with monkeypatch.context() as patch:
        patch.setattr(exit_rows, "_FIND", "SELECT 1 / 0")
        await net.world.exits.look()
    assert net.receipt is None
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.moved == net.had


async def test_one_search_is_for_all_that_leave_and_misses_nothing_that_is_written_anew_meanwhile(
    net: ExitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, kept = net.world, net.world.kept
    leavers = [one for one in world.machines.values() if kept[one.id].pieces][:3]
    had = {one.id: len(kept[one.id].pieces) for one in leavers}
    for one in leavers:
        one.wish_to_leave(world.clock.now_ms())
    await world.tell()
    now = world.clock.now_ms()
    async with world.database.transaction() as tx:
        for row in await tx.fetch("SELECT alias FROM storage.node WHERE node = ANY($1::bytea[])", list(had)):
            await exit_rows.begin(tx, row["alias"], b"wish", now)
    monkeypatch.setattr(exit_rows, "SEGMENTS_AT_ONCE", 2)
    goes_on, steps = True, 0
    while goes_on:
        async with world.database.transaction() as tx:
            goes_on = await exit_rows.search(tx, now)
            await tx.execute("UPDATE storage.segment SET kept = NOT kept")  # each row lies elsewhere from now on
        steps += 1
    async with world.database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT n.node, e.found, (SELECT count(*) FROM storage.leaving l WHERE l.alias = e.alias) AS waiting"
            " FROM storage.exit e JOIN storage.node n USING (alias)"
        )
        assert not await exit_rows.search(tx, now), "what was found is to be moved first"
    assert {row["node"]: row["found"] for row in rows} == {row["node"]: row["waiting"] for row in rows} == had
    assert steps == len(STREAMS) // 2 + 1


async def test_what_owners_delete_meanwhile_has_gone(net: ExitWorld) -> None:
    net.wish()
    await net.world.tell()
    await net.world.exits.look()
    await net.world.drop(*STREAMS)
    await net.go_on()
    assert net.receipt is not None
    assert (net.receipt.held, net.receipt.gone) == (net.had, net.had)


@pytest.mark.parametrize(("days", "why"), [(0, "storage.exit_young"), (179, "storage.exit_young"), (181, "")])
async def test_who_was_there_too_shortly_gets_a_receipt_that_says_so(net: ExitWorld, days: int, why: Why) -> None:
    if days:
        await net.lent_for(days)
    net.wish()
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.why == why


async def test_what_is_held_of_a_nodes_pay_is_returned_when_it_has_left_in_good_order_and_of_its_accounts_with_the_last(
    net: ExitWorld,
) -> None:
    world = net.world
    other = Machine(99, account=net.leaver.account)
    await world.enrol(other)
    await net.lent_for(days=181)
    await world.places.meter()
    async with world.database.transaction() as tx:
        aliases = await tx.fetch("SELECT alias FROM storage.node WHERE node = $1", other.id)
        await tx.execute("INSERT INTO storage.lender (alias) VALUES ($1)", aliases[0]["alias"])
    net.wish()
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.why == ""
    (body,) = await returned(world)
    assert (body.node, body.last) == (net.leaver.id, False)
    first, net.leaver = net.leaver, other
    await net.lent_for(days=181)
    net.wish()
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.why == ""
    _, body = await returned(world)
    assert (body.vertical, body.node, body.account, body.last) == ("storage", other.id, first.account, True)
    assert ExitReceipt.open(body.receipt, NETWORK_KEY) == net.receipt


async def test_of_two_nodes_of_an_account_that_end_at_once_one_is_the_last(net: ExitWorld) -> None:
    world, both = net.world, asyncio.Barrier(2)
    other = Machine(99, account=net.leaver.account)
    await world.enrol(other)
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT alias FROM storage.node WHERE account = $1", net.leaver.account)
        for row in rows:
            await tx.execute("INSERT INTO storage.lender (alias) VALUES ($1) ON CONFLICT DO NOTHING", row["alias"])
            await exit_rows.begin(tx, row["alias"], b"wish", 1)

    async def end(alias: int) -> bool:
        async with world.database.transaction() as tx:
            await exit_rows.end(tx, alias, b"receipt", "")
            await both.wait()
            return await exit_rows.all_have_left(tx, net.leaver.account)

    assert sorted(await asyncio.gather(*(end(row["alias"]) for row in rows))) == [False, True]


async def test_an_exit_without_success_returns_nothing(net: ExitWorld) -> None:
    await net.world.places.meter()
    net.wish()
    await net.go_on()
    assert net.receipt is not None
    assert net.receipt.why == "storage.exit_young"
    assert await returned(net.world) == []


async def returned(world: RepairWorld) -> list[NodeLendingReturned]:
    """What the network has decided about held pay."""
    async with world.database.transaction() as tx:
        decisions = await PostgresDecisionStore().pending(tx, NodeLendingReturned.kind, 0, 10)
    return [decision.body for _, decision in decisions if isinstance(decision.body, NodeLendingReturned)]


async def test_nobody_wishes_for_another(net: ExitWorld) -> None:
    other = next(one for one in net.world.machines.values() if one is not net.leaver)
    other.wish_to_leave(net.world.clock.now_ms())
    net.leaver.wish, other.wish, other.trouble = other.wish, b"", ""
    await net.go_on()
    net.leaver.wish_to_leave(net.world.clock.now_ms(), net="lab-2")
    await net.go_on()
    assert net.leaver.says == []
    assert await net.world.count("exit") == 0
