"""The store of audits in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.views.audits import AuditView
from fallow.ports.audit_store import KEPT
from fallow.ports.database import Transaction


class MemoryAuditStore:
    """See `fallow.ports.audit_store.AuditStore`."""

    def __init__(self) -> None:
        self._kept: dict[int, AuditView] = {}

    async def add(self, tx: Transaction, audit: AuditView) -> None:
        """Keep one."""
        mine = memory_transaction(tx)
        mine.put(self._kept, max(self._kept, default=0) + 1, audit)
        for no in sorted(self._kept, key=lambda no: (self._kept[no].began_at, no))[:-KEPT]:
            mine.drop(self._kept, no)

    async def latest(self, tx: Transaction) -> AuditView | None:
        """The one that began last."""
        memory_transaction(tx)
        return max(self._kept.items(), key=lambda one: (one[1].began_at, one[0]))[1] if self._kept else None
