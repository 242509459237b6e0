"""The network's side of objects on a real database, with a twin of those who keep segments."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import count
from typing import Any, Final, Literal, TypeVar

from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import load, migrate
from fallow.domain.errors import InsufficientFunds
from fallow.ports.database import Database, Transaction
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.keeping import REMEMBERED_MS, Keeping
from fallow.verticals.storage.control.operations import Operations
from fallow.verticals.storage.control.segments import SegmentRows
from fallow.verticals.storage.control.segments_port import Segments
from fallow.verticals.storage.control.service import Objects
from fallow.verticals.storage.core.calls.accounts import Usage
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import MakeBucket, SetBucket
from fallow.verticals.storage.core.calls.objects import (
    Deleted,
    DeleteObjects,
    Deletion,
    GetObject,
    Listed,
    ListObjects,
    PutObject,
    Version,
)
from fallow.verticals.storage.core.calls.uploads import BeginUpload, CompleteUpload, PutPart

ACCOUNT: Final = "0x" + "a1" * 20
OTHER: Final = "0x" + "b2" * 20
POOR: Final = "0x" + "c3" * 20
B: Final = "bucket"
NOW_MS: Final = 1_800_000_000_000

ReplyT = TypeVar("ReplyT")

_TABLES: Final = """
CREATE SCHEMA twin;
CREATE TABLE twin.segment (bucket_id bigint, stream bytea, part integer, payload bigint);
CREATE TABLE twin.garbage (stream bytea, part integer, payload bigint, purge boolean);
"""
_DROP: Final = """
WITH gone AS (DELETE FROM twin.segment WHERE bucket_id = $1 AND stream = ANY($2) AND NOT part = ANY($3) RETURNING *)
INSERT INTO twin.garbage SELECT stream, part, payload, $4 FROM gone
"""


class HandClock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW_MS

    def now_ms(self) -> int:
        """See the port."""
        return self.now

    def monotonic_ms(self) -> int:
        """See the port."""
        return self.now

    async def sleep(self, _seconds: float) -> None:
        """Never: what waits is not under test here."""
        raise AssertionError


class TwinSegments:
    """See `Segments`: rows of payloads, which transactions take back as the real ones."""

    async def stored_bytes(self, tx: Transaction, bucket_id: int, stream: bytes, part: int | None) -> int:
        """See the port."""
        query = (
            "SELECT coalesce(sum(payload), 0)::bigint AS all FROM twin.segment"
            " WHERE bucket_id = $1 AND stream = $2 AND part = coalesce($3::integer, part)"
        )
        return (await tx.fetch(query, bucket_id, stream, part))[0]["all"]

    async def adopt(self, tx: Transaction, bucket_id: int, stream: bytes, into: bytes, part: int) -> None:
        """See the port."""
        query = "UPDATE twin.segment SET stream = $3, part = $4 WHERE bucket_id = $1 AND stream = $2 AND part = 0"
        await tx.execute(query, bucket_id, stream, into, part)

    async def drop(self, tx: Transaction, bucket_id: int, streams: Sequence[bytes], *, purge: bool) -> None:
        """See the port."""
        await tx.execute(_DROP, bucket_id, streams, [], purge)

    async def drop_parts(self, tx: Transaction, bucket_id: int, stream: bytes, keep: Sequence[int] | None) -> None:
        """See the port."""
        await tx.execute(_DROP, bucket_id, [stream], keep or [], False)


class ObjectsWorld:
    """The objects, and what a client does before it asks for one to be made."""

    def __init__(self, database: Database, segments: Segments) -> None:
        self.database = database
        self.clock = HandClock()
        self.suspended = False
        self.operations = Operations(database, self.clock)
        self.objects = Objects(
            Ground(
                database,
                segments,
                self.clock,
                _may_open,
                self._may_use,
                self.operations.count,
                Keeping(self.clock),
                secrets.token_bytes,
            )
        )
        self._handlers = self.objects.handlers()
        self._streams = count(1)

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """Have a call answered."""
        answer: ReplyT = await self._handlers[type(call)](call)
        return answer

    def stream(self) -> bytes:
        """Draw a stream that was never there."""
        return next(self._streams).to_bytes(16)

    async def stored(self, bucket: str, *payloads: int) -> bytes:
        """Store segments under a stream of their own."""
        stream = self.stream()
        async with self.database.transaction() as tx:
            row = await self.objects.bucket_of(tx, ACCOUNT, bucket)
            await tx.copy(
                "twin.segment",
                ("bucket_id", "stream", "part", "payload"),
                [(row.id, stream, 0, payload) for payload in payloads],
            )
        return stream

    async def _may_use(self, account: str) -> None:
        if self.suspended:
            raise InsufficientFunds("storage.suspended", f"{account} cannot pay for storage now.")

    async def segments(self, bucket: str = B) -> list[tuple[bytes, int, int]]:
        """What is stored in a bucket now: stream, part, bytes."""
        query = "SELECT stream, part, payload FROM twin.segment WHERE bucket_id = $1 ORDER BY stream, part, payload"
        async with self.database.transaction() as tx:
            rows = await tx.fetch(query, (await self.objects.bucket_of(tx, ACCOUNT, bucket)).id)
        return [(row["stream"], row["part"], row["payload"]) for row in rows]

    async def totals(self, bucket: str = B) -> tuple[int, int]:
        """How many versions and bytes a bucket is said to hold."""
        found = await self.ask(Usage(account=ACCOUNT, from_day=0, to_day=0))
        while all(one.bucket != bucket for one in found):
            found = await self.ask(Usage(account=ACCOUNT, from_day=0, to_day=0, after=found[-1].id))
        return next((one.objects, one.bytes) for one in found if one.bucket == bucket)

    async def kept(self, bucket: str = B) -> int:
        """How many bytes a bucket is said to keep for nothing: as many as its rows are beyond what is paid."""
        async with self.database.transaction() as tx:
            row = await self.objects.bucket_of(tx, ACCOUNT, bucket)
            (said,) = await tx.fetch("SELECT sum(kept)::bigint AS n FROM storage.tally WHERE bucket_id = $1", row.id)
            versions = "SELECT * FROM storage.{} WHERE bucket_id = $1"
            rows = [one for table in ("object", "version") for one in await tx.fetch(versions.format(table), row.id)]
            parts = await tx.fetch(
                "SELECT p.* FROM storage.part p JOIN storage.upload USING (stream) WHERE bucket_id = $1", row.id
            )
        counted = sum(max(0, 512 + len(part["head"]) - part["size"]) for part in parts)
        for one in rows:
            beside = sum(len(one[column] or b"") for column in ("name", "head", "tags", "parts"))
            counted += max(0, 512 + beside + (-one["size"] if one["inline"] is None else len(one["inline"])))
        assert (said["n"] or 0) == counted
        return counted

    async def keeps(self, kept: int, account: str = ACCOUNT) -> None:
        """Have an account keep so much for nothing in a further bucket, and the network ask anew."""
        bucket = f"full-{next(self._streams)}"
        await self.ask(MakeBucket(account=account, bucket=bucket))
        async with self.database.transaction() as tx:
            row = await self.objects.bucket_of(tx, account, bucket)
            await tx.execute("INSERT INTO storage.tally VALUES ($1, 0, 0, 0, $2)", row.id, kept)
        self.clock.now += REMEMBERED_MS

    async def garbage(self) -> dict[bytes, bool]:
        """Streams that were dropped, and whether they were to be purged."""
        async with self.database.transaction() as tx:
            return {row["stream"]: row["purge"] for row in await tx.fetch("SELECT stream, purge FROM twin.garbage")}


@asynccontextmanager
async def objects_world(dsn: str) -> AsyncIterator[ObjectsWorld]:
    """A world on an empty database."""
    folder = files("fallow.verticals.storage.control") / "schema"
    # Several processes answer: more connections than one of them has.
    async with open_database(dsn, pool_size=16) as database:
        await migrate(database, load("storage", folder))
        async with database.transaction() as tx:
            await tx.execute(_TABLES)
        yield ObjectsWorld(database, TwinSegments())


class RealSegmentsWorld(ObjectsWorld):
    """The same beside those who really keep segments: all that they need to know of them is in their table."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, SegmentRows(HandClock()))

    async def stored(self, bucket: str, *payloads: int) -> bytes:
        """Store segments under a stream of their own."""
        stream = self.stream()
        async with self.database.transaction() as tx:
            row = await self.objects.bucket_of(tx, ACCOUNT, bucket)
            await tx.copy(
                "storage.segment",
                ("id", "bucket", "stream", "part", "number", "payload", "key", "profile", "nodes", "made_ms", "kept"),
                [
                    (secrets.token_bytes(16), row.id, stream, 0, number, payload, b"", "lab", [1] * 8, NOW_MS, False)
                    for number, payload in enumerate(payloads)
                ],
            )
        return stream

    async def segments(self, bucket: str = B) -> list[tuple[bytes, int, int]]:
        """What is stored in a bucket now, and somebody counts on: stream, part, bytes."""
        query = (
            "SELECT stream, part, payload FROM storage.segment WHERE bucket = $1 AND kept"
            " ORDER BY stream, part, payload"
        )
        async with self.database.transaction() as tx:
            rows = await tx.fetch(query, (await self.objects.bucket_of(tx, ACCOUNT, bucket)).id)
        return [(row["stream"], row["part"], row["payload"]) for row in rows]


