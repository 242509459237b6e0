"""The market's store: the same scenarios on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec
import pytest

from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.domain.billing import MeterKey
from fallow.domain.checks import StartKey
from fallow.domain.chronicle import HOUR_MS, HOURS_KEPT, Hour
from fallow.domain.errors import Unavailable
from fallow.domain.facts import OfferMade
from fallow.domain.jobs import Item, ItemState, Job, JobState, Needs
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.offers import Evidence, Offer, Refusal
from fallow.domain.orders import Order
from fallow.domain.reserve import Tally, TallyKey, Use
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import Standing, Vote
from fallow.ports.market_store import Cursor, MarketRows, MarketState
from tests.contract.conftest import Stores, rolled_back

NOW = 1_700_000_000_000
ALICE, BOB = b"a" * 20, b"b" * 20
NODE, OTHER = b"1" * 32, b"2" * 32
SOME = Resources(cpu_milli=1000, memory_mib=256, disk_mib=64)
NOTHING = MarketState(
    jobs=[], leases=[], meters={}, tallies={}, standings={}, secrets={}, cursor=Cursor(0, 0), starting={}, hours={}
)


def job(number: int, created_at: int = NOW, account: bytes = ALICE, **changes: Any) -> Job:
    order = Order(id=f"{number:032x}", vertical="compute", work={"text": "\x00 ✓", "number": 1 << 60}, items=["0" * 64])
    return Job(order=order, account=account, needs=Needs(), created_at=created_at, **changes)


def lease(number: int, of: Job, proposed_at: int = NOW, **changes: Any) -> Lease:
    fields: dict[str, Any] = {
        "id": number.to_bytes(16, "big"),
        "job": of.order.id,
        "item": 0,
        "payer": ALICE,
        "payee": BOB,
        "node": NODE,
        "boot": 3,
        "resources": SOME,
        "price_microusd_per_hour": 10**12,
        "price_version": 1,
        "window_ms": 1000,
        "time_limit_ms": 5000,
        "proposed_at": proposed_at,
        "answer_by": proposed_at + 5,
        "held": ((1, 7), (2, 8)),
    }
    return Lease(**{**fields, **changes})


def offer(node: bytes, number: int) -> Offer:
    made = OfferMade(offer=number, open=True, total=SOME, terms=Terms(price_microusd_per_core_hour=5))
    return Offer(node=node, account=BOB, boot=1, made=made)


def evidence(number: int, at: int, *votes: Vote) -> Evidence:
    return Evidence(number.to_bytes(16, "big"), NODE, at, "result.wrong", votes)


def rows(
    *,
    jobs: Sequence[Job] = (),
    items: Mapping[tuple[str, int], Item] | None = None,
    leases: Sequence[Lease] = (),
    offers: Sequence[Offer] = (),
    meters: Mapping[MeterKey, int] | None = None,
    tallies: Mapping[TallyKey, Tally] | None = None,
    refusals: Sequence[Refusal] = (),
    standings: Mapping[bytes, Standing] | None = None,
    found: Sequence[Evidence] = (),
    secrets: Mapping[str, bytes | None] | None = None,
    cursor: Cursor = Cursor(1, 0),  # noqa: B008 - immutable
    starting: Mapping[StartKey, int] | None = None,
    hours: Mapping[int, Hour] | None = None,
    meters_over: Sequence[MeterKey] = (),
) -> MarketRows:
    return MarketRows(
        jobs,
        items or {},
        leases,
        offers,
        meters or {},
        tallies or {},
        refusals,
        standings or {},
        found,
        secrets or {},
        cursor,
        starting or {},
        hours or {},
        meters_over,
    )


async def save(stores: Stores, **changed: Any) -> None:
    async with stores.database.transaction() as tx:
        await stores.market.save(tx, rows(**changed))


async def load(stores: Stores) -> MarketState:
    async with stores.database.transaction() as tx:
        return await stores.market.load(tx)


async def offers(stores: Stores, after: bytes = b"", limit: int = 1000) -> list[Offer]:
    async with stores.database.transaction() as tx:
        return await stores.market.offers(tx, after, limit)


async def lead(stores: Stores, holder: str, now: int, until: int) -> int | None:
    async with stores.database.transaction() as tx:
        return await stores.market.lead(tx, holder, now, until)


# Who leads


async def test_one_holder_leads_until_its_term_is_over(stores: Stores) -> None:
    first = await lead(stores, "a", NOW, NOW + 10)
    assert first is not None
    assert await lead(stores, "b", NOW + 9, NOW + 20) is None
    assert await lead(stores, "a", NOW + 9, NOW + 15) == first
    assert await lead(stores, "b", NOW + 14, NOW + 20) is None
    async with stores.database.transaction() as tx:
        assert await stores.market.until(tx) == NOW + 15
    second = await lead(stores, "b", NOW + 15, NOW + 20)
    assert second == first + 1
    assert await lead(stores, "a", NOW + 15, NOW + 30) is None
    async with stores.database.transaction() as tx:
        await stores.market.confirm(tx, second)
    with pytest.raises(Unavailable, match="Another market") as caught:
        async with stores.database.transaction() as tx:
            await stores.market.confirm(tx, first)
    assert caught.value.code == "market.not_leading"


async def test_stepping_down_lets_the_next_one_begin(stores: Stores) -> None:
    first = await lead(stores, "a", NOW, NOW + 10)
    assert first is not None
    async with stores.database.transaction() as tx:
        await stores.market.step_down(tx, first, NOW + 1)
    second = await lead(stores, "b", NOW + 1, NOW + 10)
    assert second == first + 1
    async with stores.database.transaction() as tx:  # what ended long ago ends nobody else's term
        await stores.market.step_down(tx, first, NOW + 2)
    assert await lead(stores, "a", NOW + 3, NOW + 30) is None


async def test_a_rolled_back_term_never_was(stores: Stores) -> None:
    async with rolled_back(stores) as tx:
        await stores.market.lead(tx, "a", NOW, NOW + 10)
    assert await lead(stores, "b", NOW, NOW + 10) is not None


async def test_of_many_at_once_one_leads(stores: Stores) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lead(stores, f"holder{number}", NOW, NOW + 10)) for number in range(8)]
    assert len([task for task in tasks if task.result() is not None]) == 1


async def test_a_confirmed_term_does_not_end_within_the_transaction(stores: Stores) -> None:
    term = await lead(stores, "a", NOW, NOW + 10)
    assert term is not None
    order: list[str] = []

    async def other() -> None:
        assert await lead(stores, "b", NOW + 11, NOW + 20) == term + 1
        order.append("other leads")

    async with asyncio.TaskGroup() as group:  # noqa: SIM117 - the group must not hold the transaction open
        async with stores.database.transaction() as tx:
            await stores.market.confirm(tx, term)
            group.create_task(other())
            for _ in range(20):  # time for the other one to get in, if nothing kept it out
                await stores.market.owner(tx, "0" * 32)
                await asyncio.sleep(0)
            await stores.market.save(tx, rows(jobs=[job(1)]))
            order.append("saved")
    assert order == ["saved", "other leads"]


# What is kept


async def test_all_that_is_open_is_loaded(stores: Stores) -> None:
    assert await load(stores) == NOTHING
    jobs = [job(2, NOW), job(3, NOW), job(1, NOW + 1)]
    items = [Item(index=index, state=ItemState.PLACED, leases=(b"l" * 16,), shunned=(NODE,)) for index in range(3)]
    leases = [lease(9, jobs[1], NOW), lease(1, jobs[0], NOW + 1, state=LeaseState.RUNNING, started_at=NOW + 2)]
    meters = {(ALICE, BOB, 1): 10**40, (b"", BOB, 2): 0}
    standings = {NODE: Standing(confirmed=3, wrong=1, wrong_at=NOW), OTHER: Standing()}
    await save(
        stores,
        jobs=jobs[::-1],
        items={(jobs[0].order.id, item.index): item for item in items[::-1]},
        leases=leases[::-1],
        offers=[offer(NODE, 1), offer(OTHER, 2)],
        meters=meters,
        standings=standings,
        cursor=Cursor(17, 3),
    )
    state = await load(stores)
    assert state.jobs == [(jobs[0], items), (jobs[1], []), (jobs[2], [])]
    assert state.leases == leases
    assert await offers(stores) == [offer(NODE, 1), offer(OTHER, 2)]
    assert await offers(stores, limit=1) == [offer(NODE, 1)]
    assert await offers(stores, NODE) == [offer(OTHER, 2)]
    assert await offers(stores, OTHER) == []
    assert (state.meters, state.standings, state.cursor) == (meters, standings, Cursor(17, 3))


async def test_later_versions_replace_earlier_ones(stores: Stores) -> None:
    first, item, held = job(1), Item(index=0), lease(1, job(1))
    await save(
        stores,
        jobs=[first, job(2)],
        items={(first.order.id, 0): item, (first.order.id, 1): Item(index=1)},
        leases=[held],
        offers=[offer(NODE, 1)],
        meters={(ALICE, BOB, 1): 1},
        standings={NODE: Standing()},
    )
    ended = msgspec.structs.replace(first, state=JobState.DONE, ended_at=NOW + 5)
    done = msgspec.structs.replace(item, state=ItemState.DONE, result="ab" * 32)
    over = msgspec.structs.replace(held, state=LeaseState.ENDED, reason="x", caused_by="nobody", held=())
    await save(
        stores,
        jobs=[ended],
        items={(first.order.id, 0): done},
        leases=[over],
        offers=[offer(NODE, 2)],
        meters={(ALICE, BOB, 1): 2},
        standings={NODE: Standing(confirmed=1)},
        cursor=Cursor(2, 1),
    )
    state = await load(stores)
    assert (state.jobs, state.leases) == ([(job(2), [])], [])
    assert await offers(stores) == [offer(NODE, 2)]
    assert (state.meters, state.standings) == ({(ALICE, BOB, 1): 2}, {NODE: Standing(confirmed=1)})
    assert state.cursor == Cursor(2, 1)
    async with stores.database.transaction() as tx:
        known = await stores.market.jobs_by_id(tx, [first.order.id, "f" * 32])
        assert known == {first.order.id: (ended, [done, Item(index=1)])}
        assert await stores.market.jobs_by_id(tx, []) == {}
        assert await stores.market.leases(tx, first.order.id, 0, 10) == [over]


async def test_meters_that_are_over_are_gone_and_no_others(stores: Stores) -> None:
    meters = {(ALICE, BOB, 1): 1, (ALICE, BOB, 2): 2, (b"", BOB, 1): 3, (ALICE, ALICE, 1): 4}
    await save(stores, meters=meters)
    await save(stores, meters_over=[(ALICE, BOB, 1), (b"", BOB, 1)])
    assert (await load(stores)).meters == {(ALICE, BOB, 2): 2, (ALICE, ALICE, 1): 4}


async def test_the_latest_hours_are_loaded_as_they_were_written_last(stores: Stores) -> None:
    await save(stores, hours={5: Hour(nodes=3), 6: Hour(nodes=None, done=2**40)})
    await save(stores, hours={6: Hour(nodes=7, done=2**40 + 1, failed=2, cancelled=3)})
    assert (await load(stores)).hours == {5: Hour(nodes=3), 6: Hour(7, 2**40 + 1, 2, 3)}
    await save(stores, hours={at: Hour(nodes=at) for at in range(7, HOURS_KEPT + 6)})
    assert sorted((await load(stores)).hours) == list(range(6, HOURS_KEPT + 6))


async def test_jobs_that_ended_before_there_were_hours_are_in_them(postgres_dsn: str) -> None:
    steps = builtin("market")
    (hours,) = (place for place, step in enumerate(steps) if step.name == "0008_hours.sql")
    ended = [("done", 5), ("done", 5), ("failed", 5), ("cancelled", 9), ("done", 9), ("running", None)]
    async with open_database(postgres_dsn, pool_size=1) as database:
        await migrate(database, steps[:hours])
        async with database.transaction() as tx:
            for number, (state, hour) in enumerate(ended):
                await tx.execute(
                    "INSERT INTO market.job (id, account, state, created_at, ended_at, doc)"
                    " VALUES ($1, $2, $3, 0, $4, '')",
                    str(number),
                    ALICE,
                    state,
                    None if hour is None else hour * HOUR_MS + number,
                )
        await migrate(database, steps)
        async with database.transaction() as tx:
            rows = await tx.fetch("SELECT hour, nodes, done, failed, cancelled FROM market.hour ORDER BY hour")
    assert [tuple(row.values()) for row in rows] == [(5, None, 2, 1, 0), (9, None, 3, 1, 1)]


async def test_what_the_reserve_paid_is_added_up_once(stores: Stores) -> None:
    first = job(1)
    given: dict[str, Any] = {"state": LeaseState.ENDED, "ended_at": NOW, "held": ()}
    leases = [
        lease(1, first, reason="owner.paused", made_good_microusd=10**30, **given),
        lease(2, first, reason="owner.paused", made_good_microusd=2, **given),
        lease(3, first, reason="result.inconclusive", refunded_microusd=7, **given),
        lease(4, first, reason="owner.paused", payee=ALICE, made_good_microusd=8, **given),
        lease(5, first, reason="node.vanished", **given),
    ]
    await save(stores, jobs=[first], leases=leases)
    await save(stores, leases=leases[1:3])
    async with stores.database.transaction() as tx:
        assert await stores.market.reserve_uses(tx, 10) == [
            Use(BOB, "owner.paused", 2, 0, 10**30 + 2),
            Use(ALICE, "owner.paused", 1, 0, 8),
            Use(BOB, "result.inconclusive", 1, 7, 0),
        ]
        assert len(await stores.market.reserve_uses(tx, 1)) == 1


async def test_a_rollback_leaves_nothing_of_a_round(stores: Stores) -> None:
    first = job(1)
    async with rolled_back(stores) as tx:
        changed = rows(
            jobs=[first],
            items={(first.order.id, 0): Item(index=0)},
            leases=[lease(1, first)],
            offers=[offer(NODE, 1)],
            meters={(ALICE, BOB, 1): 1},
            refusals=[Refusal(NODE, 1, 0, "lease.ended", NOW)],
            standings={NODE: Standing()},
            found=[evidence(1, NOW)],
            hours={1: Hour(nodes=1)},
            cursor=Cursor(9, 9),
        )
        await stores.market.save(tx, changed)
    assert await load(stores) == NOTHING
    async with stores.database.transaction() as tx:
        assert await stores.market.jobs_by_id(tx, [first.order.id]) == {}
        assert await stores.market.items(tx, first.order.id, -1, 10) == []
        assert await stores.market.leases(tx, first.order.id, 0, 10) == []
        assert await stores.market.evidence(tx, 10) == []
        assert await stores.market.owner(tx, first.order.id) is None


async def test_jobs_whose_blobs_are_kept(stores: Stores) -> None:
    opened, lately, long_ago, canary, proves = (
        job(1),
        *(
            job(number, state=JobState.DONE, ended_at=NOW + ended)
            for number, ended in ((2, 1000), (3, 10), (4, 10), (5, 10))
        ),
    )
    odd = job(6, state=JobState.FAILED, ended_at=NOW + 10, reason='"ended_at":9')
    jobs = [opened, lately, long_ago, canary, proves, odd]
    async with stores.database.transaction() as tx:
        await stores.market.save(
            tx,
            rows(
                jobs=jobs,
                leases=[lease(1, proves)],
                found=[evidence(1, NOW)],
                items={(proves.order.id, 0): Item(index=0)},
            ),
        )
        also = [canary.order.id, "f" * 32]
        kept = await stores.market.kept_jobs(tx, NOW + 500, also, "", 10)
        assert kept == [each.order.id for each in (opened, lately, canary, proves)]
        assert await stores.market.kept_jobs(tx, NOW + 500, also, kept[1], 1) == [canary.order.id]
        assert await stores.market.kept_jobs(tx, NOW + 500, also, kept[-1], 10) == []
        assert odd.order.id in await stores.market.kept_jobs(tx, NOW, [], "", 10)
        assert await stores.market.job(tx, odd.order.id) == odd
        assert await stores.market.job(tx, "f" * 32) is None
    ended = msgspec.structs.replace(opened, state=JobState.CANCELLED, ended_at=NOW)
    async with stores.database.transaction() as tx:
        await stores.market.save(tx, rows(jobs=[ended]))
        assert await stores.market.kept_jobs(tx, NOW + 500, [], "", 10) == [lately.order.id, proves.order.id]


async def test_evidence_of_one_job(stores: Stores) -> None:
    first, second = job(1), job(2)
    leases = [lease(1, first), lease(2, second), lease(3, first)]
    found = [evidence(int.from_bytes(each.id, "big"), NOW + at) for at, each in enumerate(leases)]
    await save(stores, jobs=[first, second], leases=leases, found=found)
    async with stores.database.transaction() as tx:
        assert await stores.market.evidence_of(tx, first.order.id, 10) == [found[2], found[0]]
        assert await stores.market.evidence_of(tx, first.order.id, 1) == [found[2]]
        assert await stores.market.evidence_of(tx, "f" * 32, 10) == []


async def test_nothing_is_shared_with_who_saved_or_loaded(stores: Stores) -> None:
    first = job(1)
    await save(stores, jobs=[first])
    first.order.work["number"] = 2
    (loaded, _), *_ = (await load(stores)).jobs
    loaded.order.work["number"] = 3
    assert (await load(stores)).jobs == [(job(1), [])]


async def test_what_belongs_to_no_job_is_refused(stores: Stores) -> None:
    for orphan in ({"items": {("f" * 32, 0): Item(index=0)}}, {"leases": [lease(1, job(1))]}):
        with pytest.raises((LookupError, asyncpg.ForeignKeyViolationError)):
            await save(stores, **orphan)
    assert await load(stores) == NOTHING


async def test_secrets_are_kept_until_they_are_deleted(stores: Stores) -> None:
    await save(stores, jobs=[job(1), job(2)], secrets={job(1).order.id: b"one", job(2).order.id: b"two"})
    assert (await load(stores)).secrets == {job(1).order.id: b"one", job(2).order.id: b"two"}
    await save(stores, jobs=[job(3)], secrets={job(1).order.id: None, job(3).order.id: None})
    assert (await load(stores)).secrets == {job(2).order.id: b"two"}


async def test_what_the_reserve_paid_is_kept(stores: Stores) -> None:
    await save(stores, tallies={(ALICE, 1): Tally(7, 3), (ALICE, 2): Tally(10**40, 10**39)})
    await save(stores, tallies={(ALICE, 1): Tally(8, 8)})
    assert (await load(stores)).tallies == {(ALICE, 1): Tally(8, 8), (ALICE, 2): Tally(10**40, 10**39)}


async def test_what_nodes_got_of_the_starting_credit_is_kept(stores: Stores) -> None:
    await save(stores, starting={(NODE, 20_000): 7, (NODE, 20_001): 10**40})
    await save(stores, starting={(NODE, 20_000): 0, (OTHER, 20_000): 5})
    assert (await load(stores)).starting == {(NODE, 20_000): 0, (NODE, 20_001): 10**40, (OTHER, 20_000): 5}
