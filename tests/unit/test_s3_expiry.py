"""What lifecycle rules have go, and when: S3's rules, on entries and on a store in memory."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import InvalidInput
from fallow.ports.tasks import background
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.seals import SEALED, write_seal
from fallow.verticals.storage.client.store import ALWAYS, NO_LOCK, Begun, Ended, Entry, Head, Lock, Marks
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import If
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.expiry import Judge, due_ms, goes_at, is_left, prefixes
from fallow.verticals.storage.gateway.heads import entry_headers
from fallow.verticals.storage.gateway.lifecycle import (
    LAST_MS,
    LIFECYCLE,
    LifecycleRule,
    decode_lifecycle,
    encode_lifecycle,
)
from fallow.verticals.storage.gateway.routes import expiring
from fallow.verticals.storage.gateway.sweeping import Sweeper
from tests.memory_store import MemoryStore
from tests.unit.agent_fakes import FakeClock

NOON = int(datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)
MIDNIGHT = NOON + DAY_MS // 2
OWNER, B = "a-main", "bucket"


def rule(**what: Any) -> LifecycleRule:
    return LifecycleRule(**{"id": "r", "enabled": True, **what})


def entry(
    key: str = "a", made_ms: int = NOON, *, marker: bool = False, latest: bool = True, size: int = 10, **tags: str
) -> Entry:
    return Entry(key, "v", marker, latest, size, made_ms, Head(etag="e"), Marks(tags=tags), NO_LOCK, ())


def judged(rules: list[LifecycleRule], now_ms: int, *entries: Entry) -> list[tuple[str, str]]:
    judge = Judge(rules, now_ms)
    found = [due for one in entries for due in judge.take(one)]
    return [(due.entry.key, due.kind) for due in (*found, *judge.end())]


def test_days_end_at_the_midnight_after_they_are_over() -> None:
    assert due_ms(NOON, 1) == MIDNIGHT + DAY_MS
    assert due_ms(MIDNIGHT, 1) == MIDNIGHT + DAY_MS
    assert due_ms(MIDNIGHT + 1, 1) == MIDNIGHT + 2 * DAY_MS
    days = [rule(days=1)]
    assert judged(days, MIDNIGHT + DAY_MS - 1, entry()) == []
    assert judged(days, MIDNIGHT + DAY_MS, entry()) == [("a", "latest")]


def test_a_date_is_for_all_from_then_on() -> None:
    at = [rule(at_ms=MIDNIGHT)]
    assert judged(at, MIDNIGHT - 1, entry()) == []
    assert judged(at, MIDNIGHT, entry(made_ms=MIDNIGHT - 5)) == [("a", "latest")]


@pytest.mark.parametrize(
    ("what", "is_about"),
    [
        ({"prefix": "log/"}, True),
        ({"prefix": "log/b"}, False),
        ({"enabled": False}, False),
        ({"tags": {"keep": "no"}}, True),
        ({"tags": {"keep": "no", "more": "x"}}, False),
        ({"larger": 9, "smaller": 11}, True),
        ({"larger": 10}, False),
        ({"smaller": 10}, False),
    ],
)
def test_a_rule_is_about_what_its_filter_says(what: dict[str, Any], is_about: bool) -> None:
    found = judged([rule(days=1, **what)], NOON + 9 * DAY_MS, entry("log/a", keep="no", other="y"))
    assert bool(found) == is_about


def test_older_versions_go_so_long_after_they_ceased_to_be_the_latest_but_for_the_newest() -> None:
    first, second, third = entry(made_ms=0, latest=False), entry(made_ms=NOON - DAY_MS, latest=False), entry()
    old = [rule(old_days=3)]
    assert judged(old, due_ms(NOON - DAY_MS, 3), third, second, first) == [("a", "older")]
    assert judged(old, due_ms(NOON, 3), third, second, first) == [("a", "older")] * 2
    assert judged([rule(old_days=3, old_kept=1)], due_ms(NOON, 9), third, second, first) == [("a", "older")]
    assert judged([rule(old_days=3, old_kept=2)], due_ms(NOON, 9), third, second, first) == []


def test_a_marker_goes_only_when_nothing_is_behind_it() -> None:
    marks = [rule(markers=True)]
    mark, behind = entry(marker=True, size=0), entry(made_ms=0, latest=False)
    assert judged(marks, NOON, mark) == [("a", "marker")]
    assert judged(marks, NOON, mark, behind) == []
    assert judged(marks, NOON, mark, entry("b", marker=True)) == [("a", "marker"), ("b", "marker")]
    assert judged([rule(markers=True, tags={"a": "b"})], NOON, mark) == []
    assert judged([rule(days=2)], NOON + DAY_MS, mark) == []
    assert judged([rule(days=2)], NOON + 4 * DAY_MS, mark) == [("a", "marker")]
    assert judged([rule(old_days=2)], NOON + 4 * DAY_MS, mark) == []


def test_uploads_are_given_up_by_their_prefix_and_age() -> None:
    upload = Begun("u", "log/a", NOON, Head(), Marks())
    rules = [rule(prefix="log/", parts_days=2)]
    assert not is_left(rules, upload, due_ms(NOON, 2) - 1)
    assert is_left(rules, upload, due_ms(NOON, 2))
    assert not is_left([rule(prefix="other/", parts_days=2)], upload, due_ms(NOON, 9))
    assert not is_left([rule(days=1)], upload, due_ms(NOON, 9))
    assert not is_left([rule(parts_days=2, tags={"a": "b"})], upload, due_ms(NOON, 9))


def test_the_first_of_several_rules_names_the_time() -> None:
    rules = [rule(id="late", days=5), rule(id="first", days=2), rule(id="old", old_days=1)]
    assert goes_at(rules, entry()) == (due_ms(NOON, 2), "first")
    assert goes_at([rule(old_days=1)], entry()) is None


def test_names_are_looked_at_once_whatever_rules_are_about_them() -> None:
    rules = [rule(prefix="a/b"), rule(prefix="a/"), rule(prefix="c"), rule(prefix="", enabled=False)]
    assert prefixes(rules) == ["a/", "c"]


@given(st.integers(0, 2**45), st.integers(1, 4000))
def test_nothing_goes_before_its_days_are_over_nor_a_day_late(made_ms: int, days: int) -> None:
    at = due_ms(made_ms, days)
    assert at % DAY_MS == 0
    assert made_ms + days * DAY_MS <= at < made_ms + (days + 1) * DAY_MS


def test_readers_are_told_when_an_object_goes() -> None:
    bucket = Bucket(
        name=B, account=OWNER, made_ms=0, profile="", settings={LIFECYCLE: encode_lifecycle([rule(id="a b", days=1)])}
    )
    told = entry_headers(entry(), bucket)["x-amz-expiration"]
    assert told == 'expiry-date="Sat, 17 Jan 2026 00:00:00 GMT", rule-id="a%20b"'
    assert "x-amz-expiration" not in entry_headers(entry(latest=False), bucket)
    bare = Bucket(name=B, account=OWNER, made_ms=0, profile="")
    assert "x-amz-expiration" not in entry_headers(entry(), bare)


def test_days_beyond_all_dates_end_at_the_last_one() -> None:
    far = [rule(id="far", days=2**31 - 1)]
    assert goes_at(far, entry()) == (LAST_MS, "far")
    settings = {LIFECYCLE: encode_lifecycle(far)}
    bucket = Bucket(name=B, account=OWNER, made_ms=0, profile="", settings=settings)
    told = entry_headers(entry(), bucket)["x-amz-expiration"]
    assert told == 'expiry-date="Fri, 31 Dec 9999 00:00:00 GMT", rule-id="far"'


@pytest.mark.parametrize("what", [{"days": -1}, {"days": 2**31}, {"at_ms": LAST_MS + 1}, {"parts_days": 2**40}])
def test_rules_that_no_gateway_wrote_are_refused(what: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        decode_lifecycle(encode_lifecycle([rule(**what)]))


class World:
    """A bucket in memory, with rules."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clock.ms = NOON
        self.store = MemoryStore(self.clock)
        self.due: list[list[Bucket]] = []
        self.sweeper = Sweeper(self.store, self._take, self.clock)

    async def make(self, *rules: LifecycleRule, versions: bool = False) -> None:
        await self.store.make_bucket(OWNER, B, settings={LIFECYCLE: encode_lifecycle(rules)})
        if versions:
            await self.store.set_bucket(OWNER, B, versioning="enabled", settings={})

    async def put(self, key: str, data: bytes = b"data", lock: Lock = NO_LOCK) -> None:
        await self.store.put(
            OWNER, B, key, body(data), lambda: Ended(data.hex(), {}), head=Head(), marks=Marks(), lock=lock
        )

    async def sweep(self) -> dict[str, int]:
        return dict(await self.sweeper.sweep(await self.store.bucket(B)))

    async def there(self, *, versions: bool = False) -> list[str]:
        return [one.key for one in (await self.store.names(OWNER, B, versions=versions)).entries]

    async def _take(self) -> list[Bucket]:
        return self.due.pop() if self.due else []


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_sweep_deletes_what_is_due_over_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.gateway.sweeping.PAGE", 3)
    world = World()
    await world.make(rule(prefix="log/", days=1), rule(id="up", prefix="log/", parts_days=1))
    for number in range(10):
        await world.put(f"log/{number}")
    await world.put("other")
    for number in range(7):
        await world.store.begin(OWNER, B, f"log/u{number}", head=Head(), marks=Marks())
    assert await world.sweep() == {}
    world.clock.ms = due_ms(NOON, 1)
    assert await world.sweep() == {"latest": 10, "upload": 7}
    assert await world.there() == ["other"]
    assert await world.sweep() == {}


