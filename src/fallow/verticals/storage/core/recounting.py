"""Adding up again what the network said that nodes served: from the orders in their own records. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from fallow.domain.epochs.metering import Recounted
from fallow.domain.epochs.reading import Filed
from fallow.domain.network_facts import LendingUsed
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import NOWHERE, Added, Place, Window, additions, handed_in
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, VERTICAL


class Recount:
    """See `fallow.domain.epochs.metering.Recount`.

    It keeps the orders of each node that add something, until the record that counts them; and of each limit what was
    counted. What is handed in once more is not kept: no record would come that takes it out.
    """

    kinds: frozenset[str] = frozenset({StorageServed.kind})

    def __init__(
        self, net: str, network_key: bytes, since_ms: int, places: Mapping[bytes, Place] | None = None
    ) -> None:
        self._net = net
        self._network_key = network_key
        self._since_ms = since_ms
        self._places = {} if places is None and not since_ms else places
        self._waiting: defaultdict[bytes, list[Added]] = defaultdict(list)
        self._counted: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
        self._read: dict[bytes, Place] = {}
        """From where on a node's records were read, where `places` does not say it."""

    def take(self, filed: Filed) -> Recounted | None:
        """See the protocol."""
        record = filed.record
        self._read.setdefault(filed.node, (record.boot, record.seq))
        if record.kind == StorageServed.kind:
            handed = handed_in(record, self._net, self._network_key, filed.received_ms)
            self._waiting[filed.node] += additions(handed, self._counted[filed.node])
        elif record.kind == LendingUsed.kind and filed.node == self._network_key:
            said = record.read(LendingUsed)
            return self._again(said) if said.vertical == VERTICAL else None
        return None

    def _again(self, said: LendingUsed) -> Recounted:
        begins, ends = _place(said.begins), _place(said.ends)
        waiting = self._waiting[said.node]
        self._waiting[said.node] = [added for added in waiting if added.one.place >= ends]
        read = self._read.get(said.node, ends) if self._places is None else self._places.get(said.node, NOWHERE)
        window, all_here = Window(), said.orders == 0 or read <= begins
        for added in waiting:
            if begins <= added.one.place < ends:
                window.add(added)
                all_here = all_here and added.one.limit.made_ms >= self._since_ms
        made = {EGRESS: window.egress, REPAIRED: window.repaired, "orders": window.tree.size}
        told = {EGRESS: said.used.get(EGRESS, 0), REPAIRED: said.used.get(REPAIRED, 0), "orders": said.orders}
        wrong = [f"{name} {told[name]:,}, by its orders {made[name]:,}" for name in made if made[name] != told[name]]
        if not wrong and said.root != window.tree.root:
            wrong = [f"its root is over other orders than the {said.orders:,} that the node handed in"]
        return Recounted(f"hour {said.window} of node {said.node.hex()}", "; ".join(wrong), sure=all_here)


def _place(number: list[int]) -> Place:
    boot, seq = number
    return boot, seq
