"""Pins of a network's own certificate authority (CA), and the join tokens that carry them.

A pin is the first 20 bytes of the SHA-256 of the CA certificate's SubjectPublicKeyInfo, in lower-case base32: what
names the CA's key, however often its certificate is made anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import NamedTuple

from fallow.domain.errors import InvalidInput

PIN_BYTES = 20
PIN_CHARACTERS = 32
PIN_PREFIX = "sha256:"
"""How a pin begins where it stands alone: `--ca sha256:...`."""

TOKEN_PREFIX = "fj"  # noqa: S105 - the mark by which a leaked token is recognised

_PIN = re.compile(rf"[a-z2-7]{{{PIN_CHARACTERS}}}")
_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*", re.ASCII)
_PEM_COLUMNS = 64

_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0
# version, serial number, signature's algorithm, issuer, validity, subject: what comes before the public key.
_BEFORE_KEY = (_VERSION, _INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE)
_LONG_FORM = 0x80
_LENGTH_BYTES_MAX = 2


class JoinToken(NamedTuple):
    """A join token in its parts: what the network is shown, and the pin of its CA ("" if it has none of its own)."""

    secret: str
    pin: str

    @property
    def text(self) -> str:
        """What the operator hands out."""
        return f"{self.secret}_{self.pin}" if self.pin else self.secret


def split_token(text: str) -> JoinToken:
    """Take a join token apart: `fj_SECRET`, or `fj_SECRET_PIN`. Other text is a secret without a pin.

    Raises:
        InvalidInput: what follows the secret is no pin: to go on without one would be to trust anybody.
    """
    prefix, _, rest = text.partition("_")
    secret, mark, pin = rest.partition("_")
    if prefix != TOKEN_PREFIX or not mark:
        return JoinToken(text, "")
    return JoinToken(f"{prefix}_{secret}", _checked(pin, "The join token is damaged at its end."))


def read_pin(text: str) -> str:
    """Read a pin as people write it, `sha256:` before it or not.

    Raises:
        InvalidInput: it is none.
    """
    return _checked(text.removeprefix(PIN_PREFIX), f"{text[:80]!r} is no pin of a certificate authority.")


def pin_of(certificate: bytes) -> str:
    """Pin of a CA's certificate (DER).

    Raises:
        InvalidInput: it is not exactly one X.509 v3 certificate in DER.
    """
    key_info = hashlib.sha256(_key_info(certificate)).digest()
    return base64.b32encode(key_info[:PIN_BYTES]).decode().lower()


def fits(certificate: bytes, pin: str) -> bool:
    """Whether a certificate (DER) is the one that the pin names. Raises as `pin_of`."""
    return hmac.compare_digest(pin_of(certificate), pin)


def der_of(pem: str) -> bytes:
    """The only certificate in a PEM text, as DER. A second one would be trusted without ever having been looked at.

    Raises:
        InvalidInput: there is none, more than one, or anything else beside it.
    """
    match = _PEM.fullmatch(pem)
    try:
        return base64.b64decode("".join(match[1].split()), validate=True) if match else _malformed()
    except binascii.Error:
        return _malformed()


def pem_of(certificate: bytes) -> str:
    """PEM text of a certificate (DER)."""
    text = base64.b64encode(certificate).decode()
    lines = (text[start : start + _PEM_COLUMNS] for start in range(0, len(text), _PEM_COLUMNS))
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----\n"))


def _key_info(certificate: bytes) -> bytes:
    """SubjectPublicKeyInfo, header included.

    As strict as DER is: whoever checks the certificate afterwards must not find another key in it than we do.
    """
    start, end = _element(certificate, 0, _SEQUENCE)
    if end != len(certificate):
        _malformed()
    at, end = _element(certificate, start, _SEQUENCE)
    for tag in _BEFORE_KEY:
        _, at = _element(certificate, at, tag)
    _, after = _element(certificate, at, _SEQUENCE)
    return certificate[at:after] if after <= end else _malformed()


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` starts and ends."""
    header = data[at : at + 2]
    if len(header) < 2 or header[0] != tag:  # noqa: PLR2004 - tag and first byte of the length
        _malformed()
    start, length = at + 2, header[1]
    if length >= _LONG_FORM:
        width = length - _LONG_FORM
        field = data[start : start + width]
        length = int.from_bytes(field)
        # The shortest form only, and no indefinite length.
        if not 1 <= width <= _LENGTH_BYTES_MAX or field[:1] in {b"", b"\0"} or length < _LONG_FORM:
            _malformed()
        start += width
    if start + length > len(data):
        _malformed()
    return start, start + length


def _checked(pin: str, message: str) -> str:
    if _PIN.fullmatch(pin) is None:
        raise InvalidInput("tls.pin", message, "Copy it again, with all of its characters.")
    return pin


def _malformed() -> bytes:
    raise InvalidInput("tls.ca_malformed", "This is not one X.509 certificate.")
