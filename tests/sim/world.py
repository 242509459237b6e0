"""One simulation: a network, its providers and buyers, first in a storm and then in calm, when all must end well."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

from nacl.signing import SigningKey

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain import calls
from fallow.domain.errors import InsufficientFunds, NotFound, Unavailable
from fallow.domain.identity import address, address_text
from fallow.domain.jobs import FINAL
from fallow.domain.orders import Order, Requirements
from fallow.domain.views.actions import ActionView
from fallow.domain.views.jobs import JobView
from fallow.domain.views.money import BalanceView
from fallow.ports.bus import Bus
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rpc import Empty, call
from tests.faulty_database import FaultyDatabase
from tests.sim.checks import Facts, Found, check_all, check_round, gather, require, settled
from tests.sim.core import Core, Truth
from tests.sim.loop import SimLoop
from tests.sim.machine import Blobs, Machine
from tests.sim.net import Net
from tests.sim.story import Story
from tests.sim.weather import Chaos

T = TypeVar("T")
MACHINES = 4
ITEMS = 6
ORDERS = 3
"""Two maps, and a process that runs until it is stopped or a script that needs a secret value."""

HEALED_WITHIN_S = 600.0
GRANT, POOR, FUNDED = 10**9, 4000, 10**8
OPERATOR = b"o" * 20


class Failure(AssertionError):
    """A seed under which something is wrong: `what` was found by `checker`."""

    def __init__(self, seed: int, error: BaseException, story: Story) -> None:
        leaves = [leaf for leaf in _leaves(error) if not isinstance(leaf, asyncio.CancelledError)] or [error]
        found = next((leaf for leaf in leaves if isinstance(leaf, Found)), leaves[0])
        self.checker = str(found.args[0]) if isinstance(found, Found) else type(found).__name__
        again = f"again: python -m tests.sim {seed}"
        super().__init__(f"seed {seed}: {self.checker}\n{found!r}\n{story.tail()}\n{again}")
        self.seed = seed


class Outcome(NamedTuple):
    """What a run that went well was like."""

    digest: str
    virtual_s: float
    steps: int
    counts: dict[str, int]


def run(seed: int) -> Outcome:
    """Simulate one seed.

    Raises:
        Failure: something does not hold.
    """
    story, loop = Story(), SimLoop(seed)
    with _folder() as folder, _logged(story), _no_collector():
        world = World(seed, folder, story)
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(world.live())
            require(not loop.trouble, "nothing is lost in the background", loop.trouble)
        except Exception as error:
            raise Failure(seed, error, story) from error
    return Outcome(story.digest, loop.time(), loop.steps, {**world.net.counts, **world.chaos.counts})


class World:
    """Everybody who takes part."""

    def __init__(self, seed: int, folder: Path, story: Story) -> None:
        self.chance = random.Random(f"{seed}/world")
        self.story = story
        self.net = Net(seed, story.message)
        self.database = FaultyDatabase()
        self.truth = Truth(
            self.database,
            MemoryIngestStore(),
            MemoryRegistryStore(),
            MemoryMarketStore(),
            MemoryCheckStore(),
            MemoryDecisionStore(),
            MemoryLedger(),
            MemoryBudgetStore(),
            SigningKey(bytes(32)),
        )
        names = ["core0", "core1"][: self.chance.choice((1, 1, 2))]
        self.cores = [
            Core(name, self.net, story.note, seed=seed, truth=self.truth, after_round=check_round) for name in names
        ]
        self.blobs = Blobs()
        public = bytes(self.truth.key.verify_key).hex()
        liars = self.chance.choice((0, 0, 1))
        self.machines = [
            Machine(
                f"node{number}",
                self.net,
                story.note,
                seed=seed,
                folder=folder,
                network_key=public,
                lies=0.5 if number < liars else 0.0,
                blobs=self.blobs,
            )
            for number in range(MACHINES)
        ]
        self.chaos = Chaos(
            seed, self.chance, self.net, self.database, self.cores, self.machines, self.blobs, story.note, self._act,
            self.truth.rows,
        )  # fmt: skip
        self.orders: dict[str, str] = {}
        """Accounts by order."""
        self.granted: dict[bytes, int] = {}
        self.funded = 0
        self.healed = False
        self.facts: Facts | None = None
        """All that is known at the end."""
        self._buyer = self.net.party("buyer")
        self._operator = self.net.party("operator")

    async def live(self) -> None:
        """From the first start to the last check; what a service would survive ends it all the same."""
        failed: list[BaseException] = []
        living = asyncio.current_task()
        assert living is not None

        def fail(error: BaseException) -> None:
            failed.append(error)
            living.cancel()

        try:
            with MISHAPS.heard(fail):
                async with asyncio.TaskGroup() as group:
                    await self._course(group)
        except asyncio.CancelledError:
            if not failed:
                raise
        if failed:
            raise failed[0]
        for machine in self.machines:
            require(not machine.worker.oversold, "no machine does more than it has", machine.name)
            require(not machine.worker.betrayed, "a program gets its secret values", machine.name)
        self.facts = await gather(self.truth, list(self.orders), self.granted, self.funded)
        self.chaos.counts["roll call"] += sum(
            call.kind == "group" and all(said.answered for said in call.said) for call in self.facts.calls
        )
        check_all(self.facts)

    async def _course(self, group: asyncio.TaskGroup) -> None:
        for core in self.cores:
            core.start(group)
        self.chaos.storm()
        buyers = [group.create_task(self._buy(number)) for number in range(ORDERS)]
        joining = [group.create_task(self._join(machine, group)) for machine in self.machines]
        await self.chaos.rage(group, seconds=20 + 30 * self.chance.random())
        await asyncio.wait(joining)
        await self.chaos.heal(group)
        self.story.note("everything is healed")
        self.healed = True
        if not self.funded:
            await self._fund()
        await self._act("vouch", self.machines[-1].account)  # what needs secret values may have waited for him
        for number, account in enumerate(list(self.granted)):
            await self._grant(1000 + number, address_text(account), GRANT)
        await self._end_well(buyers)
        for process in (*self.machines, *self.cores):
            await process.kill()

    async def _end_well(self, buyers: list[asyncio.Task[None]]) -> None:
        try:
            async with asyncio.timeout(HEALED_WITHIN_S):
                await asyncio.wait(buyers)
                await asyncio.sleep(15)  # who has just started has said what it has to say
                while not await self._at_rest():  # noqa: ASYNC110 - in virtual time
                    await asyncio.sleep(1)
        except TimeoutError:
            raise Found("all ends within ten minutes of calm", *await self._what_is_open()) from None
        for machine in self.machines:
            assert machine.outbox is not None
            refused = await machine.outbox.refused()
            require(not refused, "no honest batch is refused", machine.name, refused)

    async def _at_rest(self) -> bool:
        handed_in = all(machine.outbox is not None and not machine.outbox.waiting for machine in self.machines)
        return handed_in and await settled(self.truth)

    async def _what_is_open(self) -> list[object]:
        async with self.database.transaction() as tx:
            state = await self.truth.market.load(tx)
        waiting = {machine.name: machine.outbox.waiting for machine in self.machines if machine.outbox is not None}
        items = [
            (
                job.order.id[:8],
                item.index,
                item.state.value,
                [lease.hex()[:8] for lease in item.leases],
                len(item.votes),
            )
            for job, items in state.jobs
            for item in items
            if item.state not in FINAL
        ]
        leases = [(lease.id.hex()[:8], lease.node.hex()[:8], lease.state.value, lease.boot) for lease in state.leases]
        return [waiting, items, leases, state.cursor]

    # Who takes part

    async def _join(self, machine: Machine, group: asyncio.TaskGroup) -> None:
        token = await self._ask(calls.keys.CREATE_TOKEN, calls.keys.CreateToken(uses=5), calls.keys.Secret)
        answer = await self._ask(calls.nodes.JOIN, machine.join_request(token.secret), calls.nodes.Joined)
        machine.joined(answer)
        machine.start(group)
        if machine is self.machines[-1] and self.chance.random() < 0.5:
            await self._act("vouch", machine.account)

    async def _fund(self) -> None:
        purposes: tuple[Literal["fee", "reserve"], ...] = ("fee", "reserve")
        for purpose in purposes:
            gift = calls.money.Fund(id=f"{len(purpose):032x}", purpose=purpose, amount_microusd=FUNDED)
            await self._ask(calls.money.FUND, gift, Empty)
        self.funded = len(purposes) * FUNDED

    async def _grant(self, number: int, account: str, amount: int) -> None:
        grant = calls.money.Grant(id=f"{number:032x}", account=account, amount_microusd=amount)
        await self._ask(calls.money.GRANT, grant, BalanceView)
        self.granted[address(account)] = self.granted.get(address(account), 0) + amount
        if self.healed and amount < GRANT:
            await self._grant(number + ORDERS, account, GRANT)

    async def _buy(self, number: int) -> None:
        """Come, order, perhaps think better of it, and wait for the end."""
        chance, bus = self.chance, self._buyer
        if number == 0 and chance.random() < 0.7:
            await self._fund()
        key = await self._ask(calls.keys.CREATE_KEY, calls.keys.CreateKey(), calls.keys.Secret)
        await self._grant(number, key.account, GRANT if self.healed else chance.choice((GRANT, GRANT, POOR)))
        await asyncio.sleep(10 * chance.random())
        order = self._order(number)
        self.orders[order.id] = key.account
        submit = calls.jobs.Submit(account=key.account, order=order, secrets=order.work.get("secrets", {}))
        await self._ask(calls.jobs.SUBMIT, submit, JobView, bus)
        job = calls.jobs.JobRef(account=key.account, job=order.id)
        cancels = order.until_stopped or chance.random() < 0.2
        cancel_at = asyncio.get_running_loop().time() + 30 * chance.random() if cancels else None
        while (await self._ask(calls.jobs.JOB, job, JobView, bus)).state == "running":
            await asyncio.sleep(2)
            if chance.random() < 0.1:
                await self._ask(calls.jobs.SUBMIT, submit, JobView, bus)  # he is not sure that it went through
            if cancel_at is not None and asyncio.get_running_loop().time() > cancel_at:
                cancel_at = None
                await self._cancel(job)

    async def _cancel(self, job: calls.jobs.JobRef) -> None:
        try:
            await self._ask(calls.jobs.CANCEL, job, JobView, self._buyer)
        except NotFound as error:
            self.story.note(f"nothing to cancel: {error}")

    def _order(self, number: int) -> Order:
        chance = self.chance
        work: dict[str, Any] = {"compares": number < 2 and chance.random() < 0.7}
        until_stopped = number == 2 and chance.random() < 0.5
        if number == 2 and not until_stopped:
            work["secrets"] = {"NAME": f"{chance.getrandbits(32):x}"}
        return Order(
            id=f"{chance.getrandbits(128):032x}",
            vertical="compute",
            work=work,
            items=[f"{100 * number + index:064x}" for index in range(ITEMS)] if number < 2 else [],
            until_stopped=until_stopped,
            requirements=Requirements(cpu_milli=chance.choice((500, 1000, 2000)), memory_mib=128, disk_mib=16),
            time_limit_s=60,
            retries=chance.choice((0, 1)),
            replicas=chance.choice((1, 1, 2) if work["compares"] else (1, 1, 1)),
            budget_microusd=chance.choice((None, None, GRANT, 10 * POOR, POOR)),
            spot=chance.random() < 0.4,
        )

    async def _act(self, what: str, subject: str) -> None:
        """As the operator does it."""
        self.story.note(f"the operator: {what} {subject[:10]}")
        action = calls.actions.Action(
            id=f"{self.chance.getrandbits(128):032x}", what=cast("Any", what), subject=subject, reason="the simulation"
        )
        act = calls.actions.Act(account=address_text(OPERATOR), key_id="0" * 32, action=action)
        await self._ask(calls.actions.ACT, act, ActionView)

    async def _ask(self, subject: str, request: Any, reply: type[T], bus: Bus | None = None) -> T:
        """Ask until there is an answer, as everybody does who is told that trying again can help."""
        while True:
            try:
                return await call(bus or self._operator, subject, request, reply)
            except (Unavailable, InsufficientFunds):
                await asyncio.sleep(0.5 + self.chance.random())


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory where there is one: the agents' files are synced to it all the time."""
    shm = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    folder = Path(tempfile.mkdtemp(prefix="fallow-sim-", dir=shm if shm.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep the garbage collector out: a generator that it finds ends in a turn of the loop, whenever it finds it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _logged(story: Story) -> Iterator[None]:
    """Have the production code's log in the story, and nowhere else."""
    logger = logging.getLogger("fallow")
    before = logger.level, logger.propagate
    logger.addHandler(story)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(story)
        logger.level, logger.propagate = before
        logger.setLevel(before[0])
