"""A version's bytes from its segments, one after the other; the next is begun before this one's end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import NamedTuple

from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.verticals.storage.client.asking import Asker
from fallow.verticals.storage.client.pieces import Mover
from fallow.verticals.storage.client.reading import Crew, SegmentReading, Wanted
from fallow.verticals.storage.client.sending import place_of
from fallow.verticals.storage.core.calls.segments import Place, ReadSegments, SayAltered, SegmentRead
from fallow.verticals.storage.core.sealing import unwrap_key


class Source(NamedTuple):
    """A version whose bytes lie in segments. `secret` is the object's."""

    account: str
    bucket: str
    object: bytes
    version: bytes
    stream: bytes
    secret: bytes


class VersionReading:
    """Bytes `start` up to `stop` of a version, under way."""

    def __init__(self, mover: Mover, crew: Crew, asker: Asker, source: Source, start: int, stop: int) -> None:
        self._mover = mover
        self._crew = crew
        self._asker = asker
        self._source = source
        self._at = start
        self._stop = stop
        self._before: SegmentRead | None = None
        self._known: deque[SegmentRead] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._error: FallowError | None = None

    async def chunks(self) -> AsyncGenerator[memoryview, None]:
        """Yield the bytes.

        Raises:
            FallowError: too few nodes give what was stored, or the network refuses.
        """
        current: SegmentReading | None = None
        following: SegmentReading | None = None
        try:
            while True:
                current, following = following or await self._wait_for_next(), None
                if current is None:
                    return
                async for chunk in current.chunks():
                    if following is None and current.is_near_end:
                        following = self._next()
                    yield chunk
                current.close()
        finally:
            for reading in (current, following):
                if reading is not None:
                    reading.close()
            if self._asking is not None:
                self._asking.cancel()

    async def _wait_for_next(self) -> SegmentReading | None:
        while self._at < self._stop:
            reading = self._next()
            if reading is not None:
                return reading
            if self._error is not None:
                raise self._error
            if self._asking is not None:
                await asyncio.wait({self._asking})
        return None

    def _next(self) -> SegmentReading | None:
        """Begin the next segment, if it is known where it is."""
        if self._at >= self._stop:
            return None
        if not self._known:
            self._ask()
            return None
        segment = self._known.popleft()
        self._check_follows(segment)
        start, stop = self._at - segment.start, min(self._stop - segment.start, segment.payload)
        place = place_of(self._source.stream, segment.part, segment.index)
        key = unwrap_key(self._source.secret, place, segment.key)
        at, end = self._at, segment.start + stop

        async def fresh() -> list[Place]:
            return (await self._asker.ask(self._call(at, end, every=True)))[0].places

        async def say(node: bytes) -> None:
            source = self._source
            said = SayAltered(account=source.account, bucket=source.bucket, segment=segment.segment, node=node)
            await self._asker.ask(said)

        reading = SegmentReading(self._mover, self._crew, Wanted(segment, key, start, stop, fresh, say))
        reading.begin()
        self._at = end
        if not self._known:
            self._ask()
        return reading

    def _ask(self) -> None:
        """Ask for the segments that come next, beside."""
        if self._at < self._stop and (self._asking is None or self._asking.done()) and self._error is None:
            self._asking = self._crew.begin(self._learn, self._fail)

    async def _learn(self) -> None:
        found = await self._asker.ask(self._call(self._at, self._stop))
        if not found:
            raise _not_told()
        self._known.extend(found)

    def _check_follows(self, segment: SegmentRead) -> None:
        """Check that a segment holds what comes next, and that none was left out between it and the one before."""
        if not segment.start <= self._at < segment.start + segment.payload:
            raise _not_told()
        before = self._before
        if before is None:
            follows = segment.start > 0 or segment.index == 0
        elif segment.part == before.part:
            follows = segment.index == before.index + 1
        else:
            follows = segment.part > before.part and segment.index == 0
        if not follows:
            raise Unavailable("storage.altered", "The network leaves out bytes of the object, or changes their order.")
        self._before = segment

    def _fail(self, error: FallowError) -> None:
        self._error = error

    def _call(self, start: int, stop: int, *, every: bool = False) -> ReadSegments:
        source = self._source
        return ReadSegments(
            account=source.account,
            bucket=source.bucket,
            object=source.object,
            version=source.version,
            start=start,
            stop=stop,
            client=self._mover.public,
            every=every,
        )


def _not_told() -> NotFound:
    return NotFound("storage.no_segment", "The network does not say where the object's bytes are.")
