"""An append-only file of entries, each with its length and checksum; durable before `append` returns."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from fallow.domain.errors import InvalidInput
from fallow.ports.files import sync

GUARDED_BYTES = 8
HEAD_BYTES = GUARDED_BYTES + 32
"""An entry's head: its length, a checksum of that alone (a damaged length is no short write), and its SHA-256."""


class BlockLog:
    """One writer; who opens it holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._end = 0
        if new:
            sync(path.parent)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def entries(self) -> Iterator[bytes]:
        """Read all entries. A last one that was not written to its end is cut off: it was never acknowledged.

        Raises:
            InvalidInput: an entry that is complete has another checksum.
        """
        size = os.fstat(self._handle).st_size
        while size - self._end >= HEAD_BYTES:
            head = os.pread(self._handle, HEAD_BYTES, self._end)
            length = int.from_bytes(head[:4])
            if not any(head) or (_guarded(length) == head[:GUARDED_BYTES] and length > size - self._end - HEAD_BYTES):
                break
            entry = os.pread(self._handle, length, self._end + HEAD_BYTES)
            if _head(entry) != head:
                raise InvalidInput(
                    "chain.log_damaged",
                    f"{self._path} is damaged from byte {self._end} on.",
                    "Restore it from a backup; nothing of it was changed.",
                )
            self._end += HEAD_BYTES + length
            yield entry
        if size > self._end:
            os.ftruncate(self._handle, self._end)
            os.fsync(self._handle)

    def append(self, entry: bytes) -> None:
        """Write an entry to the disk.

        Raises:
            OSError: it could not be written. What is there of it is cut off: a shorter one after it would not cover it.
        """
        framed = _head(entry) + entry
        written = 0
        try:
            while written < len(framed):
                written += os.pwrite(self._handle, framed[written:], self._end + written)
        except OSError:
            os.ftruncate(self._handle, self._end)
            raise
        os.fsync(self._handle)
        self._end += len(framed)


def _guarded(length: int) -> bytes:
    """Length and its checksum."""
    return length.to_bytes(4) + zlib.crc32(length.to_bytes(4)).to_bytes(4)


def _head(entry: bytes) -> bytes:
    return _guarded(len(entry)) + hashlib.sha256(entry).digest()
