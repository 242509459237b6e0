"""Uploads in parts through an unmodified client."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote

import pytest

from fallow.verticals.storage.gateway.routes import multipart
from tests.s3_world import ALT, World, plainly, refused

PART = 5 << 20
FIRST, SECOND = b"x" * PART, b"y" * 100


class Upload:
    """An upload to the key m."""

    def __init__(self, client: Any, bucket: str, **more: Any) -> None:
        self.client = client
        self.names = {"Bucket": bucket, "Key": "m"}
        self.names["UploadId"] = client.create_multipart_upload(**self.names, **more)["UploadId"]
        self.parts: list[dict[str, Any]] = []

    def put(self, number: int, body: bytes, **more: Any) -> dict[str, Any]:
        """Bring a part."""
        answer = self.client.upload_part(**self.names, PartNumber=number, Body=body, **more)
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        self.parts = [part for part in self.parts if part["PartNumber"] != number]
        self.parts.append({"PartNumber": number, "ETag": answer["ETag"], **sums})
        return dict(answer)

    def complete(self, **more: Any) -> dict[str, Any]:
        """Make the object."""
        return dict(self.client.complete_multipart_upload(**self.names, MultipartUpload={"Parts": self.parts}, **more))


def test_parts_become_an_object_once_and_completing_again_says_so(s3: World, bucket: str) -> None:
    client = s3.client()
    upload = Upload(client, bucket, ContentType="text/bla", Metadata={"foo": "bar"})
    upload.put(1, b"z" * PART)
    upload.put(1, FIRST)
    upload.put(2, SECOND)
    digests = b"".join(hashlib.md5(body).digest() for body in (FIRST, SECOND))  # noqa: S324
    etag = f'"{hashlib.md5(digests).hexdigest()}-2"'  # noqa: S324
    assert [upload.complete()["ETag"] for _ in range(2)] == [etag, etag]
    there = client.get_object(Bucket=bucket, Key="m")
    assert there["Body"].read() == FIRST + SECOND
    assert (there["ContentType"], there["Metadata"], there["ETag"]) == ("text/bla", {"foo": "bar"}, etag)


def test_one_part_of_an_object_is_read(s3: World, bucket: str) -> None:
    client = s3.client()
    upload = Upload(client, bucket)
    upload.put(1, FIRST)
    upload.put(2, SECOND)
    upload.complete()
    for number, body in ((1, FIRST), (2, SECOND)):
        part = client.get_object(Bucket=bucket, Key="m", PartNumber=number)
        assert (part["Body"].read() == body, part["PartsCount"]) == (True, 2)
    assert refused(client.get_object, Bucket=bucket, Key="m", PartNumber=3) == (400, "InvalidPart")
    known = client.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=["ObjectParts"], MaxParts=1)
    assert known["ObjectParts"]["TotalPartsCount"] == 2
    assert known["ObjectParts"]["IsTruncated"]
    client.put_object(Bucket=bucket, Key="plain", Body=b"abc")
    assert client.get_object(Bucket=bucket, Key="plain", PartNumber=1)["Body"].read() == b"abc"
    assert refused(client.get_object, Bucket=bucket, Key="plain", PartNumber=2) == (400, "InvalidPart")


def test_what_is_completed_must_be_there_and_in_order(s3: World, bucket: str) -> None:
    upload = Upload(s3.client(), bucket)
    assert refused(s3.client().complete_multipart_upload, **upload.names) == (400, "MalformedXML")
    upload.put(1, b"a")
    upload.put(2, b"b")
    assert refused(upload.complete) == (400, "EntityTooSmall")
    upload.parts.reverse()
    assert refused(upload.complete) == (400, "InvalidPartOrder")
    upload.parts = [{"PartNumber": 9999, "ETag": upload.parts[0]["ETag"]}]
    assert refused(upload.complete) == (400, "InvalidPart")
    upload.parts = [{"PartNumber": 1, "ETag": "f" * 32}]
    assert refused(upload.complete) == (400, "InvalidPart")


def test_a_part_has_a_number_within_bounds(s3: World, bucket: str) -> None:
    upload = Upload(s3.client(), bucket)
    for number in (0, 10_001):
        assert refused(upload.put, number=number, body=b"a") == (400, "InvalidArgument")


def test_an_upload_that_was_given_up_is_gone(s3: World, bucket: str) -> None:
    client = s3.client()
    upload = Upload(client, bucket)
    upload.put(1, b"a")
    client.abort_multipart_upload(**upload.names)
    assert refused(client.abort_multipart_upload, **upload.names) == (404, "NoSuchUpload")
    assert refused(upload.put, number=1, body=b"a") == (404, "NoSuchUpload")
    assert refused(client.list_parts, **{**upload.names, "UploadId": "56788"}) == (404, "NoSuchUpload")


def test_uploads_and_parts_are_listed_in_pages(s3: World, bucket: str) -> None:
    client = s3.client()
    uploads = [Upload(client, bucket) for _ in range(3)]
    page = client.list_multipart_uploads(Bucket=bucket, MaxUploads=2)
    assert ([one["UploadId"] for one in page["Uploads"]], page["IsTruncated"]) == (
        [one.names["UploadId"] for one in uploads[:2]],
        True,
    )
    rest = client.list_multipart_uploads(
        Bucket=bucket, KeyMarker=page["NextKeyMarker"], UploadIdMarker=page["NextUploadIdMarker"]
    )
    assert [one["UploadId"] for one in rest["Uploads"]] == [uploads[2].names["UploadId"]]
    for number in range(1, 4):
        uploads[0].put(number, bytes(number))
    first = client.list_parts(**uploads[0].names, MaxParts=2)
    assert ([part["Size"] for part in first["Parts"]], first["NextPartNumberMarker"], first["IsTruncated"]) == (
        [1, 2],
        2,
        True,
    )
    second = client.list_parts(**uploads[0].names, PartNumberMarker=2)
    assert ([part["PartNumber"] for part in second["Parts"]], second["IsTruncated"]) == ([3], False)


def test_uploads_are_listed_between_delimiters_in_pages(s3: World, bucket: str) -> None:
    client = s3.client()
    for key in ("a/1", "a/2", "b c", "d/1", "d/2"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    found: list[str] = []
    page: Any = {}
    asked: dict[str, Any] = {"Bucket": bucket, "Delimiter": "/", "MaxUploads": 1, "EncodingType": "url"}
    for _ in range(3):
        page = client.list_multipart_uploads(**asked)
        found += [one["Key"] for one in page.get("Uploads", [])]
        found += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
        asked |= {"KeyMarker": page.get("NextKeyMarker", ""), "UploadIdMarker": page.get("NextUploadIdMarker", "")}
        asked["KeyMarker"] = unquote(asked["KeyMarker"])
    assert (found, page["IsTruncated"], page["EncodingType"]) == (["a/", "b%20c", "d/"], False, "url")


def test_an_upload_is_its_beginners(s3: World, bucket: str) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    Upload(s3.client(ALT), bucket)
    (upload,) = s3.client().list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert (upload["Owner"]["DisplayName"], upload["Initiator"]["ID"]) == ("Alt", "b-alt")


def test_a_part_is_copied_out_of_another_object(s3: World, bucket: str) -> None:
    client = s3.client()
    source = {"Bucket": bucket, "Key": "?versionId"}
    client.put_object(**source, Body=b"0123456789")
    upload = Upload(client, bucket)
    copy = {**upload.names, "PartNumber": 1, "CopySource": source}
    assert refused(client.upload_part_copy, **copy, CopySourceRange="bytes=0-21")[1] == "InvalidRange"
    assert refused(client.upload_part_copy, **copy, CopySourceRange="0-2") == (400, "InvalidArgument")
    part = client.upload_part_copy(**copy, CopySourceRange="bytes=2-4")["CopyPartResult"]
    upload.parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    upload.complete()
    assert client.get_object(Bucket=bucket, Key="m")["Body"].read() == b"234"


def test_a_part_that_is_copied_has_a_size(s3: World, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3.client()
    source = {"Bucket": bucket, "Key": "source"}
    client.put_object(**source, Body=b"0123456789")
    copy = {**Upload(client, bucket).names, "PartNumber": 1, "CopySource": source}
    monkeypatch.setattr(multipart, "COPY_BYTES_MAX", 9)
    assert refused(client.upload_part_copy, **copy) == (400, "InvalidRequest")
    client.upload_part_copy(**copy, CopySourceRange="bytes=0-8")


def test_who_began_an_upload_sees_to_it_unless_the_policy_denies_it(s3: World, bucket: str) -> None:
    client, alt = s3.client(), s3.client(ALT)
    said = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [said]}))
    upload = Upload(alt, bucket)
    alt.list_parts(**upload.names)
    denied = said | {"Effect": "Deny", "Action": ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [said, denied]}))
    assert refused(alt.abort_multipart_upload, **upload.names) == (403, "AccessDenied")
    assert refused(alt.list_parts, **upload.names) == (403, "AccessDenied")
    client.delete_bucket_policy(Bucket=bucket)
    alt.abort_multipart_upload(**upload.names)


def test_conditions_on_what_an_upload_replaces(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="m", Body=b"a")
    upload = Upload(client, bucket)
    upload.put(1, b"b")
    assert refused(upload.complete, IfNoneMatch="*") == (412, "PreconditionFailed")
    upload.complete(IfMatch=client.head_object(Bucket=bucket, Key="m")["ETag"])


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32"])
def test_a_checksum_of_checksums_is_made_and_checked(s3: World, bucket: str, algorithm: str) -> None:
    client = s3.client()
    upload = Upload(client, bucket, ChecksumAlgorithm=algorithm)
    upload.put(1, FIRST, ChecksumAlgorithm=algorithm)
    upload.put(2, SECOND, ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    wrong = base64.b64encode(bytes(len(base64.b64decode(upload.parts[0][name])))).decode()
    assert refused(upload.complete, **{name: f"{wrong}-2"}) == (400, "BadDigest")
    assert refused(upload.complete, ChecksumCRC64NVME="AAAAAAAAAAA=") == (400, "InvalidRequest")
    assert refused(upload.complete, ChecksumType="FULL_OBJECT") == (400, "BadDigest")
    done = upload.complete()
    assert done[name].endswith("-2")
    there = client.head_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")
    assert (there[name], there["ChecksumType"]) == (done[name], "COMPOSITE")


@pytest.mark.parametrize(("algorithm", "kind"), [("SHA256", "COMPOSITE"), ("CRC32", "FULL_OBJECT")])
def test_parts_keep_their_checksums(s3: World, bucket: str, algorithm: str, kind: str) -> None:
    client, name = s3.client(), f"Checksum{algorithm}"
    upload = Upload(client, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    sums = [upload.put(number, body)[name] for number, body in ((1, FIRST), (2, SECOND))]
    upload.complete()
    for number, right in enumerate(sums, 1):
        there = client.get_object(Bucket=bucket, Key="m", PartNumber=number, ChecksumMode="ENABLED")
        assert (there[name], there["ChecksumType"]) == (right, kind)
        there["Body"].read()  # the client checks it
    told = client.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert [part[name] for part in told["Parts"]] == sums


def test_a_range_has_no_checksum_and_too_many_parts_have_none(
    s3: World, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "PART_SUMS_BYTES_MAX", 7)
    client = s3.client()
    upload = Upload(client, bucket, ChecksumAlgorithm="CRC32")
    upload.put(1, FIRST)
    upload.put(2, SECOND)
    upload.complete()
    for which in ({"Range": "bytes=0-4"}, {"PartNumber": 2}):
        assert "ChecksumCRC32" not in client.get_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED", **which)
    assert client.head_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")["ChecksumCRC32"].endswith("-2")


def test_a_crc_of_the_whole_follows_from_the_parts(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="whole", Body=FIRST + SECOND, ChecksumAlgorithm="CRC32")
    right = client.head_object(Bucket=bucket, Key="whole", ChecksumMode="ENABLED")["ChecksumCRC32"]
    upload = Upload(client, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    upload.put(1, FIRST)
    upload.put(2, SECOND)
    assert upload.complete(ChecksumCRC32=right, ChecksumType="FULL_OBJECT")["ChecksumCRC32"] == right
    assert client.get_object(Bucket=bucket, Key="m")["Body"].read() == FIRST + SECOND


def test_a_part_with_a_wrong_digest_is_not_kept(s3: World, bucket: str) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    upload = Upload(s3.client(), bucket)
    path = f"/{bucket}/m?partNumber=1&uploadId={upload.names['UploadId']}"
    assert plainly(s3, "PUT", path, b"abc", {"content-md5": base64.b64encode(bytes(16)).decode()})[0] == 400
    assert "Parts" not in s3.client().list_parts(**upload.names)
