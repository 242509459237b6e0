"""Secrets that are shown once: join tokens and API keys. What is stored of them is a SHA-256.

They hold 160 random bits, so a plain hash keeps them: there is nothing to guess that a slower hash would slow down.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from fallow.domain.errors import NotAllowed

SECRET_BYTES = 20
KEY_PREFIX = "fk"
TOKEN_PREFIX = "fj"  # noqa: S105 - the mark by which a leaked token is recognised


class ApiKey(NamedTuple):
    """An API key in its parts; `text` is what its owner keeps."""

    key_id: str
    text: str

    @property
    def digest(self) -> bytes:
        """What is stored."""
        return digest(self.text)


def new_key(key_id: bytes, secret: bytes) -> ApiKey:
    """Build a key from 5 and 20 random bytes."""
    public = _base32(key_id)
    return ApiKey(public, f"{KEY_PREFIX}_{public}_{_base32(secret)}")


def read_key(text: str) -> ApiKey:
    """Take a key apart.

    Raises:
        NotAllowed: it does not look like one.
    """
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != KEY_PREFIX or not text.isascii():  # noqa: PLR2004 - prefix, id, secret
        raise NotAllowed("auth.key", "This is no API key of a Fallow network.", "Keys look like fk_…_….")
    return ApiKey(parts[1], text)


def new_token(secret: bytes) -> str:
    """Build a join token from 20 random bytes."""
    return f"{TOKEN_PREFIX}_{_base32(secret)}"


def digest(text: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(text.encode()).digest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().lower()
