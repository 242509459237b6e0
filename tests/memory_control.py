"""The network's side of storage in memory."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from blake3 import blake3

from fallow.domain.encoding import decode
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, Unavailable
from fallow.domain.streams import DirectAddress, StreamTicket, service_purpose
from fallow.ports.clock import Clock
from fallow.verticals.storage.control.choosing import read_spare_of
from fallow.verticals.storage.core.calls.base import PAGE_MAX, Call
from fallow.verticals.storage.core.calls.buckets import (
    Bucket,
    DropBucket,
    GetBucket,
    ListBuckets,
    MakeBucket,
    SetBucket,
)
from fallow.verticals.storage.core.calls.objects import (
    Deleted,
    DeleteObjects,
    Deletion,
    GetObject,
    GetUnpurged,
    Listed,
    ListObjects,
    PutObject,
    SetObject,
    Unpurged,
    Version,
    behind,
)
from fallow.verticals.storage.core.calls.segments import (
    SEGMENTS_AT_ONCE,
    BeginSegment,
    EndSegment,
    MorePlaces,
    Place,
    Plan,
    ReadSegments,
    SayAltered,
    SegmentRead,
)
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
from fallow.verticals.storage.core.layout import SHARE_BYTES, Layout, blocks_of
from fallow.verticals.storage.core.orders import LIMIT_MS, Action, OrderLimit, PieceReceipt
from fallow.verticals.storage.core.profiles import LAB, Profile
from tests.memory_nodes import NET, NETWORK, MemoryNode, sign_as

ReplyT = TypeVar("ReplyT")


class _Segment(NamedTuple):
    id: bytes
    payload: int
    key: bytes
    profile: Profile
    nodes: dict[int, bytes]
    """By piece, once it is stored."""
    given: set[bytes]
    """Nodes that it was given as places."""


class _Bucket:
    def __init__(self, made: Bucket) -> None:
        self.made = made
        self.versions: dict[bytes, list[Version]] = {}
        """By sealed name, the latest first."""
        self.segments: dict[bytes, dict[tuple[int, int], _Segment]] = {}
        """By stream, and by part and index."""
        self.uploads: dict[bytes, tuple[BeginUpload, dict[int, StoredPart]]] = {}
        self.done: dict[bytes, Version] = {}


class MemoryControl:
    """Implements `Asker` by dicts. Conditions and locks are not checked here: the real one's tests do that."""

    def __init__(self, nodes: list[MemoryNode], clock: Clock, *, profile: Profile = LAB) -> None:
        self.nodes = nodes
        self.profile = profile
        self.asked = Counter[str]()
        self.purges: list[bool] = []
        """Of each deletion, whether it was to be one."""
        self.unpurged = Unpurged()
        self.said: list[tuple[bytes, bytes]] = []
        """Of which segments readers say that a node does not give what was stored."""
        self.page_max = PAGE_MAX
        self.inline_refused: FallowError | None = None
        """What who stores inline is answered with, unless it is an empty object."""
        self.offline: set[bytes] = set()
        self.direct: dict[bytes, DirectAddress] = {}
        """Where nodes can be dialled themselves."""
        self._tickets: dict[bytes, bytes] = {}
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._segments: dict[bytes, _Segment] = {}
        self._begun: dict[bytes, BeginSegment] = {}
        self._ids = itertools.count(1)
        self._draw = random.Random(1)
        self._slashes: dict[bytes, list[int]] = {}
        """By sealed name."""

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """See the Protocol: through the same bytes as over the bus."""
        self.asked[call.name] += 1
        await asyncio.sleep(0)
        asked = msgspec.msgpack.decode(msgspec.msgpack.encode(call), type=type(call))
        handler = getattr(self, "_" + call.name.replace(".", "_"))
        answer = msgspec.msgpack.encode(handler(asked))
        return cast("ReplyT", msgspec.msgpack.decode(answer, type=call.reply))

    # Buckets

    def _bucket_make(self, call: MakeBucket) -> Bucket:
        if call.bucket in self._buckets:
            raise Conflict("storage.bucket_taken", "There is such a bucket.")
        made = Bucket(
            name=call.bucket,
            account=call.account,
            made_ms=self._clock.now_ms(),
            profile=self.profile.name,
            countries=call.countries,
            lock=call.lock,
            versioning="enabled" if call.lock else "off",
            settings=call.settings,
        )
        self._buckets[call.bucket] = _Bucket(made)
        return made

    def _bucket_get(self, call: GetBucket) -> Bucket:
        return self._of(call.bucket).made

    def _bucket_list(self, call: ListBuckets) -> list[Bucket]:
        names = sorted(name for name, one in self._buckets.items() if one.made.account == call.account)
        return [self._buckets[name].made for name in names if name > call.after][: call.limit]

    def _bucket_set(self, call: SetBucket) -> Bucket:
        bucket = self._of(call.bucket)
        settings = {name: value for name, value in (bucket.made.settings | call.settings).items() if value is not None}
        bucket.made = msgspec.structs.replace(
            bucket.made, settings=settings, versioning=call.versioning or bucket.made.versioning
        )
        return bucket.made

    def _bucket_drop(self, call: DropBucket) -> None:
        if self._of(call.bucket).versions:
            raise Conflict("storage.bucket_not_empty", "The bucket is not empty.")
        del self._buckets[call.bucket]

    # Versions

    def _object_put(self, call: PutObject) -> Version:
        if self.inline_refused is not None and call.inline is not None and call.size:
            raise self.inline_refused
        bucket = self._of(call.bucket)
        self._slashes[call.object] = call.slashes
        if call.inline is None and self._stored(bucket, call.stream) != call.size:
            raise Conflict("storage.incomplete", "Segments are missing.")
        fields = {name: getattr(call, name) for name in ("size", "etag", "head", "tags", "inline", "key")}
        locked = {name: getattr(call, name) for name in ("retention", "until_ms", "hold")}
        return self._add(bucket, call.object, stream=call.stream, **fields, **locked)

    def _add(self, bucket: _Bucket, name: bytes, **fields: Any) -> Version:
        versioned = bucket.made.versioning == "enabled"
        made = Version(
            name=name,
            version=next(self._ids).to_bytes(16, "big"),
            null=not versioned,
            made_ms=self._clock.now_ms(),
            **fields,
        )
        before = bucket.versions.get(name, [])
        bucket.versions[name] = [made, *(one for one in before if versioned or not one.null)]
        return msgspec.structs.replace(made, latest=True)

    def _object_get(self, call: GetObject) -> Version:
        versions = self._of(call.bucket).versions.get(call.object)
        if not versions:
            raise NotFound("storage.no_object", "There is no such object.")
        for one in versions:
            if one.version == call.version or (call.null and one.null) or not (call.version or call.null):
                return msgspec.structs.replace(one, latest=one is versions[0])
        raise NotFound("storage.no_version", "There is no such version.")

    def _object_set(self, call: SetObject) -> Version:
        versions = self._of(call.bucket).versions[call.object]
        found = self._object_get(
            GetObject(
                account=call.account, bucket=call.bucket, object=call.object, version=call.version, null=call.null
            )
        )
        changed = msgspec.structs.replace(
            found,
            tags=found.tags if call.tags is None else call.tags,
            retention=found.retention if call.retention is None else call.retention,
            until_ms=found.until_ms if call.retention is None else call.until_ms,
            hold=found.hold if call.hold is None else call.hold,
        )
        versions[[one.version for one in versions].index(found.version)] = changed
        return changed

    def _object_delete(self, call: DeleteObjects) -> list[Deleted]:
        self.purges += [call.purge] * len(call.deletions)
        return [self._delete(self._of(call.bucket), one) for one in call.deletions]

    def _object_unpurged(self, call: GetUnpurged) -> Unpurged:
        self._of(call.bucket)
        return self.unpurged

    def _delete(self, bucket: _Bucket, one: Deletion) -> Deleted:
        versions = bucket.versions.get(one.object, [])
        if one.version or one.null:
            gone = [other for other in versions if other.version == one.version or (one.null and other.null)]
            if not gone:
                return Deleted(error="storage.no_version", message="There is no such version.")
            versions.remove(gone[0])
            if not versions:
                del bucket.versions[one.object]
            return Deleted(version=gone[0].version, null=gone[0].null, marker=gone[0].marker, gone=True)
        if bucket.made.versioning == "off":
            return Deleted(gone=bucket.versions.pop(one.object, None) is not None)
        self._slashes[one.object] = one.slashes
        made = self._add(bucket, one.object, marker=True)
        return Deleted(version=made.version, null=made.null, marker=True)

    def _object_list(self, call: ListObjects) -> Listed:
        bucket, listed = self._of(call.bucket), Listed()
        limit = min(call.limit, self.page_max)
        shown = self._shown(bucket, call)
        for name, version in shown:
            if len(listed.versions) + len(listed.folders) == limit:
                return msgspec.structs.replace(listed, more=True)
            if version is None:
                listed.folders.append(name)
            else:
                listed.versions.append(version)
            listed = msgspec.structs.replace(
                listed, after=name if version else behind(name), after_version=version.version if version else b""
            )
        return listed

    def _shown(self, bucket: _Bucket, call: ListObjects) -> list[tuple[bytes, Version | None]]:
        shown: list[tuple[bytes, Version | None]] = []
        for name, versions in sorted(bucket.versions.items()):
            visible = versions if call.all_versions else [one for one in versions[:1] if not one.marker]
            if not name.startswith(call.prefix) or not visible:
                continue
            folder = self._folder(name, len(call.prefix)) if call.folders else b""
            if folder:
                if shown[-1:] != [(folder, None)] and name > call.after:
                    shown.append((folder, None))
                continue
            for one in visible:
                behind = name == call.after and call.after_version and one.version < call.after_version
                if name > call.after or behind:
                    latest = one is versions[0]
                    head, tags = (one.head, one.tags) if call.heads else (b"", b"")
                    lean = msgspec.structs.replace(
                        one, latest=latest, inline=None, head=head, tags=tags, key=b"", parts=[]
                    )
                    shown.append((name, lean))
        return shown

    def _folder(self, name: bytes, behind: int) -> bytes:
        ends = [at for at in self._slashes[name] if at > behind]
        return name[: ends[0]] if ends else b""

    # Uploads

    def _upload_begin(self, call: BeginUpload) -> Upload:
        self._slashes[call.object] = call.slashes
        self._of(call.bucket).uploads[call.stream] = (call, {})
        return self._upload(call)

    def _upload(self, call: BeginUpload) -> Upload:
        return Upload(
            stream=call.stream, object=call.object, made_ms=self._clock.now_ms(), head=call.head, tags=call.tags
        )

    def _upload_of(self, bucket: str, stream: bytes) -> tuple[BeginUpload, dict[int, StoredPart]]:
        found = self._of(bucket).uploads.get(stream)
        if found is None:
            raise NotFound("storage.no_upload", "There is no such upload.")
        return found

    def _upload_get(self, call: GetUpload) -> Upload:
        return self._upload(self._upload_of(call.bucket, call.stream)[0])

    def _upload_part(self, call: PutPart) -> StoredPart:
        bucket = self._of(call.bucket)
        _, parts = self._upload_of(call.bucket, call.stream)
        if self._stored(bucket, call.bytes_of) != call.size:
            raise Conflict("storage.incomplete", "Segments are missing.")
        into = bucket.segments.setdefault(call.stream, {})
        for place in [place for place in into if place[0] == call.number]:
            del into[place]
        for (_, index), segment in bucket.segments.pop(call.bytes_of, {}).items():
            into[call.number, index] = segment
        part = StoredPart(
            number=call.number, size=call.size, etag=call.etag, made_ms=self._clock.now_ms(), head=call.head
        )
        parts[call.number] = part
        return part

    def _upload_parts(self, call: ListParts) -> list[StoredPart]:
        _, parts = self._upload_of(call.bucket, call.stream)
        return [parts[number] for number in sorted(parts) if number > call.after][: call.limit]

    def _upload_list(self, call: ListUploads) -> list[Upload]:
        found = sorted((begun.object, stream) for stream, (begun, _) in self._of(call.bucket).uploads.items())
        return [
            self._upload(self._of(call.bucket).uploads[stream][0])
            for name, stream in found
            if name.startswith(call.prefix)
            and (name > call.after or (name == call.after and call.after_stream and stream > call.after_stream))
        ][: call.limit]

    def _upload_complete(self, call: CompleteUpload) -> Version:
        bucket = self._of(call.bucket)
        begun, parts = self._upload_of(call.bucket, call.stream)
        for number, etag in call.parts:
            if number not in parts or parts[number].etag != etag:
                raise InvalidInput("storage.part", f"Part {number} is not there.")
        kept = [number for number, _ in call.parts]
        segments = bucket.segments.get(call.stream, {})
        for place in [place for place in segments if place[0] not in kept]:
            del segments[place]
        del bucket.uploads[call.stream]
        sizes = [(number, parts[number].size) for number in kept]
        return self._add(
            bucket,
            call.object,
            stream=call.stream,
            size=sum(size for _, size in sizes),
            parts=sizes,
            etag=call.etag,
            head=call.head,
            tags=begun.tags,
        )

    def _upload_abort(self, call: AbortUpload) -> None:
        self._upload_of(call.bucket, call.stream)
        del self._of(call.bucket).uploads[call.stream]

    # Segments

    def _segment_begin(self, call: BeginSegment) -> Plan:
        profile, segment = self.profile, os.urandom(16)
        nodes = [node for node in self.nodes if node.id not in self.offline]
        self._draw.shuffle(nodes)
        chosen = nodes[: profile.pieces + max(2, profile.pieces // 5)]
        if len(chosen) < profile.pieces:
            raise Unavailable("storage.too_few_nodes", "There are too few nodes.")
        self._segments[segment] = _Segment(segment, call.payload, call.key, profile, {}, {node.id for node in chosen})
        self._begun[segment] = call
        size = Layout(call.payload, profile.needed).piece_bytes
        return Plan(
            segment=segment,
            needed=profile.needed,
            pieces=profile.pieces,
            enough=profile.needed + (profile.pieces - profile.needed + 1) // 2,
            places=[
                self._place(segment, number, node.id, call.client, "put", size) for number, node in enumerate(chosen)
            ],
        )

    def _segment_more(self, call: MorePlaces) -> list[Place]:
        segment = self._segments[call.segment]
        nodes = [node.id for node in self.nodes if node.id not in segment.given | self.offline]
        if len(nodes) < len(call.numbers):
            raise Unavailable("storage.too_few_nodes", "There are no further nodes.")
        segment.given.update(nodes[: len(call.numbers)])
        size = Layout(segment.payload, segment.profile.needed).piece_bytes
        client = self._begun[call.segment].client
        return [
            self._place(segment.id, number, node, client, "put", size)
            for number, node in zip(call.numbers, nodes, strict=False)
        ]

    def _segment_end(self, call: EndSegment) -> None:
        segment, begun = self._segments[call.segment], self._begun[call.segment]
        length = Layout(segment.payload, segment.profile.needed).piece_bytes
        for number, sealed in call.receipts.items():
            node = next(node for node in segment.given if piece_id(segment.id, node) == _receipt_piece(sealed))
            receipt = PieceReceipt.open(sealed, node)
            assert (receipt.node, receipt.length) == (node, length)
            segment.nodes[number] = node
        if len(segment.nodes) < segment.profile.repair:
            raise Conflict("storage.too_few_pieces", "Too few pieces are stored.")
        bucket = self._of(begun.bucket)
        bucket.segments.setdefault(begun.stream, {})[begun.part, begun.index] = segment

    def _segment_read(self, call: ReadSegments) -> list[SegmentRead]:
        bucket = self._of(call.bucket)
        version = next((one for one in bucket.versions.get(call.object, []) if one.version == call.version), None)
        if version is None:
            raise NotFound("storage.no_version", "There is no such version.")
        found, start = [], 0
        for (part, index), segment in sorted(bucket.segments[version.stream].items()):
            if start < call.stop and start + segment.payload > call.start:
                wanted = blocks_of(max(0, call.start - start), min(segment.payload, call.stop - start))
                found.append(self._read(segment, part, index, start, wanted, call))
            start += segment.payload
        return found[:SEGMENTS_AT_ONCE]

    def _segment_altered(self, call: SayAltered) -> None:
        self.said.append((call.segment, call.node))

    def _read(
        self, segment: _Segment, part: int, index: int, start: int, wanted: range, call: ReadSegments
    ) -> SegmentRead:
        there = [(number, node) for number, node in sorted(segment.nodes.items()) if node not in self.offline]
        there = there if call.every else there[: segment.profile.needed + read_spare_of(segment.profile)]
        needed, layout = segment.profile.needed, Layout(segment.payload, segment.profile.needed)
        stripes = range(wanted.start // needed, -(-wanted.stop // needed))
        size = min(stripes.stop * SHARE_BYTES, layout.piece_bytes) - stripes.start * SHARE_BYTES
        return SegmentRead(
            segment=segment.id,
            part=part,
            index=index,
            start=start,
            payload=segment.payload,
            key=segment.key,
            needed=needed,
            pieces=segment.profile.pieces,
            places=[self._place(segment.id, number, node, call.client, "get", size) for number, node in there],
        )

    def place(self, node: bytes) -> Place:
        """A place on a node, for any piece."""
        return self._place(bytes(16), 0, node, bytes(32), "put", 1)

    def _place(self, segment: bytes, number: int, node: bytes, client: bytes, action: Action, size: int) -> Place:
        now_ms = self._clock.now_ms()
        limit = OrderLimit(
            net=NET,
            serial=os.urandom(16),
            node=node,
            client=client,
            piece=piece_id(segment, node),
            action=action,
            bytes_max=size,
            made_ms=now_ms,
            expires_ms=now_ms + LIMIT_MS,
        )
        return Place(
            number=number,
            node=node,
            limit=limit.seal(sign_as(NETWORK)),
            ticket=self._ticket(node),
            direct=self.direct.get(node),
        )

    def _ticket(self, node: bytes) -> bytes:
        if node not in self._tickets:
            ticket = StreamTicket(
                net=NET,
                node=node,
                lease=b"",
                account=b"c" * 20,
                purpose=service_purpose("storage"),
                expires_at=self._clock.now_ms() + LIMIT_MS,
            )
            self._tickets[node] = ticket.seal(sign_as(NETWORK))
        return self._tickets[node]

    def _stored(self, bucket: _Bucket, stream: bytes) -> int:
        segments = bucket.segments.get(stream, {})
        assert [index for _, index in sorted(segments)] == list(range(len(segments)))
        return sum(segment.payload for segment in segments.values())

    def _of(self, bucket: str) -> _Bucket:
        found = self._buckets.get(bucket)
        if found is None:
            raise NotFound("storage.no_bucket", "There is no such bucket.")
        return found


def piece_id(segment: bytes, node: bytes) -> bytes:
    """The id of the piece of a segment on a node."""
    return blake3(segment + node).digest()


def _receipt_piece(sealed: bytes) -> bytes:
    body, _ = decode(sealed)
    return bytes(decode(body)["piece"])
