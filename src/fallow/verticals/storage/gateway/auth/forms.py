"""Policies of forms: what a browser may upload in somebody's name. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from fallow.verticals.storage.gateway.auth import sigv2
from fallow.verticals.storage.gateway.auth.sigv4 import ALGORITHM, read_credential, signature, signing_key
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.times import read_strict
from fallow.verticals.storage.gateway.users import User

_FREE: Final = frozenset({
    "awsaccesskeyid", "signature", "policy", "file", "x-amz-signature", "submit", "x-amz-algorithm",
    "x-amz-credential", "x-amz-date",
})  # fmt: skip
_IGNORED: Final = ("x-ignore-", "x-amz-checksum-")
"""What forbids nothing, and allows nothing, either."""


class FormPolicy(NamedTuple):
    """How many bytes a form may bring."""

    least: int
    most: int | None


def key_of_form(fields: Mapping[str, str]) -> str:
    """The access key that signed a form; "": none did.

    Raises:
        S3Error: InvalidArgument.
    """
    if "x-amz-credential" in fields:
        credential = read_credential(fields["x-amz-credential"])
        if credential is None or fields.get("x-amz-algorithm") != ALGORITHM:
            raise S3Error("InvalidArgument", "The form's credential is malformed.")
        return credential.access_key
    return fields.get("awsaccesskeyid", "")


def check_signature(fields: Mapping[str, str], user: User) -> None:
    """Check who signed the policy of a form.

    Raises:
        S3Error: InvalidArgument, SignatureDoesNotMatch.
    """
    policy = fields.get("policy", "")
    credential = read_credential(fields.get("x-amz-credential", ""))
    sent = fields.get("signature" if credential is None else "x-amz-signature", "")
    if not sent or not policy or not policy.isascii():
        raise S3Error("InvalidArgument", "A form that is signed has a policy and its signature.")
    if credential is None:
        right = sigv2.sign(user.secret, policy)
    else:
        right = signature(signing_key(user.secret, credential.scope), policy)
    if not hmac.compare_digest(right.encode(), sent.encode("latin-1", "replace")):
        raise S3Error("SignatureDoesNotMatch")


def check_policy(fields: Mapping[str, str], bucket: str, now_ms: int) -> FormPolicy:
    """Check a form against its policy. `fields` have lower-case names.

    Raises:
        S3Error: InvalidPolicyDocument, AccessDenied (expired, or a condition does not hold).
    """
    try:
        policy = json.loads(base64.b64decode(fields["policy"], validate=True))
        expires_ms = read_strict(policy["expiration"])
        conditions = policy["conditions"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise S3Error("InvalidPolicyDocument") from error
    if not isinstance(conditions, list):
        raise S3Error("InvalidPolicyDocument")
    if expires_ms < now_ms:
        raise S3Error("AccessDenied", "The form's policy has expired.")
    known = {**fields, "bucket": bucket}
    limits, named = FormPolicy(0, None), set(_FREE)
    for condition in conditions:
        found = _limits(condition)
        if found is not None:
            limits = _both(limits, found)
            continue
        for kind, name, value in _comparisons(condition):
            there = known.get(name)
            if there is None or not (there == value if kind == "eq" else there.startswith(value)):
                raise S3Error("AccessDenied", f"The form's policy forbids what it says of {name}.")
            named.add(name)
    if "bucket" not in named:
        raise S3Error("AccessDenied", "The form's policy does not name the bucket.")
    extra = [name for name in fields if name not in named and not name.startswith(_IGNORED)]
    if extra:
        raise S3Error("AccessDenied", f"The form has fields that its policy does not name: {', '.join(extra)}.")
    return limits


def _limits(condition: object) -> FormPolicy | None:
    if not isinstance(condition, list) or not condition or str(condition[0]).lower() != "content-length-range":
        return None
    limits = condition[1:]
    if len(limits) != 2 or not all(isinstance(limit, int) and limit >= 0 for limit in limits):  # noqa: PLR2004 - a range
        raise S3Error("InvalidPolicyDocument")
    return FormPolicy(*limits)


def _both(one: FormPolicy, other: FormPolicy) -> FormPolicy:
    """Conditions hold together: of two ranges, what is in both."""
    most = [limit for limit in (one.most, other.most) if limit is not None]
    return FormPolicy(max(one.least, other.least), min(most, default=None))


def _comparisons(condition: object) -> list[tuple[str, str, str]]:
    """(eq or starts-with, the field, the value) of what a condition compares."""
    if isinstance(condition, dict) and condition:
        said = [("eq", name, value) for name, value in condition.items()]
    elif isinstance(condition, list) and len(condition) == 3:  # noqa: PLR2004 - operator, field, value
        kind, name, value = condition
        if not isinstance(kind, str) or not isinstance(name, str) or not name.startswith("$"):
            raise S3Error("InvalidPolicyDocument")
        said = [(kind.lower(), name[1:], value)]
    else:
        raise S3Error("InvalidPolicyDocument")
    if not all(kind in {"eq", "starts-with"} and isinstance(value, str) for kind, _, value in said):
        raise S3Error("InvalidPolicyDocument")
    return [(kind, name.lower(), value) for kind, name, value in said]
