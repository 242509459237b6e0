"""`fallow wallet`: an account on the network's chain, whose key its holder keeps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from cyclopts import App, Parameter, validators

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file, new, own_account
from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.units import microusd, token_units, tokens, usd
from fallow.domain.calls.payouts import WITHDRAWAL_MIN_MICROUSD
from fallow.domain.chain_facts import DEPOSIT_MIN, TOKENS_MIN
from fallow.domain.chains import chain_id_of
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.sending import Done
from fallow.domain.views.network import NetworkView
from fallow.sdk.accounts import new_id
from fallow.sdk.trust import trusting

if TYPE_CHECKING:
    from fallow.bootstrap.wallet import Outside, Wallet

T = TypeVar("T")

app = App(name="wallet", help="Your account on the network's chain.")
app.command(new)
app.command("fallow.cli.stake:app", name="stake", help="Stake tokens, or delegate them to an operator.")


@app.command
def show(*, key: KeyFile = None, json: Json = False) -> None:
    """Show the account, the chain, and the contracts on it."""

    async def work(wallet: Wallet) -> str:
        return address_text(wallet.account)

    with profiles.connect() as client:
        network = client.network()
    account = with_wallet(work, key)
    if json:
        show_json({"account": account, "chain": network.chain_url, "chain_id": network.chain_id} | _contracts(network))
        return
    say(f"Account {account}")
    if network.chain_id == chain_id_of(network.net):
        say(f"Chain {network.chain_id} at {network.chain_url}; the network runs it, so it proves nothing to outsiders.")
    else:
        say(f"Chain {network.chain_id}, which is not the network's.")
    table(["CONTRACT", "ADDRESS"], list(_contracts(network).items()), empty="")


@app.command
def use(
    chain: Annotated[int, Parameter(help="Its number (EIP-155).", validator=validators.Number(gte=1))],
    /,
    *,
    rpc: Annotated[str, Parameter(help="Where you ask it (JSON-RPC); without it, where the network says.")] = "",
    json: Json = False,
) -> None:
    """Let this wallet sign for a chain of others, which the network settles on.

    What your account has there can be worth more than what it has in the network: look the chain's number up.
    """
    if rpc and not rpc.startswith(("https://", "http://")):
        raise InvalidInput("wallet.rpc_url", f"{rpc!r} is no address of a chain's node.", "It begins with https://")
    profile = profiles.load({**os.environ, "FALLOW_WALLET_CHAIN": "", "FALLOW_WALLET_RPC": ""})
    profiles.save(profile._replace(chain=str(chain), rpc=rpc), profiles.profile_path())
    show_json({"chain_id": chain, "rpc": rpc}) if json else say(f"The wallet signs for chain {chain}, too.")


@app.command
def balance(*, key: KeyFile = None, json: Json = False) -> None:
    """Show what the account holds on the chain, and the paid credits of your API key's account."""

    async def work(wallet: Wallet) -> tuple[str, int, int]:
        held = await wallet.holdings()
        return address_text(wallet.account), held.settlement, held.token

    account, settlement, token = with_wallet(work, key)
    with profiles.connect() as client:
        credits_ = client.balance()
    paid = credits_.spendable["paid"]
    if json:
        view = {"account": account, "settlement_units": str(settlement), "token_units": str(token)}
        show_json(view | {"credits_account": credits_.account, "paid_microusd": paid})
        return
    rows = [
        ("settlement asset on the chain", account, usd(settlement)),
        ("tokens on the chain", account, tokens(token)),
        ("paid credits", credits_.account, usd(paid)),
    ]
    table(["WHAT", "ACCOUNT", ">AMOUNT"], rows, empty="")


@app.command
def deposit(
    amount: str,
    /,
    *,
    account: Annotated[str, Parameter(help="Whose credits they become; the account of your API key by default.")] = "",
    id_: Annotated[str, Parameter(name="--id", help="Repeat an interrupted deposit by its id: it counts once.")] = "",
    key: KeyFile = None,
    json: Json = False,
) -> int:
    """Deposit an amount of the settlement asset, in USD: it becomes paid credits. Exits with 1 when it is refused."""
    units = microusd(amount, least=DEPOSIT_MIN)
    made = _credit(account, id_, "Deposit", lambda wallet, once, owner: wallet.deposit(once, owner, units), key, json)
    if json:
        show_json(made)
    elif made.succeeded:
        say(
            f"{usd(units)} for {made.account} in {made.transaction}. The credits are there in some seconds: "
            "fallow balance"
        )
    else:
        say(f"The contract refused it ({made.transaction}). Nothing was deposited.")
    return 0 if made.succeeded else 1


