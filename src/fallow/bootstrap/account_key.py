"""The key of an account, in its holder's file: it is used through the signer, backed up and restored."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from coincurve import PrivateKey

from fallow.adapters.keystore import opened, sealed
from fallow.adapters.signer import FileSigner, read_key
from fallow.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from fallow.domain.wallets import address_of, text_digest
from fallow.ports.files import sync

BACKUP_BYTES_MAX = 1 << 16


def account_signer(path: Path) -> FileSigner:
    """Use a key.

    Raises:
        NotFound: there is none.
        NotAllowed: others can read the file.
        InvalidInput: it holds no key.
    """
    return FileSigner(path)


def signs_texts(path: Path) -> Callable[[str], Awaitable[bytes]]:
    """Sign texts as `personal_sign` does. Raises as `account_signer`."""
    signer = account_signer(path)
    return lambda text: signer.sign(text_digest(text))


def signed_text(path: Path, text: str) -> bytes:
    """Sign one text so, where no event loop runs. Raises as `account_signer`."""
    return asyncio.run(account_signer(path).sign(text_digest(text)))


def draw_key(path: Path) -> bytes:
    """Draw a key into a new file; returns its account.

    Raises:
        Conflict, Unavailable: there is a file already, or the disk takes none.
    """
    return _keep(path, PrivateKey(secrets.token_bytes(32)))


def back_up(path: Path, backup: Path, passphrase: str) -> bytes:
    """Write the key into a new file under a passphrase, and open that again; returns the account.

    Raises:
        Conflict: there is a file already, or what was written does not open.
        Unavailable: the disk takes no file.
        FallowError: as `account_signer`.
    """
    key = read_key(path)
    _create(backup, sealed(key.secret, passphrase))
    if opened(backup.read_bytes(), passphrase) != key.secret:
        raise Conflict("keystore.not_read_back", f"What was written to {backup} is not the key.", "Use another disk.")
    return address_of(key)


def restored(backup: Path, path: Path, passphrase: str) -> bytes:
    """Write the key of a backup into a new file; returns its account.

    Raises:
        NotFound: there is no backup.
        Conflict: there is a key already.
        Unavailable: the disk takes no file.
        InvalidInput, NotAllowed: as `fallow.adapters.keystore.opened`.
    """
    try:
        with backup.open("rb") as file:
            data = file.read(BACKUP_BYTES_MAX)
    except FileNotFoundError as error:
        raise NotFound("keystore.none", f"There is no backup {backup}.") from error
    try:
        return _keep(path, PrivateKey(opened(data, passphrase)))
    except ValueError as error:
        raise InvalidInput("keystore.malformed", "What is in it is no account's key.") from error


def _keep(path: Path, key: PrivateKey) -> bytes:
    _create(path, key.secret.hex().encode() + b"\n")
    return address_of(key)


def _create(path: Path, data: bytes) -> None:
    """Write a file that nobody else can read, and that was not there. What cannot be written whole is not left there.

    Raises:
        Conflict: there is a file already.
        Unavailable: the disk does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Conflict("account.key_exists", f"There is a file {path} already.", "Name another one.") from error
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        sync(path.parent)
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise _not_written(path, error) from error
        raise


def _not_written(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        "account.key_not_written",
        f"{path} could not be written: {error.strerror}.",
        "Make room, or name another place.",
    )
