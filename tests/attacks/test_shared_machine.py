"""Several agents on one machine, in processes of their own: found where they sell it several times, and only there.

No figure here is a speed: what counts is how fast an agent is beside the others, compared with how fast it is alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from fallow.domain.rollcall import SHARED
from fallow.domain.views import RollCallView
from tests.network import Net, Running, connected, running_network, until_async

CORES = os.cpu_count() or 1
AGENTS = 5
OFTEN = "17280"
"""Roll calls a day: in each slot, every five seconds."""


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with running_network(roll_calls_a_day=OFTEN) as running:
        yield running


@pytest.fixture
async def net(running: Running) -> AsyncIterator[Net]:
    async with connected(running) as net:
        yield net


async def calls(net: Net, kind: str) -> list[RollCallView]:
    return [call for call in await net.operator.roll_calls(limit=200) if call.kind == kind]


async def test_agents_with_shares_of_their_own_are_not(net: Net) -> None:
    names = [f"share{number}" for number in range(3)]
    async with net.agents(*names, cpu=CORES / 4):

        async def called() -> bool:
            done = [
                call for call in await calls(net, "group") if sum(one.per_mille is not None for one in call.said) > 2
            ]
            return len(done) > 1

        await until_async(called, "they were called together twice", bound=120)
        assert not await net.operator.roll_calls(found=True)
        assert all(node.trust != "suspended" for node in await net.buyer.nodes())


async def test_one_machine_behind_five_agents_is_found(net: Net) -> None:
    names = [f"head{number}" for number in range(AGENTS)]
    async with net.agents(*names, cpu=CORES) as agents:

        async def found() -> bool:
            return bool(await net.operator.roll_calls(found=True))

        await until_async(found, "they are found", bound=120)
        (call,) = await net.operator.roll_calls(found=True)
        convicted = set(call.found)
        assert set(call.found.values()) == {SHARED}
        assert len(convicted) > 1
        assert convicted <= {agent.node for agent in agents}
        nodes = {node.node: node for node in await net.buyer.nodes()}
        assert {(nodes[node].trust, nodes[node].why) for node in convicted} == {("suspended", SHARED)}