@app.command
def withdraw(
    amount: str,
    /,
    *,
    to: Annotated[str, Parameter(help="Who shall have it; the account of the key by default.")] = "",
    id_: Annotated[
        str, Parameter(name="--id", help="Repeat an interrupted withdrawal by its id: it counts once.")
    ] = "",
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Take an amount of your paid credits out, in USD: the settlement asset is owed for them, and can be claimed."""
    units, withdrawal_id = microusd(amount, least=WITHDRAWAL_MIN_MICROUSD), id_ or new_id()
    owner = to.lower() or own_account(key)
    if not json:
        tell(f"Withdrawal {withdrawal_id}: should it be interrupted, repeat it with --id {withdrawal_id}")
    with profiles.connect() as client:
        view = client.withdraw(owner, units, withdrawal_id=withdrawal_id)
    if json:
        show_json(view)
        return
    say(f"{usd(view.amount_microusd)} of {view.account} are owed to {view.to} on the chain.")
    say("They can be claimed when the epoch is closed and its root active: fallow claim")


@app.command
def burn(
    amount: str,
    /,
    *,
    account: Annotated[str, Parameter(help="Whose credits they become; the account of your API key by default.")] = "",
    id_: Annotated[str, Parameter(name="--id", help="Repeat an interrupted burn by its id: it counts once.")] = "",
    key: KeyFile = None,
    json: Json = False,
) -> int:
    """Burn a number of tokens for credits, which can never be withdrawn. They wait until the network has a price.

    Exits with 1 when it is refused.
    """
    units = token_units(amount, TOKENS_MIN)
    made = _credit(account, id_, "Burn", lambda wallet, once, owner: wallet.burn(once, owner, units), key, json)
    if json:
        show_json(made)
    elif made.succeeded:
        say(f"{tokens(units)} tokens burned for {made.account} in {made.transaction}. Their price: fallow price show")
    else:
        say(f"The contract refused it ({made.transaction}). Nothing was burned.")
    return 0 if made.succeeded else 1


class _Credited(msgspec.Struct, frozen=True):
    """What was sent for credits, and whether its contract took it."""

    id: str
    account: str
    transaction: str
    succeeded: bool


def _credit(
    account: str, id_: str, what: str, send: Callable[[Wallet, str, bytes], Awaitable[Done]], key: KeyFile, json: bool
) -> _Credited:
    """Send what becomes credits of `account`, or of the API key's, and say first how to repeat it."""
    once = id_ or new_id()
    with profiles.connect() as client:
        owner = account or client.balance().account
    if not json:
        tell(f"{what} {once}: should it be interrupted, repeat it with --id {once}")
    done = with_wallet(lambda wallet: send(wallet, once, address(owner)), key)
    return _Credited(once, owner, "0x" + done.transaction.hex(), done.succeeded)


def with_wallet(work: Callable[[Wallet], Awaitable[T]], key: KeyFile, profile: profiles.Profile | None = None) -> T:
    """Do something with the wallet of a key.

    Raises:
        NotFound, NotAllowed, Conflict: as `open_wallet`.
    """
    from fallow.bootstrap.wallet import open_wallet  # noqa: PLC0415 - heavy, and not installed with every part

    where = chain_in_use(profile)

    async def run() -> T:
        async with open_wallet(key or default_file(), *where) as wallet:
            return await work(wallet)

    return asyncio.run(run())


def chain_in_use(profile: profiles.Profile | None = None) -> tuple[NetworkView, SSLContext | None, Outside]:
    """The network of a profile, how it is trusted, and the chain of others that its wallet may use."""
    from fallow.bootstrap.wallet import Outside  # noqa: PLC0415 - heavy, and not installed with every part

    profile = profile or profiles.load()
    with profiles.client_of(profile) as client:
        network = client.network()
    return network, trusting(profile.ca) if profile.ca else None, Outside(int(profile.chain or 0), profile.rpc)


def _contracts(network: NetworkView) -> dict[str, str]:
    shown = ("settlement", "token", "distributor", "validators", "vault", "timelock")
    return {name: getattr(network.contracts, name) for name in shown} if network.contracts else {}
