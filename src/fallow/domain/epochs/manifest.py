"""What files an epoch has in the archive, and how one is cut into frames.

    epochs/<n>/batches           a frame for each batch, as ingest took them: [node, boot, seq, records, sig, promise]
    epochs/<n>/records/<kind>    a frame for each batch that has such records: [batch, [place, ...], [record, ...]]
    epochs/<n>/manifest          what is above, with sizes, hashes and counts
    epochs/<n>/statement         what the network says of the epoch, signed; the manifest's hash is in it

A frame is four bytes of length (most significant first) and as many bytes of deterministic CBOR. `batch` counts the
batches of the epoch from 0, `place` the records of a batch. `record`, `sig` and `promise` are the exact bytes that were
hashed, signed and sealed. Kinds of a vertical begin with its name and a dot; kinds that the closer does not know share
one file, so that no sender decides how many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fallow.domain.batches import BATCH_BYTES_MAX
from fallow.domain.encoding import Value, decode, encode
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.records import Count, convert, to_builtins

BATCHES = "batches"
RECORDS = "records/"
OTHER = "other"
MANIFEST = "manifest"
STATEMENT = "statement"

FILES_MAX = 1000
MANIFEST_BYTES_MAX = 1 << 20
FRAME_BYTES_MAX = BATCH_BYTES_MAX + (64 << 10)
_LENGTH_BYTES = 4

FileName = Annotated[str, Meta(max_length=100, pattern=r"^[a-z0-9_]+([./][a-z0-9_]+)*$(?!\n)")]
"""A name within an epoch. It leads nowhere else: no part of it is empty or made of dots."""


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of an epoch: bytes, SHA-256 over them, and how many batches or records there are in it."""

    name: FileName
    size: Count
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    count: Count


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that came in during an epoch."""

    net: str
    epoch: Count
    files: Annotated[list[File], Meta(min_length=1, max_length=FILES_MAX)]
    format: Literal["fallow/archive/1"] = "fallow/archive/1"

    def encode(self) -> bytes:
        """Return the bytes of the file `manifest`."""
        return encode(to_builtins(self))

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read the file.

        Raises:
            InvalidInput: malformed, or not in the one form that names its files in order and each once.
        """
        if len(data) > MANIFEST_BYTES_MAX:
            raise InvalidInput("archive.manifest", f"A manifest has at most {MANIFEST_BYTES_MAX} bytes.")
        manifest = convert(decode(data), cls, "archive.manifest")
        names = [file.name for file in manifest.files]
        if names != sorted(set(names)) or BATCHES not in names:
            raise InvalidInput("archive.manifest", "A manifest names the batches and each file once, in order.")
        return manifest

    def file(self, name: str) -> File:
        """Find a file.

        Raises:
            InvalidInput: the epoch has none of this name.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise InvalidInput("archive.manifest", f"Epoch {self.epoch} has no file {name!r}.")

    @property
    def record_files(self) -> list[File]:
        """Those that hold records."""
        return [file for file in self.files if file.name.startswith(RECORDS)]


def path_of(epoch: int, name: str) -> str:
    """Where a file of an epoch lies in the archive."""
    return f"epochs/{epoch}/{name}"


def frame(value: Value) -> bytes:
    """Write one frame."""
    data = encode(value)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def read_frames(file: File, chunks: Iterable[bytes]) -> Iterator[Value]:
    """Read a file's frames while it is hashed; that it is the file meant is only known once all of it was read.

    Raises:
        InvalidInput: `archive.damaged`: it is not the file that the manifest names. At the latest at the end.
    """
    try:
        yield from _frames(file, chunks)
    except FallowError as error:
        if error.code.startswith("encoding."):
            raise damaged(file.name, error.message) from error
        raise


def checked(file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass a file on while it is hashed.

    Raises:
        InvalidInput: `archive.damaged`, at the latest at the end.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > file.size:
            break
        yield chunk
    if size != file.size:
        raise damaged(file.name, f"It does not have the {file.size} bytes that the manifest says.")
    if digest.digest() != file.sha256:
        raise damaged(file.name, "Its bytes have another hash than the manifest says.")


def damaged(name: str, why: str) -> InvalidInput:
    """Make the error for a file that is not what it should be."""
    return InvalidInput("archive.damaged", f"The file {name} is damaged. {why}", "Fetch it again, or from elsewhere.")


def _frames(file: File, chunks: Iterable[bytes]) -> Iterator[Value]:
    waiting = bytearray()
    for chunk in checked(file, chunks):
        waiting += chunk
        start = 0
        while (end := _end(file, waiting, start)) <= len(waiting):
            yield decode(bytes(waiting[start + _LENGTH_BYTES : end]))
            start = end
        del waiting[:start]
    if waiting:
        raise damaged(file.name, "Its last frame is cut off.")


def _end(file: File, waiting: bytearray, start: int) -> int:
    """Where the frame at `start` ends; beyond `waiting` while it is not there as a whole."""
    body = start + _LENGTH_BYTES
    if len(waiting) < body:
        return body
    length = int.from_bytes(waiting[start:body], "big")
    if length > FRAME_BYTES_MAX:
        raise damaged(file.name, f"A frame has at most {FRAME_BYTES_MAX} bytes.")
    return body + length
