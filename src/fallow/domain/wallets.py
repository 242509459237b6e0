"""Account keys: secp256k1, Keccak-256, `personal_sign` (EIP-191) and digests, as Ethereum's wallets do it."""

from __future__ import annotations

from coincurve import PrivateKey, PublicKey
from sha3 import keccak_256

from fallow.domain.errors import InvalidInput

SIGNATURE_BYTES = 65
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
CAPITAL_FROM = 8
"""A letter is a capital where the hash of the whole has such a digit (EIP-55)."""

RECOVERY_OFFSET = 27
"""Ethereum writes the recovery id as 27 or 28 (Yellow Paper, appendix F)."""


def address_of(key: PrivateKey) -> bytes:
    """Address of the account with this key."""
    return _address(key.public_key)


def checksum_address(address: bytes) -> str:
    """An account's address as wallets show it: capitals hold a checksum (EIP-55)."""
    text = address.hex()
    checks = keccak(text.encode())[: len(address)].hex()
    return "0x" + "".join(
        letter.upper() if int(check, 16) >= CAPITAL_FROM else letter for letter, check in zip(text, checks, strict=True)
    )


def sign_text(key: PrivateKey, text: str) -> bytes:
    """Sign a text as `personal_sign` does; 65 bytes r, s, v."""
    return sign_digest(key, text_digest(text))


def signer_of(text: str, signature: bytes) -> bytes:
    """Address whose key signed `text` as `personal_sign` does.

    Raises:
        InvalidInput: this is no such signature.
    """
    return _recover(text_digest(text), signature)


def text_digest(text: str) -> bytes:
    """The hash that `personal_sign` signs for a text."""
    data = text.encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """Sign 32 bytes that are a hash already, such as those of EIP-712; 65 bytes r, s, v."""
    signature = key.sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([signature[64] + RECOVERY_OFFSET])


def signer_of_digest(digest: bytes, signature: bytes) -> bytes:
    """Address whose key signed a digest, by the one of its two forms that contracts take (low s, EIP-2).

    Raises:
        InvalidInput: this is no such signature.
    """
    if int.from_bytes(signature[32:64]) > CURVE_ORDER // 2:
        raise InvalidInput("account.signature", "The signature is in the form that contracts refuse: s is high.")
    return _recover(digest, signature)


def keccak(data: bytes) -> bytes:
    """Keccak-256, as Ethereum uses it: not the SHA-3 of the standard."""
    digest: bytes = keccak_256(data).digest()
    return digest


def _recover(digest: bytes, signature: bytes) -> bytes:
    if len(signature) != SIGNATURE_BYTES or signature[64] - RECOVERY_OFFSET not in (0, 1):
        raise InvalidInput("account.signature", "A signature has 65 bytes and ends in 27 or 28.")
    recoverable = signature[:64] + bytes([signature[64] - RECOVERY_OFFSET])
    try:
        return _address(PublicKey.from_signature_and_message(recoverable, digest, hasher=None))
    except ValueError as error:
        raise InvalidInput("account.signature", f"The signature does not hold: {error}.") from error


def _address(key: PublicKey) -> bytes:
    return keccak(key.format(compressed=False)[1:])[-20:]
