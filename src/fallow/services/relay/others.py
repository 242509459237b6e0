"""Several gateways: which relay holds a node, and the way to it."""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

import msgspec
from nacl.signing import SigningKey

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, TooMuch, Unavailable
from fallow.domain.streams import DirectAddress, Opening
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, DialledSession
from fallow.ports.rpc import call, serve
from fallow.ports.session import SessionStream
from fallow.ports.sessions import Held
from fallow.ports.streams import Link
from fallow.ports.tasks import within

LINK_S: Final = 10.0
WHERE_S: Final = 2.0
SESSIONS_MAX: Final = 16
"""With one other relay: each carries so many streams and no more."""

_log = logging.getLogger(__name__)

DialRelay = Callable[[str], AbstractAsyncContextManager[Link]]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Others:
    """The other relays of a network, from the one at `url`, which opens streams there as any opener does."""

    def __init__(
        self,
        net: str,
        url: str,
        *,
        bus: Bus,
        clock: Clock,
        dial: DialRelay,
        random_bytes: Callable[[int], bytes],
        spawn: Spawn,
    ) -> None:
        self._net = net
        self._url = url
        self._bus = bus
        self._clock = clock
        self._dial = dial
        self._random_bytes = random_bytes
        self._spawn = spawn
        self._sessions: defaultdict[str, list[DialledSession]] = defaultdict(list)

    async def answer_for(self, held: Held) -> None:
        """Tell where a node's session is, for as long as it lasts."""
        at = calls.streams.RelayAt(node=held.key.hex(), url=self._url)
        await self._bus.publish(calls.streams.NODE_TAKEN, msgspec.msgpack.encode(at))
        subject = calls.streams.relay_of(at.node)

        async def answer(_: calls.base.NodeRef) -> calls.streams.RelayAt:
            return calls.streams.RelayAt(node=at.node, url=at.url, direct=held.direct)

        async with serve(self._bus, subject, calls.base.NodeRef, answer, queue=""):
            await held.dropped.wait()

    async def hear(self, messages: AsyncIterator[Message], gone: Callable[[bytes], None]) -> None:
        """Call `gone` with each node whose session has begun at another relay."""
        async for message in messages:
            try:
                at = msgspec.msgpack.decode(message.data, type=calls.streams.RelayAt)
                node = bytes.fromhex(at.node)
            except UNREADABLE as error:
                _log.warning("where a node is cannot be read: %s", error)
                continue
            if at.url != self._url:
                gone(node)

    async def open(self, node: bytes, opening: Opening) -> SessionStream:
        """Open a stream through the relay that holds a node.

        Raises:
            Unavailable: none does, or it cannot be reached.
            TooMuch: too many streams are open to it.
        """
        at = await self._where(node)
        for number in range(SESSIONS_MAX):
            session = self._session(at.url, number)
            await within(self._clock, LINK_S, _linked(session))
            with suppress(TooMuch):  # it is full, and the next one may have room
                return session.open(opening.write())
        raise TooMuch("rate.streams", "No more streams fit through to the gateway of this node.", "Try again later.")

    async def direct(self, node: bytes) -> DirectAddress | None:
        """Return where the relay that holds a node has reached the node itself; None when there is none."""
        try:
            return (await self._where(node)).direct
        except Unavailable:
            return None

    async def _where(self, node: bytes) -> calls.streams.RelayAt:
        try:
            who = calls.base.NodeRef(node=node.hex())
            return await call(
                self._bus, calls.streams.relay_of(who.node), who, calls.streams.RelayAt, timeout_s=WHERE_S
            )
        except Unavailable:
            raise Unavailable(
                "stream.node_away", f"The node {node.hex()[:12]} is not connected.", "Try again."
            ) from None

    def _session(self, url: str, number: int) -> DialledSession:
        """One of those with another relay, begun if it is not there yet."""
        sessions = self._sessions[url]
        if number == len(sessions):
            sessions.append(self._begun(url))
            self._spawn(sessions[number].hold())
        return sessions[number]

    def _begun(self, url: str) -> DialledSession:
        key = SigningKey(self._random_bytes(32))
        return DialledSession(
            Caller(self._net, bytes(key.verify_key), lambda message: key.sign(message).signature, node=False),
            lambda: self._dial(url),
            self._clock,
            random_bytes=self._random_bytes,
            jitter=random.SystemRandom(),
            on_opened=lambda stream: stream.reset(Conflict("stream.purpose", "Nothing is served here.")),
        )


async def _linked(session: DialledSession) -> None:
    await session.linked.wait()
