"""Requests to the control API: errors come back as what they were, and what may be tried again is."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.networks import is_loopback
from fallow.domain.views.base import ErrorView
from fallow.sdk.patience import PASSING, PATIENCE_S, Outage, Patience, Sleep, Told, fallow_error, never_began, nobody
from fallow.sdk.signing import BuyerKey
from fallow.sdk.trust import verifying

ReplyT = TypeVar("ReplyT")

TIMEOUT = httpx2.Timeout(60.0, connect=10.0)

_KIND_OF_STATUS = {400: "InvalidInput", 401: "NotAllowed", 403: "NotAllowed", 404: "NotFound", 409: "Conflict"}


class Wire:
    """One connection pool to one network. Calls are tried again: orders and grants carry an id.

    Without a key (`api_key` is "") it asks what everybody may.

    `ca` is whom to trust to name the network's servers: a file of certificates (PEM), or a context; None is the
    system's authorities.

    For `patience_s` seconds a request is sent again, with growing pauses, while the network does not answer. `on_wait`
    is called with the reason when an outage is no mere hiccup.

    With `signing_key` orders are signed, and receipts for what came: see `AsyncClient.delegate`.

    `transport`, `sleep` and `now` are for tests.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        ca: Path | ssl.SSLContext | None = None,
        patience_s: float = PATIENCE_S,
        on_wait: Told = nobody,
        signing_key: BuyerKey | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = {"User-Agent": "fallow-sdk", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        try:
            self._http = httpx2.AsyncClient(
                base_url=_checked(url), headers=headers, timeout=TIMEOUT, transport=transport, verify=verifying(ca)
            )
        except UnicodeEncodeError:
            raise InvalidInput("sdk.key", "An API key has only ASCII characters.") from None
        self._signing_key = signing_key
        self._patience = Patience(patience_s, on_wait, sleep, now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        reply: type[ReplyT],
        *,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
    ) -> ReplyT:
        """Ask, and return the answer as `reply`; FallowError as the network raised it.

        `again` says whether asking twice does no harm.
        """
        content = None if body is None else msgspec.json.encode(body)
        told = {} if body is None else {"Content-Type": "application/json"}
        told.update(headers or {})

        async def attempt() -> bytes:
            response = await self._http.request(method, path, content=content, headers=told, params=query)
            if not response.is_success:
                raise error_of(response, response.content)
            return response.content

        answer = await self._trying(attempt, again=again)
        try:
            return msgspec.json.decode(answer or b"null", type=reply)
        except UNREADABLE as error:
            raise Unavailable("sdk.answer", f"The answer to {method} {path} is not understood: {error}.") from error

    @asynccontextmanager
    async def _opened(self, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        """One attempt at a request whose answer is read in pieces."""
        response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                raise error_of(response, await response.aread())
            yield response
        finally:
            await response.aclose()

    async def _trying(self, attempt: Callable[[], Awaitable[ReplyT]], *, again: bool = True) -> ReplyT:
        """Try until it works; the last error when patience ends. Without `again` only what surely did not begin."""
        outage = Outage(self._patience)
        while True:
            try:
                return await attempt()
            except PASSING as error:
                if not again and not never_began(error):
                    raise fallow_error(error) from error
                await outage.pause(error)


def error_of(response: httpx2.Response, body: bytes) -> FallowError:
    """Read the error that an answer carries. `wait_s` on it is what the network asks to wait."""
    try:
        error = error_in(body)
    except UNREADABLE:
        kind = KINDS[_KIND_OF_STATUS.get(response.status_code, "Unavailable")]
        error = kind("sdk.status", f"The network answered with status {response.status_code}.")
    retry_after = response.headers.get("Retry-After", "")
    error.__dict__["wait_s"] = min(60.0, float(retry_after)) if retry_after.isdecimal() else 0.0
    return error


def error_in(document: bytes) -> FallowError:
    """Read an ErrorView; one of UNREADABLE when it is none."""
    view = msgspec.json.decode(document, type=ErrorView)
    return KINDS.get(view.kind, Unavailable)(view.code, view.message, view.hint)


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput("sdk.url", f"{url!r} is no URL: {error}.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidInput("sdk.url", f"{url!r} is no URL of a network.", "It looks like https://fallow.example.")
    if parsed.scheme == "http" and not is_loopback(parsed.host):
        raise NotAllowed(
            "sdk.plain_http", f"An API key is not sent to {parsed.host} without encryption.", "Use an https:// URL."
        )
    return parsed


def arguments(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the caller names
    """Keep what was given, so that the default stands in one place only."""
    return {name: value for name, value in values.items() if value is not None}
