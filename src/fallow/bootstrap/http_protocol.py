"""HTTP connections within bounds: so many, so many from one address, and each says soon what it wants.

uvicorn's own limit counts WebSockets as well, and so would refuse requests where many nodes are connected; those have
places of their own (`fallow.ports.door`, `fallow.adapters.nats.tunnel`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from fallow.bootstrap.handshakes import Handshakes
from fallow.bootstrap.http_answers import Answers
from fallow.bootstrap.proxies import Proxies
from fallow.domain.errors import TooMuch
from fallow.ports.places import Places

CONNECTIONS_MAX: Final = 2048
CONNECTIONS_PER_ADDRESS_MAX: Final = 512
"""Many machines may share a router; but nobody takes all places."""

HEADERS_S: Final = 10.0
"""From the first byte of a request, or from connecting, to the end of its headers."""

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"

_log = logging.getLogger(__name__)


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol with the bounds; see `bounded`."""

    places: ClassVar[Places]
    proxies: ClassVar[Proxies]
    handshakes: ClassVar[Handshakes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place; without one the connection ends."""
        super().connection_made(transport)
        self.conn = Answers(transport, self.loop)
        if self.client is not None:
            self.handshakes.end(self.client)
        self._place = ExitStack()
        self._late: asyncio.TimerHandle | None = None
        try:
            self._place.enter_context(self.places.one_for(self.proxies.counted_as(self.client)))
        except TooMuch as error:
            _log.info("a connection of %s is not taken: %s", self.client, error)
            transport.write(_FULL)
            transport.close()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; headers that have begun must end soon."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._answers():
            self._unexpect()
        elif self._late is None and self.transport.get_protocol() is self:
            self._expect()

    def on_response_complete(self) -> None:
        """Go on with the next request; one that has begun already must say soon what it is."""
        super().on_response_complete()
        if self._late is None and self.conn.trailing_data[0] and not self._answers():
            self._expect()

    def handle_websocket_upgrade(self, event: Any) -> None:  # noqa: ANN401 - a request of h11's
        """Hand the connection over."""
        self._let_go()
        super().handle_websocket_upgrade(event)

    def _answers(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first, whatever uvicorn declares
        return cycle is not None and not cycle.response_complete

    def _expect(self) -> None:
        self._late = self.loop.call_later(HEADERS_S, self.transport.abort)

    def _unexpect(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _let_go(self) -> None:
        self._unexpect()
        self._place.close()


def bounded(proxies: Proxies, handshakes: Handshakes) -> type[BoundedProtocol]:
    """Return the protocol for one server, with places of its own, that tells when a handshake has ended."""
    places = Places(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)
    members = {"places": places, "proxies": proxies, "handshakes": handshakes}
    return type("ServersProtocol", (BoundedProtocol,), members)
