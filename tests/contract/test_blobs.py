"""What every store of blobs promises, and what the one in a folder leaves on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fallow.adapters.blobs import PIECE_BYTES, FolderBlobs
from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.domain.errors import InvalidInput, NotFound, TooMuch, Unavailable
from fallow.ports.blobs import Blobs

OWNER = "a1" * 20
OTHER = "b2" * 20
LARGE = bytes(range(256)) * (10 * PIECE_BYTES // 256) + b"end"


@pytest.fixture(params=["folder", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return (
        FolderBlobs(tmp_path / "blobs")
        if request.param == "folder"
        else MemoryBlobs(lambda: time.time_ns() // 1_000_000)
    )


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(data: bytes, chunk: int = 70_001) -> AsyncIterator[bytes]:
    for at in range(0, len(data), chunk):
        yield data[at : at + chunk]


async def put(blobs: Blobs, data: bytes, owner: str = OWNER) -> str:
    assert await blobs.put(owner, name(data), stream(data), bytes_max=len(data)) == len(data)
    return name(data)


async def read(blobs: Blobs, sha256: str, start: int = 0, owner: str = OWNER) -> bytes:
    return b"".join([chunk async for chunk in blobs.get(owner, sha256, start=start)])


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
async def test_what_was_put_is_read_back(blobs: Blobs, data: bytes) -> None:
    sha256 = await put(blobs, data)
    assert await blobs.size(OWNER, sha256) == len(data)
    assert await read(blobs, sha256) == data


async def test_one_chunk_larger_than_a_piece(blobs: Blobs) -> None:
    await blobs.put(OWNER, name(LARGE), stream(LARGE, len(LARGE)), bytes_max=len(LARGE))
    assert await read(blobs, name(LARGE)) == LARGE


@pytest.mark.parametrize("start", [1, PIECE_BYTES, PIECE_BYTES + 1, len(LARGE), len(LARGE) + 5])
async def test_reading_starts_anywhere(blobs: Blobs, start: int) -> None:
    assert await read(blobs, await put(blobs, LARGE), start) == LARGE[start:]


async def test_the_same_blob_again_changes_nothing(blobs: Blobs) -> None:
    assert await put(blobs, b"same") == await put(blobs, b"same")
    assert await read(blobs, name(b"same")) == b"same"


async def test_wrong_bytes_are_refused_and_nothing_is_stored(blobs: Blobs) -> None:
    with pytest.raises(InvalidInput) as error:
        await blobs.put(OWNER, name(b"true"), stream(b"false"), bytes_max=100)
    assert error.value.code == "blob.hash"
    with pytest.raises(NotFound):
        await blobs.size(OWNER, name(b"true"))


async def test_wrong_bytes_are_refused_where_the_blob_is_already(blobs: Blobs) -> None:
    await put(blobs, b"true")
    with pytest.raises(InvalidInput):
        await blobs.put(OWNER, name(b"true"), stream(b"false"), bytes_max=100)
    assert await read(blobs, name(b"true")) == b"true"


async def test_too_many_bytes_are_refused_before_they_are_all_read(blobs: Blobs) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"0" * 1000

    with pytest.raises(TooMuch) as error:
        await blobs.put(OWNER, name(b""), endless(), bytes_max=5000)
    assert error.value.code == "blob.too_large"
    assert taken == 6
    with pytest.raises(NotFound):
        await blobs.size(OWNER, name(b""))


async def test_a_blob_belongs_to_its_owner(blobs: Blobs) -> None:
    sha256 = await put(blobs, b"mine")
    with pytest.raises(NotFound):
        await blobs.size(OTHER, sha256)
    with pytest.raises(NotFound):
        await read(blobs, sha256, owner=OTHER)


@pytest.mark.parametrize(
    ("owner", "sha256"),
    [
        (OWNER, "../" + "0" * 61),
        (OWNER, "0" * 63),
        (OWNER, "A" * 64),
        (OWNER, "0" * 64 + "\n"),
        ("..", "0" * 64),
        ("", "0" * 64),
        ("0x" + OWNER, "0" * 64),
        ("abc", "0" * 64),
    ],
)
async def test_names_that_are_not_hex_are_refused(blobs: Blobs, owner: str, sha256: str) -> None:
    for attempt in (
        blobs.put(owner, sha256, stream(b""), bytes_max=1),
        blobs.size(owner, sha256),
        read(blobs, sha256, owner=owner),
    ):
        with pytest.raises(InvalidInput) as error:
            await attempt
        assert error.value.code == "blob.name"


async def test_two_uploads_of_one_blob_at_once(blobs: Blobs) -> None:
    await asyncio.gather(put(blobs, LARGE), put(blobs, LARGE))
    assert await read(blobs, name(LARGE)) == LARGE


async def test_who_has_stored_a_blob_finds_it_while_others_store_it_too(tmp_path: Path) -> None:
    """Each upload that began before the first one ended puts its file in the place of the one before."""
    for number in range(20):
        blobs, data = FolderBlobs(tmp_path), b"%d" % number

        async def store_and_ask(blobs: FolderBlobs = blobs, data: bytes = data) -> int:
            await put(blobs, data)
            return await blobs.size(OWNER, name(data))

        assert set(await asyncio.gather(*(store_and_ask() for _ in range(8)))) == {len(data)}


async def test_a_failed_upload_leaves_no_file(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LARGE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await FolderBlobs(tmp_path).put(OWNER, name(LARGE), broken(), bytes_max=len(LARGE) * 2)
    assert files(tmp_path) == []


async def test_a_cancelled_upload_leaves_no_file(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield LARGE
        begun.set()
        await asyncio.Event().wait()

    blobs = FolderBlobs(tmp_path)
    async with asyncio.TaskGroup() as group:
        upload = group.create_task(blobs.put(OWNER, name(LARGE), stuck(), bytes_max=len(LARGE)))
        await begun.wait()
        assert len(files(tmp_path)) == 1
        upload.cancel()
    assert files(tmp_path) == []


async def test_a_second_process_leaves_uploads_under_way_alone(tmp_path: Path) -> None:
    async def watched() -> AsyncIterator[bytes]:
        yield LARGE
        FolderBlobs(tmp_path)
        yield b"end"

    data = LARGE + b"end"
    await FolderBlobs(tmp_path).put(OWNER, name(data), watched(), bytes_max=len(data))
    assert await read(FolderBlobs(tmp_path), name(data)) == data


async def test_leftovers_of_a_crash_go_and_blobs_stay(tmp_path: Path) -> None:
    sha256 = await put(FolderBlobs(tmp_path), b"kept")
    leftover = tmp_path / OWNER / sha256[:2] / "tmpcrash.part"
    leftover.write_bytes(b"half")
    assert await read(FolderBlobs(tmp_path), sha256) == b"kept"
    assert not leftover.exists()


HOUR_MS = 3_600_000


async def test_what_is_there_is_listed_and_removed_when_it_was_not_used(blobs: Blobs) -> None:
    now = time.time_ns() // 1_000_000
    one, other = await put(blobs, b"one"), await put(blobs, b"other", OTHER)
    found = {each async for each in blobs.stored()}
    assert {each[:3] for each in found} == {(OWNER, one, 3), (OTHER, other, 5)}
    assert all(abs(each.used_at - now) < HOUR_MS for each in found)
    assert not await blobs.remove(OWNER, one, unused_since=now - HOUR_MS)
    assert await read(blobs, one) == b"one"
    assert not await blobs.remove(OTHER, one, unused_since=now + HOUR_MS), "it is another's"
    assert await blobs.remove(OWNER, one, unused_since=now + HOUR_MS)
    assert not await blobs.remove(OWNER, one, unused_since=now + HOUR_MS), "once more changes nothing"
    with pytest.raises(NotFound):
        await blobs.size(OWNER, one)
    assert [each.sha256 async for each in blobs.stored()] == [other]


def aged(root: Path, hours: int) -> None:
    """Let all blobs be unused for so long."""
    at = time.time_ns() - hours * HOUR_MS * 1_000_000
    for path in files(root):
        os.utime(path, ns=(at, at))


async def test_who_asks_for_a_blob_or_stores_it_again_uses_it(tmp_path: Path) -> None:
    blobs, since = FolderBlobs(tmp_path), time.time_ns() // 1_000_000 - 24 * HOUR_MS
    sha256 = await put(blobs, LARGE)
    aged(tmp_path, 30)
    await blobs.size(OWNER, sha256)
    assert not await blobs.remove(OWNER, sha256, unused_since=since)
    aged(tmp_path, 30)
    await put(blobs, LARGE)
    assert not await blobs.remove(OWNER, sha256, unused_since=since)
    aged(tmp_path, 30)
    assert await blobs.remove(OWNER, sha256, unused_since=since)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["put", "size", "remove"]), min_size=2, max_size=8))
def test_what_somebody_was_told_is_there_is_not_removed_under_him(tmp_path: Path, steps: list[str]) -> None:
    """All of it at once, in threads: whoever has heard that a blob is stored finds it there."""
    blobs, data = FolderBlobs(tmp_path), b"x" * 1000
    since = time.time_ns() // 1_000_000 - 24 * HOUR_MS

    async def store() -> bool:
        try:
            await put(blobs, data)
        except Unavailable:  # he was told to send it again
            return False
        return True

    async def ask() -> bool:
        try:
            return bool(await blobs.size(OWNER, name(data)))
        except NotFound:
            return False

    async def remove() -> bool:
        await blobs.remove(OWNER, name(data), unused_since=since)
        return False

    async def course() -> None:
        await put(blobs, data)
        aged(tmp_path, 30)
        parts = {"put": store, "size": ask, "remove": remove}
        said = await asyncio.gather(*(parts[step]() for step in steps))
        if any(said):
            assert await read(blobs, name(data)) == data

    asyncio.run(course())
