"""Whatever a client says, the S3 gateway finds an answer that is not a fault of its own."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_s3_app import Desk

WORDS = [
    "acl",
    "cors",
    "delete",
    "encryption",
    "lifecycle",
    "location",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "requestPayment",
    "tagging",
    "uploads",
    "uploadId",
    "versioning",
    "versions",
    "attributes",
    "legal-hold",
    "retention",
    "partNumber",
    "versionId",
    "list-type",
    "max-keys",
    "prefix",
    "delimiter",
    "marker",
    "continuation-token",
    "start-after",
    "key-marker",
    "version-id-marker",
    "encoding-type",
    "max-parts",
    "max-uploads",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "AWSAccessKeyId",
    "Expires",
    "website",
    "response-content-type",
]
HEADERS = [
    "authorization",
    "content-length",
    "content-md5",
    "content-type",
    "expect",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "origin",
    "range",
    "x-amz-acl",
    "x-amz-checksum-crc32",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-copy-source-range",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-grant-read",
    "x-amz-meta-a",
    "x-amz-object-attributes",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-tagging",
    "x-amz-trailer",
    "x-amz-if-match-size",
    "x-amz-if-match-last-modified-time",
    "x-amz-max-parts",
    "access-control-request-method",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-type",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-object-ownership",
]
_SAID = (
    *("", "*", "0", "1", "²", "9" * 5000, "-1", "null", "0" * 32, "bytes=0-1", "bytes=9-", "AWS a:b", "CRC32"),
    *("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request, SignedHeaders=host, Signature=x"),
    *("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "multipart/form-data; boundary=b", "bucket/foo", "bucket/foo?versionId=1"),
    *("0001-01-01T00:00:00+14:00", "Mon, 01 Jan 0001 00:00:00 +9999", "20200101T000000Z", "GOVERNANCE", "ON"),
)
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(_SAID))
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        b"<Delete><Object><Key>a</Key><Size>9</Size></Object></Delete>",
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
        b"<AccessControlPolicy><Owner/><AccessControlList><Grant/></AccessControlList></AccessControlPolicy>",
        b"<Tagging><TagSet><Tag/></TagSet></Tagging>",
        b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>x</RetainUntilDate></Retention>",
        b"<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/></Rule></LifecycleConfiguration>",
        b"<CORSConfiguration><CORSRule/></CORSConfiguration>",
        b'{"Statement": [{"Effect": "Allow"}]}',
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--',
        b"1\r\na\r\n0\r\n\r\n",
    ]),
)  # fmt: skip


async def answered(
    method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    desk = Desk()
    await desk.ready()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    raw = "&".join(f"{name}={quote(value)}" for name, value in query)
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": raw.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await desk.answer(scope, receive)
    return int(desk.sent[0]["status"]), desk.body


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.sampled_from(
        ["/", "/bucket", "/bucket/foo", "/bucket/", "/none/foo", "/bucket/%00", "/%ff", "//", "/bucket//a"]
    ),
    st.lists(st.tuples(st.sampled_from(WORDS), TEXTS), max_size=3),
    st.dictionaries(st.sampled_from(HEADERS), TEXTS, max_size=4),
    BODIES,
)
def test_nonsense_is_refused_and_not_a_fault(
    method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    status, said = asyncio.run(answered(method, path, query, headers, body))
    assert status != 500, said
