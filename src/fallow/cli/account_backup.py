"""`fallow account backup` and `restore`: an account's key under a passphrase, in the form that wallets share."""

from __future__ import annotations

import getpass
import sys
import warnings
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, say, show_json, tell
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address_text

PASSPHRASE_CHARS_MIN = 10

PassphraseFile = Annotated[
    Path | None, Parameter(help="A file with the passphrase in its first line; left out, you are asked for it.")
]


def backup(file: Path, /, *, passphrase_file: PassphraseFile = None, key: KeyFile = None, json: Json = False) -> None:
    """Write the account's key into a new file, encrypted. Ethereum's wallets read it, too (keystore, version 3)."""
    from fallow.bootstrap.account_key import back_up  # noqa: PLC0415 - not installed with every part of Fallow

    account = address_text(back_up(key or default_file(), file, _passphrase(passphrase_file, twice=True)))
    show_json({"account": account, "backup": str(file)}) if json else say(account)
    if not json:
        tell(
            f"{file} was written, read back and opened: it holds this account's key. Compare the address at restoring."
        )
        tell("Who has file and passphrase has the account; without the passphrase the file is worth nothing.")


def restore(file: Path, /, *, passphrase_file: PassphraseFile = None, key: KeyFile = None, json: Json = False) -> None:
    """Take an account's key out of a backup, into a file where none is yet."""
    from fallow.bootstrap.account_key import restored  # noqa: PLC0415 - not installed with every part of Fallow

    path = key or default_file()
    account = address_text(restored(file, path, _passphrase(passphrase_file, twice=False)))
    show_json({"account": account, "key": str(path)}) if json else say(account)
    if not json:
        tell(f"Its key is in {path}. Make sure that this is the account you mean.")


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        lines = file.read_text("utf-8").splitlines()
        passphrase = lines[0] if lines else ""
    else:
        passphrase = _typed("Passphrase: ")
        if twice and _typed("Once more: ") != passphrase:
            raise InvalidInput("keystore.typed", "These are two different passphrases.", "Type it again.")
    if twice and len(passphrase) < PASSPHRASE_CHARS_MIN:
        raise InvalidInput("keystore.short", f"A passphrase has at least {PASSPHRASE_CHARS_MIN} characters.")
    return passphrase


def _typed(prompt: str) -> str:
    try:
        with warnings.catch_warnings():
            if not sys.stdin.isatty():  # nothing is echoed of what is piped
                warnings.simplefilter("ignore", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except EOFError as error:
        raise InvalidInput(
            "keystore.typed", "No passphrase was typed.", "Give a file of it: --passphrase-file"
        ) from error
