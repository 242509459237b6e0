"""What accounts keep in the network's own database for nothing: counted, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files

import pytest

from fallow.domain.errors import TooMuch
from fallow.verticals.storage.control.keeping import REMEMBERED_MS
from fallow.verticals.storage.control.stale import STALE_MS
from fallow.verticals.storage.core.calls.buckets import DropBucket, ListBuckets, MakeBucket
from fallow.verticals.storage.core.calls.objects import KEPT_BYTES_MAX, Deletion, PutObject, SetObject
from fallow.verticals.storage.core.calls.uploads import AbortUpload
from tests.storage_objects import (
    ACCOUNT,
    OTHER,
    B,
    ObjectsWorld,
    begin,
    completing,
    delete,
    objects_world,
    part,
    put,
    put_segments,
    versioning,
)

ROW = 512


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


async def test_what_is_kept_for_nothing_is_counted_as_it_comes_and_goes(world: ObjectsWorld) -> None:
    assert await world.kept() == 0
    await put(world, b"a", b"12345", head=b"head", tags=b"tags")
    assert await world.kept() == ROW + 1 + 5 + 4 + 4
    await put(world, b"a", b"123")
    assert await world.kept() == ROW + 1 + 3
    await put_segments(world, b"a", 1000, 20)
    assert await world.kept() == 0, "its bytes pay for it"
    await put_segments(world, b"a", 100)
    assert await world.kept() == ROW + 1 - 100, "they do so in part"
    await delete(world, Deletion(object=b"a"))
    assert await world.kept() == 0

    await versioning(world, "enabled")
    first = await put(world, b"b", b"1")
    await put(world, b"b", b"22")
    await delete(world, Deletion(object=b"b"), Deletion(object=b"none"))
    assert await world.kept() == (ROW + 1 + 1) + (ROW + 1 + 2) + (ROW + 1) + (ROW + 4)
    await world.ask(SetObject(account=ACCOUNT, bucket=B, object=b"b", version=first.version, tags=b"t" * 100))
    assert await world.kept() == (ROW + 1 + 101) + (ROW + 1 + 2) + (ROW + 1) + (ROW + 4)
    await versioning(world, "suspended")
    (marker,) = await delete(world, Deletion(object=b"c"))
    await put(world, b"c", b"1")
    assert marker.marker
    await delete(world, Deletion(object=b"b", version=first.version), Deletion(object=b"c", null=True))
    assert await world.kept() == (ROW + 1 + 2) + (ROW + 1) + (ROW + 4)


async def test_parts_are_counted_until_their_upload_is_over(world: ObjectsWorld) -> None:
    uploads = [await begin(world, name) for name in (b"a", b"b", b"c")]
    for upload in uploads:
        await part(world, upload, 1, 100)
        await part(world, upload, 1, 10)
        await part(world, upload, 2, 600)
        await part(world, upload, 3, 0)
    assert await world.kept() == 3 * (2 * ROW - 10)
    await world.ask(completing(b"a", uploads[0], (1, "e"), (3, "e")))
    of_object = await world.kept() - 2 * (2 * ROW - 10)
    assert ROW + 1 - 10 < of_object < ROW + 20, "and what it says of its parts"
    await world.ask(AbortUpload(account=ACCOUNT, bucket=B, object=b"b", stream=uploads[1]))
    assert await world.kept() == of_object + 2 * ROW - 10
    world.clock.now += STALE_MS + 1
    assert await world.objects.stale.give_up_some() == 1
    assert await world.kept() == of_object


async def test_what_was_kept_before_it_was_counted_is_counted_when_the_network_is_updated(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    for name, data in ((b"a", b"1"), (b"b", b"22"), (b"a", b"333")):
        await put(world, name, data, head=b"h")
    await put_segments(world, b"large", 5000)
    await delete(world, Deletion(object=b"a"))
    upload = await begin(world, b"u")
    await part(world, upload, 1, 7)
    counted = await world.kept()
    schema = files("fallow.verticals.storage.control") / "schema"
    _, _, back_fill = (schema / "0017_kept.sql").read_text().partition(";")
    async with world.database.transaction() as tx:
        await tx.execute("UPDATE storage.tally SET kept = 0")
        await tx.execute(back_fill)
    assert await world.kept() == counted > 0


async def test_small_objects_are_to_go_to_nodes_where_an_account_keeps_much(world: ObjectsWorld) -> None:
    await put(world, b"there", b"12345")
    await world.keeps(KEPT_BYTES_MAX)
    stream = world.stream()
    with pytest.raises(TooMuch, match=r"storage\.inline_full"):
        await put(world, b"a", stream=stream)
    stored = await world.stored(B, 4)
    await world.ask(PutObject(account=ACCOUNT, bucket=B, object=b"a", stream=stored, size=4, etag="e"))
    await put(world, b"empty", b"")
    await put(world, b"there", b"1234")
    await versioning(world, "enabled")
    assert [one.error for one in await delete(world, Deletion(object=b"there"))] == [""]


async def test_at_twice_as_much_nothing_more_is_kept_for_nothing_and_all_is_deleted(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    made = await put(world, b"a", b"1")
    upload = await begin(world, b"u")
    await world.keeps(2 * KEPT_BYTES_MAX)
    before = await world.kept()
    refused = await delete(world, Deletion(object=b"a"), Deletion(object=b"a", version=made.version))
    assert [(one.error, one.marker, one.gone) for one in refused] == [
        ("storage.kept_full", False, False),
        ("", False, True),
    ]
    assert "lifecycle" in refused[0].message
    assert await world.kept() == 0 < before
    for name, data in ((b"e", b""), (b"i", b"1")):
        with pytest.raises(TooMuch, match=r"storage\.(kept|inline)_full"):
            await put(world, name, data)
    with pytest.raises(TooMuch, match=r"storage\.kept_full"):
        await put_segments(world, b"small", 100)
    with pytest.raises(TooMuch, match=r"storage\.kept_full"):
        await part(world, upload, 1, 100)
    large = await put_segments(world, b"large", 5000)
    marks = SetObject(account=ACCOUNT, bucket=B, object=b"large", version=large.version, tags=b"t" * 6000)
    with pytest.raises(TooMuch, match=r"storage\.kept_full"):
        await world.ask(marks)
    await part(world, upload, 1, 5000)
    await world.ask(completing(b"u", upload, (1, "e")))
    assert await world.kept() == 0


async def test_it_is_one_account_s_and_lasts_until_it_has_deleted_enough(world: ObjectsWorld) -> None:
    await world.keeps(KEPT_BYTES_MAX, OTHER)
    await put(world, b"a")
    await world.keeps(KEPT_BYTES_MAX)
    with pytest.raises(TooMuch, match=r"storage\.inline_full"):
        await put(world, b"b")
    (full,) = [one.name for one in await world.ask(ListBuckets(account=ACCOUNT)) if one.name != B]
    await world.ask(DropBucket(account=ACCOUNT, bucket=full))
    world.clock.now += REMEMBERED_MS
    await put(world, b"b")
