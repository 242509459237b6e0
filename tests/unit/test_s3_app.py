"""The S3 gateway as an application: clients that are silent, slow or gone, and a store that fails."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fallow.domain.errors import Conflict, FallowError, InsufficientFunds, NotFound, TooMuch, Unavailable
from fallow.verticals.storage.client.store import Entry, Marks
from fallow.verticals.storage.gateway.acl import Acl
from fallow.verticals.storage.gateway.app import DRAIN_BYTES_MAX, s3_app
from tests.memory_store import MemoryStore
from tests.s3_world import MAIN, MemoryUsers
from tests.unit.fake_network import HandClock

BUCKET = "bucket"
LARGE = bytes(3 << 20)


class FailingStore(MemoryStore):
    """Gives so many chunks of an object, and then fails with `error`."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock)
        self.chunks = 1000
        self.error: Exception = Unavailable("storage.too_few_nodes", "Too few nodes answer.")
        self.given = 0

    async def read(self, account: str, bucket: str, entry: Entry, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield what there is, and fail."""
        async for chunk in super().read(account, bucket, entry, start, stop):
            if self.given == self.chunks:
                raise self.error
            self.given += 1
            yield chunk


class Desk:
    """An application, and requests to it that nobody signs, in a bucket that anybody may use."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = FailingStore(self.clock)
        counter = itertools.count()
        self.app = s3_app(
            self.store, MemoryUsers(), self.clock, random_bytes=lambda size: bytes([next(counter)] * size)
        )
        self.sent: list[dict[str, Any]] = []

    async def ready(self) -> None:
        """Make the bucket, and an object foo."""
        settings = {"policy": b'{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}'}
        await self.store.make_bucket(MAIN.account, BUCKET, settings=settings)
        pieces = iter([LARGE])

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(pieces), "more_body": False}

        assert await self.ask("PUT", "/bucket/foo", receive, length=len(LARGE)) == 200

    async def ask(
        self,
        method: str,
        path: str,
        receive: Callable[[], Awaitable[dict[str, Any]]],
        *,
        length: int = 0,
        query: bytes = b"",
    ) -> int:
        """Send a request; the status of the answer."""
        await self.answer(request(method, path, length=length, query=query), receive)
        return int(self.sent[0]["status"])

    async def answer(self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Have a request answered, in `sent`."""
        self.sent = []
        await self.app(scope, receive, self._send)

    @property
    def body(self) -> bytes:
        """What was sent as the answer's body."""
        return b"".join(message.get("body", b"") for message in self.sent)

    async def _send(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)


def request(method: str, path: str, *, length: int = 0, query: bytes = b"") -> dict[str, Any]:
    """What begins one."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"host", b"x"), (b"content-length", str(length).encode())],
    }


@pytest.fixture
async def desk() -> Desk:
    desk = Desk()
    await desk.ready()
    return desk


@pytest.mark.parametrize("name", ["acl", "cors", "policy", "block", "lifecycle", "lock", "ownership", "tagging"])
@pytest.mark.parametrize("data", [b"\xc1", b"\xff\xfe", b"{}", b"[" * 9000, bytes(30 << 10)])
async def test_settings_that_no_gateway_wrote_are_no_bug_of_it(
    desk: Desk, caplog: pytest.LogCaptureFixture, name: str, data: bytes
) -> None:
    await desk.store.set_bucket(MAIN.account, BUCKET, settings={name: data})
    for method, path, query in (
        ("GET", "/bucket/foo", b""),
        ("GET", "/bucket", b""),
        ("GET", "/bucket", name.encode()),
        ("PUT", "/bucket/bar", b""),
        ("OPTIONS", "/bucket/foo", b""),
    ):
        headers = [(b"host", b"x"), (b"content-length", b"0"), (b"origin", b"http://a"), (b"x-amz-acl", b"private")]
        await desk.answer(
            {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": path.encode(),
                "query_string": query,
                "headers": [*headers, (b"access-control-request-method", b"GET")],
            },
            empty(),
        )
        assert desk.sent[0]["status"] < 500, (method, path, desk.body)
    assert caplog.records == []


def empty() -> Callable[[], Awaitable[dict[str, Any]]]:
    """A body without bytes, from a client that stays."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, None) or await never()

    return receive


async def never() -> dict[str, Any]:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("never")


async def test_a_client_that_falls_silent_is_given_up(desk: Desk) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(desk.ask("PUT", "/bucket/new", never, length=10))
        while not asking.done():
            await asyncio.sleep(0)
            desk.clock.advance(10_000)
    assert (asking.result(), b"RequestTimeout" in desk.body) == (400, True)
    assert desk.clock.ms < 1_000_000 + 200_000


async def test_a_body_that_trickles_is_given_up(desk: Desk) -> None:
    async def receive() -> dict[str, Any]:
        desk.clock.ms += 30_000
        return {"type": "http.request", "body": b"x", "more_body": True}

    assert await desk.ask("PUT", "/bucket/new", receive, length=10_000) == 400
    assert b"RequestTimeout" in desk.body


@pytest.mark.parametrize(("bytes_per_s", "whole"), [(5000, True), (500, False)])
async def test_who_takes_an_answer_slowly_gets_all_of_it_and_who_takes_next_to_nothing_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, bytes_per_s: int, *, whole: bool
) -> None:
    monkeypatch.setattr("tests.memory_store.CHUNK", 1 << 20)  # as much as the real store gives at a time
    took = bytearray()

    async def take(message: dict[str, Any]) -> None:
        await desk.clock.sleep(len(message.get("body", b"")) / bytes_per_s)
        took.extend(message.get("body", b""))

    monkeypatch.setattr(desk, "_send", take)

    async def code() -> str:
        try:
            await desk.answer(request("GET", "/bucket/foo"), never)
        except Unavailable as error:
            return error.code
        return ""

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(code())
        while not asking.done():
            await asyncio.sleep(0)
            desk.clock.advance(1000)
    assert (bytes(took) == LARGE, asking.result()) == (whole, "" if whole else "storage.silence")


