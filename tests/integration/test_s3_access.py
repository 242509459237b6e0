"""Who may do what: ACLs, policies, blocks and ownership, through unmodified clients of two accounts and of nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fallow.verticals.storage.gateway.users import User
from tests.s3_world import ALT, MAIN, SECOND, World, adding, refused

DENIED = (403, "AccessDenied")
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def put(client: Any, bucket: str, key: str = "foo", **more: Any) -> Any:
    return client.put_object(Bucket=bucket, Key=key, Body=key.encode(), **more)


def grants(acl: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["Grantee"].get("ID") or one["Grantee"]["URI"], one["Permission"]) for one in acl["Grants"]]


def granting(acl: dict[str, Any], account: str, permission: str) -> dict[str, Any]:
    grant = {"Grantee": {"ID": account, "Type": "CanonicalUser"}, "Permission": permission}
    return {"Owner": acl["Owner"], "Grants": [*acl["Grants"], grant]}


def test_what_is_new_is_its_makers_alone(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    for acl in (client.get_bucket_acl(Bucket=bucket), client.get_object_acl(Bucket=bucket, Key="foo")):
        assert acl["Owner"] == {"ID": MAIN.account, "DisplayName": "Main"}
        assert grants(acl) == [(MAIN.account, "FULL_CONTROL")]
    for other in (s3.client(ALT), s3.client(None)):
        assert refused(other.get_object, Bucket=bucket, Key="foo") == DENIED
        assert refused(other.get_object, Bucket=bucket, Key="none") == DENIED
        assert refused(other.list_objects_v2, Bucket=bucket) == DENIED
        assert refused(put, client=other, bucket=bucket) == DENIED


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("private", []),
        ("public-read", [("AllUsers", "READ")]),
        ("public-read-write", [("AllUsers", "READ"), ("AllUsers", "WRITE")]),
        ("authenticated-read", [("AuthenticatedUsers", "READ")]),
    ],
)
def test_a_canned_list_is_shown_as_its_grants(s3: World, bucket: str, name: str, groups: list[Any]) -> None:
    client = s3.client()
    put(client, bucket, ACL=name)
    client.put_bucket_acl(Bucket=bucket, ACL=name)
    wanted = [(f"http://acs.amazonaws.com/groups/global/{group}", permission) for group, permission in groups]
    wanted.append((MAIN.account, "FULL_CONTROL"))
    assert grants(client.get_object_acl(Bucket=bucket, Key="foo")) == wanted
    assert grants(client.get_bucket_acl(Bucket=bucket)) == wanted


def test_a_public_bucket_shows_its_names_and_not_what_is_private_in_it(s3: World, bucket: str) -> None:
    client, nobody = s3.client(), s3.client(None)
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    put(client, bucket, "hidden")
    put(client, bucket, "shown", ACL="public-read")
    assert [one["Key"] for one in nobody.list_objects_v2(Bucket=bucket)["Contents"]] == ["hidden", "shown"]
    assert nobody.get_object(Bucket=bucket, Key="shown")["Body"].read() == b"shown"
    assert refused(nobody.get_object, Bucket=bucket, Key="hidden") == DENIED
    assert refused(nobody.get_object, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    assert refused(put, client=nobody, bucket=bucket) == DENIED


def test_what_others_write_is_theirs(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    put(alt, bucket, "mine")
    assert refused(client.get_object, Bucket=bucket, Key="mine") == DENIED
    put(alt, bucket, "mine", ACL="bucket-owner-read")
    assert client.get_object(Bucket=bucket, Key="mine")["Body"].read() == b"mine"
    acl = alt.get_object_acl(Bucket=bucket, Key="mine")
    assert grants(acl) == [(ALT.account, "FULL_CONTROL"), (MAIN.account, "READ")]
    client.delete_object(Bucket=bucket, Key="mine")


@pytest.mark.parametrize("permission", ["READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"])
def test_a_grant_lets_an_account_do_that_and_no_more(s3: World, bucket: str, permission: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    acl = granting(client.get_bucket_acl(Bucket=bucket), ALT.account, permission)
    client.put_bucket_acl(Bucket=bucket, AccessControlPolicy=acl)
    tried: dict[str, Callable[[], Any]] = {
        "READ": lambda: alt.head_bucket(Bucket=bucket),
        "WRITE": lambda: put(alt, bucket),
        "READ_ACP": lambda: alt.get_bucket_acl(Bucket=bucket),
        "WRITE_ACP": lambda: alt.put_bucket_acl(Bucket=bucket, ACL="private"),
    }
    for name, call in tried.items():
        if permission in {name, "FULL_CONTROL"}:
            call()
        else:
            assert refused(call)[0] == 403


def test_an_owner_without_a_grant_can_still_change_the_list(s3: World, bucket: str) -> None:
    client = s3.client()
    owner = client.get_bucket_acl(Bucket=bucket)["Owner"]
    client.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": owner, "Grants": []})
    assert client.get_bucket_acl(Bucket=bucket)["Grants"] == []
    assert refused(put, client=client, bucket=bucket) == DENIED
    client.put_bucket_acl(Bucket=bucket, ACL="private")
    put(client, bucket)


def test_grants_stand_in_headers_too(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, GrantRead=f"id={ALT.account}", GrantFullControl="emailAddress=main@example.org")
    acl = client.get_object_acl(Bucket=bucket, Key="foo")
    assert grants(acl) == [(ALT.account, "READ"), (MAIN.account, "FULL_CONTROL")]
    put(client, bucket, GrantRead=f"uri={ALL_USERS}")
    assert grants(client.get_object_acl(Bucket=bucket, Key="foo")) == [(ALL_USERS, "READ")]


def test_a_grant_to_who_is_not_known_is_refused(s3: World, bucket: str) -> None:
    client = s3.client()
    acl = granting(client.get_bucket_acl(Bucket=bucket), "_foo", "READ")
    assert refused(client.put_bucket_acl, Bucket=bucket, AccessControlPolicy=acl) == (400, "InvalidArgument")
    acl["Grants"][-1]["Grantee"] = {"EmailAddress": "x@y.invalid", "Type": "AmazonCustomerByEmail"}
    refusal = refused(client.put_bucket_acl, Bucket=bucket, AccessControlPolicy=acl)
    assert refusal == (400, "UnresolvableGrantByEmailAddress")
    adding(client, "PutBucketAcl", {"x-amz-acl": "public-ready"})
    assert refused(client.put_bucket_acl, Bucket=bucket, ACL="public-read")[0] == 400


def test_the_owner_of_a_list_stays(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    put(client, bucket)
    acl = granting(client.get_object_acl(Bucket=bucket, Key="foo"), ALT.account, "FULL_CONTROL")
    client.put_object_acl(Bucket=bucket, Key="foo", AccessControlPolicy=acl)
    stolen = {**acl, "Owner": {"ID": ALT.account}}
    assert refused(alt.put_object_acl, Bucket=bucket, Key="foo", AccessControlPolicy=stolen) == DENIED
    alt.put_object_acl(Bucket=bucket, Key="foo", AccessControlPolicy=acl)
    assert alt.get_object_acl(Bucket=bucket, Key="foo")["Owner"]["ID"] == MAIN.account


def policy(bucket: str, action: str | list[str], *, on: str = "/*", **more: Any) -> str:
    said = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": action, "Resource": f"arn:aws:s3:::{bucket}{on}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**said, **more}]})


def test_a_policy_lets_others_in_and_comes_back_as_it_was_set(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    put(client, bucket)
    assert refused(client.get_bucket_policy, Bucket=bucket) == (404, "NoSuchBucketPolicy")
    said = policy(bucket, "s3:ListBucket", on="")
    client.put_bucket_policy(Bucket=bucket, Policy=said)
    assert client.get_bucket_policy(Bucket=bucket)["Policy"] == said
    assert len(alt.list_objects_v2(Bucket=bucket)["Contents"]) == 1
    assert refused(alt.get_object, Bucket=bucket, Key="foo") == DENIED
    client.delete_bucket_policy(Bucket=bucket)
    assert refused(alt.list_objects_v2, Bucket=bucket) == DENIED
    assert refused(client.put_bucket_policy, Bucket=bucket, Policy="{}") == (400, "MalformedPolicy")


def test_a_policy_that_denies_binds_the_owner_but_for_the_policy_itself(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:*", on="*", Effect="Deny"))
    assert refused(put, client=client, bucket=bucket) == DENIED
    client.delete_bucket_policy(Bucket=bucket)
    put(client, bucket)


def of_one(user: User) -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{user.account}:user/{user.access_key}"}


def test_a_policy_binds_one_api_key_of_its_account_and_that_one_cannot_undo_it(s3: World, bucket: str) -> None:
    client, second = s3.client(), s3.client(SECOND)
    put(client, bucket)
    said = {"Sid": "reads", "Effect": "Deny", "Principal": of_one(SECOND), "NotAction": ["s3:GetObject", "s3:List*"]}
    everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [{**said, "Resource": everything}]}))
    assert second.get_object(Bucket=bucket, Key="foo")["Body"].read() == b"foo"
    assert len(second.list_objects_v2(Bucket=bucket)["Contents"]) == 1
    assert refused(put, client=second, bucket=bucket) == DENIED
    assert refused(second.delete_object, Bucket=bucket, Key="foo") == DENIED
    assert refused(second.put_bucket_acl, Bucket=bucket, ACL="public-read") == DENIED
    assert refused(second.delete_bucket_policy, Bucket=bucket) == DENIED
    assert refused(second.put_bucket_policy, Bucket=bucket, Policy=policy(bucket, "s3:GetObject")) == DENIED
    assert refused(second.get_bucket_policy, Bucket=bucket) == DENIED
    put(client, bucket)
    client.delete_bucket_policy(Bucket=bucket)
    put(second, bucket)


def test_a_policy_lets_one_api_key_of_another_account_in(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:GetObject", Principal=of_one(ALT)))
    s3.client(ALT).get_object(Bucket=bucket, Key="foo")
    another = {"AWS": f"arn:aws:iam::{ALT.account}:user/AKANOTHER"}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:GetObject", Principal=another))
    assert refused(s3.client(ALT).get_object, Bucket=bucket, Key="foo") == DENIED
    named = {"StringEquals": {"aws:username": ALT.access_key}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:GetObject", Condition=named))
    s3.client(ALT).get_object(Bucket=bucket, Key="foo")


def test_a_policy_can_ask_for_tags(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    put(client, bucket, "open", Tagging="security=public")
    put(client, bucket, "closed", Tagging="security=private")
    condition = {"StringEquals": {"s3:ExistingObjectTag/security": "public"}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:GetObject", Condition=condition))
    assert alt.get_object(Bucket=bucket, Key="open")["Body"].read() == b"open"
    assert refused(alt.get_object, Bucket=bucket, Key="closed") == DENIED
    condition = {"StringEquals": {"s3:RequestObjectTag/security": "public"}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:PutObject", Condition=condition))
    assert refused(put, client=alt, bucket=bucket) == DENIED
    put(alt, bucket, Tagging="security=public")


def test_a_policy_can_ask_for_headers_and_sources(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    put(client, bucket, "public/foo", ACL="public-read")
    put(client, bucket, "private/foo", ACL="public-read")
    condition = {"StringLike": {"s3:x-amz-copy-source": f"{bucket}/public/*"}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:PutObject", Condition=condition))
    alt.copy_object(Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "public/foo"})
    source = {"Bucket": bucket, "Key": "private/foo"}
    assert refused(alt.copy_object, Bucket=bucket, Key="new", CopySource=source) == DENIED
    condition = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:PutObject", Condition=condition))
    put(alt, bucket, ACL="bucket-owner-full-control")
    assert refused(put, client=alt, bucket=bucket) == DENIED


def test_a_policy_that_denies_lists_or_tags_denies_them_in_a_write_too(s3: World, bucket: str) -> None:
    client = s3.client()
    denied = policy(bucket, "s3:PutObjectAcl", Effect="Deny")
    client.put_bucket_policy(Bucket=bucket, Policy=denied)
    put(client, bucket)
    assert refused(put, client=client, bucket=bucket, ACL="public-read") == DENIED
    assert refused(put, client=client, bucket=bucket, GrantRead=f"id={ALT.account}") == DENIED
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:PutObjectTagging", Effect="Deny"))
    assert refused(put, client=client, bucket=bucket, Tagging="a=b") == DENIED


def test_who_may_not_read_an_object_learns_no_attributes_of_it(s3: World, bucket: str) -> None:
    client, asked = s3.client(), {"Bucket": bucket, "Key": "foo", "ObjectAttributes": ["ETag"]}
    put(client, bucket)
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:GetObjectAttributes"))
    assert refused(s3.client(ALT).get_object_attributes, **asked) == DENIED
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, ["s3:GetObjectAttributes", "s3:GetObject"]))
    s3.client(ALT).get_object_attributes(**asked)


def test_a_list_in_headers_has_a_size(s3: World, bucket: str) -> None:
    many = ",".join(f"id={MAIN.account}" for _ in range(101))
    assert refused(put, client=s3.client(), bucket=bucket, GrantRead=many) == (400, "InvalidArgument")


def test_a_bucket_is_public_by_its_list_or_its_policy(s3: World, bucket: str) -> None:
    client = s3.client()

    def public() -> bool:
        return bool(client.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"])

    assert not public()
    client.put_bucket_acl(Bucket=bucket, ACL="authenticated-read")
    assert public()
    client.put_bucket_acl(Bucket=bucket, ACL="private")
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:ListBucket", on=""))
    assert public()
    narrow = {"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:ListBucket", on="", Condition=narrow))
    assert not public()


def block(client: Any, bucket: str, **said: bool) -> None:
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=said)


def test_public_access_can_be_blocked(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    missing = (404, "NoSuchPublicAccessBlockConfiguration")
    assert refused(client.get_public_access_block, Bucket=bucket) == missing
    put(client, bucket, ACL="public-read")
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:ListBucket", on=""))
    block(client, bucket, BlockPublicAcls=True)
    assert refused(put, client=client, bucket=bucket, ACL="public-read") == DENIED
    assert refused(client.put_bucket_acl, Bucket=bucket, ACL="authenticated-read") == DENIED
    assert alt.get_object(Bucket=bucket, Key="foo")["Body"].read() == b"foo"
    block(client, bucket, IgnorePublicAcls=True)
    assert refused(alt.get_object, Bucket=bucket, Key="foo") == DENIED
    alt.list_objects_v2(Bucket=bucket)
    block(client, bucket, RestrictPublicBuckets=True, BlockPublicPolicy=True)
    assert refused(alt.list_objects_v2, Bucket=bucket) == DENIED
    said = policy(bucket, "s3:GetObject")
    assert refused(client.put_bucket_policy, Bucket=bucket, Policy=said) == DENIED
    client.delete_public_access_block(Bucket=bucket)
    alt.list_objects_v2(Bucket=bucket)


def test_a_bucket_can_own_all_that_is_written_into_it(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    assert refused(client.get_bucket_ownership_controls, Bucket=bucket) == (404, "OwnershipControlsNotFoundError")
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "s3:PutObject"))
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    client.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=enforced)
    assert client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == enforced
    put(alt, bucket)
    assert client.get_object(Bucket=bucket, Key="foo")["Body"].read() == b"foo"
    put(alt, bucket, ACL="bucket-owner-full-control")
    put(client, bucket, ACL="private")
    for acl in ("public-read", "private"):
        assert refused(put, client=alt, bucket=bucket, ACL=acl) == (400, "AccessControlListNotSupported")
    assert refused(client.put_bucket_acl, Bucket=bucket, ACL="public-read") == (400, "AccessControlListNotSupported")


def test_that_an_object_is_not_there_is_told_to_who_may_list_names_like_it(s3: World, bucket: str) -> None:
    alt = s3.client(ALT)
    condition = {"StringLike": {"s3:prefix": "public/*"}}
    listing = policy(bucket, "s3:ListBucket", on="", Condition=condition)
    s3.client().put_bucket_policy(Bucket=bucket, Policy=listing)
    assert refused(alt.head_object, Bucket=bucket, Key="public/none")[0] == 404
    assert refused(alt.head_object, Bucket=bucket, Key="private/none")[0] == 403


def test_settings_are_the_owners(s3: World, bucket: str) -> None:
    alt = s3.client(ALT)
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    for call in (alt.get_bucket_policy, alt.get_bucket_cors, alt.get_bucket_tagging, alt.delete_bucket):
        assert refused(call, Bucket=bucket) == DENIED
    assert refused(alt.head_bucket, Bucket=bucket, ExpectedBucketOwner=ALT.account)[0] == 403


def test_tags_of_buckets_and_objects(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    tags = {"TagSet": [{"Key": str(at), "Value": ""} for at in range(10)]}
    client.put_object_tagging(Bucket=bucket, Key="foo", Tagging=tags)
    assert client.get_object_tagging(Bucket=bucket, Key="foo")["TagSet"] == tags["TagSet"]
    many = {"TagSet": [{"Key": str(at), "Value": ""} for at in range(11)]}
    assert refused(client.put_object_tagging, Bucket=bucket, Key="foo", Tagging=many) == (400, "InvalidTag")
    client.delete_object_tagging(Bucket=bucket, Key="foo")
    assert client.get_object_tagging(Bucket=bucket, Key="foo")["TagSet"] == []
    assert refused(client.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")
    client.put_bucket_tagging(Bucket=bucket, Tagging=many)
    assert len(client.get_bucket_tagging(Bucket=bucket)["TagSet"]) == 11
    client.delete_bucket_tagging(Bucket=bucket)


def test_lifecycle_rules_come_back_as_they_were_set(s3: World, bucket: str) -> None:
    client = s3.client()
    assert refused(client.get_bucket_lifecycle_configuration, Bucket=bucket)[1] == "NoSuchLifecycleConfiguration"
    rules = [
        {"ID": "a", "Status": "Enabled", "Prefix": "x/", "Expiration": {"Days": 1}},
        {
            "ID": "b",
            "Status": "Disabled",
            "Filter": {"And": {"Prefix": "y", "Tags": [{"Key": "k", "Value": "v"}]}},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3},
        },
        {
            "ID": "d",
            "Status": "Enabled",
            "Filter": {"Prefix": "z"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        },
    ]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    same = {"Rules": [rules[0], rules[0]]}
    forever = {"ID": "c", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 2**31 - 1}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [forever]})
    assert put(client, bucket)["Expiration"] == 'expiry-date="Fri, 31 Dec 9999 00:00:00 GMT", rule-id="c"'
    call = client.put_bucket_lifecycle_configuration
    assert refused(call, Bucket=bucket, LifecycleConfiguration=same) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}, "InvalidRequest"),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}}, "InvalidRequest"),
        ({"Expiration": {"Days": 1}, "NoncurrentVersionExpiration": {"NewerNoncurrentVersions": 3}}, "MalformedXML"),
    ],
)
def test_a_lifecycle_rule_that_would_do_another_thing_than_it_says_is_refused(
    s3: World, bucket: str, what: dict[str, Any], code: str
) -> None:
    rules = {"Rules": [{"Status": "Enabled", "Filter": {"Tag": {"Key": "k", "Value": "v"}}, **what}]}
    call = s3.client().put_bucket_lifecycle_configuration
    assert refused(call, Bucket=bucket, LifecycleConfiguration=rules) == (400, code)
