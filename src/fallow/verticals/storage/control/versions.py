"""Versions: put, looked up, and changed where they can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound
from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import conditions, locks, tally
from fallow.verticals.storage.control.buckets import Buckets, Shelf
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.placing import New, checked_kept, place, put_before, require_lock, used
from fallow.verticals.storage.control.rows import (
    RETENTIONS,
    Kept,
    checked_slashes,
    kept,
    read_parts,
    version_of,
)
from fallow.verticals.storage.control.standing import standings
from fallow.verticals.storage.control.tally import KEPT, Totals
from fallow.verticals.storage.core.calls.objects import GetObject, PutObject, SetObject, Version

SEALED_MORE_BYTES_MAX: Final = 1024
"""By how much inline bytes may be longer than what they hold, by which the owner is billed."""

_LATEST: Final = f"""
SELECT * FROM (
    SELECT r.*, {KEPT}, true AS latest FROM storage.object r WHERE r.bucket_id = $1 AND r.name = $2
    UNION ALL (
        SELECT r.*, {KEPT}, true FROM storage.version r WHERE r.bucket_id = $1 AND r.name = $2
        ORDER BY r.bucket_id, r.name, r.version DESC LIMIT 1
    )
) found ORDER BY version DESC LIMIT 1
"""  # noqa: S608 - our words
_IS_LATEST: Final = """
r.marker AND NOT EXISTS (SELECT FROM storage.object o WHERE o.bucket_id = r.bucket_id AND o.name = r.name)
AND NOT EXISTS (
    SELECT FROM storage.version v WHERE v.bucket_id = r.bucket_id AND v.name = r.name AND v.version > r.version
)
"""
_ONE: Final = f"""
SELECT r.*, {KEPT}, true AS latest FROM storage.object r WHERE r.bucket_id = $1 AND r.name = $2 AND r.version = $3
UNION ALL
SELECT r.*, {KEPT}, {_IS_LATEST} FROM storage.version r WHERE r.bucket_id = $1 AND r.name = $2 AND r.version = $3
"""  # noqa: S608 - our words
_NULL: Final = f"""
SELECT r.*, {KEPT}, true AS latest FROM storage.object r WHERE r.bucket_id = $1 AND r.name = $2 AND r.is_null
UNION ALL
SELECT r.*, {KEPT}, {_IS_LATEST} FROM storage.version r WHERE r.bucket_id = $1 AND r.name = $2 AND r.is_null
"""  # noqa: S608 - our words
_IS_UPLOAD: Final = "SELECT FROM storage.upload WHERE stream = $1"
_SET: Final = "SET tags = $4, retention = $5, until_ms = $6, hold = $7"
_WHERE: Final = f"WHERE bucket_id = $1 AND name = $2 AND version = $3 RETURNING r.*, {KEPT}"
_CHANGE: Final = {
    "object": f"UPDATE storage.object r {_SET} {_WHERE}",
    "version": f"UPDATE storage.version r {_SET} {_WHERE}",
}


class Versions:
    """Handlers of calls, by name; and what others look up."""

    def __init__(self, ground: Ground, buckets: Buckets) -> None:
        self._ground = ground
        self._buckets = buckets

    async def put(self, call: PutObject) -> Version:
        """See the call.

        Raises:
            Conflict: `storage.stream_used`, too.
            InvalidInput: `storage.slashes`, `storage.inline`, `storage.no_lock`, `storage.retention`, `storage.crumbs`.
            InsufficientFunds: inline bytes of who cannot pay, as `BeginSegment`.
            TooMuch: `storage.inline_full`, `storage.kept_full`.
        """
        slashes = checked_slashes(call.object, call.slashes)
        _check_inline(call)
        if call.inline is not None:  # nobody asked when its bytes were stored
            await self._ground.may_use(call.account)
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, [call.object], call.stream)
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            if (done := await put_before(tx, shelf, call.object, call.stream)) is not None:
                return done
            standing = (await standings(tx, shelf.id, [call.object]))[call.object]
            until = checked_kept(shelf, Kept(call.retention, call.until_ms, call.hold))
            conditions.check(call.only_if, standing.latest)
            if call.inline is None:
                await self._check_stored(tx, shelf, call)
            new = New(
                call.object,
                slashes,
                call.stream,
                call.size,
                call.etag,
                call.head,
                call.tags,
                until,
                call.inline,
                call.key,
            )
            return await place(tx, self._ground, shelf, standing, new)

    async def get(self, call: GetObject) -> Version:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "get")
            row = await find(tx, shelf.id, call.object, call.version, null=call.null)
        return version_of(row, latest=row["latest"])

    async def set(self, call: SetObject) -> Version:
        """See the call.

        Raises:
            NotFound: `storage.no_object`, `storage.no_version` (delete markers have nothing to change).
            Conflict: `storage.marks_changed`, unless they are already what they shall be.
            InvalidInput: `storage.no_lock`, `storage.retention`.
            TooMuch: `storage.kept_full`.
        """
        async with self._ground.database.transaction() as tx:
            await locks.write(tx, call.bucket, [call.object])
            shelf = await self._buckets.shelf(tx, call.account, call.bucket, "put")
            row = await find(tx, shelf.id, call.object, call.version, null=call.null)
            if row["marker"]:
                raise NotFound("storage.no_version", "A delete marker has neither tags nor a retention.")
            if call.before not in {None, row["tags"]} and call.tags != row["tags"]:
                raise Conflict("storage.marks_changed", "Somebody else has changed the tags meanwhile.", "Try again.")
            wanted = self._kept(shelf, kept(row), call)
            changed = await tx.fetch(
                _CHANGE["object" if row["latest"] else "version"],
                shelf.id,
                call.object,
                row["version"],
                row["tags"] if call.tags is None else call.tags,
                RETENTIONS.index(wanted.retention),
                wanted.until_ms,
                wanted.hold,
            )
            change = Totals(kept=changed[0]["kept_bytes"] - row["kept_bytes"])
            await self._ground.keeping.check(tx, shelf.account, change)
            await tally.add(tx, shelf.id, change)
            return version_of(changed[0], latest=row["latest"])

    async def version_stream(
        self, tx: Transaction, bucket_id: int, sealed_name: bytes, version: bytes
    ) -> tuple[bytes, int, Sequence[tuple[int, int]]]:
        """See the port."""
        row = await find(tx, bucket_id, sealed_name, version, null=False)
        if row["stream"] is None:
            raise _no_version()
        return row["stream"], row["size"], read_parts(row["parts"])

    def _kept(self, shelf: Shelf, before: Kept, call: SetObject) -> Kept:
        if call.retention is not None or call.hold is not None:
            require_lock(shelf)
        wanted = before if call.hold is None else before._replace(hold=call.hold)
        if call.retention is None:
            return wanted
        wanted = checked_kept(shelf, wanted._replace(retention=call.retention, until_ms=call.until_ms))
        bypasses = call.bypass and before.retention == "governance"
        keeps = wanted.retention == before.retention and wanted.until_ms >= before.until_ms
        if before.is_retained(self._ground.clock.now_ms()) and not (bypasses or keeps):
            raise NotAllowed("storage.retained", "The version's retention cannot be taken back or shortened.")
        return wanted

    async def _check_stored(self, tx: Transaction, shelf: Shelf, call: PutObject) -> None:
        """Who gives an upload up drops all that lies under its stream, retained or not: a version lies elsewhere."""
        if await tx.fetch(_IS_UPLOAD, call.stream):
            raise used()
        stored = await self._ground.segments.stored_bytes(tx, shelf.id, call.stream, 0)
        if stored != call.size:
            raise incomplete(stored, call.size)


async def find(tx: Transaction, bucket_id: int, name: bytes, version: bytes, *, null: bool) -> Row:
    """Return the row of a name's latest version, of one by its id, or of the one known as "null"; with `latest`.

    Raises:
        NotFound: `storage.no_object`, `storage.no_version`.
    """
    if version:
        rows = await tx.fetch(_ONE, bucket_id, name, version)
    else:
        rows = await tx.fetch(_NULL if null else _LATEST, bucket_id, name)
    if rows:
        return rows[0]
    if version or null:
        raise _no_version()
    raise NotFound("storage.no_object", "There is no object of this name.")


def incomplete(stored: int, size: int) -> Conflict:
    """The error of who says that bytes are stored which are not."""
    message = f"{stored} bytes are stored under the stream, not {size}."
    return Conflict("storage.incomplete", message, "Store all segments before the object.")


def _no_version() -> NotFound:
    return NotFound("storage.no_version", "There is no such version of this object.")


def _check_inline(call: PutObject) -> None:
    if call.inline is not None and not call.size <= len(call.inline) <= call.size + SEALED_MORE_BYTES_MAX:
        raise InvalidInput("storage.inline", f"{len(call.inline)} sealed bytes do not hold {call.size}.")
