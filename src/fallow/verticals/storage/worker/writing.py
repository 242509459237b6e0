"""A piece that comes in."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from blake3 import blake3

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.verticals.storage.worker.index import Row


class Keeper(Protocol):
    """Who set the place aside."""

    def done(self, row: Row, *, kept: bool) -> None:
        """The upload is over."""
        ...

    def broke(self, error: OSError) -> Unavailable:
        """The disk made an error."""
        ...


class Incoming:
    """Bytes of one piece, in their order. Left without `commit`, nothing of it is there."""

    def __init__(self, keeper: Keeper, path: Path, row: Row, *, durable: bool) -> None:
        self._keeper = keeper
        self._row = row
        self._durable = durable
        self._hash = blake3()
        self._written = 0
        self._open = True
        self._handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the place back, unless the piece was committed."""
        self._end(kept=False)

    def write(self, data: bytes | memoryview) -> None:
        """Take more of its bytes.

        Raises:
            InvalidInput: `storage.piece_length`: these are more than were announced.
            Unavailable: `storage.disk_failing`.
        """
        if self._written + len(data) > self._row.length:
            raise InvalidInput(
                "storage.piece_length", f"The piece has more than the {self._row.length} bytes announced."
            )
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._handle, view, self._row.start + self._written)
                self._hash.update(view[:written])
                self._written += written
                view = view[written:]
        except OSError as error:
            raise self._keeper.broke(error) from error

    def commit(self, expected: bytes, claim: bytes = b"") -> None:
        """Make the piece be there. `expected` is its BLAKE3, by its sender's word; `claim` is that word, signed.

        Raises:
            InvalidInput: bytes are missing (`storage.piece_length`), or are others (`storage.piece_hash`).
            Unavailable: `storage.disk_failing`.
        """
        if self._written != self._row.length:
            raise InvalidInput(
                "storage.piece_length", f"{self._written} of {self._row.length} bytes of the piece came."
            )
        if self._hash.digest() != expected:
            raise InvalidInput("storage.piece_hash", "These bytes are not those that their sender has hashed.")
        if self._durable:
            try:
                os.fdatasync(self._handle)
            except OSError as error:
                raise self._keeper.broke(error) from error
        self._row = self._row._replace(hash=expected, claim=claim)
        self._end(kept=True)

    def _end(self, *, kept: bool) -> None:
        if self._open:
            self._open = False
            os.close(self._handle)
            self._keeper.done(self._row, kept=kept)


def failing(why: str) -> Unavailable:
    """Say that the disk makes errors."""
    return Unavailable("storage.disk_failing", f"The node's disk fails: {why}.", "Take another node.")
