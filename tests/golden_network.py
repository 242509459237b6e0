"""One of each record in which the network tells of itself, for the golden bytes."""

from __future__ import annotations

import msgspec

from fallow.domain.gateway_facts import GatewayOverstated, GatewayVouched
from fallow.domain.network_facts import (
    Earned,
    LendingForfeited,
    LendingReturned,
    LendingUsed,
    NodeLendingReturned,
    OperatorActed,
    RollAnswered,
    SeedDrawn,
    SubscriptionSettled,
    Tariffed,
)
from fallow.domain.records import Body
from fallow.domain.subscriptions import Price

NETWORK_BODIES: tuple[Body, ...] = (
    SeedDrawn(
        number=3, commitment=b"c" * 200, value=bytes(32), pledges=[b"p" * 180, b"q" * 180], parts=[b"t" * 32, b""]
    ),
)
DECISION_BODIES: tuple[Body, ...] = (
    SubscriptionSettled(
        vertical="storage",
        subscription=bytes(range(16)),
        window=7,
        part=0,
        from_ms=1_700_000_000_000,
        until_ms=1_700_003_600_000,
        tariff={"bytes": Price(microusd=4_000, per=1 << 30)},
        earned=[
            Earned(
                payee=bytes(range(20)),
                used=[Tariffed(meter="bytes", before=bytes(32), after=(1 << 40).to_bytes(32))],
                income={"2": 3_686_400},
            )
        ],
        fee={"2": 327_680},
        reserve={"2": 81_920},
        payer=bytes(range(20, 40)),
    ),
    OperatorActed(what="ban", subject=bytes(range(32)), action=bytes(range(16))),
    RollAnswered(
        call=bytes(range(32)),
        how="group",
        node=bytes(range(32)),
        cpu_milli=1500,
        reason="capacity.short",
        units=150,
        elapsed_ms=1_020,
        alone=98_000,
        answer=b"a" * 200,
    ),
    LendingReturned(vertical="storage", node=bytes(range(32)), account=bytes(range(20)), receipt=b"r" * 300),
)
LENDING_BODIES: tuple[Body, ...] = (
    LendingUsed(
        vertical="storage",
        node=bytes(range(32)),
        payee=bytes(range(20)),
        window=472_222,
        until_ms=1_700_000_000_000,
        used={"stored_byte_hours": 10**12, "egress_bytes": 2_000_000_000, "repair_bytes": 7},
        orders=1_000,
        root=bytes(range(32)),
        begins=[3, 17],
        ends=[4, 20],
    ),
    NodeLendingReturned(
        vertical="storage", node=bytes(range(32)), account=bytes(range(20)), receipt=b"r" * 300, last=False
    ),
    LendingForfeited(
        vertical="storage", node=bytes(range(32)), code="storage.audits_failed", evidence=[bytes(range(32))]
    ),
)
"""Of what nodes lend: golden by themselves, not in the golden epochs, whose files never change."""
_VOUCHED = GatewayVouched(
    vertical="storage",
    key=bytes(range(32)),
    owner=bytes(range(20)),
    from_ms=1_700_000_000_000,
    until_ms=1_731_536_000_000,
    signature=bytes(range(65)),
)
GATEWAY_BODIES: tuple[Body, ...] = (
    _VOUCHED,
    GatewayOverstated(**msgspec.structs.asdict(_VOUCHED), limit=b"l" * 300, order=b"o" * 100),
)
"""Of who stands for gateways: the same."""
