"""The network's side: the production services as one process that can be killed at any moment."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, cast

from nacl.signing import SigningKey

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain.billing import FeePolicy
from fallow.domain.errors import Unavailable
from fallow.ports.vertical import Vertical, Worker, WorkNeeds
from fallow.services.ingest.service import Ingest
from fallow.services.market.money import Cashier
from fallow.services.market.outbound import Outbound
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.service import Market
from fallow.services.market.vault import Vault
from fallow.services.registry.custody import Custody
from fallow.services.registry.service import Registry
from fallow.services.settle.service import Settle
from tests.faulty_database import FaultyDatabase
from tests.sim.loop import SimClock
from tests.sim.net import Net, PartyBus

NET = "sim"
WINDOW_MS = 10_000
FEE = FeePolicy()
RESTART_S = 1.0
CHECK_SECRET = b"check"
EPOCH_MS = 60_000
"""Short, so that seeds are closed and opened while things go wrong."""


class Truth(NamedTuple):
    """What outlives every process: the database with its tables, and the network's keys."""

    database: FaultyDatabase
    ingest: MemoryIngestStore
    registry: MemoryRegistryStore
    market: MemoryMarketStore
    checks: MemoryCheckStore
    ledger: MemoryLedger
    key: SigningKey


class Process:
    """A process that is started again when it falls over, as its supervisor does, until it is killed.

    Only what says that another part is away may make it fall over; everything else is a bug and ends the simulation.
    """

    def __init__(self, name: str, net: Net, note: Callable[[str], None]) -> None:
        self.name = name
        self.bus = PartyBus(net, name)
        self.dead = True
        self._net = net
        self._note = note
        self._task: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        assert self.dead
        self.dead, self.bus = False, self._net.party(self.name)
        self._note(f"{self.name} starts")
        self._task = group.create_task(self._supervised())

    async def kill(self) -> None:
        """End it now: nothing that it still wants to do reaches anybody."""
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
        async with self._database.transaction() as tx:
            if self._chance.random() < 0.3:
                await asyncio.sleep(0.01 * self._chance.random())
            yield tx
            if self._process.dead:
                raise Unavailable("database.unreachable", "This process died before the commit.")


class _SimVertical:
    """Work whose results compare if the order says so."""

    name = "compute"

    def check_work(self, work: Mapping[str, Any], item: str | None) -> WorkNeeds:
        return WorkNeeds(frozenset({item} if item else ()), {}, 0, bool(work["compares"]))

    def worker(self, cache: object) -> Worker:
        raise NotImplementedError


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
        super().__init__(name, net, note)
        self.rounds: Rounds | None = None
        self._truth = truth
        self._chance = random.Random(f"{seed}/{name}")
        self._after_round = after_round

    async def life(self) -> None:
        truth, bus, clock = self._truth, self.bus, SimClock()
        shared: dict[str, Any] = {
            "bus": bus,
            "clock": clock,
            "database": _Connection(self, truth.database, self._chance),
        }
        cashier, vault = Cashier(truth.ledger), Vault(bytes(32))
        seeds = Seeds(net=NET, secret=CHECK_SECRET, sign=self._sign, epoch_ms=EPOCH_MS, store=truth.checks)
        rounds = _CheckedRounds(
            holder=self._chance.randbytes(8).hex(),
            fee=FEE,
            seeds=seeds,
            window_ms=WINDOW_MS,
            clock=clock,
            database=shared["database"],
            store=truth.market,
            log_store=truth.ingest,
            registry=truth.registry,
            cashier=cashier,
            outbound=Outbound(net=NET, sign=self._sign, vault=vault, bus=bus),
        )
        rounds.after_round = self._after_round
        market = Market(
            rounds=rounds,
            seeds=seeds,
            cashier=cashier,
            vault=vault,
            verticals={"compute": cast("Vertical", _SimVertical())},
            comparers={},
            store=truth.market,
            registry=truth.registry,
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
        self.rounds = rounds
        async with AsyncExitStack() as stack:
            for service in (Settle(ledger=truth.ledger, **shared), registry, ingest, market):
                await stack.enter_async_context(service.running())
            await asyncio.Event().wait()

    def _sign(self, message: bytes) -> bytes:
        return self._truth.key.sign(message).signature
