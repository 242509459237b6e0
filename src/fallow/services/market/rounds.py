"""The market at work: rounds of gathering inputs, applying them, writing everything in one transaction, then telling.

One market acts at a time; other copies stand by and take over when its term runs out. Whatever a round cannot write
is dropped together with the state in memory, and both are loaded again from what is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fallow.domain.checks import Starting
from fallow.domain.chronicle import Chronicle
from fallow.domain.draws import Seed
from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.domain.fees import Fees
from fallow.domain.orders import Order
from fallow.ports.acting import action_of, note
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.ingest_store import IngestStore, LoggedBatch
from fallow.ports.market_store import Cursor, MarketStore
from fallow.ports.mishaps import MISHAPS, internal
from fallow.ports.registry_store import RegistryStore
from fallow.ports.steady import Steady
from fallow.ports.tasks import background
from fallow.services.market.brain import Brain
from fallow.services.market.canaries import Canaries
from fallow.services.market.care import Care
from fallow.services.market.changes import Changes
from fallow.services.market.decisions import decided
from fallow.services.market.dispatch import dispatch
from fallow.services.market.floor import Floor
from fallow.services.market.inputs import Input, Inputs, Submission, Waiting, answer_all, apply
from fallow.services.market.intake import apply_log, next_of, set_aside
from fallow.services.market.money import Cashier, Misposted
from fallow.services.market.outbound import Outbound
from fallow.services.market.reruns import Reruns
from fallow.services.market.rows import rows_of
from fallow.services.market.seeds import Seeds
from fallow.services.market.starting import StartingCredit

BATCHES_A_ROUND_MAX = 64
OFFERS_AT_ONCE = 1_000
TICK_S = 0.25
STANDBY_S = 1.0
TERM_MS = 5_000
ASLEEP_MS = 2_000
"""Rounds are a quarter of a second apart. When it was so much, this process did not run, or the clock jumped."""

log = logging.getLogger(__name__)

NO_SEED = Seed(0, b"")
"""Before anything is loaded nothing is drawn; the store takes no draw from it."""


class Rounds:
    """The heart: everything that changes the market passes through `ask` or `tell`, one round after the other."""

    def __init__(
        self,
        *,
        holder: str,
        fees: Fees,
        starting: Starting = Starting(),  # noqa: B008 - immutable
        seeds: Seeds,
        window_ms: int,
        clock: Steady,
        database: Database,
        store: MarketStore,
        log_store: IngestStore,
        decisions: DecisionStore,
        registry: RegistryStore,
        cashier: Cashier,
        outbound: Outbound,
    ) -> None:
        self._holder = holder
        self._fees = fees
        self._starting = starting
        self._seeds = seeds
        self._window_ms = window_ms
        self._clock = clock
        self._database = database
        self._store = store
        self._log_store = log_store
        self._decisions = decisions
        self._registry = registry
        self._cashier = cashier
        self.outbound = outbound
        self._inputs = Inputs()
        self._wake = asyncio.Event()
        self._log_has_news = True
        self._bans_have_news = True
        self._cursor = Cursor(0, 0)
        self._care = Care()
        self.brain = Brain(fees, NO_SEED)
        self.refused = Counter[str]()
        self.leading = asyncio.Event()
        self.to_compare = asyncio.Event()
        """Results wait to be compared."""

    @property
    def position(self) -> int:
        """How far the log was applied."""
        return self._cursor.pos

    @property
    def inputs_waiting(self) -> int:
        """How many inputs the next rounds have before them."""
        return len(self._inputs)

    async def ask(self, what: Input | Submission) -> Any:  # noqa: ANN401 - whatever the input answers
        """Have an input applied, and return its answer once it is written.

        Raises:
            FallowError: as the input raised it; Unavailable when the market cannot act now.
        """
        if not self.leading.is_set():
            raise Unavailable("market.standby", "The market is starting.", "Try again in a moment.")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put(Waiting(what, answer))
        return await answer

    def tell(self, what: Input) -> None:
        """Have an input applied; nobody waits for it, and it is dropped when too many do."""
        if self.leading.is_set() and not self._inputs.full():
            self._put(Waiting(what, None))

    def first_window_ms(self, order: Order) -> int:
        """How long the first window of an order's leases is."""
        return min(self._window_ms, order.lease_limit_s * 1000)

    def heard(self, node: bytes, boot: int, leases: Iterable[bytes]) -> None:
        """Take in a node's sign of life: nothing of it is written, so that it needs no round of its own."""
        if self.leading.is_set():
            self.brain.beat(self._clock.now_ms(), node=node, boot=boot, leases=leases)

    def log_has_news(self) -> None:
        """Ingest wrote something."""
        self._log_has_news = True
        self._wake.set()

    def bans_changed(self) -> None:
        """Somebody was banned, or let in again."""
        self._bans_have_news = True
        self._wake.set()

    def forgive_silence(self) -> None:
        """The network itself was deaf: count all nodes as just heard of."""
        self.brain.floor.amnesty(self._clock.now_ms())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Act, or stand by, while the context is open."""
        async with background(self._for_ever(), self._look_every_second()):
            yield

    def _put(self, waiting: Waiting) -> None:
        self._inputs.put(waiting)
        self._wake.set()

    async def _look_every_second(self) -> None:
        """Read the log although nobody said that there is news: messages can get lost."""
        while True:
            await self._clock.sleep(1.0)
            self._log_has_news = True

    async def _for_ever(self) -> None:
        while True:
            try:
                term = await self._take_over()
                await self._act(term)
            except (Unavailable, Conflict) as error:
                log.warning("the market loads again: %s", error)
            except Misposted as error:
                MISHAPS.note(f"market.money {error.lease.id.hex()}", error)
                self._care.misposted(error.lease)
            except Exception as error:  # noqa: BLE001 - what a bug left in memory is thrown away: the database is right
                MISHAPS.note("market.round", error)
                self._care.failed(error)
            self.leading.clear()
            self._inputs.fail()
            await self._clock.sleep(STANDBY_S)

    async def _take_over(self) -> int:
        """Wait for the term, then load what is open.

        A term that nobody has renewed for its whole length is over, whatever the clocks say that may have been set
        back since: time goes on from its end.
        """
        until, since = 0, self._clock.monotonic_ms()
        while True:
            async with self._database.transaction() as tx:
                seen = await self._store.until(tx)
                if seen != until:
                    until, since = seen, self._clock.monotonic_ms()
                elif self._clock.monotonic_ms() - since > TERM_MS:
                    self._clock.not_before(until)
                term = await self._lead(tx)
                if term is not None:
                    await self._load(tx)
                    await self._lead(tx)  # of many nodes that takes longer than a term, which others then took over
                    self._count_absence(since_ms=until)
                    return term
            await self._clock.sleep(STANDBY_S)

    def _count_absence(self, since_ms: int) -> None:
        """Blame nobody for what he could not say since then: no market acted, or this process did not run."""
        now = self._clock.now_ms()
        if now - since_ms > ASLEEP_MS:
            self.brain.slept(now - since_ms, now)
            self._log_has_news = True

    async def _lead(self, tx: Transaction) -> int | None:
        now = self._clock.now_ms()
        return await self._store.lead(tx, self._holder, now, now + TERM_MS)

    async def _load(self, tx: Transaction) -> None:
        state = await self._store.load(tx)
        self._cashier.forget()
        now = self._clock.now_ms()
        brain = Brain(self._fees, await self._seeds.current(tx, now))
        brain.floor.networks = await self._registry.networks(tx)
        await self._load_offers(tx, brain.floor, now)
        brain.tallies, brain.chronicle = state.tallies, Chronicle(state.hours)
        brain.starting = StartingCredit(self._starting, state.starting)
        brain.meters, brain.judging.standings = state.meters, state.standings
        brain.judging.canaries = Canaries(await self._seeds.known(tx))
        brain.judging.reruns = Reruns(await self._seeds.reruns(tx))
        brain.restore(state.jobs, state.leases, state.secrets)
        brain.banned, brain.vouched = await self._registry.banned(tx), await self._registry.vouched(tx)
        self._care.loaded(brain.leases)
        brain.frozen = self._care.frozen
        self.brain, self._cursor = brain, state.cursor
        self._log_has_news = self._bans_have_news = True

    async def _load_offers(self, tx: Transaction, floor: Floor, now: int) -> None:
        """Put up what nodes offer, in portions: the database ends transactions in which nothing is asked for long."""
        last = b""
        floor.amnesty(now)
        while offers := await self._store.offers(tx, last, OFFERS_AT_ONCE):
            for offer in offers:
                floor.offer(offer, now)
            last = offers[-1].node

    async def _act(self, term: int) -> None:
        """Go round after round; told to stop, step down."""
        try:
            await self._set_aside(term)
            await self._end_misposted(term)
            await self._go_round(term)
        except asyncio.CancelledError:
            # Where the database is away the term runs out by itself; to end is what counts.
            with suppress(FallowError):
                async with self._database.transaction() as tx:
                    await self._store.step_down(tx, term, self._clock.now_ms())
            raise

    async def _set_aside(self, term: int) -> None:
        """Leave out the record that failed alone, if there is one and it still comes next."""
        care, now = self._care, self._clock.now_ms()
        if care.error is not None and care.suspect == self._cursor:
            async with self._database.transaction() as tx:
                await self._store.confirm(tx, term)
                batches, accounts = await self._unread(tx)
                record, cursor = next_of(self._cursor, batches, accounts)
                if record is not None:
                    set_aside(self.brain, record, now, ends_lease=care.ends_lease)
                await self._write(tx, self.brain, cursor, now)
            if record is not None:
                MISHAPS.note(f"market.record {record.node.hex()}/{record.boot}/{record.seq}", care.error)
            self._cursor = cursor
            await self.outbound.send(self._changes(self.brain), {})
        care.is_aside()

    async def _end_misposted(self, term: int) -> None:
        """End the lease whose money could not be moved; one that was never written gets none from the start."""
        care, brain, now = self._care, self.brain, self._clock.now_ms()
        if care.lease is not None and care.lease.id not in brain.leases:
            care.frozen.add(care.lease.id)
        elif care.lease is not None:
            brain.failed(care.lease.node, care.lease.id, now)
            async with self._database.transaction() as tx:
                await self._store.confirm(tx, term)
                await self._write(tx, brain, self._cursor, now)
            await self.outbound.send(self._changes(brain), {})
        care.lease = None

    async def _go_round(self, term: int) -> None:
        self.leading.set()
        renewed, looked = self._clock.monotonic_ms(), self._clock.now_ms()
        while True:
            self._count_absence(since_ms=looked)
            looked = self._clock.now_ms()
            if self._clock.monotonic_ms() - renewed > TERM_MS // 3:
                # Before anything else: a process that was stopped for a while may have been replaced meanwhile.
                await self._renew(term)
                renewed = self._clock.monotonic_ms()
            await self._round(term)
            if not self._more_to_do():
                await self._rest()

    async def _renew(self, term: int) -> None:
        async with self._database.transaction() as tx:
            if await self._lead(tx) != term:
                raise Unavailable("market.not_leading", "Another market leads now.", "Try again in a moment.")
            seed = await self._seeds.current(tx, self._clock.now_ms())
            banned = await self._registry.banned(tx)
            self.brain.vouched = await self._registry.vouched(tx)
        self.brain.judging.seed = seed
        if banned != self.brain.banned:  # the message that said so was lost
            self.bans_changed()

    def _more_to_do(self) -> bool:
        return self._more_to_read() or not self._inputs.empty()

    def _more_to_read(self) -> bool:
        return self._log_has_news or self._bans_have_news

    async def _rest(self) -> None:
        """Wait for an input, or for time to pass."""
        self._wake.clear()
        try:
            async with asyncio.timeout(TICK_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _round(self, term: int) -> None:
        """Apply what waits, write it, and only then answer and tell."""
        now = self._clock.now_ms()
        brain = self.brain
        group = self._inputs.take() if self._care.records_max is None else []
        try:
            answers = await self._apply_and_write(brain, term, group, now)
        except Exception as error:
            answer_all(group, [error if isinstance(error, FallowError) else internal()] * len(group))
            raise
        answer_all(group, answers)
        self._care.went_well(all_read=not self._log_has_news)
        if brain.judging.comparing.waiting:
            self.to_compare.set()

    async def _apply_and_write(self, brain: Brain, term: int, group: list[Waiting], now: int) -> list[Any]:
        submissions = [waiting.what for waiting in group if isinstance(waiting.what, Submission)]
        answers: list[Any] = []
        careful = self._care.records_max is not None
        if not submissions and not self._more_to_read() and not careful:
            answers = [apply(brain, waiting, {}, now) for waiting in group]
            brain.tick(now)
            dispatch(brain, now, window_ms=self._window_ms)
            if not brain.changes.to_write:
                await self.outbound.send(self._changes(brain), {})
                return answers
        async with self._database.transaction() as tx:
            await self._store.confirm(tx, term)
            if not answers:
                known = await self._store.jobs_by_id(tx, [entry.order.id for entry in submissions])
                ended = {job_id: job for job_id, (job, _) in known.items() if job_id not in brain.jobs}
                answers = [apply(brain, waiting, ended, now) for waiting in group]
                banned = await self._bans(tx)
                await self._let_others()
                cursor = await self._read_log(tx, brain)
                await self._let_others()
                if not self._log_has_news and not careful:  # nobody is late as long as his word may wait to be read
                    if banned is not None:
                        brain.ban(banned, now)
                        self._bans_have_news = False
                    brain.tick(now)
                    await self._let_others()
                dispatch(brain, now, window_ms=self._window_ms)
            else:
                cursor = self._cursor
            await self._let_others()
            await self._write(tx, brain, cursor, now)
            await self._note(tx, group, answers, now)
        self._cursor = cursor
        changes = self._changes(brain)
        await self._let_others()
        await self.outbound.send(changes, {lease.job: brain.jobs[lease.job] for lease in changes.proposals})
        return answers

    async def _write(self, tx: Transaction, brain: Brain, cursor: Cursor, now: int) -> None:
        """Move the money of what changed, and write it."""
        await self._cashier.move(tx, brain, brain.changes.money, now)
        await self._store.save(tx, rows_of(brain, cursor))
        await self._seeds.keep(tx, brain.changes)
        await self._decisions.add(tx, decided(brain.changes, brain.jobs, now))

    async def _note(self, tx: Transaction, group: list[Waiting], answers: list[Any], now: int) -> None:
        """Put what operators had planted into their log."""
        for waiting, answer in zip(group, answers, strict=True):
            asked = waiting.what
            if isinstance(asked, Submission) and asked.by is not None and not isinstance(answer, Exception):
                id_ = asked.order.id
                await note(self._registry, tx, action_of(asked.by, "canary.plant", now, once=id_, about=id_))

    def _changes(self, brain: Brain) -> Changes:
        """What was written, and is to be sent now."""
        changes = brain.take_changes()
        for refusal in changes.refusals:
            self.refused[refusal.code] += 1
        return changes

    async def _let_others(self) -> None:
        """Give whoever waits for the loop his turn: a round of some hundred inputs is no reason to be late."""
        await self._clock.sleep(0)

    async def _bans(self, tx: Transaction) -> frozenset[bytes] | None:
        """Who is banned, if that changed: what ingest promised to any of them before is in the log by now."""
        if not self._bans_have_news:
            return None
        banned = await self._registry.banned(tx)
        await self._log_store.lock(tx)
        return banned

    async def _read_log(self, tx: Transaction, brain: Brain) -> Cursor:
        self._log_has_news = False
        batches, accounts = await self._unread(tx)
        if not batches:
            return self._cursor
        cursor = apply_log(brain, self._cursor, batches, accounts, self._care.reads(self._cursor))
        self._log_has_news = len(batches) == BATCHES_A_ROUND_MAX or cursor.pos != batches[-1].pos
        return cursor

    async def _unread(self, tx: Transaction) -> tuple[list[LoggedBatch], dict[bytes, bytes]]:
        """What comes next in the log, and the accounts of the nodes that it comes from."""
        batches = await self._log_store.after(tx, self._cursor.pos, BATCHES_A_ROUND_MAX)
        rows = await self._registry.nodes(tx, list({batch.node for batch in batches})) if batches else []
        return batches, {row.node: row.account for row in rows}
