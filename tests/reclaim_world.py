"""A real agent, worker and sandbox in this process, over a bus in memory: for what takes real time."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import psutil
import wasmtime

from fallow.adapters.clock import SystemClock
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.owner import Owner
from fallow.agent.policy_file import IdlePolicy, save_policy
from fallow.agent.probes import Probes
from fallow.agent.service import Agent, Ports
from fallow.agent.traffic import Traffic
from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.fees import Fees
from fallow.ports.vertical.work import LeaseBlobs
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.unit.agent_fakes import NET, MemoryBlobs, World
from tests.unit.owner_fakes import AGREED, FEE_PPM, MACHINE, TERMS

SPIN = '(module (memory (export "memory") 1) (func (export "_start") (loop $spin (br $spin))))'
BUSY_S = 0.1
"""So much time of the processor shows that a program is at work."""

POLL_S = 0.01
BOUND_S = 120.0


class RealWorld(World):
    """A network in memory, and an agent whose time, worker and sandboxes are real."""

    def __init__(self, folder: Path, policy: IdlePolicy) -> None:
        super().__init__(folder)
        self.real_clock = SystemClock()
        self.real_worker = ComputeWorker(self.home.cache / "compute")
        self.stored = MemoryBlobs()
        self.program = self.stored.add(bytes(wasmtime.wat2wasm(SPIN)))
        save_policy(self.home.path, policy)

    @asynccontextmanager
    async def serving(self, probes: Probes) -> AsyncIterator[Agent]:
        """Network and agent at work."""
        clock = self.real_clock
        boot = self.home.next_boot()
        store = OutboxStore(self.home.outbox(NET), net=NET, key=self.key, boot=boot, next_boot=self.home.next_boot)
        traffic = Traffic(self.home.path / "traffic.json", clock)
        with ThreadPoolExecutor(1) as looking:
            owner = Owner(
                self.home.path,
                probes,
                clock,
                traffic,
                machine=MACHINE,
                agreed=AGREED,
                terms=TERMS,
                fees=Fees(FeePolicy(FEE_PPM)),
                zone=UTC,
                executor=looking,
            )
            ports = Ports(
                self.hub.connect(), clock, self._stored, {"compute": self.real_worker}, random.Random(1), owner=owner
            )
            self.home.clear_work()
            outbox = Outbox(store, clock)
            agent = Agent(self.home, self.home.state(), self.key, outbox, ports, {})
            try:
                async with self.network(), asyncio.TaskGroup() as group:
                    group.create_task(agent.run())
                    await until(lambda: bool(self.beats))
                    yield agent
                    agent.stop.set()
            finally:
                outbox.close()

    async def work(self, number: int) -> psutil.Process:
        """Propose a lease on a program that never ends; return its sandbox's process once it is busy."""
        known = {process.pid for process in sandboxes()}
        work = {"program": self.program, "fuel": 10**15}
        await self.propose(self.proposal(number, work=work, answer_by=self.real_clock.now_ms() + round(1000 * BOUND_S)))
        await until(lambda: any(busy(one) for one in sandboxes() if one.pid not in known))
        (process,) = (one for one in sandboxes() if one.pid not in known)
        return process

    async def receipt(self, number: int) -> dict[str, Any]:
        """The last receipt of a lease, once it has come."""
        lease = bytes.fromhex(f"{number:032x}")

        def finals() -> list[dict[str, Any]]:
            return [one for one in self.ingest.bodies("usage.receipt") if one["lease"] == lease and one["final"]]

        await until(lambda: bool(finals()))
        return finals()[0]

    def _stored(self, _: calls.leases.Proposal) -> LeaseBlobs:
        return self.stored


def sandboxes() -> list[psutil.Process]:
    """The sandboxes of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "wasm_child" in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def busy(process: psutil.Process) -> bool:
    """Whether it has really worked."""
    try:
        return process.cpu_times().user >= BUSY_S
    except psutil.NoSuchProcess:
        return False


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds; it must, before long."""
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110 - what it waits for happens in other processes
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def ending(pid: int) -> AsyncIterator[asyncio.Event]:
    """An event that is set when a process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)
