"""The market's real rounds on a real PostgreSQL: seeded steps, lost transactions, restarts, two markets at once.

The other simulation swaps the stores for twins in memory, so it cannot find what is wrong with a statement. Here time
and chance are the seed's, everything between the rounds and the disk is the production code, and the checks read
the tables with statements of their own.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.checks import PostgresCheckStore
from fallow.adapters.postgres.database import PostgresDatabase
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.market import PostgresMarketStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.domain.batches import seal_batch
from fallow.domain.chart import Credit, Kind, Purpose, account_id, accounts_of, fund, network_accounts
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.facts import LeaseAccepted, OfferMade, UsageReceipt
from fallow.domain.fees import Fees
from fallow.domain.jobs import Needs
from fallow.domain.ledger import transfer
from fallow.domain.orders import Order, Requirements
from fallow.domain.records import Body, make_record
from fallow.domain.resources import Resources, Terms
from fallow.ports.database import Transaction
from fallow.ports.ingest_store import BatchKey, StoredBatch
from fallow.ports.registry_store import NodeRow
from fallow.services.market.brain import Brain
from fallow.services.market.inputs import Submission, Waiting
from fallow.services.market.money import Cashier
from fallow.services.market.rounds import TERM_MS, Rounds
from fallow.services.market.seeds import Seeds
from tests.market_twins import Answer, Node, Sent
from tests.market_world import buyer

NET = "sql"
START_MS, WINDOW_MS, DAY_MS = 1_700_000_000_000, 4_000, 86_400_000
POOR, GRANT = 4_000, 10**7
"""What the buyer has while things go wrong, so that reservations meet the limit, and what he gets afterwards."""
STEPS, CALM_ROUNDS_MAX = 40, 200


def _beat(node: bytes, brain: Brain, now: int) -> None:
    """A node says that it is there."""
    brain.beat(now, node=node, boot=1, leases=())


class Lossy:
    """The database, whose transactions are lost before or after they are written, as often as `odds` says."""

    def __init__(self, database: PostgresDatabase, chance: random.Random) -> None:
        self.odds = 0.0
        self._database = database
        self._chance = chance

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See the port."""
        async with self._database.transaction() as tx:
            yield tx
            self._lose()
        self._lose()

    def _lose(self) -> None:
        if self._chance.random() < self.odds:
            raise Unavailable("database.gone", "The connection was lost.")


