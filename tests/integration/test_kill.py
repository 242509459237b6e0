"""Every process of a network is killed in the middle of a map: nothing is lost, done twice or paid twice."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from fallow import Order
from fallow.adapters.clock import SystemClock
from fallow.domain.leases import WORK_DONE
from fallow.domain.offers import LOST_AFTER_MS
from tests.network import BOUND, Agent, Net, check_books, check_job, network, processes_of, until, until_async
from tests.programs import SECOND

ROUNDS = [SECOND // 20 + index for index in range(4)] + [SECOND // 3 + index for index in range(5)]
"""Some items are soon done, the others are in the middle of it when something is killed."""

FLAP_MS = 4_000

pytestmark = [pytest.mark.xdist_group("kill"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole() -> AsyncIterator[tuple[Net, list[Agent]]]:
    """A network with three machines, for tests after which all of it runs again."""
    async with three_machines() as made:
        yield made


@asynccontextmanager
async def three_machines() -> AsyncIterator[tuple[Net, list[Agent]]]:
    """A network of a test's own."""
    async with network() as net, net.agents("barn", "mill", "orchard") as agents:
        yield net, agents


async def in_the_middle(net: Net, agents: list[Agent]) -> Order:
    """Have them work on a map, some of which is done."""
    await net.on_market(*agents)
    order = await net.submit(ROUNDS)
    await net.items_done(order.id, 2)
    assert (await net.buyer.job(order.id)).state == "running", "or nothing would be in the middle of anything"
    return order


async def all_is_well(net: Net, order: Order) -> None:
    """The map ends as if nothing had happened, and what comes next works."""
    await net.finished(order.id)
    await check_job(net, order.id, ROUNDS)
    again = await net.submit(ROUNDS[:1])
    await net.finished(again.id)
    await check_books(net)


@pytest.mark.parametrize("role", ["core", "gateway", "postgres", "nats-server"])
async def test_a_part_of_the_network_is_killed(whole: tuple[Net, list[Agent]], role: str) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    killed = net.running.kill(role)
    await until(lambda: net.pids(role) not in ([], [killed]), f"{role} runs again")
    await all_is_well(net, order)
    assert net.process.poll() is None


async def test_a_buyer_who_watches_notices_no_more_than_a_pause(whole: tuple[Net, list[Agent]]) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    events = net.buyer.events(order.id)
    await anext(events)
    net.running.kill("gateway")
    states = [event.state async for event in events]
    assert states[-1] == "done"
    await check_job(net, order.id, ROUNDS)


async def test_every_part_of_the_network_is_killed_at_once(whole: tuple[Net, list[Agent]]) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    for role in ("gateway", "core", "nats-server", "postgres"):
        net.running.kill(role)
    await all_is_well(net, order)


async def test_an_agent_is_killed_for_good() -> None:
    async with three_machines() as (net, agents):
        order = await in_the_middle(net, agents)
        agents[0].kill()
        await all_is_well(net, order)
        lost = [lease for lease in await net.buyer.leases(order.id) if lease.reason != WORK_DONE]
        assert {(lease.reason, lease.caused_by) for lease in lost} <= {
            ("node.vanished", "provider"),
            ("node.unanswered", "nobody"),
        }
        assert {(lease.node, lease.owed_microusd) for lease in lost} <= {(agents[0].node, 0)}


async def test_an_agent_is_killed_and_started_anew(whole: tuple[Net, list[Agent]]) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    before = await agents[0].ask("status")
    agents[0].kill()
    net.running.again(agents[0])
    await all_is_well(net, order)
    status = await agents[0].ask("status")
    assert (status["boot"], status["node"]) == (before["boot"] + 1, agents[0].node)
    assert status["records_refused"] == before["records_refused"]
    assert (await net.node(agents[0])).state == "idle"


async def test_the_whole_network_is_killed_and_started_anew(whole: tuple[Net, list[Agent]]) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    before = processes_of(net.data)
    assert len(before) > 4
    net.process.kill()
    net.process.wait()
    net.running.up_again()
    assert not set(before) & set(processes_of(net.data)), (net.data / "logs" / "core.log").read_text()[-2000:]
    await net.on_market(*agents)
    await all_is_well(net, order)


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C", "SIGINT to one"])
async def test_it_stops_cleanly(whole: tuple[Net, list[Agent]], how: str) -> None:
    net, agents = whole
    order = await in_the_middle(net, agents)
    said_before = len(net.running.log.read_text())
    if how == "Ctrl-C":
        os.killpg(net.process.pid, signal.SIGINT)
    else:
        net.process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGINT)
    assert net.process.wait(BOUND) == 0
    assert processes_of(net.data) == []
    said = net.running.log.read_text()[said_before:]
    assert "Traceback" not in said, said
    assert "ERROR" not in said, said
    net.running.up_again()
    await all_is_well(net, order)


async def test_a_short_silence_of_a_node_closes_nothing(whole: tuple[Net, list[Agent]]) -> None:
    net, agents = whole
    await net.on_market(*agents)
    rounds = [3 * SECOND]
    order = await net.submit(rounds, on=agents[:1])
    await net.runs(order.id)
    agents[0].signal(signal.SIGSTOP)
    await silent(net, agents[0], FLAP_MS)
    agents[0].signal(signal.SIGCONT)
    await net.finished(order.id)
    (lease,) = await net.buyer.leases(order.id)
    assert (lease.reason, lease.node) == (WORK_DONE, agents[0].node)
    await check_job(net, order.id, rounds)
    await check_books(net)


async def test_after_a_long_silence_the_late_result_is_refused_and_not_paid() -> None:
    async with network() as net, net.agents("barn", "mill") as agents:
        rounds = [3 * SECOND]  # enough to be stopped in the middle of it
        order = await net.submit(rounds)
        await net.runs(order.id)
        item = await net.buyer.item(order.id, 0)
        first = next(agent for agent in agents if agent.node == item.node)
        first.signal(signal.SIGSTOP)
        await silent(net, first, LOST_AFTER_MS)
        job = await net.finished(order.id)
        leases = await net.buyer.leases(order.id)
        assert (leases[0].node, leases[0].reason, leases[0].caused_by) == (first.node, "node.vanished", "provider")
        assert leases[-1].node != first.node
        first.signal(signal.SIGCONT)

        async def delivered() -> bool:
            status = await first.ask("status")
            refused = await net.fetch("SELECT code FROM market.refusal WHERE node = $1", bytes.fromhex(first.node))
            return bool(refused) and not status["leases"] and not status["records_waiting"]

        await until_async(delivered, "the late result comes in and is refused")
        assert await net.job(order.id) == job
        assert not any((await net.operator.balance_of(first.account)).earned.values())
        await check_job(net, order.id, rounds)
        await check_books(net)


async def silent(net: Net, agent: Agent, for_ms: int) -> None:
    """Wait until a node was not heard of for so long."""

    async def quiet() -> bool:
        seen = (await net.node(agent)).last_seen_at or 0
        return SystemClock().now_ms() - seen >= for_ms

    await until_async(quiet, f"{agent.name} is silent")
