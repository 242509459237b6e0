"""Making the first connection, and how long to wait before each further one."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from nats import errors
from nats.aio.client import Server

from fallow.adapters.nats.client import SigningClient
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable

BACKOFF_FIRST_S = 0.2
BACKOFF_SOON_S = 2.0
SOON_TRIES = 10
"""So often no longer than that is waited, some eight seconds in all: a line that was cut for less must be back before
its node counts as lost, and with waits that only double the last one alone takes as long as the cut did."""

BACKOFF_MAX_S = 15.0

OUTPUT_BYTES_MAX = 2 << 20
"""Bytes on their way to the socket; a sender waits when there are more."""

_PING_S = 20
_DOUBLINGS_MAX = 16


class BusState(Enum):
    """What `on_state` hears of, in this order, each time; also once when the connection is left."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


OnState = Callable[[BusState], None]


class Dial(NamedTuple):
    """Where to connect to, and who wants to know."""

    urls: Sequence[str]
    name: str
    tls: ssl.SSLContext | None
    inbox_prefix: str
    timeout_s: float
    on_state: OnState
    on_error: Callable[[Exception], Awaitable[None]]
    jitter: random.Random


async def dial(client: SigningClient, to: Dial) -> None:
    """Connect for the first time; from then on the client connects again by itself, without end.

    Raises:
        InvalidInput: a URL that is none (`bus.url`).
        Unavailable: no server answered in time (`bus.unreachable`).
        NotAllowed: a server refused the key (`bus.refused`), or is not the one it should be (`bus.untrusted`).
    """
    errors_seen = _Errors(to.on_error)
    try:
        async with asyncio.timeout(to.timeout_s):
            await client.connect(
                list(to.urls), name=to.name, tls=to.tls, inbox_prefix=to.inbox_prefix,
                signature_cb=client.sign_nonce, error_cb=errors_seen.take,
                **_callbacks(to.on_state), **_limits(to.jitter),
            )  # fmt: skip
    except TimeoutError:
        raise _unreachable(to, errors_seen.last) from errors_seen.last
    except FallowError:
        raise
    except errors.Error as error:
        raise InvalidInput("bus.url", f"This is no address of a bus: {', '.join(to.urls)}.") from error
    finally:
        errors_seen.starting = False
    if not client.is_connected:
        raise _unreachable(to, errors_seen.last)


class _Errors:
    """What nats-py reports: a refusal ends the first connecting, everything else is only remembered."""

    def __init__(self, after: Callable[[Exception], Awaitable[None]]) -> None:
        self.starting = True
        self.last: Exception | None = None
        self._after = after

    async def take(self, error: Exception) -> None:
        if not self.starting:
            await self._after(error)
            return
        self.last = error
        if "authorization violation" in str(error).lower():
            raise NotAllowed(
                "bus.refused", "The bus refused this key.", "Is it enrolled, and is the network fully started?"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            raise NotAllowed(
                "bus.untrusted",
                f"The bus cannot show who it is ({error.verify_message}), so nothing was sent to it.",
                "Was the network set up anew? Then join it again.",
            )
        if isinstance(error, errors.SecureConnWantedError):
            raise NotAllowed("bus.plain_text", "The bus offers no encryption, so nothing was sent to it.")


def backoff(jitter: random.Random) -> Callable[[list[Server], dict[str, Any]], tuple[Server, float]]:
    """Choose the server that failed least and a wait in seconds: random below a bound that grows to a maximum.

    Random from zero on, so that the nodes of a network do not all come back in the same instant.
    """

    def choose(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
        server = min(servers, key=lambda each: each.reconnects)
        soon = min(BACKOFF_SOON_S, BACKOFF_FIRST_S * 2 ** min(server.reconnects, SOON_TRIES))
        later = 2 ** min(max(0, server.reconnects - SOON_TRIES), _DOUBLINGS_MAX)
        return server, jitter.uniform(0, min(BACKOFF_MAX_S, soon * later))

    return choose


def _callbacks(on_state: OnState) -> dict[str, Any]:
    # Through the loop, since an exception here would end nats-py's attempts to connect again.
    async def connected() -> None:
        asyncio.get_running_loop().call_soon(on_state, BusState.CONNECTED)

    async def disconnected() -> None:
        asyncio.get_running_loop().call_soon(on_state, BusState.DISCONNECTED)

    return {"reconnected_cb": connected, "disconnected_cb": disconnected}


def _limits(jitter: random.Random) -> dict[str, Any]:
    return {
        "connect_timeout": 5,
        "reconnect_time_wait": 1,
        "max_reconnect_attempts": -1,
        "reconnect_to_server_handler": backoff(jitter),
        "ping_interval": _PING_S,
        "max_outstanding_pings": 2,
        "pending_size": OUTPUT_BYTES_MAX,
        "flush_timeout": 5.0,
    }


def _unreachable(to: Dial, last: Exception | None) -> Unavailable:
    because = f" ({last})" if last else ""
    return Unavailable("bus.unreachable", f"No bus answered at {', '.join(to.urls)} in {to.timeout_s} s{because}.")
