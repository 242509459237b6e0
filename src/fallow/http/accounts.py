"""A buyer's own money."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.views import BalanceView, StatementLine, SubscriptionView, WithdrawalView
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.params import Account, AfterId, AfterLine, Limit, Parts, SubscriptionId


@get("/v1/account", guards=[buyer], responses=keyed(), tags=["account"])
async def balance(gateway: Parts, payer: Account) -> BalanceView:
    """Your credits by class, in micro-US-dollars."""
    return await gateway.ask(calls.BALANCE, calls.AccountRef(account=payer), BalanceView)


@get("/v1/account/statement", guards=[buyer], responses=keyed(), tags=["account"])
async def statement(gateway: Parts, payer: Account, after: AfterLine = "", limit: Limit = 200) -> list[StatementLine]:
    """Your account's movements; `after` is the last id seen."""
    request = calls.AccountRef(account=payer, after=after, limit=limit)
    return await gateway.ask(calls.STATEMENT, request, list[StatementLine])


@get("/v1/subscriptions", guards=[buyer], responses=keyed(), tags=["account"])
async def subscriptions(
    gateway: Parts, payer: Account, after: AfterId = "", limit: Limit = 200
) -> list[SubscriptionView]:
    """Shared services that you use by the meter, by id; `after` is the last id seen."""
    request = calls.AccountRef(account=payer, after=after, limit=limit)
    return await gateway.ask(calls.SUBSCRIPTIONS, request, list[SubscriptionView])


@delete(
    "/v1/subscriptions/{subscription_id:str}", guards=[buyer], status_code=200, responses=keyed(404), tags=["account"]
)
async def unsubscribe(gateway: Parts, payer: Account, subscription_id: SubscriptionId) -> SubscriptionView:
    """End a subscription: what was used is paid, the rest of what it reserved given back."""
    request = calls.SubscriptionRef(account=payer, id=subscription_id)
    return await gateway.ask(calls.UNSUBSCRIBE, request, SubscriptionView)


@post("/v1/account/withdrawals", guards=[buyer], responses=keyed(402, 409, 413), tags=["account"])
async def withdraw(gateway: Parts, payer: Account, data: JSONBody[calls.Withdrawal]) -> WithdrawalView:
    """Have some of your paid credits owed to an account in the settlement asset. The same id counts once."""
    return await gateway.ask(calls.WITHDRAW, calls.Withdraw(account=payer, withdrawal=data), WithdrawalView)


ROUTES = [balance, statement, withdraw, subscriptions, unsubscribe]