async def _may_open(account: str) -> None:
    if account == POOR:
        raise InsufficientFunds("storage.no_subscription", "There is no subscription to storage.")


def slashes_of(name: bytes) -> list[int]:
    """Behind which bytes of a name a slash ends, where names are as they are."""
    return [at + 1 for at in range(1, len(name)) if name[at : at + 1] == b"/"]


async def put(world: ObjectsWorld, name: bytes, data: bytes = b"data", bucket: str = B, **more: Any) -> Version:
    """Put an object inline."""
    wanted: dict[str, Any] = {"stream": world.stream(), "etag": data.decode("latin-1"), **more}
    call = PutObject(
        account=ACCOUNT, bucket=bucket, object=name, slashes=slashes_of(name), size=len(data), inline=data, **wanted
    )
    return await world.ask(call)


async def put_segments(world: ObjectsWorld, name: bytes, *payloads: int) -> Version:
    """Put one of segments."""
    stream = await world.stored(B, *payloads)
    return await world.ask(
        PutObject(account=ACCOUNT, bucket=B, object=name, stream=stream, size=sum(payloads), etag="e")
    )


async def get(
    world: ObjectsWorld, name: bytes, version: bytes = b"", bucket: str = B, *, null: bool = False
) -> Version:
    """Look one up."""
    return await world.ask(GetObject(account=ACCOUNT, bucket=bucket, object=name, version=version, null=null))


