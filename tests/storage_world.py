"""The network's side of storage, and nodes, in memory: honest ones, and some that are not."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from blake3 import blake3
from nacl.signing import SigningKey

from fallow.adapters.clock import SystemClock
from fallow.domain.encoding import decode
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, Unavailable
from fallow.domain.streams import DirectAddress, StreamTicket, service_purpose
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.verticals.storage.client.keys import keys_under
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.pieces import Reach
from fallow.verticals.storage.core import calls, wire
from fallow.verticals.storage.core.calls import Call, Place, Version
from fallow.verticals.storage.core.layout import SHARE_BYTES, Layout, blocks_of
from fallow.verticals.storage.core.orders import (
    LIMIT_MS,
    STEP_BYTES,
    Action,
    OrderLimit,
    PieceClaim,
    PieceReceipt,
    check_limit,
    check_order,
)
from fallow.verticals.storage.core.profiles import LAB, Profile
from fallow.verticals.storage.core.serving import GETS, PUTS
from tests.unit.agent_fakes import FakeClock

NET = "lab-1"
NETWORK = SigningKey(b"\1" * 32)
NETWORK_KEY = bytes(NETWORK.verify_key)
ACCOUNT = "a" * 40
ReplyT = TypeVar("ReplyT")


def sign_as(key: SigningKey) -> Callable[[bytes], bytes]:
    """Sign with a key."""
    return lambda message: key.sign(message).signature


class QuickClock:
    """The machine's clock, twenty times as fast."""

    TIMES = 20

    def __init__(self) -> None:
        self._system = SystemClock()
        self._began_ms = self._system.monotonic_ms()
        self._now_ms = self._system.now_ms()

    def now_ms(self) -> int:
        """See the port."""
        return self._now_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """See the port."""
        return (self._system.monotonic_ms() - self._began_ms) * self.TIMES

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await asyncio.sleep(seconds / self.TIMES)


# Streams


class _Half:
    """Bytes in one direction, a window of them at a time."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.error: FallowError | None = None
        self.changed = asyncio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryStream:
    """One end of a stream: the `Stream` port."""

    WINDOW_BYTES = 512 << 10

    def __init__(self, inward: _Half, outward: _Half) -> None:
        self._in = inward
        self._out = outward

    async def read(self) -> bytes:
        """See the port."""
        while not self._in.chunks:
            if self._in.error is not None:
                raise self._in.error.with_traceback(None)
            if self._in.ended:
                return b""
            await self._in.changed.wait()
        chunk = self._in.chunks.popleft()
        self._in.size -= len(chunk)
        self._in.wake()
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        """See the port."""
        for at in range(0, len(data), 64 << 10):
            while self._out.size >= self.WINDOW_BYTES and self._out.error is None:
                await self._out.changed.wait()
            if self._out.error is not None:
                raise self._out.error.with_traceback(None)
            chunk = bytes(data[at : at + (64 << 10)])
            self._out.chunks.append(chunk)
            self._out.size += len(chunk)
            self._out.wake()

    def end(self) -> None:
        """See the port."""
        self._out.ended = True
        self._out.wake()

    def reset(self, error: FallowError) -> None:
        """See the port."""
        if self._out.ended and self._in.ended:
            return
        for half in (self._in, self._out):
            half.error = half.error or error
            half.wake()


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a stream."""
    one, other = _Half(), _Half()
    return MemoryStream(one, other), MemoryStream(other, one)


# Nodes


