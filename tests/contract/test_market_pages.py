"""What the market's store shows in pages: the same on PostgreSQL and in memory."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from fallow.adapters.memory.market import MemoryMarketStore
from fallow.domain import calls
from fallow.domain.jobs import Item, JobState
from fallow.domain.leases import LeaseState
from fallow.domain.offers import REFUSALS_A_NODE_MAX, REFUSALS_KEPT_MS, Refusal
from fallow.domain.verification import Vote
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.services.market.findings import Findings
from tests.contract.conftest import Stores
from tests.contract.test_market_store import ALICE, BOB, NODE, NOW, evidence, job, lease, save


async def test_items_in_pages(stores: Stores) -> None:
    first, second = job(1), job(2)
    items = {(first.order.id, index): Item(index=index) for index in (11, 2, 0, 1, 100)}
    await save(stores, jobs=[first, second], items={**items, (second.order.id, 3): Item(index=3)})
    async with stores.database.transaction() as tx:

        async def page(after: int, limit: int) -> list[int]:
            return [item.index for item in await stores.market.items(tx, first.order.id, after, limit)]

        assert await page(-1, 10) == [0, 1, 2, 11, 100]
        assert await page(-1, 2) == [0, 1]
        assert await page(1, 2) == [2, 11]
        assert await page(100, 2) == []
        assert await stores.market.items(tx, "f" * 32, -1, 10) == []


async def test_jobs_of_an_account_in_pages(stores: Stores) -> None:
    mine = [job(5, NOW), job(7, NOW), job(6, NOW + 1, state=JobState.DONE), job(4, NOW + 2)]
    await save(stores, jobs=[*mine, job(8, NOW, BOB)], items={(mine[1].order.id, 0): Item(index=0)})
    async with stores.database.transaction() as tx:

        async def page(after: str, limit: int) -> list[int]:
            return [int(one.order.id, 16) for one, _ in await stores.market.jobs(tx, ALICE, after, limit)]

        assert await page("", 10) == [4, 6, 7, 5]
        assert await page("", 2) == [4, 6]
        assert await page(mine[2].order.id, 1) == [7]
        assert await page(mine[1].order.id, 10) == [5]
        assert await page(mine[0].order.id, 10) == []
        assert await page("f" * 32, 10) == []
        assert (await stores.market.jobs(tx, ALICE, mine[2].order.id, 1))[0][1] == [Item(index=0)]
        assert await stores.market.jobs(tx, b"c" * 20, "", 10) == []
        assert await stores.market.owner(tx, f"{8:032x}") == BOB
        assert await stores.market.owner(tx, "f" * 32) is None


async def test_leases_of_a_job_in_pages(stores: Stores) -> None:
    first, second = job(1), job(2)
    ended = lease(3, first, NOW, state=LeaseState.ENDED, reason="node.vanished", caused_by="provider")
    leases = [lease(2, first, NOW), ended, lease(1, first, NOW + 1)]
    await save(stores, jobs=[first, second], leases=[*leases[::-1], lease(4, second, NOW)])
    async with stores.database.transaction() as tx:
        assert await stores.market.leases(tx, first.order.id, 0, 10) == leases
        assert await stores.market.leases(tx, first.order.id, 1, 1) == leases[1:2]
        assert await stores.market.leases(tx, first.order.id, 3, 10) == []
        assert await stores.market.leases(tx, "f" * 32, 0, 10) == []


async def test_the_first_evidence_and_refusal_stay(stores: Stores) -> None:
    votes = [Vote(lease=b"l" * 16, node=NODE, account=BOB, ok=ok, reason="", result="ab" * 32) for ok in (True, False)]
    found = [evidence(1, NOW, *votes), evidence(3, NOW + 1), evidence(2, NOW + 1, votes[0])]
    refusal = Refusal(NODE, 1, 0, "lease.ended", NOW)
    await save(stores, found=found[:2], refusals=[refusal])
    await save(stores, found=[evidence(1, NOW + 9), found[2]], refusals=[refusal._replace(code="other")])
    async with stores.database.transaction() as tx:
        assert await stores.market.evidence(tx, 10) == [found[2], found[1], found[0]]
        assert await stores.market.evidence(tx, 1) == [found[2]]
        assert await stores.market.evidence(tx, 10, found[2].lease) == [found[1], found[0]]
        assert await stores.market.evidence(tx, 1, found[1].lease) == [found[0]]
        assert await stores.market.evidence(tx, 10, found[0].lease) == []
        assert await stores.market.evidence(tx, 10, b"?" * 16) == []
        assert await stores.market.refusals_of(tx, NODE, 10) == [refusal]


async def test_much_evidence_fits_into_a_message_the_latest_first(stores: Stores) -> None:
    votes = [Vote(lease=b"l" * 16, node=NODE, account=BOB, ok=True, reason="", result="ab" * 32) for _ in range(7)]
    await save(stores, found=[evidence(number, NOW + number, *votes) for number in range(1000)])
    findings = Findings(cast("Any", None), stores.database, stores.market, cast("Any", None))
    shown = await findings.evidence(calls.base.Page(limit=1000))
    assert [one.at for one in shown] == [NOW + 999 - place for place in range(len(shown))]
    assert len(shown) > 100
    assert len(msgspec.msgpack.encode(shown)) <= MESSAGE_BYTES_MAX
    while page := await findings.evidence(calls.base.Page(after=shown[-1].lease, limit=1000)):
        shown += page
    assert [one.at for one in shown] == [NOW + 999 - place for place in range(1000)]


async def test_the_latest_refusals_of_a_node(stores: Stores) -> None:
    mine = [Refusal(NODE, boot, seq, "x", NOW) for boot in (1, 2) for seq in (0, 1)]
    await save(stores, refusals=[*mine, Refusal(b"o" * 32, 3, 0, "x", NOW)])
    async with stores.database.transaction() as tx:
        assert await stores.market.refusals_of(tx, NODE, 10) == mine[::-1]
        assert await stores.market.refusals_of(tx, NODE, 1) == mine[-1:]
        assert await stores.market.refusals_of(tx, b"n" * 32, 10) == []


async def test_postgres_keeps_the_first_refusal(postgres_stores: Stores) -> None:
    for code in ("lease.ended", "other"):
        await save(postgres_stores, refusals=[Refusal(NODE, 1, 0, code, NOW)])
    async with postgres_stores.database.transaction() as tx:
        assert [row["code"] for row in await tx.fetch("SELECT code FROM market.refusal")] == ["lease.ended"]


async def refusals(stores: Stores) -> set[tuple[bytes, int, int]]:
    if isinstance(stores.market, MemoryMarketStore):
        return set(stores.market.refusals)
    async with stores.database.transaction() as tx:
        return {(row["node"], row["boot"], row["seq"]) for row in await tx.fetch("SELECT * FROM market.refusal")}


async def test_refusals_are_bounded_by_node_and_age(stores: Stores) -> None:
    other = b"o" * 32
    old = [Refusal(other, 1, 0, "x", NOW - REFUSALS_KEPT_MS - 1), Refusal(other, 1, 1, "x", NOW - REFUSALS_KEPT_MS)]
    await save(stores, refusals=old[:1])
    await save(stores, refusals=old[1:])
    await save(stores, refusals=[Refusal(NODE, 2, 0, "x", NOW)])
    assert await refusals(stores) == {(other, 1, 1), (NODE, 2, 0)}
    await save(stores, refusals=[Refusal(NODE, 1, seq, "x", NOW) for seq in range(REFUSALS_A_NODE_MAX)])
    await save(stores)
    kept = {(NODE, 1, seq) for seq in range(1, REFUSALS_A_NODE_MAX)}
    assert await refusals(stores) == {(other, 1, 1), (NODE, 2, 0)} | kept