async def delete(world: ObjectsWorld, *deletions: Deletion, bucket: str = B, **more: Any) -> list[Deleted]:
    """Delete some."""
    return await world.ask(DeleteObjects(account=ACCOUNT, bucket=bucket, deletions=[*deletions], **more))


async def names(world: ObjectsWorld, **wanted: Any) -> Listed:
    """List."""
    return await world.ask(ListObjects(account=ACCOUNT, bucket=B, **wanted))


async def versioning(world: ObjectsWorld, state: Literal["enabled", "suspended"]) -> None:
    """Change how the bucket keeps versions."""
    await world.ask(SetBucket(account=ACCOUNT, bucket=B, versioning=state))


def shown(listed: Listed) -> Sequence[bytes]:
    """The names of a page."""
    return [version.name for version in listed.versions]


async def begin(world: ObjectsWorld, name: bytes, **more: Any) -> bytes:
    """Begin an upload; returns its stream."""
    stream = world.stream()
    await world.ask(
        BeginUpload(account=ACCOUNT, bucket=B, object=name, slashes=slashes_of(name), stream=stream, **more)
    )
    return stream


async def part(world: ObjectsWorld, upload: bytes, number: int, size: int, etag: str = "e") -> bytes:
    """Store a part of an upload; returns the stream of its bytes."""
    stream = await world.stored(B, size)
    await world.ask(
        PutPart(account=ACCOUNT, bucket=B, stream=upload, bytes_of=stream, number=number, size=size, etag=etag)
    )
    return stream


def completing(name: bytes, upload: bytes, *parts: tuple[int, str], **more: Any) -> CompleteUpload:
    """The call that makes an object of parts (number, ETag)."""
    return CompleteUpload(account=ACCOUNT, bucket=B, object=name, stream=upload, parts=[*parts], etag="all-2", **more)
