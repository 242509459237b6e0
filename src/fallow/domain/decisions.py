"""What the network itself decides, as records: without them nobody could recompute what its nodes have earned.

The network is one more node: its own key signs them, and ingest's log holds them between those of the others.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fallow.domain.chain_facts import CHAIN_FACTS
from fallow.domain.facts import AccountPayout, CreditWithdrawn, LeaseSettled, NodeShown
from fallow.domain.gateway_facts import GATEWAY_FACTS
from fallow.domain.network_facts import NETWORK_FACTS
from fallow.domain.price_facts import PRICE_FACTS
from fallow.domain.records import Body
from fallow.domain.stake_facts import STAKE_FACTS

DECISIONS: tuple[type[Body], ...] = (
    LeaseSettled,
    NodeShown,
    CreditWithdrawn,
    AccountPayout,
    *CHAIN_FACTS,
    *NETWORK_FACTS,
    *PRICE_FACTS,
    *STAKE_FACTS,
    *GATEWAY_FACTS,
)


class Decision(NamedTuple):
    """A decision that was made at a time (milliseconds since 1970) and is not sealed yet."""

    at: int
    body: Body


def packed(body: Body) -> bytes:
    """Write what was decided as it waits to be sealed.

    Raises:
        msgspec.ValidationError: it could not be read again. Here it stops whoever decides so; later it would stop all.
    """
    data = msgspec.msgpack.encode(body)
    msgspec.msgpack.decode(data, type=type(body))
    return data


def decision_type(kind: str, version: int) -> type[Body]:
    """The class of a decision.

    Raises:
        LookupError: there is none of that kind and version.
    """
    for body in DECISIONS:
        if (body.kind, body.version) == (kind, version):
            return body
    raise LookupError(f"the network makes no decisions of kind {kind}/{version}")
