"""Pieces on a disk: they read back, the limit holds, accounts are what `du` says, trash can be taken back."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from fallow.domain.errors import Conflict, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.verticals.storage.core.questions import TRASH_MS
from fallow.verticals.storage.worker.index import Index, Row
from fallow.verticals.storage.worker.store import LOG_BYTES_MIN, PieceStore

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


def opened(folder: Path, time: Time | None = None, limit: int = LIMIT, *, durable: bool = True) -> PieceStore:
    return PieceStore(folder, limit_bytes=limit, now_ms=time or Time(), durable=durable)


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


def _beside_a_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen once, after a read has found its piece's place and before it reads there."""
    still, read = [happens], os.pread

    def pread(handle: int, size: int, at: int) -> bytes:
        if still:
            still.pop()()
        return read(handle, size, at)

    monkeypatch.setattr(os, "pread", pread)


def test_a_piece_that_is_purged_beside_a_read_is_not_there(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, 1, b"secret")
    _beside_a_read(monkeypatch, lambda: store.purge([piece_id(1)]))
    with pytest.raises(NotFound):
        store.read(piece_id(1), 0, 6)


def test_a_piece_that_is_purged_and_comes_anew_beside_a_read_is_the_new_one(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anew() -> None:
        store.purge([piece_id(1)])
        put(store, 1, b"public")

    put(store, 1, b"secret")
    _beside_a_read(monkeypatch, anew)
    assert store.read(piece_id(1), 0, 6) == b"public"


def test_a_piece_comes_once(store: PieceStore) -> None:
    with store.receive(piece_id(1), 3), pytest.raises(Conflict) as refused:
        store.receive(piece_id(1), 3)
    assert refused.value.code == "storage.piece_busy"
    put(store, 1, b"abc")
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            store.receive(piece_id(1), 3)
        assert refused.value.code == "storage.piece_exists"
        store.trash([piece_id(1)])  # which a restored database counts on


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


class Driven:
    """A store, all that may be done with it, and what should be there; after each step the disk is looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.draw, self.time = random.Random(2), Time()
        self.store = opened(folder, self.time)
        self.there: set[int] = set()
        self.refused = 0
        self._numbers = itertools.count()

    def check(self) -> None:
        on_disk = du(self.folder)
        assert on_disk <= LIMIT
        assert abs(self.store.used_bytes - on_disk) <= on_disk // 100

    def put(self, *, whole: bool = True) -> None:
        number, data = next(self._numbers), self.draw.randbytes(self.draw.randrange(2_000_000))
        try:
            with self.store.receive(piece_id(number), len(data)) as incoming:
                self.check()
                incoming.write(data[: len(data) // 2])
                self.check()
                if whole:
                    incoming.write(data[len(data) // 2 :])
                    incoming.commit(blake3(data).digest())
                    self.there.add(number)
        except TooMuch:
            self.refused += 1

    def give_up(self) -> None:
        self.put(whole=False)

    def trash(self) -> None:
        gone = self._some()
        self.store.trash(map(piece_id, gone))
        self.store.take_back(map(piece_id, gone[:1]))
        self.there.difference_update(gone[1:])

    def purge(self) -> None:
        gone = self._some()
        self.store.purge(map(piece_id, gone))
        self.there.difference_update(gone)

    def sweep(self) -> None:
        self.time.now += 3 * DAY_MS
        self.store.sweep()

    def restart(self) -> None:
        self.store.close()
        self.store = opened(self.folder, self.time)

    def _some(self) -> list[int]:
        return self.draw.sample(sorted(self.there), len(self.there) // 6)


def test_the_limit_is_never_crossed_and_what_is_used_is_what_du_says(tmp_path: Path) -> None:
    one = Driven(tmp_path)
    steps = {one.put: 12, one.give_up: 3, one.trash: 2, one.purge: 1, one.sweep: 2, one.restart: 1}
    for step in one.draw.choices([*steps], [*steps.values()], k=250):
        step()
        one.check()
    assert one.refused
    assert one.store.held(map(piece_id, sorted(one.there))) == [piece_id(number) for number in sorted(one.there)]
    assert sum(1 for _ in tmp_path.iterdir()) < 60
    one.store.close()


def test_a_full_folder_of_small_pieces_keeps_to_its_limit_when_all_of_them_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces that go are written down, too, in the folder itself."""
    draw, time, claim = random.Random(5), Time(), bytes(180)
    store = opened(tmp_path, time, durable=False)
    small = [Row(draw.randbytes(32), 1, 0, 0, bytes(32), 0, None, claim) for _ in range(60_000)]
    put(store, 1, bytes(1000))
    store._index.put(small)
    gone = [row.id for row in small]
    while store.amounts().room_bytes >= 1 << 16:
        put(store, len(gone), bytes(1 << 16))
        gone.append(piece_id(len(gone)))
    on_disk = [du(tmp_path)]
    remove = store._remove_empty

    def removing(log: int) -> None:
        on_disk.append(du(tmp_path))
        remove(log)

    monkeypatch.setattr(store, "_remove_empty", removing)
    for at in range(0, len(gone), 1000):
        store.trash(gone[at : at + 1000])
        on_disk.append(du(tmp_path))
    time.now += TRASH_MS + 1
    store.sweep()
    assert len(on_disk) > len(gone) // 1000 + 2, "it was looked at before logs were removed, too"
    assert max(on_disk) <= LIMIT
    assert store.amounts().pieces == 1
    store.close()


def test_others_are_served_while_the_trash_is_emptied(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Row(piece_id(number), 1, 0, 0, bytes(32), 0, 1) for number in range(2, 2000)]
    put(store, 1, b"here")
    store._index.put(pieces)
    drop, free = store._index.drop_trash, []

    def dropping(before_ms: int) -> bool:
        free.append(store._lock.locked())
        return drop(before_ms)

    monkeypatch.setattr(store._index, "drop_trash", dropping)
    monkeypatch.setattr(store, "_now_ms", lambda: TRASH_MS + 2)
    store.sweep()
    assert len(free) > 10, "the lock is let go of between some and some"
    assert store.amounts().pieces == 1


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


def test_a_log_of_somebody_else_s_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"kept")
    store.close()
    others = [tmp_path / name for name in ("rsync.log", "7.log", "2026-11-27.log")]
    for path in others:
        path.write_bytes(bytes(1 << 20))
    again = opened(tmp_path)
    again.sweep()
    assert again.read(piece_id(1), 0, 4) == b"kept"
    assert again.failed == ""
    assert again.used_bytes == du(tmp_path)
    assert all(path.exists() for path in others)
    again.close()


