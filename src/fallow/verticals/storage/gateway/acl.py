"""Access control lists: canned ones, those of headers and of documents, and what they let somebody do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple
from xml.etree import ElementTree as ET

import msgspec

from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.users import Owner, Users
from fallow.verticals.storage.gateway.xml import INSTANCE, Node, text_of

Permission = Literal["READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"]
PERMISSIONS: Final[tuple[Permission, ...]] = ("READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL")
GRANTS_MAX: Final = 100
ALL: Final = "AllUsers"
AUTHENTICATED: Final = "AuthenticatedUsers"
GROUPS: Final = {
    "http://acs.amazonaws.com/groups/global/AllUsers": ALL,
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers": AUTHENTICATED,
}
_URIS: Final = {group: uri for uri, group in GROUPS.items()}
_HEADERS: Final[dict[str, Permission]] = {
    "x-amz-grant-read": "READ",
    "x-amz-grant-write": "WRITE",
    "x-amz-grant-read-acp": "READ_ACP",
    "x-amz-grant-write-acp": "WRITE_ACP",
    "x-amz-grant-full-control": "FULL_CONTROL",
}
_CANNED: Final[dict[str, tuple[tuple[str, Permission], ...]]] = {
    "private": (),
    "public-read": ((ALL, "READ"),),
    "public-read-write": ((ALL, "READ"), (ALL, "WRITE")),
    "authenticated-read": ((AUTHENTICATED, "READ"),),
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
}


class Grant(NamedTuple):
    """What an account (or, with `group`, one of the groups) may do."""

    whom: str
    permission: Permission
    group: bool = False


class Acl(msgspec.Struct, frozen=True, array_like=True):
    """Whose something is, and who may do what with it. Groups stand first."""

    owner: str
    grants: tuple[Grant, ...] = ()

    def encode(self) -> bytes:
        """As it is kept beside the object, or in the bucket's settings."""
        return msgspec.msgpack.encode(self)

    def allows(self, account: str, permission: Permission, *, groups: bool = True) -> bool:
        """Whether an account ("": anybody) has a permission. Owners can always see and change the list itself."""
        if account and account == self.owner and permission in {"READ_ACP", "WRITE_ACP"}:
            return True
        return any(
            grant.permission in {permission, "FULL_CONTROL"} and self._meant(grant, account, groups=groups)
            for grant in self.grants
        )

    def public(self) -> bool:
        """Whether any grant is to a group."""
        return any(grant.group for grant in self.grants)

    @staticmethod
    def _meant(grant: Grant, account: str, *, groups: bool) -> bool:
        if not grant.group:
            return bool(account) and grant.whom == account
        return groups and (grant.whom == ALL or bool(account))


_ACL: Final = msgspec.msgpack.Decoder(Acl)


def decode_acl(data: bytes, owner: str) -> Acl:
    """Read a kept list; where there is none, it is private to `owner`. Raises what `read_kept` raises."""
    return read_kept(data, _ACL) if data else private(owner)


def private(owner: str) -> Acl:
    """The list of something that nobody else may touch."""
    return canned("private", owner, owner)


def canned(name: str, owner: str, bucket_owner: str) -> Acl:
    """Make one of S3's own lists.

    Raises:
        S3Error: InvalidArgument.
    """
    if name not in _CANNED:
        raise S3Error("InvalidArgument", f"There is no canned ACL {name}.")
    grants = [Grant(group, permission, True) for group, permission in _CANNED[name]]
    if owner:
        grants.append(Grant(owner, "FULL_CONTROL"))
    if name.startswith("bucket-owner-") and bucket_owner != owner:
        grants.append(Grant(bucket_owner, "READ" if name == "bucket-owner-read" else "FULL_CONTROL"))
    return Acl(owner, tuple(grants))


