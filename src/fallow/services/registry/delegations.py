"""Keys that sign for buyers, what they ordered, and what they say that they got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.delegations import (
    Delegation,
    check_signed,
    consent_message,
    delegation_text,
    order_message,
    receipts_message,
)
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound, TooMuch
from fallow.domain.identity import address, address_text, verify
from fallow.domain.views.keys import DelegationView
from fallow.domain.wallets import signer_of
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.delegations import DelegationStore, OrderSignature, ReceiptRow
from fallow.ports.registry_store import RegistryStore
from fallow.ports.rpc import Empty, serve
from fallow.services.registry.custody import Custody

QUEUE = "registry"
KEYS_MAX = 100
"""Keys that one account has delegated to at a time."""


class Delegations:
    """Answers `registry.delegations.*`. Several copies may run: all state is in the stores."""

    def __init__(
        self,
        *,
        net: str,
        custody: Custody,
        bus: Bus,
        clock: Clock,
        database: Database,
        registry: RegistryStore,
        store: DelegationStore,
    ) -> None:
        self._net = net
        self._custody = custody
        self._bus = bus
        self._clock = clock
        self._database = database
        self._registry = registry
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        bus = self._bus
        async with (
            serve(bus, calls.delegations.DELEGATE, calls.delegations.Delegate, self.delegate, queue=QUEUE),
            serve(bus, calls.delegations.DELEGATIONS, calls.base.AccountRef, self.delegations, queue=QUEUE),
            serve(bus, calls.delegations.REVOKE_DELEGATION, calls.delegations.DelegationRef, self.revoke, queue=QUEUE),
            serve(bus, calls.delegations.SIGN_ORDER, calls.delegations.SignOrder, self.sign_order, queue=QUEUE),
            serve(bus, calls.delegations.COUNTERSIGN, calls.delegations.Countersign, self.countersign, queue=QUEUE),
            serve(bus, calls.delegations.MUTUAL, calls.delegations.MutualRef, self.mutual, queue=QUEUE),
        ):
            yield

    async def delegate(self, request: calls.delegations.Delegate) -> DelegationView:
        """Let a key sign for an account. The same key again gets the same answer, whatever time it asks for.

        Raises:
            NotAllowed: the key has not signed that it wants to, or the account not that it shall.
            Conflict: it signs for another account, or the account keeps its own key and has signed nothing.
            InvalidInput: the account has signed for a time that is over, or too far ahead.
            TooMuch: the account has all the keys that it may have.
        """
        account, key, now = address(request.account), bytes.fromhex(request.key), self._clock.now_ms()
        if not verify(key, consent_message(self._net, account, key), bytes.fromhex(request.proof)):
            raise NotAllowed("delegation.proof", "The request is not signed by the key that it names.")
        async with self._database.transaction() as tx:
            known = await self._store.delegation(tx, key)
            if known is None:
                known = await self._signed(tx, request, account, key, now)
                await self._store.add_delegation(tx, known)
        if known.account != account:
            raise Conflict("delegation.other_account", "This key signs for another account.", "Make another key.")
        return _view(known)

    async def delegations(self, request: calls.base.AccountRef) -> list[DelegationView]:
        """Show the keys that sign for an account, the latest first."""
        async with self._database.transaction() as tx:
            found = await self._store.delegations(tx, address(request.account), request.limit)
        return [_view(delegation) for delegation in found]

    async def revoke(self, request: calls.delegations.DelegationRef) -> DelegationView:
        """End a delegation. What was signed until then stays signed.

        Raises:
            NotFound: the account has not delegated to this key.
        """
        account, key = address(request.account), bytes.fromhex(request.key)
        async with self._database.transaction() as tx:
            known = await self._store.delegation(tx, key)
            if known is None or known.account != account:
                raise NotFound("delegation.unknown", "The account has not delegated to this key.")
            await self._store.revoke(tx, key, self._clock.now_ms())
            ended = await self._store.delegation(tx, key)
        return _view(ended or known)

    async def sign_order(self, request: calls.delegations.SignOrder) -> Empty:
        """Check and keep the signature of an order, with the exact bytes that it is over.

        Raises:
            NotAllowed: see `check_signed`.
            Conflict: the account has signed other bytes under this order's id.
        """
        account, key, signature = address(request.account), bytes.fromhex(request.key), bytes.fromhex(request.signature)
        row = OrderSignature(account, request.order, key, signature, request.body)
        async with self._database.transaction() as tx:
            delegation = await self._store.delegation(tx, key)
            check_signed(
                delegation, account, order_message(self._net, account, request.body), signature, self._clock.now_ms()
            )
            if (await self._store.add_order(tx, row)).body != request.body:
                raise Conflict("order.signed_otherwise", "Another order was signed under this id.", "Make a new id.")
        return {}

    async def countersign(self, request: calls.delegations.Countersign) -> Empty:
        """Keep a buyer's receipts. The gateway has found that they say what the market says.

        Raises:
            NotAllowed: see `check_signed`.
        """
        account, key, signature = address(request.account), bytes.fromhex(request.key), bytes.fromhex(request.signature)
        message = receipts_message(self._net, account, request.job, request.receipts)
        async with self._database.transaction() as tx:
            check_signed(await self._store.delegation(tx, key), account, message, signature, self._clock.now_ms())
            leaves = [receipt.leaf(request.job) for receipt in request.receipts]
            rows = [
                ReceiptRow(bytes.fromhex(receipt.lease), account, key, signature, leaves, place)
                for place, receipt in enumerate(request.receipts)
            ]
            await self._store.add_receipts(tx, rows)
        return {}

    async def mutual(self, request: calls.delegations.MutualRef) -> list[str]:
        """Say which of these leases have a receipt of their buyer's."""
        async with self._database.transaction() as tx:
            found = await self._store.mutual(tx, [bytes.fromhex(lease) for lease in request.leases])
        return sorted(lease.hex() for lease in found)

    async def _signed(
        self, tx: Transaction, request: calls.delegations.Delegate, account: bytes, key: bytes, now: int
    ) -> Delegation:
        if await self._store.live(tx, account, now) >= KEYS_MAX:
            raise TooMuch(
                "delegation.keys", f"{KEYS_MAX} keys sign for this account.", "Revoke some: fallow key signing ls"
            )
        if request.account_signature:
            expires_at, signature = request.expires_s * 1000, bytes.fromhex(request.account_signature)
            self._check_own(account, key, now, expires_at, signature)
        else:
            expires_at = now + request.valid_s * 1000
            signature = await self._by_custody(tx, account, delegation_text(self._net, account, key, expires_at))
        return Delegation(account=account, key=key, issued_at=now, expires_at=expires_at, signature=signature)

    def _check_own(self, account: bytes, key: bytes, now: int, expires_at: int, signature: bytes) -> None:
        if not now < expires_at <= now + calls.delegations.DELEGATION_S_MAX * 1000:
            raise InvalidInput("delegation.time", "The account has signed for a time that is over, or too far ahead.")
        if signer_of(delegation_text(self._net, account, key, expires_at), signature) != account:
            raise NotAllowed("delegation.account_signature", "The account has not signed that this key signs for it.")

    async def _by_custody(self, tx: Transaction, account: bytes, text: str) -> bytes:
        index = await self._registry.custody_index(tx, account)
        if index is None:
            raise Conflict(
                "delegation.account",
                "The account keeps its own key; the network cannot sign for it.",
                "Sign with it: fallow login URL KEY --account-key FILE",
            )
        return self._custody.sign(index, text)


def _view(delegation: Delegation) -> DelegationView:
    return DelegationView(
        account=address_text(delegation.account),
        key=delegation.key.hex(),
        issued_at=delegation.issued_at,
        expires_at=delegation.expires_at,
        revoked_at=delegation.revoked_at,
        account_signature=delegation.signature.hex(),
    )
