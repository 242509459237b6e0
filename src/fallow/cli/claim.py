"""`fallow claim`: what an account has earned, from the open epoch to its wallet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile
from fallow.cli.epoch import whose_chain
from fallow.cli.profiles import Authority, From
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import tokens, usd, when
from fallow.cli.wallet import with_wallet
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import address, address_text
from fallow.sdk.sync import Client

if TYPE_CHECKING:
    from fallow.bootstrap.wallet import Holdings, Wallet
    from fallow.domain.epochs.distributor import Claim
    from fallow.services.sender.claiming import Dues

PAID = "paid"


class Plan(NamedTuple):
    """Whose dues are looked at (the wallet's own where none are named), and what is done about them."""

    accounts: Sequence[bytes]
    recipient: bytes
    claims: bool
    kept: bool


class Said(NamedTuple):
    """What was found, and what was done."""

    dues: Sequence[Dues]
    transactions: Sequence[str]
    holdings: Holdings


def claim(
    *,
    all_: Annotated[
        bool, Parameter(name="--all", negative="", help="Claim everything that can be claimed now.")
    ] = False,
    to: Annotated[str, Parameter(help="Have it paid to this address instead.")] = "",
    account: Annotated[
        list[str] | None,
        Parameter(negative="", help="Look at, or claim for, these accounts instead; they are paid, whoever sends it."),
    ] = None,
    kept: Annotated[
        bool,
        Parameter(
            negative="",
            help="Claim for the account of your API key, whose key the network keeps; to whom its earnings go.",
        ),
    ] = False,
    url: From = "",
    ca: Authority = None,
    key: KeyFile = None,
    json: Json = False,
) -> int:
    """Show what your account has earned: in the open epoch, waiting, claimable, claimed. With --all, claim it.

    An interrupted claim is finished by the same command, and pays once. The exit code is 1 where a claim failed.
    """
    recipient = address(to.lower()) if to else b""
    others = [address(each.lower()) for each in account or ()]
    if bool(recipient) + bool(others) + kept > 1:
        raise InvalidInput("claim.to", "What others are owed is paid to them.", "Use one of --to, --account, --kept.")
    profile = profiles.profile_at(url, ca)
    with profiles.client_of(profile) as client:
        network = client.network()
        whose = [address(client.balance().account)] if kept else others
        plan = Plan(whose, recipient, claims=all_, kept=kept)
        said = with_wallet(lambda wallet: _work(wallet, client, plan), key, profile)
        accrued = _accrued(client, profile, said.dues)
        why = _waiting(client, said)
    if json:
        show_json(_view(said, accrued, why))
    else:
        _say(said, accrued, why, claimed=all_)
        say(whose_chain(network))
    return 0


async def _work(wallet: Wallet, client: Client, plan: Plan) -> Said:
    """Look, and claim where that is wished; what is shown is how it stands afterwards."""
    from fallow.services.sender.claiming import CLAIMS_MAX  # noqa: PLC0415 - not installed with every part

    claiming = wallet.claiming(lambda epoch, account: asyncio.to_thread(_proofs, client, epoch, account))
    closed = await asyncio.to_thread(_latest, client)

    async def look() -> list[Dues]:
        return [await claiming.dues(one, wallet.assets, closed) for one in plan.accounts or [wallet.account]]

    dues = await look()
    found = [one for each in dues for one in each.claims] if plan.claims else []
    transactions = []
    for start in range(0, len(found), CLAIMS_MAX):
        part = found[start : start + CLAIMS_MAX]
        if plan.kept:
            sent = claiming.claim_kept(wallet.sender, plan.accounts[0], part, partial(_signed, client))
        elif plan.recipient:
            sent = claiming.claim_to(wallet.sender, part, plan.recipient)
        else:
            sent = claiming.claim(wallet.sender, part)
        transactions.append(f"0x{(await sent).transaction.hex()}")
    return Said(await look() if found else dues, transactions, await wallet.holdings())


async def _signed(client: Client, claims: bytes, nonce: int, deadline_s: int) -> tuple[bytes, bytes]:
    found = await asyncio.to_thread(client.redirect_claims, claims, nonce, deadline_s)
    return address(found.recipient), bytes.fromhex(found.signature)


def _proofs(client: Client, epoch: int, account: bytes) -> list[Claim]:
    from fallow.domain.epochs.distributor import Claim  # noqa: PLC0415 - not installed with every part
    from fallow.domain.rewards.tree import Leaf  # noqa: PLC0415 - as above

    return [
        Claim(
            epoch,
            Leaf(account, address(one.asset), int(one.cumulative)),
            [bytes.fromhex(node.removeprefix("0x")) for node in one.proof],
        )
        for one in client.proofs(epoch, address_text(account))
    ]


def _latest(client: Client) -> int | None:
    latest = client.epochs(limit=1)
    return latest[0].epoch if latest else None


def _accrued(client: Client, profile: profiles.Profile, dues: Sequence[Dues]) -> int | None:
    """What the open epoch has brought so far, where that is known: the API key's account sees its own ledger."""
    if not profile.api_key:
        return None
    try:
        view = client.balance()
    except NotAllowed:  # a key of somebody who operates and has no ledger of his own
        return None
    return view.earned.get(PAID, 0) if [address_text(one.account) for one in dues] == [view.account] else None


def _waiting(client: Client, said: Said) -> str:
    """Say what the pending part waits for."""
    latest = _latest(client)
    if latest is None:
        return "No epoch is closed yet."
    published = client.votes(latest).published
    if published is None or not published.root:
        return f"The root of epoch {latest} is not on the chain yet. {published.why if published else ''}".rstrip()
    active = said.dues[0].active
    if active is not None and active.epoch >= latest:
        return f"The root of epoch {latest}, the latest that is closed, is on the chain and active."
    return f"The root of epoch {latest} is on the chain; claims count on it from {when(published.active_at)} UTC on."


def _say(said: Said, accrued: int | None, why: str, *, claimed: bool) -> None:
    for one in said.dues:
        say(f"Account {address_text(one.account)}")
        usage, incentive = one.each
        rows = [
            (
                "settlement asset (usage, withdrawals)",
                "?" if accrued is None else usd(accrued),
                *map(usd, usage[1:][::-1]),
            ),
            ("tokens (incentive)", "at the close", *map(tokens, incentive[1:][::-1])),
        ]
        table(["WHAT", ">OPEN EPOCH", ">PENDING", ">CLAIMABLE", ">CLAIMED"], rows, empty="")
    say(why)
    if accrued is None:
        say("What the open epoch has brought its own account sees (with an API key of it), or: fallow agent status")
    for transaction in said.transactions:
        say(f"Claimed in transaction {transaction}.")
    if said.transactions:
        held = said.holdings
        say(f"Your wallet holds {usd(held.settlement)} of the settlement asset and {tokens(held.token)} tokens now.")
    elif claimed:
        say("There is nothing to claim now.")
    elif any(one.claims for one in said.dues):
        say("Claim it: fallow claim --all")


def _view(said: Said, accrued: int | None, why: str) -> dict[str, object]:
    """All amounts in units of the asset, as text: they may be larger than what JSON's numbers hold."""
    names = ("settlement", "token")
    return {
        "accounts": [
            {
                "account": address_text(one.account),
                "active_epoch": one.active.epoch if one.active else None,
                "assets": [
                    {"what": name, "asset": address_text(due.asset), "pending": str(due.pending)}
                    | {"claimable": str(due.claimable), "claimed": str(due.claimed)}
                    for name, due in zip(names, one.each, strict=True)
                ],
            }
            for one in said.dues
        ],
        "accrued_microusd": accrued,
        "waiting": why,
        "transactions": list(said.transactions),
        "balance": {name: str(getattr(said.holdings, name)) for name in names},
    }
