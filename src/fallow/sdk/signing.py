"""The key with which a buyer's machine signs orders and receipts; his account delegates to it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nacl.signing import SigningKey

from fallow.domain.delegations import Receipt, consent_message, order_message, receipts_message
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address

_FORM = re.compile(r"fs_([0-9a-f]{64})_(0x[0-9a-f]{40})_([A-Za-z0-9._-]{1,100})")


class BuyerKey:
    """An Ed25519 key (RFC 8032) that signs for one account in one network.

    `text` is all of it, to be kept where only its owner reads.
    """

    def __init__(self, seed: bytes, account: str, net: str) -> None:
        self._key = SigningKey(seed)
        self._account = address(account)
        self._net = net
        self.text = f"fs_{seed.hex()}_{account}_{net}"

    @classmethod
    def create(cls, account: str, net: str) -> BuyerKey:
        """Make a new key."""
        return cls(bytes(SigningKey.generate()), account, net)

    @classmethod
    def read(cls, text: str) -> BuyerKey:
        """Read what `text` gave.

        Raises:
            InvalidInput: it is none.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidInput("sdk.signing_key", "This is no signing key.", "fallow login makes one.")
        return cls(bytes.fromhex(found[1]), found[2], found[3])

    @property
    def public(self) -> str:
        """The public key, in hex."""
        return bytes(self._key.verify_key).hex()

    def consent(self) -> str:
        """Sign that it wants to sign for the account."""
        return self._sign(consent_message(self._net, self._account, bytes(self._key.verify_key)))

    def order(self, body: bytes) -> str:
        """Sign the exact bytes of an order."""
        return self._sign(order_message(self._net, self._account, body))

    def receipts(self, job: str, receipts: Sequence[Receipt]) -> str:
        """Sign receipts for items of a job, all at once."""
        return self._sign(receipts_message(self._net, self._account, job, receipts))

    def _sign(self, message: bytes) -> str:
        return self._key.sign(message).signature.hex()
