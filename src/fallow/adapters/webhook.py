"""Posts to web servers that accounts name, and to none inside of the operator's own networks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import httpx2

from fallow.domain.errors import Unavailable

TIMEOUT_S: Final = 5.0
"""For all of it: to find the address, connect, send and read."""

ANSWER_BYTES_MAX: Final = 4096


class HttpHook:
    """See `fallow.ports.alert_ways.Hook`. A `transport` of its own carries each request, and says where it may go."""

    def __init__(self, transport: Callable[[], httpx2.AsyncBaseTransport]) -> None:
        self._transport = transport

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Post once: a redirect is no success, and is not followed."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(transport=self._transport(), follow_redirects=False, trust_env=False) as client,
                client.stream("POST", url, content=body, headers=dict(headers)) as answer,
            ):
                return await _beginning(answer)
        except TimeoutError:
            raise Unavailable(
                "alerts.webhook_late", f"The webhook gave no answer within {TIMEOUT_S:g} seconds."
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable("alerts.webhook", f"The webhook was not reached: {type(error).__name__}.") from error


async def _beginning(answer: httpx2.Response) -> bytes:
    if not answer.is_success:
        raise Unavailable("alerts.webhook_answer", f"The webhook was reached, and answered {answer.status_code}.")
    found = b""
    async for part in answer.aiter_raw(ANSWER_BYTES_MAX):
        found = (found + part)[:ANSWER_BYTES_MAX]
        if len(found) == ANSWER_BYTES_MAX:
            break
    return found
