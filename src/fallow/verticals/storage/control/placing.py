"""How a version becomes the latest of its name."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from fallow.domain.errors import Conflict, InvalidInput
from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import ids, tally
from fallow.verticals.storage.control.buckets import Shelf
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.rows import COLUMNS, RETENTIONS, Kept, version_of
from fallow.verticals.storage.control.standing import Standing, make_way
from fallow.verticals.storage.control.tally import KEPT, NOTHING, Totals
from fallow.verticals.storage.core.calls.objects import Version
from fallow.verticals.storage.core.retention import DEFAULT, default_of

_BY_STREAM: Final = """
SELECT r.*, true AS latest FROM storage.object r WHERE r.stream = $1
UNION ALL
SELECT r.*, false FROM storage.version r WHERE r.stream = $1
"""
_SETTING: Final = "SELECT document FROM storage.setting WHERE bucket_id = $1 AND name = $2"
_INSERT: Final = f"""
INSERT INTO storage.object AS r ({", ".join(COLUMNS)})
VALUES ({", ".join(f"${number}" for number, _ in enumerate(COLUMNS, 1))}) RETURNING r.*, {KEPT}
"""  # noqa: S608 - our words


class New(NamedTuple):
    """A version to be; a delete marker has no stream."""

    name: bytes
    slashes: list[int] | None
    stream: bytes | None
    size: int
    etag: str
    head: bytes
    tags: bytes
    kept: Kept
    inline: bytes | None = None
    key: bytes = b""
    parts: list[tuple[int, int]] = []


async def put_before(tx: Transaction, shelf: Shelf, name: bytes, stream: bytes) -> Version | None:
    """Return the version that a stream was put as, if it was.

    Raises:
        Conflict: `storage.stream_used`: as one of another name.
    """
    row = await owner_of(tx, stream)
    if row is None:
        return None
    if (row["bucket_id"], row["name"]) != (shelf.id, name):
        raise used()
    return version_of(row, latest=row["latest"])


async def owner_of(tx: Transaction, stream: bytes) -> Row | None:
    """The row of the version that has a stream."""
    rows = await tx.fetch(_BY_STREAM, stream)
    return rows[0] if rows else None


def used() -> Conflict:
    """The error of who brings the bytes of another version."""
    return Conflict("storage.stream_used", "The stream is another object's.", "Draw a new one for each object.")


def checked_kept(shelf: Shelf, wanted: Kept) -> Kept:
    """How long a version in this bucket is to be kept.

    Raises:
        InvalidInput: `storage.no_lock`: the bucket has no object lock; `storage.retention`: a retention has no end.
    """
    if wanted.retention or wanted.hold:
        require_lock(shelf)
    if wanted.retention and not wanted.until_ms:
        raise InvalidInput("storage.retention", "A retention needs a time at which it ends.")
    return wanted if wanted.retention else wanted._replace(until_ms=0)


def require_lock(shelf: Shelf) -> None:
    """Refuse where the bucket has no object lock (`storage.no_lock`)."""
    if not shelf.lock:
        raise InvalidInput("storage.no_lock", "The bucket has no object lock.", "Enable versioning and object lock.")


async def place(
    tx: Transaction, ground: Ground, shelf: Shelf, standing: Standing, new: New, before: Totals = NOTHING
) -> Version:
    """Make a version the latest of its name, whose lock is held; drop what it replaces.

    `before` is what the transaction has changed already.

    Raises:
        InvalidInput: `storage.kept`: how long it is to be kept by default, no gateway wrote.
        TooMuch: `storage.inline_full`, `storage.kept_full`.
    """
    now_ms = ground.clock.now_ms()
    version = ids.next_version(standing.last_version, now_ms, ground.random_bytes(ids.RANDOM_BYTES))
    new = new._replace(kept=await _or_default(tx, shelf, new.kept, now_ms))
    freed = await make_way(tx, shelf, [standing])
    row = (await tx.fetch(_INSERT, *_row(shelf, version, new)))[0]
    if freed.streams:
        await ground.segments.drop(tx, shelf.id, freed.streams, purge=False)
    change = before.plus(freed.change).plus(Totals(1, new.size, row["kept_bytes"]))
    await ground.keeping.check(tx, shelf.account, change, inline=new.inline is not None and new.size > 0)
    await tally.add(tx, shelf.id, change)
    return version_of(row, latest=True)


async def _or_default(tx: Transaction, shelf: Shelf, wanted: Kept, now_ms: int) -> Kept:
    """How long a new version is kept: as its bucket says, where nothing is said of it."""
    if not shelf.lock or wanted.retention:
        return wanted
    rows = await tx.fetch(_SETTING, shelf.id, DEFAULT)
    default = default_of(rows[0]["document"]) if rows else None
    return wanted if default is None else wanted._replace(retention=default.mode, until_ms=now_ms + default.ms)


def marker_row(shelf: Shelf, name: bytes, version: bytes, slashes: list[int] | None) -> tuple[object, ...]:
    """A delete marker as a row of `COLUMNS`."""
    nothing = New(name, slashes, None, 0, "", b"", b"", Kept("", 0, hold=False))
    return _row(shelf, version, nothing)


def _row(shelf: Shelf, version: bytes, new: New) -> tuple[object, ...]:
    values = {
        "bucket_id": shelf.id,
        "size": new.size,
        "until_ms": new.kept.until_ms,
        "retention": RETENTIONS.index(new.kept.retention),
        "is_null": shelf.versioning != "enabled",
        "marker": new.stream is None,
        "hold": new.kept.hold,
        "name": new.name,
        "version": version,
        "stream": new.stream,
        "etag": new.etag.encode(),
        "key": new.key,
        "slashes": new.slashes,
        "parts": msgspec.msgpack.encode(new.parts) if new.parts else None,
        "head": new.head,
        "tags": new.tags,
        "inline": new.inline,
    }
    return tuple(values[column] for column in COLUMNS)