class MemoryNode:
    """A node that serves pieces honestly. `wants` changes that: see `Wants`."""

    def __init__(self, key: SigningKey, clock: Clock, *, network_key: bytes = NETWORK_KEY) -> None:
        self.key = key
        self._clock = clock
        self._network_key = network_key
        self.id = bytes(self.key.verify_key)
        self.pieces: dict[bytes, bytes] = {}
        self.claims: dict[bytes, bytes] = {}
        """Sealed, by piece."""
        self.serials: set[bytes] = set()
        self.paid = Counter[str]()
        self.moved = Counter[str]()
        self.wants = Wants()

    async def serve(self, stream: Stream, request: bytes) -> None:
        """Serve one stream."""
        asked = wire.read(request)
        assert isinstance(asked, wire.Put | wire.Get)
        limit = check_limit(
            asked.limit, net=NET, network_key=self._network_key, node=self.id, now_ms=self._clock.now_ms()
        )
        if limit.serial in self.serials:
            raise Conflict("storage.serial", "The limit was used before.")
        self.serials.add(limit.serial)
        if self.wants.busy:
            raise Unavailable("owner.paused", "The owner of this machine needs it for himself now.")
        if self.wants.refuses:
            raise Unavailable("storage.full", "Nothing is taken here.")
        await self.wants.pause()
        if isinstance(asked, wire.Put):
            await self._put(stream, asked, limit)
        else:
            await self._get(stream, asked, limit)

    async def _put(self, stream: Stream, asked: wire.Put, limit: OrderLimit) -> None:
        assert limit.action in PUTS
        assert limit.bytes_max >= asked.length
        await stream.write(wire.frame(wire.Go()))
        reader, ordered, length = FrameReader(stream), 0, 0
        data, hashed = list[bytes](), blake3()
        while True:
            message = await reader.message()
            match message:
                case wire.Pay():
                    ordered = check_order(message.order, limit, ordered).bytes_all
                case wire.Data():
                    data.append(await reader.take(message.size))
                    hashed.update(data[-1])
                    length += message.size
                    self.moved["put"] += message.size
                    if length > min(asked.length, ordered + STEP_BYTES):
                        raise Conflict("storage.unpaid", "More came than was ordered.")
                    await self.wants.after(length)
                case wire.Done():
                    break
                case _:
                    raise InvalidInput("storage.message", "That is out of turn.")
        self.paid["put"] += check_order(message.order, limit, ordered).bytes_all
        claim = PieceClaim.open(message.claim, limit.client)
        assert (claim.piece, claim.length) == (limit.piece, length)
        assert hashed.digest() == claim.hash
        self.claims[limit.piece] = message.claim
        self.pieces[limit.piece] = await asyncio.to_thread(b"".join, data)
        hash_ = b"\0" * 32 if self.wants.lies else claim.hash
        receipt = PieceReceipt(net=NET, node=self.id, piece=limit.piece, length=length, hash=hash_, durable=True)
        await stream.write(wire.frame(wire.Stored(receipt.seal(sign_as(self.key)))))
        stream.end()

    async def _get(self, stream: Stream, asked: wire.Get, limit: OrderLimit) -> None:
        assert limit.action in GETS
        piece = self.pieces.get(limit.piece)
        if piece is None or asked.stop > len(piece):
            raise NotFound("storage.no_piece", "There is no such piece.")
        size = asked.stop - asked.start
        assert limit.bytes_max >= size
        reader, ordered, sent = FrameReader(stream), 0, 0
        while sent < size:
            while sent >= ordered + STEP_BYTES:
                ordered = await self._paid(reader, limit, ordered)
            step = min(size - sent, ordered + STEP_BYTES - sent, 100_000)
            data = self.wants.altered(piece[asked.start + sent : asked.start + sent + step])
            await stream.write(wire.frame(wire.Data(step)) + data)
            sent += step
            self.moved["get"] += step
            await self.wants.after(sent)
        while ordered < size:
            ordered = await self._paid(reader, limit, ordered)
        self.paid["get"] += ordered
        await stream.write(wire.frame(wire.Sent()))
        stream.end()

    async def _paid(self, reader: FrameReader, limit: OrderLimit, ordered: int) -> int:
        message = await reader.message()
        assert isinstance(message, wire.Pay)
        return check_order(message.order, limit, ordered).bytes_all


class Wants:
    """What a node does otherwise.

    It refuses, or is busy in its owner's name; stalls (until the test's end) at the start or behind so many bytes;
    breaks the stream there; flips a bit of what it gives; signs a receipt for something else.
    """

    def __init__(
        self,
        *,
        refuses: bool = False,
        stalls: bool = False,
        stalls_after: int = -1,
        dies_after: int = -1,
        flips: bool = False,
        lies: bool = False,
        busy: bool = False,
    ) -> None:
        self.busy = busy
        self.refuses = refuses
        self.stalls = stalls
        self.stalls_after = stalls_after
        self.dies_after = dies_after
        self.flips = flips
        self.lies = lies

    async def pause(self) -> None:
        """At the start."""
        if self.stalls:
            await asyncio.Event().wait()

    async def after(self, size: int) -> None:
        """When so many bytes have moved."""
        if 0 <= self.stalls_after <= size:
            await asyncio.Event().wait()
        if 0 <= self.dies_after <= size:
            raise Unavailable("stream.lost", "The node is gone.")

    def altered(self, data: bytes) -> bytes:
        """What is sent instead."""
        return bytes([data[0] ^ 1]) + data[1:] if self.flips else data


