"""A buyer's own money."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, delete, get, post, put
from litestar.params import JSONBody, QueryParameter

from fallow.domain import calls
from fallow.domain.errors import NotAllowed, NotFound
from fallow.domain.views.keys import SigningSecretView
from fallow.domain.views.money import BalanceView, BudgetView, SpendingView, StatementLine, SubscriptionView
from fallow.domain.views.payouts import PayeeView, RedirectionView, WithdrawalView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, buyer, holder, withdrawer
from fallow.http.params import Account, AccountId, AfterId, AfterLine, Limit, Parts, SubscriptionId

HOUR_MS: Final = 3_600_000
SpendingHours = Annotated[int, QueryParameter(ge=1, le=24 * 366, description="How many hours back.")]


@get("/v1/account", guards=[holder], responses=keyed(), tags=["account"])
async def balance(gateway: Parts, payer: Account) -> BalanceView:
    """Your credits by class, in micro-US-dollars."""
    return await gateway.ask(calls.money.BALANCE, calls.base.AccountRef(account=payer), BalanceView)


@get("/v1/account/statement", guards=[holder], responses=keyed(), tags=["account"])
async def statement(gateway: Parts, payer: Account, after: AfterLine = "", limit: Limit = 200) -> list[StatementLine]:
    """Your account's movements; `after` is the last id seen."""
    request = calls.base.AccountRef(account=payer, after=after, limit=limit)
    return await gateway.ask(calls.money.STATEMENT, request, list[StatementLine])


@get("/v1/account/spending", guards=[buyer], responses=keyed(), tags=["account"])
async def spending(gateway: Parts, payer: Account, hours: SpendingHours = 24 * 31) -> SpendingView:
    """What you spent by the hour, on jobs and on what is used by the meter, as it was settled."""
    request = calls.money.SpendingRef(account=payer, from_ms=gateway.clock.now_ms() - hours * HOUR_MS)
    return await gateway.ask(calls.money.SPENDING, request, SpendingView)


@get("/v1/account/budget", guards=[holder], responses=keyed(), tags=["account"])
async def budget(gateway: Parts, payer: Account) -> BudgetView:
    """Your account's budget of this month, what was spent of it and what is reserved."""
    return await gateway.ask(calls.money.BUDGET, calls.base.AccountRef(account=payer), BudgetView)


@put("/v1/account/budget", guards=[withdrawer], responses=keyed(), tags=["account"])
async def set_budget(gateway: Parts, payer: Account, data: JSONBody[calls.money.MonthlyBudget]) -> BudgetView:
    """Say what your account may spend in a calendar month (UTC), in this one and each that follows.

    It holds at once. What would pass it does not begin (`account.budget`), and what runs ends with its window.
    """
    return await gateway.ask(calls.money.SET_BUDGET, calls.money.SetBudget(account=payer, budget=data), BudgetView)


@get("/v1/subscriptions", guards=[buyer], responses=keyed(), tags=["account"])
async def subscriptions(
    gateway: Parts, payer: Account, after: AfterId = "", limit: Limit = 200
) -> list[SubscriptionView]:
    """Shared services that you use by the meter, by id; `after` is the last id seen."""
    request = calls.base.AccountRef(account=payer, after=after, limit=limit)
    return await gateway.ask(calls.subscriptions.SUBSCRIPTIONS, request, list[SubscriptionView])


@post("/v1/subscriptions", guards=[buyer], responses=keyed(402, 404, 409), tags=["account"])
async def subscribe(
    gateway: Parts, payer: Account, data: JSONBody[calls.subscriptions.OpenSubscription]
) -> SubscriptionView:
    """Use a vertical's shared service by the meter, at the tariff of this moment. Your limit is reserved for each hour.

    The tariff stays as long as the subscription does.
    """
    if data.vertical not in gateway.tariffs.first:
        raise NotFound("subscription.no_service", f"This network sells nothing of {data.vertical!r} by the meter.")
    # a subscription keeps its tariff for good: what was said a second ago counts, too
    gateway.tariffs.words = await gateway.tariff_words()
    request = calls.subscriptions.Subscribe(
        id=data.id,
        account=payer,
        vertical=data.vertical,
        tariff=gateway.tariffs.at(data.vertical, gateway.clock.now_ms()),
        limit_microusd=data.limit_microusd,
        label=data.label,
    )
    return await gateway.ask(calls.subscriptions.SUBSCRIBE, request, SubscriptionView)


