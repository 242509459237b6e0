"""`fallow chain`: what an operator does on the network's own chain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli.show import Json, say, show_json
from fallow.cli.units import microusd, usd
from fallow.cli.up import default_data
from fallow.domain.identity import address
from fallow.sdk.accounts import new_id

app = App(name="chain", help="Act on the network's own chain.")


@app.command
def give(
    account: str,
    amount: str,
    /,
    *,
    id_: Annotated[str, Parameter(name="--id", help="Repeat it by its id: it counts once.")] = "",
    data: Annotated[Path | None, Parameter(help="The network's data folder.", env_var="FALLOW_DATA")] = None,
    json: Json = False,
) -> None:
    """Give an account on the chain test dollars: the settlement asset there, play money, worth nothing."""
    from fallow.bootstrap.contracts import give_test_dollars  # noqa: PLC0415 - heavy, and not needed for the help

    units, gift = microusd(amount), id_ or new_id()
    folder = (data or default_data()).expanduser().resolve()
    done = asyncio.run(give_test_dollars(folder, gift, address(account.lower()), units))
    shown = {"id": gift, "account": account, "transaction": "0x" + done.transaction.hex()}
    show_json(shown) if json else say(f"{usd(units)} of test dollars for {account} in {shown['transaction']}.")
