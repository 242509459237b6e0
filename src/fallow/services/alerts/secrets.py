"""What the holder of a channel knows: it follows from the network's seed and the channel's salt, and is kept nowhere.

Whoever reads the database alone can neither confirm an address, nor sign as the network, nor stop what is sent.
"""

from __future__ import annotations

import hmac
from typing import Final

from fallow.domain.errors import NotFound
from fallow.ports.alert_store import Channel, Message

CODE_DIGITS: Final = 8
TOKEN_BYTES: Final = 16


class ChannelSecrets:
    """Derives them. The seed is the one of custodial accounts, and stays inside."""

    def __init__(self, custody_seed: bytes) -> None:
        self._key = hmac.digest(custody_seed, b"fallow/alerts/1", "sha256")

    def code(self, channel: Channel | Message) -> str:
        """The digits that confirm a mail address."""
        return f"{int.from_bytes(self._derived('code', channel.salt)) % 10**CODE_DIGITS:0{CODE_DIGITS}}"

    def challenge(self, channel: Channel | Message) -> str:
        """What a webhook answers with, to confirm it."""
        return self._derived("challenge", channel.salt).hex()

    def signing(self, channel: Channel | Message) -> str:
        """What its deliveries are signed with, as its holder is shown it."""
        return "fw_" + self._derived("signing", channel.salt).hex()

    def stop_token(self, channel: Channel | Message) -> str:
        """What a mail names, so that its reader can end them without a key."""
        return f"{channel.account.hex()}-{channel.kind}-{self._derived('stop', channel.salt)[:TOKEN_BYTES].hex()}"

    @staticmethod
    def of_token(token: str) -> tuple[bytes, str]:
        """Return the account and the kind that a token is of, which proves nothing yet.

        Raises:
            NotFound: it is none.
        """
        try:
            account, kind, _ = token.split("-")
            return bytes.fromhex(account), kind
        except ValueError:
            raise NotFound("alerts.token", "There is nothing to end with this link.") from None

    def _derived(self, purpose: str, salt: bytes) -> bytes:
        return hmac.digest(self._key, purpose.encode() + b"\0" + salt, "sha256")
