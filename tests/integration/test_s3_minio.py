"""The MinIO SDK, another family of clients than boto3: what it sends and how it reads answers is its own."""

from __future__ import annotations

import io
import random

import pytest
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from tests.s3_world import MAIN, World, plainly

PART = 5 << 20
DATA = random.Random(7).randbytes(2 * PART + 1)


@pytest.fixture
def client(s3: World) -> Minio:
    """The SDK as its documentation has it."""
    return Minio(f"127.0.0.1:{s3.port}", access_key=MAIN.access_key, secret_key=MAIN.secret, secure=False)


def put(client: Minio, bucket: str, key: str, data: bytes = DATA, length: int = -1) -> None:
    client.put_object(bucket, key, io.BytesIO(data), length, part_size=PART, metadata={"k": "v"})


def got(client: Minio, bucket: str, key: str, offset: int = 0, length: int = 0) -> bytes:
    answer = client.get_object(bucket, key, offset=offset, length=length)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def test_streams_go_in_and_ranges_come_out(client: Minio, bucket: str) -> None:
    put(client, bucket, "a b/ü")
    assert got(client, bucket, "a b/ü") == DATA
    assert got(client, bucket, "a b/ü", PART - 1, 3) == DATA[PART - 1 : PART + 2]
    told = client.stat_object(bucket, "a b/ü")
    assert (told.size, dict(told.metadata or {})["x-amz-meta-k"]) == (len(DATA), "v")
    assert [one.object_name for one in client.list_objects(bucket)] == ["a b/"]
    assert [one.object_name for one in client.list_objects(bucket, recursive=True)] == ["a b/ü"]


def test_a_bucket_of_some_countries_is_signed_for_as_where_it_is(s3: World) -> None:
    for name, where in (("of-two", "DE-FR"), ("of-many", "EU")):
        Minio(f"127.0.0.1:{s3.port}", access_key=MAIN.access_key, secret_key=MAIN.secret, secure=False).make_bucket(
            name, location=where
        )
        other = Minio(f"127.0.0.1:{s3.port}", access_key=MAIN.access_key, secret_key=MAIN.secret, secure=False)
        put(other, name, "k", b"data", 4)  # it asks where the bucket is, and writes that into what it signs
        assert got(other, name, "k") == b"data"


def test_objects_are_copied_composed_and_tagged(client: Minio, bucket: str) -> None:
    put(client, bucket, "one")
    client.copy_object(bucket, "two", CopySource(bucket, "one"))
    client.compose_object(bucket, "both", [ComposeSource(bucket, "one"), ComposeSource(bucket, "two")])
    assert got(client, bucket, "both") == DATA * 2
    tags = Tags.new_object_tags()
    tags["a"] = "b"
    client.set_object_tags(bucket, "one", tags)
    assert client.get_object_tags(bucket, "one") == tags


def test_a_link_needs_no_key(s3: World, client: Minio, bucket: str) -> None:
    put(client, bucket, "k", b"abc", 3)
    link = client.presigned_get_object(bucket, "k").removeprefix(s3.url)
    status, _, body = plainly(s3, "GET", link)
    assert (status, body) == (200, b"abc")


def test_versions_are_listed_and_deleted_in_one_request(client: Minio, bucket: str) -> None:
    client.set_bucket_versioning(bucket, VersioningConfig("Enabled"))
    for data in (b"a", b"bb"):
        put(client, bucket, "k", data, len(data))
    versions = list(client.list_objects(bucket, include_version=True))
    assert [one.size for one in versions] == [2, 1]
    doomed = [DeleteObject(one.object_name or "", one.version_id) for one in versions]
    assert list(client.remove_objects(bucket, doomed)) == []
    client.remove_bucket(bucket)
    with pytest.raises(S3Error) as caught:
        client.stat_object(bucket, "k")
    assert caught.value.code == "NoSuchBucket"
