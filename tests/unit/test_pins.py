"""Pins and join tokens: what is read, and what is not taken for one."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import AsyncIterator

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.pins import JoinToken, der_of, fits, pem_of, pin_of, read_pin, split_token
from fallow.sdk.trust import fetch_ca, trusting
from fallow.services.registry.secrets_format import new_token, token_digest
from tests.impostor import Authority

OURS, OTHER = Authority(), Authority()
DER = der_of(OURS.pem)
URL = "https://net.example"


def test_a_pin_names_the_authoritys_key() -> None:
    key = x509.load_der_x509_certificate(DER).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert pin_of(DER) == b32encode(hashlib.sha256(info).digest()[:20]).decode().lower()
    assert (len(pin_of(DER)), pin_of(DER).islower()) == (32, True)
    assert fits(DER, OURS.pin)
    assert not fits(DER, OTHER.pin)
    assert pem_of(DER) == OURS.pem
    assert read_pin(f"sha256:{OURS.pin}") == read_pin(OURS.pin) == OURS.pin


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "hello",
        OURS.pem + OTHER.pem,
        OURS.pem + OURS.pem,
        OURS.pem + "-----BEGIN X509 CRL-----",
        OURS.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        "-----BEGIN CERTIFICATE-----\n=====\n-----END CERTIFICATE-----\n",
    ],
    ids=["empty", "hello", "two", "twice", "something behind", "another label", "no base64"],
)
def test_exactly_one_certificate_is_taken(pem: str) -> None:
    with pytest.raises(InvalidInput):
        der_of(pem)


def test_a_certificate_with_something_behind_it_is_none() -> None:
    for data in (b"", DER[:-1], DER + b"\0", DER + der_of(OTHER.pem), b"\x30\x80" + DER[4:] + b"\0\0"):
        with pytest.raises(InvalidInput):
            pin_of(data)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_changed_certificate_fits_only_where_the_key_stayed(at: int, value: int) -> None:
    changed = DER[:at] + bytes([value]) + DER[at + 1 :]
    try:
        same = fits(changed, OURS.pin)
    except InvalidInput:
        return
    if same:
        try:
            parsed = x509.load_der_x509_certificate(changed).public_key()
        except Exception:  # noqa: BLE001 - whatever another reader thinks of it: it does not read another key
            return
        info = parsed.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert b32encode(hashlib.sha256(info).digest()[:20]).decode().lower() == OURS.pin


@given(st.binary(max_size=200))
def test_noise_is_no_certificate(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        pin_of(data)


def test_a_token_with_and_without_a_pin_is_the_same_secret() -> None:
    plain, pinned = new_token(b"1" * 20), new_token(b"1" * 20, OURS.pin)
    assert pinned.text == f"{plain.text}_{OURS.pin}"
    assert split_token(plain.text) == JoinToken(plain.text, "") == plain
    assert split_token(pinned.text) == pinned
    assert token_digest(pinned.text) == token_digest(plain.text) == hashlib.sha256(plain.text.encode()).digest()
    for other in ("", "x", "fj_x", "fk_a_b"):
        assert split_token(other) == JoinToken(other, "")


# The pins are other ones in each run, so they do not name the tests.
@pytest.mark.parametrize(
    "end",
    ["", OURS.pin[:-1], OURS.pin + "a", OURS.pin.upper(), OURS.pin[:-1] + "1", "a_b"],
    ids=["empty", "short", "long", "upper", "digit", "further"],
)
def test_a_damaged_pin_is_not_taken_for_none(end: str) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        split_token(f"fj_secret_{end}")
    with pytest.raises(InvalidInput):
        read_pin(f"sha256:{end}")


@given(st.text(max_size=100))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        assert split_token(text).text == text
    except InvalidInput:
        assert text.startswith("fj_")


async def streamed(body: bytes) -> AsyncIterator[bytes]:
    yield body


def site(status: int, body: str, seen: list[httpx2.Request]) -> httpx2.MockTransport:
    """A network that answers so; status 0 is none."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if not status:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(
            status, content=streamed(body.encode("latin-1")), headers={"Location": "https://elsewhere.example"}
        )

    return httpx2.MockTransport(handle)


async def test_the_authority_is_fetched_and_nothing_else_is_said() -> None:
    seen: list[httpx2.Request] = []
    transport = site(200, OURS.pem, seen)
    assert (
        await fetch_ca("https://user:secret@net.example:99/here/?q=secret", OURS.pin, transport=transport) == OURS.pem
    )
    (asked,) = seen
    assert str(asked.url) == "https://net.example:99/here/v1/ca.pem"
    assert "secret" not in str(asked.headers)
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (200, OTHER.pem, NotAllowed, "tls.wrong_ca"),
        (200, OURS.pem + OTHER.pem, InvalidInput, "tls.ca_malformed"),
        (200, "\xff" * 50_000, InvalidInput, "tls.ca_malformed"),
        (404, OURS.pem, InvalidInput, "tls.no_ca"),
        (302, OURS.pem, InvalidInput, "tls.no_ca"),
        (0, "", Unavailable, "tls.unreachable"),
    ],
    ids=["another", "two", "noise", "none", "elsewhere", "nobody"],
)
async def test_another_authority_is_refused(status: int, body: str, error: type[FallowError], code: str) -> None:
    with pytest.raises(error) as caught:
        await fetch_ca(URL, OURS.pin, transport=site(status, body, []))
    assert caught.value.code == code


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://net.example", "net.example", "", "https://"])
async def test_a_pin_is_for_https(url: str) -> None:
    seen: list[httpx2.Request] = []
    with pytest.raises(InvalidInput) as caught:
        await fetch_ca(url, OURS.pin, transport=site(200, OURS.pem, seen))
    assert caught.value.code == "tls.url"
    assert seen == []


def test_only_this_authority_is_trusted() -> None:
    (trusted,) = trusting(OURS.pem).get_ca_certs(binary_form=True)
    assert trusted == DER
    with pytest.raises(InvalidInput):
        trusting(OURS.pem + OTHER.pem)
