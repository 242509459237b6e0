"""Whether a node that shows a ticket may still use it: a ban ends that at once, whatever the ticket says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.remembered import Remembered
from fallow.ports.rpc import call
from fallow.ports.tasks import background

CACHED_NODES_MAX = 16_384


class Nodes:
    """Asks the registry about nodes, and remembers for a moment who may; see `hearing`."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known = Remembered[bytes, bool](clock, CACHED_NODES_MAX)

    async def check(self, node: bytes) -> None:
        """Let a node pass.

        Raises:
            NotAllowed: it is banned, or no longer enrolled (`ticket.node`).
            Unavailable: the registry does not answer.
        """
        await self._known.ask(node, lambda: self._ask(node))

    async def passing(self, node: bytes | None, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hand bytes on for as long as the node that they are from, or for, may take part; None is no node."""
        async for chunk in chunks:
            if node is not None:
                await self.check(node)
            yield chunk

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[None]:
        """Hear of bans while the context is open: from then on everybody is asked about anew."""
        async with (
            self._bus.subscribe(calls.actions.BANNED) as banned,
            background(steadily("http.bans", partial(self._forget_at, banned), self._clock)),
        ):
            yield

    async def _ask(self, node: bytes) -> bool:
        if not await call(self._bus, calls.nodes.MAY_CONNECT, calls.base.NodeRef(node=node.hex()), bool):
            raise NotAllowed("ticket.node", "This node may not take part any more.", "See: fallow agent status")
        return True

    async def _forget_at(self, banned: AsyncIterator[Message]) -> None:
        async for _ in banned:
            self._known.forget(bool)
