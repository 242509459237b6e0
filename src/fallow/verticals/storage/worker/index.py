"""Where each piece lies: rows of SQLite. Blocking, and one thread at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from fallow.domain.errors import TooMuch, Unavailable

FILES: Final = ("index", "index-wal", "index-shm")
LOGS: Final = "[0-9]" * 8 + ".log"
"""Names of log files: other files in the folder, whatever they are called, are counted and left alone."""
SECTOR_BYTES: Final = 512
"""In which a file's `st_blocks` counts."""
PAGE_BYTES: Final = 4096
PAGES_A_ROW: Final = 4
"""So many pages a change of one piece writes at most."""
WAL_BYTES_MAX: Final = 8 << 20

_TABLES = """
create table if not exists piece (
  id blob primary key, log integer not null, start integer not null, length integer not null, hash blob not null,
  stored_ms integer not null, trashed_ms integer, claim blob not null) strict, without rowid;
create index if not exists piece_place on piece (log, start, length);
create index if not exists piece_trashed on piece (trashed_ms, length) where trashed_ms is not null;
drop index if exists piece_log;
drop index if exists piece_trash;
"""
_TOTALS = """
pragma temp_store = memory;
create temp table total as
  select count(*) as pieces, coalesce(sum(length) filter (where trashed_ms is not null), 0) as trash from piece;
create temp trigger piece_came after insert on main.piece begin
  update total set pieces = pieces + 1, trash = trash + iif(new.trashed_ms is null, 0, new.length);
end;
create temp trigger piece_went after delete on main.piece begin
  update total set pieces = pieces - 1, trash = trash - iif(old.trashed_ms is null, 0, old.length);
end;
create temp trigger piece_turned after update of trashed_ms on main.piece begin
  update total
  set trash = trash + iif(new.trashed_ms is null, 0, new.length) - iif(old.trashed_ms is null, 0, old.length);
end;
"""
"""Kept up by each change, in memory: the network is told of them every few seconds, and ten million pieces take a
second to be gone through."""
_COLUMNS = "id, log, start, length, hash, stored_ms, trashed_ms, claim"


class Row(NamedTuple):
    """A piece: `length` bytes from `start` on of log file `log`, its BLAKE3, and since when it is in the trash.

    `claim` is what its sender signed of it.
    """

    id: bytes
    log: int
    start: int
    length: int
    hash: bytes
    stored_ms: int
    trashed_ms: int | None = None
    claim: bytes = b""


class Log(NamedTuple):
    """A log file by what is known of its pieces: bytes that are theirs, and where the last one ends."""

    live: int
    end: int


