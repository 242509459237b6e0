"""The key of an account, in its holder's file."""

from __future__ import annotations

from pathlib import Path

from coincurve import PrivateKey

from fallow.adapters.signer import read_key


def account_key(path: Path) -> PrivateKey:
    """Read it.

    Raises:
        NotFound: there is none.
        NotAllowed: others can read the file.
        InvalidInput: it holds no key.
    """
    return read_key(path)
