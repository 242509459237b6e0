"""A store on the network's side of storage and its nodes, all in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from blake3 import blake3
from nacl.signing import SigningKey

from fallow.ports.clock import Clock
from fallow.verticals.storage.client.keys import keys_under
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.pieces import Reach
from fallow.verticals.storage.core.profiles import LAB, Profile
from tests.memory_control import MemoryControl
from tests.memory_nodes import NET, NETWORK_KEY, MemoryNode, MemoryReach
from tests.unit.agent_fakes import FakeClock

ACCOUNT = "a" * 40


class World(NamedTuple):
    """A store, and what it stands on."""

    store: ObjectStore
    control: MemoryControl
    reach: MemoryReach
    nodes: list[MemoryNode]


@asynccontextmanager
async def storage_world(
    *,
    nodes: int = 12,
    profile: Profile = LAB,
    clock: Clock | None = None,
    reach: Callable[[Reach], Reach] | None = None,
) -> AsyncIterator[World]:
    """A store on nodes in memory. Without a clock time stands still: nobody is slow."""
    clock = clock or FakeClock()
    made = [MemoryNode(SigningKey(bytes([seed + 1]) * 32), clock) for seed in range(nodes)]
    control = MemoryControl(made, clock, profile=profile)
    async with asyncio.TaskGroup() as group:
        memory = MemoryReach(made, group)
        opened = opened_store(
            NET,
            NETWORK_KEY,
            control,
            reach(memory) if reach else memory,
            clock,
            keys_of=keys_under(lambda account: blake3(account.encode()).digest(), os.urandom),
            random_bytes=os.urandom,
        )
        try:
            async with opened as store:
                await store.make_bucket(ACCOUNT, "bucket", settings={})
                yield World(store, control, memory, made)
        finally:
            memory.close()


@asynccontextmanager
async def another_store(
    world: World, secret: bytes, own: bool, clock: Clock | None = None
) -> AsyncIterator[ObjectStore]:
    """A store on the same nodes under another secret."""
    async with opened_store(
        NET,
        NETWORK_KEY,
        world.control,
        world.reach,
        clock or FakeClock(),
        keys_of=keys_under(lambda _: secret, os.urandom),
        random_bytes=os.urandom,
        own=own,
    ) as store:
        yield store
