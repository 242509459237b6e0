"""Many nodes connected at once: what each costs the network's side when it has nothing to do.

The network is `fallow up --listen`, so that every node dials in by TLS and is let in by the callout. The nodes are
simulated (`_nodes.py`): each has its own key and connection, has joined and handed in its binding and its offer, and
gives its signs of life at the agent's interval. When all are on offer, the network's memory (PSS) is compared with that
before, and the processor time over a while is counted; at the end the market says how many of them it has heard of.

Baseline, in the same run: bare TLS connections to the same program, nats-server, which is asked for nothing else.

    python bench/fleet.py [--nodes 10000] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import ssl
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._network import crowds, difference, gateway_bus, join_all, lag_p99, lag_result, lags, processor_s
from bench._nodes import Crowd
from bench._processes import unique_bytes
from bench._shapes import offers, one_order
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.nats.bus import NatsBus
from fallow.bootstrap.place import read_place
from fallow.domain import calls
from fallow.domain.views.jobs import QuoteView
from fallow.ports.rpc import call
from tests.engines import reachable_folder
from tests.network import processes_of, running_network

GOAL = 10_000
SEED = 23
BARE = 1_000
SETTLE_S = 5.0
WORLD = 430_000
"""Devices of the largest network of the field, for the extrapolation."""


async def bare_bytes(cert: Path, key: Path, ca: str) -> float:
    """Memory of nats-server for a TLS connection that nobody uses."""
    context = ssl.create_default_context(cadata=ca)
    with reachable_folder() as folder:
        async with EmbeddedNats(folder, tls=(cert, key)) as server, AsyncExitStack() as stack:
            before = unique_bytes(processes_of(folder))
            for _ in range(BARE):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
                stack.callback(writer.close)
                await reader.readline()
                writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
                assert await reader.readline() == b"PONG\r\n"
            return (unique_bytes(processes_of(folder)) - before) / BARE


async def beats_of(running: list[Crowd]) -> int:
    """Signs of life that they gave so far."""
    return sum([(await crowd.said()).beats for crowd in running])


async def heard_of(bus: NatsBus) -> int:
    """Nodes that the market takes for online."""
    order = one_order(random.Random(SEED))  # noqa: S311 - any order
    enquiry = calls.jobs.Enquire(account="0x" + "00" * 20, order=order)
    quote = await call(bus, calls.jobs.QUOTE, enquiry, QuoteView, timeout_s=60.0)
    return quote.nodes_total - quote.why_not.get("offline", 0)


async def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Run the baseline, then the network."""
    draw = random.Random(SEED)  # noqa: S311 - a reproducible draw
    with running_network(listen="127.0.0.1:0", bus_connections_max=str(options.nodes + 100)) as net:
        tls = read_place(net.data).tls
        assert tls is not None
        bare = await bare_bytes(Path(tls.cert), Path(tls.key), tls.ca_pem())
        async with gateway_bus(net.data, "watcher") as bus:
            began = time.monotonic()
            specs = await join_all(bus, offers(options.nodes, draw), draw)
            joining_s = time.monotonic() - began
            print(f"{len(specs)} nodes joined in {joining_s:.0f} s", flush=True)
            before = unique_bytes(processes_of(net.data))
            began = time.monotonic()
            async with crowds(net.data, specs, options.processes, 0.0) as running:
                connecting_s = time.monotonic() - began
                print(f"all connected and on offer in {connecting_s:.0f} s", flush=True)
                await asyncio.sleep(SETTLE_S)
                used, late, beats = processor_s(net.data), await lags(bus), await beats_of(running)
                await asyncio.sleep(options.seconds)
                used, beats = difference(processor_s(net.data), used), await beats_of(running) - beats
                p99 = lag_p99(late, await lags(bus))
                memory = (unique_bytes(processes_of(net.data)) - before) / options.nodes
                online = await heard_of(bus)
                ours = sum(unique_bytes([crowd.pid]) for crowd in running) / options.nodes
    shares = {name: seconds / options.seconds for name, seconds in used.items()}
    share = sum(shares.values()) / options.nodes
    core = shares["core"] / options.nodes
    print(f"{online} of {options.nodes} online after {options.seconds:.0f} s")
    print(f"{beats / options.seconds:.0f} signs of life a second")
    new, back = options.nodes / (joining_s + connecting_s), options.nodes / connecting_s
    print(f"in a second {options.nodes / joining_s:.0f} join, and {back:.0f} connect, bind and offer")
    print(
        f"memory of the network's side: {memory / 1000:.1f} kB a node (PSS); a bare TLS connection {bare / 1000:.1f} kB"
    )
    print(f"a simulated node itself takes {ours / 1000:.0f} kB")
    print("cores in use: " + ", ".join(f"{name} {value:.2f}" for name, value in shares.items()))
    print(f"{WORLD} idle nodes, if all grows in proportion: {WORLD * memory / 1e9:.1f} GB, {WORLD * share:.1f} cores;")
    print(
        f"the core's one loop is full at {1 / core:.0f} nodes; {WORLD} come back within {WORLD / back / 60:.0f} minutes"
    )
    return [
        {
            "name": "fleet",
            "value": online,
            "unit": "nodes connected by TLS, with heartbeats",
            "baseline": None,
            "baseline_name": None,
            "ratio": None,
            "goal": GOAL,
            "ok": online >= min(GOAL, options.nodes) and online == options.nodes,
        },
        {
            "name": "fleet-memory",
            "value": round(memory / 1000, 1),
            "unit": "kB of the network's side a node",
            "baseline": round(bare / 1000, 1),
            "baseline_name": "a bare TLS connection to nats-server",
            "ratio": round(memory / bare, 2),
            "goal": None,
            "ok": True,
        },
        {
            "name": "fleet-cpu",
            "value": round(1e6 * share, 1),
            "unit": "millionths of a core of the network's side a node",
            "baseline": None,
            "baseline_name": None,
            "ratio": None,
            "goal": None,
            "ok": True,
        },
        {
            "name": "fleet-registration",
            "value": round(new),
            "unit": "new nodes a second: join, connect, bind, offer",
            "baseline": None,
            "baseline_name": None,
            "ratio": None,
            "goal": None,
            "ok": True,
        },
        lag_result("fleet", p99),
    ]


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=GOAL)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--processes", type=int, default=4, help="that the nodes are spread over")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"files: {soft} raised to {hard} for this process and its children")
    results = asyncio.run(measure(parser.parse_args()))
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
