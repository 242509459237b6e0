"""What operators do to nodes and accounts, each with its reason, in a log that only grows."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from fallow.domain import calls
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from fallow.domain.identity import ADDRESS_BYTES, NODE_ID_BYTES, address, address_text, node_id
from fallow.domain.network_facts import OperatorActed
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.registry_store import ActionRow, RegistryStore
from fallow.ports.rpc import serve

LAST_WORD_S = 0.5
"""A banned node can still hear for so long: the market tells it which leases to end."""

VOUCHING = frozenset({"vouch", "unvouch"})
"""What the market learns by itself within seconds: nobody has to be told."""

NAMED_MAX = 10_000
"""So many banned nodes are named in one message; what is left of a larger account is found when it is next checked."""

Disconnect = Callable[[bytes], Awaitable[None]]
"""Closes a node's connections to the bus; it may not come back while it is banned. Raises Unavailable."""

_log = logging.getLogger(__name__)


class Actions:
    """Answers `registry.act`, `actions`, `nodes` and `bans`. Several copies may run: all state is in the store."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        database: Database,
        store: RegistryStore,
        decisions: DecisionStore,
        disconnect: Disconnect,
    ) -> None:
        self._decisions = decisions
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._disconnect = disconnect

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.actions.ACT, calls.actions.Act, self.act, queue="registry"),
            serve(self._bus, calls.actions.ACTIONS, calls.base.Page, self.actions, queue="registry"),
            serve(self._bus, calls.nodes.NODES, calls.base.Page, self.nodes, queue="registry"),
            serve(self._bus, calls.actions.BANS, calls.base.Page, self.bans, queue="registry"),
        ):
            yield

    async def act(self, request: calls.actions.Act) -> ActionView:
        """Ban, vouch for or erase somebody, or take the first two back. The same again changes nothing.

        Raises:
            NotFound: there is no such node or account.
            Conflict: the id is taken by another action, or an operator would ban or erase himself.
            InvalidInput: a node would be vouched for or erased, and not its owner's account.
        """
        action, account = request.action, address(request.account)
        subject = _subject(action.subject)
        if action.what == "ban" and subject == account:
            raise Conflict("ban.own_account", "This is your own account: you could not undo it.")
        if action.what == "erase" and subject == account:
            raise Conflict("erase.own_account", "This is your own account: its keys would be revoked.")
        if action.what in {*VOUCHING, "erase"} and len(subject) == NODE_ID_BYTES:
            raise InvalidInput(
                f"{action.what.removeprefix('un')}.account",
                "That is done to an owner, and with him to all of his nodes.",
                "Give an account's address.",
            )
        row = ActionRow(action.id, self._clock.now_ms(), account, request.key_id, action.what, subject, action.reason)
        async with self._database.transaction() as tx:
            fresh = await self._store.add_action(tx, row)
            if fresh and not await self._take_hold(tx, action, subject):
                raise NotFound(
                    f"{action.what.removeprefix('un')}.unknown", f"There is no node or account {action.subject} here."
                )
            if fresh and action.what != "erase":  # of whom nothing is kept, the archive does not begin to tell
                await self._decisions.add(tx, [Decision(row.at, _acted(row))])
            kept = row if fresh else await self._store.action(tx, action.id)
            nodes = await self._nodes_of(tx, subject)
        if kept is None or kept._replace(at=row.at) != row:
            raise Conflict("action.id_taken", f"The id {action.id} belongs to another action.", "Make a fresh one.")
        if fresh and action.what not in {*VOUCHING, "erase"}:
            await self._make_known(nodes if action.what == "ban" else [])
        return _view(kept)

    async def actions(self, request: calls.base.Page) -> list[ActionView]:
        """Show what was done, the latest first."""
        async with self._database.transaction() as tx:
            return [_view(row) for row in await self._store.actions(tx, request.after, request.limit)]

    async def nodes(self, request: calls.base.Page) -> list[EnrolledView]:
        """Show enrolled nodes by id, also those that never offered anything."""
        after = node_id(request.after) if request.after else b""
        async with self._database.transaction() as tx:
            rows = await self._store.enrolled(tx, after, request.limit)
        return [
            EnrolledView(
                node=row.node.hex(),
                label=row.label,
                account=address_text(row.account),
                enrolled_at=row.enrolled_at,
                banned_reason=row.banned_reason,
                vouched_reason=row.vouched_reason,
            )
            for row in rows
        ]

    async def bans(self, request: calls.base.Page) -> list[BanView]:
        """Show who is banned, accounts without machines too, in the order of ids and accounts."""
        after = _subject(request.after) if request.after else b""
        async with self._database.transaction() as tx:
            rows = await self._store.bans(tx, after, request.limit)
        return [BanView(subject=_text(row.subject), reason=row.reason) for row in rows]

    async def _take_hold(self, tx: Transaction, action: calls.actions.Action, subject: bytes) -> bool:
        """Write what an action does; False when whom it is about is unknown."""
        if action.what == "erase":
            return await self._store.erase(tx, subject, self._clock.now_ms())
        write = self._store.set_vouched if action.what in VOUCHING else self._store.set_ban
        return await write(tx, subject, "" if action.what.startswith("un") else action.reason)

    async def _nodes_of(self, tx: Transaction, subject: bytes) -> list[bytes]:
        if len(subject) == NODE_ID_BYTES:
            return [subject]
        return [row.node for row in await self._store.nodes(tx) if row.account == subject]

    async def _make_known(self, banned: list[bytes]) -> None:
        """Tell the services, then cut the nodes off. What fails here takes hold by itself: the ban is written."""
        try:
            await self._bus.publish(
                calls.actions.BANNED, msgspec.msgpack.encode([node.hex() for node in banned[:NAMED_MAX]])
            )
            if banned:
                await self._clock.sleep(LAST_WORD_S)
            for node in banned:
                await self._disconnect(node)
        except Unavailable as error:
            _log.warning("banned nodes keep their connections until these expire: %s", error)


def _subject(text: str) -> bytes:
    return address(text) if text.startswith("0x") else node_id(text)


def _text(subject: bytes) -> str:
    return address_text(subject) if len(subject) == ADDRESS_BYTES else subject.hex()


def _acted(row: ActionRow) -> OperatorActed:
    return OperatorActed(what=row.what, subject=row.subject, action=bytes.fromhex(row.id))


def _view(row: ActionRow) -> ActionView:
    return ActionView(
        id=row.id,
        at=row.at,
        account=address_text(row.account),
        key_id=row.key_id,
        what=row.what,
        subject=_text(row.subject),
        reason=row.reason,
        about=row.about,
    )
