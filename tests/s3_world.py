"""The S3 gateway on an in-memory store, served by uvicorn on loopback, and clients for it."""

# ruff: noqa: D102 - the methods are those of the protocol

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import boto3
import pytest
import uvicorn
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from fallow.adapters.clock import SystemClock
from fallow.ports.clock import Clock
from fallow.verticals.storage.gateway.app import s3_app
from fallow.verticals.storage.gateway.users import READ, Owner, User
from tests.memory_store import MemoryStore
from tests.network import BOUND

MAIN = User("AKMAIN", "secret of main", "a-main", "Main")
ALT = User("AKALT", "secret of alt", "b-alt", "Alt")
SECOND = User("AKSECOND", "secret of the second", "a-main", "Main")
READER = User("AKREADER", "secret of the reader", "a-main", "Main", frozenset({READ}))
EMAILS = {"main@example.org": "a-main", "alt@example.org": "b-alt"}


class MemoryUsers:
    """See `Users`."""

    async def user(self, access_key: str) -> User | None:
        return {user.access_key: user for user in (MAIN, SECOND, ALT, READER)}.get(access_key)

    async def owner(self, account: str) -> Owner | None:
        names = {MAIN.account: MAIN.name, ALT.account: ALT.name}
        known = EMAILS.get(account, account)
        return Owner(known, names[known]) if known in names else None


class World(NamedTuple):
    """A gateway at `url`."""

    url: str
    port: int

    def client(self, user: User | None = MAIN, **config: Any) -> Any:
        """An unmodified client of a user's; of None: one that signs nothing."""
        settings = Config(
            signature_version=config.pop("signature_version", "s3v4" if user else UNSIGNED),
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            **config,
        )
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=user.access_key if user else None,
            aws_secret_access_key=user.secret if user else None,
            region_name="us-east-1",
            config=settings,
        )


@contextmanager
def s3_world(clock: Clock = SystemClock(), console_port: int = 0) -> Iterator[World]:  # noqa: B008 - it has no state
    """Serve while the context is open."""
    store, users = MemoryStore(clock), MemoryUsers()
    app = s3_app(store, users, clock, random_bytes=os.urandom, console_port=console_port)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield World(f"http://127.0.0.1:{listening.getsockname()[1]}", listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def refused(call: Any, /, **arguments: Any) -> tuple[int, str]:
    """The status and code that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def adding(client: Any, operation: str, headers: dict[str, str]) -> None:
    """Let a client send further headers with an operation."""
    client.meta.events.register(f"before-call.s3.{operation}", lambda **said: said["params"]["headers"].update(headers))


def plainly(
    world: World, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Ask without a signature; the answer's status, headers (lower-case names) and body."""
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=BOUND)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
