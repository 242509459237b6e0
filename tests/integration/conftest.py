"""One network that most of the integration tests share: it takes seconds to start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from tests.network import Net, Running, connected, running_network
from tests.s3_world import World, s3_world

MACHINES = ("barn", "mill", "orchard")


@pytest.fixture(scope="session")
def shared_network() -> Iterator[Running]:
    """A network with three machines, for tests that break nothing."""
    with ExitStack() as stack:
        running = stack.enter_context(running_network())
        for name in MACHINES:
            stack.enter_context(running.agent(name))
        yield running


@pytest.fixture
async def net(shared_network: Running) -> AsyncIterator[Net]:
    """Connections to it, and an account with credits of this test's own."""
    async with connected(shared_network) as net:
        await net.on_market(*shared_network.agents)
        yield net


@pytest.fixture(scope="session")
def s3() -> Iterator[World]:
    """An S3 gateway on a store in memory."""
    with s3_world() as world:
        yield world


@pytest.fixture
def bucket(s3: World) -> str:
    """The name of a bucket of the main account's, empty."""
    name = f"bucket-{uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name)
    return name
