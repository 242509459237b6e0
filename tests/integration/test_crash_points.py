"""Real processes die by SIGKILL at every named step of a lease and its windows: nothing is lost, nothing is paid twice.

See `tests/dying.py` for the steps. Agents die in one network beside each other, each at one step after the other; roles
of a network die at all steps at which its work makes them arrive.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest

from fallow import Order
from fallow.domain.chart import Kind
from fallow.domain.errors import NotFound
from fallow.domain.leases import Lease
from fallow.domain.ledger import PENDING, POST_PENDING
from tests.capability import require
from tests.dying import CLOSING, MOVES, SENDING, STEPS
from tests.network import NEEDS, Agent, Net, check_books, check_job, network, until, until_async
from tests.programs import SECOND

WINDOW_S, TICK_S = 10, 0.1
SHORT, LONG, OVER_A_WINDOW = 3, 25, 108
"""Ticks of a job that is soon over, of one that saves a checkpoint, of one that ends in its second window."""

WORK = f"""
import os, sys, time
path, ticks = "/checkpoint/tick", int(sys.argv[1])
tick = int(open(path).read()) if os.path.exists(path) else 0
while tick < ticks:
    time.sleep({TICK_S})
    tick += 1
    with open(path + ".new", "w") as file:
        file.write(str(tick))
    os.replace(path + ".new", path)
print("done", tick)
"""

LIVES = (
    ("window unwritten", "proposal heard", "work begins", "program runs"),
    ("window written", "work ended", "result uploaded", "final unwritten"),
    ("window taken", "final written", "final taken", "final promised"),
    ("window promised", "accept unwritten", "accept written"),
    ("checkpoint made", "checkpoint uploaded", "accept taken", "accept promised"),
    ("checkpoint unwritten", "checkpoint written", "checkpoint taken", "checkpoint promised"),
)
"""The deaths of each machine, one after the other."""

DEATHS = {
    "uncommitted": ("batch uncommitted", *(f"{move} uncommitted" for move in MOVES)),
    "committed": ("batch committed", *(f"{move} committed" for move in MOVES), "judged"),
}
"""Of the roles of a network: within the transactions of their work, and when these are written and nobody knows."""


def test_every_step_is_died_at() -> None:
    named = [step for life in LIVES for step in life] + [step for steps in DEATHS.values() for step in steps]
    named += CLOSING  # tests/integration/test_epochs.py
    named += SENDING  # tests/integration/test_claim.py
    assert sorted(named) == sorted(STEPS)


async def test_an_agent_dies_at_every_step_of_a_lease(tmp_path: Path) -> None:
    require("bubblewrap")
    names = [f"machine{number}" for number in range(len(LIVES))]
    with ExitStack() as stack:
        async with network(window_s=str(WINDOW_S)) as net:
            agents = []
            for name in names:
                steps = tmp_path / name
                steps.mkdir()
                agents.append(stack.enter_context(net.running.agent(name, steps=steps)))
            await net.on_market(*agents)
            script = tmp_path / "work.py"
            script.write_text(WORK)
            async with asyncio.TaskGroup() as group:
                for agent, life in zip(agents, LIVES, strict=True):
                    group.create_task(die_and_live(net, agent, life, script))
            await check_books(net)
            await check_windows(net)


async def die_and_live(net: Net, agent: Agent, life: Sequence[str], script: Path) -> None:
    """Have one machine die at each step, and its work end well each time."""
    for boot, step in enumerate(life, 2):
        ticks = OVER_A_WINDOW if "window" in step else LONG if "checkpoint" in step else SHORT
        order = await script_order(net, script, ticks, agent)
        await die(net, agent, step, order)
        net.running.again(agent)
        job = await net.finished(order.id)
        assert job.state == "done", (step, job, await net.buyer.leases(order.id))
        assert await (await net.buyer.result(order.id)).stdout() == f"done {ticks}\n".encode(), step
        await until_async(partial(all_is_said, agent, boot), f"all is said after: {step}")


async def die(net: Net, agent: Agent, step: str, order: Order) -> None:
    """Have a machine die at this step of an order's work."""
    assert agent.steps is not None
    (agent.steps / step).touch()
    await net.buyer.submit(order)
    await until(lambda: agent.process.poll() is not None, f"it dies: {step}")
    assert (agent.process.returncode, list(agent.steps.iterdir())) == (-signal.SIGKILL, []), agent.words()[-2000:]


