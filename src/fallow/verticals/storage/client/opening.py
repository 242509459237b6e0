"""The store of a process: opened once, used by many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nacl.signing import SigningKey

from fallow.ports.clock import Clock
from fallow.ports.dialling import Dial
from fallow.ports.tasks import background
from fallow.ports.vertical.gateway import GatewayGround
from fallow.verticals.storage.client.asking import Asker, BusAsker
from fallow.verticals.storage.client.keys import KeysOf
from fallow.verticals.storage.client.lines import Direct, Lines
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.pieces import Mover, Reach
from fallow.verticals.storage.client.reading import Crew
from fallow.verticals.storage.client.waiting import Watch


@asynccontextmanager
async def gateway_store(ground: GatewayGround, keys_of: KeysOf) -> AsyncIterator[ObjectStore]:
    """Open the store of a gateway."""
    async with lined_store(
        ground.net,
        ground.network_key,
        BusAsker(ground.bus, ground.clock),
        key=ground.key,
        relay=ground.relay,
        direct=ground.direct,
        clock=ground.clock,
        keys_of=keys_of,
        random_bytes=ground.random_bytes,
    ) as store:
        yield store


@asynccontextmanager
async def lined_store(
    net: str,
    network_key: bytes,
    asker: Asker,
    *,
    relay: Dial,
    direct: Direct,
    clock: Clock,
    keys_of: KeysOf,
    random_bytes: Callable[[int], bytes],
    key: SigningKey | None = None,
    own: bool = False,
) -> AsyncIterator[ObjectStore]:
    """Open a store with lines of its own to nodes. `key` as for `opened_store`, `own` as for `ObjectStore`."""
    async with asyncio.TaskGroup() as group:
        lines = Lines(net, relay, direct, clock, random_bytes=random_bytes, group=group)
        opened = opened_store(
            net, network_key, asker, lines, clock, keys_of=keys_of, random_bytes=random_bytes, key=key, own=own
        )
        try:
            async with background(lines.run()), opened as store:
                yield store
        finally:
            lines.close()


@asynccontextmanager
async def opened_store(
    net: str,
    network_key: bytes,
    asker: Asker,
    reach: Reach,
    clock: Clock,
    *,
    keys_of: KeysOf,
    random_bytes: Callable[[int], bytes],
    key: SigningKey | None = None,
    own: bool = False,
) -> AsyncIterator[ObjectStore]:
    """Open a store that asks `asker`, and moves pieces over `reach`; orders are signed by `key`, or by one it draws."""
    key, watch = key or SigningKey(random_bytes(32)), Watch(clock)
    mover = Mover(
        net, network_key, bytes(key.verify_key), lambda message: key.sign(message).signature, reach, clock, watch
    )
    async with asyncio.TaskGroup() as group, background(watch.run()):
        crew = Crew(group)
        try:
            yield ObjectStore(asker, mover, crew, keys_of=keys_of, random_bytes=random_bytes, own=own)
        finally:
            crew.close()
