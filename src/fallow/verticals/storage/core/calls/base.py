"""What all calls of storage have in common: limits, kinds of values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

SUBJECT: Final = "vertical.storage"
"""Calls go to `SUBJECT.name`."""

NAME_BYTES_MAX: Final = 2048
"""Sealed."""

PAGE_MAX: Final = 1000
PARTS_MAX: Final = 10_000
HEAD_BYTES_MAX: Final = 12 << 10

ReplyT = TypeVar("ReplyT")
BUCKET_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{2,254}$(?!\n)"

BucketName = Annotated[str, Meta(pattern=BUCKET_PATTERN)]
Id = Annotated[bytes, Meta(min_length=16, max_length=16)]

Sealed = Annotated[bytes, Meta(max_length=NAME_BYTES_MAX)]
"""A name, sealed: two bytes for one."""

Head = Annotated[bytes, Meta(max_length=HEAD_BYTES_MAX)]
ETag = Annotated[str, Meta(max_length=80)]
Part = Annotated[int, Meta(ge=0, le=PARTS_MAX)]
Retention = Literal["", "governance", "compliance"]


class Call(msgspec.Struct, Generic[ReplyT], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what is asked. `name` is the end of its subject, `reply` what it is answered with.

    `account` and `by_grant` are set by whoever admits the call: in whose name it is asked, and for one that was shown a
    grant, the first link of its chain (empty: none was).
    """

    name: ClassVar[str]
    reply: ClassVar[Any]
    account: str
    by_grant: Annotated[bytes, Meta(max_length=16)] = b""
