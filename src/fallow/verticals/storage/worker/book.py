"""Which order limits were used, and the largest order under each until the network has it. Blocking; for threads.

Serials are written when they are first shown and orders a few at a time, without a sync: a kill loses the orders of the
last second of streams that were still moving, a power failure what the system had not written, some seconds. So much,
and no more, is then served for nothing, or can be asked for twice.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from fallow.domain.errors import Conflict, Unavailable
from fallow.verticals.storage.core.orders import OrderLimit

FILE: Final = "orders"
PAIRS_MAX: Final = 20
PAIRS_BYTES_MAX: Final = 14 << 10
"""So that a record with them stays below `RECORD_BYTES_MAX`."""

BEYOND: Final = b"beyond"
"""Marks, behind a limit's serial, the row of an order beyond it."""

_TABLES = """
create table if not exists used (
  serial blob primary key, expires_ms integer not null, open integer not null, sealed_limit blob, sealed_order blob
) strict, without rowid;
create index if not exists used_due on used (serial) where open = 0 and sealed_order is not null;
create index if not exists used_expiry on used (expires_ms);
"""


class Pair(NamedTuple):
    """A sealed limit, and the sealed order under it that says most."""

    serial: bytes
    limit: bytes
    order: bytes


class Book:
    """The file `orders` in the folder `kept`. Every method raises Unavailable (`storage.orders`) where that fails."""

    def __init__(self, kept: Path) -> None:
        self._lock = threading.Lock()
        self._noting = threading.Lock()
        self._fresh: dict[bytes, bytes] = {}
        self._over: set[bytes] = set()
        with _translated():
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(kept / FILE, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(_TABLES)
            self._db.execute("update used set open = 0 where open = 1")

    def close(self) -> None:
        """Write what is left, and close the file."""
        self.flush()
        self._db.close()

    def begin(self, limit: OrderLimit, sealed: bytes) -> None:
        """Take note that a limit is used now.

        Raises:
            Conflict: it was used before (`storage.serial_used`).
        """
        with self._lock, _translated():
            try:
                row = (limit.serial, limit.expires_ms, sealed)
                self._db.execute("insert into used values (?, ?, 1, ?, null)", row)
            except sqlite3.IntegrityError:
                raise Conflict(
                    "storage.serial_used", "That order limit was used before.", "Ask the network for a new one."
                ) from None

    def note(self, serial: bytes, order: bytes) -> None:
        """Take note of an order that says more than the one before; it is written with the next ones, not here."""
        with self._noting:
            self._fresh[serial] = order

    def flush(self) -> None:
        """Write what was noted; where that fails, it is written with the next."""
        with self._lock:
            with self._noting:
                fresh, over = dict(self._fresh), list(self._over)
            with self._writing():
                self._write(fresh, over)
            with self._noting:
                self._over.difference_update(over)
                for serial, order in fresh.items():
                    if self._fresh[serial] is order:  # else a later one came meanwhile
                        del self._fresh[serial]

    def end(self, serial: bytes) -> None:
        """Take note that nothing further comes under a limit: where there is an order, it can be handed in."""
        with self._noting:
            self._over.add(serial)
        self.flush()

    def accuse(self, limit: OrderLimit, sealed: bytes, order: bytes) -> None:
        """Keep an order beyond a limit, to be handed in beside the last good one: it pays nothing, and shows a lie."""
        with self._lock, _translated():
            row = (limit.serial + BEYOND, limit.expires_ms, sealed, order)
            self._db.execute("insert or ignore into used values (?, ?, 0, ?, ?)", row)

    def due(self) -> list[Pair]:
        """What can be handed in now, as much as one record holds."""
        with self._lock, _translated():
            rows = self._db.execute(
                "select serial, sealed_limit, sealed_order from used "
                "where open = 0 and sealed_order is not null limit ?",
                (PAIRS_MAX,),
            ).fetchall()
        pairs, size = [Pair(*row) for row in rows], 0
        for number, pair in enumerate(pairs):
            size += len(pair.limit) + len(pair.order)
            if size > PAIRS_BYTES_MAX:
                return pairs[:number]
        return pairs

    def waiting(self) -> int:
        """How many limits wait to be handed in."""
        with self._lock, _translated():
            [[count]] = self._db.execute("select count(*) from used where open = 0 and sealed_order is not null")
        return int(count)

    def handed_in(self, pairs: Iterable[Pair], now_ms: int) -> None:
        """Drop what the network will get; serials stay until their limits have expired."""
        with self._lock, self._writing():
            self._db.executemany(
                "update used set sealed_limit = null, sealed_order = null where serial = ?",
                [(pair.serial,) for pair in pairs],
            )
            self._db.execute("delete from used where expires_ms <= ? and open = 0 and sealed_order is null", (now_ms,))

    def _write(self, fresh: dict[bytes, bytes], over: list[bytes]) -> None:
        self._db.executemany(
            "update used set sealed_order = ? where serial = ?", [(order, serial) for serial, order in fresh.items()]
        )
        self._db.executemany(
            "update used set open = 0, sealed_limit = iif(sealed_order is null, null, sealed_limit) where serial = ?",
            [(serial,) for serial in over],
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _translated(), self._db:
            self._db.execute("begin immediate")
            yield


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable("storage.orders", f"Orders cannot be kept: {error}.", "Take another node.") from error
