"""Bucket policies: read strictly, and evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.verticals.storage.gateway.actions import ACTIONS
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.policy import (
    PATTERN_MAX,
    POLICY_BYTES_MAX,
    Asked,
    Verdict,
    kept_policy,
    like,
    read_policy,
    resource_of,
)
from fallow.verticals.storage.gateway.routes import browsers, expiring, settings
from tests.unit.test_docs import ROOT

SETTINGS = (
    *(browsers.RULES, expiring.RULES),
    *(settings.POLICIES, settings.BLOCKS, settings.OWNERSHIPS, settings.ENCRYPTION, settings.TAGS),
)


def statement(**changed: Any) -> dict[str, Any]:
    said = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
    return {name: value for name, value in {**said, **changed}.items() if value is not None}


def written(*statements: Mapping[str, Any]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).encode()


def asked_by(account: str = "alt", key: str = "one", **context: str) -> Asked:
    named = {name.replace("__", "-").replace("_", ":", 1): value for name, value in context.items()}
    return Asked(account, key, "s3:GetObject", resource_of("bucket", "key"), named)


def judged(*statements: Mapping[str, Any], account: str = "alt", key: str = "one", **context: str) -> Verdict:
    return read_policy(written(*statements), "bucket").judge(asked_by(account, key, **context))


def test_everybody_is_anybody_signed_or_not() -> None:
    assert judged(statement()) == "allow"
    assert judged(statement(), account="") == "allow"


def test_what_denies_wins() -> None:
    assert judged(statement(), statement(Effect="Deny")) == "deny"


def test_what_a_policy_does_not_speak_of_is_left_to_others() -> None:
    assert judged(statement(Action="s3:PutObject")) == "silent"
    assert judged(statement(Resource="arn:aws:s3:::bucket")) == "silent"


@pytest.mark.parametrize(
    "principal",
    [
        {"AWS": "alt"},
        {"AWS": ["x", "arn:aws:iam::alt:root"]},
        {"AWS": "arn:aws:iam:::user/alt"},
        {"CanonicalUser": "alt"},
    ],
)
def test_an_account_is_named_in_several_ways(principal: dict[str, Any]) -> None:
    assert judged(statement(Principal=principal)) == "allow"
    assert judged(statement(Principal=principal), account="main") == "silent"
    assert judged(statement(Principal=principal), account="") == "silent"


@pytest.mark.parametrize("action", ["s3:GetObjekt", "s3:ListObjectsV2", "s3:Gte*", "s3:GetObject?", "s3:", "ec2:*"])
def test_an_action_that_s3_has_not_is_refused_when_a_policy_is_set(action: str) -> None:
    for name in ("Action", "NotAction"):
        said = written(statement(**{"Action": None, name: ["s3:GetObject", action]}))
        with pytest.raises(S3Error) as refused:
            read_policy(said, "bucket")
        assert refused.value.code == "MalformedPolicy"
    if action.startswith("s3:"):  # a bucket may have it from before
        assert kept_policy(written(statement(Action=action))) is not None


@pytest.mark.parametrize("action", ["*", "s3:*", "S3:getobject", "s3:Get*", "s3:*Object", "s3:ReplicateObject"])
def test_actions_are_named_in_any_case_by_patterns_and_where_they_are_not_offered(action: str) -> None:
    read_policy(written(statement(Action=action)), "bucket")


def test_every_action_that_the_gateway_judges_can_be_named() -> None:
    """By its own name, in its sources; settings of buckets are read, set and dropped by names that are put together."""
    folder = ROOT / "src/fallow/verticals/storage/gateway"
    texts = [file.read_text("utf-8") for file in folder.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'"(s3:[A-Z]\w+)"', text)}
    named |= {f"s3:{verb}{one.action}" for one in SETTINGS for verb in ("Get", "Put", one.dropping)}
    assert len(named) > 40
    assert {name for name in named if name.lower() not in ACTIONS} == set()


def test_one_api_key_is_named_beside_others_of_its_account() -> None:
    of_one = {"AWS": "arn:aws:iam::alt:user/one"}
    for effect, verdict in (("Allow", "allow"), ("Deny", "deny")):
        said = statement(Effect=effect, Principal=of_one)
        assert judged(said) == verdict
        assert judged(said, key="another") == judged(said, account="main") == judged(said, account="") == "silent"
    assert judged(statement(Effect="Deny", Principal=None, NotPrincipal=of_one)) == "silent"
    assert judged(statement(Effect="Deny", Principal=None, NotPrincipal=of_one), key="another") == "deny"


def test_statements_that_name_a_key_by_itself_are_told_apart() -> None:
    def verdict(principal: object, key: str = "one") -> Verdict:
        policy = read_policy(written(statement(Effect="Deny", Principal=principal)), "bucket")
        return policy.judge_key(asked_by(key=key))

    assert verdict({"AWS": "arn:aws:iam::alt:user/one"}) == "deny"
    assert verdict({"AWS": "arn:aws:iam::alt:user/one"}, "another") == "silent"
    assert verdict("*") == verdict({"AWS": "alt"}) == "silent"


def test_not_turns_principals_actions_and_resources_round() -> None:
    assert judged(statement(Effect="Deny", Principal=None, NotPrincipal={"AWS": "alt"})) == "silent"
    assert judged(statement(Effect="Deny", Principal=None, NotPrincipal={"AWS": "main"})) == "deny"
    assert judged(statement(Action=None, NotAction="s3:PutObject")) == "allow"
    assert judged(statement(Resource=None, NotResource="arn:aws:s3:::bucket/key")) == "silent"


@pytest.mark.parametrize(
    ("condition", "context", "verdict"),
    [
        ({"StringEquals": {"s3:ExistingObjectTag/a": "b"}}, {"s3_existingobjecttag/a": "b"}, "allow"),
        ({"StringEquals": {"s3:ExistingObjectTag/a": "b"}}, {}, "silent"),
        ({"StringNotEquals": {"s3:x-amz-acl": ["a", "b"]}}, {"s3_x__amz__acl": "b"}, "silent"),
        ({"StringNotEquals": {"s3:x-amz-acl": ["a", "b"]}}, {"s3_x__amz__acl": "c"}, "allow"),
        ({"StringLike": {"aws:Referer": "http://x.org/*"}}, {"aws_referer": "http://x.org/y"}, "allow"),
        ({"StringLikeIfExists": {"aws:Referer": "http://x.org/*"}}, {}, "allow"),
        ({"StringLikeIfExists": {"aws:Referer": "http://x.org/*"}}, {"aws_referer": "http://y.org"}, "silent"),
        ({"ForAnyValue:StringNotEquals": {"s3:x-amz-acl": "a"}}, {}, "silent"),
        ({"ForAnyValue:StringNotEquals": {"s3:x-amz-acl": "a"}}, {"s3_x__amz__acl": "c"}, "allow"),
        ({"ForAllValues:StringEquals": {"s3:x-amz-acl": "a"}}, {}, "allow"),
        ({"ForAllValues:StringEquals": {"s3:x-amz-acl": "a"}}, {"s3_x__amz__acl": "c"}, "silent"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws_sourceip": "10.1.2.3"}, "allow"),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws_sourceip": "::ffff:10.1.2.3"}, "allow"),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws_sourceip": "10.1.2.3"}, "silent"),
        ({"Null": {"s3:x-amz-acl": "true"}}, {}, "allow"),
        ({"Null": {"s3:x-amz-acl": "false"}}, {}, "silent"),
        ({"Bool": {"aws:SecureTransport": True}}, {"aws_securetransport": "true"}, "allow"),
        ({"NumericLessThan": {"s3:max-keys": 10}}, {"s3_max__keys": "9"}, "allow"),
        ({"NumericLessThan": {"s3:max-keys": 10}}, {"s3_max__keys": "many"}, "silent"),
        ({"DateLessThan": {"aws:CurrentTime": "2030-01-01"}}, {"aws_currenttime": "2029-01-01T00:00:00Z"}, "allow"),
    ],
)  # fmt: skip
def test_conditions_hold_or_do_not(condition: dict[str, Any], context: dict[str, str], verdict: Verdict) -> None:
    assert judged(statement(Condition=condition), **context) == verdict


@pytest.mark.parametrize(
    "said",
    [
        statement(Effect="Maybe"),
        statement(Principal=None),
        statement(Principal={"Service": "x"}),
        statement(Principal={"AWS": "arn:aws:iam::alt:role/one"}),
        statement(Principal={"AWS": "arn:aws:iam::alt:user/"}),
        statement(Principal={"AWS": "arn:aws:sts::alt:assumed-role/one/two"}),
        statement(Effect="Deny", Condition={"StringEquals": {"aws:PrincipalOrgID": "o"}}),
        statement(Effect="Deny", Condition={"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "9"}}),
        statement(Action="ec2:Run"),
        statement(Action=[]),
        statement(Resource="arn:aws:s3:::other/*"),
        statement(Condition={"StringSounds": {"s3:prefix": "b"}}),
        statement(Condition={"ForSomeValues:StringEquals": {"s3:prefix": "b"}}),
        statement(Condition={"StringEquals": {"s3:prefix": "${aws:userid}"}}),
        statement(Resource="arn:aws:s3:::bucket/${aws:userid}/*"),
        statement(Resource="arn:aws:s3:::bucket/" + "*a" * 1024),
        statement(Action="s3:" + "*a" * 1024),
        statement(Condition={"StringLike": {"s3:prefix": "*a" * 1025}}),
        statement(Condition={"IpAddress": {"aws:SourceIp": "nowhere"}}),
        statement(Condition={"StringEquals": {"s3:prefix": []}}),
        statement(More="x"),
    ],
)
def test_what_is_malformed_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(S3Error) as caught:
        read_policy(written(said), "bucket")
    assert caught.value.code == "MalformedPolicy"


@pytest.mark.parametrize("data", [b"", b"[", b"[]", b"{}", b'{"Statement": []}', b"[" * 20_000])
def test_what_is_no_policy_is_refused(data: bytes) -> None:
    with pytest.raises(S3Error):
        read_policy(data, "bucket")


def test_nothing_is_allowed_to_all_but_some() -> None:
    with pytest.raises(S3Error) as caught:
        read_policy(written(statement(Principal=None, NotPrincipal={"AWS": "alt"})), "bucket")
    assert caught.value.code == "MalformedPolicy"


def test_a_policy_is_public_where_nothing_narrows_it() -> None:
    assert read_policy(written(statement()), "bucket").public()
    assert not read_policy(written(statement(Principal={"AWS": "alt"})), "bucket").public()
    assert not read_policy(written(statement(Effect="Deny")), "bucket").public()


@pytest.mark.parametrize(
    ("condition", "public"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}, False),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}, False),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/32", "0.0.0.0/0"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "::/1"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/32"}}, True),
        ({"Null": {"aws:SourceIp": "false"}}, True),
        ({"StringEquals": {"aws:userid": "alt"}}, False),
        ({"StringEqualsIfExists": {"aws:userid": "alt"}}, True),
        ({"StringNotEquals": {"aws:userid": "alt"}}, True),
        ({"StringLike": {"aws:userid": "*"}}, True),
        ({"StringLike": {"aws:Referer": "http://x.org/*"}}, True),
    ],
)  # fmt: skip
def test_a_condition_narrows_where_it_names_somebody_or_a_network(condition: dict[str, Any], public: bool) -> None:
    assert read_policy(written(statement(Condition=condition)), "bucket").public() is public


def plainly_like(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(plainly_like(text[at:], pattern[1:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in {"?", text[0]} and plainly_like(text[1:], pattern[1:])


@given(st.text("ab", max_size=8), st.text("ab*?", max_size=6))
def test_patterns_mean_what_they_plainly_say(text: str, pattern: str) -> None:
    assert like(text, pattern) == plainly_like(text, pattern)


def test_a_policy_that_another_client_has_set_is_bounded_as_well() -> None:
    long = "arn:aws:s3:::bucket/" + "a" * PATTERN_MAX
    for data in (written(statement(Resource=long)), written(statement(Sid="s" * POLICY_BYTES_MAX))):
        with pytest.raises(S3Error) as caught:
            kept_policy(data)
        assert caught.value.code == "MalformedPolicy"
    assert kept_policy(written(statement())) is not None


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not like("a" * 2000 + "b", "*a" * 500 + "*c")
