"""How fast bytes move through a relay and straight from a node, and how long they keep the relay from anything else.

Three processes, as in a network: a node, a relay behind a real HTTP server (WebSocket, no TLS), and an opener, which
here reads what the node sends: through the relay, and over a direct line to the node, which is always TLS 1.3. The lag
of the relay's event loop is how much later than asked a timer of 5 ms fires.

Baseline, in the same run: the same bytes over plain loopback TCP between two of these processes, asyncio streams.

    python bench/streams.py [--mib 512] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.remove(str(Path(__file__).parent))  # its names hide those of the standard library

from nacl.signing import SigningKey

from fallow.adapters.streams.direct import listening
from fallow.agent.door import NodeDoor
from fallow.agent.identity import NodeKey
from fallow.bootstrap.paths import Ends, Paths
from fallow.domain.calls.streams import StreamGrant
from fallow.domain.streams import DirectAddress, Logs
from fallow.ports.session import SessionStream
from fallow.ports.splicing import ConnectionStream
from fallow.ports.streams import Stream
from tests.streams_world import LEASE, NET, NETWORK, NODE, node_of, opening, world, world_at

GOAL_MB_S = 100.0
GOAL_LAG_MS = 50.0
CHUNK = bytes(64 << 10)
TICK_S = 0.005


async def relay() -> None:
    """Relay until stdin closes; then say the lags of the loop in milliseconds."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            lags.append(1000 * (time.monotonic() - due))

    async with world("websocket") as net, asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        print(net.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        watching.cancel()
    print(json.dumps(lags))


async def node(port: int, size: int) -> None:
    """Send `size` bytes to whoever opens a stream, or a plain connection, until stdin closes.

    Says the ports of the plain connection and of the door, and the door's certificate.
    """

    async def send_stream(stream: SessionStream) -> None:
        for _ in range(size // len(CHUNK)):
            await stream.write(CHUNK)
        stream.end()

    async def send_plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(size // len(CHUNK)):
            writer.write(CHUNK)
            await writer.drain()
        writer.close()

    async with world_at(port) as net, asyncio.TaskGroup() as group:
        plain = await asyncio.start_server(send_plain, "127.0.0.1", 0)

        def take(stream: SessionStream) -> None:
            group.create_task(send_stream(stream))

        door = NodeDoor(
            NET,
            NodeKey(bytes(NODE)),
            node_of(NETWORK),
            net.clock,
            random_bytes=os.urandom,
            spawn=net.spawn,
            take=take,
        )
        with tempfile.TemporaryDirectory() as folder:
            async with (
                net.session(NODE, node=True, on_opened=take) as session,
                listening("127.0.0.1", 0, node_of(NODE), door.attend, net.clock, Path(folder)) as at,
            ):
                await session.linked.wait()
                print(json.dumps([plain.sockets[0].getsockname()[1], at.port, at.certificate]), flush=True)
                await asyncio.to_thread(sys.stdin.read)
        net.end()
        plain.close()


async def measure(relay_port: int, plain_port: int, at: DirectAddress, runs: int, size: int) -> dict[str, float]:
    """Megabytes a second by each way; the best of the runs."""
    found: dict[str, list[float]] = {"relayed": [], "direct": [], "plain": []}

    async def granted() -> StreamGrant:
        return StreamGrant(node=node_of(NODE).hex(), lease=LEASE.hex(), ticket=opening().ticket, direct=at)

    async with world_at(relay_port) as net, asyncio.TaskGroup() as group:
        ways = Paths(NET, Ends(net.dial), granted, net.clock, group)
        async with net.session(SigningKey.generate(), node=False) as session:
            await session.linked.wait()
            for _ in range(runs):
                found["relayed"].append(await read(session.open(opening().write()), size))
                opened = await ways.open(Logs("stdout"))
                assert opened.way == "direct"
                found["direct"].append(await read(opened.stream, size))
                reader, writer = await asyncio.open_connection("127.0.0.1", plain_port)
                found["plain"].append(await read(ConnectionStream(reader, writer), size))
                writer.close()
        ways.close()
    return {way: max(speeds) for way, speeds in found.items()}


async def read(stream: Stream, size: int) -> float:
    """Read a stream to its end; returns megabytes a second."""
    began, got = time.monotonic(), 0
    while piece := await stream.read():
        got += len(piece)
    stream.end()
    assert got == size
    return got / (time.monotonic() - began) / 1e6


@contextmanager
def child(*arguments: object) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """Run this file in another role; yields what it says first, which is JSON."""
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), process
        finally:
            process.kill()


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.mib << 20
    if options.role:
        asyncio.run(relay() if options.role[0] == "relay" else node(int(options.role[1]), size))
        return 0
    with (
        child("--role", "relay") as (relay_port, relaying),
        child("--mib", options.mib, "--role", "node", relay_port) as ((plain_port, direct_port, certificate), _),
    ):
        at = DirectAddress(host="127.0.0.1", port=direct_port, certificate=certificate)
        speeds = asyncio.run(measure(relay_port, plain_port, at, options.runs, size))
        lags = json.loads(relaying.communicate()[0])
    p99 = statistics.quantiles(lags, n=100)[98]
    plain = speeds["plain"]
    ways = ", ".join(f"{way} {speed:.0f} MB/s" for way, speed in speeds.items())
    print(f"{ways}; the relay's loop lags {p99:.1f} ms (p99)")
    results: list[dict[str, object]] = [
        {
            "name": f"streams-{way}",
            "value": round(speeds[way]),
            "unit": "MB/s, one stream",
            "baseline": round(plain),
            "baseline_name": "plain loopback TCP",
            "ratio": round(speeds[way] / plain, 2),
            "goal": GOAL_MB_S,
            "ok": speeds[way] >= GOAL_MB_S,
        }
        for way in ("relayed", "direct")
    ]
    results += [
        {
            "name": "streams-lag",
            "value": round(p99, 1),
            "unit": "ms of event-loop lag in the relay, p99",
            "baseline": TICK_S * 1000,
            "baseline_name": "the timer that is measured",
            "ratio": None,
            "goal": GOAL_LAG_MS,
            "ok": p99 <= GOAL_LAG_MS,
        },
    ]
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
