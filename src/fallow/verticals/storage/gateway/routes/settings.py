"""A bucket's settings: ACL, policy, public access, ownership, encryption, tags, object lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, NamedTuple
from xml.etree import ElementTree as ET

import msgspec

from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.core.retention import DAYS_MAX, DEFAULT, Default, default_of
from fallow.verticals.storage.gateway import encryption
from fallow.verticals.storage.gateway.access import (
    Block,
    block_of,
    check,
    check_owner,
    decode_block,
    has_public_policy,
    on_bucket,
)
from fallow.verticals.storage.gateway.acl import acl_nodes
from fallow.verticals.storage.gateway.body import read_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import (
    ACL,
    BLOCK,
    ENFORCED,
    OWNERSHIP,
    POLICY,
    PREFERRED,
    SEALING,
    TAGGING,
    WRITER,
    Exchange,
    acl_of_bucket,
)
from fallow.verticals.storage.gateway.policy import POLICY_BYTES_MAX, read_policy
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.marks import asked_acl
from fallow.verticals.storage.gateway.tags import BUCKET_TAGS_MAX, tags_node, tags_of_document
from fallow.verticals.storage.gateway.writes import MODES
from fallow.verticals.storage.gateway.xml import Node, text_of

_BLOCKS: Final = (
    ("BlockPublicAcls", "block_acls"),
    ("IgnorePublicAcls", "ignore_acls"),
    ("BlockPublicPolicy", "block_policy"),
    ("RestrictPublicBuckets", "restrict"),
)

_TAGS: Final[msgspec.msgpack.Decoder[Mapping[str, str]]] = msgspec.msgpack.Decoder(dict[str, str])


class Setting(NamedTuple):
    """A document that a bucket keeps as `name`: its owner sees, replaces and drops it.

    `action` is how policies call it, `dropping` their word for dropping it, `absent` the error where there is none.
    `read` takes it from a request, `show` answers with it, `status` says that it was replaced.
    """

    name: str
    action: str
    absent: str
    read: Callable[[Exchange], Awaitable[bytes]]
    show: Callable[[bytes], Response]
    status: int = 200
    dropping: Literal["Put", "Delete"] = "Put"

    @property
    def handlers(self) -> dict[str, Callable[[Exchange], Awaitable[Response]]]:
        """What answers, by method."""
        return {"GET": self._get, "PUT": self._put, "DELETE": self._delete}

    async def _get(self, x: Exchange) -> Response:
        check_owner(x, f"s3:Get{self.action}")
        if self.name not in x.bucket.settings:
            raise S3Error(self.absent)
        return self.show(x.bucket.settings[self.name])

    async def _put(self, x: Exchange) -> Response:
        check_owner(x, f"s3:Put{self.action}")
        await _keep(x, self.name, await self.read(x))
        return Response(self.status)

    async def _delete(self, x: Exchange) -> Response:
        check_owner(x, f"s3:{self.dropping}{self.action}")
        await _keep(x, self.name, None)
        return Response(204)


async def get_acl(x: Exchange) -> Response:
    """The bucket's ACL."""
    check(x, "s3:GetBucketAcl", "READ_ACP", on_bucket(x))
    return answer("AccessControlPolicy", *await acl_nodes(acl_of_bucket(x.bucket), x.users))


async def put_acl(x: Exchange) -> Response:
    """Replace the bucket's ACL."""
    check(x, "s3:PutBucketAcl", "WRITE_ACP", on_bucket(x))
    acl = await asked_acl(x, x.owner)
    await _keep(x, ACL, acl.encode())
    return Response()


async def get_policy_status(x: Exchange) -> Response:
    """Whether the bucket is public, by its policy or its ACL."""
    check_owner(x, "s3:GetBucketPolicyStatus")
    public = acl_of_bucket(x.bucket).public() or has_public_policy(x.bucket)
    return answer("PolicyStatus", Node("IsPublic", public))


async def get_lock(x: Exchange) -> Response:
    """The object lock's configuration."""
    check_owner(x, "s3:GetBucketObjectLockConfiguration")
    if not x.bucket.lock:
        raise S3Error("ObjectLockConfigurationNotFoundError")
    default = default_of(x.bucket.settings.get(DEFAULT, b""))
    rules = []
    if default:
        time = Node("Days", default.days) if default.days else Node("Years", default.years)
        rules = [Node("Rule", None, Node("DefaultRetention", None, Node("Mode", default.mode.upper()), time))]
    return answer("ObjectLockConfiguration", Node("ObjectLockEnabled", "Enabled"), *rules)


async def put_lock(x: Exchange) -> Response:
    """Set the retention that new versions get; a bucket that keeps versions can be given object lock with it."""
    check_owner(x, "s3:PutBucketObjectLockConfiguration")
    root = await x.document()
    if root.tag != "ObjectLockConfiguration" or text_of(root, "ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML")
    default = _read_default(root)
    if not x.bucket.lock and x.bucket.versioning != "enabled":
        raise S3Error("InvalidBucketState", "Object lock needs a bucket that keeps versions.")
    data = msgspec.msgpack.encode(default) if default else None
    await x.store.set_bucket(x.owner, x.bucket.name, lock=True, settings={DEFAULT: data})
    return Response()


