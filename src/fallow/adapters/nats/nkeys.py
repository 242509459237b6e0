"""NATS's text form of Ed25519 keys, and its signed tokens, as far as connecting and the callout need them.

A key as text is base32, without padding, of a prefix byte (which makes the first letter say what it is: U a user,
A an account, N a server), the 32 key bytes, and a CRC-16 (XMODEM), low byte first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import msgspec
import nacl.exceptions
import nacl.signing

from fallow.domain.errors import InvalidInput, NotAllowed

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_CRC_BYTES = 2
_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'

Claims = TypeVar("Claims")


class Kind(IntEnum):
    """What a key stands for: the prefix byte in its text form."""

    USER = 20 << 3
    ACCOUNT = 0
    SERVER = 13 << 3


class KeySigner(NamedTuple):
    """An Ed25519 key that can sign; the secret stays behind `sign`."""

    public_key: bytes
    sign: Callable[[bytes], bytes]

    @classmethod
    def from_seed(cls, seed: bytes) -> KeySigner:
        """Hold the 32 bytes of a seed in memory; ValueError for any other length."""
        key = nacl.signing.SigningKey(seed)
        return cls(bytes(key.verify_key), lambda data: key.sign(data).signature)


def encode_public(kind: Kind, public_key: bytes) -> str:
    """Text form of a public key (56 letters and digits); ValueError unless it has 32 bytes."""
    if len(public_key) != KEY_BYTES:
        raise ValueError(f"a public key has {KEY_BYTES} bytes")
    raw = bytes([kind]) + public_key
    return _base32(raw + binascii.crc_hqx(raw, 0).to_bytes(_CRC_BYTES, "little"))


def decode_public(kind: Kind, text: str) -> bytes:
    """The 32 bytes of a public key.

    Raises:
        InvalidInput: the text is not exactly the text form of a key of this kind.
    """
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raw = b""
    public_key = raw[1:-_CRC_BYTES]
    # Encoding it again leaves only one text per key: spare bits, prefix and checksum are all compared.
    if len(public_key) != KEY_BYTES or encode_public(kind, public_key) != text:
        raise InvalidInput("nkey.form", f"{text[:64]!r} is not the public key of a {kind.name.lower()}.")
    return public_key


def check_signature(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether this key signed exactly these bytes; never raises for bad input."""
    try:
        nacl.signing.VerifyKey(public_key).verify(data, signature)
    except (nacl.exceptions.CryptoError, nacl.exceptions.TypeError, nacl.exceptions.ValueError):
        return False
    return True


def decode_signature(text: str) -> bytes:
    """The bytes of a signature as clients send it: base64url without padding, or plain base64 with it.

    Raises:
        InvalidInput: it is neither, or has not 64 bytes.
    """
    try:
        signature = _unbase64(text.rstrip("=").replace("+", "-").replace("/", "_"))
    except ValueError:
        signature = b""
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidInput("nkey.signature", "The signature has not the form of an Ed25519 signature.")
    return signature


def sign_token(claims: dict[str, Any], kind: Kind, signer: KeySigner) -> str:
    """A NATS JWT: adds `iss` (the signer as this kind of key) and `jti` (a digest of the rest), and signs."""
    named = {**claims, "iss": encode_public(kind, signer.public_key)}
    digest = hashlib.sha256(msgspec.json.encode(named, order="deterministic")).digest()
    payload = msgspec.json.encode({**named, "jti": _base32(digest)}, order="deterministic")
    signed = f"{_base64(_HEADER)}.{_base64(payload)}"
    return f"{signed}.{_base64(signer.sign(signed.encode()))}"


def read_token(token: bytes, claims_type: type[Claims], kind: Kind) -> Claims:
    """Check that a NATS JWT is signed by its own issuer, a key of this kind, and read its claims.

    Raises:
        InvalidInput: it is no such token, or its claims are not of this type.
        NotAllowed: the signature is not the issuer's.
    """
    try:
        signed, signature_text = token.decode("ascii").rsplit(".", 1)
        header_text, payload_text = signed.split(".")
        header = msgspec.json.decode(_unbase64(header_text), type=_Header)
        payload = _unbase64(payload_text)
        issuer = msgspec.json.decode(payload, type=_Issued).iss
        claims = msgspec.json.decode(payload, type=claims_type)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput("nkey.token", f"This is not a token of NATS: {error}.") from None
    # The older "ed25519" signs the payload alone; a token that chooses its own rule is refused.
    if header.alg != "ed25519-nkey" or header.typ.upper() != "JWT":
        raise InvalidInput("nkey.token", "The token is signed in another way than NATS does today.")
    public_key = decode_public(kind, issuer)
    if not check_signature(public_key, signed.encode(), decode_signature(signature_text)):
        raise NotAllowed("nkey.token_signature", "The token is not signed by its issuer.")
    return claims


class _Header(msgspec.Struct):
    alg: str
    typ: str


class _Issued(msgspec.Struct):
    iss: str


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=")


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
