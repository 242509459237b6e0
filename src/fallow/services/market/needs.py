"""What an order needs, as its vertical reads its work."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain import calls
from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import Needs
from fallow.ports.vertical.plugin import Vertical


def needs_of(verticals: Mapping[str, Vertical], request: calls.jobs.Submit) -> Needs:
    """Say what an order needs of a machine, and what its results can be.

    Raises:
        InvalidInput: its vertical is unknown, refuses the work, or takes no such secrets or comparison.
    """
    order = request.order
    vertical = verticals.get(order.vertical)
    if vertical is None:
        names = ", ".join(sorted(verticals))
        raise InvalidInput("order.vertical", f"There is no {order.vertical!r} here.", f"Choose from: {names}.")
    needs = vertical.check_work(order.work, order.items[0] if order.items else None)
    if request.secrets and not needs.secrets:
        raise InvalidInput("order.secrets", "This kind of work takes no secret values.", "Leave them out.")
    if order.tolerance is not None and (not needs.near or order.until_stopped):
        raise InvalidInput(
            "order.tolerance", "Results of this work are not compared by a tolerance.", "Leave compare out."
        )
    wanted = needs.compares if order.compare is None else order.compare != "none"
    compares = wanted and not order.until_stopped  # what has no end has no result to compare
    return Needs(
        secrets=tuple(sorted(request.secrets)),
        blobs=tuple(sorted(needs.blobs - set(order.items))),
        attributes=dict(needs.attributes),
        write_bytes_max=needs.write_bytes_max,
        program=needs.program,
        compares=compares,
        proves=needs.compares and order.tolerance is None,
        fetched=tuple(sorted(needs.fetched)),
        checkpoints=needs.checkpoints and not compares,  # who goes on from another's word does not check it
    )
