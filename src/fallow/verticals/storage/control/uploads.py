"""Uploads in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import conditions, locks, shares, tally
from fallow.verticals.storage.control.buckets import Buckets, Shelf
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.listing import BEYOND
from fallow.verticals.storage.control.placing import New, checked_kept, owner_of, place, put_before, used
from fallow.verticals.storage.control.rows import RETENTIONS, Kept, checked_slashes, kept
from fallow.verticals.storage.control.standing import standings
from fallow.verticals.storage.control.tally import PART_KEPT, Totals
from fallow.verticals.storage.control.versions import incomplete
from fallow.verticals.storage.core.calls.objects import Version
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
    StoredPart,
    Upload,
)

UPLOADS_MAX: Final = 10_000
"""Open ones of an account, about: nobody pays for them, each has a row of up to 27 kB, and stays for a week."""

_BEGIN: Final = """
INSERT INTO storage.upload (stream, bucket_id, name, made_ms, slashes, head, tags, retention, until_ms, hold,
    grant_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (stream) DO NOTHING RETURNING *
"""
_FIND: Final = "SELECT * FROM storage.upload WHERE bucket_id = $1 AND stream = $2"
_LOCK: Final = _FIND + " FOR UPDATE"
_LIST: Final = """
SELECT * FROM storage.upload
WHERE bucket_id = $1 AND name >= $2 AND name < $3 AND (name, stream) > ($4, $5)
ORDER BY bucket_id, name, stream LIMIT $6
"""
_PUT_PART: Final = f"""
INSERT INTO storage.part AS r (stream, number, bytes_of, size, made_ms, etag, head) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (stream, number) DO UPDATE SET bytes_of = EXCLUDED.bytes_of, size = EXCLUDED.size,
    made_ms = EXCLUDED.made_ms, etag = EXCLUDED.etag, head = EXCLUDED.head
RETURNING r.*, {PART_KEPT}
"""  # noqa: S608 - our words
_PARTS: Final = "SELECT * FROM storage.part WHERE stream = $1 AND number > $2 ORDER BY number LIMIT $3"
_PART: Final = f"SELECT r.*, {PART_KEPT} FROM storage.part r WHERE stream = $1 AND number = $2"  # noqa: S608 - our words
_OTHERS: Final = "SELECT number FROM storage.part WHERE stream = $1 AND number <> $2"
_ALL: Final = "SELECT number, size, etag FROM storage.part WHERE stream = $1"


class Uploads:
    """Handlers of calls, by name."""

    def __init__(self, ground: Ground, buckets: Buckets) -> None:
        self._ground = ground
        self._buckets = buckets

    async def begin(self, call: BeginUpload) -> Upload:
        """See the call.

        Raises:
            InvalidInput: `storage.slashes`, `storage.no_lock`, `storage.retention`.
            Conflict: `storage.stream_used`.
            InsufficientFunds: as `BeginSegment`.
            TooMuch: `storage.uploads`: as many are open as the account, or this grant of it, may have.
        """
        slashes = checked_slashes(call.object, call.slashes)
        await self._ground.may_use(call.account)
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, stream=call.stream)
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            until = checked_kept(shelf, Kept(call.retention, call.until_ms, call.hold))
            if await owner_of(tx, call.stream) is not None:
                raise used()
            made = await tx.fetch(
                _BEGIN,
                call.stream,
                shelf.id,
                call.object,
                self._ground.clock.now_ms(),
                slashes,
                call.head,
                call.tags,
                RETENTIONS.index(until.retention),
                until.until_ms,
                until.hold,
                call.by_grant,
            )
            if made:  # who asks the same again is answered the same
                await _require_few(tx, shelf, call.by_grant)
            upload = made[0] if made else await _find(tx, _FIND, shelf.id, call.stream)
            if upload["name"] != call.object:
                raise used()
            return _upload(upload)

    async def get(self, call: GetUpload) -> Upload:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "get")
            return _upload(await _find(tx, _FIND, shelf.id, call.stream, call.object))

    async def put_part(self, call: PutPart) -> StoredPart:
        """See the call.

        Raises:
            Conflict: `storage.stream_used`, too.
            InvalidInput: `storage.crumbs`.
            TooMuch: `storage.kept_full`.
        """
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, stream=call.bytes_of)
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            await _find(tx, _LOCK, shelf.id, call.stream, call.object or None)
            before = await tx.fetch(_PART, call.stream, call.number)
            if before and before[0]["bytes_of"] == call.bytes_of:
                return _stored(before[0])
            if await owner_of(tx, call.bytes_of) is not None:
                raise used()
            stored = await self._ground.segments.stored_bytes(tx, shelf.id, call.bytes_of, 0)
            if stored != call.size:
                raise incomplete(stored, call.size)
            if before:
                others = [row["number"] for row in await tx.fetch(_OTHERS, call.stream, call.number)]
                await self._ground.segments.drop_parts(tx, shelf.id, call.stream, others)
            await self._ground.segments.adopt(tx, shelf.id, call.bytes_of, call.stream, call.number)
            part = await tx.fetch(
                _PUT_PART,
                call.stream,
                call.number,
                call.bytes_of,
                call.size,
                self._ground.clock.now_ms(),
                call.etag.encode(),
                call.head,
            )
            change = Totals(kept=part[0]["kept_bytes"] - (before[0]["kept_bytes"] if before else 0))
            await self._ground.keeping.check(tx, shelf.account, change)
            await tally.add(tx, shelf.id, change)
            return _stored(part[0])

    async def parts(self, call: ListParts) -> list[StoredPart]:
        """See the call. NotFound: `storage.no_upload`."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "list")
            await _find(tx, _FIND, shelf.id, call.stream, call.object or None)
            return [_stored(row) for row in await tx.fetch(_PARTS, call.stream, call.after, call.limit)]

    async def list(self, call: ListUploads) -> list[Upload]:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "list")
            await locks.by_index(tx)
            # Without a stream the page begins behind all uploads of that name: no stream is longer than an id.
            behind = call.after_stream or (BEYOND if call.after else b"")
            rows = await tx.fetch(
                _LIST, shelf.id, max(call.prefix, call.after), call.prefix + BEYOND, call.after, behind, call.limit
            )
            return [_upload(row) for row in rows]

    async def complete(self, call: CompleteUpload) -> Version:
        """See the call. InvalidInput: `storage.part_order`, too. Conditions as `PutObject`."""
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, [call.object], call.stream)
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            if (done := await put_before(tx, shelf, call.object, call.stream)) is not None:
                return done
            upload = await _find(tx, _LOCK, shelf.id, call.stream, call.object)
            there = {row["number"]: row for row in await tx.fetch(_ALL, call.stream)}
            parts = _chosen(call.parts, there)
            standing = (await standings(tx, shelf.id, [call.object]))[call.object]
            conditions.check(call.only_if, standing.latest)
            if len(parts) < len(there):
                await self._ground.segments.drop_parts(tx, shelf.id, call.stream, [number for number, _ in parts])
            freed = await tally.without_parts(tx, call.stream)
            await tx.execute("DELETE FROM storage.upload WHERE stream = $1", call.stream)
            new = New(
                call.object,
                upload["slashes"],
                call.stream,
                sum(size for _, size in parts),
                call.etag,
                call.head or upload["head"],
                upload["tags"],
                kept(upload),
                parts=parts,
            )
            return await place(tx, self._ground, shelf, standing, new, freed)

    async def abort(self, call: AbortUpload) -> None:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, stream=call.stream)
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            await _find(tx, _LOCK, shelf.id, call.stream, call.object)
            freed = await tally.without_parts(tx, call.stream)
            await tx.execute("DELETE FROM storage.upload WHERE stream = $1", call.stream)
            await self._ground.segments.drop(tx, shelf.id, [call.stream], purge=True)
            await tally.add(tx, shelf.id, freed)


