"""A session that this side dials, and dials again whenever its link breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

from fallow.domain.errors import FallowError, InvalidInput, Unavailable
from fallow.domain.signing import Sign
from fallow.domain.wire import greeting
from fallow.ports.clock import Clock
from fallow.ports.session import Session, SessionStream, lost
from fallow.ports.streams import Link
from fallow.ports.tasks import within

RESUME_S: Final = 30.0
"""How long a session outlives its link, on both sides."""
GREETING_S: Final = 10.0
RETRY_FIRST_S: Final = 0.3
RETRY_MAX_S: Final = 15.0

_log = logging.getLogger(__name__)

Dial = Callable[[], AbstractAsyncContextManager[Link]]


class Caller(NamedTuple):
    """Who dials: a node with its own key, or anyone with one made for the purpose.

    Who dials a node itself shows it a `ticket`, and expects that it proves to be `peer`.
    """

    net: str
    key: bytes
    sign: Sign
    node: bool
    ticket: Callable[[], bytes] = bytes
    peer: bytes = b""


class DialledSession:
    """Give it time with `hold`. `trouble` says why there is no link; `on_opened` as for `Session`."""

    def __init__(
        self,
        caller: Caller,
        dial: Dial,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes],
        jitter: random.Random,
        on_opened: Callable[[SessionStream], None],
    ) -> None:
        self.trouble = "Not connected yet."
        self.linked = asyncio.Event()
        self._caller = caller
        self._dial = dial
        self._clock = clock
        self._random_bytes = random_bytes
        self._jitter = jitter
        self._on_opened = on_opened
        self._id = b""
        self._session: Session | None = None

    async def hold(self) -> None:
        """Stay connected until cancelled."""
        failures, broke_ms = 0, self._clock.monotonic_ms()
        try:
            while True:
                try:
                    async with self._dial() as link:
                        session, received = await within(self._clock, GREETING_S, self._greet(link))
                        failures, self.trouble = 0, ""
                        self.linked.set()
                        try:
                            await session.drive(link, received)
                        finally:
                            self.linked.clear()
                            broke_ms = self._clock.monotonic_ms()
                except InvalidInput as error:
                    self._note(error)
                    self._drop(error)
                except FallowError as error:
                    self._note(error)
                if self._clock.monotonic_ms() - broke_ms > RESUME_S * 1000:
                    self._drop(lost())
                bound = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures, 8))
                await self._clock.sleep(self._jitter.uniform(bound / 2, bound))
                failures += 1
        finally:
            self._drop(Unavailable("stream.closed", "This side has closed the connection."))

    def open(self, opening: bytes) -> SessionStream:
        """Open a stream.

        Raises:
            Unavailable: there is no connection.
            TooMuch: too many are open.
        """
        if self._session is None:
            raise Unavailable("stream.disconnected", self.trouble)
        return self._session.open(opening)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._session.streams if self._session is not None else 0

    async def told(self) -> None:
        """Return once all that was said has gone out; at once where there is no link that it could go over."""
        if self._session is not None and self.linked.is_set():
            await self._session.told()

    async def _greet(self, link: Link) -> tuple[Session, int]:
        session = self._session
        if session is None:
            self._id = self._random_bytes(greeting.SESSION_BYTES)
        received = session.received if session is not None else 0
        welcome = await greet(link, self._caller, self._id, fresh=session is None, received=received)
        if session is None or not welcome.resumed:
            self._drop(lost())
            session = self._session = Session(dialled=True, on_opened=self._on_opened)
        return session, welcome.received

    def _drop(self, error: FallowError) -> None:
        if self._session is not None:
            self._session.close(error)
            self._session = None

    def _note(self, error: FallowError) -> None:
        if error.message != self.trouble:
            _log.info("no data link: %s", error)
        self.trouble = error.message


async def greet(link: Link, caller: Caller, session: bytes, *, fresh: bool, received: int = 0) -> greeting.Welcome:
    """Say over a new link who calls, for which session, and how many of its frames have come.

    Raises:
        InvalidInput: the other side is none of this network, or does not greet as it should.
        NotAllowed: it is not the node that it should be.
        FallowError: it refuses, and why; or the link broke.
    """
    hello = greeting.read(await link.receive())
    if not isinstance(hello, greeting.Hello) or hello.net != caller.net:
        raise InvalidInput("wire.greeting", "This is not the network that it should be.")
    claim = greeting.Claim(
        net=hello.net, nonce=hello.nonce, session=session, node=caller.node, fresh=fresh, received=received
    )
    await link.send(greeting.write(greeting.introduce(caller.key, caller.sign, claim, caller.ticket())))
    welcome = greeting.read(await link.receive())
    if not isinstance(welcome, greeting.Welcome):
        raise InvalidInput("wire.greeting", "The other side does not greet as a session begins.")
    if caller.peer:
        greeting.check_proof(welcome, claim, caller.peer)
    return welcome
