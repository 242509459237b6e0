"""What an owner lends to storage, in his own words: `FOLDER:SIZE` or `FOLDER:SIZE:cached`. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput

SIZE_MIN_BYTES: Final = 64 << 20
CACHED: Final = "cached"
_UNITS: Final = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE: Final = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,3}))?\s?([MGT]i?B)")


class Lending(NamedTuple):
    """A folder (absolute), and how many bytes of its disk.

    `durable`: a piece is synced to the disk before its receipt is given; else the system has it, and syncs it soon.
    """

    folder: str
    size_bytes: int
    durable: bool = True


def read_lending(text: str) -> Lending:
    """Read `FOLDER:SIZE`, and `:cached` behind it.

    Raises:
        InvalidInput: it is nothing of that kind, or too little (`agent.lends`).
    """
    rest = text.removesuffix(f":{CACHED}")
    folder, _, size = rest.rpartition(":")
    if not folder.startswith("/") or not folder.isprintable():
        raise InvalidInput(
            "agent.lends", f"{text[:80]!r} names no folder from the root on.", "It looks like /srv/fallow:500GB."
        )
    return Lending(folder, _read_size(size), durable=rest == text)


def _read_size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidInput(
            "agent.lends", f"{text[:40]!r} is no size of a disk.", "It looks like 500GB, 1.5TB or 200MiB."
        )
    whole, part, unit = found[1], (found[2] or "").ljust(3, "0"), _UNITS[found[3]]
    size = int(whole) * unit + int(part) * unit // 1000
    if size < SIZE_MIN_BYTES:
        raise InvalidInput("agent.lends", f"{text} is too little.", f"Lend {SIZE_MIN_BYTES >> 20} MiB or more.")
    return size


def size_text(size_bytes: int) -> str:
    """Say how much that is: 1.5 GB."""
    for unit in ("TB", "GB", "MB"):
        if size_bytes >= _UNITS[unit]:
            return f"{size_bytes / _UNITS[unit]:.4g} {unit}"
    return f"{size_bytes / 1000:.4g} kB"
