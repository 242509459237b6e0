"""What goes wrong: processes die, parties are cut off, the bus and the database go away. All by the seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from fallow.domain.errors import FallowError
from tests.faulty_database import Fault, FaultyDatabase
from tests.sim.core import Core, Process
from tests.sim.machine import Machine
from tests.sim.net import CALM, Net, Weather


class Chaos:
    """`counts` says how often each thing went wrong."""

    def __init__(
        self,
        chance: random.Random,
        net: Net,
        database: FaultyDatabase,
        cores: Sequence[Core],
        machines: Sequence[Machine],
        note: Callable[[str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._chance = chance
        self._net = net
        self._database = database
        self._cores = cores
        self._machines = machines
        self._note = note
        self._away = False
        self._rate = 0.0
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
        for machine in self._machines:
            machine.worker.breaks = chance.choice((0, 0.1))

    async def rage(self, group: asyncio.TaskGroup, seconds: float) -> None:
        """Let one thing after the other go wrong."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        every_s = self._chance.choice((2.0, 5.0, 12.0))
        troubles = [self._crash, self._crash, self._leave, self._cut, self._bus, self._data, self._pause]
        while loop.time() < ends:
            await asyncio.sleep(2 * every_s * self._chance.random())
            trouble = self._chance.choice(troubles)
            self.counts[trouble.__name__.strip("_")] += 1
            await trouble(group)

    async def heal(self, group: asyncio.TaskGroup) -> None:
        """Everything works again, and everybody is there."""
        self._net.weather = CALM
        self._net.cut.clear()
        self._net.mute.clear()
        self._net.deaf.clear()
        self._away = False
        self._database.fault = lambda: Fault.NONE
        self._bus_returns()
        for task in self._later:
            task.cancel()
        for process in (*self._cores, *self._machines):
            if process.dead:
                process.start(group)
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

    def _machine(self) -> Machine | None:
        alive = [machine for machine in self._machines if not machine.dead]
        return self._chance.choice(alive) if alive else None

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
