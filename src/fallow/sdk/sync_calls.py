"""The plain calls of the API for code without asyncio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from fallow.domain.calls import Secret
from fallow.domain.orders import Order
from fallow.domain.views import (
    ActionView,
    BalanceView,
    DrawView,
    EnrolledView,
    EvidenceView,
    ItemView,
    JobView,
    LeaseView,
    LedgerCheckView,
    NetworkView,
    NodeView,
    QuoteView,
    SeedView,
    StatementLine,
)
from fallow.sdk.bills import Bill
from fallow.sdk.checks import DrawsReport
from fallow.sdk.client import AsyncClient
from fallow.sdk.jobs import Event
from fallow.sdk.loop import Loop


class SyncAccountCalls:
    """`AccountCalls`, waited for."""

    _client: AsyncClient
    _loop: Loop

    def network(self) -> NetworkView:
        """See `AsyncClient.network`."""
        return self._loop.run(self._client.network())

    def nodes(self) -> list[NodeView]:
        """See `AsyncClient.nodes`."""
        return self._loop.run(self._client.nodes())

    def balance(self) -> BalanceView:
        """See `AsyncClient.balance`."""
        return self._loop.run(self._client.balance())

    def statement(self, *, after: str | None = None, limit: int | None = None) -> list[StatementLine]:
        """See `AsyncClient.statement`."""
        return self._loop.run(self._client.statement(after=after, limit=limit))

    def create_token(self, *, uses: int = 1, valid_s: int = 86_400) -> Secret:
        """See `AsyncClient.create_token`."""
        return self._loop.run(self._client.create_token(uses=uses, valid_s=valid_s))

    def create_key(self, *, account: str = "", scopes: tuple[str, ...] = ("buy",), label: str = "") -> Secret:
        """See `AsyncClient.create_key`."""
        return self._loop.run(self._client.create_key(account=account, scopes=scopes, label=label))

    def revoke_key(self, key_id: str) -> None:
        """See `AsyncClient.revoke_key`."""
        self._loop.run(self._client.revoke_key(key_id))

    def act(self, what: Literal["ban", "unban"], subject: str, reason: str, *, action_id: str = "") -> ActionView:
        """See `AsyncClient.act`."""
        return self._loop.run(self._client.act(what, subject, reason, action_id=action_id))

    def actions(self, *, after: str | None = None, limit: int | None = None) -> list[ActionView]:
        """See `AsyncClient.actions`."""
        return self._loop.run(self._client.actions(after=after, limit=limit))

    def enrolled(self, *, after: str | None = None, limit: int | None = None) -> list[EnrolledView]:
        """See `AsyncClient.enrolled`."""
        return self._loop.run(self._client.enrolled(after=after, limit=limit))

    def all_enrolled(self) -> Iterator[EnrolledView]:
        """See `AsyncClient.all_enrolled`."""
        return self._loop.each(self._client.all_enrolled())

    def grant(self, account: str, amount_microusd: int, *, grant_id: str | None = None) -> BalanceView:
        """See `AsyncClient.grant`."""
        return self._loop.run(self._client.grant(account, amount_microusd, grant_id=grant_id))

    def ledger_check(self) -> LedgerCheckView:
        """See `AsyncClient.ledger_check`."""
        return self._loop.run(self._client.ledger_check())

    def evidence(self) -> list[EvidenceView]:
        """See `AsyncClient.evidence`."""
        return self._loop.run(self._client.evidence())

    def balance_of(self, account: str) -> BalanceView:
        """See `AsyncClient.balance_of`."""
        return self._loop.run(self._client.balance_of(account))


class SyncCheckCalls:
    """`CheckCalls`, waited for."""

    _client: AsyncClient
    _loop: Loop

    def seeds(self) -> list[SeedView]:
        """See `AsyncClient.seeds`."""
        return self._loop.run(self._client.seeds())

    def draws(self, number: int) -> Iterator[DrawView]:
        """See `AsyncClient.draws`."""
        return self._loop.each(self._client.draws(number))

    def plant(self, order: Order) -> JobView:
        """See `AsyncClient.plant`."""
        return self._loop.run(self._client.plant(order))

    def verify_draws(self, number: int, *, kept: str = "") -> DrawsReport:
        """See `AsyncClient.verify_draws`."""
        return self._loop.run(self._client.verify_draws(number, kept=kept))


class SyncJobCalls:
    """`JobCalls`, waited for."""

    _client: AsyncClient
    _loop: Loop

    def quote(self, order: Order) -> QuoteView:
        """See `AsyncClient.quote`."""
        return self._loop.run(self._client.quote(order))

    def submit(self, order: Order, *, secrets: Mapping[str, str] | None = None) -> JobView:
        """See `AsyncClient.submit`."""
        return self._loop.run(self._client.submit(order, secrets=secrets))

    def job(self, job_id: str) -> JobView:
        """See `AsyncClient.job`."""
        return self._loop.run(self._client.job(job_id))

    def jobs(self, *, after: str | None = None, limit: int | None = None) -> list[JobView]:
        """See `AsyncClient.jobs`."""
        return self._loop.run(self._client.jobs(after=after, limit=limit))

    def all_jobs(self) -> Iterator[JobView]:
        """See `AsyncClient.all_jobs`."""
        return self._loop.each(self._client.all_jobs())

    def order(self, job_id: str) -> Order:
        """See `AsyncClient.order`."""
        return self._loop.run(self._client.order(job_id))

    def rerun(self, job_id: str, *, failed: bool = False) -> JobView:
        """See `AsyncClient.rerun`."""
        return self._loop.run(self._client.rerun(job_id, failed=failed))

    def all_leases(self, job_id: str) -> Iterator[LeaseView]:
        """See `AsyncClient.all_leases`."""
        return self._loop.each(self._client.all_leases(job_id))

    def bill(self, job_id: str | None = None, *, since_ms: int = 0) -> Bill:
        """See `AsyncClient.bill`."""
        return self._loop.run(self._client.bill(job_id, since_ms=since_ms))

    def job_evidence(self, job_id: str, *, limit: int | None = None) -> list[EvidenceView]:
        """See `AsyncClient.job_evidence`."""
        return self._loop.run(self._client.job_evidence(job_id, limit=limit))

    def items(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> list[ItemView]:
        """See `AsyncClient.items`."""
        return self._loop.run(self._client.items(job_id, after=after, limit=limit))

    def all_items(self, job_id: str) -> Iterator[ItemView]:
        """See `AsyncClient.all_items`."""
        return self._loop.each(self._client.all_items(job_id))

    def leases(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> list[LeaseView]:
        """See `AsyncClient.leases`."""
        return self._loop.run(self._client.leases(job_id, after=after, limit=limit))

    def cancel(self, job_id: str) -> JobView:
        """See `AsyncClient.cancel`."""
        return self._loop.run(self._client.cancel(job_id))

    def events(self, job_id: str) -> Iterator[Event]:
        """See `AsyncClient.events`."""
        return self._loop.each(self._client.events(job_id))

    def wait(self, job_id: str) -> JobView:
        """See `AsyncClient.wait`."""
        return self._loop.run(self._client.wait(job_id))
