"""A bucket's settings: ACL, policy, public access, ownership, tags, object lock."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from fallow.verticals.storage.gateway.access import Block, block_of, check, check_owner, has_public_policy, on_bucket
from fallow.verticals.storage.gateway.acl import acl_nodes
from fallow.verticals.storage.gateway.body import read_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import (
    ACL,
    BLOCK,
    ENFORCED,
    LOCK,
    OWNERSHIP,
    POLICY,
    PREFERRED,
    TAGGING,
    WRITER,
    Exchange,
    acl_of_bucket,
)
from fallow.verticals.storage.gateway.policy import POLICY_BYTES_MAX, read_policy
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.marks import asked_acl
from fallow.verticals.storage.gateway.tags import BUCKET_TAGS_MAX, tags_node, tags_of_document
from fallow.verticals.storage.gateway.writes import MODES, Default, default_of
from fallow.verticals.storage.gateway.xml import Node, text_of

DAYS_MAX: Final = 36_500
_BLOCKS: Final = (
    ("BlockPublicAcls", "block_acls"),
    ("IgnorePublicAcls", "ignore_acls"),
    ("BlockPublicPolicy", "block_policy"),
    ("RestrictPublicBuckets", "restrict"),
)


async def keep(x: Exchange, name: str, data: bytes | None) -> None:
    """Keep a document among the bucket's settings; None drops it."""
    await x.store.set_bucket(x.owner, x.bucket.name, settings={name: data})


async def get_acl(x: Exchange) -> Response:
    """The bucket's ACL."""
    check(x, "s3:GetBucketAcl", "READ_ACP", on_bucket(x))
    return answer("AccessControlPolicy", *await acl_nodes(acl_of_bucket(x.bucket), x.users))


async def put_acl(x: Exchange) -> Response:
    """Replace the bucket's ACL."""
    check(x, "s3:PutBucketAcl", "WRITE_ACP", on_bucket(x))
    acl = await asked_acl(x, x.owner)
    await keep(x, ACL, acl.encode())
    return Response()


async def get_policy(x: Exchange) -> Response:
    """The policy, as it was set."""
    check_owner(x, "s3:GetBucketPolicy")
    if POLICY not in x.bucket.settings:
        raise S3Error("NoSuchBucketPolicy")
    return Response(200, {"content-type": "application/json"}, x.bucket.settings[POLICY])


async def put_policy(x: Exchange) -> Response:
    """Set the policy."""
    check_owner(x, "s3:PutBucketPolicy")
    data = await read_document(x.request, x.caller, POLICY_BYTES_MAX)
    policy = read_policy(data, x.bucket.name)
    if block_of(x.bucket).block_policy and policy.public():
        raise S3Error("AccessDenied", "The bucket blocks public policies.")
    await keep(x, POLICY, data)
    return Response(204)


async def delete_policy(x: Exchange) -> Response:
    """Drop the policy."""
    check_owner(x, "s3:DeleteBucketPolicy")
    await keep(x, POLICY, None)
    return Response(204)


async def get_policy_status(x: Exchange) -> Response:
    """Whether the bucket is public, by its policy or its ACL."""
    check_owner(x, "s3:GetBucketPolicyStatus")
    public = acl_of_bucket(x.bucket).public() or has_public_policy(x.bucket)
    return answer("PolicyStatus", Node("IsPublic", public))


async def get_block(x: Exchange) -> Response:
    """The public access block; where none was set, nothing is blocked."""
    check_owner(x, "s3:GetBucketPublicAccessBlock")
    if BLOCK not in x.bucket.settings:
        raise S3Error("NoSuchPublicAccessBlockConfiguration")
    block = block_of(x.bucket)
    return answer("PublicAccessBlockConfiguration", *[Node(name, getattr(block, field)) for name, field in _BLOCKS])


async def put_block(x: Exchange) -> Response:
    """Set the public access block."""
    check_owner(x, "s3:PutBucketPublicAccessBlock")
    root = await x.document()
    if root.tag != "PublicAccessBlockConfiguration":
        raise S3Error("MalformedXML")
    said = {field: text_of(root, name, "false").lower() for name, field in _BLOCKS}
    if not set(said.values()) <= {"true", "false"}:
        raise S3Error("MalformedXML")
    block = Block(**{field: value == "true" for field, value in said.items()})
    await keep(x, BLOCK, msgspec.msgpack.encode(block))
    return Response()


async def delete_block(x: Exchange) -> Response:
    """Drop the public access block."""
    check_owner(x, "s3:PutBucketPublicAccessBlock")
    await keep(x, BLOCK, None)
    return Response(204)


async def get_ownership(x: Exchange) -> Response:
    """Who owns what others write."""
    check_owner(x, "s3:GetBucketOwnershipControls")
    if OWNERSHIP not in x.bucket.settings:
        raise S3Error("OwnershipControlsNotFoundError")
    rule = Node("Rule", None, Node("ObjectOwnership", x.bucket.settings[OWNERSHIP].decode()))
    return answer("OwnershipControls", rule)


async def put_ownership(x: Exchange) -> Response:
    """Say who owns what others write."""
    check_owner(x, "s3:PutBucketOwnershipControls")
    root = await x.document()
    said = [text_of(rule, "ObjectOwnership") for rule in root.findall("Rule")]
    if root.tag != "OwnershipControls" or len(said) != 1 or said[0] not in {ENFORCED, PREFERRED, WRITER}:
        raise S3Error("MalformedXML")
    acl = acl_of_bucket(x.bucket)
    if said[0] == ENFORCED and any(grant.group or grant.whom != x.owner for grant in acl.grants):
        raise S3Error("InvalidBucketAclWithObjectOwnership", "The bucket's ACL still grants something to others.")
    await keep(x, OWNERSHIP, said[0].encode())
    return Response()


async def delete_ownership(x: Exchange) -> Response:
    """Let writers own what they write, again."""
    check_owner(x, "s3:PutBucketOwnershipControls")
    await keep(x, OWNERSHIP, None)
    return Response(204)


async def get_tagging(x: Exchange) -> Response:
    """The bucket's tags."""
    check_owner(x, "s3:GetBucketTagging")
    if TAGGING not in x.bucket.settings:
        raise S3Error("NoSuchTagSetError", "The bucket has no tags.", status=404)
    tags = msgspec.msgpack.decode(x.bucket.settings[TAGGING], type=dict[str, str])
    return answer("Tagging", tags_node(tags))


async def put_tagging(x: Exchange) -> Response:
    """Replace the bucket's tags."""
    check_owner(x, "s3:PutBucketTagging")
    tags = tags_of_document(await x.document(), BUCKET_TAGS_MAX)
    await keep(x, TAGGING, msgspec.msgpack.encode(tags))
    return Response(204)


async def delete_tagging(x: Exchange) -> Response:
    """Drop the bucket's tags."""
    check_owner(x, "s3:PutBucketTagging")
    await keep(x, TAGGING, None)
    return Response(204)


async def get_lock(x: Exchange) -> Response:
    """The object lock's configuration."""
    check_owner(x, "s3:GetBucketObjectLockConfiguration")
    if not x.bucket.lock:
        raise S3Error("ObjectLockConfigurationNotFoundError")
    default = default_of(x.bucket)
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
    await x.store.set_bucket(x.owner, x.bucket.name, lock=True, settings={LOCK: data})
    return Response()


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
