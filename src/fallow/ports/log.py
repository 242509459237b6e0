"""An append-only log of entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Log(Protocol):
    """One writer reads it once from its beginning, then appends."""

    def entries(self) -> Iterator[bytes]:
        """Read all entries.

        Raises:
            InvalidInput: one is damaged.
        """
        ...

    def append(self, entry: bytes) -> None:
        """Write an entry; it is durable when this returns. May block.

        Raises:
            OSError: it could not be written.
        """
        ...
