"""API keys that a machine has made for its owner: he looks on with one, names where he is told, and moves no money."""

from __future__ import annotations

from typing import Final

from fallow.domain import calls
from fallow.domain.api_keys import owners_key_message
from fallow.domain.errors import Conflict, NotAllowed, NotFound, TooMuch
from fallow.domain.identity import address_text, node_id, verify
from fallow.domain.views.keys import KeyView
from fallow.ports.database import Database
from fallow.ports.registry_store import KeyRow, RegistryStore

PROVIDE: Final = "provide"
KEYS_MAX: Final = 32
"""That an account may have at once: its machines make them, and nobody asks."""

_KEYS_READ: Final = 1000


class OwnersKeys:
    """Adds them."""

    def __init__(self, net: str, database: Database, store: RegistryStore) -> None:
        self._net = net
        self._database = database
        self._store = store

    async def add(self, request: calls.keys.OwnersKey) -> KeyView:
        """Let the account that a node earns for look on with a key that the node drew. The same again counts once.

        Raises:
            NotFound: there is no such node.
            NotAllowed: it has not signed that, it is banned, or the key was revoked.
            Conflict: the key's id is taken.
            TooMuch: the account has so many already.
        """
        node = node_id(request.node)
        message = owners_key_message(self._net, request.node, request.key_id, request.sha256)
        if not verify(node, message, bytes.fromhex(request.proof)):
            raise NotAllowed("owners_key.proof", "The request is not signed by the node that it names.")
        async with self._database.transaction() as tx:
            row = await self._store.node(tx, node)
            if row is None:
                raise NotFound("node.unknown", "This network has no such node.", "Join first: fallow agent join")
            if row.banned_reason:
                raise NotAllowed("node.banned", f"This node is banned: {row.banned_reason}.", "Ask the operator.")
            wanted = KeyRow(
                request.key_id, bytes.fromhex(request.sha256), row.account, (PROVIDE,), "of a machine", None
            )
            await self._store.hold(tx, row.account)
            there = await self._store.key(tx, request.key_id)
            if there is not None and there != wanted:
                raise Conflict("owners_key.taken", "The key's id is taken, or it was revoked.", "Make a new one.")
            if there is None:
                known = await self._store.keys_of(tx, row.account, "", _KEYS_READ)
                if sum(one.scopes == (PROVIDE,) and one.revoked_at is None for one in known) >= KEYS_MAX:
                    raise TooMuch("owners_key.many", f"The account has {KEYS_MAX} of them.", "Use one of those.")
                await self._store.add_key(tx, wanted)
        return KeyView(
            key_id=request.key_id,
            account=address_text(row.account),
            scopes=[PROVIDE],
            label=wanted.label,
            revoked_at=None,
        )
