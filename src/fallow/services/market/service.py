"""The market's face: what gateways and nodes may ask and say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from fallow.domain import calls
from fallow.domain.canaries import check_planted
from fallow.domain.errors import NotFound
from fallow.domain.identity import address, address_text, node_id
from fallow.domain.jobs import Item, Job, check_comparison, results_wanted
from fallow.domain.matching import Wish
from fallow.domain.orders import Order
from fallow.domain.views.checks import EvidenceView
from fallow.domain.views.jobs import ItemView, JobView, LeaseView, QuoteView
from fallow.domain.views.market import MapView, MarketView
from fallow.domain.views.money import BalanceView
from fallow.domain.views.nodes import NodeView, StandingView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.market_store import MarketStore
from fallow.ports.mishaps import steadily
from fallow.ports.registry_store import RegistryStore
from fallow.ports.rpc import Empty, call, serve, serve_many
from fallow.ports.tasks import background
from fallow.ports.vertical.control import Comparer
from fallow.ports.vertical.plugin import Vertical
from fallow.services.market.brain import Brain
from fallow.services.market.comparisons import Comparisons
from fallow.services.market.dispatch import wish_of
from fallow.services.market.field_map import DRAWN_EVERY_MS, draw
from fallow.services.market.findings import Findings
from fallow.services.market.funds import Funds
from fallow.services.market.hearing import Hearing
from fallow.services.market.inputs import INPUTS_A_ROUND_MAX, Submission
from fallow.services.market.kept import Kept
from fallow.services.market.measuring import Measuring
from fallow.services.market.money import Cashier
from fallow.services.market.needs import needs_of
from fallow.services.market.owned import Owned
from fallow.services.market.reach import lease_to_reach
from fallow.services.market.rollcalls import RollCalls
from fallow.services.market.rollup import Rollup
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.show import (
    PAGE_BYTES_MAX,
    RunningOf,
    TrustOf,
    evidence_view,
    first_deposit,
    first_of,
    item_view,
    job_view,
    lease_view,
    node_view,
    quote,
    standing_view,
)
from fallow.services.market.totals import COUNTED_EVERY_MS, count
from fallow.services.market.vault import Vault

QUEUE = "market"
STANDBY_POLL_S = 0.2
REFUSALS_SHOWN = 10
STANDINGS_AT_ONCE = 4
NODE_IN_SUBJECT = 2


class Market:
    """Serves `market.*` while its rounds lead; a copy that stands by serves nothing."""

    def __init__(
        self,
        *,
        rounds: Rounds,
        seeds: Seeds,
        cashier: Cashier,
        vault: Vault,
        verticals: Mapping[str, Vertical],
        comparers: Mapping[str, Comparer],
        bus: Bus,
        clock: Clock,
        database: Database,
        store: MarketStore,
        registry: RegistryStore,
        roll_calls: RollCalls,
    ) -> None:
        self._rounds = rounds
        self._funds = Funds(clock, database, cashier)
        self._kept = Kept(database, store, seeds)
        self._findings = Findings(rounds, database, store, seeds)
        self._hearing = Hearing(rounds, bus, clock, database, registry)
        self._owned = Owned(rounds, clock, database, store, registry)
        self._totals = Rollup(partial(count, rounds), COUNTED_EVERY_MS, clock)
        self.measure = Measuring(rounds, self._totals.latest).measure
        self._map = Rollup(partial(draw, rounds), DRAWN_EVERY_MS, clock)
        self._looking = asyncio.Lock()
        self._vault = vault
        self._verticals = verticals
        self._comparisons = Comparisons(rounds, comparers, clock)
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._registry = registry
        self._roll_calls = roll_calls

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Act, or stand by, while the context is open."""
        async with (
            self._rounds.running(),
            background(
                steadily("market.funds", self._funds.run, self._clock),
                steadily("market.comparisons", self._comparisons.run, self._clock),
                self._serve_while_leading(),
            ),
        ):
            yield

    async def _serve_while_leading(self) -> None:
        while True:
            await self._rounds.leading.wait()
            async with self._serving():
                while self._rounds.leading.is_set():
                    await self._clock.sleep(STANDBY_POLL_S)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        bus = self._bus
        async with AsyncExitStack() as stack:  # Python nests no more than 20 in one statement
            for context in (
                serve(
                    bus, calls.jobs.SUBMIT, calls.jobs.Submit, self.submit, queue=QUEUE, concurrency=INPUTS_A_ROUND_MAX
                ),
                serve(bus, calls.jobs.PLANT, calls.jobs.Submit, self.plant, queue=QUEUE),
                serve(bus, calls.jobs.CANCEL, calls.jobs.JobRef, self.cancel, queue=QUEUE),
                serve(bus, calls.jobs.QUOTE, calls.jobs.Enquire, self.quote, queue=QUEUE),
                serve(bus, calls.jobs.JOB, calls.jobs.JobRef, self.job, queue=QUEUE),
                serve(bus, calls.jobs.JOBS, calls.base.AccountRef, self.jobs, queue=QUEUE),
                serve(bus, calls.jobs.ITEMS, calls.jobs.JobRef, self.items, queue=QUEUE),
                serve(bus, calls.jobs.LEASES, calls.jobs.JobRef, self.leases, queue=QUEUE),
                serve(bus, calls.market.OFFERS, calls.market.OffersRef, self.offers, queue=QUEUE),
                serve(bus, calls.nodes.OWN_NODES, calls.base.AccountRef, self._owned.nodes, queue=QUEUE),
                serve(bus, calls.market.TOTALS, Empty, self.totals, queue=QUEUE),
                serve(bus, calls.market.MAP, calls.market.MapRef, self.map, queue=QUEUE),
                serve_many(
                    bus, calls.nodes.standing("*"), Empty, self.standing, queue=QUEUE, concurrency=STANDINGS_AT_ONCE
                ),
                serve(bus, calls.streams.STREAM, calls.streams.StreamRef, self.stream, queue=QUEUE),
                serve(bus, calls.checks.EVIDENCE, calls.base.Page, self._findings.evidence, queue=QUEUE),
                serve(bus, calls.jobs.KEPT_JOBS, calls.jobs.KeptJobs, self._kept.jobs, queue=QUEUE),
                serve(bus, calls.jobs.JOB_BLOBS, calls.jobs.JobBlobsRef, self._kept.blobs, queue=QUEUE),
                serve(bus, calls.checks.RERUNS, calls.base.Page, self._findings.reruns, queue=QUEUE),
                serve(bus, calls.jobs.ORDER, calls.jobs.JobRef, self.order, queue=QUEUE),
                serve(bus, calls.checks.JOB_EVIDENCE, calls.jobs.JobRef, self.job_evidence, queue=QUEUE),
                serve(bus, calls.money.RESERVE_USES, dict[str, str], self._findings.reserve_uses, queue=QUEUE),
                serve(bus, calls.checks.SEEDS, dict[str, str], self._findings.seeds, queue=QUEUE),
                serve(bus, calls.checks.SEED_PARTS, calls.checks.SeedRef, self._findings.seed_parts, queue=QUEUE),
                serve(bus, calls.checks.PLEDGE_PART, calls.checks.PledgePart, self._findings.pledge_part, queue=QUEUE),
                serve(bus, calls.checks.SHOW_PART, calls.checks.ShowPart, self._findings.show_part, queue=QUEUE),
                serve(bus, calls.checks.DRAWS, calls.checks.DrawsRef, self._findings.draws, queue=QUEUE),
            ):
                await stack.enter_async_context(context)
            await stack.enter_async_context(self._hearing.running())
            for name, run in (
                ("market.rolls", self._roll_calls.run),
                ("market.totals", self._totals.run),
                ("market.map", self._map.run),
            ):
                await stack.enter_async_context(background(steadily(name, run, self._clock)))
            yield

    # What gateways ask

    async def submit(self, request: calls.jobs.Submit) -> JobView:
        """Take an order.

        Raises:
            InvalidInput: its vertical is unknown or refuses the work.
            InsufficientFunds: the account could not even pay for the first window, or its budget does not cover it.
            Conflict: the id is taken by another order.
        """
        account = address(request.account)
        needs = needs_of(self._verticals, request)
        check_comparison(request.order, needs)
        wish = wish_of(request.order, needs, account)
        async with self._looking:
            for _ in self._rounds.brain.learn(wish):
                await asyncio.sleep(0)  # others get their turn
            deposit = self._first_deposit(request.order, wish)
            await asyncio.sleep(0)
        await self._funds.check(account, deposit)
        locked = self._vault.lock(request.order.id, request.secrets) if request.secrets else None
        job: Job = await self._rounds.ask(Submission(request.order, account, needs, locked=locked))
        return await self._view(account, job.order.id)

    async def cancel(self, request: calls.jobs.JobRef) -> JobView:
        """End a job."""
        account = address(request.account)
        await self._rounds.ask(partial(Brain.cancel, job_id=request.job, account=account))
        return await self._view(account, request.job)

    async def plant(self, request: calls.jobs.Submit) -> JobView:
        """Take work of the operator's, on the network's account, that canaries are made of.

        Raises:
            InvalidInput: its vertical is unknown or refuses the work, or `check_planted` the order.
            Conflict: the id is taken by another order.
        """
        account = address(request.account)
        check_planted(request.order)
        needs = needs_of(self._verticals, msgspec.structs.replace(request, secrets={}))
        needs = msgspec.structs.replace(needs, compares=True, proves=True)
        job: Job = await self._rounds.ask(Submission(request.order, account, needs, planted=True, by=request.by))
        return await self._view(account, job.order.id)

    async def quote(self, request: calls.jobs.Enquire) -> QuoteView:
        """Say where an order could run and for how much, before any money moves; or a job that waits, now."""
        buyer, order = address(request.account), request.order
        entry = self._rounds.brain.jobs.get(order.id)
        if entry is not None and entry.job.account == buyer:
            order, needs = entry.job.order, entry.job.needs
        else:
            asked = calls.jobs.Submit(account=request.account, order=order, secrets=dict.fromkeys(request.secrets, ""))
            needs = needs_of(self._verticals, asked)
            check_comparison(order, needs)
        window_ms, now = self._rounds.first_window_ms(order), self._clock.now_ms()
        wish = wish_of(order, needs, buyer)
        shown = quote(self._rounds.brain, wish, window_ms, now, buyer, order.budget_microusd)
        compare = "tolerance" if order.tolerance is not None else "exact" if needs.compares else "none"
        return msgspec.structs.replace(shown, replicas=results_wanted(order, needs), compare=compare)

    async def job(self, request: calls.jobs.JobRef) -> JobView:
        """Show a job."""
        return await self._view(address(request.account), request.job)

    async def jobs(self, request: calls.base.AccountRef) -> list[JobView]:
        """Show an account's jobs, the latest first."""
        account = address(request.account)
        async with self._database.transaction() as tx:
            rows = await self._store.jobs(tx, account, request.after, request.limit)
        trust_of, running_of = self._trust_for(account), self._running()
        return [job_view(job, items, self._reserved(job.order.id), trust_of, running_of) for job, items in rows]

    async def items(self, request: calls.jobs.JobRef) -> list[ItemView]:
        """Show a job's items with an index above `after`."""
        account = address(request.account)
        entry, trust_of = self._rounds.brain.jobs.get(request.job), self._trust_for(account)
        running_of = self._running()
        if entry is not None and entry.job.account == account:
            indexes = range(request.after + 1, min(request.after + 1 + request.limit, len(entry.items)))
            return [item_view(entry.items[index], trust_of, running_of) for index in indexes]
        async with self._database.transaction() as tx:
            if await self._store.owner(tx, request.job) != account:
                raise _unknown(request.job)
            items = await self._store.items(tx, request.job, request.after, request.limit)
        return [item_view(item, trust_of, running_of) for item in items]

    async def leases(self, request: calls.jobs.JobRef) -> list[LeaseView]:
        """Show a job's leases, the oldest first; `after` is the position of the last one seen."""
        async with self._database.transaction() as tx:
            if await self._store.owner(tx, request.job) != address(request.account):
                raise _unknown(request.job)
            leases = await self._store.leases(tx, request.job, request.after + 1, request.limit)
        now = self._clock.now_ms()
        return [lease_view(lease, now) for lease in leases]

    async def stream(self, request: calls.streams.StreamRef) -> calls.streams.StreamGrant:
        """Let an account reach the work of its item; raises what `lease_to_reach` raises."""
        lease = lease_to_reach(self._rounds.brain, address(request.account), request.job, request.item)
        ticket = self._rounds.outbound.stream_ticket(lease, request.purpose, self._clock.now_ms())
        return calls.streams.StreamGrant(node=lease.node.hex(), lease=lease.id.hex(), ticket=ticket)

    async def offers(self, page: calls.market.OffersRef) -> list[NodeView]:
        """Show nodes with an offer, by id; fewer than asked for where they would not fit into one message."""
        floor, now = self._rounds.brain.floor, self._clock.now_ms()
        shown = floor.behind(node_id(page.after) if page.after else b"", page.limit)
        labels = await self._labels(shown) if page.labels else {}
        brain = self._rounds.brain
        views = (
            node_view(
                floor.slots[node],
                brain.judging.standing(node),
                labels.get(node, ""),
                now,
                trust=brain.trust_of(node, now),
                banned=brain.shut_out(floor.slots[node]),
            )
            for node in shown
        )
        return list(first_of(views, PAGE_BYTES_MAX))

    async def totals(self, _: Empty) -> MarketView:
        """Show all nodes and open jobs together, as they were a moment ago."""
        return await self._totals.latest()

    async def map(self, ask: calls.market.MapRef) -> MapView:
        """Show where nodes are, as far as the public may know, as it was a moment ago.

        Raises:
            InvalidInput: what it is to be shown around is no cell, or too fine a one.
        """
        return (await self._map.latest()).view(ask.resolution, ask.around)

    async def standing(self, subject: str, _: Empty) -> StandingView:
        """Tell a node how it stands; who asks is known by the subject, which no other node may send to."""
        node = node_id(subject.split(".")[NODE_IN_SUBJECT])
        async with self._database.transaction() as tx:
            refusals = await self._store.refusals_of(tx, node, REFUSALS_SHOWN)
            row = await self._registry.node(tx, node)
        earned: dict[str, int] = {}
        if row is not None:
            ask = calls.base.AccountRef(account=address_text(row.account))
            earned = (await call(self._bus, calls.money.BALANCE, ask, BalanceView)).earned
        return standing_view(self._rounds.brain, node, refusals, earned, self._clock.now_ms())

    async def order(self, request: calls.jobs.JobRef) -> Order:
        """Show what a job was ordered as."""
        job, _ = await self._find(address(request.account), request.job)
        return job.order

    async def job_evidence(self, request: calls.jobs.JobRef) -> list[EvidenceView]:
        """Show why nodes that worked on a job were found wrong, the latest first; fewer where they are too long."""
        async with self._database.transaction() as tx:
            if await self._store.owner(tx, request.job) != address(request.account):
                raise _unknown(request.job)
            found = await self._store.evidence_of(tx, request.job, request.limit)
        return list(first_of(map(evidence_view, found), PAGE_BYTES_MAX))

    # Inside

    async def _labels(self, nodes: Sequence[bytes]) -> dict[bytes, str]:
        async with self._database.transaction() as tx:
            return {row.node: row.label for row in await self._registry.nodes(tx, nodes)}

    def _first_deposit(self, order: Order, wish: Wish) -> int:
        window_ms = self._rounds.first_window_ms(order)
        return first_deposit(self._rounds.brain, wish, window_ms, self._clock.now_ms())

    async def _find(self, account: bytes, job_id: str) -> tuple[Job, Sequence[Item]]:
        entry = self._rounds.brain.jobs.get(job_id)
        if entry is not None:
            found: tuple[Job, Sequence[Item]] | None = (entry.job, list(entry.items.values()))
        else:
            async with self._database.transaction() as tx:
                found = (await self._store.jobs_by_id(tx, [job_id])).get(job_id)
        if found is None or found[0].account != account:
            raise _unknown(job_id)
        return found

    async def _view(self, account: bytes, job_id: str) -> JobView:
        job, items = await self._find(account, job_id)
        return job_view(job, items, self._reserved(job_id), self._trust_for(account), self._running())

    def _trust_for(self, buyer: bytes) -> TrustOf:
        return partial(self._rounds.brain.trust_of, now=self._clock.now_ms(), buyer=buyer)

    def _running(self) -> RunningOf:
        return partial(self._rounds.brain.running_ms, now=self._clock.now_ms())

    def _reserved(self, job_id: str) -> int:
        entry = self._rounds.brain.jobs.get(job_id)
        return sum(entry.reserved.values()) if entry else 0


def _unknown(job_id: str) -> NotFound:
    return NotFound("job.unknown", f"There is no job {job_id} of this account.", "List them: fallow job ls")
