"""Objects through an unmodified client: written, read, copied, deleted."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.network import BOUND
from tests.s3_world import ALT, MAIN, World, adding, plainly, refused


def put(client: Any, bucket: str, key: str = "foo", body: bytes = b"bar", **more: Any) -> Any:
    return client.put_object(Bucket=bucket, Key=key, Body=body, **more)


def got(client: Any, bucket: str, key: str = "foo", **more: Any) -> bytes:
    data: bytes = client.get_object(Bucket=bucket, Key=key, **more)["Body"].read()
    return data


def test_an_object_comes_back_with_what_was_said_of_it(s3: World, bucket: str) -> None:
    client = s3.client()
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = put(
        client, bucket, ContentType="text/x", CacheControl="public, max-age=14400", Expires=expires, Metadata={"a": ""}
    )
    there = client.head_object(Bucket=bucket, Key="foo")
    assert made["ETag"] == '"37b51d194a7513e45b56f6524f2d51f2"' == there["ETag"]
    assert (there["ContentType"], there["CacheControl"], there["Metadata"]) == (
        "text/x",
        "public, max-age=14400",
        {"a": ""},
    )
    assert (there["Expires"], there["ContentLength"], there["AcceptRanges"]) == (expires, 3, "bytes")
    assert put(client, bucket)["ETag"] == made["ETag"]
    assert client.head_object(Bucket=bucket, Key="foo")["Metadata"] == {}


def test_what_is_not_there_is_said_not_to_be_under_the_id_of_the_request(s3: World, bucket: str) -> None:
    with pytest.raises(ClientError) as caught:
        s3.client().get_object(Bucket=bucket, Key="foo")
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("NoSuchKey", 404)
    assert answer["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(
    ("header", "part", "said"),
    [
        ("bytes=4-7", slice(4, 8), "bytes 4-7/11"),
        ("bytes=4-", slice(4, None), "bytes 4-10/11"),
        ("bytes=-7", slice(-7, None), "bytes 4-10/11"),
    ],
)
def test_a_range_is_read(s3: World, bucket: str, header: str, part: slice, said: str) -> None:
    client, content = s3.client(), b"testcontent"
    put(client, bucket, body=content)
    answer = client.get_object(Bucket=bucket, Key="foo", Range=header)
    assert answer["Body"].read() == content[part]
    assert (answer["ContentRange"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (said, 206)


def test_a_range_beyond_the_end_is_refused(s3: World, bucket: str) -> None:
    client = s3.client()
    for body in (b"testcontent", b""):
        put(client, bucket, body=body)
        assert refused(client.get_object, Bucket=bucket, Key="foo", Range="bytes=40-50") == (416, "InvalidRange")


def test_conditions_on_what_is_read(s3: World, bucket: str) -> None:
    client = s3.client()
    etag = put(client, bucket)["ETag"]
    old, late = datetime(1994, 10, 29, tzinfo=UTC), datetime(2100, 10, 29, tzinfo=UTC)
    for good in ({"IfMatch": etag}, {"IfNoneMatch": "x"}, {"IfModifiedSince": old}, {"IfUnmodifiedSince": late}):
        assert got(client, bucket, **good) == b"bar"
    for bad in ({"IfMatch": '"x"'}, {"IfUnmodifiedSince": old}):
        assert refused(client.get_object, Bucket=bucket, Key="foo", **bad) == (412, "PreconditionFailed")
    for same in ({"IfNoneMatch": etag}, {"IfModifiedSince": datetime.now(UTC) + timedelta(seconds=2)}):
        assert refused(client.get_object, Bucket=bucket, Key="foo", **same)[0] == 304


def test_conditions_on_what_is_replaced(s3: World, bucket: str) -> None:
    client = s3.client()
    assert refused(put, client=client, bucket=bucket, IfMatch="*") == (404, "NoSuchKey")
    etag = put(client, bucket, IfNoneMatch="*")["ETag"]
    assert refused(put, client=client, bucket=bucket, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert refused(put, client=client, bucket=bucket, IfMatch='"x"') == (412, "PreconditionFailed")
    assert refused(put, client=client, bucket=bucket, IfNoneMatch=etag) == (412, "PreconditionFailed")
    put(client, bucket, body=b"zar", IfMatch=etag)
    put(client, bucket, body=b"zaz", IfNoneMatch=etag)
    assert got(client, bucket) == b"zaz"


def test_conditions_on_what_is_deleted(s3: World, bucket: str) -> None:
    client = s3.client()
    etag = put(client, bucket)["ETag"]
    delete = client.delete_object
    assert refused(delete, Bucket=bucket, Key="foo", IfMatch='"x"') == (412, "PreconditionFailed")
    assert refused(delete, Bucket=bucket, Key="foo", IfMatchSize=4) == (412, "PreconditionFailed")
    wrong = {"Objects": [{"Key": "foo", "ETag": "x"}]}
    assert client.delete_objects(Bucket=bucket, Delete=wrong)["Errors"][0]["Code"] == "PreconditionFailed"
    made = client.head_object(Bucket=bucket, Key="foo")["LastModified"]
    delete(Bucket=bucket, Key="foo", IfMatch=etag, IfMatchSize=3, IfMatchLastModifiedTime=made)
    assert delete(Bucket=bucket, Key="foo", IfMatch=etag)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_deleting_what_is_not_there_is_no_error(s3: World, bucket: str) -> None:
    client = s3.client()
    for _ in range(2):
        gone = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
        assert ([one["Key"] for one in gone["Deleted"]], gone.get("Errors")) == (["a", "b"], None)
    quiet = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}], "Quiet": True})
    assert "Deleted" not in quiet


@pytest.mark.parametrize(
    ("md5", "code"),
    [("YWJyYWNhZGFicmE=", "InvalidDigest"), ("rL0Y20xC+Fzt72VPzMSk2A==", "BadDigest"), ("", "InvalidDigest")],
)
def test_a_wrong_md5_is_refused_and_nothing_is_stored(s3: World, bucket: str, md5: str, code: str) -> None:
    client = s3.client()
    adding(client, "PutObject", {"Content-MD5": md5})
    assert refused(put, client=client, bucket=bucket) == (400, code)
    assert refused(client.head_object, Bucket=bucket, Key="foo")[0] == 404


def test_a_checksum_is_checked_kept_and_given_back(s3: World, bucket: str) -> None:
    client = s3.client()
    right = base64.b64encode(hashlib.sha256(b"bar").digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"baz").digest()).decode()
    assert refused(put, client=client, bucket=bucket, ChecksumSHA256=wrong) == (400, "BadDigest")
    assert put(client, bucket, ChecksumSHA256=right)["ChecksumSHA256"] == right
    assert "ChecksumSHA256" not in client.head_object(Bucket=bucket, Key="foo")
    assert client.head_object(Bucket=bucket, Key="foo", ChecksumMode="ENABLED")["ChecksumSHA256"] == right
    known = client.get_object_attributes(
        Bucket=bucket, Key="foo", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"]
    )
    assert (known["ObjectSize"], known["StorageClass"]) == (3, "STANDARD")
    assert known["ETag"] == "37b51d194a7513e45b56f6524f2d51f2"
    assert known["Checksum"] == {"ChecksumSHA256": right, "ChecksumType": "FULL_OBJECT"}


def test_metadata_has_a_limit(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, Metadata={"a": "x" * 2000})
    assert refused(put, client=client, bucket=bucket, Metadata={"a": "x" * 2048}) == (400, "MetadataTooLarge")


def test_a_key_has_a_limit(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, key="k" * 1024)
    assert refused(put, client=client, bucket=bucket, key="k" * 1025) == (400, "KeyTooLongError")


def test_what_cannot_be_kept_as_asked_is_refused(s3: World, bucket: str) -> None:
    client = s3.client()
    assert refused(put, client=client, bucket=bucket, StorageClass="GLACIER") == (400, "InvalidStorageClass")


def test_everything_is_said_to_be_sealed_and_no_other_key_is_taken(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    for answer in (
        put(client, bucket, ServerSideEncryption="AES256"),
        client.get_object(Bucket=bucket, Key="foo"),
        client.head_object(Bucket=bucket, Key="foo"),
        client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "foo"}),
        client.create_multipart_upload(Bucket=bucket, Key="parts"),
    ):
        assert answer["ServerSideEncryption"] == "AES256"
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    service: dict[str, str] = {"ServerSideEncryption": "aws:kms"}
    for asked in (own, service, service | {"SSEKMSKeyId": "k"}):
        assert refused(put, client=client, bucket=bucket, **asked) == (501, "NotImplemented")
    assert refused(client.head_object, Bucket=bucket, Key="foo", **own)[0] == 400


@pytest.mark.parametrize(
    "header",
    ["x-amz-server-side-encryption-customer-key", "x-amz-server-side-encryption-aws-kms-key-id"],
)
def test_a_key_without_its_algorithm_is_refused_too(s3: World, bucket: str, header: str) -> None:
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key="foo")["UploadId"]
    for operation in ("PutObject", "UploadPart", "CreateMultipartUpload"):
        adding(client, operation, {header: "a key"})
    refusal = (501, "NotImplemented")
    assert refused(put, client=client, bucket=bucket) == refusal
    assert refused(client.create_multipart_upload, Bucket=bucket, Key="foo") == refusal
    part = {"Bucket": bucket, "Key": "foo", "UploadId": upload, "PartNumber": 1, "Body": b"x"}
    assert refused(client.upload_part, **part) == refusal
    assert refused(client.head_object, Bucket=bucket, Key="foo")[0] == 404


def test_a_bucket_can_say_that_it_is_sealed(s3: World, bucket: str) -> None:
    client = s3.client()
    none = (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert refused(client.get_bucket_encryption, Bucket=bucket) == none
    said: dict[str, Any] = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=said)
    assert client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == said
    other = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
    call = client.put_bucket_encryption
    assert refused(call, Bucket=bucket, ServerSideEncryptionConfiguration=other) == (501, "NotImplemented")
    client.delete_bucket_encryption(Bucket=bucket)
    assert refused(client.get_bucket_encryption, Bucket=bucket) == none


def test_headers_of_the_answer_can_be_chosen_by_who_signs(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, ACL="public-read")
    answer = client.get_object(Bucket=bucket, Key="foo", ResponseContentType="foo/bar", ResponseCacheControl="no-cache")
    assert (answer["ContentType"], answer["CacheControl"]) == ("foo/bar", "no-cache")
    name = 'attachment; filename="写真.jpg"'
    said = client.get_object(Bucket=bucket, Key="foo", ResponseContentDisposition=name)["ContentDisposition"]
    assert said.encode("latin-1").decode() == name, "as UTF-8, which browsers take"
    path = f"/{bucket}/foo?response-content-type=text%2Fhtml%0d%0aSet-Cookie:%20a=b"
    assert plainly(s3, "GET", path)[0] == 400
    url = client.generate_presigned_url(
        "get_object", {"Bucket": bucket, "Key": "foo", "ResponseContentType": "text/html\r\nset-cookie: a=b"}
    )
    status, headers, _ = plainly(s3, "GET", url.removeprefix(s3.url))
    assert (status, "set-cookie" in headers) == (200, False)


@pytest.mark.parametrize(("seconds", "status"), [(1000, 200), (604_801, 403), (0, 403), (-7, 403)])
def test_a_presigned_url_is_good_for_its_time(s3: World, bucket: str, seconds: int, status: int) -> None:
    client = s3.client()
    put(client, bucket)
    url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "foo"}, ExpiresIn=seconds)
    assert plainly(s3, "GET", url.removeprefix(s3.url))[0] == status


def test_a_presigned_url_writes(s3: World, bucket: str) -> None:
    client = s3.client()
    url = client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "new"}, ExpiresIn=100)
    assert plainly(s3, "PUT", url.removeprefix(s3.url), b"data")[0] == 200
    assert plainly(s3, "PUT", url.removeprefix(s3.url).replace("/new", "/other"), b"data")[0] == 403
    assert got(client, bucket, "new") == b"data"


def _signed(s3: World, path: str, headers: Mapping[str, str]) -> str:
    """A signed address to PUT to, with headers in its query, as the SDKs for JavaScript and Go write them there."""
    request = AWSRequest(method="PUT", url=f"{s3.url}{path}?{urlencode(headers, quote_via=quote)}")
    S3SigV4QueryAuth(Credentials(MAIN.access_key, MAIN.secret), "s3", "us-east-1", expires=100).add_auth(request)
    url: str = request.url
    return url.removeprefix(s3.url)


def test_what_a_signed_address_says_in_place_of_headers_counts(s3: World, bucket: str) -> None:
    client = s3.client()
    said = {"x-amz-acl": "public-read", "x-amz-meta-color": "dark red", "X-Amz-Tagging": "a=b"}
    empty = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"}  # of no bytes at all
    address = _signed(s3, f"/{bucket}/new", said | empty)
    assert plainly(s3, "PUT", address, b"data")[0] == 200
    assert plainly(s3, "PUT", address.replace("public-read", "private"), b"data")[0] == 403
    assert plainly(s3, "PUT", address, b"data", {"x-amz-meta-size": "large"})[0] == 403
    assert plainly(s3, "GET", f"/{bucket}/new")[2] == b"data"
    assert client.head_object(Bucket=bucket, Key="new")["Metadata"] == {"color": "dark red"}
    assert client.get_object_tagging(Bucket=bucket, Key="new")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_a_signed_address_of_a_copy_copies(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    put(client, bucket, "there", b"is replaced")
    assert plainly(s3, "PUT", _signed(s3, f"/{bucket}/there", {"x-amz-copy-source": f"/{bucket}/foo"}))[0] == 200
    assert got(client, bucket, "there") == b"bar"


def test_an_old_signed_address_says_its_headers_in_the_query(s3: World, bucket: str) -> None:
    old = s3.client(signature_version="s3")
    url = old.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "new", "ACL": "public-read"})
    address = url.removeprefix(s3.url)
    assert plainly(s3, "PUT", address.replace("public-read", "private"), b"data")[0] == 403
    assert plainly(s3, "PUT", address, b"data")[0] == 200
    assert plainly(s3, "GET", f"/{bucket}/new")[2] == b"data"


def test_a_body_without_a_length_is_refused(s3: World, bucket: str) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    connection = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=BOUND)
    connection.putrequest("PUT", f"/{bucket}/foo")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"MissingContentLength" in answer.read()) == (411, True)
    connection.close()


def test_a_body_is_asked_for_only_where_it_is_welcome(s3: World, bucket: str) -> None:
    def first_word() -> bytes:
        with socket.create_connection(("127.0.0.1", s3.port), timeout=BOUND) as connection:
            line = f"PUT /{bucket}/foo HTTP/1.1\r\nHost: x\r\nContent-Length: 123\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(line.encode())
            return connection.recv(1024).split()[1]

    assert first_word() == b"403"
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert first_word() == b"100"


def test_chunks_with_a_trailing_checksum_are_read(s3: World, bucket: str) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "9",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked,gzip",
    }
    for value, status in (("y/Q5Jg==", 200), ("AAAAAA==", 400)):
        body = f"9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:{value}\r\n\r\n".encode()
        assert plainly(s3, "PUT", f"/{bucket}/chunked", body, headers)[0] == status
    del headers["x-amz-content-sha256"]
    body = b"9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n"
    assert plainly(s3, "PUT", f"/{bucket}/chunked", body, headers)[0] == 200, "as boto3 sends it that signs nothing"
    headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    assert plainly(s3, "PUT", f"/{bucket}/whole", body, headers)[0] == 400, "what trails would not be looked at"
    there = s3.client().head_object(Bucket=bucket, Key="chunked", ChecksumMode="ENABLED")
    assert (there["ContentLength"], there["ChecksumCRC32"], there["ContentEncoding"]) == (9, "y/Q5Jg==", "gzip")


def test_an_object_is_copied_with_its_head_or_a_new_one(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, key="src?x", ContentType="text/bla", Metadata={"key1": "value1"})
    source = {"Bucket": bucket, "Key": "src?x"}
    client.copy_object(Bucket=bucket, Key="a&b", CopySource=source)
    there = client.get_object(Bucket=bucket, Key="a&b")
    assert (there["Body"].read(), there["ContentType"], there["Metadata"]) == (b"bar", "text/bla", {"key1": "value1"})
    client.copy_object(
        Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", Metadata={"k": "v"}, ContentType="a/b"
    )
    there = client.head_object(Bucket=bucket, Key="new")
    assert (there["ContentType"], there["Metadata"]) == ("a/b", {"k": "v"})


def test_an_object_is_copied_to_itself_with_new_metadata_only(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket)
    source = {"Bucket": bucket, "Key": "foo"}
    assert refused(client.copy_object, Bucket=bucket, Key="foo", CopySource=source) == (400, "InvalidRequest")
    client.copy_object(Bucket=bucket, Key="foo", CopySource=source, Metadata={"a": "b"}, MetadataDirective="REPLACE")
    assert client.head_object(Bucket=bucket, Key="foo")["Metadata"] == {"a": "b"}


def test_conditions_on_the_source_of_a_copy(s3: World, bucket: str) -> None:
    client = s3.client()
    etag = put(client, bucket)["ETag"]
    copy = {"Bucket": bucket, "Key": "bar", "CopySource": f"{bucket}/foo"}
    client.copy_object(**copy, CopySourceIfMatch=etag, ExpectedSourceBucketOwner=MAIN.account)
    assert refused(client.copy_object, **copy, ExpectedSourceBucketOwner=ALT.account) == (403, "AccessDenied")
    client.copy_object(**copy, CopySourceIfNoneMatch="x")
    assert refused(client.copy_object, **copy, CopySourceIfMatch="x") == (412, "PreconditionFailed")
    assert refused(client.copy_object, **copy, CopySourceIfNoneMatch=etag) == (412, "PreconditionFailed")
    assert refused(client.copy_object, **{**copy, "CopySource": f"{bucket}/none"}) == (404, "NoSuchKey")


def test_a_path_that_is_not_utf8_is_refused(s3: World, bucket: str) -> None:
    status, _, body = plainly(s3, "GET", f"/{bucket}/%ae%8a-")
    assert (status, b"Couldn't parse the specified URI." in body) == (400, True)


def test_a_head_has_no_body_and_the_length_of_the_get(s3: World, bucket: str) -> None:
    client = s3.client()
    put(client, bucket, ACL="public-read")
    status, headers, body = plainly(s3, "HEAD", f"/{bucket}/foo")
    assert (status, headers["content-length"], body) == (200, "3", b"")


def test_a_large_object_comes_back_whole(s3: World, bucket: str) -> None:
    client = s3.client()
    body = b"".join(hashlib.sha256(bytes([at])).digest() for at in range(256)) * 1024
    put(client, bucket, body=body, ChecksumAlgorithm="SHA1")
    answer = client.get_object(Bucket=bucket, Key="foo")
    assert answer["Body"].read() == body
    assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324


def test_the_secret_of_a_key_is_in_no_answer(s3: World, bucket: str) -> None:
    with pytest.raises(ClientError) as caught:
        put(s3.client(MAIN._replace(secret="wrong")), bucket)  # noqa: S106
    assert MAIN.secret not in str(caught.value.response)
