"""A whole network for a benchmark: `fallow up`, crowds of nodes, buyers, and what its processes take."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from bench._nodes import Crowd, Ground, Spec, joined
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.bootstrap.keys import load_keys, signer
from fallow.bootstrap.place import read_place
from fallow.bootstrap.tls import own_context
from fallow.domain import calls
from fallow.domain.facts import OfferMade
from fallow.ports.rpc import call
from tests.network import fresh_id, processes_of

GOAL_LAG_MS = 50
JOINING_MAX = 16
USD = 1_000_000


@asynccontextmanager
async def gateway_bus(data: Path, name: str) -> AsyncIterator[NatsBus]:
    """A connection to the bus with a gateway's rights."""
    place, key = read_place(data), load_keys(data).gateway
    async with connect_nats(
        place.bus_url, signer=signer(key), name=name, tls=own_context(place.tls),
        inbox_prefix=inbox_prefix(bytes(key.verify_key)),
    ) as bus:  # fmt: skip
        yield bus


async def new_buyer(bus: NatsBus, usd: int) -> str:
    """An account with TEST credits."""
    key = await call(bus, calls.keys.CREATE_KEY, calls.keys.CreateKey(), calls.keys.Secret)
    grant = calls.money.Grant(id=fresh_id(), account=key.account, amount_microusd=usd * USD)
    await call(bus, calls.money.GRANT, grant, dict)
    return key.account


async def join_all(bus: NatsBus, offers: list[OfferMade], draw: random.Random) -> list[Spec]:
    """Have so many new nodes join, each with an owner of its own."""
    token = await call(bus, calls.keys.CREATE_TOKEN, calls.keys.CreateToken(uses=len(offers)), calls.keys.Secret)
    seeds = [draw.randbytes(32) for _ in offers]
    joining = asyncio.Semaphore(JOINING_MAX)

    async def join(seed: bytes, made: OfferMade) -> Spec:
        async with joining:
            return await joined(bus, token.secret, seed, made)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(join(seed, made)) for seed, made in zip(seeds, offers, strict=True)]
    return [task.result() for task in tasks]


@asynccontextmanager
async def crowds(data: Path, specs: list[Spec], processes: int, work_s: float) -> AsyncIterator[list[Crowd]]:
    """Have nodes serve, in so many processes; all of them are on offer when the context opens."""
    place, keys = read_place(data), load_keys(data)
    ca = place.tls.ca_pem() if place.tls else ""
    ground = Ground(place.net, place.bus_public_url, bytes(keys.network.verify_key), ca)
    async with AsyncExitStack() as stack:
        running = [stack.enter_context(Crowd(ground, specs[number::processes], work_s)) for number in range(processes)]
        await asyncio.gather(*(crowd.ready() for crowd in running))
        yield running


def processor_s(data: Path) -> dict[str, float]:
    """Processor time so far of each program of the network, children included."""
    sums: dict[str, float] = {}
    for pid in processes_of(data):
        try:
            process = psutil.Process(pid)
            used = process.cpu_times()
            sums[_name(process)] = sums.get(_name(process), 0.0) + used.user + used.system
        except psutil.NoSuchProcess:
            continue
    return sums


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What each program took in between."""
    return {name: after[name] - before.get(name, 0.0) for name in sorted(after)}


def _name(process: psutil.Process) -> str:
    arguments = process.cmdline()
    for before in ("fallow.bootstrap.serve", "--role"):
        if before in arguments:
            return arguments[arguments.index(before) + 1]
    return process.name()


async def lags(bus: NatsBus, role: str = "core") -> list[int]:
    """How often the event loop of a role was late by how much so far, see `calls.processes.LAG_BOUNDS_MS`."""
    return await call(bus, calls.processes.lag(role), {}, list[int])


def lag_p99(before: Sequence[int], after: Sequence[int]) -> int:
    """Milliseconds (the upper bound of the class) by which 99 % of the looks in between were late at most."""
    counts = [new - old for new, old in zip(after, before, strict=True)]
    seen = 0
    for bound, count in zip((*calls.processes.LAG_BOUNDS_MS, 1_000_000), counts, strict=True):
        seen += count
        if seen >= 0.99 * sum(counts):
            return bound
    raise AssertionError("all of them were counted")


def lag_result(bench: str, p99_ms: int) -> dict[str, object]:
    """How late the core's event loop was while a benchmark ran, against the goal for all of them."""
    print(f"event loop of the core: p99 {p99_ms} ms late")
    return {
        "name": f"{bench}-lag",
        "value": p99_ms,
        "unit": "ms, event loop of the core (p99)",
        "baseline": None,
        "baseline_name": None,
        "ratio": None,
        "goal": GOAL_LAG_MS,
        "ok": p99_ms <= GOAL_LAG_MS,
    }
