"""Judges one epoch after the other as it is published, and signs those that are right. Its methods block.

It knows the network by its public key and its address, and nothing else of it: no database, no bus, no data folder.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fallow.domain.epochs.judging import Close, Judged, judge
from fallow.domain.epochs.manifest import MANIFEST, MANIFEST_BYTES_MAX, STATEMENT, FileName, Manifest, damaged
from fallow.domain.epochs.quorum import Domain, Root, Vote
from fallow.domain.epochs.reading import records_of_kind
from fallow.domain.epochs.statement import STATEMENT_BYTES_MAX, Statement
from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.domain.network_facts import SeedDrawn
from fallow.ports.published import Published
from fallow.services.validator.book import Book, Refusal
from fallow.services.validator.parts import Parts
from fallow.services.validator.sums import Sums

Cast = Callable[[Domain, Root], Vote]
"""Signs a root with the validator's key, which stays where it is."""

CHUNK_BYTES = 1 << 20
DAMAGED = "archive.damaged"
WRONG_SUM = "epoch.recount"


class Seen(NamedTuple):
    """What came of an epoch: a vote, or why there is none. Votes of who is not `listed` are nowhere counted."""

    epoch: int
    vote: Vote | None = None
    refusal: Refusal | None = None
    listed: bool = False


class Validator:
    """One validator of one network."""

    def __init__(
        self,
        *,
        network_key: bytes,
        cast: Cast,
        parts: Parts,
        sums: Sums,
        published: Published,
        book: Book,
        folder: Path,
        close: Close,
    ) -> None:
        self._key = network_key
        self._cast = cast
        self._parts = parts
        self._sums = sums
        self._published = published
        self._book = book
        self._folder = folder
        self._close = close
        # what one draw has shown no other one takes back: the next would look at other nodes
        self._refused = {one.statement for one in book.refusals() if one.code == WRONG_SUM}

    def look(self) -> Iterator[Seen]:
        """Add to the seeds, then judge what is closed and was not judged yet.

        Ends at the first epoch that is refused, or not closed.

        Raises:
            Unavailable: the network cannot be reached; what was judged is kept.
        """
        self._parts.take_turn()
        while (seen := self._next()) is not None:
            yield seen
            if seen.refusal is not None:
                return

    def _next(self) -> Seen | None:
        """Judge one epoch; None where there is none, or nothing new is to be said of it."""
        before = self._book.before
        epoch = before.statement.epoch + 1 if before else self._published.first()
        if epoch is None:
            return None
        try:
            sealed = self._whole(epoch, STATEMENT, STATEMENT_BYTES_MAX)
        except NotFound:
            return None
        statement = hashlib.sha256(sealed).hexdigest()
        if statement in self._refused:
            return None
        try:
            return self._judge(epoch, sealed)
        except Unavailable:
            raise
        except FallowError as error:
            return self._refuse(Refusal(epoch=epoch, code=error.code, message=error.message, statement=statement))

    def _refuse(self, refusal: Refusal) -> Seen | None:
        """Keep a refusal. Files that are damaged are fetched again the next time; the rest is not judged twice."""
        if refusal.code != DAMAGED:
            self._refused.add(refusal.statement)
        return Seen(refusal.epoch, refusal=refusal) if self._book.refuse(refusal) else None

    def _judge(self, epoch: int, sealed: bytes) -> Seen:
        """Fetch an epoch, compute it again, sign it, hand the vote in. Its files stay where that fails."""
        statement = Statement.open(sealed, self._key)
        manifest = self._fetch(epoch, statement)

        def read(name: FileName) -> Iterator[bytes]:
            return _chunks(self._path(epoch, name))

        judged = judge(sealed, self._book.before, read, self._key, self._close)
        self._parts.check(statement.net, records_of_kind(manifest, read, SeedDrawn.kind))
        self._sums.check(statement, manifest, read, self._book.before)
        vote = self._sign(judged)
        listed = vote.signer in judged.after.statement.validators
        if listed:
            self._published.vote(epoch, vote.encode())
        self._book.keep(judged.after)
        shutil.rmtree(self._path(epoch))
        return Seen(epoch, vote, listed=listed)

    def _sign(self, judged: Judged) -> Vote:
        self._book.pin(judged.domain)
        return self._book.sign_once(self._cast(judged.domain, judged.root))

    def _fetch(self, epoch: int, statement: Statement) -> Manifest:
        shutil.rmtree(self._path(epoch), ignore_errors=True)
        with _needed(MANIFEST):
            raw = self._whole(epoch, MANIFEST, MANIFEST_BYTES_MAX)
        self._save(epoch, MANIFEST, len(raw), iter([raw]))
        manifest = statement.check_manifest(raw)
        for file in manifest.files:
            with _needed(file.name):
                self._save(epoch, file.name, file.size, self._published.read(epoch, file.name))
        return manifest

    def _save(self, epoch: int, name: FileName, size: int, chunks: Iterator[bytes]) -> None:
        """Write a file; one that is longer than it may be is cut, and found to be damaged when it is read."""
        path = self._path(epoch, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                if file.tell() > size:
                    return

    def _whole(self, epoch: int, name: FileName, bytes_max: int) -> bytes:
        data = bytearray()
        for chunk in self._published.read(epoch, name):
            data += chunk
            if len(data) > bytes_max:
                raise damaged(name, f"It has more than {bytes_max} bytes.")
        return bytes(data)

    def _path(self, epoch: int, name: FileName = "") -> Path:
        return self._folder / str(epoch) / name


@contextmanager
def _needed(name: FileName) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise damaged(name, "It is not there.") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK_BYTES), b"")