async def all_is_said(agent: Agent, boot: int) -> bool:
    """Whether nothing waits at a machine that was started so often; the network took all that it said."""
    try:
        status = await agent.ask("status")
    except NotFound:
        return False  # it is still starting
    assert status["records_refused"] == []
    return (status["boot"], status["records_waiting"], status["leases"]) == (boot, 0, [])


@pytest.mark.parametrize("when", DEATHS)
async def test_roles_die_at_every_step_of_a_window(when: str, tmp_path: Path) -> None:
    require("bubblewrap")
    script, idle, steps = tmp_path / "work.py", tmp_path / "idle.py", tmp_path / "steps"
    script.write_text(WORK)
    idle.write_text("import time; time.sleep(600)")
    steps.mkdir()
    rounds = [SECOND // 20, SECOND // 10]
    async with (
        network(steps=steps, window_s=str(WINDOW_S), split_core="true") as net,
        net.agents("barn", "mill", "orchard") as (barn, mill, orchard),
    ):
        for step in DEATHS[when]:
            (steps / step).touch()
        compared = await net.order(rounds, on=[barn, mill], retries=3)
        long = await script_order(net, script, OVER_A_WINDOW, barn)
        lost = await script_order(net, idle, 0, orchard)
        for order in (compared, long, lost):
            await submitted(net, order)
        await until_async(partial(has_worked, net, lost), "its program worked for a window")
        await orchard.ask("pause")  # its owner takes it back: what it did is paid from the reserve
        await until(lambda: not (steps / f"make good {when}").exists(), "it is made good")
        await until_async(partial(net.buyer.cancel, lost.id), "it is cancelled")
        for order, state in ((compared, "done"), (long, "done"), (lost, "cancelled")):
            assert (await net.finished(order.id)).state == state, await net.buyer.leases(order.id)
        if list(steps.iterdir()):  # two came in one change, and they died of the first: this passes the other alone
            compared = await net.order(rounds, on=[barn, mill], retries=3)
            await submitted(net, compared)
            assert (await net.finished(compared.id)).state == "done", await net.buyer.leases(compared.id)
        assert list(steps.iterdir()) == [], "they have died of all"
        await check_job(net, compared.id, rounds)
        assert await (await net.buyer.result(long.id)).stdout() == f"done {OVER_A_WINDOW}\n".encode()
        await check_books(net)
        await check_windows(net)


async def has_worked(net: Net, order: Order) -> bool:
    """Whether the network has counted work of an order: until then its owner may take back what did not begin."""
    return any(lease.used_ms for lease in await net.buyer.leases(order.id))


async def script_order(net: Net, script: Path, ticks: int, agent: Agent) -> Order:
    """An order for so many ticks on this machine."""
    needs = msgspec.structs.replace(NEEDS, nodes_allowed=[agent.node])
    return await net.buyer.python_order(
        script, [str(ticks)], requirements=needs, checkpoint_s=1, time_limit_s=60, retries=3
    )


async def submitted(net: Net, order: Order) -> None:
    """Order it, as often as it takes: it is one job."""

    async def taken() -> bool:
        await net.buyer.submit(order)
        return True

    await until_async(taken, "the order is taken")


async def check_windows(net: Net) -> None:
    """Every window of every lease was reserved once, and then settled or given back, once; its record counted once."""
    leases = {lease.id: lease for lease in await net.all_leases()}
    rows = await net.fetch(
        "SELECT p.ref, count(*) AS reserved, count(r.seq) AS resolved,"
        " coalesce(sum(r.amount) FILTER (WHERE r.flags & $2 <> 0), 0)::text AS posted"
        " FROM ledger.transfer p LEFT JOIN ledger.transfer r ON r.pending_id = p.id WHERE p.flags & $1 <> 0"
        " GROUP BY p.ref",
        PENDING,
        POST_PENDING,
    )
    assert {bytes(row["ref"]) for row in rows} == set(leases)
    returned = await net.fetch(
        "SELECT ref, sum(amount)::text AS amount FROM ledger.transfer WHERE code = $1 GROUP BY ref", Kind.RETURNED
    )
    back = {bytes(row["ref"]): int(row["amount"]) for row in returned}
    for row in rows:
        lease: Lease = leases[bytes(row["ref"])]
        assert row["reserved"] == row["resolved"] <= lease.window + 1, lease
        assert int(row["posted"]) - back.get(lease.id, 0) == lease.owed_microusd, lease
    refused = await net.fetch("SELECT code FROM market.refusal")
    assert not {row["code"] for row in refused} & {"lease.accepted_twice", "window.other"}, refused
