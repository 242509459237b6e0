"""Requests about people's sessions in the console."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.calls.keys import KeyInfo

OPEN_SESSION = "registry.sessions.open"
CHALLENGE = "registry.sessions.challenge"
OPEN_BY_WALLET = "registry.sessions.open_by_wallet"
CHECK_SESSION = "registry.sessions.check"
END_SESSION = "registry.sessions.end"

WalletAddress = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{40}$(?!\n)", max_length=42)]
SignInNonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", max_length=32)]
WalletSignature = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{130}$(?!\n)", max_length=132)]


class Challenge(Request, frozen=True, kw_only=True):
    """An account that wants to sign in with its wallet."""

    account: WalletAddress


class Challenged(Request, frozen=True, kw_only=True):
    """What goes into the text to sign: `asked_at` is in milliseconds since 1970."""

    nonce: str
    asked_at: int


class OpenByWallet(Request, frozen=True, kw_only=True):
    """A wallet's signature of the text with this nonce (`fallow.ports.sign_in_text`)."""

    account: WalletAddress
    nonce: SignInNonce
    signature: WalletSignature
    scheme: str
    domain: str
    chain_id: int


class SessionRef(Request, frozen=True, kw_only=True):
    """A session, by the secret that its holder's cookie carries. One that is not `used` ends two hours after it was."""

    secret: str
    used: bool = True


class SessionInfo(Request, frozen=True, kw_only=True):
    """Whom a session speaks for, as the key that it was opened with would, and when it ends if it is used until then.

    A wallet's has no key: its `key_id` is "". `secret` is told once, to whom it was opened for.
    """

    key: KeyInfo
    ends_at: int
    secret: str = ""
