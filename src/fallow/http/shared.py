"""Answers that all readers share: ready as bytes, and asked for anew once for all of them, whoever many they are.

A page that is shown to everybody costs the network's services the same for one reader and for thousands: each address
is asked for once a second at most. What is younger than `FRESH_MS` is sent as it is. Then the next reader asks; those
who come meanwhile get what is there, unless it is older than `OLDEST_MS`: then they wait for the same answer as he.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from litestar import Request, Response

from fallow.ports.clock import Clock

FRESH_MS: Final = 1_000
OLDEST_MS: Final = 5_000
BYTES_MAX: Final = 64 << 20
"""Of all answers together, each with `MORE_BYTES` for itself; what was read longest ago is forgotten first."""

MORE_BYTES: Final = 1_024

View = TypeVar("View")


class Answer(NamedTuple):
    """An answer as it is sent. The moment begins when it was asked for: it may have been long on its way."""

    data: bytes
    etag: str
    asked_ms: int


class Ready(Response[View], Generic[View]):
    """An answer that is a `View` and is encoded already; empty for a reader who has it."""

    def __init__(self, answer: Answer, request: Request[Any, Any, Any]) -> None:
        known = has(request, answer.etag)
        content: Any = b"" if known else answer.data
        headers = {"Cache-Control": "no-cache", "ETag": answer.etag}
        super().__init__(content, status_code=304 if known else 200, media_type="application/json", headers=headers)


def has(request: Request[Any, Any, Any], etag: str) -> bool:
    """Whether a reader has an answer already; proxies that compress make its ETag a weak one (RFC 9110, 13.1.2)."""
    named = request.headers.get("If-None-Match", "").split(",")
    return etag in (one.strip().removeprefix("W/") for one in named)


class Shared:
    """Answers by the address that they answer."""

    def __init__(self, clock: Clock, bytes_max: int = BYTES_MAX) -> None:
        self._clock = clock
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._asking: dict[str, asyncio.Future[Answer]] = {}

    async def answer(self, address: str, ask: Callable[[], Awaitable[object]]) -> Answer:
        """Return what was answered a moment ago, or else what `ask` answers; raises what it raises."""
        while True:
            kept = self._kept.get(address)
            age_ms = OLDEST_MS if kept is None else self._clock.monotonic_ms() - kept.asked_ms
            asking = self._asking.get(address)
            if kept is not None and (age_ms < FRESH_MS or (asking is not None and age_ms < OLDEST_MS)):
                self._kept.move_to_end(address)
                return kept
            if asking is None:
                return await self._ask(address, ask)
            await asyncio.wait((asking,))
            if not asking.cancelled():
                return asking.result()

    async def _ask(self, address: str, ask: Callable[[], Awaitable[object]]) -> Answer:
        """Ask for all who wait; where this reader goes away, the next one asks."""
        asking = self._asking[address] = asyncio.get_running_loop().create_future()
        asked_ms = self._clock.monotonic_ms()
        try:
            data = msgspec.json.encode(await ask())
            answer = Answer(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"', asked_ms)
            self._keep(address, answer)
            asking.set_result(answer)
        except Exception as error:
            asking.set_exception(error)
            asking.exception()  # it is raised here, whether or not somebody waits
            raise
        finally:
            asking.cancel()  # no more than a word where it is done
            del self._asking[address]
        return answer

    def _keep(self, address: str, answer: Answer) -> None:
        before = self._kept.pop(address, None)
        self._bytes += _bytes(answer) - (_bytes(before) if before is not None else 0)
        self._kept[address] = answer
        while self._bytes > self._bytes_max:
            _, forgotten = self._kept.popitem(last=False)
            self._bytes -= _bytes(forgotten)


def _bytes(answer: Answer) -> int:
    return len(answer.data) + MORE_BYTES