async def _require_few(tx: Transaction, shelf: Shelf, grant: bytes) -> None:
    if (await shares.uploads(tx, shelf.account, grant)).exceeds(UPLOADS_MAX, grant):
        said = f"Too many uploads in parts {shares.whose(grant)} are open."
        raise TooMuch("storage.uploads", said, "Complete or abort some of them.")


async def _find(tx: Transaction, query: str, bucket_id: int, stream: bytes, name: bytes | None = None) -> Row:
    rows = await tx.fetch(query, bucket_id, stream)
    if not rows or (name is not None and rows[0]["name"] != name):
        raise NotFound("storage.no_upload", "There is no such upload: it was completed, or given up.")
    return rows[0]


def _chosen(wanted: Sequence[tuple[int, str]], there: Mapping[int, Row]) -> list[tuple[int, int]]:
    """The parts that an object is made of, by number and bytes.

    Raises:
        InvalidInput: `storage.part`, `storage.part_order`.
    """
    numbers = [number for number, _ in wanted]
    if any(before >= after for before, after in pairwise(numbers)):
        raise InvalidInput("storage.part_order", "The numbers of the parts do not ascend.")
    for number, etag in wanted:
        if number not in there or there[number]["etag"] != etag.encode():
            raise InvalidInput("storage.part", f"Part {number} is not there, or has another ETag.")
    return [(number, there[number]["size"]) for number in numbers]


def _upload(row: Row) -> Upload:
    return Upload(stream=row["stream"], object=row["name"], made_ms=row["made_ms"], head=row["head"], tags=row["tags"])


def _stored(row: Row) -> StoredPart:
    return StoredPart(
        number=row["number"], size=row["size"], etag=row["etag"].decode(), made_ms=row["made_ms"], head=row["head"]
    )
