"""The network's side: the production services as one process that can be killed at any moment."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from typing import Any, NamedTuple, cast
from unittest.mock import patch

from nacl.bindings import crypto_box, crypto_scalarmult_base
from nacl.signing import SigningKey

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain.billing import FeePolicy
from fallow.domain.errors import Unavailable
from fallow.domain.fees import Fees
from fallow.domain.leases import Lease
from fallow.domain.records import SALT_BYTES
from fallow.ports.steady import Steady
from fallow.ports.vertical.capacity import Capacity, Claim
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.work import WorkNeeds
from fallow.ports.vertical.worker import Worker
from fallow.services.ingest.sealing import Sealer
from fallow.services.ingest.service import Ingest
from fallow.services.market.money import Cashier
from fallow.services.market.outbound import Outbound
from fallow.services.market.rollcalls import RollCalls
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.service import Market
from fallow.services.market.vault import Vault
from fallow.services.registry.actions import Actions
from fallow.services.registry.custody import Custody
from fallow.services.registry.service import Registry
from fallow.services.settle.service import Settle
from tests.faulty_database import FaultyDatabase
from tests.sim.loop import PROCESS, SimClock, SimLoop
from tests.sim.net import Net, PartyBus

NET = "sim"
WINDOW_MS = 4_000
FEE = FeePolicy()
RESTART_S = 1.0
CHECK_SECRET = b"check"
CALLS_A_DAY = 17_280 // 4
"""Every fourth slot has a roll call, so that some run in every storm."""

EPOCH_MS = 60_000
"""Short, so that seeds are closed and opened while things go wrong."""


class Truth(NamedTuple):
    """What outlives every process: the database with its tables, and the network's keys."""

    database: FaultyDatabase
    ingest: MemoryIngestStore
    registry: MemoryRegistryStore
    market: MemoryMarketStore
    checks: MemoryCheckStore
    decisions: MemoryDecisionStore
    ledger: MemoryLedger
    budgets: MemoryBudgetStore
    key: SigningKey

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        stores = (self.ingest, self.registry, self.market, self.checks, self.decisions, self.ledger, self.budgets)
        return {
            f"{type(store).__name__}.{name}": len(table)
            for store in stores
            for name, table in vars(store).items()
            if isinstance(table, dict)
        }


class Process:
    """A process that is started again when it falls over, as its supervisor does, until it is killed.

    `clock` is its machine's, `transactions` counts those that it has begun.
    Only what says that another part is away may make it fall over; everything else is a bug and ends the simulation.
    """

    def __init__(self, name: str, net: Net, note: Callable[[str], None], clock: SimClock) -> None:
        self.name = name
        self.clock = clock
        self.transactions = 0
        self.bus = PartyBus(net, name)
        self.dead = True
        self._net = net
        self._note = note
        self._task: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        assert self.dead
        self.dead, self.bus = False, self._net.party(self.name)
        self._note(f"{self.name} starts")
        context = copy_context()
        context.run(PROCESS.set, self.name)
        self._task = group.create_task(self._supervised(), context=context)

    async def sleep_through(self, seconds: float) -> None:
        """Have it stopped for so long, as by SIGSTOP; not in a transaction, which its database would end."""
        while self.transactions and not self.dead:  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(0.001)
        if self.dead:
            return
        self._note(f"{self.name} is stopped")
        loop().stop_process(self.name)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.go_on()

    def go_on(self) -> None:
        """Let it go on if it is stopped."""
        if loop().continue_process(self.name):
            self._note(f"{self.name} goes on")

    async def kill(self) -> None:
        """End it now: nothing that it still wants to do reaches anybody."""
        self.go_on()
        self.dead = self.bus.dead = True
        assert self._task is not None
        self._note(f"{self.name} is killed")
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    async def _supervised(self) -> None:
        while not self.dead:
            try:
                await self.life()
            except asyncio.CancelledError:
                if not self.dead:
                    raise
            except Exception as error:
                if not self.dead and not _only_away(error):
                    raise
                self._note(f"{self.name} fell over: {_leaves(error)}")
                await asyncio.sleep(0 if self.dead else RESTART_S)
            else:
                return

    async def life(self) -> None:
        raise NotImplementedError


def loop() -> SimLoop:
    """The loop that all of this runs on."""
    running = asyncio.get_running_loop()
    assert isinstance(running, SimLoop)
    return running


async def _hold_on(_: bytes) -> None:
    """A banned node's connection is not cut here: what it still says must be refused."""


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _only_away(error: BaseException) -> bool:
    return all(isinstance(leaf, Unavailable) for leaf in _leaves(error))


class _Connection:
    """One process's way to the database; it takes time, and ends with the process."""

    def __init__(self, process: Process, database: FaultyDatabase, chance: random.Random) -> None:
        self._process = process
        self._database = database
        self._chance = chance

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        if self._process.dead:
            raise Unavailable("database.unreachable", "This process is dead.")
        self._process.transactions += 1
        try:
            async with self._database.transaction() as tx:
                if self._chance.random() < 0.3:
                    await asyncio.sleep(0.01 * self._chance.random())
                yield tx
                if self._process.dead:
                    raise Unavailable("database.unreachable", "This process died before the commit.")
        finally:
            self._process.transactions -= 1


class SimEffort:
    """So many units of virtual time."""

    def __init__(self, challenge: bytes, node: bytes, units: int) -> None:
        self.units = units
        self.commitment = bound(challenge, node, units)

    def show(self, wanted: Sequence[int]) -> bytes:
        return bytes(len(wanted))


