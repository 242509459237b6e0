"""Ways to nodes: sessions with the network's relay, each for many streams, and with nodes that can be dialled."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from nacl.signing import SigningKey

from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.domain.streams import DirectAddress, Opening, Service
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, Dial, DialledSession
from fallow.ports.session import SessionStream
from fallow.ports.streams import Link, Stream
from fallow.ports.tasks import within
from fallow.verticals.storage.core.calls.segments import Place

VERTICAL: Final = "storage"
LINK_S: Final = 8.0
DIRECT_S: Final = 3.0
"""How long a direct line may take before streams go through the relay."""
AVOID_MS: Final = 60_000
"""How long a node that could not be dialled is not dialled again."""
IDLE_MS: Final = 60_000
LOOK_S: Final = 10.0
SESSION_STREAMS: Final = 48
"""Of one session; a mux takes 64, and forgets one only when both sides have ended it."""
RELAY_SESSIONS_MAX: Final = 32
NODE_SESSIONS_MAX: Final = 256
"""Nodes that are dialled at a time, each a descriptor of this process; others are reached through the relay."""

_log = logging.getLogger(__name__)

Direct = Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]]


class _Held:
    """A session that is held, and since when nobody uses it. `ticket` is what a node is shown when it is dialled."""

    def __init__(self, session: Callable[[Callable[[], bytes]], DialledSession], group: asyncio.TaskGroup) -> None:
        self.ticket = b""
        self.used_ms = 0
        self.waiting = 0
        self.session = session(lambda: self.ticket)
        self.holding = group.create_task(self.session.hold())

    @property
    def load(self) -> int:
        """Streams that it carries, and those that wait for its link."""
        return self.session.streams + self.waiting


class Lines:
    """Implements `Reach`. `run` ends what is idle; sessions end with `group`."""

    def __init__(
        self,
        net: str,
        relay: Dial,
        direct: Direct,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes],
        group: asyncio.TaskGroup,
    ) -> None:
        self._net = net
        self._relay = relay
        self._direct = direct
        self._clock = clock
        self._random_bytes = random_bytes
        self._group = group
        self._relays: list[_Held] = []
        self._nodes: dict[bytes, _Held] = {}
        self._avoided: dict[bytes, int] = {}

    @property
    def sessions(self) -> int:
        """How many are held."""
        return len(self._relays) + len(self._nodes)

    async def run(self) -> None:
        """End sessions that nobody uses, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            now_ms = self._clock.monotonic_ms()
            self._relays = [held for held in self._relays if self._stays(held, now_ms)]
            self._nodes = {node: held for node, held in self._nodes.items() if self._stays(held, now_ms)}
            self._avoided = {node: until_ms for node, until_ms in self._avoided.items() if until_ms > now_ms}

    def close(self) -> None:
        """End all sessions."""
        for held in (*self._relays, *self._nodes.values()):
            held.holding.cancel()

    async def open(self, place: Place, request: bytes) -> Stream:
        """See `Reach`."""
        opening = Opening(place.ticket, Service(VERTICAL, request)).write()
        if place.direct is not None and self._may_dial(place.node):
            held = self._nodes.get(place.node) or self._dial_node(place.node, place.direct)
            held.ticket = place.ticket
            try:
                return await self._open(held, opening, DIRECT_S)
            except FallowError as error:
                _log.info("node %s is reached through the relay: %s", place.node.hex(), error)
                if not held.session.linked.is_set():
                    self._avoid(place.node)
        held = self._relay_with_room()
        return await self._open(held, opening, LINK_S)

    def _may_dial(self, node: bytes) -> bool:
        return node in self._nodes or (node not in self._avoided and len(self._nodes) < NODE_SESSIONS_MAX)

    def _relay_with_room(self) -> _Held:
        """The fullest session with the relay that still has room, so that others can end."""
        open_ = [held for held in self._relays if held.load < SESSION_STREAMS]
        if not open_ and len(self._relays) < RELAY_SESSIONS_MAX:
            open_ = [self._begin(self._relay)]
            self._relays += open_
        if not open_:
            raise Unavailable("storage.busy", "This client has as many streams open as it may.", "Try again.")
        return max(open_, key=lambda held: held.load)

    def _dial_node(self, node: bytes, address: DirectAddress) -> _Held:
        held = self._nodes[node] = self._begin(lambda: self._direct(address, node), peer=node)
        return held

    def _begin(self, dial: Dial, *, peer: bytes = b"") -> _Held:
        key = SigningKey(self._random_bytes(32))
        public, sign = bytes(key.verify_key), lambda message: key.sign(message).signature

        def session(ticket: Callable[[], bytes]) -> DialledSession:
            return DialledSession(
                Caller(self._net, public, sign, node=False, ticket=ticket, peer=peer),
                dial,
                self._clock,
                random_bytes=self._random_bytes,
                jitter=random.SystemRandom(),
                on_opened=_refuse,
            )

        return _Held(session, self._group)

    async def _open(self, held: _Held, opening: bytes, seconds: float) -> Stream:
        held.waiting += 1
        try:
            await self._linked(held, seconds)
        finally:
            held.waiting -= 1
        return held.session.open(opening)

    async def _linked(self, held: _Held, seconds: float) -> None:
        held.used_ms = self._clock.monotonic_ms()
        if held.session.linked.is_set():
            return

        async def wait() -> None:
            await held.session.linked.wait()

        try:
            await within(self._clock, seconds, wait())
        except Unavailable as error:
            raise Unavailable("stream.disconnected", held.session.trouble, "Try again.") from error

    def _avoid(self, node: bytes) -> None:
        self._avoided[node] = self._clock.monotonic_ms() + AVOID_MS
        held = self._nodes.pop(node, None)
        if held is not None:
            held.holding.cancel()

    def _stays(self, held: _Held, now_ms: int) -> bool:
        if held.load:
            held.used_ms = now_ms
        if now_ms - held.used_ms < IDLE_MS:
            return True
        held.holding.cancel()
        return False


def _refuse(stream: SessionStream) -> None:
    stream.reset(Conflict("stream.purpose", "Nothing is served here."))
