"""What every way of writing an object has in common: its owner and list, its lock, its tags, its condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from fallow.domain.errors import NotFound
from fallow.verticals.storage.client.store import NO_LOCK, Lock, Marks
from fallow.verticals.storage.core.calls.objects import If
from fallow.verticals.storage.core.retention import Mode
from fallow.verticals.storage.gateway.access import Block, Target, block_of, check, check_not_denied, on_bucket
from fallow.verticals.storage.gateway.acl import Acl, acl_of_headers, canned
from fallow.verticals.storage.gateway.conditions import other_than, write_condition
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import ENFORCED, PREFERRED, Exchange, entry_of, ownership_of
from fallow.verticals.storage.gateway.tags import tags_of_header
from fallow.verticals.storage.gateway.times import read_iso

MODES: Final[dict[str, Mode]] = {"GOVERNANCE": "governance", "COMPLIANCE": "compliance"}
_GRANTS: Final = "x-amz-grant-"
_OWNERS: Final = "bucket-owner-full-control"


class Asked(NamedTuple):
    """What a write asks for."""

    marks: Marks
    lock: Lock
    only_if: If


async def asked_of(x: Exchange, tags: Mapping[str, str] | None = None) -> Asked:
    """Read what a write asks for, and check that the caller may; `tags` count before those that were said.

    Raises:
        S3Error: AccessDenied, PreconditionFailed, InvalidArgument, InvalidTag, InvalidRequest, and such.
    """
    target = on_bucket(x, key=x.key)
    check(x, "s3:PutObject", "WRITE", target)
    if any(name == "x-amz-acl" or name.startswith(_GRANTS) for name in x.said):
        check_not_denied(x, "s3:PutObjectAcl", target)
    acl = await object_acl(x)
    found = tags_of_header(x.said.get("x-amz-tagging", "")) if tags is None else tags
    if found:
        check_not_denied(x, "s3:PutObjectTagging", target)
    return Asked(Marks(tags=dict(found), acl=acl.encode()), lock_of(x), await condition_of(x))


async def object_acl(x: Exchange) -> Acl:
    """Make the list of a new object.

    Raises:
        S3Error: AccessDenied, AccessControlListNotSupported, InvalidArgument.
    """
    headers, bucket, ownership = x.said, x.bucket, ownership_of(x.bucket)
    canned_name = headers.get("x-amz-acl", "")
    if ownership == ENFORCED:
        owns = x.caller.account == bucket.account  # whose private list says what holds anyway
        harmless = {"", _OWNERS, "private"} if owns else {"", _OWNERS}
        if canned_name not in harmless or any(name.startswith(_GRANTS) for name in headers):
            raise S3Error("AccessControlListNotSupported")
        return canned("private", bucket.account, bucket.account)
    owner = x.caller.account or bucket.account
    if ownership == PREFERRED and canned_name == _OWNERS:
        owner = bucket.account
    acl = await acl_of_headers(headers, owner, bucket.account, x.users) or canned("private", owner, bucket.account)
    check_not_blocked(block_of(bucket), acl)
    return acl


def check_not_blocked(block: Block, acl: Acl) -> None:
    """Refuse a public list where the bucket blocks those.

    Raises:
        S3Error: AccessDenied.
    """
    if block.block_acls and acl.public():
        raise S3Error("AccessDenied", "The bucket blocks public ACLs.")


def lock_of(x: Exchange) -> Lock:
    """Read how long a new version is to be kept; where nothing is said of it, the store keeps it as its bucket says.

    Raises:
        S3Error: InvalidRequest, InvalidArgument, AccessDenied.
    """
    headers = x.said
    mode, until = headers.get("x-amz-object-lock-mode"), headers.get("x-amz-object-lock-retain-until-date")
    hold = headers.get("x-amz-object-lock-legal-hold")
    if mode is None and until is None and hold is None:
        return NO_LOCK
    if not x.bucket.lock:
        raise S3Error("InvalidRequest", "The bucket has no object lock.")
    if hold not in {None, "ON", "OFF"}:
        raise S3Error("InvalidArgument", "A legal hold is ON or OFF.")
    if hold:
        check(x, "s3:PutObjectLegalHold", "WRITE", Target(x.bucket, x.key))
    if mode is None and until is None:
        return NO_LOCK._replace(hold=hold == "ON")
    if mode not in MODES or until is None:
        raise S3Error("InvalidArgument", "A retention has a mode, GOVERNANCE or COMPLIANCE, and a date.")
    check(x, "s3:PutObjectRetention", "WRITE", Target(x.bucket, x.key))
    return Lock(MODES[mode], future(until, x.now_ms), hold == "ON")


def future(text: str, now_ms: int) -> int:
    """Read a date that must be to come.

    Raises:
        S3Error: InvalidArgument.
    """
    try:
        until_ms = read_iso(text)
    except ValueError as error:
        raise S3Error("InvalidArgument", "The date of a retention is malformed.") from error
    if until_ms <= now_ms:
        raise S3Error("InvalidArgument", "The date of a retention must be in the future.")
    return until_ms


async def condition_of(x: Exchange) -> If:
    """Read the condition of a write. One that the store cannot check is checked here, on what is the latest now.

    Raises:
        S3Error: PreconditionFailed, NotImplemented.
    """
    unwanted = other_than(x.said)
    if unwanted is not None:
        there = await entry_of(x, x.bucket, x.key, "")
        if there is not None and not there.marker and there.head.etag == unwanted:
            raise S3Error("PreconditionFailed")
    if "if-match" in x.said and "if-none-match" in x.said:
        raise S3Error("NotImplemented", "A write has one condition.")
    only_if = write_condition(x.said)
    await check_early(x, only_if)
    return only_if


async def check_early(x: Exchange, only_if: If) -> None:
    """Refuse before the body what the store would refuse behind it.

    Raises:
        NotFound: there is no object to compare with.
        S3Error: PreconditionFailed.
    """
    if not only_if.absent and not only_if.etag:
        return
    there = await entry_of(x, x.bucket, x.key, "")
    alive = there is not None and not there.marker
    if only_if.absent and alive:
        raise S3Error("PreconditionFailed")
    if only_if.etag and not alive:
        raise NotFound("storage.no_object", "There is no object to compare with.")
    if only_if.etag not in {"", "*"} and there is not None and there.head.etag != only_if.etag:
        raise S3Error("PreconditionFailed")
