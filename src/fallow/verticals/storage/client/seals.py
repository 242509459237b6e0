"""Under which secret a bucket is sealed: a mark among its settings, so that another one is refused at once."""

from __future__ import annotations

from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.core.calls.buckets import Bucket

SEALED: Final = "sealed"
"""The setting's name."""


class Seal(msgspec.Struct, frozen=True):
    """Whether the secret is the owner's `own`, else a hosted gateway's; `check` follows from it."""

    own: bool
    check: bytes


def write_seal(keys: Keys, *, own: bool) -> bytes:
    """Write the mark of a new bucket."""
    return msgspec.msgpack.encode(Seal(own, keys.check))


def is_own(bucket: Bucket) -> bool:
    """Whether a bucket is sealed under its owner's own secret, which no hosted gateway has.

    Raises:
        InvalidInput: `storage.seal`: its mark cannot be read.
    """
    return is_own_seal(bucket.settings.get(SEALED), bucket.name)


def is_own_seal(data: bytes | None, bucket: str) -> bool:
    """Say the same of a bucket's mark (None: it has none, and is a hosted gateway's). Raises what `is_own` raises."""
    return data is not None and _read(data, bucket).own


def check_seal(bucket: Bucket, keys: Keys, *, own: bool) -> None:
    """Check that a bucket is sealed under this secret. One without a mark is older than marks: a hosted gateway's.

    Raises:
        NotAllowed: it is another one (`storage.own_bucket`, `storage.hosted_bucket`, `storage.other_secret`).
    """
    data = bucket.settings.get(SEALED)
    seal = _read(data, bucket.name) if data is not None else Seal(own=False, check=keys.check)
    if seal.own and not own:
        raise NotAllowed(
            "storage.own_bucket",
            f"The bucket {bucket.name} is sealed under its owner's own secret, which this gateway does not have.",
            "Its owner opens it on his own machine: fallow s3 serve, or fallow storage cp.",
        )
    if own and not seal.own:
        raise NotAllowed(
            "storage.hosted_bucket",
            f"The bucket {bucket.name} is sealed by the network's S3 gateway, not under your own secret.",
            "Reach it by that gateway (fallow storage key), or make another bucket: fallow storage mb NAME",
        )
    if seal.check != keys.check:
        raise NotAllowed(
            "storage.other_secret",
            f"The bucket {bucket.name} is sealed under another secret than the one that is here.",
            "Bring the right one back from its recovery kit: fallow storage init --recover FILE" if own else "",
        )


def _read(data: bytes, bucket: str) -> Seal:
    try:
        return msgspec.msgpack.decode(data, type=Seal)
    except UNREADABLE as error:
        raise InvalidInput("storage.seal", f"The mark of the bucket {bucket} is damaged.") from error
