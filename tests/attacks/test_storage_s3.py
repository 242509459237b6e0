"""What comes to the S3 door to break it: hostile names, bombs, slow and broken uploads. It says no, and goes on."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fallow.adapters.clock import SystemClock
from fallow.verticals.storage.core.calls.base import PARTS_MAX
from fallow.verticals.storage.gateway.body import DOCUMENT_BYTES_MAX
from fallow.verticals.storage.gateway.users import User
from tests.network import BOUND
from tests.s3_world import MAIN, READER, World, plainly, refused, s3_world

pytestmark = pytest.mark.xdist_group("hostile s3")

HOSTILE_KEYS = (
    "../../../etc/passwd", "..", ".", "./a", "a/../b", "a/./b", "/", "//", "/a", "a//b", "a/", "..\\..\\a", "C:\\a",
    "~root", "$(id)", "`id`", "';--", "%2e%2e%2f", "%00", "a\nb", "a\r\nX-Evil: 1", "\t", " ", " a ", "+", "a+b", "?",
    "#", "&<>\"'", "]]>", "\x01\x1f\x7f", "\x80\x9f", "\u202eevil", "\ufeff", "\ufffe\uffff", "e\u0301", "\xe9",
    "\U0001f4a3", "a" * 1024, "\xe9" * 512, "\U0001f4a3" * 256, "/".join("a" * 512), "\U0010ffff",
)  # fmt: skip
"""Each is a name like any other, and none of them is another one."""

DIGITS = ("\u0663", "\xb2", "9" * 5000, "-1", "+1", "1_0", " 1", "1e3", "0x1", "1.5", "\x00")
"""What some take for a number."""

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + at, b"&%c;" % (97 + at) * 10) for at in range(9))
    + b"]><Delete><Object><Key>&j;</Key></Object></Delete>"
)
DIGEST = "x-amz-content-sha256"
KEY = b"<Delete><Object><Key>k</Key></Object>"
DOCUMENTS = {
    "entities that grow": BOMB,
    "a file of the machine's": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Delete><Object>'
    b"<Key>&b;</Key></Object></Delete>",
    "a document type, and no harm": b"<!DOCTYPE Delete><Delete><Object><Key>k</Key></Object></Delete>",
    "an entity, and no harm": b'<!DOCTYPE a [<!ENTITY b "k">]><Delete><Object><Key>&b;</Key></Object></Delete>',
    "a document type elsewhere": b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><Delete/>',
    "depth": b"<a>" * 100_000,
    "elements": b"<Delete>" + b"<Object/>" * 100_000 + b"</Delete>",
    "depth, and no harm": KEY + b"<x>" * 5000 + b"</x>" * 5000 + b"</Delete>",
    "elements, and no harm": KEY + b"<x/>" * 60_000 + b"</Delete>",
    "attributes": b"<Delete " + b" ".join(b'a%d="1"' % at for at in range(60_000)) + b"/>",
    "nothing": b"",
    "zeros": bytes(1000),
    "no document": b"Delete",
    "UTF-16 that ends": "<Delete".encode("utf-16"),
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="EVIL"?><Delete/>',
    "half of a pair": b"<Delete><Object><Key>\xed\xa0\x80</Key></Object></Delete>",
    "a zero": b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
    "more than there may be": b"<Delete>" + b" " * DOCUMENT_BYTES_MAX + b"</Delete>",
}
TIMES = 50
"""How much faster the hasty gateway's clock goes."""


class HastyClock(SystemClock):
    """A clock whose minutes are over soon; dates are right."""

    def monotonic_ms(self) -> int:
        """See the port."""
        return super().monotonic_ms() * TIMES

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await super().sleep(seconds / TIMES)


@pytest.fixture(scope="module")
def s3() -> Iterator[World]:
    with s3_world() as world:
        yield world


@pytest.fixture
def bucket(s3: World) -> str:
    name = f"b-{os.urandom(8).hex()}"
    s3.client().create_bucket(Bucket=name)
    return name


