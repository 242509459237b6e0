"""Buckets: whose they are, how they keep versions, and the documents of gateways beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound, TooMuch
from fallow.domain.identity import address, address_text
from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import locks
from fallow.verticals.storage.control.buckets_port import BucketRow
from fallow.verticals.storage.control.ground import Ground, Kind
from fallow.verticals.storage.core.calls.buckets import (
    Bucket,
    DropBucket,
    GetBucket,
    ListBuckets,
    MakeBucket,
    SetBucket,
    Versioning,
)
from fallow.verticals.storage.core.profiles import PROFILES

BUCKETS_MAX: Final = 1000
"""Of an account: each is a name that nobody else can have, and settings, and none of that is paid for.

S3's quota was 100 for long, and is 10,000 since November 2024.
"""
SETTINGS_MAX: Final = 32
SETTINGS_BYTES_MAX: Final = 256 << 10
"""All of a bucket's, which go over the bus in one answer."""
SETTING_NAME_CHARS_MAX: Final = 64
NUL: Final = "\x00"
"""PostgreSQL has no text with it."""

_COLUMNS: Final = "id, name, account, made_ms, profile, countries, versioning, lock"
_BY_NAME: Final = f"SELECT {_COLUMNS} FROM storage.bucket WHERE name = $1"  # noqa: S608 - our words
_LIST: Final = f"SELECT {_COLUMNS} FROM storage.bucket WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3"  # noqa: S608 - our words
_MAKE: Final = f"""
INSERT INTO storage.bucket (name, account, made_ms, profile, countries, versioning, lock)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}
"""  # noqa: S608 - our words
_COUNT: Final = "SELECT count(*) AS buckets FROM storage.bucket WHERE account = $1"
_SETTINGS: Final = "SELECT name, document FROM storage.setting WHERE bucket_id = $1"
_SET: Final = """
INSERT INTO storage.setting (bucket_id, name, document) SELECT $1, * FROM unnest($2::text[], $3::bytea[])
ON CONFLICT (bucket_id, name) DO UPDATE SET document = EXCLUDED.document
"""
_IS_EMPTY: Final = """
SELECT NOT EXISTS (SELECT FROM storage.object WHERE bucket_id = $1)
   AND NOT EXISTS (SELECT FROM storage.version WHERE bucket_id = $1) AS empty
"""


class Shelf(NamedTuple):
    """A bucket, as those who work in it need it."""

    id: int
    account: bytes
    versioning: Versioning
    lock: bool


