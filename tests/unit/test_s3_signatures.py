"""Signatures of version 4 against the examples that AWS publishes for S3, and chunks that are signed one by one."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.verticals.storage.gateway.auth import sigv2
from fallow.verticals.storage.gateway.auth.caller import find_caller
from fallow.verticals.storage.gateway.auth.chunked import ChunkedDecoder, ChunkSigning
from fallow.verticals.storage.gateway.auth.sigv4 import (
    EMPTY_SHA256,
    Scope,
    canonical_request,
    read_credential,
    signature,
    signing_key,
    string_to_sign,
)
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.request import Request
from tests.s3_world import MAIN, MemoryUsers
from tests.unit.fake_network import HandClock
from tests.unit.test_s3_app import never

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 - the one of AWS's examples
SCOPE = Scope("20130524", "us-east-1", "s3")
AT = "20130524T000000Z"
AT_MS = 1_369_353_600_000
HOST = "examplebucket.s3.amazonaws.com"


def signed(method: str, path: bytes, query: bytes, headers: dict[str, str], payload: str) -> str:
    names = sorted(headers)
    canonical = canonical_request(method, path, query, headers, names, payload)
    return signature(signing_key(SECRET, SCOPE), string_to_sign(AT, SCOPE, canonical))


def with_date(**headers: str) -> dict[str, str]:
    return {"host": HOST, "x-amz-date": AT} | {name.replace("_", "-"): value for name, value in headers.items()}


def test_a_get_of_a_range_has_the_published_signature() -> None:
    headers = with_date(range="bytes=0-9", x_amz_content_sha256=EMPTY_SHA256)
    right = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signed("GET", b"/test.txt", b"", headers, EMPTY_SHA256) == right


def test_a_put_of_a_name_with_a_dollar_has_the_published_signature() -> None:
    digest = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
    headers = with_date(
        date="Fri, 24 May 2013 00:00:00 GMT",
        x_amz_storage_class="REDUCED_REDUNDANCY",
        x_amz_content_sha256=digest,
    )
    right = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    assert signed("PUT", b"/test$file.text", b"", headers, digest) == right
    assert signed("PUT", b"/test%24file.text", b"", headers, digest) == right


def test_a_word_without_a_value_in_the_query_has_the_published_signature() -> None:
    headers = with_date(x_amz_content_sha256=EMPTY_SHA256)
    right = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert signed("GET", b"/", b"lifecycle", headers, EMPTY_SHA256) == right


def test_a_list_has_the_published_signature_in_any_order_of_its_query() -> None:
    headers = with_date(x_amz_content_sha256=EMPTY_SHA256)
    right = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert signed("GET", b"/", b"prefix=J&max-keys=2", headers, EMPTY_SHA256) == right


def test_a_presigned_url_has_the_published_signature() -> None:
    query = (
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
        b"aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=abc"
    )
    right = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert signed("GET", b"/test.txt", query, {"host": HOST}, "UNSIGNED-PAYLOAD") == right


def test_a_signature_of_version_2_is_the_published_one() -> None:
    headers = {"date": "Tue, 27 Mar 2007 19:36:42 +0000"}
    text = sigv2.to_sign("GET", "/awsexamplebucket1/photos/puppy.jpg", [], headers, headers["date"])
    assert sigv2.sign(SECRET, text) == "qgk2+6Sv9/oM7G3qLEjTH1a1l1g="


@pytest.mark.parametrize(("day", "holds"), [(SCOPE.date, True), ("", False), ("2", False), ("201305", False)])
async def test_a_signature_is_for_a_whole_day(day: str, holds: bool) -> None:
    fields, scope = {"host": HOST, "x-amz-date": AT, "x-amz-content-sha256": EMPTY_SHA256}, SCOPE._replace(date=day)
    canonical = canonical_request("GET", b"/", b"", fields, sorted(fields), EMPTY_SHA256)
    right = signature(signing_key(MAIN.secret, scope), string_to_sign(AT, scope, canonical))
    said = f"Credential={MAIN.access_key}/{scope}, SignedHeaders={';'.join(sorted(fields))}, Signature={right}"
    headers = {**fields, "authorization": f"AWS4-HMAC-SHA256 {said}"}
    sent = {
        "method": "GET",
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    finding = find_caller(Request(sent, never, HandClock()), MemoryUsers(), AT_MS)
    if holds:
        assert (await finding).user == MAIN
        return
    with pytest.raises(S3Error) as caught:
        await finding
    assert caught.value.code == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize("text", ["", "KEY", "KEY/20130524/us-east-1/s3", "/20130524/us-east-1/s3/aws4_request"])
def test_what_is_no_credential_is_none(text: str) -> None:
    assert read_credential(text) is None


CHUNKS = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
"""AWS's example of a body in signed chunks."""
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"


def decode(body: bytes, cuts: list[int], *, signed_chunks: bool, seed: str = SEED) -> tuple[bytes, dict[str, str]]:
    signing = ChunkSigning(signing_key(SECRET, SCOPE), AT, SCOPE, seed) if signed_chunks else None
    decoder = ChunkedDecoder(signing)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:stop] for start, stop in pairwise(edges)]
    content = b"".join(part for piece in pieces for part in decoder.feed(piece))
    decoder.end()
    return content, decoder.trailers


@given(st.lists(st.integers(0, len(CHUNKS)), max_size=8))
def test_signed_chunks_are_read_however_they_are_cut(cuts: list[int]) -> None:
    assert decode(CHUNKS, cuts, signed_chunks=True) == (b"a" * 66560, {})


@given(st.lists(st.integers(0, 80), max_size=20))
def test_trailing_headers_are_read_however_they_are_cut(cuts: list[int]) -> None:
    body = b"5\r\nhello\r\n7\r\n, world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    assert decode(body, cuts, signed_chunks=False) == (b"hello, world", {"x-amz-checksum-crc32": "AAAAAA=="})


def test_signed_trailing_headers_are_those_of_the_published_example() -> None:
    seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    body = (
        b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
        + b"a" * 65536
        + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
        + b"a" * 1024
        + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
        + b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
        + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    )
    assert decode(body, [], signed_chunks=True, seed=seed) == (b"a" * 66560, {"x-amz-checksum-crc32c": "sOO8/Q=="})
    with pytest.raises(S3Error, match="signature"):
        decode(body.replace(b"sOO8", b"sOO9"), [], signed_chunks=True, seed=seed)


@pytest.mark.parametrize("at", [90, 65_700, 66_000])
def test_a_changed_byte_in_a_signed_chunk_is_found(at: int) -> None:
    changed = CHUNKS[:at] + b"b" + CHUNKS[at + 1 :]
    with pytest.raises(S3Error) as caught:
        decode(changed, [], signed_chunks=True)
    assert caught.value.code in {"SignatureDoesNotMatch", "InvalidRequest"}


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"0\r\n\r\nmore",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\na:b\r\na:b\r\n\r\n",
        b"1" * 2000,
    ],
)
def test_what_is_not_in_chunks_is_refused(body: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        decode(body, [], signed_chunks=False)
    assert caught.value.code == "InvalidRequest"


@given(st.integers(0, len(CHUNKS) - 1))
def test_a_body_that_ends_early_is_incomplete(length: int) -> None:
    with pytest.raises(S3Error) as caught:
        decode(CHUNKS[:length], [], signed_chunks=True)
    assert caught.value.code == "IncompleteBody"
