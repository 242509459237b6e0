"""What storage's records are worth: the first version of its policy. Pure.

Storage is sold by subscription, so that money moves by account; by what the network says in `lending.used` of each node
it is divided over an account's nodes. Each of these records is held against the one before of the same node: none
counts twice, and no order can lie between two of them. That orders make such a sum is shown by `recounting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.network_facts import LendingUsed
from fallow.domain.records import COUNT_MAX, convert
from fallow.domain.verification import Standing, Verdict
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, STORED, VERTICAL

EGRESS_BYTE_HOURS: Final = 960
"""A byte that is sent costs as much as one that lies on a node for so many hours: $2 and $1.50 a month, for 10^12."""
METERS: Final = frozenset({STORED, EGRESS, REPAIRED})
WHOLE: Final = 1_000_000


class Last(NamedTuple):
    """The last window of a node, and where in its records that ended: a boot and a number, (0, 0) before any order."""

    node: bytes
    window: int = -1
    boot: int = 0
    seq: int = 0

    @property
    def ends(self) -> tuple[int, int]:
        """That place."""
        return self.boot, self.seq


class Windows:
    """The verifier: of each node each window once, and each of its records in one of them."""

    def __init__(self, carried: Sequence[Row], known: Known) -> None:
        self._last = {one.node: one for one in convert(list(carried), list[Last], "epoch.state")}
        self._known = known

    def verify(self, filed: Filed) -> Found:
        """See `Verifier`."""
        if filed.node != self._known.network:
            return Found(Verdict.REJECTED, "used.not_the_network")
        body = filed.record.read(LendingUsed)
        if body.vertical != VERTICAL:
            return ACCEPTED
        last = self._last.get(body.node, Last(body.node))
        code = self._fault(body, last)
        if body.window > last.window:  # one that is wrong has all that follow it hold
            self._last[body.node] = Last(body.node, body.window, *max(last.ends, _place(body.ends)))
        return Found(Verdict.REJECTED, code) if code else ACCEPTED

    def carried(self) -> list[Row]:
        """See `Verifier`."""
        return [list(one) for one in sorted(self._last.values())]

    def _fault(self, body: LendingUsed, last: Last) -> str:
        """Why a record cannot be right; "" where it can."""
        begins, ends = _place(body.begins), _place(body.ends)
        if body.window <= last.window:
            return "used.repeated"
        if last.ends != Last(b"").ends and begins != last.ends:
            return "used.not_the_next"
        served = body.used.get(EGRESS, 0) + body.used.get(REPAIRED, 0)
        if ends < begins or bool(body.orders) != bool(served) or (body.orders and ends == begins):
            return "used.orders"
        return "" if METERS.issuperset(body.used) else "used.meter"


class StorageMetering:
    """See `fallow.domain.epochs.metering.Metering`."""

    name = VERTICAL
    version = 1
    digest = bytes.fromhex("fab93b85bfd485c2ba08374d94520dfbe8876c4d4024706d6cd7816230330bfd")
    kinds = frozenset({LendingUsed.kind})
    by_node = False

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        """See `Metering`."""
        return Windows(carried, known)

    def meter(self, filed: Filed) -> Use | None:
        """Units are byte-hours, and what a byte that is sent is worth in them; repairs are paid by nobody."""
        body = filed.record.read(LendingUsed)
        if body.vertical != self.name:
            return None
        units = body.used.get(STORED, 0) + EGRESS_BYTE_HOURS * body.used.get(EGRESS, 0)
        return Use(node=body.node, account=body.payee, units=min(units, COUNT_MAX), weigh=True)

    def score(self, standing: Standing, at: int) -> int:  # noqa: ARG002 - audits end with disqualification, not a score
        """See `Metering`. What is sold by use has its quality in how much of it is used."""
        return WHOLE


def _place(number: list[int]) -> tuple[int, int]:
    boot, seq = number
    return boot, seq
