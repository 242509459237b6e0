"""The buyers' client without asyncio, and what its package shows."""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from fallow.domain.errors import (
    NotFound,
)
from fallow.domain.views.jobs import JobEvent
from fallow.sdk.client import AsyncClient
from fallow.sdk.loop import Loop
from fallow.sdk.sync import Client
from tests.unit import fake_network
from tests.unit.fake_network import BUYER
from tests.unit.sdk_world import URL, balance, canned, events, failure

# without asyncio


def test_the_same_without_asyncio() -> None:
    job = fake_network.job_view("0" * 32)
    end = JobEvent(job=job.id, at=2, state="done")
    kind = {"content-type": "text/event-stream"}
    answers = [
        balance(),
        httpx2.Response(200, headers=kind, content=events(job, end)),
        httpx2.Response(200, headers=kind, content=events(job, end)),
        failure(404, "NotFound", "job.unknown"),
    ]
    with Client(URL, "key", client=canned(*answers)) as client:
        assert client.balance().account == BUYER
        assert list(client.events(job.id)) == [job, end]
        with contextlib.closing(client.events(job.id)) as early:  # type: ignore[type-var]
            assert next(early) == job
        with pytest.raises(NotFound):
            client.job(job.id)
    client.close()


class Endless:
    """Something to iterate over that notes when it is closed, and a loop that drives it."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.loop = Loop()

    async def numbers(self) -> AsyncIterator[int]:  # noqa: D102
        try:
            while True:
                yield 1
        finally:
            self.closed.set()

    async def nothing(self) -> None:  # noqa: D102
        pass


def test_an_iterator_that_outlives_its_client_is_closed_with_it() -> None:
    endless = Endless()
    kept = endless.loop.each(endless.numbers())
    assert next(kept) == 1
    endless.loop.stop(endless.nothing())
    assert endless.closed.is_set()
    del kept
    gc.collect()  # pytest takes what is raised by then as a failure


def test_an_iterator_may_be_dropped_in_the_clients_own_thread() -> None:
    """Where the garbage collector happens to run: to wait there for the loop would be for ever."""
    endless = Endless()
    kept = [endless.loop.each(endless.numbers())]
    assert next(kept[0]) == 1

    async def drop() -> None:
        kept.clear()

    dropping = threading.Thread(target=lambda: endless.loop.run(drop()), daemon=True)
    dropping.start()
    assert endless.closed.wait(60)
    dropping.join()
    endless.loop.stop(endless.nothing())


async def test_without_asyncio_inside_of_asyncio() -> None:
    with Client(URL, "key", client=canned(balance())) as client:
        assert client.balance().account == BUYER


def public_calls(of: type[object]) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_") and name not in {"close", "has", "item"}}


def test_both_clients_can_do_the_same() -> None:
    assert public_calls(AsyncClient) == public_calls(Client)


# the package


def fresh(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


NAMES = ["AsyncClient", "Client", "FallowError", "Order", "Requirements", "Storage", "Tolerance", "open_storage"]


def test_the_package_shows_the_client_and_nothing_else() -> None:
    code = "import json, sys, fallow; print(json.dumps([dir(fallow), sorted(sys.modules)]))"
    shown, loaded = fresh(code)
    assert shown == [
        "AsyncClient",
        "Client",
        "FallowError",
        "Order",
        "Requirements",
        "Storage",
        "Tolerance",
        "open_storage",
    ]
    assert not {"httpx2", "msgspec", "asyncio"} & set(loaded)


def test_the_names_of_the_package_are_there() -> None:
    code = "import fallow, json; print(json.dumps([getattr(fallow, name).__name__ for name in fallow.__all__]))"
    assert fresh(code) == [
        "AsyncClient",
        "Client",
        "FallowError",
        "Order",
        "Requirements",
        "Storage",
        "Tolerance",
        "open_storage",
    ]
    assert fresh("import fallow, json; print(json.dumps(hasattr(fallow, 'other')))") is False
