"""Documents, checksums, ranges and names, as the S3 gateway reads and writes them."""

from __future__ import annotations

import hashlib
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.verticals.storage.core.calls.base import HEAD_BYTES_MAX
from fallow.verticals.storage.gateway.checksums import (
    combined,
    composite,
    hasher,
    joined,
    md5_of,
    sent_checksums,
    written,
)
from fallow.verticals.storage.gateway.conditions import Span, read_copy_range, read_range
from fallow.verticals.storage.gateway.cors import EACH_MAX, LOOKS_MAX, RULES_MAX, Rule, first_answer, rules_of_document
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.heads import PART_SUMS_BYTES_MAX, head_of
from fallow.verticals.storage.gateway.request import check_bucket_name
from fallow.verticals.storage.gateway.tags import tags_of_header
from fallow.verticals.storage.gateway.xml import Node, document, parse, text_of

CHECK = b"123456789"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_what_is_written_is_read(text: str) -> None:
    root = parse(document("Root", Node("Key", text)))
    assert text_of(root, "Key") == text


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>'


@pytest.mark.parametrize("data", [b"", b"<a>", b"<a/><b/>", BOMB, b"<!DOCTYPE a><a/>", b"<a>" * 20, b"text"])
def test_what_is_no_plain_document_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(data)


def test_a_document_of_too_many_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        parse(b"<a>" + b"<b/>" * 60_000 + b"</a>")


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [("crc32", 0xCBF43926), ("crc32c", 0xE3069283), ("crc64nvme", 0xAE8B14860A799888)],
)
def test_a_crc_has_its_published_check_value(algorithm: str, value: int) -> None:
    crc = hasher(algorithm)
    for byte in CHECK:
        crc.update(bytes([byte]))
    assert int.from_bytes(crc.digest()) == value


@given(
    st.sampled_from(["crc32", "crc32c", "crc64nvme"]),
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5),
)
def test_the_crc_of_a_whole_follows_from_those_of_its_parts(algorithm: str, parts: list[bytes]) -> None:
    def of(data: bytes) -> str:
        crc = hasher(algorithm)
        crc.update(data)
        return written(crc.digest())

    assert combined(algorithm, [(of(part), len(part)) for part in parts]) == of(b"".join(parts))


def test_a_composite_checksum_is_of_the_parts_checksums() -> None:
    parts = [hashlib.sha256(part).digest() for part in (b"a", b"b")]
    whole = written(hashlib.sha256(b"".join(parts)).digest())
    assert composite("sha256", joined(written(part) for part in parts), len(parts)) == f"{whole}-2"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": "AAAA"}, "BadDigest"),
        ({"x-amz-checksum-sha256": "bad"}, "BadDigest"),
        ({"x-amz-checksum-md4": "AAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}, "InvalidRequest"),
    ],
)
def test_checksums_that_make_no_sense_are_refused(headers: dict[str, str], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        sent_checksums(headers)
    assert caught.value.code == code


def test_the_longest_headers_leave_room_for_checksums_of_parts() -> None:
    said = {"content-type": "x" * (6144 - len("content-type"))}
    said |= {f"x-amz-meta-{number:03}": "y" * 7 for number in range(198)}
    head = head_of(said)
    assert sum(len(name) + len(value) for name, value in head.metadata.items()) > 1970
    sums = {"sha256": f"{'z' * 44}-10000"}
    full = msgspec.structs.replace(head, checksums=sums, part_sums=bytes(PART_SUMS_BYTES_MAX), etag="e" * 38)
    assert len(msgspec.msgpack.encode(full)) + 256 < HEAD_BYTES_MAX


@pytest.mark.parametrize("text", ["", "YWJyYWNhZGFicmE=", "not base64"])
def test_what_is_no_md5_is_refused(text: str) -> None:
    with pytest.raises(S3Error) as caught:
        md5_of(text)
    assert caught.value.code == "InvalidDigest"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=4-", Span(4, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-30", Span(0, 10)),
        ("bytes=8-99", Span(8, 10)),
        ("bytes=4-9223372036854775806", Span(4, 10)),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
        ("bytes=-", None),
    ],
)
def test_a_range_is_read_or_passed_over(header: str, span: Span | None) -> None:
    assert read_range(header, 10) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(header: str) -> None:
    with pytest.raises(S3Error) as caught:
        read_range(header, 10)
    assert caught.value.status == 416


