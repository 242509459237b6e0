"""`fallow://BUCKET/NAME`, as it is typed."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.calls.base import BUCKET_PATTERN

SCHEME: Final = "fallow://"
S3_SCHEME: Final = "s3://"
"""Taken, too, where a word cannot be a file: it is how S3's programs write it."""


class Remote(NamedTuple):
    """A name in a bucket; "" is the bucket itself."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def remote(text: str) -> Remote:
    """Read `fallow://BUCKET/NAME`.

    Raises:
        InvalidInput: it is none (`storage.place`).
    """
    bucket, _, key = text.removeprefix(SCHEME).removeprefix(S3_SCHEME).partition("/")
    if not bucket:
        raise InvalidInput("storage.place", f"{text!r} names no bucket.", f"It looks like {SCHEME}BUCKET/NAME.")
    if not re.match(BUCKET_PATTERN, bucket):
        raise InvalidInput(
            "storage.place",
            f"{bucket!r} is no name of a bucket.",
            "It has 3 to 255 letters, digits, dots, hyphens or underscores, the first of them a letter or a digit.",
        )
    return Remote(bucket, key)