def signed(
    world: World, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, user: User = MAIN
) -> tuple[int, bytes]:
    """Ask rightly signed for `path` (as it goes over the line, with its query); the answer's status and body."""
    return sent(world, method, path, body, dict(signature(world, method, path, body, headers, user)))


def signature(
    world: World, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None, user: User = MAIN
) -> Mapping[str, str]:
    """The headers that sign a request; what `headers` say of the content's digest stays."""
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    request = AWSRequest(method, world.url + path, headers=fields, data=body)
    _Signer(user, fields.get(DIGEST) or hashlib.sha256(body).hexdigest()).add_auth(request)
    return dict(request.headers.items())


class _Signer(S3SigV4Auth):  # type: ignore[misc] # it has no types
    def __init__(self, user: User, digest: str) -> None:
        super().__init__(Credentials(user.access_key, user.secret), "s3", "us-east-1")
        self._digest = digest

    def payload(self, request: AWSRequest) -> str:
        del request
        return self._digest


def sent(world: World, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", world.port, timeout=BOUND)) as connection:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name, value.encode("latin-1", "replace"))
        with suppress(OSError):  # it may have answered before all of it came
            connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def raw(world: World, data: bytes) -> bytes:
    """Send bytes, and what comes until the other side ends. Who was refused early could not send all, and reads why."""
    with closing(socket.create_connection(("127.0.0.1", world.port), timeout=BOUND)) as line:
        answer = b""
        with suppress(OSError):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while more := line.recv(1 << 16):
                answer += more
        return answer


def names(world: World, bucket: str) -> list[str]:
    pages = world.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [one["Key"] for page in pages for one in page.get("Contents", ())]


def put_head(world: World, path: str, length: int, body: bytes = b"") -> bytes:
    """The head of a PUT that promises `length` bytes, signed for `body`."""
    fields = signature(world, "PUT", path, body)
    lines = [f"PUT {path} HTTP/1.1", f"Host: 127.0.0.1:{world.port}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode()


def test_hostile_names_are_names_like_others(s3: World, bucket: str) -> None:
    client = s3.client()
    for key in HOSTILE_KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in HOSTILE_KEYS:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert names(s3, bucket) == sorted(HOSTILE_KEYS, key=str.encode)
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": HOSTILE_KEYS[0]})
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == HOSTILE_KEYS[0].encode()
    for key in HOSTILE_KEYS:
        client.delete_object(Bucket=bucket, Key=key)
    assert names(s3, bucket) == ["copy"]


def test_no_way_leads_out_of_a_bucket(s3: World, bucket: str) -> None:
    other = f"{bucket}-other"
    s3.client().create_bucket(Bucket=other)
    s3.client().put_object(Bucket=other, Key="secret", Body=b"of the other")
    for way in (f"../{other}/secret", f"x/../../{other}/secret", f"/{other}/secret"):
        assert signed(s3, "GET", f"/{bucket}/{way}")[0] == 404
        assert signed(s3, "PUT", f"/{bucket}/{way}", b"new")[0] == 200
    assert s3.client().get_object(Bucket=other, Key="secret")["Body"].read() == b"of the other"
    assert len(names(s3, bucket)) == 3


def test_what_is_signed_is_what_is_used(s3: World, bucket: str) -> None:
    client = s3.client()
    for key in ("a b/1", "a+b/1"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    url = client.generate_presigned_url("list_objects_v2", {"Bucket": bucket, "Prefix": "a+b"}).removeprefix(s3.url)
    status, _, said = plainly(s3, "GET", url)
    assert (status, b"a%2Bb/1" in said, b"a%20b/1" in said) == (200, True, False)
    assert plainly(s3, "GET", url.replace("%2B", "+"))[0] == 403, "a plus is a space, which nobody signed"


@pytest.mark.parametrize("text", ["\xc5ngstr\xf6m", "caf\xe9 \xe0", "a  b\t c"])
def test_headers_of_any_text_are_signed_and_kept(s3: World, bucket: str, text: str) -> None:
    path, said = f"/{bucket}/k", {"content-disposition": text, "x-amz-meta-a": text}
    fields = signature(s3, "PUT", path, b"x", said)
    on_the_line = {name: value.encode().decode("latin-1") for name, value in fields.items()}
    assert sent(s3, "PUT", path, b"x", on_the_line)[0] == 200
    there = s3.client().head_object(Bucket=bucket, Key="k")
    kept = [there["ContentDisposition"], there["Metadata"]["a"]]
    assert [value.encode("latin-1").decode() for value in kept] == [text, text]


@pytest.mark.parametrize(
    "key", ["%00", "a%00b", "%ff", "%ed%a0%80", "%c0%ae%c0%ae", "%e2%82", "a" * 1025, "%c3%a9" * 513]
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE", "POST"])
def test_what_cannot_be_a_name_is_refused(s3: World, bucket: str, key: str, method: str) -> None:
    assert signed(s3, method, f"/{bucket}/{key}", b"x" if method == "PUT" else b"")[0] == 400
    assert names(s3, bucket) == []


@pytest.mark.parametrize(
    "name", ["..", "../a", "%2e%2e", "%00", "a%00b", "A", "a" * 64, "127.0.0.1", "-a-", "a b", "\xe9"]
)
def test_what_cannot_be_a_bucket_is_refused(s3: World, name: str) -> None:
    assert signed(s3, "PUT", "/" + quote(name, "%/"))[0] in {400, 403, 404}
    assert signed(s3, "GET", "/" + quote(name, "%/"))[0] in {400, 403, 404}


@pytest.mark.parametrize("number", DIGITS)
def test_what_is_no_number_is_no_error_of_ours(s3: World, bucket: str, number: str) -> None:
    client, text = s3.client(), quote(number)
    client.put_object(Bucket=bucket, Key="k", Body=b"12345")
    upload = client.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    ways = [
        ("GET", f"/{bucket}?max-keys={text}", b""),
        ("GET", f"/{bucket}?list-type=2&max-keys={text}", b""),
        ("GET", f"/{bucket}?versions&max-keys={text}", b""),
        ("GET", f"/{bucket}?uploads&max-uploads={text}", b""),
        ("GET", f"/?max-buckets={text}", b""),
        ("GET", f"/{bucket}/k?partNumber={text}", b""),
        ("GET", f"/{bucket}/m?uploadId={upload}&max-parts={text}&part-number-marker={text}", b""),
        ("PUT", f"/{bucket}/m?uploadId={upload}&partNumber={text}", b"part"),
        ("POST", f"/{bucket}/m?uploadId={upload}", _parts(number)),
        ("PUT", f"/{bucket}?lifecycle", _rule(number)),
        ("PUT", f"/{bucket}?cors", _cors(number)),
        ("PUT", f"/{bucket}?object-lock", _locked(number)),
    ]
    for method, path, body in ways:
        status, said = signed(s3, method, path, body)
        assert status < 500, (method, path, said)
    for name in (
        "range", "x-amz-copy-source-range", "x-amz-if-match-size", "x-amz-decoded-content-length",
        "x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker",
    ):  # fmt: skip
        value = (f"bytes={number}-{number}" if "range" in name else number).replace("\x00", "0")
        for method, path in (("GET", "k"), ("GET", "k?attributes"), ("PUT", "n"), ("DELETE", "n")):
            status, said = _with_header(s3, method, f"/{bucket}/{path}", name, value)
            assert status < 500, (method, path, name, said)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"12345"


def _parts(number: str) -> bytes:
    part = f"<Part><PartNumber>{number}</PartNumber><ETag>a</ETag></Part>"
    return f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()


def _rule(number: str) -> bytes:
    rule = f"<Rule><Status>Enabled</Status><Prefix/><Expiration><Days>{number}</Days></Expiration></Rule>"
    return f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode()


def _cors(number: str) -> bytes:
    rule = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"
    rule += f"<MaxAgeSeconds>{number}</MaxAgeSeconds>"
    return f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>".encode()


def _locked(number: str) -> bytes:
    rule = f"<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>{number}</Days></DefaultRetention></Rule>"
    enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    return f"<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>".encode()


def _with_header(world: World, method: str, path: str, name: str, value: str) -> tuple[int, bytes]:
    """Ask with a header whose value is sent as it is, and signed as such."""
    chunked = {DIGEST: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} if "decoded" in name else {}
    more = {name: value.encode().decode("latin-1")} | chunked
    return signed(world, method, path, b"0\r\n\r\n" if chunked else b"", more)


@pytest.mark.parametrize("word", ["\u20ac", "\U0001f4a3", "\x00", "\u0663", "a" * 10_000, "/" * 1000, "\n"])
def test_signatures_of_nonsense_are_wrong_ones(s3: World, bucket: str, word: str) -> None:
    text, key = quote(word, ""), MAIN.access_key
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    right = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key}/{now[:8]}/us-east-1/s3/aws4_request",
        "X-Amz-Date": now,
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "0" * 64,
    }
    wrong = [right | {name: word} for name in right]
    wrong += [
        right | {"X-Amz-Credential": f"{key}/{now[:8]}/{word}/s3/aws4_request"},
        right | {"X-Amz-Credential": f"{word}/{now[:8]}/us-east-1/s3/aws4_request"},
        right | {"X-Amz-SignedHeaders": f"host;{word}"},
        {"AWSAccessKeyId": key, "Expires": "99999999999", "Signature": word},
        {"AWSAccessKeyId": word, "Expires": "99999999999", "Signature": "a"},
        {"AWSAccessKeyId": key, "Expires": "99999999999", "Signature": "a", "versionId": word},
    ]
    for fields in wrong:
        query = "&".join(f"{name}={quote(value, '')}" for name, value in fields.items())
        status, said = sent(s3, "GET", f"/{bucket}/k?{query}", b"", {})
        assert 400 <= status < 500, (fields, said)
    status, said = sent(s3, "GET", f"/{bucket}/k?{text}={text}", b"", {})
    assert 400 <= status < 500, said


@pytest.mark.parametrize("policy", ["\u20ac", "a", "e30=", "bnVsbA==", "W10=", "x" * 30_000])
@pytest.mark.parametrize("signature_field", ["signature", "x-amz-signature"])
def test_forms_of_nonsense_are_refused(s3: World, bucket: str, policy: str, signature_field: str) -> None:
    now = time.strftime("%Y%m%d", time.gmtime())
    fields = {
        "key": "k", "policy": policy, signature_field: policy, "AWSAccessKeyId": MAIN.access_key,
        "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": f"{MAIN.access_key}/{now}/a/s3/aws4_request",
    }  # fmt: skip
    if signature_field == "signature":
        fields = {name: value for name, value in fields.items() if not name.startswith("x-amz-")}
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = "".join(part.format(name, value) for name, value in {**fields, "file": "x"}.items()) + "--b--\r\n"
    status, said = sent(s3, "POST", f"/{bucket}", body.encode(), {"Content-Type": "multipart/form-data; boundary=b"})
    assert 400 <= status < 500, said
    assert names(s3, bucket) == []


FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def form(**fields: str) -> bytes:
    """A form with a file; "_" in names is "-"."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    said = {name.replace("_", "-"): value for name, value in fields.items()} | {"file": "x"}
    return ("".join(part.format(name, value) for name, value in said.items()) + "--b--\r\n").encode()


@pytest.mark.parametrize("user", [READER, MAIN])
def test_a_form_that_nobody_signed_is_nobodys_in_a_signed_request_too(s3: World, bucket: str, user: User) -> None:
    assert signed(s3, "POST", f"/{bucket}", form(key="k"), FORM, user)[0] == 403
    assert names(s3, bucket) == []


def test_a_policy_judges_what_a_form_asks_for_and_not_what_stands_around_it(s3: World, bucket: str) -> None:
    said = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    private = {"StringEquals": {"s3:x-amz-acl": "private", "s3:RequestObjectTag/a": "b"}}
    policy = json.dumps({"Statement": [said | {"Condition": private}]})
    s3.client().put_bucket_policy(Bucket=bucket, Policy=policy)
    around = {"x-amz-acl": "private", "x-amz-tagging": "a=b"}
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    assert sent(s3, "POST", f"/{bucket}", form(key="k", acl="public-read"), FORM | around)[0] == 403
    assert sent(s3, "POST", f"/{bucket}", form(key="k", acl="private", tagging=tags), FORM)[0] == 204
    assert s3.client().get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_what_a_form_says_of_its_file_can_be_read_again_or_is_refused(s3: World, bucket: str) -> None:
    s3.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    for name in ("x_amz_meta_\xe9", "x_amz_meta_\u20ac", "x_amz_meta_a b", "x_amz_meta_a:b"):
        assert sent(s3, "POST", f"/{bucket}", form(key="k", **{name: "x"}), FORM)[0] == 400
    fields = form(key="k", acl="public-read", x_amz_meta_a="\u20ac \xe9")
    assert sent(s3, "POST", f"/{bucket}", fields, FORM)[0] == 204
    _, headers, _ = plainly(s3, "GET", f"/{bucket}/k")
    assert headers["x-amz-meta-a"].encode("latin-1").decode() == "\u20ac \xe9"


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("query", ["delete", "cors", "lifecycle", "tagging", "versioning", "object-lock", "acl"])
def test_documents_that_would_burst_are_not_read(s3: World, bucket: str, document: bytes, query: str) -> None:
    sums = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(document).digest()).decode()}
    began = time.monotonic()
    status, said = signed(s3, "POST" if query == "delete" else "PUT", f"/{bucket}?{query}", document, sums)
    assert status == 400, said
    assert time.monotonic() - began < 60
    assert b"root:" not in said


def test_as_many_parts_and_names_as_there_may_be_can_be_said(s3: World, bucket: str) -> None:
    client, at = s3.client(), {"Bucket": bucket, "Key": "m"}
    upload = client.create_multipart_upload(**at, ChecksumAlgorithm="SHA256")["UploadId"]
    sha = base64.b64encode(bytes(32)).decode()
    parts = [
        {"PartNumber": number, "ETag": f'"{"0" * 32}"', "ChecksumSHA256": sha} for number in range(1, PARTS_MAX + 1)
    ]
    call = client.complete_multipart_upload
    refusal = refused(call, **at, UploadId=upload, MultipartUpload={"Parts": parts})
    assert refusal == (400, "InvalidPart"), "none of them is there"
    names = [{"Key": f"{number:04}" + "x" * 1020, "VersionId": "0" * 32} for number in range(1000)]
    assert len(client.delete_objects(Bucket=bucket, Delete={"Objects": names})["Deleted"]) == 1000


def test_metadata_and_headers_have_a_size(s3: World, bucket: str) -> None:
    client = s3.client()
    bombs: tuple[dict[str, Any], ...] = (
        {"Metadata": {"a": "x" * 2048}},
        {"Metadata": {f"m{at}": "x" * 20 for at in range(150)}},
        {"Tagging": "&".join(f"t{at}=1" for at in range(11))},
        {"Tagging": "t=" + "x" * 257},
        {"ContentType": "x" * 7000},
    )
    for bomb in bombs:
        status, _ = refused(client.put_object, Bucket=bucket, Key="k", Body=b"x", **bomb)
        assert status == 400, bomb
    assert signed(s3, "PUT", f"/{bucket}/k", b"x", {f"x-{at}": "1" for at in range(250)})[0] == 400
    huge = raw(s3, b"GET / HTTP/1.1\r\nHost: a\r\nX-Huge: " + b"x" * (1 << 20) + b"\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 400"), huge[:100]
    long = raw(s3, b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert long.startswith(b"HTTP/1.1 400"), long[:100]
    assert names(s3, bucket) == []


@pytest.mark.parametrize("length", ["-1", "+1", "1,2", "0x5", "9" * 30, "9" * 5000, "\xb2", "5 5", ""])
def test_lengths_that_are_none_store_nothing(s3: World, bucket: str, length: str) -> None:
    path = f"/{bucket}/k"
    head = put_head(s3, path, 1, b"x").replace(b"Content-Length: 1", f"Content-Length: {length}".encode("latin-1"))
    answer = raw(s3, head + b"x")
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert names(s3, bucket) == []


def test_more_and_less_than_was_promised_is_not_an_object(s3: World, bucket: str) -> None:
    assert raw(s3, put_head(s3, f"/{bucket}/less", 10, b"12345") + b"12345").count(b"200 OK") == 0
    smuggled = f"PUT /{bucket}/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx".encode()
    answers = raw(s3, put_head(s3, f"/{bucket}/right", 5, b"12345") + b"12345" + smuggled)
    assert answers.startswith(b"HTTP/1.1 200"), "what comes behind it is a request of its own, which nobody signed"
    both = (
        put_head(s3, f"/{bucket}/both", 5, b"12345")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"
    )
    assert not raw(s3, both + smuggled).startswith(b"HTTP/1.1 5")
    assert set(names(s3, bucket)) <= {"right", "both"}


@pytest.mark.parametrize(
    "body",
    [
        b"fffffffffffffff\r\n", b"f" * 100_000, b"\r\n" * 1000, b"5;" + b"x" * 100_000, b"5\r\n1234567890\r\n0\r\n\r\n",
        b"5\r\n12345\r\n0\r\n" + b"".join(b"a%d:b\r\n" % at for at in range(10_000)),
        b"-5\r\n12345\r\n", b"0\r\n\r\n" + b"x" * 1000, b"",
        b"1\r\nx\r\n" * 5000, b"5\r\n12345\r\n",
    ],
    ids=str,
)  # fmt: skip
def test_chunks_that_lie_store_nothing(s3: World, bucket: str, body: bytes) -> None:
    headers = {DIGEST: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-decoded-content-length": "5"}
    status, said = signed(s3, "PUT", f"/{bucket}/k", body, headers)
    assert 400 <= status < 500, said
    assert names(s3, bucket) == []


def test_uploads_that_break_off_leave_nothing_to_see(s3: World, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="there", Body=b"before")
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    ways = [f"/{bucket}/new", f"/{bucket}/there", f"/{bucket}/parts?uploadId={upload}&partNumber=1"]
    for path in ways * 5:
        with closing(socket.create_connection(("127.0.0.1", s3.port))) as line:
            line.sendall(put_head(s3, path, 1 << 20, bytes(1 << 20)) + bytes(1 << 19))
    assert names(s3, bucket) == ["there"]
    assert client.get_object(Bucket=bucket, Key="there")["Body"].read() == b"before"
    assert "Parts" not in client.list_parts(Bucket=bucket, Key="parts", UploadId=upload)


def test_who_dribbles_holds_nothing_for_ever() -> None:
    with s3_world(HastyClock()) as world:
        world.client().create_bucket(Bucket="slow")
        ended = [threading.Thread(target=_dribble, args=(world, at)) for at in range(20)]
        for thread in ended:
            thread.start()
        world.client().put_object(Bucket="slow", Key="quick", Body=bytes(1 << 20))
        for thread in ended:
            thread.join(BOUND)
            assert not thread.is_alive(), "the upload of one byte now and then is ended"
        assert names(world, "slow") == ["quick"]


def _dribble(world: World, number: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", world.port), timeout=BOUND)) as line:
        line.sendall(put_head(world, f"/slow/{number}", 1 << 30))
        try:
            while True:
                line.sendall(b"x")
                line.settimeout(0.05)
                try:
                    if not line.recv(1 << 16):
                        return
                except TimeoutError:
                    continue
        except ConnectionError:
            return
