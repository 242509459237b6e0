"""`fallow chain`: what an operator does on the network's own chain."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli.show import Json, clean, say, show_json, table, tell
from fallow.cli.units import microusd, usd, when
from fallow.cli.up import Data, data_folder
from fallow.cli.wallet import chain_in_use
from fallow.domain.identity import address, address_text
from fallow.domain.records import to_builtins
from fallow.sdk.accounts import new_id

app = App(name="chain", help="Act on the network's own chain.")


@app.command
def show(*, json: Json = False) -> None:
    """Show who can change what about the network's contracts, all their parameters, and what is about to change."""
    from fallow.bootstrap.governance import read_governance  # noqa: PLC0415 - heavy, and not installed with every part

    found = asyncio.run(read_governance(*chain_in_use()))
    if json:
        show_json(to_builtins(found))
        return
    rows = [(part, name, value) for part, values in found.parameters.items() for name, value in values.items()]
    table(["CONTRACT", "WHAT", "NOW"], rows, empty="")
    changes = [(one.ready, one.contract, one.call, one.id) for one in found.pending]
    say("")
    table(
        ["FROM (UTC)", "CONTRACT", "CHANGE", "ID"],
        changes,
        empty="No call waits in the timelock.",
    )


@app.command
def withdraw_root(
    epoch: int,
    /,
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Take the root of an epoch, and those after it, back before it is active. The operator's key is the guardian's."""
    from fallow.bootstrap.governance import withdraw  # noqa: PLC0415 - heavy, and not needed for the help

    done = asyncio.run(withdraw(data_folder(data), epoch))
    shown = {"epoch": epoch, "transaction": "0x" + done.transaction.hex(), "succeeded": done.succeeded}
    if json:
        show_json(shown)
    elif done.succeeded:
        say(f"The root of epoch {epoch} is withdrawn ({shown['transaction']}). Validators sign anew for the next one.")
    else:
        say(f"The contract refused it ({shown['transaction']}): a root that is active stays.")


@app.command
def schedule(
    contract: str,
    what: str,
    /,
    *values: str,
    id_: Annotated[str, Parameter(name="--id", help="Repeat it by its id: it counts once.")] = "",
    data: Data = None,
    json: Json = False,
) -> None:
    """Announce a change of a contract's parameter, both named as `fallow chain show` does: it waits in the timelock.

    Numbers are in the contract's own units. `vault delays` takes two: for unbonding, and for an appeal.
    """
    from fallow.bootstrap.governance import schedule as announce  # noqa: PLC0415 - heavy, and not needed for the help

    once = id_ or new_id()
    if not json:
        tell(f"Change {once}: should it be interrupted, repeat it with --id {once}")
    done = asyncio.run(announce(data_folder(data), once, contract, what, values))
    shown = {"id": "0x" + done.id.hex(), "ready_at_s": done.ready_at, "transaction": "0x" + done.transaction.hex()}
    if json:
        show_json(shown)
        return
    say(f"It is announced, and everybody sees it: fallow chain show. From {when(done.ready_at * 1000)} (UTC) on:")
    say(f"  fallow chain execute {shown['id']}")


@app.command
def execute(change: str, /, *, data: Data = None, json: Json = False) -> None:
    """Carry out a change whose time has come, by the id that `fallow chain show` tells, or how that begins."""
    from fallow.bootstrap.governance import execute as carry_out  # noqa: PLC0415 - heavy, and not needed for the help

    transaction = "0x" + asyncio.run(carry_out(data_folder(data), change)).hex()
    show_json({"transaction": transaction}) if json else say(f"It is changed ({transaction}).")


@app.command
def cancel(change: str, /, *, data: Data = None, json: Json = False) -> None:
    """Give up a change that waits, by the id that `fallow chain show` tells, or how that begins."""
    from fallow.bootstrap.governance import cancel as give_up  # noqa: PLC0415 - heavy, and not needed for the help

    transaction = "0x" + asyncio.run(give_up(data_folder(data), change)).hex()
    show_json({"transaction": transaction}) if json else say(f"It is given up ({transaction}).")


@app.command
def slashes(*, json: Json = False) -> None:
    """Show slashes of stake that are announced: whose, why, how much, by which evidence, and when they are taken."""
    from fallow.bootstrap.slashes import read_slashes  # noqa: PLC0415 - heavy, and not installed with every part

    found = asyncio.run(read_slashes(*chain_in_use()))
    shown = [
        {
            "slash": number,
            "operator": address_text(one.operator),
            "reason": clean(one.reason.rstrip(b"\0").decode("ascii", "replace")),
            "share": f"{one.share_ppm / 10_000:g} %",
            "taken_from": when(one.takes_effect_at_s * 1000),
            "evidence": one.evidence.hex(),
        }
        for number, one in found
    ]
    if json:
        show_json(shown)
        return
    for one in shown:
        say(f"Slash {one['slash']}: {one['share']} of {one['operator']}, from {one['taken_from']} on")
        say(f"  {one['reason']}, by the evidence of SHA-256 {one['evidence']}")
    if not shown:
        say("None is announced.")


@app.command
def stop_slash(
    number: int,
    /,
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Stop a slash that is announced, for good: an appeal was right. The operator's key is the guardian's."""
    from fallow.bootstrap.slashes import stop_slash as stop  # noqa: PLC0415 - heavy, and not needed for the help

    done = asyncio.run(stop(data_folder(data), number))
    shown = {"slash": number, "transaction": "0x" + done.transaction.hex()}
    show_json(shown) if json else say(f"Slash {number} is stopped ({shown['transaction']}).")


@app.command
def deploy(
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make the network's contracts on the chain that the settings name, before its first `fallow up`.

    It costs coin of that chain, which the operator's account pays. Interrupted, it goes on when it is called again.
    """
    from fallow.bootstrap.contracts import deploy_contracts  # noqa: PLC0415 - heavy, and not needed for the help

    folder = data_folder(data)
    made = asyncio.run(deploy_contracts(folder, os.environ, lambda account: tell(f"{account} pays the fees.")))
    if json:
        show_json(to_builtins(made))
        return
    rows = [(name, value) for name, value in to_builtins(made).items() if isinstance(value, str)]
    table(["CONTRACT", "ADDRESS"], rows, empty="")


@app.command
def give(
    account: str,
    amount: str,
    /,
    *,
    id_: Annotated[str, Parameter(name="--id", help="Repeat it by its id: it counts once.")] = "",
    data: Data = None,
    json: Json = False,
) -> int:
    """Give an account on the chain test dollars: the settlement asset there, play money, worth nothing."""
    from fallow.bootstrap.contracts import give_test_dollars  # noqa: PLC0415 - heavy, and not needed for the help

    units, gift = microusd(amount, least=1), id_ or new_id()
    folder = data_folder(data)
    done = asyncio.run(give_test_dollars(folder, gift, address(account.lower()), units))
    transaction = "0x" + done.transaction.hex()
    if json:
        show_json({"id": gift, "account": account, "transaction": transaction, "succeeded": done.succeeded})
    elif done.succeeded:
        say(f"{usd(units)} of test dollars for {account} in {transaction}.")
    else:
        say(f"The contract refused it ({transaction}): its asset is none that the operator makes. Nothing was given.")
    return 0 if done.succeeded else 1
