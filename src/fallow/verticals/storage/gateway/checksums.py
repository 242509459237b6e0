"""Checksums of content, as S3 knows them: CRCs by ISA-L and zlib, and SHA. Values are base64."""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple, Protocol

from fallow.verticals.storage.coding.isal import load
from fallow.verticals.storage.gateway.errors import S3Error

ALGORITHMS: Final = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
HEADER: Final = "x-amz-checksum-"
COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"
_ALL_32: Final = 0xFFFFFFFF


class _Crc(NamedTuple):
    """A CRC, reflected: its polynomial, and a function that goes on from a value."""

    bits: int
    polynomial: int
    update: Callable[[bytes, int], int]


class Hasher(Protocol):
    """What takes bytes and knows their digest; hashlib's are such."""

    def update(self, data: bytes, /) -> None:
        """Take bytes."""
        ...

    def digest(self) -> bytes:
        """The digest of all bytes so far."""
        ...


class CrcHasher:
    """A CRC in hashlib's manner; it lets other threads run while it works."""

    def __init__(self, crc: _Crc) -> None:
        self._crc = crc
        self._value = 0

    def update(self, data: bytes) -> None:
        """Take bytes."""
        self._value = self._crc.update(data, self._value)

    def digest(self) -> bytes:
        """The CRC, big-endian."""
        return self._value.to_bytes(self._crc.bits // 8)


def hasher(algorithm: str) -> Hasher:
    """Begin a checksum; `algorithm` is one of `ALGORITHMS`."""
    if algorithm in {"sha1", "sha256"}:
        return hashlib.new(algorithm, usedforsecurity=False)
    return CrcHasher(_crcs()[algorithm])


def written(digest: bytes) -> str:
    """A digest as headers have it."""
    return base64.b64encode(digest).decode()


def sent_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums that headers hold, by algorithm.

    Raises:
        S3Error: BadDigest: malformed. InvalidRequest: of an unknown algorithm, or several of them.
    """
    sent = {}
    for name, value in headers.items():
        algorithm = name.removeprefix(HEADER)
        if not name.startswith(HEADER) or algorithm in {"type", "mode", "algorithm"}:
            continue
        if algorithm not in ALGORITHMS:
            raise S3Error("InvalidRequest", f"{name} is of an algorithm that is not known here.")
        sent[algorithm] = value
    if len(sent) > 1:
        raise S3Error("InvalidRequest", "There is at most one checksum.")
    for algorithm, value in sent.items():
        if len(_plain(value.split("-", maxsplit=1)[0])) != len(hasher(algorithm).digest()):
            raise S3Error("BadDigest", f"The value of {HEADER}{algorithm} is no such checksum.")
    return sent


def named_algorithm(name: str) -> str:
    """Read an algorithm's name as headers have it; "" stays "".

    Raises:
        S3Error: InvalidRequest.
    """
    if name and name.lower() not in ALGORITHMS:
        raise S3Error("InvalidRequest", f"The checksum algorithm {name} is not known here.")
    return name.lower()


def md5_of(header: str) -> bytes:
    """Read a Content-MD5.

    Raises:
        S3Error: InvalidDigest.
    """
    digest = _plain(header)
    if len(digest) != 16:  # noqa: PLR2004 - an MD5's length
        raise S3Error("InvalidDigest")
    return digest


def joined(values: Iterable[str]) -> bytes:
    """The digests of parts, one behind the other."""
    return b"".join(_plain(value) for value in values)


def composite(algorithm: str, digests: bytes, parts: int) -> str:
    """The checksum of so many parts' checksums."""
    whole = hasher(algorithm)
    whole.update(digests)
    return f"{written(whole.digest())}-{parts}"


def combined(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """The CRC of the whole from those of its parts, each with its size. Slow: milliseconds for each size anew."""
    crc = _crcs()[algorithm]
    value = 0
    for text, size in parts:
        value = _moved(crc.bits, crc.polynomial, size)(value) ^ int.from_bytes(_plain(text))
    return written(value.to_bytes(crc.bits // 8))


def _plain(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


@cache
def _crcs() -> dict[str, _Crc]:
    isal = load()
    c, nvme = isal.crc32_iscsi, isal.crc64_rocksoft_refl
    c.restype, c.argtypes = ctypes.c_uint, (ctypes.c_char_p, ctypes.c_int, ctypes.c_uint)
    nvme.restype, nvme.argtypes = ctypes.c_uint64, (ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64)
    return {
        "crc32": _Crc(32, 0xEDB88320, zlib.crc32),
        "crc32c": _Crc(32, 0x82F63B78, lambda data, value: int(c(data, len(data), value ^ _ALL_32)) ^ _ALL_32),
        "crc64nvme": _Crc(64, 0x9A6C9329AC4BC9B5, lambda data, value: int(nvme(value, data, len(data)))),
    }


@lru_cache(maxsize=64)
def _moved(bits: int, polynomial: int, size: int) -> Callable[[int], int]:
    """What `size` zero bytes behind it make of a CRC: a matrix over GF(2), by squaring that of one bit."""
    matrix = [polynomial] + [1 << bit for bit in range(bits - 1)]
    result = [1 << bit for bit in range(bits)]
    left = size * 8
    while left:
        if left & 1:
            result = [_times(matrix, row) for row in result]
        matrix = [_times(matrix, row) for row in matrix]
        left >>= 1
    return lambda value: _times(result, value)


def _times(matrix: Sequence[int], vector: int) -> int:
    product, row = 0, 0
    while vector:
        if vector & 1:
            product ^= matrix[row]
        vector >>= 1
        row += 1
    return product
