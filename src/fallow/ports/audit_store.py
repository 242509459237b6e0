"""What audits have found."""

from __future__ import annotations

from typing import Protocol

from fallow.domain.views.audits import AuditView
from fallow.ports.database import Transaction

KEPT = 30
"""So many audits stay."""


class AuditStore(Protocol):
    """The latest audits, by when they began."""

    async def add(self, tx: Transaction, audit: AuditView) -> None:
        """Keep one; the latest `KEPT` stay."""
        ...

    async def latest(self, tx: Transaction) -> AuditView | None:
        """The one that began last, of those that are over."""
        ...
