"""Uploads in parts on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fallow.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    TooMuch,
)
from fallow.verticals.storage.core.calls.buckets import (
    MakeBucket,
)
from fallow.verticals.storage.core.calls.objects import (
    If,
)
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)
from tests.storage_objects import (
    ACCOUNT,
    NOW_MS,
    OTHER,
    B,
    ObjectsWorld,
    begin,
    completing,
    get,
    names,
    objects_world,
    part,
    put,
    put_segments,
    shown,
    versioning,
)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


async def test_an_object_is_made_of_the_parts_that_were_chosen(world: ObjectsWorld) -> None:
    upload = await begin(world, b"d/a", head=b"first", tags=b"t")
    begun = await world.ask(GetUpload(account=ACCOUNT, bucket=B, object=b"d/a", stream=upload))
    assert (begun.object, begun.made_ms, begun.head, begun.tags) == (b"d/a", NOW_MS, b"first", b"t")
    for number, size in ((3, 30), (1, 10), (7, 70)):
        await part(world, upload, number, size)
    stored = await world.ask(ListParts(account=ACCOUNT, bucket=B, stream=upload, after=1, limit=1))
    assert [(p.number, p.size, p.etag) for p in stored] == [(3, 30, "e")]
    call = completing(b"d/a", upload, (1, "e"), (7, "e"), head=b"last")
    made = await world.ask(call)
    assert (made.size, made.parts, made.stream, made.etag) == (80, [(1, 10), (7, 70)], upload, "all-2")
    assert (made.head, made.tags) == (b"last", b"t")
    assert await world.ask(call) == made == await get(world, b"d/a")
    assert await world.segments() == [(upload, 1, 10), (upload, 7, 70)]
    assert shown(await names(world, prefix=b"d/")) == [b"d/a"]
    assert (await names(world, folders=True)).folders == [b"d/"]
    with pytest.raises(NotFound, match="no_upload"):
        await part(world, upload, 1, 10)
    async with world.database.transaction() as tx:
        row = await world.objects.bucket_of(tx, ACCOUNT, B)
        found = await world.objects.version_stream(tx, row.id, b"d/a", made.version)
    assert found == (upload, 80, [(1, 10), (7, 70)])


async def test_a_part_replaces_the_one_of_its_number_once(world: ObjectsWorld) -> None:
    upload = await begin(world, b"a")
    await part(world, upload, 1, 10)
    await part(world, upload, 2, 20)
    stream = await world.stored(B, 15)
    call = PutPart(account=ACCOUNT, bucket=B, stream=upload, bytes_of=stream, number=1, size=15, etag="f")
    stored = await world.ask(call)
    assert await world.ask(call) == stored
    assert await world.segments() == [(upload, 1, 15), (upload, 2, 20)]
    with pytest.raises(Conflict, match="incomplete"):
        await world.ask(PutPart(**{**_fields(call), "number": 3}))
    with pytest.raises(InvalidInput, match=r"storage\.part\b"):
        await world.ask(completing(b"a", upload, (1, "e")))
    with pytest.raises(InvalidInput, match="part_order"):
        await world.ask(completing(b"a", upload, (2, "e"), (1, "f")))
    assert (await world.ask(completing(b"a", upload, (1, "f"), (2, "e")))).size == 35


def _fields(call: PutPart) -> dict[str, Any]:
    return {name: getattr(call, name) for name in call.__struct_fields__}


async def test_an_object_s_bytes_cannot_become_a_part(world: ObjectsWorld) -> None:
    version = await put_segments(world, b"a", 10)
    upload = await begin(world, b"b")
    with pytest.raises(Conflict, match="stream_used"):
        await world.ask(
            PutPart(account=ACCOUNT, bucket=B, stream=upload, bytes_of=version.stream, number=1, size=10, etag="")
        )
    with pytest.raises(Conflict, match="stream_used"):
        await world.ask(BeginUpload(account=ACCOUNT, bucket=B, object=b"b", stream=version.stream))


async def test_an_upload_that_is_given_up_is_deleted_at_once_and_is_not_paid_any_more(world: ObjectsWorld) -> None:
    upload = await begin(world, b"a")
    await part(world, upload, 1, 10)
    call = AbortUpload(account=ACCOUNT, bucket=B, object=b"a", stream=upload)
    await world.ask(call)
    assert await world.segments() == []
    assert await world.garbage() == {upload: True}, "the trash would be paid for seven days"
    with pytest.raises(NotFound, match="no_upload"):
        await world.ask(call)
    with pytest.raises(NotFound, match="no_upload"):
        await world.ask(completing(b"a", upload, (1, "e")))


async def test_completing_obeys_conditions_and_versions(world: ObjectsWorld) -> None:
    first = await put(world, b"a")
    upload = await begin(world, b"a")
    await part(world, upload, 1, 10)
    with pytest.raises(Conflict, match=r"storage\.condition"):
        await world.ask(completing(b"a", upload, (1, "e"), only_if=If(absent=True)))
    made = await world.ask(completing(b"a", upload, (1, "e"), only_if=If(etag=first.etag)))
    assert (await get(world, b"a")).version == made.version
    assert await world.totals() == (1, 10)


async def test_an_account_has_so_many_uploads_open_and_no_more(
    world: ObjectsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.uploads.UPLOADS_MAX", 2)
    await world.ask(MakeBucket(account=ACCOUNT, bucket="more"))
    first = await begin(world, b"a")
    await world.ask(BeginUpload(account=ACCOUNT, bucket="more", object=b"a", stream=world.stream()))
    with pytest.raises(TooMuch, match=r"storage\.uploads"):
        await begin(world, b"b")
    again = await world.ask(BeginUpload(account=ACCOUNT, bucket=B, object=b"a", stream=first))  # the answer was lost
    assert again.stream == first
    await world.ask(MakeBucket(account=OTHER, bucket="others"))
    await world.ask(BeginUpload(account=OTHER, bucket="others", object=b"a", stream=world.stream()))
    await world.ask(AbortUpload(account=ACCOUNT, bucket=B, object=b"a", stream=first))
    await begin(world, b"b")


async def test_uploads_are_listed_by_name_and_stream(world: ObjectsWorld) -> None:
    made = [(name, await begin(world, name)) for name in (b"a", b"b/1", b"b/1", b"b/2", b"c")]

    async def listed(**wanted: Any) -> list[tuple[bytes, bytes]]:
        uploads = await world.ask(ListUploads(account=ACCOUNT, bucket=B, **wanted))
        return [(upload.object, upload.stream) for upload in uploads]

    assert await listed() == made
    assert await listed(prefix=b"b/") == made[1:4]
    assert await listed(after=b"b/1") == made[3:]
    assert await listed(after=b"b/1", after_stream=made[1][1], limit=2) == made[2:4]
    assert await listed(prefix=b"b/", after=b"a") == made[1:4]


async def test_concurrent_completions_make_one_version(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    upload = await begin(world, b"a")
    await asyncio.gather(*(part(world, upload, number, number) for number in range(1, 13)))
    call = completing(b"a", upload, *((number, "e") for number in range(1, 13)))
    made = await asyncio.gather(*(world.ask(call) for _ in range(8)))
    assert len({version.version for version in made}) == 1
    assert len((await names(world, all_versions=True)).versions) == 1