async def acl_of_headers(headers: Mapping[str, str], owner: str, bucket_owner: str, users: Users) -> Acl | None:
    """Make the list that headers ask for; None: they ask for none.

    Raises:
        S3Error: InvalidArgument, InvalidRequest, UnresolvableGrantByEmailAddress.
    """
    name = headers.get("x-amz-acl")
    granted = [(permission, headers[header]) for header, permission in _HEADERS.items() if header in headers]
    if name is not None:
        if granted:
            raise S3Error("InvalidRequest", "A canned ACL and grants exclude each other.")
        return canned(name, owner, bucket_owner)
    if not granted:
        return None
    named = [(grantee.strip(), permission) for permission, value in granted for grantee in value.split(",")]
    if len(named) > GRANTS_MAX:
        raise S3Error("InvalidArgument", f"There are at most {GRANTS_MAX} grants.")
    return Acl(owner, _sorted([await _grant_of_header(grantee, permission, users) for grantee, permission in named]))


async def acl_of_document(root: ET.Element, owner: str, users: Users) -> Acl:
    """Read a document. Its owner must be the one that there is.

    Raises:
        S3Error: MalformedACLError, InvalidArgument, AccessDenied, UnresolvableGrantByEmailAddress.
    """
    if root.tag != "AccessControlPolicy" or root.find("Owner") is None:
        raise S3Error("MalformedACLError")
    if text_of(root, "Owner/ID") not in {owner, ""}:
        raise S3Error("AccessDenied", "The owner cannot be changed.")
    found = root.findall("AccessControlList/Grant")
    if len(found) > GRANTS_MAX:
        raise S3Error("MalformedACLError", f"There are at most {GRANTS_MAX} grants.")
    return Acl(owner, _sorted([await _grant_of_element(element, users) for element in found]))


async def acl_nodes(acl: Acl, users: Users) -> Sequence[Node]:
    """The elements of the document that shows a list."""
    grants = [await _grant_node(grant, users) for grant in acl.grants]
    return [await owner_node(acl.owner, users), Node("AccessControlList", None, *grants)]


async def owner_node(account: str, users: Users, name: str = "Owner") -> Node:
    """An account, as documents show it."""
    known = await users.owner(account) if account else None
    shown = known or Owner(account or "anonymous", account or "anonymous")
    return Node(name, None, Node("ID", shown.account), Node("DisplayName", shown.name))


def _sorted(grants: Sequence[Grant]) -> tuple[Grant, ...]:
    return (*(grant for grant in grants if grant.group), *(grant for grant in grants if not grant.group))


async def _grant_of_header(text: str, permission: Permission, users: Users) -> Grant:
    kind, _, value = text.partition("=")
    value = value.strip().strip('"')
    if kind == "id":
        return await _to_account(value, permission, users)
    if kind == "emailAddress":
        return await _to_address(value, permission, users)
    if kind == "uri" and value in GROUPS:
        return Grant(GROUPS[value], permission, True)
    raise S3Error("InvalidArgument", "A grantee is id=, uri= of a known group, or emailAddress=.")


async def _grant_of_element(element: ET.Element, users: Users) -> Grant:
    permission = next((known for known in PERMISSIONS if known == text_of(element, "Permission")), None)
    grantee = element.find("Grantee")
    if permission is None or grantee is None:
        raise S3Error("MalformedACLError")
    if grantee.find("ID") is not None:
        return await _to_account(text_of(grantee, "ID"), permission, users)
    if grantee.find("EmailAddress") is not None:
        return await _to_address(text_of(grantee, "EmailAddress"), permission, users)
    if text_of(grantee, "URI") in GROUPS:
        return Grant(GROUPS[text_of(grantee, "URI")], permission, True)
    raise S3Error("InvalidArgument", "The grantee is neither an account nor a known group.")


async def _to_account(account: str, permission: Permission, users: Users) -> Grant:
    known = await users.owner(account)
    if known is None or known.account != account:
        raise S3Error("InvalidArgument", "There is no such account to grant to.")
    return Grant(account, permission)


async def _to_address(address: str, permission: Permission, users: Users) -> Grant:
    known = await users.owner(address) if "@" in address else None
    if known is None:
        raise S3Error("UnresolvableGrantByEmailAddress")
    return Grant(known.account, permission)


async def _grant_node(grant: Grant, users: Users) -> Node:
    if grant.group:
        whom = [Node("URI", _URIS[grant.whom])]
        kind = "Group"
    else:
        whom = list((await owner_node(grant.whom, users)).inside)
        kind = "CanonicalUser"
    grantee = Node("Grantee", None, *whom, xmlns__xsi=INSTANCE, xsi__type=kind)
    return Node("Grant", None, grantee, Node("Permission", grant.permission))
