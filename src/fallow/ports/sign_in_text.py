"""The text that a wallet signs to sign its holder in (EIP-4361, "Sign-In with Ethereum")."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from fallow.domain.wallets import checksum_address

VALID_MS: Final = 600_000
"""How long a text may be signed after it was asked for."""

STATEMENT: Final = "Sign in to this Fallow network. It costs nothing, and moves no money."


class SignInText(NamedTuple):
    """What is said: `domain` is the console's host and port, `scheme` how it is reached, `asked_at` in ms."""

    scheme: str
    domain: str
    account: bytes
    chain_id: int
    nonce: str
    asked_at: int

    def __str__(self) -> str:
        """The text, each line as the standard has it: wallets read it, and warn where the domain is not the page's."""
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n"
            f"{checksum_address(self.account)}\n\n"
            f"{STATEMENT}\n\n"
            f"URI: {self.scheme}://{self.domain}\n"
            "Version: 1\n"
            f"Chain ID: {self.chain_id}\n"
            f"Nonce: {self.nonce}\n"
            f"Issued At: {_date(self.asked_at)}\n"
            f"Expiration Time: {_date(self.asked_at + VALID_MS)}"
        )


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
