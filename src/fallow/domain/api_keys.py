"""API keys: shown once to who holds them; what is stored of them is a SHA-256. Pure.

They hold 160 random bits, so a plain hash keeps them: there is nothing to guess that a slower hash would slow down.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final, NamedTuple

from fallow.domain.errors import NotAllowed

KEY_ID_BYTES: Final = 5
KEY_SECRET_BYTES: Final = 20
KEY_PREFIX: Final = "fk"
KEY_FORM: Final = re.compile(f"{KEY_PREFIX}_([a-z2-7]{{8}})_[a-z2-7]{{32}}")


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
    public = base32(key_id)
    return ApiKey(public, f"{KEY_PREFIX}_{public}_{base32(secret)}")


def read_key(text: str) -> ApiKey:
    """Take a key apart.

    Raises:
        NotAllowed: it does not look like one.
    """
    form = KEY_FORM.fullmatch(text)
    if form is None:
        raise NotAllowed("auth.key", "This is no API key of a Fallow network.", "Keys look like fk_…_….")
    return ApiKey(form[1], text)


def digest(text: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(text.encode()).digest()


def base32(data: bytes) -> str:
    """Bytes as people can read them out, without padding where there are five of them, or ten..."""
    return base64.b32encode(data).decode().lower()


def owners_key_message(net: str, node: str, key_id: str, sha256: str) -> bytes:
    """What a node's key signs so that its owner may look on with an API key that the machine drew."""
    return f"fallow/owners-key/1\0{net}\0{node}\0{key_id}\0{sha256}".encode()
