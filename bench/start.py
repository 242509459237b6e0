"""From the order to the first byte of output at the buyer's, over the bare tool.

A real network (`fallow up`) and a real agent on this machine; program and bundle are uploaded before, as a buyer's who
runs one more time what he ran before. The clock runs from the call that orders to the first byte that the live logs
bring. What the tools take by themselves is measured in the same run: a fresh Python that compiles and runs the program
with the wasmtime package; bubblewrap with the host's /usr and a Python in it; `podman run` of an image that it has.

    python bench/start.py [--runs 15]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from bench._network import gateway_bus, lag_p99, lag_result, lags
from bench._tools import SCRIPT, SHELL, tools
from fallow import AsyncClient, Order
from fallow.sdk.accounts import new_id
from tests.container_jobs import image, oci_archive
from tests.network import NEEDS, network
from tests.programs import hello
from tests.python_jobs import VERSION, bundle

GOAL_MS = 50


async def first_byte_s(client: AsyncClient, order: Order) -> float:
    """Order once more, under another id, and wait for the first byte."""
    order = msgspec.structs.replace(order, id=new_id())
    began = time.monotonic()
    await client.submit(order)
    async with aclosing(client.logs(order.id, follow=True)) as pieces:
        async for piece in pieces:
            assert piece.startswith(b"hello"), piece
            took = time.monotonic() - began
            await client.wait(order.id)
            return took
    raise AssertionError(f"job {order.id} wrote nothing: {await client.job(order.id)}")


async def repeat(runs: int, once: Callable[[], Awaitable[float]]) -> list[float]:
    """Measure so often, after one run that warms up."""
    await once()
    return [await once() for _ in range(runs)]


async def measure(runs: int) -> list[dict[str, object]]:
    """Each kind of work, with and without a network."""
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        async with (
            tools(Path(name)) as bare,
            network() as net,
            gateway_bus(net.data, "watcher") as bus,
            net.agent("barn", cpu=1.0),
        ):
            orders, late = await _orders(net.buyer), await lags(bus)
            for kind, order in orders.items():
                ours = await repeat(runs, partial(first_byte_s, net.buyer, order))
                tool = await repeat(runs, bare[kind].first_byte_s)
                results.append(_result(kind, ours, tool, bare[kind].name))
            results.append(lag_result("start", lag_p99(late, await lags(bus))))
    return results


async def _orders(buyer: AsyncClient) -> dict[str, Order]:
    bundled = {"kind": "python", "bundle": await buyer.upload(bundle(SCRIPT)), "entry": "script.py", "python": VERSION}
    with tempfile.NamedTemporaryFile() as archive:
        archive.write(oci_archive(image()))
        archive.flush()
        contained = await buyer.container_order({"archive": Path(archive.name)}, SHELL, requirements=NEEDS)
    return {
        "wasm": await buyer.wasm_order(hello(), requirements=NEEDS),
        "python": Order(id=new_id(), vertical="compute", work=bundled, requirements=NEEDS),
        "container": contained,
    }


def _result(kind: str, ours_s: list[float], tool_s: list[float], tool_name: str) -> dict[str, object]:
    ours, tool = (1000 * statistics.median(values) for values in (ours_s, tool_s))
    print(f"{kind}: p50 {ours:.0f} ms ({1000 * min(ours_s):.0f} to {1000 * max(ours_s):.0f}), the tool {tool:.0f} ms")
    return {
        "name": f"start-{kind}",
        "value": round(ours - tool),
        "unit": "ms from order to first byte over the bare tool (p50)",
        "baseline": round(tool),
        "baseline_name": tool_name,
        "ratio": round(ours / tool, 1),
        "goal": GOAL_MS,
        "ok": ours - tool <= GOAL_MS,
    }


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    results = asyncio.run(measure(parser.parse_args().runs))
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
