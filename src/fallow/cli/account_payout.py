"""`fallow account payout`: where an account's earnings go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file, own_account
from fallow.cli.profiles import Authority, From
from fallow.cli.show import Json, say, show_json
from fallow.cli.units import when
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.payees import payout_text
from fallow.domain.views.payouts import PayeeView
from fallow.sdk.sync import Client


def payout(
    to: str = "",
    /,
    *,
    cancel: Annotated[bool, Parameter(negative="", help="Take back a change that is not in effect yet.")] = False,
    custodial: Annotated[
        bool, Parameter(negative="", help="For the account of your API key, whose key the network has.")
    ] = False,
    url: From = "",
    ca: Authority = None,
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Show where an account's earnings go, or have them go to another address, 72 hours after its key has signed that.

    What is earned until then, and in the epoch in which the time is over, goes to where it went before.
    """
    if to and cancel:
        raise InvalidInput("account.payout", "Name an address, or --cancel.")
    wanted = address_text(address(to.lower())) if to else ""
    with profiles.client_at(url, ca) as client:
        account = client.balance().account if custodial else own_account(key)
        view = client.payee(account)
        if to or cancel:
            target = view.paid_to if cancel else wanted
            view = client.change_own_payout(target) if custodial else _signed(client, account, target, key)
    show_json(view) if json else _say(view)


def _signed(client: Client, account: str, to: str, key: KeyFile) -> PayeeView:
    from fallow.bootstrap.account_key import signed_text  # noqa: PLC0415 - not installed with every part of Fallow

    now_s = int(datetime.now(UTC).timestamp())
    text = payout_text(client.network().net, address(account), address(to), now_s)
    return client.change_payout(account, to, now_s, signed_text(key or default_file(), text).hex())


def _say(view: PayeeView) -> None:
    say(f"What {view.account} earns is paid to {'itself' if view.paid_to == view.account else view.paid_to}.")
    if view.pending:
        say(f"From {when(view.effective_at)} UTC on it will be {view.pending}, beginning with the epoch after.")
        say("If that is not your word: fallow account payout --cancel")
