"""Secrets that are shown once: join tokens, API keys and sessions. What is stored of them is a SHA-256.

They hold 160 random bits, so a plain hash keeps them: there is nothing to guess that a slower hash would slow down.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NamedTuple

from fallow.domain.errors import NotAllowed
from fallow.domain.pins import TOKEN_PREFIX, JoinToken, split_token

SECRET_BYTES = 20
KEY_PREFIX = "fk"
SESSION_PREFIX = "fs"
KEY_FORM = re.compile(f"{KEY_PREFIX}_([a-z2-7]{{8}})_[a-z2-7]{{32}}")


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
    form = KEY_FORM.fullmatch(text)
    if form is None:
        raise NotAllowed("auth.key", "This is no API key of a Fallow network.", "Keys look like fk_…_….")
    return ApiKey(form[1], text)


def new_session(secret: bytes) -> str:
    """Build a session's secret from 20 random bytes."""
    return f"{SESSION_PREFIX}_{_base32(secret)}"


def new_token(secret: bytes, pin: str = "") -> JoinToken:
    """Build a join token from 20 random bytes, and the pin of the network's own certificate authority if it has one."""
    return JoinToken(f"{TOKEN_PREFIX}_{_base32(secret)}", pin)


def token_digest(text: str) -> bytes:
    """What is stored of a join token: its pin is no secret, and may be there or not.

    Raises:
        InvalidInput: it is damaged.
    """
    return digest(split_token(text).secret)


def digest(text: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(text.encode()).digest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().lower()
