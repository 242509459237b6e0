"""Objects by their names, on the network's side of storage and its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.verticals.storage.client.buckets import Buckets
from fallow.verticals.storage.client.ground import (
    HEAD,
    ID_BYTES,
    MARKS,
    NAME_BYTES_MAX,
    NULL,
    Name,
    entry_of,
    name_bytes,
    name_text,
    version_id,
)
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.listing import Asked, find
from fallow.verticals.storage.client.segments import Source, VersionReading
from fallow.verticals.storage.client.sending import Spot, place_of
from fallow.verticals.storage.client.store import (
    ALWAYS,
    NO_LOCK,
    Body,
    Deleting,
    Ended,
    Entry,
    Finish,
    Gone,
    Head,
    Listing,
    Lock,
    Marks,
)
from fallow.verticals.storage.client.uploads import Uploads
from fallow.verticals.storage.core.calls.base import PAGE_MAX, Retention
from fallow.verticals.storage.core.calls.buckets import GetBucket
from fallow.verticals.storage.core.calls.objects import (
    INLINE_BYTES_MAX,
    INLINE_FULL,
    DeleteObjects,
    Deletion,
    GetObject,
    GetUnpurged,
    If,
    Listed,
    ListObjects,
    PutObject,
    SetObject,
    Unpurged,
    Version,
)
from fallow.verticals.storage.core.layout import TAG_BYTES
from fallow.verticals.storage.core.sealing import KEY_BYTES, NONCE_BYTES, SegmentSeal, unwrap_key, wrap_key

CALL_BYTES_MAX: Final = 512 << 10
"""Of names in one call; a message of the bus has twice as many bytes at most."""
DELETION_BYTES: Final = 256
"""What a deletion takes beside its name and slashes."""
SLASH_BYTES: Final = 3


class ObjectStore(Buckets, Uploads):
    """Implements `Store`."""

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
        """See `Store`."""
        name = self._name(account, bucket, key)
        stream = self._random_bytes(ID_BYTES)
        spot = Spot(account, bucket, stream, stream, 0, 0, name.secret)

        def call(size: int, ended: Ended, inline: bytes | None = None, key: bytes = b"") -> PutObject:
            return PutObject(
                account=account,
                bucket=bucket,
                object=name.sealed,
                slashes=name.slashes,
                stream=stream,
                size=size,
                etag=name.etag(ended.etag),
                head=name.seal(HEAD, _ended(head, ended), stream),
                tags=name.seal(MARKS, marks),
                inline=inline,
                key=key,
                retention=lock.retention,
                until_ms=lock.until_ms,
                hold=lock.hold,
                only_if=name.only_if(only_if),
            )

        async with self._begun(body) as cutter:
            if cutter.over and len(cutter.held) + TAG_BYTES <= INLINE_BYTES_MAX:
                size, ended, payload = len(cutter.held), finish(), cutter.take()
                try:
                    version = await self._asker.ask(call(size, ended, *self._seal_inline(name, stream, payload)))
                except TooMuch as error:
                    if error.code != INLINE_FULL:
                        raise
                    await self._send_one(cutter, spot, payload)
                    version = await self._asker.ask(call(size, ended))
            else:
                version = await self._asker.ask(call(*await self._send(cutter, spot, finish)))
        return entry_of(version, name)

    async def entry(self, account: str, bucket: str, key: str, version: str = "") -> Entry:
        """See `Store`."""
        name = self._name(account, bucket, key)
        return entry_of(await self._get(account, bucket, name, version), name)

    async def read(self, account: str, bucket: str, entry: Entry, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `Store`."""
        if start >= stop:
            return
        name = self._name(account, bucket, entry.key)
        version = entry.source
        if version is None:
            version = await self._get(account, bucket, name, entry.version)
        elif version.inline is None and version.size + TAG_BYTES <= INLINE_BYTES_MAX:
            # Lists leave inline bytes out.
            version = await self._get(account, bucket, name, version.version.hex())
        if version.inline is not None:
            yield _open_inline(name, version)[start:stop]
            return
        source = Source(account, bucket, name.sealed, version.version, version.stream, name.secret)
        reading = VersionReading(self._mover, self._crew, self._asker, source, start, stop)
        async with aclosing(reading.chunks()) as chunks:
            async for chunk in chunks:
                yield bytes(chunk)

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
        """See `Store`."""
        name = self._name(account, bucket, entry.key)
        version = await self._asker.ask(
            SetObject(
                account=account,
                bucket=bucket,
                object=name.sealed,
                version=b"" if entry.version == NULL else version_id(entry.version),
                null=entry.version == NULL,
                tags=None if marks is None else name.seal(MARKS, marks),
                before=entry.source.tags if marks is not None and entry.source is not None else None,
                retention=retention,
                until_ms=until_ms,
                hold=hold,
                bypass=bypass,
            )
        )
        return entry_of(version, name)

    async def delete(
        self, account: str, bucket: str, deletions: Sequence[Deleting], *, bypass: bool = False, purge: bool = False
    ) -> list[Gone]:
        """See `Store`."""
        keys = self._keys(account, bucket)
        gone = [Gone(one.key, one.version) for one in deletions]
        asked = await asyncio.to_thread(lambda: {at: _deletion(keys, one) for at, one in enumerate(deletions)})
        wanted = {at: one for at, one in asked.items() if one is not None}
        for at in asked.keys() - wanted.keys():
            gone[at] = gone[at]._replace(error="storage.no_version", message="There is no such version.")
        for page in _pages(wanted):
            some = [wanted[at] for at in page]
            answers = await self._asker.ask(
                DeleteObjects(account=account, bucket=bucket, deletions=some, bypass=bypass, purge=purge)
            )
            for at, deleted in zip(page, answers, strict=True):
                version = NULL if deleted.null else deleted.version.hex()
                gone[at] = Gone(deletions[at].key, version, deleted.marker, deleted.error, deleted.message)
        return gone

    async def unpurged(self, account: str, bucket: str) -> Unpurged:
        """See `Store`."""
        return await self._asker.ask(GetUnpurged(account=account, bucket=bucket))

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
        limit: int = PAGE_MAX,
    ) -> Listing:
        """See `Store`."""
        beginning = name_bytes(prefix)
        if limit == 0 or len(beginning) > NAME_BYTES_MAX:
            await self._asker.ask(GetBucket(account=account, bucket=bucket))
            return Listing((), (), more=False, after="", after_version="")
        keys = self._keys(account, bucket)
        behind = b""
        if after_version == NULL:
            behind = (await self._get(account, bucket, self._name(account, bucket, after), after_version)).version
        elif after_version:
            behind = version_id(after_version)  # it may be gone by now: who lists may delete page by page

        async def page(sealed: bytes, after_: bytes, version: bytes, folders: bool, size: int) -> Listed:
            return await self._asker.ask(
                ListObjects(
                    account=account,
                    bucket=bucket,
                    prefix=sealed,
                    after=after_,
                    after_version=version,
                    folders=folders,
                    all_versions=versions,
                    heads=True,  # ETags are in there: the network has them under the object's key alone
                    limit=size,
                )
            )

        asked = Asked(
            beginning, name_bytes(delimiter), name_bytes(after)[:NAME_BYTES_MAX], behind, versions=versions, limit=limit
        )
        found = await find(asked, keys, page)
        entries = await asyncio.to_thread(
            lambda: [_listed(version, Name(keys, name_text(name))) for name, version in found.versions]
        )
        return Listing(
            entries,
            [name_text(folder) for folder in found.folders],
            found.more,
            name_text(found.after) if found.more else "",
            found.after_version.hex() if found.more and versions else "",
            found.damaged,
        )

    async def _get(self, account: str, bucket: str, name: Name, version: str) -> Version:
        null = version == NULL
        return await self._asker.ask(
            GetObject(
                account=account,
                bucket=bucket,
                object=name.sealed,
                version=version_id(version) if version and not null else b"",
                null=null,
            )
        )

    def _seal_inline(self, name: Name, stream: bytes, payload: memoryview) -> tuple[bytes, bytes]:
        """Seal the bytes of a small object; returns them, and their key, which is sealed, too."""
        key, sealed = self._random_bytes(KEY_BYTES), bytearray(len(payload) + TAG_BYTES)
        SegmentSeal(key, 1).seal(0, payload, memoryview(sealed))
        return bytes(sealed), wrap_key(name.secret, place_of(stream, 0, 0), key, self._random_bytes(NONCE_BYTES))


