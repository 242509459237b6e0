"""A whole network goes back to a backup, as its operator types it: what was acknowledged before reads back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from fallow.adapters.engines.backups import Backups
from tests.engines import reachable_folder
from tests.lending import Lenders, lending_network, opened_door, takes_bytes
from tests.network import Net, Said, connected, fallow, stop, until, until_async


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where backups go: another disk."""
    with reachable_folder() as path:
        yield path


@pytest.fixture
def lenders(folder: Path) -> Iterator[Lenders]:
    """A network of eight machines that is backed up."""
    with lending_network(lent_mib=100, backup_folder=str(folder)) as made:
        yield made


async def put(s3: Any, bucket: str, key: str) -> bytes:
    """Store an object of a megabyte."""
    body = random.randbytes(1 << 20)
    await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=body)
    return body


def read(s3: Any, bucket: str, key: str) -> bytes | None:
    """Read an object; None: it is not there, or cannot be read just now."""
    with suppress(ClientError, BotoCoreError):
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body
    return None


async def reads(s3: Any, bucket: str, key: str, body: bytes) -> None:
    """Wait until an object reads back byte for byte."""

    async def same() -> bool:
        return await asyncio.to_thread(read, s3, bucket, key) == body

    await until_async(same, f"{key} reads back")


async def garbage(net: Net) -> int:
    """How many pieces nodes are still to be told to delete."""
    connection = await asyncpg.connect(net.running.place["postgres_dsn"])
    try:
        query = "SELECT (SELECT count(*) FROM storage.dropped) + (SELECT count(*) FROM storage.garbage)"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def restored(lenders: Lenders, folder: Path, to: datetime) -> Said:
    """Type it; the network is stopped."""
    return await fallow("backup", "restore", "--data", lenders.running.data, "--from", folder, "--to", to.isoformat())


async def test_a_whole_network_goes_back_and_nothing_acknowledged_before_is_lost(
    lenders: Lenders, folder: Path
) -> None:
    async with connected(lenders.running) as net:
        door = await opened_door(net)
        s3 = door.client()
        await asyncio.to_thread(s3.create_bucket, Bucket="bucket")
        stays, goes = await put(s3, "bucket", "stays"), await put(s3, "bucket", "goes")
        await until(lambda: bool(Backups(folder).copies()), "there is a backup")
        at = datetime.now(UTC)
        await put(s3, "bucket", "later")
        await asyncio.to_thread(s3.delete_object, Bucket="bucket", Key="goes")

        async def told() -> bool:
            return await garbage(net) == 0

        await until_async(told, "nodes have deleted what was dropped")

    said = await restored(lenders, folder, at)
    assert (said.code, "engine.data_in_use" in said.err) == (1, True), "not while it runs"
    stop(lenders.running.process)
    said = await restored(lenders, folder, at)
    assert said.code == 0, said.err
    lenders.running.up_again()
    async with connected(lenders.running) as net:
        await reads(s3, "bucket", "stays", stays)
        await reads(s3, "bucket", "goes", goes)
        assert await asyncio.to_thread(read, s3, "bucket", "later") is None
        await until_async(lambda: asyncio.to_thread(takes_bytes, door), "machines are back")
        await reads(s3, "bucket", "again", await put(s3, "bucket", "again"))
        await until_async(lambda: handed_in(lenders), "nodes' records are taken, under whatever numbers")
        assert (await net.operator.ledger_check()).ok
        await net.operator.closed_epoch((await net.operator.end_epoch()).epoch)

    for agent in lenders.agents:
        agent.kill()
    stop(lenders.running.process)
    said = await restored(lenders, folder, at)
    assert said.code == 1
    assert "backup.epoch_closed" in said.err

    data = lenders.running.data
    said = await fallow("backup", "restore", "--data", data.with_name("other"), "--from", folder)
    assert said.code == 0, said.err
    assert f"fallow up --data {data.with_name('other')}" in said.err
    key = Path("secrets/verticals.key")
    assert (data.with_name("other") / key).read_bytes() == (data / key).read_bytes()


async def handed_in(lenders: Lenders) -> bool:
    """Whether the network has all that nodes had to say."""
    return not any([(await agent.ask("status"))["records_waiting"] for agent in lenders.agents])
