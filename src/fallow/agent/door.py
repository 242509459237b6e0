"""Where buyers with a ticket for this very node have sessions with it: dialled directly, or carried by a relay."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from fallow.agent.identity import NodeKey
from fallow.domain.errors import NotAllowed, TooMuch
from fallow.domain.streams import PROBE_BYTES, open_ticket
from fallow.domain.wire import greeting
from fallow.domain.wire.multiplex import STREAMS_MAX
from fallow.ports.clock import Clock
from fallow.ports.door import Door, Spawn
from fallow.ports.lines import StreamLink
from fallow.ports.places import Places
from fallow.ports.session import SessionStream
from fallow.ports.sessions import Held, Sessions
from fallow.ports.streams import Link, Stream

SESSIONS_MAX: Final = 32
SESSIONS_PER_ADDRESS_MAX: Final = 16
LINKS_MAX: Final = 64
LINKS_PER_ADDRESS_MAX: Final = 32
IDLE_S: Final = 60.0
RELAYED: Final = "relay"
"""The address of all who come through a relay."""


class NodeDoor:
    """Lets in who shows a ticket of the network for this node; `take` serves each stream that is then opened.

    `probe` is what the network shows instead when it tries whether the door can be reached.
    """

    def __init__(
        self,
        net: str,
        key: NodeKey,
        network_key: bytes,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes],
        spawn: Spawn,
        take: Callable[[SessionStream], None],
    ) -> None:
        self.net = net
        self.key = key
        self.probe = random_bytes(PROBE_BYTES)
        self._network_key = network_key
        self._clock = clock
        self._spawn = spawn
        self._take = take
        self._sessions = Sessions(
            self._on_opened, total_max=SESSIONS_MAX, openers_per_address_max=SESSIONS_PER_ADDRESS_MAX
        )
        self._door = Door(
            net,
            self._sessions,
            clock,
            random_bytes=random_bytes,
            spawn=spawn,
            admit=self._admit,
            begun=self._begun,
            prove=lambda claim: greeting.prove(claim, key.sign),
            places=Places(LINKS_MAX, LINKS_PER_ADDRESS_MAX),
        )

    async def attend(self, link: Link, address: str) -> None:
        """Carry a session over a link that came from `address`, until the link breaks."""
        await self._door.attend(link, address)

    async def carry(self, stream: Stream) -> None:
        """Carry a session over a stream that came through a relay, until that ends."""
        await self._door.attend(StreamLink(stream), RELAYED)
        stream.end()

    async def _admit(self, said: greeting.Introduction, claim: greeting.Claim) -> None:
        if claim.node:
            raise NotAllowed("stream.purpose", "Nodes have nothing to open here.")
        if self._sessions.goes_on(claim, said.key) or hmac.compare_digest(said.ticket, self.probe):
            return
        ticket = open_ticket(said.ticket, net=self.net, network_key=self._network_key, now_ms=self._clock.now_ms())
        if ticket.node != self.key.node:
            raise NotAllowed("stream.ticket", "The ticket is for another node.")

    def _begun(self, held: Held) -> None:
        self._spawn(self._door.end_idle(held, IDLE_S))

    def _on_opened(self, _: Held, stream: SessionStream) -> None:
        # In all sessions together: with the window, what others can make the owner's machine hold is bounded.
        if self._sessions.streams > STREAMS_MAX:
            stream.reset(TooMuch("rate.streams", f"{STREAMS_MAX} streams are open to this node.", "Try again later."))
        else:
            self._take(stream)
