"""What is there of a name, and how it makes way for something new.

The latest version of a name lies in `storage.object`, unless it is a delete marker; all others lie in
`storage.version`. Callers hold the locks of the names, and come with each name once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control.buckets import Shelf
from fallow.verticals.storage.control.rows import Kept, kept
from fallow.verticals.storage.control.tally import KEPT, Totals

_BRIEF: Final = (
    "r.name, r.version, r.is_null, r.marker, r.stream, r.inline IS NOT NULL AS inline, r.size, r.etag,"
    f" r.retention, r.until_ms, r.hold, {KEPT}"
)
_STANDING: Final = f"""
SELECT 'latest' AS place, {_BRIEF}
FROM unnest($2::bytea[]) AS n (name) JOIN storage.object r ON r.bucket_id = $1 AND r.name = n.name
UNION ALL
SELECT 'older', t.* FROM unnest($2::bytea[]) AS n (name) CROSS JOIN LATERAL (
    SELECT {_BRIEF} FROM storage.version r WHERE r.bucket_id = $1 AND r.name = n.name ORDER BY r.version DESC LIMIT 1
) t
UNION ALL
SELECT 'null', {_BRIEF}
FROM unnest($2::bytea[]) AS n (name) JOIN storage.version r ON r.bucket_id = $1 AND r.name = n.name AND r.is_null
"""  # noqa: S608 - our words
_EXACT: Final = f"""
SELECT 'latest' AS place, {_BRIEF}
FROM unnest($2::bytea[], $3::bytea[]) AS n (name, version)
JOIN storage.object r ON r.bucket_id = $1 AND r.name = n.name
WHERE r.version = n.version OR n.version = '' AND r.is_null
UNION ALL
SELECT 'older', {_BRIEF}
FROM unnest($2::bytea[], $3::bytea[]) AS n (name, version)
JOIN storage.version r ON r.bucket_id = $1 AND r.name = n.name AND r.version = n.version
UNION ALL
SELECT 'older', {_BRIEF}
FROM unnest($2::bytea[], $3::bytea[]) AS n (name, version)
JOIN storage.version r ON r.bucket_id = $1 AND r.name = n.name AND r.is_null WHERE n.version = ''
"""  # noqa: S608 - our words
_SET_BACK: Final = """
WITH gone AS (DELETE FROM storage.object WHERE bucket_id = $1 AND name = ANY($2::bytea[]) RETURNING *)
INSERT INTO storage.version SELECT * FROM gone
"""
_FORGET_LATEST: Final = "DELETE FROM storage.object WHERE bucket_id = $1 AND name = ANY($2::bytea[])"
_FORGET_OLDER: Final = """
DELETE FROM storage.version r USING unnest($2::bytea[], $3::bytea[]) AS n (name, version)
WHERE r.bucket_id = $1 AND r.name = n.name AND r.version = n.version
"""
_BRING_BACK: Final = """
WITH first AS (
    SELECT t.* FROM unnest($2::bytea[]) AS n (name) CROSS JOIN LATERAL (
        SELECT r.name, r.version, r.marker FROM storage.version r WHERE r.bucket_id = $1 AND r.name = n.name
        ORDER BY r.version DESC LIMIT 1
    ) t
    WHERE NOT EXISTS (SELECT FROM storage.object o WHERE o.bucket_id = $1 AND o.name = n.name)
), gone AS (
    DELETE FROM storage.version r USING first
    WHERE r.bucket_id = $1 AND r.name = first.name AND r.version = first.version AND NOT first.marker RETURNING r.*
)
INSERT INTO storage.object SELECT * FROM gone
"""


class Held(NamedTuple):
    """A version that is there."""

    name: bytes
    version: bytes
    is_null: bool
    marker: bool
    is_latest: bool
    stream: bytes | None
    inline: bool
    size: int
    etag: str
    kept: Kept
    kept_bytes: int


class Standing(NamedTuple):
    """What is there of a name: the latest object; the latest of the others; the one of the others known as "null"."""

    latest: Held | None = None
    older: Held | None = None
    null: Held | None = None

    @property
    def last_version(self) -> bytes:
        """The id of the latest of all."""
        last = self.latest or self.older
        return last.version if last is not None else b""


class Freed(NamedTuple):
    """What was forgotten: streams of segments that nobody has any more, and what the bucket holds less."""

    streams: Sequence[bytes]
    change: Totals


async def standings(tx: Transaction, bucket_id: int, names: Sequence[bytes]) -> Mapping[bytes, Standing]:
    """What is there of each of these names."""
    found: defaultdict[bytes, Standing] = defaultdict(Standing)
    for row in await tx.fetch(_STANDING, bucket_id, names):
        found[row["name"]] = found[row["name"]]._replace(**{row["place"]: _held(row)})
    return found


async def exactly(tx: Transaction, bucket_id: int, wanted: Sequence[tuple[bytes, bytes]]) -> list[Held]:
    """Those that are there of these versions, by name and id; without an id, those known as "null"."""
    names, versions = [name for name, _ in wanted], [version for _, version in wanted]
    return [_held(row) for row in await tx.fetch(_EXACT, bucket_id, names, versions)]


async def make_way(tx: Transaction, shelf: Shelf, found: Sequence[Standing]) -> Freed:
    """Have the latest of some names become older ones; what was "null" goes, where new ones will be that."""
    latest = [standing.latest for standing in found if standing.latest is not None]
    replaced = [] if shelf.versioning == "enabled" else [held for held in latest if held.is_null]
    if shelf.versioning != "enabled":
        replaced += [standing.null for standing in found if standing.null is not None]
    moved = [held.name for held in latest if held not in replaced]
    freed = await forget(tx, shelf.id, replaced)
    if moved:
        await tx.execute(_SET_BACK, shelf.id, moved)
    return freed


async def forget(tx: Transaction, bucket_id: int, gone: Sequence[Held]) -> Freed:
    """Delete versions, and no more than that."""
    latest = [held.name for held in gone if held.is_latest]
    older = [held for held in gone if not held.is_latest]
    if latest:
        await tx.execute(_FORGET_LATEST, bucket_id, latest)
    if older:
        await tx.execute(_FORGET_OLDER, bucket_id, [held.name for held in older], [held.version for held in older])
    objects = [held for held in gone if not held.marker]
    streams = [held.stream for held in objects if held.stream is not None and not held.inline]
    kept_bytes = sum(held.kept_bytes for held in gone)
    return Freed(streams, Totals(-len(objects), -sum(held.size for held in objects), -kept_bytes))


async def bring_back(tx: Transaction, bucket_id: int, names: Sequence[bytes]) -> None:
    """Where the latest of a name is gone, have the one before take its place, if it is an object."""
    await tx.execute(_BRING_BACK, bucket_id, names)


def _held(row: Row) -> Held:
    return Held(
        name=row["name"],
        version=row["version"],
        is_null=row["is_null"],
        marker=row["marker"],
        is_latest=row["place"] == "latest",
        stream=row["stream"],
        inline=row["inline"],
        size=row["size"],
        etag=row["etag"].decode(),
        kept=kept(row),
        kept_bytes=row["kept_bytes"],
    )
