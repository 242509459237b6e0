"""What is stored through the S3 gateway stays, whatever is killed in the middle of uploads and downloads."""

from __future__ import annotations

import asyncio
import http.client
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from tests.lending import Door, Lenders, lending_network, opened_door
from tests.network import BOUND, Agent, Net, connected, until, until_async
from tests.storage_marathon import run

pytestmark = pytest.mark.xdist_group("storage kills")

MIB = 1 << 20
UPLOADERS = 3
SIZES = (3000, 300_000, 6 * MIB)
READ_TRIES = 60
OPERATIONS = 600
GARBAGE = ("begun", "dropped", "garbage")
"""Tables of what is to be deleted, in the order in which it goes through them."""
PASSED = (
    "UPDATE storage.begun SET made_ms = 0 WHERE made_ms > 0",
    "UPDATE storage.segment SET made_ms = 0 WHERE NOT kept AND made_ms > 0",
    "UPDATE storage.dropped SET due_ms = 0 WHERE due_ms > 0",
    "UPDATE storage.garbage SET due_ms = 0 WHERE due_ms > 0",
)


class World(NamedTuple):
    """A network whose machines lend disk, and the door of its buyer."""

    net: Net
    door: Door


@pytest.fixture(scope="module")
def lenders() -> Iterator[Lenders]:
    with lending_network() as lenders:
        yield lenders


@pytest.fixture
async def world(lenders: Lenders) -> AsyncIterator[World]:
    async with connected(lenders.running) as net:
        yield World(net, await opened_door(net))


class Busy:
    """Somebody who uploads, and reads what he has uploaded before; `there` is what was acknowledged."""

    def __init__(self, door: Door, bucket: str, number: int) -> None:
        self.there: dict[str, bytes] = {}
        self.ended = False
        self.went_on = 0
        self._s3 = door.client(tries=10)
        self._bucket = bucket
        self._number = number
        self._random = random.Random(number)

    def run(self) -> None:
        """Do it until it is ended."""
        while not self.ended:
            key, body = f"{self._number}/{len(self.there)}", self._random.randbytes(self._random.choice(SIZES))
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    raise
                continue
            except BotoCoreError:
                continue
            self.there[key] = body
            self.check(self._random.choice([*self.there]))
            self.went_on += 1

    def check(self, key: str) -> None:
        """Read what was acknowledged, again and again where it breaks off."""
        for _ in range(READ_TRIES):
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    raise
            except (BotoCoreError, HTTPError):
                pass
            else:
                assert body == self.there[key], key
                return
        raise AssertionError(f"{key} cannot be read")


def _come_back(lenders: Lenders) -> None:
    for agent in lenders.agents:
        if agent.process.poll() is None:
            agent.signal(signal.SIGCONT)
        else:
            lenders.revive(agent)


def _names(door: Door, bucket: str) -> set[str]:
    pages = door.client(tries=10).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {one["Key"] for page in pages for one in page.get("Contents", ())}


def _role(role: str) -> Callable[[Lenders], None]:
    def kill(lenders: Lenders) -> None:
        lenders.running.kill(role)

    return kill


def _two_nodes(lenders: Lenders) -> None:
    for agent in lenders.agents[:2]:
        agent.kill()


def _nodes_stand_still(lenders: Lenders) -> None:
    for agent in lenders.agents[:3]:
        agent.signal(signal.SIGSTOP)


