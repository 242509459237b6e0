"""An account's key under a passphrase, as Ethereum's wallets keep it (Web3 Secret Storage, version 3)."""

from __future__ import annotations

import json
import sys
from typing import Any

from fallow.domain.errors import InvalidInput, NotAllowed

WORK = 1 << 18
"""Of scrypt, its n: a second and 256 MiB for each passphrase that somebody tries."""

SCRYPT_MAX = 1 << 23
"""Of n times r times p: a file from elsewhere may ask for as much as it likes, this is at most 1 GiB of memory."""

BLOCKS_MAX = 256
"""Of r times p: so much is derived before scrypt itself begins, and slowly. Wallets ask for 8, some for 48."""

ROUNDS_MAX = 10_000_000
"""Of PBKDF2, which other wallets use: some seconds."""


def sealed(key: bytes, passphrase: str) -> bytes:
    """Encrypt a key of 32 bytes; the file takes a second and 256 MiB to open, so that guessing is slow."""
    keyfile = _library().create_keyfile_json(key, passphrase.encode(), kdf="scrypt", iterations=WORK)
    return json.dumps(keyfile).encode() + b"\n"


def opened(data: bytes, passphrase: str) -> bytes:
    """Decrypt the key.

    Raises:
        InvalidInput: it is no such file, or asks for too much.
        NotAllowed: the passphrase is another one.
    """
    try:
        keyfile: Any = json.loads(data, object_pairs_hook=_lowered)
        asked = keyfile["crypto"]["kdfparams"]
        if (keyfile["version"], asked["dklen"]) != (3, 32):
            raise _malformed()
        blocks = int(asked.get("r", 0)) * int(asked.get("p", 0))
        scrypt = int(asked.get("n", 0)) * blocks
        if scrypt > SCRYPT_MAX or blocks > BLOCKS_MAX or int(asked.get("c", 0)) > ROUNDS_MAX:
            raise InvalidInput("keystore.costly", "To open it takes more time or memory than any wallet asks for.")
        key: bytes = _library().decode_keyfile_json(keyfile, passphrase.encode())
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise NotAllowed("keystore.passphrase", "This passphrase does not open it.", "Try again.") from error
        raise _malformed() from error
    except (KeyError, TypeError, AttributeError, NotImplementedError, OverflowError, RecursionError) as error:
        raise _malformed() from error
    return key


def _lowered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read names as the library does, in lower case, and none twice: else it would take others than were looked at."""
    found = {name.lower(): value for name, value in pairs}
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _malformed() -> InvalidInput:
    return InvalidInput("keystore.malformed", "This is no backup of a key.", "fallow account backup makes one.")


def _library() -> Any:  # noqa: ANN401 - a module
    """It loads py_ecc, which would let nested JSON overflow the stack: see `fallow.domain.transactions`."""
    limit = sys.getrecursionlimit()
    import eth_keyfile  # noqa: PLC0415 - as above

    sys.setrecursionlimit(limit)
    return eth_keyfile
