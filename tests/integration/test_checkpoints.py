"""Long work on machines that their owners take back: it goes on elsewhere, and costs little more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow import Requirements
from tests.capability import require
from tests.network import NEEDS, Agent, Net, until_async

pytestmark = pytest.mark.xdist_group("network")

STEPS = 200
STEP_S = 0.1
WORK = f"""
import os, time
path = "/checkpoint/step"
step = float(open(path).read()) if os.path.exists(path) else 0
print("from", int(step), flush=True)
last = time.monotonic()
while step < {STEPS}:
    time.sleep({STEP_S})
    now = time.monotonic()
    step, last = step + (now - last) / {STEP_S}, now
    with open(path + ".new", "w") as file:
        file.write(str(step))
    os.replace(path + ".new", path)
print("done")
"""
"""Its steps are time: it takes as long on a busy machine, and is as far after as long."""

DEARER_MAX = 1.15
"""An interrupted job against one that nobody disturbs."""


def only(*agents: Agent) -> Requirements:
    """What the tests need, on these machines."""
    return msgspec.structs.replace(NEEDS, nodes_allowed=[agent.node for agent in agents])


async def test_taken_back_at_nine_tenths_it_costs_at_most_a_seventh_more(net: Net, tmp_path: Path) -> None:
    require("bubblewrap")
    script = tmp_path / "work.py"
    script.write_text(WORK)
    taken, other, calm = net.running.agents
    options: dict[str, Any] = {"checkpoint_s": 1, "time_limit_s": 60}
    undisturbed = await net.buyer.python_order(script, requirements=only(calm), **options)
    needs = only(taken, other)
    disturbed = await net.buyer.python_order(script, requirements=needs, **options)
    for order in (disturbed, undisturbed):
        await net.buyer.submit(order)

    async def nearly_done() -> bool:
        return any(lease.saved_ms >= 0.9 * 1000 * STEPS * STEP_S for lease in await net.buyer.leases(disturbed.id))

    await until_async(nearly_done, "nine tenths are saved", every=0.05)
    (lease,) = await net.buyer.leases(disturbed.id)
    owner = next(agent for agent in (taken, other) if agent.node == lease.node)
    await owner.ask("pause")
    try:
        jobs = [await net.finished(order.id) for order in (undisturbed, disturbed)]
        assert [job.state for job in jobs] == ["done", "done"]
        first, second = await net.buyer.leases(disturbed.id)
        assert (first.reason, first.caused_by) == ("owner.paused", "owner")
        assert second.node != first.node
        result = await net.buyer.result(disturbed.id)
        begun, ended = (await result.stdout()).decode().splitlines()
        assert int(begun.removeprefix("from ")) >= 0.75 * STEPS
        assert ended == "done"
        calm_bill, bill = [sum(one.owed_microusd for one in await net.buyer.leases(job.id)) for job in jobs]
        print(f"undisturbed {calm_bill}, taken back {bill} microUSD, ratio {bill / calm_bill:.3f}")
        assert 0 < bill <= DEARER_MAX * calm_bill
    finally:
        await owner.ask("resume")
