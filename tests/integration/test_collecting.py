"""What stays of a real job's blobs, and what goes: the production collector on a network's own folder and bus."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fallow import Requirements
from fallow.adapters.blobs import FolderBlobs
from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.bootstrap.keys import load_keys, signer
from fallow.bootstrap.place import bus_context, read_place
from fallow.domain.identity import address
from fallow.http.collecting import DAY_MS, Collector
from tests import programs
from tests.network import NEEDS, Net
from tests.unit.wasm_programs import SPIN, wasm, write

pytestmark = pytest.mark.xdist_group("network")


def aged(folder: Path) -> None:
    """Let this account's blobs, and nobody else's, be unused for two days."""
    at = time.time_ns() - 2 * DAY_MS * 1_000_000
    for path in folder.glob("*/*"):
        os.utime(path, ns=(at, at))


async def test_a_jobs_blobs_stay_for_their_time_and_then_go(net: Net) -> None:
    order = await net.buyer.wasm_order(programs.hello(), requirements=NEEDS)
    await net.buyer.submit(order)
    # What gives no result is no canary either, which would be kept for longer.
    nobody = Requirements(nodes_allowed=["00" * 32])
    idle = await net.buyer.wasm_order(wasm(write(1, 100, 6), SPIN), requirements=nobody)
    await net.buyer.submit(idle)
    await net.finished(order.id)
    result = await net.buyer.result(order.id)
    stray = await net.buyer.upload(b"an input that was never ordered")
    owner = address(net.first.account).hex()
    mine = net.data / "blobs" / owner
    place, keys = read_place(net.data), load_keys(net.data)
    async with connect_nats(
        place.bus_url,
        signer=signer(keys.gateway),
        name="collector",
        tls=bus_context(place),
        inbox_prefix=inbox_prefix(bytes(keys.gateway.verify_key)),
    ) as bus:
        blobs = FolderBlobs(net.data / "blobs")

        async def left(keep_days: int) -> set[str]:
            aged(mine)
            await Collector(bus, blobs, SystemClock(), keep_ms=keep_days * DAY_MS).collect()
            return {path.name for path in mine.glob("*/*")}

        program = idle.work["program"]
        assert {program, stray} <= {path.name for path in mine.glob("*/*")}
        kept = await left(30)
        assert program in kept, "its job is open"
        assert stray not in kept
        assert await result.stdout() == b"hello\n"
        await net.buyer.cancel(idle.id)
        await net.finished(idle.id)
        assert program in await left(30)
        assert program not in await left(0)
