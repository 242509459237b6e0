"""Which nodes lately fetched which inputs: they keep them for a while, and need not fetch them again.

A guess that costs a node nothing to report: it is drawn from the leases that it worked on, and forgotten with the
process. Where it is wrong the node fetches what it needs, as any other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

Inputs = tuple[bytes, tuple[str, ...]]
"""The buyer, since nodes keep each one's inputs apart, and the hashes of what all items of a job need."""

INPUTS_MAX = 1024
"""Sets of inputs that are remembered; the one that was used longest ago is forgotten first."""

NODES_MAX = 8
"""Nodes for each, the latest: more would have to be looked at for each item."""


class Holders:
    """The nodes that worked with each set of inputs last."""

    def __init__(self) -> None:
        self._known: OrderedDict[Inputs, OrderedDict[bytes, None]] = OrderedDict()

    def note(self, inputs: Inputs, node: bytes) -> None:
        """A node has these inputs now."""
        nodes = self._known.setdefault(inputs, OrderedDict())
        self._known.move_to_end(inputs)
        nodes[node] = None
        nodes.move_to_end(node, last=False)
        if len(nodes) > NODES_MAX:
            nodes.popitem()
        if len(self._known) > INPUTS_MAX:
            self._known.popitem(last=False)

    def of(self, inputs: Inputs) -> Collection[bytes]:
        """The nodes that probably have them, the latest first."""
        return self._known.get(inputs, OrderedDict())
