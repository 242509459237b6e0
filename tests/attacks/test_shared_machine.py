"""Several agents on one machine, in processes of their own: found where they sell it several times, and only there.

No figure here is a speed: what counts is how fast an agent is beside the others, compared with how fast it is alone.
What else runs on the machine evens the two out: where ten other programs want two cores, five agents have each as much
beside the others as 60 % of what it has alone, and nobody is found. So the network and its agents come first here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest

from fallow.domain.rollcall import SHARED
from fallow.domain.views.checks import RollCallView
from tests.network import Agent, Net, Running, connected, running_network, until_async

pytestmark = pytest.mark.xdist_group("shared machine")
FIRST = -20
CORES = os.cpu_count() or 1
AGENTS = 5
OFTEN = "17280"
"""Roll calls a day: in each slot, every five seconds."""


@contextmanager
def before_others() -> Iterator[None]:
    """Let all that this process starts come before what else the machine does, where it may say so."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with before_others(), running_network(roll_calls_a_day=OFTEN) as running:
        yield running


@pytest.fixture
async def net(running: Running) -> AsyncIterator[Net]:
    async with connected(running) as net:
        yield net


async def calls(net: Net, agents: list[Agent]) -> list[RollCallView]:
    """Roll calls of several of these agents and of nobody else."""
    nodes = {agent.node for agent in agents}
    found = await net.operator.roll_calls(limit=200)
    return [call for call in found if len(call.said) > 1 and {one.node for one in call.said} <= nodes]


async def test_agents_with_shares_of_their_own_are_not(net: Net) -> None:
    names = [f"share{number}" for number in range(3)]
    async with net.agents(*names, cpu=CORES / 4) as agents:

        async def called() -> bool:
            found = await calls(net, agents)
            return sum(all(one.per_mille is not None for one in call.said) for call in found) > 1

        await until_async(called, "they were called together twice", bound=300)
        assert not any(call.found for call in await calls(net, agents))
        mine = {agent.node for agent in agents}
        assert all(node.trust != "suspended" for node in await net.buyer.nodes() if node.node in mine)


async def test_one_machine_behind_five_agents_is_found(net: Net) -> None:
    names = [f"head{number}" for number in range(AGENTS)]
    async with net.agents(*names, cpu=CORES) as agents:

        async def convicting() -> list[RollCallView]:
            return [call for call in await calls(net, agents) if call.found]

        await until_async(convicting, "they are found", bound=300)
        found = (await convicting())[-1].found
        assert set(found.values()) == {SHARED}
        assert len(found) > 1
        nodes = {node.node: node for node in await net.buyer.nodes()}
        assert {(nodes[node].trust, nodes[node].why) for node in found} == {("suspended", SHARED)}
