"""What goes wrong: processes die or are stopped, parties are cut off, disks are full, clocks jump, operators ban.

All by the seed. What takes a while goes on beside the rest.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from fallow.domain.errors import FallowError
from tests.faulty_database import Fault, FaultyDatabase
from tests.sim.core import Core, Process
from tests.sim.machine import Blobs, Machine
from tests.sim.net import CALM, Net, Weather

HOUR_MS = 3_600_000
NOVEL_MAX = 4
"""What transactions did so often is no novelty any more."""


class Chaos:
    """`counts` says how often each thing went wrong. The kind that comes first goes round with `turn`."""

    def __init__(
        self,
        turn: int,
        chance: random.Random,
        net: Net,
        database: FaultyDatabase,
        cores: Sequence[Core],
        machines: Sequence[Machine],
        blobs: Blobs,
        note: Callable[[str], None],
        act: Callable[[str, str], Awaitable[None]],
        rows: Callable[[], dict[str, int]],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._turn = turn
        self._chance = chance
        self._net = net
        self._database = database
        self._cores = cores
        self._machines = machines
        self._blobs = blobs
        self._note = note
        self._act = act
        self._banned: set[str] = set()
        self._away = False
        self._rate = self._novelty = 0.0
        self._rows = rows
        self._had: dict[str, int] = {}
        self._seen: Counter[frozenset[str]] = Counter()
        self._later: list[asyncio.Task[None]] = []

    def storm(self) -> None:
        """From now on messages and transactions are lost."""
        chance = self._chance
        self._net.weather = Weather(
            loss=chance.choice((0, 0.02, 0.1)),
            repeat=chance.choice((0, 0.1)),
            slow=chance.choice((0, 0.05)),
            delay_s=chance.choice((0.005, 0.2)),
            slow_s=6,
        )
        self._rate = chance.choice((0, 0.01, 0.05))
        self._database.fault = self._fault
        self._novelty = chance.choice((0, 0.4))
        self._database.at_end = self._fault_of_a_novelty
        for machine in self._machines:
            machine.worker.breaks = chance.choice((0, 0.1))

    async def rage(self, group: asyncio.TaskGroup, seconds: float) -> None:
        """Let one thing after the other go wrong. Many a seed knows few kinds of trouble, which then meet.

        The first one is not drawn, so that twenty seeds in a row leave out none.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        every_s = self._chance.choice((2.0, 5.0, 12.0))
        troubles = [
            self._crash, self._crash, self._leave, self._cut, self._bus, self._data, self._pause, self._pause,
            self._stop, self._disk, self._clock, self._ban, self._store,
        ]  # fmt: skip
        first = [troubles[self._turn % len(troubles)]]
        troubles = self._chance.sample(troubles, self._chance.choice((3, 6, len(troubles))))
        while loop.time() < ends:
            await asyncio.sleep(2 * every_s * self._chance.random())
            trouble = first.pop() if first else self._chance.choice(troubles)
            self.counts[trouble.__name__.strip("_")] += 1
            await trouble(group)

    async def heal(self, group: asyncio.TaskGroup) -> None:
        """Everything works again, and everybody is there."""
        self._net.weather = CALM
        self._net.cut.clear()
        self._net.mute.clear()
        self._net.deaf.clear()
        self._away = self._blobs.away = False
        self._database.fault = self._database.at_end = lambda: Fault.NONE
        self._bus_returns()
        for task in self._later:
            task.cancel()
        for machine in self._machines:
            machine.fill_disk(full=False)
        for process in (*self._cores, *self._machines):
            process.go_on()
            if process.dead:
                process.start(group)
        for node in sorted(self._banned):
            await self._act("unban", node)
        for machine in self._machines:
            machine.worker.breaks = 0.0
            await self._mode(machine, "open")

    def _fault(self) -> Fault:
        if self._away:
            return Fault.BEGIN
        if self._chance.random() >= self._rate:
            return Fault.NONE
        fault = self._chance.choice((Fault.BEGIN, Fault.COMMIT, Fault.ANSWER))
        self.counts[f"database {fault.value}"] += 1
        return fault

    def _fault_of_a_novelty(self) -> Fault:
        """Lose what hardly a transaction did before more often: who forgets that it was lost is found there.

        What a transaction did is which tables have another number of rows now.
        """
        rows = self._rows()
        kind = frozenset(name for name, count in rows.items() if count != self._had.get(name))
        fault = Fault.NONE
        if self._seen[kind] < NOVEL_MAX and self._chance.random() < self._novelty:
            fault = self._chance.choice((Fault.COMMIT, Fault.ANSWER))
            self.counts["novelty"] += 1
        if fault is not Fault.COMMIT:
            self._had = rows
        self._seen[kind] += 1
        return fault

    def _machine(self) -> Machine | None:
        alive = [machine for machine in self._machines if not machine.dead]
        return self._chance.choice(alive) if alive else None

    def _beside(self, group: asyncio.TaskGroup, seconds: float, then: Callable[[], object]) -> None:
        """Do something later, while other things go wrong."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            then()

        self._later.append(group.create_task(wait()))

    async def _stop(self, group: asyncio.TaskGroup) -> None:
        alive: list[Process] = [process for process in (*self._cores, *self._machines) if not process.dead]
        if alive:
            process = self._chance.choice(alive)
            seconds = self._chance.choice((1, 6, 25)) * self._chance.random()
            self._later.append(group.create_task(process.sleep_through(seconds)))

    async def _disk(self, group: asyncio.TaskGroup) -> None:
        machine = self._chance.choice(self._machines)
        if not machine.account:
            return
        self._note(f"{machine.name}: its disk is full")
        machine.fill_disk(full=True)

        def empty() -> None:
            self._note(f"{machine.name}: its disk has room again")
            machine.fill_disk(full=False)

        self._beside(group, self._chance.choice((1, 5, 15)) * self._chance.random(), empty)

    async def _clock(self, _: asyncio.TaskGroup) -> None:
        process: Process = self._chance.choice([*self._cores, *self._machines])
        step_ms = self._chance.choice((-HOUR_MS, -4_000, -700, 700, 4_000, HOUR_MS))
        self._note(f"{process.name}: its clock is set by {step_ms} ms")
        process.clock.step(step_ms)

    async def _ban(self, group: asyncio.TaskGroup) -> None:
        joined = [machine.key.text for machine in self._machines if machine.account]
        if not joined:
            return
        node = self._chance.choice(joined)
        self._banned.add(node)
        await self._act("ban", node)

        async def let_in() -> None:
            await asyncio.sleep(10 * self._chance.random())
            await self._act("unban", node)

        self._later.append(group.create_task(let_in()))

    async def _store(self, group: asyncio.TaskGroup) -> None:
        self._note("the blobs are away")
        self._blobs.away = True

        def back() -> None:
            self._note("the blobs are back")
            self._blobs.away = False

        self._beside(group, 8 * self._chance.random(), back)

    async def _crash(self, group: asyncio.TaskGroup) -> None:
        alive: list[Process] = [process for process in (*self._cores, *self._machines) if not process.dead]
        if alive:
            process = self._chance.choice(alive)
            await process.kill()
            self._start_later(group, process)

    async def _leave(self, group: asyncio.TaskGroup) -> None:
        machine = self._machine()
        if machine is not None and machine.agent is not None:
            await machine.leave()
            self._start_later(group, machine)

    def _start_later(self, group: asyncio.TaskGroup, process: Process) -> None:
        async def start() -> None:
            await asyncio.sleep(self._chance.choice((0.1, 2.0, 8.0, 15.0)) * self._chance.random())
            if process.dead:
                process.start(group)

        self._later.append(group.create_task(start()))

    async def _cut(self, _: asyncio.TaskGroup) -> None:
        party = self._chance.choice([process.name for process in (*self._cores, *self._machines)])
        place = self._chance.choice(("cut", "mute", "deaf"))
        parties: set[str] = getattr(self._net, place)
        self._note(f"{party} is {place}")
        parties.add(party)
        await asyncio.sleep(self._chance.choice((1, 5, 14)) * self._chance.random())
        parties.discard(party)
        self._note(f"{party} is back")

    async def _bus(self, _: asyncio.TaskGroup) -> None:
        self._note("the bus is down")
        self._net.up = False
        await asyncio.sleep(6 * self._chance.random())
        self._bus_returns()

    def _bus_returns(self) -> None:
        if not self._net.up:
            self._note("the bus is up")
            self._net.up = True
            for core in self._cores:
                if core.rounds is not None and not core.dead:
                    core.rounds.forgive_silence()

    async def _data(self, _: asyncio.TaskGroup) -> None:
        self._note("the database is down")
        self._away = True
        await asyncio.sleep(7 * self._chance.random())
        self._away = False
        self._note("the database is up")

    async def _pause(self, group: asyncio.TaskGroup) -> None:
        machine = self._machine()
        if machine is None:
            return
        await self._mode(machine, self._chance.choice(("paused", "draining")))

        async def resume() -> None:
            await asyncio.sleep(10 * self._chance.random())
            await self._mode(machine, "open")

        self._later.append(group.create_task(resume()))

    async def _mode(self, machine: Machine, mode: str) -> None:
        """As its owner commands it, if it runs."""
        agent = machine.agent
        if agent is None or machine.dead:
            return
        command = {"open": agent.resume, "paused": agent.pause, "draining": agent.drain}[mode]
        self._note(f"{machine.name}: {mode}")
        try:
            async with asyncio.timeout(5):
                await command()
        except (FallowError, TimeoutError) as error:
            self._note(f"{machine.name} does not obey: {error!r}")
