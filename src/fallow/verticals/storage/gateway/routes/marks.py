"""What can be changed of an object: tags, ACL, retention, legal hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fallow.domain.errors import Conflict
from fallow.verticals.storage.client.store import Entry, Marks
from fallow.verticals.storage.core.calls.base import Retention
from fallow.verticals.storage.gateway.access import (
    block_of,
    check,
    missing,
    on_entry,
)
from fallow.verticals.storage.gateway.acl import (
    Acl,
    Permission,
    acl_nodes,
    acl_of_document,
    acl_of_headers,
)
from fallow.verticals.storage.gateway.body import read_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import ENFORCED, Exchange, acl_of_entry, entry_of, ownership_of, parsed
from fallow.verticals.storage.gateway.heads import version_headers
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.deleting import bypass
from fallow.verticals.storage.gateway.tags import tags_node, tags_of_document
from fallow.verticals.storage.gateway.times import iso, read_iso
from fallow.verticals.storage.gateway.writes import MODES, check_not_blocked
from fallow.verticals.storage.gateway.xml import Node, text_of

TRIES: Final = 4
_NO_LOCK: Final = "The bucket has no object lock."


async def get_tagging(x: Exchange) -> Response:
    """The tags of a version."""
    entry = await _entry(x, "s3:GetObjectTagging", "READ")
    return answer("Tagging", tags_node(entry.marks.tags), headers=version_headers(entry, x.bucket))


async def put_tagging(x: Exchange) -> Response:
    """Replace the tags of a version."""
    entry = await _entry(x, "s3:PutObjectTagging", "WRITE")
    tags = tags_of_document(await x.document())
    await _mark(x, entry, lambda before: Marks(tags=tags, acl=before.acl))
    return Response(200, version_headers(entry, x.bucket))


async def delete_tagging(x: Exchange) -> Response:
    """Drop the tags of a version."""
    entry = await _entry(x, "s3:DeleteObjectTagging", "WRITE")
    await _mark(x, entry, lambda before: Marks(acl=before.acl))
    return Response(204, version_headers(entry, x.bucket))


async def get_acl(x: Exchange) -> Response:
    """The ACL of a version."""
    entry = await _entry(x, "s3:GetObjectAcl", "READ_ACP")
    nodes = await acl_nodes(acl_of_entry(entry, x.bucket), x.users)
    return answer("AccessControlPolicy", *nodes, headers=version_headers(entry, x.bucket))


async def put_acl(x: Exchange) -> Response:
    """Replace the ACL of a version; its owner stays."""
    entry = await _entry(x, "s3:PutObjectAcl", "WRITE_ACP")
    acl = await asked_acl(x, acl_of_entry(entry, x.bucket).owner)
    await _mark(x, entry, lambda before: Marks(tags=before.tags, acl=acl.encode()))
    return Response(200, version_headers(entry, x.bucket))


async def asked_acl(x: Exchange, owner: str) -> Acl:
    """Read the ACL that a request sets, from its headers or its body.

    Raises:
        S3Error: AccessControlListNotSupported, AccessDenied, MalformedACLError, MissingSecurityHeader, and such.
    """
    if ownership_of(x.bucket) == ENFORCED:
        raise S3Error("AccessControlListNotSupported")
    acl = await acl_of_headers(x.request.headers, owner, x.owner, x.users)
    if acl is None:
        data = await read_document(x.request, x.caller)
        if not data:
            raise S3Error("MissingSecurityHeader", "The ACL is neither in the headers nor in the body.")
        acl = await acl_of_document(parsed(data), owner, x.users)
    check_not_blocked(block_of(x.bucket), acl)
    return acl


async def get_retention(x: Exchange) -> Response:
    """How long a version is kept."""
    entry = await _locked(x, "s3:GetObjectRetention", "READ")
    if not entry.lock.retention:
        raise S3Error("NoSuchObjectLockConfiguration")
    mode = Node("Mode", entry.lock.retention.upper())
    return answer("Retention", mode, Node("RetainUntilDate", iso(entry.lock.until_ms)))


async def put_retention(x: Exchange) -> Response:
    """Say how long a version is kept: longer always, otherwise only past a governance retention by who may."""
    entry = await _locked(x, "s3:PutObjectRetention", "WRITE")
    root, free = await x.document(), bypass(x, x.key)
    mode, until = text_of(root, "Mode"), text_of(root, "RetainUntilDate")
    if root.tag != "Retention" or (mode not in MODES and (mode or until)):
        raise S3Error("MalformedXML")
    retention: Retention = MODES[mode] if mode else ""
    until_ms = 0
    if retention:
        try:
            until_ms = read_iso(until)
        except ValueError as error:
            raise S3Error("MalformedXML") from error
        if until_ms <= x.now_ms:
            raise S3Error("InvalidArgument", "The date of a retention must be in the future.")
    await x.store.mark(x.owner, x.bucket.name, entry, retention=retention, until_ms=until_ms, bypass=free)
    return Response(200, version_headers(entry, x.bucket))


async def get_legal_hold(x: Exchange) -> Response:
    """Whether a version is held."""
    entry = await _locked(x, "s3:GetObjectLegalHold", "READ")
    return answer("LegalHold", Node("Status", "ON" if entry.lock.hold else "OFF"))


async def put_legal_hold(x: Exchange) -> Response:
    """Hold a version, or let it go."""
    entry = await _locked(x, "s3:PutObjectLegalHold", "WRITE")
    root = await x.document()
    status = text_of(root, "Status")
    if root.tag != "LegalHold" or status not in {"ON", "OFF"}:
        raise S3Error("MalformedXML")
    await x.store.mark(x.owner, x.bucket.name, entry, hold=status == "ON")
    return Response(200, version_headers(entry, x.bucket))


async def _locked(x: Exchange, action: str, permission: Permission) -> Entry:
    entry = await _entry(x, action, permission, acl=False)
    if not x.bucket.lock:
        raise S3Error("InvalidRequest", _NO_LOCK)
    return entry


async def _entry(x: Exchange, action: str, permission: Permission, *, acl: bool = True) -> Entry:
    """Look the version up that is asked for; with `acl` its ACL counts, else the bucket's owner alone may."""
    version = x.request.arg("versionId")
    action = action.replace("Object", "ObjectVersion", 1) if version and acl else action
    entry = await entry_of(x, x.bucket, x.key, version)
    if entry is None:
        raise missing(x, x.bucket, x.key, "NoSuchVersion" if version else "NoSuchKey")
    target = on_entry(entry, x.bucket, version)
    check(x, action, permission, target if acl else target._replace(acl=None))
    if entry.marker:
        raise S3Error("MethodNotAllowed" if version else "NoSuchKey", headers={"x-amz-delete-marker": "true"})
    return entry


async def _mark(x: Exchange, entry: Entry, change: Callable[[Marks], Marks]) -> None:
    """Change marks, again where somebody changed others of them meanwhile: tags and the list lie under one seal."""
    for _ in range(TRIES):
        try:
            await x.store.mark(x.owner, x.bucket.name, entry, marks=change(entry.marks))
        except Conflict as error:
            if error.code != "storage.marks_changed":
                raise
            entry = await x.store.entry(x.owner, x.bucket.name, entry.key, entry.version)
        else:
            return
    raise S3Error("OperationAborted")
