"""What the agent's HTTP clients share: errors read back from answers, and trying again."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
import msgspec

from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.networks import is_loopback
from fallow.domain.views.base import ErrorView
from fallow.ports.clock import Clock

ATTEMPTS_MAX = 5
BACKOFF_FIRST_S = 0.3
TIMEOUT_S = 30.0

_BY_STATUS: dict[int, type[FallowError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    413: TooMuch,
    429: Unavailable,
}
_SERVER_FAULT = 500

T = TypeVar("T")


def new_client(
    transport: httpx2.AsyncBaseTransport | None = None, *, tls: ssl.SSLContext | None = None, local_address: str = ""
) -> httpx2.AsyncClient:
    """Make the agent's client: bounded in connections and in time, and never redirected.

    `tls` says whom to trust; None is the system's certificate authorities. `local_address` is where it connects from.
    """
    limits = httpx2.Limits(max_connections=16, max_keepalive_connections=8)
    if local_address:
        transport = httpx2.AsyncHTTPTransport(verify=tls or True, limits=limits, local_address=local_address)
    return httpx2.AsyncClient(timeout=TIMEOUT_S, limits=limits, transport=transport, verify=tls or True)


def error_of(answer: httpx2.Response) -> FallowError:
    """The error that an answer (whose body was read) stands for."""
    status = answer.status_code
    kind = _BY_STATUS.get(status, Unavailable if status >= _SERVER_FAULT else InvalidInput)
    try:
        view = msgspec.json.decode(answer.content, type=ErrorView)
    except msgspec.MsgspecError:
        return kind("agent.gateway", f"The network answered {status} to {answer.request.method}.")
    if status < _SERVER_FAULT and status != httpx2.codes.TOO_MANY_REQUESTS:
        kind = KINDS.get(view.kind, kind)
    return kind(view.code, view.message, view.hint)


async def retrying(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again for a while, as long as the failure is Unavailable. Raises the last one's error."""
    for failures in range(ATTEMPTS_MAX - 1):
        try:
            return await attempt()
        except Unavailable:
            await clock.sleep(BACKOFF_FIRST_S * 2.0**failures)
    return await attempt()


def check_url(url: str) -> str:
    """Return `url` without its trailing slash.

    Raises:
        InvalidInput: it is no HTTP address, or in plain text to another machine (`agent.insecure_url`).
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        parsed = httpx2.URL("")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidInput("agent.url", f"{url[:200]!r} is no address of a network.", "It looks like https://NAME:PORT")
    if parsed.scheme == "http" and not is_loopback(parsed.host):
        raise InvalidInput(
            "agent.insecure_url",
            f"{url[:200]!r} would send the join token in plain text over the line.",
            "Use the network's https address.",
        )
    return url.rstrip("/")