async def _keep(x: Exchange, name: str, data: bytes | None) -> None:
    """Keep a document among the bucket's settings; None drops it."""
    await x.store.set_bucket(x.owner, x.bucket.name, settings={name: data})


async def _read_policy(x: Exchange) -> bytes:
    data = await read_document(x.request, x.caller, POLICY_BYTES_MAX)
    policy = read_policy(data, x.bucket.name)
    if block_of(x.bucket).block_policy and policy.public():
        raise S3Error("AccessDenied", "The bucket blocks public policies.")
    return data


async def _read_block(x: Exchange) -> bytes:
    root = await x.document()
    if root.tag != "PublicAccessBlockConfiguration":
        raise S3Error("MalformedXML")
    said = {field: text_of(root, name, "false").lower() for name, field in _BLOCKS}
    if not set(said.values()) <= {"true", "false"}:
        raise S3Error("MalformedXML")
    return msgspec.msgpack.encode(Block(**{field: value == "true" for field, value in said.items()}))


def _show_block(data: bytes) -> Response:
    block = decode_block(data)
    return answer("PublicAccessBlockConfiguration", *[Node(name, getattr(block, field)) for name, field in _BLOCKS])


async def _read_ownership(x: Exchange) -> bytes:
    root = await x.document()
    said = [text_of(rule, "ObjectOwnership") for rule in root.findall("Rule")]
    if root.tag != "OwnershipControls" or len(said) != 1 or said[0] not in {ENFORCED, PREFERRED, WRITER}:
        raise S3Error("MalformedXML")
    acl = acl_of_bucket(x.bucket)
    if said[0] == ENFORCED and any(grant.group or grant.whom != x.owner for grant in acl.grants):
        raise S3Error("InvalidBucketAclWithObjectOwnership", "The bucket's ACL still grants something to others.")
    return said[0].encode()


def _show_ownership(data: bytes) -> Response:
    return answer("OwnershipControls", Node("Rule", None, Node("ObjectOwnership", data.decode("ascii", "replace"))))


async def _read_tags(x: Exchange) -> bytes:
    return msgspec.msgpack.encode(tags_of_document(await x.document(), BUCKET_TAGS_MAX))


def _show_tags(data: bytes) -> Response:
    return answer("Tagging", tags_node(read_kept(data, _TAGS)))


async def _read_encryption(x: Exchange) -> bytes:
    root = await x.document()
    rules = root.findall("Rule/ApplyServerSideEncryptionByDefault")
    if root.tag != "ServerSideEncryptionConfiguration" or len(rules) != 1:
        raise S3Error("MalformedXML")
    algorithm = text_of(rules[0], "SSEAlgorithm")
    encryption.check_algorithm(algorithm)
    return algorithm.encode()


def _show_encryption(data: bytes) -> Response:
    by_default = Node("ApplyServerSideEncryptionByDefault", None, Node("SSEAlgorithm", data.decode("ascii", "replace")))
    return answer("ServerSideEncryptionConfiguration", Node("Rule", None, by_default))


def _read_default(root: ET.Element) -> Default | None:
    if root.find("Rule") is None:
        return None
    rule = root.find("Rule/DefaultRetention")
    if (
        rule is None
        or text_of(rule, "Mode") not in MODES
        or (rule.find("Days") is None) == (rule.find("Years") is None)
    ):
        raise S3Error("MalformedXML")
    try:
        days, years = int(text_of(rule, "Days", "0")), int(text_of(rule, "Years", "0"))
    except ValueError as error:
        raise S3Error("MalformedXML") from error
    default = Default(MODES[text_of(rule, "Mode")], days, years)
    if days < 0 or years < 0 or not 0 < days + 365 * years <= DAYS_MAX:
        raise S3Error("InvalidRetentionPeriod")
    return default


POLICIES: Final = Setting(
    POLICY,
    "BucketPolicy",
    "NoSuchBucketPolicy",
    _read_policy,
    lambda data: Response(200, {"content-type": "application/json"}, data),
    status=204,
    dropping="Delete",
)
BLOCKS: Final = Setting(
    BLOCK, "BucketPublicAccessBlock", "NoSuchPublicAccessBlockConfiguration", _read_block, _show_block
)
OWNERSHIPS: Final = Setting(
    OWNERSHIP, "BucketOwnershipControls", "OwnershipControlsNotFoundError", _read_ownership, _show_ownership
)
ENCRYPTION: Final = Setting(
    SEALING,
    "EncryptionConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
    _read_encryption,
    _show_encryption,
)
TAGS: Final = Setting(TAGGING, "BucketTagging", "NoSuchTagSet", _read_tags, _show_tags, status=204)
