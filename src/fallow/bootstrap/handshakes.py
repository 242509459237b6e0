"""TLS handshakes within bounds: before one has ended nobody has said a word yet, and still holds a descriptor.

What the places of HTTP connections are for whoever has ended it, these are for who has not: so many, so many from one
address, and not for long. asyncio's own loop takes connections from the listener as it is here; uvloop's, on which no
gateway runs alone, does it by itself and knows no such bound.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from fallow.bootstrap.proxies import Proxies
from fallow.domain.errors import TooMuch
from fallow.ports.places import Places

HANDSHAKES_MAX: Final = 2048
HANDSHAKES_PER_ADDRESS_MAX: Final = 512
HANDSHAKE_S: Final = 10.0

Peer = tuple[str, int]

_log = logging.getLogger(__name__)


class Handshakes:
    """Those that have begun and not ended, by the peer's address and port."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._places = Places(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX)
        self._open: dict[Peer, ExitStack] = {}

    def begin(self, peer: Peer, late: Callable[[], None]) -> ExitStack:
        """Take a place, which is returned; `late` is called when it is still taken after a while.

        Raises:
            TooMuch: there is none.
        """
        self.end(peer)  # the port has another connection now
        with ExitStack() as stack:
            stack.enter_context(self._places.one_for(self._proxies.counted_as(peer)))
            stack.callback(asyncio.get_running_loop().call_later(HANDSHAKE_S, late).cancel)
            self._open[peer] = place = stack.pop_all()
        return place

    def end(self, peer: Peer, place: ExitStack | None = None) -> None:
        """The handshake has ended, or its connection has: then with its `place`, since the port may have another."""
        if peer in self._open and place in {None, self._open[peer]}:
            self._open.pop(peer).close()


class Listener(socket.socket):
    """A listening socket whose connections take a place each, until `handshakes` hears that they need none."""

    handshakes: Handshakes

    def accept(self) -> tuple[socket.socket, Peer]:
        """Take the next connection; ConnectionAbortedError, on which asyncio waits for another, if it has no place."""
        plain, address = super().accept()
        connection = _Connection(self.family, self.type, self.proto, fileno=plain.detach())
        connection.peer, connection.handshakes = address[:2], self.handshakes
        try:
            connection.place = self.handshakes.begin(connection.peer, connection.give_up)
        except TooMuch as error:
            _log.info("a connection of %s is not taken: %s", connection.peer, error)
            connection.close()
            raise ConnectionAbortedError from error
        return connection, address


class _Connection(socket.socket):
    peer: Peer
    handshakes: Handshakes
    place: ExitStack | None = None

    def give_up(self) -> None:
        """Let whoever uses it find its end."""
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("a connection ended by itself: %s", error)

    def close(self) -> None:
        """Close it, and give its place back."""
        if self.place is not None:
            self.handshakes.end(self.peer, self.place)
        super().close()


def listening(taken: socket.socket, proxies: Proxies) -> Listener:
    """Return the same listener with bounds; `taken` is used up."""
    listener = Listener(taken.family, taken.type, taken.proto, fileno=taken.detach())
    listener.handshakes = Handshakes(proxies)
    return listener
