"""Where nodes can be dialled themselves, as the relays that hold their sessions know it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from fallow.domain.calls.base import NodeRef
from fallow.domain.calls.streams import RelayAt, relay_of
from fallow.domain.errors import FallowError
from fallow.domain.streams import DirectAddress
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call

KNOWN_MS: Final = 60_000
ASKED_S: Final = 2.0
ASKING_MAX: Final = 256
NODES_MAX: Final = 100_000

_log = logging.getLogger(__name__)


class _Known(NamedTuple):
    at: DirectAddress | None
    until_ms: int


class Directs:
    """Nobody waits for a relay's answer: until it is there a node is reached through the relay, then directly.

    What has changed since is met by clients: who cannot dial a node goes through the relay.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask relays while the context is open."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                for task in self._asking.values():
                    task.cancel()

    def of(self, node: bytes) -> DirectAddress | None:
        """Where it can be dialled, as far as that is known; a relay is asked beside, at most once a minute."""
        known, now_ms = self._known.get(node), self._clock.monotonic_ms()
        stale = known is None or known.until_ms <= now_ms
        if stale and self._group is not None and node not in self._asking and len(self._asking) < ASKING_MAX:
            self._asking[node] = self._group.create_task(self._ask(node))
        return known.at if known is not None else None

    async def _ask(self, node: bytes) -> None:
        try:
            who = NodeRef(node=node.hex())
            at = (await call(self._bus, relay_of(who.node), who, RelayAt, timeout_s=ASKED_S)).direct
        except FallowError as error:  # it is away, or its relay is
            _log.debug("no relay says where %s is: %s", node.hex(), error)
            at = None
        finally:
            del self._asking[node]
        if len(self._known) >= NODES_MAX:
            self._known.clear()
        self._known[node] = _Known(at, self._clock.monotonic_ms() + KNOWN_MS)
