"""A vertical's own gateways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from nacl.signing import SigningKey

from fallow.domain.streams import DirectAddress
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.dialling import Dial
from fallow.ports.streams import Link


class GatewayGround(NamedTuple):
    """What a buyers' gateway of a vertical stands on: a process of its own without the database.

    `secret` is 32 bytes that gateways of this vertical alone get and that stay the same, and so is the `key` by which
    they sign: see `fallow.ports.vertical.control.Hosted`. `relay` opens a link to the
    network's relay, `direct` one to a node that can be dialled itself. `url` is where buyers reach this gateway. The
    network's console is at the same host, by the same scheme, at `console_port`; 0: there is none.
    """

    net: str
    network_key: bytes
    secret: bytes
    key: SigningKey
    url: str
    clock: Clock
    bus: Bus
    relay: Dial
    direct: Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]]
    random_bytes: Callable[[int], bytes]
    console_port: int = 0


class SignedRequest(NamedTuple):
    """A request to a vertical's gateway that is signed in its address, so that whoever has that may send it.

    `path` and `query` are plain text, not encoded. It counts for `valid_s` seconds.
    """

    method: str
    path: str
    query: Mapping[str, str]
    valid_s: int


class Signer(NamedTuple):
    """What the holder of an API key signs with: the public part of the key, and a secret that follows from it."""

    access_key: str
    secret: str


Asgi = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""
