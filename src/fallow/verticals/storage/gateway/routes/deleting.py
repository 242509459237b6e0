"""Deletions, one at a time and many."""

from __future__ import annotations

import asyncio
import re
from typing import Final
from xml.etree import ElementTree as ET

from fallow.verticals.storage.client.store import Deleting, Gone
from fallow.verticals.storage.gateway.access import Target, allowed, check, on_bucket
from fallow.verticals.storage.gateway.conditions import condition, delete_condition
from fallow.verticals.storage.gateway.errors import S3Error, code_of
from fallow.verticals.storage.gateway.exchange import POLICY, Exchange, check_version
from fallow.verticals.storage.gateway.request import KEY_BYTES_MAX
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.xml import Node, text_of

AT_ONCE_MAX: Final = 1000
_ABSENT: Final = frozenset({"storage.no_object", "storage.no_version"})
_TRUE: Final = re.compile("^true$", re.IGNORECASE)


async def delete_object(x: Exchange) -> Response:
    """Delete an object as the bucket's versioning says, or one version for good."""
    version = x.request.arg("versionId")
    check_version(version)
    check(x, _action(version), "WRITE", on_bucket(x, key=x.key, version=version))
    deleting = Deleting(x.key, version, delete_condition(x.request.headers))
    (gone,) = await x.store.delete(x.owner, x.bucket.name, [deleting], bypass=bypass(x, x.key))
    if gone.error and gone.error not in _ABSENT:
        raise S3Error(code_of(gone.error), gone.message)
    headers = {"x-amz-delete-marker": "true"} if gone.marker else {}
    if gone.version and x.bucket.versioning != "off":
        headers["x-amz-version-id"] = gone.version
    return Response(204, headers)


async def delete_objects(x: Exchange) -> Response:
    """Delete many; of each is said what became of it.

    Who signs nothing and has no right by ACL or policy is not read. Names are judged one by one, and others get their
    turn between them: a policy may be slow to match.
    """
    if x.caller.user is None and POLICY not in x.bucket.settings:
        check(x, _action(""), "WRITE", on_bucket(x))
    root = await x.document()
    listed = root.findall("Object")
    if root.tag != "Delete" or not 0 < len(listed) <= AT_ONCE_MAX:
        raise S3Error("MalformedXML", f"There are 1 to {AT_ONCE_MAX} objects to delete at once.")
    quiet = _TRUE.match(text_of(root, "Quiet")) is not None
    wanted = [_deleting(element) for element in listed]
    may, free = [], True
    for one in wanted:
        may.append(allowed(x, _action(one.version), "WRITE", on_bucket(x, key=one.key, version=one.version)))
        free = free and bypass(x, one.key)
        await asyncio.sleep(0)
    ours = [one for one, right in zip(wanted, may, strict=True) if right]
    answers = iter(await x.store.delete(x.owner, x.bucket.name, ours, bypass=free) if ours else ())
    nodes = []
    for one, right in zip(wanted, may, strict=True):
        gone = next(answers) if right else Gone(one.key, one.version, error="storage.denied", message="Access Denied")
        node = _node(x, one, gone)
        if node.name == "Error" or not quiet:
            nodes.append(node)
    return answer("DeleteResult", *nodes)


def bypass(x: Exchange, key: str) -> bool:
    """Whether the caller asks to go past a governance retention, and may."""
    asked = _TRUE.match(x.request.header("x-amz-bypass-governance-retention")) is not None
    return asked and allowed(x, "s3:BypassGovernanceRetention", "FULL_CONTROL", Target(x.bucket, key))


def _deleting(element: ET.Element) -> Deleting:
    key, version = text_of(element, "Key"), text_of(element, "VersionId")
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        raise S3Error("MalformedXML")
    check_version(version)
    only_if = condition(text_of(element, "ETag"), text_of(element, "LastModifiedTime"), text_of(element, "Size"))
    return Deleting(key, version, only_if)


def _node(x: Exchange, asked: Deleting, gone: Gone) -> Node:
    nodes = [Node("Key", asked.key)]
    nodes += [Node("VersionId", asked.version)] if asked.version else []
    if gone.error and gone.error not in _ABSENT:
        return Node("Error", None, *nodes, Node("Code", code_of(gone.error)), Node("Message", gone.message))
    if gone.marker and x.bucket.versioning != "off":
        nodes += [Node("DeleteMarker", True), Node("DeleteMarkerVersionId", gone.version)]
    return Node("Deleted", None, *nodes)


def _action(version: str) -> str:
    return "s3:DeleteObjectVersion" if version else "s3:DeleteObject"
