"""Pieces on a disk: they read back, the limit holds, accounts are what `du` says, trash can be taken back."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from fallow.domain.errors import Conflict, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.verticals.storage.worker.store import LOG_BYTES_MIN, TRASH_MS, PieceStore

LIMIT = 64 << 20
DAY_MS = 86_400_000


class Time:
    """Milliseconds, as a test sets them."""

    now = 1_000_000

    def __call__(self) -> int:
        """Tell them."""
        return self.now


def piece_id(number: int) -> bytes:
    return number.to_bytes(32)


def put(store: PieceStore, number: int, data: bytes) -> None:
    with store.receive(piece_id(number), len(data)) as incoming:
        for at in range(0, len(data), 100_000):
            incoming.write(data[at : at + 100_000])
        incoming.commit(blake3(data).digest())


def du(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (folder, *folder.iterdir()))


def opened(folder: Path, time: Time | None = None, limit: int = LIMIT) -> PieceStore:
    return PieceStore(folder, limit_bytes=limit, now_ms=time or Time())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PieceStore]:
    one = opened(tmp_path)
    yield one
    one.close()


def test_a_piece_reads_back_whole_and_in_parts(store: PieceStore) -> None:
    data = random.Random(1).randbytes(300_000)
    put(store, 1, data)
    assert store.read(piece_id(1), 0, len(data)) == data
    assert store.read(piece_id(1), 1000, 2000) == data[1000:2000]
    assert store.read(piece_id(1), 299_990, 1 << 40) == data[299_990:]
    assert store.find(piece_id(1)).hash == blake3(data).digest()
    put(store, 2, b"")
    assert store.read(piece_id(2), 0, 10) == b""


def test_what_did_not_come_whole_or_came_altered_is_not_there(store: PieceStore) -> None:
    for sent, announced, hashed in ((b"abc", 4, b"abc"), (b"abc", 3, b"abd")):
        with store.receive(piece_id(1), announced) as incoming:
            incoming.write(sent)
            with pytest.raises(InvalidInput):
                incoming.commit(blake3(hashed).digest())
    with store.receive(piece_id(1), 2) as incoming, pytest.raises(InvalidInput) as refused:
        incoming.write(b"abc")
    assert refused.value.code == "storage.piece_length"
    with pytest.raises(NotFound):
        store.read(piece_id(1), 0, 3)
    before = store.used_bytes
    put(store, 1, b"abc")
    assert store.used_bytes <= before + 32768


def test_a_piece_comes_once(store: PieceStore) -> None:
    with store.receive(piece_id(1), 3), pytest.raises(Conflict) as refused:
        store.receive(piece_id(1), 3)
    assert refused.value.code == "storage.piece_busy"
    put(store, 1, b"abc")
    with pytest.raises(Conflict) as refused:
        store.receive(piece_id(1), 3)
    assert refused.value.code == "storage.piece_exists"


def test_trash_is_taken_back_for_seven_days_and_then_gone(tmp_path: Path) -> None:
    time = Time()
    store = opened(tmp_path, time)
    for number in range(3):
        put(store, number, bytes(LOG_BYTES_MIN))
    store.trash([piece_id(0), piece_id(1)])
    time.now += TRASH_MS - DAY_MS
    store.trash([piece_id(0)])  # again: it does not begin anew
    store.take_back([piece_id(1)])
    with pytest.raises(NotFound):
        store.read(piece_id(0), 0, 1)
    time.now += DAY_MS + 1
    before = store.used_bytes
    store.sweep()
    assert store.used_bytes <= before - LOG_BYTES_MIN + 65536
    store.take_back([piece_id(0)])
    with pytest.raises(NotFound):
        store.read(piece_id(0), 0, 1)
    assert store.read(piece_id(1), 0, 9) == bytes(9)
    store.close()


def test_what_is_purged_is_overwritten_at_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"secret" * 1000)
    put(store, 2, b"kept" * 1000)
    store.purge([piece_id(1), piece_id(7)])
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.glob("*.log"))
    assert store.read(piece_id(2), 0, 4) == b"kept"
    store.close()


def test_the_limit_is_never_crossed_and_what_is_used_is_what_du_says(tmp_path: Path) -> None:
    draw, time = random.Random(2), Time()
    store = opened(tmp_path, time)
    there: set[int] = set()
    refused = 0
    for number in range(150):
        try:
            put(store, number, draw.randbytes(draw.randrange(2_000_000)))
            there.add(number)
        except TooMuch:
            refused += 1
        if number % 10 == 9:
            gone = draw.sample(sorted(there), len(there) // 8)
            store.trash(map(piece_id, gone))
            there -= set(gone)
            time.now += 2 * DAY_MS
            store.sweep()
        on_disk = du(tmp_path)
        assert on_disk <= LIMIT
        assert abs(store.used_bytes - on_disk) <= on_disk // 100
    assert refused
    assert sum(1 for _ in tmp_path.iterdir()) < 60
    store.close()


def test_half_empty_logs_give_their_room_back_and_no_piece_is_lost(tmp_path: Path) -> None:
    draw, time = random.Random(3), Time()
    store = opened(tmp_path, time)
    data = {number: draw.randbytes(500_000) for number in range(60)}
    for number, one in data.items():
        put(store, number, one)
    gone = [number for number in data if number % 4]
    store.trash(map(piece_id, gone))
    time.now += TRASH_MS + 1
    before = store.used_bytes
    store.sweep()
    assert store.used_bytes < before // 2
    for number in data.keys() - set(gone):
        assert store.read(piece_id(number), 0, 500_000) == data[number]
    store.close()
    again = opened(tmp_path, time)
    assert all(again.read(piece_id(number), 0, 500_000) == data[number] for number in data.keys() - set(gone))
    again.close()


def test_a_torn_end_is_cut_off_and_its_room_given_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"kept" * 1000)
    incoming = store.receive(piece_id(2), 3 << 20)
    incoming.write(b"torn" * 1000)
    store.close()  # as if it had been killed: nothing ends the upload
    os.close(incoming._handle)
    again = opened(tmp_path)
    assert again.used_bytes < 1 << 20
    assert again.read(piece_id(1), 0, 4) == b"kept"
    put(again, 2, b"whole")
    assert again.read(piece_id(2), 0, 5) == b"whole"
    again.close()


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(Conflict) as refused:
        opened(tmp_path)
    assert refused.value.code == "storage.busy"
    store.close()


def test_a_log_that_lost_its_end_serves_what_is_left_and_takes_nothing_new(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, bytes(1000))
    put(store, 2, bytes(1000))
    os.truncate(tmp_path / "00000001.log", 1500)
    with pytest.raises(Unavailable) as refused:
        store.read(piece_id(2), 0, 1000)
    assert refused.value.code == "storage.disk_failing"
    assert store.failed
    assert store.read(piece_id(1), 0, 1000) == bytes(1000)
    with pytest.raises(Unavailable):
        store.receive(piece_id(3), 1)
    store.close()


def test_a_disk_without_room_is_met_at_the_door(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, 1, bytes(1000))

    def full(_handle: int, _start: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(TooMuch) as refused:
            store.receive(piece_id(2), 1000)
    assert refused.value.code == "storage.full"
    assert not store.failed
    put(store, 2, bytes(1000))


def test_pages_go_over_all_pieces(store: PieceStore) -> None:
    for number in range(5):
        put(store, number, b"x")
    store.trash([piece_id(3)])
    assert [row.id for row in store.page(piece_id(1))] == [piece_id(number) for number in (2, 3, 4)]
    assert store.page(piece_id(4)) == []
