"""API keys, join tokens, and what signs for accounts. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class KeyView(View, frozen=True, kw_only=True):
    """An API key as the operator sees it: its public part, and whose it is."""

    key_id: str
    account: str
    scopes: list[str]
    label: str
    revoked_at: int | None


class TokenView(View, frozen=True, kw_only=True):
    """A join token that still lets machines in, by the beginning of the SHA-256 that is kept of it."""

    token_id: str
    uses_left: int
    expires_at: int


class SigningSecretView(View, frozen=True, kw_only=True):
    """What requests are signed with where an API key itself does not travel: S3's access key and secret key."""

    access_key: str
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"SigningSecretView(access_key={self.access_key!r})"


class LinksView(View, frozen=True, kw_only=True):
    """Addresses in the order of what was asked for; they end at `ends_at` (milliseconds since 1970)."""

    urls: list[str]
    ends_at: int


class DelegationView(View, frozen=True, kw_only=True):
    """A key (hex) that signs orders and receipts for an account; `account_signature` is the account's over that."""

    account: str
    key: str
    issued_at: int
    expires_at: int
    revoked_at: int | None
    account_signature: str