@get("/v1/account/signing-secret", guards=[buyer], responses=keyed(), tags=["account"])
async def signing_secret(gateway: Parts, request: Request[Any, calls.keys.KeyInfo, Any]) -> SigningSecretView:
    """What the holder of this API key signs requests with where the key itself does not travel, such as by S3.

    It lasts as long as the key, so no session is told it: a browser has its requests signed (`/v1/account/links`).
    """
    if "Authorization" not in request.headers:
        raise NotAllowed("session.secret", "A browser is not told this secret.", "With the API key: fallow storage key")
    asked = calls.keys.KeyRef(key_id=request.auth.key_id)
    found = await gateway.ask(calls.keys.SIGNING_SECRET, asked, calls.keys.SigningSecret)
    return SigningSecretView(access_key=found.info.key_id, secret=found.secret)


@delete(
    "/v1/subscriptions/{subscription_id:str}", guards=[buyer], status_code=200, responses=keyed(404), tags=["account"]
)
async def unsubscribe(gateway: Parts, payer: Account, subscription_id: SubscriptionId) -> SubscriptionView:
    """End a subscription: what was used is paid, the rest of what it reserved given back."""
    request = calls.subscriptions.SubscriptionRef(account=payer, id=subscription_id)
    return await gateway.ask(calls.subscriptions.UNSUBSCRIBE, request, SubscriptionView)


@post("/v1/account/withdrawals", guards=[withdrawer], responses=keyed(402, 409, 413), tags=["account"])
async def withdraw(gateway: Parts, payer: Account, data: JSONBody[calls.payouts.Withdrawal]) -> WithdrawalView:
    """Have some of your paid credits owed to an account in the settlement asset. The same id counts once."""
    return await gateway.ask(
        calls.payouts.WITHDRAW, calls.payouts.Withdraw(account=payer, withdrawal=data), WithdrawalView
    )


@post("/v1/account/payout", guards=[withdrawer], responses=keyed(404, 409, 413), tags=["account"])
async def own_payout(gateway: Parts, payer: Account, data: JSONBody[calls.payouts.PayoutTo]) -> PayeeView:
    """Have the earnings of your account go to another address, 72 hours from now, if the network keeps its key."""
    return await gateway.ask(calls.payouts.PAYOUT, calls.payouts.Payout(account=payer, to=data.to), PayeeView)


@post("/v1/account/redirections", guards=[withdrawer], responses=keyed(404, 409), tags=["account"])
async def redirect(gateway: Parts, payer: Account, data: JSONBody[calls.payouts.Redirection]) -> RedirectionView:
    """Have the network sign for your account, whose key it keeps, that claims are paid to whom its earnings go."""
    return await gateway.ask(
        calls.payouts.REDIRECT, calls.payouts.Redirect(account=payer, redirection=data), RedirectionView
    )


@post("/v1/payouts", guards=[anyone], responses=public(403, 404, 409, 413), tags=["account"])
async def payout(gateway: Parts, data: JSONBody[calls.payouts.Payout]) -> PayeeView:
    """Have the earnings of an account go to another address, 72 hours from now, by its own signature: no key needed."""
    if not data.signature:
        raise NotAllowed("payout.signature", "The account's signature is missing.", "fallow account payout ADDRESS")
    return await gateway.ask(calls.payouts.PAYOUT, data, PayeeView)


@get("/v1/payouts/{account_id:str}", guards=[anyone], responses=public(404), tags=["account"])
async def payee(gateway: Parts, account_id: AccountId) -> PayeeView:
    """To whom an account's earnings go, and what change waits: for everybody, so that a theft is seen in time."""
    return await gateway.ask(calls.payouts.PAYEE, calls.base.AccountRef(account=account_id), PayeeView)


ROUTES = [
    own_payout,
    redirect,
    payout,
    payee,
    balance,
    statement,
    spending,
    budget,
    set_budget,
    withdraw,
    subscriptions,
    subscribe,
    unsubscribe,
    signing_secret,
]
