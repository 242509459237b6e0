"""Accounts whose keys the network keeps for people who want none of their own.

The keys are derived from one seed (HMAC-SHA512 over the account's index), so that no key is ever stored: a backup of
the seed is a backup of all. Addresses and signatures are Ethereum's: secp256k1, Keccak-256, EIP-191 messages.
"""

from __future__ import annotations

import hashlib
import hmac

from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

from fallow.domain.errors import InvalidInput

SEED_BYTES = 32
SIGNATURE_BYTES = 65
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
RECOVERY_OFFSET = 27
"""Ethereum writes the recovery id as 27 or 28 (Yellow Paper, appendix F)."""


class Custody:
    """Signs for custodial accounts. The seed stays inside."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidInput("custody.seed", f"The custody seed has {SEED_BYTES} bytes, not {len(seed)}.")
        self._seed = seed

    def address(self, index: int) -> bytes:
        """Address of the account with this index."""
        return _address(self._key(index).public_key)

    def sign(self, index: int, text: str) -> bytes:
        """Sign a text as `personal_sign` does (EIP-191); 65 bytes r, s, v."""
        signature = self._key(index).sign_recoverable(_eip191(text), hasher=None)
        return signature[:64] + bytes([signature[64] + RECOVERY_OFFSET])

    def _key(self, index: int) -> PrivateKey:
        digest = hmac.new(self._seed, b"fallow/custody/1\0" + index.to_bytes(8, "big"), hashlib.sha512).digest()
        # 512 bits reduced by the order are uniform up to 2^-256; zero is as unlikely as guessing a key.
        return PrivateKey((int.from_bytes(digest, "big") % (CURVE_ORDER - 1) + 1).to_bytes(32, "big"))


def signer_of(text: str, signature: bytes) -> bytes:
    """Address whose key signed `text` as `personal_sign` does (EIP-191).

    Raises:
        InvalidInput: this is no such signature.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] - RECOVERY_OFFSET not in (0, 1):
        raise InvalidInput("account.signature", "A signature has 65 bytes and ends in 27 or 28.")
    recoverable = signature[:64] + bytes([signature[64] - RECOVERY_OFFSET])
    try:
        return _address(PublicKey.from_signature_and_message(recoverable, _eip191(text), hasher=None))
    except ValueError as error:
        raise InvalidInput("account.signature", f"The signature does not hold: {error}.") from error


def binding_text(net: str, node: bytes, account: bytes) -> str:
    """What an account signs to take a node as its own; wallets show it as it stands."""
    return f"Fallow network {net}: node {node.hex()} belongs to account 0x{account.hex()}."


def _address(key: PublicKey) -> bytes:
    return _keccak(key.format(compressed=False)[1:])[-20:]


def _eip191(text: str) -> bytes:
    data = text.encode()
    return _keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def _keccak(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()
