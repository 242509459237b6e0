"""Which record is it that a round fails of, or which lease? What to do after a bug, so that none stops the market.

A round that a bug ends is thrown away. Were the same records read again at once, it would end in the same way, for
ever. So the rounds after it read no record at all first, to see that nothing else is the matter; then one, then with
each round twice as many. A record that fails although it was alone is set aside.

Where the bug is in a lease's money, the lease is known at once: it is ended, and what it holds given back. Where that
fails as well, its money stays where it is, and the market goes on without it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fallow.domain.leases import Lease
from fallow.ports.market_store import Cursor

AT_ONCE_MAX: Final = 1024
"""After a round of so many records went well they are read as always."""


class Care:
    """How many records the next round may read, and which one is to be set aside."""

    def __init__(self) -> None:
        self.records_max: int | None = None
        """None where nothing failed."""
        self.suspect: Cursor | None = None
        """What comes next in the log there failed alone."""
        self.ends_lease = True
        """Whether its lease is ended with it; not when that has failed, too."""
        self.error: Exception | None = None
        """How the last round failed."""
        self.lease: Lease | None = None
        """It is to be ended, for its money could not be moved."""
        self.frozen: set[bytes] = set()
        """Leases whose money is not to be moved any more."""
        self._ended: set[bytes] = set()
        self._alone: Cursor | None = None

    def reads(self, at: Cursor) -> int | None:
        """A round is about to apply records that come after a place in the log; returns how many it may."""
        self._alone = at if self.records_max == 1 else None
        return self.records_max

    def failed(self, error: Exception) -> None:
        """A round ended by a bug."""
        self.error = error
        if self.suspect is not None:
            self.ends_lease = False
        else:
            self.suspect = self._alone
        self.records_max = 0
        self._alone = None

    def misposted(self, lease: Lease) -> None:
        """A round ended by a bug in the money of a lease. At the second time it is frozen."""
        if lease.id in self._ended:
            self.frozen.add(lease.id)
        self._ended.add(lease.id)
        self.lease = lease

    def loaded(self, leases: Collection[bytes]) -> None:
        """Forget leases that are not open any more."""
        self.frozen.intersection_update(leases)
        self._ended.intersection_update(leases)

    def went_well(self, *, all_read: bool) -> None:
        """A round was written."""
        if self.records_max is None:
            return
        if self.records_max and (all_read or self.records_max >= AT_ONCE_MAX):
            self.records_max = None
        else:
            self.records_max = max(1, 2 * self.records_max)

    def is_aside(self) -> None:
        """The suspect does no harm any more."""
        self.suspect, self.ends_lease = None, True
