"""Calls about buckets."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from fallow.verticals.storage.core.calls.base import PAGE_MAX, BucketName, Call

SETTING_BYTES_MAX: Final = 64 << 10
Versioning = Literal["off", "enabled", "suspended"]


class Bucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket. `settings` are documents of gateways (policy, cors, lifecycle, acl ...), which the network only keeps.

    `profile` names how its objects are coded, `countries` where their pieces may lie (empty: anywhere). With `lock`
    versions can be retained.
    """

    name: str
    account: str
    made_ms: int
    profile: str
    countries: list[str] = []
    versioning: Versioning = "off"
    lock: bool = False
    settings: dict[str, bytes] = {}


class MakeBucket(Call[Bucket], frozen=True, kw_only=True):
    """Make a bucket. Names are unique in a network. With `lock` it keeps versions from the start.

    Conflict: `storage.bucket_yours`, `storage.bucket_taken`. InsufficientFunds: `storage.no_subscription`.
    TooMuch: `storage.buckets`: the account has as many as it may have.
    """

    name: ClassVar[str] = "bucket.make"
    reply: ClassVar[Any] = Bucket
    bucket: BucketName
    profile: str = ""
    countries: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)")]], Meta(max_length=64)] = []
    lock: bool = False
    settings: Annotated[dict[str, Annotated[bytes, Meta(max_length=SETTING_BYTES_MAX)]], Meta(max_length=16)] = {}


class GetBucket(Call[Bucket], frozen=True, kw_only=True):
    """Look a bucket up; `account` is who asks. NotFound: `storage.no_bucket`. NotAllowed: `storage.not_yours`.

    A gateway asks as "", sees any bucket, and judges itself who may see what of it. The control API asks as the account
    of an API key, which sees its own buckets only: the settings of others say whom they let in.
    """

    name: ClassVar[str] = "bucket.get"
    reply: ClassVar[Any] = Bucket
    bucket: str


class ListBuckets(Call[list[Bucket]], frozen=True, kw_only=True):
    """An account's buckets by name, from the first one above `after` on, without their settings."""

    name: ClassVar[str] = "bucket.list"
    reply: ClassVar[Any] = list[Bucket]
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX


class SetBucket(Call[Bucket], frozen=True, kw_only=True):
    """Change a bucket; a setting that is None is dropped. Versioning never goes back to "off"."""

    name: ClassVar[str] = "bucket.set"
    reply: ClassVar[Any] = Bucket
    bucket: str
    versioning: Literal["", "enabled", "suspended"] = ""
    lock: bool | None = None
    settings: Annotated[
        dict[str, Annotated[bytes, Meta(max_length=SETTING_BYTES_MAX)] | None], Meta(max_length=16)
    ] = {}


class DropBucket(Call[None], frozen=True, kw_only=True):
    """Drop an empty bucket. Conflict: `storage.bucket_not_empty` (versions count, open uploads do not)."""

    name: ClassVar[str] = "bucket.drop"
    reply: ClassVar[Any] = None
    bucket: str
