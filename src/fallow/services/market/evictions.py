"""How often orders on demand may end spot leases: whoever has room made and does not use it is soon made none.

To end a spot lease costs others their work since the last checkpoint, and who has it ended nothing: he can cancel
before he has paid for a second. So an account may have `EVICTIONS_MAX` spot leases ended in an hour that it has not
made up for, and it makes up for one with each minute of use on demand. The count is in memory: a market that starts
anew begins it anew.
"""

from __future__ import annotations

from collections import deque

from fallow.domain.leases import Lease, LeaseState

EVICTIONS_MAX = 32
USE_MS = 60_000
"""So much use on demand makes up for one spot lease that was ended."""

FORGET_MS = 3_600_000


class Evictions:
    """By account: when spot leases were ended for it that it has not made up for, the oldest first."""

    def __init__(self) -> None:
        self._due: dict[bytes, deque[int]] = {}
        self._used_ms: dict[bytes, int] = {}
        self._running: set[bytes] = set()
        """Open leases whose first minute counted."""

    def may(self, account: bytes, now: int) -> bool:
        """Whether spot leases may be ended for an order of this account."""
        due = self._due.get(account, deque())
        while due and now - due[0] >= FORGET_MS:
            due.popleft()
        if not due:
            self._due.pop(account, None)
            self._used_ms.pop(account, None)
        return len(due) < EVICTIONS_MAX

    def note(self, account: bytes, ended: int, now: int) -> None:
        """So many spot leases were told to end for it."""
        if ended:
            self._due.setdefault(account, deque()).extend([now] * ended)

    def runs(self, account: bytes, lease: Lease, now: int) -> None:
        """A lease of the account goes on: its first minute counts before it is over."""
        if account not in self._due or lease.spot or lease.state is not LeaseState.RUNNING or lease.started_at is None:
            return
        if now - lease.started_at >= USE_MS and lease.id not in self._running:
            self._running.add(lease.id)
            self._use(account, USE_MS)

    def over(self, account: bytes, lease: Lease) -> None:
        """A lease of the account ended: what it was used counts."""
        counted_ms = USE_MS if lease.id in self._running else 0
        self._running.discard(lease.id)
        if account in self._due and not lease.spot:
            self._use(account, max(0, lease.used_ms - counted_ms))

    def _use(self, account: bytes, used_ms: int) -> None:
        made_up, self._used_ms[account] = divmod(self._used_ms.get(account, 0) + used_ms, USE_MS)
        due = self._due[account]
        for _ in range(min(made_up, len(due))):
            due.popleft()
