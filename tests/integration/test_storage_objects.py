"""Buckets and versions on a real database, and what all calls have in common."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain.errors import (
    Conflict,
    FallowError,
    InsufficientFunds,
    InvalidInput,
    NotAllowed,
    NotFound,
    TooMuch,
    Unavailable,
)
from fallow.ports import rpc
from fallow.verticals.storage.control import ids, locks
from fallow.verticals.storage.control.operations import Operations
from fallow.verticals.storage.control.service import Control
from fallow.verticals.storage.core.billing import BUYERS_CALLS
from fallow.verticals.storage.core.calls import CALLS
from fallow.verticals.storage.core.calls.accounts import Usage
from fallow.verticals.storage.core.calls.base import SUBJECT, Call
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
    If,
    ListObjects,
    PutObject,
    SetObject,
    Version,
)
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)
from fallow.verticals.storage.core.lenders import PROVIDERS_CALLS
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.core.upkeep import OPERATOR_CALLS
from tests.faulty_database import Fault, FaultyDatabase
from tests.network import BOUND
from tests.storage_objects import (
    ACCOUNT,
    NOW_MS,
    OTHER,
    POOR,
    B,
    ObjectsWorld,
    begin,
    completing,
    delete,
    get,
    names,
    objects_world,
    part,
    put,
    put_segments,
    shown,
    versioning,
)

HOUR_MS: Final = 3_600_000


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


# Buckets


async def test_a_bucket_is_made_once_and_looked_up_by_its_owner_and_by_gateways(world: ObjectsWorld) -> None:
    made = await world.ask(
        MakeBucket(account=OTHER, bucket="photos", profile="lab", countries=["DE", "PL"], settings={"acl": b"doc"})
    )
    assert (made.account, made.made_ms, made.profile, made.versioning) == (OTHER, NOW_MS, "lab", "off")
    assert (made.countries, made.settings) == (["DE", "PL"], {"acl": b"doc"})
    for looking in (OTHER, ""):
        assert await world.ask(GetBucket(account=looking, bucket="photos")) == made
    with pytest.raises(NotAllowed, match="not_yours"):
        await world.ask(GetBucket(account=ACCOUNT, bucket="photos"))
    with pytest.raises(Conflict, match="bucket_yours"):
        await world.ask(MakeBucket(account=OTHER, bucket="photos"))
    with pytest.raises(Conflict, match="bucket_taken"):
        await world.ask(MakeBucket(account=ACCOUNT, bucket="photos"))
    with pytest.raises(NotFound, match="no_bucket"):
        await world.ask(GetBucket(account=ACCOUNT, bucket="nothing"))
    with pytest.raises(InsufficientFunds, match="no_subscription"):
        await world.ask(MakeBucket(account=POOR, bucket="mine"))
    with pytest.raises(InvalidInput, match="profile"):
        await world.ask(MakeBucket(account=ACCOUNT, bucket="mine", profile="huge"))


async def test_an_account_has_so_many_buckets_and_no_more(world: ObjectsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.buckets.BUCKETS_MAX", 3)
    tries = [world.ask(MakeBucket(account=ACCOUNT, bucket=f"more-{n}")) for n in range(6)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(one) for one in done if isinstance(one, BaseException)] == [TooMuch] * 4
    listed = await world.ask(ListBuckets(account=ACCOUNT))
    assert len(listed) == 3
    with pytest.raises(Conflict, match="bucket_yours"):
        await world.ask(MakeBucket(account=ACCOUNT, bucket=B))
    await world.ask(MakeBucket(account=OTHER, bucket="others"))
    await world.ask(DropBucket(account=ACCOUNT, bucket=B))
    await world.ask(MakeBucket(account=ACCOUNT, bucket=B))


async def test_buckets_are_listed_by_account_and_name(world: ObjectsWorld) -> None:
    for name in ("Zoo", "apes", "bees"):
        await world.ask(MakeBucket(account=OTHER, bucket=name, settings={"acl": b"doc"}))
    listed = await world.ask(ListBuckets(account=OTHER))
    assert [bucket.name for bucket in listed] == ["Zoo", "apes", "bees"]
    assert all(not bucket.settings for bucket in listed)
    assert [bucket.name for bucket in await world.ask(ListBuckets(account=OTHER, after="Zoo", limit=1))] == ["apes"]


async def test_settings_are_changed_one_by_one_and_bounded(world: ObjectsWorld) -> None:
    await world.ask(SetBucket(account=ACCOUNT, bucket=B, settings={"cors": b"1", "policy": b"2"}))
    changed = await world.ask(SetBucket(account=ACCOUNT, bucket=B, settings={"cors": None, "policy": b"3"}))
    assert changed.settings == {"policy": b"3"}
    with pytest.raises(NotAllowed, match="not_yours"):
        await world.ask(SetBucket(account=OTHER, bucket=B, settings={"policy": None}))
    with pytest.raises(TooMuch, match=r"storage\.settings"):
        await world.ask(SetBucket(account=ACCOUNT, bucket=B, settings={f"{n}": bytes(60_000) for n in range(5)}))
    for first in (0, 16):
        some = dict.fromkeys((f"s{n}" for n in range(first, first + 15)), b"")
        await world.ask(SetBucket(account=ACCOUNT, bucket=B, settings={**some}))
    with pytest.raises(TooMuch, match=r"storage\.settings"):
        await world.ask(SetBucket(account=ACCOUNT, bucket=B, settings={"one": b"", "more": b""}))
    assert "policy" in (await world.ask(GetBucket(account=ACCOUNT, bucket=B))).settings


async def test_a_stranger_never_waits_for_a_bucket_where_writers_would_wait_behind_him(world: ObjectsWorld) -> None:
    async with world.database.transaction() as tx, asyncio.timeout(BOUND):
        await locks.write(tx, B)
        calls: list[Call[Any]] = [SetBucket(account=OTHER, bucket=B), DropBucket(account=OTHER, bucket=B)]
        for call in calls:
            with pytest.raises(NotAllowed, match="not_yours"):
                await world.ask(call)


async def test_object_lock_needs_versions_and_stays(world: ObjectsWorld) -> None:
    with pytest.raises(Conflict, match="lock_needs_versions"):
        await world.ask(SetBucket(account=ACCOUNT, bucket=B, lock=True))
    locked = await world.ask(SetBucket(account=ACCOUNT, bucket=B, lock=True, versioning="enabled"))
    assert (locked.lock, locked.versioning) == (True, "enabled")
    with pytest.raises(Conflict, match="lock_needs_versions"):
        await versioning(world, "suspended")
    with pytest.raises(Conflict, match="lock_stays"):
        await world.ask(SetBucket(account=ACCOUNT, bucket=B, lock=False))
    made = await world.ask(MakeBucket(account=ACCOUNT, bucket="locked", lock=True))
    assert (made.lock, made.versioning) == (True, "enabled")


async def test_only_an_empty_bucket_is_dropped_and_its_uploads_with_it(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    version = await put(world, b"a")
    (marker,) = await delete(world, Deletion(object=b"a"))
    for gone in (version.version, marker.version):
        with pytest.raises(Conflict, match="bucket_not_empty"):
            await world.ask(DropBucket(account=ACCOUNT, bucket=B))
        await delete(world, Deletion(object=b"a", version=gone))
    upload = await begin(world, b"u")
    bytes_of = await part(world, upload, 1, 10)
    await world.ask(DropBucket(account=ACCOUNT, bucket=B))
    assert upload in await world.garbage()
    assert bytes_of not in await world.garbage()
    with pytest.raises(NotFound, match="no_bucket"):
        await put(world, b"a")


# Versions


async def test_nobody_reads_or_changes_another_s_bucket_by_any_call(world: ObjectsWorld) -> None:
    await put(world, b"a", head=b"h")
    upload = await begin(world, b"u")
    stream = await part(world, upload, 1, 10)
    where: dict[str, Any] = {"account": OTHER, "bucket": B, "object": b"a"}
    theirs: list[Any] = [
        GetBucket(account=OTHER, bucket=B),
        SetBucket(account=OTHER, bucket=B, versioning="enabled"),
        DropBucket(account=OTHER, bucket=B),
        PutObject(**where, stream=world.stream(), size=0, etag="", inline=b""),
        GetObject(**where),
        SetObject(**where, tags=b"t"),
        DeleteObjects(account=OTHER, bucket=B, deletions=[Deletion(object=b"a")]),
        ListObjects(account=OTHER, bucket=B),
        BeginUpload(**where, stream=world.stream()),
        GetUpload(account=OTHER, bucket=B, object=b"u", stream=upload),
        PutPart(account=OTHER, bucket=B, stream=upload, bytes_of=stream, number=1, size=10, etag="e"),
        ListParts(account=OTHER, bucket=B, stream=upload),
        ListUploads(account=OTHER, bucket=B),
        CompleteUpload(**{**where, "object": b"u"}, stream=upload, parts=[(1, "e")], etag="e"),
        AbortUpload(account=OTHER, bucket=B, object=b"u", stream=upload),
    ]
    of_accounts = {MakeBucket, ListBuckets, Usage}
    assert {type(call) for call in theirs} | of_accounts == {*CALLS} & {*world.objects.handlers()}
    for call in theirs:
        with pytest.raises(NotAllowed, match="not_yours"):
            await world.ask(call)
    await world.ask(MakeBucket(account=OTHER, bucket="others"))
    for moved in (call for call in theirs if "stream" in call.__struct_fields__ and call.stream == upload):
        with pytest.raises(NotFound, match="no_upload"):
            await world.ask(msgspec.structs.replace(moved, bucket="others"))
    (used,) = await world.ask(Usage(account=OTHER, from_day=NOW_MS // DAY_MS, to_day=NOW_MS // DAY_MS))
    assert used.bucket == "others"
    assert (await world.ask(GetBucket(account=ACCOUNT, bucket=B))).versioning == "off"
    assert (await get(world, b"a")).tags == b""
    assert (await world.ask(completing(b"u", upload, (1, "e")))).size == 10


async def test_an_object_is_read_as_it_was_written(world: ObjectsWorld) -> None:
    stream = world.stream()
    put_ = PutObject(
        account=ACCOUNT,
        bucket=B,
        object=b"ab/cd",
        slashes=[3],
        stream=stream,
        size=3,
        etag="e",
        head=b"h",
        tags=b"t",
        inline=b"123sealed",
        key=b"k",
    )
    made = await world.ask(put_)
    assert made.latest
    assert made.null
    assert (made.size, made.made_ms, made.etag, made.head, made.tags) == (3, NOW_MS, "e", b"h", b"t")
    assert (made.stream, made.inline, made.key) == (stream, b"123sealed", b"k")
    assert await get(world, b"ab/cd") == made
    assert await get(world, b"ab/cd", made.version) == made
    assert await get(world, b"ab/cd", null=True) == made
    with pytest.raises(NotFound, match="no_object"):
        await get(world, b"ab/ce")
    with pytest.raises(NotFound, match="no_version"):
        await get(world, b"ab/cd", bytes(16))
    with pytest.raises(NotAllowed, match="not_yours"):
        await world.ask(GetObject(account=OTHER, bucket=B, object=b"ab/cd"))


async def test_the_same_stream_again_answers_the_same_and_changes_nothing(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    stream = await world.stored(B, 5, 6)
    call = PutObject(account=ACCOUNT, bucket=B, object=b"a", stream=stream, size=11, etag="e", only_if=If(absent=True))
    made = await world.ask(call)
    assert await world.ask(call) == made
    later = await put(world, b"a")
    again = await world.ask(call)
    assert (again.version, again.latest) == (made.version, False)
    assert await get(world, b"a") == later
    assert len((await names(world, all_versions=True)).versions) == 2
    with pytest.raises(Conflict, match="stream_used"):
        await put(world, b"b", stream=stream)


async def test_an_object_without_all_of_its_segments_is_refused(world: ObjectsWorld) -> None:
    stream = await world.stored(B, 5)
    call = PutObject(account=ACCOUNT, bucket=B, object=b"a", stream=stream, size=6, etag="e")
    with pytest.raises(Conflict, match="incomplete"):
        await world.ask(call)
    with pytest.raises(NotFound):
        await get(world, b"a")
    with pytest.raises(InvalidInput, match=r"storage\.inline"):
        await world.ask(
            PutObject(account=ACCOUNT, bucket=B, object=b"a", stream=stream, size=6, etag="e", inline=b"12345")
        )
    with pytest.raises(InvalidInput, match="slashes"):
        await world.ask(
            PutObject(account=ACCOUNT, bucket=B, object=b"abc", slashes=[4], stream=stream, size=0, etag="", inline=b"")
        )


async def test_who_cannot_pay_keeps_no_more_reads_and_deletes(world: ObjectsWorld) -> None:
    await put(world, b"a")
    upload = await begin(world, b"u")
    await part(world, upload, 1, 10)
    world.suspended = True
    for growing in (put(world, b"b"), begin(world, b"v")):
        with pytest.raises(InsufficientFunds, match="suspended"):
            await growing
    await world.ask(completing(b"u", upload, (1, "e")))
    assert shown(await names(world)) == [b"a", b"u"]
    assert (await get(world, b"a")).inline == b"data"
    gone = await delete(world, Deletion(object=b"a"), Deletion(object=b"u"))
    assert [one.gone for one in gone] == [True, True]


async def test_overwriting_without_versions_drops_what_was_there(world: ObjectsWorld) -> None:
    first = await put_segments(world, b"a", 100, 50)
    second = await put_segments(world, b"a", 7)
    assert second.version > first.version
    assert await world.garbage() == {first.stream: False}
    assert await world.totals() == (1, 7)
    with pytest.raises(NotFound, match="no_version"):
        await get(world, b"a", first.version)
    (gone,) = await delete(world, Deletion(object=b"a"), purge=True)
    assert (gone.gone, gone.marker) == (True, False)
    assert await world.garbage() == {first.stream: False, second.stream: True}
    assert await world.totals() == (0, 0)
    assert await delete(world, Deletion(object=b"a")) == [Deleted()]


async def test_versions_stay_and_come_back_when_later_ones_go(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    first = await put_segments(world, b"a", 10)
    second = await put_segments(world, b"a", 20)
    (marker,) = await delete(world, Deletion(object=b"a"))
    assert marker.marker
    assert first.version < second.version < marker.version
    seen = await get(world, b"a")
    assert (seen.marker, seen.latest, seen.version) == (True, True, marker.version)
    assert not (await names(world)).versions
    assert await world.totals() == (2, 30)
    (gone,) = await delete(world, Deletion(object=b"a", version=marker.version))
    assert (gone.marker, gone.gone, gone.version) == (True, True, marker.version)
    assert (await get(world, b"a")).version == second.version
    await delete(world, Deletion(object=b"a", version=second.version))
    assert (await get(world, b"a")).version == first.version
    assert await world.garbage() == {second.stream: False}
    assert await delete(world, Deletion(object=b"a", version=second.version)) == [Deleted(version=second.version)]
    (malformed,) = await delete(world, Deletion(object=b"a", version=b"short"))
    assert malformed.error == "storage.no_version"


async def test_where_versioning_is_suspended_there_is_one_null_version(world: ObjectsWorld) -> None:
    before = await put(world, b"a")
    await versioning(world, "enabled")
    kept = await put(world, b"a")
    assert (before.null, kept.null) == (True, False)
    assert (await get(world, b"a", null=True)).version == before.version
    await versioning(world, "suspended")
    null = await put(world, b"a")
    assert null.null
    with pytest.raises(NotFound):
        await get(world, b"a", before.version)
    (marker,) = await delete(world, Deletion(object=b"a"))
    assert (marker.null, marker.marker) == (True, True)
    with pytest.raises(NotFound):
        await get(world, b"a", null.version)
    assert (await get(world, b"a", null=True)).version == marker.version
    assert [v.version for v in (await names(world, all_versions=True)).versions] == [marker.version, kept.version]
    (gone,) = await delete(world, Deletion(object=b"a", null=True))
    assert (gone.null, gone.marker, gone.version) == (True, True, marker.version)
    assert (await get(world, b"a")).version == kept.version


async def test_versions_ascend_when_the_clock_goes_back_and_within_a_millisecond(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    made = [await put(world, b"a") for _ in range(3)]
    world.clock.now -= HOUR_MS
    made.append(await put(world, b"a"))
    (marker,) = await delete(world, Deletion(object=b"a"))
    versions = [version.version for version in made] + [marker.version]
    assert versions == sorted(versions)
    assert {ids.made_ms(version) for version in versions} == {NOW_MS}


async def test_conditions_are_on_the_latest_object(world: ObjectsWorld) -> None:
    await put(world, b"a", b"one", only_if=If(absent=True))
    with pytest.raises(Conflict, match=r"storage\.condition"):
        await put(world, b"a", only_if=If(absent=True))
    with pytest.raises(Conflict, match=r"storage\.condition"):
        await put(world, b"a", only_if=If(etag="two"))
    await put(world, b"a", b"two", only_if=If(etag="one", size=3, modified_ms=NOW_MS // 1000 * 1000))
    await put(world, b"a", b"three", only_if=If(etag="*"))
    with pytest.raises(NotFound, match="no_object"):
        await put(world, b"b", only_if=If(etag="*"))
    with pytest.raises(Conflict, match=r"storage\.condition"):
        await put(world, b"b", only_if=If(size=1))
    wrong, absent, right = await delete(
        world,
        Deletion(object=b"a", only_if=If(etag="two")),
        Deletion(object=b"b", only_if=If(etag="two")),
        Deletion(object=b"a", only_if=If(etag="three", size=5)),
    )
    assert (wrong.error, absent, right.gone) == ("storage.condition", Deleted(), True)


async def test_a_delete_marker_is_no_object_for_conditions(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    await put(world, b"a")
    await delete(world, Deletion(object=b"a"))
    with pytest.raises(NotFound, match="no_object"):
        await put(world, b"a", only_if=If(etag="*"))
    assert await delete(world, Deletion(object=b"a", only_if=If(etag="*"))) == [Deleted()]
    await put(world, b"a", only_if=If(absent=True))


async def test_of_concurrent_writers_exactly_one_finds_nothing_there(world: ObjectsWorld) -> None:
    for name in (b"without versions", b"with versions"):
        tries = [put(world, name, only_if=If(absent=True)) for _ in range(12)]
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(result) for result in done if isinstance(result, BaseException)] == [Conflict] * 11
        await versioning(world, "enabled")


async def test_concurrent_puts_and_deletes_leave_one_latest_and_right_totals(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    some = [bytes([97 + n]) for n in range(4)]
    deletions = [Deletion(object=name) for name in some]

    async def work(turn: int) -> None:
        for name in some:
            await put(world, name, bytes(turn + 1))
        await delete(world, *(deletions if turn % 2 else deletions[::-1]))

    await asyncio.gather(*(work(turn) for turn in range(10)))
    listed = (await names(world, all_versions=True)).versions
    assert len(listed) == 80
    assert sum(version.latest for version in listed) == 4
    objects = [version for version in listed if not version.marker]
    assert await world.totals() == (40, sum(version.size for version in objects))


async def test_whatever_happens_at_the_same_time_nothing_is_lost_or_left_over(world: ObjectsWorld) -> None:
    some = [b"a", b"b/1", b"b/2"]

    async def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(15):
            name = draw.choice(some)
            kind = draw.randrange(6)
            if kind == 0:
                await versioning(world, draw.choice(("enabled", "suspended")))
            elif kind == 1:
                await delete(world, *(Deletion(object=one) for one in draw.sample(some, 3)))
            elif kind == 2:
                listed = (await names(world, all_versions=True)).versions
                wanted = [Deletion(object=one.name, version=one.version) for one in listed[::2]]
                await (delete(world, *wanted) if wanted else asyncio.sleep(0))
            elif kind == 3:
                upload = await begin(world, name)
                await asyncio.gather(*(part(world, upload, number, 10 + number) for number in (1, 2)))
                await world.ask(completing(name, upload, (1, "e"), (2, "e")))
            else:
                await put_segments(world, name, draw.randrange(1, 9))

    await asyncio.gather(*(work(seed) for seed in range(12)))
    listed = (await names(world, all_versions=True)).versions
    objects = [version for version in listed if not version.marker]
    assert await world.totals() == (len(objects), sum(version.size for version in objects))
    latest = [version for version in listed if version.latest]
    assert sorted(version.name for version in latest) == sorted({version.name for version in listed})
    assert (await names(world)).versions == [version for version in latest if not version.marker]
    nulls = [version.name for version in listed if version.null]
    assert len(nulls) == len({*nulls})
    stored = Counter[bytes]()
    for stream, _, payload in await world.segments():
        stored[stream] += payload
    assert stored == {version.stream: version.size for version in objects}


async def test_a_dropped_bucket_takes_no_object_of_a_racing_put(world: ObjectsWorld) -> None:
    for turn in range(8):
        bucket = f"racing{turn}"
        await world.ask(MakeBucket(account=ACCOUNT, bucket=bucket))
        results = await asyncio.gather(
            put(world, b"a", bucket=bucket),
            world.ask(DropBucket(account=ACCOUNT, bucket=bucket)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, FallowError) for result in results) == 1, results


async def test_a_thousand_deletions_have_their_answers_in_order(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    made = [await put(world, f"{n:03}".encode()) for n in range(40)]
    wanted = [Deletion(object=f"{n % 50:03}".encode()) for n in range(300)]
    answers = await delete(world, *wanted)
    assert len(answers) == 300
    assert all(answer.marker for answer in answers)
    exact = [Deletion(object=version.name, version=version.version) for version in made]
    mixed = [deletion for pair in zip(exact, exact, strict=True) for deletion in pair]
    answers = await delete(world, *mixed, Deletion(object=b"000"))
    assert [answer.version for answer in answers[:-1:2]] == [version.version for version in made]
    assert answers[-1].marker
    assert await world.totals() == (0, 0)


# Requests


async def test_requests_are_counted_by_bucket_day_and_kind(world: ObjectsWorld) -> None:
    await put(world, b"a")
    await get(world, b"a")
    await names(world)
    await world.operations.flush()
    await get(world, b"a")
    await world.operations.flush()
    assert await requests(world, ACCOUNT) == [{"put": 1, "get": 2, "list": 1}]
    assert await requests(world, OTHER) == []


async def requests(world: ObjectsWorld, account: str) -> list[dict[str, int]]:
    """What each bucket was asked for today."""
    used = await world.ask(Usage(account=account, from_day=NOW_MS // DAY_MS, to_day=NOW_MS // DAY_MS))
    return [day.requests for one in used for day in one.days]


async def test_all_calls_are_answered_over_the_bus(world: ObjectsWorld) -> None:
    async def other(call: Call[Any]) -> str:
        return call.name

    elsewhere = {call for call in BUYERS_CALLS if call not in world.objects.handlers()}
    asked = {
        "segment.begin",
        "segment.more",
        "segment.end",
        "segment.read",
        "segment.altered",
        "grant.revoke",
        "object.unpurged",
        "gateways",
    }
    assert {call.name for call in elsewhere} == asked
    others = dict.fromkeys((*elsewhere, *PROVIDERS_CALLS, *OPERATOR_CALLS), other)
    hub = MemoryHub()
    stream = world.stream()
    put_ = PutObject(account=ACCOUNT, bucket=B, object=b"a", stream=stream, size=1, etag="e", inline=b"1")
    async with Control(hub.connect(), world.clock, world.database, world.objects, others).running():
        bus = hub.connect()
        made = await rpc.call(bus, f"{SUBJECT}.object.put", put_, Version)
        assert made == await rpc.call(
            bus, f"{SUBJECT}.object.get", GetObject(account=ACCOUNT, bucket=B, object=b"a"), Version
        )
        with pytest.raises(NotFound, match="no_bucket"):
            await rpc.call(bus, f"{SUBJECT}.bucket.get", GetBucket(account=ACCOUNT, bucket="none"), Bucket)
        malformed = {"account": ACCOUNT, "bucket": "a/b"}
        with pytest.raises(InvalidInput, match=r"rpc\.malformed"):
            await rpc.call(bus, f"{SUBJECT}.bucket.make", malformed, Bucket)
        read = {"account": ACCOUNT, "bucket": B, "object": b"a", "version": made.version, "start": 0, "stop": 1}
        assert await rpc.call(bus, f"{SUBJECT}.segment.read", {**read, "client": bytes(32)}, str) == "segment.read"


async def test_requests_are_still_counted_where_the_database_was_away(world: ObjectsWorld) -> None:
    away = FaultyDatabase(lambda: Fault.BEGIN)
    operations = Operations(away, world.clock)
    operations.count(b"a" * 20, 1, "get")
    with pytest.raises(Unavailable):
        await operations.flush()
    operations._database = world.database
    await operations.flush()
    await operations.flush()
    assert await requests(world, "0x" + (b"a" * 20).hex()) == [{"get": 1}]


async def test_text_that_postgresql_cannot_hold_is_kept_or_not_found(world: ObjectsWorld) -> None:
    assert (await put(world, b"a", b"\0")).etag == "\0"
    with pytest.raises(NotFound, match="no_bucket"):
        await world.ask(GetBucket(account=ACCOUNT, bucket="buc\0ket"))
    assert [found.name for found in await world.ask(ListBuckets(account=ACCOUNT, after="buc\0"))] == [B]
