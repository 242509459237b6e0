"""Accounts whose keys the network keeps for people who want none of their own.

The keys are derived from one seed (HMAC-SHA512 over the account's index), so that no key is ever stored: a backup of
the seed is a backup of all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from coincurve import PrivateKey

from fallow.domain.errors import InvalidInput
from fallow.domain.wallets import CURVE_ORDER, address_of, sign_digest, sign_text

SEED_BYTES = 32
SIGNING_BYTES = 30


class Custody:
    """Signs for custodial accounts. The seed stays inside."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidInput("custody.seed", f"The custody seed has {SEED_BYTES} bytes, not {len(seed)}.")
        self._seed = seed

    def address(self, index: int) -> bytes:
        """Address of the account with this index."""
        return address_of(self._key(index))

    def sign(self, index: int, text: str) -> bytes:
        """Sign a text as `personal_sign` does (EIP-191); 65 bytes r, s, v."""
        return sign_text(self._key(index), text)

    def sign_digest(self, index: int, digest: bytes) -> bytes:
        """Sign 32 bytes that a contract checks (EIP-712); 65 bytes r, s, v."""
        return sign_digest(self._key(index), digest)

    def signing_secret(self, key_id: str) -> str:
        """What the holder of an API key signs requests with where the key itself must not travel (S3): 40 characters.

        It is kept nowhere, since it follows from the seed.
        """
        digest = hmac.new(self._seed, b"fallow/signing-secret/1\0" + key_id.encode(), hashlib.sha256).digest()
        return base64.b64encode(digest[:SIGNING_BYTES], b"-_").decode()

    def _key(self, index: int) -> PrivateKey:
        digest = hmac.new(self._seed, b"fallow/custody/1\0" + index.to_bytes(8, "big"), hashlib.sha512).digest()
        # 512 bits reduced by the order are uniform up to 2^-256; zero is as unlikely as guessing a key.
        return PrivateKey((int.from_bytes(digest, "big") % (CURVE_ORDER - 1) + 1).to_bytes(32, "big"))
