"""One request with all that answering it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from fallow.domain.errors import NotFound
from fallow.ports.clock import Clock
from fallow.verticals.storage.client.store import Entry, Store
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.gateway.acl import Acl, decode_acl
from fallow.verticals.storage.gateway.auth.caller import Caller
from fallow.verticals.storage.gateway.body import read_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.users import Owner, User, Users
from fallow.verticals.storage.gateway.xml import parse

ACL: Final = "acl"
POLICY: Final = "policy"
CORS: Final = "cors"
TAGGING: Final = "tagging"
SEALING: Final = "encryption"
OWNERSHIP: Final = "ownership"
BLOCK: Final = "block"
"""Names of documents in a bucket's settings."""
ENFORCED: Final = "BucketOwnerEnforced"
PREFERRED: Final = "BucketOwnerPreferred"
WRITER: Final = "ObjectWriter"


class Ground(NamedTuple):
    """What the gateway stands on."""

    store: Store
    users: Users
    clock: Clock
    region: str
    console_port: int = 0


class _Once:
    """Looks each account up once: lists name the same ones again and again."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._owners: dict[str, Owner | None] = {}

    async def user(self, access_key: str) -> User | None:
        """See `Users`."""
        return await self._users.user(access_key)

    async def owner(self, account: str) -> Owner | None:
        """See `Users`."""
        if account not in self._owners:
            self._owners[account] = await self._users.owner(account)
        return self._owners[account]


class Exchange:
    """A request that is being answered. `bucket` is there where the request names one that exists.

    `said` says what is asked for: the request's headers, or the fields of a form in their place.
    """

    def __init__(self, request: Request, caller: Caller, ground: Ground, now_ms: int) -> None:
        self.request = request
        self.said: Mapping[str, str] = request.headers
        self.caller = caller
        self.store = ground.store
        self.users: Users = _Once(ground.users)
        self.region = ground.region
        self.now_ms = now_ms
        self._bucket: Bucket | None = None

    @property
    def bucket(self) -> Bucket:
        """The bucket that the request names."""
        if self._bucket is None:
            raise S3Error("NoSuchBucket")
        return self._bucket

    @bucket.setter
    def bucket(self, bucket: Bucket) -> None:
        self._bucket = bucket

    @property
    def owner(self) -> str:
        """The account of the bucket."""
        return self.bucket.account

    @property
    def key(self) -> str:
        """The key that the request names."""
        return self.request.key

    async def load(self) -> None:
        """Look the request's bucket up.

        Raises:
            NotFound: there is none.
            S3Error: AccessDenied: it is not the expected owner's.
        """
        self.bucket = await self.store.bucket(self.request.bucket)
        check_expected(self.request.header("x-amz-expected-bucket-owner"), self.bucket)

    async def document(self, *, summed: bool = True) -> ET.Element:
        """Read the body as a document; `summed` as for `read_document`.

        Raises:
            S3Error: MalformedXML, and those of `read_document`.
        """
        return parsed(await read_document(self.request, self.caller, summed=summed))


def check_expected(owner: str, bucket: Bucket) -> None:
    """Check that a bucket is whose the client says, if it says so.

    Raises:
        S3Error: AccessDenied.
    """
    if owner and owner != bucket.account:
        raise S3Error("AccessDenied", "The bucket belongs to another account than the expected one.")


def parsed(data: bytes) -> ET.Element:
    """Read a document.

    Raises:
        S3Error: MalformedXML.
    """
    try:
        return parse(data)
    except ValueError as error:
        raise S3Error("MalformedXML") from error


def acl_of_bucket(bucket: Bucket) -> Acl:
    """The list of a bucket."""
    return decode_acl(bucket.settings.get(ACL, b""), bucket.account)


def acl_of_entry(entry: Entry, bucket: Bucket) -> Acl:
    """The list of a version."""
    return decode_acl(entry.marks.acl, bucket.account)


def ownership_of(bucket: Bucket) -> str:
    """Who owns what others write into a bucket."""
    return bucket.settings.get(OWNERSHIP, WRITER.encode()).decode("ascii", "replace")


async def entry_of(x: Exchange, bucket: Bucket, key: str, version: str) -> Entry | None:
    """Look a version up, or the latest; None: there is none."""
    check_version(version)
    try:
        return await x.store.entry(bucket.account, bucket.name, key, version)
    except NotFound as error:
        if error.code not in {"storage.no_object", "storage.no_version"}:
            raise
        return None


def check_version(version: str) -> None:
    """Check that a version's id can be one.

    Raises:
        S3Error: InvalidArgument.
    """
    if version in {"", "null"}:
        return
    try:
        right = len(bytes.fromhex(version)) == 16  # noqa: PLR2004 - `calls.base.Id`
    except ValueError:
        right = False
    if not right:
        raise S3Error("InvalidArgument", "The version's id is not one of ours.")