def test_how_much_it_holds_is_known_without_going_through_it(tmp_path: Path) -> None:
    def row(number: int) -> Row:
        return Row(piece_id(number), 1, 100 * number, 100, b"", 1)

    def known(index: Index) -> tuple[int, int]:
        steps: list[None] = []
        index._db.set_progress_handler(lambda: steps.append(None), 1)
        totals = index.totals()
        index._db.set_progress_handler(None, 0)
        assert len(steps) < 50
        return totals

    index = Index(tmp_path)
    assert known(index) == (0, 0)
    index.put(row(number) for number in range(1000))
    with pytest.raises(Unavailable):
        index.put([row(1000), row(1)])
    index.trash([piece_id(number) for number in range(300)], 5)
    index.trash([piece_id(number) for number in range(290, 310)], 6)
    index.trash([piece_id(number) for number in range(10)], None)
    index.move([row(20)._replace(log=2)], 1)
    index.trashed_by(4)
    assert known(index) == (1000, 30_000)
    index.drop([piece_id(number) for number in (0, 50, 999, 5000)])
    assert known(index) == (997, 29_900)
    index.close()
    again = Index(tmp_path)
    assert known(again) == (997, 29_900)
    while again.drop_trash(5):
        assert known(again)[1] < 29_900
    assert known(again) == (698, 0)
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


def used_when_moving_fails(folder: Path, store: PieceStore) -> list[int]:
    """Have logs to move, let that fail again and again, and say what is used after each time."""
    used = []
    for _ in range(4):
        with pytest.raises((TooMuch, Unavailable)):
            store.sweep()
        used.append(du(folder))
    return used


def half_empty(store: PieceStore, time: Time) -> None:
    for number in range(30):
        put(store, number, random.Random(number).randbytes(500_000))
    store.trash([piece_id(number) for number in range(30) if number % 4])
    time.now += TRASH_MS + 1


def test_moving_that_fails_takes_no_room_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    store = opened(tmp_path, time)
    half_empty(store, time)
    pread, calls = os.pread, iter(range(1000))

    def no_memory(handle: int, length: int, start: int) -> bytes:
        if next(calls) % 2:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return pread(handle, length, start)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", no_memory)
        used = used_when_moving_fails(tmp_path, store)
    assert max(used) - min(used) < 65_536
    assert not store.failed
    before = store.used_bytes
    store.sweep()
    assert store.used_bytes < before
    assert all(
        store.read(piece_id(number), 0, 500_000) == random.Random(number).randbytes(500_000)
        for number in range(0, 30, 4)
    )
    store.close()


