"""How clients of objects ask the network's side of storage."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Unavailable
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call as over_bus
from fallow.verticals.storage.core.calls.base import SUBJECT, Call
from fallow.verticals.storage.core.calls.buckets import GetBucket, ListBuckets, SetBucket
from fallow.verticals.storage.core.calls.objects import GetObject, ListObjects, PutObject, SetObject
from fallow.verticals.storage.core.calls.segments import BeginSegment, EndSegment, ReadSegments
from fallow.verticals.storage.core.calls.uploads import (
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)

ReplyT = TypeVar("ReplyT")

TRIES: Final = 4
PAUSE_S: Final = 0.5
NOT_HEARD: Final = frozenset({"bus.no_responders", "bus.disconnected"})
"""Nobody has got the call: its servers are being started anew."""
UNKNOWN: Final = "bus.timeout"
"""It may have been done."""
REPEATABLE: Final[tuple[type[Call[Any]], ...]] = (
    GetBucket, ListBuckets, SetBucket, PutObject, GetObject, SetObject, ListObjects,
    BeginUpload, GetUpload, PutPart, ListParts, ListUploads, CompleteUpload, BeginSegment, EndSegment, ReadSegments,
)  # fmt: skip
"""Done twice they are as if done once."""


class Asker(Protocol):
    """Asks. It may be asked by many at a time."""

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """Return what a call is answered with.

        Raises:
            FallowError: as the other side raised it; Unavailable where nobody answered.
        """
        ...


class BusAsker:
    """Asks over the network's bus, and again where an answer was lost: an upload of an hour must not end with that."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """See the Protocol."""
        for _ in range(TRIES - 1):
            try:
                return await self._once(call)
            except Unavailable as error:
                if error.code not in NOT_HEARD and not (error.code == UNKNOWN and isinstance(call, REPEATABLE)):
                    raise
            await self._clock.sleep(PAUSE_S)
        return await self._once(call)

    async def _once(self, call: Call[ReplyT]) -> ReplyT:
        answer: ReplyT = await over_bus(self._bus, f"{SUBJECT}.{call.name}", call, call.reply)
        return answer


class Post(Protocol):
    """Asks the control API a call of storage by HTTP, and returns its answer in msgpack."""

    async def __call__(self, call: str, body: bytes, *, again: bool) -> bytes:
        """Ask, and again while the network is away: where it may have been done only if `again` says so.

        Raises:
            FallowError: as the network raised it.
        """
        ...


class HttpAsker:
    """Asks the control API with an API key, whose account takes the place of the one that the call names."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """See the Protocol."""
        data = await self._post(call.name, msgspec.msgpack.encode(call), again=isinstance(call, REPEATABLE))
        try:
            answer: ReplyT = msgspec.msgpack.decode(data, type=call.reply)
        except UNREADABLE as error:
            raise Unavailable("storage.answer", f"The answer to {call.name} is not understood: {error}.") from error
        return answer
