"""Secrets that are shown once, beside API keys: join tokens and sessions. What is stored of them is a SHA-256."""

from __future__ import annotations

from typing import Final

from fallow.domain.api_keys import base32, digest
from fallow.domain.pins import TOKEN_PREFIX, JoinToken, split_token

SECRET_BYTES: Final = 20
SESSION_PREFIX: Final = "fs"


def new_session(secret: bytes) -> str:
    """Build a session's secret from 20 random bytes."""
    return f"{SESSION_PREFIX}_{base32(secret)}"


def new_token(secret: bytes, pin: str = "") -> JoinToken:
    """Build a join token from 20 random bytes, and the pin of the network's own certificate authority if it has one."""
    return JoinToken(f"{TOKEN_PREFIX}_{base32(secret)}", pin)


def token_digest(text: str) -> bytes:
    """What is stored of a join token: its pin is no secret, and may be there or not.

    Raises:
        InvalidInput: it is damaged.
    """
    return digest(split_token(text).secret)
