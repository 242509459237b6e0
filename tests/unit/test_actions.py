"""Operators shut nodes and accounts out, and let them in again: at once, with a reason, and on record."""

# ruff: noqa: D102 - made-up actions

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.domain import calls
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.network_facts import OperatorActed
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.ports.rpc import call
from fallow.services.registry.actions import LAST_WORD_S, Actions
from tests.unit.test_registry import World, node_key, refusal

OPERATOR = "0x" + "0f" * 20
ATTIC, CELLAR = (bytes(node_key(number).verify_key) for number in (1, 2))


class Operated(World):
    """A registry with an operator. `cut` is whose connections were closed."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: list[bytes] = []
        self.trouble: Unavailable | None = None
        self.bus, self.decisions = self.hub.connect(), MemoryDecisionStore()
        self.actions = Actions(
            bus=self.bus,
            clock=self.clock,
            database=self.database,
            store=self.store,
            decisions=self.decisions,
            disconnect=self.disconnect,
        )

    async def disconnect(self, node: bytes) -> None:
        if self.trouble:
            raise self.trouble
        self.cut.append(node)

    async def act(self, number: int, what: str, subject: str, reason: str = "spam", by: str = OPERATOR) -> ActionView:
        """Have it done; what waits for time to pass gets it."""
        action = {"id": f"{number:032x}", "what": what, "subject": subject, "reason": reason}
        asked = {"account": by, "key_id": "k1", "action": action}
        view, _ = await asyncio.gather(
            call(self.bus, calls.actions.ACT, asked, ActionView), self.clock.advance(LAST_WORD_S)
        )
        return view

    async def refused(self, number: int, what: str, subject: str, **fields: str) -> str:
        before = await self.log()
        with pytest.raises(FallowError) as caught:
            await self.act(number, what, subject, **fields)
        assert await self.log() == before
        return caught.value.code

    async def log(self, **page: object) -> list[ActionView]:
        return await call(self.bus, calls.actions.ACTIONS, page, list[ActionView])

    async def banned(self) -> dict[str, str]:
        rows = await self.enrolled()
        return {row.node: row.banned_reason for row in rows}

    async def bans(self, **page: object) -> list[BanView]:
        return await call(self.bus, calls.actions.BANS, page, list[BanView])

    async def enrolled(self, **page: object) -> list[EnrolledView]:
        return await call(self.bus, calls.nodes.NODES, page, list[EnrolledView])


@pytest.fixture
async def world() -> AsyncIterator[Operated]:
    """Two nodes of two accounts."""
    made = Operated()
    async with made.registry.running(), made.actions.running():
        token = await made.token(uses=2)
        for number in (1, 2):
            await made.join(node_key(number), token)
        yield made


async def test_a_ban_is_written_told_and_cuts_the_node_off(world: Operated) -> None:
    async with world.bus.subscribe(calls.actions.BANNED) as told:
        done = await world.act(1, "ban", ATTIC.hex(), "sent spam")
        await anext(told)
        assert (done.what, done.subject, done.reason) == ("ban", ATTIC.hex(), "sent spam")
        assert (done.account, done.key_id) == (OPERATOR, "k1")
        assert world.cut == [ATTIC]
        assert not await world.registry.may_connect(ATTIC)
        assert await world.registry.may_connect(CELLAR)
        assert await refusal(world, node_key(1), "any") == "join.banned"
        assert await world.banned() == {ATTIC.hex(): "sent spam", CELLAR.hex(): ""}
        undone = await world.act(2, "unban", ATTIC.hex(), "was a mistake")
        await anext(told)
    assert await world.registry.may_connect(ATTIC)
    assert world.cut == [ATTIC]
    decided = [one.body for one in world.decisions.waiting.values()]
    assert decided == [
        OperatorActed(what=what, subject=ATTIC, action=bytes.fromhex(row.id))
        for what, row in (("ban", done), ("unban", undone))
    ]
    assert await world.log() == [undone, done]
    assert await world.log(limit=1) == [undone]
    assert await world.log(after=undone.id) == [done]


async def test_a_banned_account_is_out_with_its_nodes_and_keys(world: Operated) -> None:
    (row,) = [row for row in await world.nodes() if row.node == CELLAR]
    owner = address_text(row.account)
    key, other = await world.key(owner), await world.key()
    await world.act(1, "ban", owner, "fraud")
    assert world.cut == [CELLAR]
    assert not await world.registry.may_connect(CELLAR)
    with pytest.raises(FallowError) as caught:
        await world.check(key.secret)
    assert (caught.value.code, "fraud" in caught.value.message) == ("account.banned", True)
    await world.check(other.secret)
    await world.act(2, "ban", CELLAR.hex(), "its own")
    await world.act(3, "unban", owner)
    await world.check(key.secret)
    assert not await world.registry.may_connect(CELLAR), "a node's own ban outlives its account's"


async def test_an_action_counts_once(world: Operated) -> None:
    done = await world.act(1, "ban", ATTIC.hex())
    world.clock.ms += 1000
    assert await world.act(1, "ban", ATTIC.hex()) == done
    assert world.cut == [ATTIC]
    await world.act(2, "unban", ATTIC.hex())
    assert await world.act(1, "ban", ATTIC.hex()) == done
    assert await world.registry.may_connect(ATTIC), "an old action that comes again changes nothing"
    for fields in ({"reason": "other"}, {"by": "0x" + "11" * 20}):
        assert await world.refused(1, "ban", ATTIC.hex(), **fields) == "action.id_taken"
    assert await world.refused(1, "ban", CELLAR.hex()) == "action.id_taken"
    assert await world.registry.may_connect(CELLAR)


async def test_whoever_is_banned_is_listed_accounts_without_machines_too(world: Operated) -> None:
    alone = (await world.key()).account
    await world.act(1, "ban", alone, "fraud")
    await world.act(2, "ban", ATTIC.hex())
    found = await world.bans()
    order = sorted([(bytes.fromhex(alone[2:]), alone, "fraud"), (ATTIC, ATTIC.hex(), "spam")])
    assert [(one.subject, one.reason) for one in found] == [each[1:] for each in order]
    assert await world.bans(limit=1) == found[:1]
    assert await world.bans(after=found[0].subject) == found[1:]
    await world.act(3, "unban", alone)
    assert [one.subject for one in await world.bans()] == [ATTIC.hex()]


async def test_what_cannot_be_done_is_refused(world: Operated) -> None:
    assert await world.refused(1, "ban", "11" * 32) == "ban.unknown"
    assert await world.refused(1, "ban", "0x" + "11" * 20) == "ban.unknown"
    assert await world.refused(1, "ban", OPERATOR) == "ban.own_account"
    for subject in ("", "11" * 31, "11" * 20, "0x" + "11" * 32, ATTIC.hex().upper() + "A"):
        assert await world.refused(1, "ban", subject) == "rpc.malformed"
    for reason in ("", " ", "a\x1bb", "a\n", "a" * 201):
        assert await world.refused(1, "ban", ATTIC.hex(), reason=reason) == "rpc.malformed"
    assert world.cut == []


async def test_who_is_erased_has_no_names_and_no_keys_and_stays_an_account(world: Operated) -> None:
    (row,) = [row for row in await world.nodes() if row.node == CELLAR]
    owner = address_text(row.account)
    key, other = await world.key(owner), await world.key()
    await world.act(1, "vouch", owner, "contract 17")
    async with world.database.transaction() as tx:
        await world.store.observe(tx, CELLAR, "192.0.2.0/24", 1)
    done = await world.act(2, "erase", owner, "asked for it")
    assert await world.act(2, "erase", owner, "asked for it") == done
    with pytest.raises(FallowError, match=r"key"):
        await world.check(key.secret)
    await world.check(other.secret)
    (left,) = [row for row in await world.enrolled() if row.node == CELLAR.hex()]
    assert (left.account, left.label, left.vouched_reason, left.banned_reason) == (owner, "", "", "")
    async with world.database.transaction() as tx:
        assert await world.store.networks(tx) == {}
    assert world.cut == [], "it may go on under its address"
    assert await world.refused(3, "erase", OPERATOR) == "erase.own_account"
    assert await world.refused(3, "erase", ATTIC.hex()) == "erase.account"
    assert await world.refused(3, "erase", "0x" + "11" * 20) == "erase.unknown"


async def test_an_owner_is_vouched_for_until_it_is_taken_back(world: Operated) -> None:
    (row,) = [row for row in await world.nodes() if row.node == CELLAR]
    owner = address_text(row.account)
    done = await world.act(1, "vouch", owner, "contract 17")
    assert await world.act(1, "vouch", owner, "contract 17") == done
    assert {row.node: row.vouched_reason for row in await world.enrolled()} == {
        ATTIC.hex(): "",
        CELLAR.hex(): "contract 17",
    }
    async with world.database.transaction() as tx:
        assert await world.store.vouched(tx) == {row.account}
    undone = await world.act(2, "unvouch", owner, "it ended")
    async with world.database.transaction() as tx:
        assert not await world.store.vouched(tx)
    assert await world.log() == [undone, done]
    assert world.cut == []
    assert await world.refused(3, "vouch", CELLAR.hex()) == "vouch.account"
    assert await world.refused(4, "vouch", "0x" + "77" * 20) == "vouch.unknown"


async def test_a_ban_holds_although_the_bus_cannot_cut_the_link(world: Operated) -> None:
    world.trouble = Unavailable("bus.timeout", "Nobody answers.")
    await world.act(1, "ban", ATTIC.hex())
    assert not await world.registry.may_connect(ATTIC)


async def test_nodes_are_shown_in_pages(world: Operated) -> None:
    first, second = sorted((ATTIC.hex(), CELLAR.hex()))
    assert [row.node for row in await world.enrolled()] == [first, second]
    assert [row.node for row in await world.enrolled(limit=1)] == [first]
    assert [row.node for row in await world.enrolled(after=first)] == [second]
    assert await world.enrolled(after=second) == []