async def test_a_body_that_ends_early_leaves_nothing(desk: Desk) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.disconnect"},
    ]
    pieces = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(pieces)

    assert await desk.ask("PUT", "/bucket/new", receive, length=10) == 400
    assert await desk.ask("GET", "/bucket/new", never) == 404


async def test_a_store_that_fails_at_once_is_said_to(desk: Desk) -> None:
    desk.store.chunks = 0
    assert await desk.ask("GET", "/bucket/foo", never) == 503
    assert b"ServiceUnavailable" in desk.body


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InsufficientFunds("storage.no_subscription", "Nothing was bought."), 403, b"AccessDenied"),
        (TooMuch("rate.requests", "Too many."), 503, b"SlowDown"),
        (TooMuch("storage.kept_full", "Too much."), 403, b"QuotaExceeded"),
        (TooMuch("storage.head", "Its tags are too long."), 400, b"MetadataTooLarge"),
        (TooMuch("storage.settings", "A bucket has at most so much."), 400, b"InvalidRequest"),
        (Conflict("storage.incomplete", "Segments are missing."), 409, b"OperationAborted"),
        (NotFound("storage.isal", "ISA-L is not installed."), 500, b"InternalError"),
    ],
)
async def test_an_error_of_the_network_has_a_word_of_s3(
    desk: Desk, error: FallowError, status: int, code: bytes
) -> None:
    desk.store.chunks, desk.store.error = 0, error
    assert await desk.ask("GET", "/bucket/foo", never) == status
    assert code in desk.body
    assert error.message.encode() in desk.body


async def test_a_store_that_fails_in_the_middle_breaks_the_answer_off(desk: Desk) -> None:
    desk.store.chunks = 2
    with pytest.raises(Exception, match="Too few nodes"):
        await desk.ask("GET", "/bucket/foo", never)
    assert 0 < len(desk.body) < len(LARGE)
    assert not any(message.get("more_body") is False for message in desk.sent)