def _open_inline(name: Name, version: Version) -> bytes:
    sealed = memoryview(version.inline or b"")
    payload = bytearray(max(0, len(sealed) - TAG_BYTES))
    key = unwrap_key(name.secret, place_of(version.stream, 0, 0), version.key)
    SegmentSeal(key, 1).open(0, sealed, memoryview(payload))
    return bytes(payload)


def _ended(head: Head, ended: Ended) -> Head:
    return msgspec.structs.replace(head, etag=ended.etag, checksums={**head.checksums, **ended.checksums})


def _pages(wanted: Mapping[int, Deletion]) -> Iterator[list[int]]:
    """Cut what is to be deleted into calls that are no larger than a message may be, whatever the names are."""
    page, room = list[int](), CALL_BYTES_MAX
    for at, one in wanted.items():
        size = DELETION_BYTES + len(one.object) + SLASH_BYTES * len(one.slashes)
        if page and (len(page) == PAGE_MAX or size > room):
            yield page
            page, room = [], CALL_BYTES_MAX
        page.append(at)
        room -= size
    if page:
        yield page


def _listed(version: Version, name: Name) -> Entry:
    """Open a version for a list, which goes on where what stands beside one is not what its owner's clients write."""
    try:
        return entry_of(version, name)
    except InvalidInput:
        return entry_of(msgspec.structs.replace(version, head=b"", tags=b""), name)


def _deletion(keys: Keys, deleting: Deleting) -> Deletion | None:
    """Return what is asked for; None: no version has such an id."""
    if deleting.sealed:
        return Deletion(object=deleting.sealed)
    name, null = Name(keys, deleting.key), deleting.version == NULL
    try:
        version = version_id(deleting.version) if deleting.version and not null else b""
    except NotFound:
        return None
    return Deletion(
        object=name.sealed, slashes=name.slashes, version=version, null=null, only_if=name.only_if(deleting.only_if)
    )
