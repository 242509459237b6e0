"""Who may do what: bucket policies, ACLs, public access blocks and ownership, put together.

A key that may not write writes nothing. A policy that denies wins, one that allows suffices, and where it is silent
the ACL decides; what no ACL speaks of (a bucket's settings) is its owner's, and so is all where ownership is enforced.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from fallow.verticals.storage.client.store import Entry
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.gateway.acl import Acl, Permission
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import (
    BLOCK,
    ENFORCED,
    POLICY,
    Exchange,
    acl_of_bucket,
    acl_of_entry,
    ownership_of,
)
from fallow.verticals.storage.gateway.policy import (
    HEADER_KEYS,
    QUERY_KEYS,
    Asked,
    Verdict,
    kept_policy,
    resource_of,
    user_arn,
)
from fallow.verticals.storage.gateway.tags import tags_of_header
from fallow.verticals.storage.gateway.times import iso

_OWN_POLICY: Final = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})


class Block(msgspec.Struct, frozen=True):
    """A bucket's public access block."""

    block_acls: bool = False
    ignore_acls: bool = False
    block_policy: bool = False
    restrict: bool = False


_BLOCK: Final = msgspec.msgpack.Decoder(Block)


class Target(NamedTuple):
    """What something is done to: a bucket, or an object in it; `acl` is the list that counts, if one does.

    `version` is the one that is asked for, "" where it is the latest; `entry` what is there, where that was looked up.
    `prefix` is what a list would have to begin with to tell the same.
    """

    bucket: Bucket
    key: str = ""
    acl: Acl | None = None
    version: str = ""
    entry: Entry | None = None
    prefix: str = ""


def block_of(bucket: Bucket) -> Block:
    """The public access block of a bucket."""
    data = bucket.settings.get(BLOCK)
    return decode_block(data) if data else Block()


def decode_block(data: bytes) -> Block:
    """Read one that is kept. Raises what `read_kept` raises."""
    return read_kept(data, _BLOCK)


def has_public_policy(bucket: Bucket) -> bool:
    """Whether the bucket's policy lets everybody in."""
    policy = kept_policy(bucket.settings.get(POLICY, b""))
    return policy is not None and policy.public()


def on_bucket(x: Exchange, bucket: Bucket | None = None, key: str = "", version: str = "") -> Target:
    """Something that the bucket's ACL decides: lists, and writes (of `key`)."""
    at = bucket or x.bucket
    return Target(at, key, acl_of_bucket(at), version)


def on_entry(entry: Entry, bucket: Bucket, version: str) -> Target:
    """Something that an object's own ACL decides."""
    return Target(bucket, entry.key, acl_of_entry(entry, bucket), version, entry)


def allowed(x: Exchange, action: str, permission: Permission, target: Target) -> bool:
    """Whether the caller may do something."""
    bucket, account = target.bucket, x.caller.account
    owns, block = account == bucket.account, block_of(bucket)
    verdict = _judged(x, action, target)
    if verdict == "deny":
        return False
    if verdict == "allow" and (owns or not (block.restrict and has_public_policy(bucket))):
        return True
    if target.acl is None or ownership_of(bucket) == ENFORCED:
        return owns
    return target.acl.allows(account, permission, groups=not block.ignore_acls)


def check(x: Exchange, action: str, permission: Permission, target: Target) -> None:
    """Let the caller do something, or not.

    Raises:
        S3Error: AccessDenied.
    """
    if not allowed(x, action, permission, target):
        raise S3Error("AccessDenied")


def check_owner(x: Exchange, action: str) -> None:
    """Let the caller see or change a setting of the bucket, or not.

    Raises:
        S3Error: AccessDenied.
    """
    check(x, action, "FULL_CONTROL", Target(x.bucket))


def missing(x: Exchange, bucket: Bucket, key: str, code: str) -> S3Error:
    """What is said of an object that is not there: that there is none is told to those only who may list its name."""
    listed = on_bucket(x, bucket)._replace(prefix=key)
    return S3Error(code if allowed(x, "s3:ListBucket", "READ", listed) else "AccessDenied")


def check_not_denied(x: Exchange, action: str, target: Target) -> None:
    """Let a part of something be done that may be done as a whole, but where the policy denies it.

    Raises:
        S3Error: AccessDenied.
    """
    if _judged(x, action, target) == "deny":
        raise S3Error("AccessDenied")


def _judged(x: Exchange, action: str, target: Target) -> Verdict:
    """What the bucket's policy says; it binds its owner, but for the policy itself: that binds single API keys."""
    bucket, account, key = target.bucket, x.caller.account, x.caller.key
    own = account == bucket.account and action in _OWN_POLICY
    try:
        policy = kept_policy(bucket.settings.get(POLICY, b""))
    except S3Error:
        if not own:
            raise
        return "silent"  # what nobody can read, its owner can replace
    if policy is None:
        return "silent"
    asked = Asked(account, key, action, resource_of(bucket.name, target.key), _context(x, target))
    return policy.judge_key(asked) if own else policy.judge(asked)


def _context(x: Exchange, target: Target) -> dict[str, str]:
    request, headers, said = x.request, x.request.headers, x.said
    context = {
        "aws:sourceip": request.address,
        "aws:securetransport": "true" if request.secure else "false",
        "aws:currenttime": iso(x.now_ms),
        "aws:epochtime": str(x.now_ms // 1000),
        "aws:principaltype": "User" if x.caller.user else "Anonymous",
    }
    named = {"aws:referer": "referer", "aws:useragent": "user-agent"}
    context |= {name: headers[header] for name, header in named.items() if header in headers}
    if x.caller.user:
        account, key = x.caller.account, x.caller.key
        context |= {"aws:userid": account, "aws:username": key, "aws:principalarn": user_arn(account, key)}
        context |= {"s3:authtype": x.caller.how, "s3:signatureversion": x.caller.version}
    context |= {f"s3:{name}": said[name] for name in HEADER_KEYS if name in said}
    if "s3:x-amz-copy-source" in context:
        context["s3:x-amz-copy-source"] = unquote(context["s3:x-amz-copy-source"]).lstrip("/")
    context |= {f"s3:{name}": request.arg(name) for name in QUERY_KEYS if request.has(name)}
    context |= {"s3:prefix": target.prefix} if target.prefix else {}
    context |= {"s3:versionid": target.version} if target.version else {}
    if "x-amz-tagging" in said:
        context |= {f"s3:requestobjecttag/{name.lower()}": value for name, value in _asked_tags(x).items()}
    if target.entry is not None:
        context |= {f"s3:existingobjecttag/{name.lower()}": value for name, value in target.entry.marks.tags.items()}
    return context


def _asked_tags(x: Exchange) -> dict[str, str]:
    try:
        return tags_of_header(x.said["x-amz-tagging"])
    except S3Error:
        return {}  # the write is refused for them, later