class Index:
    """The file `index` of a folder. `durable`: what a method wrote is on the disk when it returns; see `move`.

    What is changed is written twice, first to `index-wal`, which is kept below `wal_bytes`: so much is written at once
    that half of it is never passed by more than the other half. Where that fails, every method raises Unavailable
    (`storage.disk_failing`, `storage.busy`: another program reads or writes it) or TooMuch (`storage.full`).
    """

    def __init__(self, folder: Path, *, durable: bool = True, wal_bytes: int = WAL_BYTES_MAX) -> None:
        self._file, self._wal, _ = (folder / name for name in FILES)
        self._durable = durable
        self._wal_bytes = wal_bytes
        pages = wal_bytes // 2 // PAGE_BYTES
        self._at_once = pages // PAGES_A_ROW
        with _translated():
            self._db = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute(f"pragma wal_autocheckpoint = {pages}")
            self._sync(every=durable)
            self._db.executescript(_TABLES + _TOTALS)

    def close(self) -> None:
        """Close the file; it is whole at any time."""
        self._db.close()

    @property
    def spare_bytes(self) -> int:
        """How much more of the disk it may take although no piece is added: pieces that go are noted, too."""
        return allocated(self._file) // 4 + max(0, self._wal_bytes - allocated(self._wal))

    def find(self, piece: bytes) -> Row | None:
        """Look a piece up, in the trash or not."""
        rows = list(self._rows("where id = ?", piece))
        return rows[0] if rows else None

    def of_log(self, log: int) -> list[Row]:
        """All pieces of a log file, in their order there."""
        return list(self._rows("where log = ? order by start", log))

    def logs(self) -> dict[int, Log]:
        """All log files that hold a piece."""
        with _translated():
            query = "select log, sum(length), max(start + length) from piece group by log"
            return {log: Log(live, end) for log, live, end in self._db.execute(query)}

    def totals(self) -> tuple[int, int]:
        """How many pieces there are, and how many bytes of them are in the trash."""
        with _translated():
            [[pieces, trash]] = self._db.execute("select pieces, trash from total")
        return pieces, trash

    def page(self, after: bytes, limit: int) -> list[Row]:
        """Pieces in the order of their ids, for whoever goes over all of them."""
        return list(self._rows("where id > ? order by id limit ?", after, limit))

    def put(self, rows: Iterable[Row]) -> None:
        """Add pieces."""
        with _translated(), self._db:
            self._db.execute("begin immediate")
            self._db.executemany("insert into piece values (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def move(self, rows: Iterable[Row], source: int) -> None:
        """Say where pieces lie now that lay in log file `source`; those that are gone meanwhile stay gone.

        It is on the disk when this returns: `source` is removed then, and old pieces must not go with a power failure.
        """
        with _translated(), self._synced(), self._db:
            self._db.execute("begin immediate")
            self._db.executemany(
                "update piece set log = ?, start = ? where id = ? and log = ?",
                [(row.log, row.start, row.id, source) for row in rows],
            )

    def drop(self, pieces: Iterable[bytes]) -> None:
        """Forget pieces."""
        self._change("delete from piece where id = ?", [(piece,) for piece in pieces])

    def trash(self, pieces: Iterable[bytes], at_ms: int | None) -> None:
        """Put pieces into the trash, those that are there already excepted, or with None take them out."""
        self._change(
            "update piece set trashed_ms = ?1 where id = ?2 and (?1 is null or trashed_ms is null)",
            [(at_ms, piece) for piece in pieces],
        )

    def trashed_by(self, now_ms: int) -> None:
        """Have nothing be in the trash from later on than now, as where the clock was wrong: it would stay for ever."""
        query = "update piece set trashed_ms = ?1 where trashed_ms > ?1"
        with _translated(), self._db:
            self._db.execute(query, (now_ms,))

    def drop_trash(self, before_ms: int) -> bool:
        """Forget some of what is in the trash since before then; whether there may be more of it."""
        query = "delete from piece where id in (select id from piece where trashed_ms < ? limit ?)"
        with _translated(), self._db:
            return self._db.execute(query, (before_ms, self._at_once)).rowcount == self._at_once

    def _change(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Change pieces, some at a time."""
        for at in range(0, len(rows), self._at_once):
            with _translated(), self._db:
                self._db.execute("begin immediate")
                self._db.executemany(query, rows[at : at + self._at_once])

    def _sync(self, *, every: bool) -> None:
        self._db.execute(f"pragma synchronous = {'full' if every else 'normal'}")

    @contextmanager
    def _synced(self) -> Iterator[None]:
        self._sync(every=True)
        try:
            yield
        finally:
            self._sync(every=self._durable)

    def _rows(self, where: str, *arguments: object) -> Iterator[Row]:
        with _translated():
            for row in self._db.execute(f"select {_COLUMNS} from piece {where}", arguments):  # noqa: S608 - our words
                yield Row(*row)


def allocated(path: Path) -> int:
    """Bytes of the disk that a file takes; 0 where it is not there."""
    with suppress(FileNotFoundError):
        return path.lstat().st_blocks * SECTOR_BYTES
    return 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # what stands above says more of the same
        if code == sqlite3.SQLITE_FULL:
            raise TooMuch("storage.full", "The node's disk is full.", "Take another node.") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Unavailable("storage.busy", f"Another program uses the index of the pieces: {error}.") from error
        raise Unavailable("storage.disk_failing", f"The index of the pieces cannot be used: {error}.") from error