KILLS: dict[str, Callable[[Lenders], None]] = {
    "the gateway": _role("s3"),
    "the core": _role("core"),
    "the database": _role("postgres"),
    "the bus": _role("nats-server"),
    "the relay": _role("gateway"),
    "two nodes": _two_nodes,
    "three nodes that stand still": _nodes_stand_still,
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
async def test_what_was_acknowledged_reads_back_whatever_is_killed(
    world: World, lenders: Lenders, kill: Callable[[Lenders], None]
) -> None:
    bucket = f"kills-{random.randbytes(6).hex()}"
    world.door.client().create_bucket(Bucket=bucket)
    busy = [Busy(world.door, bucket, number) for number in range(UPLOADERS)]
    async with asyncio.TaskGroup() as group:
        for one in busy:
            group.create_task(asyncio.to_thread(one.run))
        try:
            await until(lambda: all(one.went_on >= 2 for one in busy), "all are in the middle of it")
            kill(lenders)
            await asyncio.to_thread(busy[0].check, random.choice([*busy[0].there]))
            _come_back(lenders)
            before = [one.went_on for one in busy]
            await until(
                lambda: all(one.went_on > then + 1 for one, then in zip(busy, before, strict=True)),
                "it goes on",
                bound=3 * BOUND,  # a request that nobody answers any more is given up after a long while
            )
        finally:
            for one in busy:
                one.ended = True
    for one in busy:
        for key in one.there:
            await asyncio.to_thread(one.check, key)
    listed = await asyncio.to_thread(_names, world.door, bucket)
    assert listed >= {key for one in busy for key in one.there}


async def test_what_was_broken_off_keeps_no_disk(world: World, lenders: Lenders) -> None:
    """A day and some hours are made to have passed by changing rows."""
    bucket = f"broken-{random.randbytes(6).hex()}"
    world.door.client().create_bucket(Bucket=bucket)
    kept = random.randbytes(2 * MIB)
    world.door.client().put_object(Bucket=bucket, Key="kept", Body=kept)
    await asyncio.gather(*(asyncio.to_thread(_break_off, world.door, bucket, size) for size in (70 * MIB, 90 * MIB)))
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(_fail_to_put, world.door, bucket, 60 * MIB))
        await until_async(lambda: world.net.fetch("SELECT 1 FROM storage.begun"), "a segment is on its way", every=0.01)
        lenders.running.kill("s3")
    assert await world.net.fetch("SELECT 1 FROM storage.begun"), "the kill leaves what nobody comes back for"

    async def forgotten() -> bool:
        for change in PASSED:
            await world.net.fetch(change)
        left = [await world.net.fetch(f"SELECT 1 FROM storage.{table} LIMIT 1") for table in GARBAGE]  # noqa: S608
        return not any(left)

    await until_async(forgotten, "what is left of it is deleted", every=1.0)
    await world.net.on_market(*lenders.agents)
    for agent in lenders.agents:
        assert _pieces(lenders, agent) == await _live(world.net, agent.node), agent.name
    assert await asyncio.to_thread(_read, world.door, bucket, "kept") == kept
    assert await asyncio.to_thread(_names, world.door, bucket) == {"kept"}


def _break_off(door: Door, bucket: str, size: int) -> None:
    """Promise more than is sent, and leave: one segment is whole, the next one is not."""
    half = random.randbytes(1 << 16) * (size >> 16)

    def body() -> Iterator[bytes]:
        for at in range(0, len(half), MIB):
            yield half[at : at + MIB]
        raise ConnectionError("gone")

    url = door.client().generate_presigned_url("put_object", {"Bucket": bucket, "Key": "broken"})
    there = urlsplit(url)
    with closing(http.client.HTTPConnection(there.netloc, timeout=60)) as line, suppress(ConnectionError):
        headers = {"Content-Length": str(2 * size)}
        line.request("PUT", f"{there.path}?{there.query}", body(), headers)


def _fail_to_put(door: Door, bucket: str, size: int) -> None:
    with pytest.raises((BotoCoreError, ClientError)):
        door.client(tries=1).put_object(Bucket=bucket, Key="killed", Body=bytes(size))


def _read(door: Door, bucket: str, key: str) -> bytes:
    return bytes(door.client(tries=10).get_object(Bucket=bucket, Key=key)["Body"].read())


def _pieces(lenders: Lenders, agent: Agent) -> int:
    """How many pieces lie with a node, but for its trash."""
    folder = lenders.running.data.parent / f"lent-{lenders.agents.index(agent)}"
    with closing(sqlite3.connect(f"file:{folder / 'index'}?mode=ro", uri=True)) as index:
        [[count]] = index.execute("select count(*) from piece where trashed_ms is null")
    return int(count)


async def _live(net: Net, node: str) -> int:
    """How many segments count on a node."""
    query = "SELECT 1 FROM storage.segment s JOIN storage.node n ON n.alias = ANY(s.nodes) WHERE n.node = $1"
    return len(await net.fetch(query, bytes.fromhex(node)))


async def test_hundreds_of_random_operations_are_as_a_model_says(world: World, lenders: Lenders) -> None:
    """A short one; `python -m tests.storage_marathon` does thousands."""
    report = await asyncio.to_thread(run, lenders, world.door, OPERATIONS, random.randrange(1 << 32), 120)
    assert report.operations >= OPERATIONS
    assert report.killed.total() >= 3, report
