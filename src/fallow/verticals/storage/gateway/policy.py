"""Bucket policies: read strictly, and evaluated. Pure.

A statement matches where its principal, action, resource and all of its conditions do; one that denies wins. A
principal is an account with all of its API keys, or one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal, NamedTuple

from fallow.verticals.storage.gateway.actions import ACTIONS
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.times import read_iso

POLICY_BYTES_MAX: Final = 20 << 10
PATTERN_MAX: Final = 2048
"""Twice the longest name; compiled patterns are kept, at some 16 bytes a character."""
ANYBODY: Final = "*"
_ARN: Final = "arn:"
_RESOURCE: Final = "arn:aws:s3:::"
_ACCOUNT: Final = re.compile(r"^arn:[^:]*:iam::(?:([^:]+):root|:user/([^:/]+))\Z")
"""The account of arn:aws:iam::ACCOUNT:root, and of arn:aws:iam:::user/ACCOUNT, as Ceph writes it."""
_USER: Final = re.compile(r"^arn:aws:iam::[^:]+:user/[^:/]+\Z")
_STATEMENT: Final = frozenset({
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
})  # fmt: skip
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_VARIABLE: Final = "${"
_ADDRESS_KEY: Final = "aws:sourceip"
HEADER_KEYS: Final = (
    "x-amz-acl", "x-amz-content-sha256", "x-amz-copy-source", "x-amz-grant-full-control", "x-amz-grant-read",
    "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp", "x-amz-metadata-directive",
    "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class", "x-amz-object-ownership", "if-match",
    "if-none-match",
)  # fmt: skip
"""Headers that conditions can speak of, as s3: and their name."""
QUERY_KEYS: Final = ("prefix", "delimiter", "max-keys")
"""What of a list's query they can speak of, in the same way."""
TAG_KEYS: Final = ("s3:existingobjecttag/", "s3:requestobjecttag/")
KEYS: Final = frozenset({
    _ADDRESS_KEY, "aws:securetransport", "aws:currenttime", "aws:epochtime", "aws:principaltype", "aws:principalarn",
    "aws:referer", "aws:useragent", "aws:userid", "aws:username", "s3:authtype", "s3:signatureversion", "s3:versionid",
    *(f"s3:{name}" for name in (*HEADER_KEYS, *QUERY_KEYS)),
})  # fmt: skip
"""All that conditions can speak of, beside tags."""
_WHO: Final = frozenset({"aws:principalarn", "aws:userid"})
_NAMING: Final = frozenset({"stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike"})
_SMALL_4: Final = 8
_SMALL_6: Final = 32
"""Networks with a shorter prefix are as good as all, as S3 has it."""
_NULL: Final = "null"
_FOR_ALL: Final = "forallvalues"
_FOR_ANY: Final = "foranyvalue"
_QUANTIFIERS: Final = frozenset({"", _FOR_ALL, _FOR_ANY})
_IF_EXISTS: Final = "ifexists"

Verdict = Literal["allow", "deny", "silent"]


class Asked(NamedTuple):
    """What is to be judged: who (an account, "" for anybody), what is done, to which resource, and in what context.

    `key` is the API key of the account by which it is asked. `context` has lower-case names.
    """

    account: str
    key: str
    action: str
    resource: str
    context: Mapping[str, str]


class Statement(NamedTuple):
    """One statement, with lower-case actions. `who` and the others are lists of patterns, or what they are not.

    In `who` are accounts, and API keys as `user_arn` writes them.
    """

    allows: bool
    who: tuple[str, ...]
    not_who: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]


