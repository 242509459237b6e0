"""Who takes part: accounts, nodes, API keys, join tokens."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from fallow.domain import calls
from fallow.domain.api_keys import KEY_ID_BYTES, new_key, read_key
from fallow.domain.bindings import BindingCode, binding_text, read_code
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.domain.identity import address, address_text, node_id, verify
from fallow.domain.networks import network_of
from fallow.domain.views.keys import KeyView, TokenView
from fallow.domain.wallets import signer_of
from fallow.ports.acting import action_of, note
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.registry_store import KeyRow, NodeRow, RegistryStore
from fallow.ports.rpc import Empty, serve
from fallow.services.registry.custody import Custody
from fallow.services.registry.owners_keys import OwnersKeys
from fallow.services.registry.secrets_format import SECRET_BYTES, new_token, token_digest

SCOPES = frozenset({"buy", "operate", "provide", "view", "withdraw"})
TOKEN_DIGITS = 16
"""Of the SHA-256 that is kept of a join token, so many digits name it."""

TOKENS_SHOWN = 1000
TUNNEL_MS = 60_000
"""So long it is known where a client comes from that a gateway carries: it answers the bus within seconds."""


class Registry:
    """Answers `registry.*`. Several copies may run: all state is in the store.

    `pin` names the network's own certificate authority, if it has one; join tokens carry it.
    """

    def __init__(
        self,
        *,
        net: str,
        custody: Custody,
        random_bytes: Callable[[int], bytes],
        bus: Bus,
        clock: Clock,
        database: Database,
        store: RegistryStore,
        pin: str = "",
    ) -> None:
        self._net = net
        self._custody = custody
        self._random_bytes = random_bytes
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._pin = pin
        self._owners_keys = OwnersKeys(self._net, database, store)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.keys.CHECK_KEY, calls.keys.CheckKey, self.check_key, queue="registry"),
            serve(self._bus, calls.keys.SIGNING_SECRET, calls.keys.KeyRef, self.signing_secret, queue="registry"),
            serve(self._bus, calls.nodes.MAY_CONNECT, calls.base.NodeRef, self._may_connect, queue="registry"),
            serve(self._bus, calls.streams.TUNNEL, calls.streams.Tunnel, self.tunnel, queue="registry"),
            serve(self._bus, calls.nodes.JOIN, calls.nodes.Join, self.join, queue="registry"),
            serve(self._bus, calls.keys.CREATE_TOKEN, calls.keys.MakeToken, self.create_token, queue="registry"),
            serve(self._bus, calls.keys.CREATE_KEY, calls.keys.MakeKey, self.create_key, queue="registry"),
            serve(self._bus, calls.keys.OWNERS_KEY, calls.keys.OwnersKey, self._owners_keys.add, queue="registry"),
            serve(self._bus, calls.keys.KNOWN_ACCOUNT, calls.base.AccountRef, self.known_account, queue="registry"),
            serve(self._bus, calls.keys.REVOKE_KEY, calls.keys.RevokeKey, self.revoke_key, queue="registry"),
            serve(self._bus, calls.keys.KEYS, calls.base.Page, self.keys, queue="registry"),
            serve(self._bus, calls.keys.OWN_KEYS, calls.base.AccountRef, self.own_keys, queue="registry"),
            serve(self._bus, calls.keys.TOKENS, Empty, self.tokens, queue="registry"),
            serve(self._bus, calls.keys.REVOKE_TOKEN, calls.keys.RevokeToken, self.revoke_token, queue="registry"),
        ):
            yield

    async def may_connect(self, node: bytes) -> bool:
        """Whether a node is enrolled and not banned."""
        async with self._database.transaction() as tx:
            row = await self._store.node(tx, node)
        return row is not None and not row.banned_reason

    async def connects(self, node: bytes, nonce: str, address: str) -> bool:
        """Whether a node may connect; if so, from which network it does is kept, and told to who wants to know.

        `address` is where the bus sees it, and `nonce` what the bus greeted it with: where a gateway carries it, it
        comes from where the gateway said.
        """
        async with self._database.transaction() as tx:
            row = await self._store.node(tx, node)
            if row is None or row.banned_reason:
                return False
            carried = await self._store.tunnel(tx, nonce)
            network = network_of(address) if carried is None else carried
            moved = await self._store.observe(tx, node, network, self._clock.now_ms())
        if moved:
            observed = calls.nodes.Observed(node=node.hex(), network=network)
            with suppress(Unavailable):  # then it is read at the market's next start
                await self._bus.publish(calls.nodes.OBSERVED, msgspec.msgpack.encode(observed))
        return True

    async def tunnel(self, request: calls.streams.Tunnel) -> Empty:
        """Take note of where a client comes from that a gateway carries to the bus: any copy may be asked about it."""
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            await self._store.add_tunnel(tx, request.nonce, network_of(request.address), now, now - TUNNEL_MS)
        return {}

    async def check_key(self, request: calls.keys.CheckKey) -> calls.keys.KeyInfo:
        """Say whose key it is.

        Raises:
            NotAllowed: unknown, forged or revoked, the answer does not tell which (`auth.key`); or its account is
                banned (`account.banned`).
        """
        key = read_key(request.key)
        return await self._info(key.key_id, key.digest)

    async def signing_secret(self, request: calls.keys.KeyRef) -> calls.keys.SigningSecret:
        """Say whose key it is, by its public part, and what its holder signs with: for gateways that check signatures.

        Raises:
            NotAllowed: as `check_key`.
        """
        info = await self._info(request.key_id, None)
        return calls.keys.SigningSecret(info=info, secret=self._custody.signing_secret(info.key_id))

    async def _info(self, key_id: str, digest: bytes | None) -> calls.keys.KeyInfo:
        async with self._database.transaction() as tx:
            row = await self._store.key(tx, key_id)
            reason = await self._store.ban_reason(tx, row.account) if row else ""
        right = row is not None and (digest is None or hmac.compare_digest(row.digest, digest))
        if row is None or not right or row.revoked_at is not None:
            raise NotAllowed("auth.key", "This API key is not valid.", "Ask the network's operator for one.")
        if reason:
            raise NotAllowed("account.banned", f"This account is banned: {reason}.", "Ask the network's operator.")
        return calls.keys.KeyInfo(key_id=row.key_id, account=address_text(row.account), scopes=list(row.scopes))

    async def create_key(self, request: calls.keys.MakeKey) -> calls.keys.Secret:
        """Make an API key, and an account for it where none is given.

        Raises:
            InvalidInput: it names no scope, or one that there is not.
            NotFound: nobody here has the account.
        """
        if not request.scopes or not set(request.scopes) <= SCOPES:
            raise InvalidInput("auth.scopes", f"Scopes are some of {', '.join(sorted(SCOPES))}.")
        key = new_key(self._random_bytes(KEY_ID_BYTES), self._random_bytes(SECRET_BYTES))
        async with self._database.transaction() as tx:
            owner = await self._account(tx, request.account)
            await self._store.add_key(
                tx, KeyRow(key.key_id, key.digest, owner, tuple(sorted(request.scopes)), request.label, None)
            )
            await self._note(tx, request.by, "key.make", key.key_id, owner)
        return calls.keys.Secret(secret=key.text, account=address_text(owner))

    async def known_account(self, request: calls.base.AccountRef) -> Empty:
        """Say that there is such an account.

        Raises:
            NotFound: there is none.
        """
        async with self._database.transaction() as tx:
            if not await self._store.has_account(tx, address(request.account)):
                raise _unknown(request.account)
        return {}

    async def revoke_key(self, request: calls.keys.RevokeKey) -> Empty:
        """End an API key.

        Raises:
            NotFound: there is none, or it is not of the account that asks.
        """
        missing = NotFound("auth.no_such_key", f"There is no API key {request.key_id}.")
        async with self._database.transaction() as tx:
            row = await self._store.key(tx, request.key_id)
            if row is None or (request.account and row.account != address(request.account)):
                raise missing
            await self._note(tx, request.by, "key.revoke", request.key_id, row.account)
            if not await self._store.revoke_key(tx, request.key_id, self._clock.now_ms()):
                raise missing
        return {}

    async def create_token(self, request: calls.keys.MakeToken) -> calls.keys.Secret:
        """Make a join token."""
        token = new_token(self._random_bytes(SECRET_BYTES), self._pin)
        expires_at = self._clock.now_ms() + request.valid_s * 1000
        digest = token_digest(token.text)
        async with self._database.transaction() as tx:
            await self._store.add_token(tx, digest, request.uses, expires_at)
            await self._note(tx, request.by, "token.make", digest.hex()[:TOKEN_DIGITS])
        return calls.keys.Secret(secret=token.text)

    async def _note(
        self, tx: Transaction, by: calls.base.Person | None, what: str, about: str, subject: bytes = b""
    ) -> None:
        """Log what an operator does: not what the network does for itself, or a buyer with what is his."""
        if by is not None:
            now = self._clock.now_ms()
            await note(self._store, tx, action_of(by, what, now, once=f"{about} {now}", subject=subject, about=about))

    async def keys(self, request: calls.base.Page) -> list[KeyView]:
        """Show API keys by their public part, those that were revoked too."""
        async with self._database.transaction() as tx:
            return [_shown(row) for row in await self._store.keys(tx, request.after, request.limit)]

    async def own_keys(self, request: calls.base.AccountRef) -> list[KeyView]:
        """Show the API keys of one account, in the same way."""
        async with self._database.transaction() as tx:
            rows = await self._store.keys_of(tx, address(request.account), request.after, request.limit)
        return [_shown(row) for row in rows]

    async def tokens(self, _: Empty) -> list[TokenView]:
        """Show the join tokens that still let machines in, those that end last first."""
        async with self._database.transaction() as tx:
            rows = await self._store.tokens(tx, self._clock.now_ms(), TOKENS_SHOWN)
        return [
            TokenView(token_id=row.digest.hex()[:TOKEN_DIGITS], uses_left=row.uses_left, expires_at=row.expires_at)
            for row in rows
        ]

    async def revoke_token(self, request: calls.keys.RevokeToken) -> Empty:
        """End a join token; machines that joined with it stay.

        Raises:
            NotFound: there is no such token.
        """
        async with self._database.transaction() as tx:
            if not await self._store.revoke_token(tx, bytes.fromhex(request.token_id)):
                raise NotFound("join.no_such_token", f"There is no join token {request.token_id}.", "fallow token ls")
            await self._note(tx, request.by, "token.revoke", request.token_id)
        return {}

    async def join(self, request: calls.nodes.Join) -> calls.nodes.Joined:
        """Enrol a node. A node that is enrolled already gets the same answer again, without using the token.

        Raises:
            NotAllowed: the proof, the token or the account's code does not hold.
            Conflict: the node is banned, or belongs to another account.
        """
        node = node_id(request.node)
        message = calls.nodes.join_message(request.token, request.node, request.account)
        if not verify(node, message, bytes.fromhex(request.proof)):
            raise NotAllowed("join.proof", "The request is not signed by the node that it names.")
        code = open_code(self._net, node, request.account) if request.account else None
        async with self._database.transaction() as tx:
            known = await self._store.node(tx, node)
            owner = known.account if known else await self._enrol(tx, node, request, code)
            index = await self._store.custody_index(tx, owner)
        if known and known.banned_reason:
            raise Conflict("join.banned", f"This node is banned: {known.banned_reason}.", "Ask the operator.")
        if code is not None and code.account != owner:
            raise Conflict("join.other_account", "This node belongs to another account already.", "Ask the operator.")
        signature = self._signature(node, owner, index, code)
        return calls.nodes.Joined(net=self._net, account=address_text(owner), account_signature=signature.hex())

    def _signature(self, node: bytes, owner: bytes, index: int | None, code: BindingCode | None) -> bytes:
        """Return the account's half of the binding."""
        if code is not None:
            return code.signature
        if index is None:
            raise Conflict(
                "join.account",
                "The account keeps its own key and has not signed for this node.",
                "Join with the code that its holder gave: --account CODE",
            )
        return self._custody.sign(index, binding_text(self._net, node, owner))

    async def _may_connect(self, request: calls.base.NodeRef) -> bool:
        return await self.may_connect(node_id(request.node))

    async def _enrol(self, tx: Transaction, node: bytes, request: calls.nodes.Join, code: BindingCode | None) -> bytes:
        now = self._clock.now_ms()
        if code is not None and code.before_s * 1000 <= now:
            raise NotAllowed("join.code_expired", "The account's code has expired.", "Ask its holder for a new one.")
        problem = await self._store.use_token(tx, token_digest(request.token), now)
        if problem:
            said = "used up, or its operator ended it" if problem == "used_up" else problem
            raise NotAllowed(
                f"join.token_{problem}",
                f"The join token is {said}.",
                "Ask the operator for a new one: fallow token new",
            )
        owner = await self._account(tx, "") if code is None else await self._own_key(tx, code.account)
        await self._store.add_node(tx, NodeRow(node, owner, request.label, now, ""))
        return owner

    async def _own_key(self, tx: Transaction, owner: bytes) -> bytes:
        """Take note of an account that keeps its own key."""
        if not await self._store.has_account(tx, owner):
            await self._store.add_account(tx, owner, None, self._clock.now_ms())
        return owner

    async def _account(self, tx: Transaction, text: str) -> bytes:
        """Return the account that `text` names, or a new custodial one."""
        if text:
            owner: bytes = address(text)
            if not await self._store.has_account(tx, owner):
                raise _unknown(text)
            return owner
        index = await self._store.next_custody_index(tx)
        owner = self._custody.address(index)
        await self._store.add_account(tx, owner, index, self._clock.now_ms())
        return owner


def open_code(net: str, node: bytes, text: str) -> BindingCode:
    """Read an account's code for this very node in this network.

    Raises:
        InvalidInput: it is none.
        NotAllowed: the account has not signed that (`join.account_signature`).
    """
    code = read_code(text)
    if signer_of(binding_text(net, node, code.account, code.before_s), code.signature) != code.account:
        raise NotAllowed(
            "join.account_signature",
            "The account's code is not for this node in this network, or its account did not sign it.",
            f"Ask its holder for: fallow account bind {node.hex()} --net {net}",
        )
    return code


def _shown(row: KeyRow) -> KeyView:
    return KeyView(
        key_id=row.key_id,
        account=address_text(row.account),
        scopes=list(row.scopes),
        label=row.label,
        revoked_at=row.revoked_at,
    )


def _unknown(account: str) -> NotFound:
    return NotFound("account.unknown", f"There is no account {account} here.", "Look at the address again.")
