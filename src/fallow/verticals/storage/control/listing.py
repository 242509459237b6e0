"""Lists: a page costs what it shows, however large the bucket is, since all of it are looks into an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import ids, locks
from fallow.verticals.storage.control.buckets import Buckets
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.listing_sql import ALL, LATEST, PAGE_BYTES_MAX, RANGE
from fallow.verticals.storage.control.rows import RETENTIONS
from fallow.verticals.storage.core.calls.objects import Listed, ListObjects, Version, behind

BEYOND: Final = b"\xff" * 2049
"""Behind the beginning of names it is behind all of them: they are shorter."""
_NO_FOLDERS: Final = 1 << 15
"""The length of a prefix that no slash is behind."""


class Listing:
    """The handler of the call."""

    def __init__(self, ground: Ground, buckets: Buckets) -> None:
        self._ground = ground
        self._buckets = buckets

    async def list(self, call: ListObjects) -> Listed:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "list")
            if not call.limit:
                return Listed()
            await locks.by_index(tx)
            return _page(call, await _rows(tx, shelf.id, call))


async def _rows(tx: Transaction, bucket_id: int, call: ListObjects) -> Sequence[Row]:
    """At least one row more than the page takes, where there is one."""
    goes_on = call.after >= call.prefix
    first = call.after + b"\x00" if goes_on and call.after else call.prefix
    bounds = (bucket_id, first, call.prefix + BEYOND)
    if not call.folders and not call.all_versions:
        return await tx.fetch(RANGE[call.heads], *bounds, call.limit + 1)
    prefix_bytes = len(call.prefix) if call.folders else _NO_FOLDERS
    walk = (*bounds, call.limit + 1, BEYOND, prefix_bytes)
    if not call.all_versions:
        return await tx.fetch(LATEST[call.heads], *walk)
    version = call.after_version if goes_on and call.after_version else None
    return await tx.fetch(ALL[call.heads], *walk, call.after, version)


def _page(call: ListObjects, rows: Sequence[Row]) -> Listed:
    shown = [row for row in rows[: call.limit] if row["filled"] <= PAGE_BYTES_MAX] or rows[:1]
    versions = [_version(row) for row in shown if row["folder"] is None]
    folders = [row["folder"] for row in shown if row["folder"] is not None]
    if len(shown) == len(rows):
        return Listed(versions=versions, folders=folders)
    last = shown[-1]
    return Listed(
        versions=versions,
        folders=folders,
        more=True,
        after=last["name"] if last["folder"] is None else behind(last["folder"]),
        after_version=last["version"] if call.all_versions and last["folder"] is None else b"",
    )


def _version(row: Row) -> Version:
    return Version(
        name=row["name"],
        version=row["version"],
        null=row["is_null"],
        marker=row["marker"],
        latest=row["latest"],
        size=row["size"],
        made_ms=ids.made_ms(row["version"]),
        etag=row["etag"].decode(),
        head=row["head"],
        tags=row["tags"],
        stream=row["stream"] or b"",
        retention=RETENTIONS[row["retention"]],
        until_ms=row["until_ms"],
        hold=row["hold"],
    )
