"""WebSocket links that an ASGI server has accepted, in front of the control API on the same port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from fallow.domain.errors import Unavailable
from fallow.ports.streams import Link

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Attend = Callable[[Link, str], Awaitable[None]]
"""Works with a link that came from an address, and returns when it is done with it."""

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


def with_links(app: App, links: Mapping[str, Attend]) -> App:
    """Put links in front of an application: what comes as a WebSocket to one of the paths, `links` attends to."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await app(scope, receive, send)
            return
        await receive()  # the request to connect
        attend = links.get(scope["path"])
        if attend is None:
            await send({"type": "websocket.close", "code": _UNSUPPORTED})
            return
        await send({"type": "websocket.accept"})
        link = AcceptedLink(receive, send)
        await attend(link, scope["client"][0] if scope.get("client") else "")
        try:
            await send({"type": "websocket.close", "code": _GOING_AWAY})
        except (OSError, RuntimeError):
            return  # it was closed already

    return serve
