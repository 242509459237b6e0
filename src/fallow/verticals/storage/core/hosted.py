"""What the network says of its own gateways: by which key they sign, and who stands for that. Pure."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from fallow.domain.facts import NodeId
from fallow.verticals.storage.core.calls.base import Call


class GatewayView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The gateways that sign with one `key`, and whose stake stands for them: that of `owner` until `until_ms`.

    Where nobody does, `owner` is empty. Amounts are units of the token, as decimal text: what is at stake with the
    owner (empty: the chain does not say), and below how much nothing goes through them.
    """

    key: NodeId
    owner: str = ""
    until_ms: int = 0
    staked_units: str = "0"
    least_units: str = "0"


class GetGateways(Call[list[GatewayView]], frozen=True, kw_only=True):
    """Show the network's own gateways."""

    name: ClassVar[str] = "gateways"
    reply: ClassVar[Any] = list[GatewayView]