@pytest.mark.parametrize("path", ["/bucket", "/bucket/foo"])
async def test_an_answers_body_begins_in_the_same_turn_of_the_loop_as_its_head(desk: Desk, path: str) -> None:
    """The server writes both at once then, and a kill cannot come between."""
    loop, seen = asyncio.get_running_loop(), list[str]()

    async def send(message: Any) -> None:
        seen.append(message["type"])
        loop.call_soon(seen.append, "turn")

    await desk.app(request("GET", path), never, send)
    assert seen[:2] == ["http.response.start", "http.response.body"]


async def test_a_fault_of_ours_is_logged_and_said_in_one_word(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.store.chunks, desk.store.error = 0, RuntimeError("a fault")
    with caplog.at_level(logging.ERROR):
        assert await desk.ask("GET", "/bucket/foo", never) == 500
    assert b"InternalError" in desk.body
    assert b"a fault" not in desk.body
    assert "a fault" in caplog.text


async def test_nothing_is_read_for_a_client_that_has_left(desk: Desk) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert await desk.ask("GET", "/bucket/foo", receive) == 200
    assert desk.store.given < len(LARGE) // (256 << 10)


async def test_nothing_is_read_of_what_nobody_in_particular_may_not_delete(desk: Desk) -> None:
    async def read() -> dict[str, Any]:
        raise AssertionError("it is read")

    await desk.store.make_bucket(MAIN.account, "closed", settings={})
    assert await desk.ask("POST", "/closed", read, length=DRAIN_BYTES_MAX + 1, query=b"delete") == 403


async def test_others_have_their_turn_between_the_names_of_many_deletions(desk: Desk) -> None:
    said = b"<Delete>" + b"<Object><Key>a</Key></Object>" * 500 + b"</Delete>"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": said, "more_body": False}

    turns = 0
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(desk.ask("POST", "/bucket", receive, length=len(said), query=b"delete"))
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
    assert (asking.result(), turns > 500) == (200, True)


async def test_a_query_that_is_no_text_is_refused(desk: Desk) -> None:
    assert await desk.ask("GET", "/bucket", never, query=b"prefix=%ff") == 400
    assert b"InvalidURI" in desk.body


async def test_too_many_headers_are_refused(desk: Desk) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/bucket/foo",
        "query_string": b"",
        "headers": [(b"x-%d" % at, b"") for at in range(300)],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await desk.app(scope, never, send)
    assert sent[0]["status"] == 400


def saying(desk: Desk, body: bytes, **meanwhile: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A body that comes once somebody else has changed something of foo."""

    async def receive() -> dict[str, Any]:
        entry = await desk.store.entry(MAIN.account, BUCKET, "foo")
        await desk.store.mark(MAIN.account, BUCKET, entry, **meanwhile)
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def test_a_retention_and_a_hold_that_are_said_at_once_both_hold(desk: Desk) -> None:
    owner, until = MAIN.account, b"2999-01-01T00:00:00Z"
    await desk.store.set_bucket(owner, BUCKET, versioning="enabled", lock=True, settings={})
    retention = b"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>" + until + b"</RetainUntilDate></Retention>"
    hold = b"<LegalHold><Status>ON</Status></LegalHold>"
    said = saying(desk, retention, hold=True)
    assert await desk.ask("PUT", "/bucket/foo", said, length=len(retention), query=b"retention") == 200
    assert (await desk.store.entry(owner, BUCKET, "foo")).lock.hold
    said = saying(desk, hold, retention="compliance", until_ms=1 << 45)
    assert await desk.ask("PUT", "/bucket/foo", said, length=len(hold), query=b"legal-hold") == 200
    lock = (await desk.store.entry(owner, BUCKET, "foo")).lock
    assert (lock.retention, lock.until_ms, lock.hold) == ("compliance", 1 << 45, True)


async def test_tags_and_a_list_that_are_set_at_once_are_both_there(desk: Desk) -> None:
    acl, tags = Acl(MAIN.account).encode(), {"a": "b"}
    body = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    said = saying(desk, body, marks=Marks(acl=acl))
    assert await desk.ask("PUT", "/bucket/foo", said, length=len(body), query=b"tagging") == 200
    assert (await desk.store.entry(MAIN.account, BUCKET, "foo")).marks == Marks(tags=tags, acl=acl)
