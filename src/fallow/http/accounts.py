"""A buyer's own money."""

from __future__ import annotations

from litestar import get

from fallow.domain import calls
from fallow.domain.views import BalanceView, StatementLine
from fallow.http.auth import buyer
from fallow.http.params import Account, AfterId, Limit, Parts


@get("/v1/account", guards=[buyer], tags=["account"])
async def balance(gateway: Parts, account: Account) -> BalanceView:
    """Your credits by class, in micro-US-dollars."""
    return await gateway.ask(calls.BALANCE, calls.AccountRef(account=account), BalanceView)


@get("/v1/account/statement", guards=[buyer], tags=["account"])
async def statement(gateway: Parts, account: Account, after: AfterId = "", limit: Limit = 200) -> list[StatementLine]:
    """Your account's movements; `after` is the last id seen."""
    request = calls.AccountRef(account=account, after=after, limit=limit)
    return await gateway.ask(calls.STATEMENT, request, list[StatementLine])


ROUTES = [balance, statement]