async def test_a_bucket_with_versions_gets_markers_then_loses_versions_then_the_markers() -> None:
    world = World()
    await world.make(rule(days=1, old_days=2), versions=True)
    await world.put("a")
    world.clock.ms = due_ms(NOON, 1)
    assert await world.sweep() == {"latest": 1}
    assert await world.there() == []
    assert await world.there(versions=True) == ["a", "a"]
    world.clock.ms = due_ms(world.clock.ms, 2)
    assert await world.sweep() == {"older": 1}
    assert await world.sweep() == {"marker": 1}
    assert await world.there(versions=True) == []


async def test_what_is_locked_stays_and_is_counted() -> None:
    world = World()
    await world.make(rule(old_days=1), versions=True)
    await world.put("a", lock=Lock(hold=True))
    await world.put("a")
    world.clock.ms = due_ms(NOON, 5)
    assert await world.sweep() == {"kept": 1}
    assert await world.there(versions=True) == ["a", "a"]


async def test_what_was_rewritten_since_it_was_listed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.make(rule(days=1))
    await world.put("a")
    world.clock.ms = due_ms(NOON, 1)
    delete = world.store.delete

    async def rewritten_before(*args: Any, **more: Any) -> Any:
        await world.put("a", b"new")
        return await delete(*args, **more)

    monkeypatch.setattr(world.store, "delete", rewritten_before)
    assert await world.sweep() == {"kept": 1}
    assert await world.there() == ["a"]


