"""The signer port on a key in a file that its owner alone can read."""

from __future__ import annotations

from pathlib import Path

from coincurve import PrivateKey

from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.domain.wallets import address_of, sign_digest


class FileSigner:
    """See the port. The key is read once."""

    def __init__(self, path: Path) -> None:
        self._key = read_key(path)

    @property
    def address(self) -> bytes:
        """See the port."""
        return address_of(self._key)

    async def sign(self, digest: bytes) -> bytes:
        """See the port."""
        return sign_digest(self._key, digest)


def read_key(path: Path) -> PrivateKey:
    """Read a key: 64 hexadecimal digits.

    Raises:
        NotFound: there is none.
        NotAllowed: others can read the file.
        InvalidInput: it holds no key.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise NotAllowed("account.key_exposed", f"Others can read {path}.", f"Run: chmod 600 {path}")
        return PrivateKey(bytes.fromhex(path.read_text("ascii").strip()))
    except FileNotFoundError as error:
        raise NotFound("account.no_key", f"There is no key in {path}.", "Make one: fallow account new") from error
    except ValueError as error:
        raise InvalidInput("account.key", f"{path} holds no key: 64 hex digits.") from error
