"""Private keys of accounts, as a port: whoever needs a signature never sees the key."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """One secp256k1 key: in a file, in a wallet, in a device."""

    @property
    def address(self) -> bytes:
        """The account's address, 20 bytes."""
        ...

    async def sign(self, digest: bytes) -> bytes:
        """Sign a hash of 32 bytes; 65 bytes r, s, v with v as 27 or 28.

        Raises:
            Unavailable: the key is out of reach right now.
            NotAllowed: its holder refuses.
        """
        ...