async def test_who_has_uploads_alone_given_up_has_no_names_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    await world.make(rule(parts_days=1))
    await world.store.begin(OWNER, B, "a", head=Head(), marks=Marks())
    world.clock.ms = due_ms(NOON, 1)
    monkeypatch.delattr(MemoryStore, "names")
    assert await world.sweep() == {"upload": 1}


async def test_buckets_that_cannot_be_swept_hold_up_no_others(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await world.make(rule(days=1))
    await world.put("a")
    world.clock.ms = due_ms(NOON, 1)
    bucket = await world.store.bucket(B)
    keys = Keys.under(bytes(32), B, bytes)
    own = msgspec.structs.replace(bucket, name="own", settings=bucket.settings | {SEALED: write_seal(keys, own=True)})
    garbage = msgspec.structs.replace(bucket, name="garbage", settings={LIFECYCLE: b"\xc1"})
    world.due = [[own, garbage, bucket]]
    async with background(world.sweeper.run()):
        await world.clock.advance(0)
    assert await world.there() == []
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "bucket garbage" in told


async def test_rules_that_nobody_would_carry_out_are_not_taken() -> None:
    settings = {SEALED: write_seal(Keys.under(bytes(32), B, bytes), own=True)}
    x: Any = SimpleNamespace(bucket=Bucket(name=B, account=OWNER, made_ms=0, profile="", settings=settings))
    with pytest.raises(S3Error) as refused:
        await expiring.RULES.read(x)
    assert (refused.value.status, refused.value.code) == (501, "NotImplemented")


def test_a_condition_on_the_older_is_one() -> None:
    assert If(older=True) != ALWAYS
