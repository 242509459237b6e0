"""`fallow wallet stake`: tokens that vouch for an operator, your own or others' who delegate to him."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.units import ppm, token_units, tokens, when
from fallow.cli.wallet import with_wallet
from fallow.domain.calls.tokens import SetTake
from fallow.domain.chain_facts import TOKENS_MIN
from fallow.domain.identity import address, address_text
from fallow.domain.sending import Done
from fallow.domain.stake_facts import take_text
from fallow.sdk.accounts import new_id

if TYPE_CHECKING:
    from fallow.bootstrap.staking import Staking
    from fallow.bootstrap.wallet import Wallet

T = TypeVar("T")

app = App(name="stake", help="Stake tokens with yourself as an operator, or delegate them to another one.")

Operator = Annotated[str, Parameter(help="The operator's address; your own account by default.")]
Id = Annotated[str, Parameter(name="--id", help="Repeat an interrupted one by its id: it counts once.")]


@app.command
def show(*, operator: Operator = "", key: KeyFile = None, json: Json = False) -> None:
    """Show what you have at stake with an operator, what you are taking out, and his whole pool."""
    whose, stake = _do(lambda staking: staking.look(), operator, key)
    if json:
        leaving = [{"units": str(each.units), "released_at_s": each.released_at_s} for each in stake.unbondings]
        pool = {"staked_units": str(stake.pool.staked), "leaving_units": str(stake.pool.leaving)}
        view = {"operator": whose, "units": str(stake.units), "unbonding": leaving, "slashes": stake.pool.slashes}
        show_json(view | {"pool": pool})
        return
    say(f"Operator {whose}")
    rows = [("yours, at stake", tokens(stake.units), "")]
    rows += [("yours, unbonding", tokens(each.units), when(each.released_at_s * 1000)) for each in stake.unbondings]
    rows.append(("everybody's, at stake", tokens(stake.pool.staked), ""))
    table(["WHAT", ">TOKENS", "FREE FROM"], rows, empty="")
    if stake.pool.slashes:
        tell("A slash of this operator is announced. Nothing enters or leaves his pool until it is settled.")


@app.command
def add(amount: str, /, *, id_: Id = "", key: KeyFile = None, json: Json = False) -> None:
    """Stake a number of tokens with yourself: as a validator, or to vouch for your machines."""
    _stake("", amount, id_, key, as_json=json)


@app.command
def delegate(operator: str, amount: str, /, *, id_: Id = "", key: KeyFile = None, json: Json = False) -> None:
    """Stake tokens with an operator, for a share of what his work earns in tokens. His slashes hit you, too."""
    _stake(operator, amount, id_, key, as_json=json)


@app.command
def unbond(
    amount: str = "", /, *, operator: Operator = "", id_: Id = "", key: KeyFile = None, json: Json = False
) -> None:
    """Begin to take tokens out, or all. They count no more at once, and are free after the unbonding time."""
    units = token_units(amount) if amount else None
    once = _once(id_, as_json=json)
    whose, done = _do(lambda staking: staking.unbond(once, units), operator, key)
    _say(whose, once, done, "Unbonding: fallow wallet stake show says until when.", as_json=json)


@app.command
def release(*, operator: Operator = "", id_: Id = "", key: KeyFile = None, json: Json = False) -> None:
    """Take out what has been unbonding for long enough."""
    once = _once(id_, as_json=json)
    whose, done = _do(lambda staking: staking.release(once), operator, key)
    _say(whose, once, done, "Released: fallow wallet balance", as_json=json)


@app.command
def take(percent: str, /, *, key: KeyFile = None, json: Json = False) -> None:
    """Say as an operator what you keep of what others' stake with you earns, in percent. Until you do, you keep all."""
    from fallow.bootstrap.account_key import account_signer, signed_text  # noqa: PLC0415 - not installed with every part

    path, take_ppm = key or default_file(), ppm(percent, "a share")
    account, now = account_signer(path).address, int(datetime.now(UTC).timestamp() * 1000)
    with profiles.connect() as client:
        signature = "0x" + signed_text(path, take_text(client.network().net, account, take_ppm, now)).hex()
        client.set_take(SetTake(account=address_text(account), take_ppm=take_ppm, at_ms=now, signature=signature))
    if json:
        show_json({"account": address_text(account), "take_ppm": take_ppm})
    else:
        say(f"From the next epoch on {address_text(account)} keeps {percent} % of what others' stake earns.")


def _stake(operator: str, amount: str, id_: str, key: KeyFile, *, as_json: bool) -> None:
    units, once = token_units(amount, TOKENS_MIN), _once(id_, as_json=as_json)
    whose, done = _do(lambda staking: staking.add(once, units), operator, key)
    _say(whose, once, done, f"{tokens(units)} tokens are at stake with {whose}.", as_json=as_json)


def _do(work: Callable[[Staking], Awaitable[T]], operator: str, key: KeyFile) -> tuple[str, T]:
    async def run(wallet: Wallet) -> tuple[str, T]:
        from fallow.bootstrap.staking import Staking  # noqa: PLC0415 - heavy, and not installed with every part

        pool = address(operator.lower()) if operator else wallet.account
        return address_text(pool), await work(Staking(wallet, pool))

    return with_wallet(run, key)


def _once(id_: str, *, as_json: bool) -> str:
    once = id_ or new_id()
    if not as_json:
        tell(f"Should it be interrupted, repeat it with --id {once}")
    return once


def _say(operator: str, id_: str, done: Done, said: str, *, as_json: bool) -> None:
    transaction = "0x" + done.transaction.hex()
    if as_json:
        show_json({"id": id_, "operator": operator, "transaction": transaction})
    else:
        say(said)