class Policy(NamedTuple):
    """A policy."""

    statements: tuple[Statement, ...]

    def judge(self, asked: Asked) -> Verdict:
        """Say whether something is allowed, denied, or not spoken of."""
        matching = [statement for statement in self.statements if _matches(statement, asked)]
        if any(not statement.allows for statement in matching):
            return "deny"
        return "allow" if matching else "silent"

    def judge_key(self, asked: Asked) -> Verdict:
        """Say the same by those statements alone that name the API key by itself."""
        user = user_arn(asked.account, asked.key)
        return Policy(tuple(one for one in self.statements if user in one.who and not one.not_who)).judge(asked)

    def public(self) -> bool:
        """Whether it lets everybody in, with no condition that says from where or who."""
        return any(
            statement.allows
            and (ANYBODY in statement.who or statement.not_who)
            and not any(_narrows(*condition) for condition in statement.conditions)
            for statement in self.statements
        )


def user_arn(account: str, key: str) -> str:
    """How a policy names one API key of an account."""
    return f"arn:aws:iam::{account}:user/{key}"


def read_policy(data: bytes, bucket: str) -> Policy:
    """Read a policy for a bucket.

    Raises:
        S3Error: MalformedPolicy.
    """
    policy = _parsed(data)
    for statement in policy.statements:
        if statement.allows and statement.not_who:
            raise S3Error("MalformedPolicy", "A policy allows a Principal; all but some would be too many.")
        if not all(_is_of(resource, bucket) for resource in statement.resources):
            raise S3Error("MalformedPolicy", "A resource of the policy is not of this bucket.")
        _check_known(statement)
        if any(_VARIABLE in text for text in (*statement.resources, *_values(statement))):
            raise S3Error("MalformedPolicy", "Variables of policies are not known here.")
    return policy


def _check_known(statement: Statement) -> None:
    """Refuse what could never match: who is denied something by it would think that it holds."""
    for principal in statement.who:
        if principal.startswith(_ARN) and not _USER.match(principal):
            form = "arn:aws:iam::ACCOUNT:root, or arn:aws:iam::ACCOUNT:user/KEY for one API key"
            raise S3Error("MalformedPolicy", f"The principal {principal} is not known here. It is {form}.")
    for action in statement.actions:
        if not any(like(known, action) for known in ACTIONS):
            raise S3Error("MalformedPolicy", f"S3 has no action {action} on a bucket or an object.")
    for _, key, _ in statement.conditions:
        if key not in KEYS and not key.startswith(TAG_KEYS):
            raise S3Error("MalformedPolicy", f"Conditions on {key} are not known here.")


def kept_policy(data: bytes) -> Policy | None:
    """Read the policy that a bucket has, none where `data` is empty: its owner can have set it with another client.

    Raises:
        S3Error: MalformedPolicy.
    """
    return _parsed(data) if data else None


