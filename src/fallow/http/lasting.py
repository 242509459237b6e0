"""Responses that last: their body is sent while something goes on, and ends with it or with the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

Run = Callable[[Receive, Send], Awaitable[None]]
"""Sends the body's pieces with `send_piece`, and returns when it is complete."""


class LastingResponse(Response[None]):
    """A response whose body `run` sends. What it has `held` meanwhile is given back when it is over."""

    def __init__(self, run: Run, held: ExitStack, *, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(None, media_type=media_type)
        self._run = run
        self._held = held
        self._sent_headers = dict(headers or {})

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:  # noqa: ANN401, ARG002
        """See `Response`."""
        # No proxy in between may collect the pieces.
        headers = {"X-Accel-Buffering": "no", **self._sent_headers}
        return _Lasting(self._run, self._held, headers=headers, media_type=self.media_type)


class _Lasting(ASGIResponse):
    """The work is tasks in a group and no generator, so that it ends with the request and not some time after."""

    _should_set_content_length = False

    def __init__(self, run: Run, held: ExitStack, **options: Any) -> None:  # noqa: ANN401 - passed through
        super().__init__(**options)
        self._run = run
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)

    async def send_body(self, send: Send, receive: Receive) -> None:
        await self._run(receive, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def first_of(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends, then cancel the others."""
    async with asyncio.TaskGroup() as group:

        async def run(job: Coroutine[Any, Any, None]) -> None:
            await job
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()

        tasks = [group.create_task(run(job)) for job in jobs]


async def gone(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_event(send: Send, name: str, value: object) -> None:
    """Send a server-sent event with a value as JSON."""
    await send_piece(send, b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value)))


async def send_piece(send: Send, data: bytes) -> None:
    """Send a piece of the body; waits while the client is slow."""
    await send({"type": "http.response.body", "body": data, "more_body": True})
