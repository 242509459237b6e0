"""WebSocket links that an ASGI server has accepted, in front of the control API on the same port."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from fallow.domain.errors import TooMuch, Unavailable
from fallow.domain.networks import line_of
from fallow.ports.clock import Clock
from fallow.ports.rates import Buckets, Rate
from fallow.ports.streams import Link

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Attend = Callable[[Link, str], Awaitable[None]]
"""Works with a link that came from an address, and returns when it is done with it."""

ARRIVALS_PER_ADDRESS: Final = Rate(20.0, 2048)
"""Each costs more than a request, before any key is shown: a way to the bus, or a look at who may come. All nodes
behind a router may come back at once, with the two links that each has."""

_log = logging.getLogger(__name__)

_GOING_AWAY: Final = 1001
_UNSUPPORTED: Final = 1003


class AcceptedLink:
    """The `Link` port over an accepted WebSocket."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def send(self, data: bytes) -> None:
        """See the port."""
        try:
            await self._send({"type": "websocket.send", "bytes": data})
        except (OSError, RuntimeError) as error:  # how servers say that nobody is there
            raise Unavailable("stream.link", "The link is broken.") from error

    async def receive(self) -> bytes:
        """See the port."""
        message = await self._receive()
        data = message.get("bytes")
        if message["type"] != "websocket.receive" or not isinstance(data, bytes):
            raise Unavailable("stream.link", "The other side has closed the link.")
        return data


def with_links(app: App, links: Mapping[str, Attend], clock: Clock) -> App:
    """Put links in front of an application: what comes as a WebSocket to one of the paths, `links` attends to.

    Who comes too often from one address is turned away.
    """
    arrivals = Buckets(ARRIVALS_PER_ADDRESS, clock)

    def may_come(address: str) -> bool:
        try:
            arrivals.take(line_of(address))
        except TooMuch as error:
            _log.info("a link of %s is not taken: %s", address, error)
            return False
        return True

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await app(scope, receive, send)
            return
        await receive()  # the request to connect
        attend = links.get(scope["path"])
        address = scope["client"][0] if scope.get("client") else ""
        if attend is None or not may_come(address):
            await send({"type": "websocket.close", "code": _UNSUPPORTED})
            return
        await send({"type": "websocket.accept"})
        link = AcceptedLink(receive, send)
        await attend(link, address)
        try:
            await send({"type": "websocket.close", "code": _GOING_AWAY})
        except (OSError, RuntimeError):
            return  # it was closed already

    return serve
