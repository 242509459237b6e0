"""The agent at a roll call: its owner and paid work come first, and what it did it signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fallow.agent.service import Agent
from fallow.agent.status import why_idle
from fallow.domain import calls
from fallow.domain.errors import Conflict, FallowError, NotAllowed, NotFound
from fallow.domain.rollcall import Answer
from fallow.ports.rpc import call
from tests.unit.agent_fakes import NET, World, settle

CALL = "ab" * 32


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Asked:
    """A roll call under way: how it was answered, or why not."""

    answer: Answer | None = None
    error: FallowError | None = None

    @property
    def code(self) -> str:
        """Why not."""
        assert self.error is not None
        return self.error.code


class Network:
    """Calls the agent."""

    def __init__(self, world: World, agent: Agent, group: asyncio.TaskGroup) -> None:
        self.agent = agent
        self._world = world
        self._group = group

    async def call(self, cpu_milli: int = 2000, of: str = CALL, vertical: str = "compute") -> Asked:
        """Call, and let the agent get as far as it can."""
        asked = Asked()
        request = calls.checks.RollCall(call=of, vertical=vertical, cpu_milli=cpu_milli, work_ms=1000)
        self._group.create_task(self._wait(request, asked))
        await settle()
        return asked

    async def _wait(self, request: calls.checks.RollCall, asked: Asked) -> None:
        key = self._world.key
        try:
            reply = await call(
                self._world.hub.connect(), calls.checks.roll_calls(key.text), request, calls.checks.RollAnswer
            )
            asked.answer = Answer.open(reply.sealed, key.node)
        except FallowError as error:
            asked.error = error

    async def done(self, units: int) -> None:
        """Have the worker end well."""
        self._world.worker.exerted.set_result(units)
        await settle()


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Network]:
    async with world.network(), world.start() as agent, asyncio.TaskGroup() as group:
        await world.clock.advance(2)
        yield Network(world, agent, group)


async def test_it_works_with_what_is_free_signs_and_shows(world: World) -> None:
    async with serving(world) as net:
        asked = await net.call()
        status = await net.agent.status()
        assert (status.roll_call, status.free.cpu_milli) == (True, 0)
        assert "checks for a second" in why_idle(status, world.clock.ms)[0]
        await net.done(3)
        answer = asked.answer
        assert answer is not None
        assert (answer.net, answer.call.hex(), answer.units, answer.cpu_milli) == (NET, CALL, 3, 2000)
        status = await net.agent.status()
        assert (status.roll_call, status.free.cpu_milli) == (False, 2000)
        subject, bus = calls.checks.roll_shows(world.key.text), world.hub.connect()
        shown = await call(bus, subject, calls.checks.RollShow(call=CALL, wanted=[1, 2]), calls.checks.RollShown)
        assert shown.shown == b"\1\2"
        with pytest.raises(NotFound):
            await call(bus, subject, calls.checks.RollShow(call="cd" * 32, wanted=[]), calls.checks.RollShown)


async def test_work_that_comes_meanwhile_takes_its_place(world: World) -> None:
    async with serving(world) as net:
        asked = await net.call()
        await world.propose(world.proposal(cpu_milli=2000))
        assert isinstance(asked.error, Conflict)
        assert asked.code == "agent.sold"
        assert list(world.worker.running) == [f"{1:032x}"]
        assert not world.ingest.bodies("lease.declined")


async def test_sold_cores_are_not_called_twice(world: World) -> None:
    async with serving(world) as net:
        await world.propose(world.proposal(cpu_milli=1500))
        refused = await net.call()
        assert isinstance(refused.error, NotAllowed)
        assert refused.code == "agent.no_room"
        asked = await net.call(500)
        await net.done(1)
        assert asked.answer is not None
        assert asked.answer.cpu_milli == 500


async def test_one_call_at_a_time(world: World) -> None:
    async with serving(world) as net:
        asked = await net.call(500)
        assert (await net.call(500, "cd" * 32)).code == "agent.no_room"
        await net.done(1)
        assert asked.answer is not None


async def test_an_owner_who_needs_the_machine_has_it_at_once(world: World) -> None:
    async with serving(world) as net:
        asked = await net.call()
        await net.agent.pause()
        await settle()
        assert asked.code == "owner.paused"
        assert not world.worker.exercising
        assert (await net.call()).code == "owner.paused"


async def test_a_worker_that_breaks_takes_nothing_with_it(world: World) -> None:
    async with serving(world) as net:
        asked = await net.call()
        world.worker.exerted.set_exception(RuntimeError("a bug in a plugin"))
        await settle()
        assert asked.code == "node.worker_failed"
        assert (await net.agent.status()).free.cpu_milli == 2000


async def test_a_vertical_that_is_not_here(world: World) -> None:
    async with serving(world) as net:
        assert (await net.call(1, vertical="other")).code == "agent.no_vertical"