class FrameReader:
    """Reads frames and raw bytes from a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def take(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._buffer) < size:
            chunk = await self._stream.read()
            if not chunk:
                raise Unavailable("stream.lost", "It ended.")
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def message(self) -> wire.Any_:
        """Return a message."""
        return wire.read(await self.take(int.from_bytes(await self.take(wire.LENGTH_BYTES), "big")))


class MemoryReach:
    """Implements `Reach` by nodes in memory. `opened` counts streams by node; `dead` ones cannot be reached."""

    def __init__(self, nodes: list[MemoryNode], group: asyncio.TaskGroup) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.opened = Counter[bytes]()
        self.dead: set[bytes] = set()
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, place: Place, request: bytes) -> Stream:
        """See the Protocol."""
        if place.node in self.dead:
            raise Unavailable("stream.offline", "The node is not connected.")
        self.opened[place.node] += 1
        near, far = stream_pair()
        task = self._group.create_task(self._serve(self.nodes[place.node], far, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, node: MemoryNode, stream: MemoryStream, request: bytes) -> None:
        try:
            await node.serve(stream, request)
        except FallowError as error:
            stream.reset(error)


# The network's side


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
    def __init__(self, made: calls.Bucket) -> None:
        self.made = made
        self.versions: dict[bytes, list[Version]] = {}
        """By sealed name, the latest first."""
        self.segments: dict[bytes, dict[tuple[int, int], _Segment]] = {}
        """By stream, and by part and index."""
        self.uploads: dict[bytes, tuple[calls.BeginUpload, dict[int, calls.StoredPart]]] = {}
        self.done: dict[bytes, Version] = {}


class MemoryControl:
    """Implements `Asker` by dicts. Conditions and locks are not checked here: the real one's tests do that."""

    def __init__(self, nodes: list[MemoryNode], clock: Clock, *, profile: Profile = LAB) -> None:
        self.nodes = nodes
        self.profile = profile
        self.asked = Counter[str]()
        self.purges: list[bool] = []
        """Of each deletion, whether it was to be one."""
        self.unpurged = calls.Unpurged()
        self.page_max = calls.PAGE_MAX
        self.offline: set[bytes] = set()
        self.direct: dict[bytes, DirectAddress] = {}
        """Where nodes can be dialled themselves."""
        self._tickets: dict[bytes, bytes] = {}
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._segments: dict[bytes, _Segment] = {}
        self._begun: dict[bytes, calls.BeginSegment] = {}
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

    def _bucket_make(self, call: calls.MakeBucket) -> calls.Bucket:
        if call.bucket in self._buckets:
            raise Conflict("storage.bucket_taken", "There is such a bucket.")
        made = calls.Bucket(
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

    def _bucket_get(self, call: calls.GetBucket) -> calls.Bucket:
        return self._of(call.bucket).made

    def _bucket_list(self, call: calls.ListBuckets) -> list[calls.Bucket]:
        names = sorted(name for name, one in self._buckets.items() if one.made.account == call.account)
        return [self._buckets[name].made for name in names if name > call.after][: call.limit]

    def _bucket_set(self, call: calls.SetBucket) -> calls.Bucket:
        bucket = self._of(call.bucket)
        settings = {name: value for name, value in (bucket.made.settings | call.settings).items() if value is not None}
        bucket.made = msgspec.structs.replace(
            bucket.made, settings=settings, versioning=call.versioning or bucket.made.versioning
        )
        return bucket.made

    def _bucket_drop(self, call: calls.DropBucket) -> None:
        if self._of(call.bucket).versions:
            raise Conflict("storage.bucket_not_empty", "The bucket is not empty.")
        del self._buckets[call.bucket]

    # Versions

    def _object_put(self, call: calls.PutObject) -> Version:
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

    def _object_get(self, call: calls.GetObject) -> Version:
        versions = self._of(call.bucket).versions.get(call.object)
        if not versions:
            raise NotFound("storage.no_object", "There is no such object.")
        for one in versions:
            if one.version == call.version or (call.null and one.null) or not (call.version or call.null):
                return msgspec.structs.replace(one, latest=one is versions[0])
        raise NotFound("storage.no_version", "There is no such version.")

    def _object_set(self, call: calls.SetObject) -> Version:
        versions = self._of(call.bucket).versions[call.object]
        found = self._object_get(
            calls.GetObject(
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

    def _object_delete(self, call: calls.DeleteObjects) -> list[calls.Deleted]:
        self.purges += [call.purge] * len(call.deletions)
        return [self._delete(self._of(call.bucket), one) for one in call.deletions]

    def _object_unpurged(self, call: calls.GetUnpurged) -> calls.Unpurged:
        self._of(call.bucket)
        return self.unpurged

    def _delete(self, bucket: _Bucket, one: calls.Deletion) -> calls.Deleted:
        versions = bucket.versions.get(one.object, [])
        if one.version or one.null:
            gone = [other for other in versions if other.version == one.version or (one.null and other.null)]
            if not gone:
                return calls.Deleted(error="storage.no_version", message="There is no such version.")
            versions.remove(gone[0])
            if not versions:
                del bucket.versions[one.object]
            return calls.Deleted(version=gone[0].version, null=gone[0].null, marker=gone[0].marker, gone=True)
        if bucket.made.versioning == "off":
            return calls.Deleted(gone=bucket.versions.pop(one.object, None) is not None)
        self._slashes[one.object] = one.slashes
        made = self._add(bucket, one.object, marker=True)
        return calls.Deleted(version=made.version, null=made.null, marker=True)

    def _object_list(self, call: calls.ListObjects) -> calls.Listed:
        bucket, listed = self._of(call.bucket), calls.Listed()
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
                listed, after=name if version else calls.behind(name), after_version=version.version if version else b""
            )
        return listed

    def _shown(self, bucket: _Bucket, call: calls.ListObjects) -> list[tuple[bytes, Version | None]]:
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

    def _upload_begin(self, call: calls.BeginUpload) -> calls.Upload:
        self._slashes[call.object] = call.slashes
        self._of(call.bucket).uploads[call.stream] = (call, {})
        return self._upload(call)

    def _upload(self, call: calls.BeginUpload) -> calls.Upload:
        return calls.Upload(
            stream=call.stream, object=call.object, made_ms=self._clock.now_ms(), head=call.head, tags=call.tags
        )

    def _upload_of(self, bucket: str, stream: bytes) -> tuple[calls.BeginUpload, dict[int, calls.StoredPart]]:
        found = self._of(bucket).uploads.get(stream)
        if found is None:
            raise NotFound("storage.no_upload", "There is no such upload.")
        return found

    def _upload_get(self, call: calls.GetUpload) -> calls.Upload:
        return self._upload(self._upload_of(call.bucket, call.stream)[0])

    def _upload_part(self, call: calls.PutPart) -> calls.StoredPart:
        bucket = self._of(call.bucket)
        _, parts = self._upload_of(call.bucket, call.stream)
        if self._stored(bucket, call.bytes_of) != call.size:
            raise Conflict("storage.incomplete", "Segments are missing.")
        into = bucket.segments.setdefault(call.stream, {})
        for place in [place for place in into if place[0] == call.number]:
            del into[place]
        for (_, index), segment in bucket.segments.pop(call.bytes_of, {}).items():
            into[call.number, index] = segment
        part = calls.StoredPart(
            number=call.number, size=call.size, etag=call.etag, made_ms=self._clock.now_ms(), head=call.head
        )
        parts[call.number] = part
        return part

    def _upload_parts(self, call: calls.ListParts) -> list[calls.StoredPart]:
        _, parts = self._upload_of(call.bucket, call.stream)
        return [parts[number] for number in sorted(parts) if number > call.after][: call.limit]

    def _upload_list(self, call: calls.ListUploads) -> list[calls.Upload]:
        found = sorted((begun.object, stream) for stream, (begun, _) in self._of(call.bucket).uploads.items())
        return [
            self._upload(self._of(call.bucket).uploads[stream][0])
            for name, stream in found
            if name.startswith(call.prefix)
            and (name > call.after or (name == call.after and call.after_stream and stream > call.after_stream))
        ][: call.limit]

    def _upload_complete(self, call: calls.CompleteUpload) -> Version:
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

    def _upload_abort(self, call: calls.AbortUpload) -> None:
        self._upload_of(call.bucket, call.stream)
        del self._of(call.bucket).uploads[call.stream]

    # Segments

    def _segment_begin(self, call: calls.BeginSegment) -> calls.Plan:
        profile, segment = self.profile, os.urandom(16)
        nodes = [node for node in self.nodes if node.id not in self.offline]
        self._draw.shuffle(nodes)
        chosen = nodes[: profile.pieces + max(2, profile.pieces // 5)]
        if len(chosen) < profile.pieces:
            raise Unavailable("storage.too_few_nodes", "There are too few nodes.")
        self._segments[segment] = _Segment(segment, call.payload, call.key, profile, {}, {node.id for node in chosen})
        self._begun[segment] = call
        size = Layout(call.payload, profile.needed).piece_bytes
        return calls.Plan(
            segment=segment,
            needed=profile.needed,
            pieces=profile.pieces,
            enough=profile.needed + (profile.pieces - profile.needed + 1) // 2,
            places=[
                self._place(segment, number, node.id, call.client, "put", size) for number, node in enumerate(chosen)
            ],
        )

    def _segment_more(self, call: calls.MorePlaces) -> list[Place]:
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

    def _segment_end(self, call: calls.EndSegment) -> None:
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

    def _segment_read(self, call: calls.ReadSegments) -> list[calls.SegmentRead]:
        bucket = self._of(call.bucket)
        version = next((one for one in bucket.versions.get(call.object, []) if one.version == call.version), None)
        if version is None:
            raise NotFound("storage.no_version", "There is no such version.")
        found, start = [], 0
        for (part, index), segment in sorted(bucket.segments[version.stream].items()):
            if start < call.stop and start + segment.payload > call.start:
                wanted = blocks_of(max(0, call.start - start), min(segment.payload, call.stop - start))
                found.append(self._read(segment, part, index, start, wanted, call.client))
            start += segment.payload
        return found[: calls.SEGMENTS_AT_ONCE]

    def _read(
        self, segment: _Segment, part: int, index: int, start: int, wanted: range, client: bytes
    ) -> calls.SegmentRead:
        needed, layout = segment.profile.needed, Layout(segment.payload, segment.profile.needed)
        stripes = range(wanted.start // needed, -(-wanted.stop // needed))
        size = min(stripes.stop * SHARE_BYTES, layout.piece_bytes) - stripes.start * SHARE_BYTES
        return calls.SegmentRead(
            segment=segment.id,
            part=part,
            index=index,
            start=start,
            payload=segment.payload,
            key=segment.key,
            needed=needed,
            pieces=segment.profile.pieces,
            places=[
                self._place(segment.id, number, node, client, "get", size)
                for number, node in sorted(segment.nodes.items())
                if node not in self.offline
            ],
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


class World(NamedTuple):
    """A store, and what it stands on."""

    store: ObjectStore
    control: MemoryControl
    reach: MemoryReach
    nodes: list[MemoryNode]


@asynccontextmanager
async def storage_world(
    *,
    nodes: int = 12,
    profile: Profile = LAB,
    clock: Clock | None = None,
    reach: Callable[[Reach], Reach] | None = None,
) -> AsyncIterator[World]:
    """A store on nodes in memory. Without a clock time stands still: nobody is slow."""
    clock = clock or FakeClock()
    made = [MemoryNode(SigningKey(bytes([seed + 1]) * 32), clock) for seed in range(nodes)]
    control = MemoryControl(made, clock, profile=profile)
    async with asyncio.TaskGroup() as group:
        memory = MemoryReach(made, group)
        opened = opened_store(
            NET,
            NETWORK_KEY,
            control,
            reach(memory) if reach else memory,
            clock,
            keys_of=keys_under(lambda account: blake3(account.encode()).digest(), os.urandom),
            random_bytes=os.urandom,
        )
        try:
            async with opened as store:
                await store.make_bucket(ACCOUNT, "bucket", settings={})
                yield World(store, control, memory, made)
        finally:
            memory.close()


@asynccontextmanager
async def another_store(world: World, secret: bytes, own: bool) -> AsyncIterator[ObjectStore]:
    """A store on the same nodes under another secret."""
    async with opened_store(
        NET,
        NETWORK_KEY,
        world.control,
        world.reach,
        FakeClock(),
        keys_of=keys_under(lambda _: secret, os.urandom),
        random_bytes=os.urandom,
        own=own,
    ) as store:
        yield store
