"""Buckets and lists through an unmodified client."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.s3_world import ALT, MAIN, READER, World, adding, refused


def filled(s3: World, bucket: str, *keys: str) -> Any:
    client = s3.client()
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return client


def listed(page: dict[str, Any]) -> tuple[list[str], list[str]]:
    keys = [entry["Key"] for entry in page.get("Contents", [])]
    return keys, [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]


def test_a_bucket_is_made_found_and_dropped(s3: World, bucket: str) -> None:
    client = s3.client()
    assert bucket in [there["Name"] for there in client.list_buckets()["Buckets"]]
    assert bucket not in [there["Name"] for there in s3.client(ALT).list_buckets()["Buckets"]]
    client.head_bucket(Bucket=bucket)
    client.delete_bucket(Bucket=bucket)
    assert refused(client.delete_bucket, Bucket=bucket) == (404, "NoSuchBucket")


def test_a_bucket_is_made_again_by_its_owner_only_and_the_same_way_only(s3: World, bucket: str) -> None:
    client = s3.client()
    client.create_bucket(Bucket=bucket)
    assert refused(client.create_bucket, Bucket=bucket, ACL="public-read") == (409, "BucketAlreadyExists")
    assert refused(s3.client(ALT).create_bucket, Bucket=bucket) == (409, "BucketAlreadyExists")


def test_a_bucket_that_holds_something_is_not_dropped(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, "foo")
    assert refused(client.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")


def test_what_is_no_name_for_a_bucket_is_refused(s3: World) -> None:
    assert refused(s3.client().create_bucket, Bucket="aa") == (400, "InvalidBucketName")


def test_who_is_not_known_or_signs_wrongly_is_refused(s3: World) -> None:
    stranger = s3.client(MAIN._replace(access_key="AKNOBODY"))
    assert refused(stranger.list_buckets) == (403, "InvalidAccessKeyId")
    liar = s3.client(MAIN._replace(secret="wrong"))  # noqa: S106 - a wrong one
    assert refused(liar.list_buckets) == (403, "SignatureDoesNotMatch")
    assert s3.client(None).list_buckets()["Buckets"] == []


def test_a_key_that_may_only_read_writes_nothing(s3: World, bucket: str) -> None:
    filled(s3, bucket, "foo")
    reader = s3.client(READER)
    assert reader.get_object(Bucket=bucket, Key="foo")["Body"].read() == b"foo"
    assert refused(reader.put_object, Bucket=bucket, Key="foo", Body=b"x") == (403, "AccessDenied")


def test_a_signature_of_version_2_is_taken_too(s3: World, bucket: str) -> None:
    client = s3.client(signature_version="s3")
    client.put_object(Bucket=bucket, Key="a b+c", Body=b"x", Metadata={"k": "v"})
    assert client.get_object(Bucket=bucket, Key="a b+c")["Body"].read() == b"x"
    adding(client, "PutObject", {"x-amz-date": "Tue, 07 Jul 1950 21:53:04 GMT"})
    assert refused(client.put_object, Bucket=bucket, Key="k", Body=b"x") == (403, "AccessDenied")


def test_a_signature_of_version_2_is_of_a_bucket_alone_too(s3: World) -> None:
    client = s3.client(signature_version="s3")
    client.create_bucket(Bucket="signed-by-version-2")
    assert client.list_objects(Bucket="signed-by-version-2")["Name"] == "signed-by-version-2"
    client.delete_bucket(Bucket="signed-by-version-2")


def test_a_signature_can_be_of_a_plain_date(s3: World, bucket: str) -> None:
    client = s3.client()
    adding(client, "PutObject", {"Date": "any: the client says its own, and no x-amz-date"})
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_where_a_bucket_is(s3: World, bucket: str) -> None:
    assert s3.client().get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def placed(where: str) -> dict[str, str]:
    return {"LocationConstraint": where}


@pytest.mark.parametrize(("said", "shown"), [("DE", "DE"), ("fr-de", "DE-FR"), ("us-east-1", None)])
def test_pieces_lie_in_the_countries_that_a_bucket_was_made_for(s3: World, said: str, shown: str | None) -> None:
    client, name = s3.client(), f"in-{said.lower()}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration=placed(said))
    assert client.get_bucket_location(Bucket=name)["LocationConstraint"] == shown
    client.create_bucket(Bucket=name, CreateBucketConfiguration=placed(said))
    elsewhere = placed("NL")
    assert refused(client.create_bucket, Bucket=name, CreateBucketConfiguration=elsewhere) == (
        409,
        "BucketAlreadyExists",
    )


def test_what_is_no_country_is_refused_by_name(s3: World) -> None:
    client = s3.client()
    for where in ("eu-central-1", "Germany", "DE-", "DE,FR"):
        told = refused(client.create_bucket, Bucket="nowhere", CreateBucketConfiguration=placed(where))
        assert told == (400, "InvalidLocationConstraint"), where


def test_names_are_listed_between_delimiters_in_pages(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, "asdf", "boo/bar", "boo/baz/xyzzy", "cquux/thud", "cquux/bla")
    pages = []
    marker = ""
    for _ in range(3):
        page = client.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=1, Marker=marker)
        pages.append((listed(page), page["IsTruncated"], page.get("NextMarker")))
        marker = page.get("NextMarker", "")
    assert pages == [
        ((["asdf"], []), True, "asdf"),
        (([], ["boo/"]), True, "boo/"),
        (([], ["cquux/"]), False, None),
    ]
    page = client.list_objects(Bucket=bucket, Delimiter="/", Prefix="boo/")
    assert listed(page) == (["boo/bar"], ["boo/baz/"])


def test_the_second_list_goes_on_by_a_token(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, "bar", "baz", "foo", "quxx")
    first = client.list_objects_v2(Bucket=bucket, StartAfter="bar", MaxKeys=1)
    assert (listed(first)[0], first["KeyCount"], first["IsTruncated"]) == (["baz"], 1, True)
    token = first["NextContinuationToken"]
    second = client.list_objects_v2(Bucket=bucket, StartAfter="bar", ContinuationToken=token)
    assert (listed(second)[0], second["ContinuationToken"], second["StartAfter"]) == (["foo", "quxx"], token, "bar")
    assert refused(client.list_objects_v2, Bucket=bucket, ContinuationToken=f"{token}!") == (400, "InvalidArgument")
    assert "Owner" not in second["Contents"][0]
    assert client.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]["Owner"]["DisplayName"] == "Main"


@pytest.mark.parametrize("delimiter", ["a", " ", "%", ".", "\n", "zz"])
def test_any_delimiter_divides(s3: World, bucket: str, delimiter: str) -> None:
    keys = [f"b{delimiter}r", f"b{delimiter}z", f"c{delimiter}b", "foo"]
    client = filled(s3, bucket, *keys)
    page = client.list_objects_v2(Bucket=bucket, Delimiter=delimiter)
    assert page["Delimiter"] == delimiter
    assert listed(page) == (["foo"], [f"b{delimiter}", f"c{delimiter}"])


def test_special_names_are_kept_listed_and_read(s3: World, bucket: str) -> None:
    keys = [" ", '"', "$", "%", "&", "'", "<", ">", "_", "_ ", "_ _", "__", "a+b", "a//b", "ä/ö?x=1"]
    client = filled(s3, bucket, *keys)
    assert listed(client.list_objects_v2(Bucket=bucket))[0] == sorted(keys, key=str.encode)
    assert [client.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys] == keys


def test_names_are_encoded_where_that_is_asked_for(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, "foo+1/bar", "foo/bar/xyzzy", "quux ab/thud", "asdf+b")
    page = client.list_objects_v2(Bucket=bucket, Delimiter="/", EncodingType="url")
    assert listed(page) == (["asdf%2Bb"], ["foo%2B1/", "foo/", "quux%20ab/"])


def test_a_page_of_none_is_not_cut_and_a_bad_number_is_refused(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, "foo")
    page = client.list_objects_v2(Bucket=bucket, MaxKeys=0)
    assert (listed(page), page["IsTruncated"]) == (([], []), False)
    client.meta.events.register(
        "before-call.s3.ListObjects", lambda **said: said["params"].update(url=said["params"]["url"] + "&max-keys=blah")
    )
    assert refused(client.list_objects, Bucket=bucket) == (400, "InvalidArgument")


def test_more_than_a_page_is_listed_and_deleted_in_two_steps(s3: World, bucket: str) -> None:
    client = filled(s3, bucket, *[f"key-{at:04}" for at in range(1001)])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert len(keys) == 1001
    objects = [{"Key": key} for key in keys]
    assert refused(client.delete_objects, Bucket=bucket, Delete={"Objects": objects})[0] == 400
    gone = client.delete_objects(Bucket=bucket, Delete={"Objects": objects[:1000]})
    assert len(gone["Deleted"]) == 1000
    assert listed(client.list_objects_v2(Bucket=bucket))[0] == keys[1000:]


def test_a_bucket_that_is_not_there_is_said_not_to_be(s3: World) -> None:
    client, name = s3.client(), f"bucket-{uuid4().hex}"
    assert refused(client.list_objects, Bucket=name) == (404, "NoSuchBucket")
    assert refused(client.list_objects_v2, Bucket=name) == (404, "NoSuchBucket")
    assert refused(client.put_object, Bucket=name, Key="foo", Body=b"x") == (404, "NoSuchBucket")
    assert refused(client.head_bucket, Bucket=name)[0] == 404


def test_what_is_not_offered_is_said_not_to_be(s3: World, bucket: str) -> None:
    assert refused(s3.client().get_bucket_website, Bucket=bucket) == (501, "NotImplemented")
