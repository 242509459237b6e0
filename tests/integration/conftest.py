"""One network that most of the integration tests share: it takes seconds to start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from tests.network import Net, Running, connected, running_network

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
