"""The side of sessions that others come to: it greets each link, and keeps a session while its link is broken."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.wire import greeting
from fallow.ports.clock import Clock
from fallow.ports.dialling import GREETING_S, RESUME_S
from fallow.ports.places import Places
from fallow.ports.session import lost
from fallow.ports.sessions import Held, Sessions, receive_claim, refuse
from fallow.ports.streams import Link
from fallow.ports.tasks import within

LINKS_MAX: Final = 8192
LINKS_PER_ADDRESS_MAX: Final = 1024
"""Many nodes may share a router; but nobody, who has shown no key yet, takes all places."""

_log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], object]
Admit = Callable[[greeting.Introduction, greeting.Claim], Awaitable[None]]
"""Raises a FallowError unless a session may begin, or go on."""


class Door:
    """Takes in sessions. `prove` is what the Welcome shows of who this side is; `begun` is told of each new one."""

    def __init__(
        self,
        net: str,
        sessions: Sessions,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes],
        spawn: Spawn,
        admit: Admit,
        begun: Callable[[Held], None],
        prove: Callable[[greeting.Claim], bytes] = lambda _: b"",
        places: Places | None = None,
    ) -> None:
        self._net = net
        self._sessions = sessions
        self._clock = clock
        self._random_bytes = random_bytes
        self._spawn = spawn
        self._admit = admit
        self._begun = begun
        self._prove = prove
        self._places = places or Places(LINKS_MAX, LINKS_PER_ADDRESS_MAX)

    async def attend(self, link: Link, address: str) -> None:
        """Carry a session over a link that came from `address`, until the link breaks."""
        hello = greeting.Hello(self._net, self._random_bytes(greeting.NONCE_BYTES))
        try:
            with self._places.one_for(address):
                await self._carry(link, address, hello)
        except FallowError as error:
            await refuse(link, error)

    async def _carry(self, link: Link, address: str, hello: greeting.Hello) -> None:
        said, claim = await within(self._clock, GREETING_S, receive_claim(link, hello))
        await self._admit(said, claim)
        held, resumed = self._sessions.admit(claim, said.key, address)
        held.seen_at = address
        await held.session.leave_link()
        held.links += 1
        number = held.links
        if number == 1:
            self._begun(held)
        try:
            await link.send(greeting.write(greeting.Welcome(resumed, held.session.received, self._prove(claim))))
            await held.session.drive(link, claim.received if resumed else 0)
        except Unavailable:
            if held.session.over is None:
                self._spawn(self._end_unless_resumed(held, number))
        except FallowError as error:
            _log.warning("session of %s ended: %s", held.address, error)
            self._sessions.drop(held, error)

    async def _end_unless_resumed(self, held: Held, number: int) -> None:
        await self._clock.sleep(RESUME_S)
        if held.links == number:
            self._sessions.drop(held, lost())

    async def end_idle(self, held: Held, idle_s: float) -> None:
        """End a session that carries nothing for so long: anybody may begin one."""
        before = -1
        while held.session.streams or held.session.received != before:
            before = held.session.received
            await self._clock.sleep(idle_s)
        self._sessions.drop(held, Unavailable("stream.idle", "Nothing was opened for a while.", "Connect again."))
