"""Uploads in parts: see `Store`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput, NotFound
from fallow.verticals.storage.client.ground import (
    HEAD,
    ID_BYTES,
    MARKS,
    NAME_BYTES_MAX,
    Ground,
    Name,
    entry_of,
    name_bytes,
    name_text,
    version_id,
)
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.sending import Spot
from fallow.verticals.storage.client.store import ALWAYS, NO_LOCK, Begun, Body, Entry, Finish, Head, Lock, Marks
from fallow.verticals.storage.core.calls.base import PAGE_MAX
from fallow.verticals.storage.core.calls.objects import If
from fallow.verticals.storage.core.calls.uploads import (
    UPLOADS_PAGE_MAX,
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

PART: Final = "part"


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands beside a part, sealed: its ETag, which the network does not know, and its checksums."""

    etag: str = ""
    checksums: dict[str, str] = {}


class Uploads(Ground):
    """The part of `Store` that is about uploads."""

    async def begin(
        self, account: str, bucket: str, key: str, *, head: Head, marks: Marks, lock: Lock = NO_LOCK
    ) -> str:
        """See `Store`."""
        name, stream = self._name(account, bucket, key), self._random_bytes(ID_BYTES)
        begun = await self._asker.ask(
            BeginUpload(
                account=account,
                bucket=bucket,
                object=name.sealed,
                slashes=name.slashes,
                stream=stream,
                head=name.seal(HEAD, head, stream),
                tags=name.seal(MARKS, marks),
                retention=lock.retention,
                until_ms=lock.until_ms,
                hold=lock.hold,
            )
        )
        return begun.stream.hex()

    async def begun(self, account: str, bucket: str, key: str, upload: str) -> Begun:
        """See `Store`."""
        name = self._name(account, bucket, key)
        found = GetUpload(account=account, bucket=bucket, object=name.sealed, stream=_stream(upload))
        return _begun(await self._asker.ask(found), name)

    async def put_part(
        self, account: str, bucket: str, key: str, upload: str, number: int, body: Body, finish: Finish
    ) -> StoredPart:
        """See `Store`."""
        name = self._name(account, bucket, key)
        stream, bytes_of = _stream(upload), self._random_bytes(ID_BYTES)
        spot = Spot(account, bucket, bytes_of, stream, number, 0, name.secret)
        async with self._begun(body) as cutter:
            size, ended = await self._send(cutter, spot, finish)
        stored = await self._asker.ask(
            PutPart(
                account=account,
                bucket=bucket,
                object=name.sealed,
                stream=stream,
                bytes_of=bytes_of,
                number=number,
                size=size,
                etag=name.etag(ended.etag),
                head=name.seal(PART, Part(etag=ended.etag, checksums=dict(ended.checksums))),
            )
        )
        return msgspec.structs.replace(stored, etag=ended.etag)

    async def parts(
        self, account: str, bucket: str, key: str, upload: str, *, after: int = 0, limit: int = PAGE_MAX
    ) -> list[tuple[StoredPart, Mapping[str, str]]]:
        """See `Store`."""
        name = self._name(account, bucket, key)
        stream, found = _stream(upload), list[StoredPart]()
        while len(found) < limit:
            size = min(PAGE_MAX, limit - len(found))
            page = await self._asker.ask(
                ListParts(account=account, bucket=bucket, object=name.sealed, stream=stream, after=after, limit=size)
            )
            found += page
            if len(page) < size:
                break
            after = page[-1].number
        heads = [name.open(PART, part.head, Part) for part in found]
        return [
            (msgspec.structs.replace(part, etag=head.etag), head.checksums)
            for part, head in zip(found, heads, strict=True)
        ]

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
        """See `Store`."""
        name, stream = self._name(account, bucket, key), _stream(upload)
        version = await self._asker.ask(
            CompleteUpload(
                account=account,
                bucket=bucket,
                object=name.sealed,
                stream=stream,
                parts=[(number, name.etag(etag)) for number, etag in parts],
                etag=name.etag(head.etag),
                head=name.seal(HEAD, head, stream),
                only_if=name.only_if(only_if),
            )
        )
        return entry_of(version, name)

    async def abort(self, account: str, bucket: str, key: str, upload: str) -> None:
        """See `Store`."""
        name = self._name(account, bucket, key)
        abort = AbortUpload(account=account, bucket=bucket, object=name.sealed, stream=_stream(upload))
        await self._asker.ask(abort)

    async def uploads(
        self,
        account: str,
        bucket: str,
        *,
        prefix: str = "",
        after: str = "",
        after_upload: str = "",
        limit: int = PAGE_MAX,
    ) -> list[Begun]:
        """See `Store`."""
        keys, found = self._keys(account, bucket), list[Begun]()
        sealed_prefix = keys.seal_name(name_bytes(prefix)[:NAME_BYTES_MAX])
        sealed_after = keys.seal_name(name_bytes(after)[:NAME_BYTES_MAX])
        after_stream = _stream(after_upload) if after_upload else b""
        while len(found) < limit:
            size = min(UPLOADS_PAGE_MAX, limit - len(found))
            page = await self._asker.ask(
                ListUploads(
                    account=account,
                    bucket=bucket,
                    prefix=sealed_prefix,
                    after=sealed_after,
                    after_stream=after_stream,
                    limit=size,
                )
            )
            found += _readable(keys, page)
            if len(page) < size:
                break
            sealed_after, after_stream = page[-1].object, page[-1].stream
        return found


def _stream(upload: str) -> bytes:
    try:
        return version_id(upload)
    except NotFound as error:
        raise NotFound("storage.no_upload", "There is no such upload.") from error


def _readable(keys: Keys, uploads: Sequence[Upload]) -> Iterator[Begun]:
    """Open uploads for a list, which leaves out what their owner's clients did not write."""
    names = keys.open_each([upload.object for upload in uploads])
    for upload, name in zip(uploads, names, strict=True):
        if name is not None:
            with suppress(InvalidInput):
                yield _begun(upload, Name(keys, name_text(name)))


def _begun(upload: Upload, name: Name) -> Begun:
    head = name.open(HEAD, upload.head, Head, upload.stream)
    marks = name.open(MARKS, upload.tags, Marks)
    return Begun(upload.stream.hex(), name.key, upload.made_ms, head, marks)
