"""A buyer's session with the relay, over which he opens streams to his running work."""

from __future__ import annotations

import random
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nacl.signing import SigningKey

from fallow.adapters.clock import SystemClock
from fallow.adapters.streams.dialling import dial
from fallow.domain.errors import Conflict
from fallow.ports.dialling import Caller, DialledSession
from fallow.ports.session import SessionStream
from fallow.ports.tasks import background, within
from fallow.sdk.client import AsyncClient

LINK_S: Final = 15.0


@asynccontextmanager
async def opener(client: AsyncClient, url: str, tls: ssl.SSLContext | None) -> AsyncIterator[DialledSession]:
    """Hold a session with the network's relay while the context is open.

    Raises:
        Unavailable: it cannot be reached.
    """
    net = (await client.network()).net
    key = SigningKey.generate()
    clock = SystemClock()
    session = DialledSession(
        Caller(net, bytes(key.verify_key), lambda message: key.sign(message).signature, node=False),
        lambda: dial(url, tls=tls),
        clock,
        random_bytes=secrets.token_bytes,
        jitter=random.SystemRandom(),
        on_opened=_refuse,
    )
    async with background(session.hold()):
        await within(clock, LINK_S, session.linked.wait())
        yield session


def _refuse(stream: SessionStream) -> None:
    stream.reset(Conflict("stream.purpose", "Nothing is served here."))
