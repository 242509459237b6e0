"""What those who keep segments ask of those who keep buckets and versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.ports.database import Transaction


class BucketRow(NamedTuple):
    """A bucket. `profile` is the name that it was made with, or ""; pieces may lie in `countries` (none: anywhere)."""

    id: int
    account: bytes
    profile: str
    countries: Sequence[str]


class Buckets(Protocol):
    """Buckets and versions."""

    async def bucket_of(self, tx: Transaction, account: str, name: str) -> BucketRow:
        """Return a bucket of an account.

        Raises:
            NotFound: `storage.no_bucket`.
            NotAllowed: `storage.not_yours`.
        """
        ...

    async def version_stream(
        self, tx: Transaction, bucket_id: int, sealed_name: bytes, version: bytes
    ) -> tuple[bytes, int, Sequence[tuple[int, int]]]:
        """Return a version's stream, its bytes, and its parts (number and bytes) in their order, if it has any.

        Raises:
            NotFound: `storage.no_version`.
        """
        ...