def bound(challenge: bytes, node: bytes, units: int) -> bytes:
    """What binds a node to its units."""
    return hashlib.sha256(challenge + node + units.to_bytes(8, "big")).digest()


class SimCapacity:
    """Believes in the sum."""

    def wanted(self, units: int, chance: bytes) -> list[int]:
        return [chance[0] % units]

    def holds(self, claim: Claim, wanted: Sequence[int], shown: bytes) -> bool:
        return claim.commitment == bound(claim.challenge, claim.node, claim.units) and len(shown) == len(wanted)


class _SimVertical:
    """Work whose results compare if the order says so.

    What does not is one program, which may be run again, save checkpoints and take secret values.
    """

    name = "compute"
    capacity: Capacity | None = SimCapacity()

    def check_work(self, work: Mapping[str, Any], item: str | None) -> WorkNeeds:
        compares = bool(work["compares"])
        blobs, free = frozenset({item} if item else ()), not compares
        program = "" if compares else "p"
        return WorkNeeds(blobs, {}, 1 << 20, compares, checkpoints=free, secrets=free, program=program)

    def worker(self, cache: object) -> Worker:
        raise NotImplementedError


class _SimVault(Vault):
    """What it seals is the same in every run of a seed: a real sealed box, from a sender's key that is no secret."""

    def lock(self, job: str, values: Mapping[str, str]) -> bytes:
        plain = self._box.decrypt(super().lock(job, values))
        return bytes(self._box.encrypt(plain, bytes(24)))

    def seal(self, locked: bytes, lease: Lease) -> bytes:
        with patch("nacl.bindings.crypto_box_seal", _sealed):
            return super().seal(locked, lease)


def _sealed(message: bytes, to: bytes) -> bytes:
    sender, public = bytes([1]) * 32, crypto_scalarmult_base(bytes([1]) * 32)
    nonce = hashlib.blake2b(public + to, digest_size=24).digest()
    return public + crypto_box(message, nonce, to, sender)


class _CheckedRounds(Rounds):
    """The rounds, and a look at what they have in mind after each."""

    after_round: Callable[[Rounds], None]

    async def _round(self, term: int) -> None:
        await super()._round(term)
        self.after_round(self)


class Core(Process):
    """Settle, registry, ingest and market in one process."""

    def __init__(
        self,
        name: str,
        net: Net,
        note: Callable[[str], None],
        *,
        seed: int,
        truth: Truth,
        after_round: Callable[[Rounds], None],
    ) -> None:
        super().__init__(name, net, note, SimClock())
        self.rounds: Rounds | None = None
        self._truth = truth
        self._chance = random.Random(f"{seed}/{name}")
        self._after_round = after_round

    async def life(self) -> None:
        truth, bus, clock = self._truth, self.bus, Steady(self.clock)
        shared: dict[str, Any] = {
            "bus": bus,
            "clock": clock,
            "database": _Connection(self, truth.database, self._chance),
        }
        cashier, vault = Cashier(truth.ledger, truth.budgets), _SimVault(bytes(32))
        seeds = Seeds(
            net=NET,
            secret=CHECK_SECRET,
            sign=self._sign,
            epoch_ms=EPOCH_MS,
            store=truth.checks,
            decisions=truth.decisions,
        )
        rounds = _CheckedRounds(
            holder=self._chance.randbytes(8).hex(),
            fees=Fees(FEE),
            seeds=seeds,
            window_ms=WINDOW_MS,
            clock=clock,
            database=shared["database"],
            store=truth.market,
            log_store=truth.ingest,
            decisions=truth.decisions,
            registry=truth.registry,
            cashier=cashier,
            outbound=Outbound(net=NET, epoch_ms=EPOCH_MS, sign=self._sign, vault=vault, bus=bus),
        )
        rounds.after_round = self._after_round
        verticals = {"compute": cast("Vertical", _SimVertical())}
        market = Market(
            rounds=rounds,
            seeds=seeds,
            cashier=cashier,
            vault=vault,
            comparers={},
            verticals=verticals,
            store=truth.market,
            registry=truth.registry,
            roll_calls=RollCalls(
                net=NET,
                calls_a_day=CALLS_A_DAY,
                rounds=rounds,
                verticals=verticals,
                store=truth.checks,
                decisions=truth.decisions,
                **shared,
            ),
            **shared,
        )
        registry = Registry(
            net=NET,
            custody=Custody(bytes(32)),
            random_bytes=self._chance.randbytes,
            store=truth.registry,
            **shared,
        )
        ingest = Ingest(
            net=NET, sign=self._sign, epoch_ms=EPOCH_MS, store=truth.ingest, registry=truth.registry, **shared
        )
        sealer = Sealer(
            net=NET,
            node=bytes(truth.key.verify_key),
            sign=self._sign,
            new_salt=lambda: self._chance.randbytes(SALT_BYTES),
            epoch_ms=EPOCH_MS,
            clock=clock,
            database=shared["database"],
            decisions=truth.decisions,
            log=truth.ingest,
        )
        self.rounds = rounds
        async with AsyncExitStack() as stack:
            settle = Settle(ledger=truth.ledger, log=truth.registry, **shared)
            actions = Actions(store=truth.registry, decisions=truth.decisions, disconnect=_hold_on, **shared)
            for service in (settle, registry, actions, ingest, sealer, market):
                await stack.enter_async_context(service.running())
            await asyncio.Event().wait()

    def _sign(self, message: bytes) -> bytes:
        return self._truth.key.sign(message).signature
