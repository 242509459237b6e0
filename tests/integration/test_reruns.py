"""A script whose results nobody compares, in a network as it runs: some are computed again by a like machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow import Requirements
from fallow.domain.views.checks import RerunView
from tests.capability import require
from tests.network import Net, until_async

pytestmark = pytest.mark.xdist_group("network")

NEEDS = Requirements(cpu_milli=200, memory_mib=128, disk_mib=64)
ITEMS = 100
"""One in ten is drawn: that none of so many is happens once in 40,000 runs."""


async def test_the_same_bytes_confirm_both_machines(net: Net, tmp_path: Path) -> None:
    require("bubblewrap")
    (script := tmp_path / "square.py").write_text("print(int(open('/in/input').read()) ** 2)")
    items = [b"%d" % number for number in range(ITEMS)]
    order = await net.buyer.python_order(script, items=items, requirements=NEEDS)
    before = {node.node: node.confirmed for node in await net.buyer.nodes()}
    await net.buyer.submit(order)
    assert (await net.finished(order.id)).state == "done"
    mine: list[RerunView] = []

    async def run_again() -> bool:
        found = await net.operator.reruns(limit=1000)
        mine[:] = [one for one in found if one.program == order.work["bundle"]]
        return bool(mine)

    await until_async(run_again, "an item is run again", every=0.2)
    bought = {lease.id for lease in await net.buyer.leases(order.id, limit=1000)}
    nodes = {node.node: node for node in await net.buyer.nodes()}
    for found in mine:
        assert found.same
        assert not found.suspects
        assert found.lease in bought
        first, again = (nodes[node] for node in found.nodes)
        assert first.account != again.account
        assert first.attributes.get("cpu.model") == again.attributes.get("cpu.model")
        assert again.confirmed > before[again.node]
    assert (await net.finished(order.id)).owed_microusd > 0
    assert len(bought) == ITEMS  # the buyer ordered, and pays, each once
