"""Money and nodes, and what an operator's key may do."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator

from fallow.domain import calls
from fallow.domain.calls.actions import What
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.domain.views.audits import AuditBegunView, AuditView, LedgerCheckView
from fallow.domain.views.checks import EvidenceView, RerunView
from fallow.domain.views.keys import KeyView, TokenView
from fallow.domain.views.money import BalanceView, BudgetView, ReserveView, StatementLine
from fallow.domain.views.network import NetworkView
from fallow.domain.views.nodes import NodeView
from fallow.domain.views.payouts import PayeeView, RedirectionView, WithdrawalView
from fallow.domain.views.processes import BlobsView, MishapView
from fallow.sdk.paging import PAGE, paged
from fallow.sdk.wire import Wire, arguments

_KEY_ID = re.compile("[A-Za-z0-9_-]{1,100}")
_TOKEN_ID = re.compile("([0-9a-f]{2}){4,32}")


AUDIT_POLL_S = 1.0


def new_id() -> str:
    """Make an id for an order or a grant: 32 hex digits."""
    return secrets.token_hex(16)


class AccountCalls(Wire):
    """What a buyer asks about himself and the network, and the operator's calls."""

    async def network(self) -> NetworkView:
        """How to reach the network, and the key that signs for it."""
        return await self._call("GET", "/v1/network", NetworkView)

    async def nodes(self) -> list[NodeView]:
        """All nodes that offer something, and what."""
        return [node async for node in paged(self._nodes, lambda node: node.node)]

    async def _nodes(self, after: str | None) -> list[NodeView]:
        query = arguments(after=after, limit=PAGE)
        return await self._call("GET", "/v1/nodes", list[NodeView], query=query)

    async def balance(self) -> BalanceView:
        """Your credits by class, in micro-US-dollars."""
        return await self._call("GET", "/v1/account", BalanceView)

    async def statement(self, *, after: str | None = None, limit: int | None = None) -> list[StatementLine]:
        """A page of your account's movements, the oldest first; `after` is the last id seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", "/v1/account/statement", list[StatementLine], query=query)

    async def budget(self) -> BudgetView:
        """Your account's budget of this month, what was spent of it and what is reserved."""
        return await self._call("GET", "/v1/account/budget", BudgetView)

    async def set_budget(self, microusd: int | None) -> BudgetView:
        """Say what your account may spend in a calendar month (UTC), None for as much as it has. It holds at once.

        It takes an API key with the scope `withdraw`.
        """
        body = calls.money.MonthlyBudget(budget_microusd=microusd)
        return await self._call("PUT", "/v1/account/budget", BudgetView, body=body)

    async def payee(self, account: str) -> PayeeView:
        """To whom an account's earnings go, and what change of that waits."""
        return await self._call("GET", f"/v1/payouts/{_checked(account)}", PayeeView)

    async def change_payout(self, account: str, to: str, signed_at_s: int, signature: str) -> PayeeView:
        """Have the earnings of an account go elsewhere: by its signature over `fallow.domain.payees.payout_text`."""
        body = {"account": _checked(account), "to": _checked(to), "signed_at_s": signed_at_s, "signature": signature}
        return await self._call("POST", "/v1/payouts", PayeeView, body=body, again=False)

    async def change_own_payout(self, to: str) -> PayeeView:
        """Have the earnings of your API key's account go elsewhere, if the network keeps its key."""
        return await self._call("POST", "/v1/account/payout", PayeeView, body={"to": _checked(to)}, again=False)

    async def redirect_claims(self, claims: bytes, nonce: int, deadline_s: int) -> RedirectionView:
        """Have the network sign that claims of your API key's account are paid to whom its earnings go.

        `claims` is their hash, `nonce` the account's next one at the distributor.
        """
        body = {"claims": claims.hex(), "nonce": nonce, "deadline_s": deadline_s}
        return await self._call("POST", "/v1/account/redirections", RedirectionView, body=body)

    async def withdraw(self, to: str, amount_microusd: int, *, withdrawal_id: str = "") -> WithdrawalView:
        """Have paid credits owed to the account `to` in the settlement asset. The same `withdrawal_id` counts once."""
        body = {"id": withdrawal_id or new_id(), "to": _checked(to), "amount_microusd": amount_microusd}
        return await self._call("POST", "/v1/account/withdrawals", WithdrawalView, body=body)

    def all_movements(self, *, after: str = "") -> AsyncIterator[StatementLine]:
        """All your account's movements, the oldest first, page by page; `after` is the last id seen."""
        return paged(lambda last: self.statement(after=last, limit=PAGE), lambda line: line.id, after or None)

    async def create_token(self, *, uses: int = 1, valid_s: int = 86_400) -> calls.keys.Secret:
        """Operator: make a token that lets machines join. Each call makes another one."""
        body = {"uses": uses, "valid_s": valid_s}
        return await self._call("POST", "/v1/operator/tokens", calls.keys.Secret, body=body, again=False)

    async def create_key(
        self, *, account: str = "", scopes: tuple[str, ...] = ("buy",), label: str = ""
    ) -> calls.keys.Secret:
        """Operator: make an API key; without an account, for a new one. Each call makes another one."""
        body = {"account": account, "scopes": scopes, "label": label}
        return await self._call("POST", "/v1/operator/keys", calls.keys.Secret, body=body, again=False)

    async def revoke_key(self, key_id: str) -> None:
        """Operator: end an API key by its public part.

        Raises:
            InvalidInput: it is none.
            NotFound: there is no such key.
        """
        if not _KEY_ID.fullmatch(key_id):
            raise InvalidInput("key.id", f"{key_id[:80]!r} is no public part of an API key.", "It is in fk_PUBLIC_….")
        await self._call("DELETE", f"/v1/operator/keys/{key_id}", object)

    async def keys(self, *, after: str | None = None, limit: int | None = None) -> list[KeyView]:
        """Operator: API keys by their public part; `after` is the last one seen."""
        return await self._call("GET", "/v1/operator/keys", list[KeyView], query=arguments(after=after, limit=limit))

    async def tokens(self) -> list[TokenView]:
        """Operator: join tokens that still let machines in."""
        return await self._call("GET", "/v1/operator/tokens", list[TokenView])

    async def revoke_token(self, token_id: str) -> None:
        """Operator: end a join token, by the beginning of the SHA-256 that is kept of it.

        Raises:
            InvalidInput: it is none.
            NotFound: there is no such token.
        """
        if not _TOKEN_ID.fullmatch(token_id):
            raise InvalidInput("token.id", f"{token_id[:80]!r} names no join token.", "See: fallow token ls")
        await self._call("DELETE", f"/v1/operator/tokens/{token_id}", object)

    async def act(self, what: What, subject: str, reason: str, *, action_id: str = "") -> ActionView:
        """Operator: ban a node or an account, vouch for an account's owner, take that back, or erase an account.

        The same `action_id` counts once.
        """
        body = {"id": action_id or new_id(), "what": what, "subject": subject, "reason": reason}
        return await self._call("POST", "/v1/operator/actions", ActionView, body=body)

    async def actions(self, *, after: str | None = None, limit: int | None = None) -> list[ActionView]:
        """Operator: what was done to nodes and accounts, the latest first; `after` is the last id seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", "/v1/operator/actions", list[ActionView], query=query)

    def all_actions(self) -> AsyncIterator[ActionView]:
        """Operator: all of them, page by page."""
        return paged(lambda after: self.actions(after=after, limit=PAGE), lambda action: action.id)

    async def enrolled(self, *, after: str | None = None, limit: int | None = None) -> list[EnrolledView]:
        """Operator: enrolled nodes by id, also those that never offered anything; `after` is the last one seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", "/v1/operator/nodes", list[EnrolledView], query=query)

    async def bans(self, *, after: str | None = None, limit: int | None = None) -> list[BanView]:
        """Operator: nodes and accounts that are banned, with the reason; `after` is the last one seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", "/v1/operator/bans", list[BanView], query=query)

    def all_bans(self) -> AsyncIterator[BanView]:
        """Operator: all of them."""
        return paged(lambda after: self.bans(after=after, limit=PAGE), lambda one: one.subject)

    def all_enrolled(self) -> AsyncIterator[EnrolledView]:
        """Operator: all of them, page by page."""
        return paged(lambda after: self.enrolled(after=after, limit=PAGE), lambda node: node.node)

    async def grant(self, account: str, amount_microusd: int, *, grant_id: str | None = None) -> BalanceView:
        """Operator: give TEST credits. The same `grant_id` counts once."""
        body = {
            "id": grant_id or new_id(),
            "account": address_text(address(account)),
            "amount_microusd": amount_microusd,
        }
        return await self._call("POST", "/v1/operator/credits", BalanceView, body=body)

    async def ledger_check(self) -> LedgerCheckView:
        """Operator: add the whole ledger up."""
        return await self._call("GET", "/v1/operator/ledger-check", LedgerCheckView)

    async def begin_audit(self) -> AuditBegunView:
        """Operator: have the ledger held against the archive and the chain; `audits` shows when it is over."""
        return await self._call("POST", "/v1/operator/audits", AuditBegunView)

    async def audits(self) -> list[AuditView]:
        """Operator: what the latest audit that is over has found; none right after the network's first start."""
        return await self._call("GET", "/v1/operator/audits", list[AuditView])

    async def audit(self) -> AuditView:
        """Operator: have the ledger audited, and wait until that is over."""
        asked = await self.begin_audit()
        while True:
            found = await self.audits()
            if found and found[0].began_at >= asked.asked_at:
                return found[0]
            await self._patience.sleep(AUDIT_POLL_S)

    async def reserve(self) -> ReserveView:
        """Operator: what is in the reserve, and what it was used for."""
        return await self._call("GET", "/v1/operator/reserve", ReserveView)

    async def reruns(self, *, limit: int | None = None) -> list[RerunView]:
        """Operator: what running items again has shown where nobody compares, the latest first."""
        return await self._call("GET", "/v1/operator/reruns", list[RerunView], query=arguments(limit=limit))

    async def blobs(self) -> BlobsView:
        """Operator: what the gateway keeps, and what it last removed because nobody needs it."""
        return await self._call("GET", "/v1/operator/blobs", BlobsView)

    async def health(self) -> list[MishapView]:
        """Operator: what failed unexpectedly in the network's processes since they started."""
        return await self._call("GET", "/v1/operator/health", list[MishapView])

    async def evidence(self, *, after: str | None = None, limit: int | None = None) -> list[EvidenceView]:
        """Operator: refused work and why, the latest first; `after` is the lease of the last one seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", "/v1/operator/evidence", list[EvidenceView], query=query)

    async def balance_of(self, account: str) -> BalanceView:
        """Operator: any account's credits."""
        return await self._call("GET", f"/v1/operator/accounts/{_checked(account)}/balance", BalanceView)


def _checked(account: str) -> str:
    return address_text(address(account))
