"""Rows of versions, and what they are for those who asked."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.ports.database import Row
from fallow.verticals.storage.control import ids
from fallow.verticals.storage.core.calls.base import Retention
from fallow.verticals.storage.core.calls.objects import Version

COLUMNS: Final = (
    "bucket_id", "size", "until_ms", "retention", "is_null", "marker", "hold", "name", "version", "stream", "etag",
    "key", "slashes", "parts", "head", "tags", "inline",
)  # fmt: skip
RETENTIONS: Final[tuple[Retention, ...]] = ("", "governance", "compliance")
_PARTS: Final = msgspec.msgpack.Decoder(list[tuple[int, int]])


class Kept(NamedTuple):
    """How long a version is kept whatever its owner says."""

    retention: Retention
    until_ms: int
    hold: bool

    def binds(self, now_ms: int, *, bypass: bool) -> bool:
        """Whether it may not be deleted now."""
        return self.hold or (self.is_retained(now_ms) and not (bypass and self.retention == "governance"))

    def is_retained(self, now_ms: int) -> bool:
        """Whether its time has not come."""
        return self.retention != "" and now_ms < self.until_ms


def kept(row: Row) -> Kept:
    """What a row says about that."""
    return Kept(RETENTIONS[row["retention"]], row["until_ms"], row["hold"])


def version_of(row: Row, *, latest: bool) -> Version:
    """What a whole row says."""
    return Version(
        name=row["name"],
        version=row["version"],
        null=row["is_null"],
        marker=row["marker"],
        latest=latest,
        size=row["size"],
        made_ms=ids.made_ms(row["version"]),
        etag=row["etag"].decode(),
        head=row["head"],
        tags=row["tags"],
        stream=row["stream"] or b"",
        inline=row["inline"],
        key=row["key"],
        parts=read_parts(row["parts"]),
        retention=RETENTIONS[row["retention"]],
        until_ms=row["until_ms"],
        hold=row["hold"],
    )


def read_parts(data: bytes | None) -> list[tuple[int, int]]:
    """Parts as they are kept: numbers and bytes."""
    return _PARTS.decode(data) if data is not None else []


def checked_slashes(name: bytes, slashes: list[int]) -> list[int] | None:
    """Slashes as they are kept.

    Raises:
        InvalidInput: `storage.slashes`: they do not ascend within the name.
    """
    if not slashes:
        return None
    if any(before >= after for before, after in pairwise([0, *slashes])) or slashes[-1] > len(name):
        raise InvalidInput("storage.slashes", "The places of a name's slashes ascend, and lie in it.")
    return slashes