@pytest.mark.parametrize("header", ["0-2", "bytes=0", "bytes=a-b", "bytes=0-", "bytes=0-2,3-5", "bytes=5-4"])
def test_the_range_of_a_copy_must_be_right(header: str) -> None:
    with pytest.raises(S3Error) as caught:
        read_copy_range(header, 10)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    "name", ["a", "aa", "_abc", "foo_bar", "foo-", "foo..bar", "foo.-bar", "foo-.bar", "192.168.5.1", "Foo", "a" * 64]
)
def test_a_bad_name_for_a_bucket_is_refused(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_bucket_name(name)
    assert caught.value.code == "InvalidBucketName"


@pytest.mark.parametrize("name", ["abc", "0abc", "aaa.111", "aaa-111", "a" * 63])
def test_a_good_name_for_a_bucket_is_taken(name: str) -> None:
    check_bucket_name(name)


def test_tags_are_read_from_a_header_with_and_without_values() -> None:
    assert tags_of_header("foo=bar&bar&b%20c=d%26e") == {"foo": "bar", "bar": "", "b c": "d&e"}


@pytest.mark.parametrize("text", ["a=1&a=2", "=x", "&".join(f"k{at}=v" for at in range(11)), "a=" + "v" * 257])
def test_bad_tags_are_refused(text: str) -> None:
    with pytest.raises(S3Error) as caught:
        tags_of_header(text)
    assert caught.value.code == "InvalidTag"


@pytest.mark.parametrize(
    ("origin", "method", "asked", "allowed"),
    [
        ("http://a.org", "GET", [], "http://a.org"),
        ("http://b.a.org", "GET", [], None),
        ("start-end", "GET", ["X-One"], "start-end"),
        ("start-end", "GET", ["y-one"], None),
        ("http://a.org", "PUT", [], None),
        ("startend", "GET", [], "startend"),
        ("stend", "GET", [], None),
        ("start-end", "GET", ["x-one"] * 100, "start-end"),
        ("start-end", "GET", ["x-one"] * 101, None),
    ],
)
def test_the_first_rule_that_fits_answers_a_browser(
    origin: str, method: str, asked: list[str], allowed: str | None
) -> None:
    rules = [
        Rule(origins=["http://a.org"], methods=["GET"]),
        Rule(origins=["start*end"], methods=["GET"], headers=["x-*"]),
    ]
    answer = first_answer(rules, origin, method, asked)
    assert (answer or {}).get("access-control-allow-origin") == allowed


@pytest.mark.parametrize("name", ["AllowedOrigin", "AllowedHeader", "ExposeHeader"])
def test_a_rule_has_a_size(name: str) -> None:
    said = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>" + f"<{name}>a*</{name}>" * 101
    with pytest.raises(S3Error) as caught:
        rules_of_document(parse(f"<CORSConfiguration><CORSRule>{said}</CORSRule></CORSConfiguration>".encode()))
    assert caught.value.code == "InvalidRequest"


def test_the_crc_of_zlib_is_the_one_of_the_headers() -> None:
    crc = hasher("crc32")
    crc.update(CHECK)
    assert int.from_bytes(crc.digest()) == zlib.crc32(CHECK)


def test_a_question_that_would_hold_up_all_others_is_not_looked_into() -> None:
    headers = [*(f"*{number}" for number in range(EACH_MAX - 1)), "x-*"]
    rules = [Rule(origins=["*"], methods=["GET"], headers=headers) for _ in range(RULES_MAX)]
    few = [f"x-{number}" for number in range(LOOKS_MAX // (RULES_MAX * EACH_MAX))]
    assert first_answer(rules, "http://a", "GET", few) is not None
    assert first_answer(rules, "http://a", "GET", [*few, "x-more"]) is None
