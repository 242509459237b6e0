"""An epoch of a real network, computed again by anybody, is what the ledger settled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from fallow.domain.chart import Purpose
from tests.integration.test_epochs import closed, ended
from tests.network import BOUND, Net, fallow, network, until_async
from tests.programs import SECOND


async def test_anybody_computes_an_epoch_again_and_it_is_what_the_ledger_settled(tmp_path: Path) -> None:
    async with network() as net, net.agents("barn") as (agent,):
        folder, epochs = tmp_path / "fetched", []
        for _ in range(2):
            order = await net.submit([SECOND // 20])
            await net.finished(order.id)
            await until_async(lambda: _is_sealed(net), "all that was decided is sealed")
            epochs.append((await closed(net, await ended(net))).epoch)
        key = (await net.buyer.network()).public_key
        of = ("--from", net.url, "--into", folder, "--key", key, "--json")
        audited = [json.loads((await fallow("epoch", "audit", str(epoch), *of)).out) for epoch in epochs]
        assert audited[1]["opening"] == audited[0]["closing"]
        totals = Counter[str]()
        for one in audited:
            totals.update({name: int(value) for name, value in one["totals"].items()})
        earned = await net.balance(Purpose.EARNED, agent.account)
        assert 0 < earned == totals["bought.1.income"] + totals["checks.1.income"]
        explained = [
            json.loads((await fallow("epoch", "explain", str(epoch), agent.node, *of)).out) for epoch in epochs
        ]
        lines = [line for one in explained for line in one["lines"] if line["vertical"] == "compute"]
        assert sum(int(line["usage"]) for line in lines) == earned
        assert all(verdict == "accepted" for line in lines for verdict, _, _ in line["verdicts"])
        then = json.loads((await fallow("epoch", "what-if", str(epochs[0]), "--set", "credit=2", *of)).out)
        assert [(int(one["usage"]) > 0, one["usage_then"]) for one in then] == [(True, 0)]
        *both, end = await _what_if(net, "held.withheld_ppm=500000,")
        assert [one["epoch"] for one in both] == epochs
        held = [one["then"]["held_usage_microusd"] - one["was"]["held_usage_microusd"] for one in both]
        assert 0 < held[0] < held[1], "what the first holds, the second holds still"
        assert "withheld_ppm = [500000]" in end["file"]


async def _what_if(net: Net, *changes: str) -> list[Any]:
    """What the network's own gateway computes in a process of its own."""
    key = {"Authorization": f"Bearer {net.running.welcome['operator_key']}"}
    async with httpx2.AsyncClient(base_url=net.url, timeout=BOUND) as client:
        said = await client.post("/v1/operator/what-if", json={"changes": list(changes)}, headers=key)
    blocks = [block.split("\ndata: ") for block in said.text.split("\n\n") if block.startswith("event: ")]
    assert [name.removeprefix("event: ") for name, _ in blocks] == ["epoch", "epoch", "result"], said.text
    return [json.loads(data) for _, data in blocks]


async def _is_sealed(net: Net) -> bool:
    (row,) = await net.fetch("SELECT count(*) AS waiting FROM outbox.decision")
    return bool(row["waiting"] == 0)
