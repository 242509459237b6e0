"""The outbox on disk: signed batches that wait until the network has promised to keep them. Blocking; see `outbox`.

One transaction makes the records, signs them and stores the exact bytes together with the next sequence number. So a
number is never signed twice: what was rolled back was never sent, and what was sent is on the disk.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from fallow.agent.identity import NodeKey
from fallow.agent.outbox_rows import Entry, Made, Openings, Refused, Waiting, made, renumbered, sealed_row, split
from fallow.domain.batches import Promise
from fallow.domain.errors import NotAllowed, NotFound, Unavailable
from fallow.domain.records import SALT_BYTES, make_record

PROMISES_MAX = 100_000
"""Promises that are kept, the oldest go first: about 30 MB."""

_TABLES = """
create table if not exists counter (boot integer primary key, next_seq integer not null) strict;
create table if not exists batch (
  boot integer not null, seq integer not null, count integer not null, root blob not null,
  data blob not null, openings blob not null, leases text not null, finals text not null,
  refused text not null default '', primary key (boot, seq)) strict;
create table if not exists promise (
  id integer primary key, boot integer not null, seq integer not null, data blob not null) strict;
"""


class OutboxStore:
    """The file at `path`, written by this boot of this node; `next_boot` counts another one, durably.

    Every method raises Unavailable with `agent.disk_full` when the disk is full and `agent.disk_failed` when it fails
    otherwise; what was being written then is not there at all.
    """

    def __init__(
        self,
        path: Path,
        *,
        net: str,
        key: NodeKey,
        boot: int,
        next_boot: Callable[[], int],
        new_salt: Callable[[], bytes] | None = None,
    ) -> None:
        self._net = net
        self._key = key
        self.boot = boot
        self._next_boot = next_boot
        self._new_salt = new_salt or (lambda: secrets.token_bytes(SALT_BYTES))
        with _translated():
            # One thread at a time uses it; which one does not matter.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file; it is complete at any time, closed or not."""
        self._db.close()

    def append(self, entries: Sequence[Entry]) -> int:
        """Make records of the entries and store them signed; returns how many batches that took.

        Raises:
            InvalidInput: a record would be larger than the network takes; nothing is stored.
        """
        with self._writing() as db:
            row = db.execute("select next_seq from counter where boot = ?", (self.boot,)).fetchone()
            first_seq = row[0] if row else 0
            records = [self._make(entry, first_seq + offset) for offset, entry in enumerate(entries)]
            return self._insert(db, records, first_seq)

    def oldest(self, limit: int) -> list[Waiting]:
        """Batches that wait, in the order in which they must be sent."""
        with _translated():
            rows = self._db.execute(
                "select boot, seq, count, root, data, openings, finals from batch where refused = ''"
                " order by boot, seq limit ?",
                (limit,),
            ).fetchall()
        return [
            Waiting(
                boot, seq, records, root, data, msgspec.msgpack.decode(openings, type=Openings), frozenset(f.split())
            )
            for boot, seq, records, root, data, openings, f in rows
        ]

    def count(self, *, before_boot: int = 1 << 62) -> int:
        """How many batches of boots before that one wait."""
        with _translated():
            query = "select count(*) from batch where refused = '' and boot < ?"
            return int(self._db.execute(query, (before_boot,)).fetchone()[0])

    def leases(self, *, finals: bool) -> set[str]:
        """Leases (hex) that waiting batches speak of; with `finals`, only those whose last receipt waits."""
        column = "finals" if finals else "leases"
        with _translated():
            rows = self._db.execute(f"select {column} from batch where refused = ''").fetchall()  # noqa: S608 - our own word
        return {lease for (text,) in rows for lease in text.split()}

    def promised(self, waiting: Waiting, promise: bytes, network_key: bytes) -> None:
        """Check the network's promise for a batch, keep it, and let the batch go.

        Raises:
            NotAllowed: the promise is not signed by the network, or is for something else (`outbox.promise`).
            InvalidInput: it is no promise.
            NotFound: no such batch waits.
        """
        said = Promise.open(promise, network_key)
        meant = (self._net, self._key.node, waiting.boot, waiting.seq, waiting.records, waiting.root)
        if (said.net, said.node, said.boot, said.seq, said.count, said.root) != meant:
            raise NotAllowed("outbox.promise", "The network promised something else than this batch.")
        with self._writing() as db:
            gone = db.execute(
                "delete from batch where boot = ? and seq = ? and refused = '' and root = ?",
                (waiting.boot, waiting.seq, waiting.root),
            )
            if gone.rowcount != 1:
                raise NotFound("outbox.no_batch", f"No batch {waiting.boot}/{waiting.seq} waits.")
            new = db.execute(
                "insert into promise (boot, seq, data) values (?, ?, ?)", (waiting.boot, waiting.seq, promise)
            )
            db.execute("delete from promise where id <= ?", ((new.lastrowid or 0) - PROMISES_MAX,))

    def set_aside(self, waiting: Waiting, reason: str) -> None:
        """Keep a batch that the network refuses for good, but do not send it any more.

        The network takes the numbers of a boot without gaps, so what waits behind it gets new ones; see `renumber`.
        """
        self._renumber(waiting, reason or "refused")

    def renumber(self, waiting: Waiting) -> None:
        """Give the records of this batch, and of all that wait behind it, numbers under a boot of their own.

        Only for the oldest batch, when the network refused its number: what is behind it was never sent to anybody.
        """
        self._renumber(waiting, "")

    def _renumber(self, first: Waiting, refused: str) -> None:
        boot = self._next_boot()
        rest = [one for one in self.oldest(-1) if (one.boot, one.seq) >= (first.boot, first.seq)]
        if refused:
            rest = rest[1:]
        with self._writing() as db:
            key = (first.boot, first.seq)
            if refused:
                db.execute("update batch set refused = ? where boot = ? and seq = ?", (refused, *key))
            db.execute("delete from batch where refused = '' and (boot, seq) >= (?, ?)", key)
            self._insert(db, renumbered(rest, self._net, boot), 0)
        self.boot = boot

    def refused(self) -> list[Refused]:
        """The batches that were set aside."""
        with _translated():
            rows = self._db.execute(
                "select boot, seq, count, refused from batch where refused != '' order by boot, seq"
            )
            return [Refused(*row) for row in rows.fetchall()]

    def promises(self) -> list[bytes]:
        """The promises that are kept, oldest first."""
        with _translated():
            return [data for (data,) in self._db.execute("select data from promise order by id").fetchall()]

    def _insert(self, db: sqlite3.Connection, records: Sequence[Made], first_seq: int) -> int:
        """Store records as batches, and the next number of their boot; returns how many batches."""
        parts = list(split(records))
        for part in parts:
            db.execute(
                "insert into batch (boot, seq, count, root, data, openings, leases, finals)"
                " values (?, ?, ?, ?, ?, ?, ?, ?)",
                sealed_row(part, self._net, self._key.sign),
            )
        for boot in {one.record.boot for one in records}:
            db.execute(
                "insert into counter values (?, ?) on conflict (boot) do update set next_seq = excluded.next_seq",
                (boot, first_seq + len(records)),
            )
        return len(parts)

    def _make(self, entry: Entry, seq: int) -> Made:
        record, openings = make_record(
            entry.body,
            net=self._net,
            node=self._key.node,
            boot=self.boot,
            seq=seq,
            at=entry.at,
            new_salt=self._new_salt,
        )
        return made(record, openings)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _translated():
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                # A full disk makes sqlite roll back by itself.
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise Unavailable(
                "agent.disk_full", "The disk is full, so that no record can be kept.", "Free some space."
            ) from error
        raise Unavailable("agent.disk_failed", f"The outbox cannot be used: {error}.") from error


def read_promises(path: Path) -> list[bytes]:
    """Read the promises in an outbox, oldest first, whether or not its agent runs.

    Raises:
        NotFound: there is no outbox (`agent.no_outbox`).
        Unavailable: it cannot be read.
    """
    if not path.exists():
        raise NotFound("agent.no_outbox", f"There is no outbox {path}.", "Has this machine worked for the network?")
    with _translated(), closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
        return [data for (data,) in db.execute("select data from promise order by id").fetchall()]
