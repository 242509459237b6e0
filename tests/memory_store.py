"""A `Store` in memory: versions, locks and conditions as the calls of storage say them."""

# ruff: noqa: D102 - the methods are those of the protocol

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound
from fallow.ports.clock import Clock
from fallow.verticals.storage.client.store import (
    ALWAYS,
    NO_LOCK,
    Begun,
    Body,
    Deleting,
    Entry,
    Finish,
    Gone,
    Head,
    Listing,
    Lock,
    Marks,
)
from fallow.verticals.storage.core.calls.base import Retention
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import If, Unpurged
from fallow.verticals.storage.core.calls.uploads import StoredPart
from fallow.verticals.storage.core.retention import DEFAULT, default_of

CHUNK = 1 << 18


class _Kept(NamedTuple):
    """A version with its bytes; `id` ascends with its making."""

    entry: Entry
    id: str
    data: bytes


class _Upload(NamedTuple):
    begun: Begun
    lock: Lock
    parts: dict[int, tuple[StoredPart, Mapping[str, str], bytes]]


class MemoryStore:
    """See `Store`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._versions: dict[str, dict[str, list[_Kept]]] = {}  # by bucket and key, the latest last
        self._uploads: dict[str, dict[str, _Upload]] = {}
        self._done: dict[str, Entry] = {}
        self._count = 0

    async def make_bucket(
        self,
        account: str,
        bucket: str,
        *,
        settings: Mapping[str, bytes],
        lock: bool = False,
        countries: Sequence[str] = (),
        profile: str = "",
    ) -> Bucket:
        there = self._buckets.get(bucket)
        if there is not None:
            code = "storage.bucket_yours" if there.account == account else "storage.bucket_taken"
            raise Conflict(code, "The bucket is there.")
        made = Bucket(
            name=bucket,
            account=account,
            made_ms=self._clock.now_ms(),
            profile=profile,
            countries=list(countries),
            versioning="enabled" if lock else "off",
            lock=lock,
            settings=dict(settings),
        )
        self._buckets[bucket] = made
        self._versions[bucket], self._uploads[bucket] = {}, {}
        return made

    async def bucket(self, bucket: str) -> Bucket:
        if bucket not in self._buckets:
            raise NotFound("storage.no_bucket", "There is no such bucket.")
        return self._buckets[bucket]

    async def buckets(self, account: str) -> list[Bucket]:
        return [self._buckets[name] for name in sorted(self._buckets) if self._buckets[name].account == account]

    async def set_bucket(
        self,
        account: str,
        bucket: str,
        *,
        versioning: str = "",
        lock: bool | None = None,
        settings: Mapping[str, bytes | None],
    ) -> Bucket:
        there = await self._own(account, bucket)
        kept = {**there.settings, **settings}
        changed = Bucket(
            name=there.name,
            account=there.account,
            made_ms=there.made_ms,
            profile=there.profile,
            countries=there.countries,
            versioning=versioning or there.versioning,  # type: ignore[arg-type]
            lock=there.lock if lock is None else lock,
            settings={name: data for name, data in kept.items() if data is not None},
        )
        self._buckets[bucket] = changed
        return changed

    async def drop_bucket(self, account: str, bucket: str) -> None:
        await self._own(account, bucket)
        if any(self._versions[bucket].values()):
            raise Conflict("storage.bucket_not_empty", "The bucket is not empty.")
        del self._buckets[bucket], self._versions[bucket], self._uploads[bucket]

    async def put(
        self,
        account: str,
        bucket: str,
        key: str,
        body: Body,
        finish: Finish,
        *,
        head: Head,
        marks: Marks,
        lock: Lock = NO_LOCK,
        only_if: If = ALWAYS,
    ) -> Entry:
        await self._own(account, bucket)
        data = b"".join([chunk async for chunk in body])
        ended = finish()
        whole = Head(headers=head.headers, metadata=head.metadata, etag=ended.etag, checksums=dict(ended.checksums))
        return await self._add(account, bucket, key, data, whole, marks, lock, only_if, ())

    async def entry(self, account: str, bucket: str, key: str, version: str = "") -> Entry:
        await self._own(account, bucket)
        return self._find(bucket, key, version).entry

    async def read(self, account: str, bucket: str, entry: Entry, start: int, stop: int) -> AsyncIterator[bytes]:
        await self._own(account, bucket)
        data = self._find(bucket, entry.key, entry.version).data
        for at in range(start, stop, CHUNK):
            yield data[at : min(at + CHUNK, stop)]

    async def mark(
        self,
        account: str,
        bucket: str,
        entry: Entry,
        *,
        marks: Marks | None = None,
        retention: Retention | None = None,
        until_ms: int = 0,
        hold: bool | None = None,
        bypass: bool = False,
    ) -> Entry:
        await self._own(account, bucket)
        there = self._find(bucket, entry.key, entry.version)
        if marks is not None and entry.marks != there.entry.marks:
            raise Conflict("storage.marks_changed", "The marks are others by now.")
        lock = there.entry.lock if hold is None else there.entry.lock._replace(hold=hold)
        if retention is not None:
            lock = lock._replace(retention=retention, until_ms=until_ms)
            if self._shortens(there.entry.lock, lock, bypass=bypass):
                raise NotAllowed("storage.retained", "The version is retained.")
        changed = there.entry._replace(marks=marks or there.entry.marks, lock=lock)
        kept = self._versions[bucket][entry.key]
        kept[kept.index(there)] = there._replace(entry=changed)
        return changed

    async def delete(
        self, account: str, bucket: str, deletions: Sequence[Deleting], *, bypass: bool = False, purge: bool = False
    ) -> list[Gone]:
        del purge  # there is no trash
        await self._own(account, bucket)
        gone = []
        for one in deletions:
            try:
                gone.append(self._delete(bucket, one, bypass=bypass))
            except FallowError as error:
                gone.append(Gone(one.key, one.version, error=error.code, message=error.message))
        return gone

    async def unpurged(self, account: str, bucket: str) -> Unpurged:
        await self._own(account, bucket)
        return Unpurged()

    async def names(
        self,
        account: str,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        after_version: str = "",
        versions: bool = False,
        limit: int = 1000,
    ) -> Listing:
        await self._own(account, bucket)
        entries: list[Entry] = []
        folders: list[str] = []
        last, last_version = "", ""
        for entry in self._behind(bucket, after, after_version, versions=versions):
            if not entry.key.startswith(prefix):
                continue
            stop = entry.key.find(delimiter, len(prefix)) if delimiter else -1
            folder = entry.key[: stop + len(delimiter)] if stop >= 0 else ""
            if folder and (folder in folders[-1:] or after.startswith(folder)):
                continue
            if len(entries) + len(folders) == limit:
                return Listing(entries, folders, True, last, last_version)
            if folder:
                folders.append(folder)
                last, last_version = folder, ""
            else:
                entries.append(entry)
                last, last_version = entry.key, entry.version if versions else ""
        return Listing(entries, folders, False, "", "")

    async def begin(
        self, account: str, bucket: str, key: str, *, head: Head, marks: Marks, lock: Lock = NO_LOCK
    ) -> str:
        await self._own(account, bucket)
        upload = self._next()
        begun = Begun(upload, key, self._clock.now_ms(), head, marks)
        self._uploads[bucket][upload] = _Upload(begun, lock, {})
        return upload

    async def begun(self, account: str, bucket: str, key: str, upload: str) -> Begun:
        return (await self._upload(account, bucket, key, upload)).begun

    async def put_part(
        self, account: str, bucket: str, key: str, upload: str, number: int, body: Body, finish: Finish
    ) -> StoredPart:
        there = await self._upload(account, bucket, key, upload)
        data = b"".join([chunk async for chunk in body])
        ended = finish()
        part = StoredPart(number=number, size=len(data), etag=ended.etag, made_ms=self._clock.now_ms())
        there.parts[number] = (part, dict(ended.checksums), data)
        return part

    async def parts(
        self, account: str, bucket: str, key: str, upload: str, *, after: int = 0, limit: int = 1000
    ) -> list[tuple[StoredPart, Mapping[str, str]]]:
        there = await self._upload(account, bucket, key, upload)
        numbers = sorted(number for number in there.parts if number > after)[:limit]
        return [there.parts[number][:2] for number in numbers]

    async def complete(
        self,
        account: str,
        bucket: str,
        key: str,
        upload: str,
        parts: Sequence[tuple[int, str]],
        *,
        head: Head,
        only_if: If = ALWAYS,
    ) -> Entry:
        if upload in self._done:
            return self._done[upload]
        there = await self._upload(account, bucket, key, upload)
        for number, etag in parts:
            if number not in there.parts or there.parts[number][0].etag != etag:
                raise InvalidInput("storage.part", "A part is not there.")
        data = b"".join(there.parts[number][2] for number, _ in parts)
        sizes = tuple((number, there.parts[number][0].size) for number, _ in parts)
        made = await self._add(account, bucket, key, data, head, there.begun.marks, there.lock, only_if, sizes)
        del self._uploads[bucket][upload]
        self._done[upload] = made
        return made

    async def abort(self, account: str, bucket: str, key: str, upload: str) -> None:
        await self._upload(account, bucket, key, upload)
        del self._uploads[bucket][upload]

    async def uploads(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", after_upload: str = "", limit: int = 1000
    ) -> list[Begun]:
        await self._own(account, bucket)
        begun = sorted((upload.begun for upload in self._uploads[bucket].values()), key=lambda one: one[1::-1])
        behind = [
            one
            for one in begun
            if one.key.startswith(prefix) and (one.key > after or self._later(one, after, after_upload))
        ]
        return behind[:limit]

    @staticmethod
    def _later(begun: Begun, after: str, after_upload: str) -> bool:
        return bool(after_upload) and (begun.key, begun.upload) > (after, after_upload)

    async def _own(self, account: str, bucket: str) -> Bucket:
        there = await self.bucket(bucket)
        assert there.account == account, "asked in another's name than the owner's"
        return there

    async def _upload(self, account: str, bucket: str, key: str, upload: str) -> _Upload:
        await self._own(account, bucket)
        there = self._uploads[bucket].get(upload)
        if there is None or there.begun.key != key:
            raise NotFound("storage.no_upload", "There is no such upload.")
        return there

    async def _add(
        self,
        account: str,
        bucket: str,
        key: str,
        data: bytes,
        head: Head,
        marks: Marks,
        lock: Lock,
        only_if: If,
        parts: tuple[tuple[int, int], ...],
    ) -> Entry:
        there = await self._own(account, bucket)
        self._check(bucket, key, only_if)
        made_id = self._next()
        version = made_id if there.versioning == "enabled" else "null"
        default = default_of(there.settings.get(DEFAULT, b"")) if there.lock and not lock.retention else None
        if default is not None:
            lock = lock._replace(retention=default.mode, until_ms=self._clock.now_ms() + default.ms)
        entry = Entry(key, version, False, True, len(data), self._clock.now_ms(), head, marks, lock, parts)
        self._place(bucket, _Kept(entry, made_id, data))
        return entry

    def _place(self, bucket: str, kept: _Kept) -> None:
        """Make a version the latest; a "null" one takes the place of the one before it."""
        key = kept.entry.key
        others = [one for one in self._versions[bucket].get(key, []) if one.entry.version != kept.entry.version]
        self._versions[bucket][key] = [one._replace(entry=one.entry._replace(latest=False)) for one in others]
        self._versions[bucket][key].append(kept)

    def _find(self, bucket: str, key: str, version: str) -> _Kept:
        kept = self._versions[bucket].get(key, [])
        if not version:
            if not kept:
                raise NotFound("storage.no_object", "There is no such object.")
            return kept[-1]
        for one in kept:
            if one.entry.version == version:
                return one
        raise NotFound("storage.no_version", "There is no such version.")

    def _check(self, bucket: str, key: str, only_if: If) -> None:
        kept = self._versions[bucket].get(key, [])
        latest = kept[-1].entry if kept and not kept[-1].entry.marker else None
        if only_if.absent and latest is not None:
            raise Conflict("storage.condition", "There is an object.")
        if latest is None:
            if only_if.etag or only_if.modified_ms is not None or only_if.size is not None:
                raise NotFound("storage.no_object", "There is no such object.")
            return
        self._check_one(latest, only_if)

    @staticmethod
    def _check_one(entry: Entry, only_if: If) -> None:
        if (
            (only_if.etag not in {"", "*"} and only_if.etag != entry.head.etag)
            or (only_if.size is not None and only_if.size != entry.size)
            or (only_if.modified_ms is not None and only_if.modified_ms // 1000 != entry.made_ms // 1000)
            or (only_if.older and entry.latest and not entry.marker)
        ):
            raise Conflict("storage.condition", "The object is another one.")

    def _delete(self, bucket: str, one: Deleting, *, bypass: bool) -> Gone:
        if one.version:
            return self._drop(bucket, one, bypass=bypass)
        self._check(bucket, one.key, one.only_if)
        versioning = self._buckets[bucket].versioning
        if versioning == "off":
            self._versions[bucket].pop(one.key, None)
            return Gone(one.key)
        made_id = self._next()
        version = made_id if versioning == "enabled" else "null"
        entry = Entry(one.key, version, True, True, 0, self._clock.now_ms(), Head(), Marks(), NO_LOCK, ())
        self._place(bucket, _Kept(entry, made_id, b""))
        return Gone(one.key, version, marker=True)

    def _drop(self, bucket: str, one: Deleting, *, bypass: bool) -> Gone:
        there = self._find(bucket, one.key, one.version)
        self._check_one(there.entry, one.only_if)
        lock = there.entry.lock
        if lock.hold or self._shortens(lock, NO_LOCK, bypass=bypass):
            raise NotAllowed("storage.retained", "The version is retained.")
        kept = self._versions[bucket][one.key]
        kept.remove(there)
        if kept:
            kept[-1] = kept[-1]._replace(entry=kept[-1].entry._replace(latest=True))
        else:
            del self._versions[bucket][one.key]
        return Gone(one.key, one.version, marker=there.entry.marker)

    def _shortens(self, before: Lock, after: Lock, *, bypass: bool) -> bool:
        if not before.retention or before.until_ms <= self._clock.now_ms():
            return False
        longer = after.retention == before.retention and after.until_ms >= before.until_ms
        return not longer and (before.retention == "compliance" or not bypass)

    def _behind(self, bucket: str, after: str, after_version: str, *, versions: bool) -> list[Entry]:
        found = []
        kept_by_key = self._versions[bucket]
        for key in sorted(kept_by_key, key=str.encode):
            newest_first = kept_by_key[key][::-1]
            if not versions:
                newest_first = [
                    one for one in newest_first[:1] if not one.entry.marker and key.encode() > after.encode()
                ]
            elif key == after and after_version:
                before = next((one.id for one in newest_first if one.entry.version == after_version), after_version)
                newest_first = [one for one in newest_first if one.id < before]
            elif key.encode() <= after.encode():
                continue
            found += [one.entry for one in newest_first]
        return found

    def _next(self) -> str:
        self._count += 1
        return f"{self._count:032x}"
