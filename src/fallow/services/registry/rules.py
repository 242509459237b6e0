"""Rules that owners ask of their nodes in the console: kept in a log that only grows, and handed on to the node."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, FallowError, NotFound, Unavailable
from fallow.domain.identity import address, address_text, node_id
from fallow.domain.idle_rules import LOG_SHOWN, QUESTIONS_AT_ONCE, QUESTIONS_PER_S, RulesAsked, RulesStanding
from fallow.domain.views.base import error_view
from fallow.domain.views.rules import OwnRulesView, RulesEventView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.rates import Buckets, Rate
from fallow.ports.registry_store import RegistryStore, RulesRow
from fallow.ports.rpc import call, serve

ANSWER_S: Final = 3.0
WISHES: Final = Rate(1 / 600, 10)
"""How many of a node's are written down: for good, and for nothing."""

CONCURRENCY: Final = 1024
"""Questions at a time: nearly all of that time they wait for nodes, which may let them wait."""
_CODE: Final = re.compile("[a-z_.]{1,60}")


class Rules:
    """Answers `registry.rules` and `registry.rules.ask`. What holds is the node's alone to say, and is not kept."""

    def __init__(self, *, bus: Bus, clock: Clock, database: Database, store: RegistryStore) -> None:
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._wishes = Buckets(WISHES, clock)
        self._nodes = Buckets(Rate(QUESTIONS_PER_S, QUESTIONS_AT_ONCE), clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(
                self._bus,
                calls.rules.RULES,
                calls.rules.RulesRef,
                self.show,
                queue="registry",
                concurrency=CONCURRENCY,
            ),
            serve(
                self._bus,
                calls.rules.ASK_RULES,
                calls.rules.AskRules,
                self.ask,
                queue="registry",
                concurrency=CONCURRENCY,
            ),
        ):
            yield

    async def show(self, request: calls.rules.RulesRef) -> OwnRulesView:
        """Show what a node says of its rules, and what was asked of it.

        Raises:
            NotFound: the account has no such node.
        """
        async with self._database.transaction() as tx:
            await self._own(tx, request.account, request.node)
        try:
            standing, trouble = await self._tell(request.node, None), None
        except FallowError as error:
            standing, trouble = None, error
        return await self._view(request.node, standing, trouble)

    async def ask(self, request: calls.rules.AskRules) -> OwnRulesView:
        """Write down what is asked, hand it on, and write down what came of it. The same again is asked once.

        Raises:
            NotFound: the account has no such node.
            Conflict: the id belongs to something else; or as the node raised it.
            NotAllowed: the node refuses, in its own words.
            TooMuch: it is asked too often.
            Unavailable: the node does not answer, or in a way that makes no sense: whether it has taken it shows when
                it does; or as the node raised it.
        """
        account, node = address(request.account), node_id(request.node)
        row = RulesRow(request.id, self._clock.now_ms(), node, account, request.key_id, "asked", "", request.rules)
        async with self._database.transaction() as tx:
            await self._own(tx, request.account, request.node)
            self._wishes.take(request.node)
            fresh = await self._store.add_rules(tx, row)
            kept = row if fresh else await self._store.rules_asked(tx, request.id)
        if kept is None or kept._replace(at=row.at, key_id=row.key_id) != row:
            raise Conflict("rules.id_taken", f"The id {request.id} belongs to something else.", "Make a fresh one.")
        asked = RulesAsked(id=kept.id, at=kept.at, account=request.account, key_id=kept.key_id, rules=kept.rules)
        try:
            standing = await self._tell(request.node, asked)
        except FallowError as error:
            if not isinstance(error, Unavailable):
                await self._note(kept, "refused", error.code)
            raise
        await self._note(kept, "taken", "")
        return await self._view(request.node, standing, None)

    async def _own(self, tx: Transaction, account: str, node: str) -> None:
        row = await self._store.node(tx, node_id(node))
        if row is None or row.account != address(account):
            raise NotFound("node.unknown", "Your account has no such node.", "See: fallow node ls")

    async def _tell(self, node: str, asked: RulesAsked | None) -> RulesStanding:
        self._nodes.take(node)
        try:
            told = calls.rules.TellRules(asked=asked)
            return await call(self._bus, calls.rules.rules_of(node), told, RulesStanding, timeout_s=ANSWER_S)
        except UNREADABLE as error:
            raise Unavailable("node.answer", f"The machine's answer makes no sense: {error}.") from error
        except FallowError as error:
            if isinstance(error, Unavailable) and error.code.startswith("bus."):
                raise Unavailable(
                    "node.away", "The machine does not answer now.", "Is it on, and does `fallow agent run` run there?"
                ) from error
            if not _CODE.fullmatch(error.code):  # the log keeps it
                raise Unavailable("node.answer", "The machine's answer makes no sense: its code is none.") from error
            raise

    async def _note(self, asked: RulesRow, what: str, code: str) -> None:
        async with self._database.transaction() as tx:
            await self._store.add_rules(tx, asked._replace(at=self._clock.now_ms(), what=what, code=code))

    async def _view(self, node: str, standing: RulesStanding | None, trouble: FallowError | None) -> OwnRulesView:
        async with self._database.transaction() as tx:
            rows = await self._store.rules_log(tx, node_id(node), LOG_SHOWN)
        log = [
            RulesEventView(
                id=row.id,
                at=row.at,
                account=address_text(row.account),
                key_id=row.key_id,
                what=row.what,
                code=row.code,
                rules=row.rules,
            )
            for row in rows
        ]
        return OwnRulesView(standing=standing, trouble=None if trouble is None else error_view(trouble), log=log)
