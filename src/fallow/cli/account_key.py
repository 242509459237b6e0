"""`fallow account`: an account whose key its holder keeps, and the codes by which it takes nodes as its own."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, tell
from fallow.cli.units import seconds
from fallow.domain.bindings import BindingCode, binding_text
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import address, address_text, node_id

app = App(name="account", help="Keep your account's key yourself, take nodes as your own, say where earnings go.")
app.command("fallow.cli.account_payout:payout", name="payout", help="Show or change where an account's earnings go.")
app.command("fallow.cli.account_alerts:alerts", name="alerts", help="Show your alerts, and where you are told of them.")
app.command("fallow.cli.account_budget:budget", name="budget", help="Show or set what your account may spend a month.")
app.command("fallow.cli.account_backup:backup", name="backup", help="Write the account's key into an encrypted file.")
app.command("fallow.cli.account_backup:restore", name="restore", help="Take an account's key out of a backup.")

KeyFile = Annotated[Path | None, Parameter(help="The file of the account's key.", env_var="FALLOW_ACCOUNT_KEY")]


@app.command
def new(*, key: KeyFile = None, json: Json = False) -> None:
    """Make an account: its key is drawn here and never leaves the file. Back it up: nobody can restore it."""
    from fallow.bootstrap.account_key import draw_key  # noqa: PLC0415 - not installed with every part of Fallow

    path = key or default_file()
    account = address_text(draw_key(path))
    show_json({"account": account, "key": str(path)}) if json else say(account)
    if not json:
        tell(f"Its key is in {path}. Back it up: fallow account backup FILE. Nobody else can restore it.")


@app.command
def bind(
    node: str,
    /,
    *,
    net: Annotated[str, Parameter(help="The network's id, as `fallow up` shows it.")],
    valid: Annotated[str, Parameter(help="How long the node may take to join: 15m, 24h, 7d.")] = "24h",
    key: KeyFile = None,
    wallet: Annotated[str, Parameter(help="Address of an account whose key is in a wallet; it signs a text.")] = "",
    json: Json = False,
) -> None:
    """Take a node as your own: print the code with which it joins (fallow agent join ... --account CODE)."""
    before_s = _now_s() + seconds(valid)
    code = _by_wallet(net, node, wallet, before_s) if wallet else _by_key(net, node, key or default_file(), before_s)
    show_json({"code": code.text, "account": address_text(code.account)}) if json else say(code.text)


def _by_key(net: str, node: str, path: Path, before_s: int) -> BindingCode:
    from fallow.bootstrap.account_key import account_signer, signed_text  # noqa: PLC0415 - as above

    account = account_signer(path).address
    return BindingCode(account, before_s, signed_text(path, binding_text(net, node_id(node), account, before_s)))


def _by_wallet(net: str, node: str, wallet: str, before_s: int) -> BindingCode:
    """Have the text signed elsewhere, and check what comes back.

    Raises:
        NotAllowed: another key signed, or another text.
    """
    from fallow.domain.wallets import signer_of  # noqa: PLC0415 - not installed with every part of Fallow

    account = address(wallet.lower())
    text = binding_text(net, node_id(node), account, before_s)
    tell("Sign this text with your wallet (personal_sign), and enter the signature:")
    tell(text)
    try:
        signature = bytes.fromhex(sys.stdin.readline().strip().removeprefix("0x"))
    except ValueError as error:
        raise InvalidInput("account.signature", "A signature is 0x and 130 hex digits.") from error
    if signer_of(text, signature) != account:
        raise NotAllowed("account.other_signer", f"{wallet} did not sign this text.", "Copy it as it stands.")
    return BindingCode(account, before_s, signature)


def own_account(key: KeyFile) -> str:
    """The account whose key is in a file; raises as `account_signer`."""
    from fallow.bootstrap.account_key import account_signer  # noqa: PLC0415 - not installed with every part of Fallow

    return address_text(account_signer(key or default_file()).address)


def default_file() -> Path:
    """Where the key is unless another file is named."""
    return profiles.profile_path().with_name("account.key")


def _now_s() -> int:
    return int(datetime.now(UTC).timestamp())
