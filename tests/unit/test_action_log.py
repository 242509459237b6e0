"""Whatever an operator does is in the log, with who and when; and what cannot be logged is not done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from litestar.routes import HTTPRoute

from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain import calls
from fallow.domain.errors import Conflict
from fallow.domain.identity import address
from fallow.domain.views.keys import TokenView
from fallow.domain.views.money import BalanceView
from fallow.http.auth import operator
from fallow.ports.acting import action_of
from fallow.ports.rpc import Empty, call
from fallow.services.settle.service import Settle
from tests.price_world import FAIR, World
from tests.unit.fake_network import OPERATOR, fake_network
from tests.unit.test_actions import Operated

BY = calls.base.Person(account=OPERATOR, key_id="op2")
GRANT = "9" * 32


@pytest.fixture
async def world() -> AsyncIterator[Operated]:
    world = Operated()
    settle = Settle(
        bus=world.hub.connect(), clock=world.clock, database=world.database, ledger=MemoryLedger(), log=world.store
    )
    async with world.registry.running(), world.actions.running(), settle.running():
        yield world


async def done(world: Operated) -> list[tuple[str, str, str, str, str]]:
    return [(row.what, row.subject, row.about, row.account, row.key_id) for row in reversed(await world.log())]


async def give(world: Operated, account: str, amount: int, by: calls.base.Person | None = BY) -> BalanceView:
    grant = calls.money.GiveGrant(id=GRANT, account=account, amount_microusd=amount, by=by)
    return await call(world.bus, calls.money.GRANT, grant, BalanceView)


async def test_tokens_keys_and_credits_are_logged_with_who_and_when(world: Operated) -> None:
    key = await call(world.bus, calls.keys.CREATE_KEY, calls.keys.MakeKey(by=BY), calls.keys.Secret)
    key_id = (await world.check(key.secret)).key_id
    await call(world.bus, calls.keys.REVOKE_KEY, calls.keys.RevokeKey(key_id=key_id, by=BY), Empty)
    await call(world.bus, calls.keys.CREATE_TOKEN, calls.keys.MakeToken(by=BY), calls.keys.Secret)
    (token,) = await call(world.bus, calls.keys.TOKENS, {}, list[TokenView])
    token_id = token.token_id
    await call(world.bus, calls.keys.REVOKE_TOKEN, calls.keys.RevokeToken(token_id=token_id, by=BY), Empty)
    for _ in range(2):  # the same grant again is the same action
        await give(world, key.account, 5)
    who = (OPERATOR, "op2")
    assert await done(world) == [
        ("key.make", key.account, key_id, *who),
        ("key.revoke", key.account, key_id, *who),
        ("token.make", "", token_id, *who),
        ("token.revoke", "", token_id, *who),
        ("credit.grant", key.account, "5", *who),
    ]
    assert {row.at for row in await world.log()} == {world.clock.now_ms()}


async def test_what_the_network_or_a_buyer_does_is_no_operators_doing(world: Operated) -> None:
    key = await world.key()
    await world.token()
    await give(world, key.account, 5, by=None)
    await world.revoke((await world.check(key.secret)).key_id)
    assert await world.log() == []


async def test_what_is_refused_is_not_in_the_log(world: Operated) -> None:
    one, other = (await world.key()).account, (await world.key()).account
    await give(world, one, 5)
    with pytest.raises(Conflict):
        await give(world, other, 5)
    assert [row.about for row in await world.log()] == ["5"]


async def test_nobody_hides_an_action_behind_another_one_of_the_same_id(world: Operated) -> None:
    account = (await world.key()).account
    first = action_of(BY, "credit.grant", 1, once=GRANT, about="1")
    async with world.database.transaction() as tx:
        await world.store.add_action(tx, first._replace(what="vouch", subject=address(account)))
    with pytest.raises(Conflict, match=r"action\.id_taken"):
        await give(world, account, 5)
    view = await call(world.bus, calls.money.BALANCE, calls.base.AccountRef(account=account), BalanceView)
    assert sum(view.spendable.values()) == 0


async def test_an_accepted_price_is_logged() -> None:
    world = World()
    await world.fair(0, 1, 2, 3)
    await world.burns.accept(calls.tokens.HoldPrice(price_microusd=FAIR, by=BY))
    async with world.database.transaction() as tx:
        (row,) = await world.log.actions(tx, "", 10)
    assert (row.what, row.about, row.key_id) == ("price.accept", str(FAIR), "op2")


async def test_every_route_that_changes_something_for_an_operator_says_who_he_is() -> None:
    async with fake_network() as network:
        changing = [
            (handler.handler_name, "by" in handler.parsed_fn_signature.parameters)
            for route in network.app.routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            if operator in (handler.guards or ()) and not handler.http_methods & {"GET", "OPTIONS"}
        ]
    assert len(changing) >= 10
    assert [name for name, says in changing if not says] == []
