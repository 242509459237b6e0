"""A piece that goes out, wherever it lies meanwhile."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Protocol, Self

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.worker.index import Row


class Finder(Protocol):
    """Who knows where pieces lie."""

    def find(self, piece: bytes) -> Row:
        """Where a piece lies now."""
        ...

    def opened(self, piece: bytes) -> tuple[Row, int]:
        """The same, and a handle of the log file that it lies in."""
        ...

    def broke(self, error: OSError) -> Unavailable:
        """The disk made an error."""
        ...


class Outgoing:
    """Bytes of one piece. It is looked up behind each read, since it may be moved, or purged, at any time.

    Raises:
        NotFound: `storage.no_piece`: it is not here, or is in the trash; so does `read`.
        Unavailable: `storage.disk_failing`; so does `read`.
    """

    def __init__(self, finder: Finder, piece: bytes) -> None:
        self._finder = finder
        self._row, self._handle = finder.opened(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` up to `stop`; up to its end where it is shorter."""
        while True:
            found = self._read(start, stop)
            if self._finder.find(self._row.id) == self._row:
                return found
            # It was moved meanwhile, or purged and brought anew: what was read may be what purging wrote over it.
            self.close()
            self._row, self._handle = self._finder.opened(self._row.id)

    def _read(self, start: int, stop: int) -> bytes:
        row = self._row
        wanted = min(stop, row.length) - min(start, row.length)
        try:
            found = os.pread(self._handle, wanted, row.start + start)
        except OSError as error:
            raise self._finder.broke(error) from error
        if len(found) < wanted:
            raise self._finder.broke(OSError(errno.EIO, "a log file is shorter than its pieces"))
        return found