class SqlWorld:
    """Four nodes of two owners, a buyer, and markets that come and go."""

    def __init__(self, database: PostgresDatabase, seed: int) -> None:
        self.chance = random.Random(f"{seed}/sql")
        self.now = START_MS
        self.plain = database
        self.database = Lossy(database, self.chance)
        self.nodes = {node.id: node for node in map(Node, range(4))}
        self.account = buyer(0)
        self.sent = Sent()
        self.working: dict[bytes, tuple[Node, int]] = {}
        """Windows that were reported, by accepted lease."""
        self._seen = 0
        self._orders = 0
        self.rounds, self.term = self._rounds(), 0

    def now_ms(self) -> int:
        """See the clock port; the market is alone with it."""
        return self.now

    async def sleep(self, _: float) -> None:
        """Nobody else is there."""

    async def live(self) -> None:
        """Begin, let things go wrong, and come to rest."""
        await self._begin()
        self.database.odds = 0.08
        for _ in range(STEPS):
            await self._step()
        self.database.odds = 0.0
        await self._grant(GRANT)
        for _ in range(CALM_ROUNDS_MAX):
            if await self._at_rest():
                return
            await self._serve(finish=1.0)
            self._wait(1_000)
            await self.round()
        raise AssertionError("all ends within some minutes of calm")

    async def round(self) -> None:
        """One round; a market whose round is lost starts anew."""
        try:
            await self.rounds._round(self.term)
        except FallowError:
            await self.restart()

    async def restart(self) -> None:
        """Another market takes over, as soon as it may."""
        self.rounds._inputs.fail()
        self.rounds = self._rounds()
        self.now += TERM_MS
        while True:
            try:
                async with self.database.transaction() as tx:
                    term = await self.rounds._lead(tx)
                    assert term is not None
                    await self.rounds._load(tx)
                break
            except Unavailable:
                continue
        self.term = term
        self._wait(0)

    async def _step(self) -> None:
        chance = self.chance.random()
        if chance < 0.15 and self._orders < 6:
            self._submit()
        elif chance < 0.22:
            await self.restart()
        elif chance < 0.3:
            await self._usurp()
        await self._serve(finish=0.3)
        self._wait(self.chance.choice((100, 500, 2_000)))
        await self.round()

    async def _usurp(self) -> None:
        """A market that was stopped for a while goes on, although another one leads: it must change nothing."""
        old, term = self.rounds, self.term
        await self.restart()
        await self._serve(finish=0.3)
        await self.round()
        old._log_has_news = True
        try:
            await old._round(term)
        except Unavailable:
            return
        raise AssertionError("a market that another one replaced writes nothing")

    async def _serve(self, *, finish: float) -> None:
        """Nodes accept what they are offered, and report windows and ends."""
        offered, self._seen = self.sent.proposals[self._seen :], len(self.sent.proposals)
        for lease in offered:
            if lease.id not in self.working:
                self.working[lease.id] = self.nodes[lease.node], 0
                await self._record(self.nodes[lease.node], LeaseAccepted(lease=lease.id))
        for lease_id, (node, window) in list(self.working.items()):
            if window < 0:
                continue
            final = self.chance.random() < finish
            taken_back = final and self.chance.random() < 0.3  # by the machine's owner, whose loss is made good
            used_ms = self.chance.randrange(1, WINDOW_MS) if final else WINDOW_MS
            receipt = UsageReceipt(
                lease=lease_id,
                window=window,
                used_ms=used_ms,
                final=final,
                ok=not taken_back,
                reason="owner.paused" if taken_back else "",
                caused_by="owner" if taken_back else "nobody",
                result=bytes(32) if final and not taken_back else None,
            )
            if final or self.chance.random() < 0.3:
                self.working[lease_id] = node, -1 if final else window + 1
                await self._record(node, receipt)

    def _wait(self, ms: int) -> None:
        self.now += ms
        for node in self.nodes.values():
            self.rounds._put(Waiting(partial(_beat, node.id), None))

    def _submit(self) -> None:
        self._orders += 1
        order = Order(
            id=f"{self._orders:032x}",
            vertical="compute",
            work={},
            items=["0" * 64] * 3,
            requirements=Requirements(cpu_milli=500, memory_mib=64, disk_mib=0),
            time_limit_s=600,
            replicas=self.chance.choice((1, 2)),
        )
        submission = Submission(order, self.account, Needs(compares=self.chance.random() < 0.5))
        self.rounds._put(Waiting(submission, cast("Any", Answer())))

    async def _record(self, node: Node, body: Body) -> None:
        record, _ = make_record(
            body, net=NET, node=node.id, boot=1, seq=node.seq, at=self.now, new_salt=lambda: bytes(32)
        )
        key, node.seq = BatchKey(node.id, 1, node.seq), node.seq + 1
        data = seal_batch([record], lambda _: bytes(64))
        async with self.plain.transaction() as tx:
            await PostgresIngestStore().append(tx, [StoredBatch(key, 1, 1, bytes(32), data, b"", self.now)], [])
        self.rounds._log_has_news = True

    async def _at_rest(self) -> bool:
        async with self.plain.transaction() as tx:
            open_jobs = await tx.fetch("SELECT 1 FROM market.job WHERE state = 'running' LIMIT 1")
            open_leases = await tx.fetch("SELECT 1 FROM market.lease WHERE state <> 'ended' LIMIT 1")
        return self._orders > 0 and not open_jobs and not open_leases and self.rounds._inputs.empty()

    async def _begin(self) -> None:
        ledger, registry = PostgresLedger(), PostgresRegistryStore()
        async with self.plain.transaction() as tx:
            await ledger.open_accounts(tx, [*network_accounts(), *accounts_of(self.account)])
            gifts = [fund("1", Purpose.FEE, GRANT), fund("2", Purpose.RESERVE, GRANT)]
            funded = await ledger.post(tx, gifts, self.now)
            assert all(result.ok for result in funded)
            for account in sorted({node.account for node in self.nodes.values()}):
                await registry.add_account(tx, account, None, self.now)
            for node in self.nodes.values():
                await registry.add_node(tx, NodeRow(node.id, node.account, "", self.now, ""))
        await self.restart()
        await self._grant(POOR)
        for number, node in enumerate(self.nodes.values()):
            terms = Terms(price_microusd_per_core_hour=900_000 + 1_237 * number)
            total = Resources(cpu_milli=1000, memory_mib=512, disk_mib=64)
            await self._record(node, OfferMade(offer=1, open=True, total=total, terms=terms))
        self._submit()

    async def _grant(self, amount: int) -> None:
        credit = Credit.GRANTED
        issuer, wallet = account_id(Purpose.ISSUER, credit), account_id(Purpose.WALLET, credit, self.account)
        entry = transfer(amount.to_bytes(16, "big"), issuer, wallet, amount, credit.value, Kind.GRANT.value)
        async with self.plain.transaction() as tx:
            assert all(result.ok for result in await PostgresLedger().post(tx, [entry], self.now))
        self.rounds._put(Waiting(lambda brain, now: brain.funded(now, account=self.account), None))

    def _rounds(self) -> Rounds:
        seeds = Seeds(
            net=NET,
            secret=b"s",
            sign=lambda _: bytes(64),
            epoch_ms=DAY_MS,
            store=PostgresCheckStore(),
            decisions=PostgresDecisionStore(),
        )
        return Rounds(
            holder=f"{self.chance.getrandbits(64):x}",
            fees=Fees(),
            seeds=seeds,
            window_ms=WINDOW_MS,
            clock=cast("Any", self),
            database=cast("Any", self.database),
            store=PostgresMarketStore(),
            log_store=PostgresIngestStore(),
            decisions=PostgresDecisionStore(),
            registry=PostgresRegistryStore(),
            cashier=Cashier(PostgresLedger(), PostgresBudgetStore()),
            outbound=cast("Any", self.sent),
        )
