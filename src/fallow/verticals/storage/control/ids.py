"""Ids of versions: 16 bytes that ascend, with the time of the version in them. Pure.

Six bytes of milliseconds since 1970, two that count, eight drawn at random. Of one name each later version's first
eight bytes are greater, even where a clock went back.
"""

from __future__ import annotations

from typing import Final

VERSION_BYTES: Final = 16
RANDOM_BYTES: Final = 8
_STAMP_BYTES: Final = 8
_COUNT_BITS: Final = 16


def next_version(latest: bytes, now_ms: int, drawn: bytes) -> bytes:
    """The id of a version that follows `latest` (empty: there is none). `drawn` are `RANDOM_BYTES`."""
    stamp = max(now_ms << _COUNT_BITS, int.from_bytes(latest[:_STAMP_BYTES]) + 1)
    return stamp.to_bytes(_STAMP_BYTES) + drawn


def made_ms(version: bytes) -> int:
    """When a version was made."""
    return int.from_bytes(version[:_STAMP_BYTES]) >> _COUNT_BITS
