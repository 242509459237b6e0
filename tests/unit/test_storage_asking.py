"""A call whose answer was lost is asked again, unless it would then be done twice."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from fallow.domain.errors import Unavailable
from fallow.ports.bus import Bus
from fallow.verticals.storage.client.asking import TRIES, BusAsker, HttpAsker
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import GetBucket, MakeBucket
from fallow.verticals.storage.core.calls.objects import DeleteObjects, Deletion
from fallow.verticals.storage.core.calls.segments import ReadSegments
from fallow.verticals.storage.core.calls.uploads import PutPart
from tests.instant_chain import SwiftClock

BUCKET = {"name": "bucket", "account": "a", "made_ms": 1, "profile": "lab"}


class Lossy:
    """A bus that loses the first requests with an error of this code."""

    def __init__(self, lost: int, code: str, answer: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._lost = lost
        self._code = code

    async def request(self, subject: str, _: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        assert timeout_s > 0
        self.asked.append(subject)
        if len(self.asked) <= self._lost:
            raise Unavailable(self._code, "It was lost.")
        return msgspec.msgpack.encode({"ok": self._answer})


GET = GetBucket(account="a", bucket="bucket")
MAKE = MakeBucket(account="a", bucket="bucket")
DELETE = DeleteObjects(account="a", bucket="bucket", deletions=[Deletion(object=b"k")])


PART = PutPart(account="a", bucket="bucket", stream=bytes(16), bytes_of=bytes(16), number=1, size=9, etag="e")
STORED = {"number": 1, "size": 9, "etag": "e", "made_ms": 1}


async def asked(call: Call[object], lost: int, code: str, answer: dict[str, Any] = BUCKET) -> int:
    """How often it was asked, until it was answered."""
    bus = Lossy(lost, code, answer)
    await BusAsker(cast("Bus", bus), SwiftClock()).ask(call)
    assert set(bus.asked) == {f"vertical.storage.{call.name}"}
    return len(bus.asked)


async def test_what_nobody_got_is_asked_again() -> None:
    assert await asked(cast("Call[object]", MAKE), 2, "bus.no_responders") == 3


async def test_what_may_have_been_done_is_asked_again_where_that_changes_nothing() -> None:
    assert await asked(cast("Call[object]", GET), 2, "bus.timeout") == 3
    assert await asked(cast("Call[object]", PART), 2, "bus.timeout", STORED) == 3
    for call in (MAKE, DELETE):
        with pytest.raises(Unavailable):
            await asked(cast("Call[object]", call), 1, "bus.timeout")


async def test_it_is_not_asked_for_ever_nor_where_it_was_refused() -> None:
    with pytest.raises(Unavailable):
        await asked(cast("Call[object]", GET), TRIES, "bus.timeout")
    with pytest.raises(Unavailable):
        await asked(cast("Call[object]", GET), 1, "storage.too_few_nodes")


class Door:
    """A control API that answers so, and what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.asked: list[tuple[str, bytes, bool]] = []
        self._answer = answer

    async def __call__(self, call: str, body: bytes, *, again: bool) -> bytes:
        """See `Post`."""
        self.asked.append((call, body, again))
        return self._answer


async def test_by_http_it_asks_with_what_is_repeatable_said() -> None:
    door = Door(msgspec.msgpack.encode(BUCKET))
    assert (await HttpAsker(door).ask(GET)).name == "bucket"
    await HttpAsker(door).ask(MAKE)
    assert [(call, again) for call, _, again in door.asked] == [("bucket.get", True), ("bucket.make", False)]
    assert msgspec.msgpack.decode(door.asked[1][1], type=MakeBucket) == MAKE


SEGMENT = {
    "segment": bytes(16), "part": 0, "index": 0, "start": 0, "payload": 9, "key": b"",
    "needed": 4, "pieces": 8, "places": [],
}  # fmt: skip
READ = ReadSegments(account="a", bucket="bucket", object=b"k", version=bytes(16), start=0, stop=9, client=bytes(32))


@pytest.mark.parametrize("said", [{"payload": 1 << 60}, {"payload": 0}, {"needed": 0}, {"pieces": 1 << 40}])
async def test_segments_that_no_network_has_are_none(said: dict[str, int]) -> None:
    found = await HttpAsker(Door(msgspec.msgpack.encode([SEGMENT]))).ask(READ)
    assert [one.payload for one in found] == [9]
    with pytest.raises(Unavailable, match=r"storage\.answer"):
        await HttpAsker(Door(msgspec.msgpack.encode([{**SEGMENT, **said}]))).ask(READ)


@pytest.mark.parametrize("answer", [b"", b"\xc1", msgspec.msgpack.encode([1]), b"\x91" * 5000])
async def test_an_answer_that_is_none_is_said_to_be_none(answer: bytes) -> None:
    with pytest.raises(Unavailable, match=r"storage\.answer"):
        await HttpAsker(Door(answer)).ask(GET)
