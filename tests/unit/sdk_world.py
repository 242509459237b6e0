"""The buyers' client for tests: of the control API in this process, or of servers that answer as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from fallow.domain.views.jobs import JobEvent, JobView
from fallow.sdk.client import AsyncClient
from tests.unit import fake_network
from tests.unit.fake_network import BUYER, BUYER_KEY, FakeNetwork

URL = "http://127.0.0.1"


class Pauses:
    """Stands in for sleeping, notes for how long, and makes the time pass."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def now(self) -> float:  # noqa: D102
        return sum(self.seen)

    async def __call__(self, seconds: float) -> None:  # noqa: D102
        self.seen.append(seconds)
        await asyncio.sleep(0)


def connected(network: FakeNetwork, key: str = BUYER_KEY) -> AsyncClient:
    transport = httpx2.ASGITransport(app=network.app, raise_app_exceptions=False)  # type: ignore[arg-type]
    return AsyncClient(URL, key, transport=transport, sleep=(pauses := Pauses()), now=pauses.now)


def canned(
    *answers: httpx2.Response | Exception, seen: list[httpx2.Request] | None = None, **options: Any
) -> AsyncClient:
    """A client of a server that gives these answers, one after the other."""
    left = list(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(request)
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    pauses = Pauses()
    return AsyncClient(URL, "key", transport=httpx2.MockTransport(answer), sleep=pauses, now=pauses.now, **options)


def failure(status: int, kind: str, code: str, **headers: str) -> httpx2.Response:
    return httpx2.Response(
        status, json={"kind": kind, "code": code, "message": "No.", "hint": "Hint."}, headers=headers
    )


def balance() -> httpx2.Response:
    return httpx2.Response(200, content=msgspec.json.encode(fake_network.balance_view(BUYER)))


def pauses_of(client: AsyncClient) -> list[float]:
    pauses = client._patience.sleep
    assert isinstance(pauses, Pauses)
    return pauses.seen


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def events(*values: JobView | JobEvent) -> bytes:
    lines = []
    for value in values:
        name = "item" if isinstance(value, JobEvent) and value.item is not None else "job"
        lines.append(b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value)))
    return b": hello\n\n".join(lines)


class Broken(httpx2.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        raise httpx2.ReadError("connection reset")
