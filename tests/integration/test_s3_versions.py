"""Versions and object lock through an unmodified client."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.s3_world import ALT, World, refused

LATER = datetime(2040, 1, 3, tzinfo=UTC)
LATE = datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
def kept(s3: World, bucket: str) -> str:
    """A bucket that keeps versions."""
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def locked(s3: World) -> str:
    """A bucket with object lock."""
    name = f"locked-{uuid4().hex[:12]}"
    s3.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(client: Any, bucket: str, body: bytes = b"abc", **more: Any) -> str:
    return str(client.put_object(Bucket=bucket, Key="foo", Body=body, **more).get("VersionId", ""))


def versions(client: Any, bucket: str) -> tuple[list[str], list[str]]:
    page = client.list_object_versions(Bucket=bucket)
    markers = [one["VersionId"] for one in page.get("DeleteMarkers", [])]
    return [one["VersionId"] for one in page.get("Versions", [])], markers


def test_versioning_is_off_then_enabled_or_suspended(s3: World, bucket: str) -> None:
    client = s3.client()
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    for status in ("Suspended", "Enabled", "Suspended"):
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert client.get_bucket_versioning(Bucket=bucket)["Status"] == status


def test_each_version_is_read_listed_and_deleted_for_good(s3: World, kept: str) -> None:
    client = s3.client()
    ids = [put(client, kept, bytes([at])) for at in range(3)]
    assert versions(client, kept)[0] == ids[::-1]
    for at, version in enumerate(ids):
        assert client.get_object(Bucket=kept, Key="foo", VersionId=version)["Body"].read() == bytes([at])
    client.delete_object(Bucket=kept, Key="foo", VersionId=ids[2])
    assert client.get_object(Bucket=kept, Key="foo")["VersionId"] == ids[1]
    assert refused(client.get_object, Bucket=kept, Key="foo", VersionId=ids[2]) == (404, "NoSuchVersion")
    client.delete_object(Bucket=kept, Key="foo", VersionId=ids[2])
    assert refused(client.get_object, Bucket=kept, Key="foo", VersionId="nonsense") == (400, "InvalidArgument")


def test_a_deletion_is_marked_and_the_mark_can_be_deleted(s3: World, kept: str) -> None:
    client = s3.client()
    version = put(client, kept)
    gone = client.delete_object(Bucket=kept, Key="foo")
    assert gone["DeleteMarker"]
    assert versions(client, kept) == ([version], [gone["VersionId"]])
    assert refused(client.get_object, Bucket=kept, Key="foo") == (404, "NoSuchKey")
    assert refused(client.get_object, Bucket=kept, Key="foo", VersionId=gone["VersionId"])[0] == 405
    assert "Contents" not in client.list_objects_v2(Bucket=kept)
    assert client.delete_object(Bucket=kept, Key="foo", VersionId=gone["VersionId"])["DeleteMarker"]
    assert client.get_object(Bucket=kept, Key="foo")["Body"].read() == b"abc"


def test_what_was_there_before_versions_is_the_null_one(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, b"first")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(client, bucket, b"second")
    assert client.get_object(Bucket=bucket, Key="foo", VersionId="null")["Body"].read() == b"first"
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert put(client, bucket, b"third") == ""
    assert client.get_object(Bucket=bucket, Key="foo", VersionId="null")["Body"].read() == b"third"
    client.delete_object(Bucket=bucket, Key="foo", VersionId="null")
    assert client.get_object(Bucket=bucket, Key="foo")["Body"].read() == b"second"


def test_versions_are_listed_in_pages(s3: World, kept: str) -> None:
    client = s3.client()
    ids = [put(client, kept) for _ in range(5)]
    pages = client.get_paginator("list_object_versions").paginate(Bucket=kept, PaginationConfig={"PageSize": 2})
    assert [one["VersionId"] for page in pages for one in page["Versions"]] == ids[::-1]


def test_versions_are_deleted_page_by_page(s3: World, kept: str) -> None:
    client = s3.client()
    for _ in range(5):
        put(client, kept)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=kept, PaginationConfig={"PageSize": 2}):
        named = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in page["Versions"]]
        client.delete_objects(Bucket=kept, Delete={"Objects": named})
    assert versions(client, kept) == ([], [])


def test_a_condition_on_a_version_is_on_that_one(s3: World, kept: str) -> None:
    client = s3.client()
    first = put(client, kept, b"first")
    put(client, kept, b"second")
    delete = {"Bucket": kept, "Key": "foo", "VersionId": first}
    assert refused(client.delete_object, **delete, IfMatchSize=6) == (412, "PreconditionFailed")
    both = {"Objects": [{"Key": "foo", "VersionId": first, "Size": 6}, {"Key": "bar"}]}
    answer = client.delete_objects(Bucket=kept, Delete=both)
    assert (answer["Errors"][0]["Key"], answer["Deleted"][0]["Key"]) == ("foo", "bar")
    client.delete_object(**delete, IfMatchSize=5)
    assert first not in versions(client, kept)[0]


def test_many_are_deleted_by_version_and_marked(s3: World, kept: str) -> None:
    client = s3.client()
    version = put(client, kept)
    marked = client.delete_objects(Bucket=kept, Delete={"Objects": [{"Key": "foo"}]})["Deleted"][0]
    assert marked["DeleteMarker"]
    both = [{"Key": "foo", "VersionId": one} for one in (version, marked["DeleteMarkerVersionId"])]
    gone = client.delete_objects(Bucket=kept, Delete={"Objects": both})["Deleted"]
    assert [one.get("DeleteMarker", False) for one in gone] == [False, True]
    assert versions(client, kept) == ([], [])


def test_a_version_is_copied(s3: World, kept: str) -> None:
    client = s3.client()
    first = put(client, kept, b"first")
    put(client, kept, b"second")
    source = {"Bucket": kept, "Key": "foo", "VersionId": first}
    assert client.copy_object(Bucket=kept, Key="foo", CopySource=source)["CopySourceVersionId"] == first
    assert client.get_object(Bucket=kept, Key="foo")["Body"].read() == b"first"


def test_a_policy_on_versions_is_on_those_that_are_read_and_deleted(s3: World, kept: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    first, second = put(client, kept, b"first"), put(client, kept, b"second")
    everybody = {"Effect": "Allow", "Principal": "*", "Resource": [f"arn:aws:s3:::{kept}", f"arn:aws:s3:::{kept}/*"]}
    may = everybody | {"Action": ["s3:PutObject", "s3:DeleteObjectVersion"]}
    reads = everybody | {"Action": "s3:GetObjectVersion", "Condition": {"StringEquals": {"s3:VersionId": first}}}
    keeps = may | {"Effect": "Deny", "Condition": {"StringEquals": {"s3:VersionId": second}}}
    client.put_bucket_policy(Bucket=kept, Policy=json.dumps({"Statement": [may, reads, keeps]}))
    source = {"Bucket": kept, "Key": "foo", "VersionId": second}
    with_another = f"?versionId={first}"
    alt.meta.events.register(
        "before-sign.s3.CopyObject", lambda request, **_: setattr(request, "url", request.url + with_another)
    )
    assert refused(alt.copy_object, Bucket=kept, Key="bar", CopySource=source) == (403, "AccessDenied")
    alt.copy_object(Bucket=kept, Key="bar", CopySource=source | {"VersionId": first})
    both = {"Objects": [{"Key": "foo", "VersionId": one} for one in (first, second)]}
    answer = alt.delete_objects(Bucket=kept, Delete=both)
    assert ([one["VersionId"] for one in answer["Deleted"]], answer["Errors"][0]["Code"]) == ([first], "AccessDenied")


def test_tags_belong_to_a_version(s3: World, kept: str) -> None:
    client = s3.client()
    first = put(client, kept, Tagging="a=1")
    put(client, kept, Tagging="b=2")
    tags = client.get_object_tagging(Bucket=kept, Key="foo", VersionId=first)["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}]
    assert client.head_object(Bucket=kept, Key="foo")["TagCount"] == 1


def rule(**time: Any) -> dict[str, Any]:
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", **time}}}


def test_a_bucket_with_lock_keeps_versions_and_has_a_default(s3: World, locked: str) -> None:
    client = s3.client()
    assert client.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    suspended = {"Status": "Suspended"}
    refusal = refused(client.put_bucket_versioning, Bucket=locked, VersioningConfiguration=suspended)
    assert refusal == (409, "InvalidBucketState")
    client.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule(Days=1))
    assert client.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == rule(Days=1)
    put(client, locked)
    until = client.head_object(Bucket=locked, Key="foo")["ObjectLockRetainUntilDate"]
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(days=1)


def test_a_bucket_without_lock_is_not_made_again_with_it(s3: World, bucket: str) -> None:
    client = s3.client()
    refusal = refused(client.create_bucket, Bucket=bucket, ObjectLockEnabledForBucket=True)
    assert refusal == (409, "BucketAlreadyExists")
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (rule(Days=1, Years=1), "MalformedXML"),
        (rule(), "MalformedXML"),
        (rule(Days=0), "InvalidRetentionPeriod"),
        (rule(Years=-1), "InvalidRetentionPeriod"),
        (rule(Years=1, Mode="abc"), "MalformedXML"),
        (rule(Years=1) | {"ObjectLockEnabled": "Disabled"}, "MalformedXML"),
    ],
)
def test_a_default_that_makes_no_sense_is_refused(s3: World, locked: str, said: dict[str, Any], code: str) -> None:
    call = s3.client().put_object_lock_configuration
    assert refused(call, Bucket=locked, ObjectLockConfiguration=said) == (400, code)


def test_lock_needs_a_bucket_that_has_it(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    call = client.put_object_lock_configuration
    assert refused(call, Bucket=bucket, ObjectLockConfiguration=rule(Days=1)) == (409, "InvalidBucketState")
    refusal = refused(client.get_object_lock_configuration, Bucket=bucket)
    assert refusal == (404, "ObjectLockConfigurationNotFoundError")
    put(client, bucket)
    for call, more in (
        (client.put_object_retention, {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": LATE}}),
        (client.get_object_retention, {}),
        (client.put_object_legal_hold, {"LegalHold": {"Status": "ON"}}),
        (client.get_object_legal_hold, {}),
    ):
        assert refused(call, Bucket=bucket, Key="foo", **more) == (400, "InvalidRequest")


def retain(client: Any, bucket: str, until: datetime, mode: str = "GOVERNANCE", **more: Any) -> Any:
    retention = {"Mode": mode, "RetainUntilDate": until}
    return client.put_object_retention(Bucket=bucket, Key="foo", Retention=retention, **more)


def test_a_governance_retention_grows_and_is_passed_by_who_may(s3: World, locked: str) -> None:
    client = s3.client()
    version = put(client, locked)
    retain(client, locked, LATE)
    retain(client, locked, LATER)
    assert client.get_object_retention(Bucket=locked, Key="foo")["Retention"]["RetainUntilDate"] == LATER
    denied = (403, "AccessDenied")
    assert refused(retain, client=client, bucket=locked, until=LATE) == denied
    assert refused(retain, client=client, bucket=locked, until=LATER, mode="COMPLIANCE") == denied
    retain(client, locked, LATE, BypassGovernanceRetention=True)
    delete = {"Bucket": locked, "Key": "foo", "VersionId": version}
    assert refused(client.delete_object, **delete) == denied
    many = {"Objects": [{"Key": "foo", "VersionId": version}]}
    assert client.delete_objects(Bucket=locked, Delete=many)["Errors"][0]["Code"] == "AccessDenied"
    client.delete_object(**delete, BypassGovernanceRetention=True)


def test_a_compliance_retention_is_passed_by_nobody(s3: World, locked: str) -> None:
    client = s3.client()
    version = put(client, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=LATER)
    denied = (403, "AccessDenied")
    assert refused(retain, client=client, bucket=locked, until=LATER, BypassGovernanceRetention=True) == denied
    delete = {"Bucket": locked, "Key": "foo", "VersionId": version, "BypassGovernanceRetention": True}
    assert refused(client.delete_object, **delete) == denied


def test_a_legal_hold_keeps_a_version_until_it_is_lifted(s3: World, locked: str) -> None:
    client = s3.client()
    version = put(client, locked, ObjectLockLegalHoldStatus="ON")
    assert client.head_object(Bucket=locked, Key="foo")["ObjectLockLegalHoldStatus"] == "ON"
    delete = {"Bucket": locked, "Key": "foo", "VersionId": version}
    assert refused(client.delete_object, **delete) == (403, "AccessDenied")
    hold = {"Bucket": locked, "Key": "foo"}
    assert refused(client.put_object_legal_hold, **hold, LegalHold={"Status": "abc"}) == (400, "MalformedXML")
    client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})
    assert client.get_object_legal_hold(**hold)["LegalHold"] == {"Status": "OFF"}
    client.delete_object(**delete)


def test_a_retention_of_an_unknown_mode_or_of_the_past_is_refused(s3: World, locked: str) -> None:
    client = s3.client()
    put(client, locked)
    assert refused(retain, client=client, bucket=locked, until=LATE, mode="governance") == (400, "MalformedXML")
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert refused(retain, client=client, bucket=locked, until=past) == (400, "InvalidArgument")
    assert refused(put, client=client, bucket=locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=past) == (
        400,
        "InvalidArgument",
    )
