"""Stake: what an operator keeps of what others' stake with him earns. Stake itself is the chain's."""

from __future__ import annotations

from litestar import post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.params import Account, Parts
from fallow.ports.rpc import Empty


@post("/v1/stake/take", guards=[buyer], responses=keyed(413), tags=["account"])
async def take(gateway: Parts, payer: Account, data: JSONBody[calls.tokens.SetTake]) -> None:
    """Say what you keep, as an operator, signed with your account's key. It counts from the next epoch on."""
    gateway.words.take(payer)  # whoever signs it: accounts cost nothing, and each is carried from epoch to epoch
    await gateway.ask(calls.tokens.SET_TAKE, data, Empty)


ROUTES = [take]