@lru_cache(maxsize=256)
def _parsed(data: bytes) -> Policy:
    if len(data) > POLICY_BYTES_MAX:
        raise S3Error("MalformedPolicy", "A policy has at most 20 KiB.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise S3Error("MalformedPolicy", "The policy is not JSON.") from error
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise S3Error("MalformedPolicy")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise S3Error("MalformedPolicy", "The policy's version is not known.")
    statements = document.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    if not listed:
        raise S3Error("MalformedPolicy")
    policy = Policy(tuple(_statement(statement) for statement in listed))
    for one in policy.statements:
        if any(len(text) > PATTERN_MAX for text in (*one.resources, *one.actions, *_values(one))):
            raise S3Error("MalformedPolicy", f"A pattern of the policy has at most {PATTERN_MAX} characters.")
    return policy


def _values(statement: Statement) -> list[str]:
    return [value for _, _, values in statement.conditions for value in values]


def _statement(said: object) -> Statement:
    if not isinstance(said, dict) or not said.keys() <= _STATEMENT or said.get("Effect") not in {"Allow", "Deny"}:
        raise S3Error("MalformedPolicy", "A statement of the policy is malformed.")
    who, not_who = _either(said, "Principal", _principals)
    actions, not_actions = _either(said, "Action", _words)
    resources, not_resources = _either(said, "Resource", _words)
    lower = tuple(action.lower() for action in actions)
    if not all(action == "*" or action.startswith("s3:") for action in lower):
        raise S3Error("MalformedPolicy", "An action of the policy is not S3's.")
    return Statement(
        said["Effect"] == "Allow", who, not_who, lower, not_actions, resources, not_resources, _conditions(said)
    )


def _either(
    said: Mapping[str, Any], name: str, read: Callable[[object], tuple[str, ...]]
) -> tuple[tuple[str, ...], bool]:
    if (name in said) == (f"Not{name}" in said):
        raise S3Error("MalformedPolicy", f"A statement has one of {name} and Not{name}.")
    return (read(said[name]), False) if name in said else (read(said[f"Not{name}"]), True)


def _words(said: object) -> tuple[str, ...]:
    listed = said if isinstance(said, list) else [said]
    if not listed or not all(isinstance(word, str) for word in listed):
        raise S3Error("MalformedPolicy")
    return tuple(listed)


def _principals(said: object) -> tuple[str, ...]:
    if said == ANYBODY:
        return (ANYBODY,)
    if not isinstance(said, dict) or not said or not said.keys() <= {"AWS", "CanonicalUser"}:
        raise S3Error("MalformedPolicy", "A principal of the policy is malformed.")
    return tuple(_ACCOUNT.sub(r"\1\2", word) for words in said.values() for word in _words(words))


def _conditions(said: Mapping[str, Any]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    conditions = said.get("Condition", {})
    if not isinstance(conditions, dict) or not all(isinstance(keys, dict) for keys in conditions.values()):
        raise S3Error("MalformedPolicy", "A condition of the policy is malformed.")
    read = [
        (operator, key.lower(), tuple(_value(value) for value in (values if isinstance(values, list) else [values])))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    ]
    for operator, _, values in read:
        if not values:
            raise S3Error("MalformedPolicy", "A condition of the policy has no values.")
        quantifier, name, _ = _read_operator(operator)
        compare = _OPERATORS.get(name)
        if quantifier not in _QUANTIFIERS or (compare is None and name != _NULL):
            raise S3Error("MalformedPolicy", f"The condition {operator} is not known here.")
        if compare is not None:
            _tried(compare, values)
    return tuple(read)


def _tried(compare: Callable[[str, str], bool], values: Sequence[str]) -> None:
    """Find out now whether the values of a condition are of its kind."""
    try:
        for value in values:
            compare(value.split("/", maxsplit=1)[0], value)
    except ValueError as error:
        raise S3Error("MalformedPolicy", "A value of a condition is malformed.") from error


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise S3Error("MalformedPolicy", "A value of a condition is malformed.")


def _is_of(resource: str, bucket: str) -> bool:
    """Whether a pattern can mean this bucket or something in it."""
    if resource == "*":
        return True
    parts = resource.split(":", 5)
    if len(parts) != 6 or parts[:3] != ["arn", "aws", "s3"]:  # noqa: PLR2004 - an ARN's six fields
        return False
    return like(bucket, parts[5].partition("/")[0])


def _matches(statement: Statement, asked: Asked) -> bool:
    who = {ANYBODY, asked.account, user_arn(asked.account, asked.key)} if asked.account else {ANYBODY}
    action = any(like(asked.action.lower(), pattern) for pattern in statement.actions)
    resource = any(like(asked.resource, _tenantless(pattern)) for pattern in statement.resources)
    return (
        who.isdisjoint(statement.who) == statement.not_who
        and action != statement.not_actions
        and resource != statement.not_resources
        and all(_holds(*condition, asked.context) for condition in statement.conditions)
    )


def _tenantless(pattern: str) -> str:
    """A resource without region and account, which buckets here have not."""
    parts = pattern.split(":", 5)
    return pattern if len(parts) != 6 else f"{_RESOURCE}{parts[5]}"  # noqa: PLR2004 - an ARN's six fields


def resource_of(bucket: str, key: str = "") -> str:
    """The resource that a bucket, or an object in it, is."""
    return f"{_RESOURCE}{bucket}/{key}" if key else f"{_RESOURCE}{bucket}"


def like(text: str, pattern: str) -> bool:
    """Whether a text fits a pattern with * and ?."""
    return _pattern(pattern).match(text) is not None


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Each part between stars is taken where it first fits: never slower than text times pattern."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    if not rest:
        return re.compile(rf"{first}\Z", re.DOTALL)
    middle = "".join(rf"(?>.*?{part})" for part in rest[:-1])
    return re.compile(rf"{first}{middle}.*{rest[-1]}\Z", re.DOTALL)


def _holds(operator: str, key: str, values: tuple[str, ...], context: Mapping[str, str]) -> bool:
    there = context.get(key)
    quantifier, name, if_exists = _read_operator(operator)
    if name == _NULL:
        return (there is None) == (values[0].lower() == "true")
    negative = _is_negative(name)
    if there is None:
        return if_exists or quantifier == _FOR_ALL or (negative and quantifier != _FOR_ANY)
    return any(_compared(_OPERATORS[name], there, value) for value in values) != negative


def _is_negative(name: str) -> bool:
    return "not" in name


def _compared(compare: Callable[[str, str], bool], there: str, value: str) -> bool:
    try:
        return compare(there, value)
    except ValueError:
        return False


class _Operator(NamedTuple):
    """An operator's parts, in lower case: ForAllValues:StringEqualsIfExists has them all."""

    quantifier: str
    name: str
    if_exists: bool


def _read_operator(operator: str) -> _Operator:
    quantifier, _, name = operator.lower().rpartition(":")
    return _Operator(quantifier, name.removesuffix(_IF_EXISTS), name.endswith(_IF_EXISTS))


def _narrows(operator: str, key: str, values: tuple[str, ...]) -> bool:
    """Whether a condition holds for some only: it names accounts, or networks that are not vast."""
    quantifier, name, if_exists = _read_operator(operator)
    if if_exists or quantifier == _FOR_ALL:
        return False
    if key == _ADDRESS_KEY:
        return name == "ipaddress" and all(_is_small(network) for network in values)
    return key in _WHO and name in _NAMING and not any("*" in value or "?" in value for value in values)


def _is_small(network: str) -> bool:
    there = ip_network(network, strict=False)
    return there.prefixlen >= (_SMALL_4 if there.version == 4 else _SMALL_6)  # noqa: PLR2004 - IPv4


def _within(there: str, network: str) -> bool:
    address = ip_address(there)
    return (getattr(address, "ipv4_mapped", None) or address) in ip_network(network, strict=False)


_OPERATORS: Final[dict[str, Callable[[str, str], bool]]] = {
    "stringequals": lambda there, value: there == value,
    "stringnotequals": lambda there, value: there == value,
    "stringequalsignorecase": lambda there, value: there.lower() == value.lower(),
    "stringnotequalsignorecase": lambda there, value: there.lower() == value.lower(),
    "stringlike": like,
    "stringnotlike": like,
    "arnequals": like,
    "arnlike": like,
    "arnnotequals": like,
    "arnnotlike": like,
    "numericequals": lambda there, value: float(there) == float(value),
    "numericnotequals": lambda there, value: float(there) == float(value),
    "numericlessthan": lambda there, value: float(there) < float(value),
    "numericlessthanequals": lambda there, value: float(there) <= float(value),
    "numericgreaterthan": lambda there, value: float(there) > float(value),
    "numericgreaterthanequals": lambda there, value: float(there) >= float(value),
    "dateequals": lambda there, value: read_iso(there) == read_iso(value),
    "datenotequals": lambda there, value: read_iso(there) == read_iso(value),
    "datelessthan": lambda there, value: read_iso(there) < read_iso(value),
    "datelessthanequals": lambda there, value: read_iso(there) <= read_iso(value),
    "dategreaterthan": lambda there, value: read_iso(there) > read_iso(value),
    "dategreaterthanequals": lambda there, value: read_iso(there) >= read_iso(value),
    "bool": lambda there, value: there.lower() == value.lower(),
    "ipaddress": _within,
    "notipaddress": _within,
}
"""What each operator compares; those that say "not" turn the answer round."""
