"""What a provider sees of his own: his machines as the market sees them, and what they earned by the hour."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, QueryParameter

from fallow.domain import calls
from fallow.domain.views.keys import KeyView
from fallow.domain.views.money import EarningsView
from fallow.domain.views.nodes import OwnNodeView
from fallow.domain.views.rules import OwnRulesView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, provider
from fallow.http.params import Account, AfterNode, By, NodeId, Parts

HOUR_MS = 3_600_000
NodesLimit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]
Hours = Annotated[int, QueryParameter(ge=1, le=24 * 31, description="How many hours back.")]


@get("/v1/account/nodes", guards=[provider], responses=keyed(), tags=["account"])
async def own_nodes(
    gateway: Parts, payer: Account, after: AfterNode = "", limit: NodesLimit = 100
) -> list[OwnNodeView]:
    """Your machines by id, with what they work on; `after` is the last one seen. The last page is empty."""
    request = calls.base.AccountRef(account=payer, after=after, limit=limit)
    return await gateway.ask(calls.nodes.OWN_NODES, request, list[OwnNodeView])


@get("/v1/account/nodes/{node:str}/rules", guards=[provider], responses=keyed(404), tags=["account"])
async def own_rules(gateway: Parts, payer: Account, node: NodeId) -> OwnRulesView:
    """What one of your machines says of its rules and prices just now, and the latest of what was asked of it."""
    return await gateway.ask(calls.rules.RULES, calls.rules.RulesRef(account=payer, node=node), OwnRulesView)


@post(
    "/v1/account/nodes/{node:str}/rules",
    guards=[provider],
    status_code=200,
    responses=keyed(404, 409, 413),
    tags=["account"],
)
async def ask_rules(gateway: Parts, by: By, node: NodeId, data: JSONBody[calls.rules.NewRules]) -> OwnRulesView:
    """Ask one of your machines for other rules and prices. It takes what is stricter than its own, where it lets you.

    403 where it does not, and nothing waits for it then; 503 where it does not answer. The same `id` again is asked
    once.
    """
    asked = calls.rules.AskRules(id=data.id, account=by.account, key_id=by.key_id, node=node, rules=data.rules)
    return await gateway.ask(calls.rules.ASK_RULES, asked, OwnRulesView)


@get("/v1/account/earnings", guards=[provider], responses=keyed(), tags=["account"])
async def earnings(gateway: Parts, payer: Account, hours: Hours = 48) -> EarningsView:
    """What your machines earned from buyers, by the hour; what was minted for them is in the files of epochs."""
    request = calls.money.EarningsRef(account=payer, from_ms=gateway.clock.now_ms() - hours * HOUR_MS)
    return await gateway.ask(calls.money.EARNINGS, request, EarningsView)


@post("/v1/owners-keys", guards=[anyone], responses=public(403, 404, 409, 413), tags=["network"])
async def add_owners_key(gateway: Parts, data: JSONBody[calls.keys.OwnersKey]) -> KeyView:
    """Let the owner of a machine look on, with an API key that the machine drew and signs for: no other key needed."""
    return await gateway.ask(calls.keys.OWNERS_KEY, data, KeyView)


PUBLIC_ROUTES = [add_owners_key]
ROUTES = [own_nodes, own_rules, ask_rules, earnings]
