"""The archive: whole objects under names, written once, read by anybody. Calls block; use them in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol


class Archived(NamedTuple):
    """An object that is there, with its size in bytes."""

    name: str
    size: int


class Archive(Protocol):
    """Names are parts of letters, digits, `_` and `.` with `/` between them; an object is there as a whole or not.

    Every call raises Unavailable (`archive.unavailable`) where the store does not answer.
    """

    def put(self, name: str, data: bytes | BinaryIO) -> None:
        """Store an object durably. One of this name that is there is replaced."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Store an object durably unless one of this name is there; whether it was stored."""
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Read an object from byte `start` on, up to `end` (not included), in pieces.

        Raises:
            NotFound: `archive.missing`.
        """
        ...

    def size(self, name: str) -> int:
        """Size of an object in bytes.

        Raises:
            NotFound: `archive.missing`.
        """
        ...

    def folders(self, prefix: str) -> list[str]:
        """What is next after `prefix` (`epochs/`) in names that go on after it (`epochs/7/manifest`: `7`)."""
        ...

    def names(self, prefix: str) -> Iterator[Archived]:
        """All objects below `prefix` (`epochs/7/`), in order of their names."""
        ...


def whole(archive: Archive, name: str, bytes_max: int) -> bytes:
    """Read a small object at once, at most `bytes_max` and one bytes of it.

    Raises:
        NotFound: `archive.missing`.
    """
    return b"".join(archive.read(name, 0, bytes_max + 1))
