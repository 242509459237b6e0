"""The sessions that came to this side: how they begin, outlive a link, and end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.domain.networks import line_of
from fallow.domain.streams import DirectAddress
from fallow.domain.wire import greeting
from fallow.ports.session import Session, SessionStream
from fallow.ports.streams import Link

SESSIONS_MAX: Final = 8192
OPENERS_PER_ADDRESS_MAX: Final = 64

_log = logging.getLogger(__name__)

Serve = Callable[["Held", SessionStream], None]


class Held:
    """A session, whose it is, over how many links it has gone, and where the latest came from.

    `direct` is where a node was reached itself, if it was.
    """

    def __init__(self, claim: greeting.Claim, key: bytes, address: str, serve: Serve) -> None:
        self.key = key
        self.id = claim.session
        self.node = claim.node
        self.address = address
        self.seen_at = address
        self.links = 0
        self.direct: DirectAddress | None = None
        self.dropped = asyncio.Event()
        self.session = Session(dialled=False, on_opened=lambda stream: serve(self, stream))


class Sessions:
    """All of them, by key and id; a node has one at a time."""

    def __init__(
        self, serve: Serve, *, total_max: int = SESSIONS_MAX, openers_per_address_max: int = OPENERS_PER_ADDRESS_MAX
    ) -> None:
        self._serve = serve
        self._total_max = total_max
        self._openers_max = openers_per_address_max
        self._held: dict[tuple[bytes, bytes], Held] = {}
        self._nodes: dict[bytes, Held] = {}
        self._openers: Counter[str] = Counter()

    @property
    def streams(self) -> int:
        """How many streams are open in all of them."""
        return sum(held.session.streams for held in self._held.values())

    def node(self, node: bytes) -> Held | None:
        """Return the session of a node, if it is here."""
        return self._nodes.get(node)

    def goes_on(self, claim: greeting.Claim, key: bytes) -> bool:
        """Whether a claim is for a session that is here."""
        known = self._held.get((key, claim.session))
        return known is not None and not claim.fresh and known.node == claim.node

    def admit(self, claim: greeting.Claim, key: bytes, address: str) -> tuple[Held, bool]:
        """Return the session that a claim is for, and whether it goes on.

        Raises:
            TooMuch: there are too many.
        """
        known = self._held.get((key, claim.session))
        if known is not None and self.goes_on(claim, key):
            return known, True
        if known is not None:
            self.drop(known, Unavailable("stream.replaced", "The session was begun anew."))
        if len(self._held) >= self._total_max:
            raise TooMuch("rate.sessions", "Here are as many connections as can be held.", "Try again later.")
        line = line_of(address)
        if not claim.node and self._openers[line] >= self._openers_max:
            raise TooMuch("rate.sessions", f"{self._openers_max} connections are open from your address.")
        held = Held(claim, key, address, self._serve)
        if claim.node:
            if (before := self._nodes.get(key)) is not None:
                self.drop(before, Unavailable("stream.replaced", "The node has connected anew."))
            self._nodes[key] = held
        else:
            self._openers[line] += 1
        self._held[key, claim.session] = held
        return held, False

    def drop(self, held: Held, error: FallowError) -> None:
        """End a session; nothing happens when it has ended."""
        held.session.close(error)
        held.dropped.set()
        if self._held.get((held.key, held.id)) is not held:
            return
        del self._held[held.key, held.id]
        if self._nodes.get(held.key) is held:
            del self._nodes[held.key]
        if not held.node:
            line = line_of(held.address)
            self._openers[line] -= 1
            if not self._openers[line]:
                del self._openers[line]

    def drop_all(self, error: FallowError) -> None:
        """End all."""
        for held in list(self._held.values()):
            self.drop(held, error)


async def receive_claim(link: Link, hello: greeting.Hello) -> tuple[greeting.Introduction, greeting.Claim]:
    """Greet, and return who answers, and the claim.

    Raises:
        FallowError: the answer is not a good one, or the link broke.
    """
    await link.send(greeting.write(hello))
    said = greeting.read(await link.receive())
    if not isinstance(said, greeting.Introduction):
        raise InvalidInput("wire.greeting", "A session begins with an introduction.")
    return said, greeting.open_claim(said, hello)


async def refuse(link: Link, error: FallowError) -> None:
    """Say why there is no session, if the link still carries it."""
    _log.info("no session: %s", error)
    try:
        await link.send(greeting.write(greeting.refusal(error)))
    except Unavailable:
        _log.debug("and nobody was there to hear it")


def not_enrolled() -> NotAllowed:
    """Return why a node's key is refused."""
    return NotAllowed("stream.not_enrolled", "This key is no node of this network.", "See: fallow agent join --help")
