"""Where accounts are paid: their own signed word becomes a record, and is shown to everybody while it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.decisions import Decision
from fallow.domain.epochs.distributor import redirection_digest
from fallow.domain.epochs.quorum import Domain
from fallow.domain.errors import Conflict, NotAllowed, NotFound, TooMuch
from fallow.domain.facts import AccountPayout
from fallow.domain.identity import address, address_text
from fallow.domain.payees import WORDS_A_DAY, Payee, at, changed, payout_text, spaced
from fallow.domain.views.payouts import PayeeView, RedirectionView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.payees import PayeeStore
from fallow.ports.registry_store import RegistryStore
from fallow.ports.rpc import serve
from fallow.services.registry.custody import Custody

QUEUE = "registry"


class Payees:
    """Answers `registry.payout`, `payee` and `redirect`. Several copies may run: all state is in the stores.

    `domain` is the distributor's; None where the network has none.
    """

    def __init__(
        self,
        *,
        net: str,
        custody: Custody,
        bus: Bus,
        clock: Clock,
        database: Database,
        registry: RegistryStore,
        store: PayeeStore,
        decisions: DecisionStore,
        domain: Domain | None = None,
    ) -> None:
        self._net = net
        self._custody = custody
        self._bus = bus
        self._clock = clock
        self._database = database
        self._registry = registry
        self._store = store
        self._decisions = decisions
        self._domain = domain

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.payouts.PAYOUT, calls.payouts.Payout, self.payout, queue=QUEUE),
            serve(self._bus, calls.payouts.PAYEE, calls.base.AccountRef, self.payee, queue=QUEUE),
            serve(self._bus, calls.payouts.REDIRECT, calls.payouts.Redirect, self.redirect, queue=QUEUE),
        ):
            yield

    async def payout(self, request: calls.payouts.Payout) -> PayeeView:
        """Take an account's word. Without a signature the network signs for an account whose key it keeps.

        Raises:
            NotFound: nobody here has this account.
            NotAllowed: the account has not signed it, and keeps its own key.
            Conflict: it has signed as late or later before.
            TooMuch: it has said so many words today. What takes a change back that waits is none of them.
            InvalidInput: see `changed`.
        """
        account, to, now = address(request.account), address(request.to), self._clock.now_ms()
        async with self._database.transaction() as tx:
            before = await self._known(tx, account)
            signed_at_s, signature = request.signed_at_s, bytes.fromhex(request.signature)
            if not signature:
                signed_at_s = now // 1000
                signature = await self._signed(tx, account, to, signed_at_s)
            after = changed(before, self._net, to, signed_at_s, signature, now)
            spent_ms = await self._store.spent(tx, account)
            takes_back = at(before, now).pending and not after.pending
            then_ms = spent_ms if takes_back else _counted(spent_ms, now)
            if not await self._store.put(tx, after, spent_ms, then_ms):
                raise Conflict(
                    "payout.replayed", "The account has just signed something else.", "Look, and sign again."
                )
            body = AccountPayout(account=account, to=to, signed_at_s=signed_at_s, signature=signature)
            await self._decisions.add(tx, [Decision(now, body)])
        return _view(after)

    async def payee(self, request: calls.base.AccountRef) -> PayeeView:
        """Show to whom an account is paid, and from when on to whom else.

        Raises:
            NotFound: nobody here has this account.
        """
        async with self._database.transaction() as tx:
            known = await self._known(tx, address(request.account))
        return _view(at(known, self._clock.now_ms()))

    async def redirect(self, request: calls.payouts.Redirect) -> RedirectionView:
        """Sign for an account whose key the network keeps: its claims may be paid to whom its earnings go.

        Nobody else can be named, so that whoever has stolen an API key waits for the delay of `payout`, too.

        Raises:
            NotFound: nobody here has this account, or the network has no chain.
            NotAllowed: the account keeps its own key.
            Conflict: its earnings go to itself: nobody could send them on from there.
        """
        if self._domain is None:
            raise NotFound("claim.no_chain", "This network has no chain to claim on.")
        account, asked = address(request.account), request.redirection
        async with self._database.transaction() as tx:
            paid_to = at(await self._known(tx, account), self._clock.now_ms()).paid_to
            index = await self._index(tx, account)
        if paid_to == account:
            raise Conflict(
                "claim.no_payout",
                "The network keeps this account's key, and nobody said to whom its earnings go.",
                "Say so, fallow account payout ADDRESS --custodial, and claim when it holds.",
            )
        claims = bytes.fromhex(asked.claims)
        digest = redirection_digest(self._domain, account, paid_to, claims, asked.nonce, asked.deadline_s)
        signature = self._custody.sign_digest(index, digest)
        return RedirectionView(
            account=address_text(account), recipient=address_text(paid_to), signature=signature.hex()
        )

    async def _known(self, tx: Transaction, account: bytes) -> Payee:
        if not await self._registry.has_account(tx, account):
            hint = "It is known once a machine earns for it. Is it the right key, and the right network?"
            raise NotFound("account.unknown", f"Nobody here has the account {address_text(account)}.", hint)
        return await self._store.payee(tx, account) or Payee(account, account)

    async def _signed(self, tx: Transaction, account: bytes, to: bytes, signed_at_s: int) -> bytes:
        index = await self._index(tx, account)
        return self._custody.sign(index, payout_text(self._net, account, to, signed_at_s))

    async def _index(self, tx: Transaction, account: bytes) -> int:
        index = await self._registry.custody_index(tx, account)
        if index is None:
            raise NotAllowed("payout.own_key", "This account keeps its own key.", "Sign with it: --key FILE")
        return index


def _counted(spent_ms: int, now_ms: int) -> int:
    after = spaced(spent_ms, now_ms)
    if after is None:
        raise TooMuch(
            "payout.too_often",
            f"An account says at most {WORDS_A_DAY} times a day where its earnings go.",
            "Wait some hours. A change that waits is taken back at any time: name the address that is paid now.",
        )
    return after


def _view(payee: Payee) -> PayeeView:
    return PayeeView(
        account=address_text(payee.account),
        paid_to=address_text(payee.paid_to),
        pending=address_text(payee.pending) if payee.pending else "",
        effective_at=payee.effective_at,
    )
