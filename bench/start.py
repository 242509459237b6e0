"""From the order to the first byte of output at the buyer's, over the bare tool.

A real network (`fallow up`) and a real agent on this machine; program and bundle are uploaded before, as a buyer's who
runs one more time what he ran before. The clock runs from the call that orders to the first byte that the live logs
bring. What the tools take by themselves is measured in the same run: a fresh Python that compiles and runs the program
with the wasmtime package; bubblewrap with the host's /usr and a Python in it.

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

from bench._network import gateway_bus, lag_p99, lags
from fallow import AsyncClient, Order
from fallow.sdk.accounts import new_id
from tests.network import NEEDS, network
from tests.programs import hello
from tests.python_jobs import VERSION, bundle

GOAL_MS = 50
SCRIPT = "print('hello', flush=True)"
WASMTIME = """
import sys, wasmtime
config = wasmtime.WasiConfig()
config.inherit_stdout()
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
store.set_wasi(config)
linker = wasmtime.Linker(engine)
linker.define_wasi()
module = wasmtime.Module.from_file(engine, sys.argv[1])
linker.instantiate(store, module).exports(store)["_start"](store)
"""


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


async def bare_s(*command: str) -> float:
    """Run a tool by hand and wait for the first byte."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.read(1)
    took = time.monotonic() - began
    await process.communicate()
    return took


async def repeat(runs: int, once: Callable[[], Awaitable[float]]) -> list[float]:
    """Measure so often, after one run that warms up."""
    await once()
    return [await once() for _ in range(runs)]


async def measure(runs: int) -> list[dict[str, object]]:
    """Both kinds of work, with and without a network."""
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hello.wasm").write_bytes(hello())
        (folder / "hello.py").write_text(SCRIPT)
        bare = {
            "wasm": (sys.executable, "-c", WASMTIME, str(folder / "hello.wasm")),
            "python": (
                *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib",
                  "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--ro-bind",
                  str(folder), "/bundle"),
                "/usr/bin/python3", "/bundle/hello.py",
            ),
        }  # fmt: skip
        async with network() as net, gateway_bus(net.data, "watcher") as bus, net.agent("barn", cpu=1.0):
            orders = {
                "wasm": await net.buyer.wasm_order(hello(), requirements=NEEDS),
                "python": Order(
                    id=new_id(),
                    vertical="compute",
                    work={
                        "kind": "python",
                        "bundle": await net.buyer.upload(bundle(SCRIPT)),
                        "entry": "script.py",
                        "python": VERSION,
                    },
                    requirements=NEEDS,
                ),
            }
            late = await lags(bus)
            for kind, order in orders.items():
                ours = await repeat(runs, partial(first_byte_s, net.buyer, order))
                tool = await repeat(runs, partial(bare_s, *bare[kind]))
                results.append(_result(kind, ours, tool))
            print(f"event loop of the core: p99 {lag_p99(late, await lags(bus))} ms late")
    return results


def _result(kind: str, ours_s: list[float], tool_s: list[float]) -> dict[str, object]:
    ours, tool = (1000 * statistics.median(values) for values in (ours_s, tool_s))
    print(f"{kind}: p50 {ours:.0f} ms ({1000 * min(ours_s):.0f} to {1000 * max(ours_s):.0f}), the tool {tool:.0f} ms")
    return {
        "name": f"start-{kind}",
        "value": round(ours - tool),
        "unit": "ms from order to first byte over the bare tool (p50)",
        "baseline": round(tool),
        "baseline_name": {"wasm": "a fresh Python with wasmtime", "python": "bubblewrap and Python"}[kind],
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