def test_empty_logs_go_although_a_full_disk_lets_nothing_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    store = opened(tmp_path, time)
    half_empty(store, time)
    for number in range(100, 116):
        put(store, number, bytes(500_000))
    store.trash([piece_id(number) for number in range(100, 116)])
    time.now += TRASH_MS + 1

    def full(_handle: int, _start: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = du(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(TooMuch):
            store.sweep()
    assert du(tmp_path) <= before - LOG_BYTES_MIN + 65_536
    store.close()


def test_without_a_free_handle_an_upload_is_refused_and_can_come_again(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_free(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    put(store, 1, bytes(1000))
    with monkeypatch.context() as patched:
        patched.setattr("fallow.verticals.storage.worker.store.Incoming", none_free)
        with pytest.raises(Unavailable):
            store.receive(piece_id(2), 1000)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", none_free)
        with pytest.raises(Unavailable):
            store.receive(piece_id(2), 1000)
        with pytest.raises(Unavailable):
            store.read(piece_id(1), 0, 1000)
    assert not store.failed
    put(store, 2, bytes(1000))
    assert store.read(piece_id(2), 0, 1000) == bytes(1000)


def test_pieces_that_a_power_failure_took_are_lost_and_the_others_are_served(tmp_path: Path) -> None:
    store = opened(tmp_path, durable=False)
    put(store, 1, b"one" * 1000)
    put(store, 2, b"two" * 1000)
    put(store, 3, bytes(LOG_BYTES_MIN))
    put(store, 4, b"")
    store.close()
    os.truncate(tmp_path / "00000001.log", 3000)
    for log in (2, 3):
        (tmp_path / f"{log:08d}.log").unlink()
    again = opened(tmp_path, durable=False)
    assert again.held(map(piece_id, range(1, 5))) == [piece_id(1)]
    for number in (2, 3, 4):
        with pytest.raises(NotFound):
            again.read(piece_id(number), 0, 3000)
    assert not again.failed
    put(again, 5, b"new" * 1000)
    put(again, 6, bytes(LOG_BYTES_MIN))
    again.purge([piece_id(2), piece_id(3)])
    assert again.read(piece_id(1), 0, 3000) == b"one" * 1000
    assert again.read(piece_id(5), 0, 3000) == b"new" * 1000
    assert again.used_bytes == du(tmp_path)
    again.close()


def test_a_disk_that_has_lost_what_it_had_synced_gets_nothing_new(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"one" * 1000)
    put(store, 2, b"two" * 1000)
    store.close()
    os.truncate(tmp_path / "00000001.log", 3000)
    again = opened(tmp_path)
    assert "lost 1 pieces" in again.failed
    with pytest.raises(Unavailable):
        put(again, 3, b"new")
    assert again.read(piece_id(1), 0, 3000) == b"one" * 1000
    again.close()


def test_a_folder_that_cannot_be_read_is_a_failing_disk_and_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    put(store, 1, b"one")
    store.close()

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "truncate", broken)
        with pytest.raises(Unavailable, match="Input/output error"):
            opened(tmp_path)
    again = opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", broken)
        for attempt in (again.amounts, lambda: again.receive(piece_id(2), 1)):
            with pytest.raises(Unavailable, match="Input/output error"):
                attempt()
    again.close()


def test_others_are_served_while_pieces_are_overwritten(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, 1, b"secret")
    put(store, 2, b"others")
    pwrite = os.pwrite
    beside: list[bytes] = []

    def write(handle: int, data: bytes, at: int) -> int:
        written = pwrite(handle, data, at)
        if not beside:
            beside.append(b"")
            free = store._lock.acquire(blocking=False)
            assert free, "who overwrites keeps nobody waiting"
            store._lock.release()
            beside.append(store.read(piece_id(2), 0, 6))
            with pytest.raises(NotFound):
                store.read(piece_id(1), 0, 6)
        return written

    monkeypatch.setattr(os, "pwrite", write)
    store.purge([piece_id(1)])
    assert beside == [b"", b"others"]
    assert store.find(piece_id(2))
    store.receive(piece_id(1), 1).close()


def test_pieces_longer_than_a_log_file_keep_to_the_limit_when_others_go(tmp_path: Path) -> None:
    time = Time()
    store = opened(tmp_path, time)
    long = 3 * LOG_BYTES_MIN
    for number in range(0, 40, 2):
        try:
            put(store, number, bytes(LOG_BYTES_MIN - 4096))
            put(store, number + 1, bytes(long))
        except TooMuch:
            break
    store.trash([piece_id(number) for number in range(0, 40, 2)])
    time.now += TRASH_MS + 1
    moved = du(tmp_path)
    store.sweep()
    assert du(tmp_path) < moved
    assert max(path.stat().st_size for path in tmp_path.glob("*.log")) <= long
    store.close()


def test_a_folder_whose_index_is_gone_is_left_as_it_is(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"one" * 1000)
    store.close()
    index = tmp_path / "index"
    index.rename(tmp_path / "aside")
    with pytest.raises(Unavailable, match="index of the pieces"):
        opened(tmp_path)
    (tmp_path / "aside").rename(index)
    again = opened(tmp_path)
    assert again.read(piece_id(1), 0, 3000) == b"one" * 1000
    again.close()


def test_places_that_a_power_failure_left_unwritten_are_lost_and_not_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, durable=False)
    put(store, 1, b"one" * 10_000)
    put(store, 2, b"")
    with monkeypatch.context() as patched:  # what the system had not written yet, of places that were set aside
        patched.setattr(os, "pwrite", lambda _handle, data, _at: len(data))
        put(store, 3, b"three" * 10_000)
        put(store, 5, bytes(30_000))  # of some file systems a hole, too, when it was written
    put(store, 4, b"four" * 10_000)
    store.close()
    again = opened(tmp_path, durable=False)
    assert again.held(map(piece_id, range(1, 6))) == [piece_id(number) for number in (1, 2, 4, 5)]
    assert again.read(piece_id(4), 0, 40_000) == b"four" * 10_000
    assert not again.failed
    again.close()


def test_a_piece_without_bytes_stays_when_the_place_before_it_is_given_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, b"one")
    given_up = store.receive(piece_id(2), 100_000)
    put(store, 3, b"")
    given_up.close()
    store.close()
    again = opened(tmp_path)
    assert not again.failed
    assert again.held(map(piece_id, (1, 2, 3))) == [piece_id(1), piece_id(3)]
    again.close()


def test_a_limit_that_was_lowered_is_kept_while_long_logs_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    store = opened(tmp_path, time, limit=32 * LIMIT)  # of logs of 32 MiB
    for number in range(20):
        put(store, number, bytes(2 << 20))
    store.trash([piece_id(number) for number in range(9)])
    time.now += TRASH_MS + 1
    lowered = store.used_bytes + (3 << 20)
    store.close()
    store = opened(tmp_path, time, limit=lowered)
    most, lengthen = [du(tmp_path)], store._lengthen

    def lengthened(log: int, start: int, length: int) -> None:
        lengthen(log, start, length)
        most.append(du(tmp_path))

    monkeypatch.setattr(store, "_lengthen", lengthened)
    store.sweep()
    assert max(most) <= lowered
    store.trash([piece_id(number) for number in range(9, 15)])
    time.now += TRASH_MS + 1
    store.sweep()
    assert len(most) > 1, "as soon as there is room, they are moved"
    assert max(most) <= lowered
    store.close()


def test_what_went_into_the_trash_while_the_clock_was_ahead_is_gone_seven_days_after_it_is_right(
    tmp_path: Path,
) -> None:
    time = Time()
    store = opened(tmp_path, time)
    put(store, 1, b"one")
    time.now += 365 * DAY_MS
    store.trash([piece_id(1)])
    time.now -= 365 * DAY_MS
    store.sweep()
    time.now += TRASH_MS - DAY_MS
    store.sweep()
    assert store.amounts().pieces == 1
    time.now += DAY_MS + 1
    store.sweep()
    assert store.amounts().pieces == 0
    store.close()


def test_an_index_that_cannot_be_written_lets_nothing_new_come(store: PieceStore) -> None:
    put(store, 1, b"one")
    store._index._db.execute("pragma query_only = true")
    with pytest.raises(Unavailable, match="readonly"):
        put(store, 2, b"two")
    assert "readonly" in store.failed
    with pytest.raises(Unavailable):
        store.receive(piece_id(3), 5)
    assert store.read(piece_id(1), 0, 3) == b"one"


def fill(store: PieceStore) -> None:
    for number in range(1000):
        put(store, number, b"more")


def test_an_index_without_room_is_a_full_disk_and_no_failing_one(store: PieceStore) -> None:
    (pages,) = store._index._db.execute("pragma page_count").fetchone()
    store._index._db.execute(f"pragma max_page_count = {pages}")
    used = store.used_bytes
    with pytest.raises(TooMuch) as refused:
        fill(store)
    assert refused.value.code == "storage.full"
    assert not store.failed
    assert store.used_bytes < used + (1 << 20)
    store._index._db.execute("pragma max_page_count = 1000000")
    put(store, 1000, b"more")
