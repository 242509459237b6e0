"""What browsers do: forms, and questions across origins."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from fallow.ports.vertical.gateway import SignedRequest, Signer
from fallow.verticals.storage.gateway.auth.links import signed_link
from tests.s3_world import MAIN, World, plainly, refused, s3_world

BOUNDARY = "----a-boundary"


def form(fields: dict[str, str], file: bytes = b"bar", filename: str = "file") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    body = "".join([*parts, head]).encode() + file + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def conditions(bucket: str) -> list[Any]:
    return [
        {"bUcKeT": bucket},
        ["StArTs-WiTh", "$KeY", "foo"],
        {"acl": "private"},
        ["starts-with", "$Content-Type", "text/plain"],
        ["content-length-range", 0, 1024],
    ]


def without(bucket: str, at: int) -> list[Any]:
    said = conditions(bucket)
    del said[at]
    return said


def document(bucket: str, **changed: Any) -> dict[str, Any]:
    expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"expiration": expires, "conditions": conditions(bucket)} | changed


def signed(policy: dict[str, Any], **fields: str) -> dict[str, str]:
    encoded = base64.b64encode(json.dumps(policy).encode()).decode()
    signature = base64.b64encode(hmac.digest(MAIN.secret.encode(), encoded.encode(), "sha1")).decode()
    said = {
        "key": "foo.txt",
        "AWSAccessKeyId": MAIN.access_key,
        "acl": "private",
        "signature": signature,
        "pOLICy": encoded,
        "Content-Type": "text/plain",
    }
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return {name: value for name, value in {**said, **named}.items() if value}


def post(s3: World, bucket: str, fields: dict[str, str], file: bytes = b"bar", filename: str = "file") -> Any:
    return plainly(s3, "POST", f"/{bucket}", *form(fields, file, filename))


def test_anybody_posts_to_a_bucket_that_anybody_may_write(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>1</Value></Tag></TagSet></Tagging>"
    fields = {"key": "foo.txt", "acl": "public-read", "Content-Type": "text/plain", "tagging": tags}
    status, _, body = post(s3, bucket, fields | {"success_action_status": "201"})
    assert (status, ET.fromstring(body).findtext("Key")) == (201, "foo.txt")  # noqa: S314 - our own answer
    assert post(s3, bucket, fields | {"success_action_status": "404"})[0] == 204
    there = client.get_object(Bucket=bucket, Key="foo.txt")
    assert (there["Body"].read(), there["ContentType"]) == (b"bar", "text/plain")
    assert client.get_object_tagging(Bucket=bucket, Key="foo.txt")["TagSet"] == [{"Key": "0", "Value": "1"}]


def test_a_signed_form_uploads_in_its_signers_name(s3: World, bucket: str) -> None:
    status, _, _ = post(s3, bucket, signed(document(bucket), x_ignore_this="bar"))
    assert status == 204
    assert s3.client().get_object(Bucket=bucket, Key="foo.txt")["Body"].read() == b"bar"


def test_a_form_signed_the_new_way_works(s3: World, bucket: str) -> None:
    said = s3.client().generate_presigned_post(bucket, "new.txt", Conditions=[["content-length-range", 0, 100]])
    assert post(s3, bucket, said["fields"])[0] == 204
    said["fields"]["x-amz-signature"] = "0" * 64
    assert post(s3, bucket, said["fields"])[0] == 403


def test_a_forms_key_can_come_from_the_files_name(s3: World, bucket: str) -> None:
    policy = document(bucket, conditions=[["starts-with", "$key", ""], *without(bucket, 1)])
    assert post(s3, bucket, signed(policy, key="in/${filename}"), filename="foo.txt")[0] == 204
    s3.client().head_object(Bucket=bucket, Key="in/foo.txt")


def test_a_forms_policy_speaks_of_the_key_that_the_files_name_makes(s3: World, bucket: str) -> None:
    fields = signed(document(bucket), key="${filename}")
    assert post(s3, bucket, fields, filename="foo.txt")[0] == 204
    assert post(s3, bucket, fields, filename="other.txt")[0] == 403


def test_a_form_leads_on(s3: World, bucket: str) -> None:
    target = "http://example.org/next"
    policy = document(bucket, conditions=[*conditions(bucket), ["eq", "$success_action_redirect", target]])
    fields = {**signed(policy), "success_action_redirect": target}
    status, headers, _ = post(s3, bucket, fields)
    etag = quote('"37b51d194a7513e45b56f6524f2d51f2"', "")
    assert (status, headers["location"]) == (303, f"{target}?bucket={bucket}&key=foo.txt&etag={etag}")


@pytest.mark.parametrize(("target", "status"), [("http://[x", 303), ("javascript:alert(1)", 204)])
def test_a_form_leads_to_any_page_and_to_nothing_else(s3: World, bucket: str, target: str, status: int) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert post(s3, bucket, {"key": "k", "success_action_redirect": target})[0] == status


def test_a_large_file_is_taken_from_a_form(s3: World, bucket: str) -> None:
    policy = document(bucket, conditions=[*conditions(bucket)[:4], ["content-length-range", 0, 5 << 20]])
    body = b"\r\n--foo" * (400 << 10)
    assert post(s3, bucket, signed(policy), body)[0] == 204
    assert s3.client().get_object(Bucket=bucket, Key="foo.txt")["Body"].read() == body


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"AWSAccessKeyId": "nobody"}, 403),
        ({"signature": "AAAA"}, 403),
        ({"signature": ""}, 400),
        ({"key": ""}, 403),
        ({"key": "bar.txt"}, 403),
        ({"x-amz-meta-foo": "not in the policy"}, 403),
        ({"acl": "public-read"}, 403),
    ],
)
def test_a_form_that_is_not_as_it_was_signed_is_refused(
    s3: World, bucket: str, changed: dict[str, str], status: int
) -> None:
    assert post(s3, bucket, signed(document(bucket), **changed))[0] == status


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"expiration": "2020-01-01T00:00:00Z"}, 403),
        ({"expiration": "2040-01-01 00:00:00+00:00"}, 400),
        ({"conditions": [{}]}, 400),
        ({"conditions": None}, 400),
        ({"conditions": without("BUCKET", 0)}, 403),
        ({"conditions": [*without("BUCKET", 4), ["content-length-range", 0, 0]]}, 400),
        ({"conditions": [*without("BUCKET", 4), ["content-length-range", 0]]}, 400),
        ({"conditions": [*without("BUCKET", 4), ["content-length-range", -1, 0]]}, 400),
        ({"conditions": [*without("BUCKET", 4), ["content-length-range", 512, 1000]]}, 400),
        ({"conditions": [*without("BUCKET", 4), ["content-length-range", 0, 1], ["content-length-range", 0, 9]]}, 400),
        (
            {"conditions": [*without("BUCKET", 4), ["content-length-range", 9, 99], ["content-length-range", 0, 99]]},
            400,
        ),
        ({"conditions": [*conditions("BUCKET"), ["starts-with", "$x-amz-meta-foo", "bar"]]}, 403),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(s3: World, bucket: str, changed: dict[str, Any], status: int) -> None:
    policy = json.loads(json.dumps(document(bucket, **changed)).replace("BUCKET", bucket))
    assert post(s3, bucket, signed(policy))[0] == status
    assert refused(s3.client().head_object, Bucket=bucket, Key="foo.txt")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        f"--{BOUNDARY}\r\n\r\n".encode(),
        form({"key": "k"})[0][:-10],
        form({"key": "k" * 70_000})[0],
        form({"key": "k\0"})[0],
    ],
)
def test_what_is_no_form_is_refused(s3: World, bucket: str, body: bytes) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    assert plainly(s3, "POST", f"/{bucket}", body, form({})[1])[0] == 400
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)


def asked(s3: World, method: str, path: str, origin: str = "", wanted: str = "") -> tuple[int, str | None, str | None]:
    headers = {"Content-Length": "0"}
    headers |= {"Origin": origin} if origin else {}
    headers |= {"Access-Control-Request-Method": wanted} if wanted else {}
    status, said, _ = plainly(s3, method, path, headers=headers)
    return status, said.get("access-control-allow-origin"), said.get("access-control-allow-methods")


def test_browsers_are_told_what_the_rules_allow(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert refused(client.get_bucket_cors, Bucket=bucket) == (404, "NoSuchCORSConfiguration")
    rules = [
        {"AllowedMethods": ["GET"], "AllowedOrigins": ["*suffix", "start*end"], "ExposeHeaders": ["x-amz-meta-a"]},
        {"AllowedMethods": ["PUT"], "AllowedOrigins": ["*.put"]},
    ]
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert client.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    path, key = f"/{bucket}", f"/{bucket}/bar"
    assert asked(s3, "GET", path) == (200, None, None)
    assert asked(s3, "GET", path, "foo.suffix") == (200, "foo.suffix", "GET")
    assert asked(s3, "GET", path, "foo.bar") == (200, None, None)
    assert asked(s3, "GET", key, "foo.suffix") == (404, "foo.suffix", "GET")
    assert asked(s3, "PUT", key, "foo.put") == (403, "foo.put", "PUT")
    assert asked(s3, "OPTIONS", path) == (400, None, None)
    assert asked(s3, "OPTIONS", path, "foo.suffix") == (400, None, None)
    assert asked(s3, "OPTIONS", key, "start1end", "GET") == (200, "start1end", "GET")
    assert asked(s3, "OPTIONS", key, "foo.put", "GET") == (403, None, None)
    client.delete_bucket_cors(Bucket=bucket)
    assert asked(s3, "GET", path, "foo.suffix") == (200, None, None)


def test_a_browser_asks_about_a_presigned_url_that_is_for_another_method(s3: World, bucket: str) -> None:
    client = s3.client()
    rules = [{"AllowedMethods": ["PUT"], "AllowedOrigins": ["*.put"]}]
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    url = client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "bar"}).removeprefix(s3.url)
    assert asked(s3, "OPTIONS", url, "foo.put", "PUT") == (200, "foo.put", "PUT")
    assert asked(s3, "OPTIONS", url) == (400, None, None)


def test_a_header_that_no_rule_names_is_not_allowed(s3: World, bucket: str) -> None:
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
    s3.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    headers = {
        "Origin": "example.origin",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "x-amz-meta-header2",
    }
    assert plainly(s3, "OPTIONS", f"/{bucket}/bar", headers=headers)[0] == 403
    del headers["Access-Control-Request-Headers"]
    assert plainly(s3, "OPTIONS", f"/{bucket}/bar", headers=headers)[1]["access-control-allow-origin"] == "*"


CONSOLE_PORT = 8420


@pytest.fixture(scope="module")
def watched() -> Iterator[World]:
    """A gateway whose network has a console, at this host."""
    with s3_world(console_port=CONSOLE_PORT) as world:
        yield world


def presigned(world: World, method: str, path: str) -> str:
    """The path and query of a request that MAIN signed in its address."""
    request = SignedRequest(method, path, {}, 60)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    url = signed_link(world.url, Signer(MAIN.access_key, MAIN.secret), request, now_ms)
    return url.removeprefix(world.url)


def test_the_console_may_send_what_is_signed(watched: World) -> None:
    origin = f"http://127.0.0.1:{CONSOLE_PORT}"
    path = presigned(watched, "PUT", "/from-a-browser")
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    status, said, _ = plainly(watched, "OPTIONS", path, headers=preflight)
    assert (status, said["access-control-allow-origin"]) == (200, origin)
    assert "PUT" in said["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in said
    assert asked(watched, "PUT", path, origin)[:2] == (200, origin)
    gone = presigned(watched, "GET", "/from-a-browser/none")
    assert asked(watched, "GET", gone, origin)[:2] == (404, origin), "the page reads why"


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:8421",
        "https://127.0.0.1:8420",
        "http://127.0.0.1",
        "http://evil.example:8420",
        "http://127.0.0.1:8420.evil.example",
        "null",
        "",
    ],
)
def test_no_other_page_reads_what_is_signed(watched: World, origin: str) -> None:
    path = presigned(watched, "GET", "/")
    status, allowed, _ = asked(watched, "GET", path, origin)
    assert (status, allowed) == (200, None)


def test_the_console_may_send_nothing_unsigned(watched: World) -> None:
    origin = f"http://127.0.0.1:{CONSOLE_PORT}"
    assert asked(watched, "GET", "/no-such-bucket/a", origin)[1] is None
    assert asked(watched, "OPTIONS", "/no-such-bucket/a", origin, "GET")[:2] == (404, None)


def test_where_there_is_no_console_nobody_is_one(s3: World) -> None:
    path = presigned(s3, "GET", "/")
    assert asked(s3, "GET", path, "http://127.0.0.1:0")[:2] == (200, None)
