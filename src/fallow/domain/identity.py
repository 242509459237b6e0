"""Who is who: nodes and services by Ed25519 keys (RFC 8032), accounts by EVM addresses."""

from __future__ import annotations

from typing import NewType

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from fallow.domain.errors import InvalidInput

NodeId = NewType("NodeId", bytes)
"""A node's Ed25519 public key, 32 bytes. Its text form is lower-case hex."""

Address = NewType("Address", bytes)
"""An account's EVM address, 20 bytes. Its text form is 0x and lower-case hex."""

NODE_ID_BYTES = 32
ADDRESS_BYTES = 20
SIGNATURE_BYTES = 64


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made with the key of `public_key` (32 bytes)."""
    if len(public_key) != NODE_ID_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def node_id(text: str) -> NodeId:
    """Read a node id from its hex form.

    Raises:
        InvalidInput: it is not 64 hex digits.
    """
    return NodeId(_from_hex(text, NODE_ID_BYTES, "node id"))


def address(text: str) -> Address:
    """Read an address from 0x and 40 hex digits.

    Raises:
        InvalidInput: it has another form.
    """
    if not text.startswith("0x"):
        raise InvalidInput("identity.malformed", f"An account's address starts with 0x; {text[:12]!r} does not.")
    return Address(_from_hex(text[2:], ADDRESS_BYTES, "address", "0x"))


def address_text(value: bytes) -> str:
    """Text form of an account's address."""
    return "0x" + value.hex()


def _from_hex(text: str, length: int, what: str, before: str = "") -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length or text != value.hex():
        shown, form = (before + text)[:80], f"{before} and {length * 2}" if before else f"{length * 2}"
        raise InvalidInput("identity.malformed", f"{shown!r} is no {what}: {form} lower-case hex digits.")
    return value