class Buckets:
    """Handlers of calls, by name; and what others look up."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def make(self, call: MakeBucket) -> Bucket:
        """See the call. InvalidInput: `storage.profile`, `storage.settings`. TooMuch: `storage.settings`, too."""
        if call.profile and call.profile not in PROFILES:
            raise InvalidInput(
                "storage.profile", f"There is no profile {call.profile!r}.", f"Take {', '.join(PROFILES)}."
            )
        owner = address(call.account)
        await self._ground.may_open(call.account)
        async with self._ground.database.transaction() as tx:
            await locks.make(tx, owner)
            versioning = "enabled" if call.lock else "off"
            made = await tx.fetch(
                _MAKE,
                call.bucket,
                owner,
                self._ground.clock.now_ms(),
                call.profile,
                call.countries,
                versioning,
                call.lock,
            )
            if not made:
                raise _taken(call.bucket, await _row(tx, call.bucket), owner)
            if (await tx.fetch(_COUNT, owner))[0]["buckets"] > BUCKETS_MAX:
                raise TooMuch("storage.buckets", f"An account has at most {BUCKETS_MAX} buckets.", "Drop some first.")
            return _bucket(made[0], await _set(tx, made[0]["id"], call.settings))

    async def get(self, call: GetBucket) -> Bucket:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            return await self.read(tx, call.account, call.bucket)

    async def read(self, tx: Transaction, account: str, name: str) -> Bucket:
        """Look a bucket up with its settings; see `GetBucket`."""
        row = await (_owned(tx, account, name) if account else _row(tx, name))
        return _bucket(row, await _settings(tx, row["id"]))

    async def list(self, call: ListBuckets) -> list[Bucket]:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            after = call.after.partition(NUL)[0]  # what comes behind is the same: no name has one
            return [_bucket(row, {}) for row in await tx.fetch(_LIST, address(call.account), after, call.limit)]

    async def set(self, call: SetBucket) -> Bucket:
        """See the call.

        Raises:
            NotFound, NotAllowed: as `shelf`.
            Conflict: `storage.lock_stays`, `storage.lock_needs_versions`.
            InvalidInput, TooMuch: `storage.settings`.
        """
        async with self._ground.database.transaction() as tx:
            shelf = await self._alone(tx, call.account, call.bucket)
            versioning = call.versioning or shelf.versioning
            lock = shelf.lock if call.lock is None else call.lock
            _check_lock(shelf, versioning, lock=lock)
            await tx.execute(
                "UPDATE storage.bucket SET versioning = $2, lock = $3 WHERE id = $1", shelf.id, versioning, lock
            )
            settings = await _set(tx, shelf.id, call.settings)
            return _bucket(await _row(tx, call.bucket), settings)

    async def drop(self, call: DropBucket) -> None:
        """See the call."""
        async with self._ground.database.transaction() as tx:
            shelf = await self._alone(tx, call.account, call.bucket)
            if not (await tx.fetch(_IS_EMPTY, shelf.id))[0]["empty"]:
                hint = "Delete all versions and delete markers first."
                raise Conflict("storage.bucket_not_empty", f"The bucket {call.bucket} is not empty.", hint)
            uploads = await tx.fetch("DELETE FROM storage.upload WHERE bucket_id = $1 RETURNING stream", shelf.id)
            if uploads:
                await self._ground.segments.drop(tx, shelf.id, [row["stream"] for row in uploads], purge=True)
            await tx.execute("DELETE FROM storage.bucket WHERE id = $1", shelf.id)

    async def shelf(self, tx: Transaction, account: str, name: str, kind: Kind) -> Shelf:
        """Look a bucket up for its owner, and count the request.

        Raises:
            NotFound: `storage.no_bucket`.
            NotAllowed: `storage.not_yours`.
        """
        row = await _owned(tx, account, name)
        self._ground.counted(row["account"], row["id"], kind)
        return Shelf(row["id"], row["account"], row["versioning"], row["lock"])

    async def _alone(self, tx: Transaction, account: str, name: str) -> Shelf:
        """Look a bucket up when nobody writes into it. Its owner alone waits for that: all writers wait behind him."""
        await _owned(tx, account, name)
        await locks.change(tx, name)
        return await self.shelf(tx, account, name, "put")

    async def bucket_of(self, tx: Transaction, account: str, name: str) -> BucketRow:
        """See the port."""
        row = await _owned(tx, account, name)
        return BucketRow(row["id"], row["account"], row["profile"], row["countries"])


def _check_lock(shelf: Shelf, versioning: Versioning, *, lock: bool) -> None:
    if shelf.lock and not lock:
        raise Conflict("storage.lock_stays", "A bucket with object lock keeps it.")
    if lock and versioning != "enabled":
        hint = "Enable the bucket's versioning."
        raise Conflict("storage.lock_needs_versions", "Object lock needs a bucket that keeps versions.", hint)


async def _owned(tx: Transaction, account: str, name: str) -> Row:
    row = await _row(tx, name)
    if row["account"] != address(account):
        raise NotAllowed("storage.not_yours", f"The bucket {name} belongs to another account.")
    return row


async def _row(tx: Transaction, name: str) -> Row:
    rows = await tx.fetch(_BY_NAME, name) if NUL not in name else []
    if not rows:
        raise NotFound("storage.no_bucket", f"There is no bucket {name[:255]!r}.")
    return rows[0]


async def _settings(tx: Transaction, bucket_id: int) -> dict[str, bytes]:
    return {row["name"]: row["document"] for row in await tx.fetch(_SETTINGS, bucket_id)}


async def _set(tx: Transaction, bucket_id: int, changes: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Write a bucket's settings, drop those that are None, and return what it has then."""
    if any(not 0 < len(name) <= SETTING_NAME_CHARS_MAX or not name.isprintable() for name in changes):
        raise InvalidInput("storage.settings", f"A setting's name has 1 to {SETTING_NAME_CHARS_MAX} characters.")
    given = {name: document for name, document in changes.items() if document is not None}
    dropped = [name for name, document in changes.items() if document is None]
    if dropped:
        await tx.execute("DELETE FROM storage.setting WHERE bucket_id = $1 AND name = ANY($2)", bucket_id, dropped)
    if given:
        await tx.execute(_SET, bucket_id, [*given], [*given.values()])
    settings = await _settings(tx, bucket_id)
    _check_settings([*settings.values()])
    return settings


def _check_settings(documents: Sequence[bytes]) -> None:
    if len(documents) > SETTINGS_MAX or sum(map(len, documents)) > SETTINGS_BYTES_MAX:
        most = f"{SETTINGS_MAX} settings of {SETTINGS_BYTES_MAX >> 10} KiB together"
        raise TooMuch("storage.settings", f"A bucket has at most {most}.")


def _taken(name: str, row: Row, owner: bytes) -> Conflict:
    if row["account"] == owner:
        return Conflict("storage.bucket_yours", f"You have a bucket {name} already.")
    return Conflict("storage.bucket_taken", f"There is a bucket {name} already.", "Names are unique in a network.")


def _bucket(row: Row, settings: dict[str, bytes]) -> Bucket:
    return Bucket(
        name=row["name"],
        account=address_text(row["account"]),
        made_ms=row["made_ms"],
        profile=row["profile"],
        countries=[*row["countries"]],
        versioning=row["versioning"],
        lock=row["lock"],
        settings=settings,
    )
