"""Object lock: what is retained or held nobody deletes or shortens. On a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest

from fallow.domain.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
)
from fallow.verticals.storage.core.calls.buckets import (
    MakeBucket,
    SetBucket,
)
from fallow.verticals.storage.core.calls.objects import (
    Deletion,
    PutObject,
    SetObject,
    Version,
)
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
)
from fallow.verticals.storage.core.retention import DEFAULT, Default
from tests.storage_objects import (
    ACCOUNT,
    NOW_MS,
    B,
    ObjectsWorld,
    begin,
    completing,
    delete,
    get,
    objects_world,
    part,
    put,
    put_segments,
    versioning,
)

HOUR_MS: Final = 3_600_000


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


@pytest.fixture
async def locked(world: ObjectsWorld) -> ObjectsWorld:
    await world.ask(SetBucket(account=ACCOUNT, bucket=B, lock=True, versioning="enabled"))
    return world


async def retain(world: ObjectsWorld, version: Version, **wanted: Any) -> Version:
    return await world.ask(SetObject(account=ACCOUNT, bucket=B, object=version.name, version=version.version, **wanted))


async def test_a_compliance_retention_is_never_shortened(locked: ObjectsWorld) -> None:
    until = NOW_MS + HOUR_MS
    version = await put(locked, b"a", retention="compliance", until_ms=until)
    assert (version.retention, version.until_ms) == ("compliance", until)
    shorter = ({"retention": "compliance", "until_ms": until - 1}, {"retention": ""})
    for wanted in (*shorter, {"retention": "governance", "until_ms": until + 1}):
        with pytest.raises(NotAllowed, match="retained"):
            await retain(locked, version, **wanted, bypass=True)
    assert (await retain(locked, version, retention="compliance", until_ms=until + 1)).until_ms == until + 1
    (kept,) = await delete(locked, Deletion(object=b"a", version=version.version), bypass=True)
    assert kept.error == "storage.retained"
    (marker,) = await delete(locked, Deletion(object=b"a"))
    assert marker.marker
    locked.clock.now = until + 1
    (gone,) = await delete(locked, Deletion(object=b"a", version=version.version))
    assert gone.gone


async def test_a_bucket_s_default_retention_holds_whoever_stores_there_and_says_nothing(locked: ObjectsWorld) -> None:
    kept = msgspec.msgpack.encode(Default("compliance", days=1))
    await locked.ask(SetBucket(account=ACCOUNT, bucket=B, settings={DEFAULT: kept}))
    until = NOW_MS + 24 * HOUR_MS
    version = await put(locked, b"a", hold=True)
    assert (version.retention, version.until_ms, version.hold) == ("compliance", until, True)
    said = await put(locked, b"a", retention="governance", until_ms=NOW_MS + 1)
    assert (said.retention, said.until_ms) == ("governance", NOW_MS + 1)
    upload = await begin(locked, b"b")
    await part(locked, upload, 1, 10)
    locked.clock.now += HOUR_MS
    assert (await locked.ask(completing(b"b", upload, (1, "e")))).until_ms == until + HOUR_MS
    for nonsense in (b"\xc1", msgspec.msgpack.encode({"mode": "compliance", "days": 2**62})):
        await locked.ask(SetBucket(account=ACCOUNT, bucket=B, settings={DEFAULT: nonsense}))
        with pytest.raises(InvalidInput, match=r"storage\.kept"):
            await put(locked, b"a")
    await locked.ask(SetBucket(account=ACCOUNT, bucket=B, settings={DEFAULT: None}))
    assert not (await put(locked, b"a")).retention


@pytest.mark.parametrize("kept", [{"hold": True}, {"retention": "governance", "until_ms": NOW_MS + HOUR_MS}])
async def test_a_purge_leaves_what_is_held_or_retained(locked: ObjectsWorld, kept: dict[str, Any]) -> None:
    first, second = await put_segments(locked, b"a", 10), await put_segments(locked, b"a", 20)
    await retain(locked, first, **kept)
    wanted = [Deletion(object=b"a", version=one.version) for one in (first, second)]
    assert [one.error for one in await delete(locked, *wanted, purge=True)] == ["storage.retained", ""]
    assert await locked.garbage() == {second.stream: True}


async def test_a_governance_retention_gives_way_to_who_bypasses_it(locked: ObjectsWorld) -> None:
    until = NOW_MS + HOUR_MS
    version = await put(locked, b"a", retention="governance", until_ms=until)
    for wanted in ({"until_ms": until - 1}, {"until_ms": until + 1, "retention": "compliance"}):
        with pytest.raises(NotAllowed, match="retained"):
            await retain(locked, version, **{"retention": "governance", **wanted})
    await retain(locked, version, retention="governance", until_ms=until + 1)
    assert (await retain(locked, version, retention="", bypass=True)).retention == ""
    await retain(locked, version, retention="governance", until_ms=until)
    assert (await delete(locked, Deletion(object=b"a", version=version.version)))[0].error == "storage.retained"
    assert (await delete(locked, Deletion(object=b"a", version=version.version), bypass=True))[0].gone


async def test_a_legal_hold_binds_until_it_is_lifted(locked: ObjectsWorld) -> None:
    version = await put(locked, b"a", hold=True)
    assert (await delete(locked, Deletion(object=b"a", version=version.version), bypass=True))[0].error
    assert not (await retain(locked, version, hold=False)).hold
    assert (await delete(locked, Deletion(object=b"a", version=version.version)))[0].gone


async def test_bytes_of_a_retained_version_are_no_open_upload_s(locked: ObjectsWorld) -> None:
    stream = await locked.stored(B, 10)
    await locked.ask(BeginUpload(account=ACCOUNT, bucket=B, object=b"a", stream=stream))
    call = PutObject(
        account=ACCOUNT,
        bucket=B,
        object=b"a",
        stream=stream,
        size=10,
        etag="e",
        retention="compliance",
        until_ms=NOW_MS + HOUR_MS,
    )
    with pytest.raises(Conflict, match="stream_used"):
        await locked.ask(call)
    await locked.ask(AbortUpload(account=ACCOUNT, bucket=B, object=b"a", stream=stream))
    with pytest.raises(Conflict, match="incomplete"):
        await locked.ask(call)


async def test_without_object_lock_nothing_is_retained(world: ObjectsWorld) -> None:
    version = await put(world, b"a")
    for wanted in ({"retention": "governance", "until_ms": NOW_MS + 1}, {"hold": True}, {"hold": False}):
        with pytest.raises(InvalidInput, match="no_lock"):
            await retain(world, version, **wanted)
    with pytest.raises(InvalidInput, match="no_lock"):
        await put(world, b"a", hold=True)


async def test_tags_are_changed_of_any_version_and_nothing_else(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    first, second = await put(world, b"a", head=b"h"), await put(world, b"a")
    changed = await retain(world, first, tags=b"new")
    assert (changed.tags, changed.head, changed.latest, changed.version) == (b"new", b"h", False, first.version)
    latest = await world.ask(SetObject(account=ACCOUNT, bucket=B, object=b"a", tags=b"newer"))
    assert (latest.version, latest.tags, latest.latest) == (second.version, b"newer", True)
    (marker,) = await delete(world, Deletion(object=b"a"))
    with pytest.raises(NotFound, match="no_version"):
        await world.ask(SetObject(account=ACCOUNT, bucket=B, object=b"a", version=marker.version, tags=b""))


async def test_tags_that_were_made_of_others_than_those_that_are_there_are_refused(world: ObjectsWorld) -> None:
    await put(world, b"a", tags=b"first")
    change = SetObject(account=ACCOUNT, bucket=B, object=b"a", tags=b"mine", before=b"first")
    for _ in range(2):  # the answer may have been lost
        assert (await world.ask(change)).tags == b"mine"
    with pytest.raises(Conflict, match="marks_changed"):
        await world.ask(SetObject(account=ACCOUNT, bucket=B, object=b"a", tags=b"theirs", before=b"first"))
    assert (await get(world, b"a")).tags == b"mine"
