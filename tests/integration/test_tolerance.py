"""Scripts that never give the same numbers twice, bought from several owners and compared, in a network as it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wasmtime

from fallow import Requirements, Tolerance
from fallow.domain.leases import WORK_DONE, LeaseState
from tests.capability import require
from tests.network import Net

pytestmark = pytest.mark.xdist_group("network")

NEEDS = Requirements(cpu_milli=200, memory_mib=128, disk_mib=64)
NOISY = """
import json, random
json.dump({"mean": 3 + random.random() * 1e-9}, open("/out/x.json", "w"))
print("done")
"""
TRAPS = '(module (memory (export "memory") 1) (func (export "_start") (unreachable)))'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A simulation of a simulation."""
    require("bubblewrap")
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return path


async def test_results_within_the_margin_are_confirmed_and_paid(net: Net, script: Path) -> None:
    order = await net.buyer.python_order(script, requirements=NEEDS, tolerance=Tolerance(rtol="1e-6"))
    shown = await net.buyer.quote(order)
    assert (shown.replicas, shown.compare) == (2, "tolerance")
    result = await net.buyer._run_order(order)
    assert result.ok
    assert abs(json.loads(await result.output("x.json"))["mean"] - 3) < 1e-6
    item = await net.buyer.item(order.id, 0)
    assert item.checked
    leases = await net.buyer.leases(order.id)
    assert len({lease.node for lease in leases}) == 2
    assert all(lease.state == LeaseState.ENDED and lease.reason == WORK_DONE for lease in leases)


async def test_a_comparator_that_traps_costs_its_buyer_and_nobody_else(net: Net, script: Path) -> None:
    program = bytes(wasmtime.wat2wasm(TRAPS))
    order = await net.buyer.python_order(script, requirements=NEEDS, tolerance=await net.buyer.comparator(program))
    result = await net.buyer._run_order(order)
    assert (result.ok, result.reason) == (False, "comparator.trap")
    leases = await net.buyer.leases(order.id)
    assert all(lease.reason == WORK_DONE and lease.owed_microusd > 0 for lease in leases)
    nodes = {node.node: node for node in await net.buyer.nodes()}
    assert all(nodes[lease.node].wrong == 0 for lease in leases)
