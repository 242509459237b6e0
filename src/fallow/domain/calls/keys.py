"""Requests about API keys, join tokens, and what else is secret."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.orders import Label

CHECK_KEY = "registry.check_key"
SIGNING_SECRET = "registry.signing_secret"  # noqa: S105 - a subject
CREATE_KEY = "registry.create_key"
OWNERS_KEY = "registry.owners_key"
KNOWN_ACCOUNT = "registry.known_account"
REVOKE_KEY = "registry.revoke_key"
KEYS = "registry.keys"
OWN_KEYS = "registry.own_keys"
CREATE_TOKEN = "registry.create_token"  # noqa: S105 - a subject
TOKENS = "registry.tokens"
REVOKE_TOKEN = "registry.revoke_token"  # noqa: S105 - a subject

LINK_S_MAX = 7 * 86_400
"""How long an address that is signed opens something: no longer does S3 take one (Signature Version 4)."""


class CheckKey(Request, frozen=True, kw_only=True):
    """Whose API key is this? Answered with `KeyInfo`."""

    key: str


class KeyInfo(Request, frozen=True, kw_only=True):
    """The account that a valid key speaks for, and what it may do, by its scopes."""

    key_id: str
    account: str
    scopes: list[str]


class KeyRef(Request, frozen=True, kw_only=True):
    """An API key, by its public part."""

    key_id: Annotated[str, Meta(max_length=100)]


class SigningSecret(Request, frozen=True, kw_only=True):
    """Whose key it is, and what its holder signs requests with where the key itself does not travel."""

    info: KeyInfo
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"SigningSecret(info={self.info!r})"


class CreateKey(Request, frozen=True, kw_only=True):
    """Make an API key for `account` (empty: a new custodial account)."""

    account: str = ""
    scopes: list[str] = msgspec.field(default_factory=lambda: ["buy"])
    label: Label = ""


class MakeKey(CreateKey, frozen=True, kw_only=True):
    """Make an API key for a person; without one a buyer makes his own, or the network its first."""

    by: Person | None = None


class OwnersKey(Request, frozen=True, kw_only=True):
    """A machine lets its owner look on with an API key that it drew: here are its public part and its SHA-256 (hex).

    `proof` is the node key's signature (hex) over `fallow.domain.api_keys.owners_key_message`.
    """

    node: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    key_id: Annotated[str, Meta(pattern=r"^[a-z2-7]{8}$(?!\n)")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]


class RevokeKey(Request, frozen=True, kw_only=True):
    """End an API key by its public part; with `account` only one of that account."""

    key_id: str
    account: str = ""
    by: Person | None = None


class CreateToken(Request, frozen=True, kw_only=True):
    """Make a join token that works `uses` times within `valid_s` seconds."""

    uses: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    valid_s: Annotated[int, Meta(ge=1, le=365 * 86_400)] = 86_400


class MakeToken(CreateToken, frozen=True, kw_only=True):
    """Make a join token for a person; without one the network makes it for itself."""

    by: Person | None = None


class RevokeToken(Request, frozen=True, kw_only=True):
    """End a join token, by the beginning of the SHA-256 that is kept of it (hex)."""

    token_id: Annotated[str, Meta(pattern="^([0-9a-f]{2}){4,32}$", max_length=64)]
    by: Person | None = None


class Secret(Request, frozen=True, kw_only=True):
    """A secret that is shown once, and whose it is."""

    secret: str
    account: str = ""
